//! Whether what a try came to is worth another one: Envoy's `retry_on` words, and what may be done twice.

use outrigger_model::{RetryOn, RetryPolicy};

use crate::failure::Reason;

/// What a try came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The head of an answer.
    Answered {
        status: u16,
        /// `grpc-status` in that head, of a call of gRPC. What comes in trailers comes too late.
        grpc: Option<u8>,
        /// Whether it has `x-envoy-ratelimited`.
        is_rate_limited: bool,
        /// Whether it has a field that the policy names.
        has_named_field: bool,
    },
    /// No answer.
    Lost {
        reason: Reason,
        /// Whether a byte of the request left.
        was_sent: bool,
        /// Whether the instance said that it has not acted on it.
        was_refused: bool,
    },
}

/// Whether the application may have acted on the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It has not.
    Not,
    /// It may; only what may be done twice is sent again.
    Perhaps,
    /// It may, and its answer says that the call may be made again: a status of gRPC that the policy names.
    Told,
}

/// Whether the policy's words ask for another try, and then what may have happened.
pub(crate) fn asks(policy: &RetryPolicy, ending: Ending) -> Option<Reach> {
    let on = policy.retry_on;
    match ending {
        Ending::Answered { status, grpc, is_rate_limited, has_named_field } => {
            if grpc.and_then(RetryOn::of_grpc).is_some_and(|word| on.has(word)) {
                return Some(Reach::Told);
            }
            // Whoever limits the rate wants fewer requests: all other words are silent.
            let asks = if is_rate_limited {
                on.has(RetryOn::ENVOY_RATELIMITED)
            } else {
                (on.has(RetryOn::FIVE_XX) && (500..=599).contains(&status))
                    || (on.has(RetryOn::GATEWAY_ERROR) && (502..=504).contains(&status))
                    || (on.has(RetryOn::RETRIABLE_4XX) && status == 409)
                    || (on.has(RetryOn::RETRIABLE_STATUS_CODES) && policy.status_codes.binary_search(&status).is_ok())
                    || (on.has(RetryOn::RETRIABLE_HEADERS) && has_named_field)
            };
            asks.then_some(Reach::Perhaps)
        }
        Ending::Lost { reason, was_sent, was_refused } => {
            let kind = kind(reason)?;
            let any_reset = RetryOn::RESET.and(RetryOn::FIVE_XX).and(RetryOn::GATEWAY_ERROR);
            let asks = on.has(any_reset)
                || (on.has(RetryOn::CONNECT_FAILURE) && kind == Kind::Connect)
                || (on.has(RetryOn::REFUSED_STREAM) && was_refused)
                || (on.has(RetryOn::RESET_BEFORE_REQUEST) && !was_sent);
            asks.then_some(if was_sent && !was_refused { Reach::Perhaps } else { Reach::Not })
        }
    }
}

/// Kinds of failures that another try may help against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Connect,
    Reset,
}

fn kind(reason: Reason) -> Option<Kind> {
    match reason {
        reason if reason.is_connect() => Some(Kind::Connect),
        Reason::UpstreamClosed
        | Reason::UpstreamReset
        | Reason::UpstreamProtocol(_)
        | Reason::PerTryTimeout
        | Reason::CircuitTimeout => Some(Kind::Reset),
        // The time of the whole is over, the client is gone, or more of the same is what there is too much of.
        _ => None,
    }
}

/// Whether a request may be sent again, now that a try ended so.
pub(crate) fn may_repeat(reach: Reach, is_idempotent: bool, policy: &RetryPolicy) -> bool {
    match reach {
        Reach::Not | Reach::Told => true,
        Reach::Perhaps => is_idempotent || policy.non_idempotent,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use outrigger_model::BackOff;

    use super::*;

    fn policy(words: &str, codes: &[u16]) -> RetryPolicy {
        RetryPolicy {
            attempts: 2,
            per_try_timeout: None,
            retry_on: words.split(',').collect(),
            status_codes: codes.to_vec(),
            headers: Vec::new(),
            back_off: BackOff { min: Duration::ZERO, base: Duration::from_millis(25), max: Duration::from_millis(250) },
            remote_localities: false,
            avoid_previous_hosts: true,
            non_idempotent: false,
        }
    }

    fn answered(status: u16) -> Ending {
        Ending::Answered { status, grpc: None, is_rate_limited: false, has_named_field: false }
    }

    fn call(grpc: u8) -> Ending {
        Ending::Answered { status: 200, grpc: Some(grpc), is_rate_limited: false, has_named_field: false }
    }

    fn limited(status: u16) -> Ending {
        Ending::Answered { status, grpc: None, is_rate_limited: true, has_named_field: false }
    }

    const fn lost(reason: Reason, was_sent: bool) -> Ending {
        Ending::Lost { reason, was_sent, was_refused: false }
    }

    #[test]
    fn every_word_asks_for_what_envoy_says_and_no_more() {
        let refused = Ending::Lost { reason: Reason::UpstreamReset, was_sent: true, was_refused: true };
        let named = Ending::Answered { status: 200, grpc: None, is_rate_limited: false, has_named_field: true };
        let cases: &[(&str, &[(Ending, bool)])] = &[
            (
                "5xx",
                &[
                    (answered(500), true),
                    (answered(599), true),
                    (answered(499), false),
                    (answered(200), false),
                    (lost(Reason::ConnectFailure, false), true),
                    (lost(Reason::ConnectTimeout, false), true),
                    (lost(Reason::UpstreamClosed, true), true),
                    (lost(Reason::PerTryTimeout, true), true),
                    (refused, true),
                    (lost(Reason::RouteTimeout, true), false),
                    (lost(Reason::CallTimeout, true), false),
                    (lost(Reason::Overflow("http2MaxRequests"), false), false),
                    (lost(Reason::CircuitOpen, false), false),
                    (lost(Reason::NoEndpoint, false), false),
                    (lost(Reason::ClientGone, true), false),
                    (limited(503), false),
                ],
            ),
            (
                "gateway-error",
                &[
                    (answered(502), true),
                    (answered(503), true),
                    (answered(504), true),
                    (answered(500), false),
                    (answered(505), false),
                    (lost(Reason::UpstreamClosed, true), true),
                ],
            ),
            (
                "reset",
                &[
                    (lost(Reason::UpstreamReset, true), true),
                    (lost(Reason::UpstreamProtocol("x"), true), true),
                    (lost(Reason::ConnectFailure, false), true),
                    (answered(503), false),
                ],
            ),
            (
                "reset-before-request",
                &[
                    (lost(Reason::UpstreamClosed, false), true),
                    (lost(Reason::ConnectFailure, false), true),
                    (lost(Reason::UpstreamClosed, true), false),
                ],
            ),
            (
                "connect-failure",
                &[
                    (lost(Reason::ConnectFailure, false), true),
                    (lost(Reason::ConnectTimeout, false), true),
                    (lost(Reason::UpstreamClosed, false), false),
                    (answered(503), false),
                ],
            ),
            ("refused-stream", &[(refused, true), (lost(Reason::UpstreamReset, true), false)]),
            ("retriable-4xx", &[(answered(409), true), (answered(429), false), (answered(404), false)]),
            ("envoy-ratelimited", &[(limited(429), true), (answered(429), false)]),
            ("retriable-headers", &[(named, true), (answered(200), false)]),
            ("retriable-status-codes", &[(answered(418), true), (answered(419), false)]),
            ("cancelled", &[(call(1), true), (call(14), false), (call(0), false)]),
            ("deadline-exceeded", &[(call(4), true)]),
            ("resource-exhausted", &[(call(8), true)]),
            ("internal", &[(call(13), true)]),
            ("unavailable", &[(call(14), true), (call(13), false)]),
            ("http3-post-connect-failure", &[(answered(503), false), (lost(Reason::ConnectFailure, false), false)]),
        ];
        for (words, endings) in cases {
            for (ending, expected) in *endings {
                let asked = asks(&policy(words, &[418]), *ending).is_some();
                assert_eq!(asked, *expected, "{words}: {ending:?}");
            }
        }
    }

    #[test]
    fn what_may_have_happened_is_repeated_only_if_it_may_happen_twice() {
        let with = |non_idempotent| RetryPolicy { non_idempotent, ..policy("5xx,refused-stream,unavailable", &[]) };
        let refused = Ending::Lost { reason: Reason::UpstreamReset, was_sent: true, was_refused: true };
        for (ending, idempotent, said, expected) in [
            (answered(503), true, false, true),
            (answered(503), false, false, false),
            (answered(503), false, true, true),
            (lost(Reason::UpstreamClosed, true), false, false, false),
            (lost(Reason::UpstreamClosed, true), true, false, true),
            (lost(Reason::PerTryTimeout, true), false, false, false),
            (lost(Reason::ConnectFailure, false), false, false, true),
            (lost(Reason::PerTryTimeout, false), false, false, true),
            (refused, false, false, true),
            (call(14), false, false, true),
        ] {
            let policy = with(said);
            let reach = asks(&policy, ending).expect("the words ask");
            assert_eq!(may_repeat(reach, idempotent, &policy), expected, "{ending:?} {idempotent} {said}");
        }
    }
}
