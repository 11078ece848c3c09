//! Whether a simulated pod is ready: only then it is an endpoint.
//!
//! A pod without word of itself is ready. Its status may say otherwise, or withhold a readiness gate; and a readiness probe
//! that asks a port which nothing serves fails for ever, on a cluster as here.

use outrigger_model::Diagnostic;

use super::SimulatedPort;
use super::ports::{self, SIDECAR_PORTS};
use crate::codes;
use crate::kind::pod::{Container, Pod, PodSpec, Probe};
use crate::node::Spanned;
use crate::object::Metadata;
use crate::scalar::IntOrString;

/// Whether a pod is ready, and why not. `written` is the Pod of the input, whose status counts.
pub(super) fn is_ready(
    meta: &Metadata,
    spec: &PodSpec,
    written: Option<&Pod>,
    served: &[SimulatedPort],
    diagnostics: &mut Vec<Diagnostic>,
) -> bool {
    let mut ready = true;
    if let Some(pod) = written.filter(|pod| !pod.is_ready()) {
        let condition = pod.status.conditions.iter().find(|c| &*c.condition_type == "Ready");
        let state = match (condition, pod.status.phase.as_deref()) {
            (_, Some(phase)) if phase != "Running" => format!("phase {phase}"),
            (Some(condition), _) => format!("Ready is {}", condition.status),
            (None, _) => "it is being deleted".to_owned(),
        };
        let message = format!("not ready, as its status says: {state}; it gets no traffic");
        diagnostics.push(codes::POD_NOT_READY.about(
            meta,
            meta.pos,
            message,
            "remove `status` to simulate it as ready",
        ));
        ready = false;
    }
    for gate in &spec.readiness_gates {
        let conditions = written.map_or(&[][..], |pod| &pod.status.conditions);
        let state = conditions.iter().find(|c| c.condition_type == gate.condition_type).map(|c| &*c.status);
        if state != Some("True") {
            let state = state.unwrap_or("absent");
            let message = format!(
                "not ready: condition {:?} of its readinessGates is {state} in its status; it gets no traffic",
                &*gate.condition_type
            );
            let hint = "remove the gate, or give a Pod with that condition in its status";
            diagnostics.push(codes::POD_NOT_READY.about(meta, gate.pos, message, hint));
            ready = false;
        }
    }
    for container in spec.running().filter(|container| !ports::is_proxy(container)) {
        if let Some(probe) = container.readiness_probe.as_deref()
            && let Some(message) = unserved(container, probe, served)
        {
            let message = format!("never ready: {message}; the ports are {}", ports::ports_text(spec));
            let hint = "correct the probe's port, or add the port to the container's `ports`";
            diagnostics.push(codes::PROBE_PORT.about(meta, probe.pos, message, hint));
            ready = false;
        }
    }
    ready
}

/// Why a probe can never succeed.
fn unserved(container: &Container, probe: &Spanned<Probe>, served: &[SimulatedPort]) -> Option<String> {
    let kinds = [("httpGet", &probe.http_get), ("tcpSocket", &probe.tcp_socket), ("grpc", &probe.grpc)];
    let (kind, target) = kinds.into_iter().find_map(|(kind, target)| Some((kind, target.as_ref()?)))?;
    // Another host's ports are not ours to know.
    if target.host.as_deref().is_some_and(|host| !host.is_empty()) {
        return None;
    }
    let said = format!("the readinessProbe of container {:?} asks {kind} port", &*container.name);
    match &target.port.as_ref()?.value {
        IntOrString::Text(name) => {
            let named = container.ports.iter().any(|port| port.name.as_deref() == Some(name));
            (!named).then(|| format!("{said} {:?}, which that container does not have", &**name))
        }
        IntOrString::Int(number) => {
            let number = u16::try_from(*number).unwrap_or_default();
            // An injector rewrites probes so that the sidecar makes them.
            let is_served = SIDECAR_PORTS.contains(&number) || served.iter().any(|port| port.port == number);
            (!is_served).then(|| format!("{said} {number}, which no container serves"))
        }
    }
}
