//! Outlier detection, as Envoy does it: endpoints that fail are left out for a while.

use std::sync::Arc;
use std::time::Instant;

use outrigger_model::Cluster;

use crate::cluster::EndpointState;
use crate::trial::Trial;

/// Outlier detection of one cluster.
#[derive(Debug)]
pub(crate) struct Outliers {}

impl Outliers {
    /// That of a cluster as a snapshot describes it now; `None` where it has none. What was counted before stays.
    pub(crate) fn of(model: &Cluster, _previous: Option<&Arc<Self>>) -> Option<Arc<Self>> {
        model.outlier.as_ref().map(|_| Arc::new(Self {}))
    }

    /// Notes what became of a try at one of its endpoints.
    pub(crate) fn tried(&self, _endpoint: &EndpointState, _trial: Trial, _now: Instant) {}
}
