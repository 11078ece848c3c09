//! Where the connections of servers go that do not speak HTTP here: by the `tls` and `tcp` rules of VirtualServices.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use ipnet::IpNet;
use outrigger_model::{Diagnostic, TcpRoute};

use super::bound::Bound;
use super::intersection;
use super::servers::Wanted;
use crate::codes;
use crate::kind::istio_gateway::Protocol;
use crate::kind::l4_route::WeightedDestination;
use crate::kind::virtual_service::VirtualService;
use crate::node::{Pos, Spanned};
use crate::object::{Labels, Metadata};
use crate::precedence;
use crate::translate::bindings::{full_name, server_hosts};
use crate::translate::connections;
use crate::translate::resolve::Resolver;

/// The server names of a port that are given away, each with the object and place that has it.
pub(super) type Names<'n> = HashMap<Arc<str>, (&'n Metadata, Pos)>;

/// A rule that takes connections.
pub(super) struct Way<'b> {
    /// The server names it is for; empty for whatever the server takes.
    pub(super) names: Vec<Arc<str>>,
    object: &'b Arc<VirtualService>,
    /// `tls[0]`.
    rule: String,
    pos: Pos,
    route: &'b [Spanned<WeightedDestination>],
}

/// The conditions of a match that gateways do not look at, as in Istio.
struct Conditions<'m> {
    pos: Pos,
    source_labels: &'m Labels,
    source_namespace: Option<&'m Arc<str>>,
    destination_subnets: &'m [Spanned<IpNet>],
    source_subnet: Option<&'m Spanned<IpNet>>,
}

/// The ways of a server that passes TLS through, each for other server names.
pub(super) fn by_name<'b>(
    wanted: Wanted<'_>,
    bound: &'b [Bound],
    taken: &mut Names<'b>,
    findings: &mut Vec<Diagnostic>,
) -> Vec<Way<'b>> {
    let mut ways = Vec::new();
    for candidate in of_gateway(wanted, bound) {
        let object = &candidate.object;
        for (index, rule) in object.spec.tls.iter().enumerate() {
            for block in &rule.matches {
                if !holds(wanted, object, block.port, &block.gateways) {
                    continue;
                }
                let own: Vec<Arc<str>> = block.sni_hosts.iter().map(|host| host.value.0.clone()).collect();
                let mut names = intersection(hosts(wanted, object), own.iter());
                let place = (&object.meta, block.pos);
                names.retain(|name| give(name, place, taken, findings));
                if names.is_empty() {
                    continue;
                }
                let conditions = Conditions {
                    pos: block.pos,
                    source_labels: &block.source_labels,
                    source_namespace: block.source_namespace.as_ref(),
                    destination_subnets: &block.destination_subnets,
                    source_subnet: None,
                };
                conditions.report(object, findings);
                let (pos, route) = (rule.pos, &*rule.route);
                ways.push(Way { names, object, rule: format!("tls[{index}]"), pos, route });
            }
        }
    }
    ways
}

/// The way of a server whose connections are not told apart: the first `tcp` rule that is for it.
pub(super) fn by_port<'b>(wanted: Wanted<'_>, bound: &'b [Bound], findings: &mut Vec<Diagnostic>) -> Option<Way<'b>> {
    for candidate in of_gateway(wanted, bound) {
        let object = &candidate.object;
        let overlap = intersection(hosts(wanted, object), candidate.hosts.iter().map(|(host, _)| host));
        if overlap.is_empty() {
            continue;
        }
        for (index, rule) in object.spec.tcp.iter().enumerate() {
            let block = rule.matches.iter().find(|block| holds(wanted, object, block.port, &block.gateways));
            if block.is_none() && !rule.matches.is_empty() {
                continue;
            }
            if let Some(block) = block {
                let conditions = Conditions {
                    pos: block.pos,
                    source_labels: &block.source_labels,
                    source_namespace: block.source_namespace.as_ref(),
                    destination_subnets: &block.destination_subnets,
                    source_subnet: block.source_subnet.as_ref(),
                };
                conditions.report(object, findings);
            }
            let (pos, route) = (rule.pos, &*rule.route);
            return Some(Way { names: Vec::new(), object, rule: format!("tcp[{index}]"), pos, route });
        }
    }
    None
}

/// What to say of a server that no rule takes connections of.
pub(super) fn without_way(wanted: Wanted<'_>, passes_through: bool) -> Diagnostic {
    let server = wanted.server();
    let gateway = wanted.gateway_name();
    let (field, hint) = match (passes_through, server.port.protocol) {
        (true, _) => ("tls", format!("bind a VirtualService with `tls` rules (`sniHosts`) to gateway {gateway}")),
        (false, Protocol::Tls) => {
            ("tcp", format!("bind one to gateway {gateway}, or use protocol HTTPS for `http` rules"))
        }
        (false, _) => ("tcp", format!("bind a VirtualService with `tcp` rules to gateway {gateway}")),
    };
    let message = format!("is left out: no VirtualService has `{field}` rules for it");
    wanted.finding(codes::SERVER_LEFT_OUT, server.pos, &message, hint)
}

/// The VirtualServices that are bound to a server's Gateway.
fn of_gateway<'b>(
    wanted: Wanted<'_>,
    bound: &'b [Bound],
) -> impl Iterator<Item = &'b crate::translate::virtual_services::Candidate> {
    let gateway = wanted.gateway_name();
    bound.iter().filter(move |bound| bound.is_to(&gateway)).map(|bound| &bound.candidate)
}

/// The hosts that a server has for a VirtualService.
fn hosts<'w>(wanted: Wanted<'w>, object: &'w VirtualService) -> impl Iterator<Item = &'w Arc<str>> {
    server_hosts(&wanted.server().hosts, &wanted.gateway.meta.namespace, &object.meta.namespace)
}

fn holds(wanted: Wanted<'_>, object: &VirtualService, port: Option<u16>, gateways: &[Arc<str>]) -> bool {
    let name = wanted.gateway_name();
    let is_this = |written: &Arc<str>| full_name(written, &object.meta.namespace) == Cow::Borrowed(&*name);
    port.is_none_or(|port| port == wanted.server().port.number) && (gateways.is_empty() || gateways.iter().any(is_this))
}

/// Gives a server name away; one that is given already stays where it is, and the loser is told.
pub(super) fn give<'n>(
    name: &Arc<str>,
    to: (&'n Metadata, Pos),
    taken: &mut Names<'n>,
    findings: &mut Vec<Diagnostic>,
) -> bool {
    match taken.get(name) {
        None => {
            taken.insert(name.clone(), to);
            true
        }
        Some(first) => {
            // Hosts of several namespaces, or of two servers of the Gateway, may be one name.
            if !std::ptr::eq(first.0, to.0) || first.1 != to.1 {
                findings.push(precedence::server_name_taken(name, to, *first));
            }
            false
        }
    }
}

impl Conditions<'_> {
    fn report(&self, object: &VirtualService, findings: &mut Vec<Diagnostic>) {
        let parts = [
            ("sourceLabels", (!self.source_labels.is_empty()).then_some(self.pos)),
            ("sourceNamespace", self.source_namespace.map(|_| self.pos)),
            ("destinationSubnets", self.destination_subnets.first().map(|subnet| subnet.pos)),
            ("sourceSubnet", self.source_subnet.map(|subnet| subnet.pos)),
        ];
        for (field, pos) in parts {
            if let Some(pos) = pos {
                let message = format!("match.{field}: gateways do not look at it, as in Istio");
                let hint = "the rule takes connections whoever they are from";
                findings.push(codes::NO_EFFECT.about(&object.meta, pos, message, hint));
            }
        }
    }
}

impl Way<'_> {
    /// Its destinations, as the proxy sees them.
    pub(super) fn route(&self, port: u16, resolver: &Resolver<'_>) -> TcpRoute {
        connections::tcp_route((&self.object.meta, self.pos), &self.rule, self.route, port, resolver)
    }
}
