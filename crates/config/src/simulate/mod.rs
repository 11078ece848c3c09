//! Simulation: pods for the workloads of an input, each with a loopback address of its own.
//!
//! [`Simulation::stage`] puts a Pod into the resources for every replica of every workload, so that everything after it
//! (Services, subsets, localities, identities) works as on a cluster; [`sidecar`] makes of the outbound view of a workload
//! what one of its pods obeys. Nothing is started here: whoever runs the pods binds their sockets and says with
//! [`Simulation::release`] when an address is free again.
//!
//! In the order things happen: `replicas` (which pods), `ports` (what they serve, and which Services send there),
//! `readiness`, `pods` (the Pod objects) and `drafts` (all of these, unit by unit), `replaced` (endpoints that give way), `network` (addresses), `sidecar`.

mod captured;
mod drafts;
mod network;
mod pods;
mod ports;
mod readiness;
mod replaced;
mod replicas;
mod sidecar;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use outrigger_model::{BodyLimits, Diagnostic, RateLimit, ServiceRef, UpstreamHttp, Workload};

use crate::codes;
use crate::kind::config_map::ConfigMap;
use crate::kind::mesh_config::MeshConfig;
use crate::kind::pod::Pod;
use crate::resources::{Resources, Table};
use crate::translate::gateways::GatewayId;
use crate::translate::{Naming, View, Workloads, in_order, owner_name, read_mesh};
pub use captured::captured;
use drafts::{Draft, Drafter};
use network::Addresses;
pub use network::Network;
use ports::{Plan, Targets};
use replaced::Replaced;
pub use sidecar::{Peers, peers, sidecar};

/// What an input looks like with its pods.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The resources, simulated Pods among them.
    pub resources: Resources,
    /// The pods, sorted by namespace and name.
    pub pods: Vec<Arc<SimulatedPod>>,
    /// What of the input cannot be simulated, and why.
    pub diagnostics: Vec<Diagnostic>,
}

/// A pod that stands for a replica.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatedPod {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Pod name: `reviews-v1-0` for the first replica of `reviews-v1`; its own for a Pod.
    pub name: Arc<str>,
    /// The workload it belongs to: its own name for a Pod without owner.
    pub owner: Arc<str>,
    /// Its address; stays the same while the pod exists.
    pub address: Ipv4Addr,
    /// `serviceAccountName`, `default` where none is given.
    pub service_account: Arc<str>,
    /// Its facts, for metrics, subsets and policies.
    pub facts: Arc<Workload>,
    /// Whether it takes traffic; a pod that is not ready runs and is no endpoint.
    pub ready: bool,
    /// The ports of all its containers.
    pub ports: Vec<SimulatedPort>,
}

/// A container's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulatedPort {
    /// The container's name.
    pub container: Arc<str>,
    /// The port's name, perhaps empty.
    pub name: Arc<str>,
    /// Its number.
    pub port: u16,
    /// What it speaks, as the Service that targets it says: `http`, `http2`, `grpc`, `grpc-web`, `https`, `tls`, `tcp`,
    /// `mongo`, `redis` or `mysql`; `http` where nobody says.
    pub protocol: Arc<str>,
    /// The version of HTTP that its container gets; [`UpstreamHttp::AsClient`]: nobody says what it speaks.
    pub http: UpstreamHttp,
    /// The Service whose requests come in here: the first by name that selects the pod and targets the port.
    pub service: Option<ServiceRef>,
    /// Limits on its requests: of RateLimits with `enforcedBy: Server` for any Service that targets the port.
    pub rate_limits: Vec<Arc<RateLimit>>,
    /// The same, on their bodies.
    pub body_limits: BodyLimits,
}

impl SimulatedPort {
    /// Whether it speaks HTTP of some version, in plain text.
    pub fn is_http(&self) -> bool {
        matches!(&*self.protocol, "http" | "http2" | "grpc" | "grpc-web")
    }
}

/// Stages one input after the other; what did not change keeps its address in memory as well as on the network.
#[derive(Debug)]
pub struct Simulation {
    view: View,
    addresses: Addresses<Key>,
    gateways: Addresses<GatewayId>,
    workloads: Workloads,
    mesh: Option<(Arc<Table<ConfigMap>>, Arc<MeshConfig>)>,
    replaced: Replaced,
    /// The Pods of before, as they stand in the resources.
    table: Arc<Table<Pod>>,
    staged: HashMap<Key, Arc<SimulatedPod>>,
    /// The input of before and the naming it had, for facts.
    owners: Option<(Resources, Naming)>,
}

/// Namespace and name of a pod.
type Key = (Arc<str>, Arc<str>);

/// A pod with its address.
struct Placed {
    pod: Arc<Pod>,
    /// `None` where nothing of it runs here.
    plan: Option<Arc<Plan>>,
    ready: bool,
}

impl Simulation {
    /// A simulation in a block of the loopback range: pods have addresses from `127.NETWORK.1.1` on.
    pub fn new(network: u8) -> Self {
        let network = Network(network);
        Self {
            view: View::default(),
            addresses: Addresses::new(network, Network::pod),
            gateways: Addresses::new(network, Network::gateway),
            workloads: Workloads::default(),
            mesh: None,
            replaced: Replaced::default(),
            table: Arc::default(),
            staged: HashMap::new(),
            owners: None,
        }
    }

    /// Puts a Pod for every replica into the resources. Pods that were there keep their address.
    pub fn stage(&mut self, resources: &Resources) -> Stage {
        self.replaced.update(resources);
        let mut diagnostics = self.replaced.diagnostics.clone();
        let domain = self.view.domain.clone();
        let targets = Targets::new(resources, &domain);
        let units = replicas::units(resources, &mut diagnostics);
        let mut drafter = Drafter::new(&targets, diagnostics);
        let drafts: Vec<Draft> = units.iter().flat_map(|unit| drafter.unit(unit)).collect();
        drafter.review(resources);
        let mut diagnostics = drafter.diagnostics;
        let placed = self.place(drafts, &mut diagnostics);
        let table = placed.iter().map(|placed| placed.pod.clone()).collect();
        self.table = Table::of(table, &self.table);
        let resources = Resources {
            pods: self.table.clone(),
            endpoint_slices: self.replaced.slices.clone(),
            endpoints: self.replaced.endpoints.clone(),
            ..resources.clone()
        };
        let pods = self.simulated(&resources, placed);
        Stage { resources, pods, diagnostics: in_order(diagnostics) }
    }

    /// The pod at this address has ended, nothing listens there any more: the address may be used again. An address of a
    /// pod that still exists stays.
    pub fn release(&mut self, address: Ipv4Addr) {
        self.addresses.release(address);
    }

    /// The address of a gateway, the same as long as it exists; `None` when there are more gateways than addresses.
    pub fn gateway_address(&mut self, id: &GatewayId) -> Option<Ipv4Addr> {
        self.gateways.of(id.clone())
    }

    /// A gateway is gone, nothing listens at its address any more.
    pub fn release_gateway(&mut self, id: &GatewayId) {
        self.gateways.release_owner(id);
    }

    /// Gives every pod its address and status; lends those of before that are the same.
    fn place(&mut self, drafts: Vec<Draft>, diagnostics: &mut Vec<Diagnostic>) -> Vec<Placed> {
        let wanted: HashSet<Key> = drafts.iter().filter(|d| d.plan.is_some()).map(|draft| key(&draft.pod)).collect();
        self.addresses.keep(|key| wanted.contains(key));
        let mut placed = Vec::with_capacity(drafts.len());
        for Draft { mut pod, plan, ready } in drafts {
            let address = if plan.is_some() { self.addresses.of(key(&pod)) } else { None };
            if plan.is_some() && address.is_none() {
                let message = format!("not simulated: there is no loopback address left for pod {}", pod.meta.name);
                diagnostics.push(codes::TOO_MANY_PODS.about(&pod.meta, pod.meta.pos, message, ""));
                continue;
            }
            pod.status = pods::status(address, ready);
            let before = self.table.get(&pod.meta.namespace, &pod.meta.name);
            let pod = match before {
                Some(before) if pods::same(before, &pod) => before.clone(),
                _ => Arc::new(pod),
            };
            placed.push(Placed { pod, plan, ready });
        }
        placed
    }

    /// The pods as those who run them see them, with facts.
    fn simulated(&mut self, resources: &Resources, placed: Vec<Placed>) -> Vec<Arc<SimulatedPod>> {
        let naming =
            Naming { trust_domain: self.mesh(resources).trust_domain.clone(), cluster: self.view.cluster.clone() };
        let same_owners = self.owners.as_ref().is_some_and(|(before, named)| {
            *named == naming
                && Arc::ptr_eq(&before.replica_sets, &resources.replica_sets)
                && Arc::ptr_eq(&before.nodes, &resources.nodes)
        });
        let mut index = self.workloads.index(resources, &naming, same_owners);
        let mut staged = HashMap::with_capacity(placed.len());
        for Placed { pod, plan, ready } in placed {
            let (Some(plan), Some(IpAddr::V4(address))) = (plan, pod.status.pod_ip) else { continue };
            let simulated = SimulatedPod {
                namespace: pod.meta.namespace.clone(),
                name: pod.meta.name.clone(),
                owner: owner_name(resources, &pod.meta),
                address,
                service_account: pod.spec.account().into(),
                facts: index.facts(&pod).workload,
                ready,
                ports: plan.ports.clone(),
            };
            let key = key(&pod);
            let simulated = match self.staged.get(&key) {
                Some(before) if **before == simulated => before.clone(),
                _ => Arc::new(simulated),
            };
            staged.insert(key, simulated);
        }
        self.workloads.keep(index);
        self.owners = Some((resources.clone(), naming));
        self.staged = staged;
        let mut pods: Vec<Arc<SimulatedPod>> = self.staged.values().cloned().collect();
        pods.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        pods
    }

    /// The mesh settings, of which findings are made where the input is translated.
    fn mesh(&mut self, resources: &Resources) -> Arc<MeshConfig> {
        match &self.mesh {
            Some((maps, mesh)) if Arc::ptr_eq(maps, &resources.config_maps) => mesh.clone(),
            before => {
                let (mesh, _) = read_mesh(resources, before.as_ref().map(|(_, mesh)| mesh));
                self.mesh = Some((resources.config_maps.clone(), mesh.clone()));
                mesh
            }
        }
    }
}

fn key(pod: &Pod) -> Key {
    (pod.meta.namespace.clone(), pod.meta.name.clone())
}
