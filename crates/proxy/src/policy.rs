//! A snapshot made ready for the request path: routes indexed, clusters joined with their live endpoints.
//!
//! Compiled once on the control thread and shared by the workers; parts that did not change are shared with the policy
//! before.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use outrigger_model::{ClusterName, Listener, Snapshot, Workload};

use crate::cluster::LiveCluster;
use crate::route::Table;

/// What the workers obey.
#[derive(Debug)]
pub(crate) struct Policy {
    /// Where it came from.
    pub(crate) snapshot: Arc<Snapshot>,
    /// Routes of the outbound listener.
    pub(crate) routes: Table,
    /// Live clusters by name.
    pub(crate) clusters: HashMap<ClusterName, Arc<LiveCluster>, foldhash::fast::RandomState>,
    /// Whether clients are strangers: nobody vouches for the forwarding headers they send.
    pub(crate) clients_are_strangers: bool,
}

impl Policy {
    /// Compiles a snapshot, carrying over what is live in `previous`.
    pub(crate) fn compile(snapshot: Arc<Snapshot>, previous: Option<&Self>, now: Instant) -> Self {
        let outbound = snapshot
            .listeners
            .iter()
            .find(|l| &*l.name == Listener::OUTBOUND)
            .expect("a snapshot has an outbound listener");
        let table = outbound.route_tables().next().expect("the outbound listener speaks HTTP");
        let routes = Table::compile(table, previous.map(|p| &p.routes));
        let clusters = snapshot
            .clusters
            .iter()
            .map(|(name, model)| {
                let before = previous.and_then(|p| p.clusters.get(name));
                (name.clone(), LiveCluster::reconcile(model, before, now))
            })
            .collect();
        let clients_are_strangers = &*snapshot.workload.name == Workload::UNKNOWN;
        Self { snapshot, routes, clusters, clients_are_strangers }
    }
}
