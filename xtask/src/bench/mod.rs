//! `cargo xtask bench`: what a request costs here and elsewhere, measured in one run.
//!
//! Every proxy gets one core of its own and the same load: `wrk` with keep-alive connections, a small answer from one
//! nginx, both on another core. Rounds are interleaved (a, b, c, a, b, c, …), so that whatever else the machine does
//! falls on all alike, and the figure of a proxy is the median of its rounds. The peers do only what their plain
//! configuration does: proxying with keep-alive on both sides, no access log, no filters; Outrigger runs with everything
//! it has switched on. CPU is that of the whole process tree, user and system time, divided by the answered requests.

mod load;
mod peers;
mod report;

use std::path::PathBuf;
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};

use crate::bench::load::Load;
use crate::bench::peers::{Bench, Peer, Running};
use crate::bench::report::{Report, Row};
use crate::{process, shell};

pub(crate) use report::median;

/// `cargo xtask bench`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Which proxies to measure; `direct` is the backend without any
    #[arg(long, value_delimiter = ',', default_value = "direct,nginx,haproxy,envoy,outrigger")]
    peers: Vec<Name>,
    /// Rounds of each
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Seconds of load a round, after one second to warm up
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Keep-alive connections of the load
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Measure this binary instead of building one
    #[arg(long, value_name = "BIN")]
    outrigger: Option<PathBuf>,
    /// Measure this second binary of Outrigger too, as `baseline`
    #[arg(long, value_name = "BIN")]
    baseline: Option<PathBuf>,
    /// Core of the proxy [default: the last]
    #[arg(long)]
    proxy_core: Option<usize>,
    /// Core of the load and the backend [default: the first]
    #[arg(long, default_value_t = 0)]
    load_core: usize,
    /// Cargo profile to build with
    #[arg(long, default_value = "release")]
    profile: String,
    /// Fail when Outrigger needs more than this many times HAProxy's CPU per request
    #[arg(long, value_name = "RATIO")]
    haproxy_ratio_max: Option<f64>,
    /// What to print
    #[arg(short = 'o', long, default_value = "text")]
    output: Output,
}

/// A proxy by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    /// The backend itself: what the load and the backend can do at most.
    Direct,
    /// nginx.
    Nginx,
    /// HAProxy.
    Haproxy,
    /// Envoy.
    Envoy,
    /// This project's build.
    Outrigger,
}

/// `--output`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// An aligned table.
    Text,
    /// One JSON object.
    Json,
    /// A table for a document.
    Markdown,
}

/// Runs the whole comparison.
pub(crate) fn run(options: &Options) -> Result<()> {
    let cores = available_parallelism()?.get();
    let proxy_core = options.proxy_core.unwrap_or(cores - 1);
    ensure!(cores >= 2 || options.proxy_core.is_some(), "one core cannot carry load and proxy apart; this needs two");
    ensure!(proxy_core != options.load_core, "--proxy-core and --load-core name the same core {proxy_core}");
    let bench = Bench::set_up(proxy_core, options.load_core)?;
    let mut running = Vec::new();
    for peer in wanted(options)? {
        eprintln!("starting {}", peer.label);
        running.push(bench.start(peer)?);
    }
    let load = Load { core: options.load_core, connections: options.connections, script: bench.wrk_script() };
    let rows = measure(&running, &load, options)?;
    let report = Report::new(rows, options.rounds, options.seconds, options.connections);
    match options.output {
        Output::Text => print!("{}", report.text()),
        Output::Json => println!("{}", report.json()),
        Output::Markdown => print!("{}", report.markdown()),
    }
    check_ratio(&report, options.haproxy_ratio_max)
}

/// The peers in the order they take turns.
fn wanted(options: &Options) -> Result<Vec<Peer>> {
    let mut peers = Vec::new();
    for &name in &options.peers {
        let program = match name {
            Name::Direct => None,
            Name::Nginx => Some(shell::need("nginx", "nginx-light")?),
            Name::Haproxy => Some(shell::need("haproxy", "haproxy")?),
            Name::Envoy => Some(peers::envoy()?),
            Name::Outrigger => Some(match &options.outrigger {
                Some(given) => given.canonicalize().with_context(|| format!("--outrigger {}", given.display()))?,
                None => shell::build(&options.profile)?,
            }),
        };
        peers.push(Peer { name, label: peers::label(name), program });
    }
    if let Some(given) = &options.baseline {
        let program = given.canonicalize().with_context(|| format!("--baseline {}", given.display()))?;
        peers.push(Peer { name: Name::Outrigger, label: "baseline", program: Some(program) });
    }
    if peers.is_empty() {
        bail!("--peers names nobody");
    }
    Ok(peers)
}

/// Runs the rounds, each peer once a round.
fn measure(running: &[Running], load: &Load, options: &Options) -> Result<Vec<Row>> {
    let mut rows: Vec<Row> = running.iter().map(|peer| Row::new(peer.label)).collect();
    for (peer, row) in running.iter().zip(&mut rows) {
        row.resident_idle_bytes = peer.usage()?.resident_bytes;
    }
    for round in 1..=options.rounds {
        for (peer, row) in running.iter().zip(&mut rows) {
            load.run(peer.address, Duration::from_secs(1))?;
            let before = peer.usage()?;
            let result = load.run(peer.address, Duration::from_secs(options.seconds.into()))?;
            let after = peer.usage()?;
            ensure!(result.requests > 0, "{} answered nothing", peer.label);
            ensure!(result.errors == 0, "{}: {} of {} failed", peer.label, result.errors, result.requests);
            let cpu_us = (after.cpu_us - before.cpu_us) / result.requests as f64;
            eprintln!("round {round} {:10} {:7.0} requests/s {cpu_us:6.2} µs", peer.label, result.per_second());
            row.cpu_us_per_request.push(cpu_us);
            row.requests_per_second.push(result.per_second());
            row.p50_us.push(result.p50_us);
            row.p99_us.push(result.p99_us);
            row.resident_loaded_bytes = row.resident_loaded_bytes.max(after.resident_bytes);
        }
    }
    Ok(rows)
}

/// The gate of continuous integration, where one is asked for.
fn check_ratio(report: &Report, ratio_max: Option<f64>) -> Result<()> {
    let Some(ratio_max) = ratio_max else { return Ok(()) };
    let ratio = report.ratio("outrigger", "haproxy").context("--haproxy-ratio-max needs outrigger and haproxy")?;
    ensure!(ratio <= ratio_max, "Outrigger takes {ratio:.2} times HAProxy's CPU per request, allowed are {ratio_max}");
    Ok(())
}

impl Running {
    /// What the process tree has used so far; nothing for the backend itself.
    fn usage(&self) -> Result<process::Usage> {
        self.process.as_ref().map_or(Ok(process::Usage::default()), |process| process::tree(process.pid()))
    }
}
