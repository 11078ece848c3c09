//! Which fields may pass through a proxy, and how edits change them.

use std::borrow::Cow;

use outrigger_model::HeaderEdits;

/// Fields by which a proxy vouches for facts: from a client they are forgeries and are taken out (Envoy's header
/// sanitising; the names of Istio, Envoy, Linkerd and ours). An underscore counts as a hyphen, as many applications
/// read it.
pub(crate) fn is_identity(name: &str) -> bool {
    const PREFIXES: [&[u8]; 4] = [b"x-envoy-", b"x-istio-", b"l5d-", b"x-outrigger-"];
    let name = name.as_bytes();
    match name.first() {
        Some(b'x' | b'X' | b'l' | b'L') => {}
        _ => return false,
    }
    PREFIXES.iter().any(|prefix| name.len() > prefix.len() && same(&name[..prefix.len()], prefix))
        || same(name, b"x-forwarded-client-cert")
}

/// Whether `name` spells `lower`, which is in lower case with hyphens.
fn same(name: &[u8], lower: &[u8]) -> bool {
    name.len() == lower.len()
        && name.iter().zip(lower).all(|(n, l)| n.to_ascii_lowercase() == *l || (*n == b'_' && *l == b'-'))
}

/// Fields of one connection (RFC 9110 §7.6.1), which end here. `Trailer` passes, as trailers do.
pub(crate) fn is_hop_by_hop(name: &str) -> bool {
    match name.len() {
        2 => name.eq_ignore_ascii_case("te"),
        7 => name.eq_ignore_ascii_case("upgrade"),
        10 => name.eq_ignore_ascii_case("connection") || name.eq_ignore_ascii_case("keep-alive"),
        16 => name.eq_ignore_ascii_case("proxy-connection"),
        17 => name.eq_ignore_ascii_case("transfer-encoding"),
        _ => false,
    }
}

/// Whether a field may stand behind a body: not where it would change framing, routing or authority (RFC 9110 §6.5.1).
pub(crate) fn may_be_trailer(name: &str) -> bool {
    const REFUSED: [&str; 17] = [
        "host",
        "content-length",
        "transfer-encoding",
        "trailer",
        "te",
        "connection",
        "keep-alive",
        "upgrade",
        "authorization",
        "proxy-authorization",
        "set-cookie",
        "cookie",
        "content-type",
        "content-encoding",
        "content-range",
        "expect",
        "cache-control",
    ];
    !REFUSED.iter().any(|refused| name.eq_ignore_ascii_case(refused)) && !is_identity(name)
}

/// The fields that a message's `Connection` names, which end here too.
pub(crate) struct Nominated<'b> {
    values: [&'b [u8]; 4],
    count: usize,
}

impl<'b> Nominated<'b> {
    /// Gathers them; `close` and `keep-alive` name no fields.
    pub(crate) fn of(headers: &[httparse::Header<'b>]) -> Self {
        let mut found = Self { values: [b""; 4], count: 0 };
        for header in headers.iter().filter(|h| h.name.len() == 10 && h.name.eq_ignore_ascii_case("connection")) {
            let plain = header.value.eq_ignore_ascii_case(b"keep-alive") || header.value.eq_ignore_ascii_case(b"close");
            if !plain && found.count < found.values.len() {
                found.values[found.count] = header.value;
                found.count += 1;
            }
        }
        found
    }

    /// Whether `name` is named, and may be: a client has no say over who it is, what it may do, or where a message ends.
    pub(crate) fn contains(&self, name: &str) -> bool {
        if self.count == 0 {
            return false;
        }
        const KEPT: [&str; 9] = [
            "host",
            "content-length",
            "authorization",
            "cookie",
            "set-cookie",
            "x-request-id",
            "traceparent",
            "tracestate",
            "forwarded",
        ];
        let kept = KEPT.iter().any(|k| name.eq_ignore_ascii_case(k))
            || (name.len() > 12 && name.as_bytes()[..12].eq_ignore_ascii_case(b"x-forwarded-"));
        !kept
            && self.values[..self.count]
                .iter()
                .flat_map(|v| v.split(|&b| b == b','))
                .any(|option| option.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
    }
}

/// Edits of the destination, then of the route.
#[derive(Clone, Copy)]
pub(crate) struct Edits<'p> {
    both: [&'p HeaderEdits; 2],
    any: bool,
}

impl<'p> Edits<'p> {
    /// In the order in which they apply.
    pub(crate) fn new(first: &'p HeaderEdits, then: &'p HeaderEdits) -> Self {
        Self { both: [first, then], any: !(first.is_empty() && then.is_empty()) }
    }

    /// Whether a field that arrived is taken out or replaced.
    pub(crate) fn replaces(&self, name: &str) -> bool {
        self.any
            && self.both.iter().any(|edits| {
                edits.remove.iter().any(|n| name.eq_ignore_ascii_case(n.as_str()))
                    || edits.set.iter().any(|(n, _)| name.eq_ignore_ascii_case(n.as_str()))
            })
    }

    /// Writes the fields that are set or added. A later `set` of a name replaces an earlier `set` or `add`, a later
    /// `remove` takes it away.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        if !self.any {
            return;
        }
        let [first, then] = self.both;
        let overruled = |name: &str| {
            then.set.iter().any(|(n, _)| n.as_str() == name) || then.remove.iter().any(|n| n.as_str() == name)
        };
        for (edits, is_first) in [(first, true), (then, false)] {
            let set = edits.set.iter();
            let add = edits.add.iter().filter(|(name, _)| !edits.set.iter().any(|(set, _)| set == name));
            for (name, value) in set.chain(add).filter(|(name, _)| !(is_first && overruled(name.as_str()))) {
                write_field(name.as_str(), value.as_str().as_bytes(), out);
            }
        }
    }
}

/// Writes one field line.
pub(crate) fn write_field(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Fields that whoever sends a request on writes itself.
pub(crate) fn is_framed_anew(name: &str) -> bool {
    match name.len() {
        4 => name.eq_ignore_ascii_case("host"),
        14 => name.eq_ignore_ascii_case("content-length"),
        _ => false,
    }
}

/// One more value of a list.
pub(crate) fn append_list<'b>(list: Cow<'b, [u8]>, value: &'b [u8]) -> Cow<'b, [u8]> {
    if list.is_empty() {
        return Cow::Borrowed(value);
    }
    let mut joined = list.into_owned();
    joined.extend_from_slice(b", ");
    joined.extend_from_slice(value);
    Cow::Owned(joined)
}

#[cfg(test)]
mod tests {
    use outrigger_model::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn forged_facts_are_recognised_in_any_spelling() {
        for name in [
            "X-Forwarded-Client-Cert",
            "x_forwarded_client_cert",
            "X-Envoy-Retry-On",
            "l5d-dst-override",
            "x-istio-attributes",
        ] {
            assert!(is_identity(name), "{name}");
        }
        for name in ["x-forwarded-for", "x-request-id", "accept", "x-envoy", "xenvoy-a"] {
            assert!(!is_identity(name), "{name}");
        }
    }

    #[test]
    fn a_client_cannot_nominate_what_others_rely_on() {
        let header = httparse::Header { name: "Connection", value: b"close, X-Forwarded-For, X-Mine, Authorization" };
        let headers = [header];
        let nominated = Nominated::of(&headers);
        assert!(nominated.contains("x-mine"));
        assert!(!nominated.contains("X-Forwarded-For") && !nominated.contains("authorization"));
    }

    #[test]
    fn the_routes_set_wins_over_the_destinations() {
        let edits = |set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str]| {
            let pair = |(n, v): &(&str, &str)| (HeaderName::parse(n).unwrap(), HeaderValue::parse(v).unwrap());
            HeaderEdits {
                set: set.iter().map(pair).collect(),
                add: add.iter().map(pair).collect(),
                remove: remove.iter().map(|n| HeaderName::parse(n).unwrap()).collect(),
            }
        };
        let destination = edits(&[("a", "1"), ("b", "1")], &[("c", "1"), ("a", "x")], &["d"]);
        let route = edits(&[("a", "2")], &[("c", "2")], &["b"]);
        let edits = Edits::new(&destination, &route);
        let mut out = Vec::new();
        edits.write(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "c: 1\r\na: 2\r\nc: 2\r\n");
        assert!(["A", "b", "D"].iter().all(|n| edits.replaces(n)) && !edits.replaces("c"));
    }
}
