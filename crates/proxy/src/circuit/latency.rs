//! How long calls took lately: Hystrix's rolling percentiles, a minute in six buckets of at most 100 values each.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The latest values of a minute. Written by all workers without a lock; who looks may miss one that is being written.
#[derive(Debug, Default)]
pub(super) struct Latency([Bucket; Self::BUCKETS]);

/// Ten seconds.
#[derive(Debug)]
struct Bucket {
    /// Which ten seconds, from 1; 0 for none yet.
    number: AtomicU64,
    /// Values so far; beyond the places they overwrite the oldest.
    count: AtomicU32,
    values_us: [AtomicU32; Latency::VALUES],
}

impl Default for Bucket {
    fn default() -> Self {
        Self {
            number: AtomicU64::new(0),
            count: AtomicU32::new(0),
            values_us: std::array::from_fn(|_| AtomicU32::new(0)),
        }
    }
}

/// Mean and percentiles of times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// Values they are made of.
    pub count: usize,
    /// The mean.
    pub mean: Duration,
    /// The values at [`Self::AT`].
    pub values: [Duration; Self::AT.len()],
}

impl Percentiles {
    /// Those that `hystrix.stream` tells.
    pub const AT: [f64; 9] = [0.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 100.0];
}

impl Latency {
    /// `metrics.rollingPercentile.numBuckets`.
    const BUCKETS: usize = 6;
    /// `metrics.rollingPercentile.bucketSize`.
    const VALUES: usize = 100;
    /// `metrics.rollingPercentile.timeInMilliseconds` is a minute.
    const BUCKET: Duration = Duration::from_secs(10);

    /// Notes a call that took so long.
    pub(super) fn note(&self, took: Duration, at: Duration) {
        let number = Self::number(at);
        let bucket = &self.0[(number % Self::BUCKETS as u64) as usize];
        let before = bucket.number.load(Relaxed);
        // Whoever comes first in the ten seconds empties it.
        if before < number && bucket.number.compare_exchange(before, number, Relaxed, Relaxed).is_ok() {
            bucket.count.store(0, Relaxed);
        }
        let place = bucket.count.fetch_add(1, Relaxed) as usize % Self::VALUES;
        let us = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        bucket.values_us[place].store(us, Relaxed);
    }

    /// Of the last minute.
    pub(super) fn percentiles(&self, at: Duration) -> Percentiles {
        let now = Self::number(at);
        let live = |bucket: &&Bucket| {
            (now.saturating_sub(Self::BUCKETS as u64 - 1).max(1)..=now).contains(&bucket.number.load(Relaxed))
        };
        let mut values_us: Vec<u32> = Vec::new();
        for bucket in self.0.iter().filter(live) {
            let count = (bucket.count.load(Relaxed) as usize).min(Self::VALUES);
            values_us.extend(bucket.values_us[..count].iter().map(|value| value.load(Relaxed)));
        }
        if values_us.is_empty() {
            return Percentiles::default();
        }
        values_us.sort_unstable();
        let sum: u64 = values_us.iter().map(|value| u64::from(*value)).sum();
        let last = values_us.len() - 1;
        // The nearest rank: a value that was measured.
        let value = |percent: f64| {
            let rank = (percent / 100.0 * values_us.len() as f64).ceil() as usize;
            Duration::from_micros(u64::from(values_us[rank.saturating_sub(1).min(last)]))
        };
        Percentiles {
            count: values_us.len(),
            mean: Duration::from_micros(sum / values_us.len() as u64),
            values: Percentiles::AT.map(value),
        }
    }

    fn number(at: Duration) -> u64 {
        at.as_secs() / Self::BUCKET.as_secs() + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_last_minute_and_of_a_bounded_number() {
        let latency = Latency::default();
        let at = Duration::from_secs;
        assert_eq!(latency.percentiles(at(0)), Percentiles::default());
        for ms in 1..=100 {
            latency.note(Duration::from_millis(ms), at(1));
        }
        let ms = |percentiles: &Percentiles| percentiles.values.map(|value| value.as_millis());
        let first = latency.percentiles(at(1));
        assert_eq!((first.count, first.mean), (100, Duration::from_micros(50_500)));
        assert_eq!(ms(&first), [1, 25, 50, 75, 90, 95, 99, 100, 100]);
        for _ in 0..50 {
            latency.note(Duration::from_millis(1000), at(9));
        }
        let full = latency.percentiles(at(9));
        assert_eq!((full.count, ms(&full)[0]), (100, 51), "the oldest values made room");
        latency.note(Duration::from_millis(7), at(15));
        assert_eq!(latency.percentiles(at(59)).count, 101);
        assert_eq!(latency.percentiles(at(60)).count, 1, "the first ten seconds are a minute ago");
        latency.note(Duration::from_millis(8), at(61));
        let later = latency.percentiles(at(69));
        assert_eq!((later.count, ms(&later)[0], ms(&later)[8]), (2, 7, 8), "their place is taken");
        assert_eq!(latency.percentiles(at(600)).count, 0);
    }
}
