//! Which ports a pod serves: those its containers declare, and those that Services send to without a declaration.
//!
//! The containers of a pod share one address, so each number is served once, by one container.

use std::collections::HashMap;
use std::sync::Arc;

use outrigger_model::{BodyLimits, Diagnostic, ServiceRef, UpstreamHttp};

use super::SimulatedPort;
use super::replaced::selects;
use crate::codes;
use crate::hosts;
use crate::kind::pod::{Container, PodSpec};
use crate::kind::service::{Protocol, Service};
use crate::kind::service_entry::ServiceEntry;
use crate::node::{Pos, Spanned};
use crate::object::{Labels, Metadata};
use crate::resources::Resources;
use crate::scalar::IntOrString;
use crate::translate::{ServerLimits, Spoken, has_labels};

/// What the sidecar listens on at the pod's address: outbound, inbound, merged metrics, readiness, its own metrics.
pub(super) const SIDECAR_PORTS: [u16; 5] = [15001, 15006, 15020, 15021, 15090];

/// Containers that are a proxy themselves: manifests may have been injected already. Names, and ends of image names.
const PROXY_CONTAINERS: [&str; 4] = ["istio-proxy", "linkerd-proxy", "kuma-sidecar", "consul-dataplane"];
const PROXY_IMAGES: [&str; 4] = ["/proxyv2", "linkerd/proxy", "/kuma-dp", "/consul-dataplane"];

/// Whether a container is a proxy that was put beside the application.
pub(super) fn is_proxy(container: &Container) -> bool {
    let image = container.image.as_deref().unwrap_or_default();
    let image = image.split('@').next().unwrap_or_default();
    // A colon before the last slash belongs to the registry's port.
    let tag = image.rfind(':').filter(|colon| !image[*colon..].contains('/'));
    let image = &image[..tag.unwrap_or(image.len())];
    PROXY_CONTAINERS.contains(&&*container.name) || PROXY_IMAGES.iter().any(|end| image.ends_with(end))
}

/// Everything that selects pods and sends to ports of theirs.
pub(super) struct Targets<'r> {
    /// By namespace, Services by name before ServiceEntries as they stand.
    by_namespace: HashMap<&'r str, Vec<Selecting<'r>>>,
    limits: ServerLimits,
    domain: &'r str,
}

/// One of them.
pub(super) struct Selecting<'r> {
    /// Labels its pods have.
    pub(super) selector: &'r Labels,
    /// What it is.
    pub(super) source: SelectingSource<'r>,
}

/// A Service or a ServiceEntry.
#[derive(Clone, Copy)]
pub(super) enum SelectingSource<'r> {
    /// Kubernetes.
    Service(&'r Arc<Service>),
    /// Istio, with `workloadSelector`.
    Entry(&'r Arc<ServiceEntry>),
}

/// A port of one of them, seen from a pod it selects.
struct Target<'r> {
    number: u16,
    service: ServiceRef,
    speaks: Spoken,
    meta: &'r Metadata,
    pos: Pos,
}

/// What a pod serves.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// Its ports, as containers declare them; then undeclared ones.
    pub(super) ports: Vec<SimulatedPort>,
    /// What was found on the way.
    pub(super) diagnostics: Vec<Diagnostic>,
}

impl<'r> Targets<'r> {
    /// Of an input.
    pub(super) fn new(resources: &'r Resources, domain: &'r str) -> Self {
        let mut by_namespace: HashMap<&'r str, Vec<Selecting<'r>>> = HashMap::new();
        let mut services: Vec<&Arc<Service>> = resources.services.iter().filter(|service| selects(service)).collect();
        services.sort_by(|a, b| a.meta.name.cmp(&b.meta.name));
        for service in services {
            let selecting = Selecting { selector: &service.spec.selector, source: SelectingSource::Service(service) };
            by_namespace.entry(&service.meta.namespace).or_default().push(selecting);
        }
        for entry in resources.service_entries.iter() {
            let Some(selector) = entry.spec.selector.as_ref().filter(|s| !s.labels.is_empty()) else { continue };
            let selecting = Selecting { selector: &selector.labels, source: SelectingSource::Entry(entry) };
            by_namespace.entry(&entry.meta.namespace).or_default().push(selecting);
        }
        Self { by_namespace, limits: ServerLimits::new(resources), domain }
    }

    /// Those that select a pod.
    pub(super) fn selecting(&self, namespace: &str, labels: &Labels) -> impl Iterator<Item = &Selecting<'r>> {
        let all = self.by_namespace.get(namespace).map_or(&[][..], Vec::as_slice);
        all.iter().filter(|selecting| has_labels(labels, selecting.selector))
    }

    /// The ports of a pod; findings are about `meta`, whose document `spec` stands in.
    pub(super) fn plan(&self, meta: &Metadata, spec: &PodSpec, labels: &Labels) -> Plan {
        let mut plan = Plan::default();
        for container in spec.running() {
            plan.container(meta, container);
        }
        let targets: Vec<Target<'_>> =
            self.selecting(&meta.namespace, labels).flat_map(|s| self.targets(s, spec, meta, &mut plan)).collect();
        let first = spec.containers.iter().find(|container| !is_proxy(container));
        if let Some(first) = first {
            for target in &targets {
                plan.undeclared(meta, first, target);
            }
        }
        for port in &mut plan.ports {
            let services = targets.iter().filter(|target| target.number == port.port).map(|target| &target.service);
            (port.rate_limits, port.body_limits) = self.limits.of(services);
            match targets.iter().find(|target| target.number == port.port) {
                Some(target) => {
                    port.service = Some(target.service.clone());
                    port.speaks(target.speaks);
                }
                None => port.speaks(Spoken::of_service_port(None, Some(&port.name), port.port)),
            }
        }
        plan
    }

    fn targets(&self, selecting: &Selecting<'r>, spec: &PodSpec, pod: &Metadata, plan: &mut Plan) -> Vec<Target<'r>> {
        match selecting.source {
            SelectingSource::Service(service) => self.service_targets(service, spec, pod, plan),
            SelectingSource::Entry(entry) => entry_targets(entry),
        }
    }

    fn service_targets(
        &self,
        service: &'r Arc<Service>,
        spec: &PodSpec,
        pod: &Metadata,
        plan: &mut Plan,
    ) -> Vec<Target<'r>> {
        let mut targets = Vec::new();
        for port in service.spec.ports.iter().filter(|port| port.protocol == Protocol::Tcp) {
            let number = match port.target_port.as_ref().map(|target| &target.value) {
                Some(IntOrString::Text(name)) => match spec.named_port(name, Protocol::Tcp) {
                    Some(number) => number,
                    None => {
                        plan.diagnostics.push(unknown_name(service, port, name, spec, pod));
                        continue;
                    }
                },
                Some(IntOrString::Int(number)) => u16::try_from(*number).unwrap_or(port.port),
                None => port.port,
            };
            targets.push(Target {
                number,
                service: ServiceRef {
                    host: hosts::service_host(&service.meta.name, &service.meta.namespace, self.domain),
                    name: service.meta.name.clone(),
                    namespace: service.meta.namespace.clone(),
                    port: port.port,
                    subset: Arc::default(),
                },
                speaks: Spoken::of_service_port(port.app_protocol.as_deref(), port.name.as_deref(), port.port),
                meta: &service.meta,
                pos: port.target_port.as_ref().map_or(port.pos, |target| target.pos),
            });
        }
        targets
    }
}

fn entry_targets(entry: &Arc<ServiceEntry>) -> Vec<Target<'_>> {
    let Some(host) = entry.spec.hosts.first() else { return Vec::new() };
    let target = |port: &'_ Spanned<crate::kind::service_entry::EntryPort>| Target {
        number: port.target_port.unwrap_or(port.number),
        service: ServiceRef {
            host: host.value.0.clone(),
            name: host.value.0.clone(),
            namespace: entry.meta.namespace.clone(),
            port: port.number,
            subset: Arc::default(),
        },
        speaks: Spoken::of_entry_port(port.protocol.as_deref().map(|p| &**p), &port.name, port.number),
        meta: &entry.meta,
        pos: port.pos,
    };
    entry.spec.ports.iter().map(target).filter(|target| target.speaks.word != "udp").collect()
}

fn unknown_name(
    service: &Service,
    port: &crate::kind::service::ServicePort,
    name: &str,
    spec: &PodSpec,
    pod: &Metadata,
) -> Diagnostic {
    codes::TARGET_PORT.about(
        &service.meta,
        port.target_port.as_ref().map_or(service.meta.pos, |target| target.pos),
        format!(
            "port {}: no container of {} has a port named {name:?}; its ports are {}",
            port.port,
            pod.object_ref(),
            ports_text(spec)
        ),
        "its pods get no requests for that port; name one of these ports, or give its number",
    )
}

/// The declared ports of a pod for a message: `http (8080) of web, 9090 of exporter`.
pub(super) fn ports_text(spec: &PodSpec) -> String {
    let text = |(container, port): (&Container, &crate::kind::pod::ContainerPort)| match port.name.as_deref() {
        Some(name) => format!("{name} ({}) of {}", port.container_port, container.name),
        None => format!("{} of {}", port.container_port, container.name),
    };
    let ports: Vec<String> = spec.ports().map(text).collect();
    if ports.is_empty() { "none".to_owned() } else { ports.join(", ") }
}

impl SimulatedPort {
    fn speaks(&mut self, spoken: Spoken) {
        self.protocol = spoken.word.into();
        self.http = spoken.protocol.upstream();
    }
}

impl Plan {
    fn container(&mut self, meta: &Metadata, container: &Spanned<Container>) {
        let name = &container.name;
        if is_proxy(container) {
            let message = format!(
                "container {name:?} is a proxy that was injected; it is not simulated, the pod gets a sidecar anyway"
            );
            self.diagnostics.push(codes::NOT_SIMULATED.about(meta, container.pos, message, ""));
            return;
        }
        for port in &container.ports {
            let number = port.container_port;
            if port.protocol != Protocol::Tcp {
                let message = format!(
                    "port {number} of container {name:?} speaks {}, which is not simulated",
                    port.protocol.as_str()
                );
                self.diagnostics.push(codes::NOT_SIMULATED.about(meta, port.pos, message, ""));
            } else if SIDECAR_PORTS.contains(&number) {
                let message =
                    format!("port {number} of container {name:?} is one that the sidecar uses; it is not simulated");
                self.diagnostics.push(codes::SIDECAR_PORT.about(meta, port.pos, message, "use another port"));
            } else if let Some(first) = self.ports.iter().find(|p| p.port == number) {
                // One port may well have two names, in one container.
                if first.container != *name {
                    let message = format!(
                        "port {number} of container {name:?} belongs to container {:?} already",
                        &*first.container
                    );
                    let hint = "the containers of a pod share one address; give one of them another port";
                    self.diagnostics.push(codes::PORT_TWICE.about(meta, port.pos, message, hint));
                }
            } else {
                self.ports.push(SimulatedPort {
                    container: name.clone(),
                    name: port.name.clone().unwrap_or_default(),
                    port: number,
                    protocol: Arc::default(),
                    http: UpstreamHttp::default(),
                    service: None,
                    rate_limits: Vec::new(),
                    body_limits: BodyLimits::default(),
                });
            }
        }
    }

    /// Adds a port that is sent to, if no container declares it: in Kubernetes a declaration informs, no more.
    fn undeclared(&mut self, meta: &Metadata, container: &Container, target: &Target<'_>) {
        let number = target.number;
        if SIDECAR_PORTS.contains(&number) || self.ports.iter().any(|port| port.port == number) {
            return;
        }
        let message = format!(
            "no container of {} declares port {number}; it is simulated on container {:?}",
            meta.object_ref(),
            &*container.name
        );
        let hint = "add it to the container's `ports`, or correct the Service, if that is not what is meant";
        self.diagnostics.push(codes::UNDECLARED_PORT.about(target.meta, target.pos, message, hint));
        self.ports.push(SimulatedPort {
            container: container.name.clone(),
            name: Arc::default(),
            port: number,
            protocol: Arc::default(),
            http: UpstreamHttp::default(),
            service: None,
            rate_limits: Vec::new(),
            body_limits: BodyLimits::default(),
        });
    }
}
