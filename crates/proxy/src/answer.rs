//! Answers the proxy makes itself: refusals, failures, redirects, direct responses.
//!
//! Every failure carries its flag in a `Proxy-Status` header (RFC 9209) and a body whose second line says what to look
//! at. Nothing of the request is reflected.

use std::sync::Arc;

use outrigger_model::{HeaderEdits, Route};

use crate::failure::Reason;
use crate::flag::Flag;
use crate::headers::{Edits, write_field};

/// An answer of the proxy's own.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) flag: Flag,
    /// Field lines beyond those every answer has.
    pub(crate) fields: Vec<u8>,
    pub(crate) body: Arc<[u8]>,
}

impl Answer {
    /// For a failure. `cause` names the object at fault, where there is one.
    pub(crate) fn failure(reason: Reason, cause: &str) -> Self {
        let row = reason.row();
        let mut fields = Vec::with_capacity(256);
        let mut status = format!("outrigger; error={}; details=\"", row.error);
        push_string(details(reason, row.details, cause), &mut status);
        if let Some(rule) = reason.rule().filter(|rule| *rule != row.details) {
            status.push(' ');
            status.push_str(rule);
        }
        status.push_str(&format!("\"; flag={}", row.flag.as_str()));
        write_field("proxy-status", status.as_bytes(), &mut fields);
        if let Flag::UpstreamOverflow | Flag::OverloadManager = row.flag {
            write_field("x-envoy-overloaded", b"true", &mut fields);
        }
        write_field("content-type", b"text/plain; charset=utf-8", &mut fields);
        let mut body = format!("{}\n{}", row.text, row.advice);
        if let Some(rule) = reason.rule() {
            body.push_str(&format!(" Rule: {rule}."));
        }
        if !cause.is_empty() {
            body.push('\n');
            body.push_str(cause);
        }
        body.push('\n');
        Self { status: row.status, flag: row.flag, fields, body: body.into_bytes().into() }
    }

    /// From configuration: no failure, so no flag.
    pub(crate) fn configured(status: u16, fields: Vec<u8>, body: Arc<[u8]>) -> Self {
        Self { status, flag: Flag::None, fields, body }
    }

    /// From a route, with one field of its own and the route's header operations.
    pub(crate) fn of_route(route: &Route, status: u16, field: Option<(&str, &[u8])>, body: Arc<[u8]>) -> Self {
        let none = HeaderEdits::default();
        let edits = Edits::new(&none, &route.response_headers);
        let mut fields = Vec::new();
        if let Some((name, value)) = field.filter(|(name, _)| !edits.replaces(name)) {
            write_field(name, value, &mut fields);
        }
        edits.write(&mut fields);
        Self::configured(status, fields, body)
    }

    /// The status that it has for a call of gRPC, if it was made for one.
    pub(crate) fn grpc_status(&self) -> Option<u8> {
        const NAME: &[u8] = b"grpc-status:";
        let mut lines = self.fields.split(|b| *b == b'\n');
        let value = lines.find_map(|line| {
            line.split_at_checked(NAME.len())
                .filter(|(name, _)| name.eq_ignore_ascii_case(NAME))
                .map(|(_, value)| value)
        })?;
        std::str::from_utf8(value).ok()?.trim().parse().ok()
    }

    /// The same for a call of gRPC, whose clients look at nothing else: status 200, and what happened in `grpc-status` and
    /// `grpc-message` (gRPC over HTTP/2, "Trailers-Only").
    pub(crate) fn for_grpc(self, status: u8) -> Self {
        let mut fields = Vec::with_capacity(256);
        // Of the fields before, only the cause is of use.
        let cause = self.fields.split_inclusive(|b| *b == b'\n').find(|line| line.starts_with(b"proxy-status:"));
        fields.extend_from_slice(cause.unwrap_or_default());
        write_field("content-type", b"application/grpc", &mut fields);
        write_field("grpc-status", itoa::Buffer::new().format(status).as_bytes(), &mut fields);
        let message = percent_encoding::percent_encode(self.body.trim_ascii(), GRPC_MESSAGE).to_string();
        write_field("grpc-message", message.as_bytes(), &mut fields);
        Self { status: 200, flag: self.flag, fields, body: Arc::default() }
    }

    /// Writes the head. A `HEAD` request gets the length that a `GET` would have had.
    pub(crate) fn write_head(&self, date: &str, close: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(itoa::Buffer::new().format(self.status).as_bytes());
        out.push(b' ');
        out.extend_from_slice(reason_phrase(self.status).as_bytes());
        out.extend_from_slice(b"\r\n");
        write_field("date", date.as_bytes(), out);
        write_field("server", b"outrigger", out);
        out.extend_from_slice(&self.fields);
        if self.has_length() {
            write_field("content-length", itoa::Buffer::new().format(self.body.len()).as_bytes(), out);
        }
        if close {
            write_field("connection", b"close", out);
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Whether the status may have a body (RFC 9110 §6.4.1).
    pub(crate) fn has_length(&self) -> bool {
        self.status >= 200 && self.status != 204 && self.status != 304
    }
}

/// The response-code details; of a circuit its figures too, which are its cause.
fn details<'d>(reason: Reason, details: &'d str, cause: &'d str) -> &'d str {
    let is_circuit = matches!(reason, Reason::CircuitOpen | Reason::CircuitFull);
    if is_circuit && cause.starts_with(details) { cause } else { details }
}

/// Writes the inside of a string of RFC 8941, which has printable ASCII only.
fn push_string(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ => out.push('?'),
        }
    }
}

/// What `grpc-message` encodes: everything but printable ASCII, and the sign of an encoding.
const GRPC_MESSAGE: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b'%');

/// The usual phrase of a status.
pub(crate) fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        418 => "I'm a teapot",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        508 => "Loop Detected",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_it_is_and_what_to_look_at() {
        let answer = Answer::failure(Reason::NoEndpoint, "outbound|80||a.b.svc.cluster.local");
        let mut head = Vec::new();
        answer.write_head("Sat, 21 Nov 2026 00:00:00 GMT", false, &mut head);
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
        assert!(head.contains(
            "proxy-status: outrigger; error=destination_unavailable; details=\"no_healthy_upstream\"; flag=UH\r\n"
        ));
        let body = std::str::from_utf8(&answer.body).unwrap();
        assert!(body.starts_with("no healthy upstream\n") && body.ends_with("outbound|80||a.b.svc.cluster.local\n"));
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())));
    }

    #[test]
    fn an_open_circuit_tells_its_figures() {
        let status = |reason, cause| {
            let fields = String::from_utf8(Answer::failure(reason, cause).fields).unwrap();
            fields.lines().next().unwrap().to_owned()
        };
        let open = "circuit_open{cart.shop/v1 error_rate=0.62>=0.50 retry_in=3.2s}";
        assert_eq!(
            status(Reason::CircuitOpen, open),
            format!("proxy-status: outrigger; error=destination_unavailable; details=\"{open}\"; flag=UO")
        );
        assert!(status(Reason::CircuitOpen, "").contains("; details=\"circuit_open\"; "));
        let hostile = "circuit_full{\"a\\b\r\nx: ö}";
        assert!(status(Reason::CircuitFull, hostile).contains(r#"; details="circuit_full{\"a\\b??x: ?}"; "#));
        assert!(status(Reason::NoEndpoint, open).contains("; details=\"no_healthy_upstream\"; "));
    }

    #[test]
    fn a_call_learns_by_status_and_message_what_happened() {
        let answer = Answer::failure(Reason::NoEndpoint, "outbound|80||a").for_grpc(Reason::NoEndpoint.grpc_status());
        let mut head = Vec::new();
        answer.write_head("now", false, &mut head);
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("flag=UH\r\n"), "{head}");
        assert!(head.contains("grpc-status: 14\r\ngrpc-message: no healthy upstream%0AThe destination"), "{head}");
        assert_eq!(answer.flag, Flag::NoHealthyUpstream);
        for (reason, want) in [(Reason::NoRoute, 12), (Reason::RouteTimeout, 4), (Reason::BadRequest("x"), 13)] {
            assert_eq!(reason.grpc_status(), want, "{reason:?}");
        }
    }

    #[test]
    fn every_failure_has_words_and_a_legal_status() {
        for reason in [
            Reason::BadRequest("x"),
            Reason::TargetLong,
            Reason::HeadLarge,
            Reason::TransferCoding,
            Reason::Version,
            Reason::Expectation,
            Reason::HeadTimeout,
            Reason::BodyTimeout,
            Reason::BadBody("x"),
            Reason::ConnectMethod,
            Reason::NoHost,
            Reason::NoRoute,
            Reason::BlackHole,
            Reason::NoCluster,
            Reason::NoClusterGateway,
            Reason::NoEndpoint,
            Reason::Unresolved,
            Reason::Loop,
            Reason::ConnectFailure,
            Reason::ConnectTimeout,
            Reason::UpstreamClosed,
            Reason::UpstreamProtocol("x"),
            Reason::UpstreamIdle,
            Reason::RouteTimeout,
            Reason::PerTryTimeout,
            Reason::CallTimeout,
            Reason::UpstreamReset,
            Reason::Overflow("max_connections"),
            Reason::CircuitOpen,
            Reason::CircuitFull,
            Reason::CircuitTimeout,
            Reason::Fault(555),
            Reason::RateLimited,
            Reason::RequestLong,
            Reason::AnswerLong,
            Reason::Overload,
        ] {
            let row = reason.row();
            assert!((400..600).contains(&row.status) && !row.text.is_empty() && !row.advice.is_empty(), "{reason:?}");
            assert!(reason == Reason::Fault(555) || !reason_phrase(row.status).is_empty(), "{reason:?}");
            assert_ne!(row.flag, Flag::None, "{reason:?}");
        }
    }
}
