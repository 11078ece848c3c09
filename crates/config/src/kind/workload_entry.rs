//! Istio `WorkloadEntry`: one instance outside Kubernetes, or a Kubernetes one named by hand.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::istio::{Unmodelled, spanned};
use crate::address::is_host;
use crate::codes;
use crate::decode::{Cx, Decode, clip};
use crate::node::{Node, Pos, Spanned};
use crate::object;
use crate::object::Labels;
use crate::scalar;

object! {
    /// A WorkloadEntry.
    pub resource struct WorkloadEntry {
        /// `spec`.
        pub spec: WorkloadEntrySpec = required "spec",
    }
    ignore ["status"]
}

object! {
    /// `spec`; also an item of `ServiceEntry.spec.endpoints` and the template of a WorkloadGroup.
    pub struct WorkloadEntrySpec {
        /// `address`: an IP, a DNS name, or `unix://PATH`.
        pub address: Option<Spanned<Arc<str>>> = with(spanned(scalar::non_empty)) "address",
        /// `ports`: by name, the port this instance listens on.
        pub ports: BTreeMap<Arc<str>, Port> = or_default "ports",
        /// `labels`.
        pub labels: Labels = or_default "labels",
        /// `network`.
        pub network: Option<Unmodelled> = with(network) "network",
        /// `locality`: `region/zone/subzone`.
        pub locality: Option<Arc<str>> = optional "locality",
        /// `weight`; 0 counts as absent.
        pub weight: Option<u32> = with(scalar::u32_or_string) "weight",
        /// `serviceAccount`.
        pub service_account: Option<Arc<str>> = optional "serviceAccount",
    }
    check check_spec
}

/// A port from 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port(pub u16);

impl Decode for Port {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        scalar::port(node, cx).map(Self)
    }
}

/// The empty network is the one everything is in.
fn network(node: &Node<'_>, cx: &mut Cx) -> Option<Unmodelled> {
    if node.scalar().is_some_and(|s| s.text.is_empty()) { None } else { Unmodelled::decode(node, cx) }
}

fn check_spec(spec: &WorkloadEntrySpec, pos: Pos, cx: &mut Cx) {
    let Some(address) = &spec.address else { return };
    let Some(path) = address.strip_prefix("unix://") else {
        let name = address.strip_suffix('.').unwrap_or(address);
        if address.parse::<IpAddr>().is_err() && !is_host(name) {
            let message =
                format!("address: found {:?}, expected an IP address, a host name or `unix://PATH`", clip(address));
            cx.report(codes::SCHEMA, address.pos, message, "");
        }
        return;
    };
    if !path.starts_with(['/', '@']) {
        let message = format!("address: found {:?}, expected an absolute path after `unix://`", clip(address));
        cx.report(codes::SCHEMA, address.pos, message, "");
    }
    if !spec.ports.is_empty() {
        cx.report(codes::SCHEMA, pos, "`ports` and a `unix://` address are both given; a socket has no ports", "");
    }
}
