//! Kubernetes `Pod`, and the pod template that workload kinds share.
//!
//! Only what a mesh needs is kept: ports, labels, identity, node, readiness and addresses. The other fields of the API are
//! named, so that a misspelt one is still found.

use std::net::IpAddr;
use std::sync::Arc;

use crate::decode::Cx;
use crate::kind::service::{Protocol, is_port_name};
use crate::node::{Node, Spanned};
use crate::object::{Labels, labels};
use crate::scalar;

crate::object! {
    /// A pod.
    pub resource struct Pod {
        /// `spec`.
        pub spec: PodSpec = or_default "spec",
        /// `status`.
        pub status: PodStatus = or_default "status",
    }
}

impl Pod {
    /// The addresses of the pod, the primary one first.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> {
        let primary = self.status.pod_ip;
        primary.into_iter().chain(self.status.pod_ips.iter().map(|p| p.ip).filter(move |ip| Some(*ip) != primary))
    }

    /// Whether it takes traffic: running, ready and not going away. A pod without status counts as ready, so that
    /// manifests written by hand need none.
    pub fn is_ready(&self) -> bool {
        let running = matches!(self.status.phase.as_deref(), None | Some("Running"));
        let ready = self.status.conditions.iter().find(|c| &*c.condition_type == "Ready");
        running && self.meta.deleted.is_none() && ready.is_none_or(|condition| &*condition.status == "True")
    }

    /// Whether it has ended and will not come back (`Succeeded` or `Failed`).
    pub fn is_over(&self) -> bool {
        matches!(self.status.phase.as_deref(), Some("Succeeded" | "Failed"))
    }
}

crate::object! {
    /// `spec` of a pod or a pod template.
    #[derive(Default)]
    pub struct PodSpec {
        /// `containers`.
        pub containers: Vec<Spanned<Container>> = or_default "containers",
        /// `initContainers`; those with `restartPolicy: Always` are sidecars and may serve ports.
        pub init_containers: Vec<Spanned<Container>> = or_default "initContainers",
        /// `serviceAccountName`, default `default`.
        pub service_account_name: Option<Arc<str>> = optional "serviceAccountName",
        /// `serviceAccount`, the old name of the same.
        pub service_account: Option<Arc<str>> = optional "serviceAccount",
        /// `nodeName`.
        pub node_name: Option<Arc<str>> = optional "nodeName",
        /// `hostNetwork`.
        pub host_network: bool = or_default "hostNetwork",
        /// `hostname`.
        pub hostname: Option<Arc<str>> = optional "hostname",
        /// `subdomain`: the headless service that names the pod.
        pub subdomain: Option<Arc<str>> = optional "subdomain",
        /// `readinessGates`: conditions of the status that must be `True` before the pod is ready.
        pub readiness_gates: Vec<Spanned<ReadinessGate>> = or_default "readinessGates",
    }
    ignore [
        "activeDeadlineSeconds", "affinity", "automountServiceAccountToken", "dnsConfig", "dnsPolicy",
        "enableServiceLinks", "ephemeralContainers", "hostAliases", "hostIPC", "hostPID", "hostUsers",
        "hostnameOverride", "imagePullSecrets", "nodeSelector", "os", "overhead", "preemptionPolicy", "priority",
        "priorityClassName", "resourceClaims", "resources", "restartPolicy", "runtimeClassName",
        "schedulerName", "schedulingGates", "securityContext", "setHostnameAsFQDN", "shareProcessNamespace",
        "terminationGracePeriodSeconds", "tolerations", "topologySpreadConstraints", "volumes", "workloadRef",
    ]
}

impl PodSpec {
    /// The service account that pods run as.
    pub fn account(&self) -> &str {
        let name = self.service_account_name.as_deref().or(self.service_account.as_deref());
        name.filter(|name| !name.is_empty()).unwrap_or("default")
    }

    /// Every port that a container declares, those of sidecars among the init containers included.
    pub fn ports(&self) -> impl Iterator<Item = (&Container, &ContainerPort)> {
        let containers = self.running();
        containers.flat_map(|container| container.ports.iter().map(|port| (&container.value, &port.value)))
    }

    /// The containers that run for as long as the pod does: all but the init containers that end.
    pub fn running(&self) -> impl Iterator<Item = &Spanned<Container>> {
        let sidecars = self.init_containers.iter().filter(|c| c.restart_policy.as_deref() == Some("Always"));
        self.containers.iter().chain(sidecars)
    }

    /// The number of a container port that a `targetPort` names.
    pub fn named_port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        let named = |port: &ContainerPort| port.name.as_deref() == Some(name) && port.protocol == protocol;
        self.ports().find(|(_, port)| named(port)).map(|(_, port)| port.container_port)
    }
}

crate::object! {
    /// A condition that must hold before the pod is ready.
    pub struct ReadinessGate {
        /// `conditionType`.
        pub condition_type: Arc<str> = required "conditionType",
    }
}

crate::object! {
    /// One container.
    pub struct Container {
        /// `name`.
        pub name: Arc<str> = required "name",
        /// `ports`.
        pub ports: Vec<Spanned<ContainerPort>> = or_default "ports",
        /// `restartPolicy`; `Always` makes an init container a sidecar.
        pub restart_policy: Option<Arc<str>> = optional "restartPolicy",
        /// `image`.
        pub image: Option<Arc<str>> = optional "image",
        /// `readinessProbe`.
        pub readiness_probe: Option<Box<Spanned<Probe>>> = optional "readinessProbe",
    }
    ignore [
        "args", "command", "env", "envFrom", "imagePullPolicy", "lifecycle", "livenessProbe", "resizePolicy", "resources", "restartPolicyRules", "securityContext", "startupProbe", "stdin", "stdinOnce",
        "terminationMessagePath", "terminationMessagePolicy", "tty", "volumeDevices", "volumeMounts", "workingDir",
    ]
}

crate::object! {
    /// A probe: only where it asks is kept.
    pub struct Probe {
        /// `httpGet`.
        pub http_get: Option<ProbeTarget> = optional "httpGet",
        /// `tcpSocket`.
        pub tcp_socket: Option<ProbeTarget> = optional "tcpSocket",
        /// `grpc`.
        pub grpc: Option<ProbeTarget> = optional "grpc",
    }
    ignore [
        "exec", "failureThreshold", "initialDelaySeconds", "periodSeconds", "successThreshold",
        "terminationGracePeriodSeconds", "timeoutSeconds",
    ]
}

crate::object! {
    /// `httpGet`, `tcpSocket` or `grpc`.
    pub struct ProbeTarget {
        /// `port`: a number, or the name of a port of the same container.
        pub port: Option<Spanned<scalar::IntOrString>> = optional "port",
        /// `host`: somewhere else than the pod.
        pub host: Option<Arc<str>> = optional "host",
    }
    ignore ["httpHeaders", "path", "scheme", "service"]
}

crate::object! {
    /// One port of a container.
    pub struct ContainerPort {
        /// `name`.
        pub name: Option<Arc<str>> = with(port_name) "name",
        /// `containerPort`.
        pub container_port: u16 = required_with(scalar::port) "containerPort",
        /// `protocol`, default `TCP`.
        pub protocol: Protocol = or_default "protocol",
    }
    ignore ["hostIP", "hostPort"]
}

crate::object! {
    /// `status` of a pod: written by the API server, so unknown fields are no mistakes.
    #[derive(Default)]
    pub struct PodStatus {
        /// `phase`: `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
        pub phase: Option<Arc<str>> = optional "phase",
        /// `conditions`.
        pub conditions: Vec<PodCondition> = or_default "conditions",
        /// `podIP`.
        pub pod_ip: Option<IpAddr> = optional "podIP",
        /// `podIPs`.
        pub pod_ips: Vec<PodIp> = or_default "podIPs",
    }
    ignore ["*"]
}

crate::object! {
    /// A condition.
    pub struct PodCondition {
        /// `type`, e.g. `Ready`.
        pub condition_type: Arc<str> = required "type",
        /// `status`: `True`, `False` or `Unknown`.
        pub status: Arc<str> = required_with(condition_status) "status",
    }
    ignore ["*"]
}

crate::object! {
    /// An address.
    pub struct PodIp {
        /// `ip`.
        pub ip: IpAddr = required "ip",
    }
    ignore ["*"]
}

crate::object! {
    /// `template` of a workload.
    #[derive(Default)]
    pub struct PodTemplate {
        /// `metadata`.
        pub metadata: TemplateMetadata = or_default "metadata",
        /// `spec`.
        pub spec: PodSpec = or_default "spec",
    }
}

crate::object! {
    /// `metadata` of a template.
    #[derive(Default)]
    pub struct TemplateMetadata {
        /// `labels`.
        pub labels: Labels = or_default_with(labels) "labels",
        /// `annotations`.
        pub annotations: Labels = or_default "annotations",
    }
    ignore [
        "name", "namespace", "generateName", "creationTimestamp", "finalizers", "ownerReferences", "uid",
        "resourceVersion", "generation", "managedFields", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds",
    ]
}

/// The name of a container's port, or empty for none.
fn port_name(node: &Node<'_>, cx: &mut Cx) -> Option<Arc<str>> {
    let name = scalar::string(node, cx)?;
    if !name.is_empty() && !is_port_name(name) {
        cx.mismatch(node, "a name of at most 15 lower-case letters, digits and inner hyphens, one letter at least");
    }
    (!name.is_empty()).then(|| cx.text(name))
}

/// A condition's status is a string in the API; an unquoted `True` is what people mean when they write one by hand.
fn condition_status(node: &Node<'_>, cx: &mut Cx) -> Option<Arc<str>> {
    let status = node.scalar().map_or("", |scalar| &*scalar.text);
    if matches!(status, "True" | "False" | "Unknown") {
        return Some(cx.text(status));
    }
    cx.mismatch(node, "one of `True`, `False`, `Unknown`");
    None
}
