//! Everything that follows the configuration, and the order in which it does: no request may meet a place where nobody
//! listens yet, or any more.
//!
//! 1. Pods are staged and every view is translated.
//! 2. New pods and gateways bind their sockets and start: they are there before anybody is told of them.
//! 3. All proxies take their new snapshots.
//! 4. What is gone drains, and gives its address back.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use outrigger_config::loader::Loaded;
use outrigger_config::simulate::{SimulatedPod, Simulation, peers};
use outrigger_config::translate::View;
use outrigger_config::translate::gateways::{self, GatewayId, GatewayProxy};
use outrigger_model::{Diagnostic, Listener, Snapshot};
use outrigger_proxy::Proxy;
use outrigger_telemetry::Registry;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::backends::Backends;
use super::configuration::InForce;
use super::gateways::{Gateway, Gateways};
use super::host::Host;
use super::load::{self, Load};
use super::network::Block;
use super::pods::{Pod, Pods};
use super::report::{GatewayReport, WorkloadReport};
use super::sd_file::{SdFile, Target};
use super::views::Views;

/// What a mesh is started with.
pub(super) struct Plan {
    /// Metrics of the process.
    pub(super) registry: Registry,
    /// The main listener; gone once the main proxy has it.
    pub(super) outbound: Option<TcpListener>,
    /// The sockets of the view's forwards, in their order; gone like the main one.
    pub(super) forward_sockets: Vec<TcpListener>,
    /// Further sockets of the main proxy, for redirected connections, by the names of their listeners; gone like the others.
    pub(super) captured: Vec<(&'static str, TcpListener)>,
    /// Where metrics of the process are served.
    pub(super) stats: SocketAddr,
    /// Other addresses of the process.
    pub(super) own: Vec<SocketAddr>,
    /// For whom the main listener routes.
    pub(super) view: View,
    /// `--simulate`.
    pub(super) simulate: bool,
    /// `--echo`.
    pub(super) echo: bool,
    /// `--load`.
    pub(super) load: Option<f64>,
    /// `--sd-file`.
    pub(super) sd_file: Option<SdFile>,
}

/// The running mesh.
pub(super) struct Mesh {
    plan: Plan,
    host: Host,
    outbound: SocketAddr,
    main: Option<Arc<Proxy>>,
    version: u64,
    views: Views,
    /// Loopback addresses, from the first pod or gateway on.
    network: Option<(Block, Simulation)>,
    pods: Pods,
    gateways: Gateways,
    backends: Backends,
    load: Option<Load>,
    last: Option<Loaded>,
    /// What is gone and still ends.
    ending: JoinSet<()>,
    ended: mpsc::UnboundedSender<Ended>,
}

/// What has ended, and where nothing listens any more.
pub(super) enum Ended {
    /// A pod.
    Pod(Ipv4Addr),
    /// A gateway.
    Gateway(GatewayId),
}

/// What an input asks for.
struct Staged {
    resources: outrigger_config::resources::Resources,
    pods: Vec<Arc<SimulatedPod>>,
    gateways: Vec<GatewayProxy>,
    diagnostics: Vec<Diagnostic>,
}

impl Mesh {
    /// A mesh of nothing yet. What ends is told to `ended`, which is to call [`Self::release`].
    pub(super) fn new(plan: Plan, host: Host, ended: mpsc::UnboundedSender<Ended>) -> anyhow::Result<Self> {
        let outbound = plan.outbound.as_ref().context("a mesh has a main listener")?.local_addr()?;
        let network = match plan.simulate {
            true => Some(network().context("no block of loopback addresses is free for the simulated pods")?),
            false => None,
        };
        let views = Views::new(plan.view.clone(), plan.simulate);
        let load = plan.load.map(Load::start).transpose().context("the load cannot start")?;
        Ok(Self {
            plan,
            host,
            outbound,
            main: None,
            version: 0,
            views,
            network,
            pods: Pods::default(),
            gateways: Gateways::default(),
            backends: Backends::default(),
            load,
            last: None,
            ending: JoinSet::new(),
            ended,
        })
    }

    /// Takes an input into force.
    pub(super) fn follow(&mut self, loaded: Loaded) -> anyhow::Result<InForce> {
        let staged = self.stage(&loaded);
        self.views.translate(&staged.resources, &staged.pods, &staged.gateways);
        self.pods.prepare(&staged.pods, &self.host);
        match &mut self.network {
            Some((_, simulation)) => {
                self.gateways.prepare(&staged.gateways, &self.views, simulation, &self.host);
            }
            None => self.gateways.refuse(&staged.gateways, &io::Error::other("no block of loopback addresses is free")),
        }
        self.views.relocate(&self.pods.moved());
        let peers = peers(&staged.pods, &self.gateways.peers());
        self.pods.start(&self.views, &peers, &self.host);
        let snapshot = self.views.main();
        self.apply_main(&snapshot, &staged.pods)?;
        self.pods.apply(&self.views, &peers, &self.host);
        self.gateways.apply(&self.views, &self.host);
        if self.plan.echo {
            let simulated: HashSet<IpAddr> = staged.pods.iter().map(|pod| pod.address.into()).collect();
            self.backends.follow(&snapshot, &simulated, &self.host.echoes);
        }
        self.send_load(&snapshot);
        self.let_go();
        if let Err(error) = self.list_targets() {
            if self.last.is_none() {
                return Err(error);
            }
            tracing::error!("{error:#}");
        }
        let in_force = InForce {
            diagnostics: self.diagnostics(&loaded, staged.diagnostics).into(),
            files: loaded.files,
            objects: loaded.objects,
            workloads: self.pods.iter().map(WorkloadReport::of).collect(),
            gateways: self.gateways.iter().flat_map(GatewayReport::of).collect(),
            forwards: self.plan.view.forwards.clone(),
            status: self.views.conditions().into(),
            proxies: Arc::new(self.proxies()),
            snapshot,
        };
        self.last = Some(loaded);
        Ok(in_force)
    }

    /// Pods and gateways of an input, and their addresses.
    fn stage(&mut self, loaded: &Loaded) -> Staged {
        let stage = match &mut self.network {
            Some((_, simulation)) if self.plan.simulate => Some(simulation.stage(&loaded.resources)),
            _ => None,
        };
        let (resources, pods, diagnostics) = match stage {
            Some(stage) => (stage.resources, stage.pods, stage.diagnostics),
            None => (loaded.resources.clone(), Vec::new(), Vec::new()),
        };
        let gateways = gateways::list(&resources, &self.plan.view);
        if self.network.is_none() && !gateways.is_empty() {
            match network() {
                Ok(network) => self.network = Some(network),
                Err(error) => tracing::warn!(%error, "no block of loopback addresses is free"),
            }
        }
        Staged { resources, pods, gateways, diagnostics }
    }

    fn apply_main(&mut self, snapshot: &Arc<Snapshot>, pods: &[Arc<SimulatedPod>]) -> io::Result<()> {
        match &self.main {
            Some(proxy) if self.version == snapshot.version => drop(proxy.clone()),
            Some(proxy) => proxy.apply(snapshot.clone()),
            None => {
                let (own, source) = (self.plan.own.clone(), own_address(&self.plan.view, pods));
                let proxy = self.host.start(self.host.settings, &self.plan.registry, own, source, snapshot.clone())?;
                // Not kept: a socket that is still open somewhere takes connections that nobody serves when the proxy
                // has drained.
                if let Some(socket) = self.plan.outbound.take() {
                    proxy.listen(Listener::OUTBOUND, &socket)?;
                }
                for (name, socket) in self.plan.captured.drain(..) {
                    proxy.listen(name, &socket)?;
                }
                for (forward, socket) in self.plan.view.forwards.iter().zip(self.plan.forward_sockets.drain(..)) {
                    proxy.listen(&Listener::forward_name(forward.address), &socket)?;
                }
                self.main = Some(proxy);
            }
        }
        self.version = snapshot.version;
        Ok(())
    }

    fn send_load(&mut self, main: &Arc<Snapshot>) {
        if self.load.is_none() {
            return;
        }
        let outbound: Arc<str> = Listener::OUTBOUND.into();
        let mut ways: BTreeMap<_, Vec<SocketAddr>> = BTreeMap::new();
        for pod in self.pods.iter() {
            ways.entry(super::views::workload_of(&pod.pod)).or_default().push(pod.outbound);
        }
        let mut views: Vec<load::View> = Vec::new();
        for (workload, ways) in ways {
            let Some(snapshot) = self.views.workload(&workload) else { continue };
            views.push(load::View { snapshot: snapshot.clone(), listener: outbound.clone(), ways });
        }
        if views.is_empty() {
            views.push(load::View { snapshot: main.clone(), listener: outbound, ways: vec![self.outbound] });
        }
        views.extend(self.gateway_views());
        if let Some(load) = &mut self.load {
            load.follow(&views);
        }
    }

    /// What each port of each gateway routes.
    fn gateway_views(&self) -> impl Iterator<Item = load::View> {
        self.gateways.iter().flat_map(|gateway| {
            let snapshot = self.views.gateway(&gateway.gateway.id);
            let listeners = gateway.listeners().map(move |(name, bound)| {
                Some(load::View { snapshot: snapshot?.clone(), listener: name.clone(), ways: vec![bound] })
            });
            listeners.flatten()
        })
    }

    /// A request for each port of the gateways, host and target, for a person to copy.
    pub(super) fn examples(&self) -> HashMap<SocketAddr, (String, String)> {
        self.gateway_views().filter_map(|view| Some((view.ways[0], load::example(&view)?))).collect()
    }

    /// Ends what is gone, in the background.
    fn let_go(&mut self) {
        while self.ending.try_join_next().is_some() {}
        for pod in self.pods.leave() {
            let (ended, address) = (self.ended.clone(), pod.pod.address);
            self.ending.spawn(async move {
                pod.end().await;
                // Nobody listens when the process ends.
                let _ = ended.send(Ended::Pod(address));
            });
        }
        for gateway in self.gateways.leave() {
            let (ended, id) = (self.ended.clone(), gateway.gateway.id.clone());
            self.ending.spawn(async move {
                gateway.end().await;
                let _ = ended.send(Ended::Gateway(id));
            });
        }
    }

    /// Gives the address of what has ended back. `Some` when that lets something start that waited for it.
    pub(super) fn release(&mut self, ended: Ended) -> Option<anyhow::Result<InForce>> {
        match ended {
            Ended::Pod(address) => {
                if let Some((_, simulation)) = &mut self.network {
                    simulation.release(address);
                }
                None
            }
            Ended::Gateway(id) => {
                let waits = self.gateways.ended(&id);
                let last = if waits { self.last.take() } else { None };
                last.map(|last| self.follow(last))
            }
        }
    }

    fn list_targets(&mut self) -> anyhow::Result<()> {
        let Some(file) = &mut self.plan.sd_file else { return Ok(()) };
        let pods = self.pods.iter().map(|pod| {
            let labels = pod.pod.facts.labels.iter().map(|(name, value)| (&**name, &**value));
            Target::of_pod(pod.servers.metrics, &pod.pod.namespace, &pod.pod.name, labels)
        });
        let gateways = self.gateways.iter().map(|gateway| {
            let (id, labels) = (&gateway.gateway.id, &gateway.gateway.workload.labels);
            let labels = labels.iter().map(|(name, value)| (&**name, &**value));
            Target::of_pod(gateway.servers.metrics, &id.namespace, &id.name, labels)
        });
        let process = Target::of_process(self.plan.stats);
        let targets: Vec<Target> = std::iter::once(process).chain(pods).chain(gateways).collect();
        file.write(&targets).with_context(|| format!("--sd-file {} cannot be written", file.path().display()))
    }

    /// Everything found, each finding once: those of the loader first, the others by file and place.
    fn diagnostics(&self, loaded: &Loaded, staged: Vec<Diagnostic>) -> Vec<Diagnostic> {
        let mut all = loaded.diagnostics.clone();
        let mut seen: HashSet<Diagnostic> = all.iter().cloned().collect();
        let running = self.pods.problems().chain(self.gateways.problems());
        let others = staged.iter().chain(self.views.diagnostics()).chain(running);
        let mut others: Vec<Diagnostic> = others.filter(|d| seen.insert((*d).clone())).cloned().collect();
        others.sort_by(|a, b| a.place.cmp(&b.place));
        all.extend(others);
        all
    }

    /// All proxies but the main one, by `NAMESPACE/NAME` of their pod or gateway.
    fn proxies(&self) -> BTreeMap<String, Arc<Proxy>> {
        let pods = self.pods.iter().map(|pod| (format!("{}/{}", pod.pod.namespace, pod.pod.name), pod.proxy()));
        let gateways = self.gateways.iter().map(|gateway| {
            let id = &gateway.gateway.id;
            (format!("{}/{}", id.namespace, id.name), gateway.proxy())
        });
        gateways.chain(pods).filter_map(|(name, proxy)| Some((name, proxy?.clone()))).collect()
    }

    /// The main proxy, once a configuration is in force.
    pub(super) fn main(&self) -> Option<&Arc<Proxy>> {
        self.main.as_ref()
    }

    /// Waits until names were looked up for the first time, so that whoever comes with the report in hand finds endpoints;
    /// not for long.
    pub(super) async fn names_answered(&self) {
        let proxies: Vec<Arc<Proxy>> = self.main.iter().cloned().chain(self.proxies().into_values()).collect();
        let all = async {
            for proxy in &proxies {
                proxy.names_answered().await;
            }
        };
        if tokio::time::timeout(self.host.settings.dns_start_timeout, all).await.is_err() {
            tracing::warn!("not all names have been looked up yet; requests to the others wait, or get 503");
        }
    }

    /// Where the main proxy listens.
    pub(super) fn outbound(&self) -> SocketAddr {
        self.outbound
    }

    /// Where it takes connections that the system redirects on their way in.
    pub(super) fn inbound(&self) -> Option<SocketAddr> {
        let listeners = self.main.as_ref()?.listeners();
        listeners.into_iter().find(|(name, _)| **name == *Listener::INBOUND).map(|(_, address)| address)
    }

    /// What the load has done.
    pub(super) fn load_counts(&self) -> Option<Arc<load::Counts>> {
        self.load.as_ref().map(Load::counts)
    }

    /// Hides series of metrics that are idle.
    pub(super) fn sweep(&self, now: Instant) {
        self.plan.registry.sweep(now);
        self.pods.sweep(now);
        self.gateways.sweep(now);
    }

    /// Connections of clients to the main proxy and to gateways.
    pub(super) fn connections(&self) -> usize {
        let gateways = self.gateways.iter().filter_map(Gateway::proxy);
        self.main.iter().chain(gateways).map(|proxy| proxy.connections()).sum()
    }

    /// Lets requests on their way end: first where strangers come in, then at the pods they are sent to. Tells how many
    /// connections of strangers had to be cut.
    pub(super) async fn drain(&mut self) -> usize {
        self.load = None;
        let mut edges = JoinSet::new();
        self.gateways.leave_all().into_iter().for_each(|gateway| drop(edges.spawn(gateway.end())));
        let cut = match &self.main {
            Some(main) => main.drain().await,
            None => 0,
        };
        while edges.join_next().await.is_some() {}
        while self.ending.join_next().await.is_some() {}
        let mut pods = JoinSet::new();
        self.pods.leave_all().into_iter().for_each(|pod: Pod| drop(pods.spawn(pod.end())));
        while pods.join_next().await.is_some() {}
        if let Some(file) = &mut self.plan.sd_file
            && let Err(error) = file.write(&[])
        {
            tracing::warn!(%error, "the file of --sd-file still names targets that are gone");
        }
        cut
    }
}

/// Where connections of the main proxy come from if it stands in for the sidecar of a simulated workload: other sidecars
/// know their callers by address. The workload's first pod as the process starts; later ones are other replicas of it.
fn own_address(view: &View, pods: &[Arc<SimulatedPod>]) -> Option<IpAddr> {
    let own = view.workload.as_ref()?;
    let is_own =
        |pod: &&Arc<SimulatedPod>| pod.namespace == own.namespace && (pod.owner == own.name || pod.name == own.name);
    pods.iter().find(is_own).map(|pod| pod.address.into())
}

fn network() -> io::Result<(Block, Simulation)> {
    let block = Block::take()?;
    let simulation = Simulation::new(block.number);
    Ok((block, simulation))
}
