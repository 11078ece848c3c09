//! Routes of a VirtualService for one virtual host: its rules in the order written, as the client may meet them.

use std::sync::Arc;

use outrigger_model::{
    Action, BalancePolicy, Destination, Forward, Mirror, Origin, PathMatch, PathRewrite, Redirect, RedirectPath,
    Rewrite, Route, RouteMatch, StringMatch,
};

use super::bindings::{MESH, full_name};
use super::reach::is_catch_all;
use super::resolve::Resolver;
use super::retries::{Defaults, Own};
use super::virtual_services::{Candidate, Rule};
use super::workloads::has_labels;
use crate::kind::header_edits::HeaderOperations;
use crate::kind::http_match::HttpMatch;
use crate::kind::istio::Percent;
use crate::kind::virtual_service::HttpRoute;

/// Builds routes.
pub(crate) struct RouteBuilder<'b> {
    /// Finds clusters.
    pub(crate) resolver: &'b Resolver<'b>,
    /// What routes get that say nothing themselves.
    pub(crate) defaults: Defaults<'b>,
    /// What the mesh's retry policy says of hosts already tried.
    pub(crate) avoid_of_mesh: Option<bool>,
    /// The gateway whose server gets the routes, as `namespace/name`; `mesh` for a sidecar.
    pub(crate) gateway: &'b str,
}

impl RouteBuilder<'_> {
    /// The routes of a VirtualService for a port; empty when no rule of it is for this client and port.
    pub(crate) fn routes(&self, candidate: &Candidate, port: u16) -> Vec<Arc<Route>> {
        let mut routes = Vec::with_capacity(candidate.rules.len());
        for rule in &candidate.rules {
            let blocks = &rule.route.matches;
            let unconditional = HttpMatch::default();
            let all: Vec<&HttpMatch> =
                if blocks.is_empty() { vec![&unconditional] } else { blocks.iter().map(|b| &b.value).collect() };
            let applicable: Vec<&HttpMatch> = all.into_iter().filter(|block| self.applies(rule, block, port)).collect();
            if applicable.is_empty() {
                continue;
            }
            let mut action = None;
            for block in applicable {
                // Worked out once a rule: a finding about a destination is made once, and blocks share the result.
                let (action, mirrors) =
                    action.get_or_insert_with(|| (self.action(rule, port), self.mirrors(rule, port)));
                routes.push(Arc::new(self.route(rule, block, action, mirrors)));
                if is_catch_all(block) {
                    return routes;
                }
            }
        }
        routes
    }

    /// Whether the conditions that do not depend on the request hold for this client and port.
    fn applies(&self, rule: &Rule, block: &HttpMatch, port: u16) -> bool {
        let client = self.resolver.client;
        let namespace = block.source_namespace.as_ref().is_none_or(|n| !client.anonymous && *n == client.namespace);
        let labels =
            block.source_labels.is_empty() || (!client.anonymous && has_labels(client.labels(), &block.source_labels));
        let named = block.gateways.iter().any(|g| full_name(g, &rule.object.meta.namespace) == self.gateway);
        let place = match block.gateways.is_empty() {
            true => namespace && labels,
            // A gateway that is named is not asked for its labels, as in Istio: they are conditions on sidecars.
            false => named && (self.gateway != MESH || (namespace && labels)),
        };
        place && block.port.is_none_or(|p| p == port)
    }

    fn action(&self, rule: &Rule, port: u16) -> Action {
        let route = &rule.route;
        if let Some(redirect) = &route.redirect {
            return Action::Redirect(redirect.clone());
        }
        if let Some(response) = &route.direct_response {
            return Action::Respond(response.clone());
        }
        Action::Forward(self.forward(rule, port))
    }

    fn forward(&self, rule: &Rule, port: u16) -> Forward {
        let route = &rule.route;
        let several = route.route.len() > 1;
        // With several destinations those without weight get nothing; one alone gets everything.
        let kept: Vec<_> = route.route.iter().filter(|d| !several || d.weight > 0).collect();
        let authority = route.rewrite.as_ref().and_then(|r| r.authority.clone());
        let authority = authority.or_else(|| route.headers.as_ref().and_then(|h| h.request.authority.clone()));
        let rewrite = Rewrite { path: PathRewrite::Keep, authority };
        let destinations = kept
            .into_iter()
            .map(|destination| {
                let resolved = self.resolver.destination(&destination.destination, &rule.object.meta, port);
                let operations = &destination.headers;
                Destination {
                    cluster: resolved.cluster,
                    missing: resolved.missing,
                    weight: destination.weight.max(1),
                    // The route's authority wins over the destination's.
                    authority: operations.request.authority.clone().filter(|_| rewrite.authority.is_none()),
                    request_headers: operations.request.edits.clone(),
                    response_headers: operations.response.edits.clone(),
                }
            })
            .collect();
        Forward { destinations, rewrite }
    }

    fn route(&self, rule: &Rule, block: &HttpMatch, action: &Action, mirrors: &[Mirror]) -> Route {
        let route = &rule.route;
        let mut matches = route_match(block);
        let mut action = action.clone();
        match &mut action {
            Action::Forward(forward) => {
                forward.rewrite.path = path_rewrite(route, &mut matches);
            }
            Action::Redirect(Redirect { path: RedirectPath::Prefix(_), .. }) if matches.path == PathMatch::Any => {
                matches.path = PathMatch::Prefix("/".into());
            }
            Action::Redirect(_) | Action::Respond(_) => {}
        }
        let edits = |operations: Option<&HeaderOperations>| operations.map(|o| o.edits.clone()).unwrap_or_default();
        let headers = route.headers.as_ref();
        let own = route.retries.as_ref().map(|retries| retries.model());
        let object = Some((&rule.object.meta, None));
        let own = Own { object, retry: own.as_ref(), per_try_timeout: None, timeout: route.timeout };
        let mut tries = self.defaults.of(own, &action, self.resolver);
        let said = route.retries.as_ref().and_then(|retries| retries.avoid_previous_hosts).or(self.avoid_of_mesh);
        if said.is_none() && self.is_sticky(&action) {
            tries.retry.avoid_previous_hosts = false;
        }
        let forwards = matches!(action, Action::Forward(_));
        Route {
            name: route_name(route, block),
            origin: Some(Arc::new(self.origin(rule))),
            matches,
            action,
            request_headers: edits(headers.map(|h| &h.request)),
            response_headers: edits(headers.map(|h| &h.response)),
            cors: route.cors.clone(),
            timeout: tries.timeout,
            retry: forwards.then_some(tries.retry),
            fault: route.fault.clone(),
            rate_limits: Vec::new(),
            body_limits: Default::default(),
            mirrors: mirrors.to_vec(),
        }
    }

    /// Whether the only destination is chosen by a hash: a retry stays with the host that it names, as in Istio.
    fn is_sticky(&self, action: &Action) -> bool {
        let Action::Forward(Forward { destinations, .. }) = action else { return false };
        let [only] = &**destinations else { return false };
        let Some((port, subset, host)) = only.cluster.outbound_parts() else { return false };
        self.resolver.registry.named(host).iter().any(|index| {
            let info = self.resolver.registry.at(*index);
            let rule = self.resolver.rules.find(info, self.resolver.client);
            let balancer = rule.and_then(|rule| rule.effective(rule.subset(subset), port).load_balancer);
            balancer.is_some_and(|b| matches!(b.policy, BalancePolicy::RingHash { .. } | BalancePolicy::Maglev { .. }))
        })
    }

    fn origin(&self, rule: &Rule) -> Origin {
        let meta = &rule.object.meta;
        Origin {
            kind: meta.kind.into(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            rule: rule.route.name.clone().unwrap_or_else(|| rule.index.to_string().into()),
            place: Some(meta.source.place(rule.pos)),
        }
    }

    fn mirrors(&self, rule: &Rule, port: u16) -> Vec<Mirror> {
        let route = &rule.route;
        let old = route.mirror_percent.or(route.mirror_percent_snake).map(|p| Percent { value: Some(p) });
        let single = route.mirror.as_ref().map(|d| (d, route.mirror_percentage.clone().or(old)));
        let several = route.mirrors.iter().map(|m| (&m.destination, m.percentage.clone()));
        let share = |percent: Option<Percent>| percent.map_or(outrigger_model::Fraction::ALL, |p| p.fraction());
        single
            .into_iter()
            .chain(several)
            .map(|(destination, percent)| {
                let resolved = self.resolver.destination(destination, &rule.object.meta, port);
                (resolved, share(percent))
            })
            .filter(|(resolved, share)| resolved.missing.is_none() && share.millionths() > 0)
            .map(|(resolved, share)| Mirror { cluster: resolved.cluster, share })
            .collect()
    }
}

fn route_name(route: &HttpRoute, block: &HttpMatch) -> Arc<str> {
    match (&route.name, &block.name) {
        (Some(route), Some(block)) => format!("{route}.{block}").into(),
        (Some(name), None) | (None, Some(name)) => name.clone(),
        (None, None) => "default".into(),
    }
}

fn route_match(block: &HttpMatch) -> RouteMatch {
    let path = match &block.uri {
        None => PathMatch::Any,
        Some(StringMatch::Exact(text)) => PathMatch::Exact(text.clone()),
        Some(StringMatch::Prefix(text)) => PathMatch::Prefix(text.clone()),
        Some(StringMatch::Regex(pattern)) => PathMatch::Regex(pattern.clone()),
    };
    RouteMatch {
        path,
        path_ignore_case: block.ignore_uri_case,
        method: block.method.clone(),
        scheme: block.scheme.clone(),
        authority: block.authority.clone(),
        headers: block.headers.clone(),
        query: block.query.clone(),
    }
}

/// The change of the path; a rule without `uri` matches the prefix `/`, as in Istio, and that is what `rewrite.uri`
/// replaces.
fn path_rewrite(route: &HttpRoute, matches: &mut RouteMatch) -> PathRewrite {
    let Some(rewrite) = &route.rewrite else { return PathRewrite::Keep };
    if let Some(regex) = &rewrite.regex {
        return PathRewrite::Regex { pattern: regex.pattern.clone(), substitution: regex.substitution.clone() };
    }
    let Some(uri) = &rewrite.uri else { return PathRewrite::Keep };
    if matches.path == PathMatch::Any {
        matches.path = PathMatch::Prefix("/".into());
    }
    match &matches.path {
        PathMatch::Prefix(_) | PathMatch::Any => PathRewrite::Prefix(uri.clone()),
        PathMatch::Exact(_) | PathMatch::Segments(_) | PathMatch::Regex(_) => PathRewrite::Full(uri.clone()),
    }
}
