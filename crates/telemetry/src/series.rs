//! The table of one family: which series there are, their cells in each shard, and when they last moved.
//!
//! Not thread-safe by itself; [`crate::registry`] holds it in a mutex. Invariants: the number of series never exceeds
//! the family's limit; a cell is folded into `retired` only when no handle is left, so no update is ever lost.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::shard::{Cells, Slot};
use crate::snapshot::{Labels, Sample, Value};
use crate::{Desc, Kind};

/// Series visited under one hold of the lock: some ten microseconds with histograms.
const WALK_STEP: usize = 256;

/// The series of one family. Ordered, so that a walk can pause and resume, and so that expositions come out sorted.
#[derive(Default)]
pub(crate) struct Table {
    series: BTreeMap<Labels, Series>,
    /// Where recordings go that found no room, one each shard.
    sinks: Vec<(u32, Cells)>,
    /// Gauges that found no room; their sinks tell nothing.
    refused: u64,
}

#[derive(Default)]
struct Series {
    cells: Vec<(u32, Cells)>,
    /// What cells without handles had counted; empty while there were none.
    retired: Box<[u64]>,
    /// Compared at each walk to see whether the series moved.
    last: u64,
    changed: Option<Instant>,
    used: bool,
    hidden: bool,
}

/// When a walk happens and what is idle then.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) now: Instant,
    pub(crate) idle: Duration,
}

/// The labels of the newest series. The families of one exchange get theirs one after the other with the same labels, and
/// share them.
#[derive(Default)]
pub(crate) struct Recent(Mutex<Option<Labels>>);

impl Recent {
    fn share(&self, labels: &[Arc<str>]) -> Labels {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*recent {
            Some(known) if **known == *labels => known.clone(),
            _ => recent.insert(labels.into()).clone(),
        }
    }
}

/// A walk over a family, in steps.
#[derive(Default)]
pub(crate) struct Walk {
    after: Option<Labels>,
    /// Series that left the exposition during this walk.
    pub(crate) expired: u64,
    /// Recordings that found no room, since the start.
    pub(crate) dropped: u64,
}

/// What becomes of a series.
enum Fate {
    Show,
    Hide,
    Free,
}

impl Table {
    /// The cells of a series in a shard, created when new.
    pub(crate) fn slot(&mut self, shard: u32, desc: &Desc, labels: &[Arc<str>], limit: usize, recent: &Recent) -> Slot {
        if let Some(series) = self.series.get_mut(labels) {
            return Slot::new(cells_of(&mut series.cells, shard, desc), false);
        }
        if self.series.len() >= limit {
            if desc.kind == Kind::Gauge {
                self.refused += 1;
            }
            return Slot::new(cells_of(&mut self.sinks, shard, desc), true);
        }
        let mut series = Series::default();
        let cells = cells_of(&mut series.cells, shard, desc);
        self.series.insert(recent.share(labels), series);
        Slot::new(cells, false)
    }

    /// One step of a walk; `true` while there is more.
    pub(crate) fn walk(
        &mut self,
        desc: &Desc,
        moment: Moment,
        walk: &mut Walk,
        mut out: Option<&mut Vec<Sample>>,
    ) -> bool {
        let from = walk.after.take().map_or(Unbounded, Excluded);
        let mut freed = Vec::new();
        let mut left = WALK_STEP;
        for (labels, series) in self.series.range_mut((from, Unbounded)) {
            let was_hidden = series.hidden;
            let totals = series.total(desc);
            match series.judge(desc, moment, &totals) {
                Fate::Show => {
                    if let Some(out) = out.as_deref_mut() {
                        out.push(Sample { labels: labels.clone(), used: series.used, value: value(desc, &totals) });
                    }
                }
                Fate::Hide => walk.expired += u64::from(!was_hidden),
                Fate::Free => {
                    walk.expired += u64::from(!was_hidden);
                    freed.push(labels.clone());
                }
            }
            left -= 1;
            if left == 0 {
                walk.after = Some(labels.clone());
                break;
            }
        }
        for labels in freed {
            self.series.remove(&labels);
        }
        if walk.after.is_none() {
            walk.dropped = self.dropped(desc);
        }
        walk.after.is_some()
    }

    /// Increments, observations or gauges that found no room.
    fn dropped(&self, desc: &Desc) -> u64 {
        let counted = self.sinks.iter().map(|(_, cells)| match desc.kind {
            Kind::Counter => cells[0].load(Relaxed),
            Kind::Gauge => 0,
            Kind::Histogram => cells[1..].iter().map(|cell| cell.load(Relaxed)).sum(),
        });
        self.refused + counted.sum::<u64>()
    }
}

impl Series {
    /// The sum over shards. Cells that lost their last handle are folded in for good; a gauge's are forgotten, since
    /// what they told of is gone.
    fn total(&mut self, desc: &Desc) -> Box<[u64]> {
        let retired = &mut self.retired;
        self.cells.retain_mut(|(_, cells)| {
            // `get_mut` succeeds only without handles, and then sees their last write.
            let orphan = Arc::get_mut(cells).is_some();
            if orphan && desc.kind != Kind::Gauge {
                if retired.is_empty() {
                    *retired = vec![0; desc.cells()].into();
                }
                fold(desc, retired, cells);
            }
            !orphan
        });
        let mut totals = if retired.is_empty() { vec![0; desc.cells()].into() } else { retired.clone() };
        for (_, cells) in &self.cells {
            fold(desc, &mut totals, cells);
        }
        totals
    }

    fn judge(&mut self, desc: &Desc, moment: Moment, totals: &[u64]) -> Fate {
        let mark = match desc.kind {
            Kind::Counter | Kind::Gauge => totals[0],
            Kind::Histogram => totals[1..].iter().sum(),
        };
        self.used |= mark != 0;
        let changed = match self.changed {
            Some(changed) if mark == self.last => changed,
            _ => moment.now,
        };
        self.changed = Some(changed);
        self.last = mark;
        let held = !self.cells.is_empty();
        let idle = moment.now.saturating_duration_since(changed) >= moment.idle;
        let fate = match desc.kind {
            // A gauge tells what is: five connections that stay five are no less true after an hour.
            Kind::Gauge if held => Fate::Show,
            Kind::Gauge => Fate::Free,
            _ if !idle || (held && desc.keep) => Fate::Show,
            _ if held => Fate::Hide,
            _ => Fate::Free,
        };
        self.hidden = !matches!(fate, Fate::Show);
        fate
    }
}

fn cells_of(list: &mut Vec<(u32, Cells)>, shard: u32, desc: &Desc) -> Cells {
    if let Some((_, cells)) = list.iter().find(|(id, _)| *id == shard) {
        return cells.clone();
    }
    let cells: Cells = (0..desc.cells()).map(|_| AtomicU64::new(0)).collect();
    // Most series are known to one shard, and there are many of them.
    list.reserve_exact(1);
    list.push((shard, cells.clone()));
    cells
}

/// Adds the cells of one shard; the first cell of a gauge or histogram is a float.
fn fold(desc: &Desc, into: &mut [u64], cells: &[AtomicU64]) {
    for (at, (total, cell)) in into.iter_mut().zip(cells).enumerate() {
        let more = cell.load(Relaxed);
        *total = if at == 0 && desc.kind != Kind::Counter {
            (f64::from_bits(*total) + f64::from_bits(more)).to_bits()
        } else {
            total.wrapping_add(more)
        };
    }
}

fn value(desc: &Desc, totals: &[u64]) -> Value {
    match desc.kind {
        Kind::Counter => Value::Integer(totals[0]),
        Kind::Gauge => Value::Float(f64::from_bits(totals[0])),
        Kind::Histogram => Value::Histogram { sum: f64::from_bits(totals[0]), counts: totals[1..].into() },
    }
}
