//! Opening connections to endpoints, as many as the limits of their cluster allow.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};

use crate::choose::Choice;
use crate::failure::Reason;
use crate::h1::stream::Stream;
use crate::keepalive;
use crate::limits::Held;
use crate::line::{Asked, Leave, Line, Turn};
use crate::pool::{Counted, Upstream};
use crate::proxy_protocol::{self, Ends};
use crate::record::{HeldGauge, Raised};
use crate::worker::{Worker, WorkerCluster};

/// Small writes leave at once; a peer that vanished is noticed. A socket that refuses an option still works.
///
/// The limit on unacknowledged bytes counts for questions that get no answer as well, however many are allowed.
fn set_options(socket: &TcpStream, cluster: Option<&WorkerCluster>) {
    let _ = socket.set_nodelay(true);
    let options = socket2::SockRef::from(socket);
    let asked = cluster.and_then(|cluster| cluster.live.model.pool.keepalive);
    let _ = options.set_tcp_keepalive(&keepalive::options(asked));
    let _ = options.set_tcp_user_timeout(Some(USER_TIMEOUT));
}

/// Longest time that sent bytes may stay without acknowledgement; Linkerd's value.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Opens a connection, from a local address of ours where the upstream is to know us by it.
async fn dial(address: SocketAddr, source: Option<IpAddr>) -> std::io::Result<TcpStream> {
    let Some(source) = source.filter(|source| reaches(*source, address.ip())) else {
        return TcpStream::connect(address).await;
    };
    let socket = if source.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.bind(SocketAddr::new(source, 0))?;
    socket.connect(address).await
}

/// Whether a connection from one address to another can be: from loopback there is no way out of the machine.
fn reaches(source: IpAddr, to: IpAddr) -> bool {
    source.is_ipv4() == to.is_ipv4() && (to.is_loopback() || !source.is_loopback())
}

/// A connection to a chosen endpoint for one request of HTTP/1; `ends` are those of the client it is for. Where the limit on
/// connections made the request wait, it may be one that served others before, unless it must be `fresh`.
pub(crate) async fn connect(
    worker: &Worker,
    choice: &Choice<'_>,
    cluster: Option<&WorkerCluster>,
    ends: Option<&Rc<Ends>>,
    fresh: bool,
) -> Result<Box<Upstream>, Reason> {
    let Some(limited) = cluster else { return open(worker, choice, None, ends, None).await };
    let _pending = Pending::begin(worker, limited)?;
    let fresh = fresh || limited.live.model.proxy_protocol.is_some();
    let line = worker.pool.line(choice.state.id);
    let leave = loop {
        match turn(worker, limited, &line, || worker.pool.take(choice.state.id, worker.clock.now_ms())).await {
            Turn::Open(leave) => break leave,
            // One that names its client is needed, or one that nobody used; this one makes room for it.
            Turn::Given(kept) if fresh => drop(kept),
            Turn::Given(kept) => return Ok(kept),
        }
    };
    let upstream = open(worker, choice, cluster, ends, Some(leave)).await?;
    limited.stats.connected(&worker.recorder.shard, false);
    Ok(upstream)
}

/// A connection to a chosen endpoint whose bytes are relayed. It is not waited for: those that are open may last for days.
pub(crate) async fn connect_relayed(
    worker: &Worker,
    choice: &Choice<'_>,
    cluster: Option<&WorkerCluster>,
    ends: Option<&Rc<Ends>>,
) -> Result<Box<Upstream>, Reason> {
    let Some(limited) = cluster else { return open(worker, choice, None, ends, None).await };
    let Some(slot) = limited.live.limits.slot() else {
        limited.limit_stats.connections_overflow(&worker.recorder.shard);
        return Err(Reason::Overflow("maxConnections"));
    };
    let _pending = Pending::begin(worker, limited)?;
    open(worker, choice, cluster, ends, Some(Leave::alone(slot))).await
}

/// Leave to open a connection of a line, or one there is, waited for where the limit is reached; `idle` is asked for one
/// before.
pub(crate) async fn turn<T: 'static>(
    worker: &Worker,
    cluster: &WorkerCluster,
    line: &Rc<Line<T>>,
    idle: impl FnOnce() -> Option<T>,
) -> Turn<T> {
    let limits = &cluster.live.limits;
    let asked = line.ask(limits);
    if let Asked::Room(leave) = asked {
        return Turn::Open(leave);
    }
    cluster.limit_stats.connections_overflow(&worker.recorder.shard);
    match asked {
        Asked::Room(leave) | Asked::Regardless(leave) => Turn::Open(leave),
        Asked::Full => match idle() {
            Some(idle) => Turn::Given(idle),
            // Apart: few requests ever wait.
            None => Box::pin(line.turn(limits)).await,
        },
    }
}

/// Counts a request that has no connection yet.
pub(crate) struct Pending<'c> {
    _held: Held<'c>,
    _gauge: Raised<'c>,
}

impl<'c> Pending<'c> {
    /// Begins to, if the limit lets it wait.
    pub(crate) fn begin(worker: &Worker, cluster: &'c WorkerCluster) -> Result<Self, Reason> {
        let (stats, shard) = (&cluster.limit_stats, &worker.recorder.shard);
        match cluster.live.limits.admit_pending(&cluster.live.model.pool) {
            Ok(held) => Ok(Self { _held: held, _gauge: stats.pending(shard) }),
            Err(reason) => {
                stats.pending_overflow(shard);
                Err(reason)
            }
        }
    }
}

/// Admits a request that has a connection, until the result is dropped.
pub(crate) fn admit<'c>(worker: &Worker, cluster: &'c WorkerCluster) -> Result<Option<Held<'c>>, Reason> {
    let admitted = cluster.live.limits.admit_request(&cluster.live.model.pool);
    if admitted.is_err() {
        cluster.limit_stats.requests_overflow(&worker.recorder.shard);
    }
    admitted
}

/// Opens a connection that the limits allow.
pub(crate) async fn open(
    worker: &Worker,
    choice: &Choice<'_>,
    cluster: Option<&WorkerCluster>,
    ends: Option<&Rc<Ends>>,
    leave: Option<Leave>,
) -> Result<Box<Upstream>, Reason> {
    let address = choice.state.next_address();
    if worker.shared.is_own_address(address) {
        return Err(Reason::Loop);
    }
    let stats = cluster.map(|c| &c.stats);
    let socket = match tokio::time::timeout(choice.connect_timeout, dial(address, worker.shared.source)).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(_)) => {
            if let Some(stats) = stats {
                stats.connect_failures.inc();
            }
            return Err(Reason::ConnectFailure);
        }
        Err(_) => {
            if let Some(stats) = stats {
                stats.connect_timeouts.inc();
                stats.connect_failures.inc();
            }
            return Err(Reason::ConnectTimeout);
        }
    };
    if let Some(stats) = stats {
        stats.connections_total.inc();
    }
    set_options(&socket, cluster);
    let counted = Counted { _gauge: stats.map(|s| HeldGauge::new(&s.connections_active)), _leave: leave };
    let lasts = cluster.and_then(|c| c.live.model.pool.connection_duration_max);
    let expires_ms = lasts.map_or(u64::MAX, |lasts| worker.clock.now_ms().saturating_add(lasts.as_millis() as u64));
    let mut stream = Stream::new(socket, &worker.clock);
    let is_private = proxy_protocol::announce(worker, &mut stream, cluster, ends).await?;
    Ok(Box::new(Upstream { stream, served: 0, is_private, expires_ms, counted }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_source_is_for_loopback_alone() {
        for (source, to, want) in [
            ("127.0.1.7", "127.0.1.8", true),
            ("127.0.1.7", "192.0.2.1", false),
            ("10.0.0.1", "192.0.2.1", true),
            ("10.0.0.1", "127.0.0.1", true),
            ("127.0.1.7", "::1", false),
        ] {
            assert_eq!(reaches(source.parse().unwrap(), to.parse().unwrap()), want, "{source} to {to}");
        }
    }
}
