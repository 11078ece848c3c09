//! The `Location` of a redirect (Istio `HTTPRedirect`, Envoy `RedirectAction`, Gateway API `HTTPRequestRedirectFilter`).
//!
//! Scheme, host, port and path come from the configuration where it names them, else from the request. The port is left
//! out where it is the scheme's default. Nothing that could end the header line or begin another is written raw.

use outrigger_model::{Redirect, RedirectPath, RedirectPort, RouteMatch};

use super::rewrite::{with_prefix, write_encoded, write_path};
use crate::request::RequestView;

/// The value of `Location`. `local_port` is the port the request came in on.
///
/// A request without authority (HTTP/1.0) gets a reference without one unless the configuration names a host.
pub(crate) fn location(
    redirect: &Redirect,
    matches: &RouteMatch,
    request: &RequestView<'_>,
    local_port: u16,
) -> Vec<u8> {
    let scheme = redirect.scheme.as_deref().unwrap_or(request.scheme);
    let mut out = Vec::with_capacity(request.authority.len() + request.path.len() + 64);
    let authority = redirect.authority.as_ref().map_or(request.authority, |new| new.as_str().as_bytes());
    if !authority.is_empty() {
        write_encoded(&mut out, scheme.as_bytes());
        out.extend_from_slice(b"://");
        let (host, stated) = split_port(authority);
        write_encoded(&mut out, host);
        let port = port(redirect, request, scheme, stated, local_port);
        if let Some(port) = port.filter(|port| default_port(scheme) != Some(*port)) {
            out.push(b':');
            out.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
        }
    }
    let start = out.len();
    write_target(&mut out, redirect, matches, request);
    if start == 0 && out.starts_with(b"//") {
        // What follows two slashes would be read as a host (RFC 3986 §4.2): `/.` keeps it a path.
        out.splice(..0, *b"/.");
    }
    out
}

/// The port to state, before default ones are left out; `stated` is that of the authority that is used.
fn port(
    redirect: &Redirect,
    request: &RequestView<'_>,
    scheme: &str,
    stated: Option<u16>,
    local_port: u16,
) -> Option<u16> {
    match redirect.port {
        RedirectPort::Exact(port) => Some(port),
        RedirectPort::Request => Some(local_port),
        RedirectPort::ProtocolDefault => None,
        // A new host brings its own port or none.
        RedirectPort::Keep if redirect.authority.is_some() => stated,
        // Port 80 of plain HTTP says nothing about HTTPS; any other port was chosen by somebody and stays.
        RedirectPort::Keep if scheme != request.scheme && stated == default_port(request.scheme) => None,
        RedirectPort::Keep => stated,
    }
}

fn write_target(out: &mut Vec<u8>, redirect: &Redirect, matches: &RouteMatch, request: &RequestView<'_>) {
    let mut own_query = false;
    // `OPTIONS *` names no path, and a `Location` cannot name none.
    let path = if request.path == b"*" { b"/" } else { request.path };
    match &redirect.path {
        RedirectPath::Keep => write_path(out, &[path]),
        RedirectPath::Full(path) => {
            own_query = path.contains('?');
            write_path(out, &[path.as_bytes()]);
        }
        RedirectPath::Prefix(new) => write_path(out, &with_prefix(matches, new, path)),
    }
    if let Some(query) = request.query.filter(|_| !own_query) {
        out.push(b'?');
        write_encoded(out, query);
    }
}

/// The host, with the brackets of an IPv6 address, and the port.
fn split_port(authority: &[u8]) -> (&[u8], Option<u16>) {
    let colon = memchr::memrchr(b':', authority).filter(|at| !authority[*at..].contains(&b']'));
    let port = colon.and_then(|at| std::str::from_utf8(&authority[at + 1..]).ok()?.parse().ok());
    match (colon, port) {
        (Some(at), Some(port)) => (&authority[..at], Some(port)),
        _ => (authority, None),
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use outrigger_model::{HeaderValue, PathMatch};
    use proptest::prelude::*;

    use super::super::testing::with_request;
    use super::*;

    const KEEP: Redirect =
        Redirect { status: 301, scheme: None, authority: None, port: RedirectPort::Keep, path: RedirectPath::Keep };

    fn scheme(text: &str) -> Redirect {
        Redirect { scheme: Some(text.into()), ..KEEP }
    }

    fn authority(text: &str) -> Redirect {
        Redirect { authority: Some(HeaderValue::parse(text).unwrap()), ..KEEP }
    }

    fn port(port: RedirectPort) -> Redirect {
        Redirect { port, ..KEEP }
    }

    fn path(path: RedirectPath) -> Redirect {
        Redirect { path, ..KEEP }
    }

    /// The request came in on port 15001, by a route for the prefix `/old`.
    #[track_caller]
    fn check(redirect: &Redirect, url: &str, expected: &str) {
        let matches = RouteMatch { path: PathMatch::Prefix("/old".into()), ..RouteMatch::default() };
        let found = with_request(&format!("GET {url}"), &[], |request| location(redirect, &matches, request, 15001));
        assert_eq!(String::from_utf8(found).unwrap(), expected, "{redirect:?} of {url}");
    }

    #[test]
    fn what_is_not_configured_comes_from_the_request() {
        check(&KEEP, "http://a.b/old?q=1", "http://a.b/old?q=1");
        check(&KEEP, "http://a.b:8080/old", "http://a.b:8080/old");
        check(&KEEP, "https://[::1]:8443/old", "https://[::1]:8443/old");
        check(&KEEP, "https://[::1]/old", "https://[::1]/old");
        check(&authority("new.host"), "http://a.b:8080/old?q=1", "http://new.host/old?q=1");
        check(&authority("new.host:81"), "http://a.b/old", "http://new.host:81/old");
    }

    #[test]
    fn the_default_port_of_a_scheme_is_left_out() {
        check(&KEEP, "http://a.b:80/old", "http://a.b/old");
        check(&scheme("https"), "http://a.b/old", "https://a.b/old");
        check(&scheme("https"), "http://a.b:80/old", "https://a.b/old");
        check(&scheme("http"), "https://a.b:443/old", "http://a.b/old");
        check(&scheme("https"), "http://a.b:8080/old", "https://a.b:8080/old");
        check(&scheme("http"), "http://a.b:443/old", "http://a.b:443/old");
        check(&authority("new.host:80"), "http://a.b/old", "http://new.host/old");
        check(&port(RedirectPort::Exact(80)), "http://a.b:8080/old", "http://a.b/old");
    }

    #[test]
    fn a_port_can_be_chosen() {
        check(&port(RedirectPort::Exact(8443)), "http://a.b:8080/old", "http://a.b:8443/old");
        check(&port(RedirectPort::ProtocolDefault), "http://a.b:8080/old", "http://a.b/old");
        check(&port(RedirectPort::Request), "http://a.b/old", "http://a.b:15001/old");
        check(
            &Redirect { scheme: Some("https".into()), ..port(RedirectPort::Exact(443)) },
            "http://a.b:80/old",
            "https://a.b/old",
        );
        check(&Redirect { port: RedirectPort::Exact(81), ..authority("x:99") }, "http://a.b/old", "http://x:81/old");
    }

    #[test]
    fn the_query_stays_unless_the_new_path_brings_one() {
        let full = |text: &str| path(RedirectPath::Full(text.into()));
        check(&full("/new"), "http://a/old/x?q=1", "http://a/new?q=1");
        check(&full("/new?v=2"), "http://a/old?q=1", "http://a/new?v=2");
        check(&full("/new?"), "http://a/old?q=1", "http://a/new?");
        check(&full("new"), "http://a/old", "http://a/new");
    }

    #[test]
    fn a_prefix_is_replaced() {
        let prefix = |text: &str| path(RedirectPath::Prefix(text.into()));
        check(&prefix("/new"), "http://a/old/x?q=1", "http://a/new/x?q=1");
        check(&prefix("/"), "http://a/old", "http://a/");
        check(&prefix(""), "http://a/old", "http://a/");
    }

    /// Gateway API's own cases: a rule for the prefix `/old`, segment by segment, on the listener of a port.
    #[track_caller]
    fn check_gateway(redirect: &Redirect, listener: u16, url: &str, expected: &str) {
        let matches = RouteMatch { path: PathMatch::Segments("/old".into()), ..RouteMatch::default() };
        let found = with_request(&format!("GET {url}"), &[], |request| location(redirect, &matches, request, listener));
        assert_eq!(String::from_utf8(found).unwrap(), expected, "{redirect:?} of {url} on port {listener}");
    }

    /// What HTTPRoute's `scheme`, `hostname` and `port` become: without either port or scheme the listener's port counts,
    /// with a scheme alone that scheme's port.
    fn gateway(scheme: Option<&str>, hostname: Option<&str>, port: Option<u16>) -> Redirect {
        let derived = if scheme.is_some() { RedirectPort::ProtocolDefault } else { RedirectPort::Request };
        Redirect {
            scheme: scheme.map(Into::into),
            authority: hostname.map(|name| HeaderValue::parse(name).unwrap()),
            port: port.map_or(derived, RedirectPort::Exact),
            ..KEEP
        }
    }

    #[test]
    fn the_gateway_apis_ports_and_schemes() {
        let org = Some("example.org");
        for (listener, base, scheme, port, expected) in [
            (80, "http://a.b", None, None, "http://example.org/old"),
            (80, "http://a.b", None, Some(80), "http://example.org/old"),
            (80, "http://a.b", None, Some(8080), "http://example.org:8080/old"),
            (80, "http://a.b", Some("https"), None, "https://example.org/old"),
            (80, "http://a.b", Some("https"), Some(443), "https://example.org/old"),
            (80, "http://a.b", Some("https"), Some(8443), "https://example.org:8443/old"),
            (8080, "http://a.b:8080", None, None, "http://example.org:8080/old"),
            (8080, "http://a.b:8080", None, Some(80), "http://example.org/old"),
            (8080, "http://a.b:8080", Some("https"), None, "https://example.org/old"),
            (443, "https://a.b", None, None, "https://example.org/old"),
            (443, "https://a.b", None, Some(443), "https://example.org/old"),
            (443, "https://a.b", None, Some(8443), "https://example.org:8443/old"),
            (443, "https://a.b", Some("http"), None, "http://example.org/old"),
            (443, "https://a.b", Some("http"), Some(80), "http://example.org/old"),
            (443, "https://a.b", Some("http"), Some(8080), "http://example.org:8080/old"),
        ] {
            check_gateway(&gateway(scheme, org, port), listener, &format!("{base}/old"), expected);
        }
        for (listener, url, redirect, expected) in [
            (80, "http://a.b/old", gateway(None, None, Some(8083)), "http://a.b:8083/old"),
            (80, "http://a.b/old", gateway(None, org, Some(8083)), "http://example.org:8083/old"),
            (80, "http://a.b/old", gateway(Some("https"), None, None), "https://a.b/old"),
            (8080, "http://a.b:8080/old", gateway(Some("https"), None, None), "https://a.b/old"),
            (8080, "http://a.b/old", gateway(None, None, None), "http://a.b:8080/old"),
            (80, "http://a.b:31080/old", gateway(None, None, None), "http://a.b/old"),
            (80, "http://[::1]:31080/old", gateway(None, None, Some(81)), "http://[::1]:81/old"),
        ] {
            check_gateway(&redirect, listener, url, expected);
        }
    }

    #[test]
    fn the_gateway_apis_paths() {
        let host = |path| Redirect { path, ..gateway(None, Some("example.org"), None) };
        let prefix = |text: &str| RedirectPath::Prefix(text.into());
        for (redirect, url, expected) in [
            (path(prefix("/new")), "http://a/old/lemon", "http://a/new/lemon"),
            (path(prefix("/new")), "http://a/old", "http://a/new"),
            (path(prefix("/new/")), "http://a/old/lemon?q=1", "http://a/new/lemon?q=1"),
            (path(prefix("/")), "http://a/old/lemon", "http://a/lemon"),
            (path(prefix("/")), "http://a/old", "http://a/"),
            (host(prefix("/new")), "http://a/old", "http://example.org/new"),
            (path(RedirectPath::Full("/full".into())), "http://a/old/path", "http://a/full"),
            (host(RedirectPath::Full("/full".into())), "http://a/old/path", "http://example.org/full"),
        ] {
            check_gateway(&redirect, 80, url, expected);
        }
    }

    #[test]
    fn a_path_is_never_read_as_a_host() {
        let stripped = path(RedirectPath::Prefix("".into()));
        check(&stripped, "http:///old//evil.example", "/.//evil.example");
        check(&KEEP, "http:////evil.example", "/.//evil.example");
        check_gateway(&stripped, 80, "http:///old//evil.example/", "/.//evil.example/");
        check_gateway(&stripped, 80, "http://a/old//evil.example", "http://a//evil.example");
        check(&path(RedirectPath::Full("//evil.example".into())), "http:///old", "/.//evil.example");
    }

    #[test]
    fn a_request_for_no_path_is_sent_to_the_root() {
        check(&scheme("https"), "http://a", "https://a/");
        check_gateway(&path(RedirectPath::Prefix("/new".into())), 80, "http://a", "http://a/new");
    }

    #[test]
    fn nothing_is_injected() {
        let full = path(RedirectPath::Full("/a\r\nSet-Cookie: x".into()));
        check(&full, "http://a/old", "http://a/a%0D%0ASet-Cookie:%20x");
        check(&scheme("ht\ntp"), "http://a/old", "ht%0Atp://a/old");
        check(&KEEP, "http://a\r\nb/old", "http://a%0D%0Ab/old");
    }

    proptest! {
        #[test]
        fn any_location_is_one_visible_word(
            scheme in prop::option::of(any::<String>()), new in any::<String>(), whole in any::<bool>(),
            authority in "[!-.0-~]*", path in "/[!-~&&[^?#]]*", port in any::<u16>(),
        ) {
            let path_of = if whole { RedirectPath::Full } else { RedirectPath::Prefix };
            let redirect = Redirect { scheme: scheme.map(Into::into), path: path_of(new.into()), ..KEEP };
            let redirect = Redirect { port: RedirectPort::Exact(port), ..redirect };
            let url = format!("GET http://{authority}{path}");
            let found = with_request(&url, &[], |request| location(&redirect, &RouteMatch::default(), request, 80));
            prop_assert!(found.iter().all(u8::is_ascii_graphic), "{}", String::from_utf8_lossy(&found));
        }
    }

    #[test]
    fn without_an_authority_the_reference_is_relative() {
        check(&scheme("https"), "http:///old?q", "/old?q");
        check(&authority("a.b"), "http:///old", "http://a.b/old");
    }

    #[test]
    fn a_strange_authority_is_kept_as_it_is() {
        check(&KEEP, "http://a:b:99999/old", "http://a:b:99999/old");
        check(&KEEP, "http://a:/old", "http://a:/old");
    }
}
