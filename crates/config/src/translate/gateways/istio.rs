//! Istio Gateways with the VirtualServices that are bound to them.
//!
//! In the order things happen: `members` (which proxies there are, and which Gateways each serves), `servers` with
//! `credentials` (which ports, and what of the servers cannot be served), `bound` (which VirtualServices), then `routes` for
//! servers that speak HTTP and `connections` for the others. As in Istio, destinations, DestinationRules and `exportTo` are
//! seen from the namespace of the proxy, not from that of the Gateway; Sidecars are not for gateways.

mod bound;
mod connections;
mod credentials;
mod members;
mod routes;
mod servers;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use outrigger_model::{Chain, Diagnostic, Direction, HostPattern, Listener, Serve, Workload};

use super::{GatewayId, GatewayKind, GatewayListener, GatewayObject, GatewayProxy};
use crate::hosts;
use crate::kind::istio_gateway::{IstioGateway, Protocol, Server};
use crate::kind::mesh_config::MeshConfig;
use crate::node::Spanned;
use crate::object::Metadata;
use crate::resources::Resources;
use crate::translate::reach;
use crate::translate::vhosts::VhostBuilder;
use crate::translate::workloads::Naming;
use bound::Bound;
use connections::{Names, Way};
use credentials::Credentials;
pub(crate) use members::Members;
use routes::Tables;
use servers::{Port, Served, Use};

/// All proxies of this API.
pub(super) fn list(
    resources: &Resources,
    naming: &Naming,
    mesh: &MeshConfig,
    domain: &str,
    now: SystemTime,
) -> Vec<GatewayProxy> {
    // Findings are made where the listeners are.
    let unheard = &mut Vec::new();
    let proxies = members::proxies(resources, naming).into_iter().map(|proxy| {
        let (namespace, name) = proxy.key;
        let gateways = proxy.members.objects(resources);
        let credentials = Credentials { resources, namespace: &namespace, deployed: proxy.members.deployed, now };
        let ports = servers::plan(&gateways, &credentials, unheard);
        let bound = bound::select(&proxy.members, &namespace, resources, mesh, domain, unheard);
        let mut served = HashSet::new();
        for port in ports.values() {
            let chains = ways(port, &bound, unheard).into_iter();
            served.extend(chains.map(|(server, _)| (server.wanted.gateway_name(), server.wanted.index)));
        }
        let mut objects: Vec<GatewayObject> = gateways.iter().map(|gateway| object(gateway, &served)).collect();
        objects.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        GatewayProxy { id: GatewayId { kind: GatewayKind::Istio, namespace, name }, workload: proxy.workload, objects }
    });
    proxies.collect()
}

/// A Gateway as the start-up report tells it; `served` are those servers that something is served for.
fn object(gateway: &IstioGateway, served: &HashSet<(String, usize)>) -> GatewayObject {
    let meta = &gateway.meta;
    let full = format!("{}/{}", meta.namespace, meta.name);
    let listener = |(index, server): (usize, &Spanned<Server>)| {
        let hosts: Vec<&str> = server.hosts.iter().map(|host| &*host.host).collect();
        let named = server.name.as_ref().filter(|name| !name.is_empty());
        GatewayListener {
            name: named.unwrap_or(&server.port.name).clone(),
            port: server.port.number,
            protocol: server.port.protocol.as_str().into(),
            hostname: hosts.join(", ").into(),
            listener: served.contains(&(full.clone(), index)).then(|| Listener::gateway_name(server.port.number)),
        }
    };
    GatewayObject {
        kind: meta.kind.into(),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        listeners: gateway.spec.servers.iter().enumerate().map(listener).collect(),
    }
}

/// The facts of one of them, and the Gateways it serves.
pub(super) fn find(id: &GatewayId, resources: &Resources, naming: &Naming) -> (Arc<Workload>, Members) {
    let mut proxies = members::proxies(resources, naming).into_iter();
    match proxies.find(|proxy| proxy.key.0 == id.namespace && proxy.key.1 == id.name) {
        Some(proxy) => (proxy.workload, proxy.members),
        // Its Gateways are gone: it listens on nothing until it is stopped.
        None => {
            let workload = Workload::new(&id.name, &id.namespace, "", &naming.cluster, BTreeMap::new());
            (Arc::new(workload), Members::default())
        }
    }
}

/// What one of them listens on.
pub(super) fn listeners(resources: &Resources, builder: &VhostBuilder<'_>) -> Vec<Listener> {
    let resolver = builder.resolver;
    let (members, namespace) = (&resolver.client.members, &*resolver.client.namespace);
    let mut findings = Vec::new();
    let credentials = Credentials { resources, namespace, deployed: members.deployed, now: builder.now };
    let ports = servers::plan(&members.objects(resources), &credentials, &mut findings);
    let bound = bound::select(members, namespace, resources, builder.mesh, resolver.domain, &mut findings);
    bound.iter().for_each(|bound| reach::review(&bound.candidate, &mut findings));
    let mut names = HashSet::new();
    let mut listeners = Vec::with_capacity(ports.len());
    for (number, port) in &ports {
        let mut tables = Tables::new(builder, &bound, *number);
        let chains: Vec<Chain> = match port.for_what {
            Use::Http => vec![Chain::plain(tables.table(&port.servers, &mut names))],
            Use::Tls | Use::Tcp => ways(port, &bound, &mut findings)
                .into_iter()
                .map(|(served, way)| {
                    let (hosts, serve) = match way {
                        Taken::Requests(hosts) => {
                            (hosts, Serve::Http(tables.table(std::slice::from_ref(served), &mut names)))
                        }
                        Taken::Connections(way) => {
                            let route = way.route(*number, resolver);
                            (way.names, Serve::Tcp(Arc::new(route)))
                        }
                    };
                    Chain { server_names: server_names(&hosts), tls: served.tls.clone(), serve }
                })
                .collect(),
        };
        if !chains.is_empty() && !port.servers.is_empty() {
            let name = Listener::gateway_name(*number);
            let direction = Direction::Gateway;
            let proxy_protocol = port.proxy_protocol(&mut findings);
            listeners.push(Listener { name, direction, port: *number, proxy_protocol, chains });
        }
    }
    findings.into_iter().for_each(|finding| resolver.report(finding));
    listeners
}

/// What takes the connections of a server, or some of them.
enum Taken<'b> {
    /// Routes, for these server names.
    Requests(Vec<Arc<str>>),
    /// A rule for connections.
    Connections(Way<'b>),
}

/// The chains of a port in the making: each server with what takes its connections. A name belongs to the first of them.
fn ways<'p, 'r: 'p>(
    port: &'p Port<'r>,
    bound: &'p [Bound],
    findings: &mut Vec<Diagnostic>,
) -> Vec<(&'p Served<'r>, Taken<'p>)> {
    let mut taken: Names<'p> = HashMap::new();
    let mut ways = Vec::new();
    for served in &port.servers {
        let wanted = served.wanted;
        let server = wanted.server();
        let before = ways.len();
        let passes_through = server.mode().is_some_and(|mode| mode.passes_through());
        match port.for_what {
            Use::Http => ways.push((served, Taken::Requests(Vec::new()))),
            Use::Tls if passes_through => {
                let found = connections::by_name(wanted, bound, &mut taken, findings);
                ways.extend(found.into_iter().map(|way| (served, Taken::Connections(way))));
            }
            Use::Tls => {
                let names = names_of(served, &wanted.gateway.meta, &mut taken, findings);
                if names.is_empty() {
                    // Others have all of them, as has been told.
                    continue;
                }
                if server.port.protocol == Protocol::Https {
                    ways.push((served, Taken::Requests(names)));
                } else if let Some(mut way) = connections::by_port(wanted, bound, findings) {
                    way.names = names;
                    ways.push((served, Taken::Connections(way)));
                }
            }
            Use::Tcp => {
                let way = connections::by_port(wanted, bound, findings);
                ways.extend(way.map(|way| (served, Taken::Connections(way))));
            }
        }
        if ways.len() == before {
            findings.push(connections::without_way(wanted, passes_through));
        }
    }
    ways
}

/// The server names of a server that ends TLS: those that no earlier rule of the port has.
fn names_of<'p>(
    served: &Served<'p>,
    meta: &'p Metadata,
    taken: &mut Names<'p>,
    findings: &mut Vec<Diagnostic>,
) -> Vec<Arc<str>> {
    let mut names: Vec<Arc<str>> = Vec::new();
    for host in &served.wanted.server().hosts {
        if !names.contains(&host.host) && connections::give(&host.host, (meta, host.pos), taken, findings) {
            names.push(host.host.clone());
        }
    }
    names
}

/// Server names as a chain has them; `*` takes in clients that name none, so it is no name at all.
fn server_names(names: &[Arc<str>]) -> Vec<HostPattern> {
    let patterns: Vec<HostPattern> = names.iter().map(|name| hosts::pattern(name)).collect();
    if patterns.contains(&HostPattern::Any) { Vec::new() } else { patterns }
}

/// The hosts that both sides take in, the narrower of each two that overlap.
fn intersection<'h>(
    a: impl Iterator<Item = &'h Arc<str>>,
    b: impl Iterator<Item = &'h Arc<str>> + Clone,
) -> Vec<Arc<str>> {
    let mut shared: Vec<Arc<str>> = Vec::new();
    for one in a {
        for other in b.clone() {
            let narrower = match (hosts::covers(other, one), hosts::covers(one, other)) {
                (true, _) => one,
                (_, true) => other,
                (false, false) => continue,
            };
            if !shared.contains(narrower) {
                shared.push(narrower.clone());
            }
        }
    }
    shared
}
