//! Which part of the metrics a client asked for: `?name[]=`, and Envoy's `?usedonly` and `?filter=`.

use regex::{Regex, RegexBuilder};

use super::stats;
use crate::snapshot::Family;

/// Longest accepted `filter`, in bytes: longer ones are no question a person asks.
pub const FILTER_BYTES_MAX: usize = 1024;

/// Bound on the compiled form of a filter, in bytes.
const FILTER_COMPILED_BYTES_MAX: usize = 1 << 20;

/// A selection; the default keeps everything.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Names of metrics (`name[]`); empty for all.
    names: Vec<String>,
    /// Series that ever moved (`usedonly`).
    used_only: bool,
    /// Searched in the metric's name and in its name under `/stats` (`filter`).
    filter: Option<Regex>,
}

/// Why a selection cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectionError(String);

impl Selection {
    /// Reads decoded query parameters; those that select nothing are passed over, as scrapers may send any.
    pub fn parse(query: &[(String, String)]) -> Result<Self, SelectionError> {
        let mut selection = Self::default();
        for (key, value) in query {
            match key.as_str() {
                "name[]" => selection.names.push(value.clone()),
                "usedonly" => selection.used_only = true,
                "filter" if !value.is_empty() => selection.filter = Some(filter(value)?),
                _ => {}
            }
        }
        Ok(selection)
    }

    /// Takes away what was not asked for.
    pub fn apply(&self, families: &mut Vec<Family>) {
        families.retain_mut(|family| {
            if !self.names.is_empty() && !self.names.iter().any(|name| name == family.desc.name) {
                return false;
            }
            if self.used_only {
                family.samples.retain(|sample| sample.used);
            }
            if let Some(filter) = &self.filter
                && !filter.is_match(family.desc.name)
            {
                let desc = family.desc;
                family.samples.retain(|sample| !desc.envoy.is_empty() && filter.is_match(&stats::name(desc, sample)));
            }
            !family.samples.is_empty()
        });
    }
}

fn filter(text: &str) -> Result<Regex, SelectionError> {
    if text.len() > FILTER_BYTES_MAX {
        return Err(SelectionError(format!(
            "filter is {} bytes long; at most {FILTER_BYTES_MAX} are allowed",
            text.len()
        )));
    }
    RegexBuilder::new(text)
        .size_limit(FILTER_COMPILED_BYTES_MAX)
        .dfa_size_limit(FILTER_COMPILED_BYTES_MAX)
        .build()
        .map_err(|error| SelectionError(format!("filter is no regular expression: {error}")))
}

impl std::fmt::Display for SelectionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SelectionError {}
