//! Which pods there should be: one for each replica of each workload, and the Pods that stand in the input by themselves.
//!
//! The dump of a cluster holds workloads and their Pods. The workload's `replicas` decides how many there are, so that an
//! edit of it scales; Pods of the input come first, under their own names, and generated ones fill up. Pods beyond
//! `replicas` stay out, as do those that ended or are being deleted.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use outrigger_model::Diagnostic;

use crate::codes;
use crate::kind::pod::{Pod, PodTemplate};
use crate::object::{Labels, Metadata, OwnerReference};
use crate::resources::Resources;

/// Most pods that are simulated: more would exhaust a laptop's sockets, and `replicas: 10000` is most often a slip.
pub(super) const PODS_MAX: usize = 2_000;

/// A workload with its pods.
pub(super) struct Unit<'r> {
    /// The object that findings are about: the workload, or a Pod that stands by itself.
    pub(super) meta: &'r Metadata,
    /// Its pods, in order.
    pub(super) slots: Vec<Slot<'r>>,
}

/// One pod that should be there.
pub(super) struct Slot<'r> {
    /// Its name.
    pub(super) name: Arc<str>,
    /// What it is made from.
    pub(super) source: PodSource<'r>,
    /// The node it is bound to, where that does not stand in the template.
    pub(super) node: Option<Arc<str>>,
    /// Labels that its controller adds to those of the template.
    pub(super) labels: Vec<(Arc<str>, Arc<str>)>,
    /// The headless service that names it.
    pub(super) subdomain: Option<Arc<str>>,
}

/// Where a pod comes from.
#[derive(Clone, Copy)]
pub(super) enum PodSource<'r> {
    /// It stands in the input.
    Written(&'r Arc<Pod>),
    /// It is made by a workload.
    Generated(&'r PodTemplate),
}

/// A workload: its kind and its metadata say which.
struct Workload<'r> {
    meta: &'r Metadata,
    template: &'r PodTemplate,
    count: Count,
}

/// How many pods a workload has, and how they are named.
enum Count {
    /// So many, numbered from 0.
    Replicas(u32),
    /// So many, numbered from the first number on; the name of the headless service.
    Ordered(u32, u32, Option<Arc<str>>),
    /// So many, which run to an end.
    Tasks(u32),
    /// One for each node.
    Nodes,
}

/// Kind, namespace and name of a workload.
type Key<'r> = (&'r str, &'r str, &'r str);

/// All units of an input, in the order of workload kinds, then as they stand in the input.
pub(super) fn units<'r>(resources: &'r Resources, diagnostics: &mut Vec<Diagnostic>) -> Vec<Unit<'r>> {
    let workloads = workloads(resources);
    let known: HashSet<Key<'r>> = workloads.iter().map(|w| key(w.meta)).collect();
    let mut owned: HashMap<Key<'r>, Vec<&'r Arc<Pod>>> = HashMap::new();
    let mut alone = Vec::new();
    for pod in resources.pods.iter().filter(|pod| !pod.is_over() && pod.meta.deleted.is_none()) {
        match controller(resources, &pod.meta, &known) {
            Some(owner) => owned.entry(owner).or_default().push(pod),
            None => alone.push(pod),
        }
    }
    let mut units: Vec<Unit<'r>> =
        alone.into_iter().map(|pod| Unit { meta: &pod.meta, slots: vec![Slot::written(pod)] }).collect();
    let mut names = Names::default();
    let kept = units.iter().map(|unit| (&*unit.meta.namespace, &*unit.meta.name));
    names.taken.extend(kept.chain(owned.values().flatten().map(|pod| (&*pod.meta.namespace, &*pod.meta.name))));
    let mut left = PODS_MAX.saturating_sub(units.len());
    for unit in units.drain(PODS_MAX.min(units.len())..) {
        let message = format!("not simulated: there are {PODS_MAX} Pods before it, and no more are simulated");
        diagnostics.push(codes::TOO_MANY_PODS.about(unit.meta, unit.meta.pos, message, "give fewer Pods"));
    }
    for workload in &workloads {
        let written = owned.remove(&key(workload.meta)).unwrap_or_default();
        units.push(workload.unit(written, resources, &mut names, &mut left, diagnostics));
    }
    units
}

/// Every workload that makes pods by itself: a ReplicaSet of a Deployment in the input does not.
fn workloads(resources: &Resources) -> Vec<Workload<'_>> {
    let mut all = Vec::new();
    for object in resources.deployments.iter() {
        let count = Count::Replicas(object.spec.replicas);
        all.push(Workload { meta: &object.meta, template: &object.spec.template, count });
    }
    for object in resources.replica_sets.iter() {
        if deployment_of(resources, &object.meta).is_none() {
            let count = Count::Replicas(object.spec.replicas);
            all.push(Workload { meta: &object.meta, template: &object.spec.template, count });
        }
    }
    for object in resources.stateful_sets.iter() {
        let spec = &object.spec;
        let count = Count::Ordered(spec.replicas, spec.ordinals.start, spec.service_name.clone());
        all.push(Workload { meta: &object.meta, template: &spec.template, count });
    }
    for object in resources.daemon_sets.iter() {
        all.push(Workload { meta: &object.meta, template: &object.spec.template, count: Count::Nodes });
    }
    for object in resources.jobs.iter() {
        all.push(Workload { meta: &object.meta, template: &object.spec.template, count: Count::Tasks(object.pods()) });
    }
    all
}

fn key(meta: &Metadata) -> Key<'_> {
    (meta.kind, &meta.namespace, &meta.name)
}

/// The managing owner.
fn owner(meta: &Metadata) -> Option<&OwnerReference> {
    meta.owners.iter().find(|owner| owner.controller).or(meta.owners.first())
}

/// The Deployment of the input that a ReplicaSet belongs to.
fn deployment_of<'r>(resources: &'r Resources, set: &Metadata) -> Option<&'r Metadata> {
    let owner = owner(set).filter(|owner| &*owner.kind == "Deployment")?;
    resources.deployments.get(&set.namespace, &owner.name).map(|deployment| &deployment.meta)
}

/// The workload of the input that a Pod belongs to.
fn controller<'r>(resources: &'r Resources, pod: &'r Metadata, known: &HashSet<Key<'r>>) -> Option<Key<'r>> {
    let owner = owner(pod)?;
    let found = |kind: &'r str, name: &'r str| known.get(&(kind, &*pod.namespace, name)).copied();
    if &*owner.kind != "ReplicaSet" {
        return found(&owner.kind, &owner.name);
    }
    if let Some(set) = resources.replica_sets.get(&pod.namespace, &owner.name) {
        return match deployment_of(resources, &set.meta) {
            Some(deployment) => Some(key(deployment)),
            None => found("ReplicaSet", &owner.name),
        };
    }
    let hash = pod.label("pod-template-hash").filter(|hash| !hash.is_empty())?;
    found("Deployment", owner.name.strip_suffix(hash)?.strip_suffix('-')?)
}

/// The names of pods, which two workloads of one name would share.
#[derive(Default)]
struct Names<'r> {
    taken: HashSet<(&'r str, &'r str)>,
    given: HashSet<(&'r str, String)>,
}

impl<'r> Names<'r> {
    /// `NAME-SUFFIX`; with the kind between them where another workload has that name.
    fn give(&mut self, meta: &'r Metadata, suffix: &str) -> Arc<str> {
        let plain = format!("{}-{suffix}", meta.name);
        let is_free = !self.taken.contains(&(&*meta.namespace, plain.as_str()))
            && self.given.insert((&meta.namespace, plain.clone()));
        if is_free { plain.into() } else { format!("{}-{}-{suffix}", meta.name, meta.kind.to_lowercase()).into() }
    }
}

impl<'r> Slot<'r> {
    fn written(pod: &'r Arc<Pod>) -> Self {
        let name = pod.meta.name.clone();
        Self { name, source: PodSource::Written(pod), node: None, labels: Vec::new(), subdomain: None }
    }
}

impl<'r> Workload<'r> {
    fn unit(
        &self,
        written: Vec<&'r Arc<Pod>>,
        resources: &'r Resources,
        names: &mut Names<'r>,
        left: &mut usize,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Unit<'r> {
        let bare = self.bare_nodes(&written, resources);
        let asked = match self.count {
            Count::Replicas(count) | Count::Ordered(count, ..) | Count::Tasks(count) => count as usize,
            Count::Nodes => (written.len() + bare.len()).max(1),
        };
        let count = asked.min(*left);
        if count < asked {
            let message = format!("asks for {}, of which {count} can be simulated", pods(asked));
            let hint = format!("at most {PODS_MAX} pods are simulated in all; lower `replicas`");
            diagnostics.push(codes::TOO_MANY_PODS.about(self.meta, self.meta.pos, message, hint));
        }
        let (mut slots, surplus) = match &self.count {
            Count::Replicas(_) => self.numbered(written, count, names),
            Count::Tasks(_) => {
                let (mut slots, surplus) = self.numbered(written, count, names);
                let label = |key: &str| (Arc::from(key), self.meta.name.clone());
                let labels = vec![label("batch.kubernetes.io/job-name"), label("job-name")];
                slots.iter_mut().for_each(|slot| slot.labels.clone_from(&labels));
                (slots, surplus)
            }
            Count::Ordered(_, start, service) => self.ordered(written, count, *start, service.as_ref(), names),
            Count::Nodes => (self.on_nodes(written, &bare, names), Vec::new()),
        };
        slots.truncate(count);
        *left -= slots.len();
        for pod in surplus {
            let message = format!(
                "not simulated: {} asks for {}, which there are without this one",
                self.meta.object_ref(),
                pods(asked)
            );
            diagnostics.push(codes::NOT_SIMULATED.about(&pod.meta, pod.meta.pos, message, ""));
        }
        Unit { meta: self.meta, slots }
    }

    fn slot(&self, name: Arc<str>) -> Slot<'r> {
        Slot { name, source: PodSource::Generated(self.template), node: None, labels: Vec::new(), subdomain: None }
    }

    /// The Pods of the input, then generated ones, which are numbered on.
    fn numbered(
        &self,
        mut written: Vec<&'r Arc<Pod>>,
        count: usize,
        names: &mut Names<'r>,
    ) -> (Vec<Slot<'r>>, Vec<&'r Arc<Pod>>) {
        let surplus = written.split_off(count.min(written.len()));
        let mut slots: Vec<Slot<'r>> = written.into_iter().map(Slot::written).collect();
        for index in slots.len()..count {
            slots.push(self.slot(names.give(self.meta, &index.to_string())));
        }
        (slots, surplus)
    }

    /// Pods with an identity: those of the input take the place that their name says.
    fn ordered(
        &self,
        written: Vec<&'r Arc<Pod>>,
        count: usize,
        start: u32,
        service: Option<&Arc<str>>,
        names: &mut Names<'r>,
    ) -> (Vec<Slot<'r>>, Vec<&'r Arc<Pod>>) {
        let mut written: BTreeMap<&str, &'r Arc<Pod>> = written.into_iter().map(|pod| (&*pod.meta.name, pod)).collect();
        let mut slots = Vec::with_capacity(count);
        for index in 0..count as u64 {
            let ordinal = (u64::from(start) + index).to_string();
            if let Some(pod) = written.remove(format!("{}-{ordinal}", self.meta.name).as_str()) {
                slots.push(Slot::written(pod));
                continue;
            }
            let name = names.give(self.meta, &ordinal);
            let labels = vec![
                ("apps.kubernetes.io/pod-index".into(), ordinal.into()),
                ("statefulset.kubernetes.io/pod-name".into(), name.clone()),
            ];
            slots.push(Slot { labels, subdomain: service.cloned(), ..self.slot(name) });
        }
        (slots, written.into_values().collect())
    }

    /// The nodes that no Pod of a DaemonSet is on.
    fn bare_nodes(&self, written: &[&'r Arc<Pod>], resources: &'r Resources) -> Vec<&'r Arc<str>> {
        if !matches!(self.count, Count::Nodes) {
            return Vec::new();
        }
        let covered: HashSet<&str> = written.iter().filter_map(|pod| pod.spec.node_name.as_deref()).collect();
        resources.nodes.iter().map(|node| &node.meta.name).filter(|name| !covered.contains(&***name)).collect()
    }

    /// One for each node, named after it; one at least. Pods of the input on nodes that are not in it stay, too.
    fn on_nodes(&self, written: Vec<&'r Arc<Pod>>, bare: &[&Arc<str>], names: &mut Names<'r>) -> Vec<Slot<'r>> {
        let mut slots: Vec<Slot<'r>> = written.into_iter().map(Slot::written).collect();
        for node in bare {
            let name = names.give(self.meta, node);
            slots.push(Slot { node: Some(Arc::clone(node)), ..self.slot(name) });
        }
        if slots.is_empty() {
            slots.push(self.slot(names.give(self.meta, "0")));
        }
        slots
    }
}

fn pods(count: usize) -> String {
    if count == 1 { "1 pod".to_owned() } else { format!("{count} pods") }
}

/// The labels of a generated pod.
pub(super) fn labels(template: &PodTemplate, slot: &Slot<'_>) -> Labels {
    let mut labels = template.metadata.labels.clone();
    labels.extend(slot.labels.iter().cloned());
    labels
}
