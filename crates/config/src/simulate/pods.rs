//! From a slot to the Pod that fills it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::ports::is_proxy;
use super::replicas::{PodSource, Slot, Unit, labels};
use crate::kind::pod::{Pod, PodCondition, PodSpec, PodStatus, PodTemplate};
use crate::node::{Pos, Spanned};
use crate::object::{Metadata, OwnerReference};

/// Whether a pod is nothing but a proxy: a gateway, which is simulated from its Gateway objects instead.
pub(super) fn is_gateway(spec: &PodSpec) -> bool {
    spec.containers.iter().all(|container| is_proxy(container))
}

/// The Pod of a slot, without address and status yet.
///
/// Places within the spec are left out: a pod is the same pod wherever its template stands. Findings about it are made
/// from the template itself.
pub(super) fn pod(unit: &Unit<'_>, slot: &Slot<'_>) -> Pod {
    match slot.source {
        PodSource::Written(pod) => {
            Pod { meta: pod.meta.clone(), spec: without_places(&pod.spec), status: PodStatus::default() }
        }
        PodSource::Generated(template) => generated(unit.meta, template, slot),
    }
}

fn generated(workload: &Metadata, template: &PodTemplate, slot: &Slot<'_>) -> Pod {
    let place = |value: &Arc<str>| Spanned { value: value.clone(), pos: workload.pos };
    let annotations: BTreeMap<_, _> =
        template.metadata.annotations.iter().map(|(key, value)| (key.clone(), place(value))).collect();
    let mut spec = without_places(&template.spec);
    if slot.node.is_some() {
        spec.node_name.clone_from(&slot.node);
    }
    if slot.subdomain.is_some() {
        spec.subdomain.clone_from(&slot.subdomain);
        spec.hostname = Some(slot.name.clone());
    }
    Pod {
        meta: Metadata {
            kind: "Pod",
            api_version: "v1",
            name: slot.name.clone(),
            labels: labels(template, slot),
            annotations,
            created: None,
            deleted: None,
            owners: vec![OwnerReference { kind: workload.kind.into(), name: workload.name.clone(), controller: true }],
            ..workload.clone()
        },
        spec,
        status: PodStatus::default(),
    }
}

fn without_places(spec: &PodSpec) -> PodSpec {
    let mut spec = spec.clone();
    for container in spec.containers.iter_mut().chain(&mut spec.init_containers) {
        container.pos = Pos::default();
        container.value.ports.iter_mut().for_each(|port| port.pos = Pos::default());
        // Nobody asks for it any more: readiness is in the status.
        container.value.readiness_probe = None;
    }
    spec.readiness_gates.clear();
    spec
}

/// The status of a simulated pod: it runs at its address.
pub(super) fn status(address: Option<Ipv4Addr>, ready: bool) -> PodStatus {
    let ready = PodCondition { condition_type: "Ready".into(), status: if ready { "True" } else { "False" }.into() };
    PodStatus {
        phase: Some("Running".into()),
        conditions: vec![ready],
        pod_ip: address.map(IpAddr::V4),
        pod_ips: Vec::new(),
    }
}

/// Whether two pods of one name differ in nothing that counts.
pub(super) fn same(a: &Pod, b: &Pod) -> bool {
    a.status == b.status
        && a.spec == b.spec
        && a.meta.labels == b.meta.labels
        && a.meta.owners == b.meta.owners
        && a.meta.annotations.len() == b.meta.annotations.len()
        && a.meta.annotations.iter().zip(&b.meta.annotations).all(|(a, b)| a.0 == b.0 && a.1.value == b.1.value)
}
