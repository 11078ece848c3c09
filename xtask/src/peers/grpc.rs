//! gRPC as others speak it: grpcio on both sides of the proxy, and grpcio before the echo servers of a simulated mesh.
//!
//! What is called and expected stands in `xtask/python/grpc_client.py`; here are the worlds, and the metrics afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::exposition::{sum, until};
use super::manifests::service;
use super::python::Python;
use super::world::Proxy;
use crate::shell;

/// How long the metrics may take: message counts of streams are added every 5 s.
const METRICS_MAX: Duration = Duration::from_secs(15);

/// Runs both worlds.
pub(crate) fn check(program: &Path, folder: &Path) -> Result<()> {
    shell::fresh_folder(folder)?;
    let python = Python::set_up()?;
    foreign(program, &python, folder).context("grpcio on both sides")?;
    simulated(program, &python, folder).context("grpcio before a simulated mesh")
}

/// Servers and clients are both grpcio's.
fn foreign(program: &Path, python: &Python, folder: &Path) -> Result<()> {
    let [one, two, closed] = [shell::free_port()?, shell::free_port()?, shell::free_port()?];
    let _one = python.serve("grpc_server.py", one, &["one"], &folder.join("one.log"))?;
    let _two = python.serve("grpc_server.py", two, &["two"], &folder.join("two.log"))?;
    let services: [(&str, &[u16]); 5] =
        [("counted", &[one]), ("calls", &[one]), ("spread", &[one, two]), ("gone", &[]), ("refused", &[closed])];
    let yaml = folder.join("foreign");
    fs::create_dir_all(&yaml)?;
    let manifests: String = services.map(|(name, ports)| service("calls", name, "grpc", 9000, ports)).concat();
    fs::write(yaml.join("services.yaml"), manifests)?;
    let proxy = Proxy::start(program, &[yaml.to_str().context("UTF-8")?], &folder.join("foreign.log"))?;
    let tally = call(python, "full", &proxy)?;
    counted(&proxy, &tally)?;
    for (name, flag) in [("gone", "UH"), ("refused", "UF,URX")] {
        let host = host(name);
        let labels = [("destination_service", host.as_str()), ("grpc_response_status", "14"), ("response_flags", flag)];
        until(&proxy, METRICS_MAX, |scrape| {
            let found = sum(scrape, "istio_requests_total", &labels);
            if found == 2.0 { Ok(()) } else { Err(format!("{found} failures of {labels:?} instead of 2")) }
        })?;
    }
    proxy.stop()
}

/// Statuses and messages are those that the client counted.
fn counted(proxy: &Proxy, tally: &Value) -> Result<()> {
    let host = host("counted");
    let common = [("reporter", "source"), ("destination_service", host.as_str()), ("request_protocol", "grpc")];
    let statuses: BTreeMap<String, f64> = serde_json::from_value(tally["statuses"].clone())?;
    let [sent, received] = ["sent", "received"].map(|field| tally[field].as_f64().unwrap_or(-1.0));
    until(proxy, METRICS_MAX, |scrape| {
        for (status, expected) in &statuses {
            let labels = [&common[..], &[("grpc_response_status", status.as_str())]].concat();
            let found = sum(scrape, "istio_requests_total", &labels);
            if found != *expected {
                return Err(format!("{found} calls with status {status} instead of {expected}"));
            }
        }
        let (all, expected) = (sum(scrape, "istio_requests_total", &common[..2]), statuses.values().sum::<f64>());
        if all != expected {
            return Err(format!("{all} calls in all instead of {expected}"));
        }
        for (name, expected) in [("request", sent), ("response", received)] {
            let found = sum(scrape, &format!("istio_{name}_messages_total"), &common[..2]);
            if found != expected {
                return Err(format!("{found} {name} messages instead of {expected}"));
            }
        }
        Ok(())
    })
}

/// Pods with sidecars: a call passes two proxies, and both count it.
fn simulated(program: &Path, python: &Python, folder: &Path) -> Result<()> {
    let yaml = folder.join("simulated");
    fs::create_dir_all(&yaml)?;
    fs::write(yaml.join("echo.yaml"), ECHO)?;
    let arguments = ["--simulate", yaml.to_str().context("UTF-8")?];
    let proxy = Proxy::start(program, &arguments, &folder.join("simulated.log"))?;
    let tally = call(python, "echo", &proxy)?;
    let pods = proxy.report["pods"].clone();
    let host = host("echo");
    let calls = tally["calls"].as_f64().context("calls")?;
    until(&proxy, METRICS_MAX, |scrape| {
        let common = [("reporter", "source"), ("destination_service", host.as_str()), ("request_protocol", "grpc")];
        // The call that was given up after its deadline is one more, with the status that the client read.
        for (status, expected) in [("0", calls), ("4", 1.0)] {
            let labels = [&common[..], &[("grpc_response_status", status)]].concat();
            let found = sum(scrape, "istio_requests_total", &labels);
            if found != expected {
                return Err(format!("{found} calls with status {status} instead of {expected} (pods: {pods})"));
            }
        }
        Ok(())
    })?;
    proxy.stop()
}

/// Runs the client and reads its tally.
fn call(python: &Python, which: &str, proxy: &Proxy) -> Result<Value> {
    let said = python.run("grpc_client.py", &[which, &proxy.outbound.to_string()], 240)?;
    let last = said.lines().last().context("no tally")?;
    serde_json::from_str(last).with_context(|| said.clone())
}

fn host(name: &str) -> String {
    format!("{name}.calls.svc.cluster.local")
}

/// One workload of two replicas.
const ECHO: &str = "apiVersion: v1
kind: Service
metadata: {name: echo, namespace: calls}
spec:
  selector: {app: echo}
  ports: [{name: grpc, port: 9000}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo, namespace: calls}
spec:
  replicas: 2
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      containers: [{name: echo, image: echo, ports: [{containerPort: 9000}]}]
";
