//! Envoy's own listing of its statistics (`/stats`): `name: value`, with dots and with label values inside the name.
//!
//! A metric that Envoy does not have is listed under its Prometheus name with its labels in braces.

use std::fmt::Write;

use serde_json::{Value as Json, json};

use crate::snapshot::{Family, Sample, Value};
use crate::{Desc, Kind};

/// The quantiles Envoy lists, in percent.
const QUANTILES: [f64; 10] = [0.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 100.0];

/// The name of a series in `/stats`.
pub(super) fn name(desc: &Desc, sample: &Sample) -> String {
    let mut name = String::new();
    if desc.envoy.is_empty() {
        name.push_str(desc.name);
        for (at, (label, value)) in desc.labels.iter().zip(sample.labels.iter()).enumerate() {
            let start = if at == 0 { '{' } else { ',' };
            // Debug quotes and escapes, so that a value cannot begin a line of its own.
            write!(name, "{start}{label}={value:?}").expect("a String takes every write");
        }
        if !desc.labels.is_empty() {
            name.push('}');
        }
        return name;
    }
    let mut values = sample.labels.iter();
    for (at, part) in desc.envoy.split("{}").enumerate() {
        if at > 0 {
            name.extend(values.next().into_iter().flat_map(|value| value.chars()).filter(|c| !c.is_control()));
        }
        name.push_str(part);
    }
    name
}

/// `name: value` lines, sorted; counters and gauges first, histograms after them, as Envoy lists them.
pub fn stats_text(families: &[Family]) -> String {
    let mut scalars = Vec::new();
    let mut histograms = Vec::new();
    for (name, desc, sample) in series(families) {
        match &sample.value {
            Value::Histogram { counts, .. } => histograms.push(format!("{name}: {}\n", summary(desc, counts))),
            value => scalars.push(format!("{name}: {}\n", plain(value))),
        }
    }
    scalars.sort_unstable();
    histograms.sort_unstable();
    scalars.concat() + &histograms.concat()
}

/// The same as Envoy's JSON.
pub fn stats_json(families: &[Family]) -> Json {
    let mut stats = Vec::new();
    let mut quantiles = Vec::new();
    for (name, desc, sample) in series(families) {
        match &sample.value {
            Value::Integer(n) => stats.push(json!({"name": name, "value": n})),
            Value::Float(n) => stats.push(json!({"name": name, "value": whole(*n)})),
            Value::Histogram { counts, .. } => {
                let values =
                    QUANTILES.map(|percent| json!({"interval": null, "cumulative": quantile(desc, counts, percent)}));
                quantiles.push(json!({"name": name, "values": values}));
            }
        }
    }
    if !quantiles.is_empty() {
        stats.push(json!({"histograms": {"supported_quantiles": QUANTILES, "computed_quantiles": quantiles}}));
    }
    json!({"stats": stats})
}

fn series(families: &[Family]) -> impl Iterator<Item = (String, &'static Desc, &Sample)> {
    families.iter().flat_map(|family| family.samples.iter().map(|s| (name(family.desc, s), family.desc, s)))
}

/// `P0(nan,1) P25(nan,1.05) …`: the interval is not kept, which Envoy writes as `nan`.
fn summary(desc: &Desc, counts: &[u64]) -> String {
    if counts.iter().all(|n| *n == 0) {
        return "No recorded values".into();
    }
    let parts = QUANTILES.map(|percent| {
        let value = quantile(desc, counts, percent).unwrap_or_default();
        format!("P{percent}(nan,{value})")
    });
    parts.join(" ")
}

/// Interpolated within its bucket; what lies beyond the last bound is put there. `None` without observations.
fn quantile(desc: &Desc, counts: &[u64], percent: f64) -> Option<f64> {
    debug_assert_eq!(desc.kind, Kind::Histogram);
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return None;
    }
    let wanted = percent / 100.0 * total as f64;
    let mut below = 0.0;
    let mut lower = 0.0;
    for (bound, count) in desc.buckets.iter().zip(counts) {
        let count = *count as f64;
        if count > 0.0 && below + count >= wanted {
            let value = lower + (bound - lower) * ((wanted - below) / count).clamp(0.0, 1.0);
            return Some((value * 1000.0).round() / 1000.0);
        }
        below += count;
        lower = *bound;
    }
    Some(lower)
}

fn plain(value: &Value) -> String {
    match value {
        Value::Integer(n) => n.to_string(),
        value => whole(value.number()).to_string(),
    }
}

/// Whole numbers without a point, as Envoy has no others.
fn whole(n: f64) -> Json {
    if n.fract() == 0.0 && n.abs() < 9e15 { json!(n as i64) } else { json!(n) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Registry, SeriesLimits, catalogue};
    use std::time::Instant;

    fn gathered() -> Vec<Family> {
        let registry = Registry::new(SeriesLimits::default());
        let shard = registry.shard();
        let cluster = "outbound|9080||reviews.default.svc.cluster.local";
        shard.counter(&catalogue::ENVOY_CLUSTER_UPSTREAM_RQ_XX, &[cluster.into(), "5".into()]).add(7);
        shard.gauge(&catalogue::ENVOY_CLUSTER_UPSTREAM_RQ_ACTIVE, &[cluster.into()]).add(2);
        let time = shard.histogram(&catalogue::ENVOY_CLUSTER_UPSTREAM_RQ_TIME, &[cluster.into()]);
        (0..100).for_each(|_| time.observe(3.0));
        shard.counter(&catalogue::OUTRIGGER_LIMIT_HITS_TOTAL, &["a\nb".into()]).inc();
        let mut families = registry.gather(Instant::now());
        families.retain(|f| !f.desc.name.starts_with("outrigger_metrics"));
        families
    }

    #[test]
    fn text_is_envoys() {
        let expected = "cluster.outbound|9080||reviews.default.svc.cluster.local.upstream_rq_5xx: 7\n\
             cluster.outbound|9080||reviews.default.svc.cluster.local.upstream_rq_active: 2\n\
             outrigger_limit_hits_total{limit=\"a\\nb\"}: 1\n\
             cluster.outbound|9080||reviews.default.svc.cluster.local.upstream_rq_time: P0(nan,1) P25(nan,2) P50(nan,3) \
             P75(nan,4) P90(nan,4.6) P95(nan,4.8) P99(nan,4.96) P99.5(nan,4.98) P99.9(nan,4.996) P100(nan,5)\n";
        // The gauge goes as soon as its handle does.
        let without_gauge: String = expected.split_inclusive('\n').filter(|l| !l.contains("rq_active")).collect();
        assert_eq!(stats_text(&gathered()), without_gauge);
    }

    #[test]
    fn json_is_envoys() {
        let json = stats_json(&gathered());
        let stats = json["stats"].as_array().unwrap();
        assert!(stats.iter().any(|s| s["value"] == 7), "{json}");
        let histograms = &stats.last().unwrap()["histograms"];
        assert_eq!(histograms["supported_quantiles"][9], 100.0);
        assert_eq!(histograms["computed_quantiles"][0]["values"][2]["cumulative"], 3.0);
    }
}
