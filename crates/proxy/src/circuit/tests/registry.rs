//! What circuits share, what they keep when the policy changes, and what an operator may do to them.

use outrigger_model::{Mesh, Snapshot};

use super::*;
use crate::dns::{NameServers, Names};
use crate::health::{Health, Out};
use crate::policy::Policy;
use crate::settings::Settings;
use crate::sweeper::Chore;

fn rule() -> HystrixRule {
    HystrixRule { volume_threshold: 4, ..HystrixRule::default() }
}

fn hystrix(rule: HystrixRule) -> BreakerRule {
    BreakerRule::Hystrix(rule)
}

fn fail(circuit: &Circuit, count: u32, now: Instant) {
    (0..count).for_each(|_| end(circuit.admit(now).expect("it is closed"), "fail", now));
}

fn states(circuits: &Circuits, now: Instant) -> Vec<String> {
    let all = circuits.all(now);
    all.iter().map(|report| format!("{} {}", report.name, report.state.label())).collect()
}

/// Times in milliseconds since a moment.
fn clock() -> impl Fn(u64) -> Instant {
    let start = Instant::now();
    move |ms| start + Duration::from_millis(ms)
}

#[test]
fn the_scope_says_what_shares_a_circuit() {
    let at = clock();
    for (scope, open) in [
        (BreakerScope::Service, vec!["cart.shop.svc.cluster.local:80 open"]),
        (
            BreakerScope::Subset,
            vec![
                "outbound|80|v1|cart.shop.svc.cluster.local open",
                "outbound|80|v2|cart.shop.svc.cluster.local closed",
            ],
        ),
    ] {
        let circuits = Circuits::default();
        let [v1, v2] =
            ["v1", "v2"].map(|subset| circuits.circuit(&cluster(subset, scope, hystrix(rule())), None, at(0)));
        fail(&v1, 4, at(0));
        assert_eq!(states(&circuits, at(500)), open);
        assert_eq!(v2.admit(at(501)).is_err(), scope == BreakerScope::Service);
    }
    let circuits = Circuits::default();
    let model = cluster("v1", BreakerScope::Endpoint, hystrix(rule()));
    let healths = [Arc::<Health>::default(), Arc::default()];
    let [one, two] = [(1, "cart-a"), (2, "")].map(|(last, pod)| {
        circuits.circuit(&model, Some((&endpoint(last, pod), &healths[usize::from(last) - 1])), at(0))
    });
    fail(&one, 4, at(0));
    assert!(two.would_admit(at(500)) && !one.would_admit(at(500)));
    assert_eq!(
        states(&circuits, at(500)),
        [
            "outbound|80|v1|cart.shop.svc.cluster.local@10.0.0.1:8080 open",
            "outbound|80|v1|cart.shop.svc.cluster.local@10.0.0.2:8080 closed",
        ]
    );
    let endpoints: Vec<_> = circuits.all(at(500)).into_iter().filter_map(|report| report.endpoint).collect();
    assert_eq!(endpoints, ["cart-a".into(), Arc::from("10.0.0.2:8080")]);
}

#[test]
fn of_endpoints_only_those_with_the_scope_have_one_and_of_clusters_the_others() {
    let circuits = Circuits::default();
    for scope in [BreakerScope::Service, BreakerScope::Subset, BreakerScope::Endpoint] {
        let model = cluster("", scope, hystrix(rule()));
        let of_endpoint = circuits.of_endpoint(&model, &endpoint(1, ""), &Arc::default());
        assert_eq!(circuits.of_cluster(&model).is_some(), scope != BreakerScope::Endpoint);
        assert_eq!(of_endpoint.is_some(), scope == BreakerScope::Endpoint);
    }
    let without = Cluster { breaker: None, ..cluster("", BreakerScope::Service, hystrix(rule())) };
    assert!(circuits.of_cluster(&without).is_none());
}

#[test]
fn an_endpoint_is_out_while_its_circuit_is_not_closed() {
    let at = clock();
    for rule in [
        hystrix(rule()),
        BreakerRule::Consecutive(ConsecutiveRule { failures_max: 4, jitter_ratio: 0.0, ..Default::default() }),
    ] {
        let sleep_ms = if matches!(rule, BreakerRule::Hystrix(_)) { 5501 } else { 1000 };
        let (circuits, health) = (Circuits::default(), Arc::<Health>::default());
        let model = cluster("", BreakerScope::Endpoint, rule);
        let circuit = circuits.circuit(&model, Some((&endpoint(1, ""), &health)), at(0));
        fail(&circuit, 4, at(0));
        circuits.run(at(500));
        assert!(health.is(Out::Circuit) && !circuit.would_admit(at(500)));
        assert!(circuit.would_admit(at(sleep_ms)), "it would let a probe through, and asking takes none");
        let probe = circuit.admit(at(sleep_ms)).unwrap();
        assert!(probe.probe.is_some() && !circuit.would_admit(at(sleep_ms)) && health.is(Out::Circuit));
        end(probe, "ok", at(sleep_ms));
        assert!(health.is_fine() && circuit.would_admit(at(sleep_ms)));
    }
}

#[test]
fn a_new_snapshot_changes_the_rule_and_not_the_state() {
    let at = clock();
    let circuits = Circuits::default();
    let take = |rule, ms| circuits.circuit(&cluster("", BreakerScope::Service, rule), None, at(ms));
    let old = take(hystrix(rule()), 0);
    fail(&old, 3, at(0));
    // What was counted counts by the new rule, and what began under the old one too.
    let under_way = old.admit(at(1)).unwrap();
    let new = take(hystrix(HystrixRule { volume_threshold: 5, ..rule() }), 10);
    end(under_way, "fail", at(20));
    fail(&new, 1, at(20));
    assert!(new.admit(at(500)).is_err() && old.admit(at(500)).is_err());
    // It stays open, and the probe closes it.
    let newer = take(hystrix(HystrixRule { error_threshold_percent: 90, ..rule() }), 600);
    assert!(newer.admit(at(5500)).is_err());
    end(newer.admit(at(5501)).unwrap(), "ok", at(5501));
    assert_eq!(states(&circuits, at(5502)), ["cart.shop.svc.cluster.local:80 closed"]);
}

#[test]
fn a_window_of_another_length_begins_empty_and_a_rule_of_another_kind_anew() {
    let at = clock();
    let circuits = Circuits::default();
    let take = |rule, ms| circuits.circuit(&cluster("", BreakerScope::Service, rule), None, at(ms));
    let old = take(hystrix(rule()), 0);
    fail(&old, 3, at(0));
    let longer = take(hystrix(HystrixRule { window: Duration::from_secs(20), ..rule() }), 10);
    fail(&longer, 3, at(20));
    assert_eq!(states(&circuits, at(510)), ["cart.shop.svc.cluster.local:80 closed"]);
    // A request that follows the snapshot before is counted where all are.
    fail(&old, 1, at(520));
    assert_eq!(states(&circuits, at(1010)), ["cart.shop.svc.cluster.local:80 open"]);
    assert_eq!(circuits.all(at(1010))[0].total.of(Event::Failure), 7, "nothing of the sum is lost");

    let row = BreakerRule::Consecutive(ConsecutiveRule { failures_max: 2, ..Default::default() });
    let other = take(row, 1100);
    end(other.admit(at(1101)).unwrap(), "fail", at(1101));
    end(other.admit(at(1102)).unwrap(), "fail", at(1102));
    let report = &circuits.all(at(1103))[0];
    let changes: Vec<_> =
        report.transitions.iter().map(|(t, n)| (t.from.label(), t.to.label(), t.cause.label(), *n)).collect();
    assert_eq!(
        changes,
        [("closed", "open", "error_rate", 1), ("closed", "open", "consecutive", 1), ("open", "closed", "manual", 1)]
    );
}

#[test]
fn a_policy_that_forces_or_turns_off_does_so_at_once_and_by_hand() {
    let at = clock();
    let circuits = Circuits::default();
    let take = |rule, ms| circuits.circuit(&cluster("", BreakerScope::Service, hystrix(rule)), None, at(ms));
    for (ms, rule, expected) in [
        (0, rule(), "closed"),
        (1, HystrixRule { force_open: true, ..rule() }, "forced_open"),
        (2, HystrixRule { force_closed: true, ..rule() }, "disabled"),
        (3, HystrixRule { enabled: false, ..rule() }, "disabled"),
        (4, rule(), "closed"),
    ] {
        let circuit = take(rule, ms);
        assert_eq!(state(&circuit, at(ms)).label(), expected);
        assert_eq!(circuit.would_admit(at(ms)), expected != "forced_open");
    }
    assert!(circuits.all(at(5))[0].transitions.iter().all(|(transition, _)| transition.cause == CircuitCause::Manual));
}

#[test]
fn what_no_snapshot_has_any_more_ends_and_keeps_nobody_out() {
    let at = clock();
    let (circuits, health) = (Circuits::default(), Arc::<Health>::default());
    assert_eq!(circuits.due(), None, "without circuits nothing is ever due");
    let model = cluster("", BreakerScope::Endpoint, hystrix(rule()));
    let take = |ms| circuits.circuit(&model, Some((&endpoint(1, ""), &health)), at(ms));
    let circuit = take(0);
    assert!(circuits.due().is_some());
    fail(&circuit, 4, at(0));
    let under_way = circuit.admit(at(1)).unwrap();
    circuits.keep([&circuit].into_iter());
    assert_eq!(circuits.all(at(500)).len(), 1);
    assert!(health.is(Out::Circuit));
    circuits.keep(std::iter::empty());
    assert!(circuits.all(at(500)).is_empty() && circuits.due().is_none());
    assert!(health.is_fine());
    // What still follows the snapshot before ends quietly.
    end(under_way, "fail", at(501));
    end(circuit.admit(at(5501)).unwrap(), "fail", at(5501));
    assert!(health.is_fine());
    assert!(take(6000).would_admit(at(6000)), "a policy that comes back begins anew");
}

#[test]
fn a_policy_of_the_proxy_carries_circuits_over_and_ends_those_it_has_no_more() {
    let now = Instant::now();
    let names = Names::new(NameServers::At(Vec::new()), Settings::default());
    let snapshot = |rule: Option<HystrixRule>| {
        let endpoints = vec![Arc::new(endpoint(1, "cart-a")), Arc::new(endpoint(2, "cart-b"))];
        let rule = rule.map(|rule| Arc::new(breaker(BreakerScope::Endpoint, hystrix(rule))));
        let model = cluster("", BreakerScope::Endpoint, hystrix(HystrixRule::default()));
        let model = Cluster { endpoints, breaker: rule, ..model };
        Arc::new(Snapshot {
            version: 0,
            workload: Arc::new(Workload::unknown()),
            mesh: Mesh { trust_domain: "".into(), domain: "".into(), detect_timeout: None },
            listeners: Vec::new(),
            captures: Arc::new([]),
            clusters: [(model.name.clone(), Arc::new(model))].into(),
            peers: Arc::default(),
            services: Vec::new(),
        })
    };
    let first = Policy::compile(snapshot(Some(rule())), None, &names, now);
    let live = |policy: &Policy| policy.clusters.values().next().expect("it has one").clone();
    let at = |ms| now + Duration::from_secs(1) + Duration::from_millis(ms);
    fail(live(&first).hosts[0].circuit.as_ref().expect("it has one"), 4, at(0));
    first.circuits.run(at(1000));
    let available =
        |policy: &Policy| live(policy).hosts.iter().map(|host| host.is_available(at(1000))).collect::<Vec<_>>();
    assert_eq!(available(&first), [false, true]);
    let second =
        Policy::compile(snapshot(Some(HystrixRule { volume_threshold: 9, ..rule() })), Some(&first), &names, now);
    assert_eq!(available(&second), [false, true], "it is open still");
    assert_eq!(second.circuits.all(at(1000)).len(), 2);
    let third = Policy::compile(snapshot(None), Some(&second), &names, now);
    assert_eq!(available(&third), [true, true]);
    assert!(live(&third).hosts[0].health.is_fine() && third.circuits.all(at(1000)).is_empty());
}

#[test]
fn an_operator_forces_a_circuit_for_a_while() {
    let at = clock();
    let circuits = Circuits::default();
    let circuit = circuits.circuit(&cluster("v1", BreakerScope::Subset, hystrix(rule())), None, at(0));
    let name = "outbound|80|v1|cart.shop.svc.cluster.local";
    assert!(!circuits.force("cart", Forced::Open, at(10_000), at(0)), "there is none of that name");
    assert!(circuits.force(name, Forced::Open, at(10_000), at(1000)));
    assert!(circuit.admit(at(9999)).is_err());
    assert_eq!(circuit.why(at(4000)), "circuit_open{cart.shop/v1 forced_open left=6.0s}");
    assert_eq!(circuits.all(at(4000))[0].forced, Some((Forced::Open, at(10_000))));
    // It ends by itself, to the moment, whoever looks later.
    fail(&circuit, 4, at(10_000));
    let report = &circuits.all(at(10_100))[0];
    assert_eq!((report.state, report.since, report.forced), (CircuitState::Closed, at(10_000), None));

    circuits.force(name, Forced::Closed, at(60_000), at(10_200));
    assert_eq!(state(&circuit, at(12_000)), CircuitState::Disabled, "it passes calls though they fail");
    fail(&circuit, 1, at(12_000));
    assert!(circuits.release(name, at(12_001)));
    assert!(circuit.admit(at(12_002)).is_err(), "it has been judged all the same");
    let manual = |report: &CircuitReport| {
        let by_hand = report.transitions.iter().filter(|(transition, _)| transition.cause == CircuitCause::Manual);
        by_hand
            .map(|(transition, count)| format!("{}-{} {count}", transition.from.label(), transition.to.label()))
            .collect()
    };
    let seen: Vec<String> = manual(&circuits.all(at(12_002))[0]);
    assert_eq!(seen, ["closed-forced_open 1", "closed-disabled 1", "forced_open-closed 1", "disabled-open 1"]);
}

#[test]
fn the_sweeper_moves_circuits_on_that_nobody_asks() {
    let at = clock();
    let circuits = Circuits::default();
    let health = Arc::<Health>::default();
    let model = cluster("", BreakerScope::Endpoint, hystrix(rule()));
    let circuit = circuits.circuit(&model, Some((&endpoint(1, ""), &health)), at(0));
    fail(&circuit, 4, at(0));
    circuits.run(at(499));
    assert_eq!(circuits.due(), Some(at(999)));
    assert!(health.is_fine());
    circuits.run(at(999));
    assert!(health.is(Out::Circuit));
}

#[test]
fn circuits_do_not_share_their_luck() {
    let at = clock();
    let circuits = Circuits::default();
    let rule = BreakerRule::Consecutive(ConsecutiveRule { failures_max: 1, ..Default::default() });
    let model = cluster("", BreakerScope::Endpoint, rule);
    for last in 1..=50 {
        let circuit = circuits.circuit(&model, Some((&endpoint(last, ""), &Arc::default())), at(0));
        fail(&circuit, 1, at(0));
    }
    let probes: std::collections::HashSet<_> = circuits.all(at(0)).iter().map(|report| report.next_probe).collect();
    assert!(probes.len() > 40, "endpoints that failed together would be probed together: {}", probes.len());
}
