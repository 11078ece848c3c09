//! Istio's standard metrics: names, labels and buckets are fixed by the dashboards, Kiali, Flagger and Argo Rollouts.
//!
//! Every label always has a value: Kiali drops a sample that lacks one. `unknown` is the fallback of a fact about a
//! workload, `latest` that of a revision, `-` that of the flags; only `grpc_response_status` may be empty.

use super::{BUCKETS_STANDARD, metrics};
use crate::Desc;

/// Who talks to whom: the labels of the gRPC message counters, and the first twenty of all others.
pub const PEER_LABELS: &[&str] = &[
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
];

/// Labels of the TCP metrics.
pub const TCP_LABELS: &[&str] = &[
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_flags",
    "connection_security_policy",
];

/// Labels of the HTTP and gRPC metrics, 25 of them.
pub const HTTP_LABELS: &[&str] = &[
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
];

metrics! {
    ISTIO_METRICS;
    /// One at the end of every HTTP or gRPC stream.
    ISTIO_REQUESTS_TOTAL = Desc::counter(
        "istio_requests_total",
        "HTTP and gRPC requests, counted when the answer is complete or the stream is given up.",
    )
    .labels(HTTP_LABELS);
    /// First byte of the request to last byte of the answer, in milliseconds.
    ISTIO_REQUEST_DURATION_MILLISECONDS = Desc::histogram(
        "istio_request_duration_milliseconds",
        "Time from the start of a request to the last byte of its answer to the client.",
        BUCKETS_STANDARD,
    )
    .unit("milliseconds")
    .labels(HTTP_LABELS);
    /// Bytes on the wire from the client, head and body.
    ISTIO_REQUEST_BYTES = Desc::histogram(
        "istio_request_bytes",
        "Size of a request on the wire, head and body.",
        BUCKETS_STANDARD,
    )
    .unit("bytes")
    .labels(HTTP_LABELS);
    /// Bytes on the wire to the client, head and body.
    ISTIO_RESPONSE_BYTES = Desc::histogram(
        "istio_response_bytes",
        "Size of an answer on the wire, head and body.",
        BUCKETS_STANDARD,
    )
    .unit("bytes")
    .labels(HTTP_LABELS);
    /// gRPC messages from the client.
    ISTIO_REQUEST_MESSAGES_TOTAL = Desc::counter(
        "istio_request_messages_total",
        "gRPC messages from clients, flushed every five seconds and at the end of a stream.",
    )
    .labels(PEER_LABELS);
    /// gRPC messages to the client.
    ISTIO_RESPONSE_MESSAGES_TOTAL = Desc::counter(
        "istio_response_messages_total",
        "gRPC messages to clients, flushed every five seconds and at the end of a stream.",
    )
    .labels(PEER_LABELS);
    /// TCP connections that began.
    ISTIO_TCP_CONNECTIONS_OPENED_TOTAL = Desc::counter(
        "istio_tcp_connections_opened_total",
        "TCP connections opened.",
    )
    .labels(TCP_LABELS);
    /// TCP connections that ended.
    ISTIO_TCP_CONNECTIONS_CLOSED_TOTAL = Desc::counter(
        "istio_tcp_connections_closed_total",
        "TCP connections closed.",
    )
    .labels(TCP_LABELS);
    /// Bytes towards the client, as Istio has it.
    ISTIO_TCP_SENT_BYTES_TOTAL = Desc::counter(
        "istio_tcp_sent_bytes_total",
        "Bytes sent to clients over TCP connections.",
    )
    .unit("bytes")
    .labels(TCP_LABELS);
    /// Bytes from the client, as Istio has it.
    ISTIO_TCP_RECEIVED_BYTES_TOTAL = Desc::counter(
        "istio_tcp_received_bytes_total",
        "Bytes received from clients over TCP connections.",
    )
    .unit("bytes")
    .labels(TCP_LABELS);
    /// Always 1; `component` is `proxy`, `tag` the version.
    ISTIO_BUILD = Desc::gauge("istio_build", "Component and version, always 1.").labels(&["component", "tag"]);
}
