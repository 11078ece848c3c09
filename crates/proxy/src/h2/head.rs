//! Heads between the two forms: the values of HTTP/2, and the bytes of HTTP/1 in which the proxy plans and writes them.
//!
//! There is one place that decides which fields pass and which are added (`plan` for requests, `exchange` for answers), and
//! it writes HTTP/1. What goes out over HTTP/2 is made of those bytes: fields that only frame a connection of HTTP/1 are left
//! out, names and values are parts of one block of shared memory. Where the message came over HTTP/2, too, the fields that came
//! as they go are taken over, and the bytes decide which.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, COOKIE, DATE, HeaderMap, HeaderName, HeaderValue, TE};
use http::request::Parts;
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
                split_cookie(value, |crumb| append(name, shared(&block, crumb)?, headers))?;
                continue;
            }
            // They make a WebSocket of HTTP/1.
            17 if manner.opens_websocket && name.eq_ignore_ascii_case(b"sec-websocket-key") => continue,
            _ => {}
        }
        append(name, shared(&block, value)?, headers)?;
    }
    if manner.takes_trailers {
        headers.insert(TE, TRAILERS.clone());
    }
    *request.uri_mut() = Uri::from_parts(uri).map_err(|_| Unfit("target"))?;
    if manner.opens_websocket {
        request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    }
    Ok(request)
}

/// As [`request`], of a head that was planned from a request of HTTP/2: whatever went into it as it came is taken from
/// there, and not read once more.
pub(crate) fn request_like(original: Parts, head: &[u8], manner: Manner) -> Result<Request<()>, Unfit> {
    let Parts { method, uri, headers, .. } = original;
    let Some(lines) = rest_of(head, &method, &uri).filter(|_| !manner.opens_websocket) else {
        return request(head, manner);
    };
    let Some(headers) = kept(headers, Fields { rest: lines }, Some(manner))? else {
        return request(head, manner);
    };
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = headers;
    Ok(request)
}

/// The field lines behind the host, if a head begins as a request did.
fn rest_of<'h>(head: &'h [u8], method: &Method, uri: &Uri) -> Option<&'h [u8]> {
    if uri.scheme() != Some(&Scheme::HTTP) {
        return None;
    }
    let line = head.strip_prefix(method.as_str().as_bytes())?.strip_prefix(b" ")?;
    let line = line.strip_prefix(uri.path_and_query()?.as_str().as_bytes())?;
    let host = line.strip_prefix(b" HTTP/1.1\r\nhost: ")?;
    host.strip_prefix(uri.authority()?.as_str().as_bytes())?.strip_prefix(b"\r\n")
}

/// The answer of a head.
pub(crate) fn response(head: &[u8]) -> Result<Response<()>, Unfit> {
    let block = Bytes::copy_from_slice(head);
    let (line, fields) = first_line(&block).ok_or(Unfit("status_line"))?;
    let mut response = answer(line)?;
    let headers = response.headers_mut();
    headers.reserve(16);
    for (name, value) in fields {
        append(name, shared(&block, value)?, headers)?;
    }
    Ok(response)
}

/// As [`response`], of a head that was made from an answer of HTTP/2, whose fields are given.
pub(crate) fn response_like(original: HeaderMap, head: &[u8]) -> Result<Response<()>, Unfit> {
    let (line, fields) = first_line(head).ok_or(Unfit("status_line"))?;
    let Some(headers) = kept(original, fields, None)? else { return response(head) };
    let mut response = answer(line)?;
    *response.headers_mut() = headers;
    Ok(response)
}

/// An answer with the status of a line.
fn answer(line: &[u8]) -> Result<Response<()>, Unfit> {
    let status = line.get(9..12).and_then(|status| StatusCode::from_bytes(status).ok()).ok_or(Unfit("status"))?;
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = Version::HTTP_2;
    Ok(response)
}

/// Makes the fields of a head of those it was planned from: drops what is not in it, and adds what is new. `None` where more
/// than that has become of them. A request has a manner.
fn kept(mut headers: HeaderMap, mut fields: Fields<'_>, manner: Option<Manner>) -> Result<Option<HeaderMap>, Unfit> {
    let takes_trailers = manner.is_some_and(|manner| manner.takes_trailers);
    let splits_cookies = manner.is_some();
    let mut dropped = Vec::new();
    let mut length = None;
    // Of the fields of one name all stay, or none; the values of a name come one after another.
    let mut last: Option<(&HeaderName, bool)> = None;
    for (name, value) in &headers {
        // It stands at the end of a head, wherever it was.
        if *name == CONTENT_LENGTH {
            length = Some(value);
            continue;
        }
        // Whole cookies are split.
        let stays = match *name {
            COOKIE if splits_cookies => false,
            TE => takes_trailers && *value == TRAILERS,
            _ => fields.strip_first(name.as_str(), value.as_bytes()),
        };
        match last {
            Some((known, stayed)) if std::ptr::eq(known, name) && stayed != stays => return Ok(None),
            Some((known, _)) if std::ptr::eq(known, name) => {}
            _ if !stays => dropped.push(name.clone()),
            _ => {}
        }
        last = Some((name, stays));
    }
    if length.is_some_and(|length| !fields.strip_last(CONTENT_LENGTH.as_str(), length.as_bytes())) {
        dropped.push(CONTENT_LENGTH);
    }
    for name in &dropped {
        headers.remove(name);
    }
    for (name, value) in &mut headers {
        value.set_sensitive(is_unique(name.as_str().as_bytes(), value));
    }
    for (name, value) in fields {
        if splits_cookies && name.eq_ignore_ascii_case(b"cookie") {
            split_cookie(value, |crumb| append(name, copied(crumb)?, &mut headers))?;
        } else {
            append(name, copied(value)?, &mut headers)?;
        }
    }
    if takes_trailers {
        headers.insert(TE, TRAILERS.clone());
    }
    Ok(Some(headers))
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
        let _ = shared(&block, value).and_then(|value| append(name, value, &mut map));
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

fn append(name: &[u8], mut value: HeaderValue, headers: &mut HeaderMap) -> Result<(), Unfit> {
    if is_of_http1(name) {
        return Ok(());
    }
    // HPACK's word for a value that is kept out of its tables.
    value.set_sensitive(is_unique(name, &value));
    headers.try_append(field_name(name)?, value).map_err(|_| Unfit("too_many_fields"))?;
    Ok(())
}

/// A value that is part of a block.
fn shared(block: &Bytes, value: &[u8]) -> Result<HeaderValue, Unfit> {
    HeaderValue::from_maybe_shared(block.slice_ref(value)).map_err(|_| Unfit("field_value"))
}

/// A value with memory of its own, if it is not one of those that are at hand.
fn copied(value: &[u8]) -> Result<HeaderValue, Unfit> {
    static ZERO: HeaderValue = HeaderValue::from_static("0");
    static ONE: HeaderValue = HeaderValue::from_static("1");
    static HTTP: HeaderValue = HeaderValue::from_static("http");
    static HTTPS: HeaderValue = HeaderValue::from_static("https");
    match value {
        b"0" => Ok(ZERO.clone()),
        b"1" => Ok(ONE.clone()),
        b"http" => Ok(HTTP.clone()),
        b"https" => Ok(HTTPS.clone()),
        _ => HeaderValue::from_bytes(value).map_err(|_| Unfit("field_value")),
    }
}

static TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// Cookies compress better one by one (RFC 9113 §8.2.3).
fn split_cookie(value: &[u8], mut each: impl FnMut(&[u8]) -> Result<(), Unfit>) -> Result<(), Unfit> {
    let mut rest = value;
    loop {
        let end = memchr::memmem::find(rest, b"; ");
        each(&rest[..end.unwrap_or(rest.len())])?;
        match end {
            Some(at) => rest = &rest[at + 2..],
            None => return Ok(()),
        }
    }
}

/// The name of a field. Those that a proxy writes into every message are at hand: any other that is not of the standard
/// takes memory of its own.
fn field_name(name: &[u8]) -> Result<HeaderName, Unfit> {
    static USUAL: [HeaderName; 9] = [
        HeaderName::from_static("x-request-id"),
        HeaderName::from_static("x-forwarded-for"),
        HeaderName::from_static("x-forwarded-proto"),
        HeaderName::from_static("x-envoy-attempt-count"),
        HeaderName::from_static("x-envoy-upstream-service-time"),
        HeaderName::from_static("grpc-status"),
        HeaderName::from_static("grpc-timeout"),
        CONTENT_LENGTH,
        DATE,
    ];
    if let Some(usual) = USUAL.iter().find(|usual| usual.as_str().as_bytes() == name) {
        return Ok(usual.clone());
    }
    HeaderName::from_bytes(name).map_err(|_| Unfit("field_name"))
}

/// Fields of which no two messages have the same: in a table they only take the place of those that come again. A few go into
/// it all the same, so that the others find their name there.
fn is_unique(name: &[u8], value: &HeaderValue) -> bool {
    let is_unique = match name.len() {
        11 => name.eq_ignore_ascii_case(b"traceparent") || name.eq_ignore_ascii_case(b"x-b3-spanid"),
        12 => name.eq_ignore_ascii_case(b"x-request-id") || name.eq_ignore_ascii_case(b"x-b3-traceid"),
        // The shortest times come again.
        29 => !matches!(value.as_bytes(), b"0" | b"1") && name.eq_ignore_ascii_case(b"x-envoy-upstream-service-time"),
        _ => false,
    };
    is_unique && !value.as_bytes().ends_with(b"00")
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
#[derive(Clone, Copy)]
struct Fields<'h> {
    rest: &'h [u8],
}

impl Fields<'_> {
    /// Takes the first field if it is this one; whether it was.
    fn strip_first(&mut self, name: &str, value: &[u8]) -> bool {
        let behind_name = self.rest.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b": "));
        let behind = behind_name.and_then(|rest| rest.strip_prefix(value)).and_then(|rest| rest.strip_prefix(b"\r\n"));
        if let Some(behind) = behind {
            self.rest = behind;
        }
        behind.is_some()
    }

    /// Takes the last field if it is this one; whether it was.
    fn strip_last(&mut self, name: &str, value: &[u8]) -> bool {
        let before_value = self.rest.strip_suffix(b"\r\n\r\n").and_then(|rest| rest.strip_suffix(value));
        let before = before_value.and_then(|rest| rest.strip_suffix(b": ")?.strip_suffix(name.as_bytes()));
        let before = before.filter(|before| before.last().is_none_or(|byte| *byte == b'\n'));
        if let Some(before) = before {
            self.rest = before;
        }
        before.is_some()
    }
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

    /// A request as a client of HTTP/2 sends it.
    fn sent(method: &str, uri: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn what_came_over_http_2_is_as_if_it_were_read_from_the_head() {
        let manners = [PLAIN, Manner { takes_trailers: true, ..PLAIN }];
        let fields = [
            ("host", "a"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-two", "3"),
            ("te", "trailers"),
            ("content-length", "5"),
            ("x-request-id", "1-2"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
        ];
        for planned in [
            // As it came, and with more.
            "x-one: 1\r\nx-two: 2\r\nx-two: 3\r\nx-request-id: 1-2\r\ncookie: a=1; b=2\r\ncontent-length: 5\r\n",
            "x-one: 1\r\nx-two: 2\r\nx-two: 3\r\nx-forwarded-proto: http\r\nX-New: y\r\nx-two: 4\r\n",
            // With less: of a name, too, which is all read again then.
            "x-two: 2\r\nx-two: 3\r\n",
            "x-one: 1\r\nx-two: 3\r\nx-request-id: 1-2\r\n",
            "x-one: 1\r\nx-two: 2\r\n",
            // With other values, in another order, or with a length at its end that is none.
            "x-one: 2\r\nx-two: 2\r\nx-two: 3\r\ncontent-length: 6\r\n",
            "x-two: 2\r\nx-two: 3\r\nx-one: 1\r\ntransfer-encoding: chunked\r\n",
            "x-one: 1\r\nx-content-length: 5\r\n",
            "",
        ] {
            for (uri, line) in [
                ("http://a/b?c", "GET /b?c HTTP/1.1\r\nhost: a\r\n"),
                ("http://a/b?c", "GET /b HTTP/1.1\r\nhost: a\r\n"),
                ("http://a/b?c", "GET /b?c HTTP/1.1\r\nhost: ab\r\n"),
                ("http://a/b?c", "POST /b?c HTTP/1.1\r\nhost: a\r\n"),
                ("https://a/b?c", "GET /b?c HTTP/1.1\r\nhost: a\r\n"),
                ("/b?c", "GET /b?c HTTP/1.1\r\nhost: a\r\n"),
            ] {
                let head = format!("{line}{planned}\r\n");
                for manner in manners {
                    let read = request(head.as_bytes(), manner).unwrap();
                    let like = request_like(sent("GET", uri, &fields), head.as_bytes(), manner).unwrap();
                    let first = |request: &Request<()>| (request.method().clone(), request.uri().clone());
                    assert_eq!(first(&like), first(&read), "{head}");
                    assert_eq!(like.headers(), read.headers(), "{head}");
                    let secret = |headers: &HeaderMap| headers.get("x-request-id").map(HeaderValue::is_sensitive);
                    assert_eq!(secret(like.headers()), secret(read.headers()), "{head}");
                }
            }
            let head = format!("HTTP/1.1 404 Not Found\r\n{planned}\r\n");
            let original = sent("GET", "/", &fields).headers;
            let (read, like) = (response(head.as_bytes()), response_like(original, head.as_bytes()));
            let (read, like) = (read.unwrap(), like.unwrap());
            assert_eq!((like.status(), like.headers()), (read.status(), read.headers()), "{head}");
        }
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
