//! The model's listeners of a Gateway: one for each port, with the listeners of the API on it kept apart.
//!
//! A request belongs to the most specific listener of its port that its host is for, and meets the routes of no other
//! (listener isolation). On a port with HTTP that is one table of routes: a host counts only for the listener it belongs
//! to, and what a listener has no route for gets 404 from it. On a port with HTTPS the server name picks the listener, and
//! a host that belongs to another one gets 421: the client shares a connection that is not for it.
//!
//! Of the routes that are for a host those with the longer host name are asked first, whatever they match; then those with
//! shorter ones ("precedence must be given to rules from the HTTPRoute with …").

use std::collections::HashMap;
use std::sync::Arc;

use outrigger_model::{
    Action, Chain, DirectResponse, Direction, Domain, DomainPort, HeaderEdits, Listener, Network, Origin, PathMatch,
    Route, RouteMatch, RouteTable, Serve, Unmatched, VirtualHost,
};

use super::hosts::{ANY, wider};
use super::listeners::{Entry, Protocol};
use super::relays::{self, Relays};
use super::routes::AnyRoute;
use super::site::Site;
use crate::hosts::pattern;
use crate::kind::proxy_protocol;
use crate::kind::tcp_route::ConnectionRule;
use crate::node::Spanned;
use crate::object::Metadata;
use crate::translate::gateways::grants::Grants;
use crate::translate::http_routes::{HttpRouteBuilder, RankedRoute, in_order};
use crate::translate::l4_routes::ConnectionRouteBuilder;
use crate::translate::vhosts::VhostBuilder;

/// The listeners of a Gateway.
pub(super) fn listeners(site: &Site<'_>, builder: &VhostBuilder<'_>) -> Vec<Listener> {
    let mut ports: Vec<u16> = site.served().map(|entry| entry.spec.port).collect();
    ports.sort_unstable();
    ports.dedup();
    let grants = Grants::new(builder.resources);
    let routes = HttpRouteBuilder::of_gateway(builder.resolver, grants, builder.retry);
    let connections = ConnectionRouteBuilder::of_gateway(builder.resolver, grants);
    let (mut ranked, mut relays) = (HashMap::new(), HashMap::new());
    for attached in site.served().flat_map(|entry| &entry.attached) {
        let meta = attached.route.meta();
        let key = std::ptr::from_ref(meta);
        let mut relay = |rules: &[Spanned<Arc<ConnectionRule>>]| {
            relays.entry(key).or_insert_with(|| Arc::new(connections.route(meta, rules).route));
        };
        match attached.route {
            AnyRoute::Http(route) => {
                ranked.entry(key).or_insert_with(|| routes.routes(route).routes);
            }
            AnyRoute::Tls(route) => relay(&route.spec.rules),
            AnyRoute::Tcp(route) => relay(&route.spec.rules),
        }
    }
    ports.into_iter().map(|port| Port::new(site, builder, (&ranked, &relays), port).listener()).collect()
}

/// The routes of each object with routes for requests, by the address of its metadata.
type Ranked = HashMap<*const Metadata, Vec<RankedRoute>>;

/// A port with the listeners on it.
pub(super) struct Port<'p> {
    /// For its services, and for findings.
    pub(super) builder: &'p VhostBuilder<'p>,
    ranked: &'p Ranked,
    /// Of listeners that relay connections.
    pub(super) relays: &'p Relays,
    number: u16,
    /// Who may send PROXY headers.
    proxy_protocol: Option<Arc<[Network]>>,
    /// Those that are accepted; among them those that cannot be served for want of a certificate: their hosts are theirs
    /// all the same.
    pub(super) entries: Vec<&'p Entry<'p>>,
    /// Host names of listeners.
    owners: HashMap<&'p str, usize>,
}

impl<'p> Port<'p> {
    fn new(
        site: &'p Site<'p>,
        builder: &'p VhostBuilder<'p>,
        (ranked, relays): (&'p Ranked, &'p Relays),
        number: u16,
    ) -> Self {
        let on_port = |entry: &&Entry<'_>| entry.is_accepted() && entry.spec.port == number;
        let entries: Vec<&Entry<'_>> = site.entries.iter().filter(on_port).collect();
        let owners = entries.iter().enumerate().map(|(at, entry)| (&*entry.hostname, at)).collect();
        let proxy_protocol = proxy_protocol::trusted(&site.gateway.meta);
        Self { builder, ranked, relays, number, proxy_protocol, entries, owners }
    }

    fn listener(&self) -> Listener {
        let served = || (0..self.entries.len()).filter(|at| self.entries[*at].is_usable());
        let chains = if served().all(|at| self.entries[at].protocol == Protocol::Http) {
            let all = served().flat_map(|at| self.virtual_hosts(at));
            vec![Chain::plain(table(all.collect()))]
        } else {
            let chains = |at: usize| match self.entries[at].protocol {
                Protocol::Https => vec![self.secure_chain(at)],
                _ => relays::chains(self, at),
            };
            let closed = (0..self.entries.len()).filter_map(|at| relays::closed(self, at));
            served().flat_map(chains).chain(closed).collect()
        };
        Listener {
            name: Listener::gateway_name(self.number),
            direction: Direction::Gateway,
            port: self.number,
            proxy_protocol: self.proxy_protocol.clone(),
            chains,
        }
    }

    fn secure_chain(&self, at: usize) -> Chain {
        let entry = self.entries[at];
        let mut hosts = self.virtual_hosts(at);
        let others = (0..self.entries.len()).filter(|other| *other != at);
        hosts.extend(others.map(|other| self.misdirected(at, other)));
        let server_names = if &*entry.hostname == ANY { Vec::new() } else { vec![pattern(&entry.hostname)] };
        Chain { server_names, tls: entry.tls.clone(), serve: Serve::Http(table(hosts)) }
    }

    /// Which listener a host, or all that a pattern takes in, belongs to.
    pub(super) fn owner(&self, host: &str) -> Option<usize> {
        wider(host).find_map(|wide| self.owners.get(&*wide).copied())
    }

    /// The hosts that belong to a listener, with their routes.
    fn virtual_hosts(&self, at: usize) -> Vec<Arc<VirtualHost>> {
        let entry = self.entries[at];
        let mut hosts: Vec<&Arc<str>> = Vec::new();
        let mut attached: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, route) in entry.attached.iter().enumerate() {
            for host in &route.hosts {
                let routes = attached.entry(host).or_default();
                if routes.is_empty() && self.owner(host) == Some(at) {
                    hosts.push(host);
                }
                routes.push(index);
            }
        }
        // What none of its routes is for must not fall to a wider listener.
        let in_wider = wider(&entry.hostname).skip(1).any(|wide| self.owners.contains_key(&*wide));
        if in_wider && !attached.contains_key(&*entry.hostname) {
            hosts.push(&entry.hostname);
        }
        hosts.into_iter().map(|host| self.virtual_host(host, entry, &attached)).collect()
    }

    fn virtual_host(&self, host: &str, entry: &Entry<'_>, attached: &HashMap<&str, Vec<usize>>) -> Arc<VirtualHost> {
        let mut routes = Vec::new();
        let mut known: Vec<usize> = Vec::new();
        for wide in wider(host) {
            let of_host = attached.get(&*wide).into_iter().flatten();
            let fresh: Vec<usize> = of_host.copied().filter(|index| !known.contains(index)).collect();
            let ranked = fresh
                .iter()
                .filter_map(|index| self.ranked.get(&std::ptr::from_ref(entry.attached[*index].route.meta())));
            routes.extend(in_order(ranked.flatten().cloned().collect(), self.builder.resolver));
            if routes.iter().any(|route| takes_everything(&route.matches)) {
                break;
            }
            known.extend(fresh);
        }
        let name = format!("{host}:{}", self.number).into();
        self.builder.lend(VirtualHost { name, domains: domain(host), routes })
    }

    /// The host of another listener, met on a connection that is for this one.
    fn misdirected(&self, at: usize, other: usize) -> Arc<VirtualHost> {
        let (entry, owner) = (self.entries[at], self.entries[other]);
        let object = entry.meta.object_ref();
        let name = format!("{}:{}|misdirected|{object}/{}", owner.hostname, self.number, entry.spec.name.value);
        let origin = Origin {
            kind: entry.meta.kind.into(),
            namespace: entry.meta.namespace.clone(),
            name: entry.meta.name.clone(),
            rule: entry.spec.name.value.clone(),
            place: Some(entry.meta.source.place(entry.spec.pos)),
        };
        let route = Route {
            name: "misdirected".into(),
            origin: Some(Arc::new(origin)),
            matches: RouteMatch::default(),
            action: Action::Respond(DirectResponse { status: 421, body: MISDIRECTED.as_bytes().into() }),
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            cors: None,
            timeout: None,
            retry: None,
            fault: None,
            rate_limits: Vec::new(),
            body_limits: Default::default(),
            mirrors: Vec::new(),
        };
        let routes = vec![Arc::new(route)];
        self.builder.lend(VirtualHost { name: name.into(), domains: domain(&owner.hostname), routes })
    }
}

/// Whether no request is left for what comes after.
fn takes_everything(matches: &RouteMatch) -> bool {
    match &matches.path {
        PathMatch::Segments(prefix) if prefix.is_empty() => {
            *matches == RouteMatch { path: matches.path.clone(), ..RouteMatch::default() }
        }
        PathMatch::Any => *matches == RouteMatch::default(),
        PathMatch::Exact(_) | PathMatch::Prefix(_) | PathMatch::Segments(_) | PathMatch::Regex(_) => false,
    }
}

/// What a client reads that shares a connection with hosts of another listener.
const MISDIRECTED: &str = "this connection was opened for another host name; open one for this host\n";

/// A host on every port: "implementations MUST ignore any port value specified in the HTTP Host header".
fn domain(host: &str) -> Vec<Domain> {
    vec![Domain { host: pattern(host), port: DomainPort::Any }]
}

fn table(virtual_hosts: Vec<Arc<VirtualHost>>) -> Arc<RouteTable> {
    Arc::new(RouteTable { virtual_hosts, unmatched: Unmatched::NotFound })
}
