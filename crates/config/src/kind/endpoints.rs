//! Kubernetes `Endpoints`, the older form of `EndpointSlice`.
//!
//! In force only for services that have no slices.

use std::net::IpAddr;
use std::sync::Arc;

use crate::kind::endpoint_slice::TargetRef;
use crate::kind::service::Protocol;
use crate::node::Spanned;
use crate::scalar;

crate::object! {
    /// The addresses behind the service of the same name.
    pub resource struct Endpoints {
        /// `subsets`.
        pub subsets: Vec<EndpointSubset> = or_default "subsets",
    }
}

crate::object! {
    /// Addresses that share their ports.
    pub struct EndpointSubset {
        /// `addresses`: ready ones.
        pub addresses: Vec<Spanned<EndpointAddress>> = or_default "addresses",
        /// `notReadyAddresses`.
        pub not_ready_addresses: Vec<Spanned<EndpointAddress>> = or_default "notReadyAddresses",
        /// `ports`.
        pub ports: Vec<EndpointPort> = or_default "ports",
    }
}

crate::object! {
    /// One address.
    pub struct EndpointAddress {
        /// `ip`.
        pub ip: IpAddr = required "ip",
        /// `hostname`.
        pub hostname: Option<Arc<str>> = optional "hostname",
        /// `nodeName`.
        pub node_name: Option<Arc<str>> = optional "nodeName",
        /// `targetRef`: the object behind it, most often a Pod.
        pub target: Option<TargetRef> = optional "targetRef",
    }
}

crate::object! {
    /// One port.
    pub struct EndpointPort {
        /// `name`: that of the service's port; absent for its only, unnamed port.
        pub name: Option<Arc<str>> = optional "name",
        /// `port`.
        pub port: u16 = required_with(scalar::port) "port",
        /// `protocol`, default `TCP`.
        pub protocol: Protocol = or_default "protocol",
        /// `appProtocol`.
        pub app_protocol: Option<Arc<str>> = optional "appProtocol",
    }
}
