//! Request and response heads: what httparse accepts, minus everything that two parsers could read differently.
//!
//! The H1 cases of the attack suite name each rule here. A refused request names its rule in the answer's details.

use std::mem::MaybeUninit;

use httparse::Header;

use super::body::Framing;

/// Most fields in a head or in trailers.
pub(crate) const FIELDS_MAX: usize = 100;
/// Longest method; a token that goes on is no method.
pub(crate) const METHOD_BYTES_MAX: usize = 32;
/// Empty lines tolerated before a request line (RFC 9112 §2.2).
const LEADING_LINES_MAX: usize = 2;

/// Room for the fields of one head; on the stack and not initialised.
pub(crate) type Fields<'b> = [MaybeUninit<Header<'b>>; FIELDS_MAX];

/// Empty room.
pub(crate) fn fields<'b>() -> Fields<'b> {
    [const { MaybeUninit::uninit() }; FIELDS_MAX]
}

/// The versions of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2: the head was made of its fields, see `h2::request`.
    Http2,
}

/// Why a request head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// 400, with the rule it broke.
    Malformed(&'static str),
    /// 414.
    TargetLong,
    /// 431.
    HeadLarge,
    /// 501: a transfer coding other than chunked.
    TransferCoding,
    /// 505.
    Version,
    /// 417.
    Expectation,
}

/// A request head that may be acted upon.
#[derive(Debug)]
pub(crate) struct RequestHead<'b> {
    pub(crate) method: &'b str,
    pub(crate) target: Target<'b>,
    pub(crate) version: Version,
    pub(crate) headers: &'b [Header<'b>],
    pub(crate) framing: Framing,
    /// Whether the client wants to send another request on this connection.
    pub(crate) keep_alive: bool,
    /// `Expect: 100-continue` with a body to come.
    pub(crate) expects_continue: bool,
    /// Bytes of the head in the buffer.
    pub(crate) len: usize,
}

/// What the request line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target<'b> {
    /// Authority: of an absolute target, else of Host; empty when HTTP/1.0 sent neither.
    pub(crate) authority: &'b str,
    /// Path and query; `*` for `OPTIONS *`; empty for CONNECT.
    pub(crate) path_and_query: &'b str,
    /// Whether the target was absolute: the client takes us for its proxy.
    pub(crate) absolute: bool,
}

/// Bounds of [`request`] and [`response`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) head_bytes_max: usize,
    pub(crate) target_bytes_max: usize,
}

/// Reads a request head from the beginning of `bytes`; `None` when more bytes are needed.
pub(crate) fn request<'b>(
    bytes: &'b [u8],
    fields: &'b mut Fields<'b>,
    bounds: Bounds,
) -> Result<Option<RequestHead<'b>>, Refusal> {
    let skipped = skip_leading_lines(bytes)?;
    let text = &bytes[skipped..];
    let mut parsed = httparse::Request::new(&mut []);
    let len = match parsed.parse_with_uninit_headers(text, fields) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => {
            return if text.is_empty() { Ok(None) } else { partial_request(text, bounds).map(|()| None) };
        }
        Err(error) => return Err(request_error(error, text, bounds)),
    };
    if len > bounds.head_bytes_max {
        return Err(Refusal::HeadLarge);
    }
    lines_end_in_crlf(&text[..len]).map_err(Refusal::Malformed)?;
    let (Some(method), Some(raw_target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Refusal::Malformed("request_line"));
    };
    if method.len() > METHOD_BYTES_MAX || method.bytes().any(|b| b.is_ascii_lowercase()) {
        return Err(Refusal::Malformed("method"));
    }
    if raw_target.len() > bounds.target_bytes_max {
        return Err(Refusal::TargetLong);
    }
    let version = if minor == 1 { Version::Http11 } else { Version::Http10 };
    let facts = Facts::of(parsed.headers)?;
    let framing = facts.request_framing(version)?;
    let target = target(method, raw_target, facts.host(version)?)?;
    Ok(Some(RequestHead {
        method,
        target,
        version,
        headers: parsed.headers,
        framing,
        keep_alive: facts.keep_alive(version),
        expects_continue: facts.expects_continue()? && framing != Framing::None && version == Version::Http11,
        len: skipped + len,
    }))
}

/// Judges a head that is not complete: it must not grow past its bounds while we wait.
fn partial_request(text: &[u8], bounds: Bounds) -> Result<(), Refusal> {
    let line_end = memchr::memchr(b'\n', text);
    if line_end.is_none() {
        let method_end = memchr::memchr(b' ', &text[..text.len().min(METHOD_BYTES_MAX + 1)]);
        if method_end.is_none() && text.len() > METHOD_BYTES_MAX {
            return Err(Refusal::Malformed("method"));
        }
        if text.len() > bounds.target_bytes_max + METHOD_BYTES_MAX + 12 {
            return Err(Refusal::TargetLong);
        }
    }
    if text.len() >= bounds.head_bytes_max {
        return Err(Refusal::HeadLarge);
    }
    lines_end_in_crlf(text).map_err(Refusal::Malformed)
}

fn request_error(error: httparse::Error, text: &[u8], bounds: Bounds) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::HeadLarge,
        httparse::Error::Version if has_version_token(text) => Refusal::Version,
        _ if memchr::memchr(b'\n', text).is_none() && text.len() > bounds.target_bytes_max => Refusal::TargetLong,
        _ => Refusal::Malformed("syntax"),
    }
}

/// Whether the request line ends in something like `HTTP/2.0`: then 505 says more than 400.
fn has_version_token(text: &[u8]) -> bool {
    let line = &text[..memchr::memchr(b'\r', text).unwrap_or(text.len())];
    let Some(space) = memchr::memrchr(b' ', line) else { return false };
    matches!(&line[space + 1..], [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit())
}

fn skip_leading_lines(bytes: &[u8]) -> Result<usize, Refusal> {
    let mut skipped = 0;
    while bytes[skipped..].starts_with(b"\r\n") {
        skipped += 2;
        if skipped > 2 * LEADING_LINES_MAX {
            return Err(Refusal::Malformed("empty_lines"));
        }
    }
    match bytes.get(skipped) {
        Some(b'\n') => Err(Refusal::Malformed("bare_lf")),
        // A lone CR may be the first half of one more empty line.
        Some(b'\r') if bytes.len() > skipped + 1 => Err(Refusal::Malformed("bare_cr")),
        Some(b'\r') => Ok(bytes.len()),
        _ => Ok(skipped),
    }
}

/// httparse takes a bare LF for a line end; some backends do, others do not.
fn lines_end_in_crlf(head: &[u8]) -> Result<(), &'static str> {
    for at in memchr::memchr_iter(b'\n', head) {
        if at == 0 || head[at - 1] != b'\r' {
            return Err("bare_lf");
        }
    }
    Ok(())
}

/// The fields that decide framing, routing and the life of the connection, gathered in one pass.
#[derive(Default)]
struct Facts<'b> {
    host: Option<&'b [u8]>,
    content_length: Option<&'b [u8]>,
    transfer_encoding: Option<&'b [u8]>,
    expect: Option<&'b [u8]>,
    close: bool,
    keep: bool,
}

impl<'b> Facts<'b> {
    fn of(headers: &[Header<'b>]) -> Result<Self, Refusal> {
        let mut facts = Self::default();
        for header in headers {
            let slot = match header.name.len() {
                4 if header.name.eq_ignore_ascii_case("host") => (&mut facts.host, "host_twice"),
                6 if header.name.eq_ignore_ascii_case("expect") => (&mut facts.expect, "expect_twice"),
                10 if header.name.eq_ignore_ascii_case("connection") => {
                    facts.connection(header.value);
                    continue;
                }
                14 if header.name.eq_ignore_ascii_case("content-length") => {
                    (&mut facts.content_length, "content_length_twice")
                }
                17 if header.name.eq_ignore_ascii_case("transfer-encoding") => {
                    (&mut facts.transfer_encoding, "transfer_encoding_twice")
                }
                _ => continue,
            };
            if slot.0.replace(header.value).is_some() {
                return Err(Refusal::Malformed(slot.1));
            }
        }
        Ok(facts)
    }

    fn connection(&mut self, value: &[u8]) {
        for option in value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    fn keep_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep)
    }

    fn request_framing(&self, version: Version) -> Result<Framing, Refusal> {
        match (self.transfer_encoding, self.content_length) {
            (None, None) => Ok(Framing::None),
            (Some(_), Some(_)) => Err(Refusal::Malformed("content_length_and_transfer_encoding")),
            (Some(_), None) if version == Version::Http10 => Err(Refusal::Malformed("transfer_encoding_in_http_1_0")),
            (Some(value), None) if value.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
            (Some(value), None) if is_foreign_coding(value) => Err(Refusal::TransferCoding),
            (Some(_), None) => Err(Refusal::Malformed("transfer_encoding")),
            (None, Some(value)) => {
                content_length(value).map(Framing::Length).ok_or(Refusal::Malformed("content_length"))
            }
        }
    }

    fn host(&self, version: Version) -> Result<Option<&'b str>, Refusal> {
        match self.host {
            None if version == Version::Http10 => Ok(None),
            None => Err(Refusal::Malformed("host_missing")),
            Some(host) => authority(host).map(Some),
        }
    }

    fn expects_continue(&self) -> Result<bool, Refusal> {
        match self.expect {
            None => Ok(false),
            Some(value) if value.eq_ignore_ascii_case(b"100-continue") => Ok(true),
            Some(_) => Err(Refusal::Expectation),
        }
    }
}

/// Digits only, at most 2^63 - 1.
pub(crate) fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 {
        return None;
    }
    let mut length: u64 = 0;
    for &digit in value {
        if !digit.is_ascii_digit() {
            return None;
        }
        length = length.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    (length <= i64::MAX as u64).then_some(length)
}

/// Known codings other than a lone `chunked`: well-formed, not implemented (RFC 9112 §6.1).
fn is_foreign_coding(value: &[u8]) -> bool {
    let codings = || value.split(|&b| b == b',').map(<[u8]>::trim_ascii);
    let known: [&[u8]; 6] = [b"gzip", b"x-gzip", b"deflate", b"compress", b"br", b"zstd"];
    codings().any(|c| known.iter().any(|k| c.eq_ignore_ascii_case(k)))
        && codings().all(|c| c.eq_ignore_ascii_case(b"chunked") || known.iter().any(|k| c.eq_ignore_ascii_case(k)))
}

/// A host with an optional port, and nothing else (RFC 9110 §7.2): no user, no path, no list.
pub(crate) fn authority(value: &[u8]) -> Result<&str, Refusal> {
    const BAD: Refusal = Refusal::Malformed("host");
    let text = std::str::from_utf8(value).map_err(|_| BAD)?;
    let (host, port) = split_port(text).ok_or(BAD)?;
    let inner = host.strip_prefix('[').map_or(Some(host), |h| h.strip_suffix(']')).ok_or(BAD)?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+;=%".contains(&b);
    let bracketed = inner.len() != host.len();
    if inner.is_empty() || !inner.bytes().all(|b| allowed(b) || (bracketed && b == b':')) {
        return Err(BAD);
    }
    if port.is_some_and(|p| p.is_empty() || p.len() > 5 || p.parse::<u16>().is_err()) {
        return Err(BAD);
    }
    Ok(text)
}

/// Splits `host:port` and `[v6]:port`; `None` when a colon stands where none may.
pub(crate) fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    let host_end = if authority.starts_with('[') { authority.find(']')? + 1 } else { 0 };
    match authority[host_end..].find(':') {
        None if host_end == 0 || host_end == authority.len() => Some((authority, None)),
        Some(at) if host_end == 0 || at == 0 => {
            let at = host_end + at;
            Some((&authority[..at], Some(&authority[at + 1..])))
        }
        _ => None,
    }
}

fn target<'b>(method: &str, raw: &'b str, host: Option<&'b str>) -> Result<Target<'b>, Refusal> {
    const BAD: Refusal = Refusal::Malformed("target");
    if raw.bytes().any(|b| b == b'#' || b >= 0x7f) {
        return Err(BAD);
    }
    let from_host = host.unwrap_or_default();
    if method == "CONNECT" {
        let authority = authority(raw.as_bytes()).map_err(|_| BAD)?;
        return Ok(Target { authority, path_and_query: "", absolute: true });
    }
    if raw == "*" && method == "OPTIONS" {
        return Ok(Target { authority: from_host, path_and_query: raw, absolute: false });
    }
    if raw.starts_with('/') {
        if raw.starts_with("//") {
            return Err(BAD);
        }
        return Ok(Target { authority: from_host, path_and_query: raw, absolute: false });
    }
    let scheme_end = "http://".len();
    let rest = match raw.get(..scheme_end) {
        Some(scheme) if scheme.eq_ignore_ascii_case("http://") => &raw[scheme_end..],
        _ => return Err(BAD),
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let authority = authority(&rest.as_bytes()[..end]).map_err(|_| BAD)?;
    if host.is_some_and(|h| !same_authority(h, authority)) {
        return Err(Refusal::Malformed("target_and_host_differ"));
    }
    if rest[end..].starts_with("//") {
        return Err(BAD);
    }
    Ok(Target { authority, path_and_query: &rest[end..], absolute: true })
}

/// Equal host and port, with the scheme's default port filled in (RFC 9110 §4.2.3).
pub(crate) fn same_authority(a: &str, b: &str) -> bool {
    let parts = |text| {
        let (host, port) = split_port(text).unwrap_or((text, None));
        (host, port.and_then(|p| p.parse::<u16>().ok()).unwrap_or(80))
    };
    let ((host_a, port_a), (host_b, port_b)) = (parts(a), parts(b));
    host_a.eq_ignore_ascii_case(host_b) && port_a == port_b
}

/// A response head.
#[derive(Debug)]
pub(crate) struct ResponseHead<'b> {
    pub(crate) status: u16,
    pub(crate) reason: &'b str,
    pub(crate) headers: &'b [Header<'b>],
    /// As the head says; the method and status may still take the body away.
    pub(crate) framing: Framing,
    /// Whether the upstream keeps the connection.
    pub(crate) keep_alive: bool,
    pub(crate) len: usize,
}

/// Reads a response head; `None` when more bytes are needed, `Err` with the rule it broke.
pub(crate) fn response<'b>(
    bytes: &'b [u8],
    fields: &'b mut Fields<'b>,
    bounds: Bounds,
) -> Result<Option<ResponseHead<'b>>, &'static str> {
    let mut parsed = httparse::Response::new(&mut []);
    let len = match httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, bytes, fields) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if bytes.len() >= bounds.head_bytes_max => return Err("head_large"),
        Ok(httparse::Status::Partial) => return lines_end_in_crlf(bytes).map(|()| None),
        Err(httparse::Error::TooManyHeaders) => return Err("too_many_fields"),
        Err(_) => return Err("syntax"),
    };
    if len > bounds.head_bytes_max {
        return Err("head_large");
    }
    lines_end_in_crlf(&bytes[..len])?;
    let (Some(status), Some(minor)) = (parsed.code, parsed.version) else { return Err("status_line") };
    if !(100..=999).contains(&status) {
        return Err("status");
    }
    let version = if minor == 1 { Version::Http11 } else { Version::Http10 };
    let facts = response_facts(parsed.headers)?;
    let framing = match (facts.transfer_encoding, facts.content_length) {
        (None, None) => Framing::UntilClose,
        (Some(_), Some(_)) => return Err("content_length_and_transfer_encoding"),
        (Some(value), None) if version == Version::Http11 && value.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
        (Some(_), None) => return Err("transfer_encoding"),
        (None, Some(value)) => Framing::Length(content_length(value).ok_or("content_length")?),
    };
    Ok(Some(ResponseHead {
        status,
        reason: parsed.reason.unwrap_or_default(),
        headers: parsed.headers,
        framing,
        keep_alive: facts.keep_alive(version),
        len,
    }))
}

/// As for requests, but a response may say `Host` or `Expect` as often as it likes.
fn response_facts<'b>(headers: &[Header<'b>]) -> Result<Facts<'b>, &'static str> {
    let mut facts = Facts::default();
    for header in headers {
        let slot = match header.name.len() {
            10 if header.name.eq_ignore_ascii_case("connection") => {
                facts.connection(header.value);
                continue;
            }
            14 if header.name.eq_ignore_ascii_case("content-length") => &mut facts.content_length,
            17 if header.name.eq_ignore_ascii_case("transfer-encoding") => &mut facts.transfer_encoding,
            _ => continue,
        };
        if slot.replace(header.value).is_some() {
            return Err("framing_field_twice");
        }
    }
    Ok(facts)
}

#[cfg(test)]
mod tests;
