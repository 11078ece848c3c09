//! What others ask of Istio's metrics: the queries of its stock Mesh and Service dashboards, of Kiali, Flagger, Argo
//! Rollouts and istioctl, as far as they are about HTTP.
//!
//! `$__rate_interval` is short here, since the traffic is young. `$service`, `$namespace` and `$workload` are filled in for
//! each destination. Panels come as alternatives where a dashboard draws mutual TLS and plain text as twins, of which one
//! is silent.

/// Who asks, and what; one of the alternatives must have data.
pub(super) struct Query {
    /// For messages.
    pub(super) name: &'static str,
    /// The query, and its twins.
    pub(super) alternatives: &'static [&'static str],
    /// Labels that every sample must have.
    pub(super) labels: &'static [&'static str],
}

const fn query(name: &'static str, alternatives: &'static [&'static str]) -> Query {
    Query { name, alternatives, labels: &[] }
}

/// About the whole mesh.
pub(super) const MESH: &[Query] = &[
    query(
        "Mesh: global request volume",
        &[r#"round(sum(rate(istio_requests_total{reporter=~"source|waypoint"}[$r])), 0.01)"#],
    ),
    query(
        "Mesh: global success rate",
        &[
            r#"sum(rate(istio_requests_total{reporter=~"source|waypoint",response_code!~"5.*"}[$r])) / sum(rate(istio_requests_total{reporter=~"source|waypoint"}[$r]))"#,
        ],
    ),
    query(
        "Mesh: 4xxs",
        &[
            r#"round(sum(rate(istio_requests_total{reporter=~"source|waypoint",response_code=~"4.*"}[$r])), 0.01) or vector(0)"#,
        ],
    ),
    query(
        "Mesh: 5xxs",
        &[
            r#"round(sum(rate(istio_requests_total{reporter=~"source|waypoint",response_code=~"5.*"}[$r])), 0.01) or vector(0)"#,
        ],
    ),
    Query {
        name: "Mesh: requests",
        alternatives: &[
            r#"label_join(sum by (destination_workload,destination_workload_namespace,destination_service) (rate(istio_requests_total{reporter=~"source|waypoint"}[$r])), "destination_workload_var",".","destination_workload","destination_workload_namespace")"#,
        ],
        labels: &[
            "destination_workload",
            "destination_workload_namespace",
            "destination_service",
            "destination_workload_var",
        ],
    },
    query(
        "Mesh: P50 latency",
        &[
            r#"label_join((histogram_quantile(0.50, sum by (le,destination_workload,destination_workload_namespace,destination_service) (rate(istio_request_duration_milliseconds_bucket{reporter=~"source|waypoint"}[$r]))) / 1000), "destination_workload_var",".","destination_workload","destination_workload_namespace")"#,
        ],
    ),
    query(
        "Mesh: P90 latency",
        &[
            r#"label_join((histogram_quantile(0.90, sum by (le,destination_workload,destination_workload_namespace,destination_service) (rate(istio_request_duration_milliseconds_bucket{reporter=~"source|waypoint"}[$r]))) / 1000), "destination_workload_var",".","destination_workload","destination_workload_namespace")"#,
        ],
    ),
    query(
        "Mesh: P99 latency",
        &[
            r#"label_join((histogram_quantile(0.99, sum by (le,destination_workload,destination_workload_namespace,destination_service) (rate(istio_request_duration_milliseconds_bucket{reporter=~"source|waypoint"}[$r]))) / 1000), "destination_workload_var",".","destination_workload","destination_workload_namespace")"#,
        ],
    ),
    query(
        "Mesh: success rate",
        &[
            r#"label_join((sum by (destination_workload,destination_workload_namespace,destination_service) (rate(istio_requests_total{reporter=~"source|waypoint",response_code!~"5.*"}[$r])) / sum by (destination_workload,destination_workload_namespace,destination_service) (rate(istio_requests_total{reporter=~"source|waypoint"}[$r]))), "destination_workload_var",".","destination_workload","destination_workload_namespace")"#,
        ],
    ),
    Query {
        name: "Mesh: components",
        alternatives: &["sum by (component,tag) (istio_build)"],
        labels: &["component", "tag"],
    },
    Query {
        name: "dashboards: variable $service",
        alternatives: &[
            "sum(istio_requests_total{}) by (destination_service) or sum(istio_tcp_sent_bytes_total{}) by (destination_service)",
        ],
        labels: &["destination_service"],
    },
];

/// About each destination.
pub(super) const SERVICE: &[Query] = &[
    query(
        "Service: client request volume",
        &[
            r#"round(sum(irate(istio_requests_total{reporter=~"source|waypoint",destination_service=~"$service"}[$r])), 0.001)"#,
        ],
    ),
    query(
        "Service: client success rate",
        &[
            r#"sum(irate(istio_requests_total{reporter=~"source|waypoint",destination_service=~"$service",response_code!~"5.*"}[$r])) / sum(irate(istio_requests_total{reporter=~"source|waypoint",destination_service=~"$service"}[$r]))"#,
        ],
    ),
    query(
        "Service: client request duration",
        &[
            r#"(histogram_quantile(0.50, sum(irate(istio_request_duration_milliseconds_bucket{reporter=~"source|waypoint",destination_service=~"$service"}[$r])) by (le)) / 1000) or histogram_quantile(0.50, sum(irate(istio_request_duration_seconds_bucket{reporter=~"source|waypoint",destination_service=~"$service"}[$r])) by (le))"#,
        ],
    ),
    query(
        "Service: server request volume",
        &[
            r#"round(sum(irate(istio_requests_total{reporter="destination",destination_service=~"$service"}[$r])), 0.001)"#,
        ],
    ),
    query(
        "Service: server success rate",
        &[
            r#"sum(irate(istio_requests_total{reporter="destination",destination_service=~"$service",response_code!~"5.*"}[$r])) / sum(irate(istio_requests_total{reporter="destination",destination_service=~"$service"}[$r]))"#,
        ],
    ),
    query(
        "Service: server request duration",
        &[
            r#"(histogram_quantile(0.99, sum(irate(istio_request_duration_milliseconds_bucket{reporter="destination",destination_service="$service"}[$r])) by (le)) / 1000) or histogram_quantile(0.99, sum(irate(istio_request_duration_seconds_bucket{reporter="destination",destination_service="$service"}[$r])) by (le))"#,
        ],
    ),
    Query {
        name: "Service: incoming requests by source and response code",
        alternatives: &[
            r#"round(sum(irate(istio_requests_total{connection_security_policy="mutual_tls",destination_service="$service",reporter=~"$qrep",source_workload=~".*",source_workload_namespace=~".*"}[$r])) by (source_workload, source_workload_namespace, response_code), 0.001)"#,
            r#"round(sum(irate(istio_requests_total{connection_security_policy!="mutual_tls",destination_service="$service",reporter=~"$qrep",source_workload=~".*",source_workload_namespace=~".*"}[$r])) by (source_workload, source_workload_namespace, response_code), 0.001)"#,
        ],
        labels: &["source_workload", "source_workload_namespace", "response_code"],
    },
    query(
        "Service: incoming success rate by source",
        &[
            r#"sum(irate(istio_requests_total{reporter=~"$qrep",connection_security_policy="mutual_tls",destination_service=~"$service",response_code!~"5.*"}[$r])) by (source_workload, source_workload_namespace) / sum(irate(istio_requests_total{reporter=~"$qrep",connection_security_policy="mutual_tls",destination_service=~"$service"}[$r])) by (source_workload, source_workload_namespace)"#,
            r#"sum(irate(istio_requests_total{reporter=~"$qrep",connection_security_policy!="mutual_tls",destination_service=~"$service",response_code!~"5.*"}[$r])) by (source_workload, source_workload_namespace) / sum(irate(istio_requests_total{reporter=~"$qrep",connection_security_policy!="mutual_tls",destination_service=~"$service"}[$r])) by (source_workload, source_workload_namespace)"#,
        ],
    ),
    query(
        "Service: incoming request duration by source",
        &[
            r#"histogram_quantile(0.95, sum(irate(istio_request_duration_milliseconds_bucket{reporter=~"$qrep",connection_security_policy="mutual_tls",destination_service=~"$service"}[$r])) by (source_workload, source_workload_namespace, le)) / 1000"#,
            r#"histogram_quantile(0.95, sum(irate(istio_request_duration_milliseconds_bucket{reporter=~"$qrep",connection_security_policy!="mutual_tls",destination_service=~"$service"}[$r])) by (source_workload, source_workload_namespace, le)) / 1000"#,
        ],
    ),
    query(
        "Service: incoming request size by source",
        &[
            r#"histogram_quantile(0.50, sum(irate(istio_request_bytes_bucket{reporter=~"$qrep",connection_security_policy="mutual_tls",destination_service=~"$service"}[$r])) by (source_workload, source_workload_namespace, le))"#,
            r#"histogram_quantile(0.50, sum(irate(istio_request_bytes_bucket{reporter=~"$qrep",connection_security_policy!="mutual_tls",destination_service=~"$service"}[$r])) by (source_workload, source_workload_namespace, le))"#,
        ],
    ),
    query(
        "Service: response size by source",
        &[
            r#"histogram_quantile(0.50, sum(irate(istio_response_bytes_bucket{reporter=~"$qrep",connection_security_policy="mutual_tls",destination_service=~"$service"}[$r])) by (source_workload, source_workload_namespace, le))"#,
            r#"histogram_quantile(0.50, sum(irate(istio_response_bytes_bucket{reporter=~"$qrep",connection_security_policy!="mutual_tls",destination_service=~"$service"}[$r])) by (source_workload, source_workload_namespace, le))"#,
        ],
    ),
    Query {
        name: "Service: incoming requests by destination workload and response code",
        alternatives: &[
            r#"round(sum(irate(istio_requests_total{connection_security_policy="mutual_tls",destination_service=~"$service",reporter=~"$qrep",destination_workload=~".*",destination_workload_namespace=~".*"}[$r])) by (destination_workload, destination_workload_namespace, response_code), 0.001)"#,
            r#"round(sum(irate(istio_requests_total{connection_security_policy!="mutual_tls",destination_service=~"$service",reporter=~"$qrep",destination_workload=~".*",destination_workload_namespace=~".*"}[$r])) by (destination_workload, destination_workload_namespace, response_code), 0.001)"#,
        ],
        labels: &["destination_workload", "destination_workload_namespace", "response_code"],
    },
    query(
        "Argo Rollouts: success rate",
        &[
            r#"sum(irate(istio_requests_total{reporter="source",destination_service=~"$service",response_code!~"5.*"}[$r])) / sum(irate(istio_requests_total{reporter="source",destination_service=~"$service"}[$r]))"#,
        ],
    ),
    query(
        "Kiali: health of a service",
        &[
            r#"rate(istio_requests_total{destination_service="$service",destination_cluster=~"Kubernetes|unknown"}[$r]) > 0"#,
        ],
    ),
];

/// Labels that Kiali's graph groups by; a sample without one of them is dropped.
const KIALI: &[&str] = &[
    "source_cluster",
    "source_workload_namespace",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "destination_cluster",
    "destination_service_namespace",
    "destination_service",
    "destination_service_name",
    "destination_workload_namespace",
    "destination_workload",
    "destination_canonical_service",
    "destination_canonical_revision",
    "request_protocol",
    "response_code",
    "response_flags",
];

/// About each namespace that has workloads.
pub(super) const NAMESPACE: &[Query] = &[
    Query {
        name: "Kiali: graph, requests that came in",
        alternatives: &[
            r#"sum(rate(istio_requests_total{reporter="destination",destination_workload_namespace="$namespace"}[$r])) by (source_cluster,source_workload_namespace,source_workload,source_canonical_service,source_canonical_revision,destination_cluster,destination_service_namespace,destination_service,destination_service_name,destination_workload_namespace,destination_workload,destination_canonical_service,destination_canonical_revision,request_protocol,response_code,grpc_response_status,response_flags) > 0"#,
        ],
        labels: KIALI,
    },
    Query {
        name: "Kiali: graph, requests that went out",
        alternatives: &[
            r#"sum(rate(istio_requests_total{reporter="source",source_workload_namespace="$namespace"}[$r])) by (source_cluster,source_workload_namespace,source_workload,source_canonical_service,source_canonical_revision,destination_cluster,destination_service_namespace,destination_service,destination_service_name,destination_workload_namespace,destination_workload,destination_canonical_service,destination_canonical_revision,request_protocol,response_code,grpc_response_status,response_flags) > 0"#,
        ],
        labels: KIALI,
    },
    Query {
        name: "Kiali: padlocks",
        alternatives: &[
            r#"sum(rate(istio_requests_total{reporter="destination",destination_workload_namespace="$namespace"}[$r])) by (source_workload,destination_workload,source_principal,destination_principal,connection_security_policy) > 0"#,
        ],
        labels: &["source_principal", "destination_principal", "connection_security_policy"],
    },
    query(
        "Kiali: mean latency of edges",
        &[
            r#"sum(rate(istio_request_duration_milliseconds_sum{reporter="destination",destination_workload_namespace="$namespace"}[$r])) by (source_workload,destination_workload) / sum(rate(istio_request_duration_milliseconds_count{reporter="destination",destination_workload_namespace="$namespace"}[$r])) by (source_workload,destination_workload)"#,
        ],
    ),
    query(
        "Kiali: bytes in",
        &[
            r#"sum(rate(istio_request_bytes_sum{reporter="destination",destination_workload_namespace="$namespace"}[$r])) by (destination_workload) > 0"#,
        ],
    ),
    query(
        "Kiali: bytes out",
        &[
            r#"sum(rate(istio_response_bytes_sum{reporter="source",destination_workload_namespace="$namespace"}[$r])) by (destination_workload) > 0"#,
        ],
    ),
];

/// About each workload that answers.
pub(super) const WORKLOAD: &[Query] = &[
    query(
        "Flagger: success rate",
        &[
            r#"sum(rate(istio_requests_total{reporter="destination",destination_workload_namespace="$namespace",destination_workload=~"$workload",response_code!~"5.*"}[$r])) / sum(rate(istio_requests_total{reporter="destination",destination_workload_namespace="$namespace",destination_workload=~"$workload"}[$r])) * 100"#,
        ],
    ),
    query(
        "Flagger: request duration",
        &[
            r#"histogram_quantile(0.99, sum(rate(istio_request_duration_milliseconds_bucket{reporter="destination",destination_workload_namespace="$namespace",destination_workload=~"$workload"}[$r])) by (le))"#,
        ],
    ),
    query(
        "istioctl x metrics: requests",
        &[
            r#"sum(rate(istio_requests_total{destination_workload=~"$workload.*",destination_workload_namespace=~"$namespace.*",reporter="destination"}[$r]))"#,
        ],
    ),
];
