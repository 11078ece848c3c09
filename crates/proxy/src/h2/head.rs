//! Heads between the two forms: the values of HTTP/2, and the bytes of HTTP/1 in which the proxy plans and writes them.
//!
//! There is one place that decides which fields pass and which are added (`plan` for requests, `exchange` for answers), and
//! it writes HTTP/1. What goes out over HTTP/2 is made of those bytes: fields that only frame a connection of HTTP/1 are left
//! out, names and values are parts of one block of shared memory.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, Version};

/// A head that HTTP/2 cannot carry; the rule it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unfit(pub(crate) &'static str);

/// What a request says over HTTP/2 that its head does not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// Whether trailers are wanted (`te: trailers`): gRPC insists on it.
    pub(crate) takes_trailers: bool,
    /// Whether it is a CONNECT with the protocol `websocket` (RFC 8441) rather than an upgrade.
    pub(crate) opens_websocket: bool,
}

/// The request of a head.
pub(crate) fn request(head: &[u8], manner: Manner) -> Result<Request<()>, Unfit> {
    let block = Bytes::copy_from_slice(head);
    let (line, fields) = first_line(&block).ok_or(Unfit("request_line"))?;
    let mut parts = line.split(|b| *b == b' ');
    let (Some(method), Some(target)) = (parts.next(), parts.next()) else { return Err(Unfit("request_line")) };
    let method = if manner.opens_websocket { b"CONNECT" } else { method };
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method).map_err(|_| Unfit("method"))?;
    *request.version_mut() = Version::HTTP_2;
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(Scheme::HTTP);
    let path = PathAndQuery::from_maybe_shared(block.slice_ref(target));
    uri.path_and_query = Some(path.map_err(|_| Unfit("target"))?);
    let headers = request.headers_mut();
    headers.reserve(16);
    for (name, value) in fields {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                let authority = Authority::from_maybe_shared(block.slice_ref(value));
                uri.authority = Some(authority.map_err(|_| Unfit("host"))?);
                continue;
            }
            6 if name.eq_ignore_ascii_case(b"cookie") => {
                split_cookie(&block, value, headers)?;
                continue;
            }
            // They make a WebSocket of HTTP/1.
            17 if manner.opens_websocket && name.eq_ignore_ascii_case(b"sec-websocket-key") => continue,
            _ => {}
        }
        append(&block, name, value, headers)?;
    }
    if manner.takes_trailers {
        headers.insert(http::header::TE, HeaderValue::from_static("trailers"));
    }
    *request.uri_mut() = Uri::from_parts(uri).map_err(|_| Unfit("target"))?;
    if manner.opens_websocket {
        request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    }
    Ok(request)
}

/// The answer of a head.
pub(crate) fn response(head: &[u8]) -> Result<Response<()>, Unfit> {
    let block = Bytes::copy_from_slice(head);
    let (line, fields) = first_line(&block).ok_or(Unfit("status_line"))?;
    let status = line.get(9..12).and_then(|status| StatusCode::from_bytes(status).ok()).ok_or(Unfit("status"))?;
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = Version::HTTP_2;
    let headers = response.headers_mut();
    headers.reserve(16);
    for (name, value) in fields {
        append(&block, name, value, headers)?;
    }
    Ok(response)
}

/// The value of a field of a head.
pub(crate) fn field<'h>(head: &'h [u8], name: &[u8]) -> Option<&'h [u8]> {
    let (_, mut fields) = first_line(head)?;
    fields.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// Trailers that stand as lines, without an empty one at their end.
pub(crate) fn trailers(lines: &[u8]) -> HeaderMap {
    let block = Bytes::copy_from_slice(lines);
    let mut map = HeaderMap::new();
    for (name, value) in (Fields { rest: &block }) {
        // They were read as fields of HTTP/1; what HTTP/2 does not know as such is lost alone.
        let _ = append(&block, name, value, &mut map);
    }
    map
}

/// Trailers as lines.
pub(crate) fn lines(trailers: &HeaderMap) -> Vec<u8> {
    let mut lines = Vec::new();
    for (name, value) in trailers {
        crate::headers::write_field(name.as_str(), value.as_bytes(), &mut lines);
    }
    lines
}

fn append(block: &Bytes, name: &[u8], value: &[u8], headers: &mut HeaderMap) -> Result<(), Unfit> {
    if is_of_http1(name) {
        return Ok(());
    }
    let is_unique = is_unique(name);
    let name = field_name(name)?;
    let mut value = HeaderValue::from_maybe_shared(block.slice_ref(value)).map_err(|_| Unfit("field_value"))?;
    // HPACK's word for a value that is kept out of its tables.
    value.set_sensitive(is_unique);
    headers.try_append(name, value).map_err(|_| Unfit("too_many_fields"))?;
    Ok(())
}

/// Cookies compress better one by one (RFC 9113 §8.2.3).
fn split_cookie(block: &Bytes, value: &[u8], headers: &mut HeaderMap) -> Result<(), Unfit> {
    let mut rest = value;
    loop {
        let end = memchr::memmem::find(rest, b"; ");
        append(block, b"cookie", &rest[..end.unwrap_or(rest.len())], headers)?;
        match end {
            Some(at) => rest = &rest[at + 2..],
            None => return Ok(()),
        }
    }
}

/// The name of a field. Those that a proxy writes into every message are at hand: any other that is not of the standard
/// takes memory of its own.
fn field_name(name: &[u8]) -> Result<HeaderName, Unfit> {
    static USUAL: [HeaderName; 7] = [
        HeaderName::from_static("x-request-id"),
        HeaderName::from_static("x-forwarded-for"),
        HeaderName::from_static("x-forwarded-proto"),
        HeaderName::from_static("x-envoy-attempt-count"),
        HeaderName::from_static("x-envoy-upstream-service-time"),
        HeaderName::from_static("grpc-status"),
        HeaderName::from_static("grpc-timeout"),
    ];
    if let Some(usual) = USUAL.iter().find(|usual| usual.as_str().as_bytes() == name) {
        return Ok(usual.clone());
    }
    HeaderName::from_bytes(name).map_err(|_| Unfit("field_name"))
}

/// Fields of which no two messages have the same: in a table they only take the place of those that come again.
fn is_unique(name: &[u8]) -> bool {
    match name.len() {
        11 => name.eq_ignore_ascii_case(b"traceparent") || name.eq_ignore_ascii_case(b"x-b3-spanid"),
        12 => name.eq_ignore_ascii_case(b"x-request-id") || name.eq_ignore_ascii_case(b"x-b3-traceid"),
        29 => name.eq_ignore_ascii_case(b"x-envoy-upstream-service-time"),
        _ => false,
    }
}

/// Fields that frame a connection of HTTP/1 and have no place in HTTP/2 (RFC 9113 §8.2.2).
fn is_of_http1(name: &[u8]) -> bool {
    match name.len() {
        7 => name.eq_ignore_ascii_case(b"upgrade"),
        10 => name.eq_ignore_ascii_case(b"connection") || name.eq_ignore_ascii_case(b"keep-alive"),
        16 => name.eq_ignore_ascii_case(b"proxy-connection"),
        17 => name.eq_ignore_ascii_case(b"transfer-encoding"),
        _ => false,
    }
}

/// The first line of a head, and its fields.
fn first_line(head: &[u8]) -> Option<(&[u8], Fields<'_>)> {
    let end = memchr::memchr(b'\n', head)?;
    Some((head[..end].strip_suffix(b"\r")?, Fields { rest: &head[end + 1..] }))
}

/// The field lines of a head that the proxy wrote: `name: value`, CR, LF.
struct Fields<'h> {
    rest: &'h [u8],
}

impl<'h> Iterator for Fields<'h> {
    type Item = (&'h [u8], &'h [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let end = memchr::memchr(b'\n', self.rest)?;
        let line = self.rest[..end].strip_suffix(b"\r")?;
        let colon = memchr::memchr(b':', line)?;
        self.rest = &self.rest[end + 1..];
        let value = &line[colon + 1..];
        Some((&line[..colon], value.strip_prefix(b" ").unwrap_or(value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Manner = Manner { takes_trailers: false, opens_websocket: false };

    /// As it stands on the wire, but for its order.
    fn shown(headers: &HeaderMap) -> Vec<String> {
        let mut all: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        all.sort();
        all
    }

    #[test]
    fn a_request_loses_what_frames_http_1_and_keeps_the_rest() {
        let head = b"POST /a?b=c HTTP/1.1\r\nhost: web.example:80\r\nX-One: 1\r\ncookie: a=1; b=2\r\n\
            connection: Upgrade\r\ntransfer-encoding: chunked\r\nx-empty: \r\nX-One: 2\r\n\r\n";
        let manner = Manner { takes_trailers: true, ..PLAIN };
        let request = request(head, manner).unwrap();
        assert_eq!(
            (request.method().as_str(), request.uri().to_string()),
            ("POST", "http://web.example:80/a?b=c".into())
        );
        assert_eq!(
            shown(request.headers()),
            ["cookie: a=1", "cookie: b=2", "te: trailers", "x-empty: ", "x-one: 1", "x-one: 2"]
        );
    }

    #[test]
    fn a_websocket_is_opened_by_connect() {
        let head = b"GET /chat HTTP/1.1\r\nhost: a\r\nsec-websocket-key: x\r\nsec-websocket-version: 13\r\n\
            connection: Upgrade\r\nupgrade: websocket\r\n\r\n";
        let request = request(head, Manner { opens_websocket: true, ..PLAIN }).unwrap();
        assert_eq!((request.method(), request.uri().path()), (&Method::CONNECT, "/chat"));
        assert_eq!(request.extensions().get::<h2::ext::Protocol>().unwrap().as_str(), "websocket");
        assert_eq!(shown(request.headers()), ["sec-websocket-version: 13"]);
    }

    #[test]
    fn what_http_2_cannot_carry_is_named() {
        for (head, rule) in [
            (&b"GET a HTTP/1.1\r\nhost: a\r\n\r\n"[..], "target"),
            (b"GET / HTTP/1.1\r\nhost: a b\r\n\r\n", "host"),
            (b"GET / HTTP/1.1\r\nhost: a\r\nx y: 1\r\n\r\n", "field_name"),
            (b"GET / HTTP/1.1\r\nhost: a\r\nx: \x01\r\n\r\n", "field_value"),
            (b"GET /", "request_line"),
        ] {
            assert_eq!(request(head, PLAIN).map(|request| request.uri().to_string()), Err(Unfit(rule)));
        }
    }

    #[test]
    fn an_answer_and_its_trailers() {
        let response = response(b"HTTP/1.1 204 No Content\r\ndate: x\r\nconnection: close\r\n\r\n").unwrap();
        assert_eq!((response.status().as_u16(), shown(response.headers())), (204, vec!["date: x".to_owned()]));
        let map = trailers(b"Grpc-Status: 0\r\nx: y\r\n");
        assert_eq!(shown(&map), ["grpc-status: 0", "x: y"]);
        assert_eq!(lines(&map), b"grpc-status: 0\r\nx: y\r\n");
    }
}
