//! Echo servers: backends that answer with JSON telling what reached them, and that play faults when a request asks.
//!
//! `outrigger echo` and `outrigger run --echo` use them as the far end of a mesh, tests as a witness. One [`EchoServer`]
//! holds several listeners, each with an [`Identity`] of its own, so that one process stands in for many pods. It speaks
//! HTTP/1.1 with its own small server (it must not share a codec with the proxy whose work it witnesses), on the same port
//! HTTP/2 with prior knowledge (`http2`) and in it gRPC (`grpc`), sends the messages of WebSockets back, and on ports that
//! speak something else all bytes.
//!
//! It is no model of a fast server, and it trusts nobody: every size and every wait has a bound (see [`limits`]), garbage
//! gets a 4xx and the connection is closed.

mod answer;
mod body;
mod connection;
mod grpc;
mod head;
mod http2;
mod instructions;
mod listen;
mod reply;
mod tcp;
mod websocket;
mod wire;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

pub(crate) use grpc::json_of;
pub(crate) use instructions::FailureCounts;
pub(crate) use listen::{Identity, Listen, Speaks};

/// The bounds, each with its reason.
pub(crate) mod limits {
    use std::time::Duration;

    /// Request head; 60 KiB is what the proxy lets through.
    pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;
    /// Fields of a request head; the proxy lets 100 through and adds its own.
    pub(crate) const FIELDS_MAX: usize = 160;
    /// A chunk's size line, with its extensions.
    pub(crate) const CHUNK_LINE_BYTES_MAX: usize = 16 * 1024;
    /// Trailers of one request.
    pub(crate) const TRAILER_BYTES_MAX: usize = 16 * 1024;
    /// `x-echo-body-bytes`.
    pub(crate) const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;
    /// `x-echo-delay`.
    pub(crate) const DELAY_MAX: Duration = Duration::from_secs(3600);
    /// Streams of one HTTP/2 connection: a thousand calls at once through one proxy are a usual test.
    pub(crate) const STREAMS_MAX: u32 = 1_000;
    /// One gRPC message of a client; as gRPC's own libraries.
    pub(crate) const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
    /// Bytes of gRPC messages that are to be sent back and so held, over all calls of one [`super::EchoServer`].
    pub(crate) const HELD_BYTES_MAX: usize = 256 * 1024 * 1024;
    /// Answers of one call of `ServerStream`.
    pub(crate) const ANSWERS_MAX: i32 = 1_000_000;
    /// Open connections of one [`super::EchoServer`]; later ones wait in the kernel's queue.
    pub(crate) const CONNECTIONS_MAX: usize = 16 * 1024;
    /// Keys of `x-echo-fail-first` that are remembered; the oldest is forgotten first.
    pub(crate) const FAILURE_KEYS_MAX: usize = 64 * 1024;
    /// Between two requests of a connection. Far longer than any client's pool keeps one, so that clients close first.
    pub(crate) const IDLE: Duration = Duration::from_secs(600);
    /// From the first byte of a head to its last.
    pub(crate) const HEAD: Duration = Duration::from_secs(10);
    /// Between two reads of a body, and for the writing of one buffer.
    pub(crate) const STALL: Duration = Duration::from_secs(30);
    /// Before a stream of HTTP/2 is broken off, for what was sent on it to be written.
    pub(crate) const BREAK: Duration = Duration::from_millis(50);
    /// For requests under way when the server is told to stop.
    pub(crate) const DRAIN: Duration = Duration::from_secs(5);
}

/// Listeners that are bound and not yet serving.
#[derive(Debug)]
pub(crate) struct EchoServer {
    listeners: Vec<(TcpListener, Arc<Listen>)>,
    counts: Arc<FailureCounts>,
}

/// An address that could not be bound.
#[derive(Debug)]
pub(crate) struct BindError {
    /// Which.
    address: SocketAddr,
    /// Whose.
    service: String,
    /// Why.
    error: io::Error,
}

impl BindError {
    /// What the system said.
    pub(crate) fn into_cause(self) -> io::Error {
        self.error
    }
}

impl EchoServer {
    /// Binds every address; port 0 becomes a free port. Needs no event loop. `counts` is what `x-echo-fail-first` counts
    /// in: servers that share it count together, as the pods of one mesh should.
    pub(crate) fn bind(listens: Vec<Listen>, counts: Arc<FailureCounts>) -> Result<Self, BindError> {
        let bind = |listen: Listen| match TcpListener::bind(listen.address).and_then(prepare) {
            Ok((listener, address)) => Ok((listener, Arc::new(Listen { address, ..listen }.with_default_pod()))),
            Err(error) => Err(BindError { address: listen.address, service: listen.identity.service, error }),
        };
        let listeners = listens.into_iter().map(bind).collect::<Result<_, _>>()?;
        Ok(Self { listeners, counts })
    }

    /// What is bound, with the real ports, in the order given.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = &Listen> {
        self.listeners.iter().map(|(_, listen)| &**listen)
    }

    /// Serves until `stop` says true (or its sender is gone), then lets requests under way end for [`limits::DRAIN`].
    /// Must run inside a tokio event loop with I/O and time.
    pub(crate) async fn serve(self, mut stop: watch::Receiver<bool>) -> io::Result<()> {
        let slots = Arc::new(Semaphore::new(limits::CONNECTIONS_MAX));
        let mut accepting = JoinSet::new();
        let listeners: Vec<_> = self
            .listeners
            .into_iter()
            .map(|(listener, listen)| Ok((tokio::net::TcpListener::from_std(listener)?, listen)))
            .collect::<io::Result<_>>()?;
        for (listener, listen) in listeners {
            accepting.spawn(accept(listener, listen, self.counts.clone(), slots.clone(), stop.clone()));
        }
        told(&mut stop).await;
        while accepting.join_next().await.is_some() {}
        Ok(())
    }
}

/// Accepts on one listener until told to stop, then waits for its connections.
async fn accept(
    listener: tokio::net::TcpListener,
    listen: Arc<Listen>,
    counts: Arc<FailureCounts>,
    slots: Arc<Semaphore>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        let free_slot = async {
            let slot = slots.clone().acquire_owned().await.expect("the semaphore is never closed");
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            accepted = free_slot => accepted,
            () = told(&mut stop) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let (listen, counts, stop) = (listen.clone(), counts.clone(), stop.clone());
                connections.spawn(async move {
                    match listen.speaks {
                        Speaks::Http => connection::serve(stream, listen, counts, stop).await,
                        Speaks::Bytes => tcp::serve(stream, stop).await,
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                // Out of file descriptors, mostly: trying again at once would only burn the processor.
                tracing::warn!(address = %listen.address, %error, "could not accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits::DRAIN, drained).await.is_err() {
        tracing::warn!(address = %listen.address, "requests still under way were cut");
    }
}

/// Waits until the server is told to stop.
async fn told(stop: &mut watch::Receiver<bool>) {
    // An error says that the sender is gone: then nobody will ever tell, and that means stop too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Makes a listener fit for an event loop and tells where it is bound.
fn prepare(listener: TcpListener) -> io::Result<(TcpListener, SocketAddr)> {
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

impl std::fmt::Display for BindError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "could not listen on {} for {}: {}", self.address, self.service, self.error)
    }
}

impl std::error::Error for BindError {}
