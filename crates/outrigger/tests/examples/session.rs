//! A reader at a terminal: types commands into bash, with `outrigger run` left running beside them.
//!
//! The program runs on free ports and on whatever block of loopback addresses it finds, and several readers are at work at
//! once; documents have the usual ones. So every address that stands in a document is exchanged for the one that is meant.

use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use outrigger_testkit::{Client, World, metrics, within};
use serde_json::Value;

use crate::console::Step;

/// How long the program may take to say what the document says it says, in a debug build on a busy machine.
const START: Duration = Duration::from_secs(30);

/// How long an answer may take to become the documented one: some commands look at the effect of the one before.
const SETTLE: Duration = Duration::from_secs(10);

/// A reader's folder and what runs in it.
pub(crate) struct Session {
    /// What the reader reads, for messages.
    document: String,
    world: World,
    running: Option<Running>,
}

/// `outrigger run`.
struct Running {
    child: Child,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
    addresses: Addresses,
}

/// What listens where, and what documents say instead.
#[derive(Clone, Debug)]
struct Addresses {
    outbound: SocketAddr,
    metrics: SocketAddr,
    admin: SocketAddr,
    /// Second part of the simulated addresses.
    network: u8,
}

impl Session {
    /// In an empty folder with a copy of the examples.
    pub(crate) fn new(document: &Path, examples: &Path) -> Self {
        let world = World::new();
        copy(examples, &world.path().join("examples"));
        Self { document: document.display().to_string(), world, running: None }
    }

    /// Types one command and compares its answer.
    pub(crate) fn enter(&mut self, step: &Step) {
        if step.command.starts_with("outrigger run ") {
            self.end();
            self.running = Some(self.run(step));
            return;
        }
        let (files, reloads) = (self.fingerprint(), self.reloads());
        let mut said = String::new();
        // What is documented without an answer is typed once: it may change something.
        let patience = if step.expected.is_empty() { Duration::ZERO } else { SETTLE };
        let answered = within(patience, || {
            said = self.output(&step.command);
            self.actual(step).is_answered(&said).then_some(())
        });
        let (document, wanted) = (&self.document, self.actual(step).expected.join("\n"));
        assert!(answered.is_some(), "{document}:{step}\nprinted\n{said}\nbut the document says\n{wanted}");
        if self.fingerprint() != files {
            let read = within(SETTLE, || (self.reloads() != reloads).then_some(()));
            assert!(read.is_some(), "{document}:{step}\nchanged the folder, and it was not read again");
        }
    }

    /// Ends what runs, as Ctrl-C does.
    pub(crate) fn end(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        let sent = Command::new("sh").arg("-c").arg(format!("kill -INT {}", running.child.id())).status();
        assert!(sent.is_ok_and(|status| status.success()), "could not interrupt it");
        let status = within(START, || running.child.try_wait().expect("a child can be waited for"));
        let stderr = text(&running.stderr);
        assert_eq!(status.and_then(|status| status.code()), Some(0), "{stderr}");
        assert!(!stderr.contains("panicked at"), "{stderr}");
    }

    /// Starts the program and waits until it has said what the document says.
    fn run(&self, step: &Step) -> Running {
        let mut command = self.bash(&format!("exec {}", step.command));
        for flag in ["ADMIN", "OUTBOUND", "STATS"] {
            command.env(format!("OUTRIGGER_{flag}"), "127.0.0.1:0");
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("bash is there");
        let (stdout, stderr) = (keep(child.stdout.take().expect("piped")), keep(child.stderr.take().expect("piped")));
        // Ends with this, whatever goes wrong from here on.
        let mut running = Running { child, stdout, stderr, addresses: Addresses::nowhere() };
        let mut ended = false;
        let addresses = within(START, || {
            ended = running.child.try_wait().expect("a child can be waited for").is_some();
            if ended { Some(Addresses::nowhere()) } else { Addresses::read(&text(&running.stdout)) }
        });
        let document = &self.document;
        let Some(addresses) = addresses.filter(|_| !ended) else { panic!("{document}:{step}\ndid not become ready") };
        let actual = addresses.substitute_step(step);
        let is_said = || actual.expected.is_empty() || actual.is_answered(&text(&running.stdout));
        assert!(within(SETTLE, || is_said().then_some(())).is_some(), "{document}:{step}\ndoes not say {actual:#?}");
        let findings = get(addresses.admin, "/api/v1/diagnostics").unwrap_or_default();
        assert_eq!(findings.trim(), "[]", "{document}:{step}\nis not free of findings");
        running.addresses = addresses;
        running
    }

    /// What a command prints; what it complains about comes after it.
    fn output(&self, command: &str) -> String {
        let command = self.running.as_ref().map_or_else(|| command.to_owned(), |r| r.addresses.substitute(command));
        let done = self.bash(&command).output().expect("bash is there");
        let (said, complaint) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        format!("{said}{complaint}")
    }

    /// A shell in the folder, with the program under test on its path and nothing of the caller's settings.
    fn bash(&self, command: &str) -> Command {
        let mut bash = Command::new("bash");
        bash.args(["-c", command]).current_dir(self.world.path()).env("PATH", path()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().to_lowercase();
            if text.starts_with("outrigger_") || text.ends_with("_proxy") || text == "rust_log" {
                bash.env_remove(&name);
            }
        }
        if let Some(running) = &self.running {
            bash.env("OUTRIGGER_ADMIN", running.addresses.admin.to_string());
        }
        bash
    }

    /// The step with the addresses that are meant.
    fn actual(&self, step: &Step) -> Step {
        let same = || Step { line: step.line, command: step.command.clone(), expected: step.expected.clone() };
        self.running.as_ref().map_or_else(same, |running| running.addresses.substitute_step(step))
    }

    /// How often the configuration was read.
    fn reloads(&self) -> f64 {
        let Some(running) = &self.running else { return 0.0 };
        let scrape = get(running.addresses.metrics, "/stats/prometheus").expect("metrics are served");
        metrics::sum(&metrics::parse(&scrape), "outrigger_config_reloads_total", &[])
    }

    /// What stands in the examples.
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for file in files(&self.world.path().join("examples")) {
            (std::fs::read(&file).expect("the folder is ours"), file).hash(&mut hasher);
        }
        hasher.finish()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("outrigger run said:\n{}{}", text(&self.stdout), text(&self.stderr));
        }
    }
}

impl Addresses {
    /// From the start-up report, once it is there, and the admin interface.
    fn read(report: &str) -> Option<Self> {
        let address = |name: &str| -> Option<SocketAddr> {
            let line = report.lines().find(|line| line.split_whitespace().next() == Some(name))?;
            let rest = line.split_once("http://")?.1;
            rest.split([' ', '/']).next()?.parse().ok()
        };
        let (outbound, metrics, admin) = (address("outbound")?, address("metrics")?, address("admin")?);
        let status: Value = serde_json::from_str(&get(admin, "/api/v1/status")?).ok()?;
        let ready = get(metrics, "/healthz/ready")?;
        let of = |kind: &str| status[kind][0]["address"].as_str()?.split('.').nth(1)?.parse().ok();
        let network = of("workloads").or_else(|| of("gateways")).unwrap_or(0);
        (!ready.is_empty()).then_some(Self { outbound, metrics, admin, network })
    }

    /// Of a program that has ended.
    fn nowhere() -> Self {
        let none = SocketAddr::from(([0, 0, 0, 0], 0));
        Self { outbound: none, metrics: none, admin: none, network: 0 }
    }

    /// The usual addresses made into these.
    fn substitute(&self, text: &str) -> String {
        let usual = [(15001, self.outbound), (15020, self.metrics), (15000, self.admin)];
        let text = usual.iter().fold(text.to_owned(), |text, (port, actual)| {
            text.replace(&format!("127.0.0.1:{port}"), &actual.to_string())
        });
        // Simulated addresses are 127.0.N.M with N from 1.
        let mut parts = text.split("127.0.");
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let network = if part.starts_with(|c: char| ('1'..='9').contains(&c)) { self.network } else { 0 };
            out.push_str(&format!("127.{network}.{part}"));
        }
        out
    }

    fn substitute_step(&self, step: &Step) -> Step {
        Step {
            line: step.line,
            command: self.substitute(&step.command),
            expected: step.expected.iter().map(|line| self.substitute(line)).collect(),
        }
    }
}

/// The body of a document, if the server gives one.
fn get(address: SocketAddr, path: &str) -> Option<String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    let answer = Client::connect(address).ok()?.exchange(request.as_bytes()).ok()?;
    (answer.status == 200).then(|| answer.text())
}

fn path() -> OsString {
    let bin = Path::new(env!("CARGO_BIN_EXE_outrigger")).parent().expect("a folder").to_owned();
    let rest = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&rest))).expect("a path without colons")
}

/// Collects what comes out of a pipe, so that the child never blocks on a full one.
fn keep(pipe: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let kept = Arc::new(Mutex::new(String::new()));
    let mine = kept.clone();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let mut text = mine.lock().unwrap_or_else(PoisonError::into_inner);
            text.push_str(&line);
            text.push('\n');
        }
    });
    kept
}

fn text(kept: &Mutex<String>) -> String {
    kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// All files below a folder, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("readable").path()).collect();
    entries.sort();
    entries.into_iter().flat_map(|entry| if entry.is_dir() { files(&entry) } else { vec![entry] }).collect()
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).expect("below it"));
        std::fs::create_dir_all(target.parent().expect("a folder")).expect("the folder is ours");
        std::fs::copy(file, target).expect("the folder is ours");
    }
}
