//! What all proxies of the process share: worker threads, limits, the echo servers' thread.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use outrigger_model::Snapshot;
use outrigger_proxy::{Options, Proxy, Settings, Threads};
use outrigger_telemetry::{Registry, Server};

use super::echoes::Echoes;

/// Where proxies are started.
pub(super) struct Host {
    pub(super) threads: Threads,
    pub(super) settings: Settings,
    /// The process, as metrics and the admin interface tell of it.
    pub(super) server: Server,
    pub(super) echoes: Echoes,
}

impl Host {
    /// Starts a proxy; it has no sockets yet. `own` are addresses it must never send to, `source` is where its
    /// connections come from.
    pub(super) fn start(
        &self,
        settings: Settings,
        registry: &Registry,
        own: Vec<SocketAddr>,
        source: Option<IpAddr>,
        snapshot: Arc<Snapshot>,
    ) -> io::Result<Arc<Proxy>> {
        let options = Options { settings, own_addresses: own, source, seed: fastrand::u64(..) };
        Proxy::start(&self.threads, options, registry, snapshot).map(Arc::new)
    }
}
