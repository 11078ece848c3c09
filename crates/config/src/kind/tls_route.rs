//! `TLSRoute` of the Gateway API: where connections go by the server name in the client's hello.
//!
//! What the API server refuses is refused here, with the place. Where a route is attached and what its references lead to is
//! decided in `translate`.

use std::net::IpAddr;
use std::sync::Arc;

use super::gateway_refs::{ParentRef, at_most, check_parents};
use super::http_route::{DefaultGateways, Hostname, default_gateways};
use super::tcp_route::{ConnectionRule, check_rules, some_of};
use crate::codes;
use crate::decode::{Cx, clip};
use crate::node::{Pos, Spanned};
use crate::object;

object! {
    /// A TLSRoute.
    pub resource struct TlsRoute {
        /// `spec`.
        pub spec: TlsRouteSpec = required "spec",
    }
    ignore ["status"]
    check check_route
}

object! {
    /// `spec`.
    pub struct TlsRouteSpec {
        /// `parentRefs`: Gateways, their ListenerSets, or Services.
        pub parents: Vec<Spanned<ParentRef>> = or_default_with(at_most(32)) "parentRefs",
        /// `useDefaultGateways`.
        pub default_gateways: Option<DefaultGateways> = with(default_gateways) "useDefaultGateways",
        /// `hostnames`: server names; empty, as only v1alpha2 has it, takes those of the listener.
        pub hostnames: Vec<Spanned<Hostname>> = or_default_with(at_most(1024)) "hostnames",
        /// `rules`: at least one; all connections go by the first.
        pub rules: Vec<Spanned<Arc<ConnectionRule>>> = required_with(some_of(16)) "rules",
    }
    check check_spec
}

fn check_spec(spec: &TlsRouteSpec, _: Pos, cx: &mut Cx) {
    cx.within("parentRefs", |cx| check_parents(&spec.parents, cx));
}

fn check_route(route: &TlsRoute, pos: Pos, cx: &mut Cx) {
    check_rules(&route.meta, &route.spec.rules, cx);
    if route.meta.api_version.ends_with("/v1alpha2") {
        return;
    }
    if route.spec.hostnames.is_empty() {
        let message = format!("spec.hostnames: found none, expected at least one in {}", route.meta.api_version);
        cx.report(codes::SCHEMA, pos, message, "name the server names that the route is for");
    }
    for (index, host) in route.spec.hostnames.iter().enumerate() {
        if host.0.parse::<IpAddr>().is_ok() {
            let name = clip(&host.0);
            let message = format!("spec.hostnames[{index}]: found the address {name:?}, expected a host name");
            cx.report(
                codes::SCHEMA,
                host.pos,
                message,
                "clients name hosts in their hello, never addresses (RFC 6066)",
            );
        }
    }
}
