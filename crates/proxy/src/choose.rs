//! Choosing the endpoint of a try.

use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cluster::EndpointState;
use crate::failure::Reason;
use crate::first_answer;
use crate::forward::{Destination, Forwarding};
use crate::record::EndpointStats;
use crate::retry::Tries;
use crate::worker::{Worker, WorkerCluster};

/// One chosen endpoint.
pub(crate) struct Choice<'f> {
    pub(crate) state: Chosen<'f>,
    pub(crate) stats: Rc<EndpointStats>,
    pub(crate) connect_timeout: Duration,
}

impl Choice<'_> {
    /// Counts a request that goes over a connection, as its `number`th.
    pub(crate) fn sends(&self, worker: &Worker, cluster: Option<&WorkerCluster>, number: u32) {
        if let Some(counter) = &self.stats.requests_total {
            counter.inc();
        }
        let Some(cluster) = cluster else { return };
        cluster.stats.requests_total.inc();
        if cluster.live.model.pool.requests_per_connection_max == Some(number) {
            cluster.limit_stats.connection_spent(&worker.recorder.shard);
        }
    }
}

/// The state of a chosen endpoint. That of a cluster is borrowed: to count one more reference to it would be a write to
/// memory that all workers share.
pub(crate) enum Chosen<'f> {
    OfCluster(&'f Arc<EndpointState>),
    Dynamic(Arc<EndpointState>),
}

impl Chosen<'_> {
    /// For what outlives the request.
    pub(crate) fn shared(&self) -> Arc<EndpointState> {
        match self {
            Self::OfCluster(state) => Arc::clone(state),
            Self::Dynamic(state) => state.clone(),
        }
    }
}

impl Deref for Chosen<'_> {
    type Target = EndpointState;

    fn deref(&self) -> &EndpointState {
        match self {
            Self::OfCluster(state) => state,
            Self::Dynamic(state) => state,
        }
    }
}

/// What counts the request, why there is no endpoint, and the object at fault.
pub(crate) type NoChoice = (Rc<EndpointStats>, Reason, String);

/// Chooses the endpoint; `now` is when the request came, which is exact enough for the age of endpoints.
pub(crate) async fn choose<'f>(
    worker: &Worker,
    forwarding: &'f Forwarding,
    tries: &Tries<'_>,
    now: Instant,
) -> Result<Choice<'f>, NoChoice> {
    match &forwarding.destination {
        Destination::Cluster(cluster) if cluster.live.is_unanswered() => {
            Box::pin(first_answer::choose_in(worker, cluster, forwarding.key, now)).await
        }
        Destination::Cluster(cluster) => chosen(worker, cluster, pick(worker, cluster, forwarding.key, tries, now)),
        Destination::Pod { cluster, pod } => {
            let index = cluster.live.hosts.iter().position(|host| *host.endpoint.workload.pod == **pod);
            chosen(worker, cluster, index)
        }
        Destination::Original { cluster, host, port } => {
            let stats = cluster.no_endpoint.clone();
            let address =
                resolve(worker, host, *port).await.map_err(|reason| (stats.clone(), reason, String::new()))?;
            let state = Chosen::Dynamic(worker.dynamic_endpoint(address));
            Ok(Choice { state, stats, connect_timeout: cluster.live.model.connect_timeout })
        }
        Destination::Passthrough { host, port } => {
            let stats = worker.recorder.passthrough();
            let address =
                resolve(worker, host, *port).await.map_err(|reason| (stats.clone(), reason, String::new()))?;
            let state = Chosen::Dynamic(worker.dynamic_endpoint(address));
            Ok(Choice { state, stats, connect_timeout: PASSTHROUGH_CONNECT_TIMEOUT })
        }
    }
}

/// Picks an endpoint for a try; a retry avoids those that were tried.
fn pick(worker: &Worker, cluster: &WorkerCluster, key: Option<u64>, tries: &Tries<'_>, now: Instant) -> Option<usize> {
    let rng = &mut worker.rng.borrow_mut();
    let hosts = &cluster.live.hosts;
    if tries.leaves_localities()
        && let Some(further) = further(hosts, tries, now, rng)
    {
        return Some(further);
    }
    let mut index = cluster.pick(key, rng, now)?;
    for _ in 0..Tries::PICKS_MAX {
        if !tries.avoids(hosts[index].id) {
            break;
        }
        index = cluster.pick(key, rng, now)?;
    }
    Some(index)
}

/// An endpoint of the next failover level behind those that were tried, by weight.
fn further(hosts: &[Arc<EndpointState>], tries: &Tries<'_>, now: Instant, rng: &mut fastrand::Rng) -> Option<usize> {
    let tried = hosts.iter().filter(|host| tries.has_tried(host.id)).map(|host| host.endpoint.priority).max()?;
    let beyond = |host: &&Arc<EndpointState>| host.endpoint.priority > tried && host.is_available(now);
    let level = hosts.iter().filter(beyond).map(|host| host.endpoint.priority).min()?;
    let members = || hosts.iter().enumerate().filter(|(_, h)| h.endpoint.priority == level && h.is_available(now));
    let total: u64 = members().map(|(_, host)| u64::from(host.endpoint.weight)).sum();
    let mut at = rng.u64(0..total.max(1));
    for (index, host) in members() {
        match at.checked_sub(u64::from(host.endpoint.weight)) {
            Some(left) => at = left,
            None => return Some(index),
        }
    }
    None
}

/// Chooses among the endpoints of a cluster.
pub(crate) fn choose_in<'c>(
    worker: &Worker,
    cluster: &'c WorkerCluster,
    key: Option<u64>,
    now: Instant,
) -> Result<Choice<'c>, NoChoice> {
    let index = cluster.pick(key, &mut worker.rng.borrow_mut(), now);
    chosen(worker, cluster, index)
}

/// The address a redirected connection was to go to, under the policies of a cluster.
pub(crate) fn choose_original<'c>(
    worker: &Worker,
    cluster: &'c WorkerCluster,
    original: Option<SocketAddr>,
) -> Result<Choice<'c>, NoChoice> {
    let stats = cluster.no_endpoint.clone();
    let Some(address) = original else {
        return Err((stats, Reason::NoEndpoint, cluster.live.model.name.to_string()));
    };
    let state = Chosen::Dynamic(worker.dynamic_endpoint(address));
    Ok(Choice { state, stats, connect_timeout: cluster.live.model.connect_timeout })
}

/// The endpoint at an index, if there is one.
fn chosen<'c>(worker: &Worker, cluster: &'c WorkerCluster, index: Option<usize>) -> Result<Choice<'c>, NoChoice> {
    let Some(index) = index else {
        cluster.stats.none_healthy.inc();
        return Err((cluster.no_endpoint.clone(), Reason::NoEndpoint, cluster.live.why_empty()));
    };
    Ok(Choice {
        state: Chosen::OfCluster(&cluster.live.hosts[index]),
        stats: cluster.endpoint_stats(index, &worker.recorder),
        connect_timeout: cluster.live.model.connect_timeout,
    })
}

/// Istio's default `connectTimeout`.
const PASSTHROUGH_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The address of a host that the client named. The answer is used for this request only, so that a name cannot point
/// somewhere else between check and use.
async fn resolve(worker: &Worker, host: &str, port: u16) -> Result<SocketAddr, Reason> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, port));
    }
    let lookup = tokio::net::lookup_host((host, port));
    match tokio::time::timeout(worker.settings.resolve_timeout, lookup).await {
        Ok(Ok(mut addresses)) => addresses.next().ok_or(Reason::Unresolved),
        Ok(Err(_)) | Err(_) => Err(Reason::Unresolved),
    }
}
