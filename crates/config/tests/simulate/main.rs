//! Simulation as data: YAML in; pods, endpoints, inbound listeners and findings out.

mod endpoints;
mod laws;
mod ports;
mod readiness;
mod replicas;
mod samples;
mod scaling;
mod sharing;
mod sidecars;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use outrigger_config::loader::load_text;
use outrigger_config::simulate::{SimulatedPod, Simulation, Stage};
use outrigger_config::translate::{View, translate};
use outrigger_model::{Level, Snapshot};

/// Stages a text as `f.yaml` and compares what `show` asks for, one after the other: `pods`, `ports` (pods with their
/// ports), `labels` (pods with their labels), `facts`, `endpoints` (of all clusters), `services`, `findings` (but for
/// informational ones), `all-findings`.
#[track_caller]
fn check(show: &str, yaml: &str, expected: &str) {
    let found = dump(show, yaml);
    let lines =
        |text: &str| -> Vec<String> { text.lines().map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect() };
    let (found, expected) = (lines(&found), lines(expected));
    assert!(found == expected, "found:\n{}\n\nexpected:\n{}\n", found.join("\n"), expected.join("\n"));
}

fn dump(show: &str, yaml: &str) -> String {
    let (resources, loading) = load_text("f.yaml", yaml);
    let errors: Vec<String> = loading.iter().filter(|f| f.level == Level::Error).map(ToString::to_string).collect();
    assert!(errors.is_empty(), "{errors:?}");
    let stage = Simulation::new(0).stage(&resources);
    let (snapshot, _) = translate(&stage.resources, &View::default());
    let mut out = String::new();
    for word in show.split(' ') {
        match word {
            "pods" => stage.pods.iter().for_each(|pod| writeln!(out, "{}", line(pod)).unwrap()),
            "ports" => stage.pods.iter().for_each(|pod| with_ports(pod, &mut out)),
            "labels" => stage.pods.iter().for_each(|pod| {
                let labels: Vec<String> = pod.facts.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
                writeln!(out, "{} {}", pod.name, labels.join(" ")).unwrap();
            }),
            "facts" => stage.pods.iter().for_each(|pod| {
                let facts = &pod.facts;
                write!(out, "{} {}/{} app={}", pod.name, facts.namespace, facts.name, facts.app).unwrap();
                writeln!(out, " version={} {} {}", facts.version, facts.pod, facts.principal).unwrap();
            }),
            "endpoints" => endpoints_of(&snapshot, &mut out),
            "services" => snapshot.services.iter().for_each(|s| {
                writeln!(out, "{}/{} {:?} {}", s.namespace, s.name, s.ports, s.endpoints).unwrap();
            }),
            "findings" | "all-findings" => findings(&stage, word == "all-findings", &mut out),
            other => panic!("unknown word {other:?}"),
        }
    }
    out
}

/// `NAMESPACE/POD ADDRESS [of OWNER] [not ready]`.
fn line(pod: &SimulatedPod) -> String {
    let mut line = format!("{}/{} {}", pod.namespace, pod.name, pod.address);
    if pod.owner != pod.name {
        write!(line, " of {}", pod.owner).unwrap();
    }
    if !pod.ready {
        line.push_str(" not ready");
    }
    line
}

/// `CONTAINER NUMBER [NAME] PROTOCOL [SERVICE:PORT]` for each port.
fn with_ports(pod: &SimulatedPod, out: &mut String) {
    writeln!(out, "{}", line(pod)).unwrap();
    for port in &pod.ports {
        write!(out, "  {} {}", port.container, port.port).unwrap();
        if !port.name.is_empty() {
            write!(out, " {}", port.name).unwrap();
        }
        write!(out, " {}", port.protocol).unwrap();
        if let Some(service) = &port.service {
            write!(out, " {}:{}", service.host, service.port).unwrap();
        }
        out.push('\n');
    }
}

/// `CLUSTER: ADDRESS POD …`.
fn endpoints_of(snapshot: &Snapshot, out: &mut String) {
    let sorted: BTreeMap<&str, _> = snapshot.clusters.iter().map(|(name, c)| (name.as_str(), c)).collect();
    for (name, cluster) in sorted {
        let endpoints: Vec<String> = cluster
            .endpoints
            .iter()
            .map(|e| {
                let place = if e.locality.region.is_empty() { String::new() } else { format!("@{}", e.locality) };
                format!("{}={}{place}", e.workload.pod, e.address)
            })
            .collect();
        writeln!(out, "{name} {}", endpoints.join(" ")).unwrap();
    }
}

fn findings(stage: &Stage, all: bool, out: &mut String) {
    for finding in stage.diagnostics.iter().filter(|f| all || f.level != Level::Info) {
        writeln!(out, "{finding}").unwrap();
    }
}

/// A Deployment `NAME` with one HTTP port 8080, and the Service `NAME` that sends to it from port 80.
fn app(name: &str, replicas: u32) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  replicas: {replicas}\n  \
         selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}, version: v1}}}}\n    \
         spec:\n      containers:\n      - {{name: web, ports: [{{name: http, containerPort: 8080}}]}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  selector: {{app: {name}}}\n  ports:\n  \
         - {{name: http, port: 80, targetPort: http}}\n---\n"
    )
}
