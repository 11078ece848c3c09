//! The routes of servers that speak HTTP: one table for all plain ones of a port, one for each that ends TLS.
//!
//! Unlike in the mesh, VirtualServices for one host are merged: the routes of one come after those of the other, and those
//! that take every request come last (Istio's order).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use outrigger_model::{
    Action, Domain, DomainPort, HeaderEdits, Origin, PathMatch, Redirect, RedirectPath, RedirectPort, Route,
    RouteMatch, RouteTable, Unmatched, VirtualHost,
};

use super::bound::Bound;
use super::intersection;
use super::servers::{Served, Wanted};
use crate::codes;
use crate::hosts;
use crate::translate::bindings::server_hosts;
use crate::translate::retries::Defaults;
use crate::translate::vhosts::VhostBuilder;

/// Builds the route tables of one port.
pub(super) struct Tables<'t> {
    /// What all translations share.
    builder: &'t VhostBuilder<'t>,
    /// The VirtualServices of the proxy.
    bound: &'t [Bound],
    /// The port.
    port: u16,
    /// The routes of a VirtualService, by its index and the Gateway.
    routes: HashMap<(usize, String), Vec<Arc<Route>>>,
}

/// Virtual hosts while VirtualServices are gathered, in the order in which their hosts were met.
#[derive(Default)]
struct Drafts {
    all: Vec<Draft>,
    by_host: HashMap<Arc<str>, usize>,
}

/// A virtual host while VirtualServices are gathered.
struct Draft {
    host: Arc<str>,
    routes: Vec<Arc<Route>>,
    /// The VirtualServices, by index and Gateway, that are in it.
    from: Vec<(usize, String)>,
    /// The server that sends its clients to https.
    redirect: Option<Arc<Origin>>,
}

impl<'t> Tables<'t> {
    /// For a port.
    pub(super) fn new(builder: &'t VhostBuilder<'t>, bound: &'t [Bound], port: u16) -> Self {
        Self { builder, bound, port, routes: HashMap::new() }
    }

    /// The table of some servers; `names` are those of virtual hosts that other tables of the proxy have already.
    pub(super) fn table(&mut self, servers: &[Served<'_>], names: &mut HashSet<Arc<str>>) -> Arc<RouteTable> {
        let mut drafts = Drafts::default();
        for served in servers {
            self.gather(served.wanted, &mut drafts);
        }
        let mut virtual_hosts = Vec::with_capacity(drafts.all.len());
        for draft in drafts.all {
            let mut name: Arc<str> = format!("{}:{}", draft.host, self.port).into();
            if let (false, Some(first)) = (names.insert(name.clone()), servers.first()) {
                // Servers with TLS may have hosts in common, each in its own table.
                name = format!("{name} of {} {}", first.wanted.gateway_name(), first.wanted.name()).into();
                names.insert(name.clone());
            }
            let domains = vec![Domain { host: hosts::pattern(&draft.host), port: DomainPort::Any }];
            let routes = self.finish(draft);
            virtual_hosts.push(self.builder.lend(VirtualHost { name, domains, routes }));
        }
        Arc::new(RouteTable { virtual_hosts, unmatched: Unmatched::NotFound })
    }

    /// Adds what a server and the VirtualServices bound to its Gateway say.
    fn gather(&mut self, wanted: Wanted<'_>, drafts: &mut Drafts) {
        let server = wanted.server();
        let gateway = wanted.gateway_name();
        let redirect = server.redirects().then(|| Arc::new(origin(wanted)));
        for (index, bound) in self.bound.iter().enumerate().filter(|(_, bound)| bound.is_to(&gateway)) {
            let candidate = &bound.candidate;
            let namespace = &candidate.object.meta.namespace;
            let of_server = server_hosts(&server.hosts, &wanted.gateway.meta.namespace, namespace);
            let shared = intersection(of_server, candidate.hosts.iter().map(|(host, _)| host));
            if shared.is_empty() {
                continue;
            }
            let key = (index, gateway.clone());
            let (builder, port) = (self.builder, self.port);
            let routes = self
                .routes
                .entry(key.clone())
                .or_insert_with(|| builder.rules(Defaults::of_mesh(builder.retry), &gateway).routes(candidate, port));
            if routes.is_empty() {
                continue;
            }
            for host in shared {
                let draft = drafts.of(&host);
                if !draft.from.contains(&key) {
                    draft.from.push(key.clone());
                    draft.routes.extend(routes.iter().cloned());
                }
                draft.redirect = draft.redirect.take().or_else(|| redirect.clone());
            }
        }
        for host in server.hosts.iter().filter(|_| redirect.is_some()) {
            let draft = drafts.of(&host.host);
            draft.redirect = draft.redirect.take().or_else(|| redirect.clone());
        }
    }

    /// The routes of a virtual host in their order.
    fn finish(&self, draft: Draft) -> Vec<Arc<Route>> {
        if let Some(origin) = draft.redirect {
            return vec![Arc::new(to_https(origin))];
        }
        let (mut all, others): (Vec<_>, Vec<_>) = draft.routes.into_iter().partition(|route| takes_all(route));
        if let [first, .., _] = &*all
            && draft.from.len() > 1
        {
            let first = first.clone();
            all[1..].iter().for_each(|late| self.report_dead(&draft.host, late, &first));
            all.truncate(1);
        }
        others.into_iter().chain(all).collect()
    }

    /// A route of one VirtualService that another one, which takes every request, keeps from all of them.
    fn report_dead(&self, host: &str, late: &Route, first: &Route) {
        let (Some(late), Some(first)) = (&late.origin, &first.origin) else { return };
        let objects = &self.builder.resources.virtual_services;
        let Some(object) = objects.get(&late.namespace, &late.name) else { return };
        let winner = first.place.as_ref().map_or(String::new(), |place| format!(" at {place}"));
        let message = format!(
            "rule {} can never be reached for {host}: {} {}/{}{winner} takes every request",
            late.rule, first.kind, first.namespace, first.name
        );
        let hint = "give one of the two a match, or another host";
        let mut finding = codes::UNREACHABLE_RULE.about(&object.meta, object.meta.pos, message, hint);
        finding.place = late.place.clone().or(finding.place);
        self.builder.resolver.report(finding);
    }
}

impl Drafts {
    /// The virtual host of a host.
    fn of(&mut self, host: &Arc<str>) -> &mut Draft {
        let at = *self.by_host.entry(host.clone()).or_insert_with(|| {
            self.all.push(Draft { host: host.clone(), routes: Vec::new(), from: Vec::new(), redirect: None });
            self.all.len() - 1
        });
        &mut self.all[at]
    }
}

/// Whether a route takes every request.
fn takes_all(route: &Route) -> bool {
    let RouteMatch { path, path_ignore_case: _, method, scheme, authority, headers, query } = &route.matches;
    let any_path = match path {
        PathMatch::Any => true,
        PathMatch::Prefix(prefix) => matches!(&**prefix, "" | "/"),
        PathMatch::Segments(prefix) => prefix.is_empty(),
        PathMatch::Regex(pattern) => pattern.source() == ".*",
        PathMatch::Exact(_) => false,
    };
    any_path && method.is_none() && scheme.is_none() && authority.is_none() && headers.is_empty() && query.is_empty()
}

/// The route of `httpsRedirect`.
fn to_https(origin: Arc<Origin>) -> Route {
    Route {
        name: "https-redirect".into(),
        origin: Some(origin),
        matches: RouteMatch::default(),
        action: Action::Redirect(Redirect {
            status: 301,
            scheme: Some("https".into()),
            authority: None,
            port: RedirectPort::Keep,
            path: RedirectPath::Keep,
        }),
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        cors: None,
        timeout: None,
        retry: None,
        fault: None,
        rate_limits: Vec::new(),
        body_limits: Default::default(),
        mirrors: Vec::new(),
    }
}

fn origin(wanted: Wanted<'_>) -> Origin {
    let meta = &wanted.gateway.meta;
    Origin {
        kind: meta.kind.into(),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        rule: wanted.name().clone(),
        place: Some(meta.source.place(wanted.server().pos)),
    }
}
