//! Which routes attach to which listeners: `parentRefs` on the one side, `allowedRoutes` on the other, and host names that
//! meet.
//!
//! A route attaches whether or not the listener is served, as `attachedRoutes` counts it; what is served is another matter.

use std::collections::HashMap;
use std::sync::Arc;

use outrigger_model::Diagnostic;

use super::fault::Fault;
use super::hosts::{ANY, intersect};
use super::listeners::Entry;
use super::routes::{self, AnyRoute};
use super::site::{Site, selects};
use crate::codes;
use crate::decode::clip;
use crate::kind::gateway_api::{GROUP, RoutesFrom};
use crate::kind::gateway_refs::ParentRef;
use crate::node::{Pos, Spanned};
use crate::object::Metadata;
use crate::resources::Resources;

/// A route at a listener.
pub(super) struct Attached<'r> {
    /// The route.
    pub(super) route: AnyRoute<'r>,
    /// The hosts it is for there: where its host names meet the listener's.
    pub(super) hosts: Vec<Arc<str>>,
}

/// A route and its parents.
pub(super) struct RouteState<'r> {
    /// The route.
    pub(super) route: AnyRoute<'r>,
    /// Those of its parents that are Gateways and ListenerSets of this controller, or that do not exist.
    pub(super) parents: Vec<ParentState<'r>>,
}

/// A parent of a route.
pub(super) struct ParentState<'r> {
    /// As the route names it.
    pub(super) parent: &'r Spanned<ParentRef>,
    /// Why the route is not attached.
    pub(super) refused: Option<Fault<'r>>,
}

/// Attaches all routes, the oldest first, to the listeners of the sites. The answer is kind by kind, each in input order.
pub(super) fn attach<'r>(
    resources: &'r Resources,
    sites: &mut [Site<'r>],
    notes: &mut Vec<Diagnostic>,
) -> Vec<RouteState<'r>> {
    let mut index = Index::build(resources, sites);
    for route in routes::oldest_first(resources) {
        for parent in route.parents() {
            index.attach(route, parent, sites);
        }
    }
    notes.append(&mut index.notes);
    // The order of precedence is that of age; that of the answer is that of the input.
    let states = routes::in_input_order(resources).map(|route| {
        let parents = index.results.remove(&std::ptr::from_ref(route.meta())).unwrap_or_default();
        RouteState { route, parents }
    });
    states.filter(|state| !state.parents.is_empty()).collect()
}

/// A namespace and a name.
type Name<'r> = (&'r str, &'r str);

struct Index<'r> {
    resources: &'r Resources,
    /// Gateways of this controller.
    gateways: HashMap<Name<'r>, usize>,
    /// Their ListenerSets, refused ones among them.
    sets: HashMap<Name<'r>, (usize, usize)>,
    /// What became of the parents of each route, by the address of its metadata.
    results: HashMap<*const Metadata, Vec<ParentState<'r>>>,
    notes: Vec<Diagnostic>,
}

/// What a `parentRef` names.
enum Target {
    /// A Gateway, or one of its ListenerSets.
    Here(usize, Option<usize>),
    /// Something of another controller, or of another API.
    Elsewhere,
    /// A kind of this API that takes no routes.
    NoParent,
    /// Nothing.
    Missing,
}

impl<'r> Index<'r> {
    fn build(resources: &'r Resources, sites: &[Site<'r>]) -> Self {
        let mut index = Self {
            resources,
            gateways: HashMap::new(),
            sets: HashMap::new(),
            results: HashMap::new(),
            notes: Vec::new(),
        };
        for (at, site) in sites.iter().enumerate() {
            index.gateways.insert((&site.gateway.meta.namespace, &site.gateway.meta.name), at);
            for (of, set) in site.sets.iter().enumerate() {
                index.sets.insert((&set.set.meta.namespace, &set.set.meta.name), (at, of));
            }
        }
        index
    }

    fn attach(&mut self, route: AnyRoute<'r>, parent: &'r Spanned<ParentRef>, sites: &mut [Site<'r>]) {
        let namespace = parent.namespace_or(&route.meta().namespace);
        let refused = match self.target(parent, namespace) {
            Target::Elsewhere => return,
            Target::NoParent => {
                let message = format!("a {} is no parent: Gateways, ListenerSets and Services are", parent.kind);
                self.notes.push(codes::NO_EFFECT.about(route.meta(), parent.pos, message, ""));
                return;
            }
            Target::Here(site, set) => self.meet(route, parent, &mut sites[site], set),
            Target::Missing => {
                let message = format!("{} {namespace}/{} does not exist", parent.kind, clip(&parent.name));
                let hint = "add it to the input, or fix its errors".to_owned();
                let fault = fault(route, parent.name.pos, "NoMatchingParent", message, hint);
                Some(Fault { code: codes::REFERENCE_NOT_FOUND, ..fault })
            }
        };
        self.results.entry(std::ptr::from_ref(route.meta())).or_default().push(ParentState { parent, refused });
    }

    fn target(&self, parent: &ParentRef, namespace: &str) -> Target {
        let key = (namespace, &**parent.name);
        if parent.is_own("Gateway") {
            return match self.gateways.get(&key) {
                Some(site) => Target::Here(*site, None),
                None if self.resources.gateways.get(namespace, &parent.name).is_some() => Target::Elsewhere,
                None => Target::Missing,
            };
        }
        if parent.is_own("ListenerSet") {
            return match self.sets.get(&key) {
                Some((site, set)) => Target::Here(*site, Some(*set)),
                None if self.resources.listener_sets.get(namespace, &parent.name).is_some() => Target::Elsewhere,
                None => Target::Missing,
            };
        }
        if *parent.group == *GROUP { Target::NoParent } else { Target::Elsewhere }
    }

    /// Attaches a route to those listeners of a parent that it names and that take it; or says why there is none.
    fn meet(
        &mut self,
        route: AnyRoute<'r>,
        parent: &'r Spanned<ParentRef>,
        site: &mut Site<'r>,
        set: Option<usize>,
    ) -> Option<Fault<'r>> {
        if let Some(refused) = set.and_then(|set| site.sets[set].refused.as_ref()) {
            let message = format!("{} is not accepted: {}", refused.meta.object_ref(), refused.message);
            return Some(fault(route, parent.name.pos, "NoMatchingParent", message, String::new()));
        }
        let named = |entry: &Entry<'_>| {
            entry.set == set
                && parent.section_name.as_ref().is_none_or(|name| *name.value == *entry.spec.name.value)
                && parent.port.as_ref().is_none_or(|port| port.value == entry.spec.port)
        };
        let (mut refusals, mut hostnames, mut conflicts, mut attached) = (Vec::new(), Vec::new(), Vec::new(), false);
        for entry in site.entries.iter_mut().filter(|entry| named(entry)) {
            if let Some(refusal) = self.refusal(route, entry) {
                refusals.push(refusal);
                continue;
            }
            let hosts = meeting_hosts(route, &entry.hostname);
            if hosts.is_empty() {
                hostnames.push(format!("listener {} is for {}", entry.label(), entry.hostname));
                continue;
            }
            if let Some(first) = self.other_kind(entry, route, &hosts) {
                let place = first.source.place(first.pos);
                conflicts.push(format!("listener {} has {} at {place} for them", entry.label(), first.object_ref()));
                continue;
            }
            attached = true;
            add(entry, route, hosts);
        }
        if !conflicts.is_empty() {
            let pos = route.hostnames().first().map_or(parent.name.pos, |h| h.pos);
            let message = format!("its host names are taken by a route of another kind: {}", conflicts.join("; "));
            let hint = "an HTTPRoute and a GRPCRoute cannot share a host name; the older one has it".to_owned();
            if !attached {
                return Some(fault(route, pos, "Conflicted", message, hint));
            }
            self.notes.push(codes::PRECEDENCE.about(route.meta(), pos, message, hint));
        }
        if attached {
            return None;
        }
        if !hostnames.is_empty() {
            let pos = route.hostnames().first().map_or(parent.name.pos, |h| h.pos);
            let message = format!("none of its host names meets a listener's: {}", hostnames.join("; "));
            let hint =
                "name a host that the listener is for; `*.example.com` does not take in `example.com`".to_owned();
            return Some(fault(route, pos, "NoMatchingListenerHostname", message, hint));
        }
        if !refusals.is_empty() {
            let hint = "change `allowedRoutes` of the listener".to_owned();
            return Some(fault(route, parent.name.pos, "NotAllowedByListeners", refusals.join("; "), hint));
        }
        Some(no_such_listener(route, parent, site, set))
    }

    /// The GRPCRoute that an HTTPRoute meets at a listener with one of its hosts, or the other way round: only the one that
    /// is there first is accepted (`hostnames` of GRPCRoute).
    fn other_kind(&self, entry: &Entry<'r>, route: AnyRoute<'r>, hosts: &[Arc<str>]) -> Option<&'r Metadata> {
        let AnyRoute::Http(own) = route else { return None };
        if self.resources.grpc_routes.is_empty() || self.resources.http_routes.is_empty() {
            return None;
        }
        let is_other = |other: AnyRoute<'_>| matches!(other, AnyRoute::Http(other) if other.is_grpc() != own.is_grpc());
        let meets = |host: &Arc<str>| hosts.iter().any(|own| intersect(host, own).is_some());
        let mut others = entry.attached.iter().filter(|attached| is_other(attached.route));
        others.find(|attached| attached.hosts.iter().any(meets)).map(|attached| attached.route.meta())
    }

    /// Why a listener does not take a route, whatever its host names.
    fn refusal(&self, route: AnyRoute<'_>, entry: &Entry<'_>) -> Option<String> {
        let meta = route.meta();
        if !entry.kinds.contains(&meta.kind) {
            return Some(format!("listener {} takes no {}s", entry.label(), meta.kind));
        }
        let allowed = &entry.spec.allowed_routes.namespaces;
        let namespace = &meta.namespace;
        let (is_allowed, whose) = match allowed.from {
            RoutesFrom::All => (true, "any namespace"),
            RoutesFrom::Same => (*namespace == entry.meta.namespace, "its own namespace"),
            RoutesFrom::Selector => {
                let selected = selects(allowed.selector.as_ref(), namespace, self.resources);
                (selected, "namespaces that its selector takes in")
            }
        };
        (!is_allowed).then(|| format!("listener {} takes routes of {whose} only, not of {namespace}", entry.label()))
    }
}

/// Where the host names of a route meet that of a listener; each once.
fn meeting_hosts(route: AnyRoute<'_>, listener: &Arc<str>) -> Vec<Arc<str>> {
    let any: Arc<str> = ANY.into();
    let written = route.hostnames().iter().map(|h| &h.value.0);
    let mut hosts: Vec<Arc<str>> = Vec::new();
    for host in written.chain(route.hostnames().is_empty().then_some(&any)) {
        let met = intersect(host, listener);
        hosts.extend(met.filter(|host| !hosts.contains(host)));
    }
    hosts
}

/// A route may reach a listener by several parents; it is there once.
fn add<'r>(entry: &mut Entry<'r>, route: AnyRoute<'r>, hosts: Vec<Arc<str>>) {
    // Routes come one after the other, so it can only be the last.
    if entry.attached.last().is_none_or(|last| !last.route.is(route)) {
        entry.attached.push(Attached { route, hosts });
    }
}

fn no_such_listener<'r>(
    route: AnyRoute<'r>,
    parent: &'r Spanned<ParentRef>,
    site: &Site<'_>,
    set: Option<usize>,
) -> Fault<'r> {
    let owner = match set {
        Some(set) => site.sets[set].set.meta.object_ref(),
        None => site.gateway.meta.object_ref(),
    };
    let name = parent.section_name.as_ref().map_or_else(String::new, |name| format!(" named {:?}", &*name.value));
    let port = parent.port.as_ref().map_or_else(String::new, |port| format!(" on port {}", port.value));
    let has: Vec<String> = site.entries_of(set).map(Entry::label).collect();
    let message = format!("{owner} has no listener{name}{port}; its listeners: {}", has.join(", "));
    let pos = parent.section_name.as_ref().map(|n| n.pos).or(parent.port.as_ref().map(|p| p.pos));
    let hint = "name one of them in `sectionName`, or leave it out for all".to_owned();
    fault(route, pos.unwrap_or(parent.name.pos), "NoMatchingParent", message, hint)
}

fn fault<'r>(route: AnyRoute<'r>, pos: Pos, reason: &'static str, message: String, hint: String) -> Fault<'r> {
    Fault { meta: route.meta(), pos, code: codes::ROUTE_REFUSED, reason, message, hint }
}
