//! The load: one run of `wrk`, `h2load` or curl, and what it reports.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::bench::backends::{DOWNLOAD_PATH, GRPC_MESSAGE, GRPC_PATH};
use crate::bench::configurations::HOST;
use crate::bench::part::{DOWNLOAD_BYTES, DOWNLOADS, DOWNLOADS_AT_ONCE, H2_CONNECTIONS, Part, STREAMS};
use crate::shell;

/// What wrk prints at its end; it runs once, after the load, and costs the load nothing.
const WRK_SCRIPT: &str = r#"
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("result %d %d %d %d %d\n", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99)))
end
"#;

/// How long a run may take beyond what it was told, before it is ended.
const GRACE: Duration = Duration::from_secs(60);

/// How to load a proxy.
pub(crate) struct Load<'a> {
    /// What is measured.
    pub(crate) part: Part,
    /// Core that the load is pinned to.
    pub(crate) core: usize,
    /// Keep-alive connections of HTTP/1.1.
    pub(crate) connections: u32,
    /// Where its files go.
    pub(crate) folder: &'a Path,
}

/// What one run gave.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct LoadResult {
    /// What was done: answered requests, or gigabytes.
    pub(crate) amount: f64,
    /// Whatever was not answered as it should be.
    pub(crate) errors: u64,
    /// Length of the run in microseconds.
    pub(crate) duration_us: u64,
    /// Median latency in microseconds, where requests were timed.
    pub(crate) p50_us: Option<u64>,
    /// 99th percentile of latency in microseconds, where requests were timed.
    pub(crate) p99_us: Option<u64>,
}

impl Load<'_> {
    /// Installs what makes the load and writes its files.
    pub(crate) fn set_up(&self) -> Result<()> {
        shell::need("taskset", "util-linux")?;
        match self.part {
            Part::Http1 | Part::TcpRequests => {
                shell::need("wrk", "wrk")?;
                fs::write(self.folder.join("wrk.lua"), WRK_SCRIPT)?;
            }
            Part::H2 | Part::Grpc => {
                shell::need("h2load", "nghttp2-client")?;
                fs::write(self.folder.join("message"), GRPC_MESSAGE)?;
            }
            Part::TcpBytes => drop(shell::need("curl", "curl")?),
            Part::IdleHttp1 | Part::IdleH2 => {}
        }
        Ok(())
    }

    /// A short load before the one that counts: connections to the backend are there, and memory is in use.
    pub(crate) fn warm_up(&self, address: SocketAddr) -> Result<()> {
        match self.part {
            Part::TcpBytes => self.curl(address, DOWNLOADS_AT_ONCE).map(drop),
            Part::Grpc => {
                self.check_status(address)?;
                self.run(address, Duration::from_secs(1)).map(drop)
            }
            _ => self.run(address, Duration::from_secs(1)).map(drop),
        }
    }

    /// Loads an address for a while, or with a number of downloads.
    pub(crate) fn run(&self, address: SocketAddr, duration: Duration) -> Result<LoadResult> {
        match self.part {
            Part::TcpBytes => self.curl(address, DOWNLOADS),
            Part::H2 | Part::Grpc => self.h2load(address, duration),
            Part::Http1 | Part::TcpRequests | Part::IdleHttp1 | Part::IdleH2 => self.wrk(address, duration),
        }
    }

    /// A program on the core of the load, which is ended when it takes far too long.
    fn pinned(&self, program: &str, duration: Duration) -> Command {
        let mut command = Command::new("timeout");
        command.arg((duration + GRACE).as_secs().to_string());
        command.args(["taskset", "-c", &self.core.to_string(), program]);
        command
    }

    fn wrk(&self, address: SocketAddr, duration: Duration) -> Result<LoadResult> {
        let mut command = self.pinned("wrk", duration);
        command.args(["--threads", "1", "--connections", &self.connections.to_string()]);
        command.args(["--duration", &format!("{}s", duration.as_secs()), "--timeout", "10s"]);
        command.arg("--script").arg(self.folder.join("wrk.lua"));
        command.args(["--header", &format!("Host: {HOST}"), &format!("http://{address}/")]);
        let said = shell::output(&mut command)?;
        parse_wrk(&said).with_context(|| format!("wrk printed no result:\n{said}"))
    }

    fn h2load(&self, address: SocketAddr, duration: Duration) -> Result<LoadResult> {
        let log = self.folder.join("h2load.log");
        let mut command = self.pinned("h2load", duration);
        command.args(["--clients", &H2_CONNECTIONS.to_string()]);
        command.args(["--max-concurrent-streams", &STREAMS.to_string()]);
        command.args(["--duration", &duration.as_secs().to_string(), "--header", &format!(":authority: {HOST}")]);
        command.arg("--log-file").arg(&log);
        if self.part == Part::Grpc {
            command.args(["--header", "content-type: application/grpc", "--header", "te: trailers"]);
            command.arg("--data").arg(self.folder.join("message"));
            command.arg(format!("http://{address}{GRPC_PATH}"));
        } else {
            command.arg(format!("http://{address}/"));
        }
        // It appends to what is there.
        let _ = fs::remove_file(&log);
        let said = shell::output(&mut command)?;
        let mut result = parse_h2load(&said).with_context(|| format!("h2load printed no result:\n{said}"))?;
        let mut times = parse_times(&fs::read_to_string(&log)?);
        times.sort_unstable();
        result.p50_us = percentile(&times, 50);
        result.p99_us = percentile(&times, 99);
        result.duration_us = duration.as_micros() as u64;
        Ok(result)
    }

    /// h2load knows nothing of trailers: one call beside it shows that they come through.
    fn check_status(&self, address: SocketAddr) -> Result<()> {
        let mut command = self.pinned("nghttp", Duration::ZERO);
        command.args(["--verbose", "--timeout", "5", "--header", &format!(":authority: {HOST}")]);
        command.args(["--header", "content-type: application/grpc", "--header", "te: trailers", "--data"]);
        command.arg(self.folder.join("message")).arg(format!("http://{address}{GRPC_PATH}"));
        let said = shell::output(&mut command)?;
        ensure!(said.contains("grpc-status: 0"), "a call got no status 0 in its trailer:\n{said}");
        Ok(())
    }

    fn curl(&self, address: SocketAddr, downloads: u32) -> Result<LoadResult> {
        let start = Instant::now();
        let mut command = self.pinned("curl", GRACE);
        command.args(["--disable", "--noproxy", "*", "--silent", "--show-error", "--fail", "--parallel"]);
        command.args(["--parallel-max", &DOWNLOADS_AT_ONCE.to_string(), "--parallel-immediate"]);
        command.args(["--output", "/dev/null", "--write-out", "%{size_download}\n"]);
        command.arg(format!("http://{address}{DOWNLOAD_PATH}?[1-{downloads}]"));
        let said = shell::output(&mut command)?;
        let duration_us = start.elapsed().as_micros() as u64;
        let sizes: Vec<u64> = said.lines().map(str::parse).collect::<Result<_, _>>().with_context(|| said.clone())?;
        let whole = sizes.iter().filter(|size| **size == DOWNLOAD_BYTES).count() as u64;
        let gigabytes = sizes.iter().sum::<u64>() as f64 / 1e9;
        let errors = u64::from(downloads).saturating_sub(whole);
        Ok(LoadResult { amount: gigabytes, errors, duration_us, ..LoadResult::default() })
    }
}

impl LoadResult {
    /// Requests, or gigabytes, a second.
    pub(crate) fn per_second(&self) -> f64 {
        self.amount * 1e6 / self.duration_us as f64
    }
}

/// Reads the line that [`WRK_SCRIPT`] printed.
fn parse_wrk(said: &str) -> Option<LoadResult> {
    let line = said.lines().find_map(|line| line.strip_prefix("result "))?;
    let numbers: Vec<u64> = line.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [requests, duration_us, errors, p50_us, p99_us] = numbers[..] else { return None };
    Some(LoadResult { amount: requests as f64, errors, duration_us, p50_us: Some(p50_us), p99_us: Some(p99_us) })
}

/// Reads h2load's summary. An answer with another status than 2xx is an error, and so is an answer without its body.
fn parse_h2load(said: &str) -> Option<LoadResult> {
    let line = |start: &str| said.lines().find_map(|line| line.strip_prefix(start));
    let numbers = |line: &str| -> Vec<u64> {
        line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
    };
    let requests = numbers(line("requests: ")?);
    let [_, _, _, succeeded, failed, errored, timeouts] = requests[..] else { return None };
    // The digit in front of each `xx` is a number too.
    let statuses = numbers(line("status codes: ")?);
    let [good, 2, ..] = statuses[..] else { return None };
    let data = line("traffic: ")?.rsplit_once('(')?.1.split_once(')')?.0.parse::<u64>().ok()?;
    let empty = u64::from(succeeded > 0 && data == 0);
    let errors = failed + errored + timeouts + (succeeded - good.min(succeeded)) + empty;
    Some(LoadResult { amount: good as f64, errors, ..LoadResult::default() })
}

/// The microseconds of each request, from the third column of h2load's log.
fn parse_times(log: &str) -> Vec<u64> {
    log.lines().filter_map(|line| line.split('\t').nth(2)?.parse().ok()).collect()
}

/// The value that so many of a hundred are not above.
fn percentile(sorted: &[u64], percent: usize) -> Option<u64> {
    sorted.get((sorted.len() * percent / 100).min(sorted.len().checked_sub(1)?)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_line_is_found_among_the_rest() {
        let said = "Running 1s test\n  2 requests\nresult 1000 2000000 3 450 990\n";
        let result = parse_wrk(said).expect("a result");
        assert_eq!((result.amount, result.errors, result.p50_us, result.p99_us), (1000.0, 3, Some(450), Some(990)));
        assert_eq!(result.per_second(), 500.0);
        assert_eq!(parse_wrk("result 1 2 3"), None);
    }

    #[test]
    fn h2load_counts_what_was_not_answered_well() {
        let said = |codes: &str, data: u64| {
            format!(
                "finished in 2.01s, 50.00 req/s, 3.18MB/s\n\
                 requests: 100 total, 128 started, 100 done, 98 succeeded, 1 failed, 1 errored, 0 timeout\n\
                 status codes: {codes}\n\
                 traffic: 6.35MB (6660528) total, 10.64KB (1036944) headers (space savings 96.19%), 1KB ({data}) data\n"
            )
        };
        let good = parse_h2load(&said("98 2xx, 0 3xx, 0 4xx, 0 5xx", 980)).expect("a result");
        assert_eq!((good.amount, good.errors), (98.0, 2));
        let refused = parse_h2load(&said("90 2xx, 0 3xx, 0 4xx, 8 5xx", 980)).expect("a result");
        assert_eq!((refused.amount, refused.errors), (90.0, 10));
        let empty = parse_h2load(&said("98 2xx, 0 3xx, 0 4xx, 0 5xx", 0)).expect("a result");
        assert_eq!(empty.errors, 3, "answers without bodies are no answers");
        assert_eq!(parse_h2load("no such host"), None);
    }

    #[test]
    fn percentiles_come_from_the_log() {
        let log: String = (1..=100).map(|us| format!("1795277670189612\t200\t{us}\n")).collect();
        let times = parse_times(&log);
        assert_eq!((percentile(&times, 50), percentile(&times, 99)), (Some(51), Some(100)));
        assert_eq!(percentile(&[], 50), None);
        assert_eq!(percentile(&[7], 99), Some(7));
    }
}
