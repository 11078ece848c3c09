//! HTTPRoutes of the mesh (GAMMA): those whose parent is a Service, and which of them a client's requests obey.
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
use crate::resources::Resources;

/// HTTPRoutes by their parent Services.
#[derive(Debug, Default)]
pub(crate) struct MeshRoutes {
    by_service: HashMap<u32, Vec<Bound>, foldhash::fast::RandomState>,
    /// By namespace and name of the HTTPRoute.
    parents: HashMap<(Arc<str>, Arc<str>), Vec<MeshParent>, foldhash::fast::RandomState>,
}

/// A parent that is a Service, as conditions tell it.
#[derive(Debug)]
pub(crate) struct MeshParent {
    /// Index among the parents of its HTTPRoute.
    pub(crate) parent: usize,
    /// Why it takes no route: the reason of `Accepted`, and a sentence.
    pub(crate) refusal: Option<(&'static str, String)>,
}

/// An HTTPRoute and one of its parents, which exists.
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
    /// Finds the HTTPRoutes whose parents are Services; parents that take no routes are reported.
    pub(crate) fn select(resources: &Resources, resolver: &Resolver<'_>) -> Self {
        let mut routes = Self::default();
        for route in resources.http_routes.iter() {
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
                    let key = (route.meta.namespace.clone(), route.meta.name.clone());
                    routes.parents.entry(key).or_default().push(MeshParent { parent: index, refusal });
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
        routes
    }

    /// The parents of an HTTPRoute that are Services.
    pub(crate) fn parents_of(&self, route: &HttpRoute) -> impl Iterator<Item = &MeshParent> {
        let key = (route.meta.namespace.clone(), route.meta.name.clone());
        self.parents.get(&key).into_iter().flatten()
    }

    /// The HTTPRoutes that count for a Service's port and clients of a namespace, each with the place that names the
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
        if consumers.is_empty() { producers } else { consumers }
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

const NO_MATCHING_PARENT: &str = "NoMatchingParent";
const UNSUPPORTED_VALUE: &str = "UnsupportedValue";
