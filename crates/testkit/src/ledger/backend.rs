//! The backend of a ledger: writes down what it saw, then answers with the body that belongs to the id.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use super::{Side, body_of, message_of};
use crate::backend::{Backend, Reply, Request, lock, response};

/// One request as a backend saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `x-ledger-id`, or the target where it is missing.
    pub id: String,
    /// Who saw it.
    pub backend: String,
    /// Method.
    pub method: String,
    /// Whether its body is the one that belongs to the id.
    pub is_intact: bool,
}

/// Backends that share one log.
#[derive(Debug, Default)]
pub struct Witness {
    log: Arc<Mutex<Vec<Entry>>>,
}

impl Witness {
    /// Starts a backend of this name on a loopback address.
    pub fn start(&self, name: &str, ip: Ipv4Addr) -> (Backend, SocketAddr) {
        let (log, name) = (self.log.clone(), name.to_owned());
        let backend = Backend::start_unrecorded(ip, move |request| {
            lock(&log).push(Entry::of(request, &name));
            Reply::Keep(answer(request, &name))
        });
        let address = backend.address();
        (backend, address)
    }

    /// Writes down a request that a backend of another kind saw.
    pub fn record(&self, request: &Request, backend: &str) {
        lock(&self.log).push(Entry::of(request, backend));
    }

    /// Writes down what a backend saw.
    pub(super) fn write(&self, entry: Entry) {
        lock(&self.log).push(entry);
    }

    /// A handle for scripts, which outlive the borrow of the witness.
    pub fn share(&self) -> Self {
        Self { log: self.log.clone() }
    }

    /// Everything seen so far.
    pub fn entries(&self) -> Vec<Entry> {
        lock(&self.log).clone()
    }
}

impl Entry {
    fn of(request: &Request, backend: &str) -> Self {
        let id = request.fields.get("x-ledger-id").unwrap_or(&request.target);
        let entry = Self::new(id, backend, &request.method, &request.body, false);
        Self { is_intact: entry.is_intact && request.is_complete, ..entry }
    }

    /// A request with this body, which is a message if it is a call of gRPC.
    pub(super) fn new(id: &str, backend: &str, method: &str, body: &[u8], is_grpc: bool) -> Self {
        let is_intact = match method {
            "POST" if is_grpc => body == message_of(id, Side::Request),
            "POST" | "PUT" => body == body_of(id, Side::Request),
            _ => body.is_empty(),
        };
        Self { id: id.to_owned(), backend: backend.to_owned(), method: method.to_owned(), is_intact }
    }
}

/// The answer that belongs to a request's id: framed by length or in chunks, as the id falls.
pub fn answer(request: &Request, backend: &str) -> Vec<u8> {
    let id = request.fields.get("x-ledger-id").unwrap_or_default();
    let body = body_of(id, Side::Response);
    let fields = [("x-ledger-id", id), ("x-ledger-backend", backend)];
    if request.method == "HEAD" {
        return response(200, &fields, &[]);
    }
    if body.len().is_multiple_of(2) {
        return response(200, &fields, &body);
    }
    let mut bytes = format!(
        "HTTP/1.1 200 OK\r\nx-ledger-id: {id}\r\nx-ledger-backend: {backend}\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    .into_bytes();
    for chunk in body.chunks(1000) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}
