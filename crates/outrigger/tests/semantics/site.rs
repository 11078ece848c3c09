//! The world of a case: its manifests written out and the program running on them.
//!
//! Short forms, each a line of its own, `NAME` optionally with `NAMESPACE/` in front:
//! - `@service NAME PORT VERSION…`: a Service with one HTTP port, a ready Pod `NAME-0`, `NAME-1`, … for every version,
//!   and their EndpointSlice;
//! - `@routes NAME HOST[,HOST…]`: a VirtualService up to the line `http:`;
//! - `@rule NAME HOST`: a DestinationRule up to its `host`;
//! - `@mesh TEXT`: the mesh's ConfigMap, with one line of settings.
//!
//! Addresses of the form `127.0.0.N` become addresses of this case alone; those of short forms count from 1, so that
//! manifests written out should begin at 100.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};

use outrigger_testkit::{Process, World};

use crate::Case;

const OUTRIGGER: &str = env!("CARGO_BIN_EXE_outrigger");
const USUAL: [&str; 11] =
    ["-o", "json", "--admin", ":0", "--outbound", ":0", "--stats", ":0", "--echo", "--concurrency", "2"];

/// A case that runs.
pub(crate) struct Site {
    /// The program.
    pub(crate) process: Process,
    _world: World,
}

impl Site {
    /// Starts the program on the case's manifests.
    pub(crate) fn start(case: &Case) -> Self {
        static CASES: AtomicU32 = AtomicU32::new(0);
        let number = CASES.fetch_add(1, Ordering::Relaxed);
        // Other runs of this suite may be under way on the machine.
        let prefix = format!("127.{}.{}.", 64 + std::process::id() % 128, number % 256);
        let world = World::new();
        let text = expand(case.yaml).replace("127.0.0.", &prefix);
        let is_json = text.trim_start().starts_with('{');
        world.write(if is_json { "case.json" } else { "case.yaml" }, &text);
        let path = world.path().display().to_string();
        let process = Process::start(OUTRIGGER, ["run", &path].iter().chain(&USUAL).chain(case.flags));
        Self { process, _world: world }
    }
}

/// Writes the short forms out.
fn expand(yaml: &str) -> String {
    let mut out = String::new();
    let mut next_address = 1;
    for line in yaml.lines() {
        let mut words = line.split_ascii_whitespace();
        let directive = words.next().filter(|word| word.starts_with('@'));
        let Some(directive) = directive else {
            out.push_str(line);
            out.push('\n');
            continue;
        };
        out.push_str("---\n");
        let rest: Vec<&str> = words.collect();
        match (directive, rest.as_slice()) {
            ("@service", [name, port, versions @ ..]) => service(name, port, versions, &mut next_address, &mut out),
            ("@routes", [name, hosts]) => {
                head("networking.istio.io/v1", "VirtualService", name, &mut out);
                let _ = write!(out, "spec:\n  hosts: [{}]\n  http:\n", quoted(hosts));
            }
            ("@rule", [name, host]) => {
                head("networking.istio.io/v1", "DestinationRule", name, &mut out);
                let _ = write!(out, "spec:\n  host: {}\n", quoted(host));
            }
            ("@mesh", [_, ..]) => {
                head("v1", "ConfigMap", "istio-system/istio", &mut out);
                let _ = writeln!(out, "data:\n  mesh: |\n    {}", rest.join(" "));
            }
            _ => panic!("no such short form: {line}"),
        }
    }
    out
}

fn head(api: &str, kind: &str, name: &str, out: &mut String) {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    let _ = write!(out, "apiVersion: {api}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\n");
}

fn quoted(hosts: &str) -> String {
    hosts.split(',').map(|host| format!("\"{host}\"")).collect::<Vec<_>>().join(", ")
}

fn service(full: &str, port: &str, versions: &[&str], next_address: &mut u8, out: &mut String) {
    let (namespace, name) = full.split_once('/').unwrap_or(("default", full));
    head("v1", "Service", full, out);
    let _ = write!(
        out,
        "spec:\n  selector: {{app: {name}}}\n  ports: [{{name: http, port: {port}, targetPort: 8080}}]\n---\n"
    );
    let mut endpoints = Vec::new();
    for (index, version) in versions.iter().enumerate() {
        let (pod, ip) = (format!("{name}-{index}"), format!("127.0.0.{next_address}"));
        *next_address += 1;
        let _ = write!(
            out,
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {pod}, namespace: {namespace}, labels: {{app: {name}, \
             version: {version}}}}}\nspec: {{containers: [{{name: app, image: echo, ports: [{{containerPort: \
             8080}}]}}]}}\nstatus: {{podIP: {ip}, phase: Running, conditions: [{{type: Ready, status: \
             \"True\"}}]}}\n---\n"
        );
        endpoints.push(format!(
            "{{addresses: [{ip}], conditions: {{ready: true}}, targetRef: {{kind: Pod, name: {pod}, namespace: \
             {namespace}}}}}"
        ));
    }
    let _ = write!(
        out,
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}-x, namespace: {namespace}, \
         labels: {{kubernetes.io/service-name: {name}}}}}\naddressType: IPv4\nports: [{{name: http, port: 8080, \
         protocol: TCP}}]\nendpoints: [{}]\n",
        endpoints.join(", ")
    );
}
