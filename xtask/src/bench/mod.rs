//! `cargo xtask bench`: what a request, a byte and an idle connection cost here and elsewhere, measured in one run.
//!
//! Every proxy gets one core of its own and the same load; the load and the one backend have another core. Rounds are
//! interleaved (a, b, c, a, b, c, …), so that whatever else the machine does falls on all alike, and the figure of a proxy
//! is the median of its rounds. The peers do only what their plain configuration does: proxying with keep-alive on both
//! sides, no access log, no filters; Outrigger runs with everything it has switched on. CPU is that of the whole process
//! tree, user and system time, divided by the answered requests or the bytes. A proxy for idle connections is started anew
//! for each round, since memory that was used once rarely goes back.

mod backends;
mod configurations;
mod idle;
mod load;
mod part;
mod peers;
mod report;

use std::path::{Path, PathBuf};
use std::thread::{self, available_parallelism};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::bench::backends::Backend;
use crate::bench::idle::Idle;
use crate::bench::load::Load;
use crate::bench::part::{Group, Part};
use crate::bench::peers::{Peer, Running, Stage};
use crate::bench::report::{Report, Row};
use crate::{process, shell};

pub(crate) use configurations::watching;
pub(crate) use peers::envoy;
pub(crate) use report::median;

/// Connections that come and go before the idle ones, so that what a proxy sets up once is not counted for them.
const IDLE_WARM_UP: u32 = 200;
/// How long idle connections rest before they are measured.
const IDLE_REST: Duration = Duration::from_secs(1);
/// Rounds for idle connections are few: memory hardly varies, and each takes a start.
const IDLE_ROUNDS_MAX: u32 = 3;

/// `cargo xtask bench`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// What to measure
    #[arg(long, value_delimiter = ',', default_value = "http1,h2,grpc,tcp,idle")]
    only: Vec<Group>,
    /// Which proxies to measure, in the parts that they can take; `direct` is the backend without any
    #[arg(long, value_delimiter = ',', default_value = "direct,nginx,haproxy,haproxy-splice,envoy,outrigger")]
    peers: Vec<Name>,
    /// Rounds of each; for idle connections at most 3
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Seconds of load a round, after one second to warm up
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Keep-alive connections of HTTP/1.1
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Idle connections
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=10_000))]
    idle: u32,
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
    /// Fail when Outrigger needs more than this many times HAProxy's CPU, in whichever part
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
    /// nginx, for HTTP/1.1.
    Nginx,
    /// HAProxy.
    Haproxy,
    /// HAProxy as a relay that lets the kernel move the bytes.
    HaproxySplice,
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
    let folder = shell::target_dir().join("bench").join("run");
    let peers = wanted(options)?;
    let mut reports = Vec::new();
    for &part in options.only.iter().flat_map(|group| group.parts()) {
        eprintln!("{}: {}", part.name(), part.load(options.connections, options.idle));
        shell::fresh_folder(&folder)?;
        let report = one(part, &peers, options, proxy_core, &folder).with_context(|| part.name())?;
        match options.output {
            Output::Text => println!("{}", report.text()),
            Output::Json => {}
            Output::Markdown => println!("{}", report.markdown()),
        }
        reports.push(report);
    }
    if options.output == Output::Json {
        println!("{}", json!({ "parts": reports.iter().map(Report::json).collect::<Vec<Value>>() }));
    }
    check_ratios(&reports, options.haproxy_ratio_max)
}

/// The peers in the order they take turns.
fn wanted(options: &Options) -> Result<Vec<Peer>> {
    let parts: Vec<Part> = options.only.iter().flat_map(|group| group.parts()).copied().collect();
    let mut peers = Vec::new();
    for &name in options.peers.iter().filter(|name| parts.iter().any(|part| part.takes(**name))) {
        let program = match name {
            Name::Direct => None,
            Name::Nginx => Some(shell::need("nginx", "nginx-light")?),
            Name::Haproxy | Name::HaproxySplice => Some(shell::need("haproxy", "haproxy")?),
            Name::Envoy => Some(envoy()?),
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
        bail!("--peers names nobody who could take part");
    }
    Ok(peers)
}

/// One part, from its backend to its table.
fn one(part: Part, peers: &[Peer], options: &Options, proxy_core: usize, folder: &Path) -> Result<Report> {
    let load = Load { part, core: options.load_core, connections: options.connections, folder };
    load.set_up()?;
    if part.is_idle() {
        // The client holds as many files as the proxy; both get the limit, the proxies because they are children.
        process::raise_file_limit(u64::from(options.idle) + 1000)?;
    }
    let backend = Backend::start(part, folder, options.load_core)?;
    let stage = Stage { part, folder, proxy_core, backend: backend.address };
    let peers: Vec<&Peer> = peers.iter().filter(|peer| part.takes(peer.name)).collect();
    let rounds = if part.is_idle() { options.rounds.min(IDLE_ROUNDS_MAX) } else { options.rounds };
    let rows = if part.is_idle() {
        measure_idle(&stage, &peers, rounds, options.idle)?
    } else {
        let running = peers.iter().map(|peer| stage.start(peer)).collect::<Result<Vec<_>>>()?;
        measure(&running, &load, options)?
    };
    let length = match part {
        Part::TcpBytes | Part::IdleHttp1 | Part::IdleH2 => String::new(),
        Part::Http1 | Part::H2 | Part::Grpc | Part::TcpRequests => format!(" of {} s", options.seconds),
    };
    let method = format!(
        "{}, one core each, median of {rounds} interleaved rounds{length}",
        part.load(options.connections, options.idle)
    );
    Ok(Report::new(part, rows, method, rounds))
}

/// Runs the rounds, each peer once a round.
fn measure(running: &[Running], load: &Load<'_>, options: &Options) -> Result<Vec<Row>> {
    let mut rows: Vec<Row> = running.iter().map(|peer| Row::new(peer.label)).collect();
    for (peer, row) in running.iter().zip(&mut rows) {
        row.resident_idle_bytes = peer.usage()?.resident_bytes;
    }
    let (cost_unit, rate_unit) = (load.part.cost().0, load.part.rate().0);
    // Gigabytes and milliseconds of CPU in one part, requests and microseconds in the others.
    let (cost_scale, rate_scale) = if load.part == Part::TcpBytes { (1e-3, 1e3) } else { (1.0, 1.0) };
    for round in 1..=options.rounds {
        for (peer, row) in running.iter().zip(&mut rows) {
            load.warm_up(peer.address).with_context(|| peer.label)?;
            let before = peer.usage()?;
            let run = load.run(peer.address, Duration::from_secs(options.seconds.into()));
            let result = run.with_context(|| peer.label)?;
            let after = peer.usage()?;
            ensure!(result.amount > 0.0, "{} answered nothing", peer.label);
            ensure!(result.errors == 0, "{}: {} failed beside {}", peer.label, result.errors, result.amount);
            let cost = (after.cpu_us - before.cpu_us) * cost_scale / result.amount;
            let rate = result.per_second() * rate_scale;
            eprintln!("round {round} {:14} {rate:8.0} {rate_unit} {cost:8.2} {cost_unit}", peer.label);
            row.cost.push(cost);
            row.rate.push(rate);
            row.p50_us.extend(result.p50_us);
            row.p99_us.extend(result.p99_us);
            row.resident_loaded_bytes = row.resident_loaded_bytes.max(after.resident_bytes);
        }
    }
    Ok(rows)
}

/// Runs the rounds of idle connections, each with a fresh proxy.
fn measure_idle(stage: &Stage<'_>, peers: &[&Peer], rounds: u32, count: u32) -> Result<Vec<Row>> {
    let mut rows: Vec<Row> = peers.iter().map(|peer| Row::new(peer.label)).collect();
    for round in 1..=rounds {
        for (peer, row) in peers.iter().zip(&mut rows) {
            let open = |running: &Running, count| {
                Idle::open(running.address, count, stage.part.is_h2()).with_context(|| peer.label)
            };
            let running = stage.start(peer)?;
            drop(open(&running, IDLE_WARM_UP)?);
            thread::sleep(IDLE_REST);
            let before = running.usage()?;
            let mut idle = open(&running, count)?;
            thread::sleep(IDLE_REST);
            let after = running.usage()?;
            idle.ask_again().with_context(|| peer.label)?;
            let grown = after.resident_bytes.saturating_sub(before.resident_bytes);
            let cost = grown as f64 / 1024.0 / f64::from(count);
            let rate = f64::from(count) / idle.took.as_secs_f64();
            eprintln!("round {round} {:14} {rate:8.0} opened/s {cost:8.2} KiB/connection", peer.label);
            row.cost.push(cost);
            row.rate.push(rate);
            row.resident_idle_bytes = before.resident_bytes;
            row.resident_loaded_bytes = row.resident_loaded_bytes.max(after.resident_bytes);
        }
    }
    Ok(rows)
}

/// The gate of continuous integration, where one is asked for.
fn check_ratios(reports: &[Report], ratio_max: Option<f64>) -> Result<()> {
    let Some(ratio_max) = ratio_max else { return Ok(()) };
    for report in reports.iter().filter(|report| !report.part().is_idle()) {
        let ratio = report.ratio("outrigger", "haproxy").context("--haproxy-ratio-max needs outrigger and haproxy")?;
        let part = report.part().name();
        ensure!(ratio <= ratio_max, "{part}: Outrigger takes {ratio:.2} times HAProxy's CPU, allowed are {ratio_max}");
    }
    Ok(())
}
