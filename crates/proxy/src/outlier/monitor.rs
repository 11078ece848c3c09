//! What workers count of one endpoint.
//!
//! An endpoint that answers well costs one load a request: nothing is written unless it has failed before, or rates are
//! compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use outrigger_model::OutlierDetection;

use crate::health::{Health, Out};

/// The counts of one endpoint, written by all workers.
#[derive(Debug)]
pub(crate) struct Monitor {
    /// The endpoint's.
    pub(super) id: u64,
    health: Arc<Health>,
    /// Failures in a row: those of the gateway in the upper half, all in the lower.
    errors: AtomicU64,
    /// Failures of local origin in a row.
    local: AtomicU32,
    /// Answers since the last sweep.
    pub(super) answers: Tally,
    /// Tries to reach it since the last sweep.
    pub(super) reaches: Tally,
}

/// Which limits a failure has just reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Full {
    pub(super) gateway: bool,
    pub(super) errors: bool,
}

/// Failures in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Runs {
    pub(super) errors: u32,
    pub(super) gateway: u32,
    pub(super) local: u32,
}

/// Successes among all of an interval: all in the upper half, successes in the lower, so that a sweep takes both at once.
#[derive(Debug, Default)]
pub(super) struct Tally(AtomicU64);

impl Monitor {
    /// Of an endpoint that nothing is known about.
    pub(crate) fn new(id: u64, health: Arc<Health>) -> Self {
        let (errors, local) = (AtomicU64::default(), AtomicU32::default());
        Self { id, health, errors, local, answers: Tally::default(), reaches: Tally::default() }
    }

    /// Counts a good answer.
    pub(super) fn succeeded(&self, rule: &OutlierDetection) {
        if self.errors.load(Ordering::Relaxed) != 0 {
            self.errors.store(0, Ordering::Relaxed);
        }
        self.answers.count(rule, true);
    }

    /// Counts a bad answer with this status of 5xx.
    pub(super) fn failed(&self, code: u16, rule: &OutlierDetection) -> Full {
        self.answers.count(rule, false);
        let is_gateway = matches!(code, 502..=504);
        let next = |runs: u64| {
            let (errors, gateway) = halves(runs);
            let gateway = if is_gateway { gateway.saturating_add(1) } else { 0 };
            Some(u64::from(gateway) << 32 | u64::from(errors.saturating_add(1)))
        };
        let before = self.errors.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_default();
        let (errors, gateway) = halves(next(before).unwrap_or_default());
        Full { gateway: is_gateway && gateway == rule.consecutive_gateway, errors: errors == rule.consecutive_5xx }
    }

    /// Counts that it was reached.
    pub(super) fn reached_it(&self, rule: &OutlierDetection) {
        if self.local.load(Ordering::Relaxed) != 0 {
            self.local.store(0, Ordering::Relaxed);
        }
        self.reaches.count(rule, true);
    }

    /// Counts that it was not reached, or kept nobody informed; whether that reaches the limit.
    pub(super) fn did_not_reach_it(&self, rule: &OutlierDetection) -> bool {
        self.reaches.count(rule, false);
        let next = |run: u32| run.saturating_add(1);
        let before = self.local.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |run| Some(next(run)));
        next(before.unwrap_or_default()) == rule.consecutive_local_origin
    }

    /// Failures in a row as of now.
    pub(super) fn runs(&self) -> Runs {
        let (errors, gateway) = halves(self.errors.load(Ordering::Relaxed));
        Runs { errors, gateway, local: self.local.load(Ordering::Relaxed) }
    }

    pub(super) fn clear_errors(&self) {
        self.keep(0xffff_ffff_0000_0000);
    }

    pub(super) fn clear_gateway(&self) {
        self.keep(0xffff_ffff);
    }

    pub(super) fn clear_local(&self) {
        self.local.store(0, Ordering::Relaxed);
    }

    pub(super) fn clear(&self) {
        self.keep(0);
        self.clear_local();
    }

    fn keep(&self, half: u64) {
        self.errors.fetch_and(half, Ordering::Relaxed);
    }

    /// Leaves it out, or no more.
    pub(super) fn set_ejected(&self, is_ejected: bool) {
        self.health.set(Out::Ejected, is_ejected);
    }
}

impl Tally {
    const ONE: u64 = 1 << 32;

    fn count(&self, rule: &OutlierDetection, is_success: bool) {
        if rule.success_rate.is_some() || rule.failure_percentage.is_some() {
            self.0.fetch_add(Self::ONE + u64::from(is_success), Ordering::Relaxed);
        }
    }

    /// Successes and all since the last call.
    pub(super) fn take(&self) -> (u32, u32) {
        halves(self.0.swap(0, Ordering::Relaxed))
    }
}

/// The lower and the upper half.
fn halves(both: u64) -> (u32, u32) {
    (both as u32, (both >> 32) as u32)
}
