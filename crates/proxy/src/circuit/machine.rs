//! The states of a circuit, pure: time and randomness are arguments. It knows neither what is counted nor who calls.
//!
//! Times are durations since the circuit was made.

use std::time::Duration;

use outrigger_model::{BreakerRule, ConsecutiveRule};

/// Where a circuit stands by its own rule, whatever forces it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// Calls pass.
    #[default]
    Closed,
    /// None passes; after `retry_after` one may.
    Open {
        /// The last moment at which none passes.
        retry_after: Duration,
        /// The penalty before jitter.
        penalty: Duration,
    },
    /// One is under way that decides.
    HalfOpen {
        /// Its number.
        probe: u64,
        /// The penalty before.
        penalty: Duration,
    },
}

/// How a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProbeEnd {
    /// It went well.
    Success,
    /// It did not.
    Failure,
    /// Nobody knows.
    Cancelled,
}

/// A circuit's states.
#[derive(Debug, Default)]
pub(super) struct Machine {
    phase: Phase,
    /// Probes so far: a late one must not be taken for the present one.
    probes: u64,
}

impl Machine {
    /// Where it stands.
    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Opens it, if it is closed; returns whether it was.
    pub(super) fn trip(&mut self, rule: &BreakerRule, at: Duration, rng: &mut fastrand::Rng) -> bool {
        if self.phase != Phase::Closed {
            return false;
        }
        let penalty = match rule {
            BreakerRule::Hystrix(rule) => rule.sleep_window,
            BreakerRule::Consecutive(rule) | BreakerRule::Unified(rule, _) => rule.penalty_min.min(rule.penalty_max),
        };
        self.open(rule, penalty, at, rng);
        true
    }

    /// Lets one call through, if it is open and its time has come: the probe.
    pub(super) fn probe(&mut self, at: Duration) -> Option<u64> {
        let Phase::Open { retry_after, penalty } = self.phase else { return None };
        if at <= retry_after {
            return None;
        }
        self.probes += 1;
        self.phase = Phase::HalfOpen { probe: self.probes, penalty };
        Some(self.probes)
    }

    /// What became of a probe; returns whether it was the one that counts.
    pub(super) fn probed(
        &mut self,
        rule: &BreakerRule,
        number: u64,
        end: ProbeEnd,
        at: Duration,
        rng: &mut fastrand::Rng,
    ) -> bool {
        let Phase::HalfOpen { probe, penalty } = self.phase else { return false };
        if probe != number {
            return false;
        }
        if end == ProbeEnd::Success {
            self.phase = Phase::Closed;
            return true;
        }
        let penalty = match rule {
            // The same again, however often.
            BreakerRule::Hystrix(rule) => rule.sleep_window,
            BreakerRule::Consecutive(rule) | BreakerRule::Unified(rule, _) => {
                let factor = if end == ProbeEnd::Failure { 2 } else { 1 };
                penalty.saturating_mul(factor).min(rule.penalty_max)
            }
        };
        self.open(rule, penalty, at, rng);
        true
    }

    /// Closes it, for a rule of another kind.
    pub(super) fn reset(&mut self) {
        self.phase = Phase::Closed;
    }

    fn open(&mut self, rule: &BreakerRule, penalty: Duration, at: Duration, rng: &mut fastrand::Rng) {
        let retry_after = match rule {
            // Strictly more than the sleep window has to pass.
            BreakerRule::Hystrix(_) => at + penalty,
            BreakerRule::Consecutive(rule) | BreakerRule::Unified(rule, _) => {
                (at + jittered(rule, penalty, rng)).saturating_sub(Duration::from_nanos(1))
            }
        };
        self.phase = Phase::Open { retry_after, penalty };
    }
}

/// A penalty and up to the ratio of it more, so that endpoints that failed together are not probed together.
fn jittered(rule: &ConsecutiveRule, penalty: Duration, rng: &mut fastrand::Rng) -> Duration {
    let jitter = penalty.as_secs_f64() * rule.jitter_ratio.max(0.0) * rng.f64();
    let jittered = penalty.saturating_add(Duration::try_from_secs_f64(jitter).unwrap_or(rule.penalty_max));
    jittered.min(rule.penalty_max.max(penalty))
}
