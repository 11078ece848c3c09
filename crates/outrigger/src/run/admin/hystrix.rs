//! Circuits in the words of Hystrix's event stream, for its dashboard and for Turbine. The names are Hystrix's.

use outrigger_model::{BreakerRule, HystrixRule};
use outrigger_proxy::{CircuitEvent as Event, CircuitReport, Forced, Percentiles};
use serde_json::{Map, Value, json};

use super::clock::ms;

/// Commands in one round, at most; those that are open come first.
pub(super) const COMMANDS_MAX: usize = 1000;

/// What Hystrix writes for "no limit": the largest of Java's `int`.
const NO_LIMIT: u64 = i32::MAX as u64;

/// One circuit as a `HystrixCommand`.
pub(super) fn command(name: &str, report: &CircuitReport, now_ms: u64) -> Value {
    let group = format!("{}.{}", report.service, report.namespace);
    let deciding = &report.deciding;
    let mut command = json!({
        "type": "HystrixCommand",
        "name": name,
        "group": group,
        "currentTime": now_ms,
        "isCircuitBreakerOpen": report.state.is_shut(),
        "errorPercentage": (100 * deciding.errors()).checked_div(deciding.requests()).unwrap_or(0),
        "errorCount": deciding.errors(),
        "requestCount": deciding.requests(),
        "currentConcurrentExecutionCount": report.active,
        "rollingMaxConcurrentExecutionCount": report.active_max,
        "reportingHosts": 1,
        "threadPool": group,
    });
    let members = command.as_object_mut().expect("made as an object");
    members.extend(rolling(report));
    members.extend(properties(report));
    // Nothing waits for a thread here: how long a call took is how long it took in all.
    for of in ["latencyExecute", "latencyTotal"] {
        let at = Percentiles::AT.iter().zip(report.latency.values);
        let values: Map<String, Value> = at.map(|(at, value)| (at.to_string(), json!(ms(value)))).collect();
        members.insert(format!("{of}_mean"), json!(ms(report.latency.mean)));
        members.insert(of.to_owned(), Value::Object(values));
    }
    command
}

fn rolling(report: &CircuitReport) -> impl Iterator<Item = (String, Value)> {
    let of = |event| report.rolling.of(event);
    let without_answer =
        of(Event::BadRequest) + of(Event::FallbackFailure) + of(Event::FallbackMissing) + of(Event::FallbackRejection);
    let counts = [
        ("BadRequests", of(Event::BadRequest)),
        // Nothing is collapsed, streamed or cached.
        ("CollapsedRequests", 0),
        ("Emit", 0),
        ("ExceptionsThrown", without_answer),
        ("Failure", of(Event::Failure) + of(Event::RateLimited)),
        ("FallbackEmit", 0),
        ("FallbackFailure", of(Event::FallbackFailure)),
        ("FallbackMissing", of(Event::FallbackMissing)),
        ("FallbackRejection", of(Event::FallbackRejection)),
        ("FallbackSuccess", of(Event::FallbackSuccess)),
        ("ResponsesFromCache", 0),
        ("SemaphoreRejected", of(Event::SemaphoreRejected)),
        ("ShortCircuited", of(Event::ShortCircuited)),
        ("Success", of(Event::Success)),
        ("ThreadPoolRejected", of(Event::PoolRejected)),
        ("Timeout", of(Event::Timeout)),
    ];
    counts.into_iter().map(|(name, count)| (format!("rollingCount{name}"), json!(count)))
}

/// The rule as Hystrix's properties; Linkerd's as those that come nearest.
fn properties(report: &CircuitReport) -> impl Iterator<Item = (String, Value)> {
    let hystrix = match &report.breaker.rule {
        BreakerRule::Hystrix(rule) => *rule,
        BreakerRule::Consecutive(_) => HystrixRule::default(),
        BreakerRule::Unified(_, window) => HystrixRule { window: window.window, ..HystrixRule::default() },
    };
    // So many failures in a row are a hundred percent of so many requests.
    let in_row = match &report.breaker.rule {
        BreakerRule::Consecutive(rule) => Some(rule.failures_max),
        BreakerRule::Hystrix(_) | BreakerRule::Unified(..) => None,
    };
    let volume = report.volume_threshold().or(in_row).unwrap_or(hystrix.volume_threshold);
    let percent = match report.error_threshold() {
        Some(ratio) => (ratio * 100.0).round() as u64,
        None if in_row.is_some() => 100,
        None => hystrix.error_threshold_percent.into(),
    };
    let forced = report.forced.map(|(forced, _)| forced);
    let timeout = hystrix.timeout.map_or(NO_LIMIT, ms);
    let properties = [
        ("circuitBreakerRequestVolumeThreshold", json!(volume)),
        ("circuitBreakerSleepWindowInMilliseconds", json!(ms(report.sleep_window()))),
        ("circuitBreakerErrorThresholdPercentage", json!(percent)),
        ("circuitBreakerForceOpen", json!(hystrix.force_open || forced == Some(Forced::Open))),
        ("circuitBreakerForceClosed", json!(hystrix.force_closed || forced == Some(Forced::Closed))),
        ("circuitBreakerEnabled", json!(hystrix.enabled)),
        ("executionIsolationStrategy", json!("SEMAPHORE")),
        ("executionIsolationThreadTimeoutInMilliseconds", json!(timeout)),
        ("executionTimeoutInMilliseconds", json!(timeout)),
        ("executionIsolationThreadInterruptOnTimeout", json!(hystrix.timeout.is_some())),
        ("executionIsolationThreadPoolKeyOverride", Value::Null),
        ("executionIsolationSemaphoreMaxConcurrentRequests", json!(hystrix.concurrent_max.map_or(NO_LIMIT, u64::from))),
        ("fallbackIsolationSemaphoreMaxConcurrentRequests", json!(report.breaker.fallbacks_max)),
        ("metricsRollingStatisticalWindowInMilliseconds", json!(ms(hystrix.window))),
        ("requestCacheEnabled", json!(false)),
        ("requestLogEnabled", json!(false)),
    ];
    properties.into_iter().map(|(name, value)| (format!("propertyValue_{name}"), value))
}
