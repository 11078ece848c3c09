//! The servers beside a sidecar or gateway: metrics on 15020 and 15090, readiness on 15020 and 15021.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use outrigger_telemetry::http::{HttpLimits, Scraper, metrics_router, readiness_router, serve_counted, stats_router};
use outrigger_telemetry::{Registry, SeriesLimits, Server, ServerState, Tenant};
use tokio::sync::watch;

use super::network;

/// Merged metrics of the pod.
const METRICS: u16 = 15020;
/// Readiness, for a kubelet.
const READINESS: u16 = 15021;
/// Metrics of the proxy alone.
const STATS: u16 = 15090;

/// The servers of one address. They stop when this is dropped.
pub(super) struct Servers {
    /// The metrics behind them.
    pub(super) registry: Registry,
    /// Where the merged metrics are.
    pub(super) metrics: SocketAddr,
    /// All their addresses.
    pub(super) addresses: Vec<SocketAddr>,
    server: Server,
    _stop: watch::Sender<bool>,
}

impl Servers {
    /// Starts them at an address, on free ports where the usual ones cannot be had; not ready yet. `like` is the process,
    /// which tells what was built. Must be called on the event loop.
    pub(super) fn start(ip: Ipv4Addr, like: &Server) -> io::Result<Self> {
        let registry = Registry::new(SeriesLimits::default());
        let server = Server { readiness: Default::default(), started: Instant::now(), ..like.clone() };
        server.readiness.set(ServerState::Initializing);
        registry.add_collector(Arc::new(Tenant(server.clone())));
        let scraper = Scraper::new(registry.clone());
        let (stop, stopped) = watch::channel(false);
        let mut addresses = Vec::with_capacity(3);
        for (port, router) in [
            (METRICS, metrics_router(scraper.clone(), server.readiness.clone())),
            (READINESS, readiness_router(server.readiness.clone())),
            (STATS, stats_router(scraper.clone())),
        ] {
            let bound = network::bind(ip, port)?;
            addresses.push(bound.address);
            let listener = tokio::net::TcpListener::from_std(bound.socket)?;
            tokio::spawn(serve_counted(listener, router, HttpLimits::default(), scraper.hits(), told(&stopped)));
        }
        Ok(Self { registry, metrics: addresses[0], addresses, server, _stop: stop })
    }

    /// Says whether traffic should come.
    pub(super) fn set(&self, state: ServerState) {
        self.server.readiness.set(state);
    }
}

/// Done when the servers are to stop.
fn told(stopped: &watch::Receiver<bool>) -> impl Future<Output = ()> + use<> {
    let mut stopped = stopped.clone();
    async move {
        // The sender is gone: that means the end as well.
        let _ = stopped.wait_for(|stop| *stop).await;
    }
}
