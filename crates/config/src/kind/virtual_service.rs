//! Istio `VirtualService`: what happens to requests for its hosts.
//!
//! A rule's structure is judged here (a rule does exactly one thing, weights have a sum); which rules count for which
//! client and host is decided in `translate`.

use std::sync::Arc;
use std::time::Duration;

use outrigger_model::{Cors, DirectResponse, Fault, HeaderValue, Pattern, Redirect, RedirectPath, RedirectPort};

use super::cors::read_cors;
use super::header_edits::Headers;
use super::http_match::HttpMatch;
use super::istio::{Destination, ExportTo, Percent, header_value, pattern};
use super::l4_route::{TcpRoute, TlsRoute, check_sni_hosts, check_weights};
use super::resilience::{Retries, check_repeats, read_fault};
use crate::address;
use crate::codes;
use crate::decode::{Cx, Decode, Fields, clip};
use crate::node::{Node, Pos, Spanned};
use crate::scalar;
use crate::{choices, object};

object! {
    /// A VirtualService.
    pub resource struct VirtualService {
        /// `spec`.
        pub spec: VirtualServiceSpec = required "spec",
    }
    ignore ["status"]
    check check_service
}

fn check_service(service: &VirtualService, _: Pos, cx: &mut Cx) {
    let mut retries = service.spec.http.iter().enumerate().filter_map(|(index, rule)| {
        let pos = rule.retries.as_ref()?.may_repeat()?;
        Some((format!("spec.http[{index}].retries.retryOn"), pos))
    });
    check_repeats(&service.meta, retries.next(), cx);
}

object! {
    /// `spec`.
    pub struct VirtualServiceSpec {
        /// `hosts`; empty for a delegate.
        pub hosts: Vec<Spanned<Host>> = or_default "hosts",
        /// `gateways`; empty means `mesh`.
        pub gateways: Vec<Spanned<Arc<str>>> = or_default "gateways",
        /// `exportTo`; empty means the mesh's default.
        pub export_to: Vec<ExportTo> = or_default "exportTo",
        /// `http`.
        pub http: Vec<Spanned<Arc<HttpRoute>>> = or_default "http",
        /// `tls`.
        pub tls: Vec<Spanned<Arc<TlsRoute>>> = or_default "tls",
        /// `tcp`.
        pub tcp: Vec<Spanned<Arc<TcpRoute>>> = or_default "tcp",
    }
    check check_spec
}

/// One of `hosts`: a name, a wildcard, or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host(pub Arc<str>);

impl Decode for Host {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        address::host_or_wildcard(node, cx).map(Self)
    }
}

fn check_spec(spec: &VirtualServiceSpec, pos: Pos, cx: &mut Cx) {
    for (index, host) in spec.hosts.iter().enumerate() {
        if spec.hosts[..index].iter().any(|h| h.value == host.value) {
            let message = format!("hosts[{index}]: {:?} is named twice", clip(&host.value.0));
            cx.report(codes::SCHEMA, host.pos, message, "name each host once");
        }
    }
    if spec.http.is_empty() && spec.tls.is_empty() && spec.tcp.is_empty() {
        cx.report(codes::SCHEMA, pos, "none of `http`, `tls` and `tcp` is given", "a VirtualService needs a rule");
    }
    if spec.hosts.is_empty() {
        check_delegate(spec, cx);
    } else {
        check_sni_hosts(&spec.tls, &spec.hosts, cx);
    }
}

fn check_delegate(spec: &VirtualServiceSpec, cx: &mut Cx) {
    let parts = [
        ("gateways", spec.gateways.first().map(|gateway| gateway.pos)),
        ("tls", spec.tls.first().map(|rule| rule.pos)),
        ("tcp", spec.tcp.first().map(|rule| rule.pos)),
    ];
    for (field, pos) in parts {
        if let Some(pos) = pos {
            let message = format!("{field}: a delegate (a VirtualService without hosts) has only `http`");
            cx.report(codes::SCHEMA, pos, message, "move it to the VirtualService that delegates, or add `hosts`");
        }
    }
    for rule in spec.http.iter().filter(|r| r.delegate.is_some()) {
        let message = "a delegate (a VirtualService without hosts) cannot delegate further";
        cx.report(codes::SCHEMA, rule.pos, message, "Istio allows one level of delegation");
    }
}

object! {
    /// One of `http`.
    pub struct HttpRoute {
        /// `name`.
        pub name: Option<Arc<str>> = optional "name",
        /// `match`: blocks of which one must hold; empty matches everything.
        pub matches: Vec<Spanned<HttpMatch>> = or_default "match",
        /// `route`.
        pub route: Vec<Spanned<RouteDestination>> = or_default "route",
        /// `redirect`.
        pub redirect: Option<Redirect> = with(read_redirect) "redirect",
        /// `directResponse`.
        pub direct_response: Option<DirectResponse> = with(read_direct_response) "directResponse",
        /// `delegate`.
        pub delegate: Option<Spanned<Delegate>> = optional "delegate",
        /// `rewrite`.
        pub rewrite: Option<Rewrite> = optional "rewrite",
        /// `timeout`; zero is off.
        pub timeout: Option<Duration> = optional "timeout",
        /// `retries`.
        pub retries: Option<Retries> = optional "retries",
        /// `fault`.
        pub fault: Option<Fault> = with(read_fault) "fault",
        /// `mirror`.
        pub mirror: Option<Destination> = optional "mirror",
        /// `mirrors`.
        pub mirrors: Vec<MirrorTo> = or_default "mirrors",
        /// `mirrorPercentage`; all when absent.
        pub mirror_percentage: Option<Percent> = optional "mirrorPercentage",
        /// `mirrorPercent`, the old form.
        pub mirror_percent: Option<f64> = with(scalar::percent) "mirrorPercent",
        /// `mirror_percent`, the oldest form.
        pub mirror_percent_snake: Option<f64> = with(scalar::percent) "mirror_percent",
        /// `corsPolicy`.
        pub cors: Option<Cors> = with(read_cors) "corsPolicy",
        /// `headers`.
        pub headers: Option<Headers> = optional "headers",
    }
    check check_rule
}

fn check_rule(rule: &HttpRoute, pos: Pos, cx: &mut Cx) {
    let actions = [
        ("route", !rule.route.is_empty()),
        ("redirect", rule.redirect.is_some()),
        ("directResponse", rule.direct_response.is_some()),
        ("delegate", rule.delegate.is_some()),
    ];
    let given: Vec<_> = actions.iter().filter(|a| a.1).map(|a| format!("`{}`", a.0)).collect();
    match given.len() {
        0 => {
            let message = "expected one of `route`, `redirect`, `directResponse` and `delegate`, found none";
            cx.report(codes::SCHEMA, pos, message, "");
        }
        1 => {}
        _ => {
            let message = format!("{} are given together, expected one of them", given.join(" and "));
            cx.report(codes::SCHEMA, pos, message, "a rule does one thing; write two rules");
        }
    }
    let answers = rule.redirect.is_some() || rule.direct_response.is_some();
    if answers && (rule.rewrite.is_some() || rule.mirror.is_some() || !rule.mirrors.is_empty()) {
        let message = "`rewrite` and `mirror` need a `route`: nothing is sent on";
        cx.report(codes::SCHEMA, pos, message, "remove them from this rule");
    }
    if rule.mirror.is_some() && !rule.mirrors.is_empty() {
        cx.report(codes::SCHEMA, pos, "`mirror` and `mirrors` are both given, expected one of them", "");
    }
    check_weights(rule.route.iter().map(|destination| destination.weight), pos, cx);
}

object! {
    /// One of `route`.
    pub struct RouteDestination {
        /// `destination`.
        pub destination: Destination = required "destination",
        /// `weight`, relative to the others.
        pub weight: u32 = or_default_with(scalar::within(0..=i32::MAX.into())) "weight",
        /// `headers`, after those of the rule for requests and before them for responses.
        pub headers: Headers = or_default "headers",
    }
}

object! {
    /// `delegate`.
    pub struct Delegate {
        /// `name`.
        pub name: Arc<str> = required_with(scalar::non_empty) "name",
        /// `namespace`, that of the root when absent.
        pub namespace: Option<Arc<str>> = optional "namespace",
    }
}

object! {
    /// One of `mirrors`.
    pub struct MirrorTo {
        /// `destination`.
        pub destination: Destination = required "destination",
        /// `percentage`; all when absent.
        pub percentage: Option<Percent> = optional "percentage",
    }
}

object! {
    /// `rewrite`.
    pub struct Rewrite {
        /// `uri`: instead of the matched prefix, or of the whole path.
        pub uri: Option<Arc<str>> = with(path_text) "uri",
        /// `authority`.
        pub authority: Option<HeaderValue> = with(read_header_value) "authority",
        /// `uriRegexRewrite`.
        pub regex: Option<RegexRewrite> = optional "uriRegexRewrite",
    }
    check check_rewrite
}

object! {
    /// `uriRegexRewrite`.
    pub struct RegexRewrite {
        /// `match`.
        pub pattern: Pattern = required_with(pattern) "match",
        /// `rewrite`, with `\1` for groups.
        pub substitution: Arc<str> = required_with(path_text) "rewrite",
    }
}

fn check_rewrite(rewrite: &Rewrite, pos: Pos, cx: &mut Cx) {
    if rewrite.uri.is_some() && rewrite.regex.is_some() {
        cx.report(codes::SCHEMA, pos, "`uri` and `uriRegexRewrite` are both given, expected one of them", "");
    }
    if rewrite.uri.is_none() && rewrite.regex.is_none() && rewrite.authority.is_none() {
        cx.report(codes::SCHEMA, pos, "expected one of `uri`, `authority` and `uriRegexRewrite`, found none", "");
    }
}

fn read_header_value(node: &Node<'_>, cx: &mut Cx) -> Option<HeaderValue> {
    let text = scalar::non_empty(node, cx)?;
    header_value(&text, node.pos, cx)
}

/// Text for a path: what would end a request line or a header cannot stand in it.
pub(super) fn path_text(node: &Node<'_>, cx: &mut Cx) -> Option<Arc<str>> {
    let text = Arc::<str>::decode(node, cx)?;
    if text.bytes().any(|b| b <= b' ' || b == 0x7f) {
        cx.mismatch(node, "a path without spaces and control characters");
        return None;
    }
    Some(text)
}

choices! {
    /// `redirect.derivePort`.
    pub enum DerivePort {
        /// 80 or 443 by the scheme: no port in the location.
        ProtocolDefault = "FROM_PROTOCOL_DEFAULT" 0,
        /// The port the request came in on.
        Request = "FROM_REQUEST_PORT" 1,
    }
}

fn read_redirect(node: &Node<'_>, cx: &mut Cx) -> Option<Redirect> {
    let mut fields = Fields::of(node, cx)?;
    let path = match fields.one_of(&["uri", "prefixRewrite"], cx) {
        None => Some(RedirectPath::Keep),
        Some(("uri", node)) => cx.within("uri", |cx| path_text(node, cx)).map(RedirectPath::Full),
        Some((_, node)) => cx.within("prefixRewrite", |cx| path_text(node, cx)).map(RedirectPath::Prefix),
    };
    let authority = fields.with("authority", cx, read_header_value);
    let scheme = fields.with("scheme", cx, |node, cx| {
        scalar::choice(node, cx, &[("http", None, "http"), ("https", None, "https")]).map(Arc::from)
    });
    let port = match fields.one_of(&["port", "derivePort"], cx) {
        None => RedirectPort::Keep,
        Some(("port", node)) => {
            cx.within("port", |cx| scalar::port(node, cx)).map_or(RedirectPort::Keep, RedirectPort::Exact)
        }
        Some((_, node)) => match cx.within("derivePort", |cx| DerivePort::decode(node, cx)) {
            Some(DerivePort::Request) => RedirectPort::Request,
            Some(DerivePort::ProtocolDefault) => RedirectPort::ProtocolDefault,
            None => RedirectPort::Keep,
        },
    };
    let status = fields.with("redirectCode", cx, |node, cx| {
        let status = scalar::within::<u16>(0..=599)(node, cx)?;
        match status {
            0 => Some(301),
            301 | 302 | 303 | 307 | 308 => Some(status),
            _ => {
                cx.mismatch(node, "301, 302, 303, 307 or 308");
                None
            }
        }
    });
    fields.finish(cx);
    Some(Redirect { status: status.unwrap_or(301), scheme, authority, port, path: path? })
}

fn read_direct_response(node: &Node<'_>, cx: &mut Cx) -> Option<DirectResponse> {
    const BODY_BYTES_MAX: usize = 1 << 20;
    let mut fields = Fields::of(node, cx)?;
    let status = fields.required_with("status", cx, scalar::within::<u16>(200..=599));
    let body = fields.with("body", cx, |node, cx| {
        let mut fields = Fields::of(node, cx)?;
        let body = match fields.one_of(&["string", "bytes"], cx) {
            None => Some(Vec::new()),
            Some(("string", node)) => {
                cx.within("string", |cx| Arc::<str>::decode(node, cx)).map(|text| text.as_bytes().to_vec())
            }
            Some((_, node)) => cx.within("bytes", |cx| address::parsed(node, cx, "base64", base64)),
        };
        fields.finish(cx);
        if body.as_ref().is_some_and(|b| b.len() > BODY_BYTES_MAX) {
            cx.mismatch(node, "a body of at most 1 MiB");
            return None;
        }
        body
    });
    fields.finish(cx);
    Some(DirectResponse { status: status?, body: body.unwrap_or_default().into() })
}

/// Decodes base64 (RFC 4648 §4; padding may be missing, white space is passed over).
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let end = digits.iter().position(|b| *b == b'=').unwrap_or(digits.len());
    if digits[end..].iter().any(|b| *b != b'=') || digits.len() - end > 2 || end % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(end * 3 / 4);
    let (mut bits, mut held) = (0u32, 0);
    for digit in &digits[..end] {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_is_decoded_and_judged() {
        assert_eq!(base64("aGVsbG8="), Some(b"hello".to_vec()));
        assert_eq!(base64("aGVs\nbG8"), Some(b"hello".to_vec()));
        assert_eq!(base64(""), Some(Vec::new()));
        assert_eq!(base64("a"), None);
        assert_eq!(base64("a=b="), None);
        assert_eq!(base64("a$=="), None);
    }
}
