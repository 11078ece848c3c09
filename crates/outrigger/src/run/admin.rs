//! What the admin interface of `outrigger run` knows: Envoy's shapes for clusters and listeners, ours under `/api/v1`.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};

use outrigger_model::{Action, HostPattern, Listener, PathMatch, Route};
use outrigger_proxy::{ClusterReport, EndpointReport, Proxy};
use outrigger_telemetry::http::{AdminState, LogChange, Query};
use serde_json::{Value, json};

use super::configuration::{InForce, Latest};
use super::load;
use super::report;
use crate::logging;

/// The state behind the admin interface.
pub(super) struct Status {
    /// The main proxy.
    pub(super) proxy: Arc<Proxy>,
    /// What is in force.
    pub(super) latest: Latest,
    /// Where the admin interface listens.
    pub(super) admin: SocketAddr,
    /// Where the main proxy listens.
    pub(super) outbound: SocketAddr,
    /// What `--load` does.
    pub(super) load: Option<Arc<load::Counts>>,
}

impl Status {
    fn in_force(&self) -> Option<InForce> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The main proxy's listeners, the outbound one first, and the admin interface.
    fn listeners(&self) -> Vec<(Arc<str>, SocketAddr)> {
        let mut all = self.proxy.listeners();
        all.sort_by_key(|(name, _)| **name != *Listener::OUTBOUND);
        all.push(("admin".into(), self.admin));
        all
    }

    fn status(&self) -> Value {
        let Some(in_force) = self.in_force() else { return Value::Null };
        let mut status = json!({
            "version": format!("{:016x}", in_force.snapshot.version),
            "files": in_force.files,
            "objects": in_force.objects,
            "outbound": self.outbound,
            "connections": self.proxy.connections(),
            "load": self.load.as_ref().map(|load| load.to_json()),
        });
        if let (Some(status), Value::Object(facts)) = (status.as_object_mut(), report::facts(&in_force)) {
            status.extend(facts);
        }
        status
    }

    /// `proxies`: the names of all proxies but the main one; `proxies/NAMESPACE/NAME/WHAT`: what one of them obeys.
    fn proxies(&self, path: &str) -> Option<Value> {
        let in_force = self.in_force()?;
        if path.is_empty() {
            return Some(json!(in_force.proxies.keys().collect::<Vec<_>>()));
        }
        let (name, what) = path.strip_prefix('/')?.rsplit_once('/')?;
        let proxy = in_force.proxies.get(name)?;
        match what {
            "clusters" => Some(clusters(proxy)),
            "routes" => Some(routes(proxy)),
            "listeners" => {
                Some(json!({ "listener_statuses": proxy.listeners().iter().map(listener).collect::<Vec<_>>() }))
            }
            _ => None,
        }
    }
}

fn clusters(proxy: &Proxy) -> Value {
    json!({ "cluster_statuses": proxy.clusters().iter().map(cluster_status).collect::<Vec<_>>() })
}

/// The virtual hosts of all listeners.
fn routes(proxy: &Proxy) -> Value {
    let snapshot = proxy.snapshot();
    let hosts = snapshot.listeners.iter().flat_map(|l| l.route_tables()).flat_map(|t| &t.virtual_hosts).map(|host| {
        json!({
            "name": host.name,
            "domains": host.domains.iter().map(domain).collect::<Vec<_>>(),
            "routes": host.routes.iter().map(|r| route(r)).collect::<Vec<_>>(),
        })
    });
    Value::Array(hosts.collect())
}

fn listener((name, address): &(Arc<str>, SocketAddr)) -> Value {
    json!({
        "name": name,
        "local_address": { "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } },
    })
}

impl AdminState for Status {
    fn clusters_text(&self) -> String {
        let mut out = String::new();
        for report in self.proxy.clusters() {
            for endpoint in &report.endpoints {
                let name = report.cluster.name.as_str();
                let address = endpoint.address();
                let health = if endpoint.is_available { "healthy" } else { "/failed_outlier_check" };
                for (key, value) in [
                    ("rq_active", endpoint.active_requests.to_string()),
                    ("rq_total", endpoint.requests_begun.to_string()),
                    ("hostname", hostname(endpoint).to_string()),
                    ("health_flags", health.to_owned()),
                    ("weight", endpoint.endpoint.weight.to_string()),
                    ("region", endpoint.endpoint.locality.region.to_string()),
                    ("zone", endpoint.endpoint.locality.zone.to_string()),
                    ("sub_zone", endpoint.endpoint.locality.sub_zone.to_string()),
                    ("priority", endpoint.endpoint.priority.to_string()),
                ] {
                    // Writing to a string cannot fail.
                    let _ = writeln!(out, "{name}::{address}::{key}::{value}");
                }
            }
        }
        out
    }

    fn clusters_json(&self) -> Value {
        clusters(&self.proxy)
    }

    fn listeners_json(&self) -> Value {
        json!({ "listener_statuses": self.listeners().iter().map(listener).collect::<Vec<_>>() })
    }

    fn listeners_text(&self) -> String {
        self.listeners().iter().map(|(name, address)| format!("{name}::{address}\n")).collect()
    }

    fn config_dump(&self, query: &Query) -> Result<Value, String> {
        if let Some(parameter) = ["resource", "mask", "name_regex"].iter().find(|p| query.has(p)) {
            return Err(format!("the parameter {parameter} is not supported"));
        }
        let clusters: Vec<Value> = self.proxy.clusters().iter().map(cluster_config).collect();
        Ok(json!({
            "configs": [
                { "@type": "type.googleapis.com/envoy.admin.v3.ClustersDump", "dynamic_active_clusters": clusters },
                {
                    "@type": "type.googleapis.com/envoy.admin.v3.RoutesConfigDump",
                    "dynamic_route_configs": [{ "route_config": { "name": "outbound", "virtual_hosts": routes(&self.proxy) } }],
                },
            ],
        }))
    }

    fn api(&self, path: &str, _query: &Query) -> Option<Value> {
        match path {
            "status" => Some(self.status()),
            "routes" => Some(routes(&self.proxy)),
            "services" => Some(self.in_force().map_or(Value::Null, |f| report::services(&f))),
            "diagnostics" => Some(self.in_force().map_or(Value::Null, |f| report::diagnostics(&f.diagnostics))),
            _ => self.proxies(path.strip_prefix("proxies")?),
        }
    }

    fn logging(&self, change: &LogChange) -> Result<String, String> {
        logging::change(change)
    }
}

/// The name whose address an endpoint is, as in Envoy; else that of its pod.
fn hostname(endpoint: &EndpointReport) -> &Arc<str> {
    endpoint.host.as_ref().unwrap_or(&endpoint.endpoint.workload.pod)
}

fn cluster_status(report: &ClusterReport) -> Value {
    let hosts = report.endpoints.iter().map(|endpoint| {
        let (address, locality) = (endpoint.address(), &endpoint.endpoint.locality);
        let health = if endpoint.is_available { "HEALTHY" } else { "UNHEALTHY" };
        json!({
            "address": { "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } },
            "stats": [
                { "type": "GAUGE", "name": "rq_active", "value": endpoint.active_requests.to_string() },
                { "name": "rq_total", "value": endpoint.requests_begun.to_string() },
            ],
            "health_status": { "eds_health_status": health },
            "hostname": hostname(endpoint),
            "weight": endpoint.endpoint.weight,
            "priority": endpoint.endpoint.priority,
            "locality": { "region": locality.region, "zone": locality.zone, "sub_zone": locality.sub_zone },
        })
    });
    json!({
        "name": report.cluster.name.as_str(),
        "added_via_api": true,
        "host_statuses": hosts.collect::<Vec<_>>(),
    })
}

fn cluster_config(report: &ClusterReport) -> Value {
    let cluster = &report.cluster;
    let rule = cluster.destination_rule.as_ref().and_then(|name| name.split_once('/')).map(|(namespace, name)| {
        json!({
            "filter_metadata": {
                "istio": {
                    "config": format!("/apis/networking.istio.io/v1/namespaces/{namespace}/destination-rule/{name}"),
                },
            },
        })
    });
    json!({
        "cluster": {
            "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            "name": cluster.name.as_str(),
            "connect_timeout": format!("{}s", cluster.connect_timeout.as_secs_f64()),
            "metadata": rule,
        },
    })
}

fn domain(domain: &outrigger_model::Domain) -> String {
    let host = match &domain.host {
        HostPattern::Exact(host) => host.to_string(),
        HostPattern::Suffix(suffix) => format!("*{suffix}"),
        HostPattern::Prefix(prefix) => format!("{prefix}*"),
        HostPattern::Any => "*".to_owned(),
    };
    match domain.port {
        outrigger_model::DomainPort::Exact(port) => format!("{host}:{port}"),
        outrigger_model::DomainPort::Unstated => host,
        outrigger_model::DomainPort::Any => format!("{host}:*"),
    }
}

fn route(route: &Route) -> Value {
    let path = match &route.matches.path {
        PathMatch::Any => json!({ "prefix": "/" }),
        PathMatch::Exact(path) => json!({ "path": path }),
        PathMatch::Prefix(prefix) => json!({ "prefix": prefix }),
        PathMatch::Segments(prefix) => json!({ "path_separated_prefix": prefix }),
        PathMatch::Regex(pattern) => json!({ "safe_regex": { "regex": pattern.source() } }),
    };
    let action = match &route.action {
        Action::Forward(forward) => json!({
            "weighted_clusters": forward
                .destinations
                .iter()
                .map(|d| json!({ "name": d.cluster.as_str(), "weight": d.weight, "missing": d.missing.as_ref().map(|m| &m.reason) }))
                .collect::<Vec<_>>(),
        }),
        Action::Redirect(redirect) => json!({ "redirect": { "status": redirect.status } }),
        Action::Respond(respond) => json!({ "direct_response": { "status": respond.status } }),
    };
    let origin = route.origin.as_ref();
    json!({
        "name": route.name,
        "match": path,
        "headers": route.matches.headers.len(),
        "action": action,
        "origin": origin.map(|o| format!("{} {}/{} rule {}", o.kind, o.namespace, o.name, o.rule)),
        "place": origin.and_then(|o| o.place.as_ref()).map(ToString::to_string),
    })
}
