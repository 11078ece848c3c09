//! TLSRoutes and TCPRoutes of the mesh (GAMMA): those whose parent is a Service, for the connections of forwards.
//!
//! As with HTTPRoutes, a route in the namespace of its Service counts for every client, and one in another namespace for the
//! clients of its own, there instead of those of the producer (GEP-1294).

use std::collections::HashMap;
use std::sync::Arc;

use outrigger_model::{Chain, HostPattern, Serve};

use super::backends::Sent;
use super::l4_routes::{ConnectionRouteBuilder, nowhere};
use super::mesh_routes::{MeshParent, Refusal, is_of_port, parent_service};
use super::protocol::Protocol;
use super::registry::{PortInfo, ServiceInfo};
use super::resolve::Resolver;
use crate::codes;
use crate::hosts;
use crate::kind::gateway_api::GROUP;
use crate::kind::gateway_refs::ParentRef;
use crate::kind::http_route::Hostname;
use crate::kind::tcp_route::{ConnectionRule, TcpRoute};
use crate::kind::tls_route::TlsRoute;
use crate::node::{Pos, Spanned};
use crate::object::Metadata;
use crate::precedence;
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
    fn rules(&self) -> &[Spanned<Arc<ConnectionRule>>] {
        match self {
            Self::Tls(route) => &route.spec.rules,
            Self::Tcp(route) => &route.spec.rules,
        }
    }

    /// `hostnames`; a route without, a TCPRoute among them, takes every connection.
    fn hostnames(&self) -> &[Spanned<Hostname>] {
        match self {
            Self::Tls(route) => &route.spec.hostnames,
            Self::Tcp(_) => &[],
        }
    }

    /// Whether it means something for what a port speaks. A server name is read where TLS is spoken.
    fn is_for_port(&self, port: &PortInfo) -> bool {
        matches!(self, Self::Tcp(_)) || port.protocol == Protocol::Tls
    }

    fn is_for(&self, service: u32, parent: &Spanned<ParentRef>, resolver: &Resolver<'_>) -> Result<u32, Refusal> {
        let info = resolver.registry.at(service);
        if info.ports.iter().any(|port| is_of_port(parent, port) && self.is_for_port(port)) {
            return Ok(service);
        }
        let meta = info.meta();
        Err(Refusal {
            code: codes::NO_EFFECT,
            reason: "UnsupportedValue",
            pos: parent.name.pos,
            message: format!("{} speaks no TLS at that port; its ports are {}", meta.object_ref(), info.ports_text()),
            hint: "give the port of the Service `appProtocol: tls`, or use a TCPRoute",
        })
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
    /// Whether it counts for a port of the Service.
    pub(crate) fn is_of(&self, port: &PortInfo) -> bool {
        is_of_port(self.parent(), port) && self.object.is_for_port(port)
    }

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
            let found = parent_service(meta, parent, Sent::Connections, resolver)
                .and_then(|service| object.is_for(service, parent, resolver));
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
        let (producers, mut consumers): (Vec<&Bound>, Vec<&Bound>) =
            all.filter(|bound| bound.is_of(port)).partition(|bound| bound.object.meta().namespace == info.namespace);
        consumers.retain(|bound| *bound.object.meta().namespace == *client);
        if consumers.is_empty() { producers } else { consumers }
    }
}

/// The chains of a forward to a Service with these routes. A server name goes to the oldest route that has it; what none of
/// them is for is reset, as a request that no rule of an HTTPRoute takes gets 404.
pub(crate) fn chains(bound: &[&Bound], info: &ServiceInfo, resolver: &Resolver<'_>) -> Vec<Chain> {
    let builder = ConnectionRouteBuilder::of_mesh(resolver);
    let any: Arc<str> = "*".into();
    let mut taken: HashMap<&Arc<str>, (&Metadata, Pos)> = HashMap::new();
    let mut chains = Vec::new();
    for bound in bound {
        let meta = bound.object.meta();
        let written = bound.object.hostnames().iter().map(|host| (&host.value.0, host.pos));
        let everything = bound.object.hostnames().is_empty().then_some((&any, bound.pos()));
        let mut names = Vec::new();
        for (name, pos) in written.chain(everything) {
            match taken.get(name) {
                None => {
                    taken.insert(name, (meta, pos));
                    names.push(hosts::pattern(name));
                }
                Some((first, _)) if std::ptr::eq(*first, meta) => {}
                Some(first) if *name == any => resolver.report(precedence::taken(&info.host, (meta, pos), *first)),
                Some(first) => resolver.report(precedence::server_name_taken(name, (meta, pos), *first)),
            }
        }
        if !names.is_empty() {
            names.retain(|name| *name != HostPattern::Any);
            let route = builder.route(meta, bound.object.rules()).route;
            chains.push(Chain { server_names: names, tls: None, serve: Serve::Tcp(Arc::new(route)) });
        }
    }
    if !taken.contains_key(&any) {
        let nowhere = nowhere(None, "no route of the Service is for this server name");
        chains.push(Chain { server_names: Vec::new(), tls: None, serve: Serve::Tcp(Arc::new(nowhere)) });
    }
    chains
}
