//! Live state of clusters and endpoints: what outlives a snapshot.
//!
//! A snapshot says which endpoints there are; how loaded they are, and since when they are known, stays here and is
//! carried over when a snapshot arrives.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use outrigger_model::Endpoint;

/// One endpoint of one cluster, shared by all workers.
#[derive(Debug)]
pub(crate) struct EndpointState {
    /// Never used twice in a process: the key of pools.
    pub(crate) id: u64,
    /// What the snapshot says of it.
    pub(crate) endpoint: Arc<Endpoint>,
    /// When it was first seen, for warm-up. A change of weight or labels does not make it young again.
    pub(crate) since: Instant,
    /// Requests on their way, over all workers: least request is only right when it is global.
    active: Arc<AtomicU32>,
}

impl EndpointState {
    /// A new endpoint.
    pub(crate) fn new(id: u64, endpoint: Arc<Endpoint>, since: Instant) -> Self {
        Self { id, endpoint, since, active: Arc::default() }
    }

    /// Requests on their way now.
    pub(crate) fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// Whether it may be picked. Ejection comes with outlier detection.
    pub(crate) fn is_available(&self) -> bool {
        true
    }
}
