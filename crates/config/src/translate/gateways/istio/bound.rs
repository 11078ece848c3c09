//! The VirtualServices that are bound to the Gateways of a proxy.

use std::borrow::Cow;
use std::collections::HashSet;

use outrigger_model::Diagnostic;

use super::members::Members;
use crate::codes;
use crate::kind::mesh_config::MeshConfig;
use crate::precedence;
use crate::resources::Resources;
use crate::translate::bindings;
use crate::translate::virtual_services::{Candidate, exports, full_hosts, rules_of};

/// A VirtualService and the Gateways it is bound to.
pub(super) struct Bound {
    /// The VirtualService.
    pub(super) candidate: Candidate,
    /// The full names of those Gateways of the proxy that it is bound to.
    gateways: Vec<String>,
}

impl Bound {
    /// Whether it is bound to a Gateway.
    pub(super) fn is_to(&self, gateway: &str) -> bool {
        self.gateways.iter().any(|name| name == gateway)
    }
}

/// The VirtualServices that count, in the order in which their rules are asked: those for the proxy's namespace alone, then
/// those exported to it by name, then those for all; in each the oldest first.
pub(super) fn select(
    members: &Members,
    namespace: &str,
    resources: &Resources,
    mesh: &MeshConfig,
    domain: &str,
    findings: &mut Vec<Diagnostic>,
) -> Vec<Bound> {
    let ours: HashSet<String> =
        members.gateways.iter().map(|(namespace, name)| format!("{namespace}/{name}")).collect();
    let mut ranked = Vec::new();
    for object in resources.virtual_services.oldest_first() {
        if object.spec.hosts.is_empty() {
            continue;
        }
        let mut named = bindings::gateways(object);
        named.retain(|(name, _)| ours.contains(&**name));
        let Some((gateway, pos)) = named.first() else { continue };
        let meta = &object.meta;
        let Some(rank) = precedence::virtual_service_rank(exports(object, mesh), &meta.namespace, namespace) else {
            let message = format!(
                "has no effect on gateway {gateway}: it is not exported to namespace {namespace}, where the proxy of the gateway is"
            );
            let hint = format!("add {namespace} to `exportTo`");
            findings.push(codes::NO_EFFECT.about(meta, *pos, message, hint));
            continue;
        };
        let rules = rules_of(object, resources, mesh, findings);
        let candidate = Candidate { object: object.clone(), hosts: full_hosts(object, domain), rules };
        let gateways = named.into_iter().map(|(name, _)| Cow::into_owned(name)).collect();
        ranked.push((rank, Bound { candidate, gateways }));
    }
    // Stable: within a rank the oldest stays first.
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, bound)| bound).collect()
}
