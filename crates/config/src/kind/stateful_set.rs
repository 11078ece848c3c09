//! Kubernetes `StatefulSet`.

use std::sync::Arc;

use crate::decode::Cx;
use crate::kind::pod::PodTemplate;
use crate::kind::selector::{LabelSelector, check_template};
use crate::node::Pos;

crate::object! {
    /// Pods with stable names.
    pub resource struct StatefulSet {
        /// `spec`.
        pub spec: StatefulSetSpec = required "spec",
    }
    ignore ["status"]
    check check
}

crate::object! {
    /// `spec`.
    pub struct StatefulSetSpec {
        /// `replicas`, default 1.
        pub replicas: u32 = or(1) "replicas",
        /// `serviceName`: the headless service that names its pods.
        pub service_name: Option<Arc<str>> = optional "serviceName",
        /// `ordinals`.
        pub ordinals: Ordinals = or_default "ordinals",
        /// `selector`: the pods it manages.
        pub selector: LabelSelector = or_default "selector",
        /// `template`: what its pods are like.
        pub template: PodTemplate = required "template",
    }
    ignore [
        "minReadySeconds", "persistentVolumeClaimRetentionPolicy", "podManagementPolicy", "revisionHistoryLimit",
        "updateStrategy", "volumeClaimTemplates",
    ]
}

crate::object! {
    /// `ordinals`.
    #[derive(Default)]
    pub struct Ordinals {
        /// `start`: the number of the first pod, default 0.
        pub start: u32 = or_default "start",
    }
}

fn check(object: &StatefulSet, _pos: Pos, cx: &mut Cx) {
    check_template(&object.spec.selector, &object.spec.template.metadata.labels, object.meta.pos, cx);
}
