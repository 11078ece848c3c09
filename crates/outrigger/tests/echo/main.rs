//! `outrigger echo` from the outside, over every protocol that it speaks.

mod grpc;
mod http1;
mod http2;

use std::net::SocketAddr;

use outrigger_testkit::Process;

const ECHO: &str = env!("CARGO_BIN_EXE_outrigger");

/// An echo server as reviews v1 and v2.
fn start() -> (Process, SocketAddr, SocketAddr) {
    let listen = |version| format!("--listen=127.0.0.1:0,service=reviews,namespace=shop,version={version}");
    let process = Process::start(ECHO, ["echo", "-o", "json", &listen("v1"), &listen("v2")]);
    let address = |number: usize| {
        let text = process.ready()["listeners"][number]["address"].as_str().expect("an address");
        text.parse().expect("an address")
    };
    let (v1, v2) = (address(0), address(1));
    (process, v1, v2)
}
