//! The registry: every host that can be sent to, from Services and ServiceEntries alike.
//!
//! Endpoints are not part of it (`endpoints`), nor is any client's view of it (`scope`).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use outrigger_model::{Discovery, Origin};

use super::protocol::Protocol;
use crate::hosts;
use crate::kind::istio::ExportTo;
use crate::kind::mesh_config::MeshConfig;
use crate::kind::service::{self, Service, ServiceType};
use crate::kind::service_entry::{Resolution, ServiceEntry};
use crate::object::Metadata;
use crate::resources::Resources;

/// A host with its ports.
#[derive(Debug)]
pub(crate) struct ServiceInfo {
    /// Full name; may be a wildcard for a ServiceEntry.
    pub(crate) host: Arc<str>,
    /// Short name; the host for a ServiceEntry.
    pub(crate) name: Arc<str>,
    /// Namespace of the object.
    pub(crate) namespace: Arc<str>,
    /// Its ports but for UDP ones, in order.
    pub(crate) ports: Vec<PortInfo>,
    /// Its virtual addresses, as they stand in a Host header.
    pub(crate) addresses: Vec<Arc<str>>,
    /// Who sees it.
    pub(crate) export_to: Vec<ExportTo>,
    /// The object.
    pub(crate) source: Source,
    /// What a default route says of where it came from.
    pub(crate) origin: Arc<Origin>,
    /// Where its endpoints come from.
    pub(crate) discovery: Discovery,
    /// For an ExternalName service whose target is in the registry: the host it stands for in the end.
    pub(crate) alias_of: Option<Arc<str>>,
}

/// One port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortInfo {
    /// Service port.
    pub(crate) number: u16,
    /// Name, perhaps empty.
    pub(crate) name: Arc<str>,
    /// What it speaks.
    pub(crate) protocol: Protocol,
    /// Index in the object's list of ports.
    pub(crate) index: usize,
}

/// The object behind a host.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A Kubernetes Service.
    Service(Arc<Service>),
    /// An Istio ServiceEntry.
    Entry(Arc<ServiceEntry>),
}

impl ServiceInfo {
    /// The object's metadata.
    pub(crate) fn meta(&self) -> &Metadata {
        match &self.source {
            Source::Service(service) => &service.meta,
            Source::Entry(entry) => &entry.meta,
        }
    }

    /// The port of a number.
    pub(crate) fn port(&self, number: u16) -> Option<&PortInfo> {
        self.ports.iter().find(|p| p.number == number)
    }

    /// The ports that get routes.
    pub(crate) fn http_ports(&self) -> impl Iterator<Item = &PortInfo> {
        self.ports.iter().filter(|p| p.protocol.is_http())
    }

    /// The ports for a message: `http (9080), 9090`.
    pub(crate) fn ports_text(&self) -> String {
        let port = |p: &PortInfo| match &*p.name {
            "" => p.number.to_string(),
            name => format!("{} ({name})", p.number),
        };
        let ports: Vec<String> = self.ports.iter().map(port).collect();
        if ports.is_empty() { "none".to_owned() } else { ports.join(", ") }
    }

    /// Whether its pods answer to names of their own: a Kubernetes Service without address.
    pub(crate) fn is_headless(&self) -> bool {
        matches!(&self.source, Source::Service(service) if service.is_headless())
    }

    /// Whether it comes from a Kubernetes Service.
    pub(crate) fn is_kubernetes(&self) -> bool {
        matches!(self.source, Source::Service(_))
    }
}

/// All hosts.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// Kubernetes Services in input order, then ServiceEntries, the oldest first.
    pub(crate) services: Vec<Arc<ServiceInfo>>,
    by_host: HashMap<Arc<str>, Vec<u32>, foldhash::fast::RandomState>,
    /// ExternalName services by the host they stand for.
    aliases: HashMap<Arc<str>, Vec<u32>, foldhash::fast::RandomState>,
}

impl Registry {
    /// Reads Services and ServiceEntries.
    pub(crate) fn build(resources: &Resources, mesh: &MeshConfig, domain: &str) -> Self {
        let mut services: Vec<ServiceInfo> =
            resources.services.iter().map(|service| of_service(service, mesh, domain)).collect();
        for entry in resources.service_entries.oldest_first() {
            services.extend(entry.spec.hosts.iter().map(|host| of_entry(entry, &host.value.0, mesh)));
        }
        let mut by_host: HashMap<Arc<str>, Vec<u32>, foldhash::fast::RandomState> = HashMap::default();
        for (index, info) in services.iter().enumerate() {
            // The number of objects is bounded by the input's size, far below 2^32.
            by_host.entry(info.host.clone()).or_default().push(index as u32);
        }
        let mut aliases: HashMap<Arc<str>, Vec<u32>, foldhash::fast::RandomState> = HashMap::default();
        for (index, target) in ends_of_aliases(&services, &by_host).into_iter().enumerate() {
            if let Some(target) = &target {
                aliases.entry(target.clone()).or_default().push(index as u32);
            }
            services[index].alias_of = target;
        }
        Self { services: services.into_iter().map(Arc::new).collect(), by_host, aliases }
    }

    /// The indexes of the services with this very host.
    pub(crate) fn named(&self, host: &str) -> &[u32] {
        self.by_host.get(host).map_or(&[], Vec::as_slice)
    }

    /// The indexes of the ExternalName services that stand for a host.
    pub(crate) fn aliases_of(&self, host: &str) -> &[u32] {
        self.aliases.get(host).map_or(&[], Vec::as_slice)
    }

    /// The service of an index.
    pub(crate) fn at(&self, index: u32) -> &Arc<ServiceInfo> {
        &self.services[index as usize]
    }
}

/// Aliases that are followed; more are taken for a circle.
const ALIASES_MAX: usize = 8;

/// For each service the host of the registry that it stands for, through others of its kind if need be. One that leads out
/// of the registry, or in a circle, stands for itself: its name is looked up.
fn ends_of_aliases(
    services: &[ServiceInfo],
    by_host: &HashMap<Arc<str>, Vec<u32>, foldhash::fast::RandomState>,
) -> Vec<Option<Arc<str>>> {
    let next = |service: &ServiceInfo| service.alias_of.clone().filter(|target| by_host.contains_key(target));
    let end = |service: &ServiceInfo| {
        let mut target = next(service)?;
        for _ in 0..ALIASES_MAX {
            match next(&services[by_host[&target][0] as usize]) {
                Some(further) => target = further,
                None => return Some(target),
            }
        }
        None
    };
    services.iter().map(end).collect()
}

fn origin(meta: &Metadata) -> Arc<Origin> {
    Arc::new(Origin {
        kind: meta.kind.into(),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        rule: "default".into(),
        place: Some(meta.source.place(meta.pos)),
    })
}

fn of_service(service: &Arc<Service>, mesh: &MeshConfig, domain: &str) -> ServiceInfo {
    let spec = &service.spec;
    let port = |(index, port): (usize, &crate::node::Spanned<service::ServicePort>)| {
        (port.protocol == service::Protocol::Tcp).then(|| PortInfo {
            number: port.port,
            name: port.name.clone().unwrap_or_default(),
            protocol: Protocol::of_service_port(port.app_protocol.as_deref(), port.name.as_deref(), port.port),
            index,
        })
    };
    let ports: Vec<PortInfo> =
        spec.ports.iter().enumerate().filter_map(port).filter(|p| p.protocol != Protocol::Udp).collect();
    let mut ips: Vec<IpAddr> = Vec::new();
    for text in spec.cluster_ip.iter().chain(&spec.cluster_ips) {
        if let Ok(ip) = text.parse()
            && !ips.contains(&ip)
        {
            ips.push(ip);
        }
    }
    let external = spec.service_type == ServiceType::ExternalName;
    let by_name = external && spec.external_name.as_ref().is_some_and(|name| name.parse::<IpAddr>().is_err());
    let alias_of = spec.external_name.as_ref().filter(|_| external).map(|name| {
        let name = name.strip_suffix('.').unwrap_or(name);
        name.to_ascii_lowercase().into()
    });
    let exports = service
        .meta
        .annotation("networking.istio.io/exportTo")
        .map(|text| text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(ExportTo::parse).collect::<Vec<_>>());
    ServiceInfo {
        host: hosts::service_host(&service.meta.name, &service.meta.namespace, domain),
        name: service.meta.name.clone(),
        namespace: service.meta.namespace.clone(),
        ports,
        addresses: ips.into_iter().map(hosts::address).collect(),
        export_to: exports.filter(|e| !e.is_empty()).unwrap_or_else(|| mesh.service_export_to.clone()),
        source: Source::Service(service.clone()),
        origin: origin(&service.meta),
        discovery: if by_name { Discovery::Dns } else { Discovery::Static },
        alias_of,
    }
}

fn of_entry(entry: &Arc<ServiceEntry>, host: &Arc<str>, mesh: &MeshConfig) -> ServiceInfo {
    let spec = &entry.spec;
    let ports = spec.ports.iter().enumerate().map(|(index, port)| PortInfo {
        number: port.number,
        name: port.name.clone(),
        protocol: Protocol::of_entry_port(port.protocol.as_deref().map(|p| &**p), &port.name, port.number),
        index,
    });
    let addresses = spec.addresses.iter().filter_map(|a| a.parse::<IpAddr>().ok()).map(hosts::address);
    let discovery = match spec.resolution {
        Resolution::None | Resolution::DynamicDns if spec.selector.is_none() => Discovery::OriginalDestination,
        Resolution::None | Resolution::DynamicDns | Resolution::Static => Discovery::Static,
        Resolution::Dns => Discovery::Dns,
        Resolution::DnsRoundRobin => Discovery::DnsRoundRobin,
    };
    ServiceInfo {
        host: host.clone(),
        name: host.clone(),
        namespace: entry.meta.namespace.clone(),
        ports: ports.filter(|p| p.protocol != Protocol::Udp).collect(),
        addresses: addresses.collect(),
        export_to: if spec.export_to.is_empty() { mesh.service_export_to.clone() } else { spec.export_to.clone() },
        source: Source::Entry(entry.clone()),
        origin: origin(&entry.meta),
        discovery,
        alias_of: None,
    }
}
