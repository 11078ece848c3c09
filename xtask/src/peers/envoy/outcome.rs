//! What came of a case at one proxy, as items with names that can be laid side by side.

use std::collections::BTreeMap;
use std::time::Duration;

use super::backend::Try;
use super::cases::Case;
use super::client::Seen;
use crate::peers::exposition;

/// Counters and gauges of a cluster, without `envoy_cluster_`. All that concern requests and ejections; not those of
/// connections, which each proxy keeps in its own way.
const COUNTERS: [&str; 24] = [
    "upstream_rq_retry",
    "upstream_rq_retry_success",
    "upstream_rq_retry_overflow",
    "upstream_rq_retry_limit_exceeded",
    "upstream_rq_timeout",
    "upstream_rq_per_try_timeout",
    "upstream_rq_pending_overflow",
    "upstream_rq_total",
    "upstream_rq_rx_reset",
    "upstream_rq_completed",
    "upstream_cx_connect_fail",
    "upstream_cx_none_healthy",
    "upstream_cx_max_requests",
    "lb_healthy_panic",
    "membership_total",
    "membership_healthy",
    "outlier_detection_ejections_active",
    "outlier_detection_ejections_overflow",
    "outlier_detection_ejections_enforced_total",
    "outlier_detection_ejections_detected_consecutive_5xx",
    "outlier_detection_ejections_enforced_consecutive_5xx",
    "outlier_detection_ejections_detected_consecutive_gateway_failure",
    "outlier_detection_ejections_enforced_consecutive_gateway_failure",
    "outlier_detection_ejections_enforced_consecutive_local_origin_failure",
];

/// Items by name. One that is zero or empty is not there.
#[derive(Debug, Default)]
pub(crate) struct Outcome(BTreeMap<String, String>);

impl Outcome {
    /// Of the answers that clients saw and the requests that backends saw.
    pub(crate) fn new(case: &Case, answers: &[Seen], backends: &[Vec<Try>]) -> Self {
        let mut outcome = Self::default();
        outcome.put("statuses", &tally(answers.iter().map(|answer| answer.status.to_string())));
        let overloaded = answers.iter().filter(|answer| answer.is_overloaded).count();
        outcome.put("overloaded", &overloaded.to_string());
        let mut tries: Vec<usize> = backends.iter().map(Vec::len).collect();
        if case.backends.windows(2).all(|pair| pair[0] == pair[1]) {
            // They are all alike, and which comes first is left to chance.
            tries.sort_unstable();
        }
        let tries: Vec<String> = tries.iter().map(usize::to_string).collect();
        outcome.put("tries", &tries.join("+"));
        let numbers = backends.iter().flatten().filter_map(|one| one.attempt.clone());
        outcome.put("attempt-count", &tally(numbers));
        if let Some(ranges) = case.waits {
            outcome.put("waits", &waits(ranges, backends));
        }
        if let Some((least_ms, most_ms)) = case.takes {
            let range = Duration::from_millis(least_ms)..=Duration::from_millis(most_ms);
            let outside = answers.iter().map(|answer| answer.took).filter(|took| !range.contains(took));
            let word = |took: Duration| if took < *range.start() { "fast" } else { "slow" };
            outcome.put("outside of time", &tally(outside.map(|took| word(took).to_owned())));
        }
        outcome
    }

    /// With statuses and response flags, `503 URX,UF` each. The order of the flags is compared where the case is about it.
    pub(crate) fn flag(&mut self, case: &Case, answers: impl Iterator<Item = String> + Clone) {
        if case.is_verbatim {
            self.put("flags as written", &tally(answers.clone()));
        }
        self.put("flags", &tally(answers.map(|answer| sorted(&answer))));
    }

    /// With the counters of its cluster.
    pub(crate) fn count(&mut self, scrape: &str, cluster: &str) {
        let of_cluster = [("envoy_cluster_name", cluster)];
        // Looked for once, and not for each counter.
        let mine = format!("envoy_cluster_name=\"{cluster}\"");
        let scrape: Vec<&str> = scrape.lines().filter(|line| line.contains(&mine)).collect();
        let scrape = scrape.join("\n");
        for counter in COUNTERS {
            let sum = exposition::sum(&scrape, &format!("envoy_cluster_{counter}"), &of_cluster);
            // The sum of no floating-point numbers is -0.
            self.put(counter, &(sum + 0.0).to_string());
        }
    }

    /// With an item, unless it is zero.
    pub(crate) fn put(&mut self, item: &str, value: &str) {
        if !value.is_empty() && value != "0" {
            self.0.insert(item.to_owned(), value.to_owned());
        }
    }

    /// One item; empty if it is zero.
    pub(crate) fn item(&self, item: &str) -> &str {
        self.0.get(item).map_or("", String::as_str)
    }

    /// Names of the items that are not the same in another one.
    pub(crate) fn unlike<'o>(&'o self, other: &'o Self) -> Vec<&'o str> {
        let ours = self.0.keys().filter(|item| self.item(item) != other.item(item));
        let theirs = other.0.keys().filter(|item| !self.0.contains_key(*item));
        ours.chain(theirs).map(String::as_str).collect()
    }
}

fn sorted(answer: &str) -> String {
    let Some((status, flags)) = answer.split_once(' ') else { return answer.to_owned() };
    let mut flags: Vec<&str> = flags.split(',').collect();
    flags.sort_unstable();
    format!("{status} {}", flags.join(","))
}

/// What there is how often: `200 ×2, 503 ×1`.
pub(crate) fn tally(values: impl Iterator<Item = String>) -> String {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(value, count)| format!("{value} ×{count}")).collect();
    counts.join(", ")
}

/// Waits between the requests that backends saw which are longer than allowed; the n-th limit in milliseconds is for the
/// n-th wait.
fn waits(limits: &[u64], backends: &[Vec<Try>]) -> String {
    let mut times: Vec<_> = backends.iter().flatten().map(|one| one.at).collect();
    times.sort_unstable();
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    let long = gaps.zip(limits).filter(|(gap, most_ms)| *gap > Duration::from_millis(**most_ms));
    tally(long.map(|(gap, most_ms)| format!("{} ms, at most {most_ms}", gap.as_millis())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(items: &[(&str, &str)]) -> Outcome {
        let mut outcome = Outcome::default();
        items.iter().for_each(|(item, value)| outcome.put(item, value));
        outcome
    }

    #[test]
    fn what_differs_is_named_whoever_has_it() {
        let envoy = outcome(&[("a", "1"), ("b", "2"), ("c", "0"), ("d", "4")]);
        let ours = outcome(&[("a", "1"), ("b", "3"), ("e", "5")]);
        assert_eq!(envoy.unlike(&ours), ["b", "d", "e"]);
        assert!(envoy.unlike(&outcome(&[("a", "1"), ("b", "2"), ("d", "4")])).is_empty());
    }

    #[test]
    fn values_are_counted() {
        assert_eq!(tally(["b", "a", "b"].map(str::to_owned).into_iter()), "a ×1, b ×2");
        assert_eq!(tally(std::iter::empty()), "");
    }
}
