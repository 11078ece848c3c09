//! A proxy in this process, on a snapshot made by hand.

#![allow(unreachable_pub)] // A module of test binaries has no other way to share,
#![allow(dead_code)] // and not every one of them needs all of it.

pub mod gateway;
pub mod http2;
pub mod pattern;
pub mod sockets;

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use outrigger_model as model;
use outrigger_proxy::{NameServers, Options, Proxy, Settings, Threads};
use outrigger_telemetry::Registry;

/// One proxy and its metrics.
pub struct World {
    // Ended before the threads it runs on.
    pub proxy: Proxy,
    _threads: Threads,
    address: SocketAddr,
    pub registry: Registry,
}

/// A proxy that sends every host to `endpoints`.
pub fn proxy_to(endpoints: &[SocketAddr]) -> World {
    proxy_with(Settings::default(), snapshot(endpoints, |_| {}))
}

/// A proxy on this snapshot.
pub fn proxy_with(settings: Settings, snapshot: model::Snapshot) -> World {
    proxy_asking(NameServers::At(Vec::new()), settings, snapshot)
}

/// As [`proxy_with`], with name servers.
pub fn proxy_asking(servers: NameServers, settings: Settings, snapshot: model::Snapshot) -> World {
    let registry = Registry::new(Default::default());
    let socket = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let threads = Threads::start_with(2, servers, settings).expect("threads");
    let options = Options { settings, seed: 1, ..Options::default() };
    let proxy = Proxy::start(&threads, options, &registry, Arc::new(snapshot)).expect("a proxy starts");
    proxy.listen(model::Listener::OUTBOUND, &socket).expect("the socket is shared");
    let address = socket.local_addr().expect("bound");
    World { proxy, _threads: threads, address, registry }
}

impl World {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether the metric has series, and all of them carry this label with this value.
    pub fn has_only(&self, metric: &str, label: &str, value: &str) -> bool {
        let families = self.registry.gather(std::time::Instant::now());
        let Some(family) = families.iter().find(|f| f.desc.name == metric) else { return false };
        let at = family.desc.labels.iter().position(|l| *l == label).expect("the metric has the label");
        !family.samples.is_empty() && family.samples.iter().all(|s| &*s.labels[at] == value)
    }

    /// The sum of a metric over the series that carry this label value.
    pub fn sum(&self, metric: &str, value: &str) -> f64 {
        let families = self.registry.gather(std::time::Instant::now());
        families
            .iter()
            .filter(|f| f.desc.name == metric)
            .flat_map(|f| &f.samples)
            .filter(|s| value.is_empty() || s.labels.iter().any(|l| &**l == value))
            .map(|s| s.value.number())
            .sum()
    }
}

pub const CLUSTER: &str = "outbound|80||web.default.svc.cluster.local";

/// Every host goes to `endpoints` round robin; `edit` may change the one route.
pub fn snapshot(endpoints: &[SocketAddr], edit: impl FnOnce(&mut model::Route)) -> model::Snapshot {
    let name = model::ClusterName::new(CLUSTER);
    let workload = Arc::new(model::Workload::new("web", "default", "", "Kubernetes", Default::default()));
    let endpoint = |address: &SocketAddr| {
        Arc::new(model::Endpoint {
            address: *address,
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
        names: Vec::new(),
        http: model::UpstreamHttp::Http1,
        proxy_protocol: None,
        balance: model::Balance {
            policy: model::BalancePolicy::RoundRobin,
            warmup: None,
            locality: model::LocalityMode::Priority,
        },
        connect_timeout: Duration::from_secs(2),
        pool: Default::default(),
        outlier: None,
        breaker: None,
        retry_budget: None,
        tls: None,
        destination_rule: None,
    };
    let destination = model::Destination {
        cluster: name.clone(),
        missing: None,
        weight: 1,
        authority: None,
        request_headers: Default::default(),
        response_headers: Default::default(),
    };
    let mut route = model::Route {
        name: "default".into(),
        origin: None,
        matches: Default::default(),
        action: model::Action::Forward(model::Forward { destinations: vec![destination], rewrite: Default::default() }),
        request_headers: Default::default(),
        response_headers: Default::default(),
        cors: None,
        timeout: None,
        retry: None,
        fault: None,
        rate_limits: Vec::new(),
        body_limits: Default::default(),
        mirrors: Vec::new(),
    };
    edit(&mut route);
    let vhost = model::VirtualHost {
        name: "any".into(),
        domains: vec![model::Domain { host: model::HostPattern::Any, port: model::DomainPort::Any }],
        routes: vec![Arc::new(route)],
    };
    let routes = model::RouteTable { virtual_hosts: vec![Arc::new(vhost)], unmatched: model::Unmatched::BlackHole };
    model::Snapshot {
        captures: Arc::default(),
        version: 1,
        workload: Arc::new(model::Workload::unknown()),
        mesh: model::Mesh {
            trust_domain: "cluster.local".into(),
            domain: "cluster.local".into(),
            detect_timeout: None,
        },
        listeners: vec![Arc::new(model::Listener::outbound(Arc::new(routes)))],
        clusters: HashMap::from([(name, Arc::new(cluster))]),
        peers: Arc::default(),
        services: Vec::new(),
    }
}
