//! Backends of Gateway API routes: from a reference to the cluster it names, or to the reason why there is none.
//!
//! A backend that leads nowhere keeps its weight, and its share of requests gets 500 (`HTTPBackendRef` of the Gateway
//! API), its share of connections is reset. Every such reference is a finding, and a [`RefProblem`] for the conditions of
//! its route.

use outrigger_model::{ClusterName, Missing, UpstreamHttp};

use super::gateways::grants::{Grants, Referent, Referrer};
use super::protocol::Protocol;
use super::registry::{PortInfo, ServiceInfo, Source};
use super::resolve::{Resolved, Resolver};
use crate::codes::{self, CodeInfo};
use crate::decode::clip;
use crate::hosts;
use crate::kind::gateway_api::GROUP;
use crate::kind::gateway_refs::BackendObjectRef;
use crate::kind::grpc_route::GRPC_ROUTE;
use crate::node::Pos;
use crate::object::Metadata;

/// The status of a share of requests that leads nowhere.
pub(crate) const NOWHERE_STATUS: u16 = 500;

/// The same, by the kind of the route: of a GRPCRoute clients shall read `UNAVAILABLE`, which 503 stands for.
pub(crate) fn nowhere_status(route: &Metadata) -> u16 {
    if route.kind == GRPC_ROUTE { 503 } else { NOWHERE_STATUS }
}

/// Why something that a route refers to, or asks for, is not there: the reason of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// A kind that is not known here. `ResolvedRefs` is false.
    InvalidKind,
    /// No such object, or no such port of it. `ResolvedRefs` is false.
    BackendNotFound,
    /// No ReferenceGrant permits it. `ResolvedRefs` is false.
    RefNotPermitted,
    /// The port speaks something else. `ResolvedRefs` is false.
    UnsupportedProtocol,
    /// A filter that is valid and not supported there: the rule is not `Accepted` as it is.
    UnsupportedValue,
}

impl Reason {
    /// As conditions write it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::InvalidKind => "InvalidKind",
            Self::BackendNotFound => "BackendNotFound",
            Self::RefNotPermitted => "RefNotPermitted",
            Self::UnsupportedProtocol => "UnsupportedProtocol",
            Self::UnsupportedValue => "UnsupportedValue",
        }
    }

    fn code(self) -> &'static CodeInfo {
        match self {
            Self::InvalidKind | Self::BackendNotFound => codes::REFERENCE_NOT_FOUND,
            Self::RefNotPermitted => codes::NOT_PERMITTED,
            Self::UnsupportedProtocol | Self::UnsupportedValue => codes::NOT_ENFORCED,
        }
    }
}

/// Something that a route refers to, or asks for, and that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RefProblem {
    /// Index of the rule.
    pub(crate) rule: usize,
    /// What kind of problem.
    pub(crate) reason: Reason,
    /// A sentence that names the object.
    pub(crate) message: String,
    /// Where the reference stands in the route.
    pub(crate) pos: Pos,
}

/// Who refers: a rule of a route.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Referring<'o> {
    /// The route.
    pub(crate) meta: &'o Metadata,
    /// Index of the rule.
    pub(crate) rule: usize,
}

/// What a kind of route sends to its backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Requests: a port that says that it speaks something else takes none.
    Requests,
    /// Connections, whatever they carry.
    Connections,
}

/// Resolves references to backends.
pub(crate) struct Backends<'b> {
    /// Finds services.
    pub(crate) resolver: &'b Resolver<'b>,
    /// What is sent to them.
    pub(crate) sent: Sent,
    /// What may be referred to in other namespaces. `None` for routes of the mesh, which need no grant: they do not expose
    /// what their clients could not reach without them (GEP-1294, "Namespace boundaries").
    pub(crate) grants: Option<Grants<'b>>,
}

impl Backends<'_> {
    /// The cluster of a reference.
    pub(crate) fn resolve(
        &self,
        from: Referring<'_>,
        target: &BackendObjectRef,
        problems: &mut Vec<RefProblem>,
    ) -> Resolved {
        match self.find(from.meta, target) {
            Ok(cluster) => Resolved { cluster, missing: None },
            Err((reason, message, hint)) => {
                let pos = match reason {
                    Reason::RefNotPermitted => target.namespace.as_ref().map_or(target.name.pos, |n| n.pos),
                    _ => target.name.pos,
                };
                let port = target.port.as_ref().map_or(0, |p| p.value);
                let namespace = target.namespace_or(&from.meta.namespace);
                let host = hosts::service_host(&target.name, namespace, self.resolver.domain);
                let cluster = ClusterName::outbound(port, "", &host);
                let missing = self.report(from, pos, reason, message, hint, problems);
                Resolved { cluster, missing: Some(missing) }
            }
        }
    }

    /// Reports a problem, and says what answers the requests that meet it.
    pub(crate) fn report(
        &self,
        from: Referring<'_>,
        pos: Pos,
        reason: Reason,
        message: String,
        hint: String,
        problems: &mut Vec<RefProblem>,
    ) -> Missing {
        self.resolver.report(reason.code().about(from.meta, pos, message.clone(), hint));
        let missing = Missing { status: nowhere_status(from.meta), reason: message.as_str().into() };
        problems.push(RefProblem { rule: from.rule, reason, message, pos });
        missing
    }

    fn find(&self, meta: &Metadata, target: &BackendObjectRef) -> Result<ClusterName, (Reason, String, String)> {
        let own = &meta.namespace;
        let namespace = target.namespace_or(own);
        if !target.is_service() {
            let kind = match &*target.group {
                "" => target.kind.to_string(),
                group => format!("{group}/{}", target.kind),
            };
            let message =
                format!("backend {namespace}/{} is of kind {kind}, which is not known here", clip(&target.name));
            return Err((Reason::InvalidKind, message, "a backend is a Service".to_owned()));
        }
        self.permitted(meta, namespace, &target.name)?;
        let host = hosts::service_host(&target.name, namespace, self.resolver.domain);
        let Some(mut index) = self.resolver.kubernetes_service(namespace, &target.name) else {
            let message = format!("backend Service {namespace}/{} does not exist", clip(&target.name));
            let hint = super::policy::nearest_host(&host, self.resolver.registry, self.resolver.domain);
            return Err((Reason::BackendNotFound, message, hint));
        };
        let registry = self.resolver.registry;
        if let Some(alias) = &registry.at(index).alias_of
            && let Some(real) = registry.named(alias).first()
        {
            let info = registry.at(*real);
            // An ExternalName must not lead where the route itself may not go.
            self.permitted(meta, &info.namespace, &info.name)?;
            index = *real;
        }
        let info = registry.at(index);
        let port = target.port.as_ref().map_or(0, |p| p.value);
        let Some(found) = info.port(port) else {
            let message = format!("backend {} has no port {port}; its ports are {}", info.host, info.ports_text());
            return Err((Reason::BackendNotFound, message, "use one of its ports".to_owned()));
        };
        self.is_spoken(info, found)?;
        self.review_calls(meta, target, info, found);
        self.resolver.used.borrow_mut().insert(index);
        Ok(ClusterName::outbound(port, "", &info.host))
    }

    /// Warns of calls that are sent in HTTP/1.1, which has no room for them. What is spoken is the port's to say, whatever
    /// kind of route leads there, as in Istio.
    fn review_calls(&self, meta: &Metadata, target: &BackendObjectRef, info: &ServiceInfo, port: &PortInfo) {
        let resolver = self.resolver;
        let spoken = || resolver.rules.upstream_http(info, port, resolver.client, self.grants.is_some());
        if meta.kind != GRPC_ROUTE || spoken() != UpstreamHttp::Http1 {
            return;
        }
        let why = match port.protocol {
            Protocol::Undetermined => "nobody says what it speaks, and gateways send HTTP/1.1 there".to_owned(),
            stated => format!("it is one of {}", stated.as_str()),
        };
        let message =
            format!("port {} of backend {} gets HTTP/1.1, which cannot carry gRPC: {why}", port.number, info.host);
        let hint = "give the port of the Service `appProtocol: kubernetes.io/h2c`, or a name that begins with `grpc`";
        let pos = target.port.as_ref().map_or(target.name.pos, |port| port.pos);
        resolver.report(codes::GRPC_OVER_HTTP1.about(meta, pos, message, hint));
    }

    /// Whether a port takes what is sent.
    fn is_spoken(&self, info: &ServiceInfo, port: &PortInfo) -> Result<(), (Reason, String, String)> {
        let Some(stated) = app_protocol(info, port.index) else { return Ok(()) };
        if self.sent == Sent::Connections || port.protocol.is_http() {
            return Ok(());
        }
        let (number, host) = (port.number, &info.host);
        let message = format!("port {number} of backend {host} is no HTTP: its appProtocol is {:?}", clip(stated));
        Err((Reason::UnsupportedProtocol, message, "send to a port that speaks plain HTTP".to_owned()))
    }

    fn permitted(&self, meta: &Metadata, namespace: &str, name: &str) -> Result<(), (Reason, String, String)> {
        let from = Referrer { group: GROUP, kind: meta.kind, namespace: &meta.namespace };
        let to = Referent { group: "", kind: "Service", namespace, name };
        if self.grants.is_none_or(|grants| grants.permits(from, to)) {
            return Ok(());
        }
        let (kind, own) = (meta.kind, &meta.namespace);
        let message = format!(
            "backend Service {namespace}/{} may not be referred to from namespace {own}: no ReferenceGrant in {namespace} permits it",
            clip(name)
        );
        let hint = format!(
            "add a ReferenceGrant to namespace {namespace}, from {{group: {GROUP}, kind: {kind}, namespace: {own}}} to {{group: \"\", kind: Service}}"
        );
        Err((Reason::RefNotPermitted, message, hint))
    }
}

/// The `appProtocol` of a Service's port.
fn app_protocol(info: &ServiceInfo, index: usize) -> Option<&str> {
    match &info.source {
        Source::Service(service) => service.spec.ports.get(index)?.app_protocol.as_deref(),
        Source::Entry(_) => None,
    }
}
