//! `--echo`: an echo server for every loopback endpoint of the configuration, started and stopped as it changes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use outrigger_model::{Cluster, Endpoint, Snapshot, Workload};
use tokio::sync::watch;

use crate::echo::{EchoServer, FailureCounts, Identity, Listen, Speaks};

/// The echo servers that run, by address.
#[derive(Default)]
pub(super) struct Backends {
    running: Mutex<HashMap<SocketAddr, Running>>,
    counts: Arc<FailureCounts>,
}

struct Running {
    identity: Identity,
    stop: watch::Sender<bool>,
}

impl Backends {
    /// Starts what the snapshot has and is not there, stops what it has no longer. An address that cannot be bound is
    /// told and left to whoever listens there. Must be called on the event loop.
    pub(super) fn follow(&self, snapshot: &Snapshot) {
        let wanted = wanted(snapshot);
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|address, server| {
            let stays = wanted.get(address) == Some(&server.identity);
            if !stays {
                server.stop.send_replace(true);
            }
            stays
        });
        for (address, identity) in wanted {
            if running.contains_key(&address) {
                continue;
            }
            let listen = Listen { address, identity: identity.clone(), container_port: None, speaks: Speaks::Http };
            match EchoServer::bind(vec![listen], self.counts.clone()) {
                Ok(server) => {
                    let (stop, stopped) = watch::channel(false);
                    tokio::spawn(async move {
                        if let Err(error) = server.serve(stopped).await {
                            tracing::error!(%address, %error, "an echo server broke down");
                        }
                    });
                    running.insert(address, Running { identity, stop });
                }
                Err(error) => tracing::warn!("no echo server: {error}"),
            }
        }
    }

    /// Stops all of them.
    pub(super) fn stop(&self) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clear();
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
    let known = |text: &str| if text == Workload::UNKNOWN { String::new() } else { text.to_owned() };
    Identity {
        service: cluster.service.name.to_string(),
        namespace: cluster.service.namespace.to_string(),
        pod: workload.pod.to_string(),
        container: "echo".to_owned(),
        version: known(&workload.version),
    }
}
