//! Values that are computed when somebody scrapes: membership, load, weights, shares, evenness.
//!
//! Runs on the control thread and reads what the workers publish; it never waits for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use outrigger_model::{Action, Cluster};
use outrigger_telemetry::{Collect, Families, catalogue};
use tokio::sync::watch;

use crate::balance::{expected_shares, fairness_index};
use crate::circuit;
use crate::cluster::LiveCluster;
use crate::dns::{Age, Name, Names};
use crate::labels::{cluster_labels, endpoint_labels, route_labels};
use crate::outlier;
use crate::overload::Overload;
use crate::policy::Policy;

/// The collector of one proxy.
pub(crate) struct Collector {
    policy: watch::Receiver<Arc<Policy>>,
    names: Names,
    overload: Arc<Overload>,
    history: Mutex<History>,
}

/// What each endpoint had served at earlier scrapes, oldest first.
#[derive(Default)]
struct History(HashMap<u64, Vec<(Instant, u32)>, foldhash::fast::RandomState>);

impl Collector {
    /// The window of the fairness index.
    const WINDOW: Duration = Duration::from_secs(60);
    /// Endpoints of a cluster that are told one by one; a larger cluster shows only sums.
    const ENDPOINTS_MAX: usize = 100;
    /// With more clusters than this, only those that had requests are told.
    const CLUSTERS_MAX: usize = 2000;

    /// For the proxy whose policy comes over this wire, and which shares the names and the memory.
    pub(crate) fn new(policy: watch::Receiver<Arc<Policy>>, names: Names, overload: Arc<Overload>) -> Self {
        Self { policy, names, overload, history: Mutex::default() }
    }
}

impl Collect for Collector {
    fn collect(&self, out: &mut Families) {
        let policy = self.policy.borrow().clone();
        let now = Instant::now();
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let all = policy.clusters.len() <= Self::CLUSTERS_MAX;
        let mut known = std::collections::HashSet::new();
        for cluster in policy.clusters.values() {
            let used = cluster.hosts.iter().any(|h| h.begun() > 0);
            if let Some(outliers) = cluster.outliers.as_ref().filter(|_| all || used) {
                outlier::collect(cluster, outliers, Self::ENDPOINTS_MAX, now, out);
            }
            if all || used {
                membership(&cluster.model, cluster, now, out);
                cluster.limits.collect(&cluster.model, out);
            }
            if used && cluster.hosts.len() <= Self::ENDPOINTS_MAX {
                known.extend(cluster.hosts.iter().map(|h| h.id));
                endpoints(cluster, &mut history, now, out);
            }
        }
        history.0.retain(|id, _| known.contains(id));
        let manager = [];
        out.gauge(&catalogue::ENVOY_CLUSTER_MANAGER_ACTIVE_CLUSTERS, &manager, policy.clusters.len() as f64);
        circuit::collect(&policy.circuits, now, SystemTime::now(), out);
        out.gauge(&catalogue::OUTRIGGER_OVERLOAD_LEVEL, &[], f64::from(self.overload.level() as u8));
        if let Some(ratio) = self.overload.used_ratio() {
            out.gauge(&catalogue::OUTRIGGER_OVERLOAD_MEMORY_RATIO, &[], ratio);
        }
        route_weights(&policy, out);
        if policy.has_names() {
            lookups(&self.names, &policy.names(), now, out);
        }
    }
}

fn membership(model: &Cluster, live: &LiveCluster, now: Instant, out: &mut Families) {
    let labels = [model.name.shared()];
    let healthy = live.hosts.iter().filter(|h| h.is_available(now)).count();
    out.gauge(&catalogue::ENVOY_CLUSTER_MEMBERSHIP_TOTAL, &labels, live.hosts.len() as f64);
    out.gauge(&catalogue::ENVOY_CLUSTER_MEMBERSHIP_HEALTHY, &labels, healthy as f64);
}

fn endpoints(live: &LiveCluster, history: &mut History, now: Instant, out: &mut Families) {
    let panic_percent = live.outliers.as_ref().map_or(0, |outliers| outliers.panic_percent());
    let shares = expected_shares(&live.model.balance, panic_percent, &live.hosts, now);
    let mut served = Vec::with_capacity(shares.len());
    for (host, share) in live.hosts.iter().zip(&shares) {
        let labels = endpoint_labels(&live.model, &host.endpoint);
        out.gauge(&catalogue::OUTRIGGER_ENDPOINT_ACTIVE_REQUESTS, &labels, f64::from(host.active()));
        out.gauge(&catalogue::OUTRIGGER_ENDPOINT_WEIGHT, &labels, f64::from(host.endpoint.weight));
        out.gauge(&catalogue::OUTRIGGER_ENDPOINT_EXPECTED_SHARE, &labels, *share);
        served.push(u64::from(history.served(host.id, host.begun(), now)));
    }
    let labels = cluster_labels(&live.model);
    out.gauge(&catalogue::OUTRIGGER_LB_FAIRNESS_INDEX, &labels, fairness_index(&served, &shares));
}

impl History {
    /// Requests served within the window, or since the oldest scrape that is remembered.
    fn served(&mut self, id: u64, begun: u32, now: Instant) -> u32 {
        let samples = self.0.entry(id).or_insert_with(|| vec![(now, 0)]);
        // The last sample at the far end of the window is the base; those before it say nothing more.
        let old = samples.iter().take_while(|(at, _)| now.duration_since(*at) >= Collector::WINDOW).count();
        samples.drain(..old.saturating_sub(1));
        let base = samples[0].1;
        if samples.last().is_some_and(|(at, _)| now.duration_since(*at) >= Duration::from_secs(1)) {
            samples.push((now, begun));
        }
        begun.wrapping_sub(base)
    }
}

/// Lookups of the names this proxy has. They are made once for the process, and told by every proxy that wants them.
fn lookups(all: &Names, names: &[Arc<Name>], now: Instant, out: &mut Families) {
    for name in names {
        let host = [name.host.clone()];
        out.gauge(&catalogue::OUTRIGGER_DNS_ADDRESSES, &host, name.addresses().len() as f64);
        if let Some(Age { age, is_stale }) = name.age(now) {
            out.gauge(&catalogue::OUTRIGGER_DNS_ANSWER_AGE_SECONDS, &host, age.as_secs_f64());
            out.gauge(&catalogue::OUTRIGGER_DNS_STALE, &host, f64::from(u8::from(is_stale)));
        }
        for (result, count) in name.tally.counts() {
            let labels = [name.host.clone(), result.into()];
            out.counter(&catalogue::OUTRIGGER_DNS_LOOKUPS_TOTAL, &labels, count);
        }
    }
    let (sum, counts) = all.tallies().durations();
    out.histogram(&catalogue::OUTRIGGER_DNS_LOOKUP_DURATION_SECONDS, &[], sum, &counts);
    for (limit, hits) in all.tallies().limit_hits().into_iter().filter(|(_, hits)| *hits > 0) {
        out.counter(&catalogue::OUTRIGGER_LIMIT_HITS_TOTAL, &[limit.into()], hits);
    }
}

/// The configured weight beside `outrigger_route_requests_total`, for every route that was written by somebody.
fn route_weights(policy: &Policy, out: &mut Families) {
    let mut left = Collector::CLUSTERS_MAX;
    let hosts = policy.snapshot.listeners.iter().flat_map(|l| l.route_tables()).flat_map(|t| &t.virtual_hosts);
    // Listeners for redirected connections serve virtual hosts that the outbound listener has, too.
    let mut told = std::collections::HashSet::new();
    let hosts = hosts.filter(|host| told.insert(Arc::as_ptr(host)));
    for route in hosts.flat_map(|h| &h.routes) {
        let Action::Forward(forward) = &route.action else { continue };
        if left == 0 || route.origin.as_ref().is_none_or(|o| &*o.kind == "Service") {
            continue;
        }
        left -= 1;
        for destination in &forward.destinations {
            let service = policy.clusters.get(&destination.cluster).map(|c| &c.model.service);
            if let Some(labels) = route_labels(route, destination, service) {
                out.gauge(&catalogue::OUTRIGGER_ROUTE_WEIGHT, &labels, f64::from(destination.weight));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_served_is_counted_over_the_last_minute() {
        let mut history = History::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(history.served(1, 10, at(0)), 10, "since the endpoint was first seen");
        assert_eq!(history.served(1, 30, at(15)), 30);
        assert_eq!(history.served(1, 90, at(75)), 60, "base is the scrape a minute ago");
        assert_eq!(history.served(1, 91, at(76)), 61);
        assert_eq!(history.served(1, 100, at(136)), 9);
    }
}
