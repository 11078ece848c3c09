//! Prometheus as Debian ships it scrapes a running proxy in all three formats, and its answers equal what curl counted.
//!
//! Two servers: one as it is, which asks for OpenMetrics, and one with native histograms, which asks for protobuf. The
//! plain text format is what remains when a client asks for nothing better; an nginx in between asks so. That nginx also
//! writes down which format each answer had, so that the check cannot pass with one format three times.

mod server;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::world::Proxy;
use crate::nginx;
use crate::shell::{self, Background};
pub(crate) use server::{Sample, Server};

/// Requests sent, over one connection each half.
const REQUESTS: u32 = 500;

/// How long Prometheus may take to see everything; it scrapes every second.
const SCRAPE_MAX: Duration = Duration::from_secs(30);

/// How the media types of the three formats begin.
const FORMATS: [&str; 3] =
    ["text/plain; version=0.0.4", "application/openmetrics-text; version=1.0.0", "application/vnd.google.protobuf"];

/// What curl counted.
struct Counted {
    by_pod: BTreeMap<String, u64>,
    by_version: BTreeMap<String, u64>,
}

/// Runs traffic, the two Prometheus servers and promtool.
pub(crate) fn check(program: &Path, folder: &Path) -> Result<()> {
    shell::fresh_folder(folder)?;
    let example = shell::root().join("examples/canary");
    let example = example.to_str().context("a path that is UTF-8")?;
    let proxy = Proxy::start(program, &["--simulate", example], &folder.join("outrigger.log"))?;
    let counted = traffic(&proxy)?;
    lint(&proxy, folder)?;
    let gates = Gates::start(proxy.metrics, folder)?;
    let jobs = fixed("text", gates.text) + &fixed("openmetrics", gates.direct);
    let plain = Server::start(folder, "plain", &[], &jobs)?;
    let native =
        Server::start(folder, "native", &["--enable-feature=native-histograms"], &fixed("protobuf", gates.direct))?;
    for (job, server) in [("text", &plain), ("openmetrics", &plain), ("protobuf", &native)] {
        settle(server, job, &counted).with_context(|| format!("format {job}"))?;
    }
    gates.check_formats()?;
    proxy.stop()
}

/// Two halves over a connection each, the second as a tester; a rule of the example sends those to v2.
fn traffic(proxy: &Proxy) -> Result<Counted> {
    let url = "http://reviews.shop:9080/";
    let mut by_pod = BTreeMap::new();
    for arguments in [&[][..], &["-H", "x-tester: true"][..]] {
        for (pod, count) in proxy.count(url, REQUESTS / 2, arguments, "pod")? {
            *by_pod.entry(pod).or_default() += count;
        }
    }
    let mut by_version = BTreeMap::new();
    for (pod, count) in &by_pod {
        let version = pod.split('-').nth(1).context("pods of the example are called reviews-VERSION-N")?;
        *by_version.entry(version.to_owned()).or_default() += count;
    }
    Ok(Counted { by_pod, by_version })
}

/// promtool finds nothing to say about names that are ours.
fn lint(proxy: &Proxy, folder: &Path) -> Result<()> {
    let text = proxy.scrape()?;
    let ours = |line: &&str| {
        let name = line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ");
        name.starts_with("outrigger_") || name.starts_with("process_")
    };
    let lines: Vec<&str> = text.lines().filter(ours).collect();
    ensure!(lines.len() > 10, "the scrape has next to nothing of ours:\n{text}");
    let file = folder.join("ours.prom");
    fs::write(&file, lines.join("\n") + "\n")?;
    let promtool = shell::need("promtool", "prometheus")?;
    let script = format!("{} check metrics < {} 2>&1", promtool.display(), file.display());
    let said = shell::output(Command::new("sh").args(["-c", &script])).context("promtool check metrics")?;
    ensure!(said.trim().is_empty(), "promtool check metrics: {said}");
    Ok(())
}

/// Polls until Prometheus says what curl counted, exactly.
fn settle(server: &Server, job: &str, counted: &Counted) -> Result<()> {
    let questions = [
        ("pod", &counted.by_pod, "sum by (endpoint) (outrigger_endpoint_requests_total{job=\"JOB\"})", "endpoint"),
        (
            "version",
            &counted.by_version,
            "sum by (destination_version) (istio_requests_total{job=\"JOB\",reporter=\"source\",response_code=\"200\"})",
            "destination_version",
        ),
        (
            "version in the histogram",
            &counted.by_version,
            "sum by (destination_version) (istio_request_duration_milliseconds_count{job=\"JOB\",reporter=\"source\"})",
            "destination_version",
        ),
    ];
    for (what, expected, query, label) in questions {
        let query = query.replace("JOB", job);
        let start = Instant::now();
        loop {
            let found = server.query(&query, label)?;
            if found == *expected {
                break;
            }
            if start.elapsed() > SCRAPE_MAX {
                bail!(
                    "requests per {what}: `{query}` says {found:?}, curl counted {expected:?}\n{}",
                    server.targets()?
                );
            }
            thread::sleep(Duration::from_millis(200));
        }
    }
    Ok(())
}

/// A job with one target.
fn fixed(job: &str, target: SocketAddr) -> String {
    format!("- job_name: {job}\n  metrics_path: /stats/prometheus\n  static_configs: [{{targets: ['{target}']}}]\n")
}

/// An nginx between Prometheus and the proxy, which writes down the formats.
struct Gates {
    /// Passes scrapes on as they are.
    direct: SocketAddr,
    /// Asks for nothing better than text.
    text: SocketAddr,
    log: PathBuf,
    _process: Background,
}

impl Gates {
    fn start(metrics: SocketAddr, folder: &Path) -> Result<Self> {
        let (direct, text) = (shell::loopback(shell::free_port()?), shell::loopback(shell::free_port()?));
        let log = folder.join("formats.log");
        let http = format!(
            "log_format formats '$status $sent_http_content_encoding $sent_http_content_type';
             access_log {} formats;
             server {{ listen {direct}; location / {{ proxy_pass http://{metrics}; }} }}
             server {{ listen {text}; location / {{ proxy_pass http://{metrics}; proxy_set_header Accept text/plain; }} }}",
            log.display()
        );
        let process = nginx::start("nginx", folder, &http, None, direct)?;
        Ok(Self { direct, text, log, _process: process })
    }

    /// Every format was really served, and compressed.
    fn check_formats(&self) -> Result<()> {
        let log = fs::read_to_string(&self.log)?;
        for media_type in FORMATS {
            let line = format!("200 gzip {media_type}");
            ensure!(log.lines().any(|l| l.starts_with(&line)), "no scrape got `{media_type}` with gzip:\n{log}");
        }
        let bad = log.lines().filter(|line| !line.starts_with("200 ")).count();
        ensure!(bad == 0, "{bad} scrapes failed:\n{log}");
        Ok(())
    }
}
