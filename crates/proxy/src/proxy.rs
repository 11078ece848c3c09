//! A proxy as its owner sees it: start, listen, new snapshots, drain.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use outrigger_model::Snapshot;
use outrigger_telemetry::Registry;
use tokio::sync::{mpsc, watch};

use crate::circuit::{CircuitReport, Forced};
use crate::collect::Collector;
use crate::drains::EndpointError;
use crate::in_force::InForce;
use crate::report::{self, ClusterReport};
use crate::runtime::{Hosting, Order, Phase};
use crate::settings::Settings;
use crate::shared::Shared;
use crate::threads::Threads;

/// What a proxy is started with.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Bounds and time limits.
    pub settings: Settings,
    /// Other addresses this process listens on (admin, metrics): never a destination.
    pub own_addresses: Vec<SocketAddr>,
    /// Local address of connections to upstreams, which tells them who calls. `None`: the system's choice.
    pub source: Option<IpAddr>,
    /// Seed of all random choices.
    pub seed: u64,
}

/// A running proxy.
pub struct Proxy {
    shared: Arc<Shared>,
    orders: Vec<mpsc::UnboundedSender<Order>>,
    open: Mutex<HashMap<Arc<str>, Vec<SocketAddr>>>,
    in_force: Arc<InForce>,
    phase: watch::Sender<Phase>,
    /// Closed by the last worker that ends.
    ended: tokio::sync::Mutex<mpsc::Receiver<()>>,
}

impl Proxy {
    /// Starts a worker on each of the threads, with a first snapshot. Nothing is accepted before [`Self::listen`].
    ///
    /// # Errors
    /// When a thread has ended.
    pub fn start(
        threads: &Threads,
        options: Options,
        registry: &Registry,
        snapshot: Arc<Snapshot>,
    ) -> io::Result<Self> {
        let Options { settings, own_addresses, source, seed } = options;
        let count = threads.count();
        let in_force = InForce::new(snapshot, threads.names().clone(), threads.sweeper().clone());
        let policies = in_force.subscribe();
        let shared = Arc::new(Shared::new(settings, registry.clone(), own_addresses, source, count, policies));
        let (phase, phase_wire) = watch::channel(Phase::Serving);
        let (orders, wires): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::unbounded_channel()).unzip();
        let (alive, ended) = mpsc::channel(1);
        for (index, wire) in wires.into_iter().enumerate() {
            let hosting = Hosting {
                index,
                shared: shared.clone(),
                seed: seed.wrapping_add(index as u64),
                policy: in_force.subscribe(),
                phase: phase_wire.clone(),
                orders: wire,
                peers: orders.clone(),
                alive: alive.clone(),
            };
            threads.host(index, hosting)?;
        }
        registry.add_collector(Arc::new(Collector::new(
            in_force.subscribe(),
            threads.names().clone(),
            threads.overload().clone(),
        )));
        let (open, ended) = (Mutex::default(), tokio::sync::Mutex::new(ended));
        Ok(Self { shared, orders, open, in_force, phase, ended })
    }

    /// Accepts on a socket for the listener of this name, which may have others; every worker does. A snapshot that has no such listener closes
    /// the connections that come.
    ///
    /// # Errors
    /// When the socket cannot be shared among the workers.
    pub fn listen(&self, name: &str, socket: &TcpListener) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let name: Arc<str> = name.into();
        let sockets: Vec<TcpListener> = self.orders.iter().map(|_| socket.try_clone()).collect::<io::Result<_>>()?;
        // A workload may call a service of its own: what comes back in is no loop.
        if !name.starts_with(INBOUND) {
            self.shared.add_own_address(address);
        }
        self.shared.starts_accepting(self.orders.len());
        for (orders, socket) in self.orders.iter().zip(sockets) {
            if orders.send(Order::Listen(name.clone(), socket)).is_err() {
                return Err(io::Error::other("the worker has ended"));
            }
        }
        self.open().entry(name).or_default().push(address);
        Ok(())
    }

    /// Accepts no more for the listener of this name; its connections stay.
    pub fn close(&self, name: &str) {
        let Some((name, addresses)) = self.open().remove_entry(name) else { return };
        addresses.into_iter().for_each(|address| self.shared.remove_own_address(address));
        for orders in &self.orders {
            // A worker that has ended has closed it.
            let _ = orders.send(Order::Close(name.clone()));
        }
    }

    /// Where it listens, by the names of the listeners.
    pub fn listeners(&self) -> Vec<(Arc<str>, SocketAddr)> {
        let mut all: Vec<_> = {
            let open = self.open();
            let pairs = open.iter().flat_map(|(name, sockets)| sockets.iter().map(|at| (name.clone(), *at)));
            pairs.collect()
        };
        all.sort();
        all
    }

    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<str>, Vec<SocketAddr>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a snapshot into force. Requests on their way keep the one they began with; what did not change keeps its
    /// state.
    pub fn apply(&self, snapshot: Arc<Snapshot>) {
        self.in_force.apply(snapshot);
    }

    /// Done when every name of the snapshot in force has been looked up once, with or without success. Whoever sends
    /// requests before that makes them wait for it.
    pub async fn names_answered(&self) {
        for name in self.in_force.policy().names() {
            name.answered().await;
        }
    }

    /// The snapshot in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.in_force.policy().snapshot.clone()
    }

    /// Clusters and endpoints in force, with their load.
    pub fn clusters(&self) -> Vec<ClusterReport> {
        report::clusters(&self.in_force.policy(), self.in_force.drains())
    }

    /// Sends an endpoint no more requests for so long, or until [`Self::restore_endpoint`]; those on their way go on. It
    /// outlives new snapshots. A drain that it has already is replaced.
    ///
    /// # Errors
    /// When there is no such endpoint, or too many are drained.
    pub fn drain_endpoint(&self, cluster: &str, address: SocketAddr, ttl: Duration) -> Result<(), EndpointError> {
        self.in_force.drain(cluster, address, ttl)
    }

    /// Ends [`Self::drain_endpoint`]; whether it was drained.
    pub fn restore_endpoint(&self, cluster: &str, address: SocketAddr) -> bool {
        self.in_force.restore(cluster, address)
    }

    /// Ends the ejection of an endpoint by outlier detection; whether it was ejected.
    ///
    /// # Errors
    /// When there is no such endpoint.
    pub fn reset_ejection(&self, cluster: &str, address: SocketAddr) -> Result<bool, EndpointError> {
        self.in_force.reset_ejection(cluster, address)
    }

    /// Every circuit in force, by name.
    pub fn circuits(&self) -> Vec<CircuitReport> {
        self.in_force.policy().circuits.all(Instant::now())
    }

    /// Forces a circuit to be open or closed for so long, a year at most; whether there is one of that name.
    pub fn force_circuit(&self, name: &str, forced: Forced, lasts: Duration) -> bool {
        let now = Instant::now();
        self.in_force.policy().circuits.force(name, forced, now + lasts.min(YEAR), now)
    }

    /// Ends what [`Self::force_circuit`] began, before its time; whether there is a circuit of that name.
    pub fn release_circuit(&self, name: &str) -> bool {
        self.in_force.policy().circuits.release(name, Instant::now())
    }

    /// Connections of clients now.
    pub fn connections(&self) -> usize {
        (0..self.orders.len()).map(|i| self.shared.load(i).load(Ordering::Relaxed)).sum()
    }

    /// Lets the requests on their way finish, then stops; returns the connections that had to be cut. Its sockets are
    /// closed when it returns.
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
        self.stop().await;
        cut
    }

    /// Stops at once; returns when all sockets are closed.
    pub async fn stop(&self) {
        self.phase.send_replace(Phase::Stopped);
        // Nothing is ever sent: the end of the channel is the message.
        let _ = self.ended.lock().await.recv().await;
    }
}

/// Whoever wants more than this means for ever, and a moment must be one that can be told.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// How the names of listeners of containers' ports begin.
const INBOUND: &str = "inbound|";

impl Drop for Proxy {
    fn drop(&mut self) {
        self.phase.send_replace(Phase::Stopped);
    }
}
