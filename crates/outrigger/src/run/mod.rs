//! `outrigger run` at work: configuration in, proxy and servers up, changes applied, drain at the end.
//!
//! Everything here runs on the control thread; the data plane has threads of its own.

mod admin;
mod backends;
mod captured;
mod configuration;
mod echoes;
mod gateways;
mod host;
mod load;
mod machine;
mod mesh;
mod network;
mod pods;
mod report;
mod sd_file;
mod servers;
mod views;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use outrigger_config::translate::{Forward, View};
use outrigger_proxy::{Settings, Threads};
use outrigger_telemetry::http::{Admin, ControlToken, HttpLimits, Scraper, metrics_router, serve_counted};
use outrigger_telemetry::{BuildInfo, ProcessCollector, Readiness, Registry, SeriesLimits, Server, ServerState};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};

use crate::cli::{ForwardTo, Verdict};
use crate::commands::run::RunArgs;
use configuration::{Configuration, InForce};
use echoes::Echoes;
use host::Host;
use mesh::Mesh;
use sd_file::SdFile;

/// How often idle series are looked for.
const SERIES_SWEEP: Duration = Duration::from_secs(30);

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(args: &RunArgs) -> anyhow::Result<Verdict> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no event loop")?;
    runtime.block_on(serve_folder(args))
}

async fn serve_folder(args: &RunArgs) -> anyhow::Result<Verdict> {
    let token = args.admin_token_file.as_ref().map(ControlToken::in_file).transpose();
    let token = token.map_err(|problem| anyhow::anyhow!("--admin-token-file: {problem}"))?;
    let mut signals = Signals::catch()?;
    let mut hang_up = signal(SignalKind::hangup()).context("SIGHUP cannot be caught")?;
    let registry = Registry::new(SeriesLimits::default());
    let mut configuration = Configuration::new(&args.paths, &registry);
    // Watched before it is read: a change in between is seen.
    let changed = Arc::new(Notify::new());
    let _watcher = configuration.watch(changed.clone()).context("the input cannot be watched")?;
    let Some(first) = configuration.load()? else { return Ok(Verdict::Bad) };
    let Sockets { outbound, captured, admin, stats, forwards } = Sockets::bind(args)?;
    let (tell_ended, mut ended) = mpsc::unbounded_channel();
    let host = host(args, &registry)?;
    let server = host.server.clone();
    let (forwards, forward_sockets): (Vec<Forward>, Vec<TcpListener>) = forwards.into_iter().unzip();
    let view = args.workload.as_ref().map_or_else(View::default, |w| View::of(&w.namespace, &w.name));
    let plan = mesh::Plan {
        registry: registry.clone(),
        outbound: Some(outbound),
        forward_sockets,
        captured,
        stats: stats.local_addr()?,
        own: vec![admin.local_addr()?, stats.local_addr()?],
        view: View { forwards: forwards.into(), captures: captured::is_wanted(args), ..view },
        simulate: args.simulate,
        echo: args.echo,
        load: args.load,
        sd_file: args.sd_file.as_deref().map(SdFile::new),
    };
    let mut mesh = Mesh::new(plan, host, tell_ended)?;
    let in_force = mesh.follow(first)?;
    configuration.note(in_force.clone(), Instant::now());
    let status = admin::Status {
        proxy: mesh.main().context("no proxy")?.clone(),
        latest: configuration.latest(),
        admin: admin.local_addr()?,
        outbound: mesh.outbound(),
        load: mesh.load_counts(),
        workload: args.workload.as_ref().map(ToString::to_string),
        overrides: admin::Overrides::default(),
    };
    let (stop, stopped) = watch::channel(false);
    let about = Admin { state: Arc::new(status), server: server.clone(), scraper: Scraper::new(registry), token };
    let servers = start_servers(&admin, &stats, about, &stopped)?;
    mesh.names_answered().await;
    server.readiness.set(ServerState::Live);
    let (admin, metrics) = (admin.local_addr()?, stats.local_addr()?);
    let examples = mesh.examples();
    report::Report { admin, outbound: mesh.outbound(), inbound: mesh.inbound(), metrics, in_force, examples }
        .print(args.output);
    tokio::select! {
        () = signals.end() => {}
        () = follow(&mut configuration, &mut mesh, &mut hang_up, &changed, &mut ended) => {}
    }
    server.readiness.set(ServerState::Draining);
    tracing::info!(connections = mesh.connections(), "draining; a second signal stops at once");
    tokio::select! {
        cut = mesh.drain() => tracing::info!(connections_cut = cut, "drained"),
        () = signals.end() => tracing::warn!("stopped before the drain was over"),
    }
    stop.send_replace(true);
    for task in servers {
        // A server that broke down has said so; at the end it makes no difference.
        let _ = task.await;
    }
    Ok(Verdict::Good)
}

/// Follows the configuration, without end.
async fn follow(
    configuration: &mut Configuration,
    mesh: &mut Mesh,
    hang_up: &mut Signal,
    changed: &Notify,
    ended: &mut mpsc::UnboundedReceiver<mesh::Ended>,
) {
    let mut sweep = tokio::time::interval(SERIES_SWEEP);
    loop {
        let began = Instant::now();
        tokio::select! {
            _ = hang_up.recv() => reload(configuration, mesh),
            () = changed.notified() => reload(configuration, mesh),
            Some(ended) = ended.recv() => if let Some(next) = mesh.release(ended) {
                note(configuration, next, began);
            },
            _ = sweep.tick() => mesh.sweep(Instant::now()),
        }
    }
}

/// Reads the configuration again and takes it into force.
fn reload(configuration: &mut Configuration, mesh: &mut Mesh) {
    let began = Instant::now();
    if let Some(loaded) = configuration.reload() {
        let next = mesh.follow(loaded);
        note(configuration, next, began);
    }
}

fn note(configuration: &mut Configuration, next: anyhow::Result<InForce>, began: Instant) {
    match next {
        Ok(next) => configuration.note(next, began),
        Err(error) => tracing::error!("the change could not be taken into force: {error:#}"),
    }
}

/// The signals that end the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn catch() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?,
            interrupt: signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?,
        })
    }

    /// Done when the process is told to end.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The listening sockets, bound before anything starts, so that a port that is taken ends the command at once.
struct Sockets {
    outbound: TcpListener,
    captured: Vec<(&'static str, TcpListener)>,
    admin: TcpListener,
    stats: TcpListener,
    forwards: Vec<(Forward, TcpListener)>,
}

impl Sockets {
    fn bind(args: &RunArgs) -> anyhow::Result<Self> {
        let bind = |flag: &str, address| {
            TcpListener::bind(address).with_context(|| {
                format!("cannot listen on {address}; choose another address with {flag} (port 0 picks a free one)")
            })
        };
        let outbound = bind("--outbound", args.outbound)?;
        let sockets = Self {
            captured: captured::bind(args, outbound.local_addr()?)?,
            outbound,
            admin: bind("--admin", args.admin)?,
            stats: bind("--stats", args.stats)?,
            forwards: args
                .forward
                .iter()
                .map(|to| forward(to, bind("--forward", to.address)?))
                .collect::<anyhow::Result<_>>()?,
        };
        sockets.admin.set_nonblocking(true)?;
        sockets.stats.set_nonblocking(true)?;
        Ok(sockets)
    }
}

/// A forward where its socket is.
fn forward(to: &ForwardTo, socket: TcpListener) -> anyhow::Result<(Forward, TcpListener)> {
    let forward = Forward { address: socket.local_addr()?, host: to.host.as_str().into(), port: to.port };
    Ok((forward, socket))
}

/// The worker threads, and what all proxies share.
fn host(args: &RunArgs, registry: &Registry) -> anyhow::Result<Host> {
    let concurrency = args.concurrency.map_or_else(machine::default_workers, usize::from);
    let build = BuildInfo {
        version: env!("CARGO_PKG_VERSION"),
        revision: env!("OUTRIGGER_REVISION"),
        rustc: env!("OUTRIGGER_RUSTC"),
    };
    let server = Server { build, started: Instant::now(), concurrency, readiness: Readiness::new() };
    registry.add_collector(Arc::new(server.clone()));
    registry.add_collector(Arc::new(ProcessCollector));
    let settings = Settings { connections_max: machine::connections_max(concurrency), ..Settings::default() };
    Ok(Host { threads: Threads::start(concurrency)?, settings, server, echoes: Echoes::default() })
}

fn start_servers(
    admin: &TcpListener,
    stats: &TcpListener,
    about: Admin,
    stopped: &watch::Receiver<bool>,
) -> anyhow::Result<Vec<tokio::task::JoinHandle<()>>> {
    let hits = about.scraper.hits();
    let metrics = metrics_router(about.scraper.clone(), about.server.readiness.clone());
    let admin_router = about.router(admin.local_addr()?.ip(), Default::default());
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
