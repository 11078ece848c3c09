//! Circuit breakers on the way of requests: what opens one, what a client gets meanwhile, how it closes.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{CLUSTER, World, proxy_with, snapshot};
use outrigger_model as model;
use outrigger_proxy::Settings;
use outrigger_testkit::{Backend, Client, Reply, Response, eventually, response};

const OTHER: &str = "outbound|80||other.default.svc.cluster.local";

fn hystrix(edit: impl FnOnce(&mut model::HystrixRule)) -> model::BreakerRule {
    let mut rule = model::HystrixRule {
        volume_threshold: 3,
        sleep_window: Duration::from_millis(300),
        window: Duration::from_secs(2),
        buckets: 2,
        health_interval: Duration::from_millis(50),
        ..Default::default()
    };
    edit(&mut rule);
    model::BreakerRule::Hystrix(rule)
}

fn breaker(rule: model::BreakerRule, fallback: Option<model::Fallback>) -> model::Breaker {
    let scope = model::BreakerScope::Service;
    model::Breaker { origin: "CircuitBreaker default/web".into(), scope, rule, fallback, fallbacks_max: 10 }
}

fn world(endpoints: &[SocketAddr], breaker: model::Breaker, edit: impl FnOnce(&mut model::Snapshot)) -> World {
    let mut snapshot = snapshot(endpoints, |_| {});
    let cluster = snapshot.clusters.values_mut().next().expect("one");
    Arc::make_mut(cluster).breaker = Some(Arc::new(breaker));
    edit(&mut snapshot);
    proxy_with(Settings::default(), snapshot)
}

fn get(world: &World) -> Response {
    Client::connect(world.address()).unwrap().exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap()
}

/// Fails until it is told to be well.
fn patient() -> (Backend, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(false));
    let is_well = well.clone();
    let backend = Backend::start(move |_| match is_well.load(Ordering::SeqCst) {
        true => Reply::Keep(response(200, &[("x-page", "7")], b"well")),
        false => Reply::Keep(response(500, &[], b"ill")),
    });
    (backend, well)
}

fn state(world: &World, state: &str) -> bool {
    world.sum("outrigger_circuit_state", state) == 1.0
}

#[test]
fn a_circuit_opens_probes_and_closes() {
    let (backend, well) = patient();
    let world = world(&[backend.address()], breaker(hystrix(|_| {}), None), |_| {});
    assert!(state(&world, "closed"));
    let refused = eventually("enough failures open it", || {
        let answer = get(&world);
        (answer.status == 503).then_some(answer)
    });
    assert!(state(&world, "open"));
    let why = refused.fields.get("proxy-status").unwrap();
    assert!(why.contains("details=\"circuit_open") && why.ends_with("flag=UO"), "{why}");
    assert_eq!(refused.fields.get("x-envoy-overloaded"), Some("true"));
    assert!(refused.text().contains("circuit_open{web.default"), "{}", refused.text());
    well.store(true, Ordering::SeqCst);
    eventually("after the sleep window a probe closes it", || (get(&world).status == 200).then_some(()));
    assert!(state(&world, "closed"));
    assert!((0..20).all(|_| get(&world).status == 200));
    for (from, to) in [("closed", "open"), ("open", "half_open"), ("half_open", "closed")] {
        let families = world.registry.gather(std::time::Instant::now());
        let moved = families.iter().filter(|f| f.desc.name == "outrigger_circuit_transitions_total");
        let has = |labels: &[Arc<str>]| labels.iter().any(|l| &**l == from) && labels.iter().any(|l| &**l == to);
        assert!(moved.flat_map(|f| &f.samples).any(|s| has(&s.labels) && s.value.number() > 0.0), "{from} to {to}");
    }
    eventually("what was refused is told by its flag", || {
        (world.sum("istio_requests_total", "UO") > 0.0).then_some(())
    });
}

#[test]
fn a_fixed_answer_stands_in_for_failures_and_refusals_and_for_nothing_else() {
    let backend = Backend::start(|request| match &*request.target {
        "/missing" => Reply::Keep(response(404, &[], b"missing")),
        "/cut" => Reply::Reset(Vec::new()),
        _ => Reply::Keep(response(500, &[], b"ill")),
    });
    let header = (model::HeaderName::parse("x-from").unwrap(), model::HeaderValue::parse("fallback").unwrap());
    let fallback =
        model::Fallback::Static { status: 203, headers: vec![header], body: Arc::from(b"old news".as_slice()) };
    let rule = hystrix(|rule| rule.volume_threshold = 1_000);
    let world = world(&[backend.address()], breaker(rule, Some(fallback)), |_| {});
    let ask = |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        Client::connect(world.address()).unwrap().exchange(request.as_bytes()).unwrap()
    };
    assert_eq!(ask("/missing").status, 404, "the request was wrong: nothing stands in for that");
    for (path, why) in [("/", "outrigger; received-status=500;"), ("/cut", "outrigger; error=")] {
        let answer = ask(path);
        assert_eq!((answer.status, answer.text()), (203, "old news".into()), "{path}");
        assert_eq!(answer.fields.get("x-from"), Some("fallback"));
        let told = answer.fields.get("proxy-status").unwrap();
        assert!(told.starts_with(why) && told.ends_with("fallback\""), "{told}");
    }
}

#[test]
fn another_service_stands_in_with_the_whole_request() {
    let (ill, _) = patient();
    let other = Backend::start(|request| Reply::Keep(response(200, &[], &request.body)));
    let fallback = model::Fallback::Cluster(model::ClusterName::new(OTHER));
    for force_open in [false, true] {
        let rule = hystrix(|rule| {
            rule.volume_threshold = 1_000;
            rule.force_open = force_open;
        });
        let world = world(&[ill.address()], breaker(rule, Some(fallback.clone())), |snapshot| {
            let mut standing_in = (**snapshot.clusters.values().next().expect("one")).clone();
            let mut endpoint = (*standing_in.endpoints[0]).clone();
            endpoint.address = other.address();
            standing_in.name = model::ClusterName::new(OTHER);
            (standing_in.endpoints, standing_in.breaker) = (vec![Arc::new(endpoint)], None);
            snapshot.clusters.insert(standing_in.name.clone(), Arc::new(standing_in));
        });
        let answer = Client::connect(world.address())
            .unwrap()
            .exchange(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nwhole")
            .unwrap();
        assert_eq!((answer.status, answer.text()), (200, "whole".into()), "forced open: {force_open}");
    }
    assert_eq!(ill.seen().len(), 1, "an open circuit keeps the first service out of it");
}

#[test]
fn fields_of_the_last_good_answer_stand_in() {
    let (backend, well) = patient();
    let names = vec![model::HeaderName::parse("x-page").unwrap()];
    let fallback = model::Fallback::LastHeaders { status: 200, names, age_max: Duration::from_secs(60) };
    let rule = hystrix(|rule| rule.volume_threshold = 1_000);
    let world = world(&[backend.address()], breaker(rule, Some(fallback)), |_| {});
    assert_eq!(get(&world).status, 500, "nothing is known yet");
    well.store(true, Ordering::SeqCst);
    assert_eq!(get(&world).text(), "well");
    well.store(false, Ordering::SeqCst);
    let answer = get(&world);
    assert_eq!((answer.status, answer.fields.get("x-page"), answer.text()), (200, Some("7"), String::new()));
}

#[test]
fn so_many_calls_are_let_through_at_one_time_and_so_long() {
    let backend = Backend::start(|_| Reply::Hold(Vec::new()));
    let limit = Duration::from_millis(200);
    let rule = hystrix(|rule| {
        rule.volume_threshold = 1_000;
        rule.concurrent_max = Some(2);
        rule.timeout = Some(limit);
    });
    let world = world(&[backend.address()], breaker(rule, None), |_| {});
    let mut under_way: Vec<Client> = (0..2).map(|_| Client::connect(world.address()).unwrap()).collect();
    under_way.iter_mut().for_each(|client| client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap());
    eventually("two are under way", || (world.sum("envoy_cluster_upstream_rq_active", CLUSTER) == 2.0).then_some(()));
    let refused = get(&world);
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("circuit_full{web.default"), "{}", refused.text());
    for client in &mut under_way {
        let late = client.exchange(b"").unwrap();
        assert_eq!(late.status, 504);
        assert!(late.fields.get("proxy-status").unwrap().contains("circuit_timeout"));
    }
    eventually("nothing is under way", || (world.sum("envoy_cluster_upstream_rq_active", "") == 0.0).then_some(()));
}

#[test]
fn an_endpoint_that_is_full_leaves_the_request_to_another() {
    let busy = Backend::start(|_| Reply::Hold(Vec::new()));
    let free = Backend::start(|_| Reply::Keep(response(200, &[], b"free")));
    let rule = hystrix(|rule| rule.concurrent_max = Some(1));
    let breaker = model::Breaker { scope: model::BreakerScope::Endpoint, ..breaker(rule, None) };
    let world = world(&[busy.address(), free.address()], breaker, |_| {});
    let mut waiting: Vec<Client> = (0..2).map(|_| Client::connect(world.address()).unwrap()).collect();
    // Until one of them waits at the busy one.
    eventually("the busy one has a request", || {
        waiting[0].send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        (!busy.seen().is_empty()).then_some(())
    });
    assert!((0..20).all(|_| get(&world).text() == "free"));
    assert_eq!(busy.seen().len(), 1);
    waiting.clear();
}
