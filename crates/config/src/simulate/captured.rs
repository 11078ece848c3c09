//! What the sidecar of a workload obeys beside its outbound view where the system redirects what comes in: an inbound
//! listener for each port of the workload's containers, and one for all other ports.
//!
//! Connections go on to where they were to go, the pod's own address: the application need not listen on loopback, and what
//! it has there stays its own.

use std::sync::Arc;

use outrigger_model::{
    BodyLimits, Capture, ClusterName, Direction, Discovery, Inbound, Listener, Serve, Snapshot, TcpRoute, Workload,
};

use super::SimulatedPort;
use super::ports::Targets;
use super::sidecar::{CONNECT_TIMEOUT, destination_of, listener, routes_of, service_of};
use crate::kind::pod::PodSpec;
use crate::object::{Labels, Metadata};
use crate::resources::Resources;
use crate::translate::captures::original;
use crate::translate::{WorkloadName, fingerprint, owner_name};

/// The cluster of what comes in at ports that no container declares.
const PASSTHROUGH: &str = "InboundPassthroughCluster";
/// Their listener.
const UNKNOWN: &str = "inbound|unknown";

/// The outbound view of a workload with what its sidecar serves of redirected connections that come in: those to the socket
/// [`Listener::INBOUND`]. `before` is the last snapshot, whose parts are lent where they are the same.
pub fn captured(
    outbound: &Snapshot,
    resources: &Resources,
    workload: &WorkloadName,
    before: Option<&Snapshot>,
) -> Snapshot {
    let ports = match template(resources, workload) {
        Some((meta, spec, labels)) => Targets::new(resources, &outbound.mesh.domain).plan(meta, spec, labels).ports,
        None => Vec::new(),
    };
    let mut out = outbound.clone();
    let mut captures = out.captures.to_vec();
    let facts = &outbound.workload;
    let declared = ports.iter().map(|port| {
        let mut cluster = original(ClusterName::inbound(port.port), "", CONNECT_TIMEOUT);
        cluster.service = service_of(facts, port);
        cluster.http = port.http;
        (listener(port), cluster, port.port)
    });
    let cluster = original(ClusterName::new(PASSTHROUGH), PASSTHROUGH, CONNECT_TIMEOUT);
    let mut parts = vec![outbound.version];
    for (listener, cluster, port) in declared.chain([(unknown(), cluster, 0)]) {
        debug_assert!(cluster.discovery == Discovery::OriginalDestination, "it goes on to where it was to go");
        let capture =
            Capture { socket: Listener::INBOUND.into(), addresses: Vec::new(), port, listener: listener.name.clone() };
        parts.extend([fingerprint::listener(&listener, |vhost| fingerprint::virtual_host(vhost))]);
        parts.extend([fingerprint::cluster(&cluster), fingerprint::service(&cluster.service)]);
        parts.push(fingerprint::capture(&capture));
        captures.push(capture);
        out.listeners.push(match before.and_then(|before| before.listener(&listener.name)) {
            Some(same) if **same == listener => same.clone(),
            _ => Arc::new(listener),
        });
        let cluster = match before.and_then(|before| before.clusters.get(&cluster.name)) {
            Some(same) if **same == cluster => same.clone(),
            _ => Arc::new(cluster),
        };
        out.clusters.insert(cluster.name.clone(), cluster);
    }
    out.captures = match before {
        Some(before) if *before.captures == *captures => before.captures.clone(),
        _ => captures.into(),
    };
    out.version = fingerprint::combine(parts.into_iter());
    out
}

/// The listener of ports that no container declares.
fn unknown() -> Listener {
    let nobody = SimulatedPort {
        container: Workload::UNKNOWN.into(),
        name: Arc::default(),
        port: 0,
        protocol: "http".into(),
        http: outrigger_model::UpstreamHttp::AsClient,
        service: None,
        rate_limits: Vec::new(),
        body_limits: BodyLimits::default(),
    };
    let destination = destination_of(ClusterName::new(PASSTHROUGH));
    let tcp = TcpRoute { origin: None, destinations: vec![destination.clone()] };
    let serve = Serve::Detect { http: Arc::new(routes_of("inbound|http|0".into(), destination)), tcp: Arc::new(tcp) };
    let inbound = Inbound { container: nobody.container.clone(), port: 0, port_name: Arc::default() };
    let mut listener = listener(&nobody);
    listener.name = UNKNOWN.into();
    listener.direction = Direction::Inbound(Arc::new(inbound));
    listener.chains[0].serve = serve;
    listener
}

/// What the pods of a workload are made from: a Pod of its name, a template, or a Pod that belongs to it.
fn template<'r>(resources: &'r Resources, workload: &WorkloadName) -> Option<(&'r Metadata, &'r PodSpec, &'r Labels)> {
    let WorkloadName { namespace, name } = workload;
    if let Some(pod) = resources.pods.get(namespace, name) {
        return Some((&pod.meta, &pod.spec, &pod.meta.labels));
    }
    let template = None
        .or_else(|| resources.deployments.get(namespace, name).map(|o| (&o.meta, &o.spec.template)))
        .or_else(|| resources.stateful_sets.get(namespace, name).map(|o| (&o.meta, &o.spec.template)))
        .or_else(|| resources.daemon_sets.get(namespace, name).map(|o| (&o.meta, &o.spec.template)))
        .or_else(|| resources.replica_sets.get(namespace, name).map(|o| (&o.meta, &o.spec.template)))
        .or_else(|| resources.jobs.get(namespace, name).map(|o| (&o.meta, &o.spec.template)));
    if let Some((meta, template)) = template {
        return Some((meta, &template.spec, &template.metadata.labels));
    }
    let mut pods = resources.pods.iter().filter(|pod| pod.meta.namespace == *namespace && !pod.is_over());
    let pod = pods.find(|pod| owner_name(resources, &pod.meta) == *name)?;
    Some((&pod.meta, &pod.spec, &pod.meta.labels))
}
