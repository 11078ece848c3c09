//! The program under test as a child process.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::backend::lock;
use crate::eventually;

/// A running child that has said that it is ready. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    ready: Value,
    stderr: Arc<Mutex<String>>,
}

/// How long the child may take until it is ready; debug builds on a busy machine are slow to start.
const START: Duration = Duration::from_secs(30);

impl Process {
    /// Starts `binary` and waits for the JSON line on standard output that says `"ready": true`.
    pub fn start(binary: impl AsRef<Path>, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let mut command = Command::new(binary.as_ref());
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // The caller's settings must not leak into the program under test.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OUTRIGGER_")) {
            command.env_remove(name);
        }
        let mut child = command.spawn().expect("the program under test starts");
        let stderr = Arc::new(Mutex::new(String::new()));
        let (lines, line) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        // Keeps reading after the first line, so that the child never blocks on a full pipe.
        thread::spawn(move || stdout.lines().map_while(Result::ok).for_each(|line| drop(lines.send(line))));
        let (errors, kept) = (child.stderr.take().expect("piped"), stderr.clone());
        thread::spawn(move || keep(errors, &kept));
        let mut process = Self { child, ready: Value::Null, stderr };
        let first = line.recv_timeout(START).unwrap_or_else(|_| panic!("not ready; it said:\n{}", process.stderr()));
        process.ready = serde_json::from_str(&first).unwrap_or_else(|_| panic!("not JSON: {first}"));
        assert_eq!(process.ready["ready"], true, "{first}");
        process
    }

    /// The line it said when it was ready.
    pub fn ready(&self) -> &Value {
        &self.ready
    }

    /// An address among the ready line's members, e.g. `outbound`.
    pub fn address(&self, member: &str) -> SocketAddr {
        let text = self.ready[member].as_str().unwrap_or_else(|| panic!("no {member} in {}", self.ready));
        text.parse().unwrap_or_else(|_| panic!("{member} is no address: {text}"))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        lock(&self.stderr).clone()
    }

    /// Resident memory in KiB, where the system tells.
    pub fn resident_kib(&self) -> Option<u64> {
        self.memory_kib("VmRSS:")
    }

    /// The most resident memory since [`Self::forget_peak`], in KiB, where the system tells.
    pub fn peak_kib(&self) -> Option<u64> {
        self.memory_kib("VmHWM:")
    }

    /// Lets the peak of resident memory begin anew, where the system can do that.
    pub fn forget_peak(&self) {
        let _ = std::fs::write(format!("/proc/{}/clear_refs", self.id()), "5");
    }

    fn memory_kib(&self, line: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        let line = status.lines().find_map(|found| found.strip_prefix(line))?;
        line.trim().strip_suffix(" kB")?.trim().parse().ok()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.ended().is_none()
    }

    /// Sends a signal by its name without `SIG`, e.g. `TERM`.
    pub fn signal(&self, name: &str) {
        // The shell's own `kill` is there wherever a shell is.
        let status = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.id())).status();
        assert!(status.is_ok_and(|status| status.success()), "could not send {name}");
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        eventually("the end of the program", || self.ended())
    }

    /// How it ended, once it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Panics if it is gone or has panicked: the common check of every attack.
    pub fn assert_well(&mut self) {
        assert!(self.is_running(), "the program ended; it said:\n{}", self.stderr());
        let stderr = self.stderr();
        assert!(!stderr.contains("panicked at"), "a panic:\n{stderr}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let said = self.stderr();
            let lines: Vec<_> = said.lines().rev().take(20).collect();
            eprintln!("the program under test said at last:");
            lines.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// Most of what a child may say before the oldest is forgotten.
const STDERR_BYTES_MAX: usize = 1024 * 1024;

fn keep(mut errors: impl Read, kept: &Mutex<String>) {
    let mut block = [0; 4096];
    while let Ok(count) = errors.read(&mut block)
        && count > 0
    {
        let mut text = lock(kept);
        text.push_str(&String::from_utf8_lossy(&block[..count]));
        if text.len() > STDERR_BYTES_MAX {
            let half = text.len() / 2;
            let cut = (half..).find(|at| text.is_char_boundary(*at)).unwrap_or(half);
            text.drain(..cut);
        }
    }
}
