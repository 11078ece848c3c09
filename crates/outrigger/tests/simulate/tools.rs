//! What the tests share: manifests, the program running on them, and questions to it.

use std::net::SocketAddr;
use std::process::Command;

use outrigger_testkit::{Client, Process, Response, World, metrics};
use serde_json::Value;

pub(crate) const OUTRIGGER: &str = env!("CARGO_BIN_EXE_outrigger");
const USUAL: [&str; 10] =
    ["--simulate", "-o", "json", "--admin", ":0", "--outbound", ":0", "--stats", ":0", "--concurrency=2"];

/// A folder and the program that runs on it.
pub(crate) struct Mesh {
    pub(crate) world: World,
    pub(crate) process: Process,
}

impl Mesh {
    /// Starts the program with `--simulate` on a manifest.
    pub(crate) fn start(yaml: &str, flags: &[&str]) -> Self {
        let world = World::new();
        world.write("mesh.yaml", yaml);
        let path = world.path().display().to_string();
        let process = Process::start(OUTRIGGER, ["run", &path].iter().chain(&USUAL).chain(flags));
        Self { world, process }
    }

    /// What the admin interface tells now.
    pub(crate) fn status(&self) -> Value {
        self.ask("/api/v1/status")
    }

    /// A document of the admin interface.
    pub(crate) fn ask(&self, path: &str) -> Value {
        let answer = get(self.process.address("admin"), "localhost", path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        serde_json::from_slice(&answer.body).expect("JSON")
    }

    /// Runs `outrigger request` against this mesh; tells its exit status and what it printed.
    pub(crate) fn request(&self, args: &[&str]) -> (Option<i32>, String) {
        let admin = self.process.address("admin").to_string();
        let mut command = Command::new(OUTRIGGER);
        let output = command.arg("request").args(args).args(["--admin", &admin]).output().expect("it starts");
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        (output.status.code(), said.concat())
    }

    /// A pod of the start-up report.
    pub(crate) fn pod(&self, name: &str) -> &Value {
        let pods = self.process.ready()["workloads"].as_array().expect("a list");
        pods.iter().find(|pod| pod["pod"] == name).unwrap_or_else(|| panic!("no pod {name} in {pods:?}"))
    }
}

/// The names of the pods that a report or status tells.
pub(crate) fn pods(told: &Value) -> Vec<&str> {
    told["workloads"].as_array().expect("a list").iter().filter_map(|pod| pod["pod"].as_str()).collect()
}

/// An address in a report.
pub(crate) fn address(value: &Value) -> SocketAddr {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no address: {value}"))
}

/// Sends one request on a connection of its own.
pub(crate) fn get(to: SocketAddr, host: &str, target: &str) -> Response {
    let request = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let mut client = Client::connect(to).unwrap_or_else(|error| panic!("{to}: {error}"));
    client.exchange(request.as_bytes()).unwrap_or_else(|error| panic!("{to}{target}: {error:?}"))
}

/// The echo of a request that was answered with 200.
pub(crate) fn echo(to: SocketAddr, host: &str, target: &str) -> Value {
    let answer = get(to, host, target);
    assert_eq!(answer.status, 200, "{host}{target}: {}", answer.text());
    serde_json::from_slice(&answer.body).expect("JSON")
}

/// What an address exposes.
pub(crate) fn scrape(to: SocketAddr) -> Vec<metrics::Sample> {
    metrics::parse(&get(to, "metrics", "/stats/prometheus").text())
}

/// A Service `NAME` on a port, and a Deployment `NAME-VERSION` of so many replicas behind it.
pub(crate) fn app(name: &str, version: &str, port: u16, replicas: u32) -> String {
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop}}
spec:
  selector: {{app: {name}}}
  ports: [{{name: http, port: {port}, targetPort: http}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}-{version}, namespace: shop}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}, version: {version}}}}}
  template:
    metadata: {{labels: {{app: {name}, version: {version}}}}}
    spec:
      serviceAccountName: {name}-account
      containers: [{{name: main, image: any, ports: [{{name: http, containerPort: 7480}}]}}]
"
    )
}
