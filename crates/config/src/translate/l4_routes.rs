//! Rules of TLSRoutes and TCPRoutes as the proxy obeys them, for the listeners of Gateways and for Services of the mesh alike.
//!
//! Such a rule has no matches, so that the first takes all connections of its route; others are reported. A rule that sends
//! to nobody, and the share of a backend that is not there, are reset ("MUST actively reject connection attempts").

use std::sync::Arc;

use outrigger_model::{ClusterName, Destination, HeaderEdits, Missing, Origin, TcpRoute};

use super::backends::{Backends, NOWHERE_STATUS, RefProblem, Referring, Sent};
use super::gateways::grants::Grants;
use super::resolve::Resolver;
use crate::codes;
use crate::kind::tcp_route::ConnectionRule;
use crate::node::Spanned;
use crate::object::Metadata;

/// What a TLSRoute or TCPRoute comes to.
#[derive(Debug)]
pub(crate) struct ConnectionRoute {
    /// Where its connections go.
    pub(crate) route: TcpRoute,
    /// What its rules refer to and is not there.
    pub(crate) problems: Vec<RefProblem>,
}

/// Makes routes of TLSRoutes and TCPRoutes.
pub(crate) struct ConnectionRouteBuilder<'b> {
    backends: Backends<'b>,
}

impl<'b> ConnectionRouteBuilder<'b> {
    /// For Gateways, whose routes may refer to other namespaces where a grant says so.
    pub(crate) fn of_gateway(resolver: &'b Resolver<'b>, grants: Grants<'b>) -> Self {
        Self { backends: Backends { resolver, sent: Sent::Connections, grants: Some(grants) } }
    }

    /// For Services of the mesh.
    pub(crate) fn of_mesh(resolver: &'b Resolver<'b>) -> Self {
        Self { backends: Backends { resolver, sent: Sent::Connections, grants: None } }
    }

    /// The route of an object with these rules.
    pub(crate) fn route(&self, meta: &Metadata, rules: &[Spanned<Arc<ConnectionRule>>]) -> ConnectionRoute {
        let mut problems = Vec::new();
        for (index, rule) in rules.iter().enumerate().skip(1) {
            let message = format!("rules[{index}] can never be reached: rules[0] takes every connection");
            let hint = "rules have no matches: put all backends into the first, with weights";
            self.backends.resolver.report(codes::UNREACHABLE_RULE.about(meta, rule.pos, message, hint));
        }
        let (mut origin, mut destinations) = (None, Vec::new());
        if let Some(rule) = rules.first() {
            let from = Referring { meta, rule: 0 };
            for backend in &rule.backends {
                let resolved = self.backends.resolve(from, &backend.target, &mut problems);
                if backend.weight > 0 {
                    destinations.push(destination(resolved.cluster, resolved.missing, backend.weight));
                }
            }
            if destinations.is_empty() {
                let message = "rules[0] has only `backendRefs` with weight 0: its connections are reset";
                let hint = "give a backend a weight of 1 or more";
                self.backends.resolver.report(codes::NO_BACKENDS.about(meta, rule.pos, message, hint));
            }
            origin = Some(Arc::new(Origin {
                kind: meta.kind.into(),
                namespace: meta.namespace.clone(),
                name: meta.name.clone(),
                rule: rule.name.clone().unwrap_or_else(|| "0".into()),
                place: Some(meta.source.place(rule.pos)),
            }));
        }
        if destinations.is_empty() {
            return ConnectionRoute { route: nowhere(origin, "it has no backends"), problems };
        }
        ConnectionRoute { route: TcpRoute { origin, destinations }, problems }
    }
}

/// Connections that have nowhere to go are reset, and counted.
pub(crate) fn nowhere(origin: Option<Arc<Origin>>, reason: &str) -> TcpRoute {
    let missing = Missing { status: NOWHERE_STATUS, reason: reason.into() };
    TcpRoute { origin, destinations: vec![destination(ClusterName::new(ClusterName::BLACK_HOLE), Some(missing), 1)] }
}

fn destination(cluster: ClusterName, missing: Option<Missing>, weight: u32) -> Destination {
    Destination {
        cluster,
        missing,
        weight,
        authority: None,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
    }
}
