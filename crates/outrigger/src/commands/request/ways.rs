//! Where to send: asked of the admin interface of the proxy that runs.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use super::target::Target;
use crate::cli::WorkloadName;
use crate::client::{self, Connection};

const HINT: &str = "is `outrigger run` running? --admin says where its admin interface is, --proxy where to send";

/// Most workloads that an error lists.
const LISTED_MAX: usize = 20;

/// The admin interface.
pub(super) struct Admin {
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// How long to wait for its answer.
    pub(super) timeout: Duration,
}

impl Admin {
    /// The addresses through which requests for `target` go, in turn; at least one.
    pub(super) async fn ways(&self, from: Option<&WorkloadName>, target: &Target) -> anyhow::Result<Vec<SocketAddr>> {
        if let Some(from) = from {
            let status = self.ask("/api/v1/status").await?;
            return workload(&status, from);
        }
        if let Some(ip) = target.ip() {
            let status = self.ask("/api/v1/status").await?;
            if let Some(bound) = gateway(&status, ip, target.port().unwrap_or(80)) {
                return Ok(vec![bound]);
            }
        }
        let listeners = self.ask("/listeners?format=json").await?;
        let outbound = outbound(&listeners);
        let outbound =
            outbound.with_context(|| format!("what answers at {} names no outbound listener; {HINT}", self.address))?;
        Ok(vec![outbound])
    }

    /// Asks for a document.
    async fn ask(&self, path: &str) -> anyhow::Result<Value> {
        let Self { address, timeout } = self;
        let bytes = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").into_bytes();
        let request = client::Request { bytes, is_head: false, is_idempotent: true };
        let asking = async { Connection::open(*address).await?.exchange(&request).await };
        let answer = match tokio::time::timeout(*timeout, asking).await {
            Ok(answer) => answer.with_context(|| format!("the admin interface at {address} gave no answer; {HINT}"))?,
            Err(_) => bail!("the admin interface at {address} gave no answer in {timeout:?}; {HINT}"),
        };
        serde_json::from_slice(&answer.body)
            .with_context(|| format!("what answers at {address} to {path} is no admin interface; {HINT}"))
    }
}

/// The address of listener `outbound` in Envoy's JSON.
fn outbound(told: &Value) -> Option<SocketAddr> {
    let listener = told["listener_statuses"].as_array()?.iter().find(|listener| listener["name"] == "outbound")?;
    let socket = &listener["local_address"]["socket_address"];
    let ip = socket["address"].as_str()?.parse().ok()?;
    Some(SocketAddr::new(ip, socket["port_value"].as_u64()?.try_into().ok()?))
}

/// Where a gateway with this address has its port bound.
fn gateway(status: &Value, ip: IpAddr, port: u16) -> Option<SocketAddr> {
    let gateways = status["gateways"].as_array()?.iter();
    let listeners = gateways.filter(|g| address(&g["address"]) == Some(ip)).filter_map(|g| g["listeners"].as_array());
    let bound = |l: &Value| address::<SocketAddr>(&l["bound"]).map(|bound| (l["port"].as_u64(), bound));
    let mut all = listeners.flatten().filter_map(bound);
    all.find(|(number, bound)| *number == Some(port.into()) || bound.port() == port).map(|(_, bound)| bound)
}

/// The outbound listeners of a workload's pods, or of the pod of this name.
fn workload(status: &Value, from: &WorkloadName) -> anyhow::Result<Vec<SocketAddr>> {
    let none = Vec::new();
    let pods = status["workloads"].as_array().unwrap_or(&none);
    if pods.is_empty() {
        bail!("--from {from}: the proxy that runs has no workloads; start it with `outrigger run PATH --simulate`");
    }
    let is_it =
        |pod: &&Value| pod["namespace"] == *from.namespace && (pod["name"] == *from.name || pod["pod"] == *from.name);
    let ways: Vec<SocketAddr> = pods.iter().filter(is_it).filter_map(|pod| address(&pod["outbound"])).collect();
    if ways.is_empty() {
        bail!("--from {from}: there is no such workload{}", known(pods, &from.to_string()));
    }
    Ok(ways)
}

/// The nearest workload, and all there are.
fn known(pods: &[Value], wanted: &str) -> String {
    let name = |pod: &Value| Some(format!("{}/{}", pod["namespace"].as_str()?, pod["name"].as_str()?));
    let mut names: Vec<String> = pods.iter().filter_map(name).collect();
    names.sort();
    names.dedup();
    let distance = |name: &&String| strsim::damerau_levenshtein(name, wanted);
    let near = names.iter().min_by_key(distance).filter(|name| distance(name) <= wanted.len() / 3 + 1);
    let near = near.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
    let more = match names.len().saturating_sub(LISTED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    names.truncate(LISTED_MAX);
    format!("{near}; there are {}{more}", names.join(", "))
}

fn address<A: std::str::FromStr>(value: &Value) -> Option<A> {
    value.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status() -> Value {
        let pod = |namespace: &str, name: &str, replica: u8, address: &str| json!({ "namespace": namespace, "name": name, "pod": format!("{name}-{replica}"), "outbound": address });
        json!({
            "workloads": [
                pod("default", "reviews-v1", 0, "127.0.1.1:15001"),
                pod("default", "reviews-v1", 1, "127.0.1.2:15001"),
                pod("shop", "cart", 0, "127.0.1.3:15001"),
            ],
            "gateways": [
                {
                    "address": "127.0.2.1",
                    "listeners": [{ "port": 443, "bound": null }, { "port": 80, "bound": "127.0.2.1:41000" }],
                },
            ],
        })
    }

    #[test]
    fn a_workload_is_all_its_pods_and_a_pod_is_one() {
        let ways = |text: &str| {
            let found = workload(&status(), &text.parse().expect("a name")).map_err(|error| error.to_string());
            found.map(|ways| ways.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(ways("reviews-v1"), Ok("127.0.1.1:15001 127.0.1.2:15001".to_owned()));
        assert_eq!(ways("reviews-v1-1"), Ok("127.0.1.2:15001".to_owned()));
        assert_eq!(ways("shop/cart"), Ok("127.0.1.3:15001".to_owned()));
        let error = ways("revews-v1").expect_err("misspelt");
        assert!(error.contains("did you mean default/reviews-v1?"), "{error}");
        assert!(error.ends_with("there are default/reviews-v1, shop/cart"), "{error}");
        let error = ways("other/thing").expect_err("unknown");
        assert!(!error.contains("did you mean"), "{error}");
    }

    #[test]
    fn a_gateway_is_found_by_its_port_or_where_that_is_bound() {
        let found = |port| gateway(&status(), "127.0.2.1".parse().expect("an address"), port);
        let bound = "127.0.2.1:41000".parse().ok();
        assert_eq!((found(80), found(41000), found(443), found(81)), (bound, bound, None, None));
        assert_eq!(gateway(&status(), "127.0.2.2".parse().expect("an address"), 80), None);
    }

    #[test]
    fn without_workloads_the_error_says_how_to_get_some() {
        let from: WorkloadName = "cart".parse().expect("a name");
        let error = workload(&json!({}), &from).expect_err("there are none").to_string();
        assert!(error.contains("--simulate"), "{error}");
    }
}
