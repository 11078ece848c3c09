//! Outlier detection through the data plane: what clients get while endpoints fail, and after.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::{CLUSTER, World, proxy_with, snapshot};
use outrigger_model as model;
use outrigger_proxy::{EjectionReason, OutlierReport, Settings};
use outrigger_testkit::{Backend, Client, Reply, eventually, free_address, response};

const HOUR: Duration = Duration::from_secs(3600);

/// Three errors in a row eject for so long; all endpoints may be out.
fn rule(base_ejection: Duration) -> model::OutlierDetection {
    model::OutlierDetection {
        consecutive_5xx: 3,
        consecutive_gateway: 0,
        split_local_origin: false,
        consecutive_local_origin: 5,
        interval: Duration::from_millis(20),
        base_ejection,
        ejection_max: base_ejection,
        ejection_jitter_max: Duration::ZERO,
        ejection_percent_max: 100,
        always_eject_one: false,
        health_percent_min: 0,
        error_codes: Vec::new(),
        success_rate: None,
        failure_percentage: None,
    }
}

fn world(endpoints: &[SocketAddr], rule: Option<model::OutlierDetection>) -> World {
    proxy_with(Settings::default(), with_rule(endpoints, rule))
}

fn with_rule(endpoints: &[SocketAddr], rule: Option<model::OutlierDetection>) -> model::Snapshot {
    let mut snapshot = snapshot(endpoints, |_| {});
    for cluster in snapshot.clusters.values_mut() {
        Arc::make_mut(cluster).outlier = rule.clone();
    }
    snapshot
}

fn backend(status: u16) -> Backend {
    Backend::start(move |_| Reply::Keep(response(status, &[], b"")))
}

/// Statuses of so many requests, one after the other.
fn statuses(world: &World, count: usize) -> Vec<u16> {
    let mut client = Client::connect(world.address()).unwrap();
    let mut get = || client.exchange(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n").unwrap().status;
    (0..count).map(|_| get()).collect()
}

fn report(world: &World, at: usize) -> OutlierReport {
    world.proxy.clusters()[0].endpoints[at].outlier.clone().expect("the cluster has a rule")
}

#[test]
fn an_endpoint_that_fails_gets_no_more_requests_until_it_is_brought_back() {
    let (good, bad) = (backend(200), backend(500));
    let world = world(&[bad.address(), good.address()], Some(rule(HOUR)));
    let errors = statuses(&world, 40).iter().filter(|status| **status == 500).count();
    assert_eq!((errors, bad.seen().len(), good.seen().len()), (3, 3, 37));
    let ejection = report(&world, 0).ejection.expect("it is out");
    assert_eq!((ejection.reason, ejection.until - ejection.since), (EjectionReason::Consecutive5xx, HOUR));
    assert_eq!(world.proxy.reset_ejection(CLUSTER, bad.address()), Ok(true));
    assert_eq!(statuses(&world, 40).iter().filter(|status| **status == 500).count(), 3, "and out again");
    assert_eq!(world.sum("envoy_cluster_outlier_detection_ejections_enforced_consecutive_5xx", ""), 2.0);
}

#[test]
fn an_endpoint_that_refuses_connections_is_ejected() {
    let good = backend(200);
    let world = world(&[free_address(), good.address()], Some(rule(HOUR)));
    let errors = statuses(&world, 40).iter().filter(|status| **status == 503).count();
    assert_eq!(errors, 3);
    assert_eq!(report(&world, 0).ejection.map(|ejection| ejection.reason), Some(EjectionReason::Consecutive5xx));
}

#[test]
fn an_ejection_ends_by_itself() {
    let (good, bad) = (backend(200), backend(500));
    let world = world(&[bad.address(), good.address()], Some(rule(Duration::from_millis(40))));
    statuses(&world, 6);
    assert_eq!(report(&world, 0).ejections, 1);
    eventually("the endpoint is back", || report(&world, 0).ejection.is_none().then_some(()));
    assert!(world.sum("outrigger_endpoint_ejected_seconds_total", "") >= 0.04);
    assert_eq!(statuses(&world, 2).iter().filter(|status| **status == 500).count(), 1, "its turn comes as ever");
}

#[test]
fn without_panic_nobody_is_left_when_all_are_out() {
    let bad = backend(500);
    let world = world(&[bad.address()], Some(rule(HOUR)));
    assert_eq!(statuses(&world, 6), [500, 500, 500, 503, 503, 503]);
    assert!(world.sum("outrigger_proxy_replies_total", "UH") >= 3.0);
    assert_eq!(world.sum("envoy_cluster_lb_healthy_panic", ""), 0.0);
}

#[test]
fn in_panic_those_that_are_out_are_used() {
    let bad = backend(500);
    let rule = model::OutlierDetection { health_percent_min: 50, ..rule(HOUR) };
    let world = world(&[bad.address()], Some(rule));
    assert_eq!(statuses(&world, 6), [500; 6]);
    assert!(report(&world, 0).ejection.is_some());
    assert_eq!(world.sum("envoy_cluster_lb_healthy_panic", ""), 3.0);
}

#[test]
fn a_rule_that_goes_brings_everybody_back() {
    let bad = backend(500);
    let world = world(&[bad.address()], Some(rule(HOUR)));
    statuses(&world, 4);
    world.proxy.apply(Arc::new(with_rule(&[bad.address()], Some(rule(HOUR * 2)))));
    assert!(report(&world, 0).ejection.is_some(), "another rule that would eject it, too");
    world.proxy.apply(Arc::new(with_rule(&[bad.address()], None)));
    assert!(world.proxy.clusters()[0].endpoints[0].outlier.is_none());
    eventually("requests pass", || (statuses(&world, 1) == [500]).then_some(()));
}
