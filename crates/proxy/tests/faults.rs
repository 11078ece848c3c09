//! Injected faults: what a client of a route with `fault` gets, and what is counted.

mod common;

use std::time::{Duration, Instant};

use common::http2::{self, connect, request};
use common::{World, proxy_with, snapshot};
use outrigger_model as model;
use outrigger_proxy::Settings;
use outrigger_testkit::{Backend, Client, Reply, eventually, response};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const DELAY: Duration = Duration::from_millis(300);
/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(3600);

fn percent(percent: f64) -> model::Fraction {
    model::Fraction::from_percent(percent).unwrap()
}

fn delay(delay: Duration) -> Option<model::FaultDelay> {
    Some(model::FaultDelay { delay, share: model::Fraction::ALL })
}

fn abort(http_status: u16, share: f64) -> Option<model::FaultAbort> {
    Some(model::FaultAbort { http_status: Some(http_status), grpc_status: None, share: percent(share) })
}

fn abort_call(grpc_status: u32) -> Option<model::FaultAbort> {
    Some(model::FaultAbort { http_status: None, grpc_status: Some(grpc_status), share: model::Fraction::ALL })
}

fn backend() -> Backend {
    Backend::start(|request| Reply::Keep(response(200, &[], &request.body)))
}

fn proxy(backend: &Backend, delay: Option<model::FaultDelay>, abort: Option<model::FaultAbort>) -> World {
    let fault = Some(model::Fault { delay, abort });
    proxy_with(Settings::default(), snapshot(&[backend.address()], |route| route.fault = fault))
}

/// Delays and aborts that were injected, and requests held back now.
fn counted(world: &World) -> (f64, f64, f64) {
    let sum = |name: &str| world.sum(&format!("envoy_http_fault_{name}"), "outbound");
    (sum("delays_injected"), sum("aborts_injected"), sum("active_faults"))
}

fn is_flagged(world: &World, flags: &str, requests: f64) {
    eventually("the exchanges are counted", || (world.sum("istio_requests_total", flags) == requests).then_some(()));
}

#[test]
fn an_abort_answers_without_asking_anybody() {
    let backend = backend();
    let world = proxy(&backend, None, abort(418, 100.0));
    let mut client = Client::connect(world.address()).unwrap();
    for _ in 0..2 {
        let answer = client.exchange(GET).unwrap();
        assert_eq!(answer.status, 418);
        let cause = "outrigger; error=proxy_configuration_error; details=\"fault_filter_abort\"; flag=FI";
        assert_eq!(answer.fields.get("proxy-status"), Some(cause));
        assert!(answer.text().starts_with("fault filter abort\n") && !answer.closes(), "{}", answer.text());
    }
    is_flagged(&world, "FI", 2.0);
    assert!(world.has_only("istio_requests_total", "destination_service_name", "web"));
    assert_eq!(counted(&world), (0.0, 2.0, 0.0));
    assert_eq!(backend.connections(), 0);
}

#[test]
fn a_share_is_exact() {
    let backend = backend();
    let world = proxy(&backend, None, abort(503, 12.5));
    let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(world.address()).unwrap()).collect();
    let statuses = (0..2000).map(|n| clients[n % 4].exchange(GET).unwrap().status);
    let aborted = statuses.filter(|status| *status == 503).count();
    assert_eq!((aborted, backend.seen().len()), (250, 1750));
    assert_eq!(counted(&world), (0.0, 250.0, 0.0));
    is_flagged(&world, "FI", 250.0);
}

#[test]
fn a_delay_holds_back_a_request_and_no_worker() {
    let backend = backend();
    let world = proxy(&backend, delay(DELAY), None);
    let began = Instant::now();
    let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(world.address()).unwrap()).collect();
    for client in &mut clients {
        // A body that comes while its request is held back is not lost, nor is the beginning of another request.
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc").unwrap();
        client.send(b"defGET / HTTP/1.1\r\n").unwrap();
    }
    eventually("all are held back", || (counted(&world) == (20.0, 0.0, 20.0)).then_some(()));
    for client in &mut clients {
        assert_eq!(client.read_response("POST").unwrap().text(), "abcdef");
    }
    let took = began.elapsed();
    assert!(took >= DELAY && took < 10 * DELAY, "{took:?}: twenty on two threads, one after the other, would take 3 s");
    is_flagged(&world, "DI", 20.0);
    assert_eq!(world.sum("istio_requests_total", "200"), 20.0);
    assert_eq!(counted(&world), (20.0, 0.0, 0.0));
    assert_eq!(clients[0].exchange(b"Host: a\r\n\r\n").unwrap().status, 200);
}

#[test]
fn an_abort_comes_after_the_delay() {
    let backend = backend();
    let world = proxy(&backend, delay(DELAY), abort(503, 100.0));
    let began = Instant::now();
    let mut client = Client::connect(world.address()).unwrap();
    assert_eq!(client.exchange(GET).unwrap().status, 503);
    assert!(began.elapsed() >= DELAY);
    is_flagged(&world, "DI,FI", 1.0);
    assert_eq!((counted(&world), backend.connections()), ((1.0, 1.0, 0.0), 0));
}

#[tokio::test]
async fn a_call_gets_the_status_of_its_own() {
    let backend = backend();
    for (abort, of_call, of_request) in
        [(abort_call(10), "grpc-status: 10", "200"), (abort(503, 100.0), "grpc-status: 14", "503")]
    {
        let world = proxy(&backend, None, abort);
        let mut client = connect(world.address()).await;
        let call = request("POST", "a/s/m", &[("content-type", "application/grpc"), ("te", "trailers")]);
        let answer = http2::exchange(&mut client, call, b"", None).await.unwrap();
        assert_eq!(answer.line, "200");
        assert!(answer.fields.contains(&of_call.to_owned()), "{:?}", answer.fields);
        // Who does not speak gRPC reads of it in the body alone, as with Envoy.
        let answer = http2::get(&mut client, "a/").await.unwrap();
        assert_eq!((answer.line.as_str(), answer.body.starts_with(b"fault filter abort\n")), (of_request, true));
    }
    assert_eq!(backend.connections(), 0);
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed() {
    let backend = backend();
    let world = proxy(&backend, delay(FOR_EVER), None);
    let is_held = |held: f64| {
        eventually("held back, or no more", || (counted(&world).2 == held).then_some(()));
    };
    for body in ["", "Content-Length: 10\r\n"] {
        let mut client = Client::connect(world.address()).unwrap();
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{body}\r\n").as_bytes()).unwrap();
        is_held(1.0);
        drop(client);
        is_held(0.0);
    }
    let mut client = connect(world.address()).await;
    let (answer, stream) = client.send_request(request("GET", "a/", &[]), true).unwrap();
    eventually_async(|| counted(&world).2 == 1.0).await;
    drop((answer, stream));
    eventually_async(|| counted(&world).2 == 0.0).await;
    is_flagged(&world, "DI,DC", 3.0);
    assert!(world.has_only("istio_requests_total", "response_code", "0"));
    assert!(world.has_only("istio_requests_total", "destination_service_name", "web"));
    assert_eq!((counted(&world).0, backend.connections()), (3.0, 0));
    assert!(client.ready().await.is_ok(), "its connection serves on");
}

#[test]
fn only_so_many_are_held_back() {
    let backend = backend();
    let settings = Settings { fault_delays_max: 1, ..Settings::default() };
    let fault = Some(model::Fault { delay: delay(FOR_EVER), abort: None });
    let world = proxy_with(settings, snapshot(&[backend.address()], |route| route.fault = fault));
    let mut clients: Vec<Client> = (0..6).map(|_| Client::connect(world.address()).unwrap()).collect();
    clients.iter_mut().for_each(|client| client.send(GET).unwrap());
    // One on each of the two workers; connections are spread over both.
    eventually("four go on", || (world.sum("istio_requests_total", "200") == 4.0).then_some(()));
    assert_eq!(counted(&world), (2.0, 0.0, 2.0));
    assert_eq!(world.sum("outrigger_limit_hits_total", "fault_delays"), 4.0);
    assert_eq!(world.sum("envoy_http_fault_faults_overflow", "outbound"), 4.0);
    is_flagged(&world, "-", 4.0);
}

#[test]
fn a_redirect_has_faults_like_any_route() {
    let redirect = model::Redirect {
        status: 301,
        scheme: None,
        authority: None,
        port: model::RedirectPort::Keep,
        path: model::RedirectPath::Full("/there".into()),
    };
    let world = proxy_with(
        Settings::default(),
        snapshot(&[], |route| {
            route.action = model::Action::Redirect(redirect);
            route.fault = Some(model::Fault { delay: delay(DELAY), abort: abort(404, 50.0) });
        }),
    );
    let mut statuses: Vec<u16> = Vec::new();
    let began = Instant::now();
    while !(statuses.contains(&301) && statuses.contains(&404)) {
        statuses.push(Client::connect(world.address()).unwrap().exchange(GET).unwrap().status);
        assert!(began.elapsed() >= DELAY * statuses.len() as u32);
    }
    is_flagged(&world, "DI", statuses.iter().filter(|status| **status == 301).count() as f64);
}

/// As [`eventually`], without keeping the tasks of the test from running.
async fn eventually_async(mut check: impl FnMut() -> bool) {
    let waiting = async {
        while !check() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(outrigger_testkit::PATIENCE, waiting).await.expect("it happens soon");
}
