//! What a try at an endpoint means to outlier detection.

use crate::failure::Reason;
use crate::trial::Trial;

/// What it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing is known about the endpoint.
    Nothing,
    /// It answered, and this is the status that counts.
    Answer(u16),
    /// It did not: a failure that the proxy noticed itself.
    Failure {
        /// Whether there was a connection.
        connected: bool,
        /// The status it counts as, where failures of both origins are counted together.
        code: u16,
    },
}

/// Reads a trial; `error_codes`, ascending or not, say which statuses are errors, and are empty where all of 5xx are.
pub(super) fn of(trial: Trial, error_codes: &[u16]) -> Verdict {
    match trial {
        Trial::Answered { status, grpc } => Verdict::Answer(code_of(status, grpc, error_codes)),
        Trial::Failed(reason) => of_failure(reason),
        Trial::Abandoned => Verdict::Nothing,
    }
}

/// The status that counts: with `error_codes` those are failures and everything else a success, whatever gRPC says, because
/// they are matched against the status of HTTP.
fn code_of(status: u16, grpc: Option<u8>, error_codes: &[u16]) -> u16 {
    match grpc {
        _ if error_codes.contains(&status) => status.max(500),
        _ if !error_codes.is_empty() => 200,
        Some(grpc) => http_status_of(grpc),
        None => status,
    }
}

/// Only what happens at the endpoint, or on the way to it, counts. Envoy takes a connection that fails, closes or is reset for
/// a 503, a time limit of the route for a 504; limits of the proxy and deadlines of the client say nothing about the endpoint.
fn of_failure(reason: Reason) -> Verdict {
    match reason {
        Reason::ConnectFailure => Verdict::Failure { connected: false, code: 503 },
        Reason::ConnectTimeout => Verdict::Failure { connected: false, code: 504 },
        Reason::UpstreamClosed | Reason::UpstreamReset | Reason::UpstreamProtocol(_) => {
            Verdict::Failure { connected: true, code: 503 }
        }
        Reason::RouteTimeout | Reason::PerTryTimeout | Reason::CircuitTimeout | Reason::UpstreamIdle => {
            Verdict::Failure { connected: true, code: 504 }
        }
        _ => Verdict::Nothing,
    }
}

/// What Envoy makes of a status of gRPC (the mapping of Google's API design guide).
fn http_status_of(grpc: u8) -> u16 {
    match grpc {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(trial: Trial, error_codes: &[u16], expected: Verdict) {
        assert_eq!(of(trial, error_codes), expected, "{trial:?} with {error_codes:?}");
    }

    fn answered(status: u16, grpc: Option<u8>) -> Trial {
        Trial::Answered { status, grpc }
    }

    #[test]
    fn a_status_counts_as_itself() {
        for status in [200, 301, 404, 429, 500, 502, 503, 504, 511] {
            check(answered(status, None), &[], Verdict::Answer(status));
        }
    }

    #[test]
    fn error_codes_redefine_what_counts() {
        check(answered(429, None), &[429, 503], Verdict::Answer(500));
        check(answered(503, None), &[429, 503], Verdict::Answer(503));
        check(answered(500, None), &[429, 503], Verdict::Answer(200));
        check(answered(200, None), &[429, 503], Verdict::Answer(200));
        check(answered(200, Some(14)), &[429, 503], Verdict::Answer(200));
    }

    #[test]
    fn a_status_of_grpc_counts_as_its_status_of_http() {
        let codes = [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401, 500];
        for (grpc, code) in (0..).zip(codes) {
            check(answered(200, Some(grpc)), &[], Verdict::Answer(code));
        }
        check(answered(503, None), &[], Verdict::Answer(503));
    }

    #[test]
    fn failures_on_the_way_count_as_gateway_errors() {
        let before = |code| Verdict::Failure { connected: false, code };
        let after = |code| Verdict::Failure { connected: true, code };
        check(Trial::Failed(Reason::ConnectFailure), &[], before(503));
        check(Trial::Failed(Reason::ConnectTimeout), &[], before(504));
        check(Trial::Failed(Reason::UpstreamClosed), &[], after(503));
        check(Trial::Failed(Reason::UpstreamReset), &[], after(503));
        check(Trial::Failed(Reason::UpstreamProtocol("version")), &[], after(503));
        check(Trial::Failed(Reason::RouteTimeout), &[], after(504));
        check(Trial::Failed(Reason::PerTryTimeout), &[], after(504));
        check(Trial::Failed(Reason::ConnectFailure), &[429], before(503));
    }

    #[test]
    fn what_is_not_the_endpoints_counts_nothing() {
        check(Trial::Abandoned, &[], Verdict::Nothing);
        let reasons =
            [Reason::Overflow("maxConnections"), Reason::CallTimeout, Reason::ClientGone, Reason::CircuitOpen];
        for reason in reasons {
            check(Trial::Failed(reason), &[], Verdict::Nothing);
        }
    }
}
