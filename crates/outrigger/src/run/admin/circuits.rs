//! `GET /api/v1/circuits`: every circuit with what it decides by, and the endpoints that are out. docs/circuits-api.md says
//! what each member means; a test holds the two together.

use std::time::Duration;

use outrigger_model::{Breaker, BreakerRule, BreakerScope, Fallback};
use outrigger_proxy::{
    CircuitCause, CircuitCounts, CircuitEvent, CircuitReport, CircuitState, ClusterReport, EndpointReport, Forced,
    Percentiles,
};
use serde_json::{Map, Value, json};

use super::Named;
use super::clock::{Clock, ms, seconds};
use super::overrides::{Overrides, What};

/// One circuit of a proxy.
pub(super) fn circuit(of: &Named, report: &CircuitReport, overrides: &Overrides, clock: &Clock) -> Value {
    let proxy = of.name.as_str();
    let scope = match report.scope {
        BreakerScope::Service => "service",
        BreakerScope::Subset => "subset",
        BreakerScope::Endpoint => "endpoint",
    };
    let endpoint = report.endpoint.as_ref().map(|pod| json!({ "name": pod, "address": report.address }));
    let transitions = report.transitions.iter().map(|(transition, count)| {
        let (from, to, cause) = (transition.from.label(), transition.to.label(), transition.cause.label());
        json!({ "from": from, "to": to, "cause": cause, "count": count })
    });
    let in_state = CircuitState::ALL.iter().zip(report.in_state);
    let in_state: Map<String, Value> =
        in_state.map(|(state, time)| (state.label().to_owned(), json!(seconds(time)))).collect();
    json!({
        "name": report.name,
        "proxy": proxy,
        "workload": of.workload,
        "cluster": report.cluster_name,
        "service": report.service,
        "namespace": report.namespace,
        "subset": report.subset,
        "scope": scope,
        "endpoint": endpoint,
        "origin": report.breaker.origin,
        "state": report.state.label(),
        "since": clock.told(report.since),
        "since_seconds": clock.since(report.since),
        "cause": report.cause.map(CircuitCause::label),
        "why": report.why,
        "error_ratio": report.deciding.error_ratio(),
        "requests": report.deciding.requests(),
        "consecutive_failures": report.failures_in_row,
        "thresholds": {
            "error_ratio": report.error_threshold(),
            "requests": report.volume_threshold(),
            "consecutive_failures": failures_max(&report.breaker.rule),
        },
        "distance": distance(report),
        "next_probe": report.next_probe.map(|at| clock.told(at)),
        "next_probe_seconds": report.next_probe.map(|at| clock.until(at)),
        "override": report.forced.map(|(forced, until)| {
            let what = What::Circuit(report.name.to_string());
            json!({
                "state": if forced == Forced::Open { "open" } else { "closed" },
                "by": overrides.by(proxy, what),
                "until": clock.told(until),
                "seconds_left": clock.until(until),
            })
        }),
        "active": report.active,
        "active_max": report.active_max,
        "rolling": counts(&report.rolling),
        "total": counts(&report.total),
        "latency_ms": latency(&report.latency),
        "seconds_in_state": in_state,
        "transitions": transitions.collect::<Vec<_>>(),
        "policy": policy(&report.breaker),
    })
}

/// How far it is from opening: `null` where it is not closed, or nothing opens it.
fn distance(report: &CircuitReport) -> Value {
    let Some(failures) = failures_to_open(report).filter(|_| report.state == CircuitState::Closed) else {
        return Value::Null;
    };
    let left = report.error_threshold().map(|threshold| (threshold - report.deciding.error_ratio()).max(0.0));
    json!({ "failures": failures, "error_ratio": left })
}

/// How many calls would have to fail now, one after the other, to open it.
fn failures_to_open(report: &CircuitReport) -> Option<u64> {
    let (requests, errors) = (report.deciding.requests(), report.deciding.errors());
    let in_row = failures_max(&report.breaker.rule).map(|max| u64::from(max.saturating_sub(report.failures_in_row)));
    let by_share = match &report.breaker.rule {
        BreakerRule::Hystrix(rule) if rule.enabled && !rule.force_closed => {
            let share = Share::AtLeast(rule.error_threshold_percent.into());
            failures_by_share(requests, errors, rule.volume_threshold.into(), share)
        }
        BreakerRule::Unified(_, window) if window.threshold > 0.0 => {
            let share = Share::SuccessesBelow(window.threshold);
            failures_by_share(requests, errors, window.requests_min.into(), share)
        }
        BreakerRule::Hystrix(_) | BreakerRule::Consecutive(_) | BreakerRule::Unified(..) => None,
    };
    in_row.into_iter().chain(by_share).min()
}

/// Failures in a row that open it, where that counts.
fn failures_max(rule: &BreakerRule) -> Option<u32> {
    match rule {
        BreakerRule::Hystrix(_) => None,
        BreakerRule::Consecutive(rule) | BreakerRule::Unified(rule, _) => {
            (rule.failures_max > 0).then_some(rule.failures_max)
        }
    }
}

/// What opens by a share.
#[derive(Clone, Copy, Debug)]
enum Share {
    /// So many percent of errors, as Hystrix cuts them off.
    AtLeast(u64),
    /// Successes below this share.
    SuccessesBelow(f64),
}

/// The least number of failures after which there are enough requests and too many of them failed.
fn failures_by_share(requests: u64, errors: u64, volume: u64, share: Share) -> Option<u64> {
    let volume = volume.saturating_sub(requests);
    let by_share = match share {
        // 100 (e + n) / (r + n) ≥ p; whole percents are cut off, which does not matter as p is one.
        Share::AtLeast(percent @ 0..100) => (percent * requests).saturating_sub(100 * errors).div_ceil(100 - percent),
        // One success in the window is one too many, until it is out of the window.
        Share::AtLeast(_) => (requests == errors).then_some(0)?,
        // (r - e) / (r + n) < t.
        Share::SuccessesBelow(threshold) => {
            let successes = requests.saturating_sub(errors) as f64;
            let enough = (successes / threshold).floor() as u64 + 1;
            enough.saturating_sub(requests)
        }
    };
    Some(volume.max(by_share))
}

fn counts(counts: &CircuitCounts) -> Value {
    let of = |event| counts.of(event);
    json!({
        "success": of(CircuitEvent::Success),
        "failure": of(CircuitEvent::Failure),
        "timeout": of(CircuitEvent::Timeout),
        "rate_limited": of(CircuitEvent::RateLimited),
        "semaphore_rejected": of(CircuitEvent::SemaphoreRejected),
        "pool_rejected": of(CircuitEvent::PoolRejected),
        "short_circuited": of(CircuitEvent::ShortCircuited),
        "bad_request": of(CircuitEvent::BadRequest),
        "cancelled": of(CircuitEvent::Cancelled),
        "slow": of(CircuitEvent::Slow),
        "fallback_success": of(CircuitEvent::FallbackSuccess),
        "fallback_failure": of(CircuitEvent::FallbackFailure),
        "fallback_rejection": of(CircuitEvent::FallbackRejection),
        "fallback_missing": of(CircuitEvent::FallbackMissing),
    })
}

fn latency(latency: &Percentiles) -> Value {
    let mut values = Map::from_iter([("count".to_owned(), json!(latency.count))]);
    let ms = |duration: Duration| json!(seconds(duration * 1000));
    values.insert("mean".to_owned(), ms(latency.mean));
    for (at, value) in Percentiles::AT.iter().zip(latency.values) {
        values.insert(format!("p{at}").replace('.', "_"), ms(value));
    }
    Value::Object(values)
}

/// The numbers of the policy in force.
fn policy(breaker: &Breaker) -> Value {
    let mut policy = match &breaker.rule {
        BreakerRule::Hystrix(rule) => json!({
            "kind": "hystrix",
            "enabled": rule.enabled,
            "request_volume_threshold": rule.volume_threshold,
            "error_threshold_percentage": rule.error_threshold_percent,
            "sleep_window_ms": ms(rule.sleep_window),
            "force_open": rule.force_open,
            "force_closed": rule.force_closed,
            "rolling_window_ms": ms(rule.window),
            "rolling_buckets": rule.buckets,
            "health_snapshot_interval_ms": ms(rule.health_interval),
            "concurrent_requests_max": rule.concurrent_max,
            "timeout_ms": rule.timeout.map(ms),
            "slow_call_ms": rule.slow_call.map(ms),
        }),
        BreakerRule::Consecutive(rule) => json!({
            "kind": "consecutive",
            "failures_max": rule.failures_max,
            "penalty_min_ms": ms(rule.penalty_min),
            "penalty_max_ms": ms(rule.penalty_max),
            "jitter_ratio": rule.jitter_ratio,
        }),
        BreakerRule::Unified(rule, window) => json!({
            "kind": "unified",
            "failures_max": rule.failures_max,
            "penalty_min_ms": ms(rule.penalty_min),
            "penalty_max_ms": ms(rule.penalty_max),
            "jitter_ratio": rule.jitter_ratio,
            "success_rate_threshold": window.threshold,
            "rolling_window_ms": ms(window.window),
            "requests_min": window.requests_min,
        }),
    };
    policy["fallback"] = json!(breaker.fallback.as_ref().map(|fallback| match fallback {
        Fallback::Static { .. } => "response",
        Fallback::Cluster(_) => "service",
        Fallback::LastHeaders { .. } => "last_headers",
    }));
    policy["fallbacks_max"] = json!(breaker.fallbacks_max);
    policy
}

/// The endpoints of a cluster that outlier detection has ejected.
pub(super) fn ejections(proxy: &str, cluster: &ClusterReport, clock: &Clock) -> Vec<Value> {
    let of = |endpoint: &EndpointReport| {
        let outlier = endpoint.outlier.as_ref()?;
        let ejection = outlier.ejection.as_ref()?;
        Some(json!({
            "proxy": proxy,
            "cluster": cluster.cluster.name.as_str(),
            "endpoint": name(endpoint),
            "address": endpoint.address(),
            "reason": ejection.reason.as_str(),
            "since": clock.told(ejection.since),
            "since_seconds": clock.since(ejection.since),
            "until": clock.told(ejection.until),
            "seconds_left": clock.until(ejection.until),
            "multiplier": outlier.multiplier,
            "ejections": outlier.ejections,
        }))
    };
    cluster.endpoints.iter().filter_map(of).collect()
}

/// The endpoints of a cluster that are drained by hand.
pub(super) fn drains(proxy: &str, cluster: &ClusterReport, overrides: &Overrides, clock: &Clock) -> Vec<Value> {
    let of = |endpoint: &EndpointReport| {
        let until = endpoint.drained_until?;
        let cluster = cluster.cluster.name.as_str();
        let what = What::Endpoint(cluster.to_owned(), endpoint.address());
        Some(json!({
            "proxy": proxy,
            "cluster": cluster,
            "endpoint": name(endpoint),
            "address": endpoint.address(),
            "by": overrides.by(proxy, what),
            "until": clock.told(until),
            "seconds_left": clock.until(until),
        }))
    };
    cluster.endpoints.iter().filter_map(of).collect()
}

/// The pod's name, or the address where that is not known.
pub(super) fn name(endpoint: &EndpointReport) -> String {
    let pod = &endpoint.endpoint.workload.pod;
    if pod.is_empty() { endpoint.address().to_string() } else { pod.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_is_the_least_number_of_failures_that_opens() {
        // Each against the rule itself, asked again and again.
        let opens = |requests: u64, errors: u64, volume: u64, share: Share| {
            requests >= volume
                && match share {
                    Share::AtLeast(percent) => (100 * errors).checked_div(requests).unwrap_or(0) >= percent,
                    Share::SuccessesBelow(threshold) => {
                        requests > 0 && ((requests - errors) as f64 / requests as f64) < threshold
                    }
                }
        };
        let shares =
            [1, 29, 50, 99, 100].map(Share::AtLeast).into_iter().chain([0.1, 0.8, 1.0].map(Share::SuccessesBelow));
        for share in shares {
            for (requests, errors, volume) in
                (0..12).flat_map(|r| (0..=r).flat_map(move |e| [1, 5, 20].map(|volume| (r, e, volume))))
            {
                let by_hand = (0..2000).find(|n| opens(requests + n, errors + n, volume, share));
                let told = failures_by_share(requests, errors, volume, share);
                assert_eq!(told, by_hand, "{requests} {errors} {volume} {share:?}");
            }
        }
    }
}
