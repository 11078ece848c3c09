//! Filters of a GRPCRoute: some of those of an HTTPRoute, with the same fields.

use super::grpc_route::Grpc;
use super::http_route_filter::{Filter, FilterType, common, only};
use crate::choices;
use crate::decode::{Cx, Decode, Fields};
use crate::node::Node;

choices! {
    /// `type` of a filter of a GRPCRoute.
    pub enum GrpcFilterType {
        /// RequestHeaderModifier.
        RequestHeaderModifier = "RequestHeaderModifier",
        /// ResponseHeaderModifier.
        ResponseHeaderModifier = "ResponseHeaderModifier",
        /// RequestMirror.
        RequestMirror = "RequestMirror",
        /// ExtensionRef.
        ExtensionRef = "ExtensionRef",
    }
}

impl Decode for Grpc<Filter> {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let mut fields = Fields::of(node, cx)?;
        let kind = fields.required("type", cx).map(|kind: GrpcFilterType| match kind {
            GrpcFilterType::RequestHeaderModifier => FilterType::RequestHeaderModifier,
            GrpcFilterType::ResponseHeaderModifier => FilterType::ResponseHeaderModifier,
            GrpcFilterType::RequestMirror => FilterType::RequestMirror,
            GrpcFilterType::ExtensionRef => FilterType::ExtensionRef,
        });
        let found = common(&mut fields, cx);
        let own = only(kind, found, &mut fields, cx);
        fields.finish(cx);
        own.map(Self)
    }
}
