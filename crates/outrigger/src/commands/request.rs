//! `outrigger request`: sends requests through a running proxy and tells where they went.
//!
//! One request prints the answer and who gave it; many print counts and latencies. Where a request went is read from the
//! answer: echo servers name their service, pod and version, and the proxy's own answers carry a flag in `Proxy-Status`.

mod build;
mod grpc;
mod load;
mod report;
mod target;
mod ways;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use crate::cli::{Output, Verdict, WorkloadName, parse_address, parse_rate};
use build::Outgoing;
use report::Tally;
use target::Target;
use ways::Admin;

const EXAMPLES: &str = "\
Examples:
  outrigger request http://reviews.default:9080/
      Send one request through the proxy on this machine; print the answer and where it went
  outrigger request http://reviews:9080/ --count 1000 --concurrency 8
      Print counts by destination, version, pod, status and flag, and latency percentiles
  outrigger request http://reviews:9080/ --count 600 --rate 100 -H 'x-echo-delay: 20ms'
      Send at a fixed rate; latencies count from when a request was due
  outrigger request http://ratings:9080/ --from reviews-v2 --count 10
      Send as a workload of `outrigger run --simulate`: its labels, its namespace, its policies
  outrigger request http://127.0.2.1/productpage -H 'Host: bookinfo.example.com'
      Come in through a gateway as a stranger
  outrigger request http://cart.shop/items -d '{\"id\":7}' -H 'content-type: application/json' -o json
      POST, and print one JSON object
  outrigger request http://cart.shop/ --http2 --count 1000 --concurrency 50
      Send HTTP/2: fifty streams at once on one connection
  outrigger request http://cart.shop:9090/shop.Cart/Get --grpc --from web
      Call a method with an empty message; print grpc-status and what came back
  outrigger request http://cart.shop:9090/shop.Cart/Get --grpc -d '{\"id\":7}' -H 'grpc-timeout: 250m'
      Call it with these bytes as the message, and a deadline

Exit status: 0 when every request was answered below 500 and by a destination; 1 when one was not answered, was answered
with 5xx, with a grpc-status other than 0 (or, with --grpc, none), or by the proxy itself because of a failure; 2 when
nothing could be sent.";

/// Flags of `outrigger request`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RequestArgs {
    /// What to ask for: `http://HOST[:PORT]/PATH`, the host as the mesh knows it, or the address of a gateway
    #[arg(value_name = "URL")]
    url: String,
    /// Send as this simulated workload or pod, through its sidecar; many requests go through its pods in turn
    #[arg(long, env = "OUTRIGGER_FROM", value_name = "[NS/]WORKLOAD", conflicts_with = "proxy")]
    from: Option<WorkloadName>,
    /// Method [default: GET, or POST with a body or --grpc]
    #[arg(short = 'X', long, env = "OUTRIGGER_METHOD", value_name = "M", conflicts_with = "grpc")]
    method: Option<String>,
    /// A field of the request; may be given several times
    #[arg(short = 'H', long, env = "OUTRIGGER_HEADER", value_name = "K: V")]
    header: Vec<String>,
    /// Body of the request
    #[arg(short = 'd', long, env = "OUTRIGGER_DATA", value_name = "BODY")]
    data: Option<String>,
    /// How many requests to send
    #[arg(long, env = "OUTRIGGER_COUNT", value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    count: u32,
    /// Requests a second, by the clock [default: as fast as answers come]
    #[arg(long, env = "OUTRIGGER_RATE", value_name = "RPS", value_parser = parse_rate)]
    rate: Option<f64>,
    /// How many requests may be under way at once [default: 1; 64 with --rate]
    #[arg(long, env = "OUTRIGGER_CONCURRENCY", value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=4096))]
    concurrency: Option<u16>,
    /// Seconds after which an answer is given up
    #[arg(long, env = "OUTRIGGER_TIMEOUT", value_name = "SECONDS", default_value = "30", value_parser = parse_seconds)]
    timeout: Duration,
    /// Admin interface of the proxy, which tells where its outbound listener is
    #[arg(long, env = "OUTRIGGER_ADMIN", value_name = "ADDR", default_value = "127.0.0.1:15000")]
    #[arg(value_parser = parse_address)]
    admin: SocketAddr,
    /// The listener to send to, without asking the admin interface
    #[arg(long, env = "OUTRIGGER_PROXY", value_name = "ADDR", value_parser = parse_address)]
    proxy: Option<SocketAddr>,
    /// Send HTTP/2 with prior knowledge, up to 100 requests at once on one connection
    #[arg(long, env = "OUTRIGGER_HTTP2")]
    http2: bool,
    /// Call a gRPC method, /PACKAGE.SERVICE/METHOD, by HTTP/2; -d gives the bytes of its one message [default: none]
    #[arg(long, env = "OUTRIGGER_GRPC")]
    grpc: bool,
    /// Shape of the result
    #[arg(short = 'o', long, env = "OUTRIGGER_OUTPUT", value_name = "FORMAT", default_value = "text")]
    output: Output,
}

/// Sends and reports.
pub(crate) fn run(args: RequestArgs) -> anyhow::Result<Verdict> {
    let target = Target::parse(&args.url)?;
    let request = Outgoing::new(&args, &target)?;
    let events = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no event loop")?;
    events.block_on(async {
        let admin = Admin { address: args.admin, timeout: args.timeout };
        let ways = match args.proxy {
            Some(proxy) => vec![proxy],
            None => admin.ways(args.from.as_ref(), &target).await?,
        };
        let calls = args.grpc.then(|| report::Calls { is_echo: target.path.starts_with("/outrigger.echo.v1.Echo/") });
        let tally = load::send(&ways, request, &args, Tally::new(calls)).await;
        match (args.count, tally.first_answer()) {
            (1, Some(answer)) => report::print_one(&tally, answer, ways[0], args.output),
            _ => report::print_many(&tally, args.output),
        }
        Ok(if tally.is_good() { Verdict::Good } else { Verdict::Bad })
    })
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if (0.001..=86_400.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("expected seconds, from 0.001 to 86400".to_owned()),
    }
}
