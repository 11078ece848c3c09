//! Local rate limits: who gets through, what the others are told, and what outlives a reload.

mod common;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use common::http2::{self, connect, request};
use common::{World, proxy_with, snapshot};
use outrigger_model as model;
use outrigger_proxy::{Options, Proxy, Settings, Threads};
use outrigger_telemetry::Registry;
use outrigger_testkit::{Backend, Client, PATIENCE, Reply, eventually, response};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const HOUR: Duration = Duration::from_secs(3600);

fn limit(name: &str, interval: Duration, burst: u32, per_source: bool) -> Arc<model::RateLimit> {
    let key = format!("{name}[0] Service shop/web").into();
    Arc::new(model::RateLimit { name: name.into(), key, requests: 1, interval, burst, per_source })
}

fn backend() -> Backend {
    Backend::start(|_| Reply::Keep(response(200, &[], b"hi")))
}

fn limited(backend: &Backend, limits: &[Arc<model::RateLimit>]) -> model::Snapshot {
    snapshot(&[backend.address()], |route| route.rate_limits = limits.to_vec())
}

fn proxy(backend: &Backend, limits: &[Arc<model::RateLimit>]) -> World {
    proxy_with(Settings::default(), limited(backend, limits))
}

fn statuses(client: &mut Client, requests: usize) -> Vec<u16> {
    (0..requests).map(|_| client.exchange(GET).unwrap().status).collect()
}

/// Requests that limits let through, and that they refused.
fn counted(world: &World) -> (f64, f64) {
    let sum = |result: &str| world.sum("outrigger_ratelimit_requests_total", result);
    (sum("allowed"), sum("limited"))
}

#[test]
fn what_is_over_the_limit_is_told_when_to_come_again() {
    let backend = backend();
    let world = proxy(&backend, &[limit("shop/web", Duration::from_secs(100), 3, false)]);
    let mut client = Client::connect(world.address()).unwrap();
    assert_eq!(statuses(&mut client, 3), [200; 3]);
    let refused = client.exchange(GET).unwrap();
    assert_eq!((refused.status, refused.closes()), (429, false));
    assert_eq!(refused.fields.get("x-envoy-ratelimited"), Some("true"));
    let cause = "outrigger; error=http_request_denied; details=\"local_rate_limited\"; flag=RL";
    assert_eq!(refused.fields.get("proxy-status"), Some(cause));
    let seconds: u64 = refused.fields.get("retry-after").unwrap().parse().unwrap();
    assert!((100 - PATIENCE.as_secs()..=100).contains(&seconds), "{seconds}");
    assert!(refused.text().starts_with("local_rate_limited\n"), "{}", refused.text());
    assert!(refused.text().ends_with("RateLimit shop/web\n"), "{}", refused.text());
    assert_eq!(client.exchange(GET).unwrap().status, 429, "the connection serves on");
    eventually("the refusals are counted", || (world.sum("istio_requests_total", "RL") == 2.0).then_some(()));
    assert!(world.has_only("istio_requests_total", "destination_service_name", "web"));
    assert!(world.has_only("outrigger_ratelimit_requests_total", "name", "shop/web"));
    assert_eq!((counted(&world), backend.seen().len()), ((3.0, 2.0), 3));
}

#[test]
fn a_wait_of_less_than_a_second_is_told_as_one() {
    let backend = backend();
    // So long that a slow machine does not get through, so short that it is no second.
    let world = proxy(&backend, &[limit("shop/web", Duration::from_millis(990), 1, false)]);
    let mut client = Client::connect(world.address()).unwrap();
    let answers: Vec<_> = (0..20).map(|_| client.exchange(GET).unwrap()).collect();
    let refused = answers.iter().find(|answer| answer.status == 429).expect("20 do not pass in 20 s");
    assert_eq!(refused.fields.get("retry-after"), Some("1"));
    // What is told is true.
    eventually("the next passes", || (client.exchange(GET).unwrap().status == 200).then_some(()));
}

#[tokio::test]
async fn a_call_is_unavailable() {
    let backend = backend();
    let world = proxy(&backend, &[limit("shop/web", HOUR, 1, false)]);
    let mut client = connect(world.address()).await;
    assert_eq!(http2::get(&mut client, "a/").await.unwrap().line, "200");
    let call = request("POST", "a/s/m", &[("content-type", "application/grpc"), ("te", "trailers")]);
    let answer = http2::exchange(&mut client, call, b"", None).await.unwrap();
    assert_eq!(answer.line, "200");
    for field in ["grpc-status: 14", "x-envoy-ratelimited: true", "retry-after: 3600"] {
        assert!(answer.fields.contains(&field.to_owned()), "{field} in {:?}", answer.fields);
    }
    assert_eq!(http2::get(&mut client, "a/").await.unwrap().line, "429");
}

#[test]
fn all_workers_share_a_limit() {
    let backend = backend();
    let world = proxy(&backend, &[limit("shop/web", HOUR, 10, false)]);
    let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(world.address()).unwrap()).collect();
    clients.iter_mut().for_each(|client| client.send(GET).unwrap());
    let answers = clients.iter_mut().map(|client| client.read_response("GET").unwrap().status);
    assert_eq!(answers.filter(|status| *status == 200).count(), 10);
    assert_eq!(counted(&world), (10.0, 10.0));
}

#[test]
fn each_of_several_limits_must_let_it_pass() {
    let backend = backend();
    let world = proxy(&backend, &[limit("shop/wide", HOUR, 3, false), limit("shop/narrow", HOUR, 2, false)]);
    let mut client = Client::connect(world.address()).unwrap();
    assert_eq!(statuses(&mut client, 4), [200, 200, 429, 429]);
    assert_eq!(world.sum("outrigger_ratelimit_requests_total", "shop/wide"), 2.0);
    assert_eq!(world.sum("outrigger_ratelimit_requests_total", "shop/narrow"), 4.0);
}

#[test]
fn a_reload_gives_nobody_a_second_burst() {
    let backend = backend();
    let world = proxy(&backend, &[limit("shop/web", HOUR, 2, false)]);
    let mut client = Client::connect(world.address()).unwrap();
    assert_eq!(statuses(&mut client, 3), [200, 200, 429]);
    let apply = |limits: &[Arc<model::RateLimit>], timeout| {
        let mut snapshot = snapshot(&[backend.address()], |route| {
            route.rate_limits = limits.to_vec();
            route.timeout = Some(timeout);
        });
        snapshot.version = timeout.as_secs();
        world.proxy.apply(Arc::new(snapshot));
    };
    // A worker takes a policy over soon.
    let is_in_force = |client: &mut Client, text: &str| {
        eventually("the snapshot is in force", || client.exchange(GET).unwrap().text().contains(text).then_some(()));
    };
    apply(&[limit("shop/web", HOUR, 2, false), limit("shop/none", HOUR, 1, false)], PATIENCE);
    for _ in 0..50 {
        assert_eq!(client.exchange(GET).unwrap().status, 429, "what was let through before counts");
    }
    // The snapshot before the last one is still at hand: a limit ends with the second that has it not.
    apply(&[], 2 * PATIENCE);
    is_in_force(&mut client, "hi");
    apply(&[], 3 * PATIENCE);
    is_in_force(&mut client, "hi");
    // On both workers, so that neither holds one before.
    let mut others: Vec<Client> = (0..8).map(|_| Client::connect(world.address()).unwrap()).collect();
    others.iter_mut().for_each(|other| is_in_force(other, "hi"));
    apply(&[limit("shop/web", HOUR, 2, false)], 4 * PATIENCE);
    is_in_force(&mut client, "shop/web");
    let before = counted(&world).0;
    assert_eq!(before, 4.0, "a limit that was taken away began anew");
}

/// A proxy on the way in, which knows the workload at some addresses.
fn inbound(backend: &Backend, limit: Arc<model::RateLimit>, peers: &[(&str, &str)]) -> (Threads, Proxy, SocketAddr) {
    let mut snapshot = limited(backend, &[limit]);
    let routes = snapshot.listeners[0].route_tables().next().unwrap().clone();
    let port = model::Inbound { container: "app".into(), port: 9080, port_name: "http".into() };
    snapshot.listeners = vec![Arc::new(model::Listener {
        name: model::Listener::inbound_name(9080),
        direction: model::Direction::Inbound(Arc::new(port)),
        port: 9080,
        proxy_protocol: None,
        chains: vec![model::Chain::plain(routes)],
    })];
    let known = peers.iter().map(|(address, name)| {
        let workload = model::Workload::new(name, "shop", "", "Kubernetes", Default::default());
        (address.parse::<IpAddr>().unwrap(), Arc::new(workload))
    });
    snapshot.peers = Arc::new(HashMap::from_iter(known));
    let threads = Threads::start(2).unwrap();
    let options = Options { seed: 1, ..Options::default() };
    let proxy = Proxy::start(&threads, options, &Registry::new(Default::default()), Arc::new(snapshot)).unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    proxy.listen("inbound|9080", &socket).unwrap();
    (threads, proxy, socket.local_addr().unwrap())
}

/// The status that a client at an address gets.
fn status_at(source: &str, to: SocketAddr) -> String {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(source.parse().unwrap(), 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn a_source_is_a_workload_or_else_an_address() {
    let backend = backend();
    let peers = [("127.0.0.71", "web"), ("127.0.0.72", "web"), ("127.0.0.73", "api")];
    let (_threads, _proxy, address) = inbound(&backend, limit("shop/web", HOUR, 1, true), &peers);
    for (source, expected) in [
        ("127.0.0.71", "200"),
        ("127.0.0.72", "429"),
        ("127.0.0.73", "200"),
        ("127.0.0.73", "429"),
        ("127.0.0.74", "200"),
        ("127.0.0.75", "200"),
        ("127.0.0.74", "429"),
    ] {
        assert_eq!(status_at(source, address), expected, "{source}");
    }
}
