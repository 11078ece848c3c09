//! What a metric is, apart from its values: name, help, kind, unit, labels, buckets.
//!
//! A [`Desc`] is a `static` of the [`crate::catalogue`]; recording, scraping and the lint of the names all start from
//! it. It holds no value.

/// A metric, described once in [`crate::catalogue`].
#[derive(Debug, PartialEq)]
pub struct Desc {
    /// Full Prometheus name, `_total` included where it has one.
    pub name: &'static str,
    /// One sentence for `# HELP`.
    pub help: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// Unit as it ends the name (`seconds`, `bytes`, `milliseconds`), empty for plain numbers.
    pub unit: &'static str,
    /// Label names, in the order in which callers give the values.
    pub labels: &'static [&'static str],
    /// Upper bounds of a histogram's buckets, ascending, without `+Inf`; empty for the other kinds.
    pub buckets: &'static [f64],
    /// Whether an idle counter or histogram stays visible for as long as somebody holds a handle.
    ///
    /// For the few metrics of fixed labels that rules ask for by absence; default no.
    pub keep: bool,
    /// The name under Envoy's `/stats`, `{}` standing for the label values in order; empty where Envoy has none.
    pub envoy: &'static str,
}

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; integer unless a collector says otherwise.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Classic buckets, a sum and a count.
    Histogram,
}

impl Desc {
    /// A counter without labels.
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self::new(name, help, Kind::Counter)
    }

    /// A gauge without labels.
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self::new(name, help, Kind::Gauge)
    }

    /// A histogram without labels.
    pub const fn histogram(name: &'static str, help: &'static str, buckets: &'static [f64]) -> Self {
        let mut desc = Self::new(name, help, Kind::Histogram);
        desc.buckets = buckets;
        desc
    }

    const fn new(name: &'static str, help: &'static str, kind: Kind) -> Self {
        Self { name, help, kind, unit: "", labels: &[], buckets: &[], keep: false, envoy: "" }
    }

    /// With these label names.
    pub const fn labels(mut self, labels: &'static [&'static str]) -> Self {
        self.labels = labels;
        self
    }

    /// With this unit; the name (without `_total`) must end in it.
    pub const fn unit(mut self, unit: &'static str) -> Self {
        self.unit = unit;
        self
    }

    /// Stays visible while idle.
    pub const fn keep(mut self) -> Self {
        self.keep = true;
        self
    }

    /// With its name under Envoy's `/stats`.
    pub const fn envoy(mut self, template: &'static str) -> Self {
        self.envoy = template;
        self
    }

    /// Cells that one shard needs for one series.
    ///
    /// Counter: the value. Gauge: the value as `f64` bits. Histogram: the sum as `f64` bits, then one cell a bucket,
    /// `+Inf` last.
    pub(crate) const fn cells(&self) -> usize {
        match self.kind {
            Kind::Counter | Kind::Gauge => 1,
            Kind::Histogram => self.buckets.len() + 2,
        }
    }
}

impl Kind {
    /// The word after `# TYPE name`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}
