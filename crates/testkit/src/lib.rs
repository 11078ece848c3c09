//! Loopback worlds for tests: raw clients, scripted backends, the program under test, its YAML, and a ledger of requests.
//!
//! Everything runs on plain threads and blocking sockets: a test reads as it happens, and nothing here shares code with
//! the proxy that it judges, but for the ledger over HTTP/2: what it needs of clients and backends is to be many at once, not
//! to break rules, and so they run on the library that the proxy uses too. Every wait has a deadline; nothing sleeps to synchronise. It is a development dependency
//! only, so a broken expectation may panic: that is how a test fails.

mod backend;
pub mod certificates;
mod client;
pub mod dns;
pub mod h2;
pub mod ledger;
pub mod metrics;
mod process;
mod wire;
mod world;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

pub use backend::{Backend, Reply, Request, response};
pub use client::{Client, Ending, How, Response};
pub use process::Process;
pub use wire::{Fields, ReadError};
pub use world::{Endpoint, World, service_yaml, speaking_service_yaml, virtual_service_yaml};

/// How long a test waits for something that should be there at once.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A loopback address that nobody listens on now. Prefer port 0 and asking for the port where that is possible.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
    listener.local_addr().expect("a bound listener has an address")
}

/// Waits until `check` gives a value; `what` names it when [`PATIENCE`] runs out.
pub fn eventually<T>(what: &str, check: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, check).unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain for {what}"))
}

/// As [`eventually`], with a patience of its own, and `None` when it runs out.
pub fn within<T>(patience: Duration, mut check: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = check() {
            return Some(value);
        }
        if start.elapsed() > patience {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Keeps a thread busy in name for so long: a backend that is slow, a load that goes by the clock. Never a way to wait for
/// something to have happened; that is what [`eventually`] is for.
pub fn pass_time(duration: Duration) {
    thread::sleep(duration);
}

#[cfg(test)]
mod tests;
