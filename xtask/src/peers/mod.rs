//! `cargo xtask peers`: the product beside programs that others wrote: Prometheus and promtool, curl, nginx; and under the
//! queries of their dashboards and tools.
//!
//! Each check starts what it needs on loopback and ends it. Nothing is left out: a missing tool is installed by package
//! name, and where that is impossible the check fails.

mod curl;
mod databases;
mod envoy;
mod exposition;
mod grpc;
mod h2;
mod h2_gateway;
mod h2spec;
mod manifests;
mod mesh;
mod nginx;
mod prometheus;
mod python;
mod resilience;
mod websocket;
mod world;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::shell;

pub(crate) use world::{Proxy, ready};

/// `cargo xtask peers`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Which checks to run
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "curl,nginx,prometheus,mesh,resilience,databases,h2,h2spec,grpc,websocket,envoy"
    )]
    only: Vec<Check>,
    /// Check this binary instead of building one
    #[arg(long, value_name = "BIN")]
    outrigger: Option<PathBuf>,
    /// Cargo profile to build with
    #[arg(long, default_value = "release")]
    profile: String,
}

/// One group of checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Check {
    /// curl in all the ways people use it.
    Curl,
    /// nginx as the application.
    Nginx,
    /// Prometheus scrapes in every format and counts what the clients counted.
    Prometheus,
    /// A simulated mesh under Prometheus: the queries of Istio's dashboards, of Kiali, Flagger and Argo Rollouts have data.
    Mesh,
    /// Services fail and recover under Prometheus: the questions of the documentation are answered, with their times.
    Resilience,
    /// MariaDB, PostgreSQL and Redis with their clients, through `--forward`.
    Databases,
    /// grpcio on both sides, and before the echo servers.
    Grpc,
    /// HTTP/2 with curl, nghttp and h2load, in all pairings with HTTP/1.1.
    H2,
    /// h2spec, strict: all of its cases, in cleartext and through TLS.
    H2spec,
    /// WebSockets with foreign clients and servers, over HTTP/1.1 and HTTP/2.
    Websocket,
    /// Envoy with the same policies before the same backends: retries, timeouts, limits, ejections, faults.
    Envoy,
}

/// Runs the checks in order; the first failure ends the chore.
pub(crate) fn run(options: &Options) -> Result<()> {
    let program = match &options.outrigger {
        Some(given) => given.canonicalize().with_context(|| format!("--outrigger {}", given.display()))?,
        None => shell::build(&options.profile)?,
    };
    let folder = shell::target_dir().join("peers");
    shell::fresh_folder(&folder)?;
    shell::need("curl", "curl")?;
    let mut failed = Vec::new();
    for &check in &options.only {
        let start = Instant::now();
        let outcome = one(check, &program, &folder);
        let seconds = start.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => eprintln!("ok    {check:?} ({seconds:.1} s)"),
            Err(error) => {
                eprintln!("FAIL  {check:?} ({seconds:.1} s): {error:#}");
                failed.push(check);
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("failed: {failed:?}") }
}

fn one(check: Check, program: &Path, folder: &Path) -> Result<()> {
    match check {
        Check::Curl => curl::check(program, &folder.join("curl")),
        Check::Nginx => nginx::check(program, &folder.join("nginx")),
        Check::Prometheus => prometheus::check(program, &folder.join("prometheus")),
        Check::Mesh => mesh::check(program, &folder.join("mesh")),
        Check::Resilience => resilience::check(program, &folder.join("resilience")),
        Check::Grpc => grpc::check(program, &folder.join("grpc")),
        Check::H2 => {
            h2::check(program, &folder.join("h2"))?;
            h2_gateway::check(program, &folder.join("h2-gateway")).context("ALPN at a gateway")
        }
        Check::H2spec => h2spec::check(program, &folder.join("h2spec")),
        Check::Websocket => websocket::check(program, &folder.join("websocket")),
        Check::Envoy => envoy::check(program, &folder.join("envoy")),
        Check::Databases => databases::check(program, &folder.join("databases")),
    }
}
