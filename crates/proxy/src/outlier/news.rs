//! What happened, for the log.

use std::sync::Arc;
use std::time::Duration;

use outrigger_model::{ClusterName, Endpoint};

use super::EjectionReason;

/// One thing that happened to an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum News {
    /// It gets no requests.
    Ejected { endpoint: Arc<Endpoint>, reason: EjectionReason, lasts: Duration, active: usize, hosts: usize },
    /// It should be out, but the share of those that may be is used up.
    KeptIn { endpoint: Arc<Endpoint>, reason: EjectionReason, active: usize, hosts: usize, percent_max: u32 },
    /// It should be out, but the dice of `enforcing_*` keep it in.
    NotEnforced { endpoint: Arc<Endpoint>, reason: EjectionReason },
    /// It gets requests again.
    Returned {
        endpoint: Arc<Endpoint>,
        reason: EjectionReason,
        why: Return,
        after: Duration,
        active: usize,
        hosts: usize,
    },
}

/// Why an ejection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Return {
    /// Its time was over.
    Over,
    /// An operator said so.
    Manual,
    /// The rule has changed and would not eject it.
    RuleChanged,
    /// There is no rule any more.
    RuleRemoved,
}

impl Return {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Over => "its time is over",
            Self::Manual => "reset by hand",
            Self::RuleChanged => "the rule has changed",
            Self::RuleRemoved => "the rule was removed",
        }
    }
}

impl News {
    /// Writes it into the log.
    pub(super) fn tell(&self, cluster: &ClusterName) {
        match self {
            Self::Ejected { endpoint, reason, lasts, active, hosts } => {
                let (address, pod) = (endpoint.address, &*endpoint.workload.pod);
                let (reason, seconds) = (reason.as_str(), lasts.as_secs_f64());
                tracing::warn!(%cluster, %address, pod, reason, seconds, ejected = active, of = hosts, "endpoint ejected");
            }
            Self::KeptIn { endpoint, reason, active, hosts, percent_max } => {
                let (address, pod) = (endpoint.address, &*endpoint.workload.pod);
                tracing::warn!(
                    %cluster, %address, pod, reason = reason.as_str(), ejected = active, of = hosts, percent_max,
                    "endpoint fails but is not ejected: maxEjectionPercent allows no more",
                );
            }
            Self::NotEnforced { endpoint, reason } => {
                let (address, pod) = (endpoint.address, &*endpoint.workload.pod);
                let reason = reason.as_str();
                tracing::info!(%cluster, %address, pod, reason, "endpoint not ejected: ejections are enforced in part only");
            }
            Self::Returned { endpoint, reason, why, after, active, hosts } => {
                let (address, pod) = (endpoint.address, &*endpoint.workload.pod);
                let (reason, seconds) = (reason.as_str(), after.as_secs_f64());
                tracing::info!(
                    %cluster, %address, pod, reason, seconds, ejected = active, of = hosts, why = why.as_str(),
                    "endpoint returned",
                );
            }
        }
    }
}
