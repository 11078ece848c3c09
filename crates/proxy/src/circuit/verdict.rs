//! What a try was worth to a circuit: Hystrix and Linkerd judge differently.

use std::time::Duration;

use outrigger_model::{BreakerRule, HystrixRule};

use super::machine::ProbeEnd;
use super::ring::Event;
use crate::failure::{Blame, Reason};
use crate::trial::Trial;

/// What became of a call, in the words of its circuit's rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// What is counted.
    pub(super) event: Event,
    /// Whether it counts as a failure only because it was slow.
    pub(super) is_slow: bool,
    /// Whether it closes the circuit that it was the probe of.
    pub(super) closes: bool,
}

impl Verdict {
    /// Judges by a rule. `took` is the time until the answer's head, or until it was clear that none comes.
    pub(crate) fn of(rule: &BreakerRule, trial: Trial, took: Duration) -> Self {
        match rule {
            BreakerRule::Hystrix(rule) => by_hystrix(rule, trial, took),
            BreakerRule::Consecutive(_) => Self::plain(by_linkerd(trial, false)),
            BreakerRule::Unified(_, window) if window.threshold > 0.0 => {
                let verdict = Self::plain(by_linkerd(trial, true));
                // Beside the window, a call of gRPC closes the circuit with OK only, though other statuses are no failures.
                let is_ok = !matches!(trial, Trial::Answered { grpc: Some(1..), .. });
                Self { closes: verdict.closes && is_ok, ..verdict }
            }
            // Without its window it is the consecutive one.
            BreakerRule::Unified(..) => Self::plain(by_linkerd(trial, false)),
        }
    }

    /// Of a call whose end nobody knows.
    pub(super) const CANCELLED: Self = Self { event: Event::Cancelled, is_slow: false, closes: false };

    /// What it means to the circuit that it was the probe of.
    pub(super) fn probe_end(self, rule: &BreakerRule) -> ProbeEnd {
        match self.event {
            _ if self.closes => ProbeEnd::Success,
            // Linkerd's penalty grows with failures only; with Hystrix it makes no difference.
            Event::Cancelled | Event::BadRequest if !matches!(rule, BreakerRule::Hystrix(_)) => ProbeEnd::Cancelled,
            _ => ProbeEnd::Failure,
        }
    }

    fn plain(event: Event) -> Self {
        Self { event, is_slow: false, closes: event == Event::Success }
    }
}

/// Hystrix knows success, failure, timeout, rejection and bad request, and leaves it to the caller to say which answer is
/// which. Here the policy says which are failures, 5xx if it says nothing; other 4xx are the caller's mistake.
fn by_hystrix(rule: &HystrixRule, trial: Trial, took: Duration) -> Verdict {
    let event = match trial {
        Trial::Answered { grpc: Some(status), .. } => match status {
            DEADLINE_EXCEEDED if rule.failures.has_grpc(status) => Event::Timeout,
            _ if rule.failures.has_grpc(status) => Event::Failure,
            _ => grpc_by_hystrix(status),
        },
        Trial::Answered { status, .. } => match status {
            _ if rule.failures.has_http(status) => Event::Failure,
            400..500 => Event::BadRequest,
            _ => Event::Success,
        },
        Trial::Failed(reason) => match reason {
            Reason::CircuitTimeout | Reason::RouteTimeout | Reason::PerTryTimeout | Reason::CallTimeout => {
                Event::Timeout
            }
            // A full pool is to a proxy what a full pool of threads is to Hystrix, which counts that as an error.
            Reason::Overflow(_) => Event::PoolRejected,
            Reason::NoEndpoint | Reason::Unresolved => Event::Failure,
            other => failed(other),
        },
        Trial::Abandoned => Event::Cancelled,
    };
    // An answer that comes after the time is over does not make good.
    let is_late = rule.timeout.is_some_and(|timeout| took > timeout);
    let event = if is_late && matches!(event, Event::Success | Event::Failure) { Event::Timeout } else { event };
    let is_slow = event == Event::Success && rule.slow_call.is_some_and(|limit| took > limit);
    let event = if is_slow { Event::Failure } else { event };
    Verdict { is_slow, ..Verdict::plain(event) }
}

/// Statuses of gRPC that are no failures by the policy. Those that say that the call was wrong do not count, nor do
/// `CANCELLED` and `RESOURCE_EXHAUSTED`, which say what 499 and 429 say over HTTP.
fn grpc_by_hystrix(status: u8) -> Event {
    match status {
        1 => Event::Cancelled,
        // UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS: the server's trouble, which somebody does not mind.
        0 | 2 | DEADLINE_EXCEEDED | 13..=15 => Event::Success,
        _ => Event::BadRequest,
    }
}

/// gRPC's status for a call that took too long.
const DEADLINE_EXCEEDED: u8 = 4;

/// Linkerd's classes: failures are 5xx, no answer, and five statuses of gRPC. With `has_window` too many requests are
/// something of their own: a failure of the window, though not one in a row.
fn by_linkerd(trial: Trial, has_window: bool) -> Event {
    match trial {
        Trial::Answered { grpc: Some(status), .. } => match status {
            // DEADLINE_EXCEEDED, PERMISSION_DENIED, INTERNAL, UNAVAILABLE, DATA_LOSS.
            4 | 7 | 13 | 14 | 15 => Event::Failure,
            // RESOURCE_EXHAUSTED.
            8 if has_window => Event::RateLimited,
            _ => Event::Success,
        },
        Trial::Answered { status: 500.., .. } => Event::Failure,
        Trial::Answered { status: 429, .. } if has_window => Event::RateLimited,
        Trial::Answered { .. } => Event::Success,
        Trial::Failed(reason) => failed(reason),
        Trial::Abandoned => Event::Cancelled,
    }
}

/// A call without an answer, by whose fault that was.
fn failed(reason: Reason) -> Event {
    match reason.row().blame {
        Blame::Upstream => Event::Failure,
        Blame::Downstream => Event::Cancelled,
        // Limits, faults and configuration of ours say nothing about what is behind the circuit.
        Blame::Proxy => Event::BadRequest,
    }
}

#[cfg(test)]
mod tests {
    use outrigger_model::{ConsecutiveRule, SuccessWindow};

    use super::*;

    const HTTP: fn(u16) -> Trial = |status| Trial::Answered { status, grpc: None };
    const GRPC: fn(u8) -> Trial = |status| Trial::Answered { status: 200, grpc: Some(status) };

    #[test]
    fn hystrix_counts_what_the_server_is_to_blame_for() {
        let rule = BreakerRule::Hystrix(HystrixRule {
            timeout: Some(Duration::from_millis(1000)),
            slow_call: Some(Duration::from_millis(800)),
            ..HystrixRule::default()
        });
        let of = |trial, ms| Verdict::of(&rule, trial, Duration::from_millis(ms));
        let cases = [
            (HTTP(200), Event::Success),
            (HTTP(304), Event::Success),
            (HTTP(400), Event::BadRequest),
            (HTTP(404), Event::BadRequest),
            (HTTP(429), Event::BadRequest),
            (HTTP(500), Event::Failure),
            (HTTP(503), Event::Failure),
            (GRPC(0), Event::Success),
            (GRPC(1), Event::Cancelled),
            (GRPC(2), Event::Failure),
            (GRPC(3), Event::BadRequest),
            (GRPC(4), Event::Timeout),
            (GRPC(7), Event::BadRequest),
            (GRPC(8), Event::BadRequest),
            (GRPC(13), Event::Failure),
            (GRPC(14), Event::Failure),
            (GRPC(15), Event::Failure),
            (GRPC(16), Event::BadRequest),
            (Trial::Failed(Reason::ConnectFailure), Event::Failure),
            (Trial::Failed(Reason::ConnectTimeout), Event::Failure),
            (Trial::Failed(Reason::UpstreamReset), Event::Failure),
            (Trial::Failed(Reason::NoEndpoint), Event::Failure),
            (Trial::Failed(Reason::CircuitTimeout), Event::Timeout),
            (Trial::Failed(Reason::RouteTimeout), Event::Timeout),
            (Trial::Failed(Reason::PerTryTimeout), Event::Timeout),
            (Trial::Failed(Reason::Overflow("maxConnections")), Event::PoolRejected),
            (Trial::Failed(Reason::ClientGone), Event::Cancelled),
            (Trial::Failed(Reason::Fault(503)), Event::BadRequest),
            (Trial::Abandoned, Event::Cancelled),
        ];
        for (trial, event) in cases {
            let expected = Verdict { event, is_slow: false, closes: event == Event::Success };
            assert_eq!(of(trial, 1), expected, "{trial:?}");
        }
        assert_eq!(of(HTTP(200), 800).event, Event::Success, "as long as allowed");
        assert_eq!(of(HTTP(500), 1001).event, Event::Timeout, "the time was over before");
        let slow = Verdict { event: Event::Failure, is_slow: true, closes: false };
        assert_eq!(of(HTTP(200), 801), slow);
        assert_eq!(of(HTTP(503), 801), Verdict { is_slow: false, ..slow }, "it failed anyway");
        assert_eq!(of(HTTP(404), 801).event, Event::BadRequest, "a bad request never counts");
        assert_eq!(of(HTTP(200), 1001), Verdict { event: Event::Timeout, is_slow: false, closes: false });
    }

    #[test]
    fn a_policy_may_say_which_answers_are_failures() {
        let failures = outrigger_model::FailureAnswers::none().with_http([429, 503]).with_grpc([4, 8, 14]);
        let rule = BreakerRule::Hystrix(HystrixRule { failures, ..HystrixRule::default() });
        for (trial, event) in [
            (HTTP(200), Event::Success),
            (HTTP(404), Event::BadRequest),
            (HTTP(429), Event::Failure),
            (HTTP(500), Event::Success),
            (HTTP(503), Event::Failure),
            (GRPC(0), Event::Success),
            (GRPC(1), Event::Cancelled),
            (GRPC(3), Event::BadRequest),
            (GRPC(4), Event::Timeout),
            (GRPC(8), Event::Failure),
            (GRPC(13), Event::Success),
            (GRPC(14), Event::Failure),
            (Trial::Failed(Reason::ConnectFailure), Event::Failure),
        ] {
            assert_eq!(Verdict::of(&rule, trial, Duration::ZERO).event, event, "{trial:?}");
        }
    }

    #[test]
    fn linkerd_counts_failures_and_beside_its_window_too_many_requests() {
        let consecutive = ConsecutiveRule::default();
        let alone = BreakerRule::Consecutive(consecutive);
        let both = BreakerRule::Unified(consecutive, SuccessWindow::default());
        let off = BreakerRule::Unified(consecutive, SuccessWindow { threshold: 0.0, ..SuccessWindow::default() });
        // Event and whether a probe closes, of the consecutive rule, then of the unified one.
        let cases = [
            (HTTP(200), (Event::Success, true), (Event::Success, true)),
            (HTTP(404), (Event::Success, true), (Event::Success, true)),
            (HTTP(429), (Event::Success, true), (Event::RateLimited, false)),
            (HTTP(500), (Event::Failure, false), (Event::Failure, false)),
            (HTTP(599), (Event::Failure, false), (Event::Failure, false)),
            (GRPC(0), (Event::Success, true), (Event::Success, true)),
            (GRPC(1), (Event::Success, true), (Event::Success, false)),
            (GRPC(2), (Event::Success, true), (Event::Success, false)),
            (GRPC(4), (Event::Failure, false), (Event::Failure, false)),
            (GRPC(5), (Event::Success, true), (Event::Success, false)),
            (GRPC(7), (Event::Failure, false), (Event::Failure, false)),
            (GRPC(8), (Event::Success, true), (Event::RateLimited, false)),
            (GRPC(13), (Event::Failure, false), (Event::Failure, false)),
            (GRPC(14), (Event::Failure, false), (Event::Failure, false)),
            (GRPC(15), (Event::Failure, false), (Event::Failure, false)),
            (Trial::Failed(Reason::ConnectFailure), (Event::Failure, false), (Event::Failure, false)),
            (Trial::Failed(Reason::RouteTimeout), (Event::Failure, false), (Event::Failure, false)),
            (Trial::Failed(Reason::Overflow("maxConnections")), (Event::BadRequest, false), (Event::BadRequest, false)),
            (Trial::Abandoned, (Event::Cancelled, false), (Event::Cancelled, false)),
        ];
        for (trial, of_alone, of_both) in cases {
            let of = |rule| {
                let verdict = Verdict::of(rule, trial, Duration::ZERO);
                (verdict.event, verdict.closes)
            };
            assert_eq!(of(&alone), of_alone, "{trial:?}");
            assert_eq!(of(&both), of_both, "{trial:?}");
            assert_eq!(of(&off), of_alone, "{trial:?}: a threshold of 0 leaves the consecutive rule");
        }
    }
}
