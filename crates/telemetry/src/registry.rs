//! The registry: all families of one proxy, their bounds, and the scrape that merges the shards.
//!
//! Nothing here is global: many proxies in one process have a registry each. Recording goes through [`Shard`]; the
//! control thread calls [`Registry::gather`] for a scrape and [`Registry::sweep`] about once a minute. Both hold the
//! lock of one family at a time and for a few hundred series at most, so that a worker that looks up a new series waits
//! microseconds, however large the scrape.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::catalogue::{OUTRIGGER_METRICS_DROPPED_TOTAL, OUTRIGGER_METRICS_EXPIRED_TOTAL, OUTRIGGER_METRICS_SERIES};
use crate::series::{Moment, Recent, Table, Walk};
use crate::shard::Slot;
use crate::snapshot::{Collect, Families, Family, Sample, Value};
use crate::{Desc, Shard};

/// Bounds on series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesLimits {
    /// Most series of one metric; histograms count once. More are not created: what they would have counted shows in
    /// `outrigger_metrics_dropped_total`. Default 2,000.
    pub per_family: usize,
    /// After how long without a change a series leaves the exposition. Default 10 minutes, as Linkerd.
    pub idle: Duration,
}

impl Default for SeriesLimits {
    fn default() -> Self {
        Self { per_family: 2_000, idle: Duration::from_secs(600) }
    }
}

/// The metrics of one proxy. Cheap to clone; all clones are the same registry.
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

/// What registry and shards share.
pub(crate) struct Shared {
    limits: SeriesLimits,
    shards: AtomicU32,
    recent: Recent,
    families: RwLock<BTreeMap<&'static str, Arc<FamilyCell>>>,
    collectors: RwLock<Vec<Arc<dyn Collect>>>,
    /// Held by gather and sweep, so that only one of them walks: removals happen there alone.
    walker: Mutex<Totals>,
}

struct FamilyCell {
    desc: &'static Desc,
    table: Mutex<Table>,
}

/// Counts that outlive a walk.
#[derive(Default)]
struct Totals {
    expired: u64,
    /// Samples of collectors that found no room.
    dropped: BTreeMap<&'static str, u64>,
}

impl Registry {
    /// An empty registry.
    pub fn new(limits: SeriesLimits) -> Self {
        Self(Arc::new(Shared {
            limits,
            shards: AtomicU32::new(0),
            recent: Recent::default(),
            families: RwLock::default(),
            collectors: RwLock::default(),
            walker: Mutex::default(),
        }))
    }

    /// A recording side for one more thread.
    pub fn shard(&self) -> Shard {
        Shard { id: self.0.shards.fetch_add(1, Relaxed), shared: self.0.clone() }
    }

    /// Asks `collector` at every scrape from now on.
    pub fn add_collector(&self, collector: Arc<dyn Collect>) {
        self.0.collectors.write().unwrap_or_else(PoisonError::into_inner).push(collector);
    }

    /// The bounds it was made with.
    pub fn limits(&self) -> SeriesLimits {
        self.0.limits
    }

    /// The values of this moment, families sorted by name.
    pub fn gather(&self, now: Instant) -> Vec<Family> {
        let collectors = self.0.collectors.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut out = Families::new(self.0.limits.per_family);
        for collector in &collectors {
            collector.collect(&mut out);
        }
        let mut totals = lock(&self.0.walker);
        for (name, n) in out.dropped() {
            *totals.dropped.entry(name).or_default() += n;
        }
        let mut dropped = totals.dropped.clone();
        let mut recorded = Vec::new();
        for family in self.0.families() {
            let mut samples = Vec::new();
            let walk = self.0.walk(&family, now, Some(&mut samples));
            totals.expired += walk.expired;
            if walk.dropped > 0 {
                *dropped.entry(family.desc.name).or_default() += walk.dropped;
            }
            recorded.push(Family { desc: family.desc, samples });
        }
        out.counter(&OUTRIGGER_METRICS_EXPIRED_TOTAL, &[], totals.expired);
        drop(totals);
        for (name, n) in dropped {
            out.counter(&OUTRIGGER_METRICS_DROPPED_TOTAL, &[name.into()], n);
        }
        let mut families = out.finish(recorded);
        count_series(&mut families);
        families
    }

    /// Hides idle series and frees those that nobody holds; to be called about once a minute, so that memory is given
    /// back where nobody scrapes.
    pub fn sweep(&self, now: Instant) {
        let mut totals = lock(&self.0.walker);
        for family in self.0.families() {
            totals.expired += self.0.walk(&family, now, None).expired;
        }
    }
}

impl Shared {
    /// The cells of a series in a shard; the overflow sink when its family is full.
    pub(crate) fn slot(&self, shard: u32, desc: &'static Desc, labels: &[Arc<str>]) -> Slot {
        let labels = crate::label::bounded(labels);
        let family = self.family(desc);
        let mut table = lock(&family.table);
        table.slot(shard, desc, &labels, self.limits.per_family, &self.recent)
    }

    fn family(&self, desc: &'static Desc) -> Arc<FamilyCell> {
        if let Some(family) = self.families.read().unwrap_or_else(PoisonError::into_inner).get(desc.name) {
            return family.clone();
        }
        let mut families = self.families.write().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(desc.name).or_insert_with(|| {
            // The first description of a name is the one that is exposed.
            Arc::new(FamilyCell { desc, table: Mutex::default() })
        });
        debug_assert_eq!(family.desc, desc, "two metrics of one name");
        family.clone()
    }

    fn families(&self) -> Vec<Arc<FamilyCell>> {
        self.families.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn walk(&self, family: &FamilyCell, now: Instant, mut out: Option<&mut Vec<Sample>>) -> Walk {
        let moment = Moment { now, idle: self.limits.idle };
        let mut walk = Walk::default();
        loop {
            let more = lock(&family.table).walk(family.desc, moment, &mut walk, out.as_deref_mut());
            if !more {
                return walk;
            }
        }
    }
}

/// A panic elsewhere while a lock was held leaves counts that are at worst one update old.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts `outrigger_metrics_series` in its place; it counts itself.
fn count_series(families: &mut Vec<Family>) {
    let series = 1 + families.iter().map(|f| f.samples.len()).sum::<usize>();
    let desc = &OUTRIGGER_METRICS_SERIES;
    let sample = Sample { labels: Arc::new([]), used: true, value: Value::Float(series as f64) };
    let at = families.partition_point(|f| f.desc.name < desc.name);
    families.insert(at, Family { desc, samples: vec![sample] });
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}
