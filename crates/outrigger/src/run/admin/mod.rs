//! What the admin interface of `outrigger run` knows: Envoy's shapes for clusters and listeners, ours under `/api/v1`.

mod circuits;
mod clock;
mod clusters;
mod control;
mod hystrix;
mod overrides;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::UNIX_EPOCH;

use outrigger_model::{Action, HostPattern, Listener, PathMatch, Route};
use outrigger_proxy::{CircuitReport, ClusterReport, Proxy};
use outrigger_telemetry::http::{AdminState, Control, LogChange, Query, Refusal};
use serde_json::{Value, json};

use super::configuration::{InForce, Latest};
use super::load;
use super::report;
use crate::logging;
use clock::Clock;
pub(super) use overrides::Overrides;

/// The name of the main proxy among those of the others, which have a `/`.
const MAIN: &str = "main";

/// One proxy of the process.
struct Named {
    /// `main`, or `NAMESPACE/NAME` of its pod or gateway.
    name: String,
    /// `NAMESPACE/NAME` of the workload whose sidecar it is, where it is one.
    workload: Option<String>,
    proxy: Arc<Proxy>,
}

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
    /// The workload that the main proxy is the sidecar of.
    pub(super) workload: Option<String>,
    /// Who has forced what.
    pub(super) overrides: Overrides,
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

    /// The proxies that somebody asks for: all, the one of this name, or those of the pods of a workload.
    fn select(&self, name: Option<&str>) -> Result<Vec<Named>, Refusal> {
        let in_force = self.in_force();
        let pods = in_force.iter().flat_map(|in_force| in_force.workloads.iter());
        let workloads: BTreeMap<String, String> = pods.map(|pod| pod.names().into()).collect();
        let others = in_force.iter().flat_map(|in_force| in_force.proxies.iter());
        let others = others.map(|(name, proxy)| Named {
            name: name.clone(),
            workload: workloads.get(name).cloned(),
            proxy: proxy.clone(),
        });
        let main = Named { name: MAIN.to_owned(), workload: self.workload.clone(), proxy: self.proxy.clone() };
        let mut all: Vec<Named> = [main].into_iter().chain(others).collect();
        let Some(wanted) = name else { return Ok(all) };
        if let Some(at) = all.iter().position(|proxy| proxy.name == wanted) {
            return Ok(vec![all.swap_remove(at)]);
        }
        let is_its = |proxy: &Named| proxy.workload.as_deref() == Some(wanted);
        if all.iter().any(is_its) {
            all.retain(is_its);
            return Ok(all);
        }
        let names = all.iter().flat_map(|proxy| proxy.workload.as_deref().into_iter().chain([proxy.name.as_str()]));
        Err(Refusal::Unknown(format!("there is no proxy {wanted:?}{}", control::nearest(wanted, names))))
    }

    /// `circuits`: those of these proxies, and the endpoints that are out.
    fn circuits(&self, proxies: &[Named]) -> Value {
        let (mut circuits, mut ejections, mut drains) = (Vec::new(), Vec::new(), Vec::new());
        for named in proxies {
            let (clock, all) = (Clock::now(), named.proxy.circuits());
            circuits.extend(all.iter().map(|report| circuits::circuit(named, report, &self.overrides, &clock)));
            for cluster in named.proxy.clusters() {
                ejections.extend(circuits::ejections(&named.name, &cluster, &clock));
                drains.extend(circuits::drains(&named.name, &cluster, &self.overrides, &clock));
            }
        }
        let clock = Clock::now();
        json!({ "at": clock.told(clock.now), "circuits": circuits, "ejections": ejections, "drains": drains })
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
            "clusters" => Some(clusters::json(proxy)),
            "routes" => Some(routes(proxy)),
            "listeners" => {
                Some(json!({ "listener_statuses": proxy.listeners().iter().map(listener).collect::<Vec<_>>() }))
            }
            _ => None,
        }
    }
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
        clusters::text(&self.proxy)
    }

    fn clusters_json(&self) -> Value {
        clusters::json(&self.proxy)
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

    fn api(&self, path: &str, query: &Query) -> Option<Result<Value, Refusal>> {
        let document = match path {
            "circuits" => return Some(self.select(query.get("proxy")).map(|of| self.circuits(&of))),
            "status" => self.status(),
            "routes" => routes(&self.proxy),
            "services" => self.in_force().map_or(Value::Null, |f| report::services(&f)),
            "diagnostics" => self.in_force().map_or(Value::Null, |f| report::diagnostics(&f.diagnostics)),
            _ => self.proxies(path.strip_prefix("proxies")?)?,
        };
        Some(Ok(document))
    }

    fn control(&self, control: &Control) -> Result<Value, Refusal> {
        control::carry_out(self, control)
    }

    fn hystrix(&self, proxy: Option<&str>) -> Result<Vec<Value>, Refusal> {
        let proxies = self.select(proxy)?;
        let mut all: Vec<_> = proxies
            .iter()
            .flat_map(|named| named.proxy.circuits().into_iter().map(move |report| (&named.name, report)))
            .collect();
        all.sort_by_key(|(_, report)| !report.state.is_shut());
        all.truncate(hystrix::COMMANDS_MAX);
        let now_ms = Clock::now().wall.duration_since(UNIX_EPOCH).map(clock::ms).unwrap_or_default();
        // A dashboard has one place for a name.
        let command = |(proxy, report): &(&String, CircuitReport)| match proxy.as_str() {
            MAIN => hystrix::command(&report.name, report, now_ms),
            proxy => hystrix::command(&format!("{proxy} {}", report.name), report, now_ms),
        };
        Ok(all.iter().map(command).collect())
    }

    fn logging(&self, change: &LogChange) -> Result<String, String> {
        logging::change(change)
    }
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
