//! HTTPRoutes and GRPCRoutes of the mesh (GAMMA): those whose parent is a Service, and which of them a client's requests obey.
//!
//! A route in the namespace of its Service is a producer's and counts for every client. A route in another namespace is a
//! consumer's: it counts for the clients of its own namespace, and there instead of those of the producer (GEP-1294).

use std::collections::HashMap;
use std::sync::Arc;

use super::backends::Sent;
use super::registry::{PortInfo, ServiceInfo, Source};
use super::resolve::Resolver;
use crate::codes::{self, CodeInfo};
use crate::decode::clip;
use crate::kind::gateway_api::GROUP;
use crate::kind::gateway_refs::ParentRef;
use crate::kind::http_route::HttpRoute;
use crate::kind::service::ServiceType;
use crate::node::{Pos, Spanned};
use crate::object::Metadata;
use crate::precedence;
use crate::resources::Resources;

/// HTTPRoutes and GRPCRoutes by their parent Services.
#[derive(Debug, Default)]
pub(crate) struct MeshRoutes {
    by_service: HashMap<u32, Vec<Bound>, foldhash::fast::RandomState>,
    /// By the address of the route.
    parents: HashMap<*const HttpRoute, Vec<MeshParent>, foldhash::fast::RandomState>,
}

/// A parent that is a Service, as conditions tell it.
#[derive(Debug)]
pub(crate) struct MeshParent {
    /// Index among the parents of its route.
    pub(crate) parent: usize,
    /// Why it takes no route: the reason of `Accepted`, and a sentence.
    pub(crate) refusal: Option<(&'static str, String)>,
}

/// A route and one of its parents, which exists.
#[derive(Debug)]
struct Bound {
    route: Arc<HttpRoute>,
    /// Index among its parents.
    parent: usize,
}

impl Bound {
    fn parent(&self) -> &Spanned<ParentRef> {
        &self.route.spec.parents[self.parent]
    }
}

/// Why a parent takes no route.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// As what it is reported.
    pub(crate) code: &'static CodeInfo,
    /// Of the condition `Accepted`.
    pub(crate) reason: &'static str,
    /// Where in the route.
    pub(crate) pos: Pos,
    /// What was found.
    pub(crate) message: String,
    /// What to do.
    pub(crate) hint: &'static str,
}

impl MeshRoutes {
    /// Finds the routes whose parents are Services; parents that take no routes are reported.
    pub(crate) fn select(resources: &Resources, resolver: &Resolver<'_>) -> Self {
        let mut routes = Self::default();
        for route in resources.request_routes() {
            let mut of_mesh = false;
            for (index, parent) in route.spec.parents.iter().enumerate().filter(|(_, parent)| &*parent.group != GROUP) {
                let found = parent_service(&route.meta, parent, Sent::Requests, resolver);
                if let Err(refusal) = &found {
                    let message = format!("parentRefs[{index}]: {}", refusal.message);
                    resolver.report(refusal.code.about(&route.meta, refusal.pos, message, refusal.hint));
                }
                if parent.is_service() {
                    of_mesh = true;
                    let refusal = found.as_ref().err().map(|refusal| (refusal.reason, refusal.message.clone()));
                    routes.parents.entry(Arc::as_ptr(route)).or_default().push(MeshParent { parent: index, refusal });
                }
                if let Ok(service) = found {
                    let bound = Bound { route: route.clone(), parent: index };
                    routes.by_service.entry(service).or_default().push(bound);
                }
            }
            if let Some(first) = route.spec.hostnames.first().filter(|_| of_mesh) {
                let message = "`hostnames` have no meaning for a parent that is a Service";
                let hint = "the names are those of the Service; match on the header `Host` for more";
                resolver.report(codes::NO_EFFECT.about(&route.meta, first.pos, message, hint));
            }
        }
        routes.settle(resolver);
        routes
    }

    /// HTTPRoutes give way to GRPCRoutes where both are for one port of a Service (GEP-1426, "Route types"); those of other
    /// namespaces are other clients' and do not meet.
    fn settle(&mut self, resolver: &Resolver<'_>) {
        let mut refused = Vec::new();
        for (service, all) in &self.by_service {
            let info = resolver.registry.at(*service);
            for loser in all.iter().filter(|bound| !bound.route.is_grpc()) {
                let wins = |other: &&Bound, port| {
                    other.route.is_grpc()
                        && other.route.meta.namespace == loser.route.meta.namespace
                        && is_of_port(other.parent(), port)
                };
                let (mut kept, mut lost) = (false, None);
                for port in info.http_ports().filter(|port| is_of_port(loser.parent(), port)) {
                    let Some(winner) = all.iter().find(|other| wins(other, port)) else {
                        kept = true;
                        continue;
                    };
                    let host = format!("{}:{}", info.host, port.number);
                    let place = |bound: &Bound| bound.parent().name.pos;
                    let winner = (&winner.route.meta, place(winner));
                    let finding = precedence::loses(&host, (&loser.route.meta, place(loser)), winner);
                    lost = Some(finding.message.clone());
                    resolver.report(finding);
                }
                refused
                    .extend(lost.filter(|_| !kept).map(|message| (Arc::as_ptr(&loser.route), loser.parent, message)));
            }
        }
        for (route, parent, message) in refused {
            let parents = self.parents.get_mut(&route).into_iter().flatten();
            parents.filter(|p| p.parent == parent).for_each(|p| p.refusal = Some((CONFLICTED, message.clone())));
        }
    }

    /// The parents of a route that are Services.
    pub(crate) fn parents_of(&self, route: &Arc<HttpRoute>) -> impl Iterator<Item = &MeshParent> {
        self.parents.get(&Arc::as_ptr(route)).into_iter().flatten()
    }

    /// The routes that count for a Service's port and clients of a namespace, each with the place that names the
    /// Service.
    pub(crate) fn of(
        &self,
        service: u32,
        info: &ServiceInfo,
        port: &PortInfo,
        client: &str,
    ) -> Vec<(&Arc<HttpRoute>, Pos)> {
        let mut found: Vec<(&Arc<HttpRoute>, Pos)> = Vec::new();
        for bound in self.by_service.get(&service).into_iter().flatten() {
            let parent = bound.parent();
            // The parents of one route stand together.
            let known = found.last().is_some_and(|(route, _)| Arc::ptr_eq(route, &bound.route));
            if is_of_port(parent, port) && !known {
                found.push((&bound.route, parent.name.pos));
            }
        }
        let (producers, mut consumers): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|(route, _)| route.meta.namespace == info.namespace);
        consumers.retain(|(route, _)| *route.meta.namespace == *client);
        let mut counting = if consumers.is_empty() { producers } else { consumers };
        if counting.iter().any(|(route, _)| route.is_grpc()) {
            counting.retain(|(route, _)| route.is_grpc());
        }
        counting
    }
}

/// Whether a parent that is a Service names a port of it, or all.
pub(crate) fn is_of_port(parent: &ParentRef, port: &PortInfo) -> bool {
    parent.port.as_ref().is_none_or(|p| p.value == port.number)
        && parent.section_name.as_ref().is_none_or(|name| name.value == port.name)
}

/// The Service of a parent, of a route with this metadata, that can have routes for what is `sent`.
pub(crate) fn parent_service(
    meta: &Metadata,
    parent: &Spanned<ParentRef>,
    sent: Sent,
    resolver: &Resolver<'_>,
) -> Result<u32, Refusal> {
    let refuse = |code, reason, pos, message, hint| Err(Refusal { code, reason, pos, message, hint });
    if !parent.is_service() {
        let message = format!("a parent of kind {}/{} is not known here", parent.group, parent.kind);
        let hint = "a parent is a Gateway, a ListenerSet or a Service";
        return refuse(codes::NO_EFFECT, NO_MATCHING_PARENT, parent.pos, message, hint);
    }
    let namespace = parent.namespace_or(&meta.namespace);
    let (name, pos) = (clip(&parent.name), parent.name.pos);
    let Some(index) = resolver.kubernetes_service(namespace, &parent.name) else {
        let message = format!("Service {namespace}/{name} does not exist");
        let hint = "the route has no effect there";
        return refuse(codes::REFERENCE_NOT_FOUND, NO_MATCHING_PARENT, pos, message, hint);
    };
    let info = resolver.registry.at(index);
    if let Source::Service(service) = &info.source {
        let what = match service.spec.service_type {
            ServiceType::ExternalName => Some("is an ExternalName"),
            _ if service.is_headless() => Some("is headless"),
            _ => None,
        };
        if let Some(what) = what {
            let message = format!("Service {namespace}/{name} {what} and takes no routes");
            let hint = "use a Service with an address of its own";
            return refuse(codes::NO_EFFECT, UNSUPPORTED_VALUE, pos, message, hint);
        }
    }
    let named: Vec<&PortInfo> = info.ports.iter().filter(|port| is_of_port(parent, port)).collect();
    let ports = info.ports_text();
    if named.is_empty() {
        let pos = parent.port.as_ref().map(|p| p.pos).or(parent.section_name.as_ref().map(|s| s.pos)).unwrap_or(pos);
        let message = format!("Service {namespace}/{name} has no such port; its ports are {ports}");
        return refuse(codes::REFERENCE_NOT_FOUND, NO_MATCHING_PARENT, pos, message, "use one of its ports");
    }
    if sent == Sent::Requests && named.iter().all(|port| !port.protocol.is_http()) {
        let message = format!("Service {namespace}/{name} speaks no HTTP at that port; its ports are {ports}");
        let hint = "give the port of the Service `appProtocol: http`, or a name that begins with `http`";
        return refuse(codes::NO_EFFECT, UNSUPPORTED_VALUE, pos, message, hint);
    }
    Ok(index)
}

const CONFLICTED: &str = "Conflicted";
const NO_MATCHING_PARENT: &str = "NoMatchingParent";
const UNSUPPORTED_VALUE: &str = "UnsupportedValue";
