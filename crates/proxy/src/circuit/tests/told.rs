//! What circuits tell: metrics, words, and what a dashboard of Hystrix asks for.

use std::time::UNIX_EPOCH;

use outrigger_telemetry::{Collect, Families, Registry, SeriesLimits, Value};

use super::*;

fn rule() -> HystrixRule {
    HystrixRule { volume_threshold: 4, ..HystrixRule::default() }
}

fn play(circuit: &Circuit, hows: &[(&str, u32)], now: Instant) {
    for (how, count) in hows {
        (0..*count).for_each(|_| end(circuit.admit(now).expect("it is closed"), how, now));
    }
}

#[test]
fn an_open_circuit_says_why_and_how_long() {
    let ms = Duration::from_millis;
    let (circuit, start) = circuit(HystrixRule { concurrent_max: Some(10), ..rule() });
    play(&circuit, &[("ok", 38), ("fail", 62)], start);
    assert_eq!(circuit.why(start), "circuit_open{cart.shop/v1}", "nothing to say while it is closed");
    let says = |at| circuit.why(start + ms(at));
    assert_eq!(says(2300), "circuit_open{cart.shop/v1 error_rate=0.62>=0.50 retry_in=3.2s}");
    let probe = circuit.admit(start + ms(5501)).unwrap();
    assert_eq!(says(5502), "circuit_open{cart.shop/v1 error_rate=0.62>=0.50 probing}");
    end(probe, "fail", start + ms(6000));
    assert_eq!(says(6000), "circuit_open{cart.shop/v1 probe_failed retry_in=5.0s}");
    assert_eq!(
        says(60_000),
        "circuit_open{cart.shop/v1 probe_failed retry_in=0.0s}",
        "whoever comes next is the probe"
    );
}

#[test]
fn each_rule_has_its_words() {
    let ms = Duration::from_millis;
    let says = |rule: Rule, calls: &[(&str, u32)]| {
        let (circuit, start) = circuit(rule);
        play(&circuit, calls, start);
        circuit.why(start + ms(500))
    };
    let slow = HystrixRule { slow_call: Some(ms(800)), ..rule() };
    assert_eq!(
        says(slow.into(), &[("ok", 1), ("slow", 2), ("fail", 1)]),
        "circuit_open{cart.shop/v1 error_rate=0.75>=0.50 slow_rate=0.50 retry_in=5.0s}"
    );
    let row = ConsecutiveRule { jitter_ratio: 0.0, ..ConsecutiveRule::default() };
    assert_eq!(says(row.into(), &[("fail", 7)]), "circuit_open{cart.shop/v1 consecutive_failures=7>=7 retry_in=0.5s}");
    assert_eq!(
        says((row, SuccessWindow::default()).into(), &[("ok", 3), ("limited", 2)]),
        "circuit_open{cart.shop/v1 success_rate=0.60<0.80 retry_in=0.5s}"
    );
    assert_eq!(says(HystrixRule { force_open: true, ..rule() }.into(), &[]), "circuit_open{cart.shop/v1 forced_open}");
    let (circuit, start) = circuit(HystrixRule { concurrent_max: Some(1), ..rule() });
    let _pass = circuit.admit(start).unwrap();
    assert_eq!(circuit.admit(start).unwrap_err(), Refused::Full);
    assert_eq!(circuit.why_full(), "circuit_full{cart.shop/v1 concurrent=1>=1}");
}

#[test]
fn a_dashboard_of_hystrix_finds_its_figures() {
    let ms = Duration::from_millis;
    let (circuit, start) = circuit(HystrixRule { concurrent_max: Some(3), ..rule() });
    let passes: Vec<Pass<'_>> = (0..3).map(|_| circuit.admit(start).unwrap()).collect();
    assert!(circuit.admit(start).is_err());
    passes.into_iter().zip(["ok", "bad", "gone"]).for_each(|(pass, how)| end(pass, how, start));
    play(&circuit, &[("timeout", 1), ("fail", 2)], start);
    assert!(circuit.admit(start + ms(600)).is_err());
    let report = CircuitReport::of(&circuit.core, start + ms(1000));
    let expected = [
        (Event::Success, 1),
        (Event::Failure, 2),
        (Event::Timeout, 1),
        (Event::SemaphoreRejected, 1),
        (Event::ShortCircuited, 1),
        (Event::BadRequest, 1),
        (Event::Cancelled, 1),
        (Event::FallbackSuccess, 0),
    ];
    for (event, count) in expected {
        assert_eq!(report.rolling.of(event), count, "{event:?}");
    }
    assert_eq!((report.rolling.requests(), report.rolling.errors(), report.deciding.error_ratio()), (5, 4, 0.8));
    assert_eq!((report.active, report.active_max), (0, 3));
    // Of the call whose client went away nobody knows how long it took.
    assert_eq!((report.latency.count, report.latency.values[8]), (5, ms(1000)));
    assert_eq!(report.next_probe, Some(start + ms(5500)));
    // After the window nothing of it is left but the sums.
    let later = CircuitReport::of(&circuit.core, start + ms(20_000));
    assert_eq!((later.rolling, later.active_max), (CircuitCounts::default(), 0));
    assert_eq!(later.total, report.total);
}

#[test]
fn fallbacks_are_counted_and_bounded() {
    let (circuit, start) = circuit(rule());
    let held = [circuit.begin_fallback(), circuit.begin_fallback()];
    assert!(held.iter().all(Option::is_some));
    assert!(circuit.begin_fallback().is_none(), "two are allowed");
    drop(held);
    assert!(circuit.begin_fallback().is_some());
    circuit.note_fallback(FallbackEnd::Success);
    circuit.note_fallback(FallbackEnd::Failure);
    circuit.note_fallback(FallbackEnd::Missing);
    let total = CircuitReport::of(&circuit.core, start).total;
    let seen = [Event::FallbackSuccess, Event::FallbackFailure, Event::FallbackMissing, Event::FallbackRejection];
    assert_eq!(seen.map(|event| total.of(event)), [1, 1, 1, 1]);
    assert_eq!(total.requests(), 0, "and decide nothing");
}

/// Circuits at a moment, as a collector.
struct Told(Circuits, Instant);

impl Collect for Told {
    fn collect(&self, out: &mut Families) {
        collect(&self.0, self.1, UNIX_EPOCH + Duration::from_secs(1000), out);
    }
}

/// The metrics of the circuit of the subset `v1`, each with the labels that are not the circuit's, and its value.
fn told(circuits: Circuits, now: Instant) -> String {
    let registry = Registry::new(SeriesLimits::default());
    registry.add_collector(Arc::new(Told(circuits, now)));
    let families = registry.gather(now);
    let mut lines = Vec::new();
    for family in families.iter().filter(|family| family.desc.name.starts_with("outrigger_circuit_")) {
        for sample in &family.samples {
            let value = match &sample.value {
                Value::Integer(value) => value.to_string(),
                Value::Float(value) => format!("{value:.3}"),
                Value::Histogram { .. } => unreachable!("circuits have none"),
            };
            let (place, own) = sample.labels.split_at(6);
            assert_eq!(place[0..3].join(" "), "outbound|80|v1|cart.shop.svc.cluster.local cart shop");
            assert_eq!(place[3..6].join(" ").trim(), "v1 cluster");
            let name = family.desc.name.trim_start_matches("outrigger_circuit_");
            lines.push(format!("{name} {}={value}", own.join(",")));
        }
    }
    lines.join("\n")
}

#[test]
fn a_scrape_tells_the_state_its_history_and_the_way_to_the_threshold() {
    let ms = Duration::from_millis;
    let (circuits, start) = (Circuits::default(), Instant::now());
    let circuit = circuits.circuit(&cluster("v1", BreakerScope::Subset, BreakerRule::Hystrix(rule())), None, start);
    play(&circuit, &[("ok", 1), ("bad", 2), ("timeout", 1), ("fail", 2)], start);
    assert!(circuit.admit(start + ms(600)).is_err());
    end(circuit.admit(start + ms(5501)).unwrap(), "fail", start + ms(6000));
    let expected = "\
calls_total failure=3
calls_total ignored=2
calls_total rejected=0
calls_total short_circuited=1
calls_total success=1
calls_total timeout=1
error_ratio =0.750
error_threshold_ratio =0.500
request_volume_threshold =4.000
rolling_requests =4.000
sleep_window_seconds =5.000
state closed=0.000
state disabled=0.000
state forced_open=0.000
state half_open=0.000
state open=1.000
state_since_timestamp_seconds =999.600
time_in_state_seconds_total closed=0.500
time_in_state_seconds_total disabled=0.000
time_in_state_seconds_total forced_open=0.000
time_in_state_seconds_total half_open=0.499
time_in_state_seconds_total open=5.401
transitions_total closed,open,error_rate=1
transitions_total half_open,closed,probe_ok=0
transitions_total half_open,open,probe_failed=1
transitions_total open,half_open,sleep_window=1";
    assert_eq!(told(circuits, start + ms(6400)), expected);
}

/// Prometheus sees no increase in a counter that begins with 1.
#[test]
fn the_changes_that_a_rule_makes_are_told_before_they_happen() {
    let start = Instant::now();
    let cases = [
        (BreakerRule::Hystrix(rule()), vec!["error_rate"]),
        (
            BreakerRule::Hystrix(HystrixRule { slow_call: Some(Duration::from_secs(1)), ..rule() }),
            vec!["error_rate", "slow"],
        ),
        (BreakerRule::Hystrix(HystrixRule { enabled: false, ..rule() }), vec![]),
        (BreakerRule::Consecutive(ConsecutiveRule::default()), vec!["consecutive"]),
    ];
    for (rule, opens) in cases {
        let circuits = Circuits::default();
        circuits.circuit(&cluster("v1", BreakerScope::Subset, rule.clone()), None, start);
        let mut expected: Vec<String> = opens.iter().map(|why| format!("closed,open,{why}=0")).collect();
        if !opens.is_empty() {
            expected.extend(
                ["half_open,closed,probe_ok=0", "half_open,open,probe_failed=0", "open,half_open,sleep_window=0"]
                    .map(str::to_owned),
            );
        }
        let told = told(circuits, start);
        let changes: Vec<&str> = told.lines().filter_map(|line| line.strip_prefix("transitions_total ")).collect();
        assert_eq!(changes, expected, "{rule:?}");
    }
}

#[test]
fn a_rule_without_a_share_tells_none() {
    let start = Instant::now();
    for rule in [
        BreakerRule::Consecutive(ConsecutiveRule::default()),
        BreakerRule::Hystrix(HystrixRule { enabled: false, ..rule() }),
    ] {
        let circuits = Circuits::default();
        circuits.circuit(&cluster("v1", BreakerScope::Subset, rule), None, start);
        let told = told(circuits, start);
        assert!(!told.contains("threshold") && told.contains("error_ratio =0.000"), "{told}");
    }
}

#[test]
fn of_a_crowd_of_endpoints_only_those_are_told_that_ever_changed() {
    let start = Instant::now();
    let count = |endpoints: u8| {
        let circuits = Circuits::default();
        let rule = BreakerRule::Consecutive(ConsecutiveRule { failures_max: 1, ..Default::default() });
        let model = cluster("v1", BreakerScope::Endpoint, rule);
        let all: Vec<_> = (0..endpoints)
            .map(|last| circuits.circuit(&model, Some((&endpoint(last, ""), &Arc::default())), start))
            .collect();
        play(&all[7], &[("fail", 1)], start);
        let registry = Registry::new(SeriesLimits::default());
        registry.add_collector(Arc::new(Told(circuits, start)));
        let families = registry.gather(start);
        let since =
            families.iter().find(|family| family.desc.name == "outrigger_circuit_state_since_timestamp_seconds");
        since.map_or(0, |family| family.samples.len())
    };
    assert_eq!((count(100), count(101)), (100, 1));
}
