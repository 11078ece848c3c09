//! What a running proxy tells about itself: clusters and endpoints with their load.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use outrigger_model::{Cluster, Endpoint};

use crate::cluster::{EndpointState, LiveCluster};
use crate::drains::Drains;
use crate::outlier::{self, OutlierReport};
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
    /// What outlier detection knows of it; `None` where nobody looks for outliers.
    pub outlier: Option<OutlierReport>,
    /// Until when it is drained by hand.
    pub drained_until: Option<Instant>,
}

impl EndpointReport {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.endpoint.address
    }
}

/// All clusters, by name.
pub(crate) fn clusters(policy: &Policy, drains: &Drains) -> Vec<ClusterReport> {
    let now = Instant::now();
    let mut reports: Vec<ClusterReport> = policy.clusters.values().map(|live| cluster(live, drains, now)).collect();
    reports.sort_by(|a, b| a.cluster.name.cmp(&b.cluster.name));
    reports
}

fn cluster(live: &LiveCluster, drains: &Drains, now: Instant) -> ClusterReport {
    let outliers = outlier::report(live);
    let endpoint = |(host, outlier): (&Arc<EndpointState>, Option<OutlierReport>)| EndpointReport {
        endpoint: host.endpoint.clone(),
        host: host.host().cloned(),
        active_requests: host.active(),
        requests_begun: host.begun(),
        is_available: host.is_available(now),
        outlier,
        drained_until: drains.until(&live.model.name, host.endpoint.address),
    };
    let endpoints = live.hosts.iter().zip(outliers).map(endpoint).collect();
    ClusterReport { cluster: live.model.clone(), endpoints }
}
