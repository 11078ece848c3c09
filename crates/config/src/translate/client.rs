//! For whom a snapshot is made: one workload, or an anonymous client.

use std::collections::HashMap;
use std::sync::Arc;

use outrigger_model::{Diagnostic, Locality, Workload};

use super::View;
use super::gateways::{self, Members};
use super::workloads::{Naming, PodFacts, PodIndex, label_locality, owner_name};
use crate::codes;
use crate::object::Labels;
use crate::resources::Resources;

/// The namespace an anonymous client counts as being in.
const ANONYMOUS_NAMESPACE: &str = "default";

/// A client.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Client {
    /// Its facts.
    pub(crate) workload: Arc<Workload>,
    /// The namespace whose objects it sees as its own.
    pub(crate) namespace: Arc<str>,
    /// Where it runs.
    pub(crate) locality: Locality,
    /// Nobody in particular: conditions on the source never hold.
    pub(crate) anonymous: bool,
    /// Whether it is a gateway: its own clients are strangers to the mesh.
    pub(crate) is_gateway: bool,
    /// The Istio Gateways it serves, where it is a proxy of theirs.
    pub(crate) members: Members,
}

impl Client {
    /// Its labels.
    pub(crate) fn labels(&self) -> &Labels {
        &self.workload.labels
    }

    /// Finds the client of a view.
    pub(crate) fn find(
        view: &View,
        resources: &Resources,
        naming: &Naming,
        pods: &mut PodIndex<'_>,
        by_workload: &mut ByWorkload,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        if let Some(id) = &view.gateway {
            let (workload, members) = gateways::workload(id, resources, naming);
            let namespace = workload.namespace.clone();
            let locality = Locality::default();
            return Self { workload, namespace, locality, anonymous: false, is_gateway: true, members };
        }
        let Some(wanted) = &view.workload else {
            return Self {
                workload: Arc::new(Workload::unknown()),
                namespace: ANONYMOUS_NAMESPACE.into(),
                locality: Locality::default(),
                anonymous: true,
                is_gateway: false,
                members: Members::default(),
            };
        };
        let (namespace, name) = (&wanted.namespace, &wanted.name);
        let found = by_workload
            .find(resources, pods, namespace, name)
            .or_else(|| by_template(resources, naming, namespace, name))
            .or_else(|| by_entry(resources, pods, namespace, name));
        let (workload, locality) = found.unwrap_or_else(|| {
            diagnostics.push(codes::UNKNOWN_WORKLOAD.bare(
                format!("there is no workload {namespace}/{name} (Deployment, StatefulSet, DaemonSet, Job, Pod, WorkloadEntry)"),
                "name one that is defined; until then it acts as a workload without labels",
            ));
            let workload = Workload::new(name, namespace, "", &naming.cluster, Labels::new());
            (Arc::new(workload), Locality::default())
        });
        Self {
            workload,
            namespace: namespace.clone(),
            locality,
            anonymous: false,
            is_gateway: false,
            members: Members::default(),
        }
    }
}

/// The first pod of each workload of the namespaces that were asked for.
#[derive(Debug, Default)]
pub(crate) struct ByWorkload(HashMap<Arc<str>, HashMap<Arc<str>, PodFacts>>);

impl ByWorkload {
    /// Begins anew, as pods changed.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }

    /// By a pod of this name, or one whose workload has it.
    fn find(
        &mut self,
        resources: &Resources,
        pods: &mut PodIndex<'_>,
        namespace: &Arc<str>,
        name: &Arc<str>,
    ) -> Option<(Arc<Workload>, Locality)> {
        let facts = match pods.named(namespace, name) {
            Some(pod) => pods.facts(&pod),
            None => self.of_namespace(resources, pods, namespace).get(name)?.clone(),
        };
        Some((facts.workload, facts.locality))
    }

    fn of_namespace(
        &mut self,
        resources: &Resources,
        pods: &mut PodIndex<'_>,
        namespace: &Arc<str>,
    ) -> &HashMap<Arc<str>, PodFacts> {
        self.0.entry(namespace.clone()).or_insert_with(|| {
            let mut first = HashMap::new();
            for pod in resources.pods.in_namespace(namespace).into_iter().filter(|pod| !pod.is_over()) {
                let facts = pods.facts(pod);
                // A label may give the workload another name than its object has; both find it.
                first.entry(owner_name(resources, &pod.meta)).or_insert_with(|| facts.clone());
                first.entry(facts.workload.name.clone()).or_insert(facts);
            }
            first
        })
    }
}

/// By the template of a workload that has no pods in the input.
fn by_template(
    resources: &Resources,
    naming: &Naming,
    namespace: &Arc<str>,
    name: &Arc<str>,
) -> Option<(Arc<Workload>, Locality)> {
    let template = None
        .or_else(|| resources.deployments.get(namespace, name).map(|o| &o.spec.template))
        .or_else(|| resources.stateful_sets.get(namespace, name).map(|o| &o.spec.template))
        .or_else(|| resources.daemon_sets.get(namespace, name).map(|o| &o.spec.template))
        .or_else(|| resources.replica_sets.get(namespace, name).map(|o| &o.spec.template))
        .or_else(|| resources.jobs.get(namespace, name).map(|o| &o.spec.template))?;
    let labels = template.metadata.labels.clone();
    let locality = label_locality(&labels).unwrap_or_default();
    let mut workload = Workload::new(name, namespace, "", &naming.cluster, labels);
    workload.principal = naming.principal(namespace, template.spec.account());
    Some((Arc::new(workload), locality))
}

fn by_entry(
    resources: &Resources,
    pods: &PodIndex<'_>,
    namespace: &Arc<str>,
    name: &Arc<str>,
) -> Option<(Arc<Workload>, Locality)> {
    let entry = resources.workload_entries.get(namespace, name).map(|e| &e.spec);
    let spec = entry.or_else(|| resources.workload_groups.get(namespace, name).map(|g| &g.spec.template))?;
    let locality = spec.locality.as_deref().map(Locality::parse).unwrap_or_default();
    Some((pods.of_entry(name, namespace, spec), locality))
}
