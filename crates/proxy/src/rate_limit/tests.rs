//! Limits of routes: what outlives a snapshot, what workers share, and who is told apart.

use std::net::Ipv4Addr;

use outrigger_model::{Action, DirectResponse, Origin};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn limit(name: &str, requests: u32, burst: u32, per_source: bool) -> Arc<RateLimit> {
    Arc::new(RateLimit { name: name.into(), requests, interval: SECOND, burst, per_source })
}

/// A route of an object's rule.
fn route(object: &str, rule: &str, rate_limits: &[Arc<RateLimit>]) -> Route {
    let origin = Origin {
        kind: "VirtualService".into(),
        namespace: "default".into(),
        name: object.into(),
        rule: rule.into(),
        place: None,
    };
    Route {
        name: "default".into(),
        origin: (!object.is_empty()).then(|| Arc::new(origin)),
        matches: Default::default(),
        action: Action::Respond(DirectResponse { status: 200, body: Arc::default() }),
        request_headers: Default::default(),
        response_headers: Default::default(),
        cors: None,
        timeout: None,
        retry: None,
        fault: None,
        rate_limits: rate_limits.to_vec(),
        body_limits: Default::default(),
        mirrors: Vec::new(),
    }
}

/// Somebody at an address of loopback.
fn somebody(last: u8) -> Asking<'static> {
    Asking { workload: None, address: Ipv4Addr::new(127, 0, 0, last).into(), is_stranger: false }
}

/// Who of these passes; what is told of whom.
fn passes(limits: &[Limit], who: &[u8], now: Instant) -> (String, Vec<String>) {
    let mut told = Vec::new();
    let verdicts = who.iter().map(|last| {
        let tell = |limit: &Limit, verdict: Verdict| {
            told.push(format!("{} {}", limit.name, if verdict.passed.is_ok() { "ok" } else { "limited" }));
        };
        if pass(limits, somebody(*last), now, tell).is_ok() { '.' } else { 'x' }
    });
    (verdicts.collect(), told)
}

#[test]
fn state_outlives_a_snapshot_and_ends_with_its_limit() {
    let now = Instant::now();
    let all = RateLimits::new(now);
    let vhost: Arc<str> = "any".into();
    let of = |object: &str, rule: &str, limit: Arc<RateLimit>| all.of_route(&route(object, rule, &[limit]), &vhost);
    let first = of("web", "0", limit("default/a", 10, 2, false));
    assert_eq!(passes(&first, &[1, 1, 1], now).0, "..x");
    // The same rule and rate, even of another route or with another burst, goes on; everything else begins.
    for (object, rule, other, expected) in [
        ("web", "0", limit("default/a", 10, 2, false), "x"),
        ("web", "0", limit("default/a", 10, 3, false), ".x"),
        ("web", "1", limit("default/a", 10, 2, false), "..x"),
        ("api", "0", limit("default/a", 10, 2, false), "..x"),
        ("", "", limit("default/a", 10, 2, false), "..x"),
        ("web", "0", limit("default/b", 10, 2, false), "..x"),
        ("web", "0", limit("default/a", 20, 2, false), "..x"),
        ("web", "0", limit("default/a", 10, 2, true), "..x"),
    ] {
        let limits = of(object, rule, other.clone());
        assert_eq!(passes(&limits, &vec![1; expected.len()], now).0, expected, "{object} {rule} {other:?}");
    }
    assert_eq!(all.len(), 1, "only the first is still held");
    drop(first);
    assert_eq!(all.len(), 0);
    let again = of("web", "0", limit("default/a", 10, 2, false));
    assert_eq!(passes(&again, &[1, 1, 1], now).0, "..x", "a limit that was taken away begins anew");
}

#[test]
fn a_request_that_one_limit_refuses_costs_nothing_with_the_others() {
    let now = Instant::now();
    let all = RateLimits::new(now);
    let limits = [limit("default/wide", 10, 3, false), limit("default/narrow", 10, 1, true)];
    let limits = all.of_route(&route("web", "0", &limits), &"any".into());
    let (verdicts, told) = passes(&limits, &[1, 1, 1, 2, 3, 4], now);
    assert_eq!(verdicts, ".xx..x", "the first two refusals cost the wide limit nothing");
    assert_eq!(told[2], "default/narrow limited");
    assert_eq!(told.last().map(String::as_str), Some("default/wide limited"));
    let refused = pass(&limits, somebody(1), now, |_, _| {}).unwrap_err();
    assert_eq!((&*refused.0, refused.1), ("default/wide", SECOND / 10));
}

#[test]
fn workers_share_a_limit_to_the_request() {
    let now = Instant::now();
    let all = RateLimits::new(now);
    for per_source in [false, true] {
        let limits = all.of_route(&route("web", "0", &[limit("default/a", 10, 1000, per_source)]), &"any".into());
        let worker = || (0..1000).filter(|_| pass(&limits, somebody(1), now, |_, _| {}).is_ok()).count();
        let passed: usize = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert_eq!(passed, 1000);
    }
}

#[test]
fn a_workload_is_one_source_wherever_it_calls_from() {
    let mut named = Workload::unknown();
    named.name = "web".into();
    let mut identified = named.clone();
    identified.principal = "spiffe://cluster.local/ns/default/sa/web".into();
    let source = |workload, last| Asking { workload, ..somebody(last) }.source();
    assert_eq!(source(Some(&identified), 1), source(Some(&identified), 2));
    assert_eq!(source(Some(&named), 1), source(Some(&named), 2));
    assert_ne!(source(Some(&named), 1), source(Some(&identified), 1));
    assert_ne!(source(None, 1), source(None, 2));
}
