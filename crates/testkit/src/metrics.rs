//! Reading the Prometheus text exposition: enough to compare counters with a ledger.

use std::collections::BTreeMap;

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name, with `_total`, `_bucket`, … as written.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Value.
    pub value: f64,
}

/// Reads a text exposition. Panics on a line that is neither comment nor sample.
pub fn parse(text: &str) -> Vec<Sample> {
    let is_sample = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let read = |line| parse_sample(line).unwrap_or_else(|| panic!("not a sample: {line}"));
    text.lines().filter(is_sample).map(read).collect()
}

/// The sum of all samples of this name whose labels have these values.
pub fn sum(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    let has = |sample: &&Sample| labels.iter().all(|(k, v)| sample.labels.get(*k).is_some_and(|found| found == v));
    samples.iter().filter(|sample| sample.name == name).filter(has).map(|sample| sample.value).sum()
}

/// The sums of all samples of this name by one label.
pub fn sum_by(samples: &[Sample], name: &str, label: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for sample in samples.iter().filter(|sample| sample.name == name) {
        *sums.entry(sample.labels.get(label).cloned().unwrap_or_default()).or_default() += sample.value;
    }
    sums
}

fn parse_sample(line: &str) -> Option<Sample> {
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            rest = rest.trim_start_matches(',');
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (label, value) = rest.split_once("=\"")?;
            let (value, after) = parse_quoted(value)?;
            labels.insert(label.to_owned(), value);
            rest = after;
        }
    }
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// Reads up to the closing quotation mark, undoing `\\`, `\"` and `\n`.
fn parse_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    loop {
        match characters.next()? {
            (at, '"') => return Some((value, &text[at + 1..])),
            (_, '\\') => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            (_, other) => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_and_sums() {
        let text = "# TYPE a_total counter\na_total{x=\"1\",y=\"q\\\"}\\\\\\n\"} 3\na_total{x=\"2\",} 4 17\nb 0.5\n";
        let samples = parse(text);
        assert_eq!(samples[0].labels["y"], "q\"}\\\n");
        assert_eq!(sum(&samples, "a_total", &[]), 7.0);
        assert_eq!(sum(&samples, "a_total", &[("x", "2")]), 4.0);
        assert_eq!(sum_by(&samples, "a_total", "x"), [("1".to_owned(), 3.0), ("2".to_owned(), 4.0)].into());
        assert_eq!(sum(&samples, "b", &[]), 0.5);
    }
}
