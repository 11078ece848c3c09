//! WebSocket over HTTP/1.1 (RFC 6455): which requests may ask for it, which answers grant it, and the bytes after that.
//!
//! An upgrade is the one way in which bytes behind a request stop being HTTP, so both sides must mean the same. A request
//! asks for WebSocket if it is all that RFC 6455 §4.1 demands: a GET of HTTP/1.1 without body, version 13, a key, and one
//! `Upgrade` that says `websocket` and nothing else. Any other goes on as plain HTTP, its `Upgrade` taken out. What a
//! client sends before the answer waits: only a 101 makes it WebSocket, after any other answer it is the next request.
//!
//! The time limits of the route end with the head of the answer; from there on a limit on silence applies. Copies and
//! resends do not apply to an upgrade, and its connection to the instance is its own from the beginning.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use httparse::Header;
use outrigger_model::Direction;

use crate::cluster::EndpointState;
use crate::h1::body::Framing;
use crate::h1::head::{RequestHead, ResponseHead, Version};
use crate::h1::stream::Stream;
use crate::headers::write_field;
use crate::plan::{Client, Exchange};
use crate::pool::Upstream;
use crate::record::{Connection, EndpointStats, Outcome, Raised, Side};
use crate::tcp;
use crate::worker::{Worker, WorkerCluster};

/// The instance's end of a connection that is HTTP no more.
pub(crate) struct Upgraded {
    pub(crate) upstream: Upstream,
    /// The endpoint it leads to.
    pub(crate) state: Arc<EndpointState>,
}

/// An exchange that goes on as another protocol, and what is needed to count it at its end. It holds no policy: it may
/// outlive many.
pub(crate) struct Tunnel {
    pub(crate) upgraded: Upgraded,
    pub(crate) direction: Direction,
    pub(crate) cluster: Option<Rc<WorkerCluster>>,
    pub(crate) endpoint: Rc<EndpointStats>,
    pub(crate) started: Instant,
    /// How long nothing may happen on it.
    pub(crate) idle_timeout: Duration,
    /// The exchange until now.
    pub(crate) outcome: Outcome,
}

/// Whether a request asks for WebSocket.
pub(crate) fn is_asked(head: &RequestHead<'_>) -> bool {
    let Some(protocol) = only(head.headers, "upgrade") else { return false };
    protocol.eq_ignore_ascii_case(b"websocket")
        && head.method == "GET"
        && head.version == Version::Http11
        && matches!(head.framing, Framing::None | Framing::Length(0))
        && names_upgrade(head.headers)
        && only(head.headers, "sec-websocket-version") == Some(b"13")
        && only(head.headers, "sec-websocket-key").is_some_and(|key| !key.is_empty())
}

/// Judges an answer; the rule it breaks if it changes the protocol unasked, or to another.
pub(crate) fn check(exchange: &Exchange, answer: &ResponseHead<'_>) -> Result<(), &'static str> {
    if answer.status != 101 {
        return Ok(());
    }
    if !exchange.asks_upgrade {
        return Err("unasked_upgrade");
    }
    let protocol = only(answer.headers, "upgrade");
    let is_granted = protocol.is_some_and(|p| p.eq_ignore_ascii_case(b"websocket")) && names_upgrade(answer.headers);
    if is_granted { Ok(()) } else { Err("other_upgrade") }
}

/// Writes the fields by which an upgrade is asked for, and granted.
pub(crate) fn write_fields(out: &mut Vec<u8>) {
    write_field("connection", b"Upgrade", out);
    write_field("upgrade", b"websocket", out);
}

/// The value of a field that stands there once.
fn only<'b>(headers: &[Header<'b>], name: &str) -> Option<&'b [u8]> {
    let mut found = headers.iter().filter(|h| h.name.len() == name.len() && h.name.eq_ignore_ascii_case(name));
    let first = found.next()?;
    found.next().is_none().then_some(first.value)
}

/// Whether `Connection` names `upgrade`.
fn names_upgrade(headers: &[Header<'_>]) -> bool {
    let values = headers.iter().filter(|h| h.name.len() == 10 && h.name.eq_ignore_ascii_case("connection"));
    values.flat_map(|h| h.value.split(|&b| b == b',')).any(|o| o.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

/// Relays the bytes of both sides, those that came with the heads first, and counts the exchange at its end.
pub(crate) async fn relay(worker: &Worker, client: &mut Stream, who: &Client, tunnel: Tunnel) {
    let Tunnel { upgraded, direction, cluster, endpoint, started, idle_timeout, mut outcome } = tunnel;
    let Upgraded { mut upstream, state } = upgraded;
    let side = Side { direction: &direction, peer: who.workload.as_ref() };
    let stats = cluster.as_ref().map(|cluster| &cluster.stats);
    let _active = Raised::new(&worker.recorder.downstream(&direction).requests_active);
    let _of_cluster = stats.map(|stats| Raised::new(&stats.requests_active));
    let _of_endpoint = state.go_on();
    let connection = Connection::open(&worker.recorder, side, &endpoint);
    let keepalive = cluster.as_ref().and_then(|cluster| cluster.live.model.pool.keepalive);
    let silence = tcp::Silence { timeout: idle_timeout, keepalive };
    if let Err(end) = tcp::both_ways(worker, client, &mut upstream.stream, &connection, silence).await {
        connection.flag.set(end.flag());
        client.cut();
        upstream.stream.cut();
    }
    outcome.flag = connection.flag.get();
    outcome.bytes_received += connection.received.total();
    outcome.bytes_sent += connection.sent.total();
    outcome.duration = started.elapsed();
    worker.recorder.exchange(side, &outcome, stats, &endpoint);
}
