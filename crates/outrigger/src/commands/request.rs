//! `outrigger request`: sends requests through a running proxy and tells where they went.

use clap::Args;

use crate::cli::Verdict;

const EXAMPLES: &str = "\
Examples:
  outrigger request http://reviews.default:9080/
      Send one request and print the answer and the route taken";

/// Flags of `outrigger request`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RequestArgs {}

/// Sends and reports.
pub(crate) fn run(_args: RequestArgs) -> anyhow::Result<Verdict> {
    anyhow::bail!("outrigger request does not send yet")
}
