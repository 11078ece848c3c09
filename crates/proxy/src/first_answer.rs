//! Choosing among endpoints whose names are being looked up for the first time: the request waits for the answer.
//!
//! That is so for a moment after a new name came into the configuration. Envoy holds the whole configuration back meanwhile;
//! here only those wait who want that very host.

use std::sync::Arc;
use std::time::Instant;

use crate::choose::{self, Choice, Chosen, NoChoice};
use crate::policy::Policy;
use crate::worker::{Worker, WorkerCluster};

/// Chooses among the endpoints of a cluster that is unanswered, after the first answer for its names. To be called in a box:
/// connections that never wait here need no room for it.
pub(crate) async fn choose_in<'c>(
    worker: &Worker,
    cluster: &'c WorkerCluster,
    key: Option<u64>,
    now: Instant,
) -> Result<Choice<'c>, NoChoice> {
    let Some(answered) = answered(worker, cluster).await else {
        return choose::choose_in(worker, cluster, key, now);
    };
    choose::choose_in(worker, &answered, key, now).map(|choice| Choice {
        // Of the cluster that will be in use from the next request on.
        state: Chosen::Dynamic(choice.state.shared()),
        stats: choice.stats,
        connect_timeout: choice.connect_timeout,
    })
}

/// The cluster as it is after the first answer; `None` when that takes too long, or a policy came that has no such cluster.
async fn answered(worker: &Worker, cluster: &WorkerCluster) -> Option<WorkerCluster> {
    let name = &cluster.live.model.name;
    let mut policies = worker.shared.policies.clone();
    let is_over = |policy: &Arc<Policy>| policy.clusters.get(name).is_none_or(|live| !live.is_unanswered());
    let all_names = async {
        for name in cluster.live.names() {
            name.answered().await;
        }
    };
    let first = async {
        tokio::select! {
            _ = policies.wait_for(is_over) => {}
            // Where lookups fail no policy comes.
            () = all_names => {}
        }
    };
    tokio::time::timeout(worker.settings.resolve_timeout, first).await.ok()?;
    let live = worker.shared.policies.borrow().clusters.get(name)?.clone();
    Some(WorkerCluster::new(live, &worker.recorder, cluster.budget.clone()))
}
