//! The annotation of Gateways that has their ports take headers of the PROXY protocol.
//!
//! Istio's `gatewayTopology.proxyProtocol` believes whoever reaches the port; ours names who is believed. It is judged
//! where a Gateway is read, so that one with a slip in it leaves the last good one in force.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use outrigger_model::Network;

use crate::codes;
use crate::decode::{Cx, clip};
use crate::object::Metadata;

/// The annotation: networks, separated by commas.
pub const ANNOTATION: &str = "outrigger.dev/proxy-protocol";

/// Judges the annotation of an object.
pub(crate) fn check(meta: &Metadata, cx: &mut Cx) {
    let Some(annotation) = meta.annotations.get(ANNOTATION) else { return };
    let wrong = annotation.value.split(',').find(|word| network(word).is_none());
    if let Some(word) = wrong {
        let message = format!(
            "metadata.annotations[{ANNOTATION}]: found {:?}, expected networks separated by commas",
            clip(word.trim())
        );
        let hint = "name who may send PROXY headers: `10.0.0.0/8, 127.0.0.1`";
        cx.report(codes::SCHEMA, annotation.pos, message, hint);
    }
}

/// Who may begin connections with a header, and has to; `None`: nobody.
pub(crate) fn trusted(meta: &Metadata) -> Option<Arc<[Network]>> {
    Some(meta.annotation(ANNOTATION)?.split(',').filter_map(network).collect())
}

/// A network; a bare address is a network of one.
fn network(word: &str) -> Option<Network> {
    let word = word.trim();
    let net = word.parse::<IpNet>().ok().or_else(|| word.parse::<IpAddr>().ok().map(IpNet::from))?;
    Some(Network { address: net.network(), prefix: net.prefix_len() })
}
