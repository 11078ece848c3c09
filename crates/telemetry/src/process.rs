//! Facts about the process from Linux' `/proc`, under the names of every Prometheus client library.
//!
//! Reads a handful of small files, on the control thread, when asked. A file that cannot be read leaves its metrics
//! out.

use std::fs;

use crate::catalogue::*;
use crate::snapshot::{Collect, Families};

/// `USER_HZ`: the unit of times in `/proc`, 100 on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Computes the `process_*` metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessCollector;

/// Memory of the process, in bytes (`/proc/self/status`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// `VmRSS`: in RAM.
    pub resident_bytes: u64,
    /// `RssAnon`: in RAM and no file's content, so the program's own data.
    pub anonymous_bytes: u64,
    /// `VmData`: set aside for the program's own data.
    pub data_bytes: u64,
    /// `VmSize`: address space.
    pub virtual_bytes: u64,
}

impl Memory {
    /// Of this process, now; zeros where `/proc` cannot be read.
    pub fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self::parse(&status)
    }

    fn parse(status: &str) -> Self {
        let bytes = |key| status_number(status, key).unwrap_or_default() * 1024;
        Self {
            resident_bytes: bytes("VmRSS"),
            anonymous_bytes: bytes("RssAnon"),
            data_bytes: bytes("VmData"),
            virtual_bytes: bytes("VmSize"),
        }
    }
}

impl Collect for ProcessCollector {
    fn collect(&self, out: &mut Families) {
        if let Ok(stat) = fs::read_to_string("/proc/self/stat") {
            if let Some(cpu) = cpu_seconds(&stat) {
                out.counter_seconds(&PROCESS_CPU_SECONDS_TOTAL, &[], cpu);
            }
            let boot = fs::read_to_string("/proc/stat").ok().and_then(|text| boot_time_seconds(&text));
            if let (Some(boot), Some(after_boot)) = (boot, start_seconds_after_boot(&stat)) {
                out.gauge(&PROCESS_START_TIME_SECONDS, &[], boot + after_boot);
            }
        }
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            let memory = Memory::parse(&status);
            out.gauge(&PROCESS_RESIDENT_MEMORY_BYTES, &[], memory.resident_bytes as f64);
            out.gauge(&PROCESS_VIRTUAL_MEMORY_BYTES, &[], memory.virtual_bytes as f64);
            if let Some(threads) = status_number(&status, "Threads") {
                out.gauge(&PROCESS_THREADS, &[], threads as f64);
            }
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            // One of them is the directory itself.
            out.gauge(&PROCESS_OPEN_FDS, &[], entries.count().saturating_sub(1) as f64);
        }
        if let Ok(limits) = fs::read_to_string("/proc/self/limits") {
            if let Some(files) = soft_limit(&limits, "Max open files") {
                out.gauge(&PROCESS_MAX_FDS, &[], files);
            }
            if let Some(bytes) = soft_limit(&limits, "Max address space") {
                out.gauge(&PROCESS_VIRTUAL_MEMORY_MAX_BYTES, &[], bytes);
            }
        }
    }
}

/// Fields of `/proc/self/stat` after the command, which is in parentheses and may hold anything; the first is field 3.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split_ascii_whitespace().nth(number - 3)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    let (user, system) = (stat_field(stat, 14)?, stat_field(stat, 15)?);
    Some((user + system) / TICKS_PER_SECOND)
}

fn start_seconds_after_boot(stat: &str) -> Option<f64> {
    Some(stat_field(stat, 22)? / TICKS_PER_SECOND)
}

fn boot_time_seconds(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn status_number(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// `None` when unlimited.
fn soft_limit(limits: &str, name: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read() {
        let stat = "42 (a) b) (c) S 1 42 42 0 -1 4194560 1 2 3 4 250 50 7 8 20 0 5 0 123400 999 777";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(start_seconds_after_boot(stat), Some(1234.0));
        assert_eq!(cpu_seconds("42 (x) S 1"), None);
        assert_eq!(boot_time_seconds("cpu 1 2\nbtime 1700000000\nprocesses 3\n"), Some(1.7e9));
        let status =
            "Name:\tx\nVmSize:\t  2048 kB\nVmRSS:\t     1024 kB\nRssAnon:\t 512 kB\nVmData:\t 600 kB\nThreads:\t4\n";
        let memory = Memory::parse(status);
        assert_eq!((memory.resident_bytes, memory.anonymous_bytes), (1 << 20, 1 << 19));
        assert_eq!((memory.virtual_bytes, memory.data_bytes), (2 << 20, 600 << 10));
        assert_eq!(status_number(status, "Threads"), Some(4));
        let limits = "Limit    Soft Limit  Hard Limit  Units\nMax address space  unlimited  unlimited  bytes\n\
                      Max open files   20000   524288   files\n";
        assert_eq!(soft_limit(limits, "Max open files"), Some(20_000.0));
        assert_eq!(soft_limit(limits, "Max address space"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_facts() {
        let mut out = Families::new(10);
        ProcessCollector.collect(&mut out);
        let families = out.finish(Vec::new());
        let value = |name: &str| families.iter().find(|f| f.desc.name == name).map(|f| f.samples[0].value.number());
        assert!(value("process_resident_memory_bytes").unwrap() > 100_000.0);
        assert!(value("process_open_fds").unwrap() >= 3.0);
        assert!(value("process_threads").unwrap() >= 1.0);
        assert!(value("process_start_time_seconds").unwrap() > 1.6e9);
        assert!(value("process_cpu_seconds_total").is_some());
    }
}
