//! The HTTP servers beside the data plane: metrics and probes on one port, the admin interface on another.
//!
//! They run on the control thread, never on a worker. Everything a client can make us hold is bounded here
//! ([`HttpLimits`]): connections, the size and the age of a request head, the time a reader may stall, and the number
//! of large answers under way at once. When connections run out, one that waits for a request gives way to the newest,
//! so that a crowd of silent connections cannot keep probes out.

mod admin;
mod guard;
mod logging;
mod metrics;
mod query;
mod reply;
mod scrape;
mod stall;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

pub use admin::{Admin, AdminState};
pub use logging::{LogChange, LogLevel};
pub use metrics::metrics_router;
pub use query::Query;
pub use scrape::Scraper;
use stall::StallGuard;

/// Bounds of one HTTP server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Connections at once. Default 64.
    pub connections_max: usize,
    /// How long a request head may take to arrive, and a connection may wait for its next request. Default 10 s; a
    /// scraper that comes less often opens a new connection.
    pub head_timeout: Duration,
    /// Longest request head in bytes. Default 16 KiB.
    pub head_bytes_max: usize,
    /// How long a reader may be behind what it would have read at 16 KiB a second. Default 10 s.
    pub stall_max: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connections_max: 64,
            head_timeout: Duration::from_secs(10),
            head_bytes_max: 16 * 1024,
            stall_max: Duration::from_secs(10),
        }
    }
}

/// How long to wait when the system has no file descriptor left: long enough not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Held while a connection works on a request; also an extension of each request, for answers that outlive the handler.
#[derive(Clone, Debug)]
pub(crate) struct Busy {
    _token: Arc<()>,
}

/// Serves `router` on `listener` until `shutdown` is done; connections still open then are closed.
///
/// Must be called on a tokio runtime with I/O and time enabled.
pub async fn serve(listener: TcpListener, router: Router, limits: HttpLimits, shutdown: impl Future<Output = ()>) {
    let mut connections = Connections { tasks: JoinSet::new(), open: Vec::new() };
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            Some(_) = connections.tasks.join_next(), if !connections.tasks.is_empty() => connections.forget_closed(),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => connections.open(stream, &router, limits),
                Err(error) => pause_after(&error).await,
            },
        }
    }
}

async fn pause_after(error: &io::Error) {
    // The peer's doing, and over.
    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        return;
    }
    tracing::warn!(%error, "a connection to the admin or metrics port could not be accepted");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// The open connections of one server, oldest first.
struct Connections {
    tasks: JoinSet<()>,
    open: Vec<(AbortHandle, Arc<()>)>,
}

impl Connections {
    fn open(&mut self, stream: TcpStream, router: &Router, limits: HttpLimits) {
        self.forget_closed();
        if self.open.len() >= limits.connections_max {
            // A token that only we and the connection hold means that no request is being answered.
            let Some(idle) = self.open.iter().position(|(_, token)| Arc::strong_count(token) <= 2) else {
                tracing::debug!("connection to the admin or metrics port refused: all are busy");
                return;
            };
            self.open.remove(idle).0.abort();
        }
        let token = Arc::new(());
        let task = self.tasks.spawn(connection(stream, router.clone(), limits, token.clone()));
        self.open.push((task, token));
    }

    fn forget_closed(&mut self) {
        self.open.retain(|(task, _)| !task.is_finished());
    }
}

async fn connection(stream: TcpStream, router: Router, limits: HttpLimits, token: Arc<()>) {
    let io = TokioIo::new(StallGuard::new(stream, limits.stall_max));
    let service = TowerToHyperService::new(router);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let busy = Busy { _token: token.clone() };
        let mut request: Request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(busy.clone());
        let answer = hyper::service::Service::call(&service, request);
        async move {
            let answer = answer.await;
            drop(busy);
            answer
        }
    });
    let result = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.head_bytes_max)
        .serve_connection(io, service)
        .await;
    if let Err(error) = result {
        tracing::debug!(%error, "connection to the admin or metrics port ended early");
    }
}
