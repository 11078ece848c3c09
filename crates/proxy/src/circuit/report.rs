//! A circuit for those who look at it: the metrics, the admin interface, response details, the log.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outrigger_model::{Breaker, BreakerRule, BreakerScope};

use super::core::{Core, Evidence, Forced, Inner};
use super::latency::Percentiles;
use super::ledger::{CircuitCause, CircuitState, Transition};
use super::machine::Phase;
use super::ring::{Counts, Event, Seen};

/// One circuit at one moment.
#[derive(Clone, Debug)]
pub struct CircuitReport {
    /// Its name, unique in a proxy: `HOST:PORT` of a service, a cluster's name, or that and `@ADDRESS` of an endpoint.
    pub name: Arc<str>,
    /// The cluster; with the scope of a service, the one that has all endpoints.
    pub cluster_name: Arc<str>,
    /// The service's short name.
    pub service: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// The subset; empty for none, and for all.
    pub subset: Arc<str>,
    /// What has a circuit of its own.
    pub scope: BreakerScope,
    /// The endpoint whose circuit it is: its pod's name, or its address where that is not known.
    pub endpoint: Option<Arc<str>>,
    /// That endpoint's address.
    pub address: Option<SocketAddr>,
    /// The policy in force.
    pub breaker: Arc<Breaker>,
    /// Where it stands.
    pub state: CircuitState,
    /// Since when.
    pub since: Instant,
    /// What brought it there; `None` where it never changed.
    pub cause: Option<CircuitCause>,
    /// The same in words with figures, as in response details.
    pub why: String,
    /// When a call may pass that decides, where it is open.
    pub next_probe: Option<Instant>,
    /// An operator's will, and until when.
    pub forced: Option<(Forced, Instant)>,
    /// What decides now: the window since it last closed.
    pub deciding: Counts,
    /// Failures in a row, which decide in Linkerd's rules.
    pub failures_in_row: u32,
    /// What was counted in the window, short-circuited calls and fallbacks included.
    pub rolling: Counts,
    /// What was counted since the circuit was made.
    pub total: Counts,
    /// Calls under way now.
    pub active: u32,
    /// The most that were under way at once in the window.
    pub active_max: u32,
    /// How long calls took in the last minute.
    pub latency: Percentiles,
    /// How long it was in each state, in the order of [`CircuitState::ALL`].
    pub in_state: [Duration; CircuitState::ALL.len()],
    /// How often it changed, and why.
    pub transitions: Vec<(Transition, u64)>,
}

impl CircuitReport {
    pub(super) fn of(core: &Core, now: Instant) -> Self {
        let at = core.at(now);
        let inner = core.lock_at(at);
        let seen = seen(&inner.breaker.rule);
        let (rolling, active_max) = inner.ring.rolling(seen);
        let mut total = inner.retired;
        total.add(&inner.ring.all());
        let next_probe = match (inner.ledger.state(), inner.machine.phase()) {
            (CircuitState::Open, Phase::Open { retry_after, .. }) => Some(core.instant(retry_after)),
            _ => None,
        };
        let place = core.place.clone();
        let (endpoint, address) = place.endpoint.unzip();
        Self {
            name: place.name,
            cluster_name: place.cluster_name,
            service: place.service,
            namespace: place.namespace,
            subset: place.subset,
            scope: place.scope,
            endpoint,
            address,
            breaker: inner.breaker.clone(),
            state: inner.ledger.state(),
            since: core.instant(inner.ledger.since()),
            cause: inner.ledger.cause(),
            why: why(&inner, at),
            next_probe,
            forced: inner.forced.map(|(forced, until)| (forced, core.instant(until))),
            deciding: inner.ring.deciding(seen),
            failures_in_row: core.failures(),
            rolling,
            total,
            active: core.active(),
            active_max,
            latency: core.latency().map(|latency| latency.percentiles(at)).unwrap_or_default(),
            in_state: inner.ledger.in_state(at),
            transitions: inner.ledger.transitions(),
        }
    }

    /// The share of errors at which it opens, where a share opens it.
    pub fn error_threshold(&self) -> Option<f64> {
        match &self.breaker.rule {
            BreakerRule::Hystrix(rule) if !rule.enabled => None,
            BreakerRule::Hystrix(rule) => Some(f64::from(rule.error_threshold_percent) / 100.0),
            BreakerRule::Consecutive(_) => None,
            BreakerRule::Unified(_, window) => (window.threshold > 0.0).then_some(1.0 - window.threshold),
        }
    }

    /// The requests in the window without which no share opens it.
    pub fn volume_threshold(&self) -> Option<u32> {
        self.error_threshold().and(match &self.breaker.rule {
            BreakerRule::Hystrix(rule) => Some(rule.volume_threshold),
            BreakerRule::Consecutive(_) => None,
            BreakerRule::Unified(_, window) => Some(window.requests_min),
        })
    }

    /// How long it stays open; Linkerd's penalty grows from here.
    pub fn sleep_window(&self) -> Duration {
        match &self.breaker.rule {
            BreakerRule::Hystrix(rule) => rule.sleep_window,
            BreakerRule::Consecutive(rule) | BreakerRule::Unified(rule, _) => rule.penalty_min,
        }
    }
}

/// Which buckets a rule decides by.
fn seen(rule: &BreakerRule) -> Seen {
    if matches!(rule, BreakerRule::Hystrix(_)) { Seen::Complete } else { Seen::Current }
}

/// Response details of a call that an open circuit did not let through.
pub(super) fn why_open(core: &Core, at: Duration) -> String {
    let inner = core.lock_at(at);
    let why = why(&inner, at);
    format!("circuit_open{{{}{}{why}}}", core.place.short, if why.is_empty() { "" } else { " " })
}

/// What opened it, and how long it lasts; empty for one that is closed.
fn why(inner: &Inner, at: Duration) -> String {
    let left = |until: Duration| format!("{:.1}s", until.saturating_sub(at).as_secs_f64());
    let what = match (inner.ledger.state(), inner.ledger.cause()) {
        (CircuitState::Closed, _) => return String::new(),
        (state @ (CircuitState::ForcedOpen | CircuitState::Disabled), _) => {
            return match inner.forced {
                Some((_, until)) => format!("{} left={}", state.label(), left(until)),
                None => state.label().to_owned(),
            };
        }
        (_, Some(CircuitCause::ProbeFailed)) => "probe_failed".to_owned(),
        _ => inner.evidence.words(),
    };
    match inner.machine.phase() {
        Phase::Open { retry_after, .. } => format!("{what} retry_in={}", left(retry_after)),
        Phase::HalfOpen { .. } => format!("{what} probing"),
        Phase::Closed => what,
    }
}

impl Evidence {
    fn words(&self) -> String {
        match self {
            Self::None => "unknown".to_owned(),
            Self::Errors { counts, threshold_percent } => {
                let (rate, threshold) = (cut(counts.error_ratio()), f64::from(*threshold_percent) / 100.0);
                let slow = match counts.of(Event::Slow) {
                    0 => String::new(),
                    slow => format!(" slow_rate={:.2}", cut(slow as f64 / counts.requests() as f64)),
                };
                format!("error_rate={rate:.2}>={threshold:.2}{slow}")
            }
            Self::Row { failures, max } => format!("consecutive_failures={failures}>={max}"),
            Self::Successes { counts, threshold } => {
                format!("success_rate={:.2}<{threshold:.2}", cut(1.0 - counts.error_ratio()))
            }
        }
    }
}

/// A share cut off after two places, as it is compared: 0.499 is not "0.50".
fn cut(ratio: f64) -> f64 {
    // A little more than the rounding of a division, so that 0.29 does not become 0.28.
    (ratio * 100.0 + 1e-9).floor() / 100.0
}

/// Says that a circuit has changed.
pub(super) fn log(core: &Core, inner: &Inner, from: CircuitState, at: Duration) {
    let place = &core.place;
    let (state, reason) = (inner.ledger.state(), inner.ledger.cause().map_or("", CircuitCause::label));
    let (from, to) = (from.label(), state.label());
    let (circuit, policy, why) = (&*place.name, &*inner.breaker.origin, why(inner, at));
    match state {
        CircuitState::Open | CircuitState::ForcedOpen => {
            tracing::warn!(circuit, from, to, reason, why, policy, "a circuit opens: calls are refused");
        }
        CircuitState::HalfOpen => {
            tracing::info!(circuit, from, to, reason, why, policy, "a circuit lets one call through, which decides");
        }
        CircuitState::Disabled => {
            tracing::warn!(
                circuit,
                from,
                to,
                reason,
                why,
                policy,
                "a circuit is off: calls pass whatever becomes of them"
            );
        }
        CircuitState::Closed => tracing::info!(circuit, from, to, reason, policy, "a circuit closes: calls pass"),
    }
}
