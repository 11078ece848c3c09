//! What a case configures, in one value that is rendered twice: as Istio's control plane would for Envoy, and as Kubernetes
//! and Istio YAML for us.

use serde_json::{Map, Value, json};

/// The namespace of all services.
pub(crate) const NAMESPACE: &str = "side";
/// The port of all services.
const PORT: u16 = 8080;
/// Istio's "no limit".
const NO_LIMIT: u32 = u32::MAX;

/// What a case configures; what is `None` or 0 is left out, and then has Istio's default on both sides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// Retries of the route; `None`: Istio's default policy.
    pub(crate) retry: Option<Retry>,
    /// `timeout` of the route in milliseconds.
    pub(crate) timeout_ms: u32,
    /// Our annotation `outrigger.dev/retry-non-idempotent`, for which Envoy has nothing.
    pub(crate) non_idempotent: bool,
    /// `retryBudget`: percent and `minRetryConcurrency`.
    pub(crate) budget: Option<(u32, u32)>,
    /// `connectionPool`.
    pub(crate) limits: Limits,
    /// `outlierDetection`.
    pub(crate) outlier: Option<Outlier>,
    /// `fault.abort`: percent and status.
    pub(crate) abort: Option<(u32, u16)>,
    /// `fault.delay`: percent and milliseconds.
    pub(crate) delay: Option<(u32, u32)>,
    /// Whether the backends speak HTTP/2.
    pub(crate) is_http2: bool,
}

/// `retries` of a route.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retry {
    /// `attempts`.
    pub(crate) attempts: u32,
    /// `retryOn`, with numbers as in Istio.
    pub(crate) on: &'static str,
    /// `perTryTimeout` in milliseconds.
    pub(crate) per_try_ms: u32,
    /// `backoff` in milliseconds.
    pub(crate) back_off_ms: u32,
}

/// `connectionPool`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// `tcp.maxConnections`.
    pub(crate) connections: u32,
    /// `http.http1MaxPendingRequests`.
    pub(crate) pending: u32,
    /// `http.http2MaxRequests`.
    pub(crate) requests: u32,
    /// `http.maxRetries`.
    pub(crate) retries: u32,
    /// `http.maxRequestsPerConnection`.
    pub(crate) per_connection: u32,
}

/// `outlierDetection`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outlier {
    /// `consecutive5xxErrors`.
    pub(crate) errors: u32,
    /// `consecutiveGatewayErrors`.
    pub(crate) gateway: u32,
    /// `splitExternalLocalOriginErrors` with `consecutiveLocalOriginFailures`.
    pub(crate) local_origin: u32,
    /// `interval` in milliseconds.
    pub(crate) interval_ms: u32,
    /// `baseEjectionTime` in milliseconds.
    pub(crate) base_ms: u32,
    /// `maxEjectionPercent`.
    pub(crate) percent_max: u32,
    /// `minHealthPercent`.
    pub(crate) health_min: u32,
    /// Envoy's `always_eject_one_host`, our annotation.
    pub(crate) always_one: bool,
}

/// Nothing configured.
pub(crate) const PLAIN: Policy = Policy {
    retry: None,
    timeout_ms: 0,
    non_idempotent: false,
    budget: None,
    limits: Limits { connections: 0, pending: 0, requests: 0, retries: 0, per_connection: 0 },
    outlier: None,
    abort: None,
    delay: None,
    is_http2: false,
};

/// Ejections after three errors that outlast the check, of all endpoints if need be.
pub(crate) const OUTLIER: Outlier = Outlier {
    errors: 3,
    gateway: 0,
    local_origin: 0,
    interval_ms: 500,
    base_ms: 120_000,
    percent_max: 100,
    health_min: 0,
    always_one: false,
};

impl Policy {
    /// Nothing but retries, soon after one another.
    pub(crate) const fn retrying(attempts: u32, on: &'static str) -> Self {
        Self { retry: Some(Retry { attempts, on, per_try_ms: 0, back_off_ms: 10 }), ..PLAIN }
    }

    /// Nothing but outlier detection, without retries that hide what is counted.
    pub(crate) const fn ejecting(outlier: Outlier) -> Self {
        let mut policy = Self::retrying(0, "5xx");
        policy.outlier = Some(outlier);
        policy
    }

    /// Envoy's virtual host for a case.
    pub(crate) fn virtual_host(&self, name: &str) -> Value {
        let host = host(name);
        let mut route = json!({
            "match": {"prefix": "/"},
            "route": {"cluster": name, "timeout": seconds(self.timeout_ms), "retry_policy": self.envoy_retry()},
        });
        let mut fault = Map::new();
        let percentage = |percent| json!({"numerator": percent, "denominator": "HUNDRED"});
        if let Some((percent, status)) = self.abort {
            fault.insert("abort".to_owned(), json!({"http_status": status, "percentage": percentage(percent)}));
        }
        if let Some((percent, ms)) = self.delay {
            fault.insert("delay".to_owned(), json!({"fixed_delay": seconds(ms), "percentage": percentage(percent)}));
        }
        if !fault.is_empty() {
            fault.insert(
                "@type".to_owned(),
                "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault".into(),
            );
            route["typed_per_filter_config"] = json!({"envoy.filters.http.fault": fault});
        }
        json!({"name": name, "domains": [host], "include_request_attempt_count": true, "routes": [route]})
    }

    fn envoy_retry(&self) -> Value {
        let Some(retry) = self.retry else {
            return envoy_retry(2, "connect-failure,refused-stream,unavailable,cancelled", 0, 25);
        };
        if retry.attempts == 0 {
            return Value::Null;
        }
        envoy_retry(retry.attempts, retry.on, retry.per_try_ms, retry.back_off_ms)
    }

    /// Envoy's cluster for a case.
    pub(crate) fn cluster(&self, name: &str, endpoints: &[String], port: u16) -> Value {
        let lb_endpoints: Vec<Value> = endpoints
            .iter()
            .map(|ip| json!({"endpoint": {"address": {"socket_address": {"address": ip, "port_value": port}}}}))
            .collect();
        let limits = self.limits;
        let or_none = |limit: u32| if limit == 0 { NO_LIMIT } else { limit };
        let mut threshold = json!({
            "max_connections": or_none(limits.connections),
            "max_pending_requests": or_none(limits.pending),
            "max_requests": or_none(limits.requests),
            "max_retries": or_none(limits.retries),
        });
        if let Some((percent, min)) = self.budget {
            threshold["retry_budget"] = json!({"budget_percent": {"value": percent}, "min_retry_concurrency": min});
        }
        let protocol = if self.is_http2 { "http2_protocol_options" } else { "http_protocol_options" };
        let mut options = json!({
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {protocol: {}},
        });
        if limits.per_connection > 0 {
            options["common_http_protocol_options"] = json!({"max_requests_per_connection": limits.per_connection});
        }
        let mut cluster = json!({
            "name": name,
            "type": "STATIC",
            "connect_timeout": "5s",
            "lb_policy": "ROUND_ROBIN",
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": lb_endpoints}]},
            "circuit_breakers": {"thresholds": [threshold]},
            "common_lb_config": {
                "healthy_panic_threshold": {"value": self.outlier.map_or(0, |outlier| outlier.health_min)},
            },
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options,
            },
        });
        if let Some(outlier) = self.outlier {
            cluster["outlier_detection"] = outlier.envoy();
        }
        cluster
    }

    /// Our objects for a case.
    pub(crate) fn objects(&self, name: &str, endpoints: &[String], port: u16) -> Vec<Value> {
        let protocol = if self.is_http2 { "http2" } else { "http" };
        let meta = json!({"name": name, "namespace": NAMESPACE});
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": meta,
            "spec": {"ports": [{"name": protocol, "port": PORT, "targetPort": port}]},
        });
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"name": protocol, "port": port}],
            "endpoints": endpoints.iter().map(|ip| json!({"addresses": [ip]})).collect::<Vec<_>>(),
        });
        vec![service, slice, self.virtual_service(name), self.destination_rule(name)]
    }

    fn virtual_service(&self, name: &str) -> Value {
        let mut route = json!({"route": [{"destination": {"host": name}}]});
        if let Some(retry) = self.retry {
            let mut retries = json!({"attempts": retry.attempts, "retryOn": retry.on});
            if retry.attempts > 0 {
                retries["backoff"] = seconds(retry.back_off_ms);
            }
            if retry.per_try_ms > 0 {
                retries["perTryTimeout"] = seconds(retry.per_try_ms);
            }
            route["retries"] = retries;
        }
        if self.timeout_ms > 0 {
            route["timeout"] = seconds(self.timeout_ms);
        }
        let mut fault = Map::new();
        if let Some((percent, status)) = self.abort {
            fault.insert("abort".to_owned(), json!({"httpStatus": status, "percentage": {"value": percent}}));
        }
        if let Some((percent, ms)) = self.delay {
            fault.insert("delay".to_owned(), json!({"fixedDelay": seconds(ms), "percentage": {"value": percent}}));
        }
        if !fault.is_empty() {
            route["fault"] = fault.into();
        }
        let mut object = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"hosts": [name], "http": [route]},
        });
        if self.non_idempotent {
            object["metadata"]["annotations"] = json!({"outrigger.dev/retry-non-idempotent": "true"});
        }
        object
    }

    fn destination_rule(&self, name: &str) -> Value {
        let limits = self.limits;
        let pool = json!({
            "tcp": {"connectTimeout": "5s", "maxConnections": limits.connections},
            "http": {
                "http1MaxPendingRequests": limits.pending, "http2MaxRequests": limits.requests,
                "maxRetries": limits.retries, "maxRequestsPerConnection": limits.per_connection,
            },
        });
        let mut policy = json!({"loadBalancer": {"simple": "ROUND_ROBIN"}, "connectionPool": pool});
        if let Some((percent, min)) = self.budget {
            policy["retryBudget"] = json!({"percent": percent, "minRetryConcurrency": min});
        }
        let mut meta = json!({"name": name, "namespace": NAMESPACE});
        if let Some(outlier) = self.outlier {
            policy["outlierDetection"] = outlier.istio();
            if outlier.always_one {
                meta["annotations"] = json!({"outrigger.dev/outlier-detection": "always_eject_one_host: true"});
            }
        }
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": meta,
            "spec": {"host": name, "trafficPolicy": policy},
        })
    }
}

impl Outlier {
    fn envoy(self) -> Value {
        let mut block = json!({
            "consecutive_5xx": self.errors,
            "enforcing_success_rate": 0,
            "interval": seconds(self.interval_ms),
            "base_ejection_time": seconds(self.base_ms),
            "max_ejection_percent": self.percent_max,
            "always_eject_one_host": self.always_one,
        });
        if self.gateway > 0 {
            block["consecutive_gateway_failure"] = self.gateway.into();
            block["enforcing_consecutive_gateway_failure"] = 100.into();
        }
        if self.local_origin > 0 {
            block["split_external_local_origin_errors"] = true.into();
            block["consecutive_local_origin_failure"] = self.local_origin.into();
            block["enforcing_local_origin_success_rate"] = 0.into();
        }
        block
    }

    fn istio(self) -> Value {
        let mut block = json!({
            "consecutive5xxErrors": self.errors,
            "interval": seconds(self.interval_ms),
            "baseEjectionTime": seconds(self.base_ms),
            "maxEjectionPercent": self.percent_max,
            "minHealthPercent": self.health_min,
        });
        if self.gateway > 0 {
            block["consecutiveGatewayErrors"] = self.gateway.into();
        }
        if self.local_origin > 0 {
            block["splitExternalLocalOriginErrors"] = true.into();
            block["consecutiveLocalOriginFailures"] = self.local_origin.into();
        }
        block
    }
}

/// The name that clients ask for.
pub(crate) fn host(name: &str) -> String {
    format!("{name}.{NAMESPACE}:{PORT}")
}

/// Our name for the cluster of a case.
pub(crate) fn our_cluster(name: &str) -> String {
    format!("outbound|{PORT}||{name}.{NAMESPACE}.svc.cluster.local")
}

/// A retry policy as Istio's control plane writes it: numbers among the words become a list of their own.
fn envoy_retry(attempts: u32, on: &str, per_try_ms: u32, back_off_ms: u32) -> Value {
    let (codes, mut words): (Vec<&str>, Vec<&str>) = on.split(',').partition(|word| word.parse::<u16>().is_ok());
    let codes: Vec<u16> = codes.iter().filter_map(|code| code.parse().ok()).collect();
    if !codes.is_empty() {
        words.push("retriable-status-codes");
    }
    let previous = "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";
    let mut policy = json!({
        "retry_on": words.join(","),
        "num_retries": attempts,
        "retry_host_predicate": [
            {"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": {"@type": previous}},
        ],
        "host_selection_retry_max_attempts": 5,
        "retriable_status_codes": codes,
        "retry_back_off": {"base_interval": seconds(back_off_ms)},
    });
    if per_try_ms > 0 {
        policy["per_try_timeout"] = seconds(per_try_ms);
    }
    policy
}

fn seconds(milliseconds: u32) -> Value {
    format!("{}.{:03}s", milliseconds / 1000, milliseconds % 1000).into()
}
