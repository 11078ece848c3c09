//! Which routes have limits on requests and bodies: from RateLimits.
//!
//! A RateLimit for a route holds wherever the route is met, in the mesh and at gateways. One for a Service holds for all
//! routes by which clients reach it: those of its own names, and others that send to it alone. A route that sends to other
//! Services as well would count their requests too; it is named, and left without. All limits of an object for one target
//! are counted together, whatever route a request comes by. With `enforcedBy: Server` the limits of a Service are those of
//! its pods' own ports ([`ServerLimits`]), and clients have none.

use std::collections::HashMap;
use std::sync::Arc;

use outrigger_model::{Action, BodyLimits, Diagnostic, RateLimit as Limit, Route, ServiceRef, VirtualHost};

use super::registry::Registry;
use super::resolve::Resolver;
use crate::codes;
use crate::decode::{clip, nearest};
use crate::hosts;
use crate::kind::policy_target::{SERVICE, TargetRef};
use crate::kind::rate_limit::{EnforcedBy, RateLimit};
use crate::node::Pos;
use crate::object::{Metadata, Resource};
use crate::resources::{Resources, Table};

/// The limits of all objects.
#[derive(Debug, Default)]
pub(crate) struct RateLimits {
    by_route: HashMap<RouteKey, Vec<Claim>>,
    /// By full host name.
    by_service: HashMap<Arc<str>, Vec<Claim>>,
    /// The same, of what the servers enforce.
    by_server: HashMap<Arc<str>, Vec<Claim>>,
    /// What was found wrong, whoever the client is.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// Kind, namespace and name.
type RouteKey = (Arc<str>, Arc<str>, Arc<str>);

/// The limits of one object for one target.
#[derive(Debug)]
struct Claim {
    /// The name of a rule or of a port; `None`: all.
    section: Option<Arc<str>>,
    /// Of a Service with `section`.
    port: Option<u16>,
    owner: Metadata,
    pos: Pos,
    limits: Vec<Arc<Limit>>,
    bodies: BodyLimits,
}

impl RateLimits {
    /// Whether two inputs with the same hosts have the same limits.
    pub(crate) fn are_same(before: &Resources, now: &Resources) -> bool {
        Arc::ptr_eq(&before.rate_limits, &now.rate_limits)
            && Arc::ptr_eq(&before.http_routes, &now.http_routes)
            && Arc::ptr_eq(&before.grpc_routes, &now.grpc_routes)
            && Arc::ptr_eq(&before.virtual_services, &now.virtual_services)
    }

    /// Reads RateLimits, the oldest first.
    pub(crate) fn build(resources: &Resources, registry: &Registry, domain: &str) -> Self {
        let mut limits = Self::default();
        for object in resources.rate_limits.oldest_first() {
            for target in &object.spec.targets {
                let found = if target.kind == &SERVICE {
                    limits.of_service(object, target, registry, domain)
                } else {
                    limits.of_route(object, target, resources)
                };
                if let Err((pos, message, hint)) = found {
                    limits.diagnostics.push(codes::REFERENCE_NOT_FOUND.about(&object.meta, pos, message, hint));
                }
            }
        }
        limits
    }

    fn of_route(&mut self, object: &RateLimit, target: &TargetRef, resources: &Resources) -> Result<(), Missing> {
        let (kind, namespace, name) = (target.kind.kind, &object.meta.namespace, &target.name.value);
        let rules = rules(resources, kind, namespace, name).ok_or_else(|| {
            let names = names(resources, kind, namespace);
            missing(target, kind, namespace, &names.iter().map(|name| &**name).collect::<Vec<_>>())
        })?;
        if let Some(section) = &target.section {
            let names: Vec<&str> = rules.iter().map(|rule| &**rule).collect();
            if !names.contains(&&*section.value) {
                let known = if names.is_empty() { "none has a name".to_owned() } else { names.join(", ") };
                let message =
                    format!("{kind} {namespace}/{name} has no rule named {:?}; its rules: {known}", clip(section));
                let hint = nearest(section, &names)
                    .map_or("`sectionName` is the name of a rule".to_owned(), |near| format!("did you mean `{near}`?"));
                return Err((section.pos, message, hint));
            }
        }
        let claims = self.by_route.entry((kind.into(), namespace.clone(), name.clone())).or_default();
        add(claims, claim(object, target, None), &mut self.diagnostics);
        Ok(())
    }

    fn of_service(
        &mut self,
        object: &RateLimit,
        target: &TargetRef,
        registry: &Registry,
        domain: &str,
    ) -> Result<(), Missing> {
        let (namespace, name) = (&object.meta.namespace, &target.name.value);
        let host = hosts::service_host(name, namespace, domain);
        let found = registry.named(&host).iter().map(|index| registry.at(*index)).find(|info| info.is_kubernetes());
        let info = found.ok_or_else(|| {
            let inside = registry.services.iter().filter(|s| s.is_kubernetes() && s.namespace == *namespace);
            missing(target, "Service", namespace, &inside.map(|s| &*s.name).collect::<Vec<_>>())
        })?;
        let port = match &target.section {
            None => None,
            Some(section) => {
                let port = info.ports.iter().find(|port| port.name == section.value).ok_or_else(|| {
                    let (ports, section_name) = (info.ports_text(), clip(section));
                    let message = format!("{host} has no port named {section_name:?}; its ports are {ports}");
                    (section.pos, message, "`sectionName` is the name of a port".to_owned())
                })?;
                Some(port.number)
            }
        };
        let by_host = match object.spec.enforced_by() {
            EnforcedBy::Client => &mut self.by_service,
            EnforcedBy::Server => &mut self.by_server,
        };
        let claims = by_host.entry(host).or_default();
        add(claims, claim(object, target, port), &mut self.diagnostics);
        Ok(())
    }

    /// Gives the routes of a virtual host their limits.
    pub(crate) fn apply(&self, vhost: &mut VirtualHost, resolver: &Resolver<'_>) {
        if self.by_route.is_empty() && self.by_service.is_empty() {
            return;
        }
        let own = vhost.name.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        for route in &mut vhost.routes {
            let mut claims: Vec<&Claim> = self.for_route(route).into_iter().collect();
            claims.extend(self.for_service(own, route, resolver));
            if claims.is_empty() {
                continue;
            }
            let route = Arc::make_mut(route);
            for claim in claims {
                route.rate_limits.extend(claim.limits.iter().cloned());
                route.body_limits = least(route.body_limits, claim.bodies);
            }
        }
    }

    /// What counts for a route as a route: what names its rule, else what names its object.
    fn for_route(&self, route: &Route) -> Option<&Claim> {
        let origin = route.origin.as_ref()?;
        let claims = self.by_route.get(&(origin.kind.clone(), origin.namespace.clone(), origin.name.clone()))?;
        let of_rule = claims.iter().find(|claim| claim.section.as_ref() == Some(&origin.rule));
        of_rule.or_else(|| claims.iter().find(|claim| claim.section.is_none()))
    }

    /// What counts for a route by the Service that it leads to: the one that clients ask for, else the only one it sends to.
    fn for_service(&self, own: Option<(&str, u16)>, route: &Route, resolver: &Resolver<'_>) -> Option<&Claim> {
        let asked = own.and_then(|(host, port)| self.of_host(host, port));
        if asked.is_some() {
            return asked;
        }
        let Action::Forward(forward) = &route.action else { return None };
        let mut parts = forward.destinations.iter().filter_map(|destination| destination.cluster.outbound_parts());
        let (port, _, host) = parts.next()?;
        let others = parts.any(|(other_port, _, other)| (other_port, other) != (port, host));
        let all = forward.destinations.iter().filter_map(|destination| destination.cluster.outbound_parts());
        if !others {
            return self.of_host(host, port);
        }
        for (port, _, host) in all {
            let (Some(claim), Some(origin)) = (self.of_host(host, port), &route.origin) else { continue };
            let message = format!(
                "does not limit rule {} of {} {}/{}, which sends to other Services as well and would count their requests",
                origin.rule, origin.kind, origin.namespace, origin.name
            );
            let hint = "name that route in a RateLimit of its own";
            resolver.report(codes::NO_EFFECT.about(&claim.owner, claim.pos, message, hint));
        }
        None
    }

    /// What counts for a port of a service.
    fn of_host(&self, host: &str, port: u16) -> Option<&Claim> {
        // The pods of a headless Service have names below its own.
        of_port(self.by_service.get(host.strip_prefix("*.").unwrap_or(host))?, port)
    }
}

/// What counts for a port: what names it, else what names the service.
fn of_port(claims: &[Claim], port: u16) -> Option<&Claim> {
    let of_port = claims.iter().find(|claim| claim.port == Some(port));
    of_port.or_else(|| claims.iter().find(|claim| claim.section.is_none()))
}

fn least(a: BodyLimits, b: BodyLimits) -> BodyLimits {
    let least = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
    BodyLimits {
        request_bytes: least(a.request_bytes, b.request_bytes),
        response_bytes: least(a.response_bytes, b.response_bytes),
    }
}

/// The limits that the proxies of Services enforce, by namespace and name of the Service. What is wrong with them is for
/// [`RateLimits::build`] to say.
#[derive(Debug, Default)]
pub(crate) struct ServerLimits(HashMap<(Arc<str>, Arc<str>), Vec<Claim>>);

impl ServerLimits {
    /// Reads RateLimits, the oldest first.
    pub(crate) fn new(resources: &Resources) -> Self {
        let mut limits = Self::default();
        let by_server = |object: &&&Arc<RateLimit>| object.spec.enforced_by() == EnforcedBy::Server;
        for object in resources.rate_limits.oldest_first().iter().filter(by_server) {
            for target in &object.spec.targets {
                let Some(service) = resources.services.get(&object.meta.namespace, &target.name) else { continue };
                let named = |section: &Arc<str>| {
                    service.spec.ports.iter().find(|port| port.name.as_ref() == Some(section)).map(|port| port.port)
                };
                let port = target.section.as_ref().map(|section| named(section));
                if port == Some(None) {
                    continue;
                }
                let key = (service.meta.namespace.clone(), service.meta.name.clone());
                add(limits.0.entry(key).or_default(), claim(object, target, port.flatten()), &mut Vec::new());
            }
        }
        limits
    }

    /// Those of a pod's port that these ports of Services send to.
    pub(crate) fn of<'s>(&self, services: impl Iterator<Item = &'s ServiceRef>) -> (Vec<Arc<Limit>>, BodyLimits) {
        let mut all = (Vec::new(), BodyLimits::default());
        for service in services {
            let claims = self.0.get(&(service.namespace.clone(), service.name.clone()));
            let Some(claim) = claims.and_then(|claims| of_port(claims, service.port)) else { continue };
            all.0.extend(claim.limits.iter().cloned());
            all.1 = least(all.1, claim.bodies);
        }
        all
    }
}

/// Where, what was found, and what to do.
type Missing = (Pos, String, String);

fn missing(target: &TargetRef, kind: &str, namespace: &str, names: &[&str]) -> Missing {
    let message = format!("target {kind} {namespace}/{} does not exist", clip(&target.name));
    let hint = nearest(&target.name, names).map_or_else(
        || "a target stands in the namespace of its policy".to_owned(),
        |near| format!("did you mean `{near}`?"),
    );
    (target.name.pos, message, hint)
}

/// Adds a claim, unless an older one is for the very same.
fn add(claims: &mut Vec<Claim>, claim: Claim, diagnostics: &mut Vec<Diagnostic>) {
    let Some(first) = claims.iter().find(|known| known.section == claim.section) else {
        claims.push(claim);
        return;
    };
    let place = first.owner.source.place(first.pos);
    let message =
        format!("has no effect for this target: {} at {place} is older and is for the same", first.owner.object_ref());
    let hint = "keep one RateLimit for a target; it may have several limits";
    diagnostics.push(codes::SUPERSEDED.about(&claim.owner, claim.pos, message, hint));
}

fn claim(object: &RateLimit, target: &TargetRef, port: Option<u16>) -> Claim {
    let (meta, spec) = (&object.meta, &object.spec);
    let name: Arc<str> = format!("{}/{}", meta.namespace, meta.name).into();
    let section = target.section.as_ref().map(|section| section.value.clone());
    let of_section = section.as_ref().map_or(String::new(), |section| format!("/{section}"));
    let of_target = format!("{} {}/{}{of_section}", target.kind.kind, meta.namespace, target.name.value);
    let limits = spec.limits.iter().enumerate().map(|(index, limit)| {
        Arc::new(Limit {
            name: name.clone(),
            key: format!("{name}[{index}] {of_target}").into(),
            requests: limit.requests,
            interval: limit.interval,
            burst: limit.burst,
            per_source: limit.per_source,
        })
    });
    Claim {
        section,
        port,
        owner: meta.clone(),
        pos: target.name.pos,
        limits: limits.collect(),
        bodies: spec.bodies.as_ref().map(|bodies| bodies.model()).unwrap_or_default(),
    }
}

/// The names of a route's rules; `None`: there is no such route.
fn rules(resources: &Resources, kind: &str, namespace: &str, name: &str) -> Option<Vec<Arc<str>>> {
    Some(match kind {
        "VirtualService" => {
            let object = resources.virtual_services.get(namespace, name)?;
            object.spec.http.iter().filter_map(|rule| rule.name.clone()).collect()
        }
        "GRPCRoute" => {
            let object = resources.grpc_routes.get(namespace, name)?;
            object.route.spec.rules.iter().filter_map(|rule| rule.name.clone()).collect()
        }
        _ => {
            let object = resources.http_routes.get(namespace, name)?;
            object.spec.rules.iter().filter_map(|rule| rule.name.clone()).collect()
        }
    })
}

/// The routes of a kind in a namespace.
fn names(resources: &Resources, kind: &str, namespace: &str) -> Vec<Arc<str>> {
    fn of<T: Resource>(table: &Table<T>, namespace: &str) -> Vec<Arc<str>> {
        table.in_namespace(namespace).into_iter().map(|object| object.meta().name.clone()).collect()
    }
    match kind {
        "VirtualService" => of(&resources.virtual_services, namespace),
        "GRPCRoute" => of(&resources.grpc_routes, namespace),
        _ => of(&resources.http_routes, namespace),
    }
}
