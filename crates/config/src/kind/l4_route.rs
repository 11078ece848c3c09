//! `tls` and `tcp` of a VirtualService: where connections go that are not taken for HTTP.
//!
//! Structure only; which rules count for which port is decided in `translate`.

use std::sync::Arc;

use ipnet::IpNet;

use super::istio::Destination;
use super::virtual_service::Host;
use crate::codes;
use crate::decode::{Cx, clip};
use crate::hosts;
use crate::node::{Pos, Spanned};
use crate::object;
use crate::object::Labels;
use crate::scalar;

object! {
    /// One of `tls`.
    pub struct TlsRoute {
        /// `match`: blocks of which one must hold.
        pub matches: Vec<Spanned<TlsMatch>> = required "match",
        /// `route`.
        pub route: Vec<Spanned<WeightedDestination>> = or_default "route",
    }
    check check_tls
}

object! {
    /// One of `tls[].match`.
    pub struct TlsMatch {
        /// `sniHosts`: server names, perhaps wildcards.
        pub sni_hosts: Vec<Spanned<Host>> = required "sniHosts",
        /// `destinationSubnets`.
        pub destination_subnets: Vec<Spanned<IpNet>> = or_default "destinationSubnets",
        /// `port`.
        pub port: Option<u16> = with(scalar::port) "port",
        /// `sourceLabels`.
        pub source_labels: Labels = or_default "sourceLabels",
        /// `gateways`; empty for all of the rule's.
        pub gateways: Vec<Arc<str>> = or_default "gateways",
        /// `sourceNamespace`.
        pub source_namespace: Option<Arc<str>> = optional "sourceNamespace",
    }
}

object! {
    /// One of `tcp`.
    pub struct TcpRoute {
        /// `match`: blocks of which one must hold; empty matches everything.
        pub matches: Vec<Spanned<TcpMatch>> = or_default "match",
        /// `route`.
        pub route: Vec<Spanned<WeightedDestination>> = or_default "route",
    }
    check check_tcp
}

object! {
    /// One of `tcp[].match`.
    pub struct TcpMatch {
        /// `destinationSubnets`.
        pub destination_subnets: Vec<Spanned<IpNet>> = or_default "destinationSubnets",
        /// `port`.
        pub port: Option<u16> = with(scalar::port) "port",
        /// `sourceLabels`.
        pub source_labels: Labels = or_default "sourceLabels",
        /// `sourceSubnet`.
        pub source_subnet: Option<Spanned<IpNet>> = optional "sourceSubnet",
        /// `gateways`; empty for all of the rule's.
        pub gateways: Vec<Arc<str>> = or_default "gateways",
        /// `sourceNamespace`.
        pub source_namespace: Option<Arc<str>> = optional "sourceNamespace",
    }
}

object! {
    /// A destination of a `tls` or `tcp` rule.
    pub struct WeightedDestination {
        /// `destination`.
        pub destination: Destination = required "destination",
        /// `weight`, relative to the others.
        pub weight: u32 = or_default_with(scalar::within(0..=i32::MAX.into())) "weight",
    }
}

fn check_tls(rule: &TlsRoute, pos: Pos, cx: &mut Cx) {
    if rule.matches.is_empty() {
        cx.report(codes::SCHEMA, pos, "match: the list is empty, expected at least one block with `sniHosts`", "");
    }
    for (index, block) in rule.matches.iter().enumerate().filter(|(_, block)| block.sni_hosts.is_empty()) {
        let message = format!("match[{index}].sniHosts: the list is empty, expected at least one host");
        cx.report(codes::SCHEMA, block.pos, message, "");
    }
    check_destinations(&rule.route, pos, cx);
}

fn check_tcp(rule: &TcpRoute, pos: Pos, cx: &mut Cx) {
    check_destinations(&rule.route, pos, cx);
}

fn check_destinations(route: &[Spanned<WeightedDestination>], pos: Pos, cx: &mut Cx) {
    if route.is_empty() {
        cx.report(codes::SCHEMA, pos, "`route` is missing or empty, expected at least one destination", "");
    }
    check_weights(route.iter().map(|destination| destination.weight), pos, cx);
}

/// Reports weights that leave nothing to share out.
pub(super) fn check_weights(weights: impl ExactSizeIterator<Item = u32>, pos: Pos, cx: &mut Cx) {
    let several = weights.len() > 1;
    let sum: u64 = weights.map(u64::from).sum();
    if several && sum == 0 {
        let message = "all weights are zero or absent, so no destination gets a request";
        cx.report(codes::SCHEMA, pos, message, "give at least one destination a weight of 1 or more");
    }
    if sum > u64::from(u32::MAX) {
        cx.report(codes::SCHEMA, pos, format!("the weights add up to {sum}, expected at most {}", u32::MAX), "");
    }
}

/// Reports server names that are within none of the VirtualService's hosts.
pub(super) fn check_sni_hosts(rules: &[Spanned<Arc<TlsRoute>>], of: &[Spanned<Host>], cx: &mut Cx) {
    for (index, rule) in rules.iter().enumerate() {
        for sni in rule.matches.iter().flat_map(|block| &block.sni_hosts) {
            if !of.iter().any(|host| hosts::covers(&host.value.0, &sni.value.0)) {
                let all: Vec<&str> = of.iter().map(|host| &*host.value.0).collect();
                let message = format!(
                    "tls[{index}]: sniHosts: {:?} is within none of `hosts` ({})",
                    clip(&sni.value.0),
                    clip(&all.join(", "))
                );
                cx.report(codes::SCHEMA, sni.pos, message, "add it to `hosts`, or correct it");
            }
        }
    }
}
