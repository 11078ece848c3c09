//! Istio `ServiceEntry`: hosts added to the registry by hand.

use std::sync::Arc;

use super::istio::{ExportTo, Unmodelled, later, spanned};
use super::workload_entry::WorkloadEntrySpec;
use crate::address;
use crate::codes;
use crate::decode::{Cx, Decode, clip};
use crate::node::{Node, Pos, Spanned};
use crate::object::Labels;
use crate::scalar;
use crate::{choices, object};

object! {
    /// A ServiceEntry.
    pub resource struct ServiceEntry {
        /// `spec`.
        pub spec: ServiceEntrySpec = required "spec",
    }
    ignore ["status"]
}

object! {
    /// `spec`.
    pub struct ServiceEntrySpec {
        /// `hosts`: full names or wildcards; never expanded.
        pub hosts: Vec<Spanned<EntryHost>> = required "hosts",
        /// `addresses`: virtual IPs or blocks.
        pub addresses: Vec<Spanned<Arc<str>>> = or_default "addresses",
        /// `ports`.
        pub ports: Vec<Spanned<EntryPort>> = or_default "ports",
        /// `location`.
        pub location: Location = or_default_with(later) "location",
        /// `resolution`.
        pub resolution: Resolution = or_default "resolution",
        /// `endpoints`.
        pub endpoints: Vec<Spanned<WorkloadEntrySpec>> = or_default "endpoints",
        /// `workloadSelector`.
        pub selector: Option<WorkloadSelector> = optional "workloadSelector",
        /// `exportTo`; empty means the mesh's default.
        pub export_to: Vec<ExportTo> = or_default "exportTo",
        /// `subjectAltNames`.
        pub subject_alt_names: Option<Unmodelled> = optional "subjectAltNames",
    }
    check check_spec
}

/// One of `hosts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryHost(pub Arc<str>);

impl Decode for EntryHost {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let host = address::host_or_wildcard(node, cx)?;
        if &*host == "*" {
            cx.mismatch(node, "a host name or a wildcard such as `*.example.com`");
            return None;
        }
        Some(Self(host))
    }
}

object! {
    /// One of `ports`.
    pub struct EntryPort {
        /// `number`.
        pub number: u16 = required_with(scalar::port) "number",
        /// `name`.
        pub name: Arc<str> = required_with(scalar::non_empty) "name",
        /// `protocol`: HTTP, HTTPS, GRPC, HTTP2, MONGO, TCP, TLS; judged by the name when absent.
        pub protocol: Option<Spanned<Arc<str>>> = with(spanned(Arc::decode)) "protocol",
        /// `targetPort`.
        pub target_port: Option<u16> = with(scalar::port) "targetPort",
    }
}

choices! {
    /// `location`.
    #[derive(Default)]
    pub enum Location {
        /// Outside the mesh.
        #[default]
        External = "MESH_EXTERNAL" 0,
        /// Part of the mesh.
        Internal = "MESH_INTERNAL" 1,
    }
}

choices! {
    /// `resolution`.
    #[derive(Default)]
    pub enum Resolution {
        /// To the address the client asked for.
        #[default]
        None = "NONE" 0,
        /// To the given addresses.
        Static = "STATIC" 1,
        /// To all addresses of DNS names.
        Dns = "DNS" 2,
        /// To the first address of a DNS name.
        DnsRoundRobin = "DNS_ROUND_ROBIN" 3,
        /// To what a wildcard host resolves to at the time of the request.
        DynamicDns = "DYNAMIC_DNS" 4,
    }
}

object! {
    /// `workloadSelector` with `labels`.
    pub struct WorkloadSelector {
        /// `labels`.
        pub labels: Labels = or_default "labels",
    }
}

fn check_spec(spec: &ServiceEntrySpec, pos: Pos, cx: &mut Cx) {
    let mut fail = |pos: Pos, message: String, hint: &str| cx.report(codes::SCHEMA, pos, message, hint);
    if spec.hosts.is_empty() {
        fail(pos, "hosts: the list is empty, expected at least one host".to_owned(), "");
    }
    if spec.selector.is_some() && !spec.endpoints.is_empty() {
        fail(pos, "`workloadSelector` and `endpoints` are both given, expected one of them".to_owned(), "");
    }
    if spec.resolution == Resolution::None && !spec.endpoints.is_empty() {
        let message = "`endpoints` are given with resolution NONE, which sends to the address the client asked for";
        fail(pos, message.to_owned(), "use resolution STATIC for addresses, DNS for names");
    }
    let by_host = spec.endpoints.is_empty() && spec.selector.is_none();
    if by_host && matches!(spec.resolution, Resolution::Dns | Resolution::DnsRoundRobin) {
        for (index, host) in spec.hosts.iter().enumerate().filter(|(_, host)| host.value.0.starts_with('*')) {
            let host_text = clip(&host.value.0);
            let message = format!(
                "hosts[{index}]: found {host_text:?}, expected a name without wildcard: without `endpoints` the hosts are looked up"
            );
            fail(host.pos, message, "give `endpoints`, or use resolution NONE");
        }
    }
    if spec.resolution == Resolution::DnsRoundRobin && spec.endpoints.len() > 1 {
        fail(pos, "resolution DNS_ROUND_ROBIN takes one endpoint at most".to_owned(), "use resolution DNS");
    }
    for (index, port) in spec.ports.iter().enumerate() {
        if spec.ports[..index].iter().any(|p| p.number == port.number) {
            fail(port.pos, format!("ports[{index}].number: {} is given twice", port.number), "");
        }
        if spec.ports[..index].iter().any(|p| p.name == port.name) {
            fail(port.pos, format!("ports[{index}].name: {:?} is given twice", clip(&port.name)), "");
        }
    }
    for (index, address) in spec.addresses.iter().enumerate() {
        let block = address.parse::<ipnet::IpNet>().is_ok();
        if address.parse::<std::net::IpAddr>().is_err() && !block {
            let message =
                format!("addresses[{index}]: found {:?}, expected an IP address or a CIDR block", clip(address));
            fail(address.pos, message, "");
        }
        if block && !matches!(spec.resolution, Resolution::None | Resolution::Static) {
            let message = format!("addresses[{index}]: a CIDR block needs resolution NONE or STATIC");
            fail(address.pos, message, "");
        }
    }
    check_endpoints(spec, cx);
}

fn check_endpoints(spec: &ServiceEntrySpec, cx: &mut Cx) {
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        let Some(address) = &endpoint.address else {
            let message = format!("endpoints[{index}]: required field `address` is missing");
            cx.report(codes::SCHEMA, endpoint.pos, message, "");
            continue;
        };
        let named = address.parse::<std::net::IpAddr>().is_err() && !address.starts_with("unix://");
        if named && spec.resolution == Resolution::Static {
            let message = format!(
                "endpoints[{index}].address: found {:?}, expected an IP address: resolution STATIC does not ask DNS",
                clip(address)
            );
            cx.report(codes::SCHEMA, address.pos, message, "use resolution DNS for host names");
        }
        for name in endpoint.ports.keys() {
            if !spec.ports.iter().any(|p| p.name == *name) {
                let message = format!("endpoints[{index}].ports: {:?} names none of the entry's ports", clip(name));
                cx.report(codes::SCHEMA, endpoint.pos, message, "its keys are names of `spec.ports`");
            }
        }
    }
}
