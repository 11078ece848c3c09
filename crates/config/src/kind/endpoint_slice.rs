//! Kubernetes `EndpointSlice`: the addresses behind a service.
//!
//! There may be several for a service; which addresses take traffic is decided by the translation.

use std::net::IpAddr;
use std::sync::Arc;

use crate::address;
use crate::codes;
use crate::decode::{Cx, Decode};
use crate::kind::service::Protocol;
use crate::node::{Node, Pos, Spanned};
use crate::scalar;

crate::object! {
    /// Addresses that share their ports.
    pub resource struct EndpointSlice {
        /// `addressType`.
        pub address_type: AddressType = required "addressType",
        /// `endpoints`.
        pub endpoints: Vec<Spanned<SliceEndpoint>> = or_default "endpoints",
        /// `ports`; a port without number means every port.
        pub ports: Vec<SlicePort> = or_default "ports",
    }
    check check_slice
}

impl EndpointSlice {
    /// The label that names the service.
    pub const SERVICE_NAME: &'static str = "kubernetes.io/service-name";

    /// The service it belongs to, in its own namespace.
    pub fn service_name(&self) -> Option<&str> {
        self.meta.label(Self::SERVICE_NAME)
    }
}

crate::choices! {
    /// `addressType`.
    pub enum AddressType {
        /// IPv4 addresses.
        Ipv4 = "IPv4",
        /// IPv6 addresses.
        Ipv6 = "IPv6",
        /// DNS names.
        Fqdn = "FQDN",
    }
}

/// An address of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IP address.
    Ip(IpAddr),
    /// A DNS name.
    Name(Arc<str>),
}

impl Decode for Address {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        if let Some(ip) = node.scalar().and_then(|scalar| scalar.text.parse().ok()) {
            return Some(Self::Ip(ip));
        }
        address::host(node, cx).map(Self::Name)
    }
}

crate::object! {
    /// One endpoint.
    pub struct SliceEndpoint {
        /// `addresses`: at least one; further ones are equivalent, and clients use the first.
        pub addresses: Vec<Address> = required "addresses",
        /// `conditions`.
        pub conditions: Conditions = or_default "conditions",
        /// `hostname`.
        pub hostname: Option<Arc<str>> = optional "hostname",
        /// `targetRef`: the object behind it, most often a Pod.
        pub target: Option<TargetRef> = optional "targetRef",
        /// `nodeName`.
        pub node_name: Option<Arc<str>> = optional "nodeName",
        /// `zone`.
        pub zone: Option<Arc<str>> = optional "zone",
    }
    ignore ["hints", "deprecatedTopology"]
}

crate::object! {
    /// `conditions`; what is not given counts as the API says.
    #[derive(Default)]
    pub struct Conditions {
        /// `ready`; unknown counts as ready.
        pub ready: Option<bool> = optional "ready",
        /// `serving`: like ready, also while terminating; unknown counts as `ready`.
        pub serving: Option<bool> = optional "serving",
        /// `terminating`; unknown counts as not.
        pub terminating: Option<bool> = optional "terminating",
    }
}

impl Conditions {
    /// Whether it takes traffic.
    pub fn is_ready(&self) -> bool {
        self.ready.unwrap_or(true)
    }

    /// Whether it answers, perhaps while it terminates.
    pub fn is_serving(&self) -> bool {
        self.serving.unwrap_or_else(|| self.is_ready())
    }

    /// Whether it is going away.
    pub fn is_terminating(&self) -> bool {
        self.terminating.unwrap_or(false)
    }
}

crate::object! {
    /// A reference to the object behind an endpoint.
    pub struct TargetRef {
        /// `kind`, e.g. `Pod`.
        pub kind: Option<Arc<str>> = optional "kind",
        /// `name`.
        pub name: Option<Arc<str>> = optional "name",
        /// `namespace`; default: that of the slice.
        pub namespace: Option<Arc<str>> = optional "namespace",
    }
    ignore ["apiVersion", "fieldPath", "resourceVersion", "uid"]
}

impl TargetRef {
    /// The name of the Pod it refers to, if it refers to one.
    pub fn pod(&self) -> Option<&Arc<str>> {
        if self.kind.as_deref() == Some("Pod") { self.name.as_ref() } else { None }
    }
}

crate::object! {
    /// One port.
    pub struct SlicePort {
        /// `name`: that of the service's port; absent for its only, unnamed port.
        pub name: Option<Arc<str>> = optional "name",
        /// `port`; absent: every port.
        pub port: Option<u16> = with(scalar::port) "port",
        /// `protocol`, default `TCP`.
        pub protocol: Protocol = or_default "protocol",
        /// `appProtocol`.
        pub app_protocol: Option<Arc<str>> = optional "appProtocol",
    }
}

fn check_slice(slice: &EndpointSlice, pos: Pos, cx: &mut Cx) {
    for (index, endpoint) in slice.endpoints.iter().enumerate() {
        if endpoint.addresses.is_empty() {
            let message = format!("endpoints[{index}].addresses: the list is empty, expected at least one address");
            cx.report(codes::SCHEMA, endpoint.pos, message, "");
        }
        let wrong = endpoint.addresses.iter().find(|address| !fits(address, slice.address_type));
        if let Some(wrong) = wrong {
            let found = match wrong {
                Address::Ip(ip) => ip.to_string(),
                Address::Name(name) => name.to_string(),
            };
            let expected = slice.address_type.as_str();
            let message = format!("endpoints[{index}].addresses: found {found:?}, but addressType is `{expected}`");
            cx.report(codes::SCHEMA, endpoint.pos, message, "");
        }
    }
    if slice.service_name().is_none() {
        let message =
            format!("label `{}` is missing, so that the slice belongs to no service", EndpointSlice::SERVICE_NAME);
        cx.report(codes::NO_EFFECT, pos, message, "");
    }
}

fn fits(address: &Address, expected: AddressType) -> bool {
    match (address, expected) {
        (Address::Ip(ip), AddressType::Ipv4) => ip.is_ipv4(),
        (Address::Ip(ip), AddressType::Ipv6) => ip.is_ipv6(),
        (Address::Name(_), AddressType::Fqdn) => true,
        _ => false,
    }
}
