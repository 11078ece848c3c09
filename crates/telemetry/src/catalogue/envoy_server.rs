//! Envoy's statistics of listeners, of the HTTP side of clients, and of the process; the rules of
//! [`super::envoy_cluster`] hold.

use super::{BUCKETS_STANDARD, metrics};
use crate::Desc;

/// The HTTP side of a listener, e.g. `outbound`.
pub const HTTP: &[&str] = &["envoy_http_conn_manager_prefix"];
/// The HTTP side of a listener and the class of the answer.
pub const HTTP_CLASS: &[&str] = &["envoy_http_conn_manager_prefix", "envoy_response_code_class"];
/// The address of a listener, e.g. `127.0.0.1_15001`.
pub const LISTENER: &[&str] = &["envoy_listener_address"];

const fn http_counter(name: &'static str, help: &'static str, envoy: &'static str) -> Desc {
    Desc::counter(name, help).labels(HTTP).envoy(envoy)
}

const fn http_gauge(name: &'static str, help: &'static str, envoy: &'static str) -> Desc {
    Desc::gauge(name, help).labels(HTTP).envoy(envoy)
}

metrics! {
    SERVER_METRICS;
    // Requests and connections of clients.
    /// Requests of clients.
    ENVOY_HTTP_DOWNSTREAM_RQ_TOTAL = http_counter(
        "envoy_http_downstream_rq_total",
        "Requests of clients.",
        "http.{}.downstream_rq_total",
    );
    /// Requests of clients being worked on.
    ENVOY_HTTP_DOWNSTREAM_RQ_ACTIVE = http_gauge(
        "envoy_http_downstream_rq_active",
        "Requests of clients being worked on.",
        "http.{}.downstream_rq_active",
    );
    /// Requests of clients that were answered.
    ENVOY_HTTP_DOWNSTREAM_RQ_COMPLETED = http_counter(
        "envoy_http_downstream_rq_completed",
        "Requests of clients that were answered.",
        "http.{}.downstream_rq_completed",
    );
    /// Answers to clients by class of the status.
    ENVOY_HTTP_DOWNSTREAM_RQ_XX = Desc::counter(
        "envoy_http_downstream_rq_xx",
        "Answers to clients by class of the status.",
    )
    .labels(HTTP_CLASS)
    .envoy("http.{}.downstream_rq_{}xx");
    /// Requests held back by a `fault.delay`.
    ENVOY_HTTP_FAULT_DELAYS_INJECTED = http_counter(
        "envoy_http_fault_delays_injected",
        "Requests held back by an injected delay.",
        "http.{}.fault.delays_injected",
    );
    /// Requests answered by a `fault.abort`.
    ENVOY_HTTP_FAULT_ABORTS_INJECTED = http_counter(
        "envoy_http_fault_aborts_injected",
        "Requests answered by an injected abort.",
        "http.{}.fault.aborts_injected",
    );
    /// Requests held back now.
    ENVOY_HTTP_FAULT_ACTIVE_FAULTS = http_gauge(
        "envoy_http_fault_active_faults",
        "Requests held back by an injected delay now.",
        "http.{}.fault.active_faults",
    );
    /// Delays left out because as many requests as allowed are held back.
    ENVOY_HTTP_FAULT_FAULTS_OVERFLOW = http_counter(
        "envoy_http_fault_faults_overflow",
        "Injected delays left out because as many requests as allowed were held back already.",
        "http.{}.fault.faults_overflow",
    );
    /// HTTP/1 requests of clients.
    ENVOY_HTTP_DOWNSTREAM_RQ_HTTP1_TOTAL = http_counter(
        "envoy_http_downstream_rq_http1_total",
        "HTTP/1 requests of clients.",
        "http.{}.downstream_rq_http1_total",
    );
    /// HTTP/2 requests of clients.
    ENVOY_HTTP_DOWNSTREAM_RQ_HTTP2_TOTAL = http_counter(
        "envoy_http_downstream_rq_http2_total",
        "HTTP/2 requests of clients.",
        "http.{}.downstream_rq_http2_total",
    );
    /// Requests of clients given up because a timeout passed.
    ENVOY_HTTP_DOWNSTREAM_RQ_TIMEOUT = http_counter(
        "envoy_http_downstream_rq_timeout",
        "Requests of clients given up because a timeout passed.",
        "http.{}.downstream_rq_timeout",
    );
    /// Requests whose head took too long to arrive.
    ENVOY_HTTP_DOWNSTREAM_RQ_HEADER_TIMEOUT = http_counter(
        "envoy_http_downstream_rq_header_timeout",
        "Requests whose head took too long to arrive.",
        "http.{}.downstream_rq_header_timeout",
    );
    /// Requests given up because nothing moved.
    ENVOY_HTTP_DOWNSTREAM_RQ_IDLE_TIMEOUT = http_counter(
        "envoy_http_downstream_rq_idle_timeout",
        "Requests given up because nothing moved.",
        "http.{}.downstream_rq_idle_timeout",
    );
    /// Requests that the client broke off.
    ENVOY_HTTP_DOWNSTREAM_RQ_RX_RESET = http_counter(
        "envoy_http_downstream_rq_rx_reset",
        "Requests that the client broke off.",
        "http.{}.downstream_rq_rx_reset",
    );
    /// Requests that the proxy broke off towards the client.
    ENVOY_HTTP_DOWNSTREAM_RQ_TX_RESET = http_counter(
        "envoy_http_downstream_rq_tx_reset",
        "Requests that the proxy broke off towards the client.",
        "http.{}.downstream_rq_tx_reset",
    );
    /// Requests refused because of their size.
    ENVOY_HTTP_DOWNSTREAM_RQ_TOO_LARGE = http_counter(
        "envoy_http_downstream_rq_too_large",
        "Requests refused because of their size.",
        "http.{}.downstream_rq_too_large",
    );
    /// Time from the start of a request to the end of its answer, in milliseconds.
    ENVOY_HTTP_DOWNSTREAM_RQ_TIME = Desc::histogram(
        "envoy_http_downstream_rq_time",
        "Time from the start of a request to the end of its answer, in milliseconds.",
        BUCKETS_STANDARD,
    )
    .labels(HTTP)
    .envoy("http.{}.downstream_rq_time");
    /// Connections of clients.
    ENVOY_HTTP_DOWNSTREAM_CX_TOTAL = http_counter(
        "envoy_http_downstream_cx_total",
        "Connections of clients.",
        "http.{}.downstream_cx_total",
    );
    /// Connections of clients that are open.
    ENVOY_HTTP_DOWNSTREAM_CX_ACTIVE = http_gauge(
        "envoy_http_downstream_cx_active",
        "Connections of clients that are open.",
        "http.{}.downstream_cx_active",
    );
    /// HTTP/1 connections of clients.
    ENVOY_HTTP_DOWNSTREAM_CX_HTTP1_TOTAL = http_counter(
        "envoy_http_downstream_cx_http1_total",
        "HTTP/1 connections of clients.",
        "http.{}.downstream_cx_http1_total",
    );
    /// HTTP/2 connections of clients.
    ENVOY_HTTP_DOWNSTREAM_CX_HTTP2_TOTAL = http_counter(
        "envoy_http_downstream_cx_http2_total",
        "HTTP/2 connections of clients.",
        "http.{}.downstream_cx_http2_total",
    );
    /// Connections of clients that were closed.
    ENVOY_HTTP_DOWNSTREAM_CX_DESTROY = http_counter(
        "envoy_http_downstream_cx_destroy",
        "Connections of clients that were closed.",
        "http.{}.downstream_cx_destroy",
    );
    /// Connections of clients closed in the middle of a request.
    ENVOY_HTTP_DOWNSTREAM_CX_DESTROY_WITH_ACTIVE_RQ = http_counter(
        "envoy_http_downstream_cx_destroy_with_active_rq",
        "Connections of clients closed in the middle of a request.",
        "http.{}.downstream_cx_destroy_with_active_rq",
    );
    /// Connections of clients closed by the proxy in the middle of a request.
    ENVOY_HTTP_DOWNSTREAM_CX_DESTROY_LOCAL_WITH_ACTIVE_RQ = http_counter(
        "envoy_http_downstream_cx_destroy_local_with_active_rq",
        "Connections of clients closed by the proxy in the middle of a request.",
        "http.{}.downstream_cx_destroy_local_with_active_rq",
    );
    /// Connections of clients closed by the client in the middle of a request.
    ENVOY_HTTP_DOWNSTREAM_CX_DESTROY_REMOTE_WITH_ACTIVE_RQ = http_counter(
        "envoy_http_downstream_cx_destroy_remote_with_active_rq",
        "Connections of clients closed by the client in the middle of a request.",
        "http.{}.downstream_cx_destroy_remote_with_active_rq",
    );
    /// Connections of clients closed because nobody used them.
    ENVOY_HTTP_DOWNSTREAM_CX_IDLE_TIMEOUT = http_counter(
        "envoy_http_downstream_cx_idle_timeout",
        "Connections of clients closed because nobody used them.",
        "http.{}.downstream_cx_idle_timeout",
    );
    /// Connections of clients closed because of a bad request.
    ENVOY_HTTP_DOWNSTREAM_CX_PROTOCOL_ERROR = http_counter(
        "envoy_http_downstream_cx_protocol_error",
        "Connections of clients closed because of a bad request.",
        "http.{}.downstream_cx_protocol_error",
    );
    /// Connections of clients closed because the proxy is draining.
    ENVOY_HTTP_DOWNSTREAM_CX_DRAIN_CLOSE = http_counter(
        "envoy_http_downstream_cx_drain_close",
        "Connections of clients closed because the proxy is draining.",
        "http.{}.downstream_cx_drain_close",
    );
    /// Bytes received from clients.
    ENVOY_HTTP_DOWNSTREAM_CX_RX_BYTES_TOTAL = http_counter(
        "envoy_http_downstream_cx_rx_bytes_total",
        "Bytes received from clients.",
        "http.{}.downstream_cx_rx_bytes_total",
    );
    /// Bytes sent to clients.
    ENVOY_HTTP_DOWNSTREAM_CX_TX_BYTES_TOTAL = http_counter(
        "envoy_http_downstream_cx_tx_bytes_total",
        "Bytes sent to clients.",
        "http.{}.downstream_cx_tx_bytes_total",
    );
    // Listeners.
    /// Connections a listener accepted.
    ENVOY_LISTENER_DOWNSTREAM_CX_TOTAL = Desc::counter(
        "envoy_listener_downstream_cx_total",
        "Connections a listener accepted.",
    )
    .labels(LISTENER)
    .envoy("listener.{}.downstream_cx_total");
    /// Connections of a listener that are open.
    ENVOY_LISTENER_DOWNSTREAM_CX_ACTIVE = Desc::gauge(
        "envoy_listener_downstream_cx_active",
        "Connections of a listener that are open.",
    )
    .labels(LISTENER)
    .envoy("listener.{}.downstream_cx_active");
    /// Connections of a listener that were closed.
    ENVOY_LISTENER_DOWNSTREAM_CX_DESTROY = Desc::counter(
        "envoy_listener_downstream_cx_destroy",
        "Connections of a listener that were closed.",
    )
    .labels(LISTENER)
    .envoy("listener.{}.downstream_cx_destroy");
    /// Connections a listener refused because its limit was reached.
    ENVOY_LISTENER_DOWNSTREAM_CX_OVERFLOW = Desc::counter(
        "envoy_listener_downstream_cx_overflow",
        "Connections a listener refused because its limit was reached.",
    )
    .labels(LISTENER)
    .envoy("listener.{}.downstream_cx_overflow");
    /// Connections a listener refused because the limit of the process was reached.
    ENVOY_LISTENER_DOWNSTREAM_GLOBAL_CX_OVERFLOW = Desc::counter(
        "envoy_listener_downstream_global_cx_overflow",
        "Connections a listener refused because the limit of the process was reached.",
    )
    .labels(LISTENER)
    .envoy("listener.{}.downstream_global_cx_overflow");
    // The process and its configuration.
    /// Whether the process serves: 1 yes, 0 starting or draining.
    ENVOY_SERVER_LIVE = Desc::gauge(
        "envoy_server_live",
        "Whether the process serves: 1 yes, 0 starting or draining.",
    )
    .envoy("server.live");
    /// State of the process: 0 live, 1 draining, 2 before initialising, 3 initialising.
    ENVOY_SERVER_STATE = Desc::gauge(
        "envoy_server_state",
        "State of the process: 0 live, 1 draining, 2 before initialising, 3 initialising.",
    )
    .envoy("server.state");
    /// Time since the start of the process in seconds.
    ENVOY_SERVER_UPTIME = Desc::gauge(
        "envoy_server_uptime",
        "Time since the start of the process in seconds.",
    )
    .envoy("server.uptime");
    /// Worker threads.
    ENVOY_SERVER_CONCURRENCY = Desc::gauge(
        "envoy_server_concurrency",
        "Worker threads.",
    )
    .envoy("server.concurrency");
    /// Connections of clients that are open.
    ENVOY_SERVER_TOTAL_CONNECTIONS = Desc::gauge(
        "envoy_server_total_connections",
        "Connections of clients that are open.",
    )
    .envoy("server.total_connections");
    /// Resident memory of the program's own data in bytes.
    ENVOY_SERVER_MEMORY_ALLOCATED = Desc::gauge(
        "envoy_server_memory_allocated",
        "Resident memory of the program's own data in bytes.",
    )
    .envoy("server.memory_allocated");
    /// Memory set aside for the program's own data in bytes.
    ENVOY_SERVER_MEMORY_HEAP_SIZE = Desc::gauge(
        "envoy_server_memory_heap_size",
        "Memory set aside for the program's own data in bytes.",
    )
    .envoy("server.memory_heap_size");
    /// Resident memory in bytes.
    ENVOY_SERVER_MEMORY_PHYSICAL_SIZE = Desc::gauge(
        "envoy_server_memory_physical_size",
        "Resident memory in bytes.",
    )
    .envoy("server.memory_physical_size");
    /// Clusters in force.
    ENVOY_CLUSTER_MANAGER_ACTIVE_CLUSTERS = Desc::gauge(
        "envoy_cluster_manager_active_clusters",
        "Clusters in force.",
    )
    .envoy("cluster_manager.active_clusters");
    /// Listeners in force.
    ENVOY_LISTENER_MANAGER_TOTAL_LISTENERS_ACTIVE = Desc::gauge(
        "envoy_listener_manager_total_listeners_active",
        "Listeners in force.",
    )
    .envoy("listener_manager.total_listeners_active");
}
