//! What a route does to an exchange beyond sending it on: time limits.

mod common;

use std::time::{Duration, Instant};

use common::{CLUSTER, proxy_to, proxy_with, snapshot};
use outrigger_model as model;
use outrigger_proxy::Settings;
use outrigger_testkit::{Backend, Client, How, PATIENCE, Reply, eventually, pass_time, response};

const LIMIT: Duration = Duration::from_millis(150);

fn per_try(limit: Duration) -> model::RetryPolicy {
    model::RetryPolicy {
        attempts: 0,
        per_try_timeout: Some(limit),
        retry_on: Default::default(),
        status_codes: Vec::new(),
        headers: Vec::new(),
        back_off: model::BackOff {
            min: Duration::ZERO,
            base: Duration::from_millis(25),
            max: Duration::from_millis(250),
        },
        remote_localities: false,
        avoid_previous_hosts: true,
        non_idempotent: false,
    }
}

/// A proxy whose one route `edit` may change.
fn proxy(backend: &Backend, edit: impl FnOnce(&mut model::Route)) -> common::World {
    proxy_with(Settings::default(), snapshot(&[backend.address()], edit))
}

/// Asks a backend that never answers, and what the metrics then count: route timeouts, per-try timeouts.
#[track_caller]
fn check_timeout(edit: impl FnOnce(&mut model::Route), details: &str, counted: (f64, f64)) {
    let backend = Backend::start(|_| Reply::Hold(Vec::new()));
    let world = proxy(&backend, edit);
    let mut client = Client::connect(world.address()).unwrap();
    let began = Instant::now();
    let answer = client.exchange(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(began.elapsed() >= LIMIT, "{:?}", began.elapsed());
    assert_eq!(answer.status, 504);
    assert!(answer.text().starts_with("upstream request timeout\n"), "{}", answer.text());
    let proxy_status = answer.fields.get("proxy-status").unwrap();
    let expected = format!("outrigger; error=http_response_timeout; details=\"{details}\"; flag=UT");
    assert_eq!(proxy_status, expected);
    assert!(!answer.closes(), "the request was read to its end: the client may go on");
    assert_eq!(world.sum("envoy_cluster_upstream_rq_timeout", CLUSTER), counted.0);
    assert_eq!(world.sum("envoy_cluster_upstream_rq_per_try_timeout", CLUSTER), counted.1);
    eventually("the exchange is counted", || (world.sum("istio_requests_total", "UT") == 1.0).then_some(()));
    eventually("nothing is under way", || (world.sum("envoy_cluster_upstream_rq_active", "") == 0.0).then_some(()));
    assert_eq!(client.exchange(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().status, 504);
    assert_eq!(backend.connections(), 2, "what was given up is not used again");
}

#[test]
fn an_answer_that_does_not_come_within_the_routes_timeout_is_a_504() {
    check_timeout(|route| route.timeout = Some(LIMIT), "response_timeout", (1.0, 0.0));
    let both = |route: &mut model::Route| {
        route.timeout = Some(LIMIT);
        route.retry = Some(per_try(10 * LIMIT));
    };
    check_timeout(both, "response_timeout", (1.0, 0.0));
}

#[test]
fn an_answer_that_does_not_begin_within_the_time_of_one_try_is_a_504() {
    check_timeout(|route| route.retry = Some(per_try(LIMIT)), "upstream_per_try_timeout", (0.0, 1.0));
    let both = |route: &mut model::Route| {
        route.timeout = Some(10 * LIMIT);
        route.retry = Some(per_try(LIMIT));
    };
    check_timeout(both, "upstream_per_try_timeout", (0.0, 1.0));
}

#[test]
fn an_answer_that_breaks_off_at_the_timeout_is_seen_to_be_incomplete() {
    let backend = Backend::start(|_| Reply::Hold(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc".to_vec()));
    let world = proxy(&backend, |route| {
        route.timeout = Some(2 * LIMIT);
        route.retry = Some(per_try(LIMIT));
    });
    let mut client = Client::connect(world.address()).unwrap();
    let began = Instant::now();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let ending = client.read_ending();
    assert!(began.elapsed() >= 2 * LIMIT, "{:?}: the time of one try ends with the answer's head", began.elapsed());
    assert_eq!(ending.how, How::Reset);
    assert!(ending.bytes.ends_with(b"\r\n\r\nabc"), "{}", String::from_utf8_lossy(&ending.bytes));
    eventually("the exchange is counted", || (world.sum("istio_requests_total", "UT") == 1.0).then_some(()));
    assert!(world.has_only("istio_requests_total", "response_code", "200"));
    assert_eq!(world.sum("envoy_cluster_upstream_rq_timeout", CLUSTER), 1.0);
    assert_eq!(world.sum("envoy_cluster_upstream_rq_per_try_timeout", CLUSTER), 0.0);
}

#[test]
fn a_client_that_takes_its_time_spends_none_of_the_upstreams() {
    let backend = Backend::start(|request| Reply::Keep(response(200, &[], &request.body)));
    // Long enough for a busy machine to answer within.
    let limit = Duration::from_secs(1);
    let world = proxy(&backend, |route| {
        route.timeout = Some(limit);
        route.retry = Some(per_try(limit));
    });
    let mut client = Client::connect(world.address()).unwrap();
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc").unwrap();
    pass_time(limit + LIMIT);
    assert_eq!(client.exchange(b"def").unwrap().text(), "abcdef");
    assert_eq!(world.sum("istio_requests_total", "UT"), 0.0);
}

#[test]
fn a_body_that_was_sent_whole_has_its_answer_in_time_or_a_504() {
    let prompt = Backend::start(|request| Reply::Keep(response(200, &[], &request.body)));
    let slow = Backend::start(|_| Reply::Hold(Vec::new()));
    for body in ["short", &"long".repeat(100_000)] {
        let post = |backend: &Backend, limit| {
            let world = proxy(backend, |route| route.timeout = Some(limit));
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
            Client::connect(world.address()).unwrap().exchange((head + body).as_bytes()).unwrap()
        };
        assert_eq!(post(&prompt, PATIENCE).text(), body);
        assert_eq!(post(&slow, LIMIT).status, 504);
        eventually("the whole body", || slow.seen().iter().any(|seen| seen.body == body.as_bytes()).then_some(()));
    }
}

#[test]
fn without_a_timeout_an_answer_may_take_its_time() {
    let backend = Backend::start(|_| {
        pass_time(2 * LIMIT);
        Reply::Keep(response(200, &[], b"late"))
    });
    let world = proxy_to(&[backend.address()]);
    let mut client = Client::connect(world.address()).unwrap();
    assert_eq!(client.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().text(), "late");
    // Nor may a client give itself less, or more.
    let asking = b"GET / HTTP/1.1\r\nHost: a\r\nx-envoy-upstream-rq-timeout-ms: 1\r\nX-Envoy-Upstream-Rq-Per-Try-Timeout-Ms: 1\r\n\r\n";
    assert_eq!(client.exchange(asking).unwrap().text(), "late");
    let fields = &backend.seen()[1].fields;
    assert!(fields.get("x-envoy-upstream-rq-timeout-ms").is_none());
    assert!(fields.get("x-envoy-upstream-rq-per-try-timeout-ms").is_none());
}
