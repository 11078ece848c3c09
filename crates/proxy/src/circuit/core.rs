//! The state of one circuit, shared by all workers and carried from snapshot to snapshot.
//!
//! A call on the healthy path reads two words and adds to three counters. The lock is taken when the state changes, when
//! the next bucket begins (twice a second), and by who looks.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use outrigger_model::{Breaker, BreakerRule, ConsecutiveRule, HystrixRule};

use super::latency::Latency;
use super::ledger::{CircuitCause, CircuitState, Ledger};
use super::machine::{Machine, Phase, ProbeEnd};
use super::registry::Place;
use super::ring::{Counts, Event, Ring, Seen};
use super::verdict::Verdict;
use crate::health::{Health, Out};

/// The state of one circuit.
#[derive(Debug)]
pub(super) struct Core {
    /// What it is the circuit of.
    pub(super) place: Place,
    /// When it was made; times are counted from here.
    base: Instant,
    /// 0: calls pass. `u64::MAX`: none does. Else the nanosecond after which one may.
    retry_after: AtomicU64,
    /// The nanosecond at which there is something to do under the lock.
    due: AtomicU64,
    /// Calls under way.
    active: AtomicU32,
    /// Fallbacks under way.
    pub(super) fallbacks: AtomicU32,
    /// Failures in a row.
    failures: AtomicU32,
    /// How long calls took; most endpoints of a large cluster never have one.
    latency: OnceLock<Box<Latency>>,
    inner: Mutex<Inner>,
}

/// What is behind the lock.
#[derive(Debug)]
pub(super) struct Inner {
    /// The policy in force.
    pub(super) breaker: Arc<Breaker>,
    pub(super) machine: Machine,
    pub(super) ring: Arc<Ring>,
    /// When the current bucket began.
    bucket_began: Duration,
    pub(super) ledger: Ledger,
    pub(super) evidence: Evidence,
    /// An operator's will.
    pub(super) forced: Option<(Forced, Duration)>,
    /// What was in buckets that are no more.
    pub(super) retired: Counts,
    /// Who has to know, where it is the circuit of one endpoint.
    health: Option<Arc<Health>>,
    /// No snapshot has it any more.
    has_ended: bool,
    rng: fastrand::Rng,
}

/// What an operator may force a circuit to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forced {
    /// No call passes.
    Open,
    /// Every call passes.
    Closed,
}

/// What opened a circuit last.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Evidence {
    /// It never opened by itself.
    #[default]
    None,
    /// Hystrix: a share of errors, and how many of the requests were only slow.
    Errors { counts: Counts, threshold_percent: u32 },
    /// Failures in a row.
    Row { failures: u32, max: u32 },
    /// Linkerd: a share of successes.
    Successes { counts: Counts, threshold: f64 },
}

/// What a call that asks under the lock gets.
pub(super) enum Turn {
    /// It passes: the circuit has closed in the meantime.
    Passes,
    /// It is the probe of this number.
    Probe(u64),
    /// It does not pass.
    Refused,
}

impl Core {
    /// A new one, which nobody has asked yet.
    pub(super) fn new(place: Place, breaker: Arc<Breaker>, rng: fastrand::Rng, now: Instant) -> Self {
        let ledger = Ledger::new(effective(&breaker.rule, None, Phase::Closed));
        let ring = Arc::new(Ring::new(&breaker.rule));
        let inner = Inner {
            breaker,
            machine: Machine::default(),
            ring,
            bucket_began: Duration::ZERO,
            ledger,
            evidence: Evidence::None,
            forced: None,
            retired: Counts::default(),
            health: None,
            has_ended: false,
            rng,
        };
        let core = Self {
            place,
            base: now,
            retry_after: AtomicU64::new(0),
            due: AtomicU64::new(0),
            active: AtomicU32::new(0),
            fallbacks: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            latency: OnceLock::new(),
            inner: Mutex::new(inner),
        };
        core.publish(&core.lock());
        core
    }

    /// A moment as its time.
    pub(super) fn at(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.base)
    }

    /// Its time as a moment.
    pub(super) fn instant(&self, at: Duration) -> Instant {
        self.base.checked_add(at).unwrap_or(self.base)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock, with everything done that was due.
    pub(super) fn lock_at(&self, at: Duration) -> MutexGuard<'_, Inner> {
        let mut inner = self.lock();
        self.advance(&mut inner, at);
        inner
    }

    /// Does what is due: buckets that are complete are looked at as of the moment they were.
    pub(super) fn keep_up(&self, at: Duration) {
        if nanos(at) >= self.due.load(Relaxed) {
            self.advance(&mut self.lock(), at);
        }
    }

    /// Whether no call passes, not even as a probe.
    pub(super) fn is_shut(&self, at: Duration) -> bool {
        let retry_after = self.retry_after.load(Relaxed);
        retry_after != 0 && (retry_after == u64::MAX || nanos(at) <= retry_after)
    }

    /// Whether calls just pass.
    pub(super) fn is_closed(&self) -> bool {
        self.retry_after.load(Relaxed) == 0
    }

    /// Counts a call that begins, unless as many as allowed are under way; returns how many are then.
    pub(super) fn begin(&self, limit: Option<u32>) -> Option<u32> {
        match limit {
            None => Some(self.active.fetch_add(1, Relaxed) + 1),
            Some(max) => {
                let more = |active: u32| (active < max).then_some(active + 1);
                self.active.fetch_update(Relaxed, Relaxed, more).ok().map(|before| before + 1)
            }
        }
    }

    /// Counts a call that ends.
    pub(super) fn ended(&self) {
        self.active.fetch_sub(1, Relaxed);
    }

    /// Calls under way.
    pub(super) fn active(&self) -> u32 {
        self.active.load(Relaxed)
    }

    /// Failures in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures.load(Relaxed)
    }

    /// Notes how long a call took.
    pub(super) fn took(&self, took: Duration, at: Duration) {
        self.latency.get_or_init(Box::default).note(took, at);
    }

    /// How long calls took.
    pub(super) fn latency(&self) -> Option<&Latency> {
        self.latency.get().map(|latency| &**latency)
    }

    /// For a call that found it open: under the lock exactly one is the probe.
    pub(super) fn turn(&self, at: Duration) -> Turn {
        let mut inner = self.lock_at(at);
        match inner.ledger.state() {
            CircuitState::Closed | CircuitState::Disabled => Turn::Passes,
            CircuitState::HalfOpen | CircuitState::ForcedOpen => Turn::Refused,
            CircuitState::Open => match inner.machine.probe(at) {
                Some(probe) => {
                    self.settle(&mut inner, at, CircuitCause::SleepWindow);
                    Turn::Probe(probe)
                }
                None => Turn::Refused,
            },
        }
    }

    /// What became of a probe.
    pub(super) fn probed(&self, probe: u64, end: ProbeEnd, at: Duration) {
        let mut guard = self.lock_at(at);
        let inner = &mut *guard;
        if !inner.machine.probed(&inner.breaker.rule, probe, end, at, &mut inner.rng) {
            return;
        }
        let cause = if end == ProbeEnd::Success { CircuitCause::ProbeOk } else { CircuitCause::ProbeFailed };
        if end == ProbeEnd::Success {
            self.empty(inner, at);
        }
        self.settle(inner, at, cause);
    }

    /// Judges after a call of a rule of Linkerd has been counted: each answer may open.
    pub(super) fn judge(&self, rule: &BreakerRule, ring: &Ring, verdict: Verdict, at: Duration) {
        let (row, window) = match rule {
            BreakerRule::Hystrix(_) => return,
            BreakerRule::Consecutive(row) => (row, None),
            BreakerRule::Unified(row, window) => (row, Some(window).filter(|window| window.threshold > 0.0)),
        };
        let failures = match verdict.event {
            Event::Failure | Event::Timeout => self.failures.fetch_add(1, Relaxed) + 1,
            Event::Success | Event::RateLimited => {
                if self.failures.load(Relaxed) != 0 {
                    self.failures.store(0, Relaxed);
                }
                0
            }
            _ => return,
        };
        // What was under way when it opened says nothing new.
        if !self.is_closed() {
            return;
        }
        if is_too_many(row, failures) {
            let evidence = Evidence::Row { failures, max: row.failures_max };
            return self.trip(rule, evidence, CircuitCause::Consecutive, at);
        }
        if let Some(window) = window {
            let counts = ring.deciding(Seen::Current);
            let is_enough = counts.requests() >= u64::from(window.requests_min).max(1);
            if is_enough && 1.0 - counts.error_ratio() < window.threshold {
                let evidence = Evidence::Successes { counts, threshold: window.threshold };
                self.trip(rule, evidence, CircuitCause::ErrorRate, at);
            }
        }
    }

    fn trip(&self, rule: &BreakerRule, evidence: Evidence, cause: CircuitCause, at: Duration) {
        let mut guard = self.lock_at(at);
        let inner = &mut *guard;
        let is_same_kind = std::mem::discriminant(rule) == std::mem::discriminant(&inner.breaker.rule);
        if is_same_kind && inner.machine.trip(&inner.breaker.rule, at, &mut inner.rng) {
            inner.evidence = evidence;
            self.settle(inner, at, cause);
        }
    }

    /// Takes a policy into force.
    pub(super) fn obey(&self, breaker: &Arc<Breaker>, health: Option<&Arc<Health>>, at: Duration) -> Arc<Ring> {
        let mut guard = self.lock_at(at);
        let inner = &mut *guard;
        let is_same_kind = std::mem::discriminant(&breaker.rule) == std::mem::discriminant(&inner.breaker.rule);
        if !inner.ring.fits(&breaker.rule) {
            let ring = Arc::new(Ring::new(&breaker.rule));
            // Calls under way under the policy before find the new one from now on.
            let _ = inner.ring.successor.set(ring.clone());
            inner.retired.add(&inner.ring.all());
            (inner.ring, inner.bucket_began) = (ring, at);
        }
        inner.breaker = breaker.clone();
        if !is_same_kind {
            inner.machine.reset();
            self.empty(inner, at);
        }
        if let Some(health) = health {
            inner.health = Some(health.clone());
            health.set(Out::Circuit, inner.ledger.state().is_shut());
        }
        inner.has_ended = false;
        self.settle(inner, at, CircuitCause::Manual);
        inner.ring.clone()
    }

    /// No snapshot has it any more: it keeps nobody out, and says nothing.
    pub(super) fn end(&self) {
        let mut inner = self.lock();
        inner.has_ended = true;
        if let Some(health) = inner.health.take() {
            health.set(Out::Circuit, false);
        }
    }

    /// An operator's will until a moment, or no more.
    pub(super) fn force(&self, forced: Option<(Forced, Duration)>, at: Duration) {
        let mut inner = self.lock_at(at);
        inner.forced = forced.filter(|(_, until)| *until > at);
        self.settle(&mut inner, at, CircuitCause::Manual);
    }

    /// Does everything up to a moment, in the order in which it was due.
    fn advance(&self, inner: &mut Inner, to: Duration) {
        if let Some((_, until)) = inner.forced.filter(|(_, until)| *until <= to) {
            self.roll(inner, until);
            inner.forced = None;
            self.settle(inner, until, CircuitCause::Manual);
        }
        self.roll(inner, to);
        self.publish(inner);
    }

    /// Begins the bucket of a moment, and judges each that became complete.
    fn roll(&self, inner: &mut Inner, to: Duration) {
        let interval = inner.ring.interval;
        let mut steps = 0;
        while to >= inner.bucket_began + interval {
            if steps > inner.ring.len() {
                // All are empty: the rest is a matter of time only.
                let behind = (to - inner.bucket_began).as_nanos();
                inner.bucket_began = to - Duration::from_nanos((behind % interval.as_nanos()) as u64);
                return;
            }
            steps += 1;
            inner.bucket_began += interval;
            let oldest = inner.ring.next();
            inner.retired.add(&oldest);
            self.evaluate(inner, inner.bucket_began);
        }
    }

    /// Hystrix's decision, which it takes whenever a bucket is complete.
    fn evaluate(&self, inner: &mut Inner, at: Duration) {
        let BreakerRule::Hystrix(rule) = &inner.breaker.rule else { return };
        if !rule.enabled || inner.machine.phase() != Phase::Closed {
            return;
        }
        let counts = inner.ring.deciding(Seen::Complete);
        if !is_too_bad(rule, counts.errors(), counts.requests()) {
            return;
        }
        let without_slow = counts.errors() - counts.of(Event::Slow).min(counts.errors());
        let is_slow = !is_too_bad(rule, without_slow, counts.requests());
        let cause = if is_slow { CircuitCause::Slow } else { CircuitCause::ErrorRate };
        inner.evidence = Evidence::Errors { counts, threshold_percent: rule.error_threshold_percent };
        inner.machine.trip(&inner.breaker.rule, at, &mut inner.rng);
        self.settle(inner, at, cause);
    }

    /// Starts an empty window.
    fn empty(&self, inner: &mut Inner, at: Duration) {
        let oldest = inner.ring.next();
        inner.retired.add(&oldest);
        inner.ring.forget();
        inner.bucket_began = at;
        self.failures.store(0, Relaxed);
    }

    /// Makes what changed known.
    fn settle(&self, inner: &mut Inner, at: Duration, cause: CircuitCause) {
        let forced = inner.forced.map(|(forced, _)| forced);
        let (from, to) = (inner.ledger.state(), effective(&inner.breaker.rule, forced, inner.machine.phase()));
        if from != to {
            inner.ledger.enter(to, cause, at);
            if !inner.has_ended {
                if let Some(health) = &inner.health {
                    health.set(Out::Circuit, to.is_shut());
                }
                super::report::log(self, inner, from, at);
            }
        }
        self.publish(inner);
    }

    /// Stores what the request path reads.
    fn publish(&self, inner: &Inner) {
        let retry_after = match (inner.ledger.state(), inner.machine.phase()) {
            (CircuitState::Closed | CircuitState::Disabled, _) => 0,
            (CircuitState::Open, Phase::Open { retry_after, .. }) => nanos(retry_after).max(1),
            _ => u64::MAX,
        };
        self.retry_after.store(retry_after, Relaxed);
        let next_bucket = inner.bucket_began + inner.ring.interval;
        let due = inner.forced.map_or(next_bucket, |(_, until)| next_bucket.min(until));
        self.due.store(nanos(due), Relaxed);
    }
}

/// What the world sees: an operator's will first, then the policy's, then the circuit's own.
fn effective(rule: &BreakerRule, forced: Option<Forced>, phase: Phase) -> CircuitState {
    match (forced, rule) {
        (Some(Forced::Open), _) => return CircuitState::ForcedOpen,
        (Some(Forced::Closed), _) => return CircuitState::Disabled,
        // Without a breaker there is nothing to force.
        (None, BreakerRule::Hystrix(rule)) if !rule.enabled => return CircuitState::Disabled,
        (None, BreakerRule::Hystrix(rule)) if rule.force_open => return CircuitState::ForcedOpen,
        (None, BreakerRule::Hystrix(rule)) if rule.force_closed => return CircuitState::Disabled,
        _ => {}
    }
    match phase {
        Phase::Closed => CircuitState::Closed,
        Phase::Open { .. } => CircuitState::Open,
        Phase::HalfOpen { .. } => CircuitState::HalfOpen,
    }
}

/// Hystrix compares a whole number of percent, cut off.
fn is_too_bad(rule: &HystrixRule, errors: u64, requests: u64) -> bool {
    let percent = (errors * 100).checked_div(requests).unwrap_or_default();
    requests >= u64::from(rule.volume_threshold) && percent >= u64::from(rule.error_threshold_percent)
}

fn is_too_many(rule: &ConsecutiveRule, failures: u32) -> bool {
    rule.failures_max > 0 && failures >= rule.failures_max
}

/// A time as it is stored; 584 years fit.
fn nanos(at: Duration) -> u64 {
    u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)
}
