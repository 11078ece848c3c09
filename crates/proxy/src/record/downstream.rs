//! Counting the connections and requests of clients.

use std::cell::OnceCell;
use std::sync::Arc;

use outrigger_telemetry::{Counter, Gauge, Histogram, Shard, catalogue};

/// Connections and requests of clients.
pub(crate) struct DownstreamStats {
    pub(crate) connections_total: Counter,
    pub(crate) connections_active: Gauge,
    pub(crate) requests_total: Counter,
    pub(crate) requests_active: Gauge,
    /// Connections and requests of HTTP/1, then of HTTP/2.
    by_version: [OnceCell<(Counter, Counter)>; 2],
    faults: OnceCell<FaultStats>,
    prefix: Arc<str>,
    pub(super) classes: [Counter; 5],
    pub(super) request_time: Histogram,
}

/// Faults injected into requests of clients.
pub(crate) struct FaultStats {
    pub(crate) delays: Counter,
    pub(crate) aborts: Counter,
    /// Requests held back now.
    pub(crate) active: Gauge,
    pub(crate) overflow: Counter,
}

impl DownstreamStats {
    /// Handles of the listeners of a direction.
    pub(super) fn new(shard: &Shard, prefix: &str) -> Self {
        let prefix: [Arc<str>; 1] = [prefix.into()];
        let class =
            |n: u16| shard.counter(&catalogue::ENVOY_HTTP_DOWNSTREAM_RQ_XX, &[prefix[0].clone(), n.to_string().into()]);
        Self {
            connections_total: shard.counter(&catalogue::ENVOY_HTTP_DOWNSTREAM_CX_TOTAL, &prefix),
            connections_active: shard.gauge(&catalogue::ENVOY_HTTP_DOWNSTREAM_CX_ACTIVE, &prefix),
            requests_total: shard.counter(&catalogue::ENVOY_HTTP_DOWNSTREAM_RQ_TOTAL, &prefix),
            requests_active: shard.gauge(&catalogue::ENVOY_HTTP_DOWNSTREAM_RQ_ACTIVE, &prefix),
            classes: [class(1), class(2), class(3), class(4), class(5)],
            request_time: shard.histogram(&catalogue::ENVOY_HTTP_DOWNSTREAM_RQ_TIME, &prefix),
            by_version: Default::default(),
            faults: OnceCell::new(),
            prefix: prefix[0].clone(),
        }
    }

    /// The counts of injected faults.
    pub(crate) fn faults(&self, shard: &Shard) -> &FaultStats {
        self.faults.get_or_init(|| {
            let labels = [self.prefix.clone()];
            FaultStats {
                delays: shard.counter(&catalogue::ENVOY_HTTP_FAULT_DELAYS_INJECTED, &labels),
                aborts: shard.counter(&catalogue::ENVOY_HTTP_FAULT_ABORTS_INJECTED, &labels),
                active: shard.gauge(&catalogue::ENVOY_HTTP_FAULT_ACTIVE_FAULTS, &labels),
                overflow: shard.counter(&catalogue::ENVOY_HTTP_FAULT_FAULTS_OVERFLOW, &labels),
            }
        })
    }

    /// The counts of connections and of requests of a version of HTTP.
    pub(crate) fn of_version(&self, shard: &Shard, is_http2: bool) -> &(Counter, Counter) {
        self.by_version[usize::from(is_http2)].get_or_init(|| {
            let (connections, requests) = match is_http2 {
                false => {
                    (&catalogue::ENVOY_HTTP_DOWNSTREAM_CX_HTTP1_TOTAL, &catalogue::ENVOY_HTTP_DOWNSTREAM_RQ_HTTP1_TOTAL)
                }
                true => {
                    (&catalogue::ENVOY_HTTP_DOWNSTREAM_CX_HTTP2_TOTAL, &catalogue::ENVOY_HTTP_DOWNSTREAM_RQ_HTTP2_TOTAL)
                }
            };
            let labels = [self.prefix.clone()];
            (shard.counter(connections, &labels), shard.counter(requests, &labels))
        })
    }
}
