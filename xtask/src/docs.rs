//! `cargo xtask docs`: the documents under `docs/` that are rendered from the code.
//!
//! A test of the product renders them, because only the product knows its metrics, codes and flags; it compares by
//! default, and writes when [`UPDATE`] is set. So the plain test command keeps them current too.

use std::process::Command;

use anyhow::{Context, Result};

use crate::shell;

/// Set to write the documents instead of comparing them.
const UPDATE: &str = "OUTRIGGER_UPDATE_DOCS";

/// Writes them.
pub(crate) fn write() -> Result<()> {
    shell::visible(test().env(UPDATE, "1"))
}

/// Fails when one is not current.
pub(crate) fn verify() -> Result<()> {
    shell::output(test().env_remove(UPDATE)).map(drop).context("docs/ is not current: run `cargo xtask docs`")
}

fn test() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // The whole workspace, because one package alone would have other features and build its dependencies once more.
    cargo.current_dir(shell::root()).args(["test", "--quiet", "--locked", "--workspace", "--test", "documents"]);
    cargo
}
