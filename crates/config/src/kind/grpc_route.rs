//! `GRPCRoute` of the Gateway API: rules for gRPC calls to the listeners of a Gateway, or to a Service of the mesh.
//!
//! A call is a request whose path is `/SERVICE/METHOD`, so a GRPCRoute is read into the form of an HTTPRoute
//! ([`HttpRoute`]), and everything behind treats both alike; where they differ (the order of rules, the answer where nobody
//! is sent to) `meta.kind` tells them apart. Matches are read in `grpc_route_match`.

use std::sync::Arc;

use super::gateway_refs::{self, BackendObjectRef, at_most};
use super::http_route::{
    BackendRef, HttpRoute, HttpRouteRule, HttpRouteSpec, check_rule, check_spec, default_gateways,
};
use super::istio::later;
use super::linkerd;
use super::resilience::check_repeats;
use crate::decode::{Cx, Decode, Fields};
use crate::node::{Node, Spanned};
use crate::object::{Metadata, Resource};
use crate::scalar;

/// A GRPCRoute.
#[derive(Clone, Debug)]
pub struct GrpcRoute {
    /// In the form of an HTTPRoute, whose `meta.kind` is `GRPCRoute`.
    pub route: Arc<HttpRoute>,
}

/// `kind` of its metadata.
pub const GRPC_ROUTE: &str = "GRPCRoute";

impl HttpRoute {
    /// Whether it is a GRPCRoute.
    pub fn is_grpc(&self) -> bool {
        self.meta.kind == GRPC_ROUTE
    }
}

/// The part of a GRPCRoute that becomes this part of an HTTPRoute.
pub(super) struct Grpc<T>(pub(super) T);

/// A list of them as that of an HTTPRoute.
fn plain<T>(items: Vec<Spanned<Grpc<T>>>) -> Vec<Spanned<T>> {
    items.into_iter().map(|item| Spanned { value: item.value.0, pos: item.pos }).collect()
}

impl Resource for GrpcRoute {
    fn decode_body(meta: Metadata, fields: &mut Fields<'_, '_>, cx: &mut Cx) -> Option<Self> {
        let spec: Option<Grpc<HttpRouteSpec>> = fields.required("spec", cx);
        fields.ignore(&["status"]);
        linkerd::check(&meta, linkerd::Of::GrpcRoute, cx);
        check_repeats(&meta, linkerd::may_repeat(&meta, linkerd::Of::GrpcRoute), cx);
        Some(Self { route: Arc::new(HttpRoute { meta, spec: spec?.0 }) })
    }

    fn meta(&self) -> &Metadata {
        &self.route.meta
    }
}

impl Decode for Grpc<HttpRouteSpec> {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let errors = cx.errors();
        let mut fields = Fields::of(node, cx)?;
        let rules: Vec<Spanned<Grpc<HttpRouteRule>>> = fields.or_default_with("rules", cx, at_most(16));
        let spec = HttpRouteSpec {
            parents: fields.or_default_with("parentRefs", cx, at_most(32)),
            default_gateways: fields.with("useDefaultGateways", cx, default_gateways),
            hostnames: fields.or_default_with("hostnames", cx, at_most(16)),
            rules: plain(rules).into_iter().map(|r| Spanned { value: Arc::new(r.value), pos: r.pos }).collect(),
        };
        fields.finish(cx);
        if cx.errors() == errors {
            check_spec(&spec, node.pos, cx);
        }
        Some(Self(spec))
    }
}

impl Decode for Grpc<HttpRouteRule> {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let errors = cx.errors();
        let mut fields = Fields::of(node, cx)?;
        let rule = HttpRouteRule {
            name: fields.with("name", cx, gateway_refs::section_name),
            matches: plain(fields.or_default_with("matches", cx, at_most(64))),
            filters: plain(fields.or_default_with("filters", cx, at_most(16))),
            backends: plain(fields.or_default_with("backendRefs", cx, at_most(16))),
            session_persistence: fields.with("sessionPersistence", cx, later),
            ..HttpRouteRule::default()
        };
        fields.finish(cx);
        if cx.errors() == errors {
            check_rule(&rule, node.pos, cx);
        }
        Some(Self(rule))
    }
}

impl Decode for Grpc<BackendRef> {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let mut fields = Fields::of(node, cx)?;
        let target = BackendObjectRef::take(&mut fields, cx);
        let weight = fields.with("weight", cx, scalar::within(0..=1_000_000)).unwrap_or(1);
        let filters = plain(fields.or_default_with("filters", cx, at_most(16)));
        fields.finish(cx);
        Some(Self(BackendRef { target: target?, weight, filters }))
    }
}
