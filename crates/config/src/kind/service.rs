//! Kubernetes `Service`.
//!
//! Only what a mesh obeys is kept. Settings of kube-proxy that would change which endpoints get traffic, and that are not
//! enforced here, are reported.

use std::sync::Arc;

use super::linkerd;
use super::resilience::check_repeats;
use crate::codes;
use crate::decode::Cx;
use crate::node::{Pos, Spanned};
use crate::object::{Labels, is_dns_label};
use crate::scalar::{self, IntOrString};

crate::object! {
    /// A name and ports for a set of endpoints.
    pub resource struct Service {
        /// `spec`.
        pub spec: ServiceSpec = or_default "spec",
    }
    ignore ["status"]
    check check_service
}

impl Service {
    /// Whether it has no virtual address: clients see its endpoints.
    pub fn is_headless(&self) -> bool {
        self.spec.cluster_ip.as_deref() == Some("None")
    }

    /// Annotation `networking.istio.io/exportTo`: the namespaces that see it; empty when not given.
    pub fn export_to(&self) -> Vec<&str> {
        let value = self.meta.annotation("networking.istio.io/exportTo").unwrap_or("");
        value.split(',').map(str::trim).filter(|namespace| !namespace.is_empty()).collect()
    }
}

crate::object! {
    /// `spec`.
    #[derive(Default)]
    pub struct ServiceSpec {
        /// `type`, default `ClusterIP`.
        pub service_type: ServiceType = or_default "type",
        /// `clusterIP`: an address, `None` for a headless service, or absent.
        pub cluster_ip: Option<Arc<str>> = optional "clusterIP",
        /// `clusterIPs`: the addresses of a dual-stack service.
        pub cluster_ips: Vec<Arc<str>> = or_default "clusterIPs",
        /// `externalName`: the DNS name behind a service of type `ExternalName`.
        pub external_name: Option<Spanned<Arc<str>>> = with(external_name) "externalName",
        /// `ports`.
        pub ports: Vec<Spanned<ServicePort>> = or_default "ports",
        /// `selector`: labels of its pods; empty for a service whose endpoints come from elsewhere.
        pub selector: Labels = or_default "selector",
        /// `publishNotReadyAddresses`: pods count before they are ready.
        pub publish_not_ready_addresses: bool = or_default "publishNotReadyAddresses",
        /// `sessionAffinity`; only `None` is in force, `ClientIP` is reported.
        pub session_affinity: Option<Spanned<Arc<str>>> = optional "sessionAffinity",
        /// `internalTrafficPolicy`; only `Cluster` is in force, `Local` is reported.
        pub internal_traffic_policy: Option<Spanned<Arc<str>>> = optional "internalTrafficPolicy",
        /// `trafficDistribution`; reported.
        pub traffic_distribution: Option<Spanned<Arc<str>>> = optional "trafficDistribution",
    }
    ignore [
        "allocateLoadBalancerNodePorts", "externalIPs", "externalTrafficPolicy", "healthCheckNodePort", "ipFamilies",
        "ipFamilyPolicy", "loadBalancerClass", "loadBalancerIP", "loadBalancerSourceRanges", "sessionAffinityConfig",
    ]
}

crate::object! {
    /// One port.
    pub struct ServicePort {
        /// `name`; may be absent where there is only one port.
        pub name: Option<Arc<str>> = with(port_name) "name",
        /// `port`: 1 to 65535.
        pub port: u16 = required_with(scalar::port) "port",
        /// `targetPort`: a number or the name of a container port; default: `port`.
        pub target_port: Option<Spanned<IntOrString>> = with(target_port) "targetPort",
        /// `protocol`, default `TCP`.
        pub protocol: Protocol = or_default "protocol",
        /// `appProtocol`: what is spoken, e.g. `http`, `kubernetes.io/h2c`.
        pub app_protocol: Option<Arc<str>> = optional "appProtocol",
    }
    ignore ["nodePort"]
}

crate::choices! {
    /// `type`.
    #[derive(Default)]
    pub enum ServiceType {
        /// A virtual address, or none with `clusterIP: None`.
        #[default]
        ClusterIp = "ClusterIP",
        /// A port of every node.
        NodePort = "NodePort",
        /// An address outside the cluster.
        LoadBalancer = "LoadBalancer",
        /// An alias for a DNS name.
        ExternalName = "ExternalName",
    }
}

crate::choices! {
    /// `protocol`.
    #[derive(Default)]
    pub enum Protocol {
        /// TCP.
        #[default]
        Tcp = "TCP",
        /// UDP.
        Udp = "UDP",
        /// SCTP.
        Sctp = "SCTP",
    }
}

fn external_name(node: &crate::node::Node<'_>, cx: &mut Cx) -> Option<Spanned<Arc<str>>> {
    crate::address::host(node, cx).map(|value| Spanned { value, pos: node.pos })
}

/// The name of a service's port: a DNS label, or empty for none.
fn port_name(node: &crate::node::Node<'_>, cx: &mut Cx) -> Option<Arc<str>> {
    let name = scalar::string(node, cx)?;
    if name.is_empty() {
        return None;
    }
    if !is_dns_label(name) {
        cx.mismatch(node, "a name of at most 63 lower-case letters, digits and inner hyphens");
        return None;
    }
    Some(cx.text(name))
}

fn target_port(node: &crate::node::Node<'_>, cx: &mut Cx) -> Option<Spanned<IntOrString>> {
    use crate::decode::Decode as _;
    let value = IntOrString::decode(node, cx)?;
    let valid = match &value {
        IntOrString::Int(number) => (1..=65_535).contains(number),
        IntOrString::Text(name) => is_port_name(name),
    };
    if !valid {
        cx.mismatch(node, "a port from 1 to 65535, or the name of a container port");
        return None;
    }
    Some(Spanned { value, pos: node.pos })
}

/// IANA service names, as Kubernetes requires of port names: up to 15 lower-case letters, digits and hyphens, one letter
/// at least.
pub(crate) fn is_port_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && name.bytes().any(|b| b.is_ascii_lowercase())
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--")
}

fn check_service(service: &Service, _pos: Pos, cx: &mut Cx) {
    let spec = &service.spec;
    if spec.service_type == ServiceType::ExternalName && spec.external_name.is_none() {
        let message = "spec: `externalName` is missing, a service of type `ExternalName` needs one";
        cx.report(codes::SCHEMA, service.meta.pos, message, "");
    }
    if spec.ports.is_empty() && spec.service_type != ServiceType::ExternalName && !service.is_headless() {
        let message = "spec: `ports` is missing or empty, a service with a cluster IP needs at least one port";
        cx.report(codes::SCHEMA, service.meta.pos, message, "");
    }
    check_ports(&spec.ports, cx);
    not_enforced(service, cx);
    linkerd::check(&service.meta, linkerd::Of::Service, cx);
    check_repeats(&service.meta, linkerd::may_repeat(&service.meta, linkerd::Of::Service), cx);
}

fn check_ports(ports: &[Spanned<ServicePort>], cx: &mut Cx) {
    for (index, port) in ports.iter().enumerate() {
        let message = match &port.name {
            None if ports.len() > 1 => "`name` is missing, it is required where a service has several ports".to_owned(),
            Some(name) if ports[..index].iter().any(|earlier| earlier.name.as_ref() == Some(name)) => {
                format!("`name` is {name:?}, which an earlier port has already")
            }
            _ if ports[..index].iter().any(|e| (e.port, e.protocol) == (port.port, port.protocol)) => {
                format!("port {} of protocol {} stands twice", port.port, port.protocol.as_str())
            }
            _ => continue,
        };
        cx.report(codes::SCHEMA, port.pos, format!("spec.ports[{index}]: {message}"), "");
    }
}

fn not_enforced(service: &Service, cx: &mut Cx) {
    const TOPOLOGY: [&str; 2] = ["service.kubernetes.io/topology-mode", "service.kubernetes.io/topology-aware-hints"];
    const HINT: &str = "localityLbSetting of a DestinationRule keeps traffic in its zone";
    let spec = &service.spec;
    let mut report = |what: &str, value: &Spanned<Arc<str>>, hint: &str| {
        let message = format!("{what}: {:?} is not enforced", &*value.value);
        cx.report(codes::NOT_ENFORCED, value.pos, message, hint);
    };
    if let Some(value) = spec.session_affinity.as_ref().filter(|value| &*value.value != "None") {
        let hint = "use consistentHash with useSourceIp in a DestinationRule";
        report("spec.sessionAffinity", value, hint);
    }
    if let Some(value) = spec.internal_traffic_policy.as_ref().filter(|value| &*value.value != "Cluster") {
        report("spec.internalTrafficPolicy", value, "");
    }
    if let Some(value) = &spec.traffic_distribution {
        report("spec.trafficDistribution", value, HINT);
    }
    for key in TOPOLOGY {
        if let Some(value) = service.meta.annotations.get(key).filter(|v| !v.eq_ignore_ascii_case("disabled")) {
            report(&format!("annotation {key}"), value, HINT);
        }
    }
}
