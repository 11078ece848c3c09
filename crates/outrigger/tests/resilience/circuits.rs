//! All of a service fails and recovers: its circuit opens, refuses, probes and closes, and every step shows.

use std::time::Duration;

use outrigger_testkit::{eventually, metrics};

use crate::scene::{Answer, Fault, Load, Replica, Scene, from_to, service};

/// Seconds that the circuit sleeps.
const SLEEP: f64 = 0.4;
/// How late a busy machine may notice or log something, in seconds.
const LATE: f64 = 0.2;

/// A CircuitBreaker on `cart`; `more` is the rest of its spec.
fn breaker(more: &str) -> String {
    format!(
        "---
apiVersion: outrigger.dev/v1alpha1
kind: CircuitBreaker
metadata: {{name: cart, namespace: shop}}
spec:
  targetRefs: [{{group: \"\", kind: Service, name: cart}}]
  circuitBreaker: {{requestVolumeThreshold: 5, errorThresholdPercentage: 50, sleepWindowInMilliseconds: 400}}
  metrics: {{rollingStats: {{timeInMilliseconds: 2000, numBuckets: 10}}, healthSnapshot: {{intervalInMilliseconds: 100}}}}
{more}"
    )
}

/// Fails for `windows` sleep windows under a load, recovers, and gives all that clients got.
fn play(scene: &Scene, replicas: &mut [Replica], clients: usize, windows: f64) -> Vec<Answer> {
    let load = Load::start(scene.process.address("outbound"), "cart.shop", clients, Duration::from_millis(2));
    eventually("a good start", || replicas.iter().all(|replica| replica.count(true) > 10).then_some(()));
    for replica in &mut *replicas {
        replica.fail(Fault::Status(500));
    }
    scene.until("outrigger_circuit_state", &[("state", "open")], 1.0);
    scene.until(TRANSITIONS, &[("from", "open"), ("to", "half_open")], windows);
    replicas.iter_mut().for_each(Replica::recover);
    eventually("closed again", || (scene.sum("outrigger_circuit_state", &[("state", "closed")]) == 1.0).then_some(()));
    let before: Vec<usize> = replicas.iter().map(|replica| replica.count(true)).collect();
    let is_back = || replicas.iter().zip(&before).all(|(replica, before)| replica.count(true) > before + 10);
    eventually("calls to all", || is_back().then_some(()));
    load.stop()
}

const TRANSITIONS: &str = "outrigger_circuit_transitions_total";

#[test]
fn a_circuit_opens_probes_once_a_window_and_closes_and_every_step_shows() {
    let mut replicas = Replica::some("cart", 2);
    let scene = Scene::start(&(service("cart", "http", &replicas) + &breaker("")), &[]);
    let answers = play(&scene, &mut replicas, 3, 4.0);

    let opened = scene.log(&["a circuit opens", "from=\"closed\""]);
    let probed = scene.log(&["a circuit lets one call through"]);
    let failed = scene.log(&["a circuit opens", "from=\"half_open\"", "probe_failed"]);
    let closed = scene.log(&["a circuit closes"]);
    assert_eq!((opened.len(), closed.len()), (1, 1), "{opened:?} {closed:?}");
    assert_eq!(probed.len(), failed.len() + 1, "all probes but the last failed");
    let outage = (opened[0].0, closed[0].0);
    assert!(opened[0].1.contains("CircuitBreaker shop/cart") && opened[0].1.contains("error_rate="), "{opened:?}");

    assert_probes(&replicas, outage, probed.len());
    let refused = assert_answers(&answers, &replicas);

    let samples = scene.samples();
    let sum = |name: &str, labels: &[(&str, &str)]| metrics::sum(&samples, name, labels);
    let moved = |from: &str, to: &str, reason: &str| {
        sum(TRANSITIONS, &[("service", "cart"), ("from", from), ("to", to), ("reason", reason)]) as usize
    };
    assert_eq!(moved("closed", "open", "error_rate"), 1);
    assert_eq!(moved("open", "half_open", "sleep_window"), probed.len());
    assert_eq!(moved("half_open", "open", "probe_failed"), failed.len());
    assert_eq!(moved("half_open", "closed", "probe_ok"), 1);
    assert_eq!(sum("outrigger_circuit_calls_total", &[("outcome", "short_circuited")]) as usize, refused);
    let well = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(sum("outrigger_circuit_calls_total", &[("outcome", "success")]) as usize, well);
    assert_eq!(sum("istio_requests_total", &[("response_flags", "UO")]) as usize, refused);

    let not_closed: f64 = ["open", "half_open"]
        .map(|state| sum("outrigger_circuit_time_in_state_seconds_total", &[("state", state)]))
        .iter()
        .sum();
    let by_log = from_to(outage.0, outage.1);
    assert!((not_closed - by_log).abs() < LATE, "{not_closed} s by the metrics, {by_log} s by the log");
    let since = sum("outrigger_circuit_state_since_timestamp_seconds", &[]) % 86_400.0;
    assert!(
        from_to(since, outage.1).min(from_to(outage.1, since)) < LATE,
        "closed at {since}, by the log {}",
        outage.1
    );
}

/// While it was open one call a sleep window came to the replicas.
fn assert_probes(replicas: &[Replica], (opened, closed): (f64, f64), probed: usize) {
    let calls = replicas.iter().flat_map(Replica::calls);
    // Calls that were under way when it opened have no probe's distance.
    let mut probes: Vec<f64> = calls.map(|call| from_to(opened, call.second)).collect();
    probes.retain(|after| *after > SLEEP / 2.0 && *after < from_to(opened, closed));
    probes.sort_by(f64::total_cmp);
    assert_eq!(probes.len(), probed, "one call each time: {probes:?}");
    // The log tells of the opening a little after it, and a replica of a call.
    let gaps = std::iter::once(probes[0]).chain(probes.windows(2).map(|pair| pair[1] - pair[0]));
    let gaps: Vec<f64> = gaps.collect();
    assert!(gaps.iter().all(|gap| *gap > SLEEP - LATE), "not before the window is over: {gaps:?}");
}

/// What clients got: answers of the service, and refusals at once that say why. Tells how many were refused.
fn assert_answers(answers: &[Answer], replicas: &[Replica]) -> usize {
    let of = |status: u16| answers.iter().filter(move |answer| answer.status == status);
    let ill: usize = replicas.iter().map(|replica| replica.count(false)).sum();
    assert_eq!(of(500).count(), ill, "what the service answers passes as it is");
    assert_eq!(of(200).count() + of(500).count() + of(503).count(), answers.len());
    let mut times: Vec<Duration> = of(503).map(|answer| answer.took).collect();
    assert!(times.len() > 20, "calls go on while it is open: {}", times.len());
    times.sort_unstable();
    assert!(times[times.len() / 2] < Duration::from_millis(50), "half of them take {:?}", times[times.len() / 2]);
    for answer in of(503) {
        let why = &answer.proxy_status;
        assert!(why.contains("circuit_open") && why.ends_with("flag=UO"), "{why}");
        assert!(answer.body.contains("circuit_open{cart.shop"), "{}", answer.body);
    }
    times.len()
}

#[test]
fn a_fallback_answers_while_it_is_open_and_for_what_fails() {
    let mut replicas = Replica::some("cart", 2);
    let more = "  fallback: {response: {statusCode: 200, headers: {content-type: application/json}, body: \"[]\"}}\n";
    let scene = Scene::start(&(service("cart", "http", &replicas) + &breaker(more)), &[]);
    let answers = play(&scene, &mut replicas, 1, 2.0);
    let failed: Vec<&Answer> = answers.iter().filter(|answer| answer.status != 200).collect();
    assert!(failed.is_empty(), "nobody sees a failure: {failed:?}");
    let stood_in: Vec<&Answer> = answers.iter().filter(|answer| answer.body == "[]").collect();
    let good: usize = replicas.iter().map(|replica| replica.count(true)).sum();
    assert_eq!(stood_in.len() + good, answers.len());
    assert!(stood_in.iter().all(|answer| answer.proxy_status.contains("fallback")), "{:?}", stood_in[0]);
    let ill: usize = replicas.iter().map(|replica| replica.count(false)).sum();
    let refused = scene.sum("outrigger_circuit_calls_total", &[("outcome", "short_circuited")]) as usize;
    assert_eq!(stood_in.len(), ill + refused, "for failures, and for calls that were not let through");
}
