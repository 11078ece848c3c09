//! Kubernetes `Job`.

use crate::kind::pod::{PodCondition, PodTemplate};
use crate::kind::selector::LabelSelector;

crate::object! {
    /// Pods that run to an end.
    pub resource struct Job {
        /// `spec`.
        pub spec: JobSpec = required "spec",
        /// `status`.
        pub status: JobStatus = or_default "status",
    }
}

impl Job {
    /// How many pods run at a time: none when it is suspended or has ended.
    pub fn pods(&self) -> u32 {
        let ended = |c: &PodCondition| matches!(&*c.condition_type, "Complete" | "Failed") && &*c.status == "True";
        if self.spec.suspend || self.status.conditions.iter().any(ended) {
            return 0;
        }
        self.spec.completions.map_or(self.spec.parallelism, |completions| self.spec.parallelism.min(completions))
    }
}

crate::object! {
    /// `spec`.
    pub struct JobSpec {
        /// `parallelism`: pods at a time, default 1.
        pub parallelism: u32 = or(1) "parallelism",
        /// `completions`: how many pods must succeed.
        pub completions: Option<u32> = optional "completions",
        /// `selector`; most often absent, the API server makes one.
        pub selector: LabelSelector = or_default "selector",
        /// `suspend`: no pods for now.
        pub suspend: bool = or_default "suspend",
        /// `template`: what its pods are like.
        pub template: PodTemplate = required "template",
    }
    ignore [
        "activeDeadlineSeconds", "backoffLimit", "backoffLimitPerIndex", "completionMode", "managedBy",
        "manualSelector", "maxFailedIndexes", "podFailurePolicy", "podReplacementPolicy", "successPolicy",
        "ttlSecondsAfterFinished",
    ]
}

crate::object! {
    /// `status`: written by the API server, so unknown fields are no mistakes.
    #[derive(Default)]
    pub struct JobStatus {
        /// `conditions`.
        pub conditions: Vec<PodCondition> = or_default "conditions",
    }
    ignore ["*"]
}
