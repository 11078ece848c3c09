//! Who wins when several objects say what happens to requests for one host.
//!
//! | meet | wins | why |
//! |---|---|---|
//! | VirtualService, HTTPRoute or GRPCRoute, TrafficSplit, Service | VirtualService, then these routes, then TrafficSplit, then the Service's default route | the richer API is the more deliberate statement; Istio's own order of VirtualService over default |
//! | VirtualServices: one names the host, one has a wildcard for it | the one that names it; of wildcards the longest | Istio's most specific host |
//! | VirtualServices for the very same host | seen by the client's namespace alone (`exportTo: [.]`), then exported to it by name, then to all; in each the oldest | Istio does not merge VirtualServices inside the mesh |
//! | VirtualServices for one host on one Istio Gateway | all: merged in the order of the row above, and what takes every request comes last | Istio's `SortVHostRoutes`, see `translate/gateways/istio/routes.rs` |
//! | Istio Gateways on one proxy: servers with one port | servers of plain HTTP share it, servers with TLS share it if no host stands in two; else the server of the older Gateway | Istio's `mergeGateways`, see `translate/gateways/istio/servers.rs` |
//! | rules for connections with one server name on one port of an Istio Gateway | the first in the order above | a connection goes one way |
//! | HTTPRoutes or GRPCRoutes for one Service: one in the client's namespace, one in the Service's | that in the client's namespace, in silence: it is there to override | Gateway API (GEP-1294); those of one namespace are merged, see `translate/http_routes.rs` |
//! | an HTTPRoute and a GRPCRoute for one port of a Service, in one namespace | the GRPCRoute | Gateway API (GEP-1426, "Route types"): they are not merged |
//! | an HTTPRoute and a GRPCRoute at one listener, with a host name in common | the older one, then by `namespace/name`; without creation times the HTTPRoute | Gateway API (`hostnames` of GRPCRoute), see `translate/gateways/api/attach.rs` |
//! | listeners of one Gateway with one port and host, or one port and two protocols | within one object nobody; else the Gateway's own, then those of the oldest ListenerSet | Gateway API ("distinct listeners"), see `translate/gateways/api/listeners.rs` |
//! | listeners of one port for one host | the most specific, in silence | Gateway API ("listener isolation"), see `translate/gateways/api/chains.rs` |
//! | HTTPRoutes, or GRPCRoutes, at one listener of the Gateway API | all: that with the longer host name comes first, then by what they match | Gateway API, see `translate/gateways/api/chains.rs` and `translate/http_routes.rs` |
//! | TLSRoutes and TCPRoutes at one listener or Service for one server name; TCPRoutes for one port | the oldest | Gateway API (`TCPRouteMultipleRoutesAttachment`): all are attached, a connection goes one way; see `translate/gateways/api/relays.rs` and `translate/l4_routes_mesh.rs` |
//! | connections to a service's port (`--forward`): VirtualService with `tls` or `tcp` rules for it, TLSRoutes and TCPRoutes, Service | VirtualService, then the routes, then the service itself | as with requests |
//! | what says how a cluster's circuit breaks: CircuitBreaker, annotation `outrigger.dev/hystrix`, Linkerd's failure accrual | CircuitBreaker, then the annotation, then Linkerd's | the more deliberate statement first |
//! | CircuitBreakers for one cluster | the one for its subset, then for its port, then for the whole service; of two for the same the oldest | Gateway API (GEP-713, "conflict resolution") |
//! | RateLimits for one route | the one that names its rule, then the one for the object, of two the oldest; beside it the oldest for the Service | GEP-713; what protects a service and what a route allows are two questions, and a request must pass both |
//! | TrafficSplits for one root service | the oldest | SMI says nothing; stable |
//! | Services and ServiceEntries with one host and port | the client's own namespace, then Services, then the oldest | |
//!
//! A VirtualService that has no rule for a port leaves that port to the next in line; an HTTPRoute does not: what none of
//! its rules takes gets 404. Every loser is named in a finding.
//! Nothing else in the crate decides such a question; `translate` asks here.

use outrigger_model::{Diagnostic, Origin};

use crate::codes;
use crate::hosts;
use crate::kind::istio::ExportTo;
use crate::node::Pos;
use crate::object::Metadata;

/// What says how a cluster's circuit breaks, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BreakerSource {
    /// Linkerd's annotations.
    Linkerd,
    /// Annotation `outrigger.dev/hystrix`.
    Hystrix,
    /// A CircuitBreaker.
    Kind,
}

/// How strong a breaker is for a cluster that it is for; the greatest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BreakerRank {
    source: BreakerSource,
    of_subset: bool,
    of_port: bool,
}

impl BreakerRank {
    /// Of one that is said by `source`, perhaps of a subset or port alone.
    pub fn of(source: BreakerSource, of_subset: bool, of_port: bool) -> Self {
        Self { source, of_subset, of_port }
    }
}

/// Whose routes a host's port gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Winner {
    /// The VirtualService's.
    VirtualService,
    /// Those of the HTTPRoutes or GRPCRoutes.
    HttpRoutes,
    /// The TrafficSplit's.
    TrafficSplit,
    /// The default route to the service itself.
    Default,
}

/// What claims a host's port; each with the object and the place that names the host.
#[derive(Clone, Debug, Default)]
pub struct Claims<'c> {
    /// A VirtualService that has rules for this port.
    pub virtual_service: Option<(&'c Metadata, Pos)>,
    /// HTTPRoutes or GRPCRoutes that count for this port; they are merged.
    pub http_routes: Vec<(&'c Metadata, Pos)>,
    /// A TrafficSplit that has backends for this port.
    pub traffic_split: Option<(&'c Metadata, Pos)>,
}

/// Decides, and reports every object that loses. (The default route loses in silence: that is what the others are for.)
pub fn decide(host: &str, claims: &Claims<'_>) -> (Winner, Vec<Diagnostic>) {
    // By rank, the strongest first.
    let ranks = [
        (Winner::VirtualService, claims.virtual_service.as_slice()),
        (Winner::HttpRoutes, &claims.http_routes),
        (Winner::TrafficSplit, claims.traffic_split.as_slice()),
    ];
    let Some(at) = ranks.iter().position(|(_, claims)| !claims.is_empty()) else {
        return (Winner::Default, Vec::new());
    };
    let (winner, first) = ranks[at];
    let losers = ranks[at + 1..].iter().flat_map(|(_, losers)| *losers);
    (winner, losers.map(|loser| loses(host, *loser, first[0])).collect())
}

/// Reports an object whose routes for a host lose to those of an object of a stronger kind.
pub fn loses(host: &str, loser: (&Metadata, Pos), winner: (&Metadata, Pos)) -> Diagnostic {
    let place = winner.0.source.place(winner.1);
    let (strong, weak) = (winner.0.kind, loser.0.kind);
    let what = if weak == "TrafficSplit" { "weights" } else { "rules" };
    let message = format!(
        "has no effect for {host}: {} at {place} routes it, and {} wins over {}",
        winner.0.object_ref(),
        with_article(strong),
        with_article(weak)
    );
    let hint = format!("remove one of the two, or move the {what} into the {strong}");
    codes::PRECEDENCE.about(loser.0, loser.1, message, hint)
}

fn with_article(kind: &str) -> String {
    let article = if kind.starts_with('H') { "an" } else { "a" };
    format!("{article} {kind}")
}

/// Reports an object that loses a host to an older or nearer one of its kind.
pub fn taken(host: &str, loser: (&Metadata, Pos), winner: (&Metadata, Pos)) -> Diagnostic {
    let place = winner.0.source.place(winner.1);
    codes::HOST_TAKEN.about(
        loser.0,
        loser.1,
        format!("has no effect for {host}: {} at {place} already has it", winner.0.object_ref()),
        "objects of this kind are not merged for one host; put the rules into one object",
    )
}

/// Reports an object that loses a server name to an earlier one.
pub fn server_name_taken(name: &str, loser: (&Metadata, Pos), winner: (&Metadata, Pos)) -> Diagnostic {
    let place = winner.0.source.place(winner.1);
    codes::HOST_TAKEN.about(
        loser.0,
        loser.1,
        format!("has no effect for server name {name}: {} at {place} already has it", winner.0.object_ref()),
        "a connection goes one way; name the host in one of the two",
    )
}

/// Reports a TLSRoute or TCPRoute that loses the connections to a host to a VirtualService.
pub fn outranked(host: &str, loser: (&Metadata, Pos), winner: &Origin) -> Diagnostic {
    let place = winner.place.as_ref().map_or(String::new(), |place| format!(" at {place}"));
    let (kind, weak) = (&winner.kind, with_article(loser.0.kind));
    codes::PRECEDENCE.about(
        loser.0,
        loser.1,
        format!(
            "has no effect for {host}: {kind} {}/{}{place} routes its connections, and {} wins over {weak}",
            winner.namespace,
            winner.name,
            with_article(kind)
        ),
        format!("remove one of the two, or move the rules into the {kind}"),
    )
}

/// How near a VirtualService is to the client: the lower rank is asked first. `None`: not seen.
pub fn virtual_service_rank(export_to: &[ExportTo], own: &str, client: &str) -> Option<u8> {
    if !hosts::is_visible(export_to, own, client) {
        return None;
    }
    if export_to.contains(&ExportTo::All) {
        return Some(2);
    }
    Some(if own == client && export_to.contains(&ExportTo::Own) { 0 } else { 1 })
}

/// The most specific of the host patterns that take in `host`; of equal ones the first.
pub fn most_specific<'h>(host: &str, patterns: impl Iterator<Item = &'h str>) -> Option<usize> {
    let mut best: Option<(usize, (bool, usize))> = None;
    for (index, pattern) in patterns.enumerate().filter(|(_, pattern)| hosts::covers(pattern, host)) {
        let rank = (!hosts::is_wildcard(pattern), pattern.len());
        if best.is_none_or(|(_, known)| rank > known) {
            best = Some((index, rank));
        }
    }
    best.map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exact_host_wins_then_the_longest_wildcard_then_the_first() {
        let best = |patterns: &[&str]| most_specific("a.b.com", patterns.iter().copied());
        assert_eq!(best(&["*", "*.b.com", "a.b.com"]), Some(2));
        assert_eq!(best(&["*", "*.com", "*.b.com"]), Some(2));
        assert_eq!(best(&["*.b.com", "*.b.com"]), Some(0));
        assert_eq!(best(&["c.com", "b.com"]), None);
    }

    #[test]
    fn nearer_virtual_services_are_asked_first() {
        let rank = |export: &[ExportTo]| virtual_service_rank(export, "shop", "shop");
        assert_eq!(rank(&[ExportTo::Own]), Some(0));
        assert_eq!(rank(&[ExportTo::Namespace("shop".into())]), Some(1));
        assert_eq!(rank(&[ExportTo::All]), Some(2));
        assert_eq!(rank(&[ExportTo::Namespace("other".into())]), None);
    }
}
