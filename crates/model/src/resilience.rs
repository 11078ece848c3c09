//! What keeps a caller up while its neighbour fails: retries, limits on them, outlier detection, faults for trying it all.

use std::sync::Arc;
use std::time::Duration;

use crate::{Fraction, HeaderName};

/// Istio `outlierDetection`, and what Envoy has beside it, defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlierDetection {
    /// `consecutive5xxErrors`, 5; 0 is off.
    pub consecutive_5xx: u32,
    /// `consecutiveGatewayErrors`, 0: off.
    pub consecutive_gateway: u32,
    /// `splitExternalLocalOriginErrors`.
    pub split_local_origin: bool,
    /// `consecutiveLocalOriginFailures`, 5; counts with `split_local_origin` only.
    pub consecutive_local_origin: u32,
    /// `interval` between sweeps, 10 s.
    pub interval: Duration,
    /// `baseEjectionTime`, 30 s.
    pub base_ejection: Duration,
    /// Envoy `max_ejection_time`: 300 s, or `base_ejection` where that is longer.
    pub ejection_max: Duration,
    /// Envoy `max_ejection_time_jitter`, none.
    pub ejection_jitter_max: Duration,
    /// `maxEjectionPercent`, 10.
    pub ejection_percent_max: u32,
    /// Envoy `always_eject_one_host`: the percentage does not keep the first endpoint in. Off, as Istio leaves it.
    pub always_eject_one: bool,
    /// `minHealthPercent`, 0: panic routing off.
    pub health_percent_min: u32,
    /// `outlierDetectionHttpErrorCodes`; empty: all 5xx.
    pub error_codes: Vec<u16>,
    /// Envoy's comparison of success rates, where it is enforced: Istio never does.
    pub success_rate: Option<SuccessRate>,
    /// Envoy's limit on the share of failures, where it is enforced: Istio never does.
    pub failure_percentage: Option<FailurePercentage>,
}

impl Default for OutlierDetection {
    /// Istio's defaults.
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            consecutive_gateway: 0,
            split_local_origin: false,
            consecutive_local_origin: 5,
            interval: Duration::from_secs(10),
            base_ejection: Duration::from_secs(30),
            ejection_max: Duration::from_secs(300),
            ejection_jitter_max: Duration::ZERO,
            ejection_percent_max: 10,
            always_eject_one: false,
            health_percent_min: 0,
            error_codes: Vec::new(),
            success_rate: None,
            failure_percentage: None,
        }
    }
}

/// Envoy's `success_rate_*`: an endpoint whose rate lies below mean − factor × standard deviation is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuccessRate {
    /// `enforcing_success_rate` in percent, 1 to 100.
    pub enforcing: u32,
    /// `success_rate_minimum_hosts`, 5.
    pub hosts_min: u32,
    /// `success_rate_request_volume` in an interval, 100.
    pub volume_min: u32,
    /// `success_rate_stdev_factor` in thousandths, 1900.
    pub stdev_factor: u32,
}

/// Envoy's `failure_percentage_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailurePercentage {
    /// `enforcing_failure_percentage` in percent, 1 to 100.
    pub enforcing: u32,
    /// `failure_percentage_threshold` in percent, 85: ejected from there on.
    pub threshold: u32,
    /// `failure_percentage_minimum_hosts`, 5.
    pub hosts_min: u32,
    /// `failure_percentage_request_volume` in an interval, 50.
    pub volume_min: u32,
}

/// Istio `retries`, HTTPRoute `retry` or Linkerd's annotations, defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// `attempts`: retries after the first try; 0 turns them off.
    pub attempts: u32,
    /// `perTryTimeout` (HTTPRoute `timeouts.backendRequest`): from the end of the request, or the start of the try, to the
    /// head of its answer. Enforced, whatever `attempts` is.
    pub per_try_timeout: Option<Duration>,
    /// What ends a try that may be repeated.
    pub retry_on: RetryOn,
    /// Status codes that may, with [`RetryOn::RETRIABLE_STATUS_CODES`]; ascending, each once.
    pub status_codes: Vec<u16>,
    /// Fields of an answer that may, with [`RetryOn::RETRIABLE_HEADERS`].
    pub headers: Vec<HeaderName>,
    /// `backoff`.
    pub back_off: BackOff,
    /// `retryRemoteLocalities`: each retry may go one failover level further than the try before.
    pub remote_localities: bool,
    /// `retryIgnorePreviousHosts`, default true: a retry avoids hosts already tried.
    pub avoid_previous_hosts: bool,
    /// Whether a request that is neither idempotent nor has an idempotency key is repeated although the application may
    /// have acted on it. Nothing in the field's APIs says so; annotation `outrigger.dev/retry-non-idempotent`.
    pub non_idempotent: bool,
}

/// Envoy's `retry_on` words, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryOn(u32);

impl RetryOn {
    /// Any 5xx, or no answer at all.
    pub const FIVE_XX: Self = Self(1);
    /// 502, 503, 504.
    pub const GATEWAY_ERROR: Self = Self(1 << 1);
    /// No answer: the connection was closed, reset or took too long.
    pub const RESET: Self = Self(1 << 2);
    /// The same, before anything of the request was sent.
    pub const RESET_BEFORE_REQUEST: Self = Self(1 << 3);
    /// No connection could be made.
    pub const CONNECT_FAILURE: Self = Self(1 << 4);
    /// The answer has `x-envoy-ratelimited`.
    pub const ENVOY_RATELIMITED: Self = Self(1 << 5);
    /// 409.
    pub const RETRIABLE_4XX: Self = Self(1 << 6);
    /// `REFUSED_STREAM`: the instance says that it has not acted.
    pub const REFUSED_STREAM: Self = Self(1 << 7);
    /// [`RetryPolicy::status_codes`].
    pub const RETRIABLE_STATUS_CODES: Self = Self(1 << 8);
    /// [`RetryPolicy::headers`].
    pub const RETRIABLE_HEADERS: Self = Self(1 << 9);
    /// gRPC status 1.
    pub const CANCELLED: Self = Self(1 << 10);
    /// gRPC status 4.
    pub const DEADLINE_EXCEEDED: Self = Self(1 << 11);
    /// gRPC status 13.
    pub const INTERNAL: Self = Self(1 << 12);
    /// gRPC status 8.
    pub const RESOURCE_EXHAUSTED: Self = Self(1 << 13);
    /// gRPC status 14.
    pub const UNAVAILABLE: Self = Self(1 << 14);
    /// A failed connection of HTTP/3, which is not spoken here: never the case.
    pub const HTTP3_POST_CONNECT_FAILURE: Self = Self(1 << 15);

    /// Every word with its meaning, in Envoy's spelling.
    pub const WORDS: &'static [(&'static str, Self)] = &[
        ("5xx", Self::FIVE_XX),
        ("gateway-error", Self::GATEWAY_ERROR),
        ("reset", Self::RESET),
        ("reset-before-request", Self::RESET_BEFORE_REQUEST),
        ("connect-failure", Self::CONNECT_FAILURE),
        ("envoy-ratelimited", Self::ENVOY_RATELIMITED),
        ("retriable-4xx", Self::RETRIABLE_4XX),
        ("refused-stream", Self::REFUSED_STREAM),
        ("retriable-status-codes", Self::RETRIABLE_STATUS_CODES),
        ("retriable-headers", Self::RETRIABLE_HEADERS),
        ("cancelled", Self::CANCELLED),
        ("deadline-exceeded", Self::DEADLINE_EXCEEDED),
        ("internal", Self::INTERNAL),
        ("resource-exhausted", Self::RESOURCE_EXHAUSTED),
        ("unavailable", Self::UNAVAILABLE),
        ("http3-post-connect-failure", Self::HTTP3_POST_CONNECT_FAILURE),
    ];

    /// Both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether any of `others` is among them.
    pub const fn has(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// The word of gRPC's status.
    pub fn of_grpc(status: u8) -> Option<Self> {
        match status {
            1 => Some(Self::CANCELLED),
            4 => Some(Self::DEADLINE_EXCEEDED),
            8 => Some(Self::RESOURCE_EXHAUSTED),
            13 => Some(Self::INTERNAL),
            14 => Some(Self::UNAVAILABLE),
            _ => None,
        }
    }
}

impl<'w> FromIterator<&'w str> for RetryOn {
    /// The words that are known; others are left out.
    fn from_iter<W: IntoIterator<Item = &'w str>>(words: W) -> Self {
        let known = words.into_iter().filter_map(|word| Self::WORDS.iter().find(|(name, _)| *name == word));
        known.fold(Self::default(), |all, (_, on)| all.and(*on))
    }
}

impl std::fmt::Display for RetryOn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words: Vec<&str> = Self::WORDS.iter().filter(|(_, on)| self.has(*on)).map(|(word, _)| *word).collect();
        f.write_str(&words.join(","))
    }
}

/// Back-off with full jitter: the n-th wait is drawn from 0 to (2^n - 1) × base, capped, and `min` at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOff {
    /// No wait is shorter: HTTPRoute `retry.backoff`, of which nothing may be taken away. Zero with the other APIs.
    pub min: Duration,
    /// 25 ms by default.
    pub base: Duration,
    /// Ten times the base by default.
    pub max: Duration,
}

/// DestinationRule `retryBudget` (Envoy `retry_budget`): how many retries may be on their way, by what is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// `percent` of the requests that are active or wait, 20.
    pub percent: Fraction,
    /// `minRetryConcurrency` that is allowed in any case, 3.
    pub concurrency_min: u32,
    /// `budgetInterval`: requests that came within this time count, too. 0: only those of the moment.
    pub interval: Duration,
}

/// VirtualService `fault`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// `delay`.
    pub delay: Option<FaultDelay>,
    /// `abort`.
    pub abort: Option<FaultAbort>,
}

/// `fault.delay`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultDelay {
    /// `fixedDelay`.
    pub delay: Duration,
    /// `percentage`, none when absent.
    pub share: Fraction,
}

/// `fault.abort`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultAbort {
    /// `httpStatus`.
    pub http_status: Option<u16>,
    /// `grpcStatus` as its number.
    pub grpc_status: Option<u32>,
    /// `percentage`, none when absent.
    pub share: Fraction,
}

/// A local rate limit of a route, from a `RateLimit` (`outrigger.dev/v1alpha1`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// The object that says so, `namespace/name`.
    pub name: Arc<str>,
    /// What the state is kept under. Limits of several routes with one key share it: they are one limit of one object for
    /// one target, such as a Service, a route with all of its rules, or one rule.
    pub key: Arc<str>,
    /// Requests in [`Self::interval`], at least 1.
    pub requests: u32,
    /// The time for so many.
    pub interval: Duration,
    /// Requests that may come at once, at least 1.
    pub burst: u32,
    /// Whether each source workload (principal, or address where there is none) has a limit of its own.
    pub per_source: bool,
}

/// Longest bodies of a route, from a `RateLimit`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodyLimits {
    /// Bytes of a request; longer ones get 413.
    pub request_bytes: Option<u64>,
    /// Bytes of an answer; longer ones are cut, or 502 where the length is known.
    pub response_bytes: Option<u64>,
}
