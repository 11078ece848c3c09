//! `/clusters` in Envoy's two shapes, for istioctl, Kiali and people: limits, outlier detection, endpoints.
//!
//! A number that we do not have is left out; none is made up.

use std::fmt::Write;

use outrigger_model::{Cluster, OutlierDetection};
use outrigger_proxy::{ClusterReport, EndpointReport, Proxy};
use serde_json::{Map, Value, json};

/// Lines `cluster::key::value` and `cluster::address::key::value`.
pub(super) fn text(proxy: &Proxy) -> String {
    let mut out = String::new();
    for report in proxy.clusters() {
        let name = report.cluster.name.as_str();
        let mut line = |key: &str, value: &str| {
            writeln!(out, "{name}::{key}::{value}").expect("a String takes every write");
        };
        line("observability_name", name);
        if let Some(rule) = &report.cluster.outlier {
            let rates = [
                ("success_rate", Rates::of(&report, rule, |endpoint| endpoint.outlier.as_ref()?.success_rate)),
                (
                    "local_origin_success_rate",
                    Rates::of(&report, rule, |endpoint| endpoint.outlier.as_ref()?.local_origin_success_rate),
                ),
            ];
            for (key, rates) in rates {
                line(&format!("outlier::{key}_average"), &rate(rates.as_ref().map(|rates| rates.average)));
                line(&format!("outlier::{key}_ejection_threshold"), &rate(rates.map(|rates| rates.threshold)));
            }
        }
        for (key, limit) in limits(&report.cluster) {
            line(&format!("default_priority::{key}"), &limit.to_string());
        }
        line("added_via_api", "true");
        for endpoint in &report.endpoints {
            let address = endpoint.address();
            for (key, value) in endpoint_lines(endpoint) {
                line(&format!("{address}::{key}"), &value);
            }
        }
    }
    out
}

fn endpoint_lines(report: &EndpointReport) -> Vec<(&'static str, String)> {
    let (endpoint, locality) = (&report.endpoint, &report.endpoint.locality);
    let mut lines = vec![
        ("rq_active", report.active_requests.to_string()),
        ("rq_total", report.requests_begun.to_string()),
        ("hostname", hostname(report).to_owned()),
        ("health_flags", Health::of(report).flags()),
        ("weight", endpoint.weight.to_string()),
        ("region", locality.region.to_string()),
        ("zone", locality.zone.to_string()),
        ("sub_zone", locality.sub_zone.to_string()),
        ("priority", endpoint.priority.to_string()),
    ];
    if let Some(outlier) = &report.outlier {
        lines.push(("success_rate", rate(outlier.success_rate)));
        lines.push(("local_origin_success_rate", rate(outlier.local_origin_success_rate)));
    }
    lines
}

/// Envoy writes -1 for a rate that was not compared.
fn rate(rate: Option<f64>) -> String {
    rate.unwrap_or(-1.0).to_string()
}

/// Envoy's `admin.v3.Clusters`.
pub(super) fn json(proxy: &Proxy) -> Value {
    json!({ "cluster_statuses": proxy.clusters().iter().map(status).collect::<Vec<_>>() })
}

fn status(report: &ClusterReport) -> Value {
    let limits: Map<String, Value> =
        limits(&report.cluster).into_iter().map(|(key, limit)| (key.to_owned(), json!(limit))).collect();
    let mut status = json!({
        "name": report.cluster.name.as_str(),
        "observability_name": report.cluster.name.as_str(),
        "added_via_api": true,
        "host_statuses": report.endpoints.iter().map(host).collect::<Vec<_>>(),
        // The first priority of Envoy's two, `DEFAULT`, which its JSON leaves out.
        "circuit_breakers": { "thresholds": [limits] },
    });
    if let Some(rule) = &report.cluster.outlier {
        if let Some(rates) = Rates::of(report, rule, |endpoint| endpoint.outlier.as_ref()?.success_rate) {
            status["success_rate_ejection_threshold"] = json!({ "value": rates.threshold });
        }
        let local = |endpoint: &EndpointReport| endpoint.outlier.as_ref()?.local_origin_success_rate;
        if let Some(rates) = Rates::of(report, rule, local) {
            status["local_origin_success_rate_ejection_threshold"] = json!({ "value": rates.threshold });
        }
    }
    status
}

fn host(report: &EndpointReport) -> Value {
    let (address, locality) = (report.address(), &report.endpoint.locality);
    let mut host = json!({
        "address": { "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } },
        "stats": [
            { "type": "GAUGE", "name": "rq_active", "value": report.active_requests.to_string() },
            { "name": "rq_total", "value": report.requests_begun.to_string() },
        ],
        "health_status": Health::of(report).json(),
        "hostname": hostname(report),
        "weight": report.endpoint.weight,
        "priority": report.endpoint.priority,
        "locality": { "region": locality.region, "zone": locality.zone, "sub_zone": locality.sub_zone },
    });
    let outlier = report.outlier.as_ref();
    if let Some(rate) = outlier.and_then(|outlier| outlier.success_rate) {
        host["success_rate"] = json!({ "value": rate });
    }
    if let Some(rate) = outlier.and_then(|outlier| outlier.local_origin_success_rate) {
        host["local_origin_success_rate"] = json!({ "value": rate });
    }
    host
}

/// What keeps an endpoint out, in Envoy's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Health {
    /// Outlier detection has ejected it; or its own circuit is not closed, which is the same to who wants to know why it gets
    /// nothing.
    failed_outlier_check: bool,
    /// Drained by hand.
    is_draining: bool,
}

impl Health {
    fn of(report: &EndpointReport) -> Self {
        let is_ejected = report.outlier.as_ref().is_some_and(|outlier| outlier.ejection.is_some());
        let is_draining = report.drained_until.is_some();
        Self { failed_outlier_check: is_ejected || (!report.is_available && !is_draining), is_draining }
    }

    fn flags(self) -> String {
        let mut flags = String::new();
        for (is_set, flag) in
            [(self.failed_outlier_check, "/failed_outlier_check"), (self.is_draining, "/eds_status_draining")]
        {
            flags.push_str(if is_set { flag } else { "" });
        }
        if flags.is_empty() { "healthy".to_owned() } else { flags }
    }

    fn json(self) -> Value {
        let mut health = json!({ "eds_health_status": if self.is_draining { "DRAINING" } else { "HEALTHY" } });
        if self.failed_outlier_check {
            health["failed_outlier_check"] = json!(true);
        }
        health
    }
}

/// The mean of the rates that were compared in the last sweep, and below which of them an endpoint is ejected.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rates {
    average: f64,
    threshold: f64,
}

impl Rates {
    fn of(
        report: &ClusterReport,
        rule: &OutlierDetection,
        rate: impl Fn(&EndpointReport) -> Option<f64>,
    ) -> Option<Self> {
        let rule = rule.success_rate.as_ref()?;
        let rates: Vec<f64> = report.endpoints.iter().filter_map(rate).collect();
        if rates.is_empty() || rates.len() < rule.hosts_min as usize {
            return None;
        }
        let count = rates.len() as f64;
        let average = rates.iter().sum::<f64>() / count;
        let variance = rates.iter().map(|rate| (rate - average).powi(2)).sum::<f64>() / count;
        Some(Self { average, threshold: average - f64::from(rule.stdev_factor) / 1000.0 * variance.sqrt() })
    }
}

/// The limits of `connectionPool`, as Envoy calls them; without one Istio's Envoy has the largest number.
fn limits(cluster: &Cluster) -> [(&'static str, u32); 4] {
    let pool = &cluster.pool;
    [
        ("max_connections", pool.connections_max),
        ("max_pending_requests", pool.pending_max),
        ("max_requests", pool.requests_max),
        ("max_retries", pool.retries_max),
    ]
    .map(|(name, limit)| (name, limit.unwrap_or(u32::MAX)))
}

/// The name whose address an endpoint is, as in Envoy; else that of its pod.
fn hostname(report: &EndpointReport) -> &str {
    report.host.as_ref().unwrap_or(&report.endpoint.workload.pod)
}
