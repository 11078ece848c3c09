//! `io.prometheus.client` messages (`metrics.proto`), written by hand as prost structures: those fields that we fill.
//!
//! Names are the full Prometheus names. `+Inf` is left out of buckets: the count says it, and readers add it.

use prost::Message;

use crate::Kind;
use crate::snapshot::{Sample, Value};

#[derive(Clone, PartialEq, Message)]
struct LabelPair {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    upper_bound: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Scalar>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Scalar>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    help: Option<String>,
    #[prost(enumeration = "MetricType", optional, tag = "3")]
    r#type: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
    #[prost(string, optional, tag = "5")]
    unit: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
enum MetricType {
    Counter = 0,
    Gauge = 1,
    Histogram = 4,
}

/// Appends one family as a length-delimited message.
pub(super) fn family(family: &crate::Family, out: &mut Vec<u8>) {
    let desc = family.desc;
    let kind = match desc.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
    };
    let message = MetricFamily {
        name: Some(desc.name.into()),
        help: Some(desc.help.into()),
        r#type: Some(kind.into()),
        metric: family.samples.iter().map(|sample| metric(desc, sample)).collect(),
        unit: (!desc.unit.is_empty()).then(|| desc.unit.into()),
    };
    message.encode_length_delimited(out).expect("a Vec takes every write");
}

fn metric(desc: &crate::Desc, sample: &Sample) -> Metric {
    let pairs = desc.labels.iter().zip(sample.labels.iter());
    let mut metric = Metric {
        label: pairs.map(|(n, v)| LabelPair { name: Some((*n).into()), value: Some((**v).into()) }).collect(),
        ..Metric::default()
    };
    // Readers compare label sets in the order of names.
    metric.label.sort_by(|a, b| a.name.cmp(&b.name));
    match &sample.value {
        Value::Histogram { sum, counts } => metric.histogram = Some(histogram(desc.buckets, *sum, counts)),
        value => {
            let scalar = Some(Scalar { value: Some(value.number()) });
            match desc.kind {
                Kind::Counter => metric.counter = scalar,
                Kind::Gauge | Kind::Histogram => metric.gauge = scalar,
            }
        }
    }
    metric
}

fn histogram(bounds: &[f64], sum: f64, counts: &[u64]) -> Histogram {
    let mut cumulative = 0;
    let buckets = bounds.iter().zip(counts).map(|(bound, count)| {
        cumulative += count;
        Bucket { cumulative_count: Some(cumulative), upper_bound: Some(*bound) }
    });
    Histogram { bucket: buckets.collect(), sample_count: Some(counts.iter().sum()), sample_sum: Some(sum) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Registry, SeriesLimits, catalogue};
    use std::time::Instant;

    #[test]
    fn a_histogram_reads_back() {
        let registry = Registry::new(SeriesLimits::default());
        let labels = ["outbound|80||cart".into()];
        let histogram = registry.shard().histogram(&catalogue::ENVOY_CLUSTER_UPSTREAM_RQ_TIME, &labels);
        for value in [0.25, 0.5, 7.0, 9e9] {
            histogram.observe(value);
        }
        let mut bytes = Vec::new();
        let gathered = registry.gather(Instant::now());
        family(gathered.iter().find(|f| f.desc.kind == Kind::Histogram).unwrap(), &mut bytes);
        let read = MetricFamily::decode_length_delimited(&bytes[..]).unwrap();
        assert_eq!(read.name(), "envoy_cluster_upstream_rq_time");
        assert_eq!(read.r#type(), MetricType::Histogram);
        let metric = &read.metric[0];
        assert_eq!((metric.label[0].name(), metric.label[0].value()), ("envoy_cluster_name", "outbound|80||cart"));
        let h = metric.histogram.as_ref().unwrap();
        assert_eq!((h.sample_count(), h.sample_sum()), (4, 9e9 + 7.75));
        let at = |bound: f64| h.bucket.iter().find(|b| b.upper_bound() == bound).unwrap().cumulative_count();
        assert_eq!((at(0.5), at(5.0), at(10.0), at(3_600_000.0)), (2, 2, 3, 3));
    }
}
