//! Kubernetes `Service`.

use std::sync::Arc;

use crate::node::Spanned;
use crate::object::Labels;
use crate::scalar::{self, IntOrString};

crate::object! {
    /// A name and ports for a set of pods.
    pub resource struct Service {
        /// `spec`.
        pub spec: ServiceSpec = or_default "spec",
    }
    ignore ["status"]
}

crate::object! {
    /// `spec`.
    #[derive(Default)]
    pub struct ServiceSpec {
        /// `type`, default `ClusterIP`.
        pub service_type: ServiceType = or_default "type",
        /// `clusterIP`: an address, `None` for a headless service, or absent.
        pub cluster_ip: Option<Arc<str>> = optional "clusterIP",
        /// `clusterIPs`.
        pub cluster_ips: Vec<Arc<str>> = or_default "clusterIPs",
        /// `externalName`: the DNS name behind a service of type `ExternalName`.
        pub external_name: Option<Spanned<Arc<str>>> = optional "externalName",
        /// `ports`.
        pub ports: Vec<Spanned<ServicePort>> = or_default "ports",
        /// `selector`: labels of its pods; empty for a service whose endpoints come from elsewhere.
        pub selector: Labels = or_default "selector",
        /// `publishNotReadyAddresses`: pods count before they are ready.
        pub publish_not_ready_addresses: bool = or_default "publishNotReadyAddresses",
    }
    ignore [
        "allocateLoadBalancerNodePorts", "externalIPs", "externalTrafficPolicy", "healthCheckNodePort", "internalTrafficPolicy",
        "ipFamilies", "ipFamilyPolicy", "loadBalancerClass", "loadBalancerIP", "loadBalancerSourceRanges", "sessionAffinity",
        "sessionAffinityConfig", "trafficDistribution",
    ]
}

crate::object! {
    /// One port.
    pub struct ServicePort {
        /// `name`; may be absent where there is only one port.
        pub name: Option<Arc<str>> = optional "name",
        /// `port`: 1 to 65535.
        pub port: u16 = required_with(scalar::port) "port",
        /// `targetPort`: a number or the name of a container port; default: `port`.
        pub target_port: Option<Spanned<IntOrString>> = optional "targetPort",
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
