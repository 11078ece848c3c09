//! `retries` and `fault` of a VirtualService: translated completely; but for `perTryTimeout`, obeyed later.

use std::time::Duration;

use outrigger_model::{BackOff, Fault, FaultAbort, FaultDelay, Fraction, RetryOn as Words, RetryPolicy};

use super::istio::{Percent, duration_1ms};
use crate::codes;
use crate::decode::{Cx, Decode, Fields, clip, list, nearest};
use crate::node::{Node, Pos};
use crate::object;
use crate::scalar;

object! {
    /// `retries`; also `meshConfig.defaultHttpRetryPolicy`.
    pub struct Retries {
        /// `attempts` after the first; 0 turns retries off.
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

/// Reads `retries`, and says what of it is not enforced yet: everything but the time of one try.
pub fn read_retries(node: &Node<'_>, cx: &mut Cx) -> Option<Retries> {
    let retries = Retries::decode(node, cx)?;
    let Retries { attempts, per_try_timeout: _, retry_on, remote_localities, avoid_previous_hosts, back_off } =
        &retries;
    let asks_for_more = attempts.is_some()
        || retry_on.is_some()
        || remote_localities.is_some()
        || avoid_previous_hosts.is_some()
        || back_off.is_some();
    if asks_for_more && *attempts != Some(0) {
        let message = "understood, but no request is tried again yet";
        cx.report(codes::NOT_ENFORCED, node.pos, message, "of this field, only `perTryTimeout` is enforced");
    }
    Some(retries)
}

/// `retryOn`: words and status codes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RetryOn {
    /// Envoy's words.
    pub words: Words,
    /// Status codes.
    pub codes: Vec<u16>,
}

impl RetryOn {
    /// As the data plane has it: a status code is a word of its own to Istio, and [`Words::RETRIABLE_STATUS_CODES`] to Envoy.
    pub fn model(&self) -> Words {
        if self.codes.is_empty() { self.words } else { self.words.and(Words::RETRIABLE_STATUS_CODES) }
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
        let mut on = Self::default();
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
        Some(on)
    }
}

impl Retries {
    /// Istio's policy where neither route nor mesh say anything.
    pub const DEFAULT_ATTEMPTS: u32 = 2;

    /// The policy of a route: what it leaves out comes from the mesh's default.
    pub fn model(&self, default: &RetryPolicy) -> RetryPolicy {
        let base = self.back_off.unwrap_or(default.back_off.base);
        let (retry_on, status_codes) = match self.retry_on.as_ref().filter(|on| **on != RetryOn::default()) {
            Some(on) => (on.model(), on.codes.clone()),
            None => (default.retry_on, default.status_codes.clone()),
        };
        let attempts = self.attempts.unwrap_or(default.attempts);
        RetryPolicy {
            attempts,
            per_try_timeout: self.per_try_timeout.filter(|t| attempts > 0 && !t.is_zero()),
            retry_on,
            status_codes,
            headers: default.headers.clone(),
            back_off: BackOff { min: Duration::ZERO, base, max: base * 10 },
            remote_localities: self.remote_localities.unwrap_or(default.remote_localities),
            avoid_previous_hosts: self.avoid_previous_hosts.unwrap_or(default.avoid_previous_hosts),
            non_idempotent: default.non_idempotent,
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

fn grpc(node: &Node<'_>, cx: &mut Cx) -> Option<u32> {
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
            let policy = retries(attempts).model(&default_retry());
            assert_eq!(policy.per_try_timeout, expected.map(Duration::from_secs), "{attempts:?}");
        }
    }
}
