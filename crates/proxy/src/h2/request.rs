//! A request of HTTP/2 as the proxy judges any request: checked beyond what the `h2` crate checks, and seen as a head.
//!
//! What breaks HTTP/2 is malformed and ends its stream with `PROTOCOL_ERROR` (RFC 9113 §8.1.1); the connection goes on.

use std::time::Duration;

use h2::ext::Protocol;
use http::header::{CONTENT_LENGTH, COOKIE, HOST, HeaderMap};
use http::request::Parts;
use httparse::Header;

use crate::h1::body::Framing;
use crate::h1::head::{self, FIELDS_MAX, RequestHead, Target, Version};
use crate::upgrade;

/// Why a request is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It breaks a rule: its name.
    Malformed(&'static str),
    /// It has more fields than anybody needs, cookie crumbs among them.
    TooManyFields,
    /// Its target is too long.
    TargetLong,
}

/// What a head is made of, besides the request itself.
#[derive(Debug, Default)]
pub(crate) struct Room<'b> {
    fields: Vec<Header<'b>>,
}

/// What a WebSocket over HTTP/2 (RFC 8441) lacks to be one of HTTP/1, which is what routes and endpoints know.
#[derive(Debug)]
pub(crate) struct WebSocketFields {
    key: String,
}

impl WebSocketFields {
    /// With a key made of random bits, as RFC 6455 §4.1 asks for.
    pub(crate) fn new(random: u128) -> Self {
        Self { key: upgrade::fresh_key(random) }
    }
}

/// The cookies of a request in one field (RFC 9113 §8.2.3); empty where one field holds them anyway.
pub(crate) fn joined_cookies(headers: &HeaderMap) -> Vec<u8> {
    let mut crumbs = headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else { return Vec::new() };
    let mut joined = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    joined
}

/// Reads a request. `has_body` says whether its stream goes on.
pub(crate) fn read<'b>(
    request: &'b Parts,
    cookies: &'b [u8],
    has_body: bool,
    target_bytes_max: usize,
    websocket: Option<&'b WebSocketFields>,
    room: &'b mut Room<'b>,
) -> Result<RequestHead<'b>, Unread> {
    let headers = &request.headers;
    if headers.len() > FIELDS_MAX {
        return Err(Unread::TooManyFields);
    }
    let method = request.method.as_str();
    if method.len() > head::METHOD_BYTES_MAX || method.bytes().any(|b| b.is_ascii_lowercase()) {
        return Err(Unread::Malformed("method"));
    }
    let target = target(request, method)?;
    if target.path_and_query.len() > target_bytes_max {
        return Err(Unread::TargetLong);
    }
    let framing = framing(headers, method, has_body)?;
    let mut expects_continue = false;
    for (name, value) in headers {
        if *name == COOKIE && !cookies.is_empty() || *name == HOST {
            continue;
        }
        expects_continue |= *name == http::header::EXPECT && value.as_bytes().eq_ignore_ascii_case(b"100-continue");
        room.fields.push(Header { name: name.as_str(), value: value.as_bytes().trim_ascii() });
    }
    if !cookies.is_empty() {
        room.fields.push(Header { name: "cookie", value: cookies });
    }
    let mut method = method;
    if let Some(WebSocketFields { key }) = websocket {
        if request.extensions.get::<Protocol>().is_none_or(|protocol| protocol.as_str() != "websocket") {
            return Err(Unread::Malformed("protocol"));
        }
        method = "GET";
        let added = [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", key)];
        room.fields.extend(added.map(|(name, value)| Header { name, value: value.as_bytes() }));
    }
    let bytes = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>();
    let head = RequestHead {
        method,
        len: method.len() + target.authority.len() + target.path_and_query.len() + bytes,
        target,
        version: Version::Http2,
        headers: &room.fields,
        framing,
        keep_alive: true,
        expects_continue: expects_continue && framing != Framing::None,
    };
    // As a plain request it would be answered, and the answer be taken for a WebSocket.
    if websocket.is_some() && !upgrade::is_asked(&head) {
        return Err(Unread::Malformed("websocket"));
    }
    Ok(head)
}

/// Where it goes. The scheme is that of the connection, whatever the request says it is, but it has to be one of HTTP's.
fn target<'b>(request: &'b Parts, method: &str) -> Result<Target<'b>, Unread> {
    let malformed = |rule| Err(Unread::Malformed(rule));
    let uri = &request.uri;
    let authority = match uri.authority() {
        Some(authority) => Some(read_authority(authority.as_str().as_bytes())?),
        None => None,
    };
    let mut hosts = request.headers.get_all(HOST).iter();
    let authority = match (authority, hosts.next()) {
        (_, Some(_)) if hosts.next().is_some() => return malformed("host_twice"),
        (None, None) => return malformed("authority_missing"),
        (Some(authority), None) => authority,
        (None, Some(host)) => read_authority(host.as_bytes())?,
        (Some(authority), Some(host)) => {
            if !head::same_authority(authority, read_authority(host.as_bytes())?) {
                return malformed("authority_and_host_differ");
            }
            authority
        }
    };
    let is_tunnel = method == "CONNECT" && request.extensions.get::<Protocol>().is_none();
    if is_tunnel {
        return Ok(Target { authority, path_and_query: "", absolute: true });
    }
    // Where the host is in `host` alone, the library tells no scheme.
    if uri.authority().is_some() && !matches!(uri.scheme_str(), Some("http" | "https")) {
        return malformed("scheme");
    }
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    let is_path = path.starts_with('/') && !path.starts_with("//");
    if !(is_path || (path == "*" && method == "OPTIONS")) || path.bytes().any(|b| b == b'#' || b >= 0x7f) {
        return malformed("path");
    }
    Ok(Target { authority, path_and_query: path, absolute: false })
}

fn read_authority(bytes: &[u8]) -> Result<&str, Unread> {
    head::authority(bytes).map_err(|_| Unread::Malformed("authority"))
}

/// `h2` compares the first content-length with the DATA that comes, and looks at no other.
fn framing(headers: &HeaderMap, method: &str, has_body: bool) -> Result<Framing, Unread> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = match (lengths.next(), lengths.next()) {
        (_, Some(_)) => return Err(Unread::Malformed("content_length_twice")),
        (Some(length), None) => {
            Some(head::content_length(length.as_bytes()).ok_or(Unread::Malformed("content_length"))?)
        }
        (None, None) => None,
    };
    Ok(match (has_body, length) {
        (true, Some(length)) => Framing::Length(length),
        (true, None) => Framing::Chunked,
        (false, Some(0)) => Framing::Length(0),
        (false, Some(_)) => return Err(Unread::Malformed("content_length")),
        // Servers of HTTP/1 expect to be told that there is nothing where there could be something.
        (false, None) if matches!(method, "POST" | "PUT" | "PATCH") => Framing::Length(0),
        (false, None) => Framing::None,
    })
}

/// `grpc-timeout`: up to eight digits and a unit. Anything else is no limit, as for Envoy.
pub(crate) fn grpc_timeout(headers: &[Header<'_>]) -> Option<Duration> {
    let field = headers.iter().find(|h| h.name.len() == 12 && h.name.eq_ignore_ascii_case("grpc-timeout"))?;
    let (unit, digits) = field.value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    /// Target, framing and fields of a request, or why it is not read.
    fn seen(method: &str, uri: &str, fields: &[(&str, &str)], has_body: bool) -> String {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let cookies = joined_cookies(&parts.headers);
        let mut room = Room::default();
        match read(&parts, &cookies, has_body, 64, None, &mut room) {
            Err(unread) => format!("{unread:?}"),
            Ok(head) => {
                let fields: Vec<String> =
                    head.headers.iter().map(|h| format!("{}={}", h.name, String::from_utf8_lossy(h.value))).collect();
                let Target { authority, path_and_query, .. } = head.target;
                format!("{authority} {path_and_query} {:?} {}", head.framing, fields.join(" "))
            }
        }
    }

    #[test]
    fn a_request_is_seen_as_a_head() {
        let seen = |fields: &[(&str, &str)]| seen("GET", "http://a.example:80/x?y", fields, false);
        assert_eq!(seen(&[("x", " 1 ")]), "a.example:80 /x?y None x=1");
        assert_eq!(seen(&[("host", "A.example"), ("x", "1")]), "a.example:80 /x?y None x=1");
        assert_eq!(
            seen(&[("cookie", "a=1"), ("x", "1"), ("cookie", "b=2")]),
            "a.example:80 /x?y None x=1 cookie=a=1; b=2"
        );
        assert_eq!(seen(&[("cookie", "a=1")]), "a.example:80 /x?y None cookie=a=1");
    }

    #[test]
    fn the_body_is_as_the_stream_and_the_length_say() {
        let framing = |method, fields: &[(&str, &str)], has_body| seen(method, "http://a/", fields, has_body);
        assert_eq!(framing("POST", &[], true), "a / Chunked ");
        assert_eq!(framing("POST", &[], false), "a / Length(0) ");
        assert_eq!(framing("GET", &[("content-length", "3")], true), "a / Length(3) content-length=3");
        for (fields, has_body) in [
            (&[("content-length", "3")][..], false),
            (&[("content-length", "3, 3")], true),
            (&[("content-length", "+3")], true),
        ] {
            assert_eq!(framing("POST", fields, has_body), "Malformed(\"content_length\")", "{fields:?}");
        }
        let twice = [("content-length", "3"), ("content-length", "3")];
        assert_eq!(framing("POST", &twice, true), "Malformed(\"content_length_twice\")");
    }

    #[test]
    fn the_host_may_stand_in_its_field_alone() {
        assert_eq!(seen("GET", "/x", &[("host", "a"), ("x", "1")], false), "a /x None x=1");
    }

    #[test]
    fn what_has_two_readings_is_malformed() {
        for (method, uri, fields, rule) in [
            ("get", "http://a/", &[][..], "method"),
            ("GET", "http://a/", &[("host", "b")], "authority_and_host_differ"),
            ("GET", "http://a/", &[("host", "a"), ("host", "a")], "host_twice"),
            ("GET", "http://a@b/", &[], "authority"),
            ("GET", "http://a,b/", &[], "authority"),
            ("GET", "http://a//x", &[], "path"),
            ("GET", "ftp://a/", &[], "scheme"),
            ("GET", "/x", &[], "authority_missing"),
        ] {
            assert_eq!(seen(method, uri, fields, false), format!("Malformed({rule:?})"), "{method} {uri} {fields:?}");
        }
        assert_eq!(seen("GET", &format!("http://a/{}", "x".repeat(64)), &[], false), "TargetLong");
        let crumbs = vec![("cookie", "a"); 101];
        assert_eq!(seen("GET", "http://a/", &crumbs, false), "TooManyFields");
    }

    #[test]
    fn a_grpc_timeout_is_eight_digits_and_a_unit() {
        for (text, want) in [
            ("5S", Some(Duration::from_secs(5))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("250m", Some(Duration::from_millis(250))),
            ("7u", Some(Duration::from_micros(7))),
            ("0n", Some(Duration::ZERO)),
            ("2M", Some(Duration::from_secs(120))),
            ("-1S", None),
            ("1x", None),
            ("S", None),
            ("", None),
            ("123456789S", None),
        ] {
            let field = [Header { name: "grpc-timeout", value: text.as_bytes() }];
            assert_eq!(grpc_timeout(&field), want, "{text:?}");
        }
    }
}
