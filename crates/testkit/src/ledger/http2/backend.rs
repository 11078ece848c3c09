//! A backend of the ledger that speaks HTTP/2: many requests on a connection, and the ways in which servers end one.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Ping, PingPong, Reason};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::super::backend::Entry;
use super::super::{Side, Witness, body_of, message_of};
use super::{GRPC, read, runtime, send, text, turning};
use crate::backend::lock;

/// How a backend treats its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It keeps them.
    Steady,
    /// It keeps them and takes so long for an answer.
    Slow(Duration),
    /// It leaves after so many requests in the two steps of RFC 9113 §6.8: GOAWAY without a last stream, and once it has
    /// been heard, GOAWAY with one.
    Leaves(usize),
    /// It leaves after so many requests in one step, with requests on their way: the first above its last stream is there
    /// when it says so.
    TurnsAway(usize),
    /// It ends its connections without a word when they have had no request for so long.
    Idles(Duration),
    /// It ends each connection without a word once it has read so many requests of it; the last, and those that come after
    /// it, get no answer. What had begun is finished: an end in the middle of an answer would be another fault.
    Vanishes(usize),
    /// Every so manieth of its answers breaks off half way.
    BreaksOff(usize),
    /// It refuses every so manieth request unread (REFUSED_STREAM).
    Refuses(usize),
}

/// A backend; it ends when dropped.
#[derive(Debug)]
pub struct Http2Backend {
    address: SocketAddr,
    counts: Arc<Counts>,
    over: Arc<Notify>,
}

/// What a backend counts.
#[derive(Debug, Default)]
pub(super) struct Counts {
    connections: AtomicUsize,
    /// Requests, those that were refused among them.
    requests: AtomicUsize,
    /// Requests that it said it had not processed.
    pub(super) turned_away: AtomicUsize,
    /// Connections that it left.
    pub(super) left: AtomicUsize,
}

/// What the connections of a backend share.
#[derive(Clone)]
pub(super) struct Behind {
    pub(super) witness: Arc<Witness>,
    pub(super) name: Arc<str>,
    pub(super) counts: Arc<Counts>,
    manner: Manner,
}

impl Witness {
    /// Starts a backend of this name that speaks HTTP/2.
    pub fn start_http2(&self, name: &str, ip: Ipv4Addr, manner: Manner) -> Http2Backend {
        let listener = TcpListener::bind((ip, 0)).expect("loopback has free ports");
        let address = listener.local_addr().expect("a bound listener has an address");
        listener.set_nonblocking(true).expect("a flag");
        let (counts, over) = (Arc::new(Counts::default()), Arc::new(Notify::new()));
        let behind = Behind { witness: Arc::new(self.share()), name: name.into(), counts: counts.clone(), manner };
        let end = over.clone();
        thread::spawn(move || {
            runtime().block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a runtime runs");
                tokio::select! {
                    () = end.notified() => {}
                    () = accept(&listener, &behind) => {}
                }
            });
        });
        Http2Backend { address, counts, over }
    }
}

impl Http2Backend {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::Relaxed)
    }

    /// Connections that it left so far.
    pub fn left(&self) -> usize {
        self.counts.left.load(Ordering::Relaxed)
    }

    /// Requests so far that it said it had not processed.
    pub fn turned_away(&self) -> usize {
        self.counts.turned_away.load(Ordering::Relaxed)
    }
}

impl Drop for Http2Backend {
    fn drop(&mut self) {
        self.over.notify_one();
    }
}

async fn accept(listener: &tokio::net::TcpListener, behind: &Behind) {
    while let Ok((socket, _)) = listener.accept().await {
        behind.counts.connections.fetch_add(1, Ordering::Relaxed);
        let behind = behind.clone();
        if let Manner::TurnsAway(after) = behind.manner {
            let Ok(socket) = socket.into_std().and_then(|s| s.set_nonblocking(false).map(|()| s)) else { continue };
            // Whether the peer leaves sooner than it is told to is its own affair.
            thread::spawn(move || drop(turning::serve(socket, after, &behind)));
            continue;
        }
        tokio::spawn(async move { drop(behind.serve(socket).await) });
    }
}

/// A socket, and a second handle that keeps it open.
fn doubled(socket: TcpStream) -> io::Result<(TcpStream, TcpStream)> {
    let socket = socket.into_std()?;
    let spare = socket.try_clone()?;
    Ok((TcpStream::from_std(socket)?, TcpStream::from_std(spare)?))
}

/// Says goodbye and reads on until the peer has, too, as servers do: to close on bytes that nobody read is a reset, which takes
/// away from the peer what was said last.
async fn linger(mut socket: TcpStream) {
    let _ = socket.shutdown().await;
    let mut unread = [0; 4096];
    let read_on = async { while matches!(socket.read(&mut unread).await, Ok(1..)) {} };
    let _ = tokio::time::timeout(Duration::from_secs(5), read_on).await;
}

/// How a connection ends at a request of it.
#[derive(Default)]
struct Ending {
    has_begun: AtomicBool,
    is_due: AtomicBool,
    told: Notify,
    /// Kept until the connection is gone: else the peer would be told that they are given up.
    unanswered: Mutex<Vec<SendResponse<Bytes>>>,
}

/// Ready when no more than so many hold what those do that are under way.
async fn all_but(count: usize, under_way: &Arc<()>) {
    while Arc::strong_count(under_way) > count {
        sleep_until(Instant::now() + Duration::from_millis(1)).await;
    }
}

/// Ready when the peer has read what was sent to it.
async fn all_read(pings: &mut PingPong) {
    // One may be under way from when a request came in between. A peer that is gone answers none.
    while pings.send_ping(Ping::opaque()).is_err() && poll_fn(|cx| pings.poll_pong(cx)).await.is_ok() {}
    let _ = poll_fn(|cx| pings.poll_pong(cx)).await;
}

impl Behind {
    async fn serve(self, socket: TcpStream) -> Result<(), h2::Error> {
        let _ = socket.set_nodelay(true);
        let Ok((socket, spare)) = doubled(socket) else { return Ok(()) };
        let mut connection = h2::server::handshake(socket).await?;
        let mut served = 0;
        let (under_way, ending) = (Arc::new(()), Arc::new(Ending::default()));
        let mut pings = connection.ping_pong().expect("it is taken once");
        loop {
            let request = tokio::select! {
                // First, or the peer would be told that a request is given up.
                biased;
                () = self.over(served, &under_way, &ending, &mut pings) => None,
                request = connection.accept() => request,
            };
            let Some(request) = request else { break };
            let (request, respond) = request?;
            let (behind, under_way, ending) = (self.clone(), under_way.clone(), ending.clone());
            served += 1;
            let is_last = self.manner == Manner::Vanishes(served);
            tokio::spawn(async move {
                if ending.has_begun.load(Ordering::Relaxed) {
                    lock(&ending.unanswered).push(respond);
                } else if is_last {
                    drop(behind.hear(request).await);
                    ending.has_begun.store(true, Ordering::Relaxed);
                    // This one's own, and that of the connection.
                    all_but(2, &under_way).await;
                    lock(&ending.unanswered).push(respond);
                    ending.is_due.store(true, Ordering::Relaxed);
                    ending.told.notify_one();
                } else {
                    drop(behind.answer(request, respond).await);
                }
                drop(under_way);
            });
            if self.manner == Manner::Leaves(served) {
                self.counts.left.fetch_add(1, Ordering::Relaxed);
                connection.graceful_shutdown();
            }
        }
        if let Manner::Leaves(_) = self.manner {
            drop(connection);
            linger(spare).await;
        }
        Ok(())
    }

    /// Ready when a connection is to end without a word: it had no request for long enough, or had the last. Its peer has read
    /// all answers then: an end in the middle of one would be another fault.
    async fn over(&self, served: usize, under_way: &Arc<()>, ending: &Ending, pings: &mut PingPong) {
        match self.manner {
            Manner::Idles(time) if served > 0 => {
                all_but(1, under_way).await;
                sleep_until(Instant::now() + time).await;
                all_read(pings).await;
                self.counts.left.fetch_add(1, Ordering::Relaxed);
            }
            Manner::Vanishes(_) => {
                while !ending.is_due.load(Ordering::Relaxed) {
                    ending.told.notified().await;
                }
                all_read(pings).await;
            }
            _ => std::future::pending().await,
        }
    }

    /// Reads a request and says nothing.
    async fn hear(&self, request: Request<h2::RecvStream>) -> Result<(), h2::Error> {
        let (head, mut body) = request.into_parts();
        let (id, is_grpc) = (text(&head.headers, "x-ledger-id"), text(&head.headers, "content-type") == GRPC);
        let (body, _) = read(&mut body).await?;
        self.witness.write(Entry::new(&id, &self.name, head.method.as_str(), &body, is_grpc));
        self.counts.left.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn answer(self, request: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
        let number = self.counts.requests.fetch_add(1, Ordering::Relaxed) + 1;
        if let Manner::Refuses(every) = self.manner
            && number.is_multiple_of(every)
        {
            self.counts.turned_away.fetch_add(1, Ordering::Relaxed);
            respond.send_reset(Reason::REFUSED_STREAM);
            return Ok(());
        }
        let (head, mut body) = request.into_parts();
        let (id, is_grpc) = (text(&head.headers, "x-ledger-id"), text(&head.headers, "content-type") == GRPC);
        let (body, _) = read(&mut body).await?;
        self.witness.write(Entry::new(&id, &self.name, head.method.as_str(), &body, is_grpc));
        if let Manner::Slow(time) = self.manner {
            sleep_until(Instant::now() + time).await;
        }
        let mut answer = Response::builder().header("x-ledger-id", &id).header("x-ledger-backend", &*self.name);
        if is_grpc {
            answer = answer.header("content-type", GRPC);
        }
        let content = match (head.method.as_str(), is_grpc) {
            ("HEAD", _) => Vec::new(),
            (_, true) => message_of(&id, Side::Response),
            (_, false) => body_of(&id, Side::Response),
        };
        let breaks_off = matches!(self.manner, Manner::BreaksOff(every) if number.is_multiple_of(every));
        let trailers = is_grpc.then(|| {
            let id = HeaderValue::from_str(&id).expect("it was a value before");
            let pairs = [("grpc-status", HeaderValue::from_static("0")), ("x-ledger-id", id)];
            pairs.into_iter().map(|(name, value)| (http::HeaderName::from_static(name), value)).collect::<HeaderMap>()
        });
        let ends = content.is_empty() && trailers.is_none();
        let mut stream = respond.send_response(answer.body(()).expect("legal fields"), ends)?;
        if breaks_off && !ends {
            self.counts.left.fetch_add(1, Ordering::Relaxed);
            stream.send_data(content[..content.len() / 2].to_vec().into(), false)?;
            stream.send_reset(Reason::INTERNAL_ERROR);
            return Ok(());
        }
        if !ends {
            send(&mut stream, content.into(), trailers).await;
        }
        Ok(())
    }
}
