//! Outlier detection, as Envoy does it: endpoints that fail are left out for a while.
//!
//! Workers count what becomes of their tries into the [`Monitor`] of an endpoint ([`Outliers::tried`]). A run of failures that
//! reaches its limit is put to the [`Book`] of the cluster at once, under a lock that is otherwise free: it alone ejects. A
//! sweep every `interval` compares rates, ends ejections and lowers multipliers; it runs on a thread of its own (`sweeper`).
//!
//! What is counted belongs to the cluster and outlives snapshots. An endpoint keeps its counts and its ejection for as long as
//! its address stays; a rule that goes takes all ejections with it.
//!
//! Where this is not Envoy's code: an ejection takes effect with the failure that causes it and not a moment later on another
//! thread, a gRPC status in the trailers counts like one in the head, and an endpoint that both rates condemn in one sweep is
//! ejected once.

mod book;
mod collect;
mod monitor;
mod news;
mod rates;
mod report;
mod verdict;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use outrigger_model::{Cluster, ClusterName, OutlierDetection};

use crate::cluster::EndpointState;
use crate::sweeper::Chore;
use crate::trial::Trial;
use book::Book;
pub(crate) use collect::collect;
pub(crate) use monitor::Monitor;
use news::News;
pub(crate) use report::report;
pub use report::{EjectionReport, OutlierReport};
use verdict::Verdict;

/// Why an endpoint is ejected, in Envoy's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EjectionReason {
    /// So many answers of 5xx, or failures, in a row.
    Consecutive5xx,
    /// So many of 502, 503 and 504, or failures that count as such, in a row.
    ConsecutiveGatewayFailure,
    /// So many failures in a row that the endpoint has not told itself.
    ConsecutiveLocalOriginFailure,
    /// Its success rate is far below that of the others.
    SuccessRate,
    /// It is reached far less often than the others.
    LocalOriginSuccessRate,
    /// Too large a share of its answers are failures.
    FailurePercentage,
    /// Too large a share of tries do not reach it.
    LocalOriginFailurePercentage,
}

impl EjectionReason {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Consecutive5xx,
        Self::ConsecutiveGatewayFailure,
        Self::ConsecutiveLocalOriginFailure,
        Self::SuccessRate,
        Self::LocalOriginSuccessRate,
        Self::FailurePercentage,
        Self::LocalOriginFailurePercentage,
    ];

    /// As in the names of Envoy's metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consecutive5xx => "consecutive_5xx",
            Self::ConsecutiveGatewayFailure => "consecutive_gateway_failure",
            Self::ConsecutiveLocalOriginFailure => "consecutive_local_origin_failure",
            Self::SuccessRate => "success_rate",
            Self::LocalOriginSuccessRate => "local_origin_success_rate",
            Self::FailurePercentage => "failure_percentage",
            Self::LocalOriginFailurePercentage => "failure_percentage_local_origin",
        }
    }
}

/// Outlier detection of one cluster under the rule of one snapshot.
#[derive(Debug)]
pub(crate) struct Outliers {
    rule: OutlierDetection,
    shared: Arc<Shared>,
}

/// What outlives snapshots.
#[derive(Debug)]
pub(crate) struct Shared {
    cluster: ClusterName,
    desk: Mutex<Desk>,
    /// Picks while too few endpoints were available.
    panics: AtomicU64,
    /// What was told, for tests.
    #[cfg(test)]
    told: Mutex<Vec<News>>,
}

/// The book, and the dice of its decisions.
#[derive(Debug)]
struct Desk {
    book: Book,
    rng: fastrand::Rng,
}

impl Outliers {
    /// That of a cluster as a snapshot describes it now; `None` where it has none. What was counted before stays.
    pub(crate) fn of(model: &Cluster, previous: Option<&Arc<Self>>, now: Instant) -> Option<Arc<Self>> {
        let Some(rule) = &model.outlier else {
            if let Some(previous) = previous {
                previous.shared.change(|book, _, news| book.close(now, news));
            }
            return None;
        };
        if let Some(previous) = previous.filter(|previous| previous.rule == *rule) {
            return Some(previous.clone());
        }
        let shared = match previous {
            Some(previous) => {
                previous.shared.change(|book, _, news| book.set_rule(rule, now, news));
                previous.shared.clone()
            }
            None => Arc::new(Shared::new(model.name.clone(), rule, now, fastrand::Rng::new())),
        };
        Some(Arc::new(Self { rule: rule.clone(), shared }))
    }

    /// Takes the endpoints that its cluster has now; others are forgotten.
    pub(crate) fn set_members(&self, hosts: &[Arc<EndpointState>]) {
        self.shared.change(|book, _, _| book.set_members(hosts));
    }

    /// Notes what became of a try at one of its endpoints.
    pub(crate) fn tried(&self, endpoint: &EndpointState, trial: Trial, now: Instant) {
        let Some(monitor) = &endpoint.monitor else { return };
        let rule = &self.rule;
        match verdict::of(trial, &rule.error_codes) {
            Verdict::Nothing => {}
            Verdict::Answer(code) => {
                if rule.split_local_origin {
                    monitor.reached_it(rule);
                }
                self.external(monitor, code, now);
            }
            Verdict::Failure { connected, .. } if rule.split_local_origin => {
                if connected {
                    // Envoy notes that a request got a connection before it knows what becomes of the request.
                    monitor.reached_it(rule);
                }
                if monitor.did_not_reach_it(rule) {
                    self.put_forward(monitor, EjectionReason::ConsecutiveLocalOriginFailure, now);
                }
            }
            Verdict::Failure { code, .. } => self.external(monitor, code, now),
        }
    }

    /// Counts an answer, or a failure as the answer that the client got for it.
    fn external(&self, monitor: &Monitor, code: u16, now: Instant) {
        if code < 500 {
            return monitor.succeeded(&self.rule);
        }
        let full = monitor.failed(code, &self.rule);
        // In this order, as in Envoy: of two limits that are reached at once the first one ejects.
        if full.gateway {
            self.put_forward(monitor, EjectionReason::ConsecutiveGatewayFailure, now);
        }
        if full.errors {
            self.put_forward(monitor, EjectionReason::Consecutive5xx, now);
        }
    }

    #[cold]
    fn put_forward(&self, monitor: &Monitor, reason: EjectionReason, now: Instant) {
        self.shared.change(|book, rng, news| book.detected(monitor, reason, now, rng, news));
    }

    /// Ends the ejection of an endpoint now; whether it was ejected.
    pub(crate) fn reset(&self, endpoint: &EndpointState, now: Instant) -> bool {
        self.shared.change(|book, _, news| book.reset(endpoint.id, now, news))
    }

    /// The share of available endpoints, in percent, below which a level of priority is in panic; 0: never.
    pub(crate) fn panic_percent(&self) -> u32 {
        self.rule.health_percent_min.min(100)
    }

    /// Counts a pick from a level in panic.
    pub(crate) fn picked_in_panic(&self) {
        self.shared.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// What the thread of sweeps looks after.
    pub(crate) fn chore(&self) -> Arc<dyn Chore> {
        self.shared.clone()
    }
}

impl Shared {
    fn new(cluster: ClusterName, rule: &OutlierDetection, now: Instant, rng: fastrand::Rng) -> Self {
        let desk = Mutex::new(Desk { book: Book::new(rule, now), rng });
        Self {
            cluster,
            desk,
            panics: AtomicU64::new(0),
            #[cfg(test)]
            told: Mutex::default(),
        }
    }

    /// Writes into the book, and tells what happened when the lock is free again.
    fn change<T>(&self, write: impl FnOnce(&mut Book, &mut fastrand::Rng, &mut Vec<News>) -> T) -> T {
        let mut news = Vec::new();
        let result = {
            let Desk { book, rng } = &mut *self.desk();
            write(book, rng, &mut news)
        };
        news.iter().for_each(|news| news.tell(&self.cluster));
        #[cfg(test)]
        self.told.lock().unwrap_or_else(PoisonError::into_inner).extend(news);
        result
    }

    /// A panic elsewhere while the lock was held leaves at worst one decision half noted; the next sweep looks at all of them.
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Chore for Shared {
    fn due(&self) -> Option<Instant> {
        self.desk().book.next_sweep()
    }

    fn run(&self, now: Instant) {
        self.change(|book, rng, news| book.sweep(now, rng, news));
    }
}

#[cfg(test)]
impl Outliers {
    /// With this `minHealthPercent`, for tests of balancing.
    pub(crate) fn for_panic(health_percent_min: u32) -> Arc<Self> {
        let rule = OutlierDetection { health_percent_min, ..testing::rule("") };
        let (name, now) = (ClusterName::new("panic"), Instant::now());
        let shared = Arc::new(Shared::new(name, &rule, now, fastrand::Rng::with_seed(0)));
        Arc::new(Self { rule, shared })
    }

    /// How many picks found too few endpoints available.
    pub(crate) fn picks_in_panic(&self) -> u64 {
        self.shared.panics.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
