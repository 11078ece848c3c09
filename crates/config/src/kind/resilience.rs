//! `retries` and `fault` of a VirtualService, and what our own annotation says of retries.

use std::time::Duration;

use outrigger_model::{BackOff, Fault, FaultAbort, FaultDelay, Fraction, RetryOn as Words, RetryPolicy};

use super::istio::{Percent, duration_1ms};
use crate::codes;
use crate::decode::{Cx, Decode, Fields, clip, list, nearest};
use crate::node::{Node, Pos};
use crate::object;
use crate::object::Metadata;
use crate::scalar;

/// The annotation of routes and Services by which a request is repeated that is neither idempotent nor has an idempotency
/// key, although the application may have acted on it: `true` or `false`.
pub const REPEAT: &str = "outrigger.dev/retry-non-idempotent";

/// What [`REPEAT`] says of an object.
pub fn repeats(meta: &Metadata) -> Option<bool> {
    match meta.annotation(REPEAT)? {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// Judges [`REPEAT`]; where it is absent and `asks` names a place that asks for retries of what may have reached the
/// application, says once for the object what that does not mean.
pub(super) fn check_repeats(meta: &Metadata, asks: Option<(String, Pos)>, cx: &mut Cx) {
    match (meta.annotations.get(REPEAT), asks) {
        (Some(annotation), _) if repeats(meta).is_none() => {
            let message = format!(
                "metadata.annotations[{REPEAT}]: found {:?}, expected \"true\" or \"false\"; it has no effect",
                clip(&annotation.value)
            );
            cx.report(codes::NO_EFFECT, annotation.pos, message, "");
        }
        (None, Some((path, pos))) => {
            let message = format!(
                "{path}: requests that are not idempotent (POST, PATCH) and have no Idempotency-Key are not repeated once \
                 they may have reached the application"
            );
            let hint = format!("if they may be, annotate the object or its Service with `{REPEAT}: \"true\"`");
            cx.report(codes::SAFE_RETRIES_ONLY, pos, message, hint);
        }
        _ => {}
    }
}

/// What ends a try that the application may have acted on. A status of gRPC is its own word that the call may be made again.
pub(super) const MAY_HAVE_ACTED: Words = Words::FIVE_XX
    .and(Words::GATEWAY_ERROR)
    .and(Words::RESET)
    .and(Words::RETRIABLE_4XX)
    .and(Words::RETRIABLE_STATUS_CODES)
    .and(Words::ENVOY_RATELIMITED);

object! {
    /// `retries`; also `meshConfig.defaultHttpRetryPolicy`.
    pub struct Retries {
        /// `attempts` after the first; 0 turns retries off, absent is 2.
        pub attempts: Option<u32> = with(scalar::within(0..=i32::MAX.into())) "attempts",
        /// `perTryTimeout`.
        pub per_try_timeout: Option<Duration> = optional "perTryTimeout",
        /// `retryOn`.
        pub retry_on: Option<RetryOn> = optional "retryOn",
        /// `retryRemoteLocalities`.
        pub remote_localities: Option<bool> = optional "retryRemoteLocalities",
        /// `retryIgnorePreviousHosts`; true when absent.
        pub avoid_previous_hosts: Option<bool> = optional "retryIgnorePreviousHosts",
        /// `backoff`.
        pub back_off: Option<Duration> = with(duration_1ms) "backoff",
    }
    check check_retries
}

fn check_retries(retries: &Retries, pos: Pos, cx: &mut Cx) {
    let off = retries.attempts == Some(0);
    if off && (retries.per_try_timeout.is_some() || retries.retry_on.is_some()) {
        cx.report(codes::NO_EFFECT, pos, "`attempts` is 0, which turns retries off", "remove the other fields");
    }
}

/// Reads `meshConfig.defaultHttpRetryPolicy`.
pub(super) fn mesh_retries(node: &Node<'_>, cx: &mut Cx) -> Option<Retries> {
    let retries = Retries::decode(node, cx)?;
    if retries.per_try_timeout.is_some() {
        let message = "`perTryTimeout` has no effect in the policy of the mesh";
        cx.report(codes::NO_EFFECT, node.pos, message, "set it in the `retries` of a route");
    }
    Some(Retries { per_try_timeout: None, ..retries })
}

/// `retryOn`: words and status codes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RetryOn {
    /// Envoy's words.
    pub words: Words,
    /// Status codes, ascending, each once.
    pub codes: Vec<u16>,
    /// Where they stand.
    pub pos: Pos,
}

impl RetryOn {
    /// As the data plane has it: a status code is a word of its own to Istio, and [`Words::RETRIABLE_STATUS_CODES`] to Envoy.
    pub fn model(&self) -> Words {
        if self.codes.is_empty() { self.words } else { self.words.and(Words::RETRIABLE_STATUS_CODES) }
    }

    /// Whether nothing is named: the default counts.
    fn is_empty(&self) -> bool {
        self.words == Words::default() && self.codes.is_empty()
    }

    /// Says which words mean nothing.
    fn report_idle(&self, cx: &mut Cx) {
        let mut idle = |word: &str, why: &str, hint: &str| {
            let message = format!("`{word}` has no effect: {why}");
            cx.report(codes::NO_EFFECT, self.pos, message, hint);
        };
        if self.words.has(Words::RETRIABLE_HEADERS) {
            let why = "Istio has no field for the names of the headers";
            idle("retriable-headers", why, "name status codes instead, or remove it");
        }
        if self.words.has(Words::HTTP3_POST_CONNECT_FAILURE) {
            idle("http3-post-connect-failure", "HTTP/3 is not spoken to upstreams", "remove it");
        }
        if self.words.has(Words::RETRIABLE_STATUS_CODES) && self.codes.is_empty() {
            idle("retriable-status-codes", "no status code stands beside it", "add the codes, such as `503`");
        }
    }
}

impl Decode for RetryOn {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        // `retryOn: 503` without quotes is a number to YAML; what is meant is clear.
        let text = match node.scalar() {
            Some(scalar) => scalar.text.clone(),
            None => {
                cx.mismatch(node, "words and status codes with commas, such as `5xx,reset`");
                return None;
            }
        };
        let words: Vec<&str> = Words::WORDS.iter().map(|(word, _)| *word).collect();
        let mut on = Self { pos: node.pos, ..Self::default() };
        for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
            if let Ok(code) = word.parse::<u16>() {
                if (100..=599).contains(&code) {
                    on.codes.push(code);
                } else {
                    cx.report(codes::SCHEMA, node.pos, format!("found status {code}, expected 100 to 599"), "");
                }
            } else if words.contains(&word) {
                on.words = on.words.and([word].into_iter().collect());
            } else {
                let hint = nearest(word, &words).map_or(String::new(), |near| format!("did you mean `{near}`?"));
                let message = format!("found {:?}, expected a status code or one of {}", clip(word), list(&words));
                cx.report(codes::SCHEMA, node.pos, message, hint);
            }
        }
        on.codes.sort_unstable();
        on.codes.dedup();
        on.report_idle(cx);
        Some(on)
    }
}

impl Retries {
    /// Istio's policy where neither route nor mesh say anything.
    pub const DEFAULT_ATTEMPTS: u32 = 2;

    /// Where it asks for retries of what the application may have acted on.
    pub(super) fn may_repeat(&self) -> Option<Pos> {
        let on = self.retry_on.as_ref().filter(|on| on.model().has(MAY_HAVE_ACTED));
        on.filter(|_| self.attempts != Some(0)).map(|on| on.pos)
    }

    /// The policy. What it leaves out is Istio's own default, also where the mesh has another one: that is for routes
    /// without any `retries`.
    pub fn model(&self) -> RetryPolicy {
        let default = default_retry();
        let base = self.back_off.unwrap_or(default.back_off.base);
        let (retry_on, status_codes) = match self.retry_on.as_ref().filter(|on| !on.is_empty()) {
            Some(on) => (on.model(), on.codes.clone()),
            None => (default.retry_on, Vec::new()),
        };
        let attempts = self.attempts.unwrap_or(default.attempts);
        RetryPolicy {
            attempts,
            per_try_timeout: self.per_try_timeout.filter(|t| attempts > 0 && !t.is_zero()),
            retry_on,
            status_codes,
            headers: Vec::new(),
            back_off: BackOff { min: Duration::ZERO, base, max: base * 10 },
            remote_localities: self.remote_localities.unwrap_or(default.remote_localities),
            avoid_previous_hosts: self.avoid_previous_hosts.unwrap_or(default.avoid_previous_hosts),
            non_idempotent: false,
        }
    }
}

/// Istio's own default policy.
pub fn default_retry() -> RetryPolicy {
    let base = Duration::from_millis(25);
    RetryPolicy {
        attempts: Retries::DEFAULT_ATTEMPTS,
        per_try_timeout: None,
        retry_on: ["connect-failure", "refused-stream", "unavailable", "cancelled"].into_iter().collect(),
        status_codes: Vec::new(),
        headers: Vec::new(),
        back_off: BackOff { min: Duration::ZERO, base, max: base * 10 },
        remote_localities: false,
        avoid_previous_hosts: true,
        non_idempotent: false,
    }
}

/// Reads `fault`.
pub fn read_fault(node: &Node<'_>, cx: &mut Cx) -> Option<Fault> {
    let mut fields = Fields::of(node, cx)?;
    let delay = fields.with("delay", cx, delay);
    let abort = fields.with("abort", cx, abort);
    fields.finish(cx);
    Some(Fault { delay, abort })
}

fn delay(node: &Node<'_>, cx: &mut Cx) -> Option<FaultDelay> {
    let mut fields = Fields::of(node, cx)?;
    let delay = match fields.one_of(&["fixedDelay", "exponentialDelay"], cx) {
        Some(("fixedDelay", node)) => cx.within("fixedDelay", |cx| duration_1ms(node, cx)),
        Some((_, node)) => {
            cx.report(
                codes::NO_EFFECT,
                node.pos,
                "`exponentialDelay` never had an effect in Istio",
                "use `fixedDelay`",
            );
            None
        }
        None => {
            cx.report(codes::SCHEMA, node.pos, "required field `fixedDelay` is missing", "");
            None
        }
    };
    let percentage: Option<Percent> = fields.optional("percentage", cx);
    let percent: Option<f64> = fields.with("percent", cx, scalar::percent);
    fields.finish(cx);
    Some(FaultDelay { delay: delay?, share: share(percentage.as_ref(), percent) })
}

/// The share of requests; nothing when no percentage is given.
fn share(percentage: Option<&Percent>, old: Option<f64>) -> Fraction {
    let none = || Fraction::from_percent(old.unwrap_or_default());
    percentage.map(Percent::fraction).or_else(none).unwrap_or(Fraction::ALL)
}

fn abort(node: &Node<'_>, cx: &mut Cx) -> Option<FaultAbort> {
    let mut fields = Fields::of(node, cx)?;
    let mut http_status = None;
    let mut grpc_status = None;
    match fields.one_of(&["httpStatus", "grpcStatus", "http2Error"], cx) {
        Some(("httpStatus", node)) => {
            http_status = cx.within("httpStatus", |cx| scalar::within::<u16>(200..=599)(node, cx));
        }
        Some(("grpcStatus", node)) => grpc_status = cx.within("grpcStatus", |cx| grpc(node, cx)),
        Some((_, node)) => {
            cx.report(codes::NO_EFFECT, node.pos, "`http2Error` never had an effect in Istio", "use `httpStatus`");
        }
        None => cx.report(codes::SCHEMA, node.pos, "one of `httpStatus` and `grpcStatus` is missing", ""),
    }
    let percentage: Option<Percent> = fields.optional("percentage", cx);
    fields.finish(cx);
    let known = http_status.is_some() || grpc_status.is_some();
    known.then(|| FaultAbort { http_status, grpc_status, share: share(percentage.as_ref(), None) })
}

/// gRPC status names in the order of their numbers.
const GRPC_STATUS: &[&str] = &[
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// A status of gRPC, by name or number.
pub(super) fn grpc(node: &Node<'_>, cx: &mut Cx) -> Option<u32> {
    let text = node.scalar().map(|s| s.text.as_ref()).unwrap_or_default();
    let by_name = GRPC_STATUS.iter().position(|name| *name == text);
    let number = by_name.or_else(|| text.parse().ok().filter(|n| *n < GRPC_STATUS.len()));
    if number.is_none() {
        cx.mismatch(node, &format!("one of {}", list(GRPC_STATUS)));
    }
    number.and_then(|n| u32::try_from(n).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_that_are_off_have_no_time_for_one_try() {
        let retries = |attempts| Retries {
            attempts,
            per_try_timeout: Some(Duration::from_secs(2)),
            retry_on: None,
            remote_localities: None,
            avoid_previous_hosts: None,
            back_off: None,
        };
        for (attempts, expected) in [(None, Some(2)), (Some(1), Some(2)), (Some(0), None)] {
            let policy = retries(attempts).model();
            assert_eq!(policy.per_try_timeout, expected.map(Duration::from_secs), "{attempts:?}");
        }
    }
}
