//! Rules of HTTPRoutes and GRPCRoutes as routes of the model, for the listeners of Gateways and for Services of the mesh alike.
//!
//! [`HttpRouteBuilder::routes`] makes the routes of one object, each with its [`Rank`]; [`in_order`] merges those of all
//! objects that meet at one host. Which these are is decided elsewhere (`gateways`, `mesh_routes`): always of one kind.
//!
//! | of two matches | first | by |
//! |---|---|---|
//! | path | exact; the longer prefix; the longer regular expression; the prefix `/` | specification; regular expressions are the implementation's choice: behind `/` none would ever be met |
//! | method | with | specification |
//! | headers, then query parameters | more of them | specification |
//! | gRPC service, then method | with more characters; names before regular expressions | specification; regular expressions are the implementation's choice |
//! | HTTPRoute, GRPCRoute | the oldest, then by `namespace/name` | specification |
//! | rule, then match | in the order written | specification |
//!
//! Of identical matches only the first is kept, and the others are reported. A rule that sends to nobody, and the share of
//! a backend that is not there, get 500; so do rules with a filter that cannot be obeyed. With a GRPCRoute all of these get 503,
//! which a client of gRPC reads as `UNAVAILABLE`.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use outrigger_model::{
    Action, BackOff, ClusterName, Destination, Forward, Fraction, HeaderEdits, Mirror, Missing, Origin, PathMatch,
    RetryOn, RetryPolicy, Rewrite, Route, RouteMatch,
};

use super::backends::{Backends, Reason, RefProblem, Referring, Sent, nowhere_status};
use super::gateways::grants::Grants;
use super::resolve::{Resolved, Resolver};
use super::retries::{Defaults, Own};
use super::route_filters::{Effects, redirect};
use crate::codes;
use crate::kind::grpc_route::GRPC_ROUTE;
use crate::kind::http_route::{BackendRef, HttpRoute, HttpRouteRule, Retry};
use crate::kind::http_route_filter::{Filter, FilterType};
use crate::kind::http_route_match::HttpRouteMatch;
use crate::kind::linkerd::Of;
use crate::node::{Pos, Spanned};

/// What comes before what: the least rank is asked first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    path: (u8, Reverse<usize>, Reverse<usize>),
    method: Reverse<bool>,
    headers: Reverse<usize>,
    query: Reverse<usize>,
    /// Objects without creation time are not applied yet: they are the youngest.
    created: (bool, Option<Timestamp>),
    name: Arc<str>,
    rule: usize,
    block: usize,
}

impl Rank {
    fn of(object: &HttpRoute, name: &Arc<str>, (rule, at): (usize, usize), block: &HttpRouteMatch) -> Self {
        let path = match (&block.calls, &block.path) {
            (Some(calls), _) => (u8::from(!calls.exact), calls.service, calls.method),
            (None, PathMatch::Exact(_)) => (0, 0, 0),
            (None, PathMatch::Prefix(text) | PathMatch::Segments(text)) if !text.is_empty() => {
                (1, text.chars().count(), 0)
            }
            (None, PathMatch::Regex(pattern)) => (2, pattern.source().chars().count(), 0),
            (None, PathMatch::Prefix(_) | PathMatch::Segments(_) | PathMatch::Any) => (3, 0, 0),
        };
        Self {
            path: (path.0, Reverse(path.1), Reverse(path.2)),
            method: Reverse(block.method.is_some()),
            headers: Reverse(block.headers.len()),
            query: Reverse(block.query.len()),
            created: (object.meta.created.is_none(), object.meta.created),
            name: name.clone(),
            rule,
            block: at,
        }
    }
}

/// A route with its place among those of other objects.
#[derive(Clone, Debug)]
pub(crate) struct RankedRoute {
    rank: Rank,
    object: Arc<HttpRoute>,
    /// Where the match stands, else its rule.
    pos: Pos,
    route: Arc<Route>,
}

/// What an HTTPRoute or GRPCRoute comes to.
#[derive(Debug, Default)]
pub(crate) struct HttpRoutes {
    /// One for every match of every rule.
    pub(crate) routes: Vec<RankedRoute>,
    /// What its rules refer to and is not there.
    pub(crate) problems: Vec<RefProblem>,
}

/// Makes routes of HTTPRoutes and GRPCRoutes.
pub(crate) struct HttpRouteBuilder<'b> {
    backends: Backends<'b>,
    defaults: Defaults<'b>,
}

impl<'b> HttpRouteBuilder<'b> {
    /// For Gateways, whose routes may refer to other namespaces where a grant says so.
    pub(crate) fn of_gateway(resolver: &'b Resolver<'b>, grants: Grants<'b>, mesh: &'b RetryPolicy) -> Self {
        let backends = Backends { resolver, sent: Sent::Requests, grants: Some(grants) };
        Self { backends, defaults: Defaults::of_mesh(mesh) }
    }

    /// For Services of the mesh.
    pub(crate) fn of_mesh(resolver: &'b Resolver<'b>, defaults: Defaults<'b>) -> Self {
        Self { backends: Backends { resolver, sent: Sent::Requests, grants: None }, defaults }
    }

    /// The routes of an HTTPRoute or GRPCRoute; never none.
    pub(crate) fn routes(&self, object: &Arc<HttpRoute>) -> HttpRoutes {
        let mut out = HttpRoutes::default();
        let name: Arc<str> = format!("{}/{}", object.meta.namespace, object.meta.name).into();
        if object.spec.rules.is_empty() {
            let rule = Spanned { value: Arc::new(HttpRouteRule::default()), pos: object.meta.pos };
            self.rule(object, &name, 0, &rule, &mut out);
        }
        for (index, rule) in object.spec.rules.iter().enumerate() {
            self.rule(object, &name, index, rule, &mut out);
        }
        out
    }

    fn rule(
        &self,
        object: &Arc<HttpRoute>,
        name: &Arc<str>,
        index: usize,
        rule: &Spanned<Arc<HttpRouteRule>>,
        out: &mut HttpRoutes,
    ) {
        let template = self.template(object, index, rule, &mut out.problems);
        let everything = [Spanned { value: HttpRouteMatch::default(), pos: rule.pos }];
        let blocks = if rule.matches.is_empty() { &everything[..] } else { &rule.matches };
        for (at, block) in blocks.iter().enumerate() {
            out.routes.push(RankedRoute {
                rank: Rank::of(object, name, (index, at), block),
                object: object.clone(),
                pos: block.pos,
                route: Arc::new(Route { matches: route_match(block), ..template.clone() }),
            });
        }
    }

    /// The route of a rule but for its match.
    fn template(
        &self,
        object: &HttpRoute,
        index: usize,
        rule: &Spanned<Arc<HttpRouteRule>>,
        problems: &mut Vec<RefProblem>,
    ) -> Route {
        let from = Referring { meta: &object.meta, rule: index };
        let mut effects = Effects::of(&rule.filters);
        let action = match (effects.unsupported, effects.redirect) {
            (Some(filter), _) => nowhere(self.unsupported(from, filter, problems)),
            (None, Some(filter)) => Action::Redirect(redirect(filter)),
            (None, None) => self.forward(from, rule, &mut effects, problems),
        };
        let forwards = matches!(action, Action::Forward(_));
        let meta = &object.meta;
        let retry = rule.retry.as_ref().map(|retry| self.retry(retry));
        let own = Own {
            object: Some((meta, Some(if object.is_grpc() { Of::GrpcRoute } else { Of::HttpRoute }))),
            retry: retry.as_ref(),
            per_try_timeout: rule.timeouts.backend_request,
            timeout: rule.timeouts.request,
        };
        let tries = self.defaults.of(own, &action, self.backends.resolver);
        let origin = Origin {
            kind: meta.kind.into(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            rule: rule.name.clone().unwrap_or_else(|| index.to_string().into()),
            place: Some(meta.source.place(rule.pos)),
        };
        Route {
            name: rule.name.clone().unwrap_or_else(|| "default".into()),
            origin: Some(Arc::new(origin)),
            matches: RouteMatch::default(),
            action,
            mirrors: if forwards { self.mirrors(from, &effects, problems) } else { Vec::new() },
            request_headers: effects.request,
            response_headers: effects.response,
            cors: effects.cors.cloned(),
            timeout: tries.timeout,
            retry: forwards.then_some(tries.retry),
            fault: None,
            rate_limits: Vec::new(),
            body_limits: Default::default(),
        }
    }

    fn forward<'f>(
        &self,
        from: Referring<'_>,
        rule: &'f Spanned<Arc<HttpRouteRule>>,
        effects: &mut Effects<'f>,
        problems: &mut Vec<RefProblem>,
    ) -> Action {
        let resolved: Vec<(&Spanned<BackendRef>, Resolved)> =
            rule.backends.iter().map(|b| (b, self.backends.resolve(from, &b.target, problems))).collect();
        let mut sent: Vec<_> = resolved.into_iter().filter(|(backend, _)| backend.weight > 0).collect();
        let destinations = match &mut *sent {
            [] => return nowhere(self.nobody(from, rule)),
            [(backend, resolved)] => {
                // What is asked of the only backend can as well be asked of the rule.
                if resolved.missing.is_none() {
                    let own = Effects::of(&backend.filters);
                    resolved.missing = match own.unsupported {
                        Some(filter) => Some(self.unsupported(from, filter, problems)),
                        None => {
                            let clash = effects.absorb(own).err();
                            clash.map(|kind| self.clash(from, backend, kind, "the rule has one, too", problems))
                        }
                    };
                    if let (None, Some(filter)) = (&resolved.missing, effects.redirect) {
                        return Action::Redirect(redirect(filter));
                    }
                }
                vec![(destination(backend, resolved.clone()), Effects::default())]
            }
            several => several
                .iter_mut()
                .map(|(backend, resolved)| self.one_of_several(from, backend, resolved, problems))
                .collect(),
        };
        let rewrite = Rewrite { path: effects.path_rewrite(), authority: effects.authority.clone() };
        Action::Forward(push_down(Forward { destinations: Vec::new(), rewrite }, destinations, effects))
    }

    /// A destination with what is asked of it alone.
    fn one_of_several<'f>(
        &self,
        from: Referring<'_>,
        backend: &'f Spanned<BackendRef>,
        resolved: &mut Resolved,
        problems: &mut Vec<RefProblem>,
    ) -> (Destination, Effects<'f>) {
        let own = Effects::of(&backend.filters);
        if resolved.missing.is_none() {
            let one_of = "the rule has several backends";
            resolved.missing = match (own.unsupported, own.of_rules_only()) {
                (Some(filter), _) => Some(self.unsupported(from, filter, problems)),
                (None, Some(kind)) => Some(self.clash(from, backend, kind, one_of, problems)),
                (None, None) => None,
            };
            if let Some(mirror) = backend.filters.iter().find(|f| matches!(f.value, Filter::Mirror(_))) {
                let message = "a RequestMirror filter on one of several backends is not supported: nothing is copied";
                let hint = "put it into the rule's `filters`";
                self.backends.resolver.report(codes::NOT_ENFORCED.about(from.meta, mirror.pos, message, hint));
            }
        }
        (destination(backend, resolved.clone()), own)
    }

    /// Reports a filter that an implementation would bring, or that is not obeyed yet.
    fn unsupported(&self, from: Referring<'_>, filter: &Spanned<Filter>, problems: &mut Vec<RefProblem>) -> Missing {
        let status = nowhere_status(from.meta);
        let (reason, message, hint) = match &filter.value {
            Filter::Extension(extension) => (
                Reason::InvalidKind,
                format!(
                    "filter {} {} is of group {:?}, which brings no filters here; requests that meet it get {status}",
                    extension.kind, extension.name, extension.group
                ),
                "remove it, or use a filter of the Gateway API",
            ),
            other => (
                Reason::UnsupportedValue,
                format!("filter {} is not supported yet; requests that meet it get {status}", other.kind().as_str()),
                "remove it if the requests may pass without",
            ),
        };
        self.backends.report(from, filter.pos, reason, message, hint.to_owned(), problems)
    }

    /// Reports a filter of a backend that cannot stand there.
    fn clash(
        &self,
        from: Referring<'_>,
        backend: &Spanned<BackendRef>,
        kind: FilterType,
        why: &str,
        problems: &mut Vec<RefProblem>,
    ) -> Missing {
        let pos = backend.filters.iter().find(|f| f.kind() == kind).map_or(backend.pos, |f| f.pos);
        let message = format!(
            "filter {} of backend {} is not supported, because {why}; requests for that backend get {}",
            kind.as_str(),
            backend.target.name.value,
            nowhere_status(from.meta)
        );
        let hint = "put it into the `filters` of a rule of its own".to_owned();
        self.backends.report(from, pos, Reason::UnsupportedValue, message, hint, problems)
    }

    /// Reports a rule that sends to nobody.
    fn nobody(&self, from: Referring<'_>, rule: &Spanned<Arc<HttpRouteRule>>) -> Missing {
        let what = if rule.backends.is_empty() { "no `backendRefs`" } else { "only `backendRefs` with weight 0" };
        let status = nowhere_status(from.meta);
        let message = format!("rules[{}] has {what}: its requests get {status}", from.rule);
        let hint = if from.meta.kind == GRPC_ROUTE { "name a backend" } else { "name a backend, or redirect" };
        self.backends.resolver.report(codes::NO_BACKENDS.about(from.meta, rule.pos, message.clone(), hint));
        Missing { status, reason: message.into() }
    }

    fn mirrors(&self, from: Referring<'_>, effects: &Effects<'_>, problems: &mut Vec<RefProblem>) -> Vec<Mirror> {
        let mut mirrors = Vec::with_capacity(effects.mirrors.len());
        for mirror in &effects.mirrors {
            let resolved = self.backends.resolve(from, &mirror.backend, problems);
            let share: Fraction = mirror.share();
            if resolved.missing.is_none() && share.millionths() > 0 {
                mirrors.push(Mirror { cluster: resolved.cluster, share });
            }
        }
        mirrors
    }

    /// A policy of the route; the mesh's for what it leaves open.
    fn retry(&self, retry: &Retry) -> RetryPolicy {
        let mesh = self.defaults.mesh;
        // "Not retried before the configured minimum duration", and first about then.
        let back_off = retry.back_off.map_or(mesh.back_off, |min| BackOff { min, base: min, max: min * 10 });
        let status_codes: Vec<u16> =
            retry.codes.iter().map(|code| code.0).collect::<BTreeSet<_>>().into_iter().collect();
        // "Implementations SHOULD retry on connection errors (disconnect, reset, timeout, TCP failure)".
        let failures = RetryOn::CONNECT_FAILURE.and(RetryOn::REFUSED_STREAM).and(RetryOn::RESET);
        RetryPolicy {
            attempts: retry.attempts.unwrap_or(mesh.attempts.max(1)),
            per_try_timeout: None,
            retry_on: if status_codes.is_empty() { failures } else { failures.and(RetryOn::RETRIABLE_STATUS_CODES) },
            status_codes,
            back_off,
            ..mesh.clone()
        }
    }
}

/// Moves header operations and the authority from the rule to its destinations where one of these has some of its own:
/// the model applies those of a destination first, and the Gateway API last.
fn push_down(mut forward: Forward, parts: Vec<(Destination, Effects<'_>)>, rule: &mut Effects<'_>) -> Forward {
    let own = |has: fn(&Effects<'_>) -> bool| parts.iter().any(|(_, effects)| has(effects));
    let authority = own(|e| e.authority.is_some()).then(|| forward.rewrite.authority.take()).flatten();
    let request = own(|e| !e.request.is_empty()).then(|| std::mem::take(&mut rule.request));
    let response = own(|e| !e.response.is_empty()).then(|| std::mem::take(&mut rule.response));
    for (mut destination, effects) in parts {
        destination.authority = effects.authority.or_else(|| authority.clone());
        if let Some(request) = &request {
            destination.request_headers = super::route_filters::then(request, &effects.request);
        }
        if let Some(response) = &response {
            destination.response_headers = super::route_filters::then(response, &effects.response);
        }
        forward.destinations.push(destination);
    }
    forward
}

fn destination(backend: &BackendRef, resolved: Resolved) -> Destination {
    Destination {
        cluster: resolved.cluster,
        missing: resolved.missing,
        weight: backend.weight,
        authority: None,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
    }
}

/// Sends to nobody: every request is answered for.
fn nowhere(missing: Missing) -> Action {
    let destination = Destination {
        cluster: ClusterName::new(ClusterName::BLACK_HOLE),
        missing: Some(missing),
        weight: 1,
        authority: None,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
    };
    Action::Forward(Forward { destinations: vec![destination], rewrite: Rewrite::default() })
}

fn route_match(block: &HttpRouteMatch) -> RouteMatch {
    RouteMatch {
        path: block.path.clone(),
        method: block.method.clone(),
        headers: block.headers.clone(),
        query: block.query.clone(),
        ..RouteMatch::default()
    }
}

/// All routes of one host in the order in which they are asked. Of identical matches the first stays, and the others are
/// reported.
pub(crate) fn in_order(mut ranked: Vec<RankedRoute>, resolver: &Resolver<'_>) -> Vec<Arc<Route>> {
    ranked.sort_by(|a, b| a.rank.cmp(&b.rank));
    let mut seen: HashMap<Option<&str>, Vec<&RankedRoute>> = HashMap::new();
    let mut routes = Vec::with_capacity(ranked.len());
    for one in &ranked {
        let same_path = seen.entry(path_text(&one.route.matches)).or_default();
        match same_path.iter().find(|earlier| earlier.route.matches == one.route.matches) {
            Some(earlier) => report_twice(one, earlier, resolver),
            None => {
                same_path.push(one);
                routes.push(one.route.clone());
            }
        }
    }
    routes
}

fn path_text(matches: &RouteMatch) -> Option<&str> {
    match &matches.path {
        PathMatch::Any => None,
        PathMatch::Exact(text) | PathMatch::Prefix(text) | PathMatch::Segments(text) => Some(text),
        PathMatch::Regex(pattern) => Some(pattern.source()),
    }
}

fn report_twice(loser: &RankedRoute, winner: &RankedRoute, resolver: &Resolver<'_>) {
    let (meta, first) = (&loser.object.meta, &winner.object.meta);
    let owner = if Arc::ptr_eq(&loser.object, &winner.object) {
        format!("rules[{}]", winner.rank.rule)
    } else {
        format!("rules[{}] of {}", winner.rank.rule, first.object_ref())
    };
    let rule = loser.rank.rule;
    let what = match loser.object.spec.rules.get(rule) {
        Some(written) if !written.matches.is_empty() => format!("matches[{}] of rules[{rule}]", loser.rank.block),
        Some(_) | None => format!("rules[{rule}]"),
    };
    let place = first.source.place(winner.pos);
    let message = format!("{what} can never be reached: {owner} at {place} has the same match and comes first");
    let hint = "remove one of the two, or make them different";
    resolver.report(codes::UNREACHABLE_RULE.about(meta, loser.pos, message, hint));
}
