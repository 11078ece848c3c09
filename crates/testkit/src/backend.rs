//! Scripted backends: they read requests, record them, and answer as a closure says.

use std::fmt;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::client::reset;
use crate::wire::{Fields, ReadError, Reader};

/// One request as it reached the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Number of the connection, from 0 in the order accepted.
    pub connection: u64,
    /// Number of the request on its connection, from 0.
    pub sequence: u32,
    /// Method.
    pub method: String,
    /// Target.
    pub target: String,
    /// `HTTP/1.1`.
    pub version: String,
    /// Fields.
    pub fields: Fields,
    /// Body without framing; what there was of it, if the connection ended in the middle.
    pub body: Vec<u8>,
    /// Trailers of a chunked body.
    pub trailers: Fields,
    /// Whether the body ended as its framing says.
    pub is_complete: bool,
}

/// What a backend does with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Sends these bytes and waits for the next request.
    Keep(Vec<u8>),
    /// Sends these bytes and closes in good order.
    Close(Vec<u8>),
    /// Sends these bytes and resets.
    Reset(Vec<u8>),
    /// Sends these bytes and holds the connection open until the backend is dropped.
    Hold(Vec<u8>),
}

/// A running backend. Dropping it ends it.
pub struct Backend {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// How a backend decides.
type Script = dyn Fn(&Request) -> Reply + Send + Sync;

struct Shared {
    script: Box<Script>,
    /// Whether the script runs before the body is read.
    early: bool,
    /// Whether requests are kept.
    records: bool,
    /// How long a connection may be idle after an answer.
    idle: Duration,
    /// Number of the request on each connection of which it reads nothing: its first byte makes it reset.
    cut_at: Option<u32>,
    seen: Mutex<Vec<Request>>,
    /// Heads that could not be read as HTTP/1.
    garbage: Mutex<Vec<String>>,
    connections: AtomicU64,
    stopped: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

/// How long a backend waits on a connection.
const PATIENCE: Duration = Duration::from_secs(60);

impl Backend {
    /// Starts on 127.0.0.1; `script` answers each request when its body is read. Requests are recorded.
    pub fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::build(Ipv4Addr::LOCALHOST, false, true, PATIENCE, Box::new(script))
    }

    /// As [`Self::start`], on another loopback address.
    pub fn start_on(ip: Ipv4Addr, script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::build(ip, false, true, PATIENCE, Box::new(script))
    }

    /// As [`Self::start`], but `script` answers when the head is read, before the body.
    pub fn start_early(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::build(Ipv4Addr::LOCALHOST, true, true, PATIENCE, Box::new(script))
    }

    /// As [`Self::start_on`], keeping no requests: for loads.
    pub fn start_unrecorded(ip: Ipv4Addr, script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::build(ip, false, false, PATIENCE, Box::new(script))
    }

    /// As [`Self::start`], keeping no requests and closing connections that are idle for so long after an answer.
    pub fn start_impatient(idle: Duration, script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::build(Ipv4Addr::LOCALHOST, false, false, idle, Box::new(script))
    }

    /// As [`Self::start_unrecorded`], where another one was before: a server that is started again. Waits until the address is
    /// free.
    pub fn start_again(address: SocketAddr, script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = crate::eventually("the address to be free", || TcpListener::bind(address).ok());
        Self::on(listener, Shared::new(false, false, PATIENCE, Box::new(script)))
    }

    /// As [`Self::start`], keeping no requests and resetting each connection on the first byte of its request of this
    /// number, from 0.
    pub fn start_cutting(number: u32, script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
        Self::on(listener, Shared { cut_at: Some(number), ..Shared::new(false, false, PATIENCE, Box::new(script)) })
    }

    /// One on each of these loopback addresses, all at one port, as the addresses of a name are; `script` is also told the
    /// address.
    pub fn start_at_one_port(
        ips: &[Ipv4Addr],
        script: impl Fn(Ipv4Addr, &Request) -> Reply + Clone + Send + Sync + 'static,
    ) -> Vec<Self> {
        let at_port = |port| ips.iter().map(|ip| TcpListener::bind((*ip, port))).collect::<Result<Vec<_>, _>>();
        let listeners = (0..100).find_map(|_| at_port(crate::free_address().port()).ok());
        let listeners = listeners.expect("loopback has a port that is free on all addresses");
        let started = listeners.into_iter().zip(ips).map(|(listener, ip)| {
            let (script, ip) = (script.clone(), *ip);
            let script = move |request: &Request| script(ip, request);
            Self::on(listener, Shared::new(false, true, PATIENCE, Box::new(script)))
        });
        started.collect()
    }

    fn build(ip: Ipv4Addr, early: bool, records: bool, idle: Duration, script: Box<Script>) -> Self {
        let listener = TcpListener::bind((ip, 0)).expect("loopback has free ports");
        Self::on(listener, Shared::new(early, records, idle, script))
    }

    fn on(listener: TcpListener, shared: Shared) -> Self {
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(shared);
        let accepting = shared.clone();
        thread::spawn(move || accept(&listener, &accepting));
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests so far, in the order their bodies were read.
    pub fn seen(&self) -> Vec<Request> {
        lock(&self.shared.seen).clone()
    }

    /// What came and was not HTTP/1.
    pub fn garbage(&self) -> Vec<String> {
        lock(&self.shared.garbage).clone()
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn new(early: bool, records: bool, idle: Duration, script: Box<Script>) -> Self {
        Self {
            script,
            early,
            records,
            idle,
            cut_at: None,
            seen: Mutex::default(),
            garbage: Mutex::default(),
            connections: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            open: Mutex::default(),
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // Wakes the accepting thread so that it sees the flag.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        for stream in lock(&self.shared.open).drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").field("address", &self.address).finish_non_exhaustive()
    }
}

/// An HTTP/1.1 answer with a length.
pub fn response(status: u16, fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status} Scripted\r\n");
    for (name, value) in fields {
        bytes.push_str(&format!("{name}: {value}\r\n"));
    }
    bytes.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    let mut bytes = bytes.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopped.load(Ordering::Relaxed) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let number = shared.connections.fetch_add(1, Ordering::Relaxed);
        let shared = shared.clone();
        thread::spawn(move || serve(stream, number, &shared));
    }
}

fn serve(stream: TcpStream, connection: u64, shared: &Shared) {
    let _ = stream.set_nodelay(true);
    let (Ok(mut writer), Ok(kept)) = (stream.try_clone(), stream.try_clone()) else { return };
    lock(&shared.open).push(kept);
    let mut reader = Reader::new(stream, PATIENCE);
    for sequence in 0.. {
        if shared.cut_at == Some(sequence) {
            let _ = writer.set_read_timeout(Some(PATIENCE));
            let _ = writer.peek(&mut [0]);
            return end(shared, connection, &writer, true);
        }
        // Servers are patient with a connection until its first request.
        let patience = if sequence == 0 { PATIENCE } else { shared.idle };
        reader.deadline = std::time::Instant::now() + patience;
        let (first, fields) = match reader.head() {
            Ok(head) => head,
            Err(ReadError::Malformed(why, bytes)) => {
                lock(&shared.garbage).push(format!("{why}: {}", String::from_utf8_lossy(&bytes)));
                break;
            }
            Err(_) => break,
        };
        reader.deadline = std::time::Instant::now() + PATIENCE;
        let mut words = first.splitn(3, ' ').map(str::to_owned);
        let mut next = || words.next().unwrap_or_default();
        let (method, target, version) = (next(), next(), next());
        let (body, trailers, is_complete) = (Vec::new(), Fields::default(), true);
        let mut request =
            Request { connection, sequence, method, target, version, fields, body, trailers, is_complete };
        let early = shared.early.then(|| (shared.script)(&request));
        let wrote_early = early.as_ref().is_some_and(|reply| writer.write_all(reply.bytes()).is_ok());
        if !matches!(early, Some(Reply::Close(_) | Reply::Reset(_))) {
            read_body(&mut reader, &mut writer, &mut request);
        }
        let reply = early.unwrap_or_else(|| (shared.script)(&request));
        let is_complete = request.is_complete;
        if shared.records {
            lock(&shared.seen).push(request);
        }
        let wrote = wrote_early || writer.write_all(reply.bytes()).is_ok();
        match reply {
            Reply::Keep(_) if wrote && is_complete => {}
            Reply::Keep(_) | Reply::Close(_) => break,
            Reply::Reset(_) => return end(shared, connection, &writer, true),
            Reply::Hold(_) => {
                reader.rest();
                break;
            }
        }
    }
    end(shared, connection, &writer, false);
}

/// Ends a connection, whose other handle the backend keeps until it is dropped.
fn end(shared: &Shared, _connection: u64, writer: &TcpStream, resets: bool) {
    let mine = writer.peer_addr().ok();
    lock(&shared.open).retain(|stream| stream.peer_addr().ok() != mine);
    if resets {
        reset(writer);
    } else {
        let _ = writer.shutdown(std::net::Shutdown::Write);
    }
}

/// Reads the body that the head announces, inviting it first where the client waits for that.
fn read_body(reader: &mut Reader, writer: &mut TcpStream, request: &mut Request) {
    let fields = &request.fields;
    let is_chunked = fields.has_token("transfer-encoding", "chunked");
    let length = fields.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    if (is_chunked || length > 0) && fields.has_token("expect", "100-continue") {
        let _ = writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
    }
    let body = match is_chunked {
        true => reader.chunks(),
        false => reader.exactly(length).map(|body| (body, Fields::default())),
    };
    match body {
        Ok((body, trailers)) => (request.body, request.trailers) = (body, trailers),
        Err(_) => request.is_complete = false,
    }
}

impl Reply {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Keep(bytes) | Self::Close(bytes) | Self::Reset(bytes) | Self::Hold(bytes) => bytes,
        }
    }
}

/// A test that panicked elsewhere must not hide what this one saw.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
