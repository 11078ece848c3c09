//! What of the registry a client may know: its `Sidecar`, and what happens to hosts beyond it.

use std::sync::Arc;

use outrigger_model::{Diagnostic, Unmatched};

use super::client::Client;
use super::workloads::has_labels;
use crate::codes;
use crate::hosts;
use crate::kind::mesh_config::MeshConfig;
use crate::kind::sidecar::{Egress, EgressHost, EgressNamespace, OutboundMode, OutboundTrafficPolicy, Sidecar};
use crate::resources::Resources;

/// How much of a service a client may address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Import {
    /// Nothing.
    Nothing,
    /// These ports.
    Ports(Vec<u16>),
    /// All ports.
    All,
}

impl Import {
    /// Whether a port is in it.
    pub(crate) fn has(&self, port: u16) -> bool {
        match self {
            Self::Nothing => false,
            Self::Ports(ports) => ports.contains(&port),
            Self::All => true,
        }
    }
}

/// The scope of one client.
#[derive(Debug)]
pub(crate) struct Scope {
    sidecar: Option<Arc<Sidecar>>,
    namespace: Arc<str>,
    /// What happens to hosts that no virtual host claims.
    pub(crate) unmatched: Unmatched,
}

impl Scope {
    /// Chooses the client's Sidecar: by workload selector, else its namespace's, else the root namespace's.
    pub(crate) fn build(
        resources: &Resources,
        mesh: &MeshConfig,
        client: &Client,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let sidecars = resources.sidecars.oldest_first();
        let mut of_namespace: Vec<&Arc<Sidecar>> = Vec::new();
        for sidecar in sidecars.iter().filter(|s| s.spec.selector.is_none()) {
            match of_namespace.iter().find(|s| s.meta.namespace == sidecar.meta.namespace) {
                None => of_namespace.push(sidecar),
                Some(first) => diagnostics.push(codes::SUPERSEDED.about(
                    &sidecar.meta,
                    sidecar.meta.pos,
                    format!(
                        "has no effect: Sidecar {} of this namespace has no workloadSelector either",
                        first.meta.name
                    ),
                    "a namespace has one Sidecar without workloadSelector",
                )),
            }
        }
        let selected = sidecars.iter().find(|s| {
            let selector = s.spec.selector.as_ref();
            s.meta.namespace == client.namespace
                && selector.is_some_and(|selector| has_labels(client.labels(), &selector.labels) && !client.anonymous)
        });
        let in_namespace = |namespace: &str| of_namespace.iter().find(|s| *s.meta.namespace == *namespace).copied();
        let sidecar = selected
            .copied()
            .or_else(|| in_namespace(&client.namespace))
            .or_else(|| in_namespace(&mesh.root_namespace))
            .cloned();
        let own = sidecar.as_ref().and_then(|s| s.spec.outbound.as_ref());
        let mode = own.or(mesh.outbound.as_ref()).map(mode);
        let unmatched = match mode {
            Some(OutboundMode::RegistryOnly) => Unmatched::BlackHole,
            Some(OutboundMode::AllowAny) | None => Unmatched::Passthrough,
        };
        Self { sidecar, namespace: client.namespace.clone(), unmatched }
    }

    /// The scope of a gateway: Sidecars are not for gateways, and no host is beyond what it serves.
    pub(crate) fn everything(client: &Client) -> Self {
        Self { sidecar: None, namespace: client.namespace.clone(), unmatched: Unmatched::NotFound }
    }

    fn egress(&self) -> &[crate::node::Spanned<Egress>] {
        self.sidecar.as_ref().map_or(&[], |s| &s.spec.egress)
    }

    /// How much of a service is imported.
    pub(crate) fn service(&self, namespace: &str, host: &str) -> Import {
        if self.egress().is_empty() {
            return Import::All;
        }
        let mut ports = Vec::new();
        for egress in self.egress() {
            if self.takes_in(egress, namespace, |pattern| hosts::covers(pattern, host)) {
                match egress.port.as_ref().and_then(|p| p.number) {
                    None => return Import::All,
                    Some(port) => ports.push(port),
                }
            }
        }
        if ports.is_empty() { Import::Nothing } else { Import::Ports(ports) }
    }

    /// Whether rules of a namespace for a host are imported.
    pub(crate) fn rule(&self, namespace: &str, host: &str) -> bool {
        let overlaps = |pattern: &str| hosts::overlap(pattern, host);
        self.egress().is_empty() || self.egress().iter().any(|egress| self.takes_in(egress, namespace, overlaps))
    }

    fn takes_in(&self, egress: &Egress, namespace: &str, host: impl Fn(&str) -> bool) -> bool {
        let names = |entry: &EgressHost| {
            let right = match &entry.namespace {
                EgressNamespace::Own => *self.namespace == *namespace,
                EgressNamespace::Any => true,
                EgressNamespace::Nothing => false,
                EgressNamespace::Named(name) => **name == *namespace,
            };
            right && host(&entry.host)
        };
        let mut included = false;
        for entry in egress.hosts.iter().filter(|entry| names(entry)) {
            if entry.exclude {
                return false;
            }
            included = true;
        }
        included
    }
}

/// A policy that names no mode lets everything through, as if it were absent.
fn mode(policy: &OutboundTrafficPolicy) -> OutboundMode {
    policy.mode.unwrap_or(OutboundMode::AllowAny)
}
