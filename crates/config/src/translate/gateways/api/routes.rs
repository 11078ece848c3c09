//! Routes of every kind, as far as their attachment goes: their parents, their host names, their age.
//!
//! A kind of route is one variant here, one line in [`oldest_first`] and [`in_input_order`], and its name in
//! `listeners::Protocol::kinds`; `chains` serves it and `conditions` says what became of it.

use std::sync::Arc;

use crate::kind::gateway_refs::ParentRef;
use crate::kind::http_route::{Hostname, HttpRoute};
use crate::kind::tcp_route::{ConnectionRule, TcpRoute};
use crate::kind::tls_route::TlsRoute;
use crate::node::Spanned;
use crate::object::Metadata;
use crate::resources::Resources;

/// A route of any kind.
#[derive(Clone, Copy, Debug)]
pub(super) enum AnyRoute<'r> {
    /// An HTTPRoute, or a GRPCRoute in its form.
    Http(&'r Arc<HttpRoute>),
    /// A TLSRoute.
    Tls(&'r Arc<TlsRoute>),
    /// A TCPRoute.
    Tcp(&'r Arc<TcpRoute>),
}

impl<'r> AnyRoute<'r> {
    /// Its metadata; `meta().kind` is its kind.
    pub(super) fn meta(self) -> &'r Metadata {
        match self {
            Self::Http(route) => &route.meta,
            Self::Tls(route) => &route.meta,
            Self::Tcp(route) => &route.meta,
        }
    }

    /// `parentRefs`.
    pub(super) fn parents(self) -> &'r [Spanned<ParentRef>] {
        match self {
            Self::Http(route) => &route.spec.parents,
            Self::Tls(route) => &route.spec.parents,
            Self::Tcp(route) => &route.spec.parents,
        }
    }

    /// `hostnames`; empty for kinds that have none.
    pub(super) fn hostnames(self) -> &'r [Spanned<Hostname>] {
        match self {
            Self::Http(route) => &route.spec.hostnames,
            Self::Tls(route) => &route.spec.hostnames,
            Self::Tcp(_) => &[],
        }
    }

    /// How many rules it has.
    pub(super) fn rules(self) -> usize {
        match self {
            Self::Http(route) => route.spec.rules.len(),
            Self::Tls(route) => route.spec.rules.len(),
            Self::Tcp(route) => route.spec.rules.len(),
        }
    }

    /// The rules of a kind that relays connections.
    pub(super) fn connection_rules(self) -> Option<&'r [Spanned<Arc<ConnectionRule>>]> {
        match self {
            Self::Http(_) => None,
            Self::Tls(route) => Some(&route.spec.rules),
            Self::Tcp(route) => Some(&route.spec.rules),
        }
    }

    /// Whether both are one object.
    pub(super) fn is(self, other: Self) -> bool {
        std::ptr::eq(self.meta(), other.meta())
    }
}

/// All routes of all kinds, the oldest first, as [`crate::resources::Table::oldest_first`] has it: those without creation
/// time are the youngest, kind by kind in input order.
pub(super) fn oldest_first(resources: &Resources) -> Vec<AnyRoute<'_>> {
    let mut all: Vec<AnyRoute<'_>> = Vec::new();
    all.extend(resources.http_routes.oldest_first().into_iter().map(AnyRoute::Http));
    all.extend(resources.grpc_routes.oldest_first().into_iter().map(|grpc| AnyRoute::Http(&grpc.route)));
    all.extend(resources.tls_routes.oldest_first().into_iter().map(AnyRoute::Tls));
    all.extend(resources.tcp_routes.oldest_first().into_iter().map(AnyRoute::Tcp));
    // Stable: each kind by itself is in order already.
    all.sort_by_key(|route| {
        let meta = route.meta();
        let name = meta.created.map(|_| (&meta.namespace, &meta.name));
        (meta.created.is_none(), meta.created, name)
    });
    all
}

/// All routes, kind by kind, each in input order.
pub(super) fn in_input_order(resources: &Resources) -> impl Iterator<Item = AnyRoute<'_>> {
    let http = resources.request_routes().map(AnyRoute::Http);
    let tls = resources.tls_routes.iter().map(AnyRoute::Tls);
    let tcp = resources.tcp_routes.iter().map(AnyRoute::Tcp);
    http.chain(tls).chain(tcp)
}
