//! Who the workloads are: from pods, their owners and nodes, to the facts that metrics and policies name.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use outrigger_model::{Locality, Workload};

use crate::kind::pod::Pod;
use crate::kind::workload_entry::WorkloadEntrySpec;
use crate::object::{Labels, Metadata};
use crate::resources::Resources;

/// What is known of a pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PodFacts {
    /// Its workload.
    pub(crate) workload: Arc<Workload>,
    /// Where it runs.
    pub(crate) locality: Locality,
}

/// Names that all facts share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Naming {
    /// Mesh trust domain.
    pub(crate) trust_domain: Arc<str>,
    /// Cluster id.
    pub(crate) cluster: Arc<str>,
}

impl Naming {
    /// The SPIFFE identity of a service account.
    pub(crate) fn principal(&self, namespace: &str, account: &str) -> Arc<str> {
        format!("spiffe://{}/ns/{namespace}/sa/{account}", self.trust_domain).into()
    }
}

/// Facts by namespace and name, each with the pod they were made from.
type Facts = HashMap<Arc<str>, HashMap<Arc<str>, (Arc<Pod>, PodFacts)>>;

/// Facts of pods, kept from one translation to the next while pod, ReplicaSets and nodes stay the same.
#[derive(Debug, Default)]
pub(crate) struct Workloads {
    facts: Facts,
}

/// Pods found by name, address or labels, and their facts.
pub(crate) struct PodIndex<'r> {
    resources: &'r Resources,
    naming: &'r Naming,
    zones: OnceCell<HashMap<Arc<str>, Locality>>,
    by_ip: OnceCell<AddressIndex>,
    by_label: OnceCell<LabelIndex>,
    before: Facts,
    facts: Facts,
}

/// Pods by namespace and address.
type AddressIndex = HashMap<(Arc<str>, IpAddr), Arc<Pod>, foldhash::fast::RandomState>;

/// Pods by namespace, then by each of their labels.
type LabelIndex = HashMap<Arc<str>, HashMap<(Arc<str>, Arc<str>), Vec<Arc<Pod>>, foldhash::fast::RandomState>>;

impl Workloads {
    /// An index for one translation; `same_owners` says that ReplicaSets, nodes and naming are those of the last one.
    pub(crate) fn index<'r>(
        &mut self,
        resources: &'r Resources,
        naming: &'r Naming,
        same_owners: bool,
    ) -> PodIndex<'r> {
        let before = std::mem::take(&mut self.facts);
        PodIndex {
            resources,
            naming,
            zones: OnceCell::new(),
            by_ip: OnceCell::new(),
            by_label: OnceCell::new(),
            before: if same_owners { before } else { Facts::new() },
            facts: Facts::new(),
        }
    }

    /// Takes the facts back after a translation.
    pub(crate) fn keep(&mut self, index: PodIndex<'_>) {
        let PodIndex { mut before, facts, resources, .. } = index;
        // Services that were not looked at again keep the facts of their pods.
        for (namespace, pods) in facts {
            before.entry(namespace).or_default().extend(pods);
        }
        // More facts than pods: some pods are gone.
        if before.values().map(HashMap::len).sum::<usize>() > resources.pods.len() {
            for (namespace, pods) in &mut before {
                pods.retain(|name, _| resources.pods.get(namespace, name).is_some());
            }
            before.retain(|_, pods| !pods.is_empty());
        }
        self.facts = before;
    }
}

impl<'r> PodIndex<'r> {
    /// The pod of a name.
    pub(crate) fn named(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.resources.pods.get(namespace, name).cloned()
    }

    /// The pod of a namespace that has an address; pods that ended may have left theirs to others.
    pub(crate) fn with_ip(&self, namespace: &Arc<str>, ip: IpAddr) -> Option<Arc<Pod>> {
        if self.resources.pods.is_empty() {
            return None;
        }
        let by_ip = self.by_ip.get_or_init(|| {
            let mut by_ip = HashMap::default();
            for pod in self.resources.pods.iter().filter(|p| !p.is_over() && !p.spec.host_network) {
                for ip in pod.ips() {
                    by_ip.entry((pod.meta.namespace.clone(), ip)).or_insert_with(|| pod.clone());
                }
            }
            by_ip
        });
        by_ip.get(&(namespace.clone(), ip)).cloned()
    }

    /// The pods of a namespace that have all labels of a selector, in input order. An empty selector selects nothing.
    pub(crate) fn selected(&self, namespace: &str, selector: &Labels) -> Vec<Arc<Pod>> {
        let Some((key, value)) = selector.iter().next() else { return Vec::new() };
        if self.resources.pods.is_empty() {
            return Vec::new();
        }
        let by_label = self.by_label.get_or_init(|| label_index(self.resources));
        let candidates = by_label.get(namespace).and_then(|n| n.get(&(key.clone(), value.clone())));
        let candidates = candidates.into_iter().flatten();
        candidates.filter(|pod| has_labels(&pod.meta.labels, selector)).cloned().collect()
    }

    /// The facts of a pod, worked out once.
    pub(crate) fn facts(&mut self, pod: &Arc<Pod>) -> PodFacts {
        let known = |facts: &Facts| {
            let (at, found) = facts.get(&pod.meta.namespace)?.get(&pod.meta.name)?;
            Arc::ptr_eq(at, pod).then(|| found.clone())
        };
        if let Some(found) = known(&self.facts) {
            return found;
        }
        let fresh = known(&self.before).unwrap_or_else(|| self.fresh(pod));
        let pods = self.facts.entry(pod.meta.namespace.clone()).or_default();
        pods.insert(pod.meta.name.clone(), (pod.clone(), fresh.clone()));
        fresh
    }

    fn fresh(&self, pod: &Pod) -> PodFacts {
        let meta = &pod.meta;
        let name = owner_name(self.resources, meta);
        let mut workload = Workload::new(&name, &meta.namespace, &meta.name, &self.naming.cluster, meta.labels.clone());
        workload.principal = self.naming.principal(&meta.namespace, pod.spec.account());
        let locality = label_locality(&meta.labels)
            .or_else(|| self.node_locality(pod.spec.node_name.as_deref()?))
            .unwrap_or_default();
        let before = self.before.get(&meta.namespace).and_then(|pods| pods.get(&meta.name));
        // A pod whose status changed is mostly the same workload.
        let workload = match before {
            Some((_, facts)) if *facts.workload == workload => facts.workload.clone(),
            _ => Arc::new(workload),
        };
        PodFacts { workload, locality }
    }

    /// Where a node is.
    pub(crate) fn node_locality(&self, name: &str) -> Option<Locality> {
        self.resources.nodes.get("", name).map(|node| node.locality())
    }

    /// Where a zone is: its region is known when some node is in it.
    pub(crate) fn zone_locality(&self, zone: &Arc<str>) -> Locality {
        let zones = self.zones.get_or_init(|| zones(self.resources));
        zones.get(zone).cloned().unwrap_or_else(|| Locality { zone: zone.clone(), ..Locality::default() })
    }

    /// The facts of an endpoint without pod.
    pub(crate) fn without_pod(&self, name: &str, namespace: &str, labels: Labels) -> Arc<Workload> {
        Arc::new(Workload::new(name, namespace, "", &self.naming.cluster, labels))
    }

    /// The facts of a WorkloadEntry; `name` may be empty.
    pub(crate) fn of_entry(&self, name: &str, namespace: &str, spec: &WorkloadEntrySpec) -> Arc<Workload> {
        let mut workload = Workload::new(name, namespace, "", &self.naming.cluster, spec.labels.clone());
        if let Some(account) = spec.service_account.as_deref().filter(|a| !a.is_empty()) {
            workload.principal = self.naming.principal(namespace, account);
        }
        Arc::new(workload)
    }
}

/// Where the zones are that some node is in.
fn zones(resources: &Resources) -> HashMap<Arc<str>, Locality> {
    let mut zones = HashMap::new();
    for locality in resources.nodes.iter().map(|node| node.locality()).filter(|locality| !locality.zone.is_empty()) {
        zones.entry(locality.zone.clone()).or_insert(Locality { sub_zone: Arc::default(), ..locality });
    }
    zones
}

fn label_index(resources: &Resources) -> LabelIndex {
    let mut index = LabelIndex::new();
    for pod in resources.pods.iter() {
        let labels = index.entry(pod.meta.namespace.clone()).or_default();
        for (key, value) in &pod.meta.labels {
            labels.entry((key.clone(), value.clone())).or_default().push(pod.clone());
        }
    }
    index
}

/// Whether labels contain all of a selector's.
pub(crate) fn has_labels(labels: &Labels, selector: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Istio's label `istio-locality`: `region.zone.subzone`, or with slashes.
pub(crate) fn label_locality(labels: &Labels) -> Option<Locality> {
    let text = labels.get("istio-locality").filter(|text| !text.is_empty())?;
    Some(if text.contains('/') { Locality::parse(text) } else { Locality::parse(&text.replace('.', "/")) })
}

/// The workload a pod belongs to: its controller, or the controller's own, else the pod itself.
pub(crate) fn owner_name(resources: &Resources, meta: &Metadata) -> Arc<str> {
    let controller = |meta: &Metadata| meta.owners.iter().find(|o| o.controller).or(meta.owners.first()).cloned();
    let Some(owner) = controller(meta) else { return meta.name.clone() };
    if &*owner.kind != "ReplicaSet" {
        return owner.name;
    }
    if let Some(set) = resources.replica_sets.get(&meta.namespace, &owner.name)
        && let Some(above) = controller(&set.meta)
    {
        return above.name;
    }
    let hash = meta.label("pod-template-hash").filter(|h| !h.is_empty());
    let deployment = hash.and_then(|hash| owner.name.strip_suffix(hash)?.strip_suffix('-'));
    deployment.map_or(owner.name.clone(), Arc::from)
}
