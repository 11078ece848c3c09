//! The pods of a unit, each with what it serves and whether it is ready, before they have addresses.

use std::collections::HashMap;
use std::sync::Arc;

use outrigger_model::Diagnostic;

use super::pods;
use super::ports::{Plan, SelectingSource, Targets};
use super::readiness;
use super::replaced::selects;
use super::replicas::{PodSource, Slot, Unit};
use crate::codes;
use crate::kind::pod::{Pod, PodSpec};
use crate::kind::service::Service;
use crate::object::{Labels, Metadata};
use crate::resources::Resources;
use crate::translate::has_labels;

/// A pod on its way into the resources.
pub(super) struct Draft {
    /// The Pod, without address and status.
    pub(super) pod: Pod,
    /// What it serves; `None` where nothing of it runs here: a gateway runs elsewhere.
    pub(super) plan: Option<Arc<Plan>>,
    /// Whether it takes traffic.
    pub(super) ready: bool,
}

/// Makes drafts of units, and counts which Services they belong to.
pub(super) struct Drafter<'d, 'r> {
    targets: &'d Targets<'r>,
    /// By namespace and name of the Service: its pods, and those that take traffic.
    selected: HashMap<(&'r str, &'r str), (usize, usize)>,
    /// What was found.
    pub(super) diagnostics: Vec<Diagnostic>,
}

impl<'d, 'r> Drafter<'d, 'r> {
    /// A drafter for one input.
    pub(super) fn new(targets: &'d Targets<'r>, diagnostics: Vec<Diagnostic>) -> Self {
        Self { targets, selected: HashMap::new(), diagnostics }
    }

    /// The pods of a unit.
    pub(super) fn unit(&mut self, unit: &Unit<'_>) -> Vec<Draft> {
        // Replicas differ in their names most often, and then in nothing else.
        let mut same: Option<(Labels, Option<Arc<Plan>>, bool)> = None;
        let mut drafts = Vec::with_capacity(unit.slots.len());
        for slot in &unit.slots {
            let pod = pods::pod(unit, slot);
            let is_generated = matches!(slot.source, PodSource::Generated(_));
            let known = same.take().filter(|(labels, ..)| is_generated && *labels == pod.meta.labels);
            let (labels, plan, ready) = known.unwrap_or_else(|| {
                let (plan, ready) = self.served(unit, slot, &pod.meta.labels);
                (pod.meta.labels.clone(), plan, ready)
            });
            self.count(&pod, ready);
            drafts.push(Draft { pod, plan: plan.clone(), ready });
            same = is_generated.then_some((labels, plan, ready));
        }
        drafts
    }

    fn served(&mut self, unit: &Unit<'_>, slot: &Slot<'_>, labels: &Labels) -> (Option<Arc<Plan>>, bool) {
        let (meta, spec, written): (&Metadata, &PodSpec, Option<&Pod>) = match slot.source {
            PodSource::Written(pod) => (&pod.meta, &pod.spec, Some(&**pod)),
            PodSource::Generated(template) => (unit.meta, &template.spec, None),
        };
        if spec.containers.is_empty() {
            let message = "`containers` is missing or empty, so no pod is simulated";
            self.diagnostics.push(codes::SCHEMA.about(meta, meta.pos, message, "a pod has one container at least"));
            return (None, false);
        }
        if pods::is_gateway(spec) {
            let message = "only a proxy, so no pod is simulated; gateways run from their Gateway objects";
            self.diagnostics.push(codes::NOT_SIMULATED.about(meta, meta.pos, message, ""));
            return (None, false);
        }
        let mut plan = self.targets.plan(meta, spec, labels);
        self.diagnostics.append(&mut plan.diagnostics);
        let ready = readiness::is_ready(meta, spec, written, &plan.ports, &mut self.diagnostics);
        (Some(Arc::new(plan)), ready)
    }

    fn count(&mut self, pod: &Pod, ready: bool) {
        for selecting in self.targets.selecting(&pod.meta.namespace, &pod.meta.labels) {
            let SelectingSource::Service(service) = selecting.source else { continue };
            let (pods, taking) = self.selected.entry((&service.meta.namespace, &service.meta.name)).or_default();
            *pods += 1;
            *taking += usize::from(ready || service.spec.publish_not_ready_addresses);
        }
    }

    /// Reports Services that have nobody to send to.
    pub(super) fn review(&mut self, resources: &Resources) {
        for service in resources.services.iter().filter(|service| selects(service) && !service.spec.ports.is_empty()) {
            let meta = &service.meta;
            let (pods, taking) = self.selected.get(&(&*meta.namespace, &*meta.name)).copied().unwrap_or_default();
            if taking > 0 || has_entry(service, resources) {
                continue;
            }
            let labels: Vec<String> = service.spec.selector.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let labels = labels.join(", ");
            let (message, hint) = match pods {
                0 => (
                    format!("selects no pod of the input ({labels}); requests to it get 503 (flag UH)"),
                    "compare its selector with the labels of the workloads' templates in this namespace",
                ),
                1 => (
                    format!("the pod that it selects ({labels}) takes no traffic; requests to it get 503 (flag UH)"),
                    "see what is said of that pod",
                ),
                _ => (
                    format!(
                        "none of the {pods} pods that it selects ({labels}) takes traffic; requests to it get 503 (flag UH)"
                    ),
                    "see what is said of those pods",
                ),
            };
            self.diagnostics.push(codes::NO_PODS.about(meta, meta.pos, message, hint));
        }
    }
}

/// Whether a WorkloadEntry stands in for pods.
fn has_entry(service: &Service, resources: &Resources) -> bool {
    let mut entries = resources.workload_entries.iter();
    entries.any(|entry| {
        entry.meta.namespace == service.meta.namespace && has_labels(&entry.spec.labels, &service.spec.selector)
    })
}
