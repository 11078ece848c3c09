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

use base64::Engine;
use httparse::Header;
use outrigger_model::Direction;

use crate::bridge;
use crate::bridge::tunnel::Opened;
use crate::cluster::EndpointState;
use crate::downstream::Downstream;
use crate::h1::body::Framing;
use crate::h1::head::{RequestHead, ResponseHead, Version};
use crate::h2::client::Lease;
use crate::headers::write_field;
use crate::plan::{Client, Exchange};
use crate::pool::Upstream;
use crate::record::{Connection, EndpointStats, Outcome, Raised, Side};
use crate::tcp;
use crate::worker::{Worker, WorkerCluster};

/// The instance's end of a connection that is HTTP no more.
pub(crate) struct Upgraded {
    pub(crate) upstream: UpstreamEnd,
    /// The endpoint it leads to.
    pub(crate) state: Arc<EndpointState>,
}

/// That end.
pub(crate) enum UpstreamEnd {
    /// A connection.
    Http1(Box<Upstream>),
    /// A stream of a connection that other requests share.
    Http2 {
        /// Room on that connection.
        _lease: Lease,
        opened: Opened,
    },
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
        // Over HTTP/2 only a CONNECT with this protocol has these fields: they are made of it.
        && head.version != Version::Http10
        && matches!(head.framing, Framing::None | Framing::Length(0))
        && names_upgrade(head.headers)
        && only(head.headers, "sec-websocket-version") == Some(b"13")
        && only(head.headers, "sec-websocket-key").is_some_and(|key| !key.is_empty())
}

/// Judges an answer; the rule it breaks if it changes the protocol unasked, or to another, or seems to.
pub(crate) fn check(exchange: &Exchange, answer: &ResponseHead<'_>) -> Result<(), &'static str> {
    if answer.status != 101 {
        // Over HTTP/2 any success would say that it is open (RFC 8441 §5).
        let is_misread = exchange.version == Version::Http2 && matches!(answer.status, 200..=299);
        return if exchange.asks_upgrade && is_misread { Err("ignored_upgrade") } else { Ok(()) };
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
pub(crate) async fn relay(worker: &Worker, client: &mut Downstream<'_>, who: &Client, tunnel: Tunnel) {
    let Tunnel { upgraded, direction, cluster, endpoint, started, idle_timeout, mut outcome } = tunnel;
    let Upgraded { upstream, state } = upgraded;
    let side = Side { direction: &direction, peer: who.workload.as_ref() };
    let stats = cluster.as_ref().map(|cluster| &cluster.stats);
    let _active = Raised::new(&worker.recorder.downstream(&direction).requests_active);
    let _of_cluster = stats.map(|stats| Raised::new(&stats.requests_active));
    let _of_endpoint = state.go_on();
    let _of_limit = cluster.as_ref().and_then(|cluster| cluster.live.limits.go_on(&cluster.live.model.pool));
    let connection = Connection::open(&worker.recorder, side, &endpoint);
    let keepalive = cluster.as_ref().and_then(|cluster| cluster.live.model.pool.keepalive);
    match (client, upstream) {
        (Downstream::Http1(client), UpstreamEnd::Http1(mut upstream)) => {
            let silence = tcp::Silence { timeout: idle_timeout, keepalive };
            if let Err(end) = tcp::both_ways(worker, client, &mut upstream.stream, &connection, silence).await {
                connection.flag.set(end.flag());
                client.cut();
                upstream.stream.cut();
            }
        }
        // Apart, so that the other way does not carry its room.
        (client, mut upstream) => {
            let relayed = bridge::tunnel::relay(worker, client, &mut upstream, &connection, idle_timeout);
            if let Err(end) = Box::pin(relayed).await {
                connection.flag.set(end.flag());
                client.cut();
                upstream.cut();
            }
        }
    }
    outcome.flags = connection.flag.get().into();
    outcome.bytes_received += connection.received.total();
    outcome.bytes_sent += connection.sent.total();
    outcome.duration = started.elapsed();
    worker.recorder.exchange(side, &outcome, stats, &endpoint);
}

impl UpstreamEnd {
    /// Has it end with a reset.
    fn cut(&mut self) {
        match self {
            Self::Http1(upstream) => upstream.stream.cut(),
            Self::Http2 { opened, .. } => opened.stream.send_reset(h2::Reason::CANCEL),
        }
    }
}

/// What an endpoint answers to the key of a WebSocket (RFC 6455 §4.2.2).
pub(crate) fn accept_key(key: &[u8]) -> String {
    const SALT: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let mut text = key.to_vec();
    text.extend_from_slice(SALT);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, &text);
    base64::engine::general_purpose::STANDARD.encode(digest)
}

/// A key for a WebSocket that its client opened without one.
pub(crate) fn fresh_key(random: u128) -> String {
    base64::engine::general_purpose::STANDARD.encode(random.to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_standard_gets_its_answer() {
        assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(fresh_key(1).len(), 24);
    }
}
