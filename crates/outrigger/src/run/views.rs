//! What each proxy of the process obeys: one translation for the main listener, one for every workload, one for every
//! gateway.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use outrigger_config::resources::Resources;
use outrigger_config::simulate::{SimulatedPod, captured};
use outrigger_config::status::ObjectStatus;
use outrigger_config::translate::gateways::{GatewayId, GatewayProxy};
use outrigger_config::translate::{Shared, Translator, View, WorkloadName};
use outrigger_model::{Diagnostic, Snapshot};

use super::network::{Moved, relocate};

/// Namespace and name of a workload.
pub(super) type WorkloadKey = (Arc<str>, Arc<str>);

/// The translations, kept from one configuration to the next.
pub(super) struct Views {
    /// What does not depend on who looks.
    shared: Shared,
    main: Translated,
    /// Where the main listener is a workload's, which sees nothing of gateways: the view that tells of the objects of the
    /// Gateway API.
    status: Option<Translated>,
    workloads: HashMap<WorkloadKey, Translated>,
    gateways: HashMap<GatewayId, Translated>,
}

/// One view, with what came of it last.
struct Translated {
    translator: Translator,
    /// The workload whose redirected connections the listener takes.
    inbound: Option<WorkloadName>,
    snapshot: Option<Arc<Snapshot>>,
    diagnostics: Vec<Diagnostic>,
}

/// The workload of a pod.
pub(super) fn workload_of(pod: &SimulatedPod) -> WorkloadKey {
    (pod.namespace.clone(), pod.owner.clone())
}

impl Views {
    /// With this view for the main listener; with one for each workload, too, where pods are simulated.
    pub(super) fn new(main: View, simulate: bool) -> Self {
        let shared = if simulate { Shared::new() } else { Shared::default() };
        let status = main
            .workload
            .is_some()
            .then(|| Translated::new(View { workload: None, forwards: [].into(), captures: false, ..main.clone() }));
        Self { shared, main: Translated::new(main), status, workloads: HashMap::new(), gateways: HashMap::new() }
    }

    /// Translates an input for everybody who is there.
    pub(super) fn translate(&mut self, resources: &Resources, pods: &[Arc<SimulatedPod>], gateways: &[GatewayProxy]) {
        let shared = &mut self.shared;
        self.main.translate(resources, shared);
        if let Some(status) = &mut self.status {
            status.translate(resources, shared);
        }
        let workloads: Vec<WorkloadKey> = pods.iter().map(|pod| workload_of(pod)).collect();
        follow(&mut self.workloads, workloads, |(namespace, name)| View::of(namespace, name));
        self.workloads.values_mut().for_each(|view| view.translate(resources, shared));
        let ids = gateways.iter().map(|gateway| gateway.id.clone()).collect();
        follow(&mut self.gateways, ids, |id| View::of_gateway(id.clone()));
        self.gateways.values_mut().for_each(|view| view.translate(resources, shared));
    }

    /// Puts endpoints where they are. To be called once after each translation.
    pub(super) fn relocate(&mut self, moved: &Moved) {
        if moved.is_empty() {
            return;
        }
        let mut hasher = DefaultHasher::new();
        moved.iter().collect::<BTreeMap<_, _>>().hash(&mut hasher);
        let places = hasher.finish();
        let all = self.workloads.values_mut().chain(self.gateways.values_mut());
        for view in all.chain([&mut self.main]) {
            view.snapshot = view.snapshot.take().map(|snapshot| {
                let mut snapshot = relocate(Snapshot::clone(&snapshot), moved);
                // Elsewhere is not the same.
                snapshot.version = snapshot.version.rotate_left(1) ^ places;
                Arc::new(snapshot)
            });
        }
    }

    /// What the main proxy obeys.
    pub(super) fn main(&self) -> Arc<Snapshot> {
        self.main.snapshot.clone().expect("translated before it is asked for")
    }

    /// What the pods of a workload see.
    pub(super) fn workload(&self, key: &WorkloadKey) -> Option<&Arc<Snapshot>> {
        self.workloads.get(key)?.snapshot.as_ref()
    }

    /// What a gateway obeys.
    pub(super) fn gateway(&self, id: &GatewayId) -> Option<&Arc<Snapshot>> {
        self.gateways.get(id)?.snapshot.as_ref()
    }

    /// The conditions of the Gateway API's objects.
    pub(super) fn conditions(&self) -> &[ObjectStatus] {
        self.status.as_ref().unwrap_or(&self.main).translator.conditions()
    }

    /// What was found, in no order and some of it more than once. What others find missing and the main listeners do is
    /// not among it.
    pub(super) fn diagnostics(&self) -> impl Iterator<Item = &Diagnostic> {
        let refuted: HashSet<&Diagnostic> = self.main.translator.refuted().iter().collect();
        let others = self.workloads.values().chain(self.gateways.values());
        let all = std::iter::once(&self.main).chain(others).flat_map(|view| &view.diagnostics);
        all.filter(move |finding| !refuted.contains(finding))
    }
}

impl Translated {
    fn new(view: View) -> Self {
        let inbound = view.workload.clone().filter(|_| view.captures);
        Self { translator: Translator::new(view), inbound, snapshot: None, diagnostics: Vec::new() }
    }

    fn translate(&mut self, resources: &Resources, shared: &mut Shared) {
        let (snapshot, diagnostics) = self.translator.translate_sharing(resources, shared);
        self.diagnostics = diagnostics;
        let snapshot = match &self.inbound {
            Some(workload) => captured(&snapshot, resources, workload, self.snapshot.as_deref()),
            None => snapshot,
        };
        self.snapshot = Some(Arc::new(snapshot));
    }
}

/// Forgets the views of those that are gone and makes new ones.
fn follow<K: Hash + Eq + Clone>(views: &mut HashMap<K, Translated>, wanted: Vec<K>, view: impl Fn(&K) -> View) {
    let mut before = std::mem::take(views);
    for key in wanted {
        let known = before.remove(&key);
        views.entry(key.clone()).or_insert_with(|| known.unwrap_or_else(|| Translated::new(view(&key))));
    }
}
