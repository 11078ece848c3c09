//! What the kernel knows about a process and its descendants: CPU time and resident memory, from `/proc`.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::shell;

/// CPU time and memory of a process tree at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// User and system time of all threads, in microseconds. Ended children count when they were waited for.
    pub(crate) cpu_us: f64,
    /// Resident memory in bytes, summed over processes (pages they share count once each).
    pub(crate) resident_bytes: u64,
}

/// One line of `/proc/PID/stat`, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stat {
    pid: u32,
    parent: u32,
    /// `utime + stime + cutime + cstime`, in clock ticks.
    ticks: u64,
}

/// Measures a process and all its descendants.
pub(crate) fn tree(pid: u32) -> Result<Usage> {
    let all: Vec<Stat> = fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(|pid| parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?))
        .collect();
    let ticks_per_second: f64 = shell::output(Command::new("getconf").arg("CLK_TCK"))?.trim().parse()?;
    let mut usage = Usage::default();
    for stat in descendants(pid, &all) {
        usage.cpu_us += stat.ticks as f64 * 1e6 / ticks_per_second;
        usage.resident_bytes += resident_bytes(stat.pid).unwrap_or(0);
    }
    Ok(usage)
}

/// Lets this process, and those it starts from now on, hold so many files open.
///
/// The hard limit is raised too where it is lower, which only root may do.
pub(crate) fn raise_file_limit(files: u64) -> Result<()> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).context("no limit of open files")?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |at: usize| words.get(at).map_or(0, |word| word.parse().unwrap_or(u64::MAX));
    let (soft, hard) = (number(0), number(1));
    if soft >= files {
        return Ok(());
    }
    let prlimit = shell::need("prlimit", "util-linux")?;
    let limit = format!("--nofile={files}:{}", hard.max(files));
    let pid = std::process::id().to_string();
    let raised = shell::output(Command::new(prlimit).args(["--pid", &pid, &limit]));
    ensure!(raised.is_ok(), "{files} open files are needed, {hard} are allowed; raise the limit with `ulimit -Hn`");
    Ok(())
}

/// The process and everything below it.
fn descendants(pid: u32, all: &[Stat]) -> Vec<Stat> {
    let mut found: Vec<Stat> = all.iter().filter(|s| s.pid == pid).copied().collect();
    let mut next = 0;
    while next < found.len() {
        let parent = found[next].pid;
        found.extend(all.iter().filter(|s| s.parent == parent));
        next += 1;
    }
    found
}

/// Reads a `stat` line. The command name may hold anything, so fields count from its closing parenthesis.
fn parse_stat(line: &str) -> Option<Stat> {
    let pid = line.split_once(' ')?.0.parse().ok()?;
    let fields: Vec<&str> = line.rsplit_once(") ")?.1.split(' ').collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let ticks = (11..=14).map(number).sum::<Option<u64>>()?;
    Some(Stat { pid, parent: fields.get(1)?.parse().ok()?, ticks })
}

fn resident_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_past_any_command_name() {
        let line = "42 (a) b (c) S 7 42 42 0 -1 4194560 100 0 0 0 11 22 3 4 20 0 1 0 55 1000 2 18446744073709551615";
        assert_eq!(parse_stat(line), Some(Stat { pid: 42, parent: 7, ticks: 40 }));
        assert_eq!(parse_stat("42 (a) S 7"), None);
    }

    #[test]
    fn descendants_are_found_at_any_depth() {
        let stat = |pid, parent| Stat { pid, parent, ticks: 1 };
        let all = [stat(5, 2), stat(2, 1), stat(3, 1), stat(9, 8), stat(6, 5)];
        let pids: Vec<u32> = descendants(2, &all).iter().map(|s| s.pid).collect();
        assert_eq!(pids, [2, 5, 6]);
    }

    #[test]
    fn our_own_use_is_positive() {
        let usage = tree(std::process::id()).expect("/proc is readable");
        assert!(usage.resident_bytes > 100_000, "{usage:?}");
    }
}
