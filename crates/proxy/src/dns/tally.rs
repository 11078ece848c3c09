//! What is counted of lookups: by name, and over all of them. Written by the thread that looks names up, read by scrapes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use outrigger_telemetry::catalogue::OUTRIGGER_DNS_LOOKUP_DURATION_SECONDS;

use super::known::Failure;

/// Lookups of one name by result, good ones first.
#[derive(Debug, Default)]
pub(crate) struct NameTally([AtomicU64; 1 + Failure::ALL.len()]);

impl NameTally {
    /// Counts a lookup.
    pub(crate) fn count(&self, failure: Option<Failure>) {
        let at = failure.map_or(0, |failure| 1 + failure as usize);
        self.0[at].fetch_add(1, Relaxed);
    }

    /// The counts that are not zero, with their labels.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let labels = std::iter::once("success").chain(Failure::ALL.map(Failure::label));
        labels.zip(self.0.iter().map(|count| count.load(Relaxed))).filter(|(_, count)| *count > 0)
    }
}

/// What is counted over all names.
#[derive(Debug)]
pub(crate) struct Tallies {
    durations: Box<[AtomicU64]>,
    durations_sum_us: AtomicU64,
    addresses_dropped: AtomicU64,
    names_refused: AtomicU64,
}

impl Default for Tallies {
    fn default() -> Self {
        Self {
            // One more for what is longer than the last bound.
            durations: (0..=BOUNDS.len()).map(|_| AtomicU64::new(0)).collect(),
            durations_sum_us: AtomicU64::new(0),
            addresses_dropped: AtomicU64::new(0),
            names_refused: AtomicU64::new(0),
        }
    }
}

/// The bounds of the histogram, in seconds.
const BOUNDS: &[f64] = OUTRIGGER_DNS_LOOKUP_DURATION_SECONDS.buckets;

impl Tallies {
    /// Counts a lookup that took so long.
    pub(crate) fn took(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let at = BOUNDS.partition_point(|bound| *bound < seconds);
        self.durations[at].fetch_add(1, Relaxed);
        self.durations_sum_us.fetch_add(duration.as_micros() as u64, Relaxed);
    }

    /// Counts addresses that were left out.
    pub(crate) fn addresses_dropped(&self, count: usize) {
        self.addresses_dropped.fetch_add(count as u64, Relaxed);
    }

    /// Counts a name that was one too many; whether it is the first.
    pub(crate) fn name_refused(&self) -> bool {
        self.names_refused.fetch_add(1, Relaxed) == 0
    }

    /// Seconds that all lookups took together, and how many fell between the bounds of the histogram.
    pub(crate) fn durations(&self) -> (f64, Vec<u64>) {
        let counts = self.durations.iter().map(|count| count.load(Relaxed)).collect();
        (self.durations_sum_us.load(Relaxed) as f64 / 1e6, counts)
    }

    /// How often bounds were met, by their names.
    pub(crate) fn limit_hits(&self) -> [(&'static str, u64); 2] {
        [("dns_names", self.names_refused.load(Relaxed)), ("dns_addresses", self.addresses_dropped.load(Relaxed))]
    }
}
