//! What does not depend on the client: mesh settings, the registry of hosts, endpoints, and who the workloads are.
//!
//! Worked out once for an input, however many clients ask, and again only as far as tables changed. A [`Shared`] also lends
//! equal parts of snapshots from client to client.

use std::cell::RefCell;
use std::sync::Arc;

use outrigger_model::{Diagnostic, ServiceSummary};

use super::breakers::Breakers;
use super::client::{ByWorkload, Client};
use super::clusters;
use super::endpoints::{self, ServiceEndpoints, Slices};
use super::lender::Lender;
use super::rate_limits::RateLimits;
use super::registry::{Registry, ServiceInfo, Source};
use super::workloads::{Naming, PodIndex, Workloads};
use super::{View, mesh, policy};
use crate::hosts;
use crate::kind::endpoint_slice::EndpointSlice;
use crate::kind::mesh_config::MeshConfig;
use crate::resources::Resources;

/// What the translations of one input for many clients share; see
/// [`Translator::translate_sharing`](super::Translator::translate_sharing). All of them have one domain and cluster id.
///
/// The default shares the work; [`Self::new`] also equal parts of what comes of it, which costs memory where there are few
/// clients and saves most of it where there are many.
#[derive(Debug, Default)]
pub struct Shared {
    common: Option<Common>,
    workloads: Workloads,
    by_workload: ByWorkload,
    lender: RefCell<Lender>,
}

/// What is known of an input without knowing the client.
#[derive(Debug)]
pub(super) struct Common {
    resources: Resources,
    domain: Arc<str>,
    naming: Naming,
    /// Mesh settings.
    pub(super) mesh: Arc<MeshConfig>,
    mesh_diagnostics: Vec<Diagnostic>,
    /// All hosts.
    pub(super) registry: Arc<Registry>,
    /// Circuit breakers, by service.
    pub(super) breakers: Arc<Breakers>,
    /// Limits on requests and bodies, by what they are for.
    pub(super) limits: Arc<RateLimits>,
    /// What was found wrong with rules, whoever the client is.
    review: Arc<Vec<Diagnostic>>,
    /// By index of the registry.
    services: Vec<Gathered>,
    /// Slices that no service uses.
    orphans: Vec<Diagnostic>,
}

/// The endpoints of one service.
#[derive(Clone, Debug)]
struct Gathered {
    /// What they were made from.
    slices: Vec<Arc<EndpointSlice>>,
    endpoints: Arc<ServiceEndpoints>,
}

impl Common {
    /// The endpoints of each service, in the order of the registry.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = &Arc<ServiceEndpoints>> {
        self.services.iter().map(|gathered| &gathered.endpoints)
    }

    /// A service of the start-up report.
    pub(super) fn summary(&self, index: u32) -> ServiceSummary {
        let info = self.registry.at(index);
        ServiceSummary {
            namespace: info.namespace.clone(),
            name: info.name.clone(),
            ports: info.ports.iter().map(|port| port.number).collect(),
            endpoints: self.services[index as usize].endpoints.count(),
        }
    }

    fn is_of(&self, resources: &Resources, view: &View) -> bool {
        self.resources.same_as(resources) && self.domain == view.domain && self.naming.cluster == view.cluster
    }
}

impl Shared {
    /// For many clients, which hold equal parts once.
    pub fn new() -> Self {
        Self { lender: RefCell::new(Lender::for_many()), ..Self::default() }
    }

    /// Takes an input in, unless it is the one of before. Returns what was found, whoever the client is, but for the
    /// findings of single services.
    pub(super) fn update(&mut self, resources: &Resources, view: &View) -> Vec<Diagnostic> {
        if self.common.as_ref().is_none_or(|common| !common.is_of(resources, view)) {
            let before = self.common.take();
            self.common = Some(self.common_of(resources, view, before.as_ref()));
        }
        let (common, _) = self.parts();
        [
            &common.mesh_diagnostics,
            &*common.review,
            &common.breakers.diagnostics,
            &common.limits.diagnostics,
            &common.orphans,
        ]
        .into_iter()
        .flatten()
        .cloned()
        .collect()
    }

    /// What [`Self::update`] made of the input, and the lender.
    pub(super) fn parts(&self) -> (&Common, &RefCell<Lender>) {
        (self.common.as_ref().expect("an input is taken in before it is asked for"), &self.lender)
    }

    /// Finds the client of a view.
    pub(super) fn client(&mut self, view: &View, resources: &Resources, diagnostics: &mut Vec<Diagnostic>) -> Client {
        let naming = self.parts().0.naming.clone();
        let mut pods = self.workloads.index(resources, &naming, true);
        let client = Client::find(view, resources, &naming, &mut pods, &mut self.by_workload, diagnostics);
        self.workloads.keep(pods);
        client
    }

    fn common_of(&mut self, resources: &Resources, view: &View, before: Option<&Common>) -> Common {
        let (mesh, mesh_diagnostics) = match before {
            Some(common) if Arc::ptr_eq(&common.resources.config_maps, &resources.config_maps) => {
                (common.mesh.clone(), common.mesh_diagnostics.clone())
            }
            _ => mesh::read(resources, before.map(|common| &common.mesh)),
        };
        let naming = Naming { trust_domain: mesh.trust_domain.clone(), cluster: view.cluster.clone() };
        let same_owners = before.is_some_and(|common| {
            common.naming == naming
                && Arc::ptr_eq(&common.resources.replica_sets, &resources.replica_sets)
                && Arc::ptr_eq(&common.resources.nodes, &resources.nodes)
        });
        let same_hosts = before.filter(|common| {
            common.mesh == mesh
                && common.domain == view.domain
                && Arc::ptr_eq(&common.resources.services, &resources.services)
                && Arc::ptr_eq(&common.resources.service_entries, &resources.service_entries)
        });
        let registry = match same_hosts {
            Some(common) => common.registry.clone(),
            None => Arc::new(Registry::build(resources, &mesh, &view.domain)),
        };
        let same_rules =
            same_hosts.filter(|common| Arc::ptr_eq(&common.resources.destination_rules, &resources.destination_rules));
        let review = same_rules.map(|common| common.review.clone()).unwrap_or_else(|| {
            let mut found = Vec::new();
            policy::review(resources, &registry, &view.domain, &mut found);
            Arc::new(found)
        });
        let same_breakers =
            same_rules.filter(|common| Arc::ptr_eq(&common.resources.circuit_breakers, &resources.circuit_breakers));
        let breakers = match same_breakers {
            Some(common) => common.breakers.clone(),
            None => Arc::new(Breakers::build(resources, &registry, &view.domain)),
        };
        let same_limits = same_hosts.filter(|common| RateLimits::are_same(&common.resources, resources));
        let limits = match same_limits {
            Some(common) => common.limits.clone(),
            None => Arc::new(RateLimits::build(resources, &registry, &view.domain)),
        };
        self.by_workload.forget();
        let mut pods = self.workloads.index(resources, &naming, same_owners);
        let gatherer = Gatherer { resources, before: same_hosts, same_owners };
        let services = gatherer.all(&registry, &mut pods);
        self.workloads.keep(pods);
        let orphans = orphans(resources, &registry, &services, &view.domain);
        Common {
            resources: resources.clone(),
            domain: view.domain.clone(),
            naming,
            mesh,
            mesh_diagnostics,
            registry,
            breakers,
            limits,
            review,
            services,
            orphans,
        }
    }
}

/// Gathers endpoints, service by service.
struct Gatherer<'g> {
    resources: &'g Resources,
    /// The input of before, if it had the same hosts.
    before: Option<&'g Common>,
    same_owners: bool,
}

impl<'g> Gatherer<'g> {
    fn all(&self, registry: &Registry, pods: &mut PodIndex<'g>) -> Vec<Gathered> {
        let slices = endpoints::group_slices(self.resources);
        // The sources of endpoints that are not told apart by service.
        let same_others = self.same_owners
            && self.before.is_some_and(|common| {
                Arc::ptr_eq(&common.resources.pods, &self.resources.pods)
                    && Arc::ptr_eq(&common.resources.endpoints, &self.resources.endpoints)
                    && Arc::ptr_eq(&common.resources.workload_entries, &self.resources.workload_entries)
            });
        let service = |(index, info): (usize, &Arc<ServiceInfo>)| {
            let known = self.before.map(|common| &common.services[index]);
            self.one(info, &slices, known, same_others, pods)
        };
        registry.services.iter().enumerate().map(service).collect()
    }

    fn one(
        &self,
        info: &ServiceInfo,
        slices: &Slices<'g>,
        known: Option<&Gathered>,
        same_others: bool,
        pods: &mut PodIndex<'g>,
    ) -> Gathered {
        let own = match info.source {
            Source::Service(_) => slices.get(&*info.namespace).and_then(|n| n.get(&*info.name)),
            Source::Entry(_) => None,
        };
        let own = own.map_or(&[][..], Vec::as_slice);
        if let Some(known) = known
            && same_others
            && known.slices.len() == own.len()
            && known.slices.iter().zip(own).all(|(a, b)| Arc::ptr_eq(a, b))
        {
            return known.clone();
        }
        let mut found = endpoints::gather(info, own, self.resources, pods);
        let endpoints = match known.map(|known| &known.endpoints) {
            Some(known) if **known == found => known.clone(),
            Some(known) => {
                let ports = found.ports.iter_mut().zip(&known.ports);
                ports.for_each(|(now, before)| clusters::reuse(&mut now.endpoints, &before.endpoints));
                Arc::new(found)
            }
            None => Arc::new(found),
        };
        Gathered { slices: own.iter().map(|slice| Arc::clone(slice)).collect(), endpoints }
    }
}

/// Slices that name a service which does not exist.
fn orphans(resources: &Resources, registry: &Registry, services: &[Gathered], domain: &str) -> Vec<Diagnostic> {
    // When every slice was used there is none to look for.
    if services.iter().map(|service| service.slices.len()).sum::<usize>() == resources.endpoint_slices.len() {
        return Vec::new();
    }
    let mut diagnostics = Vec::new();
    for slice in resources.endpoint_slices.iter() {
        let Some(name) = slice.service_name() else { continue };
        if resources.services.get(&slice.meta.namespace, name).is_none() {
            let host = hosts::service_host(name, &slice.meta.namespace, domain);
            let hint = policy::nearest_host(&host, registry, domain);
            let message = format!("its Service {}/{name} does not exist, so nothing uses it", slice.meta.namespace);
            diagnostics.push(crate::codes::ORPHAN_ENDPOINTS.about(&slice.meta, slice.meta.pos, message, hint));
        }
    }
    diagnostics
}
