//! What a comparison found: medians over the rounds, ratios, and three ways to print them.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// The rounds of one proxy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    /// Its name.
    pub(crate) label: String,
    /// CPU time per request in microseconds, one figure a round; zero for the backend itself.
    pub(crate) cpu_us_per_request: Vec<f64>,
    /// Requests a second, one figure a round.
    pub(crate) requests_per_second: Vec<f64>,
    /// Median latency in microseconds, one figure a round.
    pub(crate) p50_us: Vec<u64>,
    /// 99th percentile of latency in microseconds, one figure a round.
    pub(crate) p99_us: Vec<u64>,
    /// Resident memory before the first request.
    pub(crate) resident_idle_bytes: u64,
    /// Highest resident memory after a round.
    pub(crate) resident_loaded_bytes: u64,
}

/// The whole comparison.
pub(crate) struct Report {
    rows: Vec<Row>,
    rounds: u32,
    seconds: u32,
    connections: u32,
}

/// The ratios worth telling: ours over theirs.
const RATIOS: [(&str, &str); 4] =
    [("outrigger", "nginx"), ("outrigger", "haproxy"), ("outrigger", "envoy"), ("outrigger", "baseline")];

impl Row {
    /// An empty row.
    pub(crate) fn new(label: &str) -> Self {
        Self { label: label.to_owned(), ..Self::default() }
    }

    fn cpu_us(&self) -> f64 {
        median(&self.cpu_us_per_request)
    }

    /// Columns of both tables.
    fn cells(&self) -> [String; 8] {
        let spread = |values: &[f64], digits: usize| {
            let low = values.iter().copied().fold(f64::INFINITY, f64::min);
            let high = values.iter().copied().fold(0.0, f64::max);
            format!("{low:.digits$}–{high:.digits$}")
        };
        let as_f64 = |values: &[u64]| values.iter().map(|&v| v as f64).collect::<Vec<_>>();
        let mib = |bytes: u64| format!("{:.1}", bytes as f64 / 1024.0 / 1024.0);
        [
            self.label.clone(),
            format!("{:.2}", self.cpu_us()),
            spread(&self.cpu_us_per_request, 2),
            format!("{:.0}", median(&self.requests_per_second)),
            format!("{:.0}", median(&as_f64(&self.p50_us))),
            format!("{:.0}", median(&as_f64(&self.p99_us))),
            mib(self.resident_idle_bytes),
            mib(self.resident_loaded_bytes),
        ]
    }
}

const HEADINGS: [&str; 8] =
    ["proxy", "CPU µs/request", "lowest–highest", "requests/s", "p50 µs", "p99 µs", "idle MiB", "loaded MiB"];

impl Report {
    /// Collects the rows of a comparison.
    pub(crate) fn new(rows: Vec<Row>, rounds: u32, seconds: u32, connections: u32) -> Self {
        Self { rows, rounds, seconds, connections }
    }

    /// CPU per request of one over that of another, where both were measured.
    pub(crate) fn ratio(&self, one: &str, other: &str) -> Option<f64> {
        let cpu_us = |label: &str| self.rows.iter().find(|row| row.label == label).map(Row::cpu_us);
        let (one, other) = (cpu_us(one)?, cpu_us(other)?);
        (other > 0.0).then(|| one / other)
    }

    fn ratios(&self) -> impl Iterator<Item = (String, f64)> {
        RATIOS.iter().filter_map(|(a, b)| Some((format!("{a}/{b}"), self.ratio(a, b)?)))
    }

    /// How it was measured, in one sentence.
    fn method(&self) -> String {
        format!(
            "HTTP/1.1, {} keep-alive connections, one core each, median of {} interleaved rounds of {} s",
            self.connections, self.rounds, self.seconds
        )
    }

    /// An aligned table.
    pub(crate) fn text(&self) -> String {
        let mut lines = vec![HEADINGS.map(str::to_owned)];
        lines.extend(self.rows.iter().map(Row::cells));
        let widths: Vec<usize> =
            (0..HEADINGS.len()).map(|at| lines.iter().map(|l| l[at].chars().count()).max().unwrap_or(0)).collect();
        let mut text = format!("{}\n\n", self.method());
        for line in &lines {
            let _ = write!(text, "{:width$}", line[0], width = widths[0]);
            for (cell, width) in line.iter().zip(&widths).skip(1) {
                let _ = write!(text, "  {cell:>width$}");
            }
            text.push('\n');
        }
        text.push('\n');
        for (name, ratio) in self.ratios() {
            let _ = writeln!(text, "{name}: {ratio:.2}");
        }
        text
    }

    /// A table for a document.
    pub(crate) fn markdown(&self) -> String {
        let row = |cells: &[String; 8]| format!("| {} |\n", cells.join(" | "));
        let mut text = format!("{}:\n\n", self.method());
        text += &row(&HEADINGS.map(str::to_owned));
        text += "|---|---|---|---|---|---|---|---|\n";
        for cells in self.rows.iter().map(Row::cells) {
            text += &row(&cells);
        }
        text.push('\n');
        let ratios: Vec<String> = self.ratios().map(|(name, ratio)| format!("{name} {ratio:.2}")).collect();
        let _ = writeln!(text, "CPU per request in relation: {}.", ratios.join(", "));
        text
    }

    /// One object with every round.
    pub(crate) fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "name": row.label,
                    "cpu_us_per_request": row.cpu_us(),
                    "requests_per_second": median(&row.requests_per_second),
                    "resident_idle_bytes": row.resident_idle_bytes,
                    "resident_loaded_bytes": row.resident_loaded_bytes,
                    "rounds": {
                        "cpu_us_per_request": row.cpu_us_per_request,
                        "requests_per_second": row.requests_per_second,
                        "p50_us": row.p50_us,
                        "p99_us": row.p99_us,
                    },
                })
            })
            .collect();
        let ratios: serde_json::Map<String, Value> = self.ratios().map(|(name, ratio)| (name, json!(ratio))).collect();
        json!({
            "protocol": "http1",
            "connections": self.connections,
            "rounds": self.rounds,
            "seconds": self.seconds,
            "proxies": rows,
            "ratios": ratios,
        })
    }
}

/// The middle of some figures; the mean of the two in the middle of an even number; 0 of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(label: &str, cpu_us: &[f64]) -> Row {
        Row {
            cpu_us_per_request: cpu_us.to_vec(),
            requests_per_second: vec![1000.0; cpu_us.len()],
            p50_us: vec![500; cpu_us.len()],
            p99_us: vec![900; cpu_us.len()],
            ..Row::new(label)
        }
    }

    #[test]
    fn the_median_ignores_an_outlier() {
        assert_eq!(median(&[1.0, 100.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn ratios_appear_only_where_both_were_measured() {
        let rows = vec![row("direct", &[0.0]), row("haproxy", &[10.0, 12.0, 11.0]), row("outrigger", &[5.5])];
        let report = Report::new(rows, 3, 5, 64);
        assert_eq!(report.ratio("outrigger", "haproxy"), Some(0.5));
        assert_eq!(report.ratio("outrigger", "direct"), None, "the backend has no CPU of its own");
        assert_eq!(report.ratio("outrigger", "envoy"), None);
        assert!(report.text().ends_with("outrigger/haproxy: 0.50\n"), "{}", report.text());
        assert_eq!(report.json()["ratios"], json!({"outrigger/haproxy": 0.5}));
        let tables = report.markdown().lines().filter(|line| line.starts_with('|')).count();
        assert_eq!(tables, 5);
    }
}
