//! `outrigger echo`: echo servers on one or more addresses.

use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::cli::{Output, Verdict, print_line};
use crate::echo::{EchoServer, FailureCounts, Identity, Listen};

const EXAMPLES: &str = "\
Examples:
  outrigger echo
      Answer every request to 127.0.0.1:9080 with JSON that tells what arrived
  outrigger echo --listen 127.0.0.1:9080,service=reviews,version=v1 --listen 127.0.0.1:9081,service=reviews,version=v2
      Stand in for two versions of a service
  outrigger echo --listen :0 -o json
      Take a free port and tell which in one line of JSON
  curl -H 'x-echo-status: 503;version=v2' -H 'x-echo-delay: 250ms' 127.0.0.1:9080
      Play a fault, here for one version alone
  outrigger request http://127.0.0.1:9080/shop.Cart/Get --grpc --proxy 127.0.0.1:9080
      Call it as gRPC; `grpcurl -plaintext 127.0.0.1:9080 list` works too

One port speaks HTTP/1.1, HTTP/2 (prior knowledge) and gRPC. Any method of gRPC answers each message with one, whose bytes
are the JSON; outrigger.echo.v1.Echo (Unary, ServerStream, ClientStream, Bidi), grpc.health.v1.Health and server reflection
answer in messages of their own. Messages that come may have 4 MiB and are not compressed.

A request may ask for faults in its header:
  x-echo-status: 503                 answer with this status
  x-echo-delay: 250ms                wait first
  x-echo-body-bytes: 4096            a body of this size, up to 64 MiB
  x-echo-abort: before               close without an answer; after-headers closes in the middle of the body;
                                     in HTTP/2 the stream is reset
  x-echo-set-header: k=v             add a field to the answer
  x-echo-set-trailer: k=v            add a field after its body
  x-echo-grpc-status: 14             end a gRPC call with this status and no message
  x-echo-fail-rate: 0.5              let this share of requests fail; with ;status=500 or ;close
  x-echo-fail-first: 2;key=ID        let the first two requests with this key fail; with ;status=500 or ;close
A gRPC call that is let fail ends with the gRPC status for that HTTP status (503: 14, UNAVAILABLE), or with that of
;grpc-status=8. Each may end in ;version=v2 or ;pod=NAME and then counts for that version or pod alone.";

/// Flags of `outrigger echo`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct EchoArgs {
    /// Where to listen, and who to be: IP:PORT or PORT, then any of service=, namespace=, pod=, container=, version=;
    /// give it once per listener (several in one value are separated by spaces); port 0 picks a free one
    #[arg(
        long,
        visible_alias = "port",
        env = "OUTRIGGER_LISTEN",
        value_name = "ADDR[,NAME=VALUE]...",
        value_delimiter = ' '
    )]
    #[arg(default_value = "127.0.0.1:9080")]
    listen: Vec<Listen>,
    /// Shape of the start-up report
    #[arg(short = 'o', long, env = "OUTRIGGER_OUTPUT", value_name = "FORMAT", default_value = "text")]
    output: Output,
}

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(args: EchoArgs) -> anyhow::Result<Verdict> {
    let server = EchoServer::bind(args.listen, Arc::new(FailureCounts::default()))?;
    let events = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no event loop")?;
    events.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?;
        report(&server, args.output);
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(server.serve(stopped));
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        let _ = stop.send(true);
        serving.await.context("the echo server broke down")?.context("the echo server could not start")?;
        Ok(Verdict::Good)
    })
}

/// Tells where it listens, once it does.
fn report(server: &EchoServer, output: Output) {
    match output {
        Output::Json => {
            let listeners: Vec<_> = server.listeners().collect();
            print_line(&serde_json::json!({ "ready": true, "listeners": listeners }).to_string());
        }
        Output::Text => {
            for listen in server.listeners() {
                let Identity { service, namespace, pod, version, .. } = &listen.identity;
                print_line(format!("{:<22} {namespace}/{service} pod {pod} {version}", listen.address).trim_end());
            }
        }
    }
}
