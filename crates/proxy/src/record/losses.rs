//! Counting tries that brought no answer, by why.

use std::sync::Arc;

use outrigger_telemetry::{Counter, Shard, catalogue};

use crate::failure::Reason;

/// One cluster as a worker counts it.
pub(crate) struct LossStats {
    timeouts: Counter,
    per_try_timeouts: Counter,
    resets: Counter,
}

impl LossStats {
    /// Of the cluster with these labels.
    pub(super) fn new(shard: &Shard, labels: &[Arc<str>]) -> Self {
        Self {
            timeouts: shard.counter(&catalogue::ENVOY_CLUSTER_UPSTREAM_RQ_TIMEOUT, labels),
            per_try_timeouts: shard.counter(&catalogue::ENVOY_CLUSTER_UPSTREAM_RQ_PER_TRY_TIMEOUT, labels),
            resets: shard.counter(&catalogue::ENVOY_CLUSTER_UPSTREAM_RQ_RX_RESET, labels),
        }
    }

    /// Counts a try that was lost; those that are sent again at once, too. A stream that was refused did not begin.
    pub(crate) fn count(&self, reason: Reason, was_refused: bool) {
        match reason {
            Reason::RouteTimeout => self.timeouts.inc(),
            Reason::PerTryTimeout => self.per_try_timeouts.inc(),
            Reason::UpstreamReset if !was_refused => self.resets.inc(),
            _ => {}
        }
    }
}
