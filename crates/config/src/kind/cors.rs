//! Cross-origin policies: `http[].corsPolicy` of a VirtualService, and the CORS filter of an HTTPRoute.

use std::sync::Arc;
use std::time::Duration;

use outrigger_model::{Cors, HeaderName, Pattern, StringMatch};

use super::gateway_refs::distinct;
use super::istio::{TextMatch, duration_1ms, header_name};
use crate::choices;
use crate::codes;
use crate::decode::{Cx, Decode, Fields};
use crate::node::Node;
use crate::scalar;

choices! {
    /// `unmatchedPreflights`.
    pub enum UnmatchedPreflights {
        /// FORWARD.
        Unspecified = "UNSPECIFIED" 0,
        /// To the application.
        Forward = "FORWARD" 1,
        /// Answered without permission.
        Ignore = "IGNORE" 2,
    }
}

/// Reads the policy.
pub fn read_cors(node: &Node<'_>, cx: &mut Cx) -> Option<Cors> {
    let mut fields = Fields::of(node, cx)?;
    let origins: Vec<TextMatch> = fields.or_default("allowOrigins", cx);
    let old_origins: Vec<Arc<str>> = fields.or_default("allowOrigin", cx);
    let old_origins = old_origins.into_iter().map(|o| TextMatch::Is(StringMatch::Exact(o)));
    let methods = fields.with("allowMethods", cx, tokens).unwrap_or_default();
    let headers = fields.with("allowHeaders", cx, names).unwrap_or_default();
    let expose = fields.with("exposeHeaders", cx, names).unwrap_or_default();
    let max_age = fields.with("maxAge", cx, duration_1ms);
    let credentials = fields.or_default("allowCredentials", cx);
    let preflights: Option<UnmatchedPreflights> = fields.optional("unmatchedPreflights", cx);
    fields.finish(cx);
    Some(Cors {
        origins: origins.into_iter().chain(old_origins).map(origin).collect(),
        methods,
        headers,
        expose,
        max_age,
        credentials,
        forward_unmatched_preflights: preflights != Some(UnmatchedPreflights::Ignore),
    })
}

/// `*` and an empty match both mean any origin.
fn origin(matcher: TextMatch) -> StringMatch {
    match matcher {
        TextMatch::Any => StringMatch::Prefix(Arc::default()),
        TextMatch::Is(StringMatch::Exact(text)) if &*text == "*" => StringMatch::Prefix(Arc::default()),
        TextMatch::Is(matcher) => matcher,
    }
}

fn names(node: &Node<'_>, cx: &mut Cx) -> Option<Vec<HeaderName>> {
    let texts = Vec::<Arc<str>>::decode(node, cx)?;
    Some(texts.iter().filter_map(|text| header_name(text, node.pos, cx)).collect())
}

/// Methods, as they go into a header of the answer.
fn tokens(node: &Node<'_>, cx: &mut Cx) -> Option<Vec<Arc<str>>> {
    let Some(items) = node.items() else {
        cx.mismatch(node, "a list of methods");
        return None;
    };
    let mut methods = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        methods.extend(cx.at_index(index, |cx| {
            let text = scalar::non_empty(item, cx)?;
            // A method is a token (RFC 9110 §9.1), as header names are.
            header_name(&text, item.pos, cx).map(|_| text)
        }));
    }
    Some(methods)
}

/// Reads the `cors` of an HTTPRoute's filter.
pub fn read_route_cors(node: &Node<'_>, cx: &mut Cx) -> Option<Cors> {
    let mut fields = Fields::of(node, cx)?;
    let origins: Vec<RouteOrigin> = fields.or_default_with("allowOrigins", cx, star_alone(64));
    let methods: Vec<CorsMethod> = fields.or_default_with("allowMethods", cx, star_alone(9));
    let headers: Vec<CorsHeader> = fields.or_default_with("allowHeaders", cx, star_alone(64));
    let credentials = fields.or_default("allowCredentials", cx);
    let expose = fields.with("exposeHeaders", cx, |node, cx| {
        let mut names: Vec<CorsHeader> = distinct(64)(node, cx)?;
        if credentials && names.iter().any(|name| name.0.as_str() == "*") {
            let message = "with `allowCredentials`, `*` means a header of that name and is left out";
            cx.report(codes::NO_EFFECT, node.pos, message, "name the headers");
            names.retain(|name| name.0.as_str() != "*");
        }
        Some(names)
    });
    let age_seconds: Option<u32> = fields.with("maxAge", cx, scalar::within(1..=i32::MAX.into()));
    fields.finish(cx);
    let names = |headers: Vec<CorsHeader>| headers.into_iter().map(|h| h.0).collect();
    Some(Cors {
        origins: origins.into_iter().map(|o| o.0).collect(),
        methods: methods.into_iter().map(|m| m.as_str().into()).collect(),
        headers: names(headers),
        expose: names(expose.unwrap_or_default()),
        // The schema's default.
        max_age: Some(Duration::from_secs(age_seconds.unwrap_or(5).into())),
        credentials,
        forward_unmatched_preflights: false,
    })
}

/// A list in which `*` stands alone.
fn star_alone<T: Decode>(max: usize) -> impl FnOnce(&Node<'_>, &mut Cx) -> Option<Vec<T>> {
    move |node, cx| {
        let items = node.items().unwrap_or_default();
        if items.len() > 1
            && let Some(star) = items.iter().find(|item| item.scalar().is_some_and(|s| s.text == "*"))
        {
            cx.report(codes::SCHEMA, star.pos, "`*` stands beside others, expected it alone", "remove the others");
        }
        distinct(max)(node, cx)
    }
}

/// One of `allowHeaders` or `exposeHeaders`.
struct CorsHeader(HeaderName);

impl Decode for CorsHeader {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let text = scalar::non_empty(node, cx)?;
        header_name(&text, node.pos, cx).map(Self)
    }
}

choices! {
    /// One of `allowMethods`.
    pub enum CorsMethod {
        /// GET.
        Get = "GET",
        /// HEAD.
        Head = "HEAD",
        /// POST.
        Post = "POST",
        /// PUT.
        Put = "PUT",
        /// DELETE.
        Delete = "DELETE",
        /// CONNECT.
        Connect = "CONNECT",
        /// OPTIONS.
        Options = "OPTIONS",
        /// TRACE.
        Trace = "TRACE",
        /// PATCH.
        Patch = "PATCH",
        /// All.
        Any = "*",
    }
}

/// One of `allowOrigins`.
struct RouteOrigin(StringMatch);

impl Decode for RouteOrigin {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let text = scalar::non_empty(node, cx)?;
        let matcher = route_origin(&text);
        if matcher.is_none() {
            cx.mismatch(node, "`*`, or an origin such as `https://www.example.com` or `https://*.example.com:8443`");
        }
        matcher.map(Self)
    }
}

/// An expression for an origin: the default port of its scheme may be stated or not, `*` takes any number of labels.
fn route_origin(text: &str) -> Option<StringMatch> {
    if text == "*" {
        return Some(StringMatch::Exact(text.into()));
    }
    let (scheme, rest) = text.split_once("://")?;
    let default_port = match scheme {
        "http" => "80",
        "https" => "443",
        _ => return None,
    };
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (rest, None),
    };
    if text.len() > 253 || port.is_some_and(|p| p.is_empty() || p.len() > 5 || !p.bytes().all(|b| b.is_ascii_digit())) {
        return None;
    }
    let port = match port {
        Some(port) if port != default_port => format!(":{port}"),
        Some(_) | None => format!("(:{default_port})?"),
    };
    let is_label = |l: &str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let name = host.strip_prefix("*.").unwrap_or(host);
    let host = match host {
        "*" => r"([^/:\[]+|\[[^/]+\])".to_owned(),
        _ if !name.split('.').all(is_label) => return None,
        _ if name.len() < host.len() => format!(r"[^/:]+\.{}", regex::escape(name)),
        _ => regex::escape(name),
    };
    // The text is short and escaped: it compiles.
    Pattern::parse(&format!("(?i){scheme}://{host}{port}")).ok().map(StringMatch::Regex)
}

#[cfg(test)]
mod tests {
    use super::route_origin;

    #[test]
    fn origins_of_routes_take_in_what_browsers_send() {
        let cases = [
            ("*", "*", true),
            ("https://www.foo.com", "https://www.foo.com", true),
            ("https://www.foo.com", "https://www.foo.com:443", true),
            ("https://www.foo.com", "https://www.foo.com.evil", false),
            ("https://www.foo.com", "https://wwwxfoo.com", false),
            ("https://www.foo.com:443", "https://www.foo.com", true),
            ("http://foo:80", "http://foo", true),
            ("http://foo:443", "http://foo", false),
            ("http://foo:443", "http://foo:443", true),
            ("https://WWW.foo.com", "https://www.foo.com", true),
            ("https://*.bar.com", "https://www.bar.com", true),
            ("https://*.bar.com", "https://x.www.bar.com", true),
            ("https://*.bar.com", "https://bar.com", false),
            ("https://*.bar.com", "https://foobar.com", false),
            ("https://*.bar.com", "https://wwwxbarxcom", false),
            ("https://*.bar.com", "https://www.bar.com:8443", false),
            ("https://*.bar.com:8443", "https://www.bar.com:8443", true),
            ("https://*.bar.com", "http://www.bar.com", false),
            ("https://*.bar.com", "https://evil.com/.bar.com", false),
            ("https://*", "https://www.bar.com", true),
            ("https://*", "https://[::1]", true),
            ("https://*", "https://www.bar.com:1", false),
            ("http://*:8080", "http://a.b:8080", true),
        ];
        for (allowed, origin, expected) in cases {
            let matcher = route_origin(allowed).unwrap_or_else(|| panic!("{allowed}"));
            assert_eq!(matcher.matches(origin.as_bytes()), expected, "{allowed} {origin}");
        }
        for bad in [
            "",
            "foo.com",
            "ftp://a",
            "https://",
            "https://a.*",
            "https://a/b",
            "https://a:x",
            "https://a:999999",
            "https://a..b",
        ] {
            assert_eq!(route_origin(bad), None, "{bad}");
        }
    }
}
