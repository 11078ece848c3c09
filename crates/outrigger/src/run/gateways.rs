//! Gateways: a proxy of its own for each, at a loopback address of its own, with or without simulated pods.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Instant;

use outrigger_config::simulate::Simulation;
use outrigger_config::translate::gateways::{GatewayId, GatewayObject, GatewayProxy};
use outrigger_model::{Diagnostic, ObjectRef, Snapshot, Workload};
use outrigger_proxy::Proxy;
use outrigger_telemetry::ServerState;

use super::host::Host;
use super::network::{self, at};
use super::servers::Servers;
use super::views::Views;

/// The gateways that run.
#[derive(Default)]
pub(super) struct Gateways {
    running: BTreeMap<GatewayId, Gateway>,
    /// Gone from the configuration, and perhaps still at their address.
    leaving: Vec<Gateway>,
    /// Those that were handed out to end.
    ending: HashSet<GatewayId>,
    /// Those that have ended. They keep their addresses while there are others, so that one that comes back is where it
    /// was.
    resting: HashSet<GatewayId>,
    failed: Vec<Diagnostic>,
    /// Whether one has to wait until its predecessor has ended.
    waits: bool,
}

/// One gateway.
pub(super) struct Gateway {
    /// What the configuration says of it.
    pub(super) gateway: GatewayProxy,
    /// Where it is.
    pub(super) address: Ipv4Addr,
    /// Metrics and readiness.
    pub(super) servers: Servers,
    ports: BTreeMap<Arc<str>, Port>,
    proxy: Option<Arc<Proxy>>,
    version: u64,
    waiting: Vec<(Arc<str>, TcpListener)>,
    closing: Vec<Arc<str>>,
}

/// A port of a gateway.
struct Port {
    bound: SocketAddr,
    /// Why it is not where it should be.
    moved: Option<Diagnostic>,
}

impl Gateways {
    /// Binds the sockets of new gateways and of new ports of others.
    pub(super) fn prepare(&mut self, wanted: &[GatewayProxy], views: &Views, simulation: &mut Simulation, host: &Host) {
        let stays: HashSet<&GatewayId> = wanted.iter().map(|gateway| &gateway.id).collect();
        let gone = self.running.extract_if(.., |id, _| !stays.contains(id));
        self.leaving.extend(gone.map(|(_, gateway)| gateway));
        self.failed.clear();
        self.waits = false;
        for gateway in wanted {
            let Some(snapshot) = views.gateway(&gateway.id) else { continue };
            if self.ending.contains(&gateway.id) {
                self.waits = true;
                continue;
            }
            let prepared = match self.running.get_mut(&gateway.id) {
                Some(running) => running.adopt(gateway, snapshot),
                None => self
                    .address(&gateway.id, simulation)
                    .and_then(|address| Gateway::bind(gateway, address, snapshot, host))
                    .map(|new| drop(self.running.insert(gateway.id.clone(), new))),
            };
            if let Err(error) = prepared {
                self.fail(gateway, &error);
            }
        }
    }

    fn address(&mut self, id: &GatewayId, simulation: &mut Simulation) -> io::Result<Ipv4Addr> {
        self.resting.remove(id);
        if let Some(address) = simulation.gateway_address(id) {
            return Ok(address);
        }
        self.resting.drain().for_each(|id| simulation.release_gateway(&id));
        simulation.gateway_address(id).ok_or_else(|| io::Error::other("there is no loopback address left"))
    }

    /// Starts the new ones, and tells the others.
    pub(super) fn apply(&mut self, views: &Views, host: &Host) {
        let mut failed = Vec::new();
        for gateway in self.running.values_mut() {
            let Some(snapshot) = views.gateway(&gateway.gateway.id) else { continue };
            if let Err(error) = gateway.obey(snapshot, host) {
                failed.push((gateway.gateway.clone(), error));
            }
        }
        for (gateway, error) in failed {
            self.fail(&gateway, &error);
        }
    }

    /// Says that none of these can be served.
    pub(super) fn refuse(&mut self, wanted: &[GatewayProxy], error: &io::Error) {
        self.failed.clear();
        wanted.iter().for_each(|gateway| self.fail(gateway, error));
    }

    fn fail(&mut self, gateway: &GatewayProxy, error: &io::Error) {
        let message = format!("cannot be served: {error}");
        let problem = outrigger_config::codes::NOT_STARTED.bare(message, "");
        self.failed.push(Diagnostic { object: Some(object(gateway)), ..problem });
    }

    /// Those that are gone, to be ended; [`Self::ended`] is to be told when they have.
    pub(super) fn leave(&mut self) -> Vec<Gateway> {
        self.ending.extend(self.leaving.iter().map(|gateway| gateway.gateway.id.clone()));
        std::mem::take(&mut self.leaving)
    }

    /// A gateway that was gone has ended. Whether another waits for its address.
    pub(super) fn ended(&mut self, id: &GatewayId) -> bool {
        self.ending.remove(id);
        self.resting.insert(id.clone());
        self.waits
    }

    /// All of them: the process ends.
    pub(super) fn leave_all(&mut self) -> Vec<Gateway> {
        let running = std::mem::take(&mut self.running);
        running.into_values().chain(std::mem::take(&mut self.leaving)).collect()
    }

    /// Those that run, by id.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Gateway> {
        self.running.values()
    }

    /// Who is behind their addresses.
    pub(super) fn peers(&self) -> Vec<(Ipv4Addr, Arc<Workload>)> {
        self.running.values().map(|gateway| (gateway.address, gateway.gateway.workload.clone())).collect()
    }

    /// What went wrong.
    pub(super) fn problems(&self) -> impl Iterator<Item = &Diagnostic> {
        let ports = self.running.values().flat_map(|gateway| gateway.ports.values());
        ports.filter_map(|port| port.moved.as_ref()).chain(&self.failed)
    }

    /// Hides series of metrics that are idle.
    pub(super) fn sweep(&self, now: Instant) {
        self.running.values().for_each(|gateway| gateway.servers.registry.sweep(now));
    }
}

impl Gateway {
    fn bind(gateway: &GatewayProxy, address: Ipv4Addr, snapshot: &Snapshot, host: &Host) -> io::Result<Self> {
        let mut this = Self {
            gateway: gateway.clone(),
            address,
            servers: Servers::start(address, &host.server)?,
            ports: BTreeMap::new(),
            proxy: None,
            version: 0,
            waiting: Vec::new(),
            closing: Vec::new(),
        };
        this.adopt(gateway, snapshot)?;
        Ok(this)
    }

    /// Becomes what the configuration says now.
    fn adopt(&mut self, gateway: &GatewayProxy, snapshot: &Snapshot) -> io::Result<()> {
        self.gateway = gateway.clone();
        let gone = self.ports.extract_if(.., |name, _| snapshot.listener(name).is_none());
        self.closing.extend(gone.map(|(name, _)| name));
        for listener in &snapshot.listeners {
            if self.ports.contains_key(&listener.name) {
                continue;
            }
            let bound = network::bind(self.address, listener.port)?;
            let wanted = at(self.address, listener.port);
            let moved = bound.moved.map(|why| network::moved(object(&self.gateway), wanted, bound.address, &why));
            self.waiting.push((listener.name.clone(), bound.socket));
            self.ports.insert(listener.name.clone(), Port { bound: bound.address, moved });
        }
        Ok(())
    }

    fn obey(&mut self, snapshot: &Arc<Snapshot>, host: &Host) -> io::Result<()> {
        let proxy = match &self.proxy {
            Some(proxy) => {
                if self.version != snapshot.version {
                    proxy.apply(snapshot.clone());
                }
                proxy.clone()
            }
            None => {
                let own = self.servers.addresses.clone();
                let source = Some(IpAddr::V4(self.address));
                let proxy =
                    host.start(host.settings.at_the_edge(), &self.servers.registry, own, source, snapshot.clone())?;
                self.proxy.insert(proxy).clone()
            }
        };
        self.version = snapshot.version;
        self.closing.drain(..).for_each(|name| proxy.close(&name));
        for (name, socket) in self.waiting.drain(..) {
            proxy.listen(&name, &socket)?;
        }
        self.servers.set(ServerState::Live);
        Ok(())
    }

    /// Its proxy.
    pub(super) fn proxy(&self) -> Option<&Arc<Proxy>> {
        self.proxy.as_ref()
    }

    /// Where a listener of this name is.
    pub(super) fn bound(&self, listener: &str) -> Option<SocketAddr> {
        self.ports.get(listener).map(|port| port.bound)
    }

    /// All its listeners.
    pub(super) fn listeners(&self) -> impl Iterator<Item = (&Arc<str>, SocketAddr)> {
        self.ports.iter().map(|(name, port)| (name, port.bound))
    }

    /// Lets requests on their way end, then closes everything.
    pub(super) async fn end(self) {
        self.servers.set(ServerState::Draining);
        if let Some(proxy) = &self.proxy {
            let cut = proxy.drain().await;
            tracing::debug!(gateway = %self.gateway.id.name, connections_cut = cut, "a gateway has ended");
        }
    }
}

/// The object that findings about a gateway name: the first it serves.
fn object(gateway: &GatewayProxy) -> ObjectRef {
    match gateway.objects.first() {
        Some(GatewayObject { kind, namespace, name, .. }) => network::object(kind, namespace, name),
        None => network::object("Gateway", &gateway.id.namespace, &gateway.id.name),
    }
}
