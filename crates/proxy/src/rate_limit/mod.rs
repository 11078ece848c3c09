//! Local rate limits: how many requests of a route this proxy lets through, whatever its worker.
//!
//! A limit's state is one number that all workers of the proxy change by compare-and-swap, or a bounded table of such
//! numbers where every source has the limit for itself. State is kept under the key of the limit, which routes may share, and
//! outlives snapshots for as long as one of them has it; who changes the rate begins anew.

mod gcra;
mod sources;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use outrigger_model::{RateLimit, Route, Workload};

use gcra::Gcra;
use sources::{Source, Sources};

/// The limits of one proxy. They outlive snapshots; one that no snapshot has any more ends.
#[derive(Debug)]
pub(crate) struct RateLimits {
    /// What the times of all states count from.
    epoch: Instant,
    known: Mutex<HashMap<Key, Weak<State>, foldhash::fast::RandomState>>,
}

/// What must be the same for a limit to go on where it was.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    key: Arc<str>,
    requests: u32,
    interval: Duration,
    per_source: bool,
}

/// What a limit has let through.
#[derive(Debug)]
enum State {
    /// When all of it is paid for.
    Together(AtomicU64),
    PerSource(Mutex<Sources>),
}

/// One limit of a route.
#[derive(Debug)]
pub(crate) struct Limit {
    /// The `RateLimit`, `namespace/name`.
    pub(crate) name: Arc<str>,
    gcra: Gcra,
    epoch: Instant,
    state: Arc<State>,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking<'a> {
    /// The workload, where it is known.
    pub(crate) workload: Option<&'a Workload>,
    pub(crate) address: IpAddr,
    /// Whether nobody vouches for the address.
    pub(crate) is_stranger: bool,
}

/// What a limit says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// It may pass, or in how much time the next one may.
    pub(crate) passed: Result<(), Duration>,
    /// Whether there are more sources than are told apart.
    pub(crate) overflowed: bool,
}

impl RateLimits {
    /// Sources that one limit tells apart. 10,000: a megabyte at most; beyond, whoever was quiet for the longest time is
    /// forgotten.
    const SOURCES_MAX: usize = 10_000;

    /// None yet.
    pub(crate) fn new(epoch: Instant) -> Self {
        Self { epoch, known: Mutex::default() }
    }

    /// The limits of a route, with what they let through before.
    pub(crate) fn of_route(&self, route: &Route) -> Vec<Limit> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, state| state.strong_count() > 0);
        route
            .rate_limits
            .iter()
            .map(|limit| {
                let key = Key::new(limit);
                let state = known.get(&key).and_then(Weak::upgrade).unwrap_or_else(|| {
                    let state = Arc::new(State::new(limit));
                    known.insert(key, Arc::downgrade(&state));
                    state
                });
                let gcra = Gcra::new(limit.requests, limit.interval, limit.burst);
                Limit { name: limit.name.clone(), gcra, epoch: self.epoch, state }
            })
            .collect()
    }

    /// How many limits there are.
    #[cfg(test)]
    fn len(&self) -> usize {
        let known = self.known.lock().unwrap();
        known.values().filter(|state| state.strong_count() > 0).count()
    }
}

impl Key {
    fn new(limit: &RateLimit) -> Self {
        let RateLimit { key, requests, interval, per_source, .. } = limit;
        Self { key: key.clone(), requests: *requests, interval: *interval, per_source: *per_source }
    }
}

impl State {
    fn new(limit: &RateLimit) -> Self {
        match limit.per_source {
            true => Self::PerSource(Mutex::new(Sources::new(RateLimits::SOURCES_MAX))),
            false => Self::Together(AtomicU64::new(0)),
        }
    }
}

/// Whether all limits let a request pass at `now`. One that does not pass costs it nothing with any of them. `tell` hears the verdict of each that was
/// asked.
pub(crate) fn pass(
    limits: &[Limit],
    asking: Asking<'_>,
    now: Instant,
    mut tell: impl FnMut(&Limit, Verdict),
) -> Result<(), (Arc<str>, Duration)> {
    if limits.len() > 1 {
        // A worker in between may take what was there for this one: then a limit before is charged in vain, which errs
        // on the side of fewer.
        for limit in limits {
            let verdict = limit.judge(asking, now, false);
            if let Err(wait) = verdict.passed {
                tell(limit, verdict);
                return Err((limit.name.clone(), wait));
            }
        }
    }
    for limit in limits {
        let verdict = limit.judge(asking, now, true);
        tell(limit, verdict);
        verdict.passed.map_err(|wait| (limit.name.clone(), wait))?;
    }
    Ok(())
}

impl Limit {
    /// Judges a request, and charges it if it `charges`.
    fn judge(&self, asking: Asking<'_>, now: Instant, charges: bool) -> Verdict {
        let now = self.gcra.parts(now.saturating_duration_since(self.epoch));
        let (passed, overflowed) = match &*self.state {
            State::Together(paid) => (self.judge_together(paid, now, charges), false),
            State::PerSource(sources) => {
                let mut sources = sources.lock().unwrap_or_else(PoisonError::into_inner);
                let verdict = sources.judge(asking.source(), &self.gcra, now, charges);
                (verdict.passed, verdict.overflowed)
            }
        };
        Verdict { passed: passed.map_err(|missing| self.gcra.time(missing)), overflowed }
    }

    fn judge_together(&self, paid: &AtomicU64, now: u64, charges: bool) -> Result<(), u64> {
        // Nothing else is published by it.
        let mut before = paid.load(Ordering::Relaxed);
        loop {
            let then = self.gcra.judge(before, now)?;
            if !charges {
                return Ok(());
            }
            match paid.compare_exchange_weak(before, then, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(other) => before = other,
            }
        }
    }
}

impl Asking<'_> {
    fn source(&self) -> Source {
        match self.workload {
            Some(workload) if !workload.principal.is_empty() => Source::Principal(workload.principal.clone()),
            Some(workload) => Source::Workload(workload.namespace.clone(), workload.name.clone()),
            None if self.is_stranger => Source::stranger(self.address),
            None => Source::Address(self.address),
        }
    }
}

#[cfg(test)]
mod tests;
