//! Conditions and findings of the Gateway API, read off [`Sites`].

use std::sync::Arc;

use outrigger_model::RetryPolicy;

use super::attach::RouteState;
use super::classes;
use super::fault::Fault;
use super::hosts::intersect;
use super::listeners::{Entry, Protocol};
use super::routes::{self, AnyRoute};
use super::site::{Set, Site, Sites};
use crate::kind::gateway_refs::ParentRef;
use crate::object::Metadata;
use crate::status::{Condition, ConditionStatus, ObjectStatus};
use crate::translate::backends::{Reason, RefProblem};
use crate::translate::gateways::grants::Grants;
use crate::translate::http_routes::HttpRouteBuilder;
use crate::translate::l4_routes::ConnectionRouteBuilder;
use crate::translate::l4_routes_mesh::MeshConnections;
use crate::translate::mesh_routes::MeshRoutes;
use crate::translate::resolve::Resolver;
use crate::translate::retries::Defaults;

/// The conditions of everything that is served here, and a finding for each that is false. `resolver` is used up by it:
/// it is told of references that are not those of the proxy being translated.
pub(crate) fn review(
    sites: &Sites<'_>,
    resolver: &Resolver<'_>,
    retry: &RetryPolicy,
    (mesh, connections): (&MeshRoutes, &MeshConnections),
) -> Vec<ObjectStatus> {
    let mut review = Review { sites, resolver, retry, mesh, connections, statuses: Vec::new() };
    review.classes();
    sites.gateways.iter().for_each(|site| review.gateway(site));
    review.listener_sets();
    review.routes();
    review.connection_routes();
    sites.notes.iter().for_each(|note| resolver.report(note.clone()));
    review.statuses
}

struct Review<'v> {
    sites: &'v Sites<'v>,
    resolver: &'v Resolver<'v>,
    retry: &'v RetryPolicy,
    mesh: &'v MeshRoutes,
    connections: &'v MeshConnections,
    statuses: Vec<ObjectStatus>,
}

impl Review<'_> {
    fn report(&self, fault: &Fault<'_>) {
        self.resolver.report(fault.finding());
    }

    fn push(&mut self, meta: &Metadata, conditions: Vec<Condition>) -> &mut ObjectStatus {
        self.statuses.push(ObjectStatus::of(meta.kind, &meta.namespace, &meta.name, conditions));
        let last = self.statuses.len() - 1;
        &mut self.statuses[last]
    }

    fn classes(&mut self) {
        let resources = self.sites.resources;
        for class in resources.gateway_classes.iter().filter(|class| classes::is_own(class)) {
            let fault = classes::fault(class, resources);
            fault.iter().for_each(|fault| self.report(fault));
            let accepted = fault.map_or_else(|| Condition::holds(ACCEPTED, ACCEPTED), |f| f.condition(ACCEPTED));
            self.push(&class.meta, vec![accepted]);
        }
    }

    fn gateway(&mut self, site: &Site<'_>) {
        let meta = &site.gateway.meta;
        if let Some(class) = site.pending {
            let message = format!("GatewayClass {} is not accepted", class.meta.name);
            let pending = |kind| Condition {
                kind,
                status: ConditionStatus::Unknown,
                reason: "Pending",
                message: message.clone(),
            };
            self.push(meta, vec![pending(ACCEPTED), pending(PROGRAMMED)]);
            return;
        }
        [&site.refused, &site.address, &site.unresolved].into_iter().flatten().for_each(|fault| self.report(fault));
        let accepted = gateway_accepted(site);
        let programmed = gateway_programmed(site, &accepted);
        let resolved = match &site.unresolved {
            Some(fault) => fault.condition(RESOLVED_REFS),
            None => {
                let open: Vec<String> =
                    site.entries_of(None).filter(|e| !e.unresolved.is_empty()).map(Entry::label).collect();
                match &*open {
                    [] => Condition::holds(RESOLVED_REFS, RESOLVED_REFS),
                    open => Condition::fails(RESOLVED_REFS, "ListenersNotResolved", listeners(open)),
                }
            }
        };
        let sets = (0..site.sets.len()).filter(|set| set_accepted(site, *set).status == ConditionStatus::True).count();
        self.push(meta, vec![accepted, programmed, resolved]).attached_listener_sets = Some(count(sets));
        site.entries_of(None).for_each(|entry| self.listener(site, entry));
    }

    fn listener(&mut self, site: &Site<'_>, entry: &Entry<'_>) {
        let faults = entry.conflict.iter().chain(&entry.refused).chain(&entry.unresolved);
        faults.for_each(|fault| self.report(fault));
        let mut conditions = listener_conditions(site, entry);
        conditions.extend(overlapping(site, entry));
        let status = self.push(entry.meta, conditions);
        status.listener = Some(entry.spec.name.value.clone());
        status.attached_routes = Some(count(entry.attached.len()));
        status.supported_kinds = Some(entry.kinds.iter().map(|kind| Arc::from(*kind)).collect());
    }

    /// In input order, whatever Gateway they belong to.
    fn listener_sets(&mut self) {
        for object in self.sites.resources.listener_sets.iter() {
            let is_it = |set: &Set<'_>| Arc::ptr_eq(set.set, object);
            if let Some(fault) = self.sites.orphans.iter().find(|set| is_it(set)).and_then(|set| set.refused.as_ref()) {
                self.report(fault);
                self.push(&object.meta, vec![fault.condition(ACCEPTED), fault.condition(PROGRAMMED)]);
                continue;
            }
            let mut all = self.sites.gateways.iter();
            let found = all.find_map(|site| Some((site, site.sets.iter().position(is_it)?)));
            let Some((site, set)) = found.filter(|(site, _)| site.pending.is_none()) else { continue };
            site.sets[set].refused.iter().for_each(|fault| self.report(fault));
            let accepted = set_accepted(site, set);
            let served = site.served().any(|entry| entry.set == Some(set));
            let programmed = match accepted.reason {
                _ if served => Condition::holds(PROGRAMMED, PROGRAMMED),
                PARENT_NOT_ACCEPTED => Condition::fails(PROGRAMMED, "ParentNotProgrammed", accepted.message.clone()),
                reason => Condition::fails(PROGRAMMED, reason, accepted.message.clone()),
            };
            self.push(&object.meta, vec![accepted, programmed]);
            site.entries_of(Some(set)).for_each(|entry| self.listener(site, entry));
        }
    }

    fn routes(&mut self) {
        let of_gateways = HttpRouteBuilder::of_gateway(self.resolver, Grants::new(self.sites.resources), self.retry);
        let of_mesh = HttpRouteBuilder::of_mesh(self.resolver, Defaults::of_mesh(self.retry));
        let mut states = self.sites.routes.iter().peekable();
        for route in self.sites.resources.request_routes() {
            let any = AnyRoute::Http(route);
            let state = states.next_if(|state| state.route.is(any));
            let of_mesh_parents: Vec<_> = self.mesh.parents_of(route).collect();
            if let Some(state) = state {
                let problems = of_gateways.routes(route).problems;
                self.gateway_parents(state, &problems);
            }
            if !of_mesh_parents.is_empty() {
                let problems = of_mesh.routes(route).problems;
                for parent in of_mesh_parents {
                    let accepted = match &parent.refusal {
                        Some((reason, message)) => Condition::fails(ACCEPTED, reason, message.clone()),
                        None => route_accepted(&problems, any),
                    };
                    self.route(any, &route.spec.parents[parent.parent], accepted, &problems);
                }
            }
        }
    }

    fn connection_routes(&mut self) {
        let resources = self.sites.resources;
        let of_gateways = ConnectionRouteBuilder::of_gateway(self.resolver, Grants::new(resources));
        let of_mesh = ConnectionRouteBuilder::of_mesh(self.resolver);
        let states = self.sites.routes.iter().filter(|state| state.route.connection_rules().is_some());
        let mut states = states.peekable();
        for route in routes::in_input_order(resources) {
            let Some(rules) = route.connection_rules() else { continue };
            if let Some(state) = states.next_if(|state| state.route.is(route)) {
                let problems = of_gateways.route(route.meta(), rules).problems;
                self.gateway_parents(state, &problems);
            }
            let mut of_mesh_parents = self.connections.parents_of(route.meta()).peekable();
            if of_mesh_parents.peek().is_some() {
                let problems = of_mesh.route(route.meta(), rules).problems;
                for parent in of_mesh_parents {
                    let accepted = match &parent.refusal {
                        Some((reason, message)) => Condition::fails(ACCEPTED, reason, message.clone()),
                        None => route_accepted(&problems, route),
                    };
                    self.route(route, &route.parents()[parent.parent], accepted, &problems);
                }
            }
        }
    }

    fn gateway_parents(&mut self, state: &RouteState<'_>, problems: &[RefProblem]) {
        for parent in &state.parents {
            parent.refused.iter().for_each(|fault| self.report(fault));
            let accepted = match &parent.refused {
                Some(fault) => fault.condition(ACCEPTED),
                None => route_accepted(problems, state.route),
            };
            self.route(state.route, parent.parent, accepted, problems);
        }
    }

    fn route(&mut self, route: AnyRoute<'_>, parent: &ParentRef, accepted: Condition, problems: &[RefProblem]) {
        let partly = (accepted.status == ConditionStatus::True).then(|| partially_invalid(problems, route)).flatten();
        let conditions = [accepted, route_resolved(problems)].into_iter().chain(partly).collect();
        let meta = route.meta();
        self.push(meta, conditions).parent = Some(parent_text(parent, meta));
    }
}

fn gateway_accepted(site: &Site<'_>) -> Condition {
    if let Some(fault) = &site.refused {
        return fault.condition(ACCEPTED);
    }
    let out: Vec<String> = site.entries_of(None).filter(|e| !e.is_accepted()).map(Entry::label).collect();
    match (site.is_accepted(), out.is_empty()) {
        (true, true) => Condition::holds(ACCEPTED, ACCEPTED),
        (true, false) => Condition { message: listeners(&out), ..Condition::holds(ACCEPTED, LISTENERS_NOT_VALID) },
        (false, _) => Condition::fails(ACCEPTED, LISTENERS_NOT_VALID, listeners(&out)),
    }
}

fn gateway_programmed(site: &Site<'_>, accepted: &Condition) -> Condition {
    match &site.address {
        _ if accepted.status != ConditionStatus::True => {
            Condition::fails(PROGRAMMED, INVALID, format!("it is not accepted: {}", accepted.message))
        }
        Some(fault) => fault.condition(PROGRAMMED),
        None if site.served().next().is_none() => {
            Condition::fails(PROGRAMMED, INVALID, "none of its listeners can be served")
        }
        None => Condition::holds(PROGRAMMED, PROGRAMMED),
    }
}

/// A ListenerSet is accepted when one of its listeners can be served: without, it adds nothing.
fn set_accepted(site: &Site<'_>, set: usize) -> Condition {
    if let Some(fault) = &site.sets[set].refused {
        return fault.condition(ACCEPTED);
    }
    let out: Vec<String> = site.entries_of(Some(set)).filter(|e| !e.is_usable()).map(Entry::label).collect();
    match (site.entries_of(Some(set)).any(Entry::is_usable), out.is_empty()) {
        (true, true) => Condition::holds(ACCEPTED, ACCEPTED),
        (true, false) => Condition { message: listeners(&out), ..Condition::holds(ACCEPTED, LISTENERS_NOT_VALID) },
        (false, _) => Condition::fails(ACCEPTED, LISTENERS_NOT_VALID, listeners(&out)),
    }
}

fn listener_conditions(site: &Site<'_>, entry: &Entry<'_>) -> Vec<Condition> {
    let accepted = match (&entry.conflict, &entry.refused) {
        (Some(fault), _) | (None, Some(fault)) => fault.condition(ACCEPTED),
        (None, None) => Condition::holds(ACCEPTED, ACCEPTED),
    };
    let conflicted = match &entry.conflict {
        Some(fault) => Condition { status: ConditionStatus::True, ..fault.condition(CONFLICTED) },
        None => Condition::fails(CONFLICTED, "NoConflicts", ""),
    };
    let resolved = match entry.unresolved.first() {
        Some(fault) => fault.condition(RESOLVED_REFS),
        None => Condition::holds(RESOLVED_REFS, RESOLVED_REFS),
    };
    let programmed = if let Some(fault) = &entry.conflict {
        fault.condition(PROGRAMMED)
    } else if !entry.is_accepted() {
        Condition::fails(PROGRAMMED, INVALID, accepted.message.clone())
    } else if !entry.is_usable() {
        Condition::fails(PROGRAMMED, INVALID, resolved.message.clone())
    } else if !site.is_accepted() {
        Condition::fails(PROGRAMMED, INVALID, format!("{} is not accepted", site.gateway.meta.object_ref()))
    } else {
        Condition::holds(PROGRAMMED, PROGRAMMED)
    };
    vec![accepted, conflicted, resolved, programmed]
}

/// Host names of HTTPS listeners of one port that overlap: a client may reuse a connection to one for hosts of the other,
/// which is then told so with 421.
fn overlapping(site: &Site<'_>, entry: &Entry<'_>) -> Option<Condition> {
    let overlaps = |other: &&Entry<'_>| {
        !std::ptr::eq(*other, entry)
            && other.is_accepted()
            && other.protocol == Protocol::Https
            && other.spec.port == entry.spec.port
            && intersect(&other.hostname, &entry.hostname).is_some()
    };
    if entry.protocol != Protocol::Https || !entry.is_accepted() {
        return None;
    }
    let others: Vec<String> = site.entries.iter().filter(overlaps).map(Entry::label).collect();
    let message = format!("its host names overlap with those of {}", listeners(&others));
    let condition = Condition::holds("OverlappingTLSConfig", "OverlappingHostnames");
    (!others.is_empty()).then_some(Condition { message, ..condition })
}

/// A route that is attached is accepted, unless nothing of it can be obeyed.
fn route_accepted(problems: &[RefProblem], route: AnyRoute<'_>) -> Condition {
    let rules = invalid_rules(problems);
    if rules.is_empty() || rules.len() < route.rules() {
        return Condition::holds(ACCEPTED, ACCEPTED);
    }
    Condition::fails(ACCEPTED, UNSUPPORTED_VALUE, messages(problems, true))
}

fn partially_invalid(problems: &[RefProblem], route: AnyRoute<'_>) -> Option<Condition> {
    let rules = invalid_rules(problems);
    if rules.is_empty() || rules.len() >= route.rules() {
        return None;
    }
    let condition = Condition::holds("PartiallyInvalid", UNSUPPORTED_VALUE);
    let numbers: Vec<String> = rules.iter().map(|rule| format!("rules[{rule}]")).collect();
    let message = format!("Dropped Rule {}: {}", numbers.join(", "), messages(problems, true));
    Some(Condition { message, ..condition })
}

/// The rules that cannot be obeyed as they are.
fn invalid_rules(problems: &[RefProblem]) -> Vec<usize> {
    let invalid = problems.iter().filter(|p| p.reason == Reason::UnsupportedValue);
    let mut rules: Vec<usize> = invalid.map(|p| p.rule).collect();
    rules.dedup();
    rules
}

fn route_resolved(problems: &[RefProblem]) -> Condition {
    match problems.iter().find(|p| p.reason != Reason::UnsupportedValue) {
        None => Condition::holds(RESOLVED_REFS, RESOLVED_REFS),
        Some(first) => Condition::fails(RESOLVED_REFS, first.reason.as_str(), messages(problems, false)),
    }
}

/// The messages of problems with values, or of those with references.
fn messages(problems: &[RefProblem], of_values: bool) -> String {
    let wanted = problems.iter().filter(|p| (p.reason == Reason::UnsupportedValue) == of_values);
    let messages: Vec<&str> = wanted.map(|p| &*p.message).collect();
    messages.join("; ")
}

/// `Gateway infra/web/http:80`: what the reference leaves out is left out.
fn parent_text(parent: &ParentRef, route: &Metadata) -> String {
    let namespace = parent.namespace_or(&route.namespace);
    let section = parent.section_name.as_ref().map_or_else(String::new, |name| format!("/{}", name.value));
    let port = parent.port.as_ref().map_or_else(String::new, |port| format!(":{}", port.value));
    format!("{} {namespace}/{}{section}{port}", parent.kind, parent.name.value)
}

fn listeners(labels: &[String]) -> String {
    let noun = if labels.len() == 1 { "listener" } else { "listeners" };
    format!("{noun} {}", labels.join(", "))
}

/// The number of objects is bounded by the input's size.
fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

const ACCEPTED: &str = "Accepted";
const CONFLICTED: &str = "Conflicted";
const RESOLVED_REFS: &str = "ResolvedRefs";
const PROGRAMMED: &str = "Programmed";
const INVALID: &str = "Invalid";
const LISTENERS_NOT_VALID: &str = "ListenersNotValid";
const PARENT_NOT_ACCEPTED: &str = "ParentNotAccepted";
const UNSUPPORTED_VALUE: &str = "UnsupportedValue";
