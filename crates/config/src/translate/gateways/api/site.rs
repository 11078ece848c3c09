//! All of the Gateway API in an input: Gateways with their ListenerSets, and which routes attach to which listeners.
//!
//! Built once a translation, without the registry of services: what a route refers to is another question than where it is
//! attached. Conditions, findings and the model's listeners are all read off it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use outrigger_model::Diagnostic;

use super::attach::{self, RouteState};
use super::classes::{self, Served};
use super::fault::Fault;
use super::listeners::{Entry, Protocol, find_conflicts};
use super::tls::Vault;
use crate::codes::{self, CodeInfo};
use crate::kind::gateway_api::{self, Gateway, ListenersFrom};
use crate::kind::gateway_class::GatewayClass;
use crate::kind::listener_set::ListenerSet;
use crate::kind::selector::LabelSelector;
use crate::object::Labels;
use crate::resources::Resources;

/// All of it.
pub(crate) struct Sites<'r> {
    /// All objects.
    pub(super) resources: &'r Resources,
    /// The Gateways of this controller, in input order.
    pub(super) gateways: Vec<Site<'r>>,
    /// ListenerSets whose Gateway does not exist.
    pub(super) orphans: Vec<Set<'r>>,
    /// Routes with what became of their parents.
    pub(super) routes: Vec<RouteState<'r>>,
    /// Findings that belong to no condition.
    pub(super) notes: Vec<Diagnostic>,
}

/// A Gateway.
pub(super) struct Site<'r> {
    /// The object.
    pub(super) gateway: &'r Arc<Gateway>,
    /// Its class, when that is not accepted yet.
    pub(super) pending: Option<&'r Arc<GatewayClass>>,
    /// Why it is not accepted, whatever its listeners are.
    pub(super) refused: Option<Fault<'r>>,
    /// An address it asks for and does not get.
    pub(super) address: Option<Fault<'r>>,
    /// References of its own that lead to nothing usable.
    pub(super) unresolved: Option<Fault<'r>>,
    /// ListenerSets that name it, in order of precedence.
    pub(super) sets: Vec<Set<'r>>,
    /// Its listeners, then those of its ListenerSets.
    pub(super) entries: Vec<Entry<'r>>,
}

/// A ListenerSet.
pub(super) struct Set<'r> {
    /// The object.
    pub(super) set: &'r Arc<ListenerSet>,
    /// Why it is not accepted, whatever its listeners are.
    pub(super) refused: Option<Fault<'r>>,
}

impl Site<'_> {
    /// `Accepted`: at least one of its own listeners is.
    pub(super) fn is_accepted(&self) -> bool {
        let own = || self.entries.iter().filter(|e| e.set.is_none());
        self.pending.is_none() && self.refused.is_none() && own().any(Entry::is_accepted)
    }

    /// The listeners that are served.
    pub(super) fn served(&self) -> impl Iterator<Item = &Entry<'_>> {
        let accepted = self.is_accepted();
        self.entries.iter().filter(move |e| accepted && e.is_usable())
    }

    /// The listeners of one of its ListenerSets, or its own.
    pub(super) fn entries_of(&self, set: Option<usize>) -> impl Iterator<Item = &Entry<'_>> {
        self.entries.iter().filter(move |e| e.set == set)
    }
}

impl<'r> Sites<'r> {
    /// As if there were no Gateways.
    pub(crate) fn none(resources: &'r Resources) -> Self {
        Self { resources, gateways: Vec::new(), orphans: Vec::new(), routes: Vec::new(), notes: Vec::new() }
    }

    /// Reads it off the resources. `now` is the time by which certificates are judged.
    pub(crate) fn build(resources: &'r Resources, now: SystemTime) -> Self {
        let mut sites = Self::none(resources);
        let vault = Vault::new(resources, now);
        let mut sets = sites.sets_by_gateway();
        for gateway in resources.gateways.iter() {
            let pending = match classes::served(gateway, resources) {
                Served::Here => None,
                Served::Pending(class) => Some(class),
                Served::Elsewhere(class) => {
                    sites.notes.push(classes::not_served(gateway, class));
                    continue;
                }
            };
            let sets = sets.remove(&(&*gateway.meta.namespace, &*gateway.meta.name)).unwrap_or_default();
            let site = sites.site(gateway, pending, sets, &vault);
            sites.gateways.push(site);
        }
        sites.notes.extend(vault.doubts.take());
        sites.routes = attach::attach(resources, &mut sites.gateways, &mut sites.notes);
        sites
    }

    /// ListenerSets by the namespace and name of their Gateway, in order of precedence.
    fn sets_by_gateway(&mut self) -> HashMap<(&'r str, &'r str), Vec<&'r Arc<ListenerSet>>> {
        let resources = self.resources;
        let mut by_gateway: HashMap<(&str, &str), Vec<&Arc<ListenerSet>>> = HashMap::new();
        for set in resources.listener_sets.oldest_first() {
            let parent = &set.spec.parent;
            let namespace = parent.namespace.as_deref().unwrap_or(&set.meta.namespace);
            let fault = |message: String, hint: &str| Fault {
                meta: &set.meta,
                pos: parent.pos,
                code: codes::REFERENCE_NOT_FOUND,
                reason: "ParentNotAccepted",
                message,
                hint: hint.to_owned(),
            };
            let refused = if *parent.group != *gateway_api::GROUP || &*parent.kind != "Gateway" {
                let message =
                    format!("parentRef names a {} of the group {:?}, expected a Gateway", parent.kind, parent.group);
                Some(fault(message, ""))
            } else if resources.gateways.get(namespace, &parent.name).is_none() {
                let message = format!("parentRef names Gateway {namespace}/{}, which does not exist", parent.name);
                Some(fault(message, "add it to the input, or fix its errors"))
            } else {
                by_gateway.entry((namespace, &parent.name)).or_default().push(set);
                None
            };
            if refused.is_some() {
                self.orphans.push(Set { set, refused });
            }
        }
        by_gateway
    }

    fn site(
        &mut self,
        gateway: &'r Arc<Gateway>,
        pending: Option<&'r Arc<GatewayClass>>,
        sets: Vec<&'r Arc<ListenerSet>>,
        vault: &Vault<'r>,
    ) -> Site<'r> {
        let entry = |spec| Entry::new(&gateway.meta, spec, None, gateway, vault);
        let mut site = Site {
            gateway,
            pending,
            refused: self.refused(gateway),
            address: unusable_address(gateway),
            unresolved: None,
            sets: Vec::new(),
            entries: gateway.spec.listeners.iter().map(entry).collect(),
        };
        if let Some(certificate) = gateway.spec.tls.backend.as_ref().and_then(|b| b.certificate.as_ref()) {
            let found = vault.key_pair(&gateway.meta, certificate.pos, certificate, "InvalidClientCertificateRef");
            site.unresolved = found.err();
        }
        find_conflicts(&mut site.entries);
        let accepted = site.is_accepted();
        for set in sets {
            let refused =
                if accepted { self.not_allowed(gateway, set) } else { Some(parent_not_accepted(gateway, set)) };
            if refused.is_none() {
                let at = Some(site.sets.len());
                let entry = |spec| Entry::new(&set.meta, spec, at, gateway, vault);
                site.entries.extend(set.spec.listeners.iter().map(entry));
            }
            site.sets.push(Set { set, refused });
        }
        find_conflicts(&mut site.entries);
        self.not_enforced(gateway, site.refused.is_some());
        site.entries.iter().for_each(|entry| self.tls_without_effect(gateway, entry));
        site
    }

    /// Says what of a listener's TLS does nothing.
    fn tls_without_effect(&mut self, gateway: &Gateway, entry: &Entry<'_>) {
        let name = &entry.spec.name.value;
        let mut note = |code: &CodeInfo, pos, message: String, hint| {
            self.notes.push(code.about(entry.meta, pos, message, hint));
        };
        for (key, value) in entry.spec.tls.iter().flat_map(|tls| &tls.options) {
            let message = format!("listener {name}: the option {key:?} of `tls` is not enforced");
            note(codes::NOT_ENFORCED, value.pos, message, "");
        }
        let passes = entry.protocol == Protocol::Passthrough;
        if let Some(first) = entry.spec.tls.iter().filter(|_| passes).find_map(|tls| tls.certificates.first()) {
            let message = format!("listener {name}: certificateRefs have no effect with mode Passthrough");
            note(codes::NO_EFFECT, first.pos, message, "the backends show their own certificates; remove them");
        }
        let asks = gateway.spec.tls.frontend.as_ref().is_some_and(|frontend| {
            let own = frontend.per_port.iter().find(|p| p.port == entry.spec.port).map(|p| &p.value.tls);
            own.unwrap_or(&frontend.default).validation.is_some()
        });
        if asks && entry.protocol == Protocol::Tls {
            let message = format!(
                "listener {name}: its clients are not asked for certificates, `frontend` validation is for HTTPS listeners"
            );
            note(codes::NO_EFFECT, entry.spec.protocol.pos, message, "let the backends ask, with mode Passthrough");
        }
    }

    /// Why a Gateway is not accepted, whatever its listeners are.
    fn refused(&self, gateway: &'r Arc<Gateway>) -> Option<Fault<'r>> {
        let meta = &gateway.meta;
        let parameters = gateway.spec.infrastructure.parameters.as_ref();
        let invalid = parameters.and_then(|p| classes::invalid_parameters(meta, p, &meta.namespace, self.resources));
        invalid.or_else(|| {
            let known = |kind: &str| matches!(kind, "IPAddress" | "Hostname");
            let address = gateway.spec.addresses.iter().find(|a| !known(&a.address_type))?;
            let message = format!("addresses of type {:?} are not supported", &*address.address_type);
            let hint = "remove it: a gateway is served at an address of its own".to_owned();
            let (code, reason) = (codes::GATEWAY_REFUSED, "UnsupportedAddress");
            Some(Fault { meta, pos: address.pos, code, reason, message, hint })
        })
    }

    /// Why a ListenerSet may not add to a Gateway.
    fn not_allowed(&self, gateway: &'r Arc<Gateway>, set: &'r Arc<ListenerSet>) -> Option<Fault<'r>> {
        let allowed = &gateway.spec.allowed_listeners.namespaces;
        let own = &gateway.meta.namespace;
        let namespace = &set.meta.namespace;
        let (is_allowed, whose) = match allowed.from {
            ListenersFrom::All => (true, "any namespace"),
            ListenersFrom::Same => (namespace == own, "its own namespace"),
            ListenersFrom::Selector => {
                (selects(allowed.selector.as_ref(), namespace, self.resources), "namespaces that its selector takes in")
            }
            ListenersFrom::None => (false, "no namespace"),
        };
        (!is_allowed).then(|| Fault {
            meta: &set.meta,
            pos: set.spec.parent.pos,
            code: codes::GATEWAY_REFUSED,
            reason: "NotAllowed",
            message: format!("{} takes ListenerSets of {whose}", gateway.meta.object_ref()),
            hint: "change its spec.allowedListeners".to_owned(),
        })
    }

    /// Says what of a Gateway means nothing here, or not yet.
    fn not_enforced(&mut self, gateway: &Gateway, refused: bool) {
        let spec = &gateway.spec;
        let meta = &gateway.meta;
        let mut note = |code: &CodeInfo, pos, message: &str, hint: &str| {
            self.notes.push(code.about(meta, pos, message, hint));
        };
        if let Some(backend) = spec.tls.backend.as_ref().filter(|b| b.certificate.is_some()) {
            let message = "spec.tls.backend: not enforced yet, no certificate is shown to backends";
            note(codes::NOT_ENFORCED, backend.pos, message, "");
        }
        if let Some(scope) = spec.default_scope.as_ref().filter(|s| &*s.value == "All") {
            let message = "spec.defaultScope: not enforced yet, routes attach by `parentRefs` only";
            note(codes::NOT_ENFORCED, scope.pos, message, "");
        }
        if let Some(parameters) = spec.infrastructure.parameters.as_ref().filter(|_| !refused) {
            let message =
                "spec.infrastructure.parametersRef: it changes how a gateway is deployed, and nothing is here";
            note(codes::NO_EFFECT, parameters.pos, message, "");
        }
        if let Some(annotation) = spec.infrastructure.annotations.values().next() {
            let message = "spec.infrastructure.annotations: nothing here reads them";
            note(codes::NO_EFFECT, annotation.pos, message, "");
        }
    }
}

/// Whether a selector of namespaces takes one in. Kubernetes labels every namespace with its name.
pub(super) fn selects(selector: Option<&LabelSelector>, namespace: &Arc<str>, resources: &Resources) -> bool {
    let Some(selector) = selector else { return false };
    let known = resources.namespaces.get("", namespace);
    let mut labels = known.map_or_else(Labels::new, |n| n.meta.labels.clone());
    labels.insert("kubernetes.io/metadata.name".into(), namespace.clone());
    selector.matches(&labels)
}

fn parent_not_accepted<'r>(gateway: &Gateway, set: &'r Arc<ListenerSet>) -> Fault<'r> {
    Fault {
        meta: &set.meta,
        pos: set.spec.parent.pos,
        code: codes::GATEWAY_REFUSED,
        reason: "ParentNotAccepted",
        message: format!("{} is not accepted", gateway.meta.object_ref()),
        hint: "see what is said of it".to_owned(),
    }
}

/// An address that is asked for. It is never the one a gateway gets: that is given out here.
fn unusable_address(gateway: &Arc<Gateway>) -> Option<Fault<'_>> {
    let address = gateway.spec.addresses.iter().find(|a| !a.value.value.is_empty())?;
    Some(Fault {
        meta: &gateway.meta,
        pos: address.pos,
        code: codes::ADDRESS_NOT_USED,
        reason: "AddressNotUsable",
        message: format!(
            "the address {:?} is not used: a gateway is served at an address of its own",
            &*address.value.value
        ),
        hint: "the start-up report names it".to_owned(),
    })
}
