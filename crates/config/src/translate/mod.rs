//! From resources to the snapshot that one proxy obeys.
//!
//! [`translate`] is pure: the same resources and view give the same snapshot and findings. One bad object or reference never
//! takes down the rest: it is named in a finding and answered for in its place. [`Translator`] is the same for a stream of
//! inputs: it works out again only what depends on tables that changed (`Arc::ptr_eq`), and lends every cluster, endpoint
//! and virtual host that is equal to that of the snapshot before, so that the proxy sees by pointer what changed. Many
//! translators of one input have a [`Shared`], which does once what does not depend on the client (`shared`), and lends equal
//! parts from client to client (`lender`).
//!
//! In the order things happen: `mesh` settings, `workloads` and the `client`, the `registry` of hosts, `policy` (which
//! DestinationRule), `scope` (which part of the registry), `virtual_services`, `mesh_routes` and `splits`, `vhosts` with
//! `routes` and `http_routes`, `forwards` with `connections` and `l4_routes`;
//! then, service by service, `endpoints`, `clusters` and `services`. Who wins where objects meet is decided in [`crate::precedence`].

mod backends;
mod bindings;
mod breakers;
pub(crate) mod captures;
mod client;
mod clusters;
mod connections;
mod ejections;
mod endpoints;
pub(crate) mod fingerprint;
mod forwards;
pub mod gateways;
mod http_routes;
mod l4_routes;
mod l4_routes_mesh;
mod lender;
mod locality;
mod mesh;
mod mesh_routes;
mod policy;
mod protocol;
mod rate_limits;
mod reach;
mod registry;
mod resolve;
mod retries;
mod route_filters;
mod routes;
mod scope;
mod services;
mod shared;
mod splits;
mod tables;
mod vhosts;
mod virtual_services;
mod workloads;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use outrigger_model::{
    Capture, Cluster, ClusterName, Diagnostic, Listener, RetryPolicy, RouteTable, Snapshot, VirtualHost,
};

pub(crate) use mesh::read as read_mesh;
pub(crate) use protocol::Spoken;
pub(crate) use rate_limits::ServerLimits;
pub(crate) use workloads::{has_labels, owner_name};

use crate::hosts;
use crate::kind::mesh_config::MeshConfig;
use crate::resources::Resources;
use crate::status::ObjectStatus;
use captures::Captured;
use client::Client;
pub use forwards::Forward;
use forwards::Forwarding;
use gateways::{GatewayId, Sites};
use l4_routes_mesh::MeshConnections;
use lender::Lender;
use mesh_routes::MeshRoutes;
use policy::Rules;
use registry::Registry;
use resolve::Resolver;
use scope::{Import, Scope};
use services::ServiceMemo;
use shared::Common;
pub use shared::Shared;
use vhosts::VhostBuilder;
pub(crate) use workloads::{Naming, Workloads};

/// For whom a snapshot is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The workload that sends; `None` for an anonymous client, which counts as being in namespace `default`.
    pub workload: Option<WorkloadName>,
    /// The gateway whose listeners are wanted instead of those of a sidecar; see [`gateways::list`].
    pub gateway: Option<GatewayId>,
    /// Services that have a listener of their own each, which relays connections.
    pub forwards: Arc<[Forward]>,
    /// Whether the system redirects the client's connections to its proxy: [`Snapshot::captures`] says what serves them.
    pub captures: bool,
    /// Suffix of service names.
    pub domain: Arc<str>,
    /// Mesh cluster id.
    pub cluster: Arc<str>,
    /// The time by which certificates are judged; `None`: that of the machine.
    pub now: Option<SystemTime>,
}

/// A workload: Deployment, StatefulSet, DaemonSet, Job, ReplicaSet, Pod, WorkloadEntry or WorkloadGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadName {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl Default for View {
    /// An anonymous client of a mesh with Istio's default names.
    fn default() -> Self {
        let (domain, cluster) = ("cluster.local".into(), "Kubernetes".into());
        Self { workload: None, gateway: None, forwards: [].into(), captures: false, domain, cluster, now: None }
    }
}

impl View {
    /// The view of a workload, in a mesh with Istio's default names.
    pub fn of(namespace: &str, name: &str) -> Self {
        let workload = WorkloadName { namespace: namespace.into(), name: name.into() };
        Self { workload: Some(workload), ..Self::default() }
    }

    /// The view of a gateway, in a mesh with Istio's default names.
    pub fn of_gateway(id: GatewayId) -> Self {
        Self { gateway: Some(id), ..Self::default() }
    }

    fn now(&self) -> SystemTime {
        self.now.unwrap_or_else(SystemTime::now)
    }
}

/// Translates resources for one client.
pub fn translate(resources: &Resources, view: &View) -> (Snapshot, Vec<Diagnostic>) {
    Translator::new(view.clone()).translate(resources)
}

/// Translates one input after the other for one client.
#[derive(Debug)]
pub struct Translator {
    view: View,
    /// What would be shared if there were other clients.
    own: Shared,
    before: Option<Memo>,
}

/// What the last translation found.
#[derive(Debug)]
struct Memo {
    resources: Resources,
    mesh: Arc<MeshConfig>,
    client: Arc<Client>,
    config: Arc<Config>,
    services: Vec<ServiceMemo>,
    clusters: HashMap<ClusterName, Arc<Cluster>>,
}

/// Everything but endpoints and clusters.
#[derive(Debug)]
struct Config {
    registry: Arc<Registry>,
    rules: Rules,
    /// Which services get clusters, by index.
    needed: Vec<bool>,
    /// The indexes of those, by namespace and name.
    order: Vec<u32>,
    served: Served,
    diagnostics: Vec<Diagnostic>,
    /// What other views find and this one knows better.
    refuted: Vec<Diagnostic>,
    /// Of objects of the Gateway API; none for the sidecar of a workload.
    conditions: Vec<ObjectStatus>,
}

/// What a proxy serves, of its configuration.
#[derive(Debug)]
struct Served {
    listeners: Vec<Arc<Listener>>,
    /// Which of them serve redirected connections.
    captures: Arc<[Capture]>,
    /// The virtual hosts of all listeners, by name.
    vhosts: HashMap<Arc<str>, Arc<VirtualHost>>,
    fingerprint: u64,
}

impl Translator {
    /// A translator for one client.
    pub fn new(view: View) -> Self {
        Self { view, own: Shared::default(), before: None }
    }

    /// Translates an input. Findings are complete every time, sorted by file and line.
    pub fn translate(&mut self, resources: &Resources) -> (Snapshot, Vec<Diagnostic>) {
        let mut own = std::mem::take(&mut self.own);
        let translated = self.translate_sharing(resources, &mut own);
        self.own = own;
        translated
    }

    /// Translates an input for one of many clients: what does not depend on the client is worked out for the first of
    /// them, and equal parts of their snapshots are the same in memory.
    pub fn translate_sharing(&mut self, resources: &Resources, shared: &mut Shared) -> (Snapshot, Vec<Diagnostic>) {
        let before = self.before.take();
        let mut diagnostics = shared.update(resources, &self.view);
        let client = shared.client(&self.view, resources, &mut diagnostics);
        let client = match before.as_ref().map(|memo| &memo.client) {
            Some(known) if **known == client => known.clone(),
            _ => Arc::new(client),
        };
        let (common, lender) = shared.parts();
        let pass = Pass { view: &self.view, resources, common, lender, client: &client, before: before.as_ref() };
        let config = pass.config();
        let services = pass.services(&config);
        diagnostics.extend(config.diagnostics.iter().cloned());
        for service in &services {
            diagnostics.extend(service.endpoints.diagnostics.iter().chain(&service.clusters.diagnostics).cloned());
        }
        let never = services.iter().filter_map(|service| service.clusters.never_ejects.as_ref());
        diagnostics.extend(ejections::never_of_mesh(never, mesh::config_map(resources)));
        let snapshot = pass.snapshot(&config, &services);
        self.before = Some(Memo {
            resources: resources.clone(),
            clusters: snapshot.clusters.clone(),
            mesh: common.mesh.clone(),
            client,
            config,
            services,
        });
        (snapshot, in_order(diagnostics))
    }

    /// Findings of other views of the same input that do not hold, because the listeners of this view do what they miss.
    pub fn refuted(&self) -> &[Diagnostic] {
        self.before.as_ref().map_or(&[], |memo| &memo.config.refuted)
    }

    /// The conditions of the Gateway API's objects as the last translation found them; none for a view of a workload, whose
    /// sidecar has nothing to do with gateways.
    pub fn conditions(&self) -> &[ObjectStatus] {
        self.before.as_ref().map_or(&[], |memo| &memo.config.conditions)
    }
}

/// One translation.
struct Pass<'p> {
    view: &'p View,
    resources: &'p Resources,
    common: &'p Common,
    lender: &'p RefCell<Lender>,
    client: &'p Arc<Client>,
    before: Option<&'p Memo>,
}

impl Pass<'_> {
    /// The configuration, or that of before when nothing it depends on changed.
    fn config(&self) -> Arc<Config> {
        if let Some(memo) = self.before
            && memo.mesh == self.common.mesh
            && Arc::ptr_eq(&memo.client, self.client)
            && tables::are_same(self.view, &memo.resources, self.resources)
        {
            return memo.config.clone();
        }
        Arc::new(self.fresh_config())
    }

    fn fresh_config(&self) -> Config {
        let (resources, client, domain) = (self.resources, &**self.client, &*self.view.domain);
        let (mesh, registry) = (&*self.common.mesh, self.common.registry.clone());
        let mut diagnostics = Vec::new();
        let rules = Rules::build(resources, mesh, domain, client, &mut diagnostics);
        let scope = match &self.view.gateway {
            None => Scope::build(resources, mesh, client, &mut diagnostics),
            Some(_) => Scope::everything(client),
        };
        let visible: Vec<bool> = registry
            .services
            .iter()
            .map(|s| hosts::is_visible(&s.export_to, &s.namespace, &client.namespace))
            .collect();
        let imports: Vec<Import> = registry.services.iter().map(|s| scope.service(&s.namespace, &s.host)).collect();
        let rules_of_all = virtual_services::select(resources, mesh, domain, client, &scope, &mut diagnostics);
        let (candidates, connections) = forwards::divide(rules_of_all);
        let resolver = Resolver {
            registry: &registry,
            visible: &visible,
            rules: &rules,
            client,
            domain,
            used: RefCell::default(),
            diagnostics: RefCell::new(diagnostics),
        };
        let splits = splits::select(resources, &resolver);
        let mesh_routes = MeshRoutes::select(resources, &resolver);
        let mesh_connections = MeshConnections::select(resources, &resolver);
        // Gateways mean nothing to the sidecar of a workload, and there are many of these.
        let sites = match &self.view.workload {
            None => Sites::build(resources, self.view.now()),
            Some(_) => Sites::none(resources),
        };
        let lent = HashMap::new();
        let builder = VhostBuilder {
            resources,
            resolver: &resolver,
            imports: &imports,
            candidates: &candidates,
            mesh_routes: &mesh_routes,
            splits: &splits,
            retry: &mesh::retry(mesh),
            mesh,
            now: self.view.now(),
            before: self.before.map_or(&lent, |memo| &memo.config.served.vhosts),
            lender: self.lender,
            limits: &self.common.limits,
        };
        let mut listeners = match &self.view.gateway {
            None => {
                let routes = RouteTable { virtual_hosts: builder.build(), unmatched: scope.unmatched };
                vec![Listener::outbound(Arc::new(routes))]
            }
            Some(id) => gateways::listeners(id, resources, &sites, &builder),
        };
        let forwarding = builder.forwarding(&self.view.forwards, &connections, &mesh_connections, self.view.captures);
        let refuted = forwarding.review(self.view.gateway.is_none());
        listeners.extend(forwarding.listeners());
        let captures = self.captures(&forwarding, &mut listeners);
        let conditions = self.review(&sites, &resolver, builder.retry, (&mesh_routes, &mesh_connections));
        let used = resolver.used.take();
        let diagnostics = resolver.diagnostics.take();
        let is_needed = |i: usize| (visible[i] && imports[i] != Import::Nothing) || used.contains(&(i as u32));
        let mut needed: Vec<bool> = (0..visible.len()).map(is_needed).collect();
        self.common.breakers.add_fallbacks(&mut needed);
        let order = in_name_order(&registry, &needed);
        let served = self.served(listeners, captures);
        Config { registry, rules, needed, order, served, diagnostics, refuted, conditions }
    }

    /// The listeners as they go into the snapshot.
    fn served(&self, listeners: Vec<Listener>, captures: Arc<[Capture]>) -> Served {
        let (listeners, fingerprints): (Vec<Arc<Listener>>, Vec<u64>) =
            listeners.into_iter().map(|listener| self.lend(listener)).unzip();
        let fingerprints = fingerprints.into_iter().chain(captures.iter().map(fingerprint::capture));
        let fingerprint = fingerprint::combine(fingerprints);
        let tables = listeners.iter().flat_map(|l| l.route_tables());
        let vhosts = tables.flat_map(|t| &t.virtual_hosts).map(|v| (v.name.clone(), v.clone())).collect();
        Served { listeners, captures, vhosts, fingerprint }
    }

    /// Adds the listeners of redirected connections.
    fn captures(&self, forwarding: &Forwarding<'_>, listeners: &mut Vec<Listener>) -> Arc<[Capture]> {
        let outbound = listeners.first().filter(|listener| self.view.captures && &*listener.name == Listener::OUTBOUND);
        let Some(routes) = outbound.and_then(|listener| listener.route_tables().next()).cloned() else {
            return Arc::default();
        };
        let Captured { listeners: more, captures, .. } = forwarding.captured(&routes);
        listeners.extend(more);
        captures.into()
    }

    /// Conditions of the Gateway API, and findings about those that are false.
    fn review(
        &self,
        sites: &Sites<'_>,
        resolver: &Resolver<'_>,
        retry: &RetryPolicy,
        of_mesh: (&MeshRoutes, &MeshConnections),
    ) -> Vec<ObjectStatus> {
        if self.view.workload.is_some() {
            return Vec::new();
        }
        // What is looked at here is not used by this proxy for that.
        let scratch = Resolver { used: RefCell::default(), diagnostics: RefCell::default(), ..*resolver };
        let conditions = gateways::review(sites, &scratch, retry, of_mesh);
        resolver.diagnostics.borrow_mut().extend(scratch.diagnostics.take());
        conditions
    }

    /// The listener, or that of before if it is the same; so the TLS settings of its chains.
    fn lend(&self, mut listener: Listener) -> (Arc<Listener>, u64) {
        let mut lender = self.lender.borrow_mut();
        let before = self.before.and_then(|memo| memo.config.served.listeners.iter().find(|l| l.name == listener.name));
        let Some(before) = before else { return lender.listener(listener) };
        if **before == listener {
            return (before.clone(), lender.fingerprint(before));
        }
        for chain in &mut listener.chains {
            // Its own of before, rather than equal ones of another chain.
            let own = before.chains.iter().filter(|old| old.server_names == chain.server_names);
            let mut known = own.chain(&before.chains).filter_map(|old| old.tls.as_ref());
            if let Some(same) = known.find(|old| Some(*old) == chain.tls.as_ref()) {
                chain.tls = Some(same.clone());
            }
        }
        lender.listener(listener)
    }
}

/// The services that are needed, by namespace and name.
fn in_name_order(registry: &Registry, needed: &[bool]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..needed.len() as u32).filter(|i| needed[*i as usize]).collect();
    order.sort_by_key(|index| {
        let info = registry.at(*index);
        (info.namespace.clone(), info.name.clone())
    });
    order
}

/// Each finding once, by file and place.
pub(crate) fn in_order(diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut seen = HashSet::with_capacity(diagnostics.len());
    let mut once: Vec<Diagnostic> = diagnostics.into_iter().filter(|d| seen.insert(d.clone())).collect();
    once.sort_by(|a, b| {
        let place = |d: &Diagnostic| d.place.as_ref().map(|p| (p.file.clone(), p.line, p.column));
        place(a).cmp(&place(b))
    });
    once
}
