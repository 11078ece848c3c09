//! The data plane alone, for profiles: every host goes to the endpoints named on the command line.
//!
//! `one_route LISTEN ENDPOINT...`

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use outrigger_model as model;
use outrigger_proxy::{Options, Proxy, Settings};
use outrigger_telemetry::Registry;

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().expect("LISTEN");
    let endpoints: Vec<String> = arguments.collect();
    let registry = Registry::new(Default::default());
    let options = Options {
        outbound: std::net::TcpListener::bind(listen)?,
        concurrency: 1,
        settings: Settings::default(),
        own_addresses: Vec::new(),
        seed: 1,
    };
    let proxy = Proxy::start(options, &registry, Arc::new(snapshot(&endpoints)))?;
    println!("{}", proxy.outbound());
    loop {
        std::thread::park();
    }
}

fn snapshot(endpoints: &[String]) -> model::Snapshot {
    let name = model::ClusterName::outbound(80, "", "web.default.svc.cluster.local");
    let workload = Arc::new(model::Workload::new("web", "default", "", "Kubernetes", Default::default()));
    let endpoint = |address: &String| {
        Arc::new(model::Endpoint {
            address: address.parse().expect("ENDPOINT is an address with port"),
            weight: 1,
            priority: 0,
            locality: Default::default(),
            locality_weight: 0,
            workload: workload.clone(),
        })
    };
    let cluster = model::Cluster {
        name: name.clone(),
        service: model::ServiceRef {
            host: "web.default.svc.cluster.local".into(),
            name: "web".into(),
            namespace: "default".into(),
            port: 80,
            subset: "".into(),
        },
        discovery: model::Discovery::Static,
        endpoints: endpoints.iter().map(endpoint).collect(),
        balance: model::Balance {
            policy: model::BalancePolicy::LeastRequest,
            warmup: None,
            locality: model::LocalityMode::Priority,
        },
        connect_timeout: Duration::from_secs(10),
        pool: Default::default(),
        outlier: None,
        tls: None,
        destination_rule: None,
    };
    let route = route(&name);
    let vhost = model::VirtualHost {
        name: "any".into(),
        domains: vec![model::Domain { host: model::HostPattern::Any, port: model::DomainPort::Any }],
        routes: vec![Arc::new(route)],
    };
    let routes = model::RouteTable { virtual_hosts: vec![Arc::new(vhost)], unmatched: model::Unmatched::BlackHole };
    model::Snapshot {
        version: 1,
        workload: Arc::new(model::Workload::unknown()),
        mesh: model::Mesh { trust_domain: "cluster.local".into(), domain: "cluster.local".into() },
        listeners: vec![Arc::new(model::Listener { name: model::Listener::OUTBOUND.into(), routes: Arc::new(routes) })],
        clusters: HashMap::from([(name, Arc::new(cluster))]),
        services: Vec::new(),
    }
}

fn route(cluster: &model::ClusterName) -> model::Route {
    let destination = model::Destination {
        cluster: cluster.clone(),
        missing: None,
        weight: 1,
        authority: None,
        request_headers: Default::default(),
        response_headers: Default::default(),
    };
    model::Route {
        name: "default".into(),
        origin: Some(Arc::new(model::Origin {
            kind: "Service".into(),
            namespace: "default".into(),
            name: "web".into(),
            rule: "default".into(),
            place: None,
        })),
        matches: Default::default(),
        action: model::Action::Forward(model::Forward { destinations: vec![destination], rewrite: Default::default() }),
        request_headers: Default::default(),
        response_headers: Default::default(),
        cors: None,
        timeout: None,
        retry: None,
        fault: None,
        mirrors: Vec::new(),
    }
}
