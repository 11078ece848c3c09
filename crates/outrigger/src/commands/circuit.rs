//! `outrigger circuit`: a circuit in the hand of an operator.

use clap::{Args, Subcommand, ValueEnum};

use super::admin::HandArgs;
use crate::cli::Verdict;

const EXAMPLES: &str = "\
Examples:
  outrigger circuit force cart.shop.svc.cluster.local:80 --state open --ttl 10m --admin-token-file token
      Keep calls away from a service that is being repaired
  outrigger circuit force cart.shop.svc.cluster.local:80 --state closed --ttl 60s --admin-token-file token
      Let calls pass whatever becomes of them
  outrigger circuit release cart.shop.svc.cluster.local:80 --admin-token-file token
      Leave it to itself again, before its time

`outrigger circuits` lists the names. Exit status: 0 done; 1 refused, with the reason; 2 nothing could be asked.";

/// Flags of `outrigger circuit`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CircuitArgs {
    #[command(subcommand)]
    command: CircuitCommand,
}

#[derive(Debug, Subcommand)]
enum CircuitCommand {
    /// Force a circuit open or closed until its time is over
    Force {
        /// The circuit, by the name that `outrigger circuits` shows
        #[arg(value_name = "NAME")]
        name: String,
        /// What it is forced to be
        #[arg(long, env = "OUTRIGGER_STATE", value_name = "STATE")]
        state: State,
        /// For how long, at most 24h: 90s, 5m, 1h30m
        #[arg(long, env = "OUTRIGGER_TTL", value_name = "TIME")]
        ttl: String,
        #[command(flatten)]
        hand: HandArgs,
    },
    /// Leave a circuit to itself again
    Release {
        /// The circuit, by the name that `outrigger circuits` shows
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        hand: HandArgs,
    },
}

/// What a circuit may be forced to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum State {
    /// No call passes.
    Open,
    /// Every call passes.
    Closed,
}

/// Asks for the change.
pub(crate) fn run(args: &CircuitArgs) -> anyhow::Result<Verdict> {
    match &args.command {
        CircuitCommand::Force { name, state, ttl, hand } => {
            let state = if *state == State::Open { "open" } else { "closed" };
            let query = [("circuit", name.as_str()), ("state", state), ("ttl", ttl)];
            hand.change("circuits/force", &query, |told| {
                let until = told["override"]["until"].as_str().unwrap_or_default();
                format!("{name} is forced {state} until {until}")
            })
        }
        CircuitCommand::Release { name, hand } => hand.change("circuits/release", &[("circuit", name)], |told| {
            format!("{name} is left to itself; it is {}", told["state"].as_str().unwrap_or_default())
        }),
    }
}
