//! Kubernetes `ReplicaSet`.

use crate::decode::Cx;
use crate::kind::pod::PodTemplate;
use crate::kind::selector::{LabelSelector, check_template};
use crate::node::Pos;

crate::object! {
    /// A number of interchangeable pods; most belong to a Deployment.
    pub resource struct ReplicaSet {
        /// `spec`.
        pub spec: ReplicaSetSpec = required "spec",
    }
    ignore ["status"]
    check check
}

crate::object! {
    /// `spec`.
    pub struct ReplicaSetSpec {
        /// `replicas`, default 1.
        pub replicas: u32 = or(1) "replicas",
        /// `selector`: the pods it manages.
        pub selector: LabelSelector = or_default "selector",
        /// `template`: what its pods are like.
        pub template: PodTemplate = required "template",
    }
    ignore ["minReadySeconds"]
}

fn check(object: &ReplicaSet, _pos: Pos, cx: &mut Cx) {
    check_template(&object.spec.selector, &object.spec.template.metadata.labels, object.meta.pos, cx);
}
