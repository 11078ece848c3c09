//! What is told of the running process: the start-up report, and the same facts for the admin interface.

mod text;

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use outrigger_config::status::ObjectStatus;
use outrigger_config::translate::Forward;
use outrigger_model::Diagnostic;
use serde::Serialize;
use serde_json::{Value, json};

use super::configuration::InForce;
use super::gateways::Gateway;
use super::pods::Pod;
use crate::cli::{Output, print_line};

/// What is told once everything listens.
pub(super) struct Report {
    pub(super) admin: SocketAddr,
    pub(super) outbound: SocketAddr,
    /// Where connections arrive that the system redirects on their way in.
    pub(super) inbound: Option<SocketAddr>,
    pub(super) metrics: SocketAddr,
    pub(super) in_force: InForce,
    /// Host and target of a request to each port of a gateway.
    pub(super) examples: HashMap<SocketAddr, (String, String)>,
}

/// A simulated pod.
#[derive(Debug, Serialize)]
pub(super) struct WorkloadReport {
    namespace: Arc<str>,
    /// The workload: Deployment, StatefulSet, …
    name: Arc<str>,
    pod: Arc<str>,
    address: Ipv4Addr,
    labels: BTreeMap<Arc<str>, Arc<str>>,
    service_account: Arc<str>,
    outbound: SocketAddr,
    metrics: SocketAddr,
    /// Whether it takes traffic.
    ready: bool,
    ports: Vec<PortReport>,
}

/// A port of a container.
#[derive(Debug, Serialize)]
struct PortReport {
    container: Arc<str>,
    name: Arc<str>,
    port: u16,
    protocol: Arc<str>,
    /// Where it is; absent when it could not be started.
    bound: Option<SocketAddr>,
}

/// A Gateway or ListenerSet.
#[derive(Debug, Serialize)]
pub(super) struct GatewayReport {
    kind: Arc<str>,
    namespace: Arc<str>,
    name: Arc<str>,
    address: Ipv4Addr,
    /// Where the metrics of its proxy are.
    metrics: SocketAddr,
    listeners: Vec<ListenerReport>,
}

/// A listener of a gateway.
#[derive(Debug, Serialize)]
struct ListenerReport {
    name: Arc<str>,
    port: u16,
    /// Where it is; absent when nothing serves it.
    bound: Option<SocketAddr>,
    protocol: Arc<str>,
    hostname: Arc<str>,
}

/// A diagnostic as it stands in JSON.
#[derive(Serialize)]
struct Finding<'d> {
    code: &'d str,
    level: &'d str,
    object: Option<String>,
    file: Option<&'d str>,
    line: Option<u32>,
    column: Option<u32>,
    message: &'d str,
    hint: &'d str,
}

impl Report {
    /// Prints it.
    pub(super) fn print(&self, output: Output) {
        match output {
            Output::Json => print_line(&self.json().to_string()),
            Output::Text => text::print(self),
        }
    }

    fn json(&self) -> Value {
        let mut told = json!({
            "ready": true,
            "admin": self.admin,
            "outbound": self.outbound,
            "metrics": self.metrics,
        });
        let told_too = facts(&self.in_force);
        if let Some(inbound) = self.inbound {
            told["inbound"] = json!(inbound);
        }
        if let (Some(told), Value::Object(facts)) = (told.as_object_mut(), told_too) {
            told.extend(facts);
        }
        told
    }
}

/// What the report and the admin interface tell of a configuration.
pub(super) fn facts(in_force: &InForce) -> Value {
    json!({
        "workloads": *in_force.workloads,
        "gateways": *in_force.gateways,
        "forwards": in_force.forwards.iter().map(forward).collect::<Vec<_>>(),
        "services": services(in_force),
        "diagnostics": diagnostics(&in_force.diagnostics),
        "status": in_force.status.iter().map(status).collect::<Vec<_>>(),
    })
}

/// A forward, by where it listens and what it was told to reach.
fn forward(forward: &Forward) -> Value {
    json!({ "address": forward.address, "to": format!("{}:{}", forward.host, forward.port) })
}

/// The status of an object of the Gateway API; what does not apply to it is left out.
fn status(of: &ObjectStatus) -> Value {
    let conditions = of.conditions.iter().map(|condition| {
        json!({
            "type": condition.kind,
            "status": condition.status.as_str(),
            "reason": condition.reason,
            "message": condition.message,
        })
    });
    let mut told = json!({
        "kind": of.kind,
        "namespace": of.namespace,
        "name": of.name,
        "conditions": conditions.collect::<Vec<_>>(),
    });
    for (member, value) in [
        ("parent", of.parent.as_ref().map(|parent| json!(parent))),
        ("listener", of.listener.as_ref().map(|listener| json!(listener))),
        ("attached_routes", of.attached_routes.map(|count| json!(count))),
        ("supported_kinds", of.supported_kinds.as_ref().map(|kinds| json!(kinds))),
        ("attached_listener_sets", of.attached_listener_sets.map(|count| json!(count))),
    ] {
        if let Some(value) = value {
            told[member] = value;
        }
    }
    told
}

impl WorkloadReport {
    /// `NAMESPACE/NAME` of its pod, as its proxy is called, and of the workload.
    pub(super) fn names(&self) -> [String; 2] {
        [&self.pod, &self.name].map(|name| format!("{}/{name}", self.namespace))
    }

    /// Of a pod that runs.
    pub(super) fn of(running: &Pod) -> Self {
        let pod = &running.pod;
        let port = |port: &outrigger_config::simulate::SimulatedPort| PortReport {
            container: port.container.clone(),
            name: port.name.clone(),
            port: port.port,
            protocol: port.protocol.clone(),
            bound: running.ports.get(&port.port).map(|port| port.bound),
        };
        Self {
            namespace: pod.namespace.clone(),
            name: pod.owner.clone(),
            pod: pod.name.clone(),
            address: pod.address,
            labels: pod.facts.labels.clone(),
            service_account: pod.service_account.clone(),
            outbound: running.outbound,
            metrics: running.servers.metrics,
            ready: pod.ready,
            ports: pod.ports.iter().map(port).collect(),
        }
    }
}

impl GatewayReport {
    /// The objects that a gateway serves.
    pub(super) fn of(running: &Gateway) -> impl Iterator<Item = Self> {
        running.gateway.objects.iter().map(|object| Self {
            kind: object.kind.clone(),
            namespace: object.namespace.clone(),
            name: object.name.clone(),
            address: running.address,
            metrics: running.servers.metrics,
            listeners: object
                .listeners
                .iter()
                .map(|listener| ListenerReport {
                    name: listener.name.clone(),
                    port: listener.port,
                    bound: listener.listener.as_ref().and_then(|name| running.bound(name)),
                    protocol: listener.protocol.clone(),
                    hostname: listener.hostname.clone(),
                })
                .collect(),
        })
    }
}

/// The services as the report and the admin interface tell them.
pub(super) fn services(in_force: &InForce) -> Value {
    let services = in_force.snapshot.services.iter().map(|s| {
        json!({
            "namespace": s.namespace, "name": s.name, "ports": s.ports, "endpoints": s.endpoints,
        })
    });
    Value::Array(services.collect())
}

/// The diagnostics as the report and the admin interface tell them.
pub(super) fn diagnostics(diagnostics: &[Diagnostic]) -> Value {
    let findings = diagnostics.iter().map(|d| {
        let place = d.place.as_ref();
        json!(Finding {
            code: d.code.0,
            level: d.level.as_str(),
            object: d.object.as_ref().map(ToString::to_string),
            file: place.map(|p| &*p.file),
            line: place.map(|p| p.line),
            column: place.map(|p| p.column),
            message: &d.message,
            hint: &d.hint,
        })
    });
    Value::Array(findings.collect())
}
