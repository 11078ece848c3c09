//! `outrigger`: the command line. It parses, sets up logging and hands over to one file per command.
//!
//! Exit status: 0 success, 1 the thing looked at is bad, 2 wrong use or could not run. Answers go to standard output,
//! logs and errors to standard error.

mod cli;
mod client;
mod commands;
mod echo;
mod logging;
mod run;

use std::process::ExitCode;

use clap::Parser;

// Per-thread heaps: the workers share no free lists.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    cli.log.start();
    match commands::run(cli.command) {
        Ok(verdict) => verdict.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
