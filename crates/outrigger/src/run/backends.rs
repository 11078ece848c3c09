//! `--echo`: an echo server for every loopback endpoint of the configuration, started and stopped as it changes.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use outrigger_model::{Cluster, Endpoint, Snapshot, Workload};

use super::echoes::{Echo, Echoes};
use crate::echo::{Identity, Listen, Speaks};

/// The echo servers that run, by address.
#[derive(Default)]
pub(super) struct Backends {
    running: HashMap<SocketAddr, Echo>,
}

impl Backends {
    /// Starts what the snapshot has and is not there, stops what it has no longer. An address that cannot be bound is
    /// told and left to whoever listens there; those of `others` have somebody already.
    pub(super) fn follow(&mut self, snapshot: &Snapshot, others: &HashSet<IpAddr>, echoes: &Echoes) {
        let mut wanted = wanted(snapshot);
        wanted.retain(|address, _| !others.contains(&address.ip()));
        self.running.retain(|address, echo| wanted.get(address) == Some(&echo.listen.identity));
        for (address, identity) in wanted {
            if self.running.contains_key(&address) {
                continue;
            }
            let service = identity.service.clone();
            match echoes.serve(Listen { address, identity, container_port: None, speaks: Speaks::Http }) {
                Ok(echo) => drop(self.running.insert(address, echo)),
                Err(error) => tracing::warn!("no echo server at {address} for {service}: {error}"),
            }
        }
    }
}

/// Every loopback endpoint and who should answer there.
fn wanted(snapshot: &Snapshot) -> HashMap<SocketAddr, Identity> {
    // Clusters in order of name: which of two services names a shared address must not change from run to run.
    let mut clusters: Vec<&Arc<Cluster>> = snapshot.clusters.values().collect();
    clusters.sort_by(|a, b| a.name.cmp(&b.name));
    let mut wanted = HashMap::new();
    for cluster in clusters {
        for endpoint in cluster.endpoints.iter().filter(|e| e.address.ip().is_loopback()) {
            wanted.entry(endpoint.address).or_insert_with(|| identity(cluster, endpoint));
        }
    }
    wanted
}

fn identity(cluster: &Cluster, endpoint: &Endpoint) -> Identity {
    let workload = &endpoint.workload;
    Identity {
        service: cluster.service.name.to_string(),
        namespace: cluster.service.namespace.to_string(),
        pod: workload.pod.to_string(),
        container: "echo".to_owned(),
        version: known(&workload.version),
    }
}

/// A fact, empty where it is not known.
pub(super) fn known(fact: &str) -> String {
    if fact == Workload::UNKNOWN { String::new() } else { fact.to_owned() }
}
