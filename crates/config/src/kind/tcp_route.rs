//! `TCPRoute` of the Gateway API: where connections to a port go; and the rules that TLSRoutes have in the same form.
//!
//! What the API server refuses is refused here, with the place. Where a route is attached and what its references lead to is
//! decided in `translate`.

use std::sync::Arc;

use super::gateway_refs::{self, BackendObjectRef, ParentRef, at_most, check_parents};
use super::http_route::{DefaultGateways, default_gateways};
use crate::codes;
use crate::decode::{Cx, Decode, Fields, clip};
use crate::node::{Node, Pos, Spanned};
use crate::object;
use crate::object::Metadata;
use crate::scalar;

object! {
    /// A TCPRoute.
    pub resource struct TcpRoute {
        /// `spec`.
        pub spec: TcpRouteSpec = required "spec",
    }
    ignore ["status"]
    check check_route
}

object! {
    /// `spec`.
    pub struct TcpRouteSpec {
        /// `parentRefs`: Gateways, their ListenerSets, or Services.
        pub parents: Vec<Spanned<ParentRef>> = or_default_with(at_most(32)) "parentRefs",
        /// `useDefaultGateways`.
        pub default_gateways: Option<DefaultGateways> = with(default_gateways) "useDefaultGateways",
        /// `rules`: at least one; all connections go by the first.
        pub rules: Vec<Spanned<Arc<ConnectionRule>>> = required_with(some_of(16)) "rules",
    }
    check check_spec
}

object! {
    /// One of `rules` of a TCPRoute or TLSRoute.
    pub struct ConnectionRule {
        /// `name`.
        pub name: Option<Arc<str>> = with(gateway_refs::section_name) "name",
        /// `backendRefs`.
        pub backends: Vec<Spanned<ConnectionBackend>> = required_with(some_of(16)) "backendRefs",
    }
}

/// One of `backendRefs` of such a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionBackend {
    /// What it names.
    pub target: BackendObjectRef,
    /// `weight`, 1 when absent; 0 gets nothing.
    pub weight: u32,
}

impl Decode for ConnectionBackend {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let mut fields = Fields::of(node, cx)?;
        let target = BackendObjectRef::take(&mut fields, cx);
        let weight = fields.with("weight", cx, scalar::within(0..=1_000_000)).unwrap_or(1);
        fields.finish(cx);
        Some(Self { target: target?, weight })
    }
}

/// A list that is neither empty nor longer than the API server would take.
pub(super) fn some_of<T: Decode>(max: usize) -> impl FnOnce(&Node<'_>, &mut Cx) -> Option<Vec<T>> {
    move |node, cx| {
        if node.items().is_some_and(<[_]>::is_empty) {
            cx.report(codes::SCHEMA, node.pos, "the list is empty, expected at least one item", "");
        }
        at_most(max)(node, cx)
    }
}

fn check_route(route: &TcpRoute, _: Pos, cx: &mut Cx) {
    check_rules(&route.meta, &route.spec.rules, cx);
}

fn check_spec(spec: &TcpRouteSpec, _: Pos, cx: &mut Cx) {
    cx.within("parentRefs", |cx| check_parents(&spec.parents, cx));
}

/// Reports rules of one name, and a second rule where the version allows but one.
pub(super) fn check_rules(meta: &Metadata, rules: &[Spanned<Arc<ConnectionRule>>], cx: &mut Cx) {
    let only_one = !meta.api_version.ends_with("/v1alpha2");
    let path = |index: usize| format!("spec.rules[{index}]");
    for (index, rule) in rules.iter().enumerate().skip(1) {
        if only_one {
            let message = format!("{}: a second rule, expected exactly one in {}", path(index), meta.api_version);
            cx.report(codes::SCHEMA, rule.pos, message, "put all backends into the first rule, with weights");
        } else if let Some(name) = &rule.name
            && rules[..index].iter().any(|earlier| earlier.name.as_ref() == Some(name))
        {
            let message = format!("{}: the name {:?} is that of an earlier rule", path(index), clip(name));
            cx.report(codes::SCHEMA, rule.pos, message, "give each rule a name of its own");
        }
    }
}
