//! The whole of what one proxy must obey.

use std::collections::HashMap;
use std::sync::Arc;

use crate::{Cluster, ClusterName, RouteTable, Workload};

/// What one proxy must obey: immutable, swapped whole. Parts that did not change are shared with the one before, so
/// that `Arc::ptr_eq` says "unchanged".
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// A fingerprint of the content, for `outrigger_config_info` and logs.
    pub version: u64,
    /// Who sends through this proxy.
    pub workload: Arc<Workload>,
    /// Mesh-wide settings that the data plane needs.
    pub mesh: Mesh,
    /// Listeners. Today one: the outbound HTTP listener, named [`Listener::OUTBOUND`].
    pub listeners: Vec<Arc<Listener>>,
    /// Clusters by name.
    pub clusters: HashMap<ClusterName, Arc<Cluster>>,
    /// Services for the start-up report, sorted by namespace and name.
    pub services: Vec<ServiceSummary>,
}

/// A listener and its routes; its address is the command line's.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Its name.
    pub name: Arc<str>,
    /// Its routes.
    pub routes: Arc<RouteTable>,
}

impl Listener {
    /// The outbound HTTP listener and forward proxy.
    pub const OUTBOUND: &'static str = "outbound";
}

/// Mesh-wide settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mesh {
    /// `trustDomain`, `cluster.local`.
    pub trust_domain: Arc<str>,
    /// Suffix of service names, `cluster.local`.
    pub domain: Arc<str>,
}

/// A service of the start-up report.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceSummary {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name; the host for a ServiceEntry.
    pub name: Arc<str>,
    /// Ports in order.
    pub ports: Vec<u16>,
    /// Ready endpoints.
    pub endpoints: usize,
}
