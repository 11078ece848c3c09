//! Gateways: which proxies stand at the edge of the mesh, and what each of them listens on.
//!
//! A Gateway of the Gateway API is a proxy of its own. Istio Gateways are shared: all those with one `selector` are one
//! proxy, whose servers share ports. [`list`] says which proxies there are; a [`super::View`] with one of their ids gets
//! their listeners.

mod api;
pub(crate) mod grants;
mod istio;

pub(crate) use istio::Members;

use std::sync::Arc;

use outrigger_model::{Listener, Workload};

pub(crate) use api::{Sites, review};

use super::vhosts::VhostBuilder;
use super::workloads::Naming;
use crate::resources::Resources;

/// A gateway proxy.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GatewayId {
    /// Which API made it.
    pub kind: GatewayKind,
    /// Its namespace: that of the Gateway (Gateway API), of the workload that the selector names (Istio).
    pub namespace: Arc<str>,
    /// Its name: that of the Gateway (Gateway API), of the workload that the selector names (Istio).
    pub name: Arc<str>,
}

/// Which API a gateway belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GatewayKind {
    /// `networking.istio.io`.
    Istio,
    /// `gateway.networking.k8s.io`.
    Api,
}

/// A gateway proxy and the objects it serves.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayProxy {
    /// Which one.
    pub id: GatewayId,
    /// Its facts, for metrics.
    pub workload: Arc<Workload>,
    /// The objects it serves.
    pub objects: Vec<GatewayObject>,
}

/// A Gateway or ListenerSet object as the start-up report tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayObject {
    /// `Gateway` or `ListenerSet`.
    pub kind: Arc<str>,
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// Its servers or listeners.
    pub listeners: Vec<GatewayListener>,
}

/// One server (Istio) or listener (Gateway API).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayListener {
    /// Its name.
    pub name: Arc<str>,
    /// Its port.
    pub port: u16,
    /// `HTTP`, `HTTPS`, `TLS`, `TCP`, …
    pub protocol: Arc<str>,
    /// Its host names; `*` for all.
    pub hostname: Arc<str>,
    /// The [`Listener::name`] that serves it; `None` when nothing does, for a reason that a finding or condition gives.
    pub listener: Option<Arc<str>>,
}

/// All gateway proxies that the input asks for, sorted by id.
pub fn list(resources: &Resources, view: &super::View) -> Vec<GatewayProxy> {
    let (mesh, _) = super::mesh::read(resources, None);
    let naming = Naming { trust_domain: mesh.trust_domain.clone(), cluster: view.cluster.clone() };
    let mut all = istio::list(resources, &naming, &mesh, &view.domain, view.now());
    all.extend(api::list(resources, &naming, view.now()));
    all.sort_by(|a, b| a.id.cmp(&b.id));
    all
}

/// The facts of a gateway's workload, and the Istio Gateways it serves.
pub(crate) fn workload(id: &GatewayId, resources: &Resources, naming: &Naming) -> (Arc<Workload>, Members) {
    match id.kind {
        GatewayKind::Istio => istio::find(id, resources, naming),
        GatewayKind::Api => (api::workload(id, resources, naming), Members::default()),
    }
}

/// The listeners of a gateway.
pub(crate) fn listeners(
    id: &GatewayId,
    resources: &Resources,
    sites: &Sites<'_>,
    builder: &VhostBuilder<'_>,
) -> Vec<Listener> {
    match id.kind {
        GatewayKind::Istio => istio::listeners(resources, builder),
        GatewayKind::Api => api::listeners(id, sites, builder),
    }
}
