//! Running other programs: finding and installing them, waiting for them, and ending them whatever happens.
//!
//! A [`Background`] ends with its whole process group when it is dropped, so that a failed chore leaves nothing behind.

use std::env;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

/// How often a condition is looked at while waiting for it.
const POLL: Duration = Duration::from_millis(10);

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the root of the workspace")
}

/// Cargo's target directory.
pub(crate) fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Finds a program on `PATH`, or in the `sbin` folders where Debian puts servers.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(sbin).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Finds a program, installing Debian's package of it if need be.
pub(crate) fn need(program: &str, package: &str) -> Result<PathBuf> {
    if let Some(file) = find(program) {
        return Ok(file);
    }
    install(package).with_context(|| format!("`{program}` is missing"))?;
    find(program).ok_or_else(|| anyhow!("package `{package}` brought no `{program}`"))
}

/// Installs a package of Debian.
pub(crate) fn install(package: &str) -> Result<()> {
    let apt = find("apt-get").ok_or_else(|| anyhow!("there is no apt-get here; install package `{package}`"))?;
    eprintln!("installing {package}");
    let install = || {
        let mut command = Command::new(&apt);
        command.args(["install", "--yes", "--no-install-recommends", package]);
        output(command.env("DEBIAN_FRONTEND", "noninteractive"))
    };
    if install().is_err() {
        output(Command::new(&apt).arg("update"))?;
        install().with_context(|| format!("package `{package}` cannot be installed"))?;
    }
    Ok(())
}

/// Runs a program to its end and returns what it printed; an error carries what it complained about.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = describe(command);
    let done = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run `{name}`"))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        bail!("`{name}` ended with {}: {}", done.status, said.trim());
    }
    String::from_utf8(done.stdout).with_context(|| format!("`{name}` printed something that is not UTF-8"))
}

/// Runs a program that talks to the user itself.
pub(crate) fn visible(command: &mut Command) -> Result<()> {
    let name = describe(command);
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot run `{name}`"))?;
    if status.success() { Ok(()) } else { bail!("`{name}` ended with {status}") }
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// A program that runs beside us, at the head of a process group of its own.
#[derive(Debug)]
pub(crate) struct Background {
    child: Child,
    /// What it is called in messages.
    name: String,
    /// Where its output goes.
    log: PathBuf,
}

impl Background {
    /// Starts a program with standard output and error in `log`.
    pub(crate) fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}: `{}`", describe(command)))?;
        Ok(Self { child, name: name.to_owned(), log: log.to_owned() })
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub(crate) fn said(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Waits until something holds; fails when the program ends first, or after `limit`.
    pub(crate) fn wait_for<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T> {
        let start = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return Ok(found);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status} before {what}:\n{}", self.name, self.said());
            }
            if start.elapsed() > limit {
                bail!("{}: no {what} within {limit:?}:\n{}", self.name, self.said());
            }
            thread::sleep(POLL);
        }
    }

    /// Waits until it accepts connections.
    pub(crate) fn wait_for_port(&mut self, address: SocketAddr) -> Result<()> {
        self.wait_for(&format!("listener on {address}"), Duration::from_secs(20), |_| TcpStream::connect(address).ok())
            .map(drop)
    }

    /// Sends a signal by name, e.g. `TERM`, to the program itself.
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        output(Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.pid()))).map(drop)
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        while start.elapsed() < limit {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(POLL);
        }
        bail!("{} did not end within {limit:?}", self.name)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // The group, because nginx has workers. `sh` has `kill` built in; we have no libc to call.
        let group = format!("kill -KILL -{} 2>/dev/null", self.child.id());
        let _ = Command::new("sh").arg("-c").arg(group).status();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port of 127.0.0.1 that nobody uses now.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// `127.0.0.1:port`.
pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Makes an empty folder of this path.
pub(crate) fn fresh_folder(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_dir_all(path).with_context(|| format!("cannot clear {}", path.display()))?;
    }
    fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))
}

/// Builds the product and returns the binary.
pub(crate) fn build(profile: &str) -> Result<PathBuf> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    visible(cargo.current_dir(root()).args(["build", "--locked", "--package", "outrigger", "--profile", profile]))?;
    let folder = if profile == "dev" { "debug" } else { profile };
    Ok(target_dir().join(folder).join("outrigger"))
}
