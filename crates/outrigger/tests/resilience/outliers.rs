//! One of three replicas fails, comes back too early, and recovers: clients notice nothing.

use std::time::Duration;

use outrigger_testkit::eventually;

use crate::scene::{Answer, Fault, Load, Replica, Scene, from_to, service};

/// Failures in a row that eject.
const ERRORS: usize = 3;
/// Seconds of the first ejection.
const BASE: f64 = 0.6;
/// What a sweep and a busy machine may add to an ejection, in seconds.
const SLACK: f64 = 1.5;
/// How late a busy machine may log something, in seconds.
const LATE: f64 = 0.2;

const RULES: &str = "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec:
  host: web
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    outlierDetection:
      {consecutive5xxErrors: 3, interval: 100ms, baseEjectionTime: 600ms, maxEjectionPercent: 50}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web]
  http:
  - route: [{destination: {host: web}}]
    retries: {attempts: 2, retryOn: 5xx, backoff: 1ms}
";

const BAD: (&str, &str) = ("endpoint", "web-1");
const EJECTIONS: &str = "outrigger_endpoint_ejections_total";

#[test]
fn a_replica_that_answers_500() {
    play(Fault::Status(500), 1);
}

#[test]
fn a_replica_that_answers_503_under_several_clients() {
    play(Fault::Status(503), 4);
}

#[test]
fn a_replica_that_resets_connections() {
    play(Fault::Resets, 1);
}

#[test]
fn a_replica_that_is_gone() {
    play(Fault::Gone, 1);
}

#[test]
fn a_replica_that_is_gone_under_several_clients() {
    play(Fault::Gone, 4);
}

fn play(fault: Fault, clients: usize) {
    let mut replicas = Replica::some("web", 3);
    let scene = Scene::start(&(service("web", "http", &replicas) + RULES), &[]);
    let load = Load::start(scene.process.address("outbound"), "web.shop", clients, Duration::from_millis(3));
    let served = |replica: &Replica, more: usize| {
        let before = replica.count(true);
        eventually(&replica.name, || (replica.count(true) >= before + more).then_some(()));
    };
    replicas.iter().for_each(|replica| served(replica, 20));

    // Prometheus sees no increase in a counter that begins with 1.
    let samples = scene.samples();
    let begun: Vec<f64> = samples.iter().filter(|sample| sample.name == EJECTIONS).map(|sample| sample.value).collect();
    assert_eq!(begun, [0.0; 3]);
    let failed = replicas[1].fail(fault);
    scene.until("outrigger_endpoint_ejected", &[BAD], 1.0);
    scene.until("envoy_cluster_outlier_detection_ejections_active", &[("envoy_cluster_name", CLUSTER)], 1.0);
    scene.until(EJECTIONS, &[BAD, ("enforced", "true")], 2.0);
    replicas[1].recover();
    eventually("its return", || (scene.sum("outrigger_endpoint_ejected", &[BAD]) == 0.0).then_some(()));
    served(&replicas[1], 20);

    let before: Vec<usize> = replicas.iter().map(|replica| replica.count(true)).collect();
    served(&replicas[0], 100);
    let shares = replicas.iter().zip(before).map(|(replica, before)| replica.count(true) - before).collect();
    let answers = load.stop();
    judge(&scene, &replicas[1], &answers, (fault, clients, failed));
    assert_even(shares);
}

const CLUSTER: &str = "outbound|80||web.shop.svc.cluster.local";

/// What clients, the replica, the metrics and the log say of it.
fn judge(scene: &Scene, bad: &Replica, answers: &[Answer], (fault, clients, failed): (Fault, usize, f64)) {
    let lost: Vec<&Answer> = answers.iter().filter(|answer| answer.status != 200).collect();
    assert!(lost.is_empty(), "{} of {} requests failed: {lost:?}", lost.len(), answers.len());

    let samples = scene.samples();
    let sum = |name: &str, labels: &[(&str, &str)]| outrigger_testkit::metrics::sum(&samples, name, labels);
    let ejections = sum(EJECTIONS, &[BAD, ("enforced", "true"), ("reason", "consecutive_5xx")]) as usize;
    assert_eq!(sum(EJECTIONS, &[]) as usize, ejections, "nobody else, and for no other reason");
    // Calls that are under way when the last of the run fails cannot be held back. A connection that was kept from better
    // times and is reset may have been closed for its age: its request goes out once more, and that is no failure yet.
    let kept = if fault == Fault::Resets { clients } else { 0 };
    let attempts_max = ejections * (ERRORS + clients - 1) + kept;
    let sent = sum("outrigger_endpoint_requests_total", &[BAD]) as usize - bad.count(true);
    let attempts = sent + sum("envoy_cluster_upstream_cx_connect_fail", &[]) as usize;
    assert!(attempts <= attempts_max, "{attempts} failed attempts, {ejections} ejections, {clients} clients");
    assert!(bad.count(false) <= attempts_max, "the replica saw {}", bad.count(false));
    let retries = sum("envoy_cluster_upstream_rq_retry", &[("envoy_cluster_name", CLUSTER)]) as usize;
    assert!((1..=attempts).contains(&retries), "{retries} retries after {attempts} failures");

    let first = bad.calls().iter().find(|call| !call.is_good).map(|call| call.second);
    let first = first.filter(|_| fault != Fault::Gone).unwrap_or(failed);
    let ejected = scene.log(&["endpoint ejected", "pod=\"web-1\"", "reason=\"consecutive_5xx\""]);
    assert_eq!(ejected.len(), ejections, "{ejected:#?}");
    let took = from_to(first, ejected[0].0);
    assert!(took < 1.0, "ejected {took} s after the first failure");

    let returned = scene.log(&["endpoint returned", "pod=\"web-1\"", "its time is over"]);
    assert_eq!(returned.len(), ejections, "{returned:#?}");
    for (number, ((out, line), (back, _))) in ejected.iter().zip(&returned).enumerate() {
        // It grows with each, but for those after which the replica was well for an interval.
        let planned = line.split_once(" seconds=").and_then(|(_, rest)| rest.split(' ').next()?.parse::<f64>().ok());
        let (lasted, planned) = (from_to(*out, *back), planned.expect("the log tells how long"));
        assert!(planned >= BASE && planned <= BASE * (number + 1) as f64 + 0.001, "number {number}: {line}");
        assert!((planned - LATE..planned + SLACK).contains(&lasted), "{lasted} instead of {planned}: {line}");
    }
    let seconds = sum("outrigger_endpoint_ejected_seconds_total", &[BAD]);
    let logged: f64 = ejected.iter().zip(&returned).map(|((out, _), (back, _))| from_to(*out, *back)).sum();
    assert!((seconds - logged).abs() < LATE * ejections as f64, "{seconds} by the metrics, {logged} by the log");
}

/// Each has about a third.
fn assert_even(shares: Vec<usize>) {
    let third = shares.iter().sum::<usize>() as f64 / 3.0;
    assert!(shares.iter().all(|share| (*share as f64 / third - 1.0).abs() < 0.1), "{shares:?}");
}
