//! Exposition: gathered families written as text 0.0.4, OpenMetrics 1.0 or protobuf.
//!
//! All formats come from the same [`Family`] values, with the same names and the same spelling of `le`. An
//! [`Exposition`] writes piece by piece, so that a large scrape never stands in memory as text. Families come out
//! contiguous and sorted, samples sorted by their labels: two scrapes of the same values are the same bytes.

mod negotiate;
mod protobuf;
mod select;
mod stats;
mod text;

pub use negotiate::{accepts_gzip, negotiate};
pub use select::{FILTER_BYTES_MAX, Selection, SelectionError};
pub use stats::{stats_json, stats_text};

use crate::snapshot::Family;

/// How far a piece grows before it is handed on: large enough for the system calls not to matter, small enough for a
/// slow scraper not to.
const PIECE_BYTES: usize = 32 * 1024;

/// A format on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4.
    Text,
    /// OpenMetrics text 1.0.0.
    OpenMetrics1,
    /// OpenMetrics text 0.0.1, which older servers ask for; for us the same document.
    OpenMetrics0,
    /// Length-delimited `io.prometheus.client.MetricFamily` messages.
    Protobuf,
}

impl Format {
    /// Value of `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics1 => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::OpenMetrics0 => "application/openmetrics-text; version=0.0.1; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// Families on their way out.
#[derive(Debug)]
pub struct Exposition {
    families: Vec<Family>,
    format: Format,
    family: usize,
    sample: usize,
    ended: bool,
    scratch: Vec<u8>,
}

impl Exposition {
    /// Of these families, as [`crate::Registry::gather`] gives them.
    pub fn new(families: Vec<Family>, format: Format) -> Self {
        Self { families, format, family: 0, sample: 0, ended: false, scratch: Vec::new() }
    }

    /// Appends the next piece to `out`; `false` when nothing was left to append.
    pub fn next_piece(&mut self, out: &mut Vec<u8>) -> bool {
        if self.ended {
            return false;
        }
        let full = out.len() + PIECE_BYTES;
        while let Some(family) = self.families.get(self.family) {
            if self.format == Format::Protobuf {
                protobuf::family(family, out);
                self.family += 1;
            } else {
                self.text_family(out, full);
            }
            if out.len() >= full {
                return true;
            }
        }
        if matches!(self.format, Format::OpenMetrics1 | Format::OpenMetrics0) {
            out.extend_from_slice(b"# EOF\n");
        }
        self.ended = true;
        true
    }

    /// Writes samples of the current family until it ends or `out` is full.
    fn text_family(&mut self, out: &mut Vec<u8>, full: usize) {
        let family = &self.families[self.family];
        if self.sample == 0 {
            text::head(family.desc, self.format != Format::Text, out);
        }
        for sample in &family.samples[self.sample..] {
            text::sample(family.desc, sample, &mut self.scratch, out);
            self.sample += 1;
            if out.len() >= full {
                break;
            }
        }
        if self.sample >= self.families[self.family].samples.len() {
            self.family += 1;
            self.sample = 0;
        }
    }

    /// The whole document, for small expositions and tests.
    pub fn into_bytes(mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while self.next_piece(&mut out) {}
        out
    }
}
