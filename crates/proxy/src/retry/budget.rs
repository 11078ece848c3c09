//! How many retries there may be for what is offered, so that a storm of them never doubles the load.
//!
//! Without a word of the operator, a worker lets as many pass in ten seconds as a fifth of the requests that came in that
//! time, or three a second where fewer come, over all workers. With `retryBudget`, Envoy's rule counts: so many at one time,
//! by the requests that are under way.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use outrigger_model::{Fraction, RetryBudget};

/// The proxy's own budget on one worker: requests and retries of the last seconds.
#[derive(Debug)]
pub(crate) struct Own {
    /// Retries that are let pass in the window however few requests come.
    least: u32,
    buckets: RefCell<[Bucket; Self::SECONDS as usize]>,
}

/// One second.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    second: u64,
    requests: u32,
    retries: u32,
}

impl Own {
    /// The window.
    const SECONDS: u64 = 10;
    /// A retry for so many requests: a fifth, as Envoy's and Istio's `percent`.
    const REQUESTS_PER_RETRY: u64 = 5;
    /// In each second, over all workers.
    const LEAST_PER_SECOND: u32 = 3;

    /// That of one of so many workers.
    pub(crate) fn new(workers: usize) -> Self {
        let least = Self::LEAST_PER_SECOND * Self::SECONDS as u32;
        let least = least.div_ceil(u32::try_from(workers.max(1)).unwrap_or(u32::MAX));
        Self { least, buckets: RefCell::default() }
    }

    /// A request came.
    pub(crate) fn offered(&self, second: u64) {
        self.with(second, |bucket| bucket.requests = bucket.requests.saturating_add(1));
    }

    /// Asks for a retry; it counts if it is granted.
    pub(crate) fn grant(&self, second: u64) -> bool {
        let (requests, retries) = self.sums(second);
        let allowed = (requests / Self::REQUESTS_PER_RETRY).max(u64::from(self.least));
        let granted = retries < allowed;
        if granted {
            self.with(second, |bucket| bucket.retries += 1);
        }
        granted
    }

    fn with(&self, second: u64, count: impl FnOnce(&mut Bucket)) {
        let bucket = &mut self.buckets.borrow_mut()[(second % Self::SECONDS) as usize];
        if bucket.second != second {
            *bucket = Bucket { second, ..Bucket::default() };
        }
        count(bucket);
    }

    fn sums(&self, second: u64) -> (u64, u64) {
        let buckets = self.buckets.borrow();
        let recent = buckets.iter().filter(|b| b.second + Self::SECONDS > second);
        recent.fold((0, 0), |(requests, retries), b| (requests + u64::from(b.requests), retries + u64::from(b.retries)))
    }
}

/// What counts for a `retryBudget`, over all workers of a proxy.
#[derive(Debug)]
pub(crate) struct Offered {
    since: Instant,
    requests: AtomicU32,
    retries: AtomicU32,
    /// Requests that came within `budgetInterval`, in tenths of it.
    recent: [Tenth; 10],
}

#[derive(Debug, Default)]
struct Tenth {
    /// Which one since the beginning of time, modulo 2^32.
    number: AtomicU32,
    requests: AtomicU32,
}

/// Counts one more, if there are fewer than `max`.
pub(super) fn count_within(count: &AtomicU32, max: u32) -> bool {
    let more = |now: u32| (now < max).then_some(now + 1);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
}

impl Offered {
    /// Of a cluster that is new.
    pub(crate) fn new(since: Instant) -> Self {
        Self { since, requests: AtomicU32::new(0), retries: AtomicU32::new(0), recent: Default::default() }
    }

    /// A request comes; [`Self::end`] follows.
    pub(crate) fn begin(&self, budget: &RetryBudget, now: Instant) {
        if let Some(number) = tenth(budget, self.since, now) {
            let tenth = &self.recent[number as usize % self.recent.len()];
            if tenth.number.swap(number, Ordering::Relaxed) != number {
                tenth.requests.store(0, Ordering::Relaxed);
            }
            tenth.requests.fetch_add(1, Ordering::Relaxed);
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// A request is over.
    pub(crate) fn end(&self) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }

    /// Asks for a retry; where it is granted, [`Self::retry_ends`] follows.
    pub(crate) fn grant(&self, budget: &RetryBudget, now: Instant) -> bool {
        let recent = tenth(budget, self.since, now).map_or(0, |number| {
            let is_recent = |tenth: &&Tenth| number.wrapping_sub(tenth.number.load(Ordering::Relaxed)) < 10;
            self.recent.iter().filter(is_recent).map(|tenth| tenth.requests.load(Ordering::Relaxed)).sum()
        });
        let base = self.requests.load(Ordering::Relaxed).max(recent);
        let allowed = share(budget.percent, base).max(budget.concurrency_min);
        count_within(&self.retries, allowed)
    }

    /// A retry is over.
    pub(crate) fn retry_ends(&self) {
        self.retries.fetch_sub(1, Ordering::Relaxed);
    }
}

fn tenth(budget: &RetryBudget, since: Instant, now: Instant) -> Option<u32> {
    let length = (budget.interval.as_nanos() / 10).max(1);
    (!budget.interval.is_zero()).then(|| (now.saturating_duration_since(since).as_nanos() / length) as u32)
}

fn share(of: Fraction, count: u32) -> u32 {
    (u64::from(of.millionths()) * u64::from(count) / 1_000_000) as u32
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_storm_gets_a_fifth_and_a_trickle_three_a_second() {
        let own = Own::new(1);
        // 1,000 requests a second of which every try fails: each asks for two retries.
        let mut granted = 0;
        for request in 0..20_000_u64 {
            own.offered(request / 1_000);
            granted += u64::from(own.grant(request / 1_000)) + u64::from(own.grant(request / 1_000));
        }
        assert!((3_900..=4_000).contains(&granted), "{granted} retries of 20,000 requests");
        let own = Own::new(1);
        let granted = (0..100).filter(|_| own.grant(7)).count();
        assert_eq!(granted, 30, "what ten seconds allow may come at once");
        assert!(!own.grant(16) && own.grant(17), "after ten seconds it is forgotten");
        let of_four = Own::new(4);
        assert_eq!((0..100).filter(|_| of_four.grant(0)).count(), 8);
    }

    #[test]
    fn a_configured_budget_counts_what_is_under_way() {
        let budget = |percent, concurrency_min, interval| RetryBudget {
            percent: Fraction::from_percent(percent).unwrap(),
            concurrency_min,
            interval: Duration::from_secs(interval),
        };
        let since = Instant::now();
        let at = |ms| since + Duration::from_millis(ms);
        let fifth = budget(20.0, 3, 0);
        let offered = Offered::new(since);
        let granted =
            |offered: &Offered, budget: &RetryBudget, at| (0..100).filter(|_| offered.grant(budget, at)).count();
        (0..10).for_each(|_| offered.begin(&fifth, since));
        assert_eq!(granted(&offered, &fifth, since), 3, "a fifth of ten is two, and three are allowed in any case");
        offered.retry_ends();
        assert!(offered.grant(&fifth, since), "one that ended makes room");
        (0..3).for_each(|_| offered.retry_ends());
        (0..30).for_each(|_| offered.begin(&fifth, since));
        assert_eq!(granted(&offered, &fifth, since), 8);
        (0..8).for_each(|_| offered.retry_ends());
        assert_eq!(granted(&offered, &budget(0.0, 0, 0), since), 0);
        let recent = budget(50.0, 0, 1);
        let offered = Offered::new(since);
        for ms in 0..100 {
            offered.begin(&recent, at(ms * 10));
            offered.end();
        }
        assert_eq!(granted(&offered, &recent, at(999)), 50, "what came within the interval counts although it is over");
        (0..50).for_each(|_| offered.retry_ends());
        assert_eq!(granted(&offered, &recent, at(2_500)), 0);
    }
}
