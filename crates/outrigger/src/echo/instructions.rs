//! What a request asks the echo server to do: the `x-echo-*` fields.
//!
//! | field | effect |
//! |---|---|
//! | `x-echo-status: 503` | answers with this status, 200 to 599 |
//! | `x-echo-delay: 250ms` | waits first; Go durations, up to 1 h |
//! | `x-echo-body-bytes: 4096` | a body of this many bytes instead of JSON, up to 64 MiB |
//! | `x-echo-abort: before` | closes without a byte of answer |
//! | `x-echo-abort: after-headers` | sends the head and half of the body, then closes |
//! | `x-echo-set-header: k=v` | adds a field to the answer; may be given several times |
//! | `x-echo-set-trailer: k=v` | adds a field after the body; may be given several times |
//! | `x-echo-grpc-status: 14` | ends the gRPC call with this status and no message |
//! | `x-echo-fail-rate: 0.5` | this share of requests fails; `;status=500` (503 by default) or `;close` |
//! | `x-echo-fail-first: 2;key=ID` | the first two requests with this key fail; `;status=`, `;close` as above |
//!
//! A gRPC call that fails does so with the status that gRPC maps the HTTP status to (503 is 14, `UNAVAILABLE`), or with that
//! of `;grpc-status=8`. To close is, in HTTP/2, to reset the stream.
//!
//! Each may end in `;version=v2` or `;pod=NAME` and then counts for that version or pod alone. Where one is given several
//! times, the last that applies wins. What cannot be understood is refused with 400, never passed over.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::head::{Head, Version};
use super::limits;
use super::listen::Identity;

/// What to do with one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Status of the answer.
    pub(super) status: u16,
    /// How long to wait before answering.
    pub(super) delay: Duration,
    /// Bytes of body instead of JSON.
    pub(super) body_bytes: Option<u64>,
    /// Where to close instead of answering.
    pub(super) abort: Option<Abort>,
    /// Fields to add.
    pub(super) fields: Vec<(String, String)>,
    /// Fields to add after the body.
    pub(super) trailers: Vec<(String, String)>,
    /// Status that ends a gRPC call, without a message.
    pub(super) grpc_status: Option<u16>,
}

/// Where the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Abort {
    /// Before the first byte.
    Before,
    /// In the middle of the body.
    AfterHeaders,
}

/// How many requests of each `x-echo-fail-first` key were seen.
#[derive(Debug, Default)]
pub(crate) struct FailureCounts(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    seen: HashMap<String, u32>,
    /// Keys, oldest first.
    order: VecDeque<String>,
}

impl FailureCounts {
    /// Counts one request and tells how many came before it.
    fn count(&self, key: &str) -> u32 {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = counts.seen.get_mut(key) {
            *seen = seen.saturating_add(1);
            return *seen - 1;
        }
        if counts.order.len() >= limits::FAILURE_KEYS_MAX
            && let Some(oldest) = counts.order.pop_front()
        {
            counts.seen.remove(&oldest);
        }
        counts.order.push_back(key.to_owned());
        counts.seen.insert(key.to_owned(), 1);
        0
    }
}

impl Default for Plan {
    /// 200 with JSON, at once.
    fn default() -> Self {
        Self {
            status: 200,
            delay: Duration::ZERO,
            body_bytes: None,
            abort: None,
            fields: Vec::new(),
            trailers: Vec::new(),
            grpc_status: None,
        }
    }
}

impl Plan {
    /// Whether it asks for no other answer than the usual one.
    pub(super) fn is_plain(&self) -> bool {
        self.status == 200 && self.body_bytes.is_none() && self.abort.is_none()
    }

    /// Reads the instructions of a request. `chance` is a draw from 0 up to, not including, 1.
    pub(super) fn read(head: &Head, who: &Identity, counts: &FailureCounts, chance: f64) -> Result<Self, String> {
        let mut plan = Self::default();
        let mut failure = None;
        for (name, value) in &head.fields {
            let Some(instruction) = name.strip_prefix("x-echo-") else { continue };
            let text = str::from_utf8(value).map_err(|_| format!("{name} is not UTF-8"))?;
            plan.obey(instruction, text, who, &mut failure).map_err(|problem| format!("{name}: {text}: {problem}"))?;
        }
        match failure {
            Some(Failure { when: When::Share(share), how }) if chance < share => plan.fail(how, head.is_grpc()),
            Some(Failure { when: When::First(first, key), how }) if counts.count(&key) < first => {
                plan.fail(how, head.is_grpc());
            }
            _ => {}
        }
        plan.fits(head)?;
        Ok(plan)
    }

    /// Refuses what this kind of request cannot be answered with.
    fn fits(&self, head: &Head) -> Result<(), String> {
        if self.grpc_status.is_some() && !head.is_grpc() {
            return Err(
                "a gRPC status was asked for, and the request is no gRPC call: that is HTTP/2 with content-type \
                        application/grpc"
                    .to_owned(),
            );
        }
        if !self.trailers.is_empty() && head.version == Version::Http10 {
            return Err("x-echo-set-trailer: HTTP/1.0 has no trailers".to_owned());
        }
        let of_http1 =
            |(name, _): &&(String, String)| ["keep-alive", "proxy-connection", "te", "upgrade"].contains(&&**name);
        match self.fields.iter().chain(&self.trailers).find(of_http1) {
            Some((name, _)) if head.version == Version::Http2 => Err(format!("{name} has no place in HTTP/2")),
            _ => Ok(()),
        }
    }

    /// Takes up one instruction.
    fn obey(&mut self, name: &str, text: &str, who: &Identity, failure: &mut Option<Failure>) -> Result<(), String> {
        if name == "set-header" || name == "set-trailer" {
            let (field, bound) = strip_binding(text);
            let field = parse_field(field)?;
            if bound.iter().all(|option| applies(option, who)) {
                if name == "set-header" { &mut self.fields } else { &mut self.trailers }.push(field);
            }
            return Ok(());
        }
        let mut options = text.split(';').map(str::trim);
        let value = options.next().unwrap_or_default();
        let (bound, options): (Vec<_>, Vec<_>) = options.partition(|option| is_binding(option));
        let takes_options = matches!(name, "fail-rate" | "fail-first");
        if let Some(option) = options.first().filter(|_| !takes_options) {
            return Err(format!("unknown option {option:?}; known are version= and pod="));
        }
        let mut asked = self.clone();
        let mut asked_failure = None;
        match name {
            "status" => asked.status = parse_status(value)?,
            "delay" => asked.delay = parse_delay(value)?,
            "body-bytes" => asked.body_bytes = Some(parse_body_bytes(value)?),
            "grpc-status" => asked.grpc_status = Some(parse_grpc_status(value)?),
            "abort" => asked.abort = Some(parse_abort(value)?),
            "fail-rate" => asked_failure = Some(Failure::parse(When::share(value)?, &options)?),
            "fail-first" => asked_failure = Some(Failure::parse(When::first(value)?, &options)?),
            _ => {
                return Err("unknown instruction; known are status, delay, body-bytes, abort, set-header, \
                            set-trailer, grpc-status, fail-rate, fail-first"
                    .to_owned());
            }
        }
        if bound.iter().all(|option| applies(option, who)) {
            *self = asked;
            // Bound to different pods, the same key counts separately.
            *failure = asked_failure.map(|failure| failure.bound_by(&bound)).or(failure.take());
        }
        Ok(())
    }

    fn fail(&mut self, how: How, is_grpc: bool) {
        match how {
            How::Status(status) if is_grpc => self.grpc_status = Some(grpc_status_of(status)),
            How::Status(status) => self.status = status,
            How::GrpcStatus(status) => self.grpc_status = Some(status),
            How::Close => self.abort = Some(Abort::Before),
        }
    }
}

/// `x-echo-fail-rate` or `x-echo-fail-first`.
#[derive(Debug)]
struct Failure {
    when: When,
    how: How,
}

#[derive(Debug)]
enum When {
    /// This share of requests, 0 to 1.
    Share(f64),
    /// The first so many of a key.
    First(u32, String),
}

#[derive(Clone, Copy, Debug)]
enum How {
    Status(u16),
    GrpcStatus(u16),
    Close,
}

impl Failure {
    fn parse(mut when: When, options: &[&str]) -> Result<Self, String> {
        let mut how = How::Status(503);
        for option in options {
            match (option.split_once('='), &mut when) {
                (Some(("status", status)), _) => how = How::Status(parse_status(status)?),
                (Some(("grpc-status", status)), _) => how = How::GrpcStatus(parse_grpc_status(status)?),
                (Some(("key", id)), When::First(_, key)) => id.clone_into(key),
                (None, _) if *option == "close" => how = How::Close,
                _ => {
                    return Err(format!(
                        "unknown option {option:?}; known are status=, grpc-status=, close, key=, version=, pod="
                    ));
                }
            }
        }
        Ok(Self { when, how })
    }

    fn bound_by(mut self, bound: &[&str]) -> Self {
        if let When::First(_, key) = &mut self.when {
            for option in bound {
                key.push(';');
                key.push_str(option);
            }
        }
        self
    }
}

impl When {
    fn share(value: &str) -> Result<Self, String> {
        match value.parse::<f64>() {
            Ok(share) if (0.0..=1.0).contains(&share) => Ok(Self::Share(share)),
            _ => Err("expected a share from 0 to 1, e.g. 0.5".to_owned()),
        }
    }

    fn first(value: &str) -> Result<Self, String> {
        let first = value.parse().map_err(|_| "expected a number of requests, e.g. 2;key=ID".to_owned())?;
        Ok(Self::First(first, String::new()))
    }
}

fn is_binding(option: &str) -> bool {
    option.starts_with("version=") || option.starts_with("pod=")
}

fn applies(binding: &str, who: &Identity) -> bool {
    match binding.split_once('=') {
        Some(("version", version)) => who.version == version,
        Some(("pod", pod)) => who.pod == pod,
        _ => false,
    }
}

/// Takes the bindings off the end of a value that may itself contain semicolons.
fn strip_binding(mut text: &str) -> (&str, Vec<&str>) {
    let mut bound = Vec::new();
    while let Some((rest, option)) = text.rsplit_once(';')
        && is_binding(option.trim())
    {
        bound.push(option.trim());
        text = rest;
    }
    (text.trim(), bound)
}

fn parse_status(value: &str) -> Result<u16, String> {
    match value.parse() {
        Ok(status @ 200..=599) => Ok(status),
        _ => Err("expected a status from 200 to 599".to_owned()),
    }
}

/// Numbers that gRPC does not know are taken too: what becomes of them is worth a test.
fn parse_grpc_status(value: &str) -> Result<u16, String> {
    match value.parse() {
        Ok(status @ 0..=999) => Ok(status),
        _ => Err("expected the number of a gRPC status, e.g. 14".to_owned()),
    }
}

/// gRPC's own mapping, http-grpc-status-mapping.md.
fn grpc_status_of(status: u16) -> u16 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

fn parse_body_bytes(value: &str) -> Result<u64, String> {
    match value.parse() {
        Ok(bytes) if bytes <= limits::BODY_BYTES_MAX => Ok(bytes),
        _ => Err(format!("expected a number of bytes up to {}", limits::BODY_BYTES_MAX)),
    }
}

fn parse_abort(value: &str) -> Result<Abort, String> {
    match value {
        "before" => Ok(Abort::Before),
        "after-headers" => Ok(Abort::AfterHeaders),
        _ => Err("expected before or after-headers".to_owned()),
    }
}

/// `k=v`, legal as a field, and none of the fields that frame the answer.
fn parse_field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected name=value")?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(format!("{name:?} is not a field name"));
    }
    if value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Err("a field value has no control characters".to_owned());
    }
    let name = name.to_ascii_lowercase();
    if ["content-length", "transfer-encoding", "connection"].contains(&name.as_str()) {
        return Err(format!("{name} frames the answer and is not up to the request"));
    }
    Ok((name, value.to_owned()))
}

/// A Go duration such as `250ms`, `1.5s` or `1m30s`.
fn parse_delay(text: &str) -> Result<Duration, String> {
    let bad = || "expected a duration such as 250ms, 1.5s or 1m30s, up to 1h".to_owned();
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let unit_seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(bad()),
        };
        seconds += number.parse::<f64>().map_err(|_| bad())? * unit_seconds;
        rest = tail;
    }
    match Duration::try_from_secs_f64(seconds) {
        Ok(delay) if !text.is_empty() && delay <= limits::DELAY_MAX => Ok(delay),
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who() -> Identity {
        Identity { pod: "p-0".to_owned(), version: "v1".to_owned(), ..Identity::default() }
    }

    fn read_with(fields: &[(&str, &str)], counts: &FailureCounts, chance: f64) -> Result<Plan, String> {
        let fields = fields.iter().map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec())).collect();
        Plan::read(&Head { fields, ..Head::get("/") }, &who(), counts, chance)
    }

    fn read(fields: &[(&str, &str)]) -> Result<Plan, String> {
        read_with(fields, &FailureCounts::default(), 0.5)
    }

    fn status(fields: &[(&str, &str)]) -> u16 {
        read(fields).expect("legal").status
    }

    #[test]
    fn bindings_choose_who_obeys() {
        assert_eq!(status(&[("x-echo-status", "503")]), 503);
        assert_eq!(status(&[("x-echo-status", "503;version=v1")]), 503);
        assert_eq!(status(&[("x-echo-status", "503;version=v2")]), 200);
        assert_eq!(status(&[("x-echo-status", "503; pod=p-0;version=v1")]), 503);
        assert_eq!(status(&[("x-echo-status", "503;pod=p-0;version=v2")]), 200);
        assert_eq!(status(&[("x-echo-status", "404"), ("x-echo-status", "503;pod=p-0")]), 503);
        assert_eq!(status(&[("x-echo-status", "404"), ("x-echo-status", "503;pod=p-1")]), 404);
    }

    #[test]
    fn fields_may_hold_semicolons() {
        let plan = read(&[
            ("x-echo-set-header", "Set-Cookie=a=b; Path=/;version=v1"),
            ("x-echo-set-header", "x-b=2;version=v2"),
        ]);
        assert_eq!(plan.expect("legal").fields, [("set-cookie".to_owned(), "a=b; Path=/".to_owned())]);
    }

    #[test]
    fn the_first_requests_of_a_key_fail() {
        let counts = FailureCounts::default();
        let next = |value| read_with(&[("x-echo-fail-first", value)], &counts, 0.5).expect("legal");
        let statuses: Vec<_> = (0..4).map(|_| next("2;status=500;key=a").status).collect();
        assert_eq!(statuses, [500, 500, 200, 200]);
        assert_eq!(next("1;key=b;close").abort, Some(Abort::Before));
        assert_eq!(next("1;key=b;close").abort, None);
        assert_eq!(next("1;key=b").status, 200, "the key counts, not how it fails");
        assert_eq!(next("1;key=b;pod=p-1").status, 200);
        assert_eq!(next("1;key=b;pod=p-0").status, 503, "bound, it counts by itself");
    }

    #[test]
    fn a_share_fails_by_chance() {
        let at = |chance| read_with(&[("x-echo-fail-rate", "0.25")], &FailureCounts::default(), chance);
        assert_eq!(at(0.24).expect("legal").status, 503);
        assert_eq!(at(0.25).expect("legal").status, 200);
    }

    #[test]
    fn durations() {
        let ms = |text| parse_delay(text).map(|delay| delay.as_millis());
        assert_eq!(ms("250ms"), Ok(250));
        assert_eq!(ms("1m1.5s"), Ok(61_500));
        assert_eq!(ms("1h"), Ok(3_600_000));
        for bad in ["", "5", "ms", "1h1ns", "-1s", "1e9h", "1 s", "..s"] {
            assert!(ms(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_is_passed_over() {
        for (name, value) in [
            ("x-echo-status", "99"),
            ("x-echo-status", "503;verson=v1"),
            ("x-echo-body-bytes", "67108865"),
            ("x-echo-abort", "now"),
            ("x-echo-abort", "later;version=v2"),
            ("x-echo-set-header", "content-length=3"),
            ("x-echo-set-header", "a b=3"),
            ("x-echo-fail-rate", "2"),
            ("x-echo-fail-rate", "0.5;key=a"),
            ("x-echo-fail-first", "-1"),
            ("x-echo-stauts", "503"),
        ] {
            let error = read(&[(name, value)]).expect_err(value);
            assert!(error.starts_with(&format!("{name}: {value}: ")), "{error}");
        }
    }

    #[test]
    fn remembered_keys_are_bounded() {
        let counts = FailureCounts::default();
        for key in 0..=limits::FAILURE_KEYS_MAX {
            assert_eq!(counts.count(&key.to_string()), 0);
        }
        assert_eq!(counts.count("1"), 1);
        assert_eq!(counts.count("0"), 0, "the oldest was forgotten");
    }
}
