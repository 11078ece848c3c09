//! Simulated pods: for each one its containers (echo servers), its sidecar, and the servers beside it.
//!
//! In the order things happen: [`Pods::prepare`] binds the sockets of what is new, so that connections already wait while
//! configuration that names them is made; [`Pods::start`] starts the sidecars of new pods, [`Pods::apply`] tells the
//! others. What is gone is handed out by [`Pods::leave`] once nobody is told of it any more.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use outrigger_config::simulate::{Peers, SimulatedPod, SimulatedPort, sidecar};
use outrigger_model::{Diagnostic, Listener, Snapshot};
use outrigger_proxy::Proxy;
use outrigger_telemetry::ServerState;

use super::backends::known;
use super::echoes::Echo;
use super::host::Host;
use super::network::{self, Moved, at};
use super::servers::Servers;
use super::views::{Views, workload_of};
use crate::echo::{Identity, Listen, Speaks};

/// Outbound listener of every pod.
const OUTBOUND: u16 = 15001;
/// How long an echo server that another takes the place of goes on: until every worker knows of the other.
const GRACE: Duration = Duration::from_secs(1);

/// Namespace and name.
type Key = (Arc<str>, Arc<str>);

/// The pods that run.
#[derive(Default)]
pub(super) struct Pods {
    running: BTreeMap<Key, Pod>,
    /// Pods that could not be started; the next change tries again.
    failed: Vec<(Arc<SimulatedPod>, Diagnostic)>,
    /// Pods that are gone from the configuration and still run.
    leaving: Vec<Pod>,
}

/// One pod.
pub(super) struct Pod {
    /// What the configuration says of it.
    pub(super) pod: Arc<SimulatedPod>,
    /// Where its outbound listener is.
    pub(super) outbound: SocketAddr,
    /// Its containers' ports, by number.
    pub(super) ports: BTreeMap<u16, Port>,
    /// Metrics and readiness.
    pub(super) servers: Servers,
    sidecar: Option<Sidecar>,
    /// Sockets that the sidecar does not accept on yet, by the names of their listeners.
    waiting: Vec<(Arc<str>, TcpListener)>,
    /// Ports that are gone, whose sockets are still open.
    closing: Vec<u16>,
}

struct Sidecar {
    proxy: Arc<Proxy>,
    snapshot: Arc<Snapshot>,
}

/// A container's port.
pub(super) struct Port {
    /// Where the sidecar takes requests for it.
    pub(super) bound: SocketAddr,
    /// The container.
    echo: Echo,
    /// Why it is not where it should be.
    moved: Option<Diagnostic>,
}

impl Pods {
    /// Binds the sockets of new pods and of new ports of others.
    pub(super) fn prepare(&mut self, wanted: &[Arc<SimulatedPod>], host: &Host) {
        let stays: HashSet<(Key, Ipv4Addr)> = wanted.iter().map(|pod| (key(pod), pod.address)).collect();
        let gone = self.running.extract_if(.., |key, pod| !stays.contains(&(key.clone(), pod.pod.address)));
        self.leaving.extend(gone.map(|(_, pod)| pod));
        self.failed.clear();
        for pod in wanted {
            let prepared = match self.running.get_mut(&key(pod)) {
                Some(running) => running.adopt(pod, host),
                None => Pod::bind(pod, host).map(|new| drop(self.running.insert(key(pod), new))),
            };
            if let Err(error) = prepared {
                let problem = network::not_started(object(pod), pod.address, &error);
                self.failed.push((pod.clone(), problem));
            }
        }
    }

    /// Which endpoints are not where the configuration says.
    pub(super) fn moved(&self) -> Moved {
        let mut moved = Moved::new();
        for pod in self.running.values() {
            let elsewhere = pod.ports.iter().filter(|(port, is)| is.bound.port() != **port);
            moved.extend(elsewhere.map(|(port, is)| (at(pod.pod.address, *port), Some(is.bound))));
        }
        for (pod, _) in &self.failed {
            // Of a pod that runs already only the new ports failed.
            let served = self.running.get(&key(pod)).map(|running| &running.ports);
            let missing = pod.ports.iter().filter(|p| !served.is_some_and(|ports| ports.contains_key(&p.port)));
            moved.extend(missing.map(|port| (at(pod.address, port.port), None)));
        }
        moved
    }

    /// Starts the sidecars of new pods.
    pub(super) fn start(&mut self, views: &Views, peers: &Peers, host: &Host) {
        self.obey(views, peers, host, true);
    }

    /// Tells the sidecars of the others.
    pub(super) fn apply(&mut self, views: &Views, peers: &Peers, host: &Host) {
        self.obey(views, peers, host, false);
    }

    fn obey(&mut self, views: &Views, peers: &Peers, host: &Host, new: bool) {
        for pod in self.running.values_mut().filter(|pod| pod.sidecar.is_none() == new) {
            let Some(outbound) = views.workload(&workload_of(&pod.pod)) else { continue };
            if let Err(error) = pod.obey(outbound, peers, host) {
                let problem = network::not_started(object(&pod.pod), pod.pod.address, &error);
                self.failed.push((pod.pod.clone(), problem));
            }
        }
    }

    /// The pods that nobody is told of any more.
    pub(super) fn leave(&mut self) -> Vec<Pod> {
        std::mem::take(&mut self.leaving)
    }

    /// All pods, gone ones too: the process ends.
    pub(super) fn leave_all(&mut self) -> Vec<Pod> {
        let running = std::mem::take(&mut self.running);
        running.into_values().chain(self.leave()).collect()
    }

    /// Those that run, by namespace and name.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Pod> {
        self.running.values()
    }

    /// What went wrong.
    pub(super) fn problems(&self) -> impl Iterator<Item = &Diagnostic> {
        let of_ports = self.running.values().flat_map(|pod| pod.ports.values()).filter_map(|port| port.moved.as_ref());
        of_ports.chain(self.failed.iter().map(|(_, problem)| problem))
    }

    /// Hides series of metrics that are idle.
    pub(super) fn sweep(&self, now: Instant) {
        self.running.values().for_each(|pod| pod.servers.registry.sweep(now));
    }
}

impl Pod {
    fn bind(pod: &Arc<SimulatedPod>, host: &Host) -> io::Result<Self> {
        let servers = Servers::start(pod.address, &host.server)?;
        let outbound = network::bind(pod.address, OUTBOUND)?;
        let mut this = Self {
            pod: pod.clone(),
            outbound: outbound.address,
            ports: BTreeMap::new(),
            servers,
            sidecar: None,
            waiting: vec![(Listener::OUTBOUND.into(), outbound.socket)],
            closing: Vec::new(),
        };
        this.add_ports(host)?;
        Ok(this)
    }

    /// Becomes what the configuration says now.
    fn adopt(&mut self, pod: &Arc<SimulatedPod>, host: &Host) -> io::Result<()> {
        if Arc::ptr_eq(&self.pod, pod) && pod.ports.iter().all(|port| self.ports.contains_key(&port.port)) {
            return Ok(());
        }
        self.pod = pod.clone();
        let gone = self.ports.extract_if(.., |number, _| !pod.ports.iter().any(|port| port.port == *number));
        self.closing.extend(gone.map(|(number, port)| {
            linger(port.echo);
            number
        }));
        self.add_ports(host)
    }

    fn add_ports(&mut self, host: &Host) -> io::Result<()> {
        let pod = self.pod.clone();
        for port in &pod.ports {
            let wanted = listen(&pod, port);
            if let Some(known) = self.ports.get_mut(&port.port) {
                if known.echo.listen.identity != wanted.identity || known.echo.listen.speaks != wanted.speaks {
                    let echo = host.echoes.serve(wanted)?;
                    linger(std::mem::replace(&mut known.echo, echo));
                }
                continue;
            }
            let bound = network::bind(pod.address, port.port)?;
            let echo = host.echoes.serve(wanted)?;
            let place = at(pod.address, port.port);
            let moved = bound.moved.map(|why| network::moved(object(&pod), place, bound.address, &why));
            self.waiting.push((Listener::inbound_name(port.port), bound.socket));
            self.ports.insert(port.port, Port { bound: bound.address, echo, moved });
        }
        Ok(())
    }

    fn obey(&mut self, outbound: &Snapshot, peers: &Peers, host: &Host) -> io::Result<()> {
        let applications: Vec<(u16, SocketAddr)> =
            self.ports.iter().map(|(number, port)| (*number, port.echo.listen.address)).collect();
        let before = self.sidecar.as_ref().map(|sidecar| &*sidecar.snapshot);
        let snapshot = Arc::new(sidecar(outbound, &self.pod, &applications, peers, before));
        match &mut self.sidecar {
            Some(running) if running.snapshot.version == snapshot.version => {}
            Some(running) => {
                running.proxy.apply(snapshot.clone());
                running.snapshot = snapshot;
            }
            None => {
                let source = Some(IpAddr::V4(self.pod.address));
                let own = self.servers.addresses.clone();
                let proxy = host.start(host.settings, &self.servers.registry, own, source, snapshot.clone())?;
                self.sidecar = Some(Sidecar { proxy, snapshot });
            }
        }
        let Some(Sidecar { proxy, .. }) = &self.sidecar else { return Ok(()) };
        for number in self.closing.drain(..) {
            proxy.close(&Listener::inbound_name(number));
        }
        for (name, socket) in self.waiting.drain(..) {
            proxy.listen(&name, &socket)?;
        }
        self.servers.set(ServerState::Live);
        Ok(())
    }

    /// Its sidecar.
    pub(super) fn proxy(&self) -> Option<&Arc<Proxy>> {
        self.sidecar.as_ref().map(|sidecar| &sidecar.proxy)
    }

    /// Lets requests on their way end, then closes everything.
    pub(super) async fn end(self) {
        self.servers.set(ServerState::Draining);
        if let Some(sidecar) = &self.sidecar {
            let cut = sidecar.proxy.drain().await;
            tracing::debug!(pod = %self.pod.name, connections_cut = cut, "a pod has ended");
        }
    }
}

/// Keeps an echo server a little longer.
fn linger(echo: Echo) {
    tokio::spawn(async move {
        tokio::time::sleep(GRACE).await;
        drop(echo);
    });
}

fn key(pod: &SimulatedPod) -> Key {
    (pod.namespace.clone(), pod.name.clone())
}

fn object(pod: &SimulatedPod) -> outrigger_model::ObjectRef {
    network::object("Pod", &pod.namespace, &pod.name)
}

/// Who answers behind a port.
fn listen(pod: &SimulatedPod, port: &SimulatedPort) -> Listen {
    let service = port.service.as_ref().map_or(&pod.facts.canonical_service, |service| &service.name);
    let identity = Identity {
        service: service.to_string(),
        namespace: pod.namespace.to_string(),
        pod: pod.name.to_string(),
        container: port.container.to_string(),
        version: known(&pod.facts.version),
    };
    let speaks = if port.is_http() { Speaks::Http } else { Speaks::Bytes };
    Listen { address: at(pod.address, 0), identity, container_port: Some(port.port), speaks }
}
