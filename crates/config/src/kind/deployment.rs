//! Kubernetes `Deployment`.

use crate::decode::Cx;
use crate::kind::pod::PodTemplate;
use crate::kind::selector::{LabelSelector, check_template};
use crate::node::Pos;

crate::object! {
    /// Interchangeable pods, replaced gradually.
    pub resource struct Deployment {
        /// `spec`.
        pub spec: DeploymentSpec = required "spec",
    }
    ignore ["status"]
    check check
}

crate::object! {
    /// `spec`.
    pub struct DeploymentSpec {
        /// `replicas`, default 1.
        pub replicas: u32 = or(1) "replicas",
        /// `selector`: the pods it manages.
        pub selector: LabelSelector = or_default "selector",
        /// `template`: what its pods are like.
        pub template: PodTemplate = required "template",
    }
    ignore ["minReadySeconds", "paused", "progressDeadlineSeconds", "revisionHistoryLimit", "strategy"]
}

fn check(object: &Deployment, _pos: Pos, cx: &mut Cx) {
    check_template(&object.spec.selector, &object.spec.template.metadata.labels, object.meta.pos, cx);
}
