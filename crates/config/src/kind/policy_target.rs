//! `targetRefs` of our own policies: direct attachment as the Gateway API's GEP-713 has it.
//!
//! A policy and its targets live in one namespace, so that a reference has none. What the references lead to is the
//! translation's business.

use std::sync::Arc;

use super::gateway_refs::{group, kind_name, object_name, section_name};
use super::istio::spanned;
use crate::address::is_host;
use crate::codes;
use crate::decode::{Cx, Fields, clip, nearest};
use crate::node::{Node, Spanned};
use crate::scalar;

/// Targets of one policy at most, as in policies of the Gateway API.
const TARGETS_MAX: usize = 16;

/// A kind that a policy may be attached to.
#[derive(Debug, PartialEq, Eq)]
pub struct TargetKind {
    /// Its group; empty for the core API.
    pub group: &'static str,
    /// Its name.
    pub kind: &'static str,
}

/// `Service`.
pub const SERVICE: TargetKind = TargetKind { group: "", kind: "Service" };
/// `ServiceEntry` of Istio.
pub const SERVICE_ENTRY: TargetKind = TargetKind { group: "networking.istio.io", kind: "ServiceEntry" };
/// `HTTPRoute`.
pub const HTTP_ROUTE: TargetKind = TargetKind { group: "gateway.networking.k8s.io", kind: "HTTPRoute" };
/// `GRPCRoute`.
pub const GRPC_ROUTE: TargetKind = TargetKind { group: "gateway.networking.k8s.io", kind: "GRPCRoute" };
/// `VirtualService` of Istio.
pub const VIRTUAL_SERVICE: TargetKind = TargetKind { group: "networking.istio.io", kind: "VirtualService" };

/// One of `targetRefs`.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetRef {
    /// What is named.
    pub kind: &'static TargetKind,
    /// `name`.
    pub name: Spanned<Arc<str>>,
    /// `sectionName`: the name of a port, or of a rule.
    pub section: Option<Spanned<Arc<str>>>,
    /// `subset` of the DestinationRule for the target, where the policy can be for one.
    pub subset: Option<Spanned<Arc<str>>>,
}

/// `required_with(targets(KINDS, …))`: references to objects of these kinds, one at least, no two the same.
pub(super) fn targets(
    kinds: &'static [&'static TargetKind],
    subsets: bool,
) -> impl FnOnce(&Node<'_>, &mut Cx) -> Option<Vec<Spanned<TargetRef>>> {
    move |node, cx| {
        let Some(items) = node.items() else {
            cx.mismatch(node, "a list");
            return None;
        };
        if items.is_empty() || items.len() > TARGETS_MAX {
            let message = format!("found a list of {} items, expected 1 to {TARGETS_MAX}", items.len());
            cx.report(codes::SCHEMA, node.pos, message, "name the objects that the policy is for");
        }
        let mut targets: Vec<Spanned<TargetRef>> = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            cx.at_index(index, |cx| {
                let Some(value) = target(item, kinds, subsets, cx) else { return };
                if targets.iter().any(|known| is_same(known, &value)) {
                    let hint = "remove one of the two";
                    cx.report(codes::SCHEMA, item.pos, "the same target is named twice", hint);
                }
                targets.push(Spanned { value, pos: item.pos });
            });
        }
        Some(targets)
    }
}

fn is_same(a: &TargetRef, b: &TargetRef) -> bool {
    let key = |t: &TargetRef| {
        let text = |part: &Option<Spanned<Arc<str>>>| part.as_ref().map(|part| part.value.clone());
        (t.kind.kind, t.name.value.clone(), text(&t.section), text(&t.subset))
    };
    key(a) == key(b)
}

fn target(node: &Node<'_>, kinds: &[&'static TargetKind], subsets: bool, cx: &mut Cx) -> Option<TargetRef> {
    let mut fields = Fields::of(node, cx)?;
    let group = fields.required_with("group", cx, spanned(group));
    let kind = fields.required_with("kind", cx, spanned(kind_name));
    let name = fields.required_with("name", cx, spanned(object_name));
    let section = fields.with("sectionName", cx, spanned(section_name));
    let subset = if subsets { fields.with("subset", cx, spanned(subset_name)) } else { None };
    fields.finish(cx);
    let (group, kind) = (group?, kind?);
    let found = kinds.iter().find(|known| known.kind == &*kind.value && known.group == &*group.value);
    if found.is_none() {
        report_kind(&group, &kind, kinds, cx);
    }
    Some(TargetRef { kind: found?, name: name?, section, subset })
}

fn report_kind(group: &Arc<str>, kind: &Spanned<Arc<str>>, kinds: &[&TargetKind], cx: &mut Cx) {
    let with_group = |known: &&TargetKind| format!("{} (group {:?})", known.kind, known.group);
    let expected: Vec<String> = kinds.iter().map(with_group).collect();
    let names: Vec<&str> = kinds.iter().map(|known| known.kind).collect();
    let hint = match nearest(kind, &names) {
        Some(near) if near == &*kind.value => "correct the group".to_owned(),
        Some(near) => format!("did you mean `{near}`?"),
        None if &*kind.value == "DestinationRule" => {
            "name the Service, and give `subset` for one of its subsets".into()
        }
        None => String::new(),
    };
    let message =
        format!("found kind {:?} of group {:?}, expected one of {}", clip(kind), clip(group), expected.join(", "));
    cx.report(codes::SCHEMA, kind.pos, message, hint);
}

fn subset_name(node: &Node<'_>, cx: &mut Cx) -> Option<Arc<str>> {
    let name = scalar::string(node, cx)?;
    if !is_host(name) {
        cx.mismatch(node, "the name of a subset");
        return None;
    }
    Some(cx.text(name))
}
