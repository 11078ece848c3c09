//! Gateways of the Gateway API: each is a proxy of its own, with the listeners of its ListenerSets.
//!
//! [`site::Sites`] is what all answers are read off: `classes` says which Gateways are served, `listeners` which of their
//! listeners, `tls` what these show, `attach` which routes they get. `chains` makes the model of it (with
//! `relays` for connections that carry no requests), `conditions` the status and the findings.

mod attach;
mod chains;
mod classes;
mod conditions;
mod fault;
mod hosts;
mod listeners;
mod relays;
mod routes;
mod site;
mod tls;

use std::sync::Arc;
use std::time::SystemTime;

use outrigger_model::{Listener, Workload};

pub(crate) use conditions::review;
pub(crate) use site::Sites;

use super::{GatewayId, GatewayKind, GatewayListener, GatewayObject, GatewayProxy};
use crate::kind::gateway_api::Gateway;
use crate::object::Metadata;
use crate::resources::Resources;
use crate::translate::vhosts::VhostBuilder;
use crate::translate::workloads::Naming;
use site::Site;

/// All proxies of this API: one for each Gateway that is served here. A Gateway that is not accepted is among them, so that
/// the start-up report can say that nothing listens for it.
pub(super) fn list(resources: &Resources, naming: &Naming, now: SystemTime) -> Vec<GatewayProxy> {
    let sites = Sites::build(resources, now);
    sites.gateways.iter().map(|site| proxy(site, naming)).collect()
}

fn proxy(site: &Site<'_>, naming: &Naming) -> GatewayProxy {
    let sets = site.sets.iter().enumerate().filter(|(_, set)| set.refused.is_none());
    let objects = std::iter::once((&site.gateway.meta, None)).chain(sets.map(|(at, set)| (&set.set.meta, Some(at))));
    GatewayProxy {
        id: GatewayId {
            kind: GatewayKind::Api,
            namespace: site.gateway.meta.namespace.clone(),
            name: site.gateway.meta.name.clone(),
        },
        workload: Arc::new(facts(site.gateway, naming)),
        objects: objects.map(|(meta, set)| object(site, meta, set)).collect(),
    }
}

fn object(site: &Site<'_>, meta: &Metadata, set: Option<usize>) -> GatewayObject {
    let accepted = site.is_accepted();
    let listener = |entry: &listeners::Entry<'_>| GatewayListener {
        name: entry.spec.name.value.clone(),
        port: entry.spec.port,
        protocol: entry.spec.protocol.value.clone(),
        hostname: entry.hostname.clone(),
        listener: (accepted && entry.is_usable()).then(|| Listener::gateway_name(entry.spec.port)),
    };
    GatewayObject {
        kind: meta.kind.into(),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        listeners: site.entries_of(set).map(listener).collect(),
    }
}

/// The facts of one of them.
pub(super) fn workload(id: &GatewayId, resources: &Resources, naming: &Naming) -> Arc<Workload> {
    let gateway = resources.gateways.get(&id.namespace, &id.name);
    Arc::new(gateway.map_or_else(Workload::unknown, |gateway| facts(gateway, naming)))
}

/// As Istio deploys a Gateway: a Deployment and a ServiceAccount, both named after the Gateway and its class.
fn facts(gateway: &Gateway, naming: &Naming) -> Workload {
    let (namespace, gateway_name) = (&gateway.meta.namespace, &gateway.meta.name);
    let class = &gateway.spec.class.value;
    let name: Arc<str> = format!("{gateway_name}-{class}").into();
    let mut labels = gateway.spec.infrastructure.labels.clone();
    let own = [
        ("gateway.networking.k8s.io/gateway-name", gateway_name),
        ("gateway.networking.k8s.io/gateway-class-name", class),
        ("service.istio.io/canonical-name", &name),
    ];
    for (key, value) in own {
        labels.entry(key.into()).or_insert_with(|| value.clone());
    }
    let mut workload = Workload::new(&name, namespace, "", &naming.cluster, labels);
    workload.principal = naming.principal(namespace, &name);
    workload
}

/// What one of them listens on.
pub(super) fn listeners(id: &GatewayId, sites: &Sites<'_>, builder: &VhostBuilder<'_>) -> Vec<Listener> {
    let is_it = |site: &&Site<'_>| site.gateway.meta.namespace == id.namespace && site.gateway.meta.name == id.name;
    sites.gateways.iter().find(is_it).map_or_else(Vec::new, |site| chains::listeners(site, builder))
}
