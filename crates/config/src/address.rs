//! IP addresses, CIDR blocks, times and host names.
//!
//! Host names are folded to lower case and lose a trailing dot; what they resolve to is the translation's business.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;

use crate::decode::{Cx, Decode};
use crate::node::Node;
use crate::scalar::string;

impl Decode for IpAddr {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        parsed(node, cx, "an IP address", |text| text.parse().ok())
    }
}

/// A CIDR block; a bare address is a block of one.
impl Decode for IpNet {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        parsed(node, cx, "an IP address or a CIDR block such as `10.0.0.0/8`", |text| {
            text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(Self::from))
        })
    }
}

impl Decode for Timestamp {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        parsed(node, cx, "a time such as `2024-05-01T12:00:00Z`", |text| text.parse().ok())
    }
}

/// Reads a string by a parser; reports `expected` when it refuses.
pub fn parsed<T>(node: &Node<'_>, cx: &mut Cx, expected: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    let value = parse(string(node, cx)?);
    if value.is_none() {
        cx.mismatch(node, expected);
    }
    value
}

/// `with(host)`: a DNS name, at most 253 characters, labels of letters, digits and hyphens.
pub fn host(node: &Node<'_>, cx: &mut Cx) -> Option<Arc<str>> {
    let name = parsed(node, cx, "a host name such as `reviews` or `api.example.com`", |text| {
        let name = text.strip_suffix('.').unwrap_or(text);
        is_host(name).then(|| name.to_ascii_lowercase())
    })?;
    Some(cx.text(&name))
}

/// `with(host_or_wildcard)`: a DNS name, `*`, or a name whose first label is `*` or begins with `*`.
pub fn host_or_wildcard(node: &Node<'_>, cx: &mut Cx) -> Option<Arc<str>> {
    let name = parsed(node, cx, "a host name, `*`, or a wildcard such as `*.example.com`", |text| {
        let name = text.strip_suffix('.').unwrap_or(text);
        is_host_or_wildcard(name).then(|| name.to_ascii_lowercase())
    })?;
    Some(cx.text(&name))
}

/// Whether text is a DNS name by Istio's rules: labels of 1 to 63 letters, digits and inner hyphens (underscores are
/// tolerated, as Istio and Envoy do), 253 characters at most.
pub fn is_host(text: &str) -> bool {
    !text.is_empty() && text.len() <= 253 && text.split('.').all(is_label)
}

/// Whether text is a DNS name or a wildcard: `*`, `*.example.com`, `*-suffix.example.com`.
pub fn is_host_or_wildcard(text: &str) -> bool {
    match text.strip_prefix('*') {
        None => is_host(text),
        Some("") => true,
        Some(rest) => match rest.strip_prefix('.') {
            Some(parent) => is_host(parent),
            None => rest.starts_with('-') && is_host(&format!("x{rest}")),
        },
    }
}

fn is_label(label: &str) -> bool {
    let bytes = label.as_bytes();
    let inner = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_';
    !bytes.is_empty()
        && bytes.len() <= 63
        && bytes.iter().all(inner)
        && bytes[0] != b'-'
        && bytes[bytes.len() - 1] != b'-'
}

#[cfg(test)]
mod tests {
    use super::is_host_or_wildcard;

    #[test]
    fn hosts_and_wildcards() {
        let long_label = "x".repeat(64);
        let long_name = ["x".repeat(60).as_str(); 5].join(".");
        for good in
            ["a", "reviews.default.svc.cluster.local", "*", "*.example.com", "*-a.example.com", "1.2", "a_b.c", "A.b"]
        {
            assert!(is_host_or_wildcard(good), "{good}");
        }
        for bad in ["", ".", "a..b", "-a", "a-", "*.", "*a", "a.*", "a b", "a/b", "**", "*.*", &long_label, &long_name]
        {
            assert!(!is_host_or_wildcard(bad), "{bad}");
        }
    }
}
