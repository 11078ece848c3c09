//! `outrigger run`: a folder of YAML runs as a proxy.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::{ForwardTo, Output, Verdict, WorkloadName, parse_address, parse_any_address, parse_rate};

const EXAMPLES: &str = "\
Examples:
  outrigger run examples/canary --simulate
      Serve a folder, with a simulated pod for every replica of its workloads
  outrigger run bookinfo.yaml --simulate --load 20
      A mesh on this machine: every pod with its sidecar, every gateway, and something to look at in the metrics
  outrigger request http://reviews:9080/ --from productpage-v1 --count 100
      Send through it as one of its workloads
  curl -x 127.0.0.1:15001 http://reviews.shop:9080/
      Send a request through it (or: curl -H 'Host: reviews.shop:9080' 127.0.0.1:15001/)
  outrigger run redis.yaml --simulate --forward 127.0.0.1:6379=redis:6379
      Relay TCP connections at a local port to a service, whatever they speak
  outrigger run k8s/ istio/ --workload shop/cart-v1
      See the mesh as that workload does: its labels, its namespace, its Sidecar
  outrigger run mesh/ --workload shop/cart-v1 --inbound 0.0.0.0:15006
      Be its sidecar in its pod: iptables redirects what leaves to 15001 and what arrives to 15006
  cat all.yaml | outrigger run - --outbound :0 -o json
      Read standard input, take a free port, tell which in one line of JSON";

/// Flags of `outrigger run`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArgs {
    /// Files, folders (read recursively: *.yaml, *.yml, *.json), or - for standard input
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Be this workload's sidecar: its labels, its namespace, its Sidecar resource
    #[arg(long, env = "OUTRIGGER_WORKLOAD", value_name = "[NS/]NAME")]
    pub(crate) workload: Option<WorkloadName>,
    /// Where the admin interface listens; port 0 picks a free one
    #[arg(long, env = "OUTRIGGER_ADMIN", value_name = "ADDR", default_value = "127.0.0.1:15000")]
    #[arg(value_parser = parse_address)]
    pub(crate) admin: SocketAddr,
    /// A file with the secret that changes by hand on the admin interface need (circuits, endpoints); without it they are
    /// refused
    #[arg(long, env = "OUTRIGGER_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub(crate) admin_token_file: Option<PathBuf>,
    /// Where the outbound listener and forward proxy listens; port 0 picks a free one
    #[arg(long, env = "OUTRIGGER_OUTBOUND", value_name = "ADDR", default_value = "127.0.0.1:15001")]
    #[arg(value_parser = parse_address)]
    pub(crate) outbound: SocketAddr,
    /// Where connections arrive that the system redirects on their way in (iptables REDIRECT); port 0 picks a free one. All
    /// others are closed [default with --workload: port 15006 on all addresses, if it is free]
    #[arg(long, env = "OUTRIGGER_INBOUND", value_name = "ADDR", value_parser = parse_any_address)]
    #[arg(requires = "workload", conflicts_with = "simulate")]
    pub(crate) inbound: Option<SocketAddr>,
    /// Where metrics are served (/stats/prometheus, /metrics); port 0 picks a free one
    #[arg(long, env = "OUTRIGGER_STATS", value_name = "ADDR", default_value = "127.0.0.1:15020")]
    #[arg(value_parser = parse_address)]
    pub(crate) stats: SocketAddr,
    /// Worker threads [default: the CPU limit of the cgroup, at least 1]
    #[arg(long, env = "OUTRIGGER_CONCURRENCY", value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) concurrency: Option<u16>,
    /// Start an echo server for every loopback endpoint of the input
    #[arg(long, env = "OUTRIGGER_ECHO")]
    pub(crate) echo: bool,
    /// One line per request on standard output (not supported yet but for `off`)
    #[arg(long, env = "OUTRIGGER_ACCESS_LOG", value_name = "FORMAT", default_value = "off")]
    pub(crate) access_log: AccessLog,
    /// Shape of the start-up report
    #[arg(short = 'o', long, env = "OUTRIGGER_OUTPUT", value_name = "FORMAT", default_value = "text")]
    pub(crate) output: Output,
    /// Relay the connections at ADDR to a service, as the client's own would go; again for more, or separated by commas
    #[arg(long, env = "OUTRIGGER_FORWARD", value_name = "ADDR=HOST:PORT", value_delimiter = ',')]
    pub(crate) forward: Vec<ForwardTo>,
    /// Stand in for the pods of the input: for each replica a loopback address, echo servers and a sidecar
    #[arg(long, env = "OUTRIGGER_SIMULATE")]
    pub(crate) simulate: bool,
    /// Send a steady load over every route, so many requests a second in all
    #[arg(long, env = "OUTRIGGER_LOAD", value_name = "RPS", value_parser = parse_rate)]
    pub(crate) load: Option<f64>,
    /// Keep a Prometheus file_sd file of every metrics address
    #[arg(long, env = "OUTRIGGER_SD_FILE", value_name = "FILE")]
    pub(crate) sd_file: Option<PathBuf>,
}

/// `--access-log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AccessLog {
    /// Envoy's and Istio's default text format.
    Text,
    /// Istio's JSON fields.
    Json,
    /// None.
    Off,
}

impl RunArgs {
    /// Refuses what is in the interface but not built: asking for it must not look as if it worked.
    pub(crate) fn refuse_unsupported(&self) -> anyhow::Result<()> {
        if self.access_log != AccessLog::Off {
            anyhow::bail!("--access-log is not supported in this version of outrigger run");
        }
        Ok(())
    }
}

/// Runs until it is told to end.
pub(crate) fn run(args: RunArgs) -> anyhow::Result<Verdict> {
    args.refuse_unsupported()?;
    crate::run::run(&args)
}
