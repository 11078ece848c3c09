//! A proxy as its owner sees it: start, new snapshots, drain.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use outrigger_model::Snapshot;
use outrigger_telemetry::Registry;
use tokio::sync::{mpsc, watch};

use crate::collect::Collector;
use crate::policy::Policy;
use crate::report::{self, ClusterReport};
use crate::runtime::{self, Phase, Wires};
use crate::settings::Settings;
use crate::shared::Shared;

/// What a proxy is started with.
#[derive(Debug)]
pub struct Options {
    /// The outbound HTTP listener, bound already.
    pub outbound: TcpListener,
    /// Worker threads, at least 1.
    pub concurrency: usize,
    /// Bounds and time limits.
    pub settings: Settings,
    /// Other addresses this process listens on (admin, metrics): never a destination.
    pub own_addresses: Vec<SocketAddr>,
    /// Seed of all random choices.
    pub seed: u64,
}

/// A running proxy.
pub struct Proxy {
    shared: Arc<Shared>,
    outbound: SocketAddr,
    workers: Vec<JoinHandle<()>>,
    policy: watch::Sender<Arc<Policy>>,
    phase: watch::Sender<Phase>,
    /// The policy before the one in force, kept so that no worker has to free it.
    before: Mutex<Option<Arc<Policy>>>,
}

impl Proxy {
    /// Starts the workers on a first snapshot.
    ///
    /// # Errors
    /// When a socket cannot be shared among the workers or a thread cannot be started.
    pub fn start(options: Options, registry: &Registry, snapshot: Arc<Snapshot>) -> io::Result<Self> {
        let outbound = options.outbound.local_addr()?;
        options.outbound.set_nonblocking(true)?;
        let concurrency = options.concurrency.max(1);
        let mut own_addresses = options.own_addresses;
        own_addresses.push(outbound);
        let shared = Arc::new(Shared::new(options.settings, registry.clone(), own_addresses, concurrency));
        let (policy, policy_wire) = watch::channel(Arc::new(Policy::compile(snapshot, None, Instant::now())));
        let (phase, phase_wire) = watch::channel(Phase::Serving);
        let (peers, handed): (Vec<_>, Vec<_>) = (0..concurrency).map(|_| mpsc::unbounded_channel()).unzip();
        let mut workers = Vec::with_capacity(concurrency);
        for (index, handed) in handed.into_iter().enumerate() {
            let wires = Wires { policy: policy_wire.clone(), phase: phase_wire.clone(), handed, peers: peers.clone() };
            let seed = options.seed.wrapping_add(index as u64);
            workers.push(runtime::spawn(index, shared.clone(), options.outbound.try_clone()?, wires, seed)?);
        }
        registry.add_collector(Arc::new(Collector::new(policy_wire)));
        Ok(Self { shared, outbound, workers, policy, phase, before: Mutex::default() })
    }

    /// Where the outbound listener listens.
    pub fn outbound(&self) -> SocketAddr {
        self.outbound
    }

    /// Takes a snapshot into force. Requests on their way keep the one they began with; what did not change keeps its
    /// state.
    pub fn apply(&self, snapshot: Arc<Snapshot>) {
        let current = self.policy.borrow().clone();
        let next = Arc::new(Policy::compile(snapshot, Some(&current), Instant::now()));
        self.policy.send_replace(next);
        *self.before.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(current);
    }

    /// The snapshot in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.policy.borrow().snapshot.clone()
    }

    /// Clusters and endpoints in force, with their load.
    pub fn clusters(&self) -> Vec<ClusterReport> {
        let policy = self.policy.borrow().clone();
        report::clusters(&policy)
    }

    /// Connections of clients now.
    pub fn connections(&self) -> usize {
        (0..self.workers.len()).map(|i| self.shared.load(i).load(Ordering::Relaxed)).sum()
    }

    /// Lets the requests on their way finish, then stops; returns the connections that had to be cut.
    ///
    /// While connections keep coming they are still accepted, at most `drain_accept` long, because those who open them
    /// may not know yet. Everything ends after `drain_timeout`.
    pub async fn drain(&self) -> usize {
        let began = Instant::now();
        let settings = &self.shared.settings;
        self.phase.send_replace(Phase::Draining);
        let mut check = tokio::time::interval(Duration::from_millis(10));
        let quiet = || self.connections() == 0 && self.shared.is_quiet(settings.drain_idle);
        while !quiet() && began.elapsed() < settings.drain_accept {
            check.tick().await;
        }
        self.phase.send_replace(Phase::Closing);
        while (self.shared.is_accepting() || self.connections() > 0) && began.elapsed() < settings.drain_timeout {
            check.tick().await;
        }
        let cut = self.connections();
        self.phase.send_replace(Phase::Stopped);
        cut
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.phase.send_replace(Phase::Stopped);
        for worker in self.workers.drain(..) {
            // A worker that panicked outside a connection has said so already.
            let _ = worker.join();
        }
    }
}
