//! One file a command. A command returns a [`Verdict`] when it could run, and an error when it could not.

pub(crate) mod echo;
pub(crate) mod request;
pub(crate) mod run;

use clap::Subcommand;

use crate::cli::Verdict;

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a folder of YAML as a proxy
    Run(run::RunArgs),
    /// Run echo servers: backends that tell what reached them, and play faults on request
    Echo(echo::EchoArgs),
    /// Send requests through a running proxy and tell where they went
    Request(request::RequestArgs),
}

/// Runs a command to its end.
pub(crate) fn run(command: Command) -> anyhow::Result<Verdict> {
    match command {
        Command::Run(args) => run::run(args),
        Command::Echo(args) => echo::run(args),
        Command::Request(args) => request::run(args),
    }
}
