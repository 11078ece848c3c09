//! The second half of a translation: clusters, service by service, and the snapshot of it all.

use std::collections::HashMap;
use std::sync::Arc;

use outrigger_model::{Cluster, ClusterName, Mesh, Snapshot};

use super::clusters::{ClusterContext, ServiceClusters};
use super::endpoints::ServiceEndpoints;
use super::{Config, Memo, Pass, captures, fingerprint};

/// The endpoints and clusters of one service.
#[derive(Clone, Debug)]
pub(super) struct ServiceMemo {
    /// What the clusters were made from.
    pub(super) endpoints: Arc<ServiceEndpoints>,
    /// The clusters.
    pub(super) clusters: Arc<ServiceClusters>,
}

impl Pass<'_> {
    /// Clusters, service by service.
    pub(super) fn services(&self, config: &Arc<Config>) -> Vec<ServiceMemo> {
        let none = HashMap::new();
        let context = ClusterContext {
            mesh: &self.common.mesh,
            client: self.client,
            before: self.before.map_or(&none, |memo| &memo.clusters),
            lender: self.lender,
            breakers: &self.common.breakers,
        };
        let before = self.before.filter(|memo| Arc::ptr_eq(&memo.config, config));
        let service = |(index, endpoints): (usize, &Arc<ServiceEndpoints>)| {
            if let Some(known) = before.map(|memo| &memo.services[index])
                && Arc::ptr_eq(&known.endpoints, endpoints)
            {
                return known.clone();
            }
            let info = &config.registry.services[index];
            let clusters = if config.needed[index] && info.alias_of.is_none() {
                Arc::new(context.build(index as u32, info, endpoints, config.rules.find(info, self.client)))
            } else {
                Arc::default()
            };
            ServiceMemo { endpoints: endpoints.clone(), clusters }
        };
        self.common.endpoints().enumerate().map(service).collect()
    }

    /// What the client obeys.
    pub(super) fn snapshot(&self, config: &Config, services: &[ServiceMemo]) -> Snapshot {
        let same_config = self.before.filter(|memo| std::ptr::eq(&*memo.config, config));
        let clusters = same_config.and_then(|memo| changed(memo, services));
        let mut clusters = clusters.unwrap_or_else(|| self.all(config, services));
        if self.view.captures {
            let passthrough = Arc::new(captures::passthrough(&self.common.mesh));
            let before = self.before.and_then(|memo| memo.clusters.get(&passthrough.name));
            let passthrough = before.filter(|before| **before == passthrough).cloned().unwrap_or(passthrough);
            clusters.insert(passthrough.name.clone(), passthrough);
        }
        let (settings, domain) = (&self.common.mesh, self.view.domain.clone());
        let mesh = Mesh {
            trust_domain: settings.trust_domain.clone(),
            domain,
            detect_timeout: settings.detect_timeout.filter(|limit| !limit.is_zero()),
        };
        let workload = fingerprint::workload(&self.client.workload, &mesh);
        let parts = [config.served.fingerprint, workload].into_iter();
        Snapshot {
            version: fingerprint::combine(parts.chain(services.iter().map(|s| s.clusters.fingerprint))),
            workload: self.client.workload.clone(),
            mesh,
            listeners: config.served.listeners.clone(),
            captures: config.served.captures.clone(),
            clusters,
            peers: Arc::default(),
            services: config.order.iter().map(|index| self.common.summary(*index)).collect(),
        }
    }
    fn all(&self, config: &Config, services: &[ServiceMemo]) -> HashMap<ClusterName, Arc<Cluster>> {
        let count = services.iter().map(|s| s.clusters.clusters.len()).sum();
        let mut clusters = HashMap::with_capacity(count);
        // Two ServiceEntries may have one host and port; the client's own namespace wins, as it does for virtual hosts.
        let all = || config.registry.services.iter().zip(services);
        let is_near = |namespace: &Arc<str>| *namespace == self.client.namespace;
        let near = all().filter(|(info, _)| is_near(&info.namespace));
        let far = all().filter(|(info, _)| !is_near(&info.namespace));
        for cluster in near.chain(far).flat_map(|(_, service)| &service.clusters.clusters) {
            clusters.entry(cluster.name.clone()).or_insert_with(|| cluster.clone());
        }
        clusters
    }
}

/// The clusters of before, those of services that changed replaced: the same configuration makes the same names in the same
/// order. `None` if two services have one name; who has it is decided anew then.
fn changed(before: &Memo, services: &[ServiceMemo]) -> Option<HashMap<ClusterName, Arc<Cluster>>> {
    let passthrough = before.clusters.contains_key(&ClusterName::new(ClusterName::PASSTHROUGH));
    let of_services: usize = services.iter().map(|service| service.clusters.clusters.len()).sum();
    let count = of_services + usize::from(passthrough);
    if before.clusters.len() != count {
        return None;
    }
    let mut clusters = before.clusters.clone();
    for (old, new) in before.services.iter().zip(services) {
        if !Arc::ptr_eq(&old.clusters, &new.clusters) {
            let new = new.clusters.clusters.iter();
            clusters.extend(new.map(|cluster| (cluster.name.clone(), cluster.clone())));
        }
    }
    Some(clusters)
}
