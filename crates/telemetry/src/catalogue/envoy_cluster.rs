//! Envoy's statistics of clusters that public alert rules, Kiali and Flagger ask for, in the dialect of stock Envoy.
//!
//! Names do not end in `_total` unless Envoy's do, in every format. Only what the data plane feeds stands here.
//! `xx` and code counters count final answers; an attempt that is retried counts in `upstream_rq_retry`.

use super::{BUCKETS_STANDARD, metrics};
use crate::Desc;

/// The cluster's name.
pub const CLUSTER: &[&str] = &["envoy_cluster_name"];
/// The cluster's name and the class of the answer, `1` to `5`.
pub const CLUSTER_CLASS: &[&str] = &["envoy_cluster_name", "envoy_response_code_class"];
/// The cluster's name and the status of the answer.
pub const CLUSTER_CODE: &[&str] = &["envoy_cluster_name", "envoy_response_code"];
const fn cluster_counter(name: &'static str, help: &'static str, envoy: &'static str) -> Desc {
    Desc::counter(name, help).labels(CLUSTER).envoy(envoy)
}

const fn cluster_gauge(name: &'static str, help: &'static str, envoy: &'static str) -> Desc {
    Desc::gauge(name, help).labels(CLUSTER).envoy(envoy)
}

const fn cluster_histogram(name: &'static str, help: &'static str, envoy: &'static str) -> Desc {
    Desc::histogram(name, help, BUCKETS_STANDARD).labels(CLUSTER).envoy(envoy)
}

metrics! {
    CLUSTER_METRICS;
    // Requests to the endpoints of a cluster.
    /// Requests sent to a cluster, each attempt counted.
    ENVOY_CLUSTER_UPSTREAM_RQ_TOTAL = cluster_counter(
        "envoy_cluster_upstream_rq_total",
        "Requests sent to a cluster, each attempt counted.",
        "cluster.{}.upstream_rq_total",
    );
    /// Requests a cluster is working on.
    ENVOY_CLUSTER_UPSTREAM_RQ_ACTIVE = cluster_gauge(
        "envoy_cluster_upstream_rq_active",
        "Requests a cluster is working on.",
        "cluster.{}.upstream_rq_active",
    );
    /// Answers of a cluster that reached the client.
    ENVOY_CLUSTER_UPSTREAM_RQ_COMPLETED = cluster_counter(
        "envoy_cluster_upstream_rq_completed",
        "Answers of a cluster that reached the client.",
        "cluster.{}.upstream_rq_completed",
    );
    /// Final answers by class of the status.
    ENVOY_CLUSTER_UPSTREAM_RQ_XX = Desc::counter(
        "envoy_cluster_upstream_rq_xx",
        "Final answers by class of the status.",
    )
    .labels(CLUSTER_CLASS)
    .envoy("cluster.{}.upstream_rq_{}xx");
    /// Final answers by status.
    ENVOY_CLUSTER_UPSTREAM_RQ = Desc::counter(
        "envoy_cluster_upstream_rq",
        "Final answers by status.",
    )
    .labels(CLUSTER_CODE)
    .envoy("cluster.{}.upstream_rq_{}");
    /// Time from sending a request to the end of its answer, in milliseconds.
    ENVOY_CLUSTER_UPSTREAM_RQ_TIME = cluster_histogram(
        "envoy_cluster_upstream_rq_time",
        "Time from sending a request to the end of its answer, in milliseconds.",
        "cluster.{}.upstream_rq_time",
    );
    /// Requests given up because the route's timeout passed.
    ENVOY_CLUSTER_UPSTREAM_RQ_TIMEOUT = cluster_counter(
        "envoy_cluster_upstream_rq_timeout",
        "Requests given up because the route's timeout passed.",
        "cluster.{}.upstream_rq_timeout",
    );
    /// Attempts given up because the time allowed for one try passed.
    ENVOY_CLUSTER_UPSTREAM_RQ_PER_TRY_TIMEOUT = cluster_counter(
        "envoy_cluster_upstream_rq_per_try_timeout",
        "Attempts given up because the time allowed for one try passed.",
        "cluster.{}.upstream_rq_per_try_timeout",
    );
    /// Requests that the upstream broke off.
    ENVOY_CLUSTER_UPSTREAM_RQ_RX_RESET = cluster_counter(
        "envoy_cluster_upstream_rq_rx_reset",
        "Requests that the upstream broke off.",
        "cluster.{}.upstream_rq_rx_reset",
    );
    /// Requests that the proxy broke off towards the upstream.
    ENVOY_CLUSTER_UPSTREAM_RQ_TX_RESET = cluster_counter(
        "envoy_cluster_upstream_rq_tx_reset",
        "Requests that the proxy broke off towards the upstream.",
        "cluster.{}.upstream_rq_tx_reset",
    );
    /// Requests given up before a connection was there.
    ENVOY_CLUSTER_UPSTREAM_RQ_CANCELLED = cluster_counter(
        "envoy_cluster_upstream_rq_cancelled",
        "Requests given up before a connection was there.",
        "cluster.{}.upstream_rq_cancelled",
    );
    /// Attempts after the first.
    ENVOY_CLUSTER_UPSTREAM_RQ_RETRY = cluster_counter(
        "envoy_cluster_upstream_rq_retry",
        "Attempts after the first.",
        "cluster.{}.upstream_rq_retry",
    );
    /// Attempts after the first that brought a good answer.
    ENVOY_CLUSTER_UPSTREAM_RQ_RETRY_SUCCESS = cluster_counter(
        "envoy_cluster_upstream_rq_retry_success",
        "Attempts after the first that brought a good answer.",
        "cluster.{}.upstream_rq_retry_success",
    );
    /// Retries not made because the retry budget was used up.
    ENVOY_CLUSTER_UPSTREAM_RQ_RETRY_OVERFLOW = cluster_counter(
        "envoy_cluster_upstream_rq_retry_overflow",
        "Retries not made because the retry budget was used up.",
        "cluster.{}.upstream_rq_retry_overflow",
    );
    /// Requests that failed although all allowed retries were made.
    ENVOY_CLUSTER_UPSTREAM_RQ_RETRY_LIMIT_EXCEEDED = cluster_counter(
        "envoy_cluster_upstream_rq_retry_limit_exceeded",
        "Requests that failed although all allowed retries were made.",
        "cluster.{}.upstream_rq_retry_limit_exceeded",
    );
    /// Requests that had to wait for a connection.
    ENVOY_CLUSTER_UPSTREAM_RQ_PENDING_TOTAL = cluster_counter(
        "envoy_cluster_upstream_rq_pending_total",
        "Requests that had to wait for a connection, were it only for its opening.",
        "cluster.{}.upstream_rq_pending_total",
    );
    /// Requests that are waiting for a connection.
    ENVOY_CLUSTER_UPSTREAM_RQ_PENDING_ACTIVE = cluster_gauge(
        "envoy_cluster_upstream_rq_pending_active",
        "Requests that are waiting for a connection.",
        "cluster.{}.upstream_rq_pending_active",
    );
    /// Requests refused because too many were waiting for a connection.
    ENVOY_CLUSTER_UPSTREAM_RQ_PENDING_OVERFLOW = cluster_counter(
        "envoy_cluster_upstream_rq_pending_overflow",
        "Requests refused because too many were waiting for a connection.",
        "cluster.{}.upstream_rq_pending_overflow",
    );
    /// Requests refused because too many of a cluster were under way.
    ENVOY_CLUSTER_UPSTREAM_RQ_ACTIVE_OVERFLOW = cluster_counter(
        "envoy_cluster_upstream_rq_active_overflow",
        "Requests refused because too many of a cluster were under way.",
        "cluster.{}.upstream_rq_active_overflow",
    );
    /// Requests refused because the cluster is in maintenance.
    ENVOY_CLUSTER_UPSTREAM_RQ_MAINTENANCE_MODE = cluster_counter(
        "envoy_cluster_upstream_rq_maintenance_mode",
        "Requests refused because the cluster is in maintenance.",
        "cluster.{}.upstream_rq_maintenance_mode",
    );
    // Limits of a cluster, where they are set: what is at capacity now.
    /// 1 while a cluster has as many connections as it may.
    ENVOY_CLUSTER_CIRCUIT_BREAKERS_DEFAULT_CX_OPEN = cluster_gauge(
        "envoy_cluster_circuit_breakers_default_cx_open",
        "1 while a cluster has as many connections as it may, else 0.",
        "cluster.{}.circuit_breakers.default.cx_open",
    );
    /// 1 while as many requests of a cluster are under way as may be.
    ENVOY_CLUSTER_CIRCUIT_BREAKERS_DEFAULT_RQ_OPEN = cluster_gauge(
        "envoy_cluster_circuit_breakers_default_rq_open",
        "1 while as many requests of a cluster are under way as may be, else 0.",
        "cluster.{}.circuit_breakers.default.rq_open",
    );
    /// 1 while as many requests wait for a connection as may.
    ENVOY_CLUSTER_CIRCUIT_BREAKERS_DEFAULT_RQ_PENDING_OPEN = cluster_gauge(
        "envoy_cluster_circuit_breakers_default_rq_pending_open",
        "1 while as many requests wait for a connection as may, else 0.",
        "cluster.{}.circuit_breakers.default.rq_pending_open",
    );
    /// 1 while as many retries are under way as may be.
    ENVOY_CLUSTER_CIRCUIT_BREAKERS_DEFAULT_RQ_RETRY_OPEN = cluster_gauge(
        "envoy_cluster_circuit_breakers_default_rq_retry_open",
        "1 while as many retries are under way as may be, else 0.",
        "cluster.{}.circuit_breakers.default.rq_retry_open",
    );
    /// Connections that a cluster may have more than now.
    ENVOY_CLUSTER_CIRCUIT_BREAKERS_DEFAULT_REMAINING_CX = cluster_gauge(
        "envoy_cluster_circuit_breakers_default_remaining_cx",
        "Connections that a cluster may have more than now.",
        "cluster.{}.circuit_breakers.default.remaining_cx",
    );
    /// Requests of a cluster that may be under way more than now.
    ENVOY_CLUSTER_CIRCUIT_BREAKERS_DEFAULT_REMAINING_RQ = cluster_gauge(
        "envoy_cluster_circuit_breakers_default_remaining_rq",
        "Requests of a cluster that may be under way more than now.",
        "cluster.{}.circuit_breakers.default.remaining_rq",
    );
    /// Requests that may wait for a connection more than now.
    ENVOY_CLUSTER_CIRCUIT_BREAKERS_DEFAULT_REMAINING_PENDING = cluster_gauge(
        "envoy_cluster_circuit_breakers_default_remaining_pending",
        "Requests that may wait for a connection more than now.",
        "cluster.{}.circuit_breakers.default.remaining_pending",
    );
    /// Retries that may be under way more than now.
    ENVOY_CLUSTER_CIRCUIT_BREAKERS_DEFAULT_REMAINING_RETRIES = cluster_gauge(
        "envoy_cluster_circuit_breakers_default_remaining_retries",
        "Retries that may be under way more than now.",
        "cluster.{}.circuit_breakers.default.remaining_retries",
    );
    // Connections to the endpoints of a cluster.
    /// Connections opened to a cluster.
    ENVOY_CLUSTER_UPSTREAM_CX_TOTAL = cluster_counter(
        "envoy_cluster_upstream_cx_total",
        "Connections opened to a cluster.",
        "cluster.{}.upstream_cx_total",
    );
    /// Connections open to a cluster.
    ENVOY_CLUSTER_UPSTREAM_CX_ACTIVE = cluster_gauge(
        "envoy_cluster_upstream_cx_active",
        "Connections open to a cluster.",
        "cluster.{}.upstream_cx_active",
    );
    /// HTTP/1 connections opened to a cluster.
    ENVOY_CLUSTER_UPSTREAM_CX_HTTP1_TOTAL = cluster_counter(
        "envoy_cluster_upstream_cx_http1_total",
        "HTTP/1 connections opened to a cluster.",
        "cluster.{}.upstream_cx_http1_total",
    );
    /// HTTP/2 connections opened to a cluster.
    ENVOY_CLUSTER_UPSTREAM_CX_HTTP2_TOTAL = cluster_counter(
        "envoy_cluster_upstream_cx_http2_total",
        "HTTP/2 connections opened to a cluster.",
        "cluster.{}.upstream_cx_http2_total",
    );
    /// Connections to a cluster that could not be opened.
    ENVOY_CLUSTER_UPSTREAM_CX_CONNECT_FAIL = cluster_counter(
        "envoy_cluster_upstream_cx_connect_fail",
        "Connections to a cluster that could not be opened.",
        "cluster.{}.upstream_cx_connect_fail",
    );
    /// Connections to a cluster that took too long to open.
    ENVOY_CLUSTER_UPSTREAM_CX_CONNECT_TIMEOUT = cluster_counter(
        "envoy_cluster_upstream_cx_connect_timeout",
        "Connections to a cluster that took too long to open.",
        "cluster.{}.upstream_cx_connect_timeout",
    );
    /// Times that the limit on connections to a cluster was reached.
    ENVOY_CLUSTER_UPSTREAM_CX_OVERFLOW = cluster_counter(
        "envoy_cluster_upstream_cx_overflow",
        "Connections to a cluster that were wanted while its limit on them was reached.",
        "cluster.{}.upstream_cx_overflow",
    );
    /// Requests that found no healthy endpoint.
    ENVOY_CLUSTER_UPSTREAM_CX_NONE_HEALTHY = cluster_counter(
        "envoy_cluster_upstream_cx_none_healthy",
        "Requests that found no healthy endpoint.",
        "cluster.{}.upstream_cx_none_healthy",
    );
    /// Connections to a cluster closed because nobody used them.
    ENVOY_CLUSTER_UPSTREAM_CX_IDLE_TIMEOUT = cluster_counter(
        "envoy_cluster_upstream_cx_idle_timeout",
        "Connections to a cluster closed because nobody used them.",
        "cluster.{}.upstream_cx_idle_timeout",
    );
    /// Connections to a cluster closed after their last allowed request.
    ENVOY_CLUSTER_UPSTREAM_CX_MAX_REQUESTS = cluster_counter(
        "envoy_cluster_upstream_cx_max_requests",
        "Connections to a cluster closed after their last allowed request.",
        "cluster.{}.upstream_cx_max_requests",
    );
    /// Connections to a cluster closed because of a bad answer.
    ENVOY_CLUSTER_UPSTREAM_CX_PROTOCOL_ERROR = cluster_counter(
        "envoy_cluster_upstream_cx_protocol_error",
        "Connections to a cluster closed because of a bad answer.",
        "cluster.{}.upstream_cx_protocol_error",
    );
    /// Connections to a cluster that were closed.
    ENVOY_CLUSTER_UPSTREAM_CX_DESTROY = cluster_counter(
        "envoy_cluster_upstream_cx_destroy",
        "Connections to a cluster that were closed.",
        "cluster.{}.upstream_cx_destroy",
    );
    /// Connections to a cluster closed by the proxy.
    ENVOY_CLUSTER_UPSTREAM_CX_DESTROY_LOCAL = cluster_counter(
        "envoy_cluster_upstream_cx_destroy_local",
        "Connections to a cluster closed by the proxy.",
        "cluster.{}.upstream_cx_destroy_local",
    );
    /// Connections to a cluster closed by the upstream.
    ENVOY_CLUSTER_UPSTREAM_CX_DESTROY_REMOTE = cluster_counter(
        "envoy_cluster_upstream_cx_destroy_remote",
        "Connections to a cluster closed by the upstream.",
        "cluster.{}.upstream_cx_destroy_remote",
    );
    /// Connections to a cluster closed in the middle of a request.
    ENVOY_CLUSTER_UPSTREAM_CX_DESTROY_WITH_ACTIVE_RQ = cluster_counter(
        "envoy_cluster_upstream_cx_destroy_with_active_rq",
        "Connections to a cluster closed in the middle of a request.",
        "cluster.{}.upstream_cx_destroy_with_active_rq",
    );
    /// Connections to a cluster closed by the proxy in the middle of a request.
    ENVOY_CLUSTER_UPSTREAM_CX_DESTROY_LOCAL_WITH_ACTIVE_RQ = cluster_counter(
        "envoy_cluster_upstream_cx_destroy_local_with_active_rq",
        "Connections to a cluster closed by the proxy in the middle of a request.",
        "cluster.{}.upstream_cx_destroy_local_with_active_rq",
    );
    /// Connections to a cluster closed by the upstream in the middle of a request.
    ENVOY_CLUSTER_UPSTREAM_CX_DESTROY_REMOTE_WITH_ACTIVE_RQ = cluster_counter(
        "envoy_cluster_upstream_cx_destroy_remote_with_active_rq",
        "Connections to a cluster closed by the upstream in the middle of a request.",
        "cluster.{}.upstream_cx_destroy_remote_with_active_rq",
    );
    /// Bytes received from a cluster.
    ENVOY_CLUSTER_UPSTREAM_CX_RX_BYTES_TOTAL = cluster_counter(
        "envoy_cluster_upstream_cx_rx_bytes_total",
        "Bytes received from a cluster.",
        "cluster.{}.upstream_cx_rx_bytes_total",
    );
    /// Bytes sent to a cluster.
    ENVOY_CLUSTER_UPSTREAM_CX_TX_BYTES_TOTAL = cluster_counter(
        "envoy_cluster_upstream_cx_tx_bytes_total",
        "Bytes sent to a cluster.",
        "cluster.{}.upstream_cx_tx_bytes_total",
    );
    /// Time to open a connection to a cluster, in milliseconds.
    ENVOY_CLUSTER_UPSTREAM_CX_CONNECT_MS = cluster_histogram(
        "envoy_cluster_upstream_cx_connect_ms",
        "Time to open a connection to a cluster, in milliseconds.",
        "cluster.{}.upstream_cx_connect_ms",
    );
    /// Time a connection to a cluster lasted, in milliseconds.
    ENVOY_CLUSTER_UPSTREAM_CX_LENGTH_MS = cluster_histogram(
        "envoy_cluster_upstream_cx_length_ms",
        "Time a connection to a cluster lasted, in milliseconds.",
        "cluster.{}.upstream_cx_length_ms",
    );
    // Endpoints of a cluster.
    /// Endpoints of a cluster.
    ENVOY_CLUSTER_MEMBERSHIP_TOTAL = cluster_gauge(
        "envoy_cluster_membership_total",
        "Endpoints of a cluster.",
        "cluster.{}.membership_total",
    );
    /// Endpoints of a cluster that take requests.
    ENVOY_CLUSTER_MEMBERSHIP_HEALTHY = cluster_gauge(
        "envoy_cluster_membership_healthy",
        "Endpoints of a cluster that take requests.",
        "cluster.{}.membership_healthy",
    );
    /// Endpoints of a cluster that take requests only when others are gone.
    ENVOY_CLUSTER_MEMBERSHIP_DEGRADED = cluster_gauge(
        "envoy_cluster_membership_degraded",
        "Endpoints of a cluster that take requests only when others are gone.",
        "cluster.{}.membership_degraded",
    );
    /// Endpoints of a cluster left out of balancing.
    ENVOY_CLUSTER_MEMBERSHIP_EXCLUDED = cluster_gauge(
        "envoy_cluster_membership_excluded",
        "Endpoints of a cluster left out of balancing.",
        "cluster.{}.membership_excluded",
    );
    /// Changes of the endpoints of a cluster.
    ENVOY_CLUSTER_MEMBERSHIP_CHANGE = cluster_counter(
        "envoy_cluster_membership_change",
        "Changes of the endpoints of a cluster.",
        "cluster.{}.membership_change",
    );
    /// Requests balanced over all endpoints because too few were healthy.
    ENVOY_CLUSTER_LB_HEALTHY_PANIC = cluster_counter(
        "envoy_cluster_lb_healthy_panic",
        "Requests balanced over all endpoints because too few were healthy.",
        "cluster.{}.lb_healthy_panic",
    );
    // Outlier detection.
    /// Endpoints that are out now.
    ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_ACTIVE = cluster_gauge(
        "envoy_cluster_outlier_detection_ejections_active",
        "Endpoints that outlier detection leaves out now.",
        "cluster.{}.outlier_detection.ejections_active",
    );
    /// Ejections, whatever the reason.
    ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_ENFORCED_TOTAL = cluster_counter(
        "envoy_cluster_outlier_detection_ejections_enforced_total",
        "Ejections of endpoints by outlier detection.",
        "cluster.{}.outlier_detection.ejections_enforced_total",
    );
    /// Outliers that had to stay in.
    ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_OVERFLOW = cluster_counter(
        "envoy_cluster_outlier_detection_ejections_overflow",
        "Endpoints found to be outliers that stayed in because maxEjectionPercent allows no more ejections.",
        "cluster.{}.outlier_detection.ejections_overflow",
    );
    /// Found, ejected or not.
    ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_DETECTED_CONSECUTIVE_5XX = cluster_counter(
        "envoy_cluster_outlier_detection_ejections_detected_consecutive_5xx",
        "Endpoints found to be outliers for so many 5xx, or failures, in a row, ejected or not.",
        "cluster.{}.outlier_detection.ejections_detected_consecutive_5xx",
    );
    /// Ejected.
    ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_ENFORCED_CONSECUTIVE_5XX = cluster_counter(
        "envoy_cluster_outlier_detection_ejections_enforced_consecutive_5xx",
        "Ejections of endpoints for so many 5xx, or failures, in a row.",
        "cluster.{}.outlier_detection.ejections_enforced_consecutive_5xx",
    );
    /// Found, ejected or not.
    ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_DETECTED_CONSECUTIVE_GATEWAY_FAILURE = cluster_counter(
        "envoy_cluster_outlier_detection_ejections_detected_consecutive_gateway_failure",
        "Endpoints found to be outliers for so many 502, 503 or 504, or failures, in a row, ejected or not.",
        "cluster.{}.outlier_detection.ejections_detected_consecutive_gateway_failure",
    );
    /// Ejected.
    ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_ENFORCED_CONSECUTIVE_GATEWAY_FAILURE = cluster_counter(
        "envoy_cluster_outlier_detection_ejections_enforced_consecutive_gateway_failure",
        "Ejections of endpoints for so many 502, 503 or 504, or failures, in a row.",
        "cluster.{}.outlier_detection.ejections_enforced_consecutive_gateway_failure",
    );
    /// Found, ejected or not.
    ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_DETECTED_CONSECUTIVE_LOCAL_ORIGIN_FAILURE = cluster_counter(
        "envoy_cluster_outlier_detection_ejections_detected_consecutive_local_origin_failure",
        "Endpoints found to be outliers for so many failures of local origin in a row, ejected or not.",
        "cluster.{}.outlier_detection.ejections_detected_consecutive_local_origin_failure",
    );
    /// Ejected.
    ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_ENFORCED_CONSECUTIVE_LOCAL_ORIGIN_FAILURE = cluster_counter(
        "envoy_cluster_outlier_detection_ejections_enforced_consecutive_local_origin_failure",
        "Ejections of endpoints for so many failures of local origin in a row.",
        "cluster.{}.outlier_detection.ejections_enforced_consecutive_local_origin_failure",
    );
    /// Found, ejected or not.
    ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_DETECTED_SUCCESS_RATE = cluster_counter(
        "envoy_cluster_outlier_detection_ejections_detected_success_rate",
        "Endpoints found to be outliers for a success rate far below the mean, ejected or not.",
        "cluster.{}.outlier_detection.ejections_detected_success_rate",
    );
    /// Ejected.
    ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_ENFORCED_SUCCESS_RATE = cluster_counter(
        "envoy_cluster_outlier_detection_ejections_enforced_success_rate",
        "Ejections of endpoints for a success rate far below the mean.",
        "cluster.{}.outlier_detection.ejections_enforced_success_rate",
    );
    /// Found, ejected or not.
    ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_DETECTED_LOCAL_ORIGIN_SUCCESS_RATE = cluster_counter(
        "envoy_cluster_outlier_detection_ejections_detected_local_origin_success_rate",
        "Endpoints found to be outliers for a rate of reaching them far below the mean, ejected or not.",
        "cluster.{}.outlier_detection.ejections_detected_local_origin_success_rate",
    );
    /// Ejected.
    ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_ENFORCED_LOCAL_ORIGIN_SUCCESS_RATE = cluster_counter(
        "envoy_cluster_outlier_detection_ejections_enforced_local_origin_success_rate",
        "Ejections of endpoints for a rate of reaching them far below the mean.",
        "cluster.{}.outlier_detection.ejections_enforced_local_origin_success_rate",
    );
    /// Found, ejected or not.
    ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_DETECTED_FAILURE_PERCENTAGE = cluster_counter(
        "envoy_cluster_outlier_detection_ejections_detected_failure_percentage",
        "Endpoints found to be outliers for too large a share of failures, ejected or not.",
        "cluster.{}.outlier_detection.ejections_detected_failure_percentage",
    );
    /// Ejected.
    ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_ENFORCED_FAILURE_PERCENTAGE = cluster_counter(
        "envoy_cluster_outlier_detection_ejections_enforced_failure_percentage",
        "Ejections of endpoints for too large a share of failures.",
        "cluster.{}.outlier_detection.ejections_enforced_failure_percentage",
    );
    /// Found, ejected or not.
    ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_DETECTED_LOCAL_ORIGIN_FAILURE_PERCENTAGE = cluster_counter(
        "envoy_cluster_outlier_detection_ejections_detected_failure_percentage_local_origin",
        "Endpoints found to be outliers for too large a share of failures to reach them, ejected or not.",
        "cluster.{}.outlier_detection.ejections_detected_failure_percentage_local_origin",
    );
    /// Ejected.
    ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_ENFORCED_LOCAL_ORIGIN_FAILURE_PERCENTAGE = cluster_counter(
        "envoy_cluster_outlier_detection_ejections_enforced_failure_percentage_local_origin",
        "Ejections of endpoints for too large a share of failures to reach them.",
        "cluster.{}.outlier_detection.ejections_enforced_failure_percentage_local_origin",
    );
    /// Largest weight among the endpoints of a cluster.
    ENVOY_CLUSTER_MAX_HOST_WEIGHT = cluster_gauge(
        "envoy_cluster_max_host_weight",
        "Largest weight among the endpoints of a cluster.",
        "cluster.{}.max_host_weight",
    );
}
