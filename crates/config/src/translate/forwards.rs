//! Listeners that relay connections to one service each, as the client's own connections to it would go: by the `tls` and
//! `tcp` rules of VirtualServices, else by TLSRoutes and TCPRoutes, else to the service itself.
//!
//! Such a listener stands in for the capture of traffic, so it knows by itself which host and port were meant.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use outrigger_model::{
    Chain, ClusterName, Destination, Diagnostic, Direction, Discovery, HeaderEdits, Listener, Missing, Origin, Serve,
    TcpRoute,
};

use super::bindings::{MESH, full_name};
use super::connections::tcp_route;
use super::l4_routes_mesh::{self, Bound, MeshConnections};
use super::policy::nearest_host;
use super::protocol::Protocol;
use super::registry::{PortInfo, ServiceInfo, Source};
use super::vhosts::VhostBuilder;
use super::virtual_services::Candidate;
use super::workloads::has_labels;
use crate::codes;
use crate::decode::clip;
use crate::hosts;
use crate::kind::l4_route::{TcpMatch, TlsMatch};
use crate::node::{Pos, Spanned};
use crate::object::{Labels, Metadata};
use crate::precedence;

/// A service with a listener of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Where its listener is: [`Listener::forward_name`].
    pub address: SocketAddr,
    /// The host, by any name the service answers to. Lower case, no trailing dot.
    pub host: Arc<str>,
    /// The port of the service.
    pub port: u16,
}

/// The forwards of a view.
pub(crate) struct Forwarding<'f> {
    builder: &'f VhostBuilder<'f>,
    /// VirtualServices with rules for connections, in the order they are asked.
    connections: &'f [Candidate],
    /// TLSRoutes and TCPRoutes of Services.
    routes: &'f MeshConnections,
    /// Addressable services.
    order: Vec<u32>,
    targets: Vec<Target<'f>>,
    /// Whether connections to addresses of services are redirected to the proxy.
    captures: bool,
}

/// A forward, and the service it found or why it found none.
struct Target<'f> {
    forward: &'f Forward,
    found: Result<Found<'f>, String>,
}

/// A port of an addressable service.
#[derive(Clone, Copy)]
pub(crate) struct Found<'f> {
    service: u32,
    /// The service.
    pub(crate) info: &'f ServiceInfo,
    /// The port.
    pub(crate) port: &'f PortInfo,
}

/// The conditions of a match that are known before a connection comes.
struct Conditions<'m> {
    meta: &'m Metadata,
    port: Option<u16>,
    source_labels: &'m Labels,
    source_namespace: Option<&'m Arc<str>>,
    gateways: &'m [Arc<str>],
    destination_subnets: &'m [Spanned<IpNet>],
    source_subnet: Option<&'m Spanned<IpNet>>,
}

/// The VirtualServices with rules for HTTP, and those with rules for connections; some are both.
pub(crate) fn divide(mut candidates: Vec<Candidate>) -> (Vec<Candidate>, Vec<Candidate>) {
    let of_connections = |candidate: &&Candidate| {
        let spec = &candidate.object.spec;
        !spec.tls.is_empty() || !spec.tcp.is_empty()
    };
    let connections = candidates.iter().filter(of_connections).cloned().collect();
    candidates.retain(|candidate| !candidate.object.spec.http.is_empty());
    (candidates, connections)
}

impl VhostBuilder<'_> {
    /// Finds the services of the forwards.
    pub(crate) fn forwarding<'f>(
        &'f self,
        forwards: &'f [Forward],
        connections: &'f [Candidate],
        routes: &'f MeshConnections,
        captures: bool,
    ) -> Forwarding<'f> {
        let order = self.service_order();
        let targets = forwards.iter().map(|forward| Target { forward, found: self.find(forward, &order) });
        Forwarding { builder: self, connections, routes, targets: targets.collect(), order, captures }
    }

    /// The service and port of a forward: by its full name, else by the others it answers to. What is not found is reported.
    fn find(&self, forward: &Forward, order: &[u32]) -> Result<Found<'_>, String> {
        let (host, registry) = (&forward.host, self.resolver.registry);
        let short = self.short_names(order);
        let named = order.iter().filter(|index| registry.at(**index).host == *host);
        let called =
            order.iter().filter(|index| self.other_names(**index, registry.at(**index), &short).contains(host));
        let services: Vec<u32> = named.chain(called).copied().collect();
        let port = |index: &u32| {
            let info = &**registry.at(*index);
            let port = info.port(forward.port).filter(|port| self.imports[*index as usize].has(port.number))?;
            Some(Found { service: *index, info, port })
        };
        if let Some(found) = services.iter().find_map(port) {
            return Ok(found);
        }
        let (message, hint) = match services.first().map(|index| registry.at(*index)) {
            Some(info) if info.port(forward.port).is_some() => {
                let message =
                    format!("port {} of {} is not among the `egress` of the client's Sidecar", forward.port, info.host);
                (message, "add it there".to_owned())
            }
            Some(info) => {
                let message =
                    format!("{} has no port {}; its ports are {}", info.host, forward.port, info.ports_text());
                (message, "forward to one of its ports".to_owned())
            }
            None => self.unknown(host),
        };
        let Forward { address, port, .. } = forward;
        let shown = format!("forward {address}={}:{port}: {message}; its connections are closed", clip(host));
        self.resolver.report(codes::REFERENCE_NOT_FOUND.bare(shown, hint));
        Err(message)
    }

    /// Why a host is not found, and what to do.
    fn unknown(&self, host: &Arc<str>) -> (String, String) {
        let (client, registry) = (self.resolver.client, self.resolver.registry);
        let full = hosts::expand(host, &client.namespace, self.resolver.domain);
        if let Some(index) = registry.named(&full).first() {
            let of = registry.at(*index).meta().object_ref();
            let message = format!("namespace {} does not see host {:?} of {of}", client.namespace, clip(host));
            return (message, "look at its `exportTo`, and at the Sidecar of the client".to_owned());
        }
        let message = format!("host {:?} is no known service", clip(host));
        (message, nearest_host(&full, registry, self.resolver.domain))
    }
}

impl<'f> Forwarding<'f> {
    /// The listeners, one for each forward.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = Listener> {
        self.targets.iter().map(|target| Listener {
            name: Listener::forward_name(target.forward.address),
            direction: Direction::Outbound,
            port: target.forward.port,
            proxy_protocol: None,
            chains: match &target.found {
                Ok(found) => self.chains(target.forward, *found),
                Err(reason) => vec![chain(Vec::new(), nowhere(target.forward, reason))],
            },
        })
    }

    /// Reports what no forward does. Returns the findings that views without these forwards report, and that do not hold.
    pub(crate) fn review(&self, of_sidecar: bool) -> Vec<Diagnostic> {
        let all = self
            .rules_not_enforced()
            .chain(self.routes_not_enforced())
            .chain(self.ports_not_routed().filter(|_| of_sidecar));
        let (refuted, hold): (Vec<_>, Vec<_>) = all.partition(|(is_forwarded, _)| *is_forwarded);
        hold.into_iter().for_each(|(_, finding)| self.builder.resolver.report(finding));
        refuted.into_iter().map(|(_, finding)| finding).collect()
    }

    /// What connections are relayed to: by forwards and, where they are redirected, to all ports.
    fn found(&self) -> impl Iterator<Item = Found<'f>> {
        let captured = self.captures.then(|| self.addressable()).into_iter().flatten();
        // The pods of a headless service have addresses of their own.
        let captured = captured.filter(|found| !found.info.is_headless());
        self.targets.iter().filter_map(|target| target.found.as_ref().ok().copied()).chain(captured)
    }

    /// Every port that the client may address.
    pub(crate) fn addressable(&self) -> impl Iterator<Item = Found<'f>> {
        let builder = self.builder;
        self.order.iter().flat_map(move |index| {
            let (service, info) = (*index, &**builder.resolver.registry.at(*index));
            let ports = info.ports.iter().filter(move |port| builder.imports[service as usize].has(port.number));
            ports.map(move |port| Found { service, info, port })
        })
    }

    /// Rules that count on gateways only, unless a forward obeys them.
    fn rules_not_enforced(&self) -> impl Iterator<Item = (bool, Diagnostic)> {
        self.connections.iter().flat_map(|candidate| {
            let spec = &candidate.object.spec;
            let tls = spec.tls.first().map(|rule| ("tls", rule.pos));
            let tcp = spec.tcp.first().map(|rule| ("tcp", rule.pos));
            tls.into_iter().chain(tcp).map(|(field, pos)| {
                let asks = |found: Found<'_>| {
                    (field == "tcp" || found.port.protocol == Protocol::Tls) && covers(candidate, found.info).is_some()
                };
                let message = format!("spec.{field}: understood, but not enforced yet for calls between services");
                let hint = "they flow as if the field were absent; gateways and `outrigger run --forward` do obey it";
                let finding = codes::NOT_ENFORCED.about(&candidate.object.meta, pos, message, hint);
                (self.found().any(asks), finding)
            })
        })
    }

    /// TLSRoutes and TCPRoutes of Services, unless a forward obeys them.
    fn routes_not_enforced(&self) -> impl Iterator<Item = (bool, Diagnostic)> {
        self.routes.iter().map(|(service, bound)| {
            let asks = |found: Found<'_>| found.service == service && bound.is_of(found.port);
            let message = "a parent that is a Service: understood, but not enforced yet for calls between services";
            let hint = "they flow as if the route were absent; `outrigger run --forward` does obey it";
            let finding = codes::NOT_ENFORCED.about(bound.object.meta(), bound.pos(), message, hint);
            (self.found().any(asks), finding)
        })
    }

    /// Ports that the outbound listener does not route, unless a forward relays their connections.
    fn ports_not_routed(&self) -> impl Iterator<Item = (bool, Diagnostic)> {
        self.order.iter().flat_map(|index| {
            let info = self.builder.resolver.registry.at(*index);
            let ports = info.ports.iter().filter(|p| matches!(p.protocol, Protocol::Tcp | Protocol::Tls));
            ports.map(|port| {
                let (number, protocol) = (port.number, port.protocol.as_str());
                let message = format!(
                    "port {number} of {} speaks {protocol}: the outbound listener does not route it, only HTTP",
                    info.host
                );
                let hint = format!("`outrigger run --forward :{number}={}:{number}` relays its connections", info.host);
                let pos = match &info.source {
                    Source::Service(service) => service.spec.ports[port.index].pos,
                    Source::Entry(entry) => entry.spec.ports[port.index].pos,
                };
                let is_it = |found: Found<'_>| found.service == *index && found.port.number == number;
                (self.found().any(is_it), codes::PROTOCOL_LATER.about(info.meta(), pos, message, hint))
            })
        })
    }

    fn chains(&self, forward: &Forward, found: Found<'_>) -> Vec<Chain> {
        let info = found.info;
        if info.discovery == Discovery::OriginalDestination {
            let message = format!(
                "forward {}={}:{}: {} leaves it to each connection which address it goes to, and a forward has none",
                forward.address,
                clip(&forward.host),
                forward.port,
                info.meta().object_ref()
            );
            let hint = "give the ServiceEntry `resolution: STATIC` and endpoints";
            self.builder.resolver.report(codes::NO_EFFECT.about(info.meta(), info.meta().pos, message, hint));
        }
        self.chains_at(found, &addresses(forward, info))
    }

    /// The chains for connections to a service at these addresses.
    pub(crate) fn chains_at(&self, found: Found<'_>, addresses: &[IpAddr]) -> Vec<Chain> {
        let Found { service, info, port } = found;
        let asked = self.asked(info);
        let mut chains = Vec::new();
        if port.protocol == Protocol::Tls {
            chains.extend(self.by_name(&asked, found, addresses));
        }
        let by_port = self.by_port(&asked, found, addresses);
        let bound = self.routes.of(service, info, port, &self.builder.resolver.client.namespace);
        match by_port.as_ref().and_then(|route| route.origin.as_ref()).or_else(|| origin(&chains)) {
            Some(winner) => {
                let report = |bound: &&Bound| {
                    let loser = (bound.object.meta(), bound.pos());
                    self.builder.resolver.report(precedence::outranked(&info.host, loser, winner));
                };
                bound.iter().for_each(report);
            }
            None if !bound.is_empty() => return l4_routes_mesh::chains(&bound, info, self.builder.resolver),
            None => {}
        }
        let route = by_port.unwrap_or_else(|| {
            self.builder.resolver.used.borrow_mut().insert(service);
            let cluster = ClusterName::outbound(port.number, "", &info.host);
            TcpRoute { origin: Some(info.origin.clone()), destinations: vec![destination(cluster, None)] }
        });
        chains.push(chain(Vec::new(), route));
        chains
    }

    /// The VirtualServices for a host, each with the place that names it, in the order in which they are asked: those that
    /// name it before wildcards, the longest of these first.
    fn asked(&self, info: &ServiceInfo) -> Vec<(&'f Candidate, Pos)> {
        let of_host = self.connections.iter().filter_map(|candidate| Some((candidate, covers(candidate, info)?)));
        let mut asked: Vec<_> = of_host.collect();
        asked.sort_by_key(|(_, (host, _))| (hosts::is_wildcard(host), std::cmp::Reverse(host.len())));
        asked.into_iter().map(|(candidate, (_, pos))| (candidate, pos)).collect()
    }

    /// A chain for each `tls` rule that holds; the server name goes to the first that has it.
    fn by_name(&self, asked: &[(&Candidate, Pos)], found: Found<'_>, addresses: &[IpAddr]) -> Vec<Chain> {
        let (resolver, number) = (self.builder.resolver, found.port.number);
        let mut taken: HashMap<&Arc<str>, (&Metadata, Pos)> = HashMap::new();
        let mut chains = Vec::new();
        for (candidate, _) in asked {
            let meta = &candidate.object.meta;
            let rules = candidate.object.spec.tls.iter().enumerate();
            let blocks = rules.flat_map(|(index, rule)| rule.matches.iter().map(move |block| (index, rule, block)));
            for (index, rule, block) in blocks {
                if !self.holds(&Conditions::of_tls(meta, block), found, addresses) {
                    continue;
                }
                let mut names = Vec::new();
                for name in block.sni_hosts.iter().map(|host| &host.value.0) {
                    match taken.get(name) {
                        None => {
                            taken.insert(name, (meta, block.pos));
                            names.push(hosts::pattern(name));
                        }
                        // Within one object, a rule for some clients stands before one for the rest.
                        Some((first, _)) if std::ptr::eq(*first, meta) => {}
                        Some(first) => {
                            resolver.report(precedence::server_name_taken(name, (meta, block.pos), *first));
                        }
                    }
                }
                if !names.is_empty() {
                    let route = tcp_route((meta, rule.pos), &format!("tls[{index}]"), &rule.route, number, resolver);
                    chains.push(chain(names, route));
                }
            }
        }
        chains
    }

    /// The route of the first `tcp` rule that holds. VirtualServices behind it are told.
    fn by_port(&self, asked: &[(&Candidate, Pos)], found: Found<'_>, addresses: &[IpAddr]) -> Option<TcpRoute> {
        let (resolver, number) = (self.builder.resolver, found.port.number);
        let mut winner = None;
        for (candidate, pos) in asked {
            let meta = &candidate.object.meta;
            let holds = |block: &Spanned<TcpMatch>| self.holds(&Conditions::of_tcp(meta, block), found, addresses);
            let mut rules = candidate.object.spec.tcp.iter().enumerate();
            let first = rules.find(|(_, rule)| rule.matches.is_empty() || rule.matches.iter().any(holds));
            let Some((index, rule)) = first else { continue };
            match &winner {
                None => {
                    let route = tcp_route((meta, rule.pos), &format!("tcp[{index}]"), &rule.route, number, resolver);
                    winner = Some((route, (meta, *pos)));
                }
                Some((_, first)) => resolver.report(precedence::taken(&found.info.host, (meta, *pos), *first)),
            }
        }
        winner.map(|(route, _)| route)
    }

    /// Whether a match holds for connections of the client to a service at these addresses.
    fn holds(&self, block: &Conditions<'_>, found: Found<'_>, addresses: &[IpAddr]) -> bool {
        let client = self.builder.resolver.client;
        let of_mesh = |name: &Arc<str>| full_name(name, &block.meta.namespace) == MESH;
        let known = !client.anonymous;
        let of_client = (block.gateways.is_empty() || block.gateways.iter().any(of_mesh))
            && block.port.is_none_or(|wanted| wanted == found.port.number)
            && block.source_namespace.is_none_or(|wanted| known && *wanted == client.namespace)
            && (block.source_labels.is_empty() || known && has_labels(client.labels(), block.source_labels));
        if of_client {
            self.report_addresses(block, found.info, addresses);
        }
        let within = |subnet: &Spanned<IpNet>| addresses.iter().any(|address| subnet.contains(address));
        of_client && (block.destination_subnets.is_empty() || block.destination_subnets.iter().any(within))
    }

    fn report_addresses(&self, block: &Conditions<'_>, info: &ServiceInfo, addresses: &[IpAddr]) {
        let report = |pos, message: &str, hint: &str| {
            self.builder.resolver.report(codes::NO_EFFECT.about(block.meta, pos, message, hint));
        };
        if let Some(subnet) = block.destination_subnets.first().filter(|_| addresses.is_empty()) {
            let host = &info.host;
            let message =
                format!("match.destinationSubnets: {host} has no address in the input, so the match never holds");
            report(subnet.pos, &message, "give the Service a `clusterIP`, or the ServiceEntry `addresses`");
        }
        if let Some(subnet) = block.source_subnet {
            let message = "match.sourceSubnet: it is not looked at, as in Istio";
            report(subnet.pos, message, "use `sourceLabels` or `sourceNamespace`");
        }
    }
}

impl<'m> Conditions<'m> {
    fn of_tls(meta: &'m Metadata, block: &'m Spanned<TlsMatch>) -> Self {
        Self {
            meta,
            port: block.port,
            source_labels: &block.source_labels,
            source_namespace: block.source_namespace.as_ref(),
            gateways: &block.gateways,
            destination_subnets: &block.destination_subnets,
            source_subnet: None,
        }
    }

    fn of_tcp(meta: &'m Metadata, block: &'m Spanned<TcpMatch>) -> Self {
        Self {
            meta,
            port: block.port,
            source_labels: &block.source_labels,
            source_namespace: block.source_namespace.as_ref(),
            gateways: &block.gateways,
            destination_subnets: &block.destination_subnets,
            source_subnet: block.source_subnet.as_ref(),
        }
    }
}

/// The host of a VirtualService that takes a service in most specifically, with its place.
fn covers<'c>(candidate: &'c Candidate, info: &ServiceInfo) -> Option<(&'c Arc<str>, Pos)> {
    let best = precedence::most_specific(&info.host, candidate.hosts.iter().map(|(host, _)| &**host))?;
    let (host, pos) = &candidate.hosts[best];
    Some((host, *pos))
}

/// The addresses that a client's connection to the service could have been for.
fn addresses(forward: &Forward, info: &ServiceInfo) -> Vec<IpAddr> {
    let read = |text: &str| text.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    match read(&forward.host) {
        Some(only) => vec![only],
        None => info.addresses.iter().filter_map(|text| read(text)).collect(),
    }
}

/// The object that the first of some chains came from.
fn origin(chains: &[Chain]) -> Option<&Arc<Origin>> {
    chains.iter().find_map(|chain| match &chain.serve {
        Serve::Tcp(route) => route.origin.as_ref(),
        Serve::Http(_) | Serve::Detect { .. } => None,
    })
}

fn chain(server_names: Vec<outrigger_model::HostPattern>, route: TcpRoute) -> Chain {
    Chain { server_names, tls: None, serve: Serve::Tcp(Arc::new(route)) }
}

/// Where connections go that have nowhere to go: they are closed, and counted.
fn nowhere(forward: &Forward, reason: &str) -> TcpRoute {
    let cluster = ClusterName::outbound(forward.port, "", &forward.host);
    TcpRoute {
        origin: None,
        destinations: vec![destination(cluster, Some(Missing { status: 503, reason: reason.into() }))],
    }
}

/// A destination without header operations.
pub(crate) fn destination(cluster: ClusterName, missing: Option<Missing>) -> Destination {
    Destination {
        cluster,
        missing,
        weight: 1,
        authority: None,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
    }
}
