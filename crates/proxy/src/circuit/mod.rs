//! Circuit breakers at work: what they count, and what they let through.
//!
//! A [`Circuit`] is asked before a call and told after it. Its state (`core.rs`) is shared by all workers and by the
//! snapshots that come and go (`registry.rs`). What a call was worth is for `verdict.rs` to say, where a circuit stands for
//! `machine.rs`, which is pure; what was counted is in `ring.rs`. Two families of rules are copied to the letter: Hystrix
//! decides whenever a bucket of its window is complete, by what was in the complete ones; Linkerd decides after each answer.
//! Both may be used for a service, a subset or an endpoint.

mod collect;
mod core;
mod latency;
mod ledger;
mod machine;
mod registry;
mod report;
mod ring;
mod verdict;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use outrigger_model::{Breaker, BreakerRule};

use self::core::{Core, Turn};
use self::ring::{Event, Ring};
use self::verdict::Verdict;
use crate::trial::Trial;

pub(crate) use self::collect::collect;
pub use self::core::Forced;
pub use self::latency::Percentiles;
pub use self::ledger::{CircuitCause, CircuitState, Transition};
pub(crate) use self::registry::Circuits;
pub use self::report::CircuitReport;
pub use self::ring::{Counts as CircuitCounts, Event as CircuitEvent};

/// One circuit as the snapshot in force describes it.
#[derive(Debug)]
pub(crate) struct Circuit {
    /// The policy.
    pub(crate) breaker: Arc<Breaker>,
    core: Arc<Core>,
    ring: Arc<Ring>,
}

/// One call that a circuit let through. Dropped without a result, it counts as cancelled.
#[derive(Debug)]
pub(crate) struct Pass<'c> {
    circuit: &'c Circuit,
    /// Its number, where it is the one that decides.
    probe: Option<u64>,
    has_ended: bool,
}

/// One fallback under way.
#[derive(Debug)]
pub(crate) struct FallbackPass<'c>(&'c Circuit);

/// Why a call is not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is open.
    Open,
    /// As many calls as it allows are under way.
    Full,
}

/// What became of a fallback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FallbackEnd {
    /// It answered.
    Success,
    /// It failed.
    Failure,
    /// There is none.
    Missing,
}

impl Circuit {
    /// Asks to let one call through.
    ///
    /// The limit on calls is looked at before a probe is given away: Hystrix does it in the other order, and a probe that
    /// its semaphore refuses leaves it half-open for ever.
    pub(crate) fn admit(&self, now: Instant) -> Result<Pass<'_>, Refused> {
        let at = self.core.at(now);
        self.core.keep_up(at);
        let ring = self.ring();
        if self.core.is_shut(at) {
            ring.count(Event::ShortCircuited);
            return Err(Refused::Open);
        }
        let Some(active) = self.core.begin(self.concurrent_max()) else {
            ring.count(Event::SemaphoreRejected);
            return Err(Refused::Full);
        };
        let probe = if self.core.is_closed() { Turn::Passes } else { self.core.turn(at) };
        let probe = match probe {
            Turn::Passes => None,
            Turn::Probe(number) => Some(number),
            Turn::Refused => {
                self.core.ended();
                self.ring().count(Event::ShortCircuited);
                return Err(Refused::Open);
            }
        };
        ring.note_concurrent(active);
        Ok(Pass { circuit: self, probe, has_ended: false })
    }

    /// Whether it would let one through now: an endpoint whose circuit would not is not picked.
    pub(crate) fn would_admit(&self, now: Instant) -> bool {
        let at = self.core.at(now);
        self.core.keep_up(at);
        !self.core.is_shut(at)
    }

    /// The longest that a call may take until the head of its answer.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        match &self.breaker.rule {
            BreakerRule::Hystrix(rule) => rule.timeout,
            BreakerRule::Consecutive(_) | BreakerRule::Unified(..) => None,
        }
    }

    /// Why it lets nothing through, for response details: `circuit_open{cart.shop/v1 error_rate=0.62>=0.50 retry_in=3.2s}`.
    pub(crate) fn why(&self, now: Instant) -> String {
        report::why_open(&self.core, self.core.at(now))
    }

    /// Why it is full: `circuit_full{cart.shop/v1 concurrent=10>=10}`.
    pub(crate) fn why_full(&self) -> String {
        let max = self.concurrent_max().unwrap_or_default();
        format!("circuit_full{{{} concurrent={}>={max}}}", self.core.place.short, self.core.active())
    }

    /// Asks to use a fallback; `None`, which is counted, where as many as allowed are under way.
    pub(crate) fn begin_fallback(&self) -> Option<FallbackPass<'_>> {
        let more = |active: u32| (active < self.breaker.fallbacks_max).then_some(active + 1);
        if self.core.fallbacks.fetch_update(Relaxed, Relaxed, more).is_err() {
            self.ring().count(Event::FallbackRejection);
            return None;
        }
        Some(FallbackPass(self))
    }

    /// Whether a call that ended so counts as failed, slow answers apart.
    pub(crate) fn is_failure(&self, trial: Trial) -> bool {
        let event = Verdict::of(&self.breaker.rule, trial, Duration::ZERO).event;
        matches!(event, Event::Failure | Event::Timeout | Event::PoolRejected)
    }

    /// Counts what became of a fallback.
    pub(crate) fn note_fallback(&self, end: FallbackEnd) {
        self.ring().count(match end {
            FallbackEnd::Success => Event::FallbackSuccess,
            FallbackEnd::Failure => Event::FallbackFailure,
            FallbackEnd::Missing => Event::FallbackMissing,
        });
    }

    fn concurrent_max(&self) -> Option<u32> {
        match &self.breaker.rule {
            BreakerRule::Hystrix(rule) => rule.concurrent_max,
            BreakerRule::Consecutive(_) | BreakerRule::Unified(..) => None,
        }
    }

    /// Where calls are counted now: a newer snapshot may have another window.
    fn ring(&self) -> &Ring {
        let mut ring = &self.ring;
        while let Some(next) = ring.successor.get() {
            ring = next;
        }
        ring
    }

    fn finish(&self, probe: Option<u64>, verdict: Verdict, took: Option<Duration>, at: Duration) {
        self.core.ended();
        self.core.keep_up(at);
        let ring = self.ring();
        ring.count(verdict.event);
        if verdict.is_slow {
            ring.count(Event::Slow);
        }
        if let Some(took) = took {
            self.core.took(took, at);
        }
        match probe {
            None => self.core.judge(&self.breaker.rule, ring, verdict, at),
            Some(probe) => self.core.probed(probe, verdict.probe_end(&self.breaker.rule), at),
        }
    }
}

impl Pass<'_> {
    /// How the call ended, and how long its answer, or its failure, was in coming.
    pub(crate) fn end(mut self, trial: Trial, took: Duration, now: Instant) {
        self.has_ended = true;
        let verdict = Verdict::of(&self.circuit.breaker.rule, trial, took);
        let took = (verdict.event != Event::Cancelled).then_some(took);
        self.circuit.finish(self.probe, verdict, took, self.circuit.core.at(now));
    }

    /// Nobody will know how the call ends: a task that is dropped may be all that is left of it.
    fn cancel(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.has_ended, true) {
            let verdict = Verdict::CANCELLED;
            self.circuit.finish(self.probe, verdict, None, self.circuit.core.at(now));
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.cancel(Instant::now());
    }
}

impl Drop for FallbackPass<'_> {
    fn drop(&mut self) {
        self.0.core.fallbacks.fetch_sub(1, Relaxed);
    }
}
