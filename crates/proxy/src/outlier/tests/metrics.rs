//! What a scrape sees.

use std::sync::Arc;
use std::time::{Duration, Instant};

use outrigger_telemetry::{Collect, Families, Registry};

use super::super::testing::{World, play};

/// Tells of a world at a moment.
struct Scrape(World, Instant, usize);

impl Collect for Scrape {
    fn collect(&self, out: &mut Families) {
        super::super::collect(&self.0.live, &self.0.outliers(), self.2, self.1, out);
    }
}

/// The series whose name holds `part` and whose value is not 0, without the labels of the cluster.
#[track_caller]
fn check(world: World, second: u64, endpoints_max: usize, part: &str, expected: &str) {
    let at = world.start + Duration::from_secs(second);
    let registry = Registry::new(Default::default());
    registry.add_collector(Arc::new(Scrape(world, at, endpoints_max)));
    let mut found = Vec::new();
    for family in registry.gather(at).iter().filter(|family| family.desc.name.contains(part)) {
        for sample in family.samples.iter().filter(|sample| sample.value.number() != 0.0) {
            let labels = family.desc.labels.iter().zip(sample.labels.iter());
            let own = ["endpoint", "reason", "enforced"];
            let labels: Vec<&str> = labels.filter(|(name, _)| own.contains(name)).map(|(_, value)| &**value).collect();
            found.push(format!(
                "{} {} {}",
                family.desc.name.replace("envoy_cluster_outlier_detection_", "…"),
                labels.join(","),
                sample.value.number()
            ));
        }
    }
    found.sort();
    let mut expected: Vec<String> =
        expected.lines().map(|line| line.trim().to_owned()).filter(|l| !l.is_empty()).collect();
    expected.sort();
    assert_eq!(found, expected);
}

const SCRIPT: &str = "0s a:503x5 b:503x3
                      2s c:500x5";

#[test]
fn a_cluster_has_envoys_counters() {
    check(
        play("abc", "percent=34", SCRIPT),
        5,
        100,
        "outlier_detection",
        "…ejections_active  1
         …ejections_enforced_total  1
         …ejections_overflow  1
         …ejections_detected_consecutive_5xx  2
         …ejections_enforced_consecutive_5xx  1",
    );
}

#[test]
fn an_endpoint_is_seen_before_and_while_it_is_out() {
    check(
        play("abc", "gateway=9", SCRIPT),
        5,
        100,
        "outrigger_endpoint",
        "outrigger_endpoint_ejected a 1
         outrigger_endpoint_ejected c 1
         outrigger_endpoint_ejected_seconds_total a 5
         outrigger_endpoint_ejected_seconds_total c 3
         outrigger_endpoint_ejections_total a,consecutive_5xx,true 1
         outrigger_endpoint_ejections_total c,consecutive_5xx,true 1
         outrigger_endpoint_consecutive_failures a,consecutive_gateway_failure 5
         outrigger_endpoint_consecutive_failures b,consecutive_5xx 3
         outrigger_endpoint_consecutive_failures b,consecutive_gateway_failure 3",
    );
}

#[test]
fn time_out_is_kept_after_the_return() {
    check(
        play("abc", "", &format!("{SCRIPT}\n30s sweep\n40s sweep")),
        60,
        100,
        "ejected",
        "outrigger_endpoint_ejected_seconds_total a 30
         outrigger_endpoint_ejected_seconds_total c 38",
    );
}

#[test]
fn of_many_endpoints_those_are_told_that_were_out() {
    let expected = "outrigger_endpoint_ejected a 1\noutrigger_endpoint_ejected_seconds_total a 5";
    check(play("abcd", "", "0s a:500x5 b:500x3"), 5, 3, "ejected", expected);
    check(play("abcd", "", "0s a:500x5 b:500x3"), 5, 3, "consecutive_failures", "");
}
