//! The limits of `connectionPool`: how many connections and requests there are, who waits, who is refused, and that what is
//! counted comes back to nothing.

mod common;

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use common::gateway::{chain, gateway, start, to_tcp};
use common::http2::{Serve, Server, Stream};
use common::sockets::{connect, counted, handing};
use common::{CLUSTER, World, proxy_with, snapshot};
use outrigger_model as model;
use outrigger_proxy::Settings;
use outrigger_testkit::{Backend, Client, PATIENCE, Reply, Response, eventually, response};

const PENDING: &str = "envoy_cluster_upstream_rq_pending_active";
const PENDING_TOTAL: &str = "envoy_cluster_upstream_rq_pending_total";
const PENDING_OVERFLOW: &str = "envoy_cluster_upstream_rq_pending_overflow";
const CONNECTIONS: &str = "envoy_cluster_upstream_cx_active";
const CONNECTIONS_OVERFLOW: &str = "envoy_cluster_upstream_cx_overflow";

/// Holds requests at the backend until it is opened, one by one or for good.
#[derive(Default)]
struct Gate {
    /// How many may pass, and the targets of those that came.
    state: Mutex<(u32, Vec<String>)>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self, target: &str) {
        let mut state = self.state.lock().unwrap();
        state.1.push(target.to_owned());
        let waited = self.changed.wait_timeout_while(state, 4 * PATIENCE, |state| state.0 == 0).unwrap();
        let mut state = waited.0;
        state.0 = state.0.saturating_sub(1);
    }

    fn open(&self, passes: u32) {
        let mut state = self.state.lock().unwrap();
        state.0 = state.0.saturating_add(passes);
        self.changed.notify_all();
    }

    fn came(&self) -> Vec<String> {
        self.state.lock().unwrap().1.clone()
    }
}

/// A backend that answers a request when the gate lets it.
fn gated(gate: &Arc<Gate>) -> Backend {
    let gate = gate.clone();
    Backend::start(move |request| {
        gate.pass(&request.target);
        Reply::Keep(response(200, &[], b"ok"))
    })
}

fn limited(endpoints: &[SocketAddr], pool: model::ConnectionPool) -> model::Snapshot {
    let mut snapshot = snapshot(endpoints, |_| {});
    for cluster in snapshot.clusters.values_mut() {
        Arc::make_mut(cluster).pool = pool.clone();
    }
    snapshot
}

/// A proxy with two workers.
fn proxy(endpoints: &[SocketAddr], pool: model::ConnectionPool) -> World {
    proxy_with(Settings::default(), limited(endpoints, pool))
}

/// A request on a connection of its own.
fn request(world: &World, path: &str) -> JoinHandle<Response> {
    let address = world.address();
    let path = path.to_owned();
    thread::spawn(move || {
        let mut client = Client::connect(address).unwrap();
        client.set_patience(4 * PATIENCE);
        client.exchange(format!("GET {path} HTTP/1.1\r\nHost: web\r\n\r\n").as_bytes()).unwrap()
    })
}

#[track_caller]
fn gauge(world: &World, metric: &str, expected: f64) {
    eventually(&format!("{expected} of {metric}"), || (world.sum(metric, CLUSTER) == expected).then_some(()));
}

#[track_caller]
fn came(gate: &Gate, count: usize) {
    eventually(&format!("{count} requests at the backend"), || (gate.came().len() >= count).then_some(()));
    assert_eq!(gate.came().len(), count);
}

#[track_caller]
fn statuses(requests: Vec<JoinHandle<Response>>) -> Vec<u16> {
    requests.into_iter().map(|request| request.join().unwrap().status).collect()
}

#[track_caller]
fn overflowed(response: &Response) {
    assert_eq!(response.status, 503, "{}", response.text());
    assert_eq!(response.fields.get("x-envoy-overloaded"), Some("true"));
    assert!(response.text().contains("reset reason: overflow"), "{}", response.text());
}

/// Sends one request at a time, each to another worker, until there are as many connections.
fn occupy(world: &World, gate: &Gate, count: usize) -> Vec<JoinHandle<Response>> {
    (1..=count)
        .map(|nth| {
            let request = request(world, "/first");
            came(gate, nth);
            request
        })
        .collect()
}

#[test]
fn beyond_connections_requests_wait_and_beyond_those_they_are_refused() {
    let gate = Arc::new(Gate::default());
    let backend = gated(&gate);
    let pool =
        model::ConnectionPool { connections_max: Some(2), pending_max: Some(3), ..model::ConnectionPool::default() };
    let world = proxy(&[backend.address()], pool);
    let mut requests = occupy(&world, &gate, 2);
    for waiting in 1..=3 {
        requests.push(request(&world, "/waits"));
        gauge(&world, PENDING, f64::from(waiting));
    }
    for _ in 0..5 {
        overflowed(&request(&world, "/refused").join().unwrap());
    }
    assert_eq!(world.sum(PENDING_OVERFLOW, CLUSTER), 5.0);
    assert_eq!(world.sum(CONNECTIONS_OVERFLOW, CLUSTER), 3.0, "each that waits wanted one");
    for (metric, expected) in [("cx_open", 1.0), ("rq_pending_open", 1.0), ("remaining_cx", 0.0)] {
        assert_eq!(world.sum(&format!("envoy_cluster_circuit_breakers_default_{metric}"), CLUSTER), expected);
    }
    assert_eq!(gate.came().len(), 2);
    gate.open(u32::MAX);
    assert_eq!(statuses(requests), [200; 5]);
    assert_eq!(backend.connections(), 2);
    assert_eq!(world.sum(PENDING_TOTAL, CLUSTER), 5.0, "those whose connection was opened waited, too");
    gauge(&world, PENDING, 0.0);
    for (metric, expected) in [("rq_pending_open", 0.0), ("remaining_pending", 3.0), ("remaining_cx", 0.0)] {
        let name = format!("envoy_cluster_circuit_breakers_default_{metric}");
        assert_eq!(world.sum(&name, CLUSTER), expected, "{name}; idle connections count");
    }
    assert_eq!(world.sum("istio_requests_total", "UO"), 5.0);
}

#[test]
fn connections_given_back_go_to_those_who_wait_in_order() {
    let gate = Arc::new(Gate::default());
    let backend = gated(&gate);
    let pool = model::ConnectionPool { connections_max: Some(1), ..model::ConnectionPool::default() };
    let world = proxy(&[backend.address()], pool);
    // One connection a worker: the second has one because an endpoint may not be out of its reach.
    let mut requests = occupy(&world, &gate, 2);
    for nth in 1..=6 {
        requests.push(request(&world, &format!("/{nth}")));
        gauge(&world, PENDING, f64::from(nth));
    }
    gate.open(u32::MAX);
    assert_eq!(statuses(requests), [200; 8]);
    for connection in [0, 1] {
        let seen = backend.seen();
        let served = seen.iter().filter(|request| request.connection == connection && request.target != "/first");
        let order: Vec<u32> = served.map(|request| request.target[1..].parse().unwrap()).collect();
        assert!(order.is_sorted() && !order.is_empty(), "{order:?}");
    }
    assert_eq!(backend.connections(), 2);
    gauge(&world, PENDING, 0.0);
}

#[test]
fn so_many_requests_are_under_way_over_both_workers_and_no_more() {
    let gate = Arc::new(Gate::default());
    let backend = gated(&gate);
    let pool = model::ConnectionPool { requests_max: Some(5), ..model::ConnectionPool::default() };
    let world = proxy(&[backend.address()], pool);
    let requests: Vec<_> = (0..40).map(|_| request(&world, "/")).collect();
    eventually("35 are refused", || (world.sum("istio_requests_total", "UO") == 35.0).then_some(()));
    assert_eq!(world.sum("envoy_cluster_circuit_breakers_default_rq_open", CLUSTER), 1.0);
    assert_eq!(world.sum("envoy_cluster_upstream_rq_active_overflow", CLUSTER), 35.0);
    assert_eq!(gate.came().len(), 5);
    gate.open(u32::MAX);
    let answers: Vec<Response> = requests.into_iter().map(|request| request.join().unwrap()).collect();
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 5);
    answers.iter().filter(|answer| answer.status != 200).for_each(overflowed);
    assert_eq!(gate.came().len(), 5);
    for (metric, expected) in [("rq_open", 0.0), ("remaining_rq", 5.0)] {
        gauge(&world, &format!("envoy_cluster_circuit_breakers_default_{metric}"), expected);
    }
    // What the refused ones had opened is used by others.
    let before = backend.connections();
    assert_eq!(request(&world, "/").join().unwrap().status, 200);
    assert_eq!(backend.connections(), before);
}

#[test]
fn a_connection_that_closes_makes_room_wherever_somebody_waits() {
    let gate = Arc::new(Gate::default());
    let backend = gated(&gate);
    let pool = model::ConnectionPool {
        connections_max: Some(2),
        requests_per_connection_max: Some(1),
        ..model::ConnectionPool::default()
    };
    let world = proxy(&[backend.address()], pool);
    let mut requests = occupy(&world, &gate, 2);
    for nth in 1..=10 {
        requests.push(request(&world, &format!("/{nth}")));
        gauge(&world, PENDING, f64::from(nth));
    }
    for served in 3..=12 {
        gate.open(1);
        came(&gate, served);
        assert!(world.sum(CONNECTIONS, CLUSTER) <= 3.0, "two, and one of a worker that had none");
    }
    gate.open(u32::MAX);
    assert_eq!(statuses(requests), [200; 12]);
    assert_eq!(backend.connections(), 12);
    gauge(&world, CONNECTIONS, 0.0);
    gauge(&world, PENDING, 0.0);
    assert_eq!(world.sum("envoy_cluster_circuit_breakers_default_remaining_cx", CLUSTER), 2.0);
}

#[test]
fn a_limit_on_pending_alone_counts_connections_that_are_opened() {
    let gate = Arc::new(Gate::default());
    let backend = gated(&gate);
    let pool = model::ConnectionPool { pending_max: Some(1), ..model::ConnectionPool::default() };
    let world = proxy(&[backend.address()], pool);
    let requests = occupy(&world, &gate, 20);
    gate.open(u32::MAX);
    assert_eq!(statuses(requests), [200; 20], "one at a time is opened");
    assert_eq!(world.sum(PENDING_OVERFLOW, CLUSTER), 0.0);
}

#[test]
fn clients_that_leave_while_they_wait_lose_nothing_for_others() {
    let gate = Arc::new(Gate::default());
    let backend = gated(&gate);
    let pool =
        model::ConnectionPool { connections_max: Some(2), pending_max: Some(4), ..model::ConnectionPool::default() };
    let world = proxy(&[backend.address()], pool);
    let mut requests = occupy(&world, &gate, 2);
    let mut leaving = Vec::new();
    for nth in 1..=4 {
        let mut client = Client::connect(world.address()).unwrap();
        client.send(b"GET /gone HTTP/1.1\r\nHost: web\r\n\r\n").unwrap();
        leaving.push(client);
        gauge(&world, PENDING, f64::from(nth));
    }
    overflowed(&request(&world, "/refused").join().unwrap());
    leaving.into_iter().for_each(Client::reset);
    gauge(&world, PENDING, 0.0);
    for nth in 1..=4 {
        requests.push(request(&world, "/stays"));
        gauge(&world, PENDING, f64::from(nth));
    }
    gate.open(u32::MAX);
    assert_eq!(statuses(requests), [200; 6]);
    assert!(gate.came().iter().all(|target| target != "/gone"));
    gauge(&world, PENDING, 0.0);
}

#[test]
fn a_request_that_waits_has_the_time_of_its_route() {
    let gate = Arc::new(Gate::default());
    let backend = gated(&gate);
    let pool = model::ConnectionPool { connections_max: Some(1), ..model::ConnectionPool::default() };
    let mut snapshot = snapshot(&[backend.address()], |route| route.timeout = Some(Duration::from_millis(400)));
    snapshot.clusters.values_mut().for_each(|cluster| Arc::make_mut(cluster).pool = pool.clone());
    let world = proxy_with(Settings::default(), snapshot);
    let before = Instant::now();
    let requests: Vec<_> = (0..6).map(|_| request(&world, "/")).collect();
    assert_eq!(statuses(requests), [504; 6]);
    assert!(before.elapsed() >= Duration::from_millis(400));
    gauge(&world, PENDING, 0.0);
    gate.open(u32::MAX);
    assert_eq!(request(&world, "/").join().unwrap().status, 200, "nothing of theirs is left");
}

#[test]
fn a_limit_that_is_raised_or_taken_away_is_for_those_who_wait() {
    for (max, served) in [(Some(5), 5), (None, 8)] {
        let gate = Arc::new(Gate::default());
        let backend = gated(&gate);
        let pool = model::ConnectionPool { connections_max: Some(2), ..model::ConnectionPool::default() };
        let world = proxy(&[backend.address()], pool);
        let mut requests = occupy(&world, &gate, 2);
        for nth in 1..=6 {
            requests.push(request(&world, "/waits"));
            gauge(&world, PENDING, f64::from(nth));
        }
        let pool = model::ConnectionPool { connections_max: max, ..model::ConnectionPool::default() };
        world.proxy.apply(Arc::new(limited(&[backend.address()], pool)));
        came(&gate, served);
        gate.open(u32::MAX);
        assert_eq!(statuses(requests), [200; 8]);
        gauge(&world, PENDING, 0.0);
    }
}

#[test]
fn old_connections_serve_no_more_requests() {
    let backend = Backend::start(|_| Reply::Keep(response(200, &[], b"ok")));
    let lasts = Duration::from_millis(500);
    let pool = model::ConnectionPool { connection_duration_max: Some(lasts), ..model::ConnectionPool::default() };
    let world = proxy(&[backend.address()], pool);
    let mut client = Client::connect(world.address()).unwrap();
    let mut get = || assert_eq!(client.exchange(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n").unwrap().status, 200);
    let before = Instant::now();
    get();
    get();
    if before.elapsed() < lasts / 2 {
        assert_eq!(backend.connections(), 1);
    }
    // Closed when its time is over, though no request came.
    gauge(&world, CONNECTIONS, 0.0);
    assert!(before.elapsed() + Duration::from_millis(200) > lasts);
    get();
    assert!(backend.connections() >= 2);
}

/// An answer over HTTP/2 that comes when the gate opens.
fn gated_http2(gate: &Arc<Gate>) -> Serve {
    let gate = gate.clone();
    Arc::new(move |stream: Stream| {
        let gate = gate.clone();
        tokio::spawn(async move {
            let Stream { head, mut respond, body: _body } = stream;
            let target = head.uri.path().to_owned();
            tokio::task::spawn_blocking(move || gate.pass(&target)).await.unwrap();
            let answer = http::Response::builder().status(200).body(()).unwrap();
            let _ = respond.send_response(answer, true);
        });
    })
}

/// Two connections of so many requests each, over which requests of HTTP/1 go as HTTP/2.
fn over_http2(runtime: &tokio::runtime::Runtime, gate: &Arc<Gate>, pool: model::ConnectionPool) -> (Server, World) {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(2);
    let server = runtime.block_on(Server::start(builder, gated_http2(gate)));
    let mut snapshot = limited(&[server.address], pool);
    for cluster in snapshot.clusters.values_mut() {
        Arc::make_mut(cluster).http = model::UpstreamHttp::Http2;
    }
    (server, proxy_with(Settings::default(), snapshot))
}

#[test]
fn requests_wait_for_room_on_connections_of_http2() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let gate = Arc::new(Gate::default());
    let pool =
        model::ConnectionPool { connections_max: Some(2), pending_max: Some(6), ..model::ConnectionPool::default() };
    let (server, world) = over_http2(&runtime, &gate, pool);
    // Two requests on a connection of each worker.
    let mut requests = occupy(&world, &gate, 4);
    assert_eq!(server.connections.load(Ordering::Relaxed), 2);
    for nth in 1..=6 {
        requests.push(request(&world, &format!("/{nth}")));
        gauge(&world, PENDING, f64::from(nth));
    }
    for _ in 0..3 {
        overflowed(&request(&world, "/refused").join().unwrap());
    }
    assert_eq!(gate.came().len(), 4);
    gate.open(1);
    came(&gate, 5);
    gate.open(u32::MAX);
    assert_eq!(statuses(requests), [200; 10]);
    assert_eq!(server.connections.load(Ordering::Relaxed), 2);
    assert_eq!(world.sum(PENDING_OVERFLOW, CLUSTER), 3.0);
    gauge(&world, PENDING, 0.0);
}

#[test]
fn clients_that_leave_the_line_for_http2_lose_nothing_for_others() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let gate = Arc::new(Gate::default());
    let pool = model::ConnectionPool { connections_max: Some(2), ..model::ConnectionPool::default() };
    let (server, world) = over_http2(&runtime, &gate, pool);
    let mut requests = occupy(&world, &gate, 4);
    for round in 1..=2 {
        let mut leaving = Vec::new();
        for nth in 1..=4 {
            let mut client = Client::connect(world.address()).unwrap();
            client.send(b"GET /gone HTTP/1.1\r\nHost: web\r\n\r\n").unwrap();
            leaving.push(client);
            gauge(&world, PENDING, f64::from(nth + 4 * (round - 1)));
        }
        for nth in 1..=4 {
            requests.push(request(&world, "/stays"));
            gauge(&world, PENDING, f64::from(nth + 4 * round));
        }
        leaving.into_iter().for_each(Client::reset);
        gauge(&world, PENDING, f64::from(4 * round));
    }
    gate.open(u32::MAX);
    assert_eq!(statuses(requests), [200; 12]);
    assert!(gate.came().iter().all(|target| target != "/gone"));
    assert_eq!(server.connections.load(Ordering::Relaxed), 2);
    gauge(&world, PENDING, 0.0);
}

#[test]
fn old_connections_of_http2_serve_no_more_requests() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let gate = Arc::new(Gate::default());
    let lasts = Duration::from_millis(400);
    let pool = model::ConnectionPool { connection_duration_max: Some(lasts), ..model::ConnectionPool::default() };
    let (server, world) = over_http2(&runtime, &gate, pool);
    let before = Instant::now();
    let first = occupy(&world, &gate, 1);
    // It outlasts the connection's time, and ends on it.
    eventually("its time is over", || (before.elapsed() > 2 * lasts).then_some(()));
    gate.open(u32::MAX);
    assert_eq!(statuses(first), [200]);
    gauge(&world, CONNECTIONS, 0.0);
    assert_eq!(request(&world, "/").join().unwrap().status, 200);
    assert_eq!(server.connections.load(Ordering::Relaxed), 2);
}

/// A gateway that relays every connection to this server.
fn relaying(server: SocketAddr, pool: model::ConnectionPool) -> World {
    let mut snapshot = gateway(vec![chain(&[], None, to_tcp(&[("db", 1)]))], &[("db", &[server])]);
    snapshot.clusters.values_mut().for_each(|cluster| Arc::make_mut(cluster).pool = pool.clone());
    start(Settings::default(), snapshot)
}

fn is_cut(mut client: TcpStream) -> bool {
    let _ = client.set_read_timeout(Some(PATIENCE));
    client.read(&mut [0]).map_or_else(|error| error.kind() == io::ErrorKind::ConnectionReset, |count| count == 0)
}

#[test]
fn relayed_connections_beyond_the_limit_are_reset() {
    let (server, handed) = handing();
    let pool = model::ConnectionPool { connections_max: Some(3), ..model::ConnectionPool::default() };
    let world = relaying(server, pool);
    let mut kept: Vec<_> = (0..3).map(|_| (connect(world.address()), handed.recv_timeout(PATIENCE).unwrap())).collect();
    for _ in 0..4 {
        // It may be over before the handshake of TCP is.
        assert!(TcpStream::connect_timeout(&world.address(), PATIENCE).map_or(true, is_cut));
    }
    counted(&world, "istio_tcp_connections_closed_total", "UO", 4.0);
    counted(&world, CONNECTIONS_OVERFLOW, "", 4.0);
    drop(kept.pop());
    counted(&world, "envoy_cluster_circuit_breakers_default_remaining_cx", "", 1.0);
    let client = connect(world.address());
    kept.push((client, handed.recv_timeout(PATIENCE).unwrap()));
    drop(kept);
    counted(&world, CONNECTIONS, "", 0.0);
    counted(&world, "envoy_cluster_circuit_breakers_default_remaining_cx", "", 3.0);
}

#[test]
fn relayed_connections_end_when_they_are_too_old() {
    let (server, handed) = handing();
    let lasts = Duration::from_millis(300);
    let pool = model::ConnectionPool { connection_duration_max: Some(lasts), ..model::ConnectionPool::default() };
    let world = relaying(server, pool);
    let before = Instant::now();
    let client = connect(world.address());
    let server = handed.recv_timeout(PATIENCE).unwrap();
    assert!(is_cut(client) && is_cut(server));
    assert!(before.elapsed() >= lasts, "{:?}", before.elapsed());
    counted(&world, "istio_tcp_connections_closed_total", "DT", 1.0);
}
