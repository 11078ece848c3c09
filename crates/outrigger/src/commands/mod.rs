//! One file a command. A command returns a [`Verdict`] when it could run, and an error when it could not.

mod admin;
pub(crate) mod circuit;
pub(crate) mod circuits;
pub(crate) mod echo;
pub(crate) mod endpoint;
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
    /// Show the circuits of a running proxy: state, since when, why, how far from opening
    Circuits(circuits::CircuitsArgs),
    /// Force a circuit of a running proxy open or closed for a while, or release it
    Circuit(circuit::CircuitArgs),
    /// Drain or restore an endpoint of a running proxy, or end its ejection
    Endpoint(endpoint::EndpointArgs),
}

/// Runs a command to its end.
pub(crate) fn run(command: Command) -> anyhow::Result<Verdict> {
    match command {
        Command::Run(args) => run::run(args),
        Command::Echo(args) => echo::run(args),
        Command::Request(args) => request::run(args),
        Command::Circuits(args) => circuits::run(&args),
        Command::Circuit(args) => circuit::run(&args),
        Command::Endpoint(args) => endpoint::run(&args),
    }
}
