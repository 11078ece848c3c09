//! Live state of clusters and endpoints: what outlives a snapshot.
//!
//! A snapshot says which endpoints there are; how loaded they are, and since when they are known, stays here and is
//! carried over when a snapshot arrives. Built on the control thread, read by all workers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use outrigger_model::{Cluster, Endpoint};

use crate::balance::HashTable;

/// One endpoint of one cluster, shared by all workers.
#[derive(Debug)]
pub(crate) struct EndpointState {
    /// Never used twice in a process: the key of pools. An address that leaves a cluster and comes back is a new
    /// endpoint, so that no connection to what listened there before is used again.
    pub(crate) id: u64,
    /// What the snapshot says of it.
    pub(crate) endpoint: Arc<Endpoint>,
    /// When it was first seen, for warm-up. A change of weight or labels does not make it young again.
    pub(crate) since: Instant,
    /// What all workers count together.
    load: Arc<Load>,
}

/// Counts over all workers: least request is only right when it is global.
///
/// Requests begun (modulo 2^32) stand in the upper half, requests on their way in the lower, so that one addition
/// counts both.
#[derive(Debug, Default)]
struct Load(AtomicU64);

impl Load {
    const BEGUN: u64 = 1 << 32;
}

/// One request on its way to an endpoint; ends when dropped.
#[derive(Debug)]
pub(crate) struct ActiveRequest<'e>(&'e Load);

/// Ids of endpoints, unique in a process.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl EndpointState {
    /// Ids from here on belong to addresses that no snapshot names.
    pub(crate) const DYNAMIC_ID_MIN: u64 = 1 << 63;

    /// An endpoint seen for the first time.
    pub(crate) fn first_seen(endpoint: Arc<Endpoint>, since: Instant) -> Self {
        Self::new(NEXT_ID.fetch_add(1, Ordering::Relaxed), endpoint, since)
    }

    /// An address that no snapshot names.
    pub(crate) fn dynamic(endpoint: Arc<Endpoint>, since: Instant) -> Self {
        Self::new(NEXT_ID.fetch_add(1, Ordering::Relaxed) | Self::DYNAMIC_ID_MIN, endpoint, since)
    }

    /// An endpoint with an id of the caller's.
    pub(crate) fn new(id: u64, endpoint: Arc<Endpoint>, since: Instant) -> Self {
        Self { id, endpoint, since, load: Arc::default() }
    }

    /// The same endpoint as a new snapshot describes it.
    fn described_by(&self, endpoint: Arc<Endpoint>) -> Self {
        Self { id: self.id, endpoint, since: self.since, load: self.load.clone() }
    }

    /// Requests on their way now.
    pub(crate) fn active(&self) -> u32 {
        self.load.0.load(Ordering::Relaxed) as u32
    }

    /// Requests begun since it was first seen, modulo 2^32: differences count.
    pub(crate) fn begun(&self) -> u32 {
        (self.load.0.load(Ordering::Relaxed) >> 32) as u32
    }

    /// Whether it may be picked. Ejection comes with outlier detection.
    pub(crate) fn is_available(&self) -> bool {
        true
    }

    /// Counts a request until the result is dropped.
    pub(crate) fn begin(&self) -> ActiveRequest<'_> {
        self.load.0.fetch_add(Load::BEGUN + 1, Ordering::Relaxed);
        ActiveRequest(&self.load)
    }

    /// Counts a request on, whose first count ends: it has become a connection of its own.
    pub(crate) fn go_on(&self) -> ActiveRequest<'_> {
        self.load.0.fetch_add(1, Ordering::Relaxed);
        ActiveRequest(&self.load)
    }
}

impl Drop for ActiveRequest<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A cluster of the snapshot in force with its live endpoints.
#[derive(Debug)]
pub(crate) struct LiveCluster {
    /// What the snapshot says of it.
    pub(crate) model: Arc<Cluster>,
    /// Its endpoints, in the snapshot's order.
    pub(crate) hosts: Arc<[Arc<EndpointState>]>,
    /// The table of a consistent hash.
    pub(crate) table: Option<Arc<HashTable>>,
}

impl LiveCluster {
    /// Reconciles a cluster with what was live under its name: the same addresses stay the same endpoints.
    pub(crate) fn reconcile(model: &Arc<Cluster>, previous: Option<&Arc<Self>>, now: Instant) -> Arc<Self> {
        if let Some(previous) = previous
            && (Arc::ptr_eq(&previous.model, model) || previous.model == *model)
        {
            return previous.clone();
        }
        // What was said at the beginning of open connections would not be what this one wants said.
        let previous = previous.filter(|previous| previous.model.proxy_protocol == model.proxy_protocol);
        let known: std::collections::HashMap<SocketAddr, &Arc<EndpointState>, foldhash::fast::FixedState> =
            previous.iter().flat_map(|p| p.hosts.iter()).map(|h| (h.endpoint.address, h)).collect();
        let hosts: Arc<[Arc<EndpointState>]> = model
            .endpoints
            .iter()
            .map(|endpoint| match known.get(&endpoint.address) {
                Some(state) if state.endpoint == *endpoint => (*state).clone(),
                Some(state) => Arc::new(state.described_by(endpoint.clone())),
                None => Arc::new(EndpointState::first_seen(endpoint.clone(), now)),
            })
            .collect();
        let table = HashTable::build(&model.balance.policy, &hosts);
        Arc::new(Self { model: model.clone(), hosts, table })
    }
}
