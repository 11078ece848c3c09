//! Connections whose bytes are relayed as they are: a destination by weight, an endpoint by the cluster's balancer, and
//! then both ways until both sides have finished.
//!
//! Either side may finish sending and still read; that is passed on. What breaks off is passed on as a reset, so that
//! nobody takes a part for the whole. A connection on which nothing happens holds no buffer.

use std::cell::Cell;
use std::time::{Duration, Instant};

use outrigger_model::{BalancePolicy, ClusterName, Discovery, HashKey};

use crate::balance::{Key, hash_key};
use crate::failure::{Flag, Reason};
use crate::forward::{choose_in, choose_original, connect};
use crate::h1::buffer::Buffer;
use crate::h1::stream::{IoFailure, Reader, Stream, Writer};
use crate::plan::Client;
use crate::record::{Bytes, Connection, EndpointStats, Side};
use crate::request::RequestView;
use crate::worker::{Worker, WorkerCluster};

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
        let to = who.original.map_or_else(String::new, |to| to.to_string());
        return refuse(worker, client, side, &worker.recorder.black_hole(), (Reason::BlackHole, &to));
    }
    let Some(cluster) = cluster else {
        let stats = worker.recorder.missing(&destination.cluster);
        return refuse(worker, client, side, &stats, (Reason::NoCluster, destination.cluster.as_str()));
    };
    let chosen = match cluster.live.model.discovery {
        Discovery::OriginalDestination => choose_original(worker, &cluster, who.original),
        _ => choose_in(worker, &cluster, key(&cluster, who), Instant::now()),
    };
    let choice = match chosen {
        Ok(choice) => choice,
        Err((stats, reason, cause)) => return refuse(worker, client, side, &stats, (reason, &cause)),
    };
    let _active = choice.state.begin();
    let mut upstream = match connect(worker, &choice, Some(&cluster), Some(&who.ends)).await {
        Ok(upstream) => upstream,
        Err(reason) => {
            let cause = format!("{} at {}", destination.cluster, choice.state.endpoint.address);
            return refuse(worker, client, side, &choice.stats, (reason, &cause));
        }
    };
    let connection = Connection::open(&worker.recorder, side, &choice.stats);
    drop(current);
    let idle_timeout = worker.settings.tcp_idle_timeout;
    if let Err(end) = both_ways(worker, client, &mut upstream.stream, &connection, idle_timeout).await {
        connection.flag.set(end.flag());
        client.cut();
        upstream.stream.cut();
    }
}

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

/// Why a relay ended before both sides had finished.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// The client broke off, or reads no more.
    Client,
    /// The instance did.
    Upstream,
    /// Nothing happened for too long.
    Idle,
}

impl End {
    /// As it shows in metrics.
    pub(crate) fn flag(self) -> Flag {
        match self {
            Self::Client => Flag::DownstreamConnectionTermination,
            Self::Upstream => Flag::UpstreamConnectionTermination,
            Self::Idle => Flag::StreamIdleTimeout,
        }
    }
}

/// Relays until both sides have finished, or one breaks off, or nothing happens for `idle_timeout`.
pub(crate) async fn both_ways(
    worker: &Worker,
    client: &mut Stream,
    upstream: &mut Stream,
    connection: &Connection<'_>,
    idle_timeout: Duration,
) -> Result<(), End> {
    client.outlast_silence();
    upstream.outlast_silence();
    let (client_in, client_out) = client.split();
    let (upstream_in, upstream_out) = upstream.split();
    let moved_ms = Cell::new(worker.clock.now_ms());
    let pump = |source, sink, bytes| Pump { worker, source, sink, bytes, idle_timeout, moved_ms: &moved_ms };
    let up = pump(client_in, upstream_out, &connection.received);
    let down = pump(upstream_in, client_out, &connection.sent);
    tokio::try_join!(up.run(End::Client, End::Upstream), down.run(End::Upstream, End::Client)).map(|_| ())
}

/// One direction of a connection.
struct Pump<'p> {
    worker: &'p Worker,
    source: Reader<'p>,
    sink: Writer<'p>,
    bytes: &'p Bytes,
    idle_timeout: Duration,
    /// When a byte last passed, in either direction.
    moved_ms: &'p Cell<u64>,
}

impl Pump<'_> {
    /// How long a connection that does nothing keeps its buffer: the next bytes of a conversation come sooner.
    const HOLD: Duration = Duration::from_secs(1);

    /// Relays until the source has finished, and says so to the sink.
    async fn run(mut self, source: End, sink: End) -> Result<(), End> {
        let idle_timeout = self.idle_timeout;
        loop {
            let count = self.source.input.len();
            if count > 0 {
                let written = self.sink.write(self.source.input.bytes(), &[], idle_timeout).await;
                written.map_err(|failure| if let IoFailure::TimedOut = failure { End::Idle } else { sink })?;
                self.source.input.consume(count);
                self.bytes.add(count as u64);
                self.moved_ms.set(self.worker.clock.now_ms());
            }
            if count > Buffer::BLOCK_BYTES / 2 {
                self.source.input.enlarge(&self.worker.buffers);
            }
            match self.fill().await {
                Ok(()) => {}
                Err(IoFailure::Closed) => break,
                Err(IoFailure::Broken) => return Err(source),
                Err(IoFailure::TimedOut) => return Err(End::Idle),
            }
        }
        self.sink.finish(self.worker.settings.write_stall_timeout).await;
        Ok(())
    }

    /// Reads the next bytes.
    async fn fill(&mut self) -> Result<(), IoFailure> {
        let Worker { buffers, clock, .. } = self.worker;
        let idle_timeout = self.idle_timeout;
        loop {
            match self.source.fill(buffers, Buffer::LARGE_BYTES, Self::HOLD.min(idle_timeout)).await {
                Err(IoFailure::TimedOut) => {}
                ended => return ended.map(|_| ()),
            }
            let still = || Duration::from_millis(clock.now_ms() - self.moved_ms.get());
            match self.source.wait_readable(buffers, idle_timeout.saturating_sub(still())).await {
                // The other direction may have been busy meanwhile.
                Err(IoFailure::TimedOut) if still() < idle_timeout => {}
                waited => waited?,
            }
        }
    }
}
