//! Pieces that routes of the Gateway API share: references to parents and backends, names, durations and bounded lists.
//!
//! Only decoding; what the references lead to is the translation's business.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::gateway_api::GROUP;
use super::istio::spanned;
use crate::address::parsed;
use crate::codes;
use crate::decode::{Cx, Decode, Fields, clip};
use crate::duration::parse_duration;
use crate::node::{Node, Spanned};
use crate::object::{is_dns_label, is_dns_name};
use crate::scalar;

/// One of `parentRefs`: what a route is attached to.
#[derive(Clone, Debug, PartialEq)]
pub struct ParentRef {
    /// `group`, that of the Gateway API when absent; empty for a Service.
    pub group: Arc<str>,
    /// `kind`, `Gateway` when absent.
    pub kind: Arc<str>,
    /// `namespace`, that of the route when absent.
    pub namespace: Option<Arc<str>>,
    /// `name`.
    pub name: Spanned<Arc<str>>,
    /// `sectionName`: the name of a listener (Gateway) or of a port (Service).
    pub section_name: Option<Spanned<Arc<str>>>,
    /// `port`: a listener's port, or one of the Service.
    pub port: Option<Spanned<u16>>,
}

impl Decode for ParentRef {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let mut fields = Fields::of(node, cx)?;
        let group = fields.with("group", cx, group).unwrap_or_else(|| GROUP.into());
        let kind = fields.with("kind", cx, kind_name).unwrap_or_else(|| "Gateway".into());
        let namespace = fields.with("namespace", cx, namespace);
        let name = fields.required_with("name", cx, spanned(object_name));
        let section_name = fields.with("sectionName", cx, spanned(section_name));
        let port = fields.with("port", cx, spanned(scalar::port));
        fields.finish(cx);
        Some(Self { group, kind, namespace, name: name?, section_name, port })
    }
}

impl ParentRef {
    /// Whether this names a Service: the route is one of the mesh.
    pub fn is_service(&self) -> bool {
        is_core(&self.group) && &*self.kind == "Service"
    }

    /// Whether this names an object of the Gateway API by its kind, such as `Gateway`.
    pub fn is_own(&self, kind: &str) -> bool {
        &*self.group == GROUP && &*self.kind == kind
    }

    /// The namespace of the parent of a route that lives in `own`.
    pub fn namespace_or<'p>(&'p self, own: &'p Arc<str>) -> &'p Arc<str> {
        self.namespace.as_ref().unwrap_or(own)
    }
}

/// Reports parents that are named twice, or of which one reference names a section and the other does not;
/// called with the path of the list.
pub(super) fn check_parents(parents: &[Spanned<ParentRef>], cx: &mut Cx) {
    let target = |p: &ParentRef| (p.group.clone(), p.kind.clone(), p.namespace.clone(), p.name.value.clone());
    let section = |p: &ParentRef| (p.section_name.as_ref().map(|s| s.value.clone()), p.port.as_ref().map(|p| p.value));
    for (index, second) in parents.iter().enumerate() {
        for first in parents[..index].iter().filter(|first| target(first) == target(second)) {
            let (a, b) = (section(first), section(second));
            let fault = if a == b {
                "the same parent is named twice"
            } else if (a.0.is_some(), a.1.is_some()) != (b.0.is_some(), b.1.is_some()) {
                "the same parent is named once with and once without `sectionName` or `port`"
            } else {
                continue;
            };
            let hint = "give each reference to one parent a `sectionName` or `port` of its own";
            cx.at_index(index, |cx| cx.report(codes::SCHEMA, second.pos, fault, hint));
            break;
        }
    }
}

/// A reference to an object that requests can be sent to.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendObjectRef {
    /// `group`, empty when absent.
    pub group: Arc<str>,
    /// `kind`, `Service` when absent.
    pub kind: Arc<str>,
    /// `name`.
    pub name: Spanned<Arc<str>>,
    /// `namespace`, that of the referring object when absent.
    pub namespace: Option<Spanned<Arc<str>>>,
    /// `port`; a reference to a Service has one.
    pub port: Option<Spanned<u16>>,
}

impl Decode for BackendObjectRef {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let mut fields = Fields::of(node, cx)?;
        let reference = Self::take(&mut fields, cx);
        fields.finish(cx);
        reference
    }
}

impl BackendObjectRef {
    /// Takes the fields of a reference out of a mapping that has others, too.
    pub(super) fn take(fields: &mut Fields<'_, '_>, cx: &mut Cx) -> Option<Self> {
        let group = fields.with("group", cx, group).unwrap_or_default();
        let kind = fields.with("kind", cx, kind_name).unwrap_or_else(|| "Service".into());
        let name = fields.required_with("name", cx, spanned(object_name));
        let namespace = fields.with("namespace", cx, spanned(namespace));
        let has_port = fields.has("port");
        let port = fields.with("port", cx, spanned(scalar::port));
        let reference = Self { group, kind, name: name?, namespace, port };
        if reference.is_service() && !has_port {
            let hint = "a reference to a Service names its port";
            cx.report(codes::SCHEMA, fields.pos(), "required field `port` is missing", hint);
        }
        Some(reference)
    }

    /// Whether this names a Service of the core API.
    pub fn is_service(&self) -> bool {
        is_core(&self.group) && &*self.kind == "Service"
    }

    /// The namespace of the target of a reference in an object of the namespace `own`.
    pub fn namespace_or<'p>(&'p self, own: &'p Arc<str>) -> &'p Arc<str> {
        self.namespace.as_ref().map_or(own, |namespace| &namespace.value)
    }
}

/// Whether a group is that of the core API. Its name is empty; the Gateway API's own documentation writes `core`, too.
fn is_core(group: &str) -> bool {
    matches!(group, "" | "core")
}

/// `group`: empty for the core API, else a DNS name.
pub(super) fn group(node: &Node<'_>, cx: &mut Cx) -> Option<Arc<str>> {
    text(node, cx, "an API group such as `gateway.networking.k8s.io`, or `\"\"`", |t| t.is_empty() || is_dns_name(t))
}

/// `kind`.
pub(super) fn kind_name(node: &Node<'_>, cx: &mut Cx) -> Option<Arc<str>> {
    text(node, cx, "a kind such as `Service`", |t| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        let edges = t.starts_with(|c: char| c.is_ascii_alphabetic()) && !t.ends_with('-');
        edges && t.len() <= 63 && t.bytes().all(inner)
    })
}

/// `namespace`.
pub(super) fn namespace(node: &Node<'_>, cx: &mut Cx) -> Option<Arc<str>> {
    text(node, cx, "a name of at most 63 lower-case letters, digits and inner hyphens", is_dns_label)
}

/// `name` of an object of any kind.
pub(super) fn object_name(node: &Node<'_>, cx: &mut Cx) -> Option<Arc<str>> {
    text(node, cx, "a name of 1 to 253 characters", |t| (1..=253).contains(&t.chars().count()))
}

/// `sectionName`, and the name of a rule.
pub(super) fn section_name(node: &Node<'_>, cx: &mut Cx) -> Option<Arc<str>> {
    text(node, cx, "a name of at most 253 lower-case letters, digits, hyphens and dots", is_dns_name)
}

/// A host name, perhaps with `*` as its first label, in lower case.
pub(super) fn hostname(node: &Node<'_>, cx: &mut Cx) -> Option<Arc<str>> {
    text(node, cx, "a host name in lower case such as `www.example.com`, or a wildcard such as `*.example.com`", |t| {
        t.len() <= 253 && is_dns_name(t.strip_prefix("*.").unwrap_or(t))
    })
}

/// A host name without wildcard, in lower case.
pub(super) fn precise_hostname(node: &Node<'_>, cx: &mut Cx) -> Option<Arc<str>> {
    text(node, cx, "a host name in lower case such as `www.example.com`", is_dns_name)
}

/// A duration of GEP-2257: up to four numbers of at most five digits with the units `h`, `m`, `s` and `ms`.
pub(super) fn duration(node: &Node<'_>, cx: &mut Cx) -> Option<Duration> {
    parsed(node, cx, "a duration such as `10s`, `1m30s` or `250ms` (whole numbers of at most five digits)", |text| {
        if !is_duration(text) {
            return None;
        }
        parse_duration(text).ok().and_then(|nanos| u64::try_from(nanos).ok()).map(Duration::from_nanos)
    })
}

fn is_duration(text: &str) -> bool {
    let mut rest = text;
    for _ in 0..4 {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let unit = rest[digits..].bytes().take_while(|b| !b.is_ascii_digit()).count();
        if !(1..=5).contains(&digits) || !matches!(&rest[digits..digits + unit], "h" | "m" | "s" | "ms") {
            return false;
        }
        rest = &rest[digits + unit..];
        if rest.is_empty() {
            return true;
        }
    }
    false
}

/// `or_default_with(at_most(16))`: a list that the API server would not take any longer.
pub(super) fn at_most<T: Decode>(max: usize) -> impl FnOnce(&Node<'_>, &mut Cx) -> Option<Vec<T>> {
    move |node, cx| {
        if let Some(items) = node.items()
            && items.len() > max
        {
            let message = format!("found a list of {} items, expected at most {max}", items.len());
            cx.report(codes::SCHEMA, node.pos, message, "");
        }
        Vec::decode(node, cx)
    }
}

/// As [`at_most`], and no two items are the same text or mappings with the same `name`: sets and maps of the schema.
pub(super) fn distinct<T: Decode>(max: usize) -> impl FnOnce(&Node<'_>, &mut Cx) -> Option<Vec<T>> {
    move |node, cx| {
        let items = node.items().unwrap_or_default();
        let key = |item: &Node<'_>| item.get("name").unwrap_or(item).scalar().map(|scalar| scalar.text.to_string());
        let mut seen = HashSet::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            if let Some(key) = key(item)
                && !seen.insert(key.clone())
            {
                let message = format!("{:?} stands there already, expected each once", clip(&key));
                cx.at_index(index, |cx| cx.report(codes::SCHEMA, item.pos, message, "remove one of the two"));
            }
        }
        at_most(max)(node, cx)
    }
}

/// Text for which something holds.
pub(super) fn text(node: &Node<'_>, cx: &mut Cx, expected: &str, holds: impl FnOnce(&str) -> bool) -> Option<Arc<str>> {
    let text = scalar::string(node, cx)?;
    if !holds(text) {
        cx.mismatch(node, expected);
        return None;
    }
    Some(cx.text(text))
}

#[cfg(test)]
mod tests {
    use super::is_duration;

    #[test]
    fn durations_are_those_of_gep_2257() {
        for good in ["0s", "1s", "99999h", "1h30m5s10ms", "1m1m1m1m", "500ms", "0h0m0s"] {
            assert!(is_duration(good), "{good}");
        }
        for bad in ["", "0", "1", "s", "100000s", "1.5s", "-1s", "1us", "1h1h1h1h1h", "1s ", "1d", "1\u{b5}s", "1h2"] {
            assert!(!is_duration(bad), "{bad}");
        }
    }
}
