//! `cargo xtask instructions`: instructions per request, counted by valgrind, held against a budget.
//!
//! Time cannot guard a merge on a machine that others share; instruction counts can. The whole binary runs under
//! callgrind twice, with few and with many requests over one kept connection, one after another; the difference divided
//! by the requests between is what one request costs in user space, start-up and shut-down excluded. Limits, outlier detection and a circuit breaker are on. The counts of two
//! runs differ by less than a percent.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::bench::watching;
use crate::peers::ready;
use crate::scale::{Client, backend};
use crate::shell::{self, Background};

/// `cargo xtask instructions`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Count this binary instead of building one
    #[arg(long, value_name = "BIN")]
    outrigger: Option<PathBuf>,
    /// Cargo profile to build with
    #[arg(long, default_value = "release")]
    profile: String,
    /// Write what was counted as the new budget
    #[arg(long)]
    update: bool,
}

/// Requests of the short and the long run.
const REQUESTS: [u32; 2] = [200, 1200];

/// How much over the budget passes, in relation to it. Runs differ by half a percent; other machines choose other vector
/// instructions.
const TOLERANCE_RATIO: f64 = 0.05;

/// Where the budget stands.
const BUDGET: &str = "xtask/instructions.budget";

const HEADER: &str =
    "# Instructions per proxied request in user space; `cargo xtask instructions --update` writes it.\n";

/// Counts, prints, compares.
pub(crate) fn run(options: &Options) -> Result<()> {
    let valgrind = shell::need("valgrind", "valgrind")?;
    let program = match &options.outrigger {
        Some(given) => given.canonicalize().with_context(|| format!("--outrigger {}", given.display()))?,
        None => shell::build(&options.profile)?,
    };
    let folder = shell::target_dir().join("instructions");
    shell::fresh_folder(&folder)?;
    let mut totals = Vec::new();
    for requests in REQUESTS {
        totals.push(count(&valgrind, &program, &folder, requests)?);
    }
    let per_request = (totals[1] - totals[0]) / f64::from(REQUESTS[1] - REQUESTS[0]);
    println!("{per_request:.0} instructions per request");
    let budget = shell::root().join(BUDGET);
    if options.update {
        return fs::write(&budget, format!("{HEADER}{per_request:.0}\n"))
            .with_context(|| format!("cannot write {BUDGET}"));
    }
    let text = fs::read_to_string(&budget).with_context(|| format!("cannot read {BUDGET}"))?;
    let allowed: f64 = parse_budget(&text).with_context(|| format!("{BUDGET} holds no number"))?;
    ensure!(
        per_request <= allowed * (1.0 + TOLERANCE_RATIO),
        "a request takes {per_request:.0} instructions, the budget is {allowed:.0}; find the cause, or say in the commit \
         why it is worth it and run `cargo xtask instructions --update`"
    );
    Ok(())
}

/// Instructions of a whole run with so many requests.
fn count(valgrind: &Path, program: &Path, folder: &Path, requests: u32) -> Result<f64> {
    let yaml = folder.join("yaml");
    fs::create_dir_all(&yaml)?;
    fs::write(
        yaml.join("edited.yaml"),
        crate::scale::edited_service(backend(b'a')?) + &watching("edited", "team-0", true),
    )?;
    let out = folder.join(format!("callgrind.{requests}"));
    let mut command = Command::new(valgrind);
    command.args(["--tool=callgrind", "--quiet"]).arg(format!("--callgrind-out-file={}", out.display()));
    command.arg(program).arg("run").arg(&yaml).args(["-o", "json", "--concurrency", "1"]);
    for flag in ["--outbound", "--admin", "--stats"] {
        command.args([flag, "127.0.0.1:0"]);
    }
    let mut process = Background::start("outrigger", &mut command, &folder.join("outrigger.log"))?;
    let report = process.wait_for("start-up report", Duration::from_secs(120), |process| ready(&process.said()))?;
    let outbound = report["outbound"].as_str().context("the report names the outbound address")?.parse()?;
    let mut client = Client::connect(outbound)?;
    for _ in 0..requests {
        client.ask()?;
    }
    drop(client);
    process.signal("TERM")?;
    let status = process.wait(Duration::from_secs(120))?;
    ensure!(status.success(), "ended with {status} under valgrind:\n{}", process.said());
    let profile = fs::read_to_string(&out).with_context(|| format!("callgrind wrote no {}", out.display()))?;
    parse_total(&profile).with_context(|| format!("{} has no total", out.display()))
}

/// The total of a callgrind profile.
fn parse_total(profile: &str) -> Option<f64> {
    let line =
        profile.lines().find_map(|line| line.strip_prefix("totals:").or_else(|| line.strip_prefix("summary:")))?;
    line.split_whitespace().next()?.parse().ok()
}

fn parse_budget(text: &str) -> Option<f64> {
    text.lines().find(|line| !line.starts_with('#'))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_and_budgets_are_read() {
        assert_eq!(parse_total("version: 1\nevents: Ir\nsummary: 123456\n\nfn=x\n"), Some(123_456.0));
        assert_eq!(parse_total("version: 1\n"), None);
        assert_eq!(parse_budget("# note\n12345\n"), Some(12_345.0));
        assert_eq!(parse_budget("# note\n"), None);
    }
}
