//! Kubernetes `DaemonSet`.

use crate::decode::Cx;
use crate::kind::pod::PodTemplate;
use crate::kind::selector::{LabelSelector, check_template};
use crate::node::Pos;

crate::object! {
    /// One pod on every node.
    pub resource struct DaemonSet {
        /// `spec`.
        pub spec: DaemonSetSpec = required "spec",
    }
    ignore ["status"]
    check check
}

crate::object! {
    /// `spec`.
    pub struct DaemonSetSpec {
        /// `selector`: the pods it manages.
        pub selector: LabelSelector = or_default "selector",
        /// `template`: what its pods are like.
        pub template: PodTemplate = required "template",
    }
    ignore ["minReadySeconds", "revisionHistoryLimit", "updateStrategy"]
}

fn check(object: &DaemonSet, _pos: Pos, cx: &mut Cx) {
    check_template(&object.spec.selector, &object.spec.template.metadata.labels, object.meta.pos, cx);
}
