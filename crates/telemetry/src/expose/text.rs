//! The two text formats, which differ in their headers only.
//!
//! `le` is spelt as Envoy spells it (`le="1000"`, not `1000.0`) in both, because recording rules name such series.
//! OpenMetrics wants counters to end in `_total` and to be named without it in the headers. Envoy's counters do not end
//! so; they keep their bare names, which Prometheus accepts.

use std::borrow::Cow;
use std::io::Write;

use crate::snapshot::{Sample, Value};
use crate::{Desc, Kind, catalogue};

/// `# HELP`, `# TYPE` and, in OpenMetrics, `# UNIT`.
pub(super) fn head(desc: &Desc, open_metrics: bool, out: &mut Vec<u8>) {
    let name = if open_metrics { family_name(desc) } else { desc.name };
    put(out, &["# HELP ", name, " ", &escape(desc.help, open_metrics), "\n# TYPE ", name, " "]);
    put(out, &[desc.kind.as_str(), "\n"]);
    if open_metrics && !desc.unit.is_empty() && name.ends_with(desc.unit) {
        put(out, &["# UNIT ", name, " ", desc.unit, "\n"]);
    }
}

/// The name in OpenMetrics headers.
///
/// Without `_total`, unless another metric already has that name: Envoy has `upstream_rq` beside `upstream_rq_total`,
/// and one name may be declared only once.
fn family_name(desc: &Desc) -> &'static str {
    match desc.name.strip_suffix("_total") {
        Some(base) if desc.kind == Kind::Counter && catalogue::find(base).is_none() => base,
        _ => desc.name,
    }
}

/// The lines of one series. `scratch` keeps its memory between calls.
pub(super) fn sample(desc: &Desc, sample: &Sample, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
    labels(desc, sample, scratch);
    match &sample.value {
        Value::Integer(n) => {
            line_start(out, desc.name, "", scratch, None);
            out.extend_from_slice(itoa::Buffer::new().format(*n).as_bytes());
            out.push(b'\n');
        }
        Value::Float(n) => {
            line_start(out, desc.name, "", scratch, None);
            number(*n, out);
            out.push(b'\n');
        }
        Value::Histogram { sum, counts } => histogram(desc, *sum, counts, scratch, out),
    }
}

fn histogram(desc: &Desc, sum: f64, counts: &[u64], labels: &[u8], out: &mut Vec<u8>) {
    let mut digits = itoa::Buffer::new();
    let mut cumulative = 0;
    let bounds = desc.buckets.iter().copied().chain([f64::INFINITY]);
    for (bound, count) in bounds.zip(counts) {
        cumulative += count;
        line_start(out, desc.name, "_bucket", labels, Some(bound));
        out.extend_from_slice(digits.format(cumulative).as_bytes());
        out.push(b'\n');
    }
    line_start(out, desc.name, "_sum", labels, None);
    number(sum, out);
    out.push(b'\n');
    line_start(out, desc.name, "_count", labels, None);
    out.extend_from_slice(digits.format(cumulative).as_bytes());
    out.push(b'\n');
}

/// `name_suffix{labels,le="…"} `.
fn line_start(out: &mut Vec<u8>, name: &str, suffix: &str, labels: &[u8], le: Option<f64>) {
    put(out, &[name, suffix]);
    if !labels.is_empty() || le.is_some() {
        out.push(b'{');
        out.extend_from_slice(labels);
        if let Some(bound) = le {
            put(out, &[if labels.is_empty() { "" } else { "," }, "le=\""]);
            number(bound, out);
            out.push(b'"');
        }
        out.push(b'}');
    }
    out.push(b' ');
}

/// `a="1",b="2"` without braces.
fn labels(desc: &Desc, sample: &Sample, out: &mut Vec<u8>) {
    out.clear();
    for (at, (name, value)) in desc.labels.iter().zip(sample.labels.iter()).enumerate() {
        put(out, &[if at == 0 { "" } else { "," }, name, "=\"", &escape(value, true), "\""]);
    }
}

/// Backslash and line feed, and quotes where the text stands in quotes (or everywhere, in OpenMetrics).
fn escape(text: &str, quotes: bool) -> Cow<'_, str> {
    let special = |b: &u8| *b == b'\\' || *b == b'\n' || (quotes && *b == b'"');
    if !text.as_bytes().iter().any(special) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '"' if quotes => escaped.push_str("\\\""),
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

/// A float in its shortest exact form, whole numbers without a point.
pub(super) fn number(n: f64, out: &mut Vec<u8>) {
    /// Below it every whole number is exact.
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    if n.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if n.is_infinite() {
        out.extend_from_slice(if n > 0.0 { b"+Inf" } else { b"-Inf" });
    } else if n.fract() == 0.0 && n.abs() < WHOLE_MAX {
        out.extend_from_slice(itoa::Buffer::new().format(n as i64).as_bytes());
    } else if n.abs() >= 1e17 || n.abs() < 1e-5 {
        write!(out, "{n:e}").expect("a Vec takes every write");
    } else {
        write!(out, "{n}").expect("a Vec takes every write");
    }
}

fn put(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_exact() {
        let check = |n: f64, expected: &str| {
            let mut out = Vec::new();
            number(n, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check(0.0, "0");
        check(-0.0, "0");
        check(0.5, "0.5");
        check(3_600_000.0, "3600000");
        check(-12.25, "-12.25");
        check(0.1 + 0.2, "0.30000000000000004");
        check(1e300, "1e300");
        check(1.5e-7, "1.5e-7");
        check(1_763_690_000.123, "1763690000.123");
        check(f64::NAN, "NaN");
        check(f64::INFINITY, "+Inf");
        check(f64::NEG_INFINITY, "-Inf");
    }

    #[test]
    fn the_open_metrics_name_is_never_declared_twice() {
        let declared: Vec<&str> = catalogue::all().map(family_name).collect();
        let distinct: std::collections::BTreeSet<&str> = declared.iter().copied().collect();
        assert_eq!(declared.len(), distinct.len());
        assert_eq!(family_name(&catalogue::ISTIO_REQUESTS_TOTAL), "istio_requests");
        assert_eq!(family_name(&catalogue::ENVOY_CLUSTER_UPSTREAM_RQ_TOTAL), "envoy_cluster_upstream_rq_total");
        assert_eq!(family_name(&catalogue::ENVOY_CLUSTER_UPSTREAM_RQ_XX), "envoy_cluster_upstream_rq_xx");
    }
}
