//! The life of a connection and of a request on it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use outrigger_model::{Direction, Workload};
use tokio::net::TcpStream;

use crate::act::{After, act};
use crate::answer::Answer;
use crate::capture;
use crate::detect::{self, Spoken};
use crate::downstream::Downstream;
use crate::failure::Reason;
use crate::forward::OfHttp1;
use crate::h1::head::{self, Bounds, Refusal};
use crate::h1::stream::{IoFailure, Stream};
use crate::h2;
use crate::hello::{self, Received};
use crate::plan::{Client, Exchange, Plan, exchange, plan};
use crate::proxy_protocol::{self, Ends};
use crate::record::{HeldGauge, Outcome, Side};
use crate::site::Site;
use crate::tcp;
use crate::upgrade;
use crate::worker::{Current, Worker};

/// Serves one client until either side has enough. One that speaks HTTP/2 is handed back: it is served apart, so that a
/// connection of either kind carries no room for the other.
pub(crate) async fn connection(
    worker: Rc<Worker>,
    socket: TcpStream,
    peer: SocketAddr,
    listener: Arc<str>,
) -> Option<h2::server::Start> {
    // Small writes must leave at once; a socket that refuses the option still works.
    let _ = socket.set_nodelay(true);
    let (mut who, reads_hello) = begin(&worker, &socket, peer, listener)?;
    let mut client = Stream::accepted(socket, &worker.clock);
    if !proxy_protocol::receive(&worker, &mut client, &mut who).await {
        return None;
    }
    if reads_hello {
        match hello::receive(&worker, &mut client, &mut who).await {
            Received::Ready => {}
            Received::Ended => return None,
            Received::Refused => {
                linger(&worker, &mut client).await;
                return None;
            }
        }
    }
    match detect::spoken(&worker, &mut client, &who).await {
        Spoken::Http1 => {
            let _active = count_connection(&worker, &who, false)?;
            requests(&worker, &mut client, &who).await;
        }
        Spoken::Http2 => {
            let counted = count_connection(&worker, &who, true)?;
            return Some(h2::server::Start { stream: client, who, counted });
        }
        Spoken::Bytes => tcp::relay(&worker, &mut client, &who).await,
        Spoken::Nothing => client.say_goodbye(),
    }
    None
}

/// Who the client is, and whether its first bytes decide what becomes of it; `None` when nothing listens any more.
fn begin(worker: &Worker, socket: &TcpStream, peer: SocketAddr, listener: Arc<str>) -> Option<(Client, bool)> {
    let (listener, original) = capture::place(worker, socket, listener);
    let destination = original.or_else(|| socket.local_addr().ok()).unwrap_or(UNKNOWN_ADDRESS);
    let current = worker.current();
    let (site, _) = current.policy.site(&listener)?;
    let mut client = client(worker, &current, site, Ends { source: peer, destination }, listener);
    client.is_redirected = original.is_some();
    Some((client, site.reads_hello))
}

/// Of a socket that is gone already.
const UNKNOWN_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Counts a connection that carries HTTP, until dropped; `None` when its listener is gone.
fn count_connection(worker: &Worker, who: &Client, is_http2: bool) -> Option<HeldGauge> {
    let current = worker.current();
    let (site, _) = current.policy.site(&who.listener)?;
    let downstream = worker.recorder.downstream(&site.listener.direction);
    downstream.connections_total.inc();
    downstream.of_version(&worker.recorder.shard, is_http2).0.inc();
    Some(HeldGauge::new(&downstream.connections_active))
}

/// Serves the requests of a connection.
async fn requests(worker: &Rc<Worker>, client: &mut Stream, who: &Client) {
    let mut wait = worker.settings.first_byte_timeout;
    loop {
        if client.input.is_empty() && !worker.await_request(client, wait).await {
            return client.say_goodbye();
        }
        wait = worker.settings.idle_timeout;
        match serve(worker, client, who).await {
            After::Next => {}
            After::Close => return client.say_goodbye(),
            After::Linger => return linger(worker, client).await,
            After::Upgraded(tunnel) => {
                return upgrade::relay(worker, &mut Downstream::Http1(client), who, *tunnel).await;
            }
        }
    }
}

/// Who a connection comes from.
fn client(worker: &Worker, current: &Current, site: &Site, ends: Ends, listener: Arc<str>) -> Client {
    let address = ends.source.ip();
    Client {
        listener,
        server_name: None,
        is_tls: false,
        workload: workload(current, site, address),
        address,
        address_text: address.to_string().into(),
        ends: Rc::new(ends),
        is_redirected: false,
        nonce: worker.rng.borrow_mut().u64(..),
    }
}

/// The workload at an address, where that is of interest: on the way in.
fn workload(current: &Current, site: &Site, address: IpAddr) -> Option<Arc<Workload>> {
    let inbound = matches!(site.listener.direction, Direction::Inbound(_));
    inbound.then(|| current.policy.snapshot.peers.get(&address).cloned()).flatten()
}

impl Client {
    /// Takes the client for another one, whom the one at its address speaks for.
    pub(crate) fn speaks_for(&mut self, worker: &Worker, ends: Ends) {
        let current = worker.current();
        let Some((site, _)) = current.policy.site(&self.listener) else { return };
        self.address = ends.source.ip();
        self.address_text = self.address.to_string().into();
        self.workload = workload(&current, site, self.address);
        self.ends = Rc::new(ends);
    }
}

/// Reads one request of HTTP/1 and acts on it.
async fn serve(worker: &Rc<Worker>, client: &mut Stream, who: &Client) -> After {
    let started = Instant::now();
    match read_request(worker, client, who, started).await {
        Ok(Some((exchange, plan))) => act::<OfHttp1>(worker, &mut Downstream::Http1(client), who, exchange, plan).await,
        Ok(None) => After::Close,
        Err(reason) => refuse(worker, client, who, reason, started).await,
    }
}

/// Reads a request head and decides on it; `None` when the client left between requests.
async fn read_request(
    worker: &Worker,
    client: &mut Stream,
    who: &Client,
    started: Instant,
) -> Result<Option<(Exchange, Plan)>, Reason> {
    let settings = &worker.settings;
    loop {
        match decide(worker, client, who, started) {
            Decided::Request(exchange, plan) => return Ok(Some((exchange, plan))),
            Decided::NoListener => return Ok(None),
            Decided::Refused(reason) => return Err(reason),
            Decided::NotYet => {}
        }
        let left = settings.head_timeout.saturating_sub(started.elapsed());
        // Two bytes of grace: a full buffer is judged by the parser, which refuses it.
        match client.reader().fill(&worker.buffers, settings.head_bytes_max + 2, left).await {
            Ok(_) => {}
            Err(IoFailure::TimedOut) => return Err(Reason::HeadTimeout),
            Err(_) if client.input.is_empty() => return Ok(None),
            Err(_) => return Err(Reason::ClientGone),
        }
    }
}

/// What the bytes of a head came to.
enum Decided {
    Request(Exchange, Plan),
    /// Its listener is gone.
    NoListener,
    Refused(Reason),
    /// The head is not complete.
    NotYet,
}

/// Reads the head that is there and decides on it. Apart from the waiting, so that no connection holds the room for the
/// fields of a head while it waits.
fn decide(worker: &Worker, client: &mut Stream, who: &Client, started: Instant) -> Decided {
    let settings = &worker.settings;
    let bounds = Bounds { head_bytes_max: settings.head_bytes_max, target_bytes_max: settings.target_bytes_max };
    let mut room = head::fields();
    let (length, exchange, plan) = match head::request(client.input.bytes(), &mut room, bounds) {
        Ok(Some(head)) => {
            let Some(exchange) = exchange(worker, &head, who, started) else { return Decided::NoListener };
            let plan = plan(worker, &exchange, &head, who);
            (head.len, exchange, plan)
        }
        Ok(None) => return Decided::NotYet,
        Err(refusal) => return Decided::Refused(refused(refusal)),
    };
    client.input.consume(length);
    Decided::Request(exchange, plan)
}

fn refused(refusal: Refusal) -> Reason {
    match refusal {
        Refusal::Malformed(rule) => Reason::BadRequest(rule),
        Refusal::TargetLong => Reason::TargetLong,
        Refusal::HeadLarge => Reason::HeadLarge,
        Refusal::TransferCoding => Reason::TransferCoding,
        Refusal::Version => Reason::Version,
        Refusal::Expectation => Reason::Expectation,
    }
}

/// Answers a head that could not be read; what follows it has no meaning.
async fn refuse(worker: &Worker, client: &mut Stream, who: &Client, reason: Reason, started: Instant) -> After {
    let row = reason.row();
    let current = worker.current();
    let Some((site, _)) = current.policy.site(&who.listener) else { return After::Close };
    let side = Side { direction: &site.listener.direction, peer: who.workload.as_ref() };
    worker.recorder.downstream(side.direction).requests_total.inc();
    worker.recorder.proxy_reply(reason);
    if let Reason::HeadLarge | Reason::TargetLong | Reason::HeadTimeout = reason {
        worker.recorder.limit_hit(row.details);
    }
    let bytes_received = client.input.len() as u64;
    let mut bytes_sent = 0;
    if row.status != 0 {
        let answer = Answer::failure(reason, "");
        let mut head = worker.buffers.take_head();
        answer.write_head(&worker.date(), true, &mut head);
        bytes_sent = (head.len() + answer.body.len()) as u64;
        // A client that is gone already is no worse off.
        let _ = client.writer().write(&head, &answer.body, worker.settings.write_stall_timeout).await;
        worker.buffers.give_head(head);
    }
    let outcome = Outcome {
        status: row.status,
        flags: row.flag.into(),
        grpc: None,
        bytes_received,
        bytes_sent,
        duration: started.elapsed(),
    };
    worker.recorder.exchange(side, &outcome, None, &worker.recorder.nowhere());
    if row.status == 0 { After::Close } else { After::Linger }
}

/// Says goodbye and reads on for a moment: closing on unread bytes would reset the connection, and the client would
/// lose the answer it has not read yet.
async fn linger(worker: &Worker, client: &mut Stream) {
    client.writer().finish(worker.settings.write_stall_timeout).await;
    client.leave_tls();
    let until = Instant::now() + worker.settings.linger_timeout;
    let mut left = worker.settings.linger_bytes_max;
    loop {
        let unread = client.input.len();
        client.input.consume(unread);
        left = left.saturating_sub(unread);
        let wait = until.saturating_duration_since(Instant::now());
        if left == 0 || wait.is_zero() {
            return;
        }
        if client.reader().fill(&worker.buffers, crate::h1::buffer::Buffer::BLOCK_BYTES, wait).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of the future that a function makes, without making one.
    fn size<A, F: Future>(_: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_is_small() {
        // An idle connection costs this, and what the system needs for its socket. What must be at hand for a head or a
        // rare turn (a handshake, a tunnel) belongs into a function that does not wait, or into a box.
        let bytes = size(|(worker, socket, peer, listener)| connection(worker, socket, peer, listener));
        assert!(bytes <= 5 * 1024 + 768, "the future of a connection has grown to {bytes} bytes");
    }
}
