//! Repository chores, run as `cargo xtask NAME`: tidy, docs, bench, scale, peers.
//!
//! Not part of the product: nothing in `crates/` depends on it. Scripts live here rather than in a shell so that they are
//! typed, tested and read like the rest.

mod bench;
mod docs;
mod instructions;
mod nginx;
mod peers;
mod process;
mod scale;
mod shell;
mod tidy;

use std::process::ExitCode;

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
    /// Checks what the compiler does not: crate dependencies, sizes, words, examples, documents.
    Tidy(tidy::Options),
    /// Writes the documents that are rendered from the code.
    Docs,
    /// Checks the product beside Prometheus, curl and nginx, and under the queries of Istio's dashboards.
    Peers(peers::Options),
    /// Measures CPU per request, latency and memory beside nginx, HAProxy and Envoy.
    Bench(bench::Options),
    /// Measures start-up, memory and reload with many Services.
    Scale(scale::Options),
    /// Counts instructions per request and compares them with the budget.
    Instructions(instructions::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().chore {
        Chore::Tidy(options) => tidy::run(&options),
        Chore::Docs => docs::write(),
        Chore::Peers(options) => peers::run(&options),
        Chore::Bench(options) => bench::run(&options),
        Chore::Scale(options) => scale::run(&options),
        Chore::Instructions(options) => instructions::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
