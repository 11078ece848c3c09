//! Repository chores, run as `cargo xtask NAME`: tidy, docs, bench, scale, peers.
//!
//! Not part of the product: nothing in `crates/` depends on it. Scripts live here rather than in a shell so that they are
//! typed, tested and read like the rest.

mod bench;
mod process;
mod shell;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Repository chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Measures CPU per request, latency and memory beside nginx, HAProxy and Envoy.
    Bench(bench::Options),
}

fn main() -> Result<()> {
    match Arguments::parse().chore {
        Chore::Bench(options) => bench::run(&options),
    }
}
