//! How often the bounds of the HTTP servers were reached.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::catalogue::OUTRIGGER_LIMIT_HITS_TOTAL;
use crate::snapshot::{Collect, Families};

/// A bound of the HTTP servers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bound {
    /// `HttpLimits::connections_max`.
    Connections,
    /// `HttpLimits::head_timeout`, once a head has begun.
    HeadTimeout,
    /// `HttpLimits::head_bytes_max`.
    HeadBytes,
    /// `HttpLimits::stall_max`.
    Stall,
    /// Large answers at once.
    LargeAnswers,
    /// How long a scrape may take.
    ScrapeTimeout,
}

/// Values of the label `limit` of `outrigger_limit_hits_total`, in the order of [`Bound`].
const NAMES: [&str; 6] = [
    "admin_connections",
    "admin_head_timeout",
    "admin_head_bytes",
    "admin_slow_reader",
    "admin_large_answers",
    "admin_scrape_timeout",
];

/// Counts of the admin and metrics servers of one proxy; get it from [`super::Scraper::hits`].
#[derive(Clone, Debug, Default)]
pub struct LimitHits(Arc<[AtomicU64; NAMES.len()]>);

impl LimitHits {
    pub(super) fn count(&self, bound: Bound) {
        self.0[bound as usize].fetch_add(1, Relaxed);
    }
}

impl Collect for LimitHits {
    fn collect(&self, out: &mut Families) {
        for (name, hits) in NAMES.iter().zip(&*self.0) {
            out.counter(&OUTRIGGER_LIMIT_HITS_TOTAL, &[(*name).into()], hits.load(Relaxed));
        }
    }
}
