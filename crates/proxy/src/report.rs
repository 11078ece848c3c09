//! What a running proxy tells about itself: clusters and endpoints with their load.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use outrigger_model::{Cluster, Endpoint};

use crate::policy::Policy;

/// One cluster in force.
#[derive(Clone, Debug)]
pub struct ClusterReport {
    /// What the snapshot says of it.
    pub cluster: Arc<Cluster>,
    /// Its endpoints with their load.
    pub endpoints: Vec<EndpointReport>,
}

/// One endpoint in force.
#[derive(Clone, Debug)]
pub struct EndpointReport {
    /// What the snapshot says of it.
    pub endpoint: Arc<Endpoint>,
    /// The name whose address it is, where the configuration does not say the address itself.
    pub host: Option<Arc<str>>,
    /// Requests on their way now.
    pub active_requests: u32,
    /// Requests begun since it was first seen, modulo 2^32.
    pub requests_begun: u32,
    /// Whether it may be picked.
    pub is_available: bool,
}

impl EndpointReport {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.endpoint.address
    }
}

/// All clusters, by name.
pub(crate) fn clusters(policy: &Policy) -> Vec<ClusterReport> {
    let mut reports: Vec<ClusterReport> = policy
        .clusters
        .values()
        .map(|live| ClusterReport {
            cluster: live.model.clone(),
            endpoints: live
                .hosts
                .iter()
                .map(|h| EndpointReport {
                    endpoint: h.endpoint.clone(),
                    host: h.host().cloned(),
                    active_requests: h.active(),
                    requests_begun: h.begun(),
                    is_available: h.is_available(Instant::now()),
                })
                .collect(),
        })
        .collect();
    reports.sort_by(|a, b| a.cluster.name.cmp(&b.cluster.name));
    reports
}
