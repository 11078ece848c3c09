//! One gathered moment: [`Family`] after family, ready to be written in any format.
//!
//! Values here are plain numbers; nothing changes while an exposition is written from them. [`Families`] is where
//! collectors put what they compute at scrape.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{Desc, Kind, label};

/// Values computed at scrape: membership, active requests, shares, process facts.
///
/// Called on the control thread, once a scrape, while no lock of the registry is held. It must not block.
pub trait Collect: Send + Sync {
    /// Adds samples to `out`.
    fn collect(&self, out: &mut Families);
}

/// The label values of a series, in the order of its [`Desc::labels`].
pub type Labels = Arc<[Arc<str>]>;

/// All series of one metric at one moment.
#[derive(Clone, Debug)]
pub struct Family {
    /// Which metric.
    pub desc: &'static Desc,
    /// Its series, sorted by label values, no two with the same.
    pub samples: Vec<Sample>,
}

/// One series at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Label values.
    pub labels: Labels,
    /// Whether it ever moved (Envoy's "used").
    pub used: bool,
    /// Its value.
    pub value: Value,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of a counter.
    Integer(u64),
    /// Of a gauge, or of a counter of seconds.
    Float(f64),
    /// Of a histogram.
    Histogram {
        /// Sum of all observations.
        sum: f64,
        /// Observations by bucket, not cumulative, `+Inf` last.
        counts: Box<[u64]>,
    },
}

/// What collectors give; keeps the same bounds as recorded series.
#[derive(Debug)]
pub struct Families {
    per_family: usize,
    families: BTreeMap<&'static str, Family>,
    dropped: BTreeMap<&'static str, u64>,
}

impl Families {
    pub(crate) fn new(per_family: usize) -> Self {
        Self { per_family, families: BTreeMap::new(), dropped: BTreeMap::new() }
    }

    /// A counter's value; of several with the same labels the sum is exposed.
    pub fn counter(&mut self, desc: &'static Desc, labels: &[Arc<str>], value: u64) {
        debug_assert_eq!(desc.kind, Kind::Counter, "{}", desc.name);
        self.push(desc, labels, value != 0, Value::Integer(value));
    }

    /// The value of a counter of seconds.
    pub fn counter_seconds(&mut self, desc: &'static Desc, labels: &[Arc<str>], value: f64) {
        debug_assert_eq!(desc.kind, Kind::Counter, "{}", desc.name);
        self.push(desc, labels, value != 0.0, Value::Float(value));
    }

    /// A gauge's value; of several with the same labels the sum is exposed.
    pub fn gauge(&mut self, desc: &'static Desc, labels: &[Arc<str>], value: f64) {
        debug_assert_eq!(desc.kind, Kind::Gauge, "{}", desc.name);
        self.push(desc, labels, true, Value::Float(value));
    }

    /// A histogram's sum and its observations by bucket (not cumulative, `+Inf` last).
    pub fn histogram(&mut self, desc: &'static Desc, labels: &[Arc<str>], sum: f64, counts: &[u64]) {
        debug_assert_eq!(desc.kind, Kind::Histogram, "{}", desc.name);
        debug_assert_eq!(counts.len(), desc.buckets.len() + 1, "{}", desc.name);
        let used = counts.iter().any(|n| *n != 0);
        self.push(desc, labels, used, Value::Histogram { sum, counts: counts.into() });
    }

    fn push(&mut self, desc: &'static Desc, labels: &[Arc<str>], used: bool, value: Value) {
        debug_assert_eq!(labels.len(), desc.labels.len(), "{} takes {:?}", desc.name, desc.labels);
        let family = self.families.entry(desc.name).or_insert_with(|| Family { desc, samples: Vec::new() });
        if family.samples.len() >= self.per_family {
            *self.dropped.entry(desc.name).or_default() += 1;
            return;
        }
        family.samples.push(Sample { labels: label::bounded(labels).into(), used, value });
    }

    /// Series that found no room since the start of this scrape, by metric.
    pub(crate) fn dropped(&self) -> &BTreeMap<&'static str, u64> {
        &self.dropped
    }

    /// Adds what was recorded and puts everything in order.
    pub(crate) fn finish(mut self, recorded: Vec<Family>) -> Vec<Family> {
        for family in recorded {
            match self.families.get_mut(family.desc.name) {
                Some(existing) => existing.samples.extend(family.samples),
                None => {
                    self.families.insert(family.desc.name, family);
                }
            }
        }
        let mut families: Vec<Family> = self.families.into_values().filter(|f| !f.samples.is_empty()).collect();
        for family in &mut families {
            family.put_in_order();
        }
        families
    }
}

impl Family {
    /// Sorts, and sums what has the same labels: a name with the same labels twice fails a whole scrape.
    fn put_in_order(&mut self) {
        if self.samples.is_sorted_by(|a, b| a.labels < b.labels) {
            return;
        }
        self.samples.sort_by(|a, b| a.labels.cmp(&b.labels));
        self.samples.dedup_by(|later, kept| {
            if later.labels != kept.labels {
                return false;
            }
            kept.used |= later.used;
            kept.value.add(&later.value);
            true
        });
    }
}

impl Value {
    fn add(&mut self, other: &Self) {
        match (&mut *self, other) {
            (Self::Integer(a), Self::Integer(b)) => *a = a.wrapping_add(*b),
            (Self::Histogram { sum, counts }, Self::Histogram { sum: more, counts: others }) => {
                *sum += more;
                for (a, b) in counts.iter_mut().zip(others) {
                    *a += b;
                }
            }
            (a, b) => *a = Self::Float(a.number() + b.number()),
        }
    }

    /// The value as one number; the sum of a histogram.
    pub fn number(&self) -> f64 {
        match self {
            Self::Integer(n) => *n as f64,
            Self::Float(n) => *n,
            Self::Histogram { sum, .. } => *sum,
        }
    }
}
