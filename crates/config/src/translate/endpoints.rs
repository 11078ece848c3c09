//! The instances behind a service, port by port, before any policy: where they listen or by which name, who they are, where
//! they run.
//!
//! From EndpointSlices; without any, from Endpoints; without those, from the pods the Service selects. WorkloadEntries
//! that the Service selects count in any case, as in Istio.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use outrigger_model::{Diagnostic, Discovery, Endpoint, Locality, NamedEndpoint, Workload};

use super::registry::{PortInfo, ServiceInfo, Source};
use super::workloads::{PodIndex, has_labels, label_locality};
use crate::codes;
use crate::decode::clip;
use crate::kind::endpoint_slice::{Address, EndpointSlice, SliceEndpoint};
use crate::kind::endpoints::{EndpointAddress, Endpoints};
use crate::kind::service::{Protocol, Service, ServiceType};
use crate::kind::service_entry::ServiceEntry;
use crate::kind::workload_entry::WorkloadEntrySpec;
use crate::object::{Labels, Metadata};
use crate::resources::Resources;
use crate::scalar::IntOrString;

/// The endpoints of a service.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct ServiceEndpoints {
    /// Parallel to the service's ports.
    pub(crate) ports: Vec<Instances>,
    /// What was found wrong.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// The instances of one port.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Instances {
    /// By address.
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
    /// By names whose addresses the proxy looks up.
    pub(crate) names: Vec<Arc<NamedEndpoint>>,
}

impl Instances {
    /// How many there are; a name counts once.
    pub(crate) fn len(&self) -> usize {
        self.endpoints.len() + self.names.len()
    }

    /// Who they are.
    pub(crate) fn workloads(&self) -> impl Iterator<Item = &Workload> {
        let by_address = self.endpoints.iter().map(|e| &*e.workload);
        by_address.chain(self.names.iter().map(|n| &*n.workload))
    }

    /// Those with all labels of a selector.
    pub(crate) fn with_labels(&self, selector: &Labels) -> Self {
        let has = |workload: &Workload| has_labels(&workload.labels, selector);
        Self {
            endpoints: self.endpoints.iter().filter(|e| has(&e.workload)).cloned().collect(),
            names: self.names.iter().filter(|n| has(&n.workload)).cloned().collect(),
        }
    }
}

impl ServiceEndpoints {
    /// Instances, counted at the port that has most.
    pub(crate) fn count(&self) -> usize {
        self.ports.iter().map(Instances::len).max().unwrap_or_default()
    }
}

/// EndpointSlices by namespace and service name.
pub(crate) type Slices<'r> = HashMap<
    &'r str,
    HashMap<&'r str, Vec<&'r Arc<EndpointSlice>>, foldhash::fast::RandomState>,
    foldhash::fast::RandomState,
>;

/// Sorts slices by the service they belong to.
pub(crate) fn group_slices(resources: &Resources) -> Slices<'_> {
    let mut slices = Slices::default();
    for slice in resources.endpoint_slices.iter() {
        if let Some(service) = slice.service_name() {
            slices.entry(&slice.meta.namespace).or_default().entry(service).or_default().push(slice);
        }
    }
    slices
}

/// Everything that is found while the endpoints of one service are gathered.
struct Gather<'g, 'r> {
    info: &'g ServiceInfo,
    resources: &'r Resources,
    pods: &'g mut PodIndex<'r>,
    out: ServiceEndpoints,
    seen: Vec<HashSet<SocketAddr, foldhash::fast::RandomState>>,
    /// Pods already there by another address: a dual-stack pod is one instance.
    seen_pods: Vec<HashSet<Arc<str>, foldhash::fast::RandomState>>,
}

/// Gathers the endpoints of a service.
pub(crate) fn gather<'r>(
    info: &ServiceInfo,
    slices: &[&Arc<EndpointSlice>],
    resources: &'r Resources,
    pods: &mut PodIndex<'r>,
) -> ServiceEndpoints {
    let count = info.ports.len();
    let mut gather = Gather {
        info,
        resources,
        pods,
        out: ServiceEndpoints { ports: vec![Instances::default(); count], diagnostics: Vec::new() },
        seen: vec![HashSet::default(); count],
        seen_pods: vec![HashSet::default(); count],
    };
    match &info.source {
        Source::Service(service) => gather.service(service, slices),
        Source::Entry(entry) => gather.entry(entry),
    }
    gather.out
}

impl Gather<'_, '_> {
    fn service(&mut self, service: &Service, slices: &[&Arc<EndpointSlice>]) {
        let spec = &service.spec;
        if spec.service_type == ServiceType::ExternalName {
            self.external_name(service);
            return;
        }
        let endpoints = self.resources.endpoints.get(&service.meta.namespace, &service.meta.name).cloned();
        match endpoints {
            _ if !slices.is_empty() => self.slices(service, slices),
            Some(endpoints) => self.endpoints(service, &endpoints),
            None => self.selected_pods(service),
        }
        if spec.selector.is_empty() || self.resources.workload_entries.is_empty() {
            return;
        }
        for entry in self.resources.workload_entries.in_namespace(&service.meta.namespace) {
            if has_labels(&entry.spec.labels, &spec.selector) {
                let workload = self.pods.of_entry(&entry.meta.name, &entry.meta.namespace, &entry.spec);
                self.workload_entry(&entry.meta, &entry.spec, &workload);
            }
        }
    }

    fn slices(&mut self, service: &Service, slices: &[&Arc<EndpointSlice>]) {
        let mut found = vec![false; self.info.ports.len()];
        let mut any = false;
        for slice in slices {
            any |= !slice.endpoints.is_empty();
            let numbers = self.slice_ports(service, slice, &mut found);
            let labels = slice_labels(service, slice);
            // Without pods all endpoints of a slice are one workload.
            let mut own: Option<Arc<Workload>> = None;
            for endpoint in &slice.endpoints {
                if !(endpoint.conditions.is_ready() || service.spec.publish_not_ready_addresses) {
                    continue;
                }
                let Some(Address::Ip(ip)) = endpoint.addresses.first() else {
                    self.no_address(&slice.meta, endpoint.pos, "an endpoint of addressType FQDN");
                    continue;
                };
                let (workload, locality) = self.slice_facts(service, slice, endpoint, *ip, &labels, &mut own);
                for (index, number) in numbers.iter().enumerate() {
                    if let Some(number) = number {
                        self.push(index, SocketAddr::new(*ip, *number), 1, &locality, &workload);
                    }
                }
            }
        }
        if any {
            let ports: Vec<_> = slices.iter().flat_map(|s| &s.ports).map(|p| (p.name.clone(), p.port)).collect();
            self.report_ports(service, &found, &ports, "EndpointSlices");
        }
    }

    /// The number behind each service port in a slice: ports are matched by name, as Kubernetes does.
    fn slice_ports(&self, service: &Service, slice: &EndpointSlice, found: &mut [bool]) -> Vec<Option<u16>> {
        let number = |(index, port): (usize, &PortInfo)| {
            let named = |p: &&crate::kind::endpoint_slice::SlicePort| {
                p.name.as_deref().unwrap_or_default() == &*port.name && p.protocol == Protocol::Tcp
            };
            let matched = slice.ports.iter().find(named)?;
            found[index] = true;
            Some(matched.port.unwrap_or_else(|| target_number(service, port)))
        };
        self.info.ports.iter().enumerate().map(number).collect()
    }

    fn slice_facts(
        &mut self,
        service: &Service,
        slice: &EndpointSlice,
        endpoint: &SliceEndpoint,
        ip: IpAddr,
        labels: &Labels,
        own: &mut Option<Arc<Workload>>,
    ) -> (Arc<Workload>, Locality) {
        let namespace = &slice.meta.namespace;
        let target = endpoint.target.as_ref().and_then(|t| t.pod()).and_then(|pod| self.pods.named(namespace, pod));
        if let Some(pod) = target.or_else(|| self.pods.with_ip(namespace, ip)) {
            let facts = self.pods.facts(&pod);
            let known = !facts.locality.region.is_empty() || !facts.locality.zone.is_empty();
            let locality = if known { facts.locality } else { self.slice_locality(slice, endpoint) };
            return (facts.workload, locality);
        }
        let pod = endpoint.target.as_ref().and_then(|t| t.pod());
        let workload = match (own.as_ref(), pod) {
            (Some(own), None) => own.clone(),
            (_, None) => {
                let workload = self.pods.without_pod(&service.meta.name, namespace, labels.clone());
                own.insert(workload).clone()
            }
            // A pod that is named and not in the input: its name is all there is.
            (_, Some(pod)) => {
                let workload = self.pods.without_pod(&service.meta.name, namespace, labels.clone());
                Arc::new(Workload { pod: pod.clone(), ..Workload::clone(&workload) })
            }
        };
        (workload, self.slice_locality(slice, endpoint))
    }

    fn slice_locality(&self, slice: &EndpointSlice, endpoint: &SliceEndpoint) -> Locality {
        label_locality(&slice.meta.labels)
            .or_else(|| self.pods.node_locality(endpoint.node_name.as_deref()?))
            .or_else(|| endpoint.zone.as_ref().map(|zone| self.pods.zone_locality(zone)))
            .unwrap_or_default()
    }

    fn endpoints(&mut self, service: &Service, endpoints: &Endpoints) {
        let mut found = vec![false; self.info.ports.len()];
        let mut any = false;
        for subset in &endpoints.subsets {
            let number = |port: &PortInfo| {
                let named = |p: &&crate::kind::endpoints::EndpointPort| {
                    p.name.as_deref().unwrap_or_default() == &*port.name && p.protocol == Protocol::Tcp
                };
                subset.ports.iter().find(named).map(|p| p.port)
            };
            let numbers: Vec<Option<u16>> = self.info.ports.iter().map(number).collect();
            found.iter_mut().zip(&numbers).for_each(|(found, number)| *found |= number.is_some());
            let unready = subset.not_ready_addresses.iter().filter(|_| service.spec.publish_not_ready_addresses);
            for address in subset.addresses.iter().chain(unready) {
                any = true;
                let (workload, locality) = self.address_facts(service, endpoints, address);
                for (index, number) in numbers.iter().enumerate() {
                    if let Some(number) = number {
                        self.push(index, SocketAddr::new(address.ip, *number), 1, &locality, &workload);
                    }
                }
            }
        }
        if any {
            let ports: Vec<_> =
                endpoints.subsets.iter().flat_map(|s| &s.ports).map(|p| (p.name.clone(), Some(p.port))).collect();
            self.report_ports(service, &found, &ports, "Endpoints");
        }
    }

    fn address_facts(
        &mut self,
        service: &Service,
        endpoints: &Endpoints,
        address: &EndpointAddress,
    ) -> (Arc<Workload>, Locality) {
        let namespace = &endpoints.meta.namespace;
        let target = address.target.as_ref().and_then(|t| t.pod()).and_then(|pod| self.pods.named(namespace, pod));
        if let Some(pod) = target.or_else(|| self.pods.with_ip(namespace, address.ip)) {
            let facts = self.pods.facts(&pod);
            return (facts.workload, facts.locality);
        }
        let mut labels = service.spec.selector.clone();
        labels.extend(endpoints.meta.labels.clone());
        let locality = address.node_name.as_deref().and_then(|node| self.pods.node_locality(node)).unwrap_or_default();
        (self.pods.without_pod(&service.meta.name, namespace, labels), locality)
    }

    fn selected_pods(&mut self, service: &Service) {
        for pod in self.pods.selected(&service.meta.namespace, &service.spec.selector) {
            let published = service.spec.publish_not_ready_addresses && !pod.is_over();
            let Some(ip) = pod.ips().next().filter(|_| pod.is_ready() || published) else { continue };
            let facts = self.pods.facts(&pod);
            for (index, port) in self.info.ports.iter().enumerate() {
                let target = service.spec.ports[port.index].target_port.as_ref().map(|t| &t.value);
                let number = match target {
                    Some(IntOrString::Text(name)) => pod.spec.named_port(name, Protocol::Tcp),
                    _ => Some(target_number(service, port)),
                };
                if let Some(number) = number {
                    self.push(index, SocketAddr::new(ip, number), 1, &facts.locality, &facts.workload);
                }
            }
        }
    }

    fn external_name(&mut self, service: &Service) {
        let Some(name) = &service.spec.external_name else { return };
        if self.info.alias_of.is_some() {
            return;
        }
        self.everywhere(name);
    }

    /// Adds one instance that is nothing but an address or a name.
    fn everywhere(&mut self, host: &str) {
        let workload = self.pods.without_pod("", &self.info.namespace, Labels::new());
        let locality = Locality::default();
        for (index, port) in self.info.ports.iter().enumerate() {
            let number = self.target(port);
            match host.parse() {
                Ok(ip) => self.push(index, SocketAddr::new(ip, number), 1, &locality, &workload),
                Err(_) => self.push_name(index, host, number, 1, &locality, &workload),
            }
        }
    }

    fn entry(&mut self, entry: &ServiceEntry) {
        let spec = &entry.spec;
        if let Some(selector) = &spec.selector {
            self.entry_selection(entry, &selector.labels);
            return;
        }
        if spec.endpoints.is_empty() && self.takes_names() {
            let host = self.info.host.clone();
            self.everywhere(&host);
        }
        for endpoint in &spec.endpoints {
            let workload = self.pods.of_entry("", &entry.meta.namespace, endpoint);
            self.workload_entry(&entry.meta, endpoint, &workload);
        }
    }

    /// What a `workloadSelector` selects: WorkloadEntries and pods of the entry's namespace.
    fn entry_selection(&mut self, entry: &ServiceEntry, selector: &Labels) {
        let namespace = &entry.meta.namespace;
        for found in self.resources.workload_entries.in_namespace(namespace) {
            if has_labels(&found.spec.labels, selector) {
                let workload = self.pods.of_entry(&found.meta.name, namespace, &found.spec);
                self.workload_entry(&found.meta, &found.spec, &workload);
            }
        }
        for pod in self.pods.selected(namespace, selector) {
            let Some(ip) = pod.ips().next().filter(|_| pod.is_ready()) else { continue };
            let facts = self.pods.facts(&pod);
            for (index, port) in self.info.ports.iter().enumerate() {
                let address = SocketAddr::new(ip, self.target(port));
                self.push(index, address, 1, &facts.locality, &facts.workload);
            }
        }
    }

    /// Adds an instance that is named by hand: its port map beats the target port, which beats the port.
    fn workload_entry(&mut self, meta: &Metadata, spec: &WorkloadEntrySpec, workload: &Arc<Workload>) {
        let Some(address) = &spec.address else { return };
        if address.starts_with("unix://") {
            let message = format!("address {:?} is a Unix socket, which is not connected to yet", clip(address));
            let hint = "give an IP address; there is no endpoint for it";
            self.out.diagnostics.push(codes::NOT_ENFORCED.about(meta, address.pos, message, hint));
            return;
        }
        let ip = address.parse::<IpAddr>();
        if ip.is_err() && !self.takes_names() {
            self.no_address(meta, address.pos, &format!("address {:?}", clip(address)));
            return;
        }
        let locality = spec.locality.as_deref().map(Locality::parse).unwrap_or_default();
        let weight = spec.weight.filter(|w| *w > 0).unwrap_or(1);
        for (index, port) in self.info.ports.iter().enumerate() {
            let number = spec.ports.get(&port.name).map_or_else(|| self.target(port), |p| p.0);
            match ip {
                Ok(ip) => self.push(index, SocketAddr::new(ip, number), weight, &locality, workload),
                Err(_) => self.push_name(index, address, number, weight, &locality, workload),
            }
        }
    }

    /// Whether instances may have names instead of addresses.
    fn takes_names(&self) -> bool {
        matches!(self.info.discovery, Discovery::Dns | Discovery::DnsRoundRobin)
    }

    /// The port behind one of the service, where no instance has its own.
    fn target(&self, port: &PortInfo) -> u16 {
        match &self.info.source {
            Source::Entry(entry) => entry.spec.ports[port.index].target_port.unwrap_or(port.number),
            Source::Service(service) => target_number(service, port),
        }
    }

    fn push(&mut self, index: usize, address: SocketAddr, weight: u32, locality: &Locality, workload: &Arc<Workload>) {
        if !self.seen[index].insert(address) {
            return;
        }
        if !workload.pod.is_empty() && !self.seen_pods[index].insert(workload.pod.clone()) {
            return;
        }
        self.out.ports[index].endpoints.push(Arc::new(Endpoint {
            address,
            weight,
            priority: 0,
            locality: locality.clone(),
            locality_weight: 0,
            workload: workload.clone(),
        }));
    }

    fn push_name(
        &mut self,
        index: usize,
        host: &str,
        port: u16,
        weight: u32,
        locality: &Locality,
        workload: &Arc<Workload>,
    ) {
        let host: Arc<str> = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase().into();
        let names = &mut self.out.ports[index].names;
        // Twice the same name has the same addresses twice.
        if names.iter().any(|known| known.host == host && known.port == port) {
            return;
        }
        names.push(Arc::new(NamedEndpoint {
            host,
            port,
            weight,
            priority: 0,
            locality: locality.clone(),
            locality_weight: 0,
            workload: workload.clone(),
        }));
    }

    fn no_address(&mut self, meta: &Metadata, pos: crate::node::Pos, what: &str) {
        let service = &self.info.host;
        self.out.diagnostics.push(codes::NOT_RESOLVED.about(
            meta,
            pos,
            format!("{what} is a name, and {service} takes addresses only; there is no endpoint for it"),
            "give IP addresses; names are looked up for ServiceEntries with `resolution: DNS` and ExternalName Services",
        ));
    }

    fn report_ports(
        &mut self,
        service: &Service,
        found: &[bool],
        there: &[(Option<Arc<str>>, Option<u16>)],
        what: &str,
    ) {
        let mut names: Vec<String> = there
            .iter()
            .map(|(name, number)| {
                let name = name.as_deref().unwrap_or_default();
                number.map_or_else(|| format!("{name:?}"), |number| format!("{name:?} ({number})"))
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        let names = if names.is_empty() { "no ports".to_owned() } else { format!("ports {}", names.join(", ")) };
        for (port, _) in self.info.ports.iter().zip(found).filter(|(_, found)| !**found) {
            self.out.diagnostics.push(codes::ENDPOINT_PORTS.about(
                &service.meta,
                service.spec.ports[port.index].pos,
                format!("port {} named {:?} has no endpoints: its {what} have {names}", port.number, &*port.name),
                "a Service port and the port of its endpoints are matched by name",
            ));
        }
    }
}

/// The labels of a slice's endpoints when there are no pods: the selector's, which they have by definition, and the
/// slice's own but for those that Kubernetes keeps its books with.
fn slice_labels(service: &Service, slice: &EndpointSlice) -> Labels {
    let mut labels = service.spec.selector.clone();
    let own = slice.meta.labels.iter();
    let own = own
        .filter(|(key, _)| !matches!(&***key, EndpointSlice::SERVICE_NAME | "endpointslice.kubernetes.io/managed-by"));
    labels.extend(own.map(|(key, value)| (key.clone(), value.clone())));
    labels
}

/// A service port's target where it is a number, else the port itself.
fn target_number(service: &Service, port: &PortInfo) -> u16 {
    match service.spec.ports[port.index].target_port.as_ref().map(|t| &t.value) {
        Some(IntOrString::Int(number)) => u16::try_from(*number).ok().filter(|n| *n > 0).unwrap_or(port.number),
        Some(IntOrString::Text(_)) | None => port.number,
    }
}
