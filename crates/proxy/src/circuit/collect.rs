//! Circuits as metrics, computed when somebody scrapes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use outrigger_model::{BreakerRule, BreakerScope};
use outrigger_telemetry::{Families, catalogue};

use super::ledger::{CircuitCause, CircuitState, Transition};
use super::registry::Circuits;
use super::report::CircuitReport;
use super::ring::{Counts, Event};

/// Endpoints of a cluster whose circuits are all told; of more, those that ever changed.
const ENDPOINTS_MAX: usize = 100;

/// Tells the circuits of a proxy. `wall` is the time of day at `now`.
pub(crate) fn collect(circuits: &Circuits, now: Instant, wall: SystemTime, out: &mut Families) {
    let all = circuits.all(now);
    let mut of_cluster: HashMap<Arc<str>, usize, foldhash::fast::FixedState> = HashMap::default();
    for report in all.iter().filter(|report| report.endpoint.is_some()) {
        *of_cluster.entry(report.cluster_name.clone()).or_default() += 1;
    }
    for report in &all {
        let siblings = of_cluster.get(&report.cluster_name).copied().unwrap_or_default();
        if report.endpoint.is_none() || siblings <= ENDPOINTS_MAX || !report.transitions.is_empty() {
            tell(report, now, wall, out);
        }
    }
}

fn tell(report: &CircuitReport, now: Instant, wall: SystemTime, out: &mut Families) {
    let labels = |more: &[&'static str]| -> Vec<Arc<str>> {
        let scope = if report.scope == BreakerScope::Endpoint { "endpoint" } else { "cluster" };
        let endpoint = report.endpoint.clone().unwrap_or_default();
        let first = [&report.cluster_name, &report.service, &report.namespace, &report.subset].map(Arc::clone);
        let more = more.iter().map(|value| Arc::from(*value));
        first.into_iter().chain([scope.into(), endpoint]).chain(more).collect()
    };
    for (state, in_state) in CircuitState::ALL.into_iter().zip(report.in_state) {
        let labels = labels(&[state.label()]);
        out.gauge(&catalogue::OUTRIGGER_CIRCUIT_STATE, &labels, f64::from(u8::from(state == report.state)));
        let seconds = in_state.as_secs_f64();
        out.counter_seconds(&catalogue::OUTRIGGER_CIRCUIT_TIME_IN_STATE_SECONDS_TOTAL, &labels, seconds);
    }
    let awaited = awaited(&report.breaker.rule).into_iter().map(|transition| (transition, 0));
    let is_new = |(transition, _): &(Transition, u64)| report.transitions.iter().all(|(made, _)| made != transition);
    for (transition, count) in report.transitions.iter().copied().chain(awaited.filter(is_new)) {
        let labels = labels(&[transition.from.label(), transition.to.label(), transition.cause.label()]);
        out.counter(&catalogue::OUTRIGGER_CIRCUIT_TRANSITIONS_TOTAL, &labels, count);
    }
    for (outcome, count) in outcomes(&report.total) {
        out.counter(&catalogue::OUTRIGGER_CIRCUIT_CALLS_TOTAL, &labels(&[outcome]), count);
    }
    let labels = labels(&[]);
    let since = wall.checked_sub(now.saturating_duration_since(report.since));
    let since = since.and_then(|since| since.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    out.gauge(&catalogue::OUTRIGGER_CIRCUIT_STATE_SINCE_TIMESTAMP_SECONDS, &labels, since.as_secs_f64());
    out.gauge(&catalogue::OUTRIGGER_CIRCUIT_ERROR_RATIO, &labels, report.deciding.error_ratio());
    out.gauge(&catalogue::OUTRIGGER_CIRCUIT_ROLLING_REQUESTS, &labels, report.deciding.requests() as f64);
    out.gauge(&catalogue::OUTRIGGER_CIRCUIT_SLEEP_WINDOW_SECONDS, &labels, report.sleep_window().as_secs_f64());
    if let (Some(ratio), Some(volume)) = (report.error_threshold(), report.volume_threshold()) {
        out.gauge(&catalogue::OUTRIGGER_CIRCUIT_ERROR_THRESHOLD_RATIO, &labels, ratio);
        out.gauge(&catalogue::OUTRIGGER_CIRCUIT_REQUEST_VOLUME_THRESHOLD, &labels, f64::from(volume));
    }
}

/// The changes that a rule makes by itself. They are told from the beginning: Prometheus sees no increase in a counter that
/// begins with 1, and the first time that a circuit opens is the one that matters.
fn awaited(rule: &BreakerRule) -> Vec<Transition> {
    use CircuitCause::{Consecutive, ErrorRate, ProbeFailed, ProbeOk, SleepWindow, Slow};
    use CircuitState::{Closed, HalfOpen, Open};
    let opens: &[CircuitCause] = match rule {
        BreakerRule::Hystrix(rule) if !rule.enabled || rule.force_open || rule.force_closed => return Vec::new(),
        BreakerRule::Hystrix(rule) if rule.slow_call.is_some() => &[ErrorRate, Slow],
        BreakerRule::Hystrix(_) => &[ErrorRate],
        BreakerRule::Consecutive(_) => &[Consecutive],
        BreakerRule::Unified(..) => &[Consecutive, ErrorRate],
    };
    let opens = opens.iter().map(|cause| (Closed, Open, *cause));
    let probes = [(Open, HalfOpen, SleepWindow), (HalfOpen, Open, ProbeFailed), (HalfOpen, Closed, ProbeOk)];
    opens.chain(probes).map(|(from, to, cause)| Transition { from, to, cause }).collect()
}

/// Calls by the label `outcome`, each in one of them.
fn outcomes(counts: &Counts) -> [(&'static str, u64); 6] {
    [
        ("success", counts.of(Event::Success)),
        ("failure", counts.of(Event::Failure) + counts.of(Event::RateLimited)),
        ("timeout", counts.of(Event::Timeout)),
        ("short_circuited", counts.of(Event::ShortCircuited)),
        ("rejected", counts.of(Event::SemaphoreRejected) + counts.of(Event::PoolRejected)),
        ("ignored", counts.of(Event::BadRequest) + counts.of(Event::Cancelled)),
    ]
}
