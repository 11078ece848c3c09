//! What a comparison found: medians over the rounds, ratios, and three ways to print them.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::bench::part::Part;

/// The rounds of one proxy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    /// Its name.
    pub(crate) label: String,
    /// What is compared, in the unit of the part, one figure a round; zero for the backend itself.
    pub(crate) cost: Vec<f64>,
    /// How fast it went, in the unit of the part, one figure a round.
    pub(crate) rate: Vec<f64>,
    /// Median latency in microseconds, one figure a round, where requests are timed.
    pub(crate) p50_us: Vec<u64>,
    /// 99th percentile of latency in microseconds, one figure a round, where requests are timed.
    pub(crate) p99_us: Vec<u64>,
    /// Resident memory before the first request.
    pub(crate) resident_idle_bytes: u64,
    /// Highest resident memory after a round.
    pub(crate) resident_loaded_bytes: u64,
}

/// One part of the comparison.
pub(crate) struct Report {
    part: Part,
    rows: Vec<Row>,
    /// How it was measured, in one sentence.
    method: String,
    rounds: u32,
}

/// The ratios worth telling: ours over theirs.
const RATIOS: [(&str, &str); 5] = [
    ("outrigger", "nginx"),
    ("outrigger", "haproxy"),
    ("outrigger", "haproxy-splice"),
    ("outrigger", "envoy"),
    ("outrigger", "baseline"),
];

impl Row {
    /// An empty row.
    pub(crate) fn new(label: &str) -> Self {
        Self { label: label.to_owned(), ..Self::default() }
    }

    fn cost(&self) -> f64 {
        median(&self.cost)
    }

    /// Columns of both tables; a figure that this part does not have is empty.
    fn cells(&self) -> [String; 8] {
        let middle = |values: &[f64], digits: usize| match values {
            [] => String::new(),
            values => format!("{:.digits$}", median(values)),
        };
        let spread = |values: &[f64], digits: usize| {
            let low = values.iter().copied().fold(f64::INFINITY, f64::min);
            let high = values.iter().copied().fold(0.0, f64::max);
            format!("{low:.digits$}–{high:.digits$}")
        };
        let as_f64 = |values: &[u64]| values.iter().map(|&v| v as f64).collect::<Vec<_>>();
        let mib = |bytes: u64| format!("{:.1}", bytes as f64 / 1024.0 / 1024.0);
        [
            self.label.clone(),
            middle(&self.cost, 2),
            spread(&self.cost, 2),
            middle(&self.rate, 0),
            middle(&as_f64(&self.p50_us), 0),
            middle(&as_f64(&self.p99_us), 0),
            mib(self.resident_idle_bytes),
            mib(self.resident_loaded_bytes),
        ]
    }
}

impl Report {
    /// Collects the rows of a part.
    pub(crate) fn new(part: Part, rows: Vec<Row>, method: String, rounds: u32) -> Self {
        Self { part, rows, method, rounds }
    }

    /// What it is about.
    pub(crate) fn part(&self) -> Part {
        self.part
    }

    /// The cost of one over that of another, where both were measured.
    pub(crate) fn ratio(&self, one: &str, other: &str) -> Option<f64> {
        let cost = |label: &str| self.rows.iter().find(|row| row.label == label).map(Row::cost);
        let (one, other) = (cost(one)?, cost(other)?);
        (other > 0.0).then(|| one / other)
    }

    fn ratios(&self) -> impl Iterator<Item = (String, f64)> {
        RATIOS.iter().filter_map(|(a, b)| Some((format!("{a}/{b}"), self.ratio(a, b)?)))
    }

    /// Headings and rows, without the columns that this part has no figures for.
    fn table(&self) -> Vec<Vec<String>> {
        let (cost, rate) = (self.part.cost().0, self.part.rate().0);
        let headings = ["proxy", cost, "lowest–highest", rate, "p50 µs", "p99 µs", "idle MiB", "loaded MiB"];
        let mut lines = vec![headings.map(str::to_owned)];
        lines.extend(self.rows.iter().map(Row::cells));
        let filled = |at: &usize| lines.iter().skip(1).any(|line| !line[*at].is_empty());
        let columns: Vec<usize> = (0..headings.len()).filter(filled).collect();
        lines.iter().map(|line| columns.iter().map(|&at| line[at].clone()).collect()).collect()
    }

    /// An aligned table.
    pub(crate) fn text(&self) -> String {
        let lines = self.table();
        let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
        let mut text = format!("{}: {}\n\n", self.part.name(), self.method);
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
        let mut text = format!("{}: {}:\n\n", self.part.name(), self.method);
        for (at, line) in self.table().iter().enumerate() {
            let _ = writeln!(text, "| {} |", line.join(" | "));
            if at == 0 {
                let _ = writeln!(text, "|{}", "---|".repeat(line.len()));
            }
        }
        let ratios: Vec<String> = self.ratios().map(|(name, ratio)| format!("{name} {ratio:.2}")).collect();
        if !ratios.is_empty() {
            let _ = writeln!(text, "\n{} in relation: {}.", self.part.cost().0, ratios.join(", "));
        }
        text
    }

    /// One object with every round.
    pub(crate) fn json(&self) -> Value {
        let ((_, cost), (_, rate)) = (self.part.cost(), self.part.rate());
        let row = |row: &Row| {
            json!({
                "name": row.label,
                cost: row.cost(),
                rate: median(&row.rate),
                "resident_idle_bytes": row.resident_idle_bytes,
                "resident_loaded_bytes": row.resident_loaded_bytes,
                "rounds": { cost: row.cost, rate: row.rate, "p50_us": row.p50_us, "p99_us": row.p99_us },
            })
        };
        let ratios: serde_json::Map<String, Value> = self.ratios().map(|(name, ratio)| (name, json!(ratio))).collect();
        json!({
            "part": self.part.name(),
            "method": self.method,
            "rounds": self.rounds,
            "proxies": self.rows.iter().map(row).collect::<Vec<_>>(),
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

    fn row(label: &str, cost: &[f64]) -> Row {
        Row { cost: cost.to_vec(), rate: vec![1000.0; cost.len()], ..Row::new(label) }
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
        let report = Report::new(Part::Http1, rows, "somehow".to_owned(), 3);
        assert_eq!(report.ratio("outrigger", "haproxy"), Some(0.5));
        assert_eq!(report.ratio("outrigger", "direct"), None, "the backend has no cost of its own");
        assert_eq!(report.ratio("outrigger", "envoy"), None);
        assert!(report.text().ends_with("outrigger/haproxy: 0.50\n"), "{}", report.text());
        assert_eq!(report.json()["ratios"], json!({"outrigger/haproxy": 0.5}));
        let tables = report.markdown().lines().filter(|line| line.starts_with('|')).count();
        assert_eq!(tables, 5);
    }

    #[test]
    fn a_column_without_figures_is_left_out() {
        let untimed = Report::new(Part::TcpBytes, vec![row("haproxy", &[1.0])], String::new(), 1);
        assert!(!untimed.text().contains("p50"), "{}", untimed.text());
        assert!(untimed.json()["proxies"][0]["cpu_ms_per_gigabyte"] == 1.0, "{}", untimed.json());
        let timed = Row { p50_us: vec![500], ..row("haproxy", &[1.0]) };
        let timed = Report::new(Part::Http1, vec![timed], String::new(), 1);
        assert!(timed.text().contains("p50"), "{}", timed.text());
    }
}
