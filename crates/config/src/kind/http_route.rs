//! `HTTPRoute` of the Gateway API: rules for requests to the listeners of a Gateway, or to a Service of the mesh.
//!
//! What the API server refuses (the schema's bounds and its CEL rules) is refused here, with the place. Where a route is
//! attached and what its references lead to is decided in `translate`; matches are read in
//! `http_route_match`, filters in `http_route_filter`.

use std::sync::Arc;
use std::time::Duration;

use outrigger_model::PathMatch;

use super::gateway_refs::{self, BackendObjectRef, ParentRef, at_most, check_parents, distinct};
use super::http_route_filter::{Filter, check_filters};
use super::http_route_match::HttpRouteMatch;
use super::istio::{header_name, later, report_later};
use super::linkerd;
use super::resilience::check_repeats;
use crate::choices;
use crate::codes;
use crate::decode::{Cx, Decode, Fields, clip};
use crate::node::{Node, Pos, Spanned};
use crate::object;
use crate::scalar;

object! {
    /// An HTTPRoute.
    pub resource struct HttpRoute {
        /// `spec`.
        pub spec: HttpRouteSpec = required "spec",
    }
    ignore ["status"]
    check check_route
}

fn check_route(route: &HttpRoute, _: Pos, cx: &mut Cx) {
    linkerd::check(&route.meta, linkerd::Of::HttpRoute, cx);
    let retries = route.spec.rules.iter().enumerate().filter_map(|(index, rule)| {
        let retry = rule.retry.as_ref()?;
        Some((format!("spec.rules[{index}].retry"), retry.pos))
    });
    let annotated = linkerd::may_repeat(&route.meta, linkerd::Of::HttpRoute);
    check_repeats(&route.meta, retries.chain(annotated).next(), cx);
}

object! {
    /// `spec`.
    pub struct HttpRouteSpec {
        /// `parentRefs`: Gateways, their ListenerSets, or Services.
        pub parents: Vec<Spanned<ParentRef>> = or_default_with(at_most(32)) "parentRefs",
        /// `useDefaultGateways`.
        pub default_gateways: Option<DefaultGateways> = with(default_gateways) "useDefaultGateways",
        /// `hostnames`; empty takes those of the listener. Without meaning for a Service.
        pub hostnames: Vec<Spanned<Hostname>> = or_default_with(at_most(16)) "hostnames",
        /// `rules`; one that matches everything when absent.
        pub rules: Vec<Spanned<Arc<HttpRouteRule>>> = or_default_with(rules) "rules",
    }
    check check_spec
}

choices! {
    /// `useDefaultGateways`.
    pub enum DefaultGateways {
        /// Attach to every default Gateway.
        All = "All",
        /// To none, as when absent.
        None = "None",
    }
}

pub(super) fn default_gateways(node: &Node<'_>, cx: &mut Cx) -> Option<DefaultGateways> {
    let chosen = DefaultGateways::decode(node, cx)?;
    if chosen == DefaultGateways::All {
        report_later(node, cx);
    }
    Some(chosen)
}

/// One of `hostnames`: a name in lower case, perhaps with `*` as its first label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hostname(pub Arc<str>);

impl Decode for Hostname {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        gateway_refs::hostname(node, cx).map(Self)
    }
}

fn rules(node: &Node<'_>, cx: &mut Cx) -> Option<Vec<Spanned<Arc<HttpRouteRule>>>> {
    if node.items().is_some_and(<[_]>::is_empty) {
        cx.mismatch(node, "at least one rule");
    }
    at_most(16)(node, cx)
}

pub(super) fn check_spec(spec: &HttpRouteSpec, pos: Pos, cx: &mut Cx) {
    const MATCHES_MAX: usize = 128;
    cx.within("parentRefs", |cx| check_parents(&spec.parents, cx));
    let matches: usize = spec.rules.iter().map(|rule| rule.matches.len()).sum();
    cx.within("rules", |cx| {
        if matches > MATCHES_MAX {
            let message = format!("found {matches} matches in all rules, expected at most {MATCHES_MAX}");
            cx.report(codes::SCHEMA, pos, message, "spread them over several routes");
        }
        for (index, rule) in spec.rules.iter().enumerate() {
            let Some(name) = &rule.name else { continue };
            if spec.rules[..index].iter().any(|earlier| earlier.name.as_ref() == Some(name)) {
                let message = format!("the name {:?} is that of an earlier rule", clip(name));
                let hint = "give each rule a name of its own";
                cx.at_index(index, |cx| cx.report(codes::SCHEMA, rule.pos, message, hint));
            }
        }
    });
}

object! {
    /// One of `rules`.
    #[derive(Default)]
    pub struct HttpRouteRule {
        /// `name`.
        pub name: Option<Arc<str>> = with(gateway_refs::section_name) "name",
        /// `matches`, of which one must hold; empty matches everything.
        pub matches: Vec<Spanned<HttpRouteMatch>> = or_default_with(at_most(64)) "matches",
        /// `filters`.
        pub filters: Vec<Spanned<Filter>> = or_default_with(at_most(16)) "filters",
        /// `backendRefs`.
        pub backends: Vec<Spanned<BackendRef>> = or_default_with(at_most(16)) "backendRefs",
        /// `timeouts`.
        pub timeouts: Timeouts = or_default "timeouts",
        /// `retry`.
        pub retry: Option<Spanned<Retry>> = optional "retry",
        /// `sessionPersistence`.
        pub session_persistence: Option<SessionPersistence> = with(later) "sessionPersistence",
    }
    check check_rule
}

pub(super) fn check_rule(rule: &HttpRouteRule, _: Pos, cx: &mut Cx) {
    let by_prefix = rule.is_one_prefix();
    cx.within("filters", |cx| check_list(&rule.filters, by_prefix, cx));
    for (index, backend) in rule.backends.iter().enumerate() {
        let check = |cx: &mut Cx| cx.within("filters", |cx| check_list(&backend.filters, by_prefix, cx));
        cx.within("backendRefs", |cx| cx.at_index(index, check));
    }
    let redirect = rule.filters.iter().find(|f| matches!(f.value, Filter::Redirect(_)));
    if let Some(redirect) = redirect
        && !rule.backends.is_empty()
    {
        let message = "`backendRefs` and a RequestRedirect filter are given together: nothing is sent on";
        cx.report(codes::SCHEMA, redirect.pos, message, "remove one of the two");
    }
}

/// The filters of a rule or backend; `by_prefix`: whether its requests have a matched prefix.
fn check_list(filters: &[Spanned<Filter>], by_prefix: bool, cx: &mut Cx) {
    check_filters(filters, cx);
    for (index, filter) in filters.iter().enumerate().filter(|(_, f)| !by_prefix && f.replaced_prefix().is_some()) {
        let message = "`replacePrefixMatch` needs a rule with exactly one match, of type PathPrefix";
        let hint = "give each prefix a rule of its own, or use `replaceFullPath`";
        cx.at_index(index, |cx| cx.report(codes::SCHEMA, filter.pos, message, hint));
    }
}

impl HttpRouteRule {
    /// Whether there is one match, and that of a prefix: what `replacePrefixMatch` needs.
    fn is_one_prefix(&self) -> bool {
        match &*self.matches {
            [] => true,
            [only] => matches!(only.path, PathMatch::Segments(_)),
            _ => false,
        }
    }
}

/// One of `backendRefs`.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendRef {
    /// What it names.
    pub target: BackendObjectRef,
    /// `weight`, 1 when absent; 0 gets nothing.
    pub weight: u32,
    /// `filters`.
    pub filters: Vec<Spanned<Filter>>,
}

impl Decode for BackendRef {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let mut fields = Fields::of(node, cx)?;
        let target = BackendObjectRef::take(&mut fields, cx);
        let weight = fields.with("weight", cx, scalar::within(0..=1_000_000)).unwrap_or(1);
        let filters = fields.or_default_with("filters", cx, at_most(16));
        fields.finish(cx);
        Some(Self { target: target?, weight, filters })
    }
}

object! {
    /// `timeouts`; zero is off.
    #[derive(Default)]
    pub struct Timeouts {
        /// `request`: of the whole exchange.
        pub request: Option<Duration> = with(gateway_refs::duration) "request",
        /// `backendRequest`: of one try.
        pub backend_request: Option<Duration> = with(gateway_refs::duration) "backendRequest",
    }
    check check_timeouts
}

fn check_timeouts(timeouts: &Timeouts, pos: Pos, cx: &mut Cx) {
    if let (Some(request), Some(backend)) = (timeouts.request, timeouts.backend_request)
        && !request.is_zero()
        && backend > request
    {
        let message = format!("`backendRequest` ({backend:?}) is longer than `request` ({request:?})");
        cx.report(codes::SCHEMA, pos, message, "the time for one try is part of the time for the request");
    }
}

object! {
    /// `retry`: failures without an answer are tried again, too.
    pub struct Retry {
        /// `codes` of answers that are tried again; only these.
        pub codes: Vec<RetryCode> = or_default_with(distinct(200)) "codes",
        /// `attempts` after the first; absent: as many as the mesh's policy has, and at least one.
        pub attempts: Option<u32> = with(scalar::within(1..=i32::MAX.into())) "attempts",
        /// `backoff`: the least time between two of them, and a tenth of the longest; absent: the mesh's.
        pub back_off: Option<Duration> = with(gateway_refs::duration) "backoff",
    }
}

/// One of `retry.codes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryCode(pub u16);

impl Decode for RetryCode {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        scalar::within(400..=599)(node, cx).map(Self)
    }
}

choices! {
    /// `sessionPersistence.type`.
    pub enum SessionType {
        /// By cookie.
        Cookie = "Cookie",
        /// By header.
        Header = "Header",
    }
}

choices! {
    /// `sessionPersistence.cookie.lifetimeType`.
    pub enum LifetimeType {
        /// Until `absoluteTimeout`.
        Permanent = "Permanent",
        /// Until the browser ends.
        Session = "Session",
    }
}

object! {
    /// `sessionPersistence`.
    pub struct SessionPersistence {
        /// `type`.
        pub kind: SessionType = or(SessionType::Cookie) "type",
        /// `absoluteTimeout`.
        pub absolute_timeout: Option<Duration> = with(gateway_refs::duration) "absoluteTimeout",
        /// `cookie`.
        pub cookie: Option<SessionCookie> = optional "cookie",
        /// `header`.
        pub header: Option<SessionHeader> = optional "header",
    }
    check check_session
}

object! {
    /// `sessionPersistence.cookie`.
    pub struct SessionCookie {
        /// `name`.
        pub name: Option<Arc<str>> = with(token) "name",
        /// `path`.
        pub path: Option<Arc<str>> = optional "path",
        /// `lifetimeType`.
        pub lifetime: LifetimeType = or(LifetimeType::Session) "lifetimeType",
    }
}

object! {
    /// `sessionPersistence.header`.
    pub struct SessionHeader {
        /// `name`.
        pub name: Arc<str> = required_with(token) "name",
    }
}

fn token(node: &Node<'_>, cx: &mut Cx) -> Option<Arc<str>> {
    let text = scalar::non_empty(node, cx)?;
    header_name(&text, node.pos, cx).map(|_| text)
}

fn check_session(session: &SessionPersistence, pos: Pos, cx: &mut Cx) {
    let permanent = session.cookie.as_ref().is_some_and(|c| c.lifetime == LifetimeType::Permanent);
    let fault = match session.kind {
        _ if permanent && session.absolute_timeout.is_none() => "a cookie that is `Permanent` needs `absoluteTimeout`",
        SessionType::Cookie if session.cookie.is_none() => "required field `cookie` is missing for type `Cookie`",
        SessionType::Cookie if session.header.is_some() => "`header` is given, and the type is `Cookie`",
        SessionType::Header if session.header.is_none() => "required field `header` is missing for type `Header`",
        SessionType::Header if session.cookie.is_some() => "`cookie` is given, and the type is `Header`",
        _ => return,
    };
    cx.report(codes::SCHEMA, pos, fault, "");
}
