//! What a circuit counts: a window of buckets. Calls add to the current one without a lock; whoever holds the lock of the
//! circuit moves on to the next.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use outrigger_model::BreakerRule;

/// What is counted of a call, in Hystrix's words where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Event {
    /// It went well.
    Success,
    /// It failed.
    Failure,
    /// It took too long.
    Timeout,
    /// More than the server wants; Linkerd's window counts it as a failure.
    RateLimited,
    /// As many were under way as the circuit allows.
    SemaphoreRejected,
    /// As many were under way as `connectionPool` allows: Hystrix's rejection by a pool of threads.
    PoolRejected,
    /// The circuit was open.
    ShortCircuited,
    /// The caller's mistake, or nobody's.
    BadRequest,
    /// The caller went away.
    Cancelled,
    /// Of the failures, those that were only slow.
    Slow,
    /// A fallback answered.
    FallbackSuccess,
    /// A fallback failed.
    FallbackFailure,
    /// As many fallbacks were under way as allowed.
    FallbackRejection,
    /// There is no fallback.
    FallbackMissing,
}

/// Counts by event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; Self::LEN]);

impl Counts {
    const LEN: usize = Event::FallbackMissing as usize + 1;

    /// One of them.
    pub fn of(&self, event: Event) -> u64 {
        self.0[event as usize]
    }

    /// What the decision is about: all calls that were tried or rejected.
    pub fn requests(&self) -> u64 {
        self.of(Event::Success) + self.errors()
    }

    /// All of them but the successes.
    pub fn errors(&self) -> u64 {
        use Event::{Failure, PoolRejected, RateLimited, SemaphoreRejected, Timeout};
        [Failure, Timeout, RateLimited, SemaphoreRejected, PoolRejected].into_iter().map(|event| self.of(event)).sum()
    }

    /// Share of errors, 0 where there are no requests.
    pub fn error_ratio(&self) -> f64 {
        if self.requests() == 0 { 0.0 } else { self.errors() as f64 / self.requests() as f64 }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
    }

    #[cfg(test)]
    pub(super) fn with(mut self, event: Event, count: u64) -> Self {
        self.0[event as usize] = count;
        self
    }
}

/// One bucket.
#[derive(Debug, Default)]
struct Bucket {
    counts: [AtomicU32; Counts::LEN],
    concurrent_max: AtomicU32,
}

impl Bucket {
    fn counts(&self) -> Counts {
        Counts(std::array::from_fn(|at| u64::from(self.counts[at].load(Relaxed))))
    }

    /// Empties it; returns what was in it.
    fn take(&self) -> Counts {
        self.concurrent_max.store(0, Relaxed);
        Counts(std::array::from_fn(|at| u64::from(self.counts[at].swap(0, Relaxed))))
    }
}

/// The buckets of a window and the one that fills.
///
/// Buckets have numbers that only grow; the bucket of a number stands at its rest by the count of places, of which there is
/// one more than the window has buckets.
#[derive(Debug)]
pub(super) struct Ring {
    buckets: Box<[Bucket]>,
    /// How long one bucket is.
    pub(super) interval: Duration,
    /// The number of the bucket that fills.
    current: AtomicU64,
    /// The first bucket since the circuit closed: those before it decide nothing any more.
    floor: AtomicU64,
    /// The ring that took its place when the window changed.
    pub(super) successor: OnceLock<Arc<Self>>,
}

/// Which of its buckets a decision sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Those that are complete, as in Hystrix.
    Complete,
    /// The current one too, as in Linkerd.
    Current,
}

impl Ring {
    /// Buckets of a window, which is also what configuration allows; with more the buckets would be made longer. Hystrix's
    /// default is 20.
    const BUCKETS_MAX: u32 = 600;
    /// Buckets of Linkerd's window.
    const BUCKETS_OF_LINKERD: u32 = 10;
    /// The window in which calls are counted for those who look, where the rule has none.
    const WINDOW: Duration = Duration::from_secs(10);

    /// An empty one for a rule.
    pub(super) fn new(rule: &BreakerRule) -> Self {
        let (count, interval) = Self::shape(rule);
        Self {
            buckets: (0..=count).map(|_| Bucket::default()).collect(),
            interval,
            current: AtomicU64::new(0),
            floor: AtomicU64::new(0),
            successor: OnceLock::new(),
        }
    }

    /// How many buckets a rule wants, and how long.
    fn shape(rule: &BreakerRule) -> (u32, Duration) {
        let (window, count) = match rule {
            BreakerRule::Hystrix(rule) => {
                let interval = rule.health_interval.max(Duration::from_millis(1));
                let count = rule.window.as_nanos() / interval.as_nanos();
                if (1..=u128::from(Self::BUCKETS_MAX)).contains(&count) {
                    return (count as u32, interval);
                }
                (rule.window, count.clamp(1, u128::from(Self::BUCKETS_MAX)) as u32)
            }
            BreakerRule::Consecutive(_) => (Self::WINDOW, Self::BUCKETS_OF_LINKERD),
            BreakerRule::Unified(_, window) => (window.window, Self::BUCKETS_OF_LINKERD),
        };
        (count, (window / count).max(Duration::from_millis(1)))
    }

    /// Whether it is what a rule wants.
    pub(super) fn fits(&self, rule: &BreakerRule) -> bool {
        (self.buckets.len() as u32 - 1, self.interval) == Self::shape(rule)
    }

    /// Counts into the current bucket.
    pub(super) fn count(&self, event: Event) {
        self.bucket(self.current.load(Relaxed)).counts[event as usize].fetch_add(1, Relaxed);
    }

    /// Notes how many calls are under way.
    pub(super) fn note_concurrent(&self, active: u32) {
        let max = &self.bucket(self.current.load(Relaxed)).concurrent_max;
        if max.load(Relaxed) < active {
            max.fetch_max(active, Relaxed);
        }
    }

    /// Sums what decides.
    pub(super) fn deciding(&self, seen: Seen) -> Counts {
        let floor = self.floor.load(Relaxed);
        let mut sum = Counts::default();
        self.numbers(seen).filter(|number| *number >= floor).for_each(|number| sum.add(&self.bucket(number).counts()));
        sum
    }

    /// Sums the window whatever it decided, and the most calls that were under way at once.
    pub(super) fn rolling(&self, seen: Seen) -> (Counts, u32) {
        let mut sum = Counts::default();
        self.numbers(seen).for_each(|number| sum.add(&self.bucket(number).counts()));
        let max = self.buckets.iter().map(|bucket| bucket.concurrent_max.load(Relaxed)).max();
        (sum, max.unwrap_or_default())
    }

    /// Everything in it.
    pub(super) fn all(&self) -> Counts {
        let mut sum = Counts::default();
        self.buckets.iter().for_each(|bucket| sum.add(&bucket.counts()));
        sum
    }

    /// Begins the next bucket; returns what the oldest had, whose place it takes. For the holder of the circuit's lock.
    pub(super) fn next(&self) -> Counts {
        let next = self.current.load(Relaxed) + 1;
        let oldest = self.bucket(next).take();
        self.current.store(next, Relaxed);
        oldest
    }

    /// Lets nothing before the current bucket decide any more.
    pub(super) fn forget(&self) {
        self.floor.store(self.current.load(Relaxed), Relaxed);
    }

    /// How often [`Self::next`] empties it.
    pub(super) fn len(&self) -> u32 {
        self.buckets.len() as u32
    }

    fn numbers(&self, seen: Seen) -> std::ops::Range<u64> {
        let current = self.current.load(Relaxed);
        let end = if seen == Seen::Current { current + 1 } else { current };
        end.saturating_sub(self.buckets.len() as u64 - 1)..end
    }

    fn bucket(&self, number: u64) -> &Bucket {
        &self.buckets[(number % self.buckets.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use outrigger_model::{HystrixRule, SuccessWindow};

    use super::*;

    #[test]
    fn a_window_has_buckets_of_the_health_interval() {
        let hystrix = |window_ms, interval_ms| {
            BreakerRule::Hystrix(HystrixRule {
                window: Duration::from_millis(window_ms),
                health_interval: Duration::from_millis(interval_ms),
                ..HystrixRule::default()
            })
        };
        let unified = |window| BreakerRule::Unified(Default::default(), SuccessWindow { window, ..Default::default() });
        let cases = [
            (hystrix(10_000, 500), (20, 500)),
            (hystrix(10_000, 300), (33, 300)),
            (hystrix(10_000, 20_000), (1, 10_000)),
            (hystrix(60_000, 100), (600, 100)),
            (hystrix(600_000, 1), (600, 1000)),
            (unified(Duration::from_secs(5)), (10, 500)),
            (unified(Duration::from_millis(1)), (10, 1)),
            (BreakerRule::Consecutive(Default::default()), (10, 1000)),
        ];
        for (rule, (count, ms)) in cases {
            assert_eq!(Ring::shape(&rule), (count, Duration::from_millis(ms)), "{rule:?}");
            assert!(Ring::new(&rule).fits(&rule));
        }
        assert!(!Ring::new(&hystrix(10_000, 500)).fits(&hystrix(10_000, 1000)));
    }

    #[test]
    fn what_is_counted_is_seen_when_complete_and_leaves_after_the_window() {
        let rule = BreakerRule::Hystrix(HystrixRule {
            window: Duration::from_secs(3),
            health_interval: Duration::from_secs(1),
            ..HystrixRule::default()
        });
        let ring = Ring::new(&rule);
        let failures = |ring: &Ring, seen| ring.deciding(seen).of(Event::Failure);
        ring.count(Event::Failure);
        ring.note_concurrent(7);
        assert_eq!((failures(&ring, Seen::Complete), failures(&ring, Seen::Current)), (0, 1));
        assert_eq!(ring.next(), Counts::default());
        assert_eq!((failures(&ring, Seen::Complete), failures(&ring, Seen::Current)), (1, 1));
        ring.next();
        ring.next();
        assert_eq!((failures(&ring, Seen::Complete), failures(&ring, Seen::Current)), (1, 0));
        assert_eq!(ring.rolling(Seen::Complete).1, 7);
        assert_eq!(ring.next(), Counts::default().with(Event::Failure, 1), "the oldest is handed over");
        assert_eq!(failures(&ring, Seen::Complete), 0);
        assert_eq!(ring.rolling(Seen::Complete), (Counts::default(), 0));
        ring.count(Event::Success);
        ring.next();
        ring.forget();
        assert_eq!(ring.deciding(Seen::Complete), Counts::default(), "nothing before decides");
        assert_eq!(ring.rolling(Seen::Complete).0.of(Event::Success), 1, "though it is still shown");
    }
}
