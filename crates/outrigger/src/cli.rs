//! The words that all commands share: logging flags, output formats, addresses and names.
//!
//! What belongs to one command stands in that command's file. Every flag has an environment twin `OUTRIGGER_<FLAG>`;
//! the flag wins.

use std::io::{IsTerminal, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::str::FromStr;

use clap::{Args, Parser, ValueEnum};
use tracing::Level;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, reload};

use crate::commands::Command;

/// Load balancing, routing, circuit breaking and metrics for every container of a pod, from the YAML you have.
#[derive(Debug, Parser)]
#[command(name = "outrigger", version, max_term_width = 120, propagate_version = true)]
#[command(after_help = "Every flag has an environment twin OUTRIGGER_<FLAG>; the flag wins.\n\
    Exit status: 0 success; 1 the thing looked at is bad; 2 wrong use or could not run.")]
pub(crate) struct Cli {
    /// Logging, for all commands.
    #[command(flatten)]
    pub(crate) log: LogArgs,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Logging flags. Logs go to standard error.
#[derive(Debug, Args)]
#[command(next_help_heading = "Logging")]
pub(crate) struct LogArgs {
    /// Least severe level that is logged; RUST_LOG refines it by module, e.g. RUST_LOG=outrigger_proxy=debug
    #[arg(long, global = true, env = "OUTRIGGER_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub(crate) log_level: LogLevel,
    /// Shape of a log line
    #[arg(long, global = true, env = "OUTRIGGER_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
}

/// `--log-level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    /// What makes a command fail.
    Error,
    /// What probably is not meant.
    Warn,
    /// Changes of state.
    Info,
    /// Decisions.
    Debug,
    /// Everything.
    Trace,
}

/// `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `-o`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Text,
    /// One stable JSON object on standard output.
    Json,
}

/// How a command that could run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Exit status 0.
    Good,
    /// The thing looked at is bad: exit status 1.
    Bad,
}

/// `[NAMESPACE/]NAME` of a workload; the namespace is `default` when left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkloadName {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name: of the Deployment, StatefulSet, … or of the pod.
    pub(crate) name: String,
}

impl LogArgs {
    /// Starts logging for the rest of the process.
    pub(crate) fn start(&self) {
        let level = match self.log_level {
            LogLevel::Error => Level::ERROR,
            LogLevel::Warn => Level::WARN,
            LogLevel::Info => Level::INFO,
            LogLevel::Debug => Level::DEBUG,
            LogLevel::Trace => Level::TRACE,
        };
        let filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
        let configured = filter.to_string();
        let (filter, handle) = reload::Layer::new(filter);
        let logs = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let registry = tracing_subscriber::registry().with(filter);
        let started = match self.log_format {
            LogFormat::Text => registry.with(logs.with_ansi(is_coloured(&std::io::stderr()))).try_init(),
            LogFormat::Json => registry.with(logs.json().flatten_event(true).with_ansi(false)).try_init(),
        };
        started.expect("logging is set up once, here");
        crate::logging::install(handle, configured);
    }
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Good => Self::SUCCESS,
            Verdict::Bad => Self::FAILURE,
        }
    }
}

impl FromStr for WorkloadName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
        if namespace.is_empty() || name.is_empty() || name.contains('/') {
            return Err("expected NAME or NAMESPACE/NAME, e.g. reviews-v1 or shop/reviews-v1".to_owned());
        }
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

impl std::fmt::Display for WorkloadName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Whether to colour what is written there: a terminal, and the user has not set `NO_COLOR`.
pub(crate) fn is_coloured(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes a line to standard output. Whether anybody reads it is not ours to decide: a closed pipe is no error.
pub(crate) fn print_line(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Reads `IP:PORT`, `HOST:PORT`, or `PORT` and `:PORT` on 127.0.0.1. Port 0 means "a free one".
pub(crate) fn parse_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse::<u16>() {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let resolved = text.to_socket_addrs().map_err(|error| {
        format!("expected IP:PORT, HOST:PORT or PORT, e.g. 127.0.0.1:15000; reading it as HOST:PORT gave: {error}")
    })?;
    // A name may give several addresses; IPv4 is what the other defaults are.
    let mut addresses: Vec<SocketAddr> = resolved.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.first().copied().ok_or_else(|| "the host has no address".to_owned())
}

/// As [`parse_address`], but a port alone is on all addresses.
pub(crate) fn parse_any_address(text: &str) -> Result<SocketAddr, String> {
    match text.strip_prefix(':').unwrap_or(text).parse::<u16>() {
        Ok(port) => Ok(any_address(port)),
        Err(_) => parse_address(text),
    }
}

/// A port on all addresses: of both versions, where the machine has IPv6.
pub(crate) fn any_address(port: u16) -> SocketAddr {
    let has_v6 = std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if has_v6 {
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))
    } else {
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))
    }
}

/// `ADDR=HOST:PORT`: a listener whose connections go to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ForwardTo {
    /// Where it listens; port 0 picks a free one.
    pub(crate) address: SocketAddr,
    /// The host, lower case and without trailing dot.
    pub(crate) host: String,
    /// The port of the service.
    pub(crate) port: u16,
}

impl FromStr for ForwardTo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = "expected ADDR=HOST:PORT, e.g. 127.0.0.1:6379=redis:6379 or :0=db.shop.svc.cluster.local:5432";
        let (address, to) = text.split_once('=').ok_or(expected)?;
        let (host, port) = to.rsplit_once(':').ok_or(expected)?;
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let is_address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some();
        let is_name = |c: char| c.is_ascii_alphanumeric() || ['.', '-', '_'].contains(&c);
        if host.is_empty() || !(is_address || host.chars().all(is_name)) {
            return Err(format!("{host:?} is no host; {expected}"));
        }
        let port =
            port.parse().ok().filter(|port| *port > 0).ok_or_else(|| format!("{port:?} is no port; {expected}"))?;
        Ok(Self { address: parse_address(address)?, host, port })
    }
}

/// Reads requests a second.
pub(crate) fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.001..=1_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("expected requests a second, from 0.001 to 1000000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_has_its_environment_twin() {
        let root = Cli::command();
        let commands = root.get_subcommands().chain(std::iter::once(&root));
        for (command, argument) in commands.flat_map(|c| c.get_arguments().map(move |a| (c.get_name(), a))) {
            let Some(long) = argument.get_long().filter(|long| !["help", "version"].contains(long)) else { continue };
            let expected = format!("OUTRIGGER_{}", long.to_uppercase().replace('-', "_"));
            let found = argument.get_env().map(|name| name.to_string_lossy().into_owned());
            assert_eq!(found, Some(expected), "{command} --{long}");
        }
    }

    #[test]
    fn every_command_shows_examples() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:"), "{} has no examples", command.get_name());
        }
    }

    #[test]
    fn addresses() {
        let local = |port| Ok(SocketAddr::from(([127, 0, 0, 1], port)));
        assert_eq!(parse_address("15000"), local(15000));
        assert_eq!(parse_address(":0"), local(0));
        assert_eq!(parse_address("127.0.0.1:8"), local(8));
        assert_eq!(parse_address("localhost:8"), local(8));
        assert_eq!(parse_address("[::1]:8"), Ok("[::1]:8".parse().expect("literal")));
        for bad in ["", "x", "127.0.0.1", "65536", "1.2.3.4:x"] {
            assert!(parse_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn forwards() {
        let parsed = |text: &str| {
            text.parse::<ForwardTo>().map(|forward| format!("{} {} {}", forward.address, forward.host, forward.port))
        };
        assert_eq!(parsed(":0=redis:6379"), Ok("127.0.0.1:0 redis 6379".to_owned()));
        assert_eq!(parsed("[::1]:1=DB.shop.:5432"), Ok("[::1]:1 db.shop 5432".to_owned()));
        assert_eq!(parsed("127.0.0.9:1=[fd00::1]:2"), Ok("127.0.0.9:1 [fd00::1] 2".to_owned()));
        for bad in ["", ":0", ":0=redis", ":0=redis:0", ":0=redis:x", ":0=:1", ":0=a b:1", "x=redis:1", ":0=a::b:1"] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn workload_names() {
        let parsed = |text: &str| text.parse::<WorkloadName>().map(|name| name.to_string());
        assert_eq!(parsed("reviews-v1"), Ok("default/reviews-v1".to_owned()));
        assert_eq!(parsed("shop/cart"), Ok("shop/cart".to_owned()));
        for bad in ["", "/", "a/", "/b", "a/b/c"] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }
}
