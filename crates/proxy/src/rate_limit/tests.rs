//! Limits of routes: what outlives a snapshot, what workers share, and who is told apart.

use std::net::Ipv4Addr;

use outrigger_model::{Action, DirectResponse};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn limit(name: &str, requests: u32, burst: u32, per_source: bool) -> Arc<RateLimit> {
    let key = format!("{name}[0] Service").into();
    Arc::new(RateLimit { name: name.into(), key, requests, interval: SECOND, burst, per_source })
}

/// A route with limits.
fn route(rate_limits: &[Arc<RateLimit>]) -> Route {
    Route {
        name: "default".into(),
        origin: None,
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
    let of = |limit: Arc<RateLimit>| all.of_route(&route(&[limit]));
    let first = of(limit("default/a", 10, 2, false));
    assert_eq!(passes(&first, &[1, 1, 1], now).0, "..x");
    // The same key and rate, on whatever route and with whatever burst, goes on; everything else begins.
    for (other, expected) in [
        (limit("default/a", 10, 2, false), "x"),
        (limit("default/a", 10, 3, false), ".x"),
        (limit("default/b", 10, 2, false), "..x"),
        (limit("default/a", 20, 2, false), "..x"),
        (limit("default/a", 10, 2, true), "..x"),
    ] {
        let limits = of(other.clone());
        assert_eq!(passes(&limits, &vec![1; expected.len()], now).0, expected, "{other:?}");
    }
    assert_eq!(all.len(), 1, "only the first is still held");
    drop(first);
    assert_eq!(all.len(), 0);
    let again = of(limit("default/a", 10, 2, false));
    assert_eq!(passes(&again, &[1, 1, 1], now).0, "..x", "a limit that was taken away begins anew");
}

#[test]
fn a_request_that_one_limit_refuses_costs_nothing_with_the_others() {
    let now = Instant::now();
    let all = RateLimits::new(now);
    let limits = [limit("default/wide", 10, 3, false), limit("default/narrow", 10, 1, true)];
    let limits = all.of_route(&route(&limits));
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
        let limits = all.of_route(&route(&[limit("default/a", 10, 1000, per_source)]));
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
