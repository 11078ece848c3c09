//! Clusters: one for every port of every service, and one more for each of its subsets.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use outrigger_model::{
    Balance, BalancePolicy, Breaker, BreakerScope, Cluster, ClusterName, Diagnostic, Discovery, Endpoint, LocalityMode,
    ServiceRef,
};

use super::breakers::Breakers;
use super::client::Client;
use super::ejections::{Ejections, Never};
use super::endpoints::{Instances, ServiceEndpoints};
use super::fingerprint;
use super::lender::Lender;
use super::locality::{self, Near};
use super::policy::{Effective, Merged};
use super::registry::{PortInfo, ServiceInfo};
use super::vhosts;
use super::workloads::has_labels;
use crate::codes;
use crate::decode::clip;
use crate::hosts;
use crate::kind::destination_rule::Subset;
use crate::kind::mesh_config::MeshConfig;

/// What all clusters of a translation share.
pub(crate) struct ClusterContext<'c> {
    /// Mesh settings.
    pub(crate) mesh: &'c MeshConfig,
    /// For whom.
    pub(crate) client: &'c Client,
    /// The clusters of the snapshot before, lent where nothing changed.
    pub(crate) before: &'c HashMap<ClusterName, Arc<Cluster>>,
    /// Lends the clusters of other clients.
    pub(crate) lender: &'c RefCell<Lender>,
    /// Circuit breakers, by service.
    pub(crate) breakers: &'c Breakers,
}

/// The clusters of one service.
#[derive(Debug, Default)]
pub(crate) struct ServiceClusters {
    /// In order of ports, the one without subset first.
    pub(crate) clusters: Vec<Arc<Cluster>>,
    /// Of their content.
    pub(crate) fingerprint: u64,
    /// What was found wrong.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// A cluster whose outlier detection is the mesh's and can never eject.
    pub(crate) never_ejects: Option<Never>,
}

impl ClusterContext<'_> {
    /// Builds the clusters of a service, whose index in the registry is `index`.
    pub(crate) fn build(
        &self,
        index: u32,
        info: &ServiceInfo,
        endpoints: &ServiceEndpoints,
        rule: Option<&Arc<Merged>>,
    ) -> ServiceClusters {
        let mut out = ServiceClusters::default();
        let mut fingerprints = Vec::new();
        let mut ejections = Ejections::default();
        for (port, found) in info.ports.iter().zip(&endpoints.ports) {
            let subsets = rule.into_iter().flat_map(|r| r.subsets().map(|(_, subset)| Some(subset)));
            for subset in std::iter::once(None).chain(subsets) {
                let effective = self.effective(rule, subset, port);
                let (cluster, fingerprint) = self.cluster((index, info), port, found, rule, subset, &effective);
                ejections.add(effective.outlier, &cluster);
                if subset.is_none() && vhosts::has_pod_names(info, port) && cluster.discovery == Discovery::Static {
                    out.clusters.push(self.of_pods(&cluster));
                }
                out.clusters.push(cluster);
                fingerprints.push(fingerprint);
            }
        }
        out.fingerprint = fingerprint::combine(fingerprints.into_iter());
        if let Some(rule) = rule {
            out.diagnostics.extend(empty_subsets(info, endpoints, rule));
        }
        out.diagnostics.extend(rule.map(|rule| ejections.never(rule)).unwrap_or_default());
        out.never_ejects = self.mesh.policy.as_ref().and_then(|p| ejections.of(p.outlier.as_ref()?));
        out
    }

    /// What counts for a port and perhaps a subset, the mesh's blocks where there is none else.
    fn effective<'p>(
        &'p self,
        rule: Option<&'p Arc<Merged>>,
        subset: Option<&'p Subset>,
        port: &PortInfo,
    ) -> Effective<'p> {
        let mut effective = rule.map(|r| r.effective(subset, port.number)).unwrap_or_default();
        if let Some(default) = &self.mesh.policy {
            effective.connection_pool = effective.connection_pool.or(default.connection_pool.as_ref());
            effective.outlier = effective.outlier.or(default.outlier.as_ref());
        }
        effective
    }

    /// The cluster behind the names of a headless Service's pods: the same endpoints, each by its own name.
    fn of_pods(&self, cluster: &Arc<Cluster>) -> Arc<Cluster> {
        let name = ClusterName::outbound(cluster.service.port, "", &hosts::any_below(&cluster.service.host));
        // Each name is that of one instance: what one does says nothing about the others.
        let each =
            |breaker: &Arc<Breaker>| Arc::new(Breaker { scope: BreakerScope::Endpoint, ..Breaker::clone(breaker) });
        let breaker = cluster.breaker.as_ref().map(each);
        let of_pods = Cluster { name, discovery: Discovery::PodName, breaker, ..Cluster::clone(cluster) };
        match self.before.get(&of_pods.name) {
            Some(before) if **before == of_pods => before.clone(),
            _ => self.lender.borrow_mut().cluster(of_pods).0,
        }
    }

    fn cluster(
        &self,
        (index, info): (u32, &ServiceInfo),
        port: &PortInfo,
        instances: &Instances,
        rule: Option<&Arc<Merged>>,
        subset: Option<&Subset>,
        effective: &Effective<'_>,
    ) -> (Arc<Cluster>, u64) {
        let subset_name: Arc<str> = subset.map(|s| s.name.value.clone()).unwrap_or_default();
        let mut selected = match subset {
            Some(subset) if !subset.labels.is_empty() => instances.with_labels(&subset.labels),
            _ => instances.clone(),
        };
        let name = ClusterName::outbound(port.number, &subset_name, &info.host);
        let before = self.before.get(&name);
        let balance = self.balance(effective, &mut selected);
        let discovery = match balance.policy {
            BalancePolicy::Passthrough => Discovery::OriginalDestination,
            _ => info.discovery,
        };
        if discovery == Discovery::OriginalDestination {
            selected = Instances::default();
        }
        if let Some(before) = before {
            reuse(&mut selected.endpoints, &before.endpoints);
            if selected.names == before.names {
                selected.names.clone_from(&before.names);
            }
        }
        let connect = effective.connection_pool.and_then(|p| p.tcp.as_ref()).and_then(|t| t.connect_timeout);
        let service = ServiceRef {
            host: info.host.clone(),
            name: info.name.clone(),
            namespace: info.namespace.clone(),
            port: port.number,
            subset: subset_name,
        };
        let breaker = self.breakers.of(index, &service).filter(|_| port.protocol.is_http());
        let cluster = Cluster {
            service,
            discovery,
            endpoints: selected.endpoints,
            names: selected.names,
            http: effective.upstream_http(port.protocol, self.mesh.h2_upgrade, self.client.is_gateway),
            proxy_protocol: effective.proxy_protocol.map(|p| p.model()),
            balance,
            connect_timeout: connect.unwrap_or(self.mesh.connect_timeout),
            pool: effective.pool(self.mesh),
            outlier: effective.outlier.map(|o| o.model()),
            breaker,
            retry_budget: effective.retry_budget.map(|b| b.model()),
            tls: effective.tls.map(|t| t.model()),
            destination_rule: rule.map(|r| format!("{}/{}", r.rule.meta.namespace, r.rule.meta.name).into()),
            name,
        };
        match before {
            Some(before) if **before == cluster => (before.clone(), fingerprint::cluster(before)),
            _ => self.lender.borrow_mut().cluster(cluster),
        }
    }

    fn balance(&self, effective: &Effective<'_>, instances: &mut Instances) -> Balance {
        let balancer = effective.load_balancer;
        let setting = balancer.and_then(|b| b.locality.as_ref()).unwrap_or(&self.mesh.locality);
        let near = Near { locality: &self.client.locality, labels: self.client.labels() };
        let locality = if instances.len() == 0 {
            LocalityMode::Priority
        } else {
            locality::apply(instances, setting, effective.outlier.is_some(), near)
        };
        Balance {
            policy: balancer.map_or(BalancePolicy::LeastRequest, |b| b.policy.clone()),
            warmup: balancer.and_then(|b| b.warmup),
            locality,
        }
    }
}

/// Puts the endpoints of before in the place of equal new ones.
pub(crate) fn reuse(endpoints: &mut [Arc<Endpoint>], before: &[Arc<Endpoint>]) {
    // Most often the same endpoints stand in the same order; a search is needed from the first difference on only.
    let same = |a: &Arc<Endpoint>, b: &Arc<Endpoint>| Arc::ptr_eq(a, b) || a == b;
    let prefix = endpoints.iter().zip(before).take_while(|(a, b)| same(a, b)).count();
    endpoints[..prefix].clone_from_slice(&before[..prefix]);
    let rest: HashMap<_, &Arc<Endpoint>, foldhash::fast::RandomState> =
        before[prefix..].iter().map(|e| (e.address, e)).collect();
    for endpoint in &mut endpoints[prefix..] {
        if let Some(old) = rest.get(&endpoint.address)
            && same(endpoint, old)
        {
            *endpoint = (*old).clone();
        }
    }
}

/// Subsets without endpoints where the service has some.
fn empty_subsets(info: &ServiceInfo, endpoints: &ServiceEndpoints, rule: &Merged) -> Vec<Diagnostic> {
    let all = || endpoints.ports.iter().flat_map(Instances::workloads);
    if all().next().is_none() {
        return Vec::new();
    }
    let empty = |subset: &Subset| !all().any(|workload| has_labels(&workload.labels, &subset.labels));
    let report = |(owner, subset): (&Arc<crate::kind::destination_rule::DestinationRule>, &Subset)| {
        let labels: Vec<String> = subset.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        codes::EMPTY_SUBSET.about(
            &owner.meta,
            subset.name.pos,
            format!(
                "subset {:?} ({}) selects none of the {} endpoints of {}",
                clip(&subset.name),
                labels.join(", "),
                endpoints.count(),
                info.host
            ),
            "compare its labels with those of the pods; requests to it get 503 (flag UH)",
        )
    };
    rule.subsets().filter(|(_, subset)| empty(subset)).map(report).collect()
}
