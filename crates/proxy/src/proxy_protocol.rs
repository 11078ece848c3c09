//! The PROXY protocol: the line or block before everything else on a connection by which one proxy tells the next who
//! the client is.
//!
//! In: a listener takes headers from trusted networks only, and from these it takes nothing else. A connection from
//! anywhere else is reset. Envoy takes a header from whoever sends one, so that any client that reaches the port can be
//! anybody; and a listener that takes both kinds from one source lets a client write the header itself. The header comes
//! before a hello of TLS.
//!
//! Out: a connection to a cluster that asks for it begins with a header that names the client and where it connected to.
//! Such a connection speaks for one client and is never shared.

mod header;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use outrigger_telemetry::catalogue;

use crate::failure::Reason;
use crate::h1::stream::{IoFailure, Stream};
use crate::plan::Client;
use crate::record::Recorder;
use crate::worker::{Worker, WorkerCluster};

pub(crate) use header::Ends;
use header::{Header, Refusal, read, write};

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// It comes from nobody who may send a header.
    Untrusted,
    /// It ended before its header did; one without any byte is somebody who looks whether the port is open.
    Gone { after: usize },
    /// The header did not come in time.
    TimedOut,
    /// The bytes are no header.
    Refused(Refusal),
}

/// Reads the header of a new connection, where its listener takes them, and has `who` be whom it names. False: the
/// connection is not to be served.
pub(crate) async fn receive(worker: &Worker, client: &mut Stream, who: &mut Client) -> bool {
    let is_trusted = {
        let current = worker.current();
        let Some((site, _)) = current.policy.site(&who.listener) else { return false };
        let Some(networks) = &site.listener.proxy_protocol else { return true };
        networks.iter().any(|network| network.contains(who.address))
    };
    let received = if is_trusted { header(worker, client).await } else { Err(Failure::Untrusted) };
    let result = match received {
        Ok(Header::Own) => "local",
        Ok(Header::Proxied(ends)) => {
            who.speaks_for(worker, ends);
            "proxied"
        }
        Err(failure) => {
            failure.complain(worker, who);
            // Whoever sends it what is no header must not take the bytes for delivered.
            client.cut();
            failure.label()
        }
    };
    worker.recorder.proxy_protocol(&who.listener, result);
    received.is_ok()
}

/// Reads a header, and nothing behind it that it has no need to.
async fn header(worker: &Worker, client: &mut Stream) -> Result<Header, Failure> {
    let until = Instant::now() + worker.settings.proxy_header_timeout;
    loop {
        if let Some((header, length)) = read(client.input.bytes()).map_err(Failure::Refused)? {
            client.input.consume(length);
            client.input.release(&worker.buffers);
            return Ok(header);
        }
        let left = until.saturating_duration_since(Instant::now());
        match client.reader().fill(&worker.buffers, header::BYTES_MAX, left).await {
            Ok(_) => {}
            Err(IoFailure::TimedOut) => return Err(Failure::TimedOut),
            Err(_) => return Err(Failure::Gone { after: client.input.len() }),
        }
    }
}

/// Begins a connection to an endpoint with a header, if its cluster asks for one; without `ends` the proxy speaks for
/// itself. The socket is new: the few bytes leave at once. Returns whether the connection now speaks for somebody.
pub(crate) async fn announce(
    worker: &Worker,
    upstream: &mut Stream,
    cluster: Option<&WorkerCluster>,
    ends: Option<&Rc<Ends>>,
) -> Result<bool, Reason> {
    let Some(version) = cluster.and_then(|cluster| cluster.live.model.proxy_protocol) else { return Ok(false) };
    let header = write(version, ends.map(|ends| &**ends));
    let written = upstream.writer().write(&header, &[], worker.settings.write_stall_timeout).await;
    written.map(|()| true).map_err(|_| Reason::ConnectFailure)
}

impl Recorder {
    /// A connection that had to begin with a header; rare enough beside its cost to look the series up.
    fn proxy_protocol(&self, listener: &Arc<str>, result: &'static str) {
        let labels = [listener.clone(), result.into()];
        self.shard.counter(&catalogue::OUTRIGGER_PROXY_PROTOCOL_CONNECTIONS_TOTAL, &labels).inc();
    }
}

impl Failure {
    /// The value of the label.
    fn label(self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted",
            Self::Gone { .. } => "client_gone",
            Self::TimedOut => "timeout",
            Self::Refused(Refusal::Malformed(_)) => "malformed",
            Self::Refused(Refusal::Large) => "large",
        }
    }

    /// Tells the log.
    fn complain(self, worker: &Worker, who: &Client) {
        let reason = match self {
            Self::Gone { after: 0 } => return,
            Self::Untrusted => "its address is in none of the trusted networks of this listener",
            Self::Gone { .. } => "it ended within its PROXY header",
            Self::TimedOut => "no PROXY header came in time; who is trusted has to send one",
            Self::Refused(Refusal::Malformed(rule)) => rule,
            Self::Refused(Refusal::Large) => "its PROXY header is too long",
        };
        if worker.may_complain() {
            let (listener, client) = (&who.listener, who.address);
            tracing::info!(%listener, %client, reason, "a connection is reset; told once a second at most");
        }
    }
}
