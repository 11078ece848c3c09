//! Kubernetes `Job`.

use crate::kind::pod::PodTemplate;
use crate::kind::selector::LabelSelector;

crate::object! {
    /// Pods that run to an end.
    pub resource struct Job {
        /// `spec`.
        pub spec: JobSpec = required "spec",
    }
    ignore ["status"]
}

crate::object! {
    /// `spec`.
    pub struct JobSpec {
        /// `parallelism`: pods at a time, default 1.
        pub parallelism: u32 = or(1) "parallelism",
        /// `selector`; most often absent, the API server makes one.
        pub selector: LabelSelector = or_default "selector",
        /// `suspend`: no pods for now.
        pub suspend: bool = or_default "suspend",
        /// `template`: what its pods are like.
        pub template: PodTemplate = required "template",
    }
    ignore [
        "activeDeadlineSeconds", "backoffLimit", "backoffLimitPerIndex", "completionMode", "completions", "managedBy",
        "manualSelector", "maxFailedIndexes", "podFailurePolicy", "podReplacementPolicy", "successPolicy",
        "ttlSecondsAfterFinished",
    ]
}
