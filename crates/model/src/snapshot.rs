//! The whole of what one proxy must obey.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::{Cluster, ClusterName, Listener, Network, Workload};

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
    /// Listeners, by unique names. What a socket is bound for and not among them is closed to clients.
    pub listeners: Vec<Arc<Listener>>,
    /// Which of them serve connections that the system has redirected to the proxy, by where these were to go. The first
    /// that fits counts; what fits none is served by the listener of the socket.
    pub captures: Arc<[Capture]>,
    /// Clusters by name.
    pub clusters: HashMap<ClusterName, Arc<Cluster>>,
    /// Who is behind an address: the source of what comes in.
    pub peers: Arc<HashMap<IpAddr, Arc<Workload>>>,
    /// Services for the start-up report, sorted by namespace and name.
    pub services: Vec<ServiceSummary>,
}

impl Snapshot {
    /// The listener of a name.
    pub fn listener(&self, name: &str) -> Option<&Arc<Listener>> {
        self.listeners.iter().find(|listener| &*listener.name == name)
    }
}

/// Connections that were to go somewhere else (`SO_ORIGINAL_DST`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// The listener of the socket that takes them.
    pub socket: Arc<str>,
    /// Where they were to go; empty: anywhere.
    pub addresses: Vec<Network>,
    /// The port they were to go to; 0: any.
    pub port: u16,
    /// The listener that serves them.
    pub listener: Arc<str>,
}

/// Mesh-wide settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mesh {
    /// `trustDomain`, `cluster.local`.
    pub trust_domain: Arc<str>,
    /// Suffix of service names, `cluster.local`.
    pub domain: Arc<str>,
    /// How long a client may be silent where its first bytes decide what it speaks; `None`: the proxy's default.
    pub detect_timeout: Option<Duration>,
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
