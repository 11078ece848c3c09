//! Recording: one [`Shard`] a worker, and the handles it gives out.
//!
//! A handle is a pointer to cells that **one thread writes**: an update is a relaxed load and a relaxed store, with no
//! lock and no atomic read-modify-write. A scrape reads the same cells from another thread and may see an update a
//! moment late, never half of one. Handles can be sent to their thread but not shared ([`Counter`] is not `Sync`); two
//! threads that clone the same handle would lose each other's updates, so each asks its own shard.
//!
//! Asking a shard for a handle takes a lock of the family and walks its table: workers do it when a series is new to
//! them and keep the handle in their own caches.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::registry::Shared;
use crate::{Desc, Kind};

/// The recording side of one worker. `Send`; not cloned: a second worker asks [`crate::Registry::shard`] again.
pub struct Shard {
    pub(crate) shared: Arc<Shared>,
    pub(crate) id: u32,
}

impl Shard {
    /// The handle of a counter's series; `labels` are the values in the order of `desc.labels`.
    pub fn counter(&self, desc: &'static Desc, labels: &[Arc<str>]) -> Counter {
        debug_assert_eq!(desc.kind, Kind::Counter, "{}", desc.name);
        Counter(self.slot(desc, labels))
    }

    /// The handle of a gauge's series. The exposed value is the sum over shards.
    pub fn gauge(&self, desc: &'static Desc, labels: &[Arc<str>]) -> Gauge {
        debug_assert_eq!(desc.kind, Kind::Gauge, "{}", desc.name);
        Gauge(self.slot(desc, labels))
    }

    /// The handle of a histogram's series.
    pub fn histogram(&self, desc: &'static Desc, labels: &[Arc<str>]) -> Histogram {
        debug_assert_eq!(desc.kind, Kind::Histogram, "{}", desc.name);
        Histogram { slot: self.slot(desc, labels), bounds: desc.buckets }
    }

    fn slot(&self, desc: &'static Desc, labels: &[Arc<str>]) -> Slot {
        debug_assert_eq!(labels.len(), desc.labels.len(), "{} takes {:?}", desc.name, desc.labels);
        self.shared.slot(self.id, desc, labels)
    }
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The cells of one series in one shard; laid out as [`Desc::cells`] says.
pub(crate) type Cells = Arc<[AtomicU64]>;

/// What every handle holds.
#[derive(Clone)]
pub(crate) struct Slot {
    cells: Cells,
    /// Whether the family was full, so that this records into its `overflow` sink.
    overflow: bool,
    /// Takes `Sync` away: see the module's text.
    one_thread: PhantomData<Cell<()>>,
}

impl Slot {
    pub(crate) fn new(cells: Cells, overflow: bool) -> Self {
        Self { cells, overflow, one_thread: PhantomData }
    }
}

/// Counts.
#[derive(Clone)]
pub struct Counter(Slot);

impl Counter {
    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        bump(&self.0.cells[0], n);
    }

    /// What this shard counted; for tests and for values shown beside the metric.
    pub fn value(&self) -> u64 {
        self.0.cells[0].load(Relaxed)
    }

    /// Whether the family had no room, so that this counts into `outrigger_metrics_dropped_total` only. A cache may
    /// ask again later.
    pub fn overflowed(&self) -> bool {
        self.0.overflow
    }
}

/// A value that goes up and down.
#[derive(Clone)]
pub struct Gauge(Slot);

impl Gauge {
    /// Adds `n`, which may be negative. Exact for integers up to 2^53.
    #[inline]
    pub fn add(&self, n: i64) {
        add_f64(&self.0.cells[0], n as f64);
    }

    /// Sets this shard's part; the exposed value is the sum over shards, so only one shard sets a series.
    #[inline]
    pub fn set(&self, value: f64) {
        self.0.cells[0].store(value.to_bits(), Relaxed);
    }

    /// This shard's part.
    pub fn value(&self) -> f64 {
        f64::from_bits(self.0.cells[0].load(Relaxed))
    }

    /// Whether the family had no room, so that nothing is exposed.
    pub fn overflowed(&self) -> bool {
        self.0.overflow
    }
}

/// Counts observations by size.
#[derive(Clone)]
pub struct Histogram {
    slot: Slot,
    bounds: &'static [f64],
}

impl Histogram {
    /// Counts one observation in the unit of the metric. A value that is not finite is ignored: it would turn the sum
    /// into `NaN` for good.
    #[inline]
    pub fn observe(&self, value: f64) {
        if !value.is_finite() {
            return;
        }
        // Upper bounds are inclusive. The lists are short and small values are common: a scan beats a search.
        let bucket = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        if let Some(cell) = self.slot.cells.get(bucket + 1) {
            bump(cell, 1);
        }
        add_f64(&self.slot.cells[0], value);
    }

    /// Observations of this shard.
    pub fn count(&self) -> u64 {
        self.slot.cells[1..].iter().map(|cell| cell.load(Relaxed)).sum()
    }

    /// Whether the family had no room, so that this counts into `outrigger_metrics_dropped_total` only.
    pub fn overflowed(&self) -> bool {
        self.slot.overflow
    }
}

#[inline]
fn bump(cell: &AtomicU64, n: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
}

#[inline]
fn add_f64(cell: &AtomicU64, value: f64) {
    cell.store((f64::from_bits(cell.load(Relaxed)) + value).to_bits(), Relaxed);
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Counter({})", self.value())
    }
}

impl fmt::Debug for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gauge({})", self.value())
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Histogram({} observations)", self.count())
    }
}
