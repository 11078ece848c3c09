//! Comparison of rates in a sweep: Envoy's formulae, in its order of arithmetic.

use outrigger_model::{FailurePercentage, SuccessRate};

/// What one endpoint did in an interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rate {
    /// Its place in the book.
    pub(super) at: usize,
    /// Successes in percent.
    pub(super) success: f64,
    /// All of them.
    pub(super) volume: u32,
}

impl Rate {
    /// `None` where nothing was counted.
    pub(super) fn new(at: usize, (successes, volume): (u32, u32)) -> Option<Self> {
        (volume > 0).then(|| Self { at, success: f64::from(successes) * 100.0 / f64::from(volume), volume })
    }
}

/// Places of the endpoints whose success rate is too far below the mean; none where too few had enough requests.
pub(super) fn below_mean(rates: &[Rate], rule: &SuccessRate) -> Vec<usize> {
    let rates: Vec<&Rate> = rates.iter().filter(|rate| rate.volume >= rule.volume_min).collect();
    if rates.is_empty() || rates.len() < rule.hosts_min as usize {
        return Vec::new();
    }
    let count = rates.len() as f64;
    let mean = rates.iter().map(|rate| rate.success).sum::<f64>() / count;
    let variance = rates.iter().map(|rate| (rate.success - mean).powi(2)).sum::<f64>() / count;
    let threshold = mean - f64::from(rule.stdev_factor) / 1000.0 * variance.sqrt();
    rates.iter().filter(|rate| rate.success < threshold).map(|rate| rate.at).collect()
}

/// Places of the endpoints that fail too often; none where too few had enough requests.
pub(super) fn failing(rates: &[Rate], rule: &FailurePercentage) -> Vec<usize> {
    let rates: Vec<&Rate> = rates.iter().filter(|rate| rate.volume >= rule.volume_min).collect();
    if rates.len() < rule.hosts_min as usize {
        return Vec::new();
    }
    let is_failing = |rate: &&&Rate| 100.0 - rate.success >= f64::from(rule.threshold);
    rates.iter().filter(is_failing).map(|rate| rate.at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(each: &[(u32, u32)]) -> Vec<Rate> {
        each.iter().enumerate().filter_map(|(at, counts)| Rate::new(at, *counts)).collect()
    }

    #[track_caller]
    fn check_mean(stdev_factor: u32, each: &[(u32, u32)], expected: &[usize]) {
        let rule = SuccessRate { enforcing: 100, hosts_min: 5, volume_min: 100, stdev_factor };
        assert_eq!(below_mean(&rates(each), &rule), expected, "{each:?}");
    }

    #[test]
    fn an_endpoint_far_below_the_mean_is_an_outlier() {
        let good = (100, 100);
        // Mean 90, variance 400, deviation 20: below 52 is out.
        check_mean(1900, &[(50, 100), good, good, good, good], &[0]);
        // Below 50 is out, and 50 is not below.
        check_mean(2000, &[(50, 100), good, good, good, good], &[]);
        check_mean(1900, &[good, good, good, good, good], &[]);
        check_mean(1900, &[(0, 100), (0, 100), (0, 100), (0, 100), (0, 100)], &[]);
    }

    #[test]
    fn only_endpoints_with_enough_requests_take_part() {
        let good = (100, 100);
        check_mean(1900, &[(49, 99), good, good, good, good, good], &[]);
        check_mean(1900, &[(50, 100), good, good, good, (99, 99)], &[]);
        check_mean(1900, &[(0, 0), (0, 0), (0, 0), (0, 0), (0, 0)], &[]);
        check_mean(1900, &[(50, 100), good, good, good, good, (99, 99)], &[0]);
    }

    #[test]
    fn an_endpoint_at_the_threshold_fails_too_often() {
        let rule = FailurePercentage { enforcing: 100, threshold: 85, hosts_min: 3, volume_min: 50 };
        let good = (50, 50);
        assert_eq!(failing(&rates(&[(15, 100), (16, 100), good]), &rule), [0]);
        assert_eq!(failing(&rates(&[(0, 50), (0, 50), (0, 50)]), &rule), [0, 1, 2]);
        assert_eq!(failing(&rates(&[(0, 50), (0, 49), good]), &rule), [0; 0], "two have enough requests, three must");
    }
}
