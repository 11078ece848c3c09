//! Counting: what each exchange adds to the metrics.
//!
//! Every worker writes cells of its own. The handles of a series are found once, for a cluster, endpoint, status and
//! flag, and kept beside what they count; from then on recording is a handful of plain stores.

mod downstream;
mod limits;
mod losses;
mod messages;
mod tcp;

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use outrigger_model::{Cluster, ClusterName, Destination, Direction, Endpoint, Inbound, Route, ServiceRef, Workload};
use outrigger_telemetry::catalogue;
use outrigger_telemetry::{Counter, Gauge, Histogram, Shard};

use crate::bridge::MessageCount;
use crate::failure::Reason;
use crate::flag::Flags;
use crate::labels::{cluster_labels, endpoint_labels, route_labels, workload_label};
use crate::mirror::Mirrored;

pub(crate) use downstream::DownstreamStats;
pub(crate) use limits::LimitStats;
pub(crate) use losses::LossStats;
pub(crate) use tcp::{Bytes, Connection};

/// What became of an exchange.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Outcome {
    /// Status the client got; 0: none.
    pub(crate) status: u16,
    /// Envoy's response flags.
    pub(crate) flags: Flags,
    /// Whether it was gRPC by content type, and then its status.
    pub(crate) grpc: Option<GrpcStatus>,
    /// Bytes that came from the client: head and body.
    pub(crate) bytes_received: u64,
    /// Bytes that went to the client: head and body.
    pub(crate) bytes_sent: u64,
    /// From the first byte of the request to the last of the answer.
    pub(crate) duration: Duration,
}

/// `grpc-status`, as far as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GrpcStatus(pub(crate) Option<u8>);

/// How an exchange is seen from the workload beside the proxy.
#[derive(Clone, Copy)]
pub(crate) struct Side<'s> {
    /// Which way it goes.
    pub(crate) direction: &'s Direction,
    /// Who calls, on the way in.
    pub(crate) peer: Option<&'s Arc<Workload>>,
}

impl<'s> Side<'s> {
    /// The container's port that it came in on, on the way in.
    fn inbound(self) -> Option<&'s Arc<Inbound>> {
        match self.direction {
            Direction::Inbound(inbound) => Some(inbound),
            Direction::Outbound | Direction::Gateway => None,
        }
    }
}

/// One worker's recorder.
pub(crate) struct Recorder {
    pub(crate) shard: Shard,
    /// The workload beside the proxy.
    own: RefCell<Arc<Workload>>,
    stranger: Arc<Workload>,
    nowhere: RefCell<Option<Rc<EndpointStats>>>,
    passthrough: RefCell<Option<Rc<EndpointStats>>>,
    black_hole: RefCell<Option<Rc<EndpointStats>>>,
    /// Of the outbound, inbound and gateway listeners.
    downstream: [OnceCell<DownstreamStats>; 3],
}

/// One cluster as a worker counts it.
pub(crate) struct ClusterStats {
    pub(crate) requests_total: Counter,
    pub(crate) requests_active: Gauge,
    completed: Counter,
    classes: [OnceCell<Counter>; 5],
    codes: RefCell<Vec<(u16, Counter)>>,
    request_time: Histogram,
    pub(crate) offered: Counter,
    pub(crate) retries: Counter,
    pub(crate) retries_succeeded: Counter,
    pub(crate) retry_overflows: Counter,
    pub(crate) retry_limits_exceeded: Counter,
    pub(crate) losses: LossStats,
    pub(crate) connections_total: Counter,
    /// Of HTTP/1, then of HTTP/2.
    by_version: [OnceCell<Counter>; 2],
    pub(crate) connections_active: Gauge,
    pub(crate) connect_failures: Counter,
    pub(crate) connect_timeouts: Counter,
    pub(crate) none_healthy: Counter,
    pub(crate) mirrored: Mirrored,
    name: Arc<str>,
}

/// One endpoint of a cluster, or the lack of one, as a worker counts it.
pub(crate) struct EndpointStats {
    /// Requests sent to it, resends among them.
    pub(crate) requests_total: Option<Counter>,
    service: ServiceRef,
    workload: Arc<Workload>,
    series: RefCell<Vec<(SeriesKey, Rc<RequestSeries>)>>,
    messages: RefCell<Vec<(messages::Key, MessageCount)>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct SeriesKey {
    status: u16,
    flags: Flags,
    grpc: Option<GrpcStatus>,
    /// Whose request, and in whose proxy: the labels may change with a snapshot.
    source: *const Workload,
    own: *const Workload,
    /// The port it came in on; null on the way out.
    inbound: *const Inbound,
}

struct RequestSeries {
    total: Counter,
    duration: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
    container: Option<Counter>,
    /// Keep what the key names alive, so that its address stays its own.
    _source: Arc<Workload>,
    _own: Arc<Workload>,
    _inbound: Option<Arc<Inbound>>,
}

impl Recorder {
    /// For one worker.
    pub(crate) fn new(shard: Shard, own: &Arc<Workload>) -> Self {
        Self {
            shard,
            own: RefCell::new(own.clone()),
            stranger: Arc::new(Workload::unknown()),
            nowhere: RefCell::default(),
            passthrough: RefCell::default(),
            black_hole: RefCell::default(),
            downstream: Default::default(),
        }
    }

    /// Takes over which workload is beside this proxy.
    pub(crate) fn set_own(&self, own: &Arc<Workload>) {
        if *self.own.borrow() != *own {
            *self.own.borrow_mut() = own.clone();
        }
    }

    /// Handles of the listeners of a direction.
    pub(crate) fn downstream(&self, direction: &Direction) -> &DownstreamStats {
        let (at, prefix) = match direction {
            Direction::Outbound => (0, "outbound"),
            Direction::Inbound(_) => (1, "inbound"),
            Direction::Gateway => (2, "gateway"),
        };
        self.downstream[at].get_or_init(|| DownstreamStats::new(&self.shard, prefix))
    }

    /// Handles of a cluster.
    pub(crate) fn cluster(&self, cluster: &Cluster) -> ClusterStats {
        let name = cluster.name.shared();
        let labels = [name.clone()];
        let counter = |desc| self.shard.counter(desc, &labels);
        let gauge = |desc| self.shard.gauge(desc, &labels);
        ClusterStats {
            requests_total: counter(&catalogue::ENVOY_CLUSTER_UPSTREAM_RQ_TOTAL),
            requests_active: gauge(&catalogue::ENVOY_CLUSTER_UPSTREAM_RQ_ACTIVE),
            completed: counter(&catalogue::ENVOY_CLUSTER_UPSTREAM_RQ_COMPLETED),
            classes: Default::default(),
            codes: RefCell::default(),
            request_time: self.shard.histogram(&catalogue::ENVOY_CLUSTER_UPSTREAM_RQ_TIME, &labels),
            offered: self.shard.counter(&catalogue::OUTRIGGER_CLUSTER_REQUESTS_TOTAL, &cluster_labels(cluster)),
            retries: counter(&catalogue::ENVOY_CLUSTER_UPSTREAM_RQ_RETRY),
            retries_succeeded: counter(&catalogue::ENVOY_CLUSTER_UPSTREAM_RQ_RETRY_SUCCESS),
            retry_overflows: counter(&catalogue::ENVOY_CLUSTER_UPSTREAM_RQ_RETRY_OVERFLOW),
            retry_limits_exceeded: counter(&catalogue::ENVOY_CLUSTER_UPSTREAM_RQ_RETRY_LIMIT_EXCEEDED),
            losses: LossStats::new(&self.shard, &labels),
            connections_total: counter(&catalogue::ENVOY_CLUSTER_UPSTREAM_CX_TOTAL),
            connections_active: gauge(&catalogue::ENVOY_CLUSTER_UPSTREAM_CX_ACTIVE),
            connect_failures: counter(&catalogue::ENVOY_CLUSTER_UPSTREAM_CX_CONNECT_FAIL),
            connect_timeouts: counter(&catalogue::ENVOY_CLUSTER_UPSTREAM_CX_CONNECT_TIMEOUT),
            none_healthy: counter(&catalogue::ENVOY_CLUSTER_UPSTREAM_CX_NONE_HEALTHY),
            by_version: Default::default(),
            mirrored: Mirrored::default(),
            name,
        }
    }

    /// Handles of an endpoint.
    pub(crate) fn endpoint(&self, cluster: &Cluster, endpoint: &Endpoint) -> EndpointStats {
        let labels = endpoint_labels(cluster, endpoint);
        EndpointStats {
            requests_total: Some(self.shard.counter(&catalogue::OUTRIGGER_ENDPOINT_REQUESTS_TOTAL, &labels)),
            service: cluster.service.clone(),
            workload: endpoint.workload.clone(),
            series: RefCell::default(),
            messages: RefCell::default(),
        }
    }

    /// Handles for requests that reached a cluster and none of its endpoints.
    pub(crate) fn no_endpoint(&self, service: &ServiceRef) -> EndpointStats {
        EndpointStats {
            requests_total: None,
            service: service.clone(),
            workload: Arc::new(Workload::unknown()),
            series: RefCell::default(),
            messages: RefCell::default(),
        }
    }

    /// Handles for requests that reached no cluster.
    pub(crate) fn nowhere(&self) -> Rc<EndpointStats> {
        self.nowhere.borrow_mut().get_or_insert_with(|| Rc::new(self.named_only(Workload::UNKNOWN))).clone()
    }

    /// Handles for requests to addresses that no configuration names.
    pub(crate) fn passthrough(&self) -> Rc<EndpointStats> {
        self.passthrough.borrow_mut().get_or_insert_with(|| Rc::new(self.named_only(ClusterName::PASSTHROUGH))).clone()
    }

    /// Handles for requests to hosts that are refused because no configuration has them.
    pub(crate) fn black_hole(&self) -> Rc<EndpointStats> {
        self.black_hole.borrow_mut().get_or_insert_with(|| Rc::new(self.named_only(ClusterName::BLACK_HOLE))).clone()
    }

    /// Handles for requests to a cluster that is not there: its name tells the service.
    pub(crate) fn missing(&self, cluster: &ClusterName) -> EndpointStats {
        let Some((port, subset, host)) = cluster.outbound_parts() else { return self.named_only(cluster.as_str()) };
        self.no_endpoint(&ServiceRef {
            host: host.into(),
            name: host.split('.').next().unwrap_or(host).into(),
            namespace: Workload::UNKNOWN.into(),
            port,
            subset: subset.into(),
        })
    }

    /// A destination of which nothing but the service's name is known.
    fn named_only(&self, name: &str) -> EndpointStats {
        let unknown: Arc<str> = Workload::UNKNOWN.into();
        self.no_endpoint(&ServiceRef {
            host: unknown.clone(),
            name: name.into(),
            namespace: unknown,
            port: 0,
            subset: Arc::default(),
        })
    }

    /// The count of a route's share; none for a route without origin.
    pub(crate) fn route(
        &self,
        route: &Route,
        destination: &Destination,
        service: Option<&ServiceRef>,
    ) -> Option<Counter> {
        let labels = route_labels(route, destination, service)?;
        Some(self.shard.counter(&catalogue::OUTRIGGER_ROUTE_REQUESTS_TOTAL, &labels))
    }

    /// The count of a container's port.
    fn container(&self, inbound: &Inbound, status: u16) -> Counter {
        let labels = [inbound.container.clone(), inbound.port.to_string().into(), status.to_string().into()];
        self.shard.counter(&catalogue::OUTRIGGER_CONTAINER_REQUESTS_TOTAL, &labels)
    }

    /// A hit of one of the data plane's bounds; rare, so it looks its series up.
    pub(crate) fn limit_hit(&self, limit: &'static str) {
        self.shard.counter(&catalogue::OUTRIGGER_LIMIT_HITS_TOTAL, &[limit.into()]).inc();
    }

    /// A handshake of TLS that came to an end; rare beside what it costs, so it looks its series up.
    pub(crate) fn handshake(&self, listener: &Arc<str>, version: &'static str) {
        self.shard.counter(&catalogue::OUTRIGGER_TLS_HANDSHAKES_TOTAL, &[listener.clone(), version.into()]).inc();
    }

    /// A connection that did not come to a handshake's good end.
    pub(crate) fn handshake_failure(&self, listener: &Arc<str>, reason: &'static str) {
        let labels = [listener.clone(), reason.into()];
        self.shard.counter(&catalogue::OUTRIGGER_TLS_HANDSHAKE_FAILURES_TOTAL, &labels).inc();
    }

    /// An answer the proxy made itself.
    pub(crate) fn proxy_reply(&self, reason: Reason) {
        let row = reason.row();
        let labels = [row.flag.as_str().into(), row.status.to_string().into(), row.details.into()];
        self.shard.counter(&catalogue::OUTRIGGER_PROXY_REPLIES_TOTAL, &labels).inc();
    }

    /// Counts what a cluster, or the proxy in its stead, answered; 0: there was no answer.
    pub(crate) fn upstream_completed(&self, cluster: &ClusterStats, status: u16, duration: Duration) {
        if status != 0 {
            cluster.completed(&self.shard, status, duration.as_secs_f64() * 1000.0);
        }
    }

    /// Counts a finished exchange.
    pub(crate) fn exchange(
        &self,
        side: Side<'_>,
        outcome: &Outcome,
        cluster: Option<&ClusterStats>,
        endpoint: &EndpointStats,
    ) {
        let downstream = self.downstream(side.direction);
        let duration_ms = outcome.duration.as_secs_f64() * 1000.0;
        let class = usize::from(outcome.status / 100);
        if (1..=5).contains(&class) {
            downstream.classes[class - 1].inc();
        }
        downstream.request_time.observe(duration_ms);
        if let Some(cluster) = cluster {
            self.upstream_completed(cluster, outcome.status, outcome.duration);
        }
        let series = endpoint.series(self, side, outcome);
        series.total.inc();
        if let Some(counter) = &series.container {
            counter.inc();
        }
        series.duration.observe(duration_ms);
        series.request_bytes.observe(outcome.bytes_received as f64);
        series.response_bytes.observe(outcome.bytes_sent as f64);
    }
}

impl ClusterStats {
    /// Counts a connection by the version of HTTP that is spoken on it.
    pub(crate) fn connected(&self, shard: &Shard, is_http2: bool) {
        let counter = self.by_version[usize::from(is_http2)].get_or_init(|| {
            let desc = match is_http2 {
                false => &catalogue::ENVOY_CLUSTER_UPSTREAM_CX_HTTP1_TOTAL,
                true => &catalogue::ENVOY_CLUSTER_UPSTREAM_CX_HTTP2_TOTAL,
            };
            shard.counter(desc, std::slice::from_ref(&self.name))
        });
        counter.inc();
    }

    fn completed(&self, shard: &Shard, status: u16, duration_ms: f64) {
        self.completed.inc();
        self.request_time.observe(duration_ms);
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.classes[class]
            .get_or_init(|| {
                let labels = [self.name.clone(), (class + 1).to_string().into()];
                shard.counter(&catalogue::ENVOY_CLUSTER_UPSTREAM_RQ_XX, &labels)
            })
            .inc();
        let mut codes = self.codes.borrow_mut();
        if let Some((_, counter)) = codes.iter().find(|(code, _)| *code == status) {
            counter.inc();
            return;
        }
        let counter =
            shard.counter(&catalogue::ENVOY_CLUSTER_UPSTREAM_RQ, &[self.name.clone(), status.to_string().into()]);
        counter.inc();
        codes.push((status, counter));
    }
}

impl EndpointStats {
    /// Series kept before the list is dropped and looked up anew: an application that answers with hundreds of
    /// different statuses must not make every request walk them.
    const SERIES_KEPT_MAX: usize = 64;

    fn series(&self, recorder: &Recorder, side: Side<'_>, outcome: &Outcome) -> Rc<RequestSeries> {
        let own = recorder.own.borrow();
        let inbound = side.inbound();
        let source = if inbound.is_some() { side.peer.unwrap_or(&recorder.stranger) } else { &*own };
        let key = SeriesKey {
            status: outcome.status,
            flags: outcome.flags,
            grpc: outcome.grpc,
            source: Arc::as_ptr(source),
            own: Arc::as_ptr(&own),
            inbound: inbound.map_or(std::ptr::null(), Arc::as_ptr),
        };
        let mut known = self.series.borrow_mut();
        if let Some((_, series)) = known.iter().find(|(k, _)| *k == key) {
            return series.clone();
        }
        if known.len() >= Self::SERIES_KEPT_MAX {
            known.clear();
        }
        let destination = if inbound.is_some() { &*own } else { &self.workload };
        let reporter = if inbound.is_some() { "destination" } else { "source" };
        let labels = self.labels(reporter, source, destination, outcome);
        let shard = &recorder.shard;
        let series = Rc::new(RequestSeries {
            total: shard.counter(&catalogue::ISTIO_REQUESTS_TOTAL, &labels),
            duration: shard.histogram(&catalogue::ISTIO_REQUEST_DURATION_MILLISECONDS, &labels),
            request_bytes: shard.histogram(&catalogue::ISTIO_REQUEST_BYTES, &labels),
            response_bytes: shard.histogram(&catalogue::ISTIO_RESPONSE_BYTES, &labels),
            container: inbound.map(|inbound| recorder.container(inbound, outcome.status)),
            _source: source.clone(),
            _own: own.clone(),
            _inbound: inbound.cloned(),
        });
        known.push((key, series.clone()));
        series
    }

    /// All 25 labels of Istio's standard metrics, in the catalogue's order.
    fn labels(&self, reporter: &str, source: &Workload, destination: &Workload, outcome: &Outcome) -> Vec<Arc<str>> {
        let label = |name: &&str| match *name {
            "reporter" => reporter.into(),
            "request_protocol" => if outcome.grpc.is_some() { "grpc" } else { "http" }.into(),
            "response_code" => outcome.status.to_string().into(),
            "grpc_response_status" => match outcome.grpc {
                Some(GrpcStatus(Some(status))) => status.to_string().into(),
                _ => Arc::default(),
            },
            "response_flags" => outcome.flags.text().into(),
            name => self.peer_label(name, source, destination),
        };
        catalogue::HTTP_LABELS.iter().map(label).collect()
    }

    /// A label that says who talks to whom.
    fn peer_label(&self, name: &str, source: &Workload, destination: &Workload) -> Arc<str> {
        if let Some(fact) = name.strip_prefix("source_") {
            return workload_label(fact, source);
        }
        match name {
            "destination_service" => self.service.host.clone(),
            "destination_service_name" => self.service.name.clone(),
            "destination_service_namespace" => self.service.namespace.clone(),
            // Plain text until mutual TLS arrives: the real value, on the source side too.
            "connection_security_policy" => "none".into(),
            _ => workload_label(name.strip_prefix("destination_").unwrap_or(name), destination),
        }
    }
}

/// As [`Raised`], for what outlives the one who raised it.
pub(crate) struct HeldGauge(Gauge);

impl HeldGauge {
    /// Raises it.
    pub(crate) fn new(gauge: &Gauge) -> Self {
        gauge.add(1);
        Self(gauge.clone())
    }
}

impl Drop for HeldGauge {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

impl std::fmt::Debug for HeldGauge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HeldGauge")
    }
}

/// A gauge raised by one until dropped.
pub(crate) struct Raised<'g>(&'g Gauge);

impl<'g> Raised<'g> {
    /// Raises it.
    pub(crate) fn new(gauge: &'g Gauge) -> Self {
        gauge.add(1);
        Self(gauge)
    }
}

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}
