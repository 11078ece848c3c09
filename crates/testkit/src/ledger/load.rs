//! An open-loop load at a fixed rate: requests are due by the clock, whatever became of those before.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Outcome, Sent, Side, body_of};
use crate::client::Client;
use crate::pass_time;

/// One kind of request among a load.
#[derive(Clone, Debug)]
pub struct Kind {
    /// Method: requests of `POST` and `PUT` carry bodies.
    pub method: &'static str,
    /// `Host`.
    pub host: String,
    /// Target.
    pub target: String,
    /// Further fields.
    pub fields: Vec<(String, String)>,
    /// Which backends may see it.
    pub class: String,
}

/// A load. Kinds take turns; even workers keep their connections alive, odd ones close after each request.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where requests go.
    pub proxy: SocketAddr,
    /// First part of every id: two loads on the same backends need two.
    pub run: u32,
    /// How many.
    pub requests: usize,
    /// How many a second, over all workers.
    pub rate: f64,
    /// Threads.
    pub workers: usize,
    /// What to send.
    pub kinds: Vec<Kind>,
    /// When true, nothing more is sent.
    pub stop: Arc<AtomicBool>,
}

/// How long a client waits for an answer.
const ANSWER: Duration = Duration::from_secs(20);

impl Load {
    /// Sends everything and tells what became of it.
    pub fn run(&self) -> Vec<Sent> {
        let start = Instant::now();
        thread::scope(|scope| {
            let workers: Vec<_> =
                (0..self.workers).map(|worker| scope.spawn(move || self.work(worker, start))).collect();
            workers.into_iter().flat_map(|worker| worker.join().expect("a worker does not panic")).collect()
        })
    }

    fn work(&self, worker: usize, start: Instant) -> Vec<Sent> {
        let mut connection: Option<Client> = None;
        let mut sent = Vec::new();
        for number in (worker..self.requests).step_by(self.workers) {
            let due = start + Duration::from_secs_f64(number as f64 / self.rate);
            pass_time(due.saturating_duration_since(Instant::now()));
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            // Kinds must not go by the number alone, or each worker would send but some of them.
            let kind = &self.kinds[(number / self.workers + worker) % self.kinds.len()];
            let id = format!("{}.{worker}.{number}", self.run);
            connection = connection.filter(|connection| !connection.is_spent());
            let reused = connection.is_some();
            let outcome = match connection.take().map_or_else(|| Client::connect(self.proxy), Ok) {
                Ok(client) => self.exchange(client, kind, &id, worker.is_multiple_of(2), &mut connection),
                Err(error) => Outcome::NotSent(error.to_string()),
            };
            let (class, latency) = (kind.class.clone(), due.elapsed());
            sent.push(Sent { id, class, method: kind.method, reused, latency, outcome });
        }
        sent
    }

    /// Sends one request. The connection is handed back if it can be used again.
    fn exchange(
        &self,
        mut client: Client,
        kind: &Kind,
        id: &str,
        keeps_alive: bool,
        connection: &mut Option<Client>,
    ) -> Outcome {
        client.set_patience(ANSWER);
        match client.exchange(&kind.request(id, keeps_alive)) {
            Ok(answer) => {
                if keeps_alive && !answer.closes() {
                    *connection = Some(client);
                }
                let field = |name| answer.fields.get(name).unwrap_or_default().to_owned();
                Outcome::Answered {
                    status: answer.status,
                    id: field("x-ledger-id"),
                    backend: field("x-ledger-backend"),
                    is_intact: kind.method == "HEAD" || answer.body == body_of(id, Side::Response),
                    cause: field("proxy-status"),
                }
            }
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }
}

impl Kind {
    /// A kind without further fields.
    pub fn new(method: &'static str, host: &str, target: &str, class: &str) -> Self {
        let fields = Vec::new();
        Self { method, host: host.to_owned(), target: target.to_owned(), fields, class: class.to_owned() }
    }

    /// The same with one field more.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A call of gRPC with one message each way; its class is its method.
    pub fn grpc(host: &str, class: &str) -> Self {
        let kind = Self::new("POST", host, &format!("/ledger.Ledger/{class}"), class);
        kind.with("content-type", "application/grpc").with("te", "trailers")
    }

    /// Whether it is one.
    pub(super) fn is_grpc(&self) -> bool {
        self.fields.iter().any(|(name, value)| name == "content-type" && value == "application/grpc")
    }

    /// The bytes of one request.
    fn request(&self, id: &str, keeps_alive: bool) -> Vec<u8> {
        let Self { method, host, target, .. } = self;
        let mut head = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\nx-ledger-id: {id}\r\n");
        for (name, value) in &self.fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !keeps_alive {
            head.push_str("connection: close\r\n");
        }
        let body = if matches!(*method, "POST" | "PUT") { body_of(id, Side::Request) } else { Vec::new() };
        let is_chunked = body.len() % 2 == 1;
        match (is_chunked, body.is_empty()) {
            (true, _) => head.push_str("transfer-encoding: chunked\r\n\r\n"),
            (false, true) if *method == "GET" => head.push_str("\r\n"),
            (false, _) => head.push_str(&format!("content-length: {}\r\n\r\n", body.len())),
        }
        let mut bytes = head.into_bytes();
        if is_chunked {
            bytes.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
            bytes.extend_from_slice(&body);
            bytes.extend_from_slice(b"\r\n0\r\n\r\n");
        } else {
            bytes.extend_from_slice(&body);
        }
        bytes
    }
}
