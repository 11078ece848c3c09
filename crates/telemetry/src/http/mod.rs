//! The HTTP servers beside the data plane: metrics and probes on one port, the admin interface on another.
//!
//! They run on the control thread, never on a worker. Everything a client can make us hold is bounded here
//! ([`HttpLimits`]): connections, the size and the age of a request head, the time a reader may stall, and the number
//! of large answers under way at once. When connections run out, one that waits for a request gives way to the newest,
//! so that a crowd of silent connections cannot keep probes out.

mod admin;
mod control;
mod guard;
mod hits;
mod hystrix;
mod logging;
mod metrics;
mod query;
mod reply;
mod scrape;
mod stall;

use std::error::Error;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
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
pub use control::{CONTROL_TTL_MAX, Control, ControlAction, ControlToken, Refusal};
use hits::Bound;
pub use hits::LimitHits;
pub use logging::{LogChange, LogLevel};
pub use metrics::{metrics_router, readiness_router, stats_router};
pub use query::Query;
pub use scrape::Scraper;
use stall::StallGuard;

/// Bounds of one HTTP server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Connections at once. Default 64.
    pub connections_max: usize,
    /// How long a request head may take to arrive, and a connection may wait for its next request. Default 20 s, so that
    /// a scraper that comes every 15 s keeps its connection.
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
            head_timeout: Duration::from_secs(20),
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
    _token: Token,
}

/// One connection, shared by those who look after it: its task, its service, its socket, the list of connections, and
/// whatever answers a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Token {
    /// Whether bytes came that no request was made of yet.
    begun: Arc<AtomicBool>,
}

impl Token {
    /// Holders while nothing is answered: task, service, socket and list.
    const IDLE_HOLDERS: usize = 4;

    /// Bytes came.
    fn received(&self) {
        self.begun.store(true, Relaxed);
    }

    /// A head is complete.
    fn requested(&self) {
        self.begun.store(false, Relaxed);
    }

    fn has_begun(&self) -> bool {
        self.begun.load(Relaxed)
    }

    fn is_idle(&self) -> bool {
        Arc::strong_count(&self.begun) <= Self::IDLE_HOLDERS
    }
}

/// Serves `router` on `listener` until `shutdown` is done; connections still open then are closed.
///
/// Must be called on a tokio runtime with I/O and time enabled. Bounds that are reached are not counted: where there are
/// metrics, use [`serve_counted`].
pub async fn serve(listener: TcpListener, router: Router, limits: HttpLimits, shutdown: impl Future<Output = ()>) {
    serve_counted(listener, router, limits, LimitHits::default(), shutdown).await;
}

/// As [`serve`], and counts the bounds that are reached.
pub async fn serve_counted(
    listener: TcpListener,
    router: Router,
    limits: HttpLimits,
    hits: LimitHits,
    shutdown: impl Future<Output = ()>,
) {
    let mut connections = Connections { tasks: JoinSet::new(), open: Vec::new(), router, limits, hits };
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            Some(_) = connections.tasks.join_next(), if !connections.tasks.is_empty() => connections.forget_closed(),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => connections.open(stream),
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
    open: Vec<(AbortHandle, Token)>,
    router: Router,
    limits: HttpLimits,
    hits: LimitHits,
}

impl Connections {
    fn open(&mut self, stream: TcpStream) {
        self.forget_closed();
        if self.open.len() >= self.limits.connections_max {
            self.hits.count(Bound::Connections);
            let Some(idle) = self.open.iter().position(|(_, token)| token.is_idle()) else {
                tracing::debug!("connection to the admin or metrics port refused: all are busy");
                return;
            };
            self.open.remove(idle).0.abort();
        }
        let token = Token::default();
        let task =
            self.tasks.spawn(connection(stream, self.router.clone(), self.limits, self.hits.clone(), token.clone()));
        self.open.push((task, token));
    }

    fn forget_closed(&mut self) {
        self.open.retain(|(task, _)| !task.is_finished());
    }
}

async fn connection(stream: TcpStream, router: Router, limits: HttpLimits, hits: LimitHits, token: Token) {
    let io = TokioIo::new(StallGuard::new(stream, limits.stall_max, token.clone()));
    let serving = token.clone();
    let service = TowerToHyperService::new(router);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        serving.requested();
        let busy = Busy { _token: serving.clone() };
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
        // The timeout of a connection that waits for its next request is no hit.
        let idle = error.is_timeout() && !token.has_begun();
        if let Some(bound) = bound_of(&error).filter(|_| !idle) {
            hits.count(bound);
        }
        tracing::debug!(%error, "connection to the admin or metrics port ended early");
    }
}

/// Which bound ended a connection.
fn bound_of(error: &hyper::Error) -> Option<Bound> {
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.downcast_ref::<io::Error>().is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut) {
            return Some(Bound::Stall);
        }
        source = cause.source();
    }
    if error.is_timeout() {
        Some(Bound::HeadTimeout)
    } else if error.is_parse_too_large() {
        Some(Bound::HeadBytes)
    } else {
        None
    }
}
