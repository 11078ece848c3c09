//! An open-loop load over HTTP/2. Requests take turns on the connections and do not wait for each other.
//!
//! What a server says it has not processed (a stream above the last of its GOAWAY, REFUSED_STREAM) is sent again on another
//! connection, as RFC 9113 §6.8 lets clients do whatever the method; anything else that ends without an answer is lost.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Response};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use super::super::{Kind, Outcome, Sent, Side, body_of, message_of};
use super::{read, runtime, send, text};
use crate::backend::lock;

/// Where new connections are opened: the proxy of the moment.
#[derive(Debug)]
pub struct Front(Mutex<SocketAddr>);

/// A load over HTTP/2. Kinds take turns.
#[derive(Clone, Debug)]
pub struct Http2Load {
    /// Where requests go.
    pub front: Arc<Front>,
    /// First part of every id: two loads on the same backends need two.
    pub run: u32,
    /// How many.
    pub requests: usize,
    /// How many a second, over all connections.
    pub rate: f64,
    /// Connections that are kept; every sixteenth request has one of its own besides.
    pub connections: usize,
    /// What to send.
    pub kinds: Vec<Kind>,
    /// When true, nothing more is sent.
    pub stop: Arc<AtomicBool>,
}

/// What a load came to.
#[derive(Debug)]
pub struct Tally {
    /// Every request.
    pub sent: Vec<Sent>,
    /// Connections that were opened.
    pub connections: usize,
    /// Times that a request was sent again because it had not been processed.
    pub sent_again: usize,
}

/// A connection that is kept, and who takes its place when it takes no more requests.
#[derive(Default)]
struct Slot(tokio::sync::Mutex<Option<Open>>);

/// A connection.
#[derive(Clone)]
struct Open {
    sender: SendRequest<Bytes>,
    number: usize,
    served: Arc<AtomicUsize>,
}

/// What all requests of a load share.
struct Shared {
    load: Http2Load,
    slots: Vec<Slot>,
    connections: AtomicUsize,
    sent_again: AtomicUsize,
}

/// How long a client waits for an answer.
const ANSWER: Duration = Duration::from_secs(20);

/// How often a request is sent at most.
const TRIES_MAX: usize = 5;

impl Front {
    /// At this address.
    pub fn new(address: SocketAddr) -> Arc<Self> {
        Arc::new(Self(Mutex::new(address)))
    }

    /// New connections go there from now on.
    pub fn move_to(&self, address: SocketAddr) {
        *lock(&self.0) = address;
    }

    fn address(&self) -> SocketAddr {
        *lock(&self.0)
    }
}

impl Http2Load {
    /// Sends everything and tells what became of it.
    pub fn run(&self) -> Tally {
        runtime().block_on(async {
            let slots = (0..self.connections).map(|_| Slot::default()).collect();
            let shared = Arc::new(Shared {
                load: self.clone(),
                slots,
                connections: AtomicUsize::new(0),
                sent_again: AtomicUsize::new(0),
            });
            let (start, mut under_way) = (Instant::now(), JoinSet::new());
            for number in 0..self.requests {
                let due = start + Duration::from_secs_f64(number as f64 / self.rate);
                sleep_until(due.into()).await;
                if self.stop.load(Ordering::Relaxed) {
                    break;
                }
                let shared = shared.clone();
                under_way.spawn(async move { shared.request(number, due).await });
            }
            let sent = under_way.join_all().await;
            let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
            Tally { sent, connections: count(&shared.connections), sent_again: count(&shared.sent_again) }
        })
    }
}

impl Shared {
    async fn request(&self, number: usize, due: Instant) -> Sent {
        let Http2Load { kinds, run, connections, .. } = &self.load;
        // Kinds must not go by the number alone, or each connection would carry but some of them.
        let kind = &kinds[(number / connections + number) % kinds.len()];
        let id = format!("{run}.{}.{number}", number % connections);
        let mut reused = false;
        let tried = timeout(ANSWER, self.until_processed(kind, &id, number, &mut reused)).await;
        let outcome = tried.unwrap_or_else(|_| Outcome::Failed(format!("no answer within {ANSWER:?}")));
        Sent { id, class: kind.class.clone(), method: kind.method, reused, latency: due.elapsed(), outcome }
    }

    async fn until_processed(&self, kind: &Kind, id: &str, number: usize, reused: &mut bool) -> Outcome {
        let own = Slot::default();
        let slot = if number.is_multiple_of(16) { &own } else { &self.slots[number % self.slots.len()] };
        let mut tries = 1;
        loop {
            let open = match self.open(slot).await {
                Ok(open) => open,
                Err(why) => return Outcome::NotSent(why),
            };
            *reused = open.served.fetch_add(1, Ordering::Relaxed) > 0;
            let number = open.number;
            match exchange(open.sender, kind, id).await {
                Ok(outcome) => return outcome,
                Err(Unanswered::Unprocessed(_)) if tries < TRIES_MAX => {
                    tries += 1;
                    self.sent_again.fetch_add(1, Ordering::Relaxed);
                    slot.0.lock().await.take_if(|open| open.number == number);
                }
                Err(Unanswered::Unprocessed(error)) => return Outcome::NotSent(format!("{TRIES_MAX} times: {error}")),
                Err(Unanswered::Lost(error)) => return Outcome::Failed(error.to_string()),
            }
        }
    }

    /// The connection of a slot, opened where there is none.
    async fn open(&self, slot: &Slot) -> Result<Open, String> {
        let mut slot = slot.0.lock().await;
        if let Some(open) = &*slot {
            return Ok(open.clone());
        }
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let socket = TcpStream::connect(self.load.front.address()).await.map_err(|error| said(&error))?;
        socket.set_nodelay(true).map_err(|error| said(&error))?;
        let (sender, connection) = h2::client::handshake(socket).await.map_err(|error| said(&error))?;
        tokio::spawn(connection);
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        Ok(slot.insert(Open { sender, number, served: Arc::default() }).clone())
    }
}

/// Why there is no answer.
enum Unanswered {
    /// The server says that it did nothing about it, or nothing was sent.
    Unprocessed(h2::Error),
    /// Anything else.
    Lost(h2::Error),
}

impl From<h2::Error> for Unanswered {
    fn from(error: h2::Error) -> Self {
        let is_refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
        let is_unprocessed = error.is_remote() && (error.is_go_away() || is_refused);
        if is_unprocessed { Self::Unprocessed(error) } else { Self::Lost(error) }
    }
}

async fn exchange(sender: SendRequest<Bytes>, kind: &Kind, id: &str) -> Result<Outcome, Unanswered> {
    let mut sender = sender.ready().await.map_err(Unanswered::Unprocessed)?;
    let body = kind.body(id);
    let request = kind.http2_request(id, body.len());
    let (answer, mut stream) = sender.send_request(request, body.is_empty()).map_err(Unanswered::Unprocessed)?;
    let upload = async {
        if !body.is_empty() {
            if body.len().is_multiple_of(3) {
                // Some bodies come a while after their heads.
                sleep_until(tokio::time::Instant::now() + Duration::from_millis(2)).await;
            }
            send(&mut stream, body, None).await;
        }
    };
    let download = async {
        let answer = answer.await?;
        Ok(judge(kind, id, answer).await.unwrap_or_else(|error| Outcome::Failed(format!("in its answer: {error}"))))
    };
    tokio::join!(upload, download).1
}

/// Reads the rest of an answer.
async fn judge(kind: &Kind, id: &str, answer: Response<h2::RecvStream>) -> Result<Outcome, h2::Error> {
    let (head, mut body) = answer.into_parts();
    let (body, trailers) = read(&mut body).await?;
    let cause = text(&head.headers, "proxy-status");
    if kind.is_grpc() && head.status == http::StatusCode::OK {
        // An answer of trailers alone has them in its head.
        let status = [&trailers, &head.headers].map(|fields| text(fields, "grpc-status")).concat();
        if status != "0" {
            return Ok(Outcome::Failed(format!("grpc-status {status:?} {cause}")));
        }
    }
    let wanted = if kind.is_grpc() { message_of(id, Side::Response) } else { body_of(id, Side::Response) };
    // The trailers belong to the answer as its head does.
    let ids = [text(&head.headers, "x-ledger-id"), text(&trailers, "x-ledger-id")];
    let same = !kind.is_grpc() || ids[0] == ids[1];
    Ok(Outcome::Answered {
        status: head.status.as_u16(),
        id: if same { ids[0].clone() } else { ids.join(", then ") },
        backend: text(&head.headers, "x-ledger-backend"),
        is_intact: kind.method == "HEAD" || body == wanted,
        cause,
    })
}

impl Kind {
    fn body(&self, id: &str) -> Bytes {
        match self.method {
            "POST" if self.is_grpc() => message_of(id, Side::Request).into(),
            "POST" | "PUT" => body_of(id, Side::Request).into(),
            _ => Bytes::new(),
        }
    }

    fn http2_request(&self, id: &str, length: usize) -> Request<()> {
        let uri = format!("http://{}{}", self.host, self.target);
        let mut request = Request::builder().method(self.method).uri(uri).header("x-ledger-id", id);
        for (name, value) in &self.fields {
            request = request.header(name, value);
        }
        if length > 0 && length.is_multiple_of(2) && !self.is_grpc() {
            request = request.header("content-length", length);
        }
        request.body(()).expect("kinds are legal requests")
    }
}
