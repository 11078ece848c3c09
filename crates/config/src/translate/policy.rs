//! Which DestinationRule counts for a client and a host, and what it says for a subset and port.
//!
//! The client's namespace is asked first, then the service's, then the root namespace; in each the most specific host wins.
//! Rules for one host in one namespace merge: the oldest gives the policy, later ones add subsets.

use std::collections::HashMap;
use std::sync::Arc;

use outrigger_model::{Diagnostic, UpstreamHttp};

use super::client::Client;
use super::protocol::Protocol;
use super::registry::{PortInfo, Registry, ServiceInfo};
use super::workloads::has_labels;
use crate::codes;
use crate::decode::clip;
use crate::hosts;
use crate::kind::balancer::LoadBalancer;
use crate::kind::destination_rule::{
    ConnectionPool, DestinationRule, H2Upgrade, ProxyProtocol, RetryBudget, Subset, TcpKeepalive, Tls, TrafficPolicy,
};
use crate::kind::istio::ExportTo;
use crate::kind::mesh_config::{MeshConfig, MeshUpgrade};
use crate::kind::outlier::Detection;
use crate::resources::Resources;

/// Rules for one host in one namespace that count together.
#[derive(Debug)]
pub(crate) struct Merged {
    /// The oldest of them.
    pub(crate) rule: Arc<DestinationRule>,
    policy: Option<Arc<DestinationRule>>,
    /// Subsets with the rule they come from, by index.
    subsets: Vec<(Arc<DestinationRule>, usize)>,
    export_to: Vec<ExportTo>,
}

impl Merged {
    /// The policy of the rule level.
    fn policy(&self) -> Option<&TrafficPolicy> {
        self.policy.as_ref().and_then(|rule| rule.spec.policy.as_ref())
    }

    /// The subsets in order, each with its rule.
    pub(crate) fn subsets(&self) -> impl Iterator<Item = (&Arc<DestinationRule>, &Subset)> {
        self.subsets.iter().map(|(rule, index)| (rule, &rule.spec.subsets[*index]))
    }

    /// A subset by name.
    pub(crate) fn subset(&self, name: &str) -> Option<&Subset> {
        self.subsets().map(|(_, subset)| subset).find(|s| **s.name == *name)
    }

    /// The rule in which a block stands; `None` for one of the mesh.
    pub(crate) fn owner(&self, block: &Arc<Detection>) -> Option<&Arc<DestinationRule>> {
        let has = |policy: &TrafficPolicy| {
            let ports = policy.ports.iter().filter_map(|port| port.outlier.as_ref());
            policy.outlier.iter().chain(ports).any(|outlier| Arc::ptr_eq(outlier, block))
        };
        let of_subset = self.subsets().find(|(_, subset)| subset.policy.as_ref().is_some_and(has));
        let of_rule = || self.policy.as_ref().filter(|rule| rule.spec.policy.as_ref().is_some_and(has));
        of_subset.map(|(rule, _)| rule).or_else(of_rule)
    }

    /// What counts for a port and perhaps a subset of this rule.
    pub(crate) fn effective<'p>(&'p self, subset: Option<&'p Subset>, port: u16) -> Effective<'p> {
        let mut effective = Effective::default();
        for policy in self.policy().into_iter().chain(subset.and_then(|s| s.policy.as_ref())) {
            effective.lay(policy, port);
        }
        effective
    }
}

/// The blocks that count.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Effective<'p> {
    /// `loadBalancer`.
    pub(crate) load_balancer: Option<&'p Arc<LoadBalancer>>,
    /// `connectionPool`.
    pub(crate) connection_pool: Option<&'p Arc<ConnectionPool>>,
    /// `outlierDetection`.
    pub(crate) outlier: Option<&'p Arc<Detection>>,
    /// `tls`.
    pub(crate) tls: Option<&'p Arc<Tls>>,
    /// `proxyProtocol`.
    pub(crate) proxy_protocol: Option<&'p ProxyProtocol>,
    /// `retryBudget`.
    pub(crate) retry_budget: Option<&'p RetryBudget>,
}

impl<'p> Effective<'p> {
    /// Lays a policy over what is there: block by block, or all four where it has settings for the port.
    fn lay(&mut self, policy: &'p TrafficPolicy, port: u16) {
        match policy.ports.iter().find(|p| p.port.number == port) {
            Some(own) => {
                *self = Self {
                    load_balancer: own.load_balancer.as_ref(),
                    connection_pool: own.connection_pool.as_ref(),
                    outlier: own.outlier.as_ref(),
                    tls: own.tls.as_ref(),
                    // No port has one of its own. That of the rule ends at its port settings, as in Istio.
                    proxy_protocol: self.proxy_protocol,
                    retry_budget: self.retry_budget,
                };
            }
            None => {
                self.load_balancer = policy.load_balancer.as_ref().or(self.load_balancer);
                self.connection_pool = policy.connection_pool.as_ref().or(self.connection_pool);
                self.outlier = policy.outlier.as_ref().or(self.outlier);
                self.tls = policy.tls.as_ref().or(self.tls);
                self.proxy_protocol = policy.proxy_protocol.as_ref().or(self.proxy_protocol);
                self.retry_budget = policy.retry_budget.as_ref().or(self.retry_budget);
            }
        }
    }

    /// `connectionPool`, with what of `tcpKeepalive` the mesh says where it says nothing.
    pub(crate) fn pool(&self, mesh: &MeshConfig) -> outrigger_model::ConnectionPool {
        let mut pool = self.connection_pool.map(|pool| pool.model()).unwrap_or_default();
        if let Some(default) = mesh.keepalive.as_ref().map(TcpKeepalive::model) {
            let own = pool.keepalive.unwrap_or_default();
            pool.keepalive = Some(outrigger_model::TcpKeepalive {
                probes: own.probes.or(default.probes),
                time: own.time.or(default.time),
                interval: own.interval.or(default.interval),
            });
        }
        pool
    }

    /// What is spoken to the endpoints of a port, by Istio's rules.
    pub(crate) fn upstream_http(&self, protocol: Protocol, mesh: MeshUpgrade, by_gateway: bool) -> UpstreamHttp {
        let http = self.connection_pool.and_then(|pool| pool.http.as_ref());
        if http.is_some_and(|http| http.use_client_protocol == Some(true)) {
            return UpstreamHttp::AsClient;
        }
        let upgrade = match http.and_then(|http| http.h2_upgrade) {
            Some(H2Upgrade::Upgrade) => true,
            Some(H2Upgrade::DoNotUpgrade) => false,
            // The mesh's word is for ports that are known to speak HTTP.
            Some(H2Upgrade::Default) | None => protocol == Protocol::Http && mesh == MeshUpgrade::Upgrade,
        };
        match protocol.upstream() {
            _ if upgrade => UpstreamHttp::Http2,
            // Browsers choose HTTP/2 wherever a gateway offers it with TLS, whatever the instances behind it speak.
            UpstreamHttp::AsClient if by_gateway => UpstreamHttp::Http1,
            by_port => by_port,
        }
    }
}

/// All rules a client sees, by namespace and host.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// Of the client's namespace, those exported elsewhere only left out.
    local: ByHost,
    /// By namespace, those the client sees.
    exported: HashMap<Arc<str>, ByHost>,
    root: Arc<str>,
    upgrade: MeshUpgrade,
    /// `connectionPool` of the mesh, for hosts without.
    pool: Option<Arc<ConnectionPool>>,
}

#[derive(Debug, Default)]
struct ByHost {
    exact: HashMap<Arc<str>, Vec<Arc<Merged>>, foldhash::fast::RandomState>,
    /// The longest first.
    wild: Vec<(Arc<str>, Vec<Arc<Merged>>)>,
}

impl ByHost {
    fn find(&self, host: &str) -> Option<&Vec<Arc<Merged>>> {
        self.exact.get(host).or_else(|| self.wild.iter().find(|(h, _)| hosts::covers(h, host)).map(|(_, m)| m))
    }

    fn list(&mut self, host: &Arc<str>) -> &mut Vec<Arc<Merged>> {
        if !hosts::is_wildcard(host) {
            return self.exact.entry(host.clone()).or_default();
        }
        let at = self.wild.iter().position(|(h, _)| h == host).unwrap_or_else(|| {
            self.wild.push((host.clone(), Vec::new()));
            self.wild.len() - 1
        });
        &mut self.wild[at].1
    }
}

impl Rules {
    /// Reads and merges all rules that a client sees.
    pub(crate) fn build(
        resources: &Resources,
        mesh: &MeshConfig,
        domain: &str,
        client: &Client,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut rules = Self {
            root: mesh.root_namespace.clone(),
            upgrade: mesh.h2_upgrade,
            pool: mesh.policy.as_ref().and_then(|policy| policy.connection_pool.clone()),
            ..Self::default()
        };
        for rule in resources.destination_rules.oldest_first() {
            let own = &rule.meta.namespace;
            let host = hosts::expand(&rule.spec.host, own, domain);
            let export_to = match &rule.spec.export_to {
                given if given.is_empty() => mesh.destination_rule_export_to.clone(),
                given => given.clone(),
            };
            let sees_own = export_to.iter().any(|e| match e {
                ExportTo::All | ExportTo::Own => true,
                ExportTo::Namespace(name) => name == own,
                ExportTo::Nobody => false,
            });
            if *own == client.namespace && sees_own {
                // A client in the root namespace sees as local only what is meant for it alone, or rules for the
                // whole mesh would hide those of the services.
                if *own != rules.root || export_to == [ExportTo::Own] {
                    add(rules.local.list(&host), rule, &export_to, diagnostics);
                }
            }
            if hosts::is_visible(&export_to, own, &client.namespace) {
                let in_local = *own == client.namespace && *own != rules.root;
                let mut unheard = Vec::new();
                let sink = if in_local { &mut unheard } else { &mut *diagnostics };
                add(rules.exported.entry(own.clone()).or_default().list(&host), rule, &export_to, sink);
            }
        }
        let longest_first = |by_host: &mut ByHost| by_host.wild.sort_by_key(|(host, _)| std::cmp::Reverse(host.len()));
        longest_first(&mut rules.local);
        rules.exported.values_mut().for_each(longest_first);
        rules
    }

    /// What is spoken to the endpoints of a port, as long as no subset says otherwise.
    pub(crate) fn upstream_http(
        &self,
        info: &ServiceInfo,
        port: &PortInfo,
        client: &Client,
        by_gateway: bool,
    ) -> UpstreamHttp {
        let rule = self.find(info, client);
        let mut effective = rule.map(|rule| rule.effective(None, port.number)).unwrap_or_default();
        effective.connection_pool = effective.connection_pool.or(self.pool.as_ref());
        effective.upstream_http(port.protocol, self.upgrade, by_gateway)
    }

    /// The rule for a service.
    pub(crate) fn find(&self, service: &ServiceInfo, client: &Client) -> Option<&Arc<Merged>> {
        let exported = |namespace: &Arc<str>| self.exported.get(namespace).and_then(|e| e.find(&service.host));
        let found =
            self.local.find(&service.host).or_else(|| exported(&service.namespace)).or_else(|| exported(&self.root))?;
        let selected = |merged: &&Arc<Merged>| match &merged.rule.spec.selector {
            Some(selector) => {
                merged.rule.meta.namespace == client.namespace && has_labels(client.labels(), &selector.labels)
            }
            None => false,
        };
        found.iter().find(selected).or_else(|| found.iter().find(|m| m.rule.spec.selector.is_none()))
    }
}

/// Adds a rule to those of its host and namespace, merging where it may.
fn add(
    list: &mut Vec<Arc<Merged>>,
    rule: &Arc<DestinationRule>,
    export_to: &[ExportTo],
    diagnostics: &mut Vec<Diagnostic>,
) {
    let mut sorted = export_to.to_vec();
    sorted.sort_unstable();
    let all = |rule: &Arc<DestinationRule>| (0..rule.spec.subsets.len()).map(|i| (rule.clone(), i)).collect::<Vec<_>>();
    let same = |m: &Arc<Merged>| m.export_to == sorted && m.rule.spec.selector == rule.spec.selector;
    let Some(merged) = list.iter_mut().find(|m| same(m)) else {
        let policy = rule.spec.policy.is_some().then(|| rule.clone());
        list.push(Arc::new(Merged { rule: rule.clone(), policy, subsets: all(rule), export_to: sorted }));
        return;
    };
    let older = merged.rule.clone();
    let mut subsets = merged.subsets.clone();
    let mut policy = merged.policy.clone();
    match (&policy, &rule.spec.policy) {
        (None, Some(_)) => policy = Some(rule.clone()),
        (Some(winner), Some(_)) => diagnostics.push(codes::SUPERSEDED.about(
            &rule.meta,
            rule.spec.host.pos,
            format!(
                "its trafficPolicy has no effect: {} {} is older and has one for the same host",
                winner.meta.kind,
                full_name(winner)
            ),
            "keep one trafficPolicy for a host; later rules may only add subsets",
        )),
        _ => {}
    }
    for (_, index) in all(rule) {
        let name = &rule.spec.subsets[index].name;
        if subsets.iter().any(|(r, i)| r.spec.subsets[*i].name.value == name.value) {
            diagnostics.push(codes::SUPERSEDED.about(
                &rule.meta,
                name.pos,
                format!(
                    "subset {:?} is already defined by the older DestinationRule {}",
                    clip(name),
                    full_name(&older)
                ),
                "rename or remove it",
            ));
        } else {
            subsets.push((rule.clone(), index));
        }
    }
    *merged = Arc::new(Merged { rule: older, policy, subsets, export_to: sorted });
}

fn full_name(rule: &DestinationRule) -> String {
    format!("{}/{}", rule.meta.namespace, rule.meta.name)
}

/// What can be said of each rule by itself and the registry.
pub(crate) fn review(resources: &Resources, registry: &Registry, domain: &str, out: &mut Vec<Diagnostic>) {
    for rule in resources.destination_rules.iter() {
        let spec = &rule.spec;
        let host = hosts::expand(&spec.host, &rule.meta.namespace, domain);
        let known = if hosts::is_wildcard(&host) {
            registry.services.iter().any(|s| hosts::overlap(&host, &s.host))
        } else {
            !registry.named(&host).is_empty() || registry.services.iter().any(|s| hosts::covers(&s.host, &host))
        };
        if !known {
            let message = format!("host {:?} ({host}) matches no Service and no ServiceEntry", clip(&spec.host));
            let hint = nearest_host(&host, registry, domain);
            out.push(codes::UNKNOWN_RULE_HOST.about(&rule.meta, spec.host.pos, message, hint));
        }
        let mut failover = |policy: Option<&TrafficPolicy>, inherited: bool| {
            let Some(policy) = policy else { return };
            let blocks = policy.ports.iter().map(|p| (&p.load_balancer, p.outlier.is_some()));
            let own = (&policy.load_balancer, policy.outlier.is_some() || inherited);
            for (balancer, outlier) in blocks.chain([own]) {
                let Some(balancer) = balancer.as_ref().filter(|_| !outlier) else { continue };
                let Some(setting) = &balancer.locality else { continue };
                if !(setting.failover.is_empty() && setting.failover_priority.is_empty()) {
                    out.push(codes::FAILOVER_WITHOUT_OUTLIER.about(
                        &rule.meta,
                        balancer.pos,
                        "localityLbSetting asks for failover, but there is no outlierDetection beside it",
                        "add `outlierDetection: {}`; without it endpoints elsewhere are used alike",
                    ));
                }
            }
        };
        failover(spec.policy.as_ref(), false);
        let inherited = spec.policy.as_ref().is_some_and(|p| p.outlier.is_some());
        spec.subsets.iter().for_each(|subset| failover(subset.policy.as_ref(), inherited));
    }
}

/// A hint that names the host most like an unknown one.
pub(crate) fn nearest_host(host: &str, registry: &Registry, domain: &str) -> String {
    // Among more names the comparison costs more than the hint is worth, above all when many hosts are unknown.
    const NAMES_MAX: usize = 1_000;
    let near = |wanted: &str, names: Vec<&str>| {
        if names.len() > NAMES_MAX {
            return None;
        }
        crate::decode::nearest(wanted, &names).map(|near| format!("did you mean `{near}`?"))
    };
    if let Some((name, namespace)) = hosts::split_service_host(host, domain) {
        let elsewhere = registry.services.iter().find(|s| *s.name == *name && s.is_kubernetes());
        if let Some(found) = elsewhere {
            return format!("{name} is in namespace {}, not {namespace}: write {}", found.namespace, found.host);
        }
        let inside = registry.services.iter().filter(|s| *s.namespace == *namespace);
        if let Some(hint) = near(name, inside.map(|s| &*s.name).take(NAMES_MAX + 1).collect()) {
            return hint;
        }
    } else if let Some(hint) = near(host, registry.services.iter().map(|s| &*s.host).take(NAMES_MAX + 1).collect()) {
        return hint;
    }
    "define the Service or ServiceEntry, or correct the host".to_owned()
}
