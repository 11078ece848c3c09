//! Slow start: how much of its weight a young endpoint gets (Istio `warmup`, Envoy `SlowStartConfig`).

use std::time::{Duration, Instant};

use outrigger_model::Warmup;

use super::hosts::Hosts;

/// Least factor, whatever is configured: an endpoint without any weight would not be looked at again before its warm-up
/// is over.
const FACTOR_MIN: f64 = 0.01;

/// How often in the course of a warm-up the weights are taken anew. A schedule reads a weight when an endpoint's turn
/// has come, and the turn of a cold one is long in coming; after a sixteenth of the time its factor has moved by about
/// as much.
const STEPS: u32 = 16;

/// The factor of an endpoint of this age: max(minimum, (age / duration) ^ (1 / aggression)).
pub(super) fn factor(warmup: &Warmup, age: Duration) -> f64 {
    if age >= warmup.duration {
        return 1.0;
    }
    let ratio = age.as_secs_f64() / warmup.duration.as_secs_f64();
    ratio.powf(1.0 / warmup.aggression).max(warmup.minimum_ratio).clamp(FACTOR_MIN, 1.0)
}

/// Whether the factor is still below one.
pub(super) fn is_young(warmup: &Warmup, since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) < warmup.duration
}

/// When the weights of these endpoints must be taken anew; `None` when none is young.
pub(super) fn next_step(warmup: &Warmup, hosts: &Hosts, now: Instant) -> Option<Instant> {
    let step = (warmup.duration / STEPS).max(Duration::from_millis(1));
    let ends = (0..hosts.len() as u32)
        .map(|host| hosts.since(host))
        .filter(|since| is_young(warmup, *since, now))
        .map(|since| since + warmup.duration);
    ends.min().map(|end| end.min(now + step))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(age_s: u64, minimum_ratio: f64, aggression: f64, expected: f64) {
        let warmup = Warmup { duration: Duration::from_secs(100), minimum_ratio, aggression };
        let found = factor(&warmup, Duration::from_secs(age_s));
        assert!((found - expected).abs() < 1e-9, "{age_s} s, {minimum_ratio}, {aggression}: {found}, not {expected}");
    }

    #[test]
    fn the_factor_rises_from_the_minimum_to_one() {
        check(0, 0.1, 1.0, 0.1);
        check(5, 0.1, 1.0, 0.1);
        check(50, 0.1, 1.0, 0.5);
        check(25, 0.1, 2.0, 0.5);
        check(100, 0.1, 1.0, 1.0);
        check(1000, 0.1, 1.0, 1.0);
        check(0, 0.0, 1.0, FACTOR_MIN);
        check(0, 1.0, 1.0, 1.0);
    }

    #[test]
    fn the_factor_never_falls() {
        for aggression in [1.0, 1.5, 2.0, 10.0] {
            let warmup = Warmup { duration: Duration::from_secs(30), minimum_ratio: 0.05, aggression };
            let factors: Vec<f64> = (0..40_000).map(|ms| factor(&warmup, Duration::from_millis(ms))).collect();
            assert!(factors.windows(2).all(|pair| pair[0] <= pair[1]), "aggression {aggression}");
            assert_eq!(factors.last(), Some(&1.0));
        }
    }

    #[test]
    fn a_duration_of_zero_warms_at_once() {
        let warmup = Warmup { duration: Duration::ZERO, minimum_ratio: 0.1, aggression: 1.0 };
        assert_eq!(factor(&warmup, Duration::ZERO), 1.0);
    }
}
