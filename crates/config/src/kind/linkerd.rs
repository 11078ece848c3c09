//! Linkerd's annotations for retries and time limits, on Services, HTTPRoutes and GRPCRoutes.
//!
//! `retry.linkerd.io/*` are one set and `timeout.linkerd.io/*` another: a route that has one annotation of a set has the
//! whole set, and nothing of its Service's counts beside it. A set with a slip in it does not count, as with Linkerd, and is
//! reported where the object is read. Who wins over whom is decided in `translate::retries`. What becomes of Linkerd's
//! words:
//!
//! | annotation | here |
//! |---|---|
//! | `retry.linkerd.io/http`, `grpc` | status codes of either kind, beside the failures in which nothing reached the application |
//! | `retry.linkerd.io/limit` | retries after the first try, 1 |
//! | `retry.linkerd.io/timeout` | the time of one try, which is then repeated |
//! | `timeout.linkerd.io/response` | the time of the route, which begins with the end of the request |
//! | `timeout.linkerd.io/request` | the same: the time in which the request comes in does not count |
//! | `timeout.linkerd.io/idle` | not enforced |

use std::time::Duration;

use outrigger_model::{RetryOn, RetryPolicy};

use super::resilience::MAY_HAVE_ACTED;
use crate::codes::{self, CodeInfo};
use crate::decode::{Cx, clip, list, nearest};
use crate::node::Pos;
use crate::object::Metadata;

/// What an object's annotations say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// `retry.linkerd.io/*`.
    pub retry: Option<RetrySet>,
    /// `timeout.linkerd.io/*`.
    pub timeouts: Option<Timeouts>,
}

/// `retry.linkerd.io/*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetrySet {
    limit: Option<u32>,
    timeout: Option<Duration>,
    status_codes: Vec<u16>,
    on: RetryOn,
}

/// `timeout.linkerd.io/*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    request: Option<Duration>,
    response: Option<Duration>,
}

/// Whose annotations they are, which decides what is retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// A Service: its requests and its calls.
    Service,
    /// An HTTPRoute: requests.
    HttpRoute,
    /// A GRPCRoute: calls.
    GrpcRoute,
}

const RETRY: &str = "retry.linkerd.io/";
const TIMEOUT: &str = "timeout.linkerd.io/";
const KEYS: &[&str] = &[
    "retry.linkerd.io/http",
    "retry.linkerd.io/grpc",
    "retry.linkerd.io/limit",
    "retry.linkerd.io/timeout",
    "timeout.linkerd.io/request",
    "timeout.linkerd.io/response",
    "timeout.linkerd.io/idle",
];

/// Reads the annotations of an object; sets with a slip in them are left out.
pub fn read(meta: &Metadata, of: Of) -> Said {
    Reader::new(meta, of).said
}

/// Judges the annotations of an object.
pub(super) fn check(meta: &Metadata, of: Of, cx: &mut Cx) {
    for finding in Reader::new(meta, of).findings {
        let message = format!("metadata.annotations[{}]: {}", finding.key, finding.message);
        cx.report(finding.code, finding.pos, message, finding.hint);
    }
}

/// Where the annotations of an object ask for retries of what the application may have acted on.
pub(super) fn may_repeat(meta: &Metadata, of: Of) -> Option<(String, Pos)> {
    read(meta, of).retry.filter(|set| set.words().has(MAY_HAVE_ACTED))?;
    let (key, value) = meta.annotations.iter().find(|(key, _)| key.starts_with(RETRY))?;
    Some((format!("metadata.annotations[{key}]"), value.pos))
}

impl RetrySet {
    fn words(&self) -> RetryOn {
        let answers = if self.status_codes.is_empty() { RetryOn::default() } else { RetryOn::RETRIABLE_STATUS_CODES };
        // Linkerd repeats a try whose own time is over; the word for that is Envoy's.
        let late = if self.timeout.is_some() { RetryOn::RESET } else { RetryOn::default() };
        RetryOn::CONNECT_FAILURE.and(RetryOn::REFUSED_STREAM).and(self.on).and(answers).and(late)
    }

    /// The policy; back-off and the choice of hosts are the mesh's.
    pub fn model(&self, mesh: &RetryPolicy) -> RetryPolicy {
        RetryPolicy {
            attempts: self.limit.unwrap_or(1),
            per_try_timeout: self.timeout,
            retry_on: self.words(),
            status_codes: self.status_codes.clone(),
            headers: Vec::new(),
            ..mesh.clone()
        }
    }
}

impl Timeouts {
    /// The time of the route: the shorter one of the two.
    pub fn route(self) -> Option<Duration> {
        self.request.into_iter().chain(self.response).filter(|limit| !limit.is_zero()).min()
    }
}

/// Something wrong with an annotation.
struct Finding {
    key: String,
    code: &'static CodeInfo,
    pos: Pos,
    message: String,
    hint: String,
}

struct Reader<'m> {
    meta: &'m Metadata,
    said: Said,
    findings: Vec<Finding>,
}

impl<'m> Reader<'m> {
    fn new(meta: &'m Metadata, of: Of) -> Self {
        let mut reader = Self { meta, said: Said::default(), findings: Vec::new() };
        if meta.annotations.keys().any(|key| key.starts_with(RETRY) || key.starts_with(TIMEOUT)) {
            reader.unknown();
            reader.said.retry = reader.retry(of);
            reader.said.timeouts = reader.timeouts();
        }
        reader
    }

    fn unknown(&mut self) {
        let ours = |key: &str| (key.starts_with(RETRY) || key.starts_with(TIMEOUT)) && !KEYS.contains(&key);
        for (key, value) in self.meta.annotations.iter().filter(|(key, _)| ours(key)) {
            let hint = nearest(key, KEYS).map_or_else(String::new, |near| format!("did you mean `{near}`?"));
            self.push(key, codes::UNKNOWN_FIELD, value.pos, "no such annotation of Linkerd".to_owned(), hint);
        }
    }

    fn push(&mut self, key: &str, code: &'static CodeInfo, pos: Pos, message: String, hint: String) {
        self.findings.push(Finding { key: key.to_owned(), code, pos, message, hint });
    }

    /// Reads one annotation. `Err`: it is wrong, which has been said.
    fn one<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, ()> {
        let Some(annotation) = self.meta.annotations.get(key) else { return Ok(None) };
        if let Some(value) = parse(annotation.value.trim()) {
            return Ok(Some(value));
        }
        let set = key.split('/').next().unwrap_or_default();
        let message = format!("found {:?}, expected {expected}", clip(&annotation.value));
        let hint = format!("no `{set}` annotation of this object counts until it is corrected");
        self.push(key, codes::NO_EFFECT, annotation.pos, message, hint);
        Err(())
    }

    /// Says that an annotation means nothing on such an object; it still makes a set, as with Linkerd.
    fn idle(&mut self, key: &'static str, code: &'static CodeInfo, message: &str, hint: &str) {
        if let Some(annotation) = self.meta.annotations.get(key) {
            self.push(key, code, annotation.pos, message.to_owned(), hint.to_owned());
        }
    }

    fn retry(&mut self, of: Of) -> Option<RetrySet> {
        let mut set = RetrySet::default();
        if of == Of::GrpcRoute {
            let hint = "use `retry.linkerd.io/grpc`";
            self.idle("retry.linkerd.io/http", codes::NO_EFFECT, "it has no effect on a GRPCRoute", hint);
        } else {
            let expected =
                "`5xx`, `gateway-error`, status codes and ranges such as `502-504`, with commas between them";
            set.status_codes = self.one("retry.linkerd.io/http", expected, status_codes).ok()?.unwrap_or_default();
        }
        if of == Of::HttpRoute {
            let hint = "use `retry.linkerd.io/http`, or a GRPCRoute";
            self.idle("retry.linkerd.io/grpc", codes::NO_EFFECT, "it has no effect on an HTTPRoute", hint);
        } else {
            let names: Vec<&str> = GRPC.iter().map(|(name, _)| *name).collect();
            let expected = format!("{}, with commas between them", list(&names));
            set.on = self.one("retry.linkerd.io/grpc", &expected, grpc_words).ok()?.unwrap_or_default();
        }
        let limit = self.one("retry.linkerd.io/limit", "a number from 0 to 65535", |text| text.parse::<u16>().ok());
        // Zero is not given, in Linkerd.
        set.limit = limit.ok()?.filter(|limit| *limit > 0).map(u32::from);
        set.timeout = self.one("retry.linkerd.io/timeout", DURATION, duration).ok()?.filter(|t| !t.is_zero());
        (set != RetrySet::default()).then_some(set)
    }

    fn timeouts(&mut self) -> Option<Timeouts> {
        let request = self.one("timeout.linkerd.io/request", DURATION, duration).ok()?;
        let response = self.one("timeout.linkerd.io/response", DURATION, duration).ok()?;
        let idle = self.one("timeout.linkerd.io/idle", DURATION, duration).ok()?;
        let message = "understood, but a route has no idle time of its own yet";
        self.idle(
            "timeout.linkerd.io/idle",
            codes::NOT_ENFORCED,
            message,
            "a limit on the whole exchange is `response`",
        );
        let given = request.is_some() || response.is_some() || idle.is_some();
        given.then_some(Timeouts { request, response })
    }
}

/// gRPC's words.
const GRPC: &[(&str, RetryOn)] = &[
    ("cancelled", RetryOn::CANCELLED),
    ("deadline-exceeded", RetryOn::DEADLINE_EXCEEDED),
    ("internal", RetryOn::INTERNAL),
    ("resource-exhausted", RetryOn::RESOURCE_EXHAUSTED),
    ("unavailable", RetryOn::UNAVAILABLE),
];

fn grpc_words(text: &str) -> Option<RetryOn> {
    let word = |word: &str| GRPC.iter().find(|(name, _)| word.trim().eq_ignore_ascii_case(name)).map(|(_, on)| *on);
    text.split(',').map(word).try_fold(RetryOn::default(), |all, on| Some(all.and(on?)))
}

/// Statuses, ascending, each once.
pub(super) fn status_codes(text: &str) -> Option<Vec<u16>> {
    let code = |text: &str| text.trim().parse::<u16>().ok().filter(|code| (100..600).contains(code));
    let mut all = Vec::new();
    for word in text.split(',').map(str::trim) {
        let (first, last) = if word.eq_ignore_ascii_case("5xx") {
            (500, 599)
        } else if word.eq_ignore_ascii_case("gateway-error") {
            (502, 504)
        } else if let Some((first, last)) = word.split_once('-') {
            (code(first)?, code(last)?)
        } else {
            (code(word)?, code(word)?)
        };
        if first > last {
            return None;
        }
        all.extend(first..=last);
    }
    all.sort_unstable();
    all.dedup();
    Some(all)
}

const DURATION: &str = "a whole number with a unit (`ms`, `s`, `m`, `h`, `d`), such as `300ms`";

/// A duration as Linkerd writes it.
pub(super) fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    // The longest that the API of durations has otherwise: 292 years.
    const DAYS_MAX: u64 = 106_751;
    let limit = Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(unit_ms)?);
    (limit <= Duration::from_secs(DAYS_MAX * 86_400)).then_some(limit)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{duration, status_codes};

    #[test]
    fn durations_are_linkerds() {
        for (text, expected) in [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("250ms", Some(250)),
            ("2s", Some(2_000)),
            ("3m", Some(180_000)),
            ("1h", Some(3_600_000)),
            ("1d", Some(86_400_000)),
            ("5", None),
            ("0.5s", None),
            ("-1s", None),
            ("1h30m", None),
            ("s", None),
            ("", None),
            ("99999999999999999999s", None),
            ("99999999999d", None),
        ] {
            assert_eq!(duration(text), expected.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn statuses_are_words_codes_and_ranges() {
        assert_eq!(status_codes("504, 429,gateway-error"), Some(vec![429, 502, 503, 504]));
        assert_eq!(status_codes("5XX").map(|codes| (codes.len(), codes[0], codes[99])), Some((100, 500, 599)));
        assert_eq!(status_codes("500-502"), Some(vec![500, 501, 502]));
        for wrong in ["", "5x", "502-500", "600", "99", "500-", "500,,501"] {
            assert_eq!(status_codes(wrong), None, "{wrong:?}");
        }
    }
}
