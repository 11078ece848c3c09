//! Two proxies of one process in a row: a workload's way out, and another's way in.

mod common;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;

use common::snapshot;
use outrigger_model as model;
use outrigger_proxy::{Options, Proxy, Threads};
use outrigger_telemetry::Registry;
use outrigger_testkit::{Backend, Client, Reply, eventually, response};

const CALLER: &str = "127.0.0.61";

fn workload(name: &str, version: &str) -> Arc<model::Workload> {
    let labels = [("app", name), ("version", version)].map(|(k, v)| (k.into(), v.into())).into();
    Arc::new(model::Workload::new(
        &format!("{name}-{version}"),
        "shop",
        &format!("{name}-{version}-0"),
        "Kubernetes",
        labels,
    ))
}

/// A snapshot whose only listener leads to a container's port.
fn inbound(application: SocketAddr, peers: &[(IpAddr, Arc<model::Workload>)]) -> model::Snapshot {
    let mut inbound = snapshot(&[application], |_| {});
    let routes = inbound.listeners[0].route_tables().next().unwrap().clone();
    let port = model::Inbound { container: "app".into(), port: 9080, port_name: "http".into() };
    inbound.listeners = vec![Arc::new(model::Listener {
        name: model::Listener::inbound_name(9080),
        direction: model::Direction::Inbound(Arc::new(port)),
        port: 9080,
        proxy_protocol: None,
        chains: vec![model::Chain::plain(routes)],
    })];
    inbound.workload = workload("cart", "v1");
    inbound.peers = Arc::new(HashMap::from_iter(peers.iter().cloned()));
    inbound
}

struct Side {
    proxy: Proxy,
    registry: Registry,
    address: SocketAddr,
}

fn start(threads: &Threads, name: &str, source: Option<IpAddr>, snapshot: model::Snapshot) -> Side {
    let registry = Registry::new(Default::default());
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let options = Options { source, seed: 1, ..Options::default() };
    let proxy = Proxy::start(threads, options, &registry, Arc::new(snapshot)).unwrap();
    proxy.listen(name, &socket).unwrap();
    Side { proxy, registry, address: socket.local_addr().unwrap() }
}

/// The labels of the only series of a metric.
fn only_series(registry: &Registry, metric: &str) -> HashMap<&'static str, String> {
    eventually("the request is counted", || {
        let families = registry.gather(std::time::Instant::now());
        let family = families.iter().find(|f| f.desc.name == metric && !f.samples.is_empty())?;
        assert_eq!(family.samples.len(), 1, "{metric}");
        let labels = family.desc.labels.iter().copied();
        Some(labels.zip(family.samples[0].labels.iter().map(ToString::to_string)).collect())
    })
}

#[test]
fn the_destination_knows_its_caller_by_address() {
    let threads = Threads::start(2).unwrap();
    let application = Backend::start(|_| Reply::Keep(response(200, &[], b"cart")));
    let caller: IpAddr = CALLER.parse().unwrap();
    let cart =
        start(&threads, "inbound|9080", None, inbound(application.address(), &[(caller, workload("web", "v2"))]));
    let mut outbound = snapshot(&[cart.address], |_| {});
    outbound.workload = workload("web", "v2");
    let web = start(&threads, model::Listener::OUTBOUND, Some(caller), outbound);
    let answer =
        Client::connect(web.address).unwrap().exchange(b"GET /c HTTP/1.1\r\nHost: cart\r\nConnection: close\r\n\r\n");
    let answer = answer.unwrap();
    assert_eq!(answer.status, 200);
    let times = answer.fields.all("x-envoy-upstream-service-time");
    assert_eq!(times.count(), 1, "each hop tells its own: {:?}", answer.fields);

    let source = only_series(&web.registry, "istio_requests_total");
    let destination = only_series(&cart.registry, "istio_requests_total");
    assert_eq!((&*source["reporter"], &*destination["reporter"]), ("source", "destination"));
    for labels in [&source, &destination] {
        assert_eq!((&*labels["source_workload"], &*labels["source_version"]), ("web-v2", "v2"));
        assert_eq!(labels["destination_service"], "web.default.svc.cluster.local");
    }
    assert_eq!(destination["destination_workload"], "cart-v1");
    let container = only_series(&cart.registry, "outrigger_container_requests_total");
    assert_eq!((&*container["container"], &*container["port"], &*container["response_code"]), ("app", "9080", "200"));

    // A caller that nobody knows is told as such, and what it claims of itself does not pass.
    let forged = b"GET / HTTP/1.1\r\nHost: cart\r\nX-Envoy-Original-Path: /x\r\nConnection: close\r\n\r\n";
    assert_eq!(Client::connect(cart.address).unwrap().exchange(forged).unwrap().status, 200);
    eventually("both are counted", || {
        let families = cart.registry.gather(std::time::Instant::now());
        let family = families.iter().find(|f| f.desc.name == "istio_requests_total")?;
        let unknown = family.samples.iter().any(|s| s.labels.iter().filter(|l| &***l == "unknown").count() > 5);
        (family.samples.len() == 2 && unknown).then_some(())
    });
}

#[test]
fn listeners_come_and_go_and_a_stopped_proxy_has_no_socket() {
    let threads = Threads::start(2).unwrap();
    let application = Backend::start(|_| Reply::Keep(response(200, &[], b"cart")));
    let side = start(&threads, "inbound|9080", None, inbound(application.address(), &[]));
    let request = b"GET / HTTP/1.1\r\nHost: cart\r\n\r\n";
    let mut kept = Client::connect(side.address).unwrap();
    assert_eq!(kept.exchange(request).unwrap().status, 200);

    // A listener that the snapshot does not have serves nobody; one that is closed leaves its connections alone.
    let stray = TcpListener::bind("127.0.0.1:0").unwrap();
    side.proxy.listen("gateway|80", &stray).unwrap();
    let mut refused = Client::connect(stray.local_addr().unwrap()).unwrap();
    assert!(refused.exchange(request).is_err());
    side.proxy.close("inbound|9080");
    assert_eq!(kept.exchange(request).unwrap().status, 200, "its connections stay");
    eventually("the socket is closed", || Client::connect(side.address).is_err().then_some(()));
    let again = TcpListener::bind(side.address).unwrap();
    side.proxy.listen("inbound|9080", &again).unwrap();
    drop(again);
    assert_eq!(Client::connect(side.address).unwrap().exchange(request).unwrap().status, 200);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(side.proxy.stop());
    assert!(Client::connect(side.address).is_err(), "when stop returns the sockets are closed");
    assert_eq!(side.proxy.connections(), 0);
}
