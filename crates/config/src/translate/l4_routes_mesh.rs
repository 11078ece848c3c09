//! TLSRoutes and TCPRoutes of the mesh (GAMMA): those whose parent is a Service, for the connections of forwards.
//!
//! As with HTTPRoutes, a route in the namespace of its Service counts for every client, and one in another namespace for the
//! clients of its own, there instead of those of the producer (GEP-1294).

use std::collections::HashMap;
use std::sync::Arc;

use super::backends::Sent;
use super::mesh_routes::{MeshParent, is_of_port, parent_service};
use super::registry::{PortInfo, ServiceInfo};
use super::resolve::Resolver;
use crate::kind::gateway_api::GROUP;
use crate::kind::gateway_refs::ParentRef;
use crate::kind::http_route::Hostname;
use crate::kind::tcp_route::{ConnectionRule, TcpRoute};
use crate::kind::tls_route::TlsRoute;
use crate::node::{Pos, Spanned};
use crate::object::Metadata;
use crate::resources::Resources;

/// A TLSRoute or TCPRoute.
#[derive(Clone, Debug)]
pub(crate) enum ConnectionObject {
    /// A TLSRoute.
    Tls(Arc<TlsRoute>),
    /// A TCPRoute.
    Tcp(Arc<TcpRoute>),
}

impl ConnectionObject {
    /// Its metadata.
    pub(crate) fn meta(&self) -> &Metadata {
        match self {
            Self::Tls(route) => &route.meta,
            Self::Tcp(route) => &route.meta,
        }
    }

    /// `rules`.
    pub(crate) fn rules(&self) -> &[Spanned<Arc<ConnectionRule>>] {
        match self {
            Self::Tls(route) => &route.spec.rules,
            Self::Tcp(route) => &route.spec.rules,
        }
    }

    /// `hostnames`; none for a TCPRoute, which takes every connection.
    pub(crate) fn hostnames(&self) -> Option<&[Spanned<Hostname>]> {
        match self {
            Self::Tls(route) => Some(&route.spec.hostnames),
            Self::Tcp(_) => None,
        }
    }

    fn parents(&self) -> &[Spanned<ParentRef>] {
        match self {
            Self::Tls(route) => &route.spec.parents,
            Self::Tcp(route) => &route.spec.parents,
        }
    }
}

/// A route and one of its parents, a Service that exists.
#[derive(Debug)]
pub(crate) struct Bound {
    /// The route.
    pub(crate) object: ConnectionObject,
    parent: usize,
}

impl Bound {
    fn parent(&self) -> &Spanned<ParentRef> {
        &self.object.parents()[self.parent]
    }

    /// Where the route names the Service.
    pub(crate) fn pos(&self) -> Pos {
        self.parent().name.pos
    }
}

/// Routes by their parent Services.
#[derive(Debug, Default)]
pub(crate) struct MeshConnections {
    /// The oldest first.
    by_service: HashMap<u32, Vec<Bound>, foldhash::fast::RandomState>,
    /// By the address of the metadata.
    parents: HashMap<*const Metadata, Vec<MeshParent>, foldhash::fast::RandomState>,
}

impl MeshConnections {
    /// Finds the routes whose parents are Services; parents that take no routes are reported.
    pub(crate) fn select(resources: &Resources, resolver: &Resolver<'_>) -> Self {
        let mut routes = Self::default();
        for route in resources.tls_routes.oldest_first() {
            routes.add(ConnectionObject::Tls(route.clone()), resolver);
        }
        for route in resources.tcp_routes.oldest_first() {
            routes.add(ConnectionObject::Tcp(route.clone()), resolver);
        }
        routes
    }

    fn add(&mut self, object: ConnectionObject, resolver: &Resolver<'_>) {
        let meta = object.meta();
        for (index, parent) in object.parents().iter().enumerate().filter(|(_, parent)| &*parent.group != GROUP) {
            let found = parent_service(meta, parent, Sent::Connections, resolver);
            if let Err(refusal) = &found {
                let message = format!("parentRefs[{index}]: {}", refusal.message);
                resolver.report(refusal.code.about(meta, refusal.pos, message, refusal.hint));
            }
            if parent.is_service() {
                let refusal = found.as_ref().err().map(|refusal| (refusal.reason, refusal.message.clone()));
                let parents = self.parents.entry(std::ptr::from_ref(meta)).or_default();
                parents.push(MeshParent { parent: index, refusal });
            }
            if let Ok(service) = found {
                let bound = Bound { object: object.clone(), parent: index };
                self.by_service.entry(service).or_default().push(bound);
            }
        }
    }

    /// The parents of a route that are Services.
    pub(crate) fn parents_of(&self, meta: &Metadata) -> impl Iterator<Item = &MeshParent> {
        self.parents.get(&std::ptr::from_ref(meta)).into_iter().flatten()
    }

    /// All routes with the Services they are bound to.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Bound)> {
        self.by_service.iter().flat_map(|(service, all)| all.iter().map(|bound| (*service, bound)))
    }

    /// The routes that count for a Service's port and clients of a namespace, the oldest first.
    pub(crate) fn of(&self, service: u32, info: &ServiceInfo, port: &PortInfo, client: &str) -> Vec<&Bound> {
        let all = self.by_service.get(&service).into_iter().flatten();
        let (producers, mut consumers): (Vec<&Bound>, Vec<&Bound>) = all
            .filter(|bound| is_of_port(bound.parent(), port))
            .partition(|bound| bound.object.meta().namespace == info.namespace);
        consumers.retain(|bound| *bound.object.meta().namespace == *client);
        if consumers.is_empty() { producers } else { consumers }
    }
}
