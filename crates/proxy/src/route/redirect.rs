//! The `Location` of a redirect (Istio `HTTPRedirect`, Envoy `RedirectAction`).
//!
//! Scheme, host, port and path come from the configuration where it names them, else from the request. The port is left
//! out where it is the scheme's default. Nothing that could end the header line or begin another is written raw.

use outrigger_model::{Redirect, RedirectPath, RedirectPort, RouteMatch};

use super::rewrite::{after_prefix, write_encoded, write_path};
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
    write_target(&mut out, redirect, matches, request);
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
    match &redirect.path {
        RedirectPath::Keep => write_path(out, &[request.path]),
        RedirectPath::Full(path) => {
            own_query = path.contains('?');
            write_path(out, &[path.as_bytes()]);
        }
        RedirectPath::Prefix(new) => write_path(out, &[new.as_bytes(), after_prefix(matches, request.path)]),
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
