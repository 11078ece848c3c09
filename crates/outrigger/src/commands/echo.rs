//! `outrigger echo`: echo servers on one or more addresses.

use clap::Args;

use crate::cli::Verdict;

const EXAMPLES: &str = "\
Examples:
  outrigger echo --listen 127.0.0.1:9080
      Answer every request with JSON that tells what arrived";

/// Flags of `outrigger echo`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct EchoArgs {}

/// Runs until it is told to end.
pub(crate) fn run(_args: EchoArgs) -> anyhow::Result<Verdict> {
    anyhow::bail!("outrigger echo does not serve yet")
}
