//! Connections to endpoints that we end.

use crate::worker::Worker;

/// Why we ended a connection.
pub(super) enum Ended {
    /// The peer flooded it.
    Flood(&'static str),
    /// The peer took nothing, or did not answer a PING.
    Dead,
}

impl Ended {
    /// Counts it, and says so.
    pub(super) fn tell(&self, worker: &Worker, cluster: Option<&str>) {
        let limit = match self {
            Self::Flood(limit) => limit,
            Self::Dead => "http2_upstream_dead",
        };
        worker.recorder.limit_hit(limit);
        if worker.may_complain() {
            tracing::warn!(limit, cluster, "a connection to an endpoint is closed; told once a second at most");
        }
    }
}
