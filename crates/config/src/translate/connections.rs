//! Rules for connections, `tls` and `tcp` of a VirtualService, as the proxy obeys them on gateways and forwards alike.

use std::sync::Arc;

use outrigger_model::{Destination, HeaderEdits, Origin, TcpRoute};

use super::resolve::Resolver;
use crate::kind::l4_route::WeightedDestination;
use crate::node::{Pos, Spanned};
use crate::object::Metadata;

/// The destinations of a rule of the object at the place, for connections to a port. The rule's name is `tls[0]`.
pub(crate) fn tcp_route(
    (meta, pos): (&Metadata, Pos),
    rule: &str,
    route: &[Spanned<WeightedDestination>],
    port: u16,
    resolver: &Resolver<'_>,
) -> TcpRoute {
    let several = route.len() > 1;
    // With several destinations those without weight get nothing; one alone gets everything.
    let kept = route.iter().filter(|destination| !several || destination.weight > 0);
    let destinations = kept.map(|destination| {
        let resolved = resolver.destination(&destination.destination, meta, port);
        Destination {
            cluster: resolved.cluster,
            missing: resolved.missing,
            weight: destination.weight.max(1),
            authority: None,
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
        }
    });
    let origin = Origin {
        kind: meta.kind.into(),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        rule: rule.into(),
        place: Some(meta.source.place(pos)),
    };
    TcpRoute { origin: Some(Arc::new(origin)), destinations: destinations.collect() }
}
