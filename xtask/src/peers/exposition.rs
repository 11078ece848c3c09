//! Sums over a scrape in the text format.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::world::Proxy;

/// Adds up the samples of a metric that carry all of these labels.
pub(crate) fn sum(scrape: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let wanted: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    let sample = |line: &str| -> Option<f64> {
        let (found, value) = line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once("} ")?;
        // A label follows the brace or a comma; without that `code` would be found in `response_code`.
        let found = format!(",{found}");
        wanted.iter().all(|label| found.contains(&format!(",{label}"))).then(|| value.parse().ok())?
    };
    scrape.lines().filter_map(sample).sum()
}

/// Scrapes until something holds; after `limit` the last complaint is the error.
pub(crate) fn until(proxy: &Proxy, limit: Duration, look: impl Fn(&str) -> Result<(), String>) -> Result<()> {
    let start = Instant::now();
    loop {
        let scrape = proxy.scrape()?;
        match look(&scrape) {
            Ok(()) => return Ok(()),
            Err(complaint) if start.elapsed() > limit => bail!("{complaint}, after {limit:?}"),
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_added_up_by_whole_labels() {
        let scrape = "# TYPE a counter\na{x=\"1\",response_code=\"2\"} 3\na{x=\"1\",code=\"2\"} 4\nab{x=\"1\"} 5\n";
        assert_eq!(sum(scrape, "a", &[]), 7.0);
        assert_eq!(sum(scrape, "a", &[("code", "2")]), 4.0);
        assert_eq!(sum(scrape, "a", &[("x", "1"), ("response_code", "2")]), 3.0);
        assert_eq!(sum(scrape, "b", &[]), 0.0);
    }
}
