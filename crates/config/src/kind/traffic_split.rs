//! SMI `TrafficSplit`, v1alpha1 to v1alpha4: the traffic of a root service divided among services of its namespace.
//!
//! Weights are Kubernetes quantities in v1alpha1 and whole numbers since; a whole number is a quantity too, and only the
//! ratio counts, so all versions are read alike.

use std::sync::Arc;

use super::istio::spanned;
use crate::address;
use crate::choices;
use crate::codes;
use crate::decode::{Cx, Decode, clip};
use crate::node::{Node, Pos, Spanned};
use crate::object;
use crate::quantity::Quantity;
use crate::scalar;

object! {
    /// A TrafficSplit.
    pub resource struct TrafficSplit {
        /// `spec`.
        pub spec: TrafficSplitSpec = required "spec",
    }
    ignore ["status"]
}

object! {
    /// `spec`.
    pub struct TrafficSplitSpec {
        /// `service`: the root, by name or full name.
        pub service: Spanned<Arc<str>> = required_with(spanned(address::host)) "service",
        /// `backends`.
        pub backends: Vec<Spanned<Backend>> = required "backends",
        /// `matches`: route groups; the split counts only for requests that match one of them.
        pub matches: Vec<Spanned<GroupRef>> = or_default "matches",
    }
    check check_spec
}

object! {
    /// One of `backends`.
    pub struct Backend {
        /// `service`.
        pub service: Spanned<Arc<str>> = required_with(spanned(address::host)) "service",
        /// `weight`, in thousandths.
        pub weight_milli: u64 = required_with(weight) "weight",
    }
}

/// A quantity that is not negative, in thousandths.
fn weight(node: &Node<'_>, cx: &mut Cx) -> Option<u64> {
    // 2^40 whole units keep every sum of backends within 64 bits.
    const UNITS_MAX: u64 = 1 << 40;
    let milli = Quantity::decode(node, cx)?.milli();
    let milli = u64::try_from(milli).ok().filter(|m| *m <= UNITS_MAX * 1000);
    if milli.is_none() {
        cx.mismatch(node, "a weight of 0 or more, such as `90`, `500m` or `1`");
    }
    milli
}

choices! {
    /// `matches[].kind`.
    pub enum GroupKind {
        /// An HTTPRouteGroup.
        HttpRouteGroup = "HTTPRouteGroup",
    }
}

object! {
    /// One of `matches`.
    pub struct GroupRef {
        /// `kind`.
        pub kind: GroupKind = required "kind",
        /// `name`.
        pub name: Arc<str> = required_with(scalar::non_empty) "name",
    }
    ignore ["apiGroup"]
}

fn check_spec(spec: &TrafficSplitSpec, pos: Pos, cx: &mut Cx) {
    if spec.backends.is_empty() {
        cx.report(codes::SCHEMA, pos, "backends: the list is empty, expected at least one", "");
    } else if spec.backends.iter().all(|b| b.weight_milli == 0) {
        let message = "backends: all weights are zero, so no backend gets a request";
        cx.report(codes::SCHEMA, pos, message, "give at least one backend a weight above 0");
    }
    for (index, backend) in spec.backends.iter().enumerate() {
        if spec.backends[..index].iter().any(|b| b.service.value == backend.service.value) {
            let message = format!("backends[{index}].service: {:?} is named twice", clip(&backend.service));
            cx.report(codes::SCHEMA, backend.service.pos, message, "give each backend one weight");
        }
    }
}
