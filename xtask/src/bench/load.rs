//! The load: one run of `wrk`, and what it reports.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::bench::peers::HOST;
use crate::shell;

/// What wrk prints at its end; it runs once, after the load, and costs the load nothing.
pub(crate) const WRK_SCRIPT: &str = r#"
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("result %d %d %d %d %d\n", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99)))
end
"#;

/// How to load a proxy.
pub(crate) struct Load {
    /// Core that wrk is pinned to.
    pub(crate) core: usize,
    /// Keep-alive connections.
    pub(crate) connections: u32,
    /// File that holds [`WRK_SCRIPT`].
    pub(crate) script: PathBuf,
}

/// What one run gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LoadResult {
    /// Answered requests.
    pub(crate) requests: u64,
    /// Connect, read, write, status and time-out errors.
    pub(crate) errors: u64,
    /// Length of the run in microseconds.
    pub(crate) duration_us: u64,
    /// Median latency in microseconds.
    pub(crate) p50_us: u64,
    /// 99th percentile of latency in microseconds.
    pub(crate) p99_us: u64,
}

impl Load {
    /// Loads an address for a while.
    pub(crate) fn run(&self, address: SocketAddr, duration: Duration) -> Result<LoadResult> {
        let mut command = Command::new("taskset");
        command.args(["-c", &self.core.to_string(), "wrk", "--threads", "1"]);
        command.args(["--connections", &self.connections.to_string()]);
        command.args(["--duration", &format!("{}s", duration.as_secs()), "--timeout", "10s"]);
        command.arg("--script").arg(&self.script);
        command.args(["--header", &format!("Host: {HOST}"), &format!("http://{address}/")]);
        let said = shell::output(&mut command)?;
        parse(&said).with_context(|| format!("wrk printed no result:\n{said}"))
    }
}

impl LoadResult {
    /// Answered requests a second.
    pub(crate) fn per_second(&self) -> f64 {
        self.requests as f64 * 1e6 / self.duration_us as f64
    }
}

/// Reads the line that [`WRK_SCRIPT`] printed.
fn parse(said: &str) -> Option<LoadResult> {
    let line = said.lines().find_map(|line| line.strip_prefix("result "))?;
    let numbers: Vec<u64> = line.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [requests, duration_us, errors, p50_us, p99_us] = numbers[..] else { return None };
    Some(LoadResult { requests, errors, duration_us, p50_us, p99_us })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_line_is_found_among_the_rest() {
        let said = "Running 1s test\n  2 requests\nresult 1000 2000000 3 450 990\n";
        let result = parse(said).expect("a result");
        assert_eq!((result.requests, result.errors, result.p50_us, result.p99_us), (1000, 3, 450, 990));
        assert_eq!(result.per_second(), 500.0);
        assert_eq!(parse("result 1 2 3"), None);
    }
}
