//! Requests that are tried again: where, how often, and which of them are not.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{CLUSTER, World, proxy_with, snapshot};
use outrigger_model as model;
use outrigger_proxy::Settings;
use outrigger_testkit::{Backend, Client, Reply, Response, eventually, free_address, response};

fn policy(words: &str) -> model::RetryPolicy {
    model::RetryPolicy {
        attempts: 2,
        per_try_timeout: None,
        retry_on: words.split(',').collect(),
        status_codes: Vec::new(),
        headers: Vec::new(),
        back_off: model::BackOff {
            min: Duration::ZERO,
            base: Duration::from_millis(1),
            max: Duration::from_millis(10),
        },
        remote_localities: false,
        avoid_previous_hosts: true,
        non_idempotent: false,
    }
}

fn world(endpoints: &[SocketAddr], retry: model::RetryPolicy) -> World {
    proxy_with(Settings::default(), snapshot(endpoints, |route| route.retry = Some(retry)))
}

fn failing() -> Backend {
    Backend::start(|_| Reply::Keep(response(503, &[], b"no")))
}

/// Answers with the number of the try and the body it got.
fn telling() -> Backend {
    Backend::start(|request| {
        let number = request.fields.get("x-envoy-attempt-count").unwrap_or_default();
        Reply::Keep(response(200, &[("x-try", number)], &request.body))
    })
}

fn ask(world: &World, head: &str, body: &[u8]) -> Response {
    let (line, fields) = head.split_once('\n').unwrap_or((head, ""));
    let length = body.len();
    let mut bytes = format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: {length}\r\n\r\n").into_bytes();
    bytes.extend_from_slice(body);
    Client::connect(world.address()).unwrap().exchange(&bytes).unwrap()
}

#[test]
fn an_instance_that_is_not_there_costs_a_try_and_no_request() {
    let there = telling();
    let world = world(&[free_address(), there.address()], policy("connect-failure"));
    let mut tries = [0_u32, 0];
    for _ in 0..20 {
        let answer = ask(&world, "POST /", b"whole");
        assert_eq!((answer.status, answer.text()), (200, "whole".into()));
        tries[answer.fields.get("x-try").unwrap().parse::<usize>().unwrap() - 1] += 1;
    }
    let again = f64::from(tries[1]);
    assert!(again > 0.0, "some met the one that is not there first");
    assert_eq!(world.sum("envoy_cluster_upstream_rq_retry", CLUSTER), again);
    assert_eq!(world.sum("envoy_cluster_upstream_rq_total", CLUSTER), 20.0, "without a connection nothing was sent");
    let succeeded = || world.sum("envoy_cluster_upstream_rq_retry_success", CLUSTER) == again;
    eventually("all of them are counted as good", || succeeded().then_some(()));
    assert_eq!(world.sum("outrigger_cluster_requests_total", CLUSTER), 20.0);
    eventually("all are counted as good", || (world.sum("istio_requests_total", "200") == 20.0).then_some(()));
    assert_eq!(there.seen().len(), 20);
}

/// Half of all requests meet it: more than the proxy's own budget would repeat of what endpoints have seen.
#[test]
fn an_instance_that_is_not_there_costs_no_budget_while_there_is_another() {
    let there = telling();
    let mut other = world(&[free_address(), there.address()], policy("connect-failure"));
    for _ in 0..300 {
        assert_eq!(ask(&other, "POST /", b"whole").status, 200);
    }
    assert!(other.sum("envoy_cluster_upstream_rq_retry", CLUSTER) > 120.0);
    assert_eq!(other.sum("envoy_cluster_upstream_rq_retry_overflow", CLUSTER), 0.0);
    // Where all are gone, nobody gains anything by asking again and again.
    other = world(&[free_address()], policy("connect-failure"));
    for _ in 0..300 {
        assert_eq!(ask(&other, "POST /", b"whole").status, 503);
    }
    assert!(other.sum("envoy_cluster_upstream_rq_retry", CLUSTER) <= 60.0);
}

#[test]
fn only_what_may_be_done_twice_is_repeated_after_an_answer() {
    for (head, expected) in
        [("GET /", 200), ("PUT /", 200), ("POST /", 503), ("PATCH /", 503), ("POST /\nIdempotency-Key: 1\r\n", 200)]
    {
        let (bad, good) = (failing(), telling());
        let world = world(&[bad.address(), good.address()], policy("5xx"));
        let statuses: Vec<u16> = (0..2).map(|_| ask(&world, head, b"body").status).collect();
        assert!(statuses.contains(&expected), "{head}: {statuses:?}");
        assert_eq!(statuses.iter().all(|status| *status == 200), expected == 200, "{head}: {statuses:?}");
        assert!(good.seen().iter().all(|request| request.body == b"body"), "{head}");
    }
    let (bad, good) = (failing(), telling());
    let said = model::RetryPolicy { non_idempotent: true, ..policy("5xx") };
    let world = world(&[bad.address(), good.address()], said);
    assert!((0..4).all(|_| ask(&world, "POST /", b"body").status == 200), "the policy says that it may be");
}

#[test]
fn a_body_that_comes_later_is_waited_for_where_the_policy_may_send_it_again() {
    let (bad, good) = (failing(), telling());
    let said = model::RetryPolicy { non_idempotent: true, ..policy("5xx") };
    let world = world(&[bad.address(), good.address()], said);
    for _ in 0..4 {
        let mut client = Client::connect(world.address()).unwrap();
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n").unwrap();
        let is_read = || world.sum("envoy_http_downstream_rq_active", "") == 1.0;
        eventually("the head is read", || is_read().then_some(()));
        client.send(b"body").unwrap();
        assert_eq!(client.read_response("POST").unwrap().status, 200);
        eventually("the request is over", || (!is_read()).then_some(()));
    }
    assert!(!bad.seen().is_empty(), "some met the one that fails first");
}

/// The race between using a connection again and its end, where requests wait for connections that others give back.
#[test]
fn connections_that_are_handed_on_and_die_lose_nothing_that_may_be_done_twice() {
    let backend = Backend::start(|request| match request.sequence {
        0 => Reply::Keep(response(200, &[], &request.body)),
        _ => Reply::Reset(Vec::new()),
    });
    let mut snapshot = snapshot(&[backend.address()], |_| {});
    for cluster in snapshot.clusters.values_mut() {
        Arc::make_mut(cluster).pool.connections_max = Some(1);
    }
    let world = proxy_with(Settings::default(), snapshot);
    let statuses: Vec<u16> = thread::scope(|scope| {
        let send = |_| scope.spawn(|| (0..25).map(|_| ask(&world, "PUT /", b"body").status).collect::<Vec<_>>());
        let clients: Vec<_> = (0..8).map(send).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    assert_eq!(statuses, [200; 200]);
    let used_again = backend.seen().iter().filter(|request| request.sequence > 0).count();
    assert!(used_again > 0, "no connection was handed on");
    assert_eq!(backend.seen().len(), 200 + used_again, "each death costs one more try and no second");
}

#[test]
fn when_all_tries_are_used_up_the_last_answer_stands() {
    let bad = failing();
    let world = world(&[bad.address()], policy("gateway-error"));
    let answer = ask(&world, "GET /", b"");
    assert_eq!((answer.status, answer.text()), (503, "no".into()));
    let seen: Vec<String> =
        bad.seen().iter().map(|r| r.fields.get("x-envoy-attempt-count").unwrap().to_owned()).collect();
    assert_eq!(seen, ["1", "2", "3"]);
    eventually("the flag says so", || (world.sum("istio_requests_total", "URX") == 1.0).then_some(()));
    assert_eq!(world.sum("envoy_cluster_upstream_rq_retry_limit_exceeded", CLUSTER), 1.0);
    assert_eq!(world.sum("envoy_cluster_upstream_rq_retry_success", CLUSTER), 0.0);
    assert_eq!(world.sum("envoy_cluster_upstream_rq_active", CLUSTER), 0.0);
}

#[test]
fn a_body_too_long_to_be_kept_goes_through_and_is_not_repeated() {
    for (length, expected) in [(64 * 1024, 200), (64 * 1024 + 1, 503)] {
        let (bad, good) = (failing(), telling());
        let world = world(&[bad.address(), good.address()], policy("5xx"));
        let body = vec![b'x'; length];
        let answers: Vec<_> = (0..2).map(|_| ask(&world, "PUT /", &body)).collect();
        assert!(answers.iter().any(|answer| answer.status == expected), "{length} bytes");
        assert!(answers.iter().filter(|answer| answer.status == 200).all(|answer| answer.body == body));
    }
}

#[test]
fn a_storm_of_retries_stays_within_a_fifth_of_what_is_offered() {
    let bad = failing();
    let world = world(&[bad.address()], model::RetryPolicy { attempts: 5, ..policy("5xx") });
    let mut client = Client::connect(world.address()).unwrap();
    let requests = 400;
    for _ in 0..requests {
        assert_eq!(client.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().status, 503);
    }
    let seen = bad.seen().len();
    assert!(seen <= requests * 6 / 5 && seen > requests, "{seen} tries of {requests} requests");
    assert!(world.sum("envoy_cluster_upstream_rq_retry_overflow", CLUSTER) > 300.0);
    eventually("the flag says so", || (world.sum("istio_requests_total", "UO") > 300.0).then_some(()));
}

#[test]
fn a_configured_budget_and_a_limit_take_the_place_of_the_proxys_own() {
    let count = |edit: fn(&mut model::Cluster)| {
        let bad = failing();
        let mut snapshot = snapshot(&[bad.address()], |route| route.retry = Some(policy("5xx")));
        let cluster = snapshot.clusters.values_mut().next().expect("one");
        edit(Arc::make_mut(cluster));
        let world = proxy_with(Settings::default(), snapshot);
        let mut client = Client::connect(world.address()).unwrap();
        (0..50).for_each(|_| assert_eq!(client.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().status, 503));
        bad.seen().len()
    };
    assert_eq!(count(|cluster| cluster.pool.retries_max = Some(0)), 50);
    assert_eq!(
        count(|cluster| {
            let percent = model::Fraction::from_percent(0.0).unwrap();
            cluster.retry_budget = Some(model::RetryBudget { percent, concurrency_min: 1, interval: Duration::ZERO });
        }),
        150,
        "one at a time, and one client has no more"
    );
    assert_eq!(
        count(|cluster| {
            let percent = model::Fraction::from_percent(20.0).unwrap();
            cluster.retry_budget = Some(model::RetryBudget { percent, concurrency_min: 0, interval: Duration::ZERO });
        }),
        50,
        "a fifth of one is none"
    );
}

#[test]
fn a_try_that_takes_too_long_is_followed_by_another_within_the_routes_time() {
    let tries = AtomicUsize::new(0);
    let slow_at_first = Backend::start(move |_| match tries.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::Hold(Vec::new()),
        _ => Reply::Keep(response(200, &[], b"late")),
    });
    let limit = Duration::from_millis(150);
    let retry = model::RetryPolicy { per_try_timeout: Some(limit), ..policy("reset") };
    let world = world(&[slow_at_first.address()], retry);
    let began = Instant::now();
    assert_eq!(ask(&world, "GET /", b"").text(), "late");
    assert!(began.elapsed() >= limit);
    let never = Backend::start(|_| Reply::Hold(Vec::new()));
    let retry = model::RetryPolicy { per_try_timeout: Some(limit), attempts: 50, ..policy("reset") };
    let world = proxy_with(
        Settings::default(),
        snapshot(&[never.address()], |route| {
            route.retry = Some(retry);
            route.timeout = Some(3 * limit);
        }),
    );
    assert_eq!(ask(&world, "GET /", b"").status, 504);
    assert!((2..=3).contains(&never.seen().len()), "{}", never.seen().len());
    assert_eq!(world.sum("envoy_cluster_upstream_rq_timeout", CLUSTER), 1.0);
}

#[test]
fn an_instance_that_asks_to_be_left_alone_is() {
    for (after, others, expected) in [("60", false, 1), ("0", false, 3), ("60", true, 0), ("soon", false, 3)] {
        let busy = Backend::start(move |_| Reply::Keep(response(503, &[("retry-after", after)], b"")));
        let other = telling();
        let mut endpoints = vec![busy.address()];
        endpoints.extend(others.then(|| other.address()));
        let world = world(&endpoints, policy("5xx"));
        let statuses: Vec<u16> = (0..endpoints.len()).map(|_| ask(&world, "GET /", b"").status).collect();
        let tries = busy.seen().len();
        assert!(others || tries == expected, "retry-after {after}: {tries} tries, {statuses:?}");
        assert!(statuses.iter().all(|status| (*status == 200) == others), "others {others}: {statuses:?}");
    }
}

#[test]
fn a_connection_that_dies_after_the_request_was_sent_is_not_the_end_of_it() {
    let cutting = Backend::start(|_| Reply::Reset(Vec::new()));
    let good = telling();
    let world = world(&[cutting.address(), good.address()], policy("reset"));
    assert!((0..6).all(|_| ask(&world, "GET /", b"").status == 200));
    let posts: Vec<u16> = (0..6).map(|_| ask(&world, "POST /", b"once").status).collect();
    let failed = posts.iter().filter(|status| **status == 503).count();
    let cut = cutting.seen().iter().filter(|request| request.method == "POST").count();
    assert!(failed > 0 && cut == failed, "{posts:?}: none was sent twice, {cut} were cut");
}
