//! From a destination to the cluster it names, or to the reason why there is none.

use std::cell::RefCell;
use std::collections::HashSet;

use outrigger_model::{ClusterName, Diagnostic, Missing};

use super::client::Client;
use super::policy::{Rules, nearest_host};
use super::registry::{Registry, ServiceInfo};
use crate::codes;
use crate::decode::{clip, nearest};
use crate::hosts;
use crate::kind::istio::Destination;
use crate::node::Pos;
use crate::object::Metadata;

/// What all routes of a translation share.
pub(crate) struct Resolver<'r> {
    /// All hosts.
    pub(crate) registry: &'r Registry,
    /// Which of them the client sees, by index.
    pub(crate) visible: &'r [bool],
    /// DestinationRules, for subsets.
    pub(crate) rules: &'r Rules,
    /// For whom.
    pub(crate) client: &'r Client,
    /// Suffix of service names.
    pub(crate) domain: &'r str,
    /// Services that routes send to, whether in scope or not: they need clusters.
    pub(crate) used: RefCell<HashSet<u32, foldhash::fast::RandomState>>,
    /// What was found wrong.
    pub(crate) diagnostics: RefCell<Vec<Diagnostic>>,
}

/// A cluster's name, and why it does not exist if it does not.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    /// Its name; for a cluster that is missing the name it would have.
    pub(crate) cluster: ClusterName,
    /// Why it is missing.
    pub(crate) missing: Option<Missing>,
}

impl Resolver<'_> {
    /// Adds a finding.
    pub(crate) fn report(&self, diagnostic: Diagnostic) {
        self.diagnostics.borrow_mut().push(diagnostic);
    }

    /// The service of a host that the client sees: its own namespace's first, then that of `near`.
    pub(crate) fn service(&self, host: &str, near: &str) -> Option<u32> {
        let seen = || self.registry.named(host).iter().copied().filter(|index| self.visible[*index as usize]);
        let of = |namespace: &str| seen().find(|index| *self.registry.at(*index).namespace == *namespace);
        let found = of(&self.client.namespace).or_else(|| of(near)).or_else(|| seen().next())?;
        match &self.registry.at(found).alias_of {
            Some(target) => self.registry.named(target).iter().copied().find(|i| self.visible[*i as usize]),
            None => Some(found),
        }
    }

    /// The Service of a namespace and name, exported to the client or not: `exportTo` is Istio's, and routes of the Gateway
    /// API name their backends themselves.
    pub(crate) fn kubernetes_service(&self, namespace: &str, name: &str) -> Option<u32> {
        let host = hosts::service_host(name, namespace, self.domain);
        self.registry.named(&host).iter().copied().find(|index| self.registry.at(*index).is_kubernetes())
    }

    /// The cluster of a destination in a rule of `meta`, for a virtual host of a port.
    pub(crate) fn destination(&self, destination: &Destination, meta: &Metadata, vhost_port: u16) -> Resolved {
        let host = hosts::expand(&destination.host, &meta.namespace, self.domain);
        let subset = destination.subset.as_ref().map(|s| (&*s.value, s.pos)).filter(|(name, _)| !name.is_empty());
        let subset_name = subset.map_or("", |(name, _)| name);
        let given = destination.port.as_ref().map(|p| (p.number, p.pos));
        let Some(index) = self.service(&host, &meta.namespace) else {
            let cluster = ClusterName::outbound(given.map_or(vhost_port, |p| p.0), subset_name, &host);
            let (message, hint) = self.unknown(&host, &destination.host);
            return self.missing(cluster, meta, destination.host.pos, message, hint);
        };
        let info = self.registry.at(index);
        let port = match self.port(info, given, vhost_port, destination, meta) {
            Ok(port) => port,
            Err(resolved) => return resolved,
        };
        self.used.borrow_mut().insert(index);
        let cluster = ClusterName::outbound(port, subset_name, &info.host);
        match subset {
            Some((name, pos)) => self.subset(info, name, pos, cluster, meta),
            None => Resolved { cluster, missing: None },
        }
    }

    /// Why a host is not found, and what to do.
    fn unknown(&self, host: &str, written: &str) -> (String, String) {
        let written = clip(written);
        if let Some(index) = self.registry.named(host).first() {
            let meta = self.registry.at(*index).meta();
            let message = format!(
                "destination host {written:?} ({host}) is not exported to namespace {}, only {} has it",
                self.client.namespace,
                meta.object_ref()
            );
            return (message, "add the client's namespace to its `exportTo`".to_owned());
        }
        let message = format!("destination host {written:?} ({host}) is no known service");
        (message, nearest_host(host, self.registry, self.domain))
    }

    fn port(
        &self,
        info: &ServiceInfo,
        given: Option<(u16, Pos)>,
        vhost_port: u16,
        destination: &Destination,
        meta: &Metadata,
    ) -> Result<u16, Resolved> {
        let subset = destination.subset.as_ref().map_or("", |s| &***s);
        if let Some((number, pos)) = given {
            if info.port(number).is_some() {
                return Ok(number);
            }
            let cluster = ClusterName::outbound(number, subset, &info.host);
            let message = format!("{} has no port {number}; its ports are {}", info.host, info.ports_text());
            return Err(self.missing(cluster, meta, pos, message, "use one of its ports".to_owned()));
        }
        if let [only] = &*info.ports {
            return Ok(only.number);
        }
        let pos = destination.host.pos;
        let ports = info.ports_text();
        let mut finding =
            codes::PORT_REQUIRED.about(meta, pos, String::new(), "add `port: {number: …}` to the destination");
        if info.port(vhost_port).is_some() {
            finding.message = format!(
                "destination {} has several ports ({ports}) and none is named; a request goes to the port it came for",
                info.host
            );
            self.report(finding);
            return Ok(vhost_port);
        }
        let cluster = ClusterName::outbound(vhost_port, subset, &info.host);
        let message = if info.ports.is_empty() {
            format!("destination {} has no ports", info.host)
        } else {
            format!(
                "destination {} has several ports ({ports}), none is named, and {vhost_port} is not among them",
                info.host
            )
        };
        finding.level = outrigger_model::Level::Error;
        finding.message.clone_from(&message);
        self.report(finding);
        Err(Resolved { cluster, missing: Some(Missing { status: 503, reason: message.into() }) })
    }

    fn subset(&self, info: &ServiceInfo, name: &str, pos: Pos, cluster: ClusterName, meta: &Metadata) -> Resolved {
        let rule = self.rules.find(info, self.client);
        if rule.is_some_and(|rule| rule.subset(name).is_some()) {
            return Resolved { cluster, missing: None };
        }
        let Some(rule) = rule else {
            let message =
                format!("subset {:?} of {} is not defined: no DestinationRule counts for it", clip(name), info.host);
            let hint = "define the subset in a DestinationRule for this host".to_owned();
            return self.missing(cluster, meta, pos, message, hint);
        };
        let defined: Vec<&str> = rule.subsets().map(|(_, s)| &*s.name.value).collect();
        let owner = format!("DestinationRule {}/{}", rule.rule.meta.namespace, rule.rule.meta.name);
        let names = if defined.is_empty() { "none".to_owned() } else { defined.join(", ") };
        let message = format!("subset {:?} of {} is not defined; {owner} defines: {names}", clip(name), info.host);
        let hint = nearest(name, &defined).map_or_else(
            || format!("add the subset to {owner}, or name one that is defined"),
            |near| format!("did you mean `{near}`?"),
        );
        self.missing(cluster, meta, pos, message, hint)
    }

    /// Reports a missing cluster and says so in the route.
    pub(crate) fn missing(
        &self,
        cluster: ClusterName,
        meta: &Metadata,
        pos: Pos,
        message: String,
        hint: String,
    ) -> Resolved {
        let reason = message.as_str().into();
        self.report(codes::REFERENCE_NOT_FOUND.about(meta, pos, message, hint));
        Resolved { cluster, missing: Some(Missing { status: 503, reason }) }
    }
}
