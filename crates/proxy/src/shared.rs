//! What the workers of one proxy and its control thread share.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use outrigger_telemetry::Registry;
use tokio::sync::watch;

use crate::policy::Policy;
use crate::settings::Settings;

/// Shared by the threads of one proxy.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) registry: Registry,
    /// Addresses that this process itself listens on: never a destination.
    own_addresses: RwLock<OwnAddresses>,
    /// Connections of each worker.
    loads: Arc<[Load]>,
    started: Instant,
    /// When the last connection came, in milliseconds since the start; 0: none came.
    last_arrival_ms: AtomicU64,
    /// Listeners that still accept, each counted once on every worker.
    accepting: AtomicUsize,
    /// Local address of connections to upstreams; `None`: the system's choice.
    pub(crate) source: Option<IpAddr>,
    /// The policy in force, for who waits for the next.
    pub(crate) policies: watch::Receiver<Arc<Policy>>,
}

/// Addresses on which this process listens.
struct OwnAddresses(Vec<SocketAddr>);

/// Connections of one worker, on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Load(AtomicUsize);

impl Shared {
    /// For so many workers.
    pub(crate) fn new(
        settings: Settings,
        registry: Registry,
        own_addresses: Vec<SocketAddr>,
        source: Option<IpAddr>,
        workers: usize,
        policies: watch::Receiver<Arc<Policy>>,
    ) -> Self {
        Self {
            settings,
            registry,
            own_addresses: RwLock::new(OwnAddresses(own_addresses)),
            loads: (0..workers).map(|_| Load::default()).collect(),
            started: Instant::now(),
            last_arrival_ms: AtomicU64::new(0),
            accepting: AtomicUsize::new(0),
            source,
            policies,
        }
    }

    /// Whether sending to `address` would reach this process again.
    pub(crate) fn is_own_address(&self, address: SocketAddr) -> bool {
        self.own_addresses.read().unwrap_or_else(PoisonError::into_inner).has(address)
    }

    /// Notes that a connection came.
    pub(crate) fn arrived(&self) {
        self.last_arrival_ms.store(self.started.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
    }

    /// Whether no connection came for so long.
    pub(crate) fn is_quiet(&self, quiet: Duration) -> bool {
        let last_ms = self.last_arrival_ms.load(Ordering::Relaxed);
        last_ms == 0 || self.started.elapsed().as_millis() as u64 >= last_ms + quiet.as_millis() as u64
    }

    /// Notes an address on which this proxy listens.
    pub(crate) fn add_own_address(&self, address: SocketAddr) {
        self.own_addresses.write().unwrap_or_else(PoisonError::into_inner).0.push(address);
    }

    /// Notes that it listens there no longer.
    pub(crate) fn remove_own_address(&self, address: SocketAddr) {
        self.own_addresses.write().unwrap_or_else(PoisonError::into_inner).0.retain(|own| *own != address);
    }

    /// Notes that so many workers are about to accept on one more listener.
    pub(crate) fn starts_accepting(&self, workers: usize) {
        self.accepting.fetch_add(workers, Ordering::Relaxed);
    }

    /// Notes that a worker has closed a listener.
    pub(crate) fn stopped_accepting(&self) {
        self.accepting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether any worker still accepts on any listener.
    pub(crate) fn is_accepting(&self) -> bool {
        self.accepting.load(Ordering::Relaxed) > 0
    }

    /// How many workers there are.
    pub(crate) fn workers(&self) -> usize {
        self.loads.len()
    }

    /// Connections of worker `index`.
    pub(crate) fn load(&self, index: usize) -> &AtomicUsize {
        &self.loads[index].0
    }

    /// The worker that should take a connection which `index` accepted: another one if it has clearly fewer.
    pub(crate) fn lightest(&self, index: usize) -> usize {
        let own = self.load(index).load(Ordering::Relaxed);
        let lightest = (0..self.loads.len()).min_by_key(|i| self.load(*i).load(Ordering::Relaxed)).unwrap_or(index);
        if self.load(lightest).load(Ordering::Relaxed) + 1 < own + 1 { lightest } else { index }
    }
}

impl OwnAddresses {
    fn has(&self, address: SocketAddr) -> bool {
        self.0.iter().any(|own| {
            own.port() == address.port()
                && (own.ip() == address.ip()
                    || address.ip().is_unspecified()
                    || (own.ip().is_unspecified() && is_loopback(address.ip())))
        })
    }
}

fn is_loopback(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_addresses_are_recognised_in_every_spelling() {
        let own = ["127.0.0.1:15000", "0.0.0.0:15020"].map(|a| a.parse().unwrap()).to_vec();
        let own = OwnAddresses(own);
        for address in
            ["127.0.0.1:15000", "0.0.0.0:15000", "127.0.0.9:15020", "[::1]:15020", "[::ffff:127.0.0.1]:15020"]
        {
            assert!(own.has(address.parse().unwrap()), "{address}");
        }
        for address in ["127.0.0.2:15000", "127.0.0.1:9080", "10.0.0.1:15020"] {
            assert!(!own.has(address.parse().unwrap()), "{address}");
        }
    }
}
