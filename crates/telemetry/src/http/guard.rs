//! Who may talk to the admin interface: programs on this machine and people in front of it, not web pages.
//!
//! It listens on loopback, but a browser is on loopback too. A `Host` other than our own means DNS rebinding; an
//! `Origin` other than our own means that some web page is asking.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::reply::sentence;

/// The hosts under which the admin interface may be addressed, on any port (port-forwarding changes it).
#[derive(Clone, Debug)]
pub(super) struct Hosts(Arc<[String]>);

impl Hosts {
    /// `localhost`, `127.0.0.1`, `[::1]`, and the address it is bound to.
    pub(super) fn new(bound: IpAddr) -> Self {
        let own = match bound {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        Self([String::from("localhost"), "127.0.0.1".into(), "[::1]".into(), own].into())
    }

    fn allow(&self, authority: &str) -> bool {
        // A user name in front could hide the real host from a careless reader; nobody needs one here.
        !authority.contains('@')
            && authority
                .parse::<Authority>()
                .is_ok_and(|authority| self.0.iter().any(|host| authority.host().eq_ignore_ascii_case(host)))
    }
}

/// Refuses strangers with 403 and marks every answer as not to be cached, sniffed or framed.
pub(super) async fn guard(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    let authority = request.uri().authority().map(Authority::as_str);
    let mut response = match refusal(&hosts, authority, request.headers()) {
        Some(text) => sentence(StatusCode::FORBIDDEN, text),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, max-age=0"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    response
}

/// Why a request is refused.
fn refusal(hosts: &Hosts, authority: Option<&str>, headers: &HeaderMap) -> Option<&'static str> {
    const HOST: &str = "The Host header must name localhost, 127.0.0.1, [::1] or the address that the admin interface \
                        is bound to.";
    const ORIGIN: &str = "The admin interface does not answer pages of other origins.";
    let mut named = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (named.next(), named.next()) else { return Some(HOST) };
    let Ok(host) = host.to_str() else { return Some(HOST) };
    if !hosts.allow(host) || authority.is_some_and(|authority| !hosts.allow(authority)) {
        return Some(HOST);
    }
    let own = |origin: &HeaderValue| {
        let origin = origin.to_str().ok().and_then(|text| text.strip_prefix("http://"));
        origin.is_some_and(|origin| origin.eq_ignore_ascii_case(host))
    };
    let foreign = headers.get_all(header::ORIGIN).iter().any(|origin| !own(origin));
    foreign.then_some(ORIGIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_refused() {
        let hosts = Hosts::new("127.0.1.7".parse().unwrap());
        let check = |authority: Option<&str>, lines: &[(&'static str, &str)], allowed: bool| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, HeaderValue::from_str(value).unwrap());
            }
            assert_eq!(refusal(&hosts, authority, &headers).is_none(), allowed, "{authority:?} {lines:?}");
        };
        for host in ["localhost", "LocalHost:8080", "127.0.0.1:15000", "[::1]:1", "[::1]", "127.0.1.7:15000"] {
            check(None, &[("host", host)], true);
        }
        for host in ["evil.com", "localhost.evil.com", "", "::1", "127.0.0.2", "localhost@evil.com", "evil@localhost"] {
            check(None, &[("host", host)], false);
        }
        check(None, &[], false);
        check(None, &[("host", "localhost"), ("host", "evil.com")], false);
        check(Some("evil.com"), &[("host", "localhost")], false);
        check(Some("localhost:1"), &[("host", "localhost:1")], true);
        check(None, &[("host", "localhost:1"), ("origin", "http://localhost:1")], true);
        for origin in ["http://evil.com", "null", "http://localhost:2", "https://localhost:1", "", "localhost:1"] {
            check(None, &[("host", "localhost:1"), ("origin", origin)], false);
        }
    }
}
