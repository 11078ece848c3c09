//! Metrics that nobody else has: balancing, splits, configuration, and what the proxy says about itself.
//!
//! Every name here passes `promtool check metrics` without a warning.

use super::metrics;
use crate::Desc;

/// Which cluster: its name, and the service and subset it stands for (`subset` may be empty).
pub const CLUSTER_LABELS: &[&str] = &["cluster_name", "service", "service_namespace", "subset"];

/// Which endpoint: the cluster's labels, the pod's name (address and port where it is not known), its locality.
pub const ENDPOINT_LABELS: &[&str] =
    &["cluster_name", "service", "service_namespace", "subset", "endpoint", "locality"];

/// Which endpoint, and which of the reasons for which outlier detection ejects: seven, in Envoy's words.
pub const ENDPOINT_REASON_LABELS: &[&str] =
    &["cluster_name", "service", "service_namespace", "subset", "endpoint", "locality", "reason"];

/// Which backend of which rule, beside the cluster it is sent to.
pub const ROUTE_LABELS: &[&str] = &[
    "cluster_name",
    "service",
    "service_namespace",
    "subset",
    "route_kind",
    "route_namespace",
    "route_name",
    "rule",
    "backend",
];

/// Which circuit: the cluster's labels, `scope` is `cluster` or `endpoint`, `endpoint` is empty but for the latter.
pub const CIRCUIT_LABELS: &[&str] = &["cluster_name", "service", "service_namespace", "subset", "scope", "endpoint"];

/// A circuit and one of its states: `closed`, `open`, `half_open`, `forced_open`, `disabled`.
pub const CIRCUIT_STATE_LABELS: &[&str] =
    &["cluster_name", "service", "service_namespace", "subset", "scope", "endpoint", "state"];

/// Bounds for the time of protocol detection: most clients speak within a round trip, the limit is 3 s.
pub const DETECTION_BUCKETS: &[f64] = &[0.001, 0.01, 0.1, 1.0, 3.5, 10.0];

metrics! {
    OURS_METRICS;
    /// Beside `envoy_cluster_upstream_rq_total`, which counts each try: their ratio is what retries add.
    OUTRIGGER_CLUSTER_REQUESTS_TOTAL = Desc::counter(
        "outrigger_cluster_requests_total",
        "Requests sent on to a cluster, each counted once however often it was tried.",
    )
    .labels(CLUSTER_LABELS);
    /// Requests an endpoint was sent, retries included.
    OUTRIGGER_ENDPOINT_REQUESTS_TOTAL = Desc::counter(
        "outrigger_endpoint_requests_total",
        "Requests sent to an endpoint, each attempt counted.",
    )
    .labels(ENDPOINT_LABELS);
    /// Requests an endpoint works on now.
    OUTRIGGER_ENDPOINT_ACTIVE_REQUESTS = Desc::gauge(
        "outrigger_endpoint_active_requests",
        "Requests an endpoint is working on.",
    )
    .labels(ENDPOINT_LABELS);
    /// The weight in force, slow start included.
    OUTRIGGER_ENDPOINT_WEIGHT = Desc::gauge(
        "outrigger_endpoint_weight",
        "Weight of an endpoint within its cluster, slow start included.",
    )
    .labels(ENDPOINT_LABELS);
    /// 0 to 1; compare with the endpoint's share of `outrigger_endpoint_requests_total`.
    OUTRIGGER_ENDPOINT_EXPECTED_SHARE = Desc::gauge(
        "outrigger_endpoint_expected_share",
        "Share of the requests of its cluster that an endpoint should get, 0 to 1.",
    )
    .labels(ENDPOINT_LABELS);
    /// Of clusters with `outlierDetection`.
    OUTRIGGER_ENDPOINT_EJECTED = Desc::gauge(
        "outrigger_endpoint_ejected",
        "Whether outlier detection leaves an endpoint out now: 1 yes, 0 no.",
    )
    .labels(ENDPOINT_LABELS);
    /// How far an endpoint is from its ejection: only for runs that the cluster has a limit for.
    OUTRIGGER_ENDPOINT_CONSECUTIVE_FAILURES = Desc::gauge(
        "outrigger_endpoint_consecutive_failures",
        "Failures of an endpoint in a row, by the reason for which it would be ejected; compare with the outlierDetection \
         of its cluster.",
    )
    .labels(ENDPOINT_REASON_LABELS);
    /// `enforced` is `false` where the dice of `enforcing_*` kept the endpoint in.
    OUTRIGGER_ENDPOINT_EJECTIONS_TOTAL = Desc::counter(
        "outrigger_endpoint_ejections_total",
        "Times that an endpoint was to be ejected, by reason, and whether it was.",
    )
    .labels(&["cluster_name", "service", "service_namespace", "subset", "endpoint", "locality", "reason", "enforced"]);
    /// Grows while an endpoint is out.
    OUTRIGGER_ENDPOINT_EJECTED_SECONDS_TOTAL = Desc::counter(
        "outrigger_endpoint_ejected_seconds_total",
        "Time that an endpoint has been ejected by outlier detection.",
    )
    .labels(ENDPOINT_LABELS)
    .unit("seconds");
    /// 1 when shares are as expected, 1/n when one endpoint gets all.
    OUTRIGGER_LB_FAIRNESS_INDEX = Desc::gauge(
        "outrigger_lb_fairness_index",
        "Jain's index of served share over expected share of the endpoints in the last minute: 1 is perfect.",
    )
    .labels(CLUSTER_LABELS);
    /// Requests a rule sent to a backend.
    OUTRIGGER_ROUTE_REQUESTS_TOTAL = Desc::counter(
        "outrigger_route_requests_total",
        "Requests that a rule sent to a backend; compare its share with outrigger_route_weight.",
    )
    .labels(ROUTE_LABELS);
    /// The configured weight beside it.
    OUTRIGGER_ROUTE_WEIGHT = Desc::gauge(
        "outrigger_route_weight",
        "Configured weight of a backend of a rule.",
    )
    .labels(ROUTE_LABELS);
    /// 1 for the state it is in, 0 for the others.
    OUTRIGGER_CIRCUIT_STATE = Desc::gauge(
        "outrigger_circuit_state",
        "State of a circuit: 1 for the one it is in, 0 for the others.",
    )
    .labels(CIRCUIT_STATE_LABELS);
    /// `reason` is `error_rate`, `consecutive`, `slow`, `sleep_window` (open long enough for a probe), `probe_ok`,
    /// `probe_failed`, or `manual`: by a policy or an operator.
    OUTRIGGER_CIRCUIT_TRANSITIONS_TOTAL = Desc::counter(
        "outrigger_circuit_transitions_total",
        "Changes of a circuit's state, by reason.",
    )
    .labels(&[
        "cluster_name",
        "service",
        "service_namespace",
        "subset",
        "scope",
        "endpoint",
        "from",
        "to",
        "reason",
    ]);
    /// The share of time in a state is its rate.
    OUTRIGGER_CIRCUIT_TIME_IN_STATE_SECONDS_TOTAL = Desc::counter(
        "outrigger_circuit_time_in_state_seconds_total",
        "Time that a circuit was in a state; the rate is the share of time.",
    )
    .labels(CIRCUIT_STATE_LABELS)
    .unit("seconds");
    /// Unix time.
    OUTRIGGER_CIRCUIT_STATE_SINCE_TIMESTAMP_SECONDS = Desc::gauge(
        "outrigger_circuit_state_since_timestamp_seconds",
        "When a circuit came into the state it is in, as Unix time.",
    )
    .labels(CIRCUIT_LABELS)
    .unit("seconds");
    /// `outcome` is `success`, `failure`, `timeout`, `short_circuited` (it was open), `rejected` (a limit on calls or
    /// connections), or `ignored` (nobody knows, or the caller's mistake).
    OUTRIGGER_CIRCUIT_CALLS_TOTAL = Desc::counter(
        "outrigger_circuit_calls_total",
        "Calls that asked a circuit, by what became of them.",
    )
    .labels(&["cluster_name", "service", "service_namespace", "subset", "scope", "endpoint", "outcome"]);
    /// 0 to 1.
    OUTRIGGER_CIRCUIT_ERROR_RATIO = Desc::gauge(
        "outrigger_circuit_error_ratio",
        "Share of failures in the window that a circuit judges by, 0 to 1.",
    )
    .labels(CIRCUIT_LABELS);
    /// Compare with `outrigger_circuit_request_volume_threshold`.
    OUTRIGGER_CIRCUIT_ROLLING_REQUESTS = Desc::gauge(
        "outrigger_circuit_rolling_requests",
        "Calls in the window that a circuit judges by.",
    )
    .labels(CIRCUIT_LABELS);
    /// Absent where no share opens it.
    OUTRIGGER_CIRCUIT_ERROR_THRESHOLD_RATIO = Desc::gauge(
        "outrigger_circuit_error_threshold_ratio",
        "Share of failures at which a circuit opens, 0 to 1.",
    )
    .labels(CIRCUIT_LABELS);
    /// Absent where no share opens it.
    OUTRIGGER_CIRCUIT_REQUEST_VOLUME_THRESHOLD = Desc::gauge(
        "outrigger_circuit_request_volume_threshold",
        "Calls in the window without which no share of failures opens a circuit.",
    )
    .labels(CIRCUIT_LABELS);
    /// Linkerd's penalty grows from here.
    OUTRIGGER_CIRCUIT_SLEEP_WINDOW_SECONDS = Desc::gauge(
        "outrigger_circuit_sleep_window_seconds",
        "How long a circuit is open before it lets a call through that decides.",
    )
    .labels(CIRCUIT_LABELS)
    .unit("seconds");
    /// `result`: `answered`, else why not: `limit`, `no_cluster`, `no_endpoint`, `connect`, `slow`, `cut`, `timeout`,
    /// `broken`, `stopped`.
    OUTRIGGER_MIRRORED_REQUESTS_TOTAL = Desc::counter(
        "outrigger_mirrored_requests_total",
        "Copies of requests for a mirror, by what became of them.",
    )
    .labels(&["cluster_name", "service", "service_namespace", "subset", "result"]);
    /// Requests that came in for a container of the pod; `response_code` is 0 where no answer began.
    OUTRIGGER_CONTAINER_REQUESTS_TOTAL = Desc::counter(
        "outrigger_container_requests_total",
        "Requests that came in for a port of a container of the pod, by status.",
    )
    .labels(&["container", "port", "response_code"]);
    /// `version` is `1.2` or `1.3`.
    OUTRIGGER_TLS_HANDSHAKES_TOTAL = Desc::counter(
        "outrigger_tls_handshakes_total",
        "TLS handshakes with clients that were completed, by listener and version.",
    )
    .labels(&["listener", "version"]);
    /// `reason` is one of a fixed set: `timeout`, `client_gone`, `plaintext`, `hello`, `server_name`, `settings`,
    /// `incompatible`, `protocol`, `certificate_missing`, `certificate_refused`, `client_alert`, `broken`, `other`.
    OUTRIGGER_TLS_HANDSHAKE_FAILURES_TOTAL = Desc::counter(
        "outrigger_tls_handshake_failures_total",
        "Connections of clients that ended before their TLS handshake was complete, by listener and reason.",
    )
    .labels(&["listener", "reason"])
    .keep();
    /// `result` is one of a fixed set: `http1`, `http2`, `tls`, `opaque`, `timeout`, `closed`.
    OUTRIGGER_DETECTION_TOTAL = Desc::counter(
        "outrigger_detection_total",
        "Connections whose protocol had to be found out from their first bytes, by listener and what they carry; each \
         timeout is a client that waited for the whole limit: state the port's protocol, by appProtocol or its name.",
    )
    .labels(&["listener", "result"])
    .keep();
    /// From accept, or from the end of the TLS handshake, to the decision.
    OUTRIGGER_DETECTION_DURATION_SECONDS = Desc::histogram(
        "outrigger_detection_duration_seconds",
        "How long connections waited until it was clear what they carry, by listener.",
        DETECTION_BUCKETS,
    )
    .labels(&["listener"])
    .unit("seconds");
    /// `result` is `proxied`, `local` (the sender speaks for itself), or why the connection was reset: `untrusted`,
    /// `malformed`, `large`, `timeout`, `client_gone`.
    OUTRIGGER_PROXY_PROTOCOL_CONNECTIONS_TOTAL = Desc::counter(
        "outrigger_proxy_protocol_connections_total",
        "Connections to listeners that take PROXY protocol headers, by listener and what the header came to.",
    )
    .labels(&["listener", "result"])
    .keep();
    /// `response_flags` as in access logs, `response_code` as sent, `details` a fixed set of causes.
    OUTRIGGER_PROXY_REPLIES_TOTAL = Desc::counter(
        "outrigger_proxy_replies_total",
        "Answers made by the proxy itself rather than by an upstream, by response flag, status and cause.",
    )
    .labels(&["response_flags", "response_code", "details"]);
    /// `host` is a name of the configuration; `result` is `success`, else why there is no address: `no_name` (NXDOMAIN),
    /// `no_address`, `unusable`, `timeout`, `refused`, `broken`. Lookups serve all proxies of a process, and each tells those
    /// of the names it has.
    OUTRIGGER_DNS_LOOKUPS_TOTAL = Desc::counter(
        "outrigger_dns_lookups_total",
        "Lookups of a name whose addresses are endpoints, by result.",
    )
    .labels(&["host", "result"]);
    /// Of all names of the process together.
    OUTRIGGER_DNS_LOOKUP_DURATION_SECONDS = Desc::histogram(
        "outrigger_dns_lookup_duration_seconds",
        "Time that lookups of names took, tries that failed included.",
        &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0],
    )
    .unit("seconds");
    /// What endpoints are made of.
    OUTRIGGER_DNS_ADDRESSES = Desc::gauge(
        "outrigger_dns_addresses",
        "Addresses of a name in use.",
    )
    .labels(&["host"]);
    /// Grows to about the time to live of the answers, and beyond it where lookups fail.
    OUTRIGGER_DNS_ANSWER_AGE_SECONDS = Desc::gauge(
        "outrigger_dns_answer_age_seconds",
        "Time since a name was last looked up with success.",
    )
    .labels(&["host"])
    .unit("seconds");
    /// After five minutes of it the addresses are given up.
    OUTRIGGER_DNS_STALE = Desc::gauge(
        "outrigger_dns_stale",
        "Whether the last good answer for a name has expired and lookups fail: 1 yes, 0 no.",
    )
    .labels(&["host"]);
    /// `name` is the `RateLimit`, `namespace/name`; `result` is `allowed` or `limited`. A request that one of several limits
    /// refuses counts with that one alone.
    OUTRIGGER_RATELIMIT_REQUESTS_TOTAL = Desc::counter(
        "outrigger_ratelimit_requests_total",
        "Requests that a RateLimit let through or refused.",
    )
    .labels(&["name", "result"]);
    /// 0: nothing; 1: idle connections are closed and none is kept alive; 2: new requests get 503; 3: new connections are
    /// closed at once.
    OUTRIGGER_OVERLOAD_LEVEL = Desc::gauge(
        "outrigger_overload_level",
        "What is shed because the memory of the cgroup is nearly used up: 0 nothing, 1 idle connections, 2 requests, 3 \
         connections.",
    );
    /// Without files that nobody used lately from near the first level on; no series without a limit.
    OUTRIGGER_OVERLOAD_MEMORY_RATIO = Desc::gauge(
        "outrigger_overload_memory_ratio",
        "Memory of the cgroup in use as a share of its limit, where it has one: 0 to 1.",
    );
    /// One value a bound; every bound of the proxy has one.
    OUTRIGGER_LIMIT_HITS_TOTAL = Desc::counter(
        "outrigger_limit_hits_total",
        "Times that a bound of the proxy was reached, by the name of the bound.",
    )
    .labels(&["limit"])
    .keep();
    /// Always 1; a new version or hash is a new series.
    OUTRIGGER_CONFIG_INFO = Desc::gauge(
        "outrigger_config_info",
        "Configuration in force, always 1.",
    )
    .labels(&["version", "hash", "source"]);
    /// 1 or 0.
    OUTRIGGER_CONFIG_LAST_RELOAD_SUCCESSFUL = Desc::gauge(
        "outrigger_config_last_reload_successful",
        "Whether the last configuration was accepted: 1 yes, 0 no.",
    );
    /// Unix time.
    OUTRIGGER_CONFIG_LAST_RELOAD_SUCCESS_TIMESTAMP_SECONDS = Desc::gauge(
        "outrigger_config_last_reload_success_timestamp_seconds",
        "When a configuration was last accepted, as Unix time.",
    )
    .unit("seconds");
    /// `result` is `success` or `failure`.
    OUTRIGGER_CONFIG_RELOADS_TOTAL = Desc::counter(
        "outrigger_config_reloads_total",
        "Configurations that were read, by result.",
    )
    .labels(&["result"])
    .keep();
    /// `type` is the kind of object, e.g. `VirtualService`.
    OUTRIGGER_CONFIG_REJECTED_TOTAL = Desc::counter(
        "outrigger_config_rejected_total",
        "Objects kept out of the configuration because of an error, by kind.",
    )
    .labels(&["type"])
    .keep();
    /// All series of this exposition.
    OUTRIGGER_METRICS_SERIES = Desc::gauge(
        "outrigger_metrics_series",
        "Series in this exposition; a histogram counts as one.",
    );
    /// Idle series that left.
    OUTRIGGER_METRICS_EXPIRED_TOTAL = Desc::counter(
        "outrigger_metrics_expired_total",
        "Series that left the exposition because they were idle.",
    );
    /// What a full family did not count: increments of counters, observations of histograms, gauges refused.
    OUTRIGGER_METRICS_DROPPED_TOTAL = Desc::counter(
        "outrigger_metrics_dropped_total",
        "Recordings lost because a metric had reached its limit of series.",
    )
    .labels(&["metric"]);
    /// Always 1.
    OUTRIGGER_BUILD_INFO = Desc::gauge(
        "outrigger_build_info",
        "Version, revision and compiler of this build, always 1.",
    )
    .labels(&["version", "revision", "rustc"]);
}
