//! Virtual hosts: which names each service and each VirtualService answers to, and with which routes.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use outrigger_model::{
    Action, ClusterName, Destination, Domain, DomainPort, Forward, HeaderEdits, HostPattern, PathMatch, RetryPolicy,
    Rewrite, Route, RouteMatch, VirtualHost,
};

use super::bindings;
use super::http_routes::{self, HttpRouteBuilder};
use super::lender::Lender;
use super::mesh_routes::MeshRoutes;
use super::rate_limits::RateLimits;
use super::reach;
use super::registry::{PortInfo, ServiceInfo};
use super::resolve::Resolver;
use super::retries::{Defaults, Own};
use super::routes::RouteBuilder;
use super::scope::Import;
use super::splits::{self, Splits};
use super::virtual_services::Candidate;
use crate::hosts;
use crate::kind::mesh_config::MeshConfig;
use crate::node::Pos;
use crate::object::Metadata;
use crate::precedence::{self, Claims, Winner};
use crate::resources::Resources;

/// The port of hosts that only a VirtualService knows.
const UNKNOWN_HOST_PORT: u16 = 80;

/// Services by their bare names.
pub(crate) type ShortNames = HashMap<Arc<str>, u32, foldhash::fast::RandomState>;

/// Whether the pods behind a service's port have names of their own.
pub(crate) fn has_pod_names(info: &ServiceInfo, port: &PortInfo) -> bool {
    info.is_headless() && port.protocol.is_http()
}

/// A virtual host before its names are handed out.
struct Draft {
    host: Arc<str>,
    port: u16,
    /// Its own names.
    names: Vec<Arc<str>>,
    /// Further names, which it gets if nobody's own name is the same.
    others: Vec<Arc<str>>,
    /// Whether it also answers to its names without port.
    unstated: bool,
    routes: Vec<Arc<Route>>,
}

/// Builds virtual hosts.
pub(crate) struct VhostBuilder<'b> {
    /// All objects.
    pub(crate) resources: &'b Resources,
    /// Finds clusters.
    pub(crate) resolver: &'b Resolver<'b>,
    /// What of each service is addressable, by index.
    pub(crate) imports: &'b [Import],
    /// VirtualServices in the order they are asked.
    pub(crate) candidates: &'b [Candidate],
    /// HTTPRoutes by the Service they are for.
    pub(crate) mesh_routes: &'b MeshRoutes,
    /// TrafficSplits by root.
    pub(crate) splits: &'b Splits,
    /// The mesh's retry policy.
    pub(crate) retry: &'b RetryPolicy,
    /// Mesh settings.
    pub(crate) mesh: &'b MeshConfig,
    /// The time by which certificates are judged.
    pub(crate) now: SystemTime,
    /// The virtual hosts of the snapshot before, lent where nothing changed.
    pub(crate) before: &'b HashMap<Arc<str>, Arc<VirtualHost>>,
    /// Lends the virtual hosts of other clients.
    pub(crate) lender: &'b RefCell<Lender>,
    /// Limits on requests and bodies.
    pub(crate) limits: &'b RateLimits,
}

/// VirtualService hosts, ready for look-ups.
struct HostIndex<'b> {
    /// Host, candidate and place; the first claim of each host only.
    entries: Vec<(Arc<str>, usize, Pos)>,
    exact: HashMap<Arc<str>, usize>,
    wild: Vec<usize>,
    candidates: &'b [Candidate],
}

impl VhostBuilder<'_> {
    /// Builds all of them.
    pub(crate) fn build(&self) -> Vec<Arc<VirtualHost>> {
        let index = self.index_hosts();
        self.candidates.iter().for_each(|c| reach::review(c, &mut self.resolver.diagnostics.borrow_mut()));
        let order = self.service_order();
        let short = self.short_names(&order);
        let mut drafts = Vec::with_capacity(order.len());
        let mut claimed: HashMap<(Arc<str>, u16), u32, foldhash::fast::RandomState> = HashMap::default();
        let mut matched = vec![false; index.entries.len()];
        for service in &order {
            let info = self.resolver.registry.at(*service);
            let best = index.best(&info.host);
            if let Some(entry) = best {
                matched[entry] = true;
            }
            for wild in &index.wild {
                matched[*wild] |= hosts::covers(&index.entries[*wild].0, &info.host);
            }
            for port in info.http_ports().filter(|p| self.imports[*service as usize].has(p.number)) {
                let key = (info.host.clone(), port.number);
                match claimed.get(&key) {
                    Some(first) => self.report_claimed(info, port, self.resolver.registry.at(*first)),
                    None => {
                        claimed.insert(key, *service);
                        let candidate =
                            best.map(|entry| (&self.candidates[index.entries[entry].1], index.entries[entry].2));
                        let draft = self.draft(*service, info, port, candidate, &short);
                        if has_pod_names(info, port) {
                            drafts.push(self.pods(&draft, info));
                        }
                        drafts.push(draft);
                    }
                }
            }
        }
        drafts.extend(self.unknown_hosts(&index, &matched));
        drafts.extend(self.tunnels(&order, &short, &claimed));
        self.assign_names(drafts)
    }

    /// The ports that do not speak HTTP, without routes: no request can be for them, but CONNECT leads there.
    fn tunnels(
        &self,
        order: &[u32],
        short: &ShortNames,
        claimed: &HashMap<(Arc<str>, u16), u32, foldhash::fast::RandomState>,
    ) -> Vec<Draft> {
        let mut drafts = Vec::new();
        for service in order {
            let info = self.resolver.registry.at(*service);
            let is_open = |port: &&PortInfo| {
                !port.protocol.is_http()
                    && self.imports[*service as usize].has(port.number)
                    && !claimed.contains_key(&(info.host.clone(), port.number))
            };
            for port in info.ports.iter().filter(is_open) {
                self.resolver.used.borrow_mut().insert(*service);
                drafts.push(Draft {
                    host: info.host.clone(),
                    port: port.number,
                    names: vec![info.host.clone()],
                    others: self.other_names(*service, info, short),
                    unstated: false,
                    routes: Vec::new(),
                });
            }
        }
        drafts
    }

    /// Which VirtualService has which host: the first that names it.
    fn index_hosts(&self) -> HostIndex<'_> {
        let mut index =
            HostIndex { entries: Vec::new(), exact: HashMap::new(), wild: Vec::new(), candidates: self.candidates };
        let mut first: HashMap<Arc<str>, (usize, Pos)> = HashMap::new();
        for (at, candidate) in self.candidates.iter().enumerate() {
            for (host, pos) in &candidate.hosts {
                if let Some((winner, place)) = first.get(host) {
                    if *winner != at {
                        let winner = &index.candidates[*winner].object.meta;
                        let loser = (&candidate.object.meta, *pos);
                        self.resolver.report(precedence::taken(host, loser, (winner, *place)));
                    }
                    continue;
                }
                first.insert(host.clone(), (at, *pos));
                let entry = index.entries.len();
                index.entries.push((host.clone(), at, *pos));
                if hosts::is_wildcard(host) {
                    index.wild.push(entry);
                } else {
                    index.exact.insert(host.clone(), entry);
                }
            }
        }
        index
    }

    /// Addressable services: those of the client's namespace first, so that they win a host with several owners.
    pub(crate) fn service_order(&self) -> Vec<u32> {
        let all = 0..self.imports.len() as u32;
        let mut order: Vec<u32> = all.filter(|index| self.is_addressable(*index)).collect();
        let elsewhere = |index: &u32| self.resolver.registry.at(*index).namespace != self.resolver.client.namespace;
        order.sort_by_key(elsewhere);
        order
    }

    /// The services that answer to their bare name: those of the client's namespace; for an anonymous client also those
    /// whose name is unique.
    pub(crate) fn short_names(&self, order: &[u32]) -> ShortNames {
        let client = self.resolver.client;
        let registry = self.resolver.registry;
        let kubernetes = || order.iter().copied().filter(|index| registry.at(*index).is_kubernetes());
        let mut short = ShortNames::default();
        let mut ambiguous: HashSet<Arc<str>, foldhash::fast::RandomState> = HashSet::default();
        if client.anonymous {
            for index in kubernetes() {
                let name = &registry.at(index).name;
                if short.insert(name.clone(), index).is_some() {
                    ambiguous.insert(name.clone());
                }
            }
            short.retain(|name, _| !ambiguous.contains(name));
        }
        for index in kubernetes().filter(|index| registry.at(*index).namespace == client.namespace) {
            short.insert(registry.at(index).name.clone(), index);
        }
        short
    }

    fn draft(
        &self,
        service: u32,
        info: &Arc<ServiceInfo>,
        port: &PortInfo,
        candidate: Option<(&Candidate, Pos)>,
        short: &ShortNames,
    ) -> Draft {
        let mut http = info.http_ports();
        let unstated = matches!((http.next(), http.next()), (Some(only), None) if only.number != 80);
        Draft {
            host: info.host.clone(),
            port: port.number,
            names: vec![info.host.clone()],
            others: self.other_names(service, info, short),
            unstated,
            routes: self.routes(service, info, port, candidate),
        }
    }

    /// The names of a headless service's pods, `db-0.db.shop.svc`, each for the pod itself. Rules for the service are for
    /// its balanced name and do not apply, as the address behind such a name is one pod's.
    fn pods(&self, service: &Draft, info: &ServiceInfo) -> Draft {
        let below = |names: &[Arc<str>]| names.iter().map(|name| hosts::any_below(name)).collect();
        let host = hosts::any_below(&service.host);
        let cluster = ClusterName::outbound(service.port, "", &host);
        Draft {
            names: vec![host.clone()],
            others: below(&service.others),
            host,
            port: service.port,
            unstated: service.unstated,
            routes: vec![self.route_to(cluster, info)],
        }
    }

    /// What a service answers to beside its full name.
    pub(crate) fn other_names(&self, service: u32, info: &ServiceInfo, short: &ShortNames) -> Vec<Arc<str>> {
        let mut others = Vec::with_capacity(4);
        if info.is_kubernetes() {
            others.extend(hosts::alternatives(&info.name, &info.namespace));
            if short.get(&info.name) == Some(&service) {
                others.push(info.name.clone());
            }
        }
        others.extend(info.addresses.iter().cloned());
        self.add_aliases(info, &mut others);
        others
    }

    /// The names of ExternalName services that stand for this one.
    fn add_aliases(&self, info: &ServiceInfo, others: &mut Vec<Arc<str>>) {
        let registry = self.resolver.registry;
        for index in registry.aliases_of(&info.host).iter().filter(|i| self.resolver.visible[**i as usize]) {
            let alias = registry.at(*index);
            others.push(alias.host.clone());
            others.extend(hosts::alternatives(&alias.name, &alias.namespace));
            if alias.namespace == self.resolver.client.namespace {
                others.push(alias.name.clone());
            }
        }
    }

    /// The routes of a service's port, by precedence.
    fn routes(
        &self,
        service: u32,
        info: &Arc<ServiceInfo>,
        port: &PortInfo,
        candidate: Option<(&Candidate, Pos)>,
    ) -> Vec<Arc<Route>> {
        let defaults = self.defaults(info);
        let builder = self.rules(defaults, bindings::MESH);
        let of_rules = candidate.map(|(candidate, _)| builder.routes(candidate, port.number)).unwrap_or_default();
        let split = self.splits.get(&info.host);
        let of_split =
            split.map(|split| splits::routes(split, info, port.number, self.resources, self.resolver, defaults));
        let of_split = of_split.unwrap_or_default();
        let http_routes = self.mesh_routes.of(service, info, port, &self.resolver.client.namespace);
        let claims = Claims {
            virtual_service: candidate.filter(|_| !of_rules.is_empty()).map(|(c, pos)| (&c.object.meta, pos)),
            http_routes: http_routes.iter().map(|(route, pos)| (&route.meta, *pos)).collect(),
            traffic_split: split.filter(|_| !of_split.is_empty()).map(|s| (&s.meta, s.spec.service.pos)),
        };
        let (winner, findings) = precedence::decide(&info.host, &claims);
        findings.into_iter().for_each(|finding| self.resolver.report(finding));
        match winner {
            Winner::VirtualService => of_rules,
            Winner::HttpRoutes => {
                let builder = HttpRouteBuilder::of_mesh(self.resolver, defaults);
                let ranked = http_routes.iter().flat_map(|(route, _)| builder.routes(route).routes);
                http_routes::in_order(ranked.collect(), self.resolver)
            }
            Winner::TrafficSplit => {
                let mut routes = of_split;
                if routes.iter().all(|r| r.matches != RouteMatch::default()) {
                    // What matches no route group stays with the root's own endpoints.
                    routes.push(self.default_route(service, info, port));
                }
                routes
            }
            Winner::Default => vec![self.default_route(service, info, port)],
        }
    }

    /// What the routes of a service get that say nothing themselves.
    fn defaults<'s>(&'s self, info: &'s ServiceInfo) -> Defaults<'s> {
        Defaults { mesh: self.retry, service: info.is_kubernetes().then(|| info.meta()) }
    }

    /// A builder for the routes of VirtualServices at a gateway, or in the mesh.
    pub(crate) fn rules<'s>(&'s self, defaults: Defaults<'s>, gateway: &'s str) -> RouteBuilder<'s> {
        let avoid_of_mesh = self.mesh.retries.as_ref().and_then(|retries| retries.avoid_previous_hosts);
        RouteBuilder { resolver: self.resolver, defaults, avoid_of_mesh, gateway }
    }

    fn default_route(&self, service: u32, info: &ServiceInfo, port: &PortInfo) -> Arc<Route> {
        self.resolver.used.borrow_mut().insert(service);
        self.route_to(ClusterName::outbound(port.number, "", &info.host), info)
    }

    /// A route of a service without conditions.
    fn route_to(&self, cluster: ClusterName, info: &ServiceInfo) -> Arc<Route> {
        let destination = Destination {
            cluster,
            missing: None,
            weight: 1,
            authority: None,
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
        };
        let forward = Forward { destinations: vec![destination], rewrite: Rewrite::default() };
        let origin = Some(info.origin.clone());
        let action = Action::Forward(forward);
        let tries = self.defaults(info).of(Own::default(), &action, self.resolver);
        Arc::new(splits::plain("default", origin, RouteMatch::default(), action, tries))
    }

    /// Virtual hosts for hosts that are in no registry.
    fn unknown_hosts(&self, index: &HostIndex<'_>, matched: &[bool]) -> Vec<Draft> {
        let builder = self.rules(Defaults::of_mesh(self.retry), bindings::MESH);
        let mut drafts = Vec::new();
        for (entry, (host, candidate, _)) in index.entries.iter().enumerate() {
            let known = matched[entry] || self.resolver.registry.named(host).iter().any(|i| self.is_addressable(*i));
            if known {
                continue;
            }
            let routes = builder.routes(&self.candidates[*candidate], UNKNOWN_HOST_PORT);
            if routes.is_empty() {
                continue;
            }
            let mut others = Vec::new();
            if let Some((name, namespace)) = hosts::split_service_host(host, self.resolver.domain) {
                others.extend(hosts::alternatives(name, namespace));
                if *namespace == *self.resolver.client.namespace {
                    others.push(name.into());
                }
            }
            drafts.push(Draft {
                host: host.clone(),
                port: UNKNOWN_HOST_PORT,
                names: vec![host.clone()],
                others,
                unstated: false,
                routes,
            });
        }
        drafts
    }

    /// Whether a service has virtual hosts of its own.
    fn is_addressable(&self, index: u32) -> bool {
        let own = self.resolver.registry.at(index).alias_of.is_none();
        own && self.resolver.visible[index as usize] && self.imports[index as usize] != Import::Nothing
    }

    /// Hands out names: own names first, then the others as far as they are free.
    fn assign_names(&self, drafts: Vec<Draft>) -> Vec<Arc<VirtualHost>> {
        let mut taken: HashSet<Domain, foldhash::fast::RandomState> = HashSet::default();
        let mut claim = |names: &[Arc<str>], draft: &Draft, domains: &mut Vec<Domain>| {
            for name in names {
                let host: HostPattern = hosts::pattern(name);
                let ports = [Some(DomainPort::Exact(draft.port)), draft.unstated.then_some(DomainPort::Unstated)];
                for port in ports.into_iter().flatten() {
                    let domain = Domain { host: host.clone(), port };
                    if taken.insert(domain.clone()) {
                        domains.push(domain);
                    }
                }
            }
        };
        let mut domains: Vec<Vec<Domain>> = vec![Vec::new(); drafts.len()];
        for (draft, domains) in drafts.iter().zip(&mut domains) {
            claim(&draft.names, draft, domains);
        }
        for (draft, domains) in drafts.iter().zip(&mut domains) {
            claim(&draft.others, draft, domains);
        }
        let vhosts = drafts.into_iter().zip(domains).filter(|(_, domains)| !domains.is_empty());
        let named = |(draft, domains): (Draft, Vec<Domain>)| {
            let name: Arc<str> = format!("{}:{}", draft.host, draft.port).into();
            VirtualHost { name, domains, routes: draft.routes }
        };
        vhosts.map(|vhost| self.lend(named(vhost))).collect()
    }

    /// The virtual host, or that of before or of another client if it is the same; so its routes.
    pub(crate) fn lend(&self, mut vhost: VirtualHost) -> Arc<VirtualHost> {
        self.limits.apply(&mut vhost, self.resolver);
        let mut lender = self.lender.borrow_mut();
        let mut known = lender.vhosts(&vhost.name);
        known.extend(self.before.get(&vhost.name).cloned());
        // That of before is the most likely one.
        if let Some(same) = known.iter().rev().find(|known| ***known == vhost) {
            return same.clone();
        }
        let mut routes: HashMap<_, Vec<&Arc<Route>>> = HashMap::new();
        let all = known.iter().rev().flat_map(|known| &known.routes);
        all.for_each(|route| routes.entry(route_key(route)).or_default().push(route));
        for route in &mut vhost.routes {
            let same = routes.get(&route_key(route)).and_then(|routes| routes.iter().find(|r| **r == route));
            if let Some(same) = same {
                *route = Arc::clone(same);
            }
        }
        let vhost = Arc::new(vhost);
        lender.keep_vhost(&vhost);
        vhost
    }

    fn report_claimed(&self, info: &ServiceInfo, port: &PortInfo, first: &ServiceInfo) {
        let host = format!("{}:{}", info.host, port.number);
        let at = |info: &ServiceInfo| -> (Metadata, Pos) { (info.meta().clone(), info.meta().pos) };
        let (loser, winner) = (at(info), at(first));
        self.resolver.report(precedence::taken(&host, (&loser.0, loser.1), (&winner.0, winner.1)));
    }
}

/// What tells the routes of a virtual host apart most often: name, rule, and what they ask of the path.
fn route_key(route: &Route) -> (Arc<str>, Option<Arc<str>>, Option<Arc<str>>) {
    let path = match &route.matches.path {
        PathMatch::Any => None,
        PathMatch::Exact(text) | PathMatch::Prefix(text) | PathMatch::Segments(text) => Some(text.clone()),
        PathMatch::Regex(pattern) => Some(pattern.source().into()),
    };
    (route.name.clone(), route.origin.as_ref().map(|origin| origin.rule.clone()), path)
}

impl HostIndex<'_> {
    /// The entry that counts for a host.
    fn best(&self, host: &Arc<str>) -> Option<usize> {
        if let Some(entry) = self.exact.get(host) {
            return Some(*entry);
        }
        let wild = precedence::most_specific(host, self.wild.iter().map(|entry| &*self.entries[*entry].0));
        wild.map(|at| self.wild[at])
    }
}
