//! Circuit breakers: Hystrix's, and Linkerd's failure accrual.

use std::sync::Arc;
use std::time::Duration;

use crate::{ClusterName, HeaderName, HeaderValue};

/// The circuit breaker of a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Breaker {
    /// Where it is said: `CircuitBreaker namespace/name`, or the object with the annotation.
    pub origin: Arc<str>,
    /// What has a circuit of its own.
    pub scope: BreakerScope,
    /// When it opens and closes.
    pub rule: BreakerRule,
    /// What a client gets instead, where anything; else 503.
    pub fallback: Option<Fallback>,
    /// Hystrix `fallback.isolation.semaphore.maxConcurrentRequests`, 10.
    pub fallbacks_max: u32,
}

/// What has a circuit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BreakerScope {
    /// A port of a service: its subsets share one.
    Service,
    /// A cluster: each subset has one.
    Subset,
    /// Each endpoint of each cluster.
    Endpoint,
}

/// When a circuit opens and closes.
#[derive(Clone, Debug, PartialEq)]
pub enum BreakerRule {
    /// By the share of failures in a rolling window, as Hystrix does.
    Hystrix(HystrixRule),
    /// By failures in a row, as Linkerd does.
    Consecutive(ConsecutiveRule),
    /// By failures in a row or the success rate of a window, as Linkerd's `unified`.
    Unified(ConsecutiveRule, SuccessWindow),
}

/// Hystrix's properties, defaults filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HystrixRule {
    /// `circuitBreaker.enabled`, true. False: nothing opens it; it still counts, limits and has fallbacks.
    pub enabled: bool,
    /// `circuitBreaker.requestVolumeThreshold`, 20.
    pub volume_threshold: u32,
    /// `circuitBreaker.errorThresholdPercentage`, 50.
    pub error_threshold_percent: u32,
    /// `circuitBreaker.sleepWindowInMilliseconds`, 5 s.
    pub sleep_window: Duration,
    /// `circuitBreaker.forceOpen`; wins over `force_closed`.
    pub force_open: bool,
    /// `circuitBreaker.forceClosed`.
    pub force_closed: bool,
    /// `metrics.rollingStats.timeInMilliseconds`, 10 s.
    pub window: Duration,
    /// `metrics.rollingStats.numBuckets`, 10; divides the window.
    pub buckets: u32,
    /// `metrics.healthSnapshot.intervalInMilliseconds`, 500 ms: the grain of the window that decides.
    pub health_interval: Duration,
    /// `execution.isolation.semaphore.maxConcurrentRequests`; none: no limit. Hystrix's own default of 10 holds where a
    /// `CircuitBreaker` asks for the isolation strategy SEMAPHORE.
    pub concurrent_max: Option<u32>,
    /// `execution.isolation.thread.timeoutInMilliseconds`, until the head of the answer; none: no limit of its own.
    pub timeout: Option<Duration>,
    /// Calls that take longer until the head of their answer count as failures.
    pub slow_call: Option<Duration>,
    /// Which answers are failures.
    pub failures: FailureAnswers,
}

/// Answers that count as failures. Hystrix leaves it to whoever calls to say which are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureAnswers {
    /// One bit for each status of HTTP from 100 to 599, hundreds together.
    http: [u128; 5],
    /// One bit for each status of gRPC.
    grpc: u32,
}

impl Default for FailureAnswers {
    /// 5xx; and of gRPC's statuses UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE and DATA_LOSS.
    fn default() -> Self {
        Self::none().with_http(500..=599).with_grpc([2, 4, 13, 14, 15])
    }
}

impl FailureAnswers {
    /// No answer is one.
    pub fn none() -> Self {
        Self { http: [0; 5], grpc: 0 }
    }

    /// These statuses of HTTP, in place of those before; what is no status is left out.
    pub fn with_http(self, statuses: impl IntoIterator<Item = u16>) -> Self {
        let mut http = [0; 5];
        for status in statuses.into_iter().filter(|status| (100..600).contains(status)) {
            http[usize::from(status / 100 - 1)] |= 1 << (status % 100);
        }
        Self { http, ..self }
    }

    /// These statuses of gRPC, in place of those before; what is no status is left out.
    pub fn with_grpc(self, statuses: impl IntoIterator<Item = u8>) -> Self {
        let grpc = statuses.into_iter().filter(|status| *status <= 16).fold(0, |all, status| all | 1 << status);
        Self { grpc, ..self }
    }

    /// Whether an answer of this status of HTTP is one.
    pub fn has_http(&self, status: u16) -> bool {
        (100..600).contains(&status) && self.http[usize::from(status / 100 - 1)] & 1 << (status % 100) != 0
    }

    /// Whether a call of gRPC that ends with this status is one.
    pub fn has_grpc(&self, status: u8) -> bool {
        status <= 16 && self.grpc & 1 << status != 0
    }
}

impl Default for HystrixRule {
    fn default() -> Self {
        Self {
            enabled: true,
            volume_threshold: 20,
            error_threshold_percent: 50,
            sleep_window: Duration::from_secs(5),
            force_open: false,
            force_closed: false,
            window: Duration::from_secs(10),
            buckets: 10,
            health_interval: Duration::from_millis(500),
            concurrent_max: None,
            timeout: None,
            slow_call: None,
            failures: FailureAnswers::default(),
        }
    }
}

/// Linkerd's `failure-accrual-consecutive-*`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConsecutiveRule {
    /// `max-failures`, 7; 0 turns this half of `unified` off.
    pub failures_max: u32,
    /// `min-penalty`, 1 s.
    pub penalty_min: Duration,
    /// `max-penalty`, 60 s.
    pub penalty_max: Duration,
    /// `jitter-ratio`, 0.5, 0 to 100.
    pub jitter_ratio: f64,
}

impl Default for ConsecutiveRule {
    fn default() -> Self {
        Self {
            failures_max: 7,
            penalty_min: Duration::from_secs(1),
            penalty_max: Duration::from_secs(60),
            jitter_ratio: 0.5,
        }
    }
}

/// Linkerd's `failure-accrual-success-rate-*`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SuccessWindow {
    /// `threshold`, 0.8; 0 turns this half off.
    pub threshold: f64,
    /// `window`, 10 s, in ten buckets.
    pub window: Duration,
    /// `min-requests`, 5.
    pub requests_min: u32,
}

impl Default for SuccessWindow {
    fn default() -> Self {
        Self { threshold: 0.8, window: Duration::from_secs(10), requests_min: 5 }
    }
}

/// What a client gets when a call is not let through or fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// A fixed answer.
    Static {
        /// Status, 200 to 599.
        status: u16,
        /// Fields.
        headers: Vec<(HeaderName, HeaderValue)>,
        /// Body.
        body: Arc<[u8]>,
    },
    /// The answer of another service, without retries and breaker of its own.
    Cluster(ClusterName),
    /// An empty answer with fields as they stood in the last good answer, if one came within the time.
    LastHeaders {
        /// Status, 200 to 599.
        status: u16,
        /// Their names.
        names: Vec<HeaderName>,
        /// Longest age.
        age_max: Duration,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_a_set_of_statuses() {
        let default = FailureAnswers::default();
        assert!(default.has_http(500) && default.has_http(599) && !default.has_http(499) && !default.has_http(200));
        assert!([2, 4, 13, 14, 15].into_iter().all(|status| default.has_grpc(status)));
        assert_eq!((0..=16).filter(|status| default.has_grpc(*status)).count(), 5);
        let other = default.with_http([429, 503, 99, 600]).with_grpc([8, 17]);
        assert_eq!((0..=u16::MAX).filter(|status| other.has_http(*status)).collect::<Vec<_>>(), [429, 503]);
        assert_eq!((0..=u8::MAX).filter(|status| other.has_grpc(*status)).collect::<Vec<_>>(), [8]);
    }
}
