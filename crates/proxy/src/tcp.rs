//! Connections whose bytes are relayed as they are: a destination by weight, an endpoint by the cluster's balancer, and
//! then both ways until both sides have finished.
//!
//! Either side may finish sending and still read; that is passed on. What breaks off is passed on as a reset, so that
//! nobody takes a part for the whole. A connection on which nothing happens holds no buffer.

mod pipe;
mod pump;

use std::time::{Duration, Instant};

use outrigger_model::{BalancePolicy, ClusterName, Discovery, HashKey};

use crate::balance::{Key, hash_key};
use crate::choose::{choose_in, choose_original};
use crate::cluster::EndpointState;
use crate::connect::connect_relayed;
use crate::failure::Reason;
use crate::first_answer;
use crate::h1::stream::Stream;
use crate::plan::Client;
use crate::record::{Connection, EndpointStats, Side};
use crate::request::RequestView;
use crate::trial::Trial;
use crate::worker::{Worker, WorkerCluster};

pub(crate) use pipe::Pipes;
pub(crate) use pump::{End, Silence, both_ways};

/// Relays a client's connection, the bytes of it that were read already first.
pub(crate) async fn relay(worker: &Worker, client: &mut Stream, who: &Client) {
    let current = worker.current();
    let Some((site, _)) = current.policy.site(&who.listener) else { return };
    let chain = site.chain(who.server_name.as_deref()).map(|at| &site.chains[at]);
    let Some(table) = chain.and_then(|chain| chain.tcp.as_ref()) else { return };
    let side = Side { direction: &site.listener.direction, peer: who.workload.as_ref() };
    let destination = table.choose();
    let cluster = match destination.missing {
        None => worker.cluster(&current, &destination.cluster),
        Some(_) => None,
    };
    if destination.cluster.as_str() == ClusterName::BLACK_HOLE {
        let to = who.original().map_or_else(String::new, |to| to.to_string());
        return refuse(worker, client, side, &worker.recorder.black_hole(), (Reason::BlackHole, &to));
    }
    let Some(cluster) = cluster else {
        let stats = worker.recorder.missing(&destination.cluster);
        return refuse(worker, client, side, &stats, (Reason::NoCluster, destination.cluster.as_str()));
    };
    let chosen = match cluster.live.model.discovery {
        Discovery::OriginalDestination => choose_original(worker, &cluster, who.original()),
        _ if cluster.live.is_unanswered() => {
            Box::pin(first_answer::choose_in(worker, &cluster, key(&cluster, who), Instant::now())).await
        }
        _ => choose_in(worker, &cluster, key(&cluster, who), Instant::now()),
    };
    let choice = match chosen {
        Ok(choice) => choice,
        Err((stats, reason, cause)) => return refuse(worker, client, side, &stats, (reason, &cause)),
    };
    let _active = choice.state.begin();
    let connected = connect_relayed(worker, &choice, Some(&cluster), Some(&who.ends)).await;
    report(&cluster, &choice.state, connected.as_ref().err().copied());
    let mut upstream = match connected {
        Ok(upstream) => upstream,
        Err(reason) => {
            let cause = format!("{} at {}", destination.cluster, choice.state.endpoint.address);
            return refuse(worker, client, side, &choice.stats, (reason, &cause));
        }
    };
    let connection = Connection::open(&worker.recorder, side, &choice.stats);
    drop(current);
    let silence = silence(worker, &cluster);
    let relaying = both_ways(worker, client, &mut upstream.stream, &connection, silence);
    let ended = match cluster.live.model.pool.connection_duration_max {
        None => relaying.await,
        Some(lasts) => tokio::time::timeout(lasts, relaying).await.unwrap_or(Err(End::Age)),
    };
    if let Err(end) = ended {
        connection.flag.set(end.flag());
        client.cut();
        upstream.stream.cut();
    }
}

/// Tells outlier detection whether an endpoint took a connection.
fn report(cluster: &WorkerCluster, endpoint: &EndpointState, failed: Option<Reason>) {
    let Some(outliers) = &cluster.live.outliers else { return };
    let trial = failed.map_or(Trial::Answered { status: 200, grpc: None }, Trial::Failed);
    outliers.tried(endpoint, trial, Instant::now());
}

/// How long a connection to a cluster may be silent.
fn silence(worker: &Worker, cluster: &WorkerCluster) -> Silence {
    Silence { timeout: idle_timeout(worker, Some(cluster)), keepalive: cluster.live.model.pool.keepalive }
}

/// How long nothing may happen on a connection to a cluster; for Istio, zero is no limit.
pub(crate) fn idle_timeout(worker: &Worker, cluster: Option<&WorkerCluster>) -> Duration {
    let configured = cluster.and_then(|cluster| cluster.live.model.pool.tcp_idle_timeout);
    let timeout = configured.unwrap_or(worker.settings.tcp_idle_timeout);
    if timeout.is_zero() { FOR_EVER } else { timeout }
}

/// Longer than any connection lasts.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Resets a connection that leads nowhere. The client cannot be told why; the log and the metrics can.
fn refuse(worker: &Worker, client: &Stream, side: Side<'_>, stats: &EndpointStats, (reason, cause): (Reason, &str)) {
    let row = reason.row();
    worker.recorder.connection_failed(side, stats, row.flag);
    if worker.may_complain() {
        let (flag, advice) = (row.flag.as_str(), row.advice);
        tracing::info!(flag, destination = cause, advice, "a connection is reset; told once a second at most");
    }
    client.cut();
}

/// The hash that ties a client to an endpoint. Of what can be hashed, a connection has its address only.
pub(crate) fn key(cluster: &WorkerCluster, who: &Client) -> Option<u64> {
    let (BalancePolicy::RingHash { key, .. } | BalancePolicy::Maglev { key, .. }) = &cluster.live.model.balance.policy
    else {
        return None;
    };
    let (HashKey::SourceIp, none) = (key, b"") else { return None };
    let request = RequestView {
        method: none,
        scheme: "",
        authority: none,
        path: none,
        query: None,
        headers: &[],
        peer: who.address,
    };
    match hash_key(key, &request, who.nonce) {
        Key::Hash(hash) => Some(hash),
        Key::Issue { .. } | Key::None => None,
    }
}
