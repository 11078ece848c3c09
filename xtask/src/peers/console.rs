//! The READMEs as tests: every command of a ```` ```console ```` block is typed, and its answer compared with what stands
//! below it.
//!
//! A block holds `$ command` lines, each followed by the lines it prints. `…` stands for any text within a line, runs of
//! blanks are alike, and a command continues on the next line after a backslash. Commands run in a copy of the folder, so
//! that a reader may change files and so may we; `outrigger` is the binary under test. The proxy runs on its usual ports,
//! because those stand in the READMEs.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::world::Proxy;
use crate::shell;

/// How long an answer may take to become the documented one: some commands look at the effect of the one before.
const SETTLE_MAX: Duration = Duration::from_secs(5);

/// A command and what it prints.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    line: usize,
    command: String,
    expected: Vec<String>,
}

/// Types the front page's commands against its example, then those of every example.
pub(crate) fn check(program: &Path, folder: &Path) -> Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(shell::root().join("examples"))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    ensure!(!names.is_empty(), "there are no examples");
    document(program, &folder.join("front-page"), "README.md", "canary")?;
    for name in names {
        document(program, &folder.join(&name), &format!("examples/{name}/README.md"), &name)?;
    }
    Ok(())
}

/// Runs one example and types the commands of one document.
fn document(program: &Path, folder: &Path, path: &str, example: &str) -> Result<()> {
    let text = fs::read_to_string(shell::root().join(path)).with_context(|| format!("cannot read {path}"))?;
    let steps = parse(&text);
    ensure!(!steps.is_empty(), "{path} has no ```console block");
    shell::fresh_folder(folder)?;
    copy(&shell::root().join("examples").join(example), &folder.join("examples").join(example))?;
    let yaml = folder.join("examples").join(example);
    let usual = ["--outbound", "127.0.0.1:15001", "--admin", "127.0.0.1:15000", "--stats", "127.0.0.1:15020"];
    let arguments: Vec<&str> =
        ["--echo", yaml.to_str().context("a path that is UTF-8")?].into_iter().chain(usual).collect();
    let proxy = Proxy::start(program, &arguments, &folder.join("outrigger.log"))?;
    let found = proxy.report["diagnostics"].as_array().map_or(0, Vec::len);
    ensure!(found == 0, "{example} is not free of findings: {}", proxy.report["diagnostics"]);
    for step in &steps {
        type_in(program, folder, step).with_context(|| format!("{path}:{}", step.line))?;
    }
    proxy.stop().context(path.to_owned())
}

/// Types one command until it answers as documented. A command that changes something is documented with its output, and
/// is typed once when it succeeds at once.
fn type_in(program: &Path, folder: &Path, step: &Step) -> Result<()> {
    let path = program.parent().map_or_else(OsString::new, |bin| {
        let rest = env::var_os("PATH").unwrap_or_default();
        env::join_paths(std::iter::once(bin.to_owned()).chain(env::split_paths(&rest))).unwrap_or(rest)
    });
    let start = Instant::now();
    loop {
        let mut command = Command::new("bash");
        command.args(["-c", &step.command]).current_dir(folder).env("PATH", &path).stdin(Stdio::null());
        for name in ["http_proxy", "all_proxy", "no_proxy", "ALL_PROXY", "NO_PROXY"] {
            command.env_remove(name);
        }
        let done = command.output()?;
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        if matches(&step.expected, &said) {
            return Ok(());
        }
        if step.expected.is_empty() || start.elapsed() > SETTLE_MAX {
            let wanted = step.expected.join("\n");
            let complaint = String::from_utf8_lossy(&done.stderr);
            bail!("`{}`\nprinted\n{said}{complaint}\nbut the document says\n{wanted}", step.command);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Reads the steps of all console blocks.
fn parse(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut inside, mut continues) = (false, false);
    for (at, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            inside = line == "```console";
            continue;
        }
        if !inside {
            continue;
        }
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { line: at + 1, command: command.to_owned(), expected: Vec::new() });
            continues = command.ends_with('\\');
        } else if let Some(step) = steps.last_mut() {
            if continues {
                step.command.push('\n');
                step.command.push_str(line);
                continues = line.ends_with('\\');
            } else {
                step.expected.push(line.to_owned());
            }
        }
    }
    steps
}

/// Whether the output is what the document says.
fn matches(expected: &[String], said: &str) -> bool {
    let said: Vec<&str> = said.lines().collect();
    expected.len() == said.len() && expected.iter().zip(said).all(|(pattern, line)| line_matches(pattern, line))
}

/// `…` stands for anything; blanks count once, and not at the ends.
fn line_matches(pattern: &str, line: &str) -> bool {
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (pattern, line) = (squeeze(pattern), squeeze(line));
    let parts: Vec<&str> = pattern.split('…').collect();
    let [first, .., last] = parts[..] else { return pattern == line };
    let Some(rest) = line.strip_prefix(first).and_then(|rest| rest.strip_suffix(last)) else { return false };
    let mut rest = rest;
    for part in &parts[1..parts.len() - 1] {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_with_their_answers() {
        let text = "text\n```console\n$ a | \\\n  b\none\ntwo\n$ c\n```\n```sh\n$ not this\n```\n";
        let step = |line, command: &str, expected: &[&str]| Step {
            line,
            command: command.to_owned(),
            expected: expected.iter().map(|s| (*s).to_owned()).collect(),
        };
        assert_eq!(parse(text), [step(3, "a | \\\n  b", &["one", "two"]), step(7, "c", &[])]);
    }

    #[test]
    fn answers_match_with_wildcards_but_not_loosely() {
        let check = |pattern: &str, said: &str| matches(&pattern.lines().map(str::to_owned).collect::<Vec<_>>(), said);
        assert!(check("     90 v1\n     10 v2", " 90 v1\n 10 v2\n"));
        assert!(check("{\"a\":…,\"b\":…}", "{\"a\":1,\"b\":2}\n"));
        assert!(!check("{\"a\":…,\"b\":…}", "{\"a\":1}\n"));
        assert!(!check("a…a", "a"), "one letter cannot be both ends");
        assert!(!check("90 v1", "90 v1\n10 v2\n") && !check("90 v1", ""));
    }
}
