//! Counting what the limits of `connectionPool` do to a cluster's requests.
//!
//! Series are made when they are first needed; what counts refusals stands there at 0 where the limit is set, so that its
//! first refusal is a rise and not a new series.

use std::cell::OnceCell;
use std::sync::Arc;

use outrigger_model::Cluster;
use outrigger_telemetry::{Counter, Desc, Gauge, Shard, catalogue};

use super::Raised;

/// One cluster as a worker counts it.
pub(crate) struct LimitStats {
    name: Arc<str>,
    pending_total: OnceCell<Counter>,
    pending_active: OnceCell<Gauge>,
    pending_overflow: OnceCell<Counter>,
    requests_overflow: OnceCell<Counter>,
    connections_overflow: OnceCell<Counter>,
    connections_spent: OnceCell<Counter>,
}

impl LimitStats {
    /// Of a cluster.
    pub(crate) fn new(shard: &Shard, cluster: &Cluster) -> Self {
        let stats = Self {
            name: cluster.name.shared(),
            pending_total: OnceCell::new(),
            pending_active: OnceCell::new(),
            pending_overflow: OnceCell::new(),
            requests_overflow: OnceCell::new(),
            connections_overflow: OnceCell::new(),
            connections_spent: OnceCell::new(),
        };
        let pool = &cluster.pool;
        for (limit, cell, desc) in [
            (pool.pending_max, &stats.pending_overflow, &catalogue::ENVOY_CLUSTER_UPSTREAM_RQ_PENDING_OVERFLOW),
            (pool.requests_max, &stats.requests_overflow, &catalogue::ENVOY_CLUSTER_UPSTREAM_RQ_ACTIVE_OVERFLOW),
            (
                pool.requests_per_connection_max,
                &stats.connections_spent,
                &catalogue::ENVOY_CLUSTER_UPSTREAM_CX_MAX_REQUESTS,
            ),
            (pool.connections_max, &stats.connections_overflow, &catalogue::ENVOY_CLUSTER_UPSTREAM_CX_OVERFLOW),
        ] {
            if limit.is_some() {
                stats.counter(shard, cell, desc);
            }
        }
        stats
    }

    /// Counts a request without a connection, and one more of them until the result is dropped.
    pub(crate) fn pending(&self, shard: &Shard) -> Raised<'_> {
        self.counter(shard, &self.pending_total, &catalogue::ENVOY_CLUSTER_UPSTREAM_RQ_PENDING_TOTAL).inc();
        let gauge = self.pending_active.get_or_init(|| {
            shard.gauge(&catalogue::ENVOY_CLUSTER_UPSTREAM_RQ_PENDING_ACTIVE, std::slice::from_ref(&self.name))
        });
        Raised::new(gauge)
    }

    /// Counts a request that was not let wait.
    pub(crate) fn pending_overflow(&self, shard: &Shard) {
        self.counter(shard, &self.pending_overflow, &catalogue::ENVOY_CLUSTER_UPSTREAM_RQ_PENDING_OVERFLOW).inc();
    }

    /// Counts a request that had a connection and was refused because of the others.
    pub(crate) fn requests_overflow(&self, shard: &Shard) {
        self.counter(shard, &self.requests_overflow, &catalogue::ENVOY_CLUSTER_UPSTREAM_RQ_ACTIVE_OVERFLOW).inc();
    }

    /// Counts that a connection was wanted and the limit was reached.
    pub(crate) fn connections_overflow(&self, shard: &Shard) {
        self.counter(shard, &self.connections_overflow, &catalogue::ENVOY_CLUSTER_UPSTREAM_CX_OVERFLOW).inc();
    }

    /// Counts that a request is the last that its connection serves.
    pub(crate) fn connection_spent(&self, shard: &Shard) {
        self.counter(shard, &self.connections_spent, &catalogue::ENVOY_CLUSTER_UPSTREAM_CX_MAX_REQUESTS).inc();
    }

    fn counter<'c>(&self, shard: &Shard, cell: &'c OnceCell<Counter>, desc: &'static Desc) -> &'c Counter {
        cell.get_or_init(|| shard.counter(desc, std::slice::from_ref(&self.name)))
    }
}
