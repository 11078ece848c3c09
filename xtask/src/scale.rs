//! `cargo xtask scale`: ten thousand Services with fifty thousand endpoints. How long until they serve, how much memory,
//! and how soon a change of one endpoint among them takes effect.
//!
//! One file a Service, so that a change is what it is in life: one small file among many. The edited Service has two
//! real backends here, one byte of answer each; the edit moves its one endpoint from one to the other, and the time runs
//! from the write to the first answer of the new one, over a kept connection.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::bench::median;
use crate::peers::Proxy;
use crate::{process, shell};

/// `cargo xtask scale`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Services
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    services: u32,
    /// Endpoints of each
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    endpoints: u32,
    /// Edits to measure
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    edits: u32,
    /// Measure this binary instead of building one
    #[arg(long, value_name = "BIN")]
    outrigger: Option<PathBuf>,
    /// Cargo profile to build with
    #[arg(long, default_value = "release")]
    profile: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Fail when serving takes longer to begin
    #[arg(long, value_name = "SECONDS")]
    ready_max: Option<f64>,
    /// Fail when more memory is resident
    #[arg(long, value_name = "MIB")]
    resident_max: Option<f64>,
    /// Fail when the median edit takes longer
    #[arg(long, value_name = "MILLISECONDS")]
    edit_max: Option<f64>,
}

/// What was found.
struct Figures {
    ready_seconds: f64,
    resident_mib: f64,
    resident_after_edits_mib: f64,
    edit_ms: Vec<f64>,
}

/// Generates, starts, edits, and prints the figures.
pub(crate) fn run(options: &Options) -> Result<()> {
    let program = match &options.outrigger {
        Some(given) => given.canonicalize().with_context(|| format!("--outrigger {}", given.display()))?,
        None => shell::build(&options.profile)?,
    };
    let folder = shell::target_dir().join("scale");
    shell::fresh_folder(&folder)?;
    let yaml = folder.join("yaml");
    generate(&yaml, options.services, options.endpoints)?;
    let figures = measure(&program, &folder, &yaml, options.edits)?;
    if options.json {
        println!("{}", figures.json(options));
    } else {
        print!("{}", figures.text(options));
    }
    figures.check(options)
}

fn measure(program: &Path, folder: &Path, yaml: &Path, edits: u32) -> Result<Figures> {
    let backends = [backend(b'a')?, backend(b'b')?];
    let edited = yaml.join("edited.yaml");
    fs::write(&edited, edited_service(backends[0]))?;
    let start = Instant::now();
    let arguments = [yaml.to_str().context("a path that is UTF-8")?, "--concurrency", "1"];
    let proxy = Proxy::start(program, &arguments, &folder.join("outrigger.log"))?;
    let ready_seconds = start.elapsed().as_secs_f64();
    let resident =
        || Ok::<f64, anyhow::Error>(process::tree(proxy.process.pid())?.resident_bytes as f64 / 1024.0 / 1024.0);
    let resident_mib = resident()?;
    let mut client = Client::connect(proxy.outbound)?;
    ensure!(client.ask()? == b'a', "the Service does not answer before the first edit");
    let mut edit_ms = Vec::new();
    for edit in 1..=edits as usize {
        let (target, expected) = (backends[edit % 2], [b'a', b'b'][edit % 2]);
        edit_ms.push(effect(&mut client, &edited, target, expected)?.as_secs_f64() * 1000.0);
    }
    let resident_after_edits_mib = resident()?;
    proxy.stop()?;
    Ok(Figures { ready_seconds, resident_mib, resident_after_edits_mib, edit_ms })
}

/// Moves the endpoint and asks until the answer comes from there.
fn effect(client: &mut Client, file: &Path, target: SocketAddr, expected: u8) -> Result<Duration> {
    let next = file.with_extension("next");
    fs::write(&next, edited_service(target))?;
    let start = Instant::now();
    fs::rename(&next, file)?;
    while client.ask()? != expected {
        ensure!(start.elapsed() < Duration::from_secs(30), "an edit had no effect within 30 s");
        thread::sleep(Duration::from_micros(500));
    }
    Ok(start.elapsed())
}

/// Writes one file a Service.
fn generate(folder: &Path, services: u32, endpoints: u32) -> Result<()> {
    fs::create_dir_all(folder)?;
    let mut next = 0_u32;
    for service in 0..services {
        let (namespace, name) = (format!("team-{}", service % 100), format!("service-{service}"));
        let mut text = format!(
            "apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}}}}}
spec:
  selector: {{app: {name}}}
  ports: [{{name: http, port: 80, targetPort: 8080}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, namespace: {namespace}, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: http, port: 8080, protocol: TCP}}]
endpoints:
"
        );
        for _ in 0..endpoints {
            let [_, a, b, c] = next.to_be_bytes();
            next += 1;
            let _ = writeln!(
                text,
                "- {{addresses: [10.{a}.{b}.{c}], conditions: {{ready: true}}, nodeName: node-{}, zone: zone-{}, \
                 targetRef: {{kind: Pod, namespace: {namespace}, name: {name}-{c}}}}}",
                next % 500,
                next % 3
            );
        }
        fs::write(folder.join(format!("{name}.yaml")), text)?;
    }
    Ok(())
}

/// The Service that [`Client`] asks, with one endpoint on loopback.
pub(crate) fn edited_service(target: SocketAddr) -> String {
    let port = target.port();
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: edited, namespace: team-0}}
spec:
  ports: [{{name: http, port: 80}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: edited-1, namespace: team-0, labels: {{kubernetes.io/service-name: edited}}}}
addressType: IPv4
ports: [{{name: http, port: {port}}}]
endpoints: [{{addresses: [127.0.0.1]}}]
"
    )
}

/// Answers every request with one letter, until the process ends.
pub(crate) fn backend(letter: u8) -> Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream, letter));
        }
    });
    Ok(address)
}

/// One connection: a GET has no body, so a request ends with its head.
fn serve(mut stream: TcpStream, letter: u8) {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        seen.extend_from_slice(&buffer[..read]);
        if seen.ends_with(b"\r\n\r\n") {
            seen.clear();
            if stream.write_all(&[b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n", &[letter][..]].concat()).is_err() {
                return;
            }
        }
    }
}

/// A kept connection to the proxy.
pub(crate) struct Client(TcpStream);

impl Client {
    /// Connects to the outbound listener.
    pub(crate) fn connect(proxy: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(proxy)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self(stream))
    }

    /// One request; the one byte of its answer.
    pub(crate) fn ask(&mut self) -> Result<u8> {
        self.0.write_all(b"GET / HTTP/1.1\r\nHost: edited.team-0\r\n\r\n")?;
        let mut seen = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let read = self.0.read(&mut buffer)?;
            ensure!(read > 0, "the proxy closed the connection");
            seen.extend_from_slice(&buffer[..read]);
            let Some(at) = seen.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            if !seen.starts_with(b"HTTP/1.1 200") {
                bail!("{}", String::from_utf8_lossy(&seen));
            }
            if let Some(letter) = seen.get(at + 4) {
                return Ok(*letter);
            }
        }
    }
}

impl Figures {
    fn edit_ms_max(&self) -> f64 {
        self.edit_ms.iter().copied().fold(0.0, f64::max)
    }

    fn text(&self, options: &Options) -> String {
        format!(
            "{} Services, {} endpoints\nready after        {:8.2} s\nresident           {:8.1} MiB\n\
             after {:3} edits    {:8.1} MiB\nedit to effect     {:8.1} ms median, {:.1} ms at most\n",
            options.services,
            options.services * options.endpoints,
            self.ready_seconds,
            self.resident_mib,
            self.edit_ms.len(),
            self.resident_after_edits_mib,
            median(&self.edit_ms),
            self.edit_ms_max()
        )
    }

    fn json(&self, options: &Options) -> Value {
        json!({
            "services": options.services,
            "endpoints": options.services * options.endpoints,
            "ready_seconds": self.ready_seconds,
            "resident_mib": self.resident_mib,
            "resident_after_edits_mib": self.resident_after_edits_mib,
            "edit_ms": {"median": median(&self.edit_ms), "max": self.edit_ms_max(), "all": self.edit_ms},
        })
    }

    fn check(&self, options: &Options) -> Result<()> {
        let bounds = [
            ("seconds until ready", self.ready_seconds, options.ready_max),
            ("MiB resident", self.resident_mib, options.resident_max),
            ("ms from edit to effect", median(&self.edit_ms), options.edit_max),
        ];
        for (what, found, max) in bounds {
            ensure!(max.is_none_or(|max| found <= max), "{found:.2} {what}, allowed are {}", max.unwrap_or_default());
        }
        Ok(())
    }
}
