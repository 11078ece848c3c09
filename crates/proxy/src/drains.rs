//! Endpoints that an operator has taken out by hand, each for a time.
//!
//! A drain belongs to a cluster and an address, not to an endpoint of one snapshot: it holds when the endpoint goes and comes
//! back, and ends by itself. Requests on their way are not touched.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use outrigger_model::ClusterName;

use crate::health::{Health, Out};
use crate::policy::Policy;
use crate::sweeper::Chore;

/// The drains of one proxy.
#[derive(Debug, Default)]
pub(crate) struct Drains(Mutex<HashMap<(ClusterName, SocketAddr), Drain, foldhash::fast::RandomState>>);

#[derive(Debug)]
struct Drain {
    until: Instant,
    /// The endpoint's, while the policy has it.
    health: Option<Arc<Health>>,
}

/// Why an endpoint cannot be drained, or an ejection not be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointError {
    /// There is no cluster of this name.
    NoCluster,
    /// The cluster has no endpoint with this address.
    NoEndpoint,
    /// So many are drained already.
    TooMany,
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCluster => f.write_str("no cluster has this name; /clusters lists all of them"),
            Self::NoEndpoint => {
                f.write_str("the cluster has no endpoint with this address; /clusters lists its endpoints")
            }
            Self::TooMany => write!(f, "{} endpoints are drained already; restore some of them", Drains::MAX),
        }
    }
}

impl std::error::Error for EndpointError {}

impl Drains {
    /// Drains at one time. Many more than an operator would ask for by hand.
    const MAX: usize = 1000;

    /// Drains an endpoint of the policy until then; a drain that it has already is replaced.
    pub(crate) fn add(
        &self,
        policy: &Policy,
        cluster: &str,
        address: SocketAddr,
        until: Instant,
        now: Instant,
    ) -> Result<(), EndpointError> {
        let live = policy.clusters.get(cluster).ok_or(EndpointError::NoCluster)?;
        let host = live.hosts.iter().find(|host| host.endpoint.address == address).ok_or(EndpointError::NoEndpoint)?;
        let key = (live.model.name.clone(), address);
        let mut table = self.table();
        if table.len() >= Self::MAX && !table.contains_key(&key) {
            return Err(EndpointError::TooMany);
        }
        host.health.set(Out::Drained, true);
        table.insert(key, Drain { until, health: Some(host.health.clone()) });
        let (pod, seconds) = (&*host.endpoint.workload.pod, until.saturating_duration_since(now).as_secs_f64());
        tracing::warn!(cluster, %address, pod, seconds, "endpoint drained by hand");
        Ok(())
    }

    /// Ends a drain; whether there was one.
    pub(crate) fn remove(&self, cluster: &str, address: SocketAddr) -> bool {
        let mut table = self.table();
        let key = table.keys().find(|(name, at)| name.as_str() == cluster && *at == address).cloned();
        let Some(drain) = key.and_then(|key| table.remove(&key)) else { return false };
        drain.end();
        tracing::warn!(cluster, %address, why = "restored by hand", "endpoint no longer drained");
        true
    }

    /// Takes out what is drained in a policy that is about to come into force.
    pub(crate) fn apply(&self, policy: &Policy) {
        for ((cluster, address), drain) in self.table().iter_mut() {
            let live = policy.clusters.get(cluster);
            let host = live.and_then(|live| live.hosts.iter().find(|host| host.endpoint.address == *address));
            drain.health = host.map(|host| host.health.clone());
            if let Some(health) = &drain.health {
                health.set(Out::Drained, true);
            }
        }
    }

    /// When the drain of an endpoint ends.
    pub(crate) fn until(&self, cluster: &ClusterName, address: SocketAddr) -> Option<Instant> {
        let table = self.table();
        // Mostly there are none, and names need not be copied to find that out.
        if table.is_empty() { None } else { table.get(&(cluster.clone(), address)).map(|drain| drain.until) }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<(ClusterName, SocketAddr), Drain, foldhash::fast::RandomState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drain {
    fn end(&self) {
        if let Some(health) = &self.health {
            health.set(Out::Drained, false);
        }
    }
}

impl Chore for Drains {
    fn due(&self) -> Option<Instant> {
        self.table().values().map(|drain| drain.until).min()
    }

    fn run(&self, now: Instant) {
        self.table().retain(|(cluster, address), drain| {
            let holds = drain.until > now;
            if !holds {
                drain.end();
                tracing::info!(%cluster, %address, why = "its time is over", "endpoint no longer drained");
            }
            holds
        });
    }
}
