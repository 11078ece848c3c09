//! `outrigger run` at work: configuration in, proxy and servers up, changes applied, drain at the end.
//!
//! Everything here runs on the control thread; the data plane has threads of its own.

mod admin;
mod backends;
mod configuration;
mod machine;
mod report;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use outrigger_model::Listener;
use outrigger_proxy::{Options, Proxy, Settings, Threads};
use outrigger_telemetry::http::{Admin, HttpLimits, Scraper, metrics_router, serve_counted};
use outrigger_telemetry::{BuildInfo, ProcessCollector, Readiness, Registry, SeriesLimits, Server, ServerState};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};

use crate::cli::Verdict;
use crate::commands::run::RunArgs;
use configuration::Configuration;

/// How often idle series are looked for.
const SERIES_SWEEP: Duration = Duration::from_secs(30);

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(args: &RunArgs) -> anyhow::Result<Verdict> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no event loop")?;
    runtime.block_on(serve_folder(args))
}

async fn serve_folder(args: &RunArgs) -> anyhow::Result<Verdict> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?;
    let mut hang_up = signal(SignalKind::hangup()).context("SIGHUP cannot be caught")?;
    let registry = Registry::new(SeriesLimits::default());
    let mut configuration = Configuration::new(args, &registry);
    // Watched before it is read: a change in between is seen.
    let changed = Arc::new(Notify::new());
    let _watcher = configuration.watch(changed.clone()).context("the input cannot be watched")?;
    let Some(first) = configuration.load()? else { return Ok(Verdict::Bad) };
    let sockets = Sockets::bind(args)?;
    let concurrency = args.concurrency.map_or_else(machine::default_workers, usize::from);
    let options = Options {
        settings: Settings { connections_max: machine::connections_max(concurrency), ..Settings::default() },
        own_addresses: vec![sockets.admin.local_addr()?, sockets.stats.local_addr()?],
        source: None,
        seed: fastrand::u64(..),
    };
    let threads = Threads::start(concurrency)?;
    let proxy = Arc::new(Proxy::start(&threads, options, &registry, first.snapshot.clone())?);
    proxy.listen(Listener::OUTBOUND, &sockets.outbound)?;
    let outbound = sockets.outbound.local_addr()?;
    drop(sockets.outbound);
    let backends = backends::Backends::default();
    if args.echo {
        backends.follow(&first.snapshot);
    }
    let server = server(concurrency, &registry);
    let (stop, stopped) = watch::channel(false);
    let quit = Arc::new(Notify::new());
    let status =
        Arc::new(admin::Status::new(proxy.clone(), configuration.latest(), sockets.admin.local_addr()?, outbound));
    let report = report::Report::new(outbound, &sockets.admin, &sockets.stats, &first)?;
    let servers = start_servers(&sockets.admin, &sockets.stats, status, &server, &registry, &stopped)?;
    server.readiness.set(ServerState::Live);
    report.print(args.output);
    let mut sweep = tokio::time::interval(SERIES_SWEEP);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = quit.notified() => break,
            _ = hang_up.recv() => apply(&mut configuration, &proxy, &backends, args.echo),
            () = changed.notified() => apply(&mut configuration, &proxy, &backends, args.echo),
            _ = sweep.tick() => registry.sweep(Instant::now()),
        }
    }
    server.readiness.set(ServerState::Draining);
    tracing::info!(connections = proxy.connections(), "draining; a second signal stops at once");
    tokio::select! {
        cut = proxy.drain() => tracing::info!(connections_cut = cut, "drained"),
        _ = terminate.recv() => tracing::warn!("stopped before the drain was over"),
        _ = interrupt.recv() => tracing::warn!("stopped before the drain was over"),
    }
    stop.send_replace(true);
    backends.stop();
    for task in servers {
        // A server that broke down has said so; at the end it makes no difference.
        let _ = task.await;
    }
    Ok(Verdict::Good)
}

/// Reads the configuration again and takes it into force.
fn apply(configuration: &mut Configuration, proxy: &Proxy, backends: &backends::Backends, echo: bool) {
    let Some(next) = configuration.reload() else { return };
    if echo {
        backends.follow(&next.snapshot);
    }
    proxy.apply(next.snapshot);
}

/// The listening sockets, bound before anything starts, so that a port that is taken ends the command at once.
struct Sockets {
    outbound: TcpListener,
    admin: TcpListener,
    stats: TcpListener,
}

impl Sockets {
    fn bind(args: &RunArgs) -> anyhow::Result<Self> {
        let bind = |flag: &str, address| {
            TcpListener::bind(address).with_context(|| {
                format!("cannot listen on {address}; choose another address with {flag} (port 0 picks a free one)")
            })
        };
        let sockets = Self {
            outbound: bind("--outbound", args.outbound)?,
            admin: bind("--admin", args.admin)?,
            stats: bind("--stats", args.stats)?,
        };
        sockets.admin.set_nonblocking(true)?;
        sockets.stats.set_nonblocking(true)?;
        Ok(sockets)
    }
}

fn server(concurrency: usize, registry: &Registry) -> Server {
    let build = BuildInfo {
        version: env!("CARGO_PKG_VERSION"),
        revision: env!("OUTRIGGER_REVISION"),
        rustc: env!("OUTRIGGER_RUSTC"),
    };
    let server = Server { build, started: Instant::now(), concurrency, readiness: Readiness::new() };
    registry.add_collector(Arc::new(server.clone()));
    registry.add_collector(Arc::new(ProcessCollector));
    server
}

fn start_servers(
    admin: &TcpListener,
    stats: &TcpListener,
    status: Arc<admin::Status>,
    server: &Server,
    registry: &Registry,
    stopped: &watch::Receiver<bool>,
) -> anyhow::Result<Vec<tokio::task::JoinHandle<()>>> {
    let scraper = Scraper::new(registry.clone());
    let hits = scraper.hits();
    let metrics = metrics_router(scraper.clone(), server.readiness.clone());
    let admin_router =
        Admin { state: status, server: server.clone(), scraper }.router(admin.local_addr()?.ip(), Default::default());
    let mut tasks = Vec::new();
    for (listener, router) in [(admin, admin_router), (stats, metrics)] {
        let listener = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
        let mut stopped = stopped.clone();
        let until = async move {
            // The sender lives as long as the command: an error means the end as well.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        tasks.push(tokio::spawn(serve_counted(listener, router, HttpLimits::default(), hits.clone(), until)));
    }
    Ok(tasks)
}
