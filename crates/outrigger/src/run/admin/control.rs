//! What an operator does by hand: a circuit is forced or left to itself, an endpoint drained or restored, an ejection ended.
//! Each act is logged with who, what and until when; what is not there is answered with the nearest name that is.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use outrigger_proxy::{ClusterReport, EndpointError, EndpointReport, Forced, Proxy};
use outrigger_telemetry::http::{Control, ControlAction, Refusal};
use serde_json::{Value, json};

use super::circuits;
use super::clock::Clock;
use super::overrides::What;
use super::{MAIN, Named, Status};

/// Does it, and answers what is in force then.
pub(super) fn carry_out(status: &Status, control: &Control) -> Result<Value, Refusal> {
    let wanted = control.proxy.as_deref().unwrap_or(MAIN);
    let selected = status.select(Some(wanted))?;
    let [of] = selected.as_slice() else {
        let names: Vec<&str> = selected.iter().map(|named| named.name.as_str()).collect();
        return Err(Refusal::Bad(format!("{wanted} has several proxies; name one: {}", names.join(", "))));
    };
    let hand = Hand { status, of, name: &of.name, proxy: &of.proxy, by: &control.by };
    match &control.action {
        ControlAction::Force { circuit, is_open, ttl } => hand.force(circuit, *is_open, *ttl),
        ControlAction::Release { circuit } => hand.release(circuit),
        ControlAction::Drain { cluster, endpoint, ttl } => hand.drain(cluster, endpoint, *ttl),
        ControlAction::Restore { cluster, endpoint } => hand.restore(cluster, endpoint),
        ControlAction::ResetEjection { cluster, endpoint } => hand.reset(cluster, endpoint),
    }
}

/// Somebody's hand on one proxy.
struct Hand<'c> {
    status: &'c Status,
    of: &'c Named,
    name: &'c str,
    proxy: &'c Proxy,
    by: &'c str,
}

impl Hand<'_> {
    fn force(&self, circuit: &str, is_open: bool, ttl: Duration) -> Result<Value, Refusal> {
        let forced = if is_open { Forced::Open } else { Forced::Closed };
        let now = Instant::now();
        if !self.proxy.force_circuit(circuit, forced, ttl) {
            return Err(self.no_circuit(circuit));
        }
        self.status.overrides.note(self.name, What::Circuit(circuit.to_owned()), self.by, now + ttl, now);
        let state = if is_open { "open" } else { "closed" };
        let (proxy, by, seconds) = (self.name, self.by, ttl.as_secs_f64());
        tracing::warn!(proxy, circuit, state, by, seconds, "a circuit is forced by hand");
        self.told(circuit)
    }

    fn release(&self, circuit: &str) -> Result<Value, Refusal> {
        if !self.proxy.release_circuit(circuit) {
            return Err(self.no_circuit(circuit));
        }
        self.status.overrides.forget(self.name, What::Circuit(circuit.to_owned()));
        tracing::warn!(proxy = self.name, circuit, by = self.by, "a circuit is left to itself again");
        self.told(circuit)
    }

    /// The circuit as it is now.
    fn told(&self, circuit: &str) -> Result<Value, Refusal> {
        let all = self.proxy.circuits();
        let report = all.iter().find(|report| &*report.name == circuit).ok_or_else(|| self.no_circuit(circuit))?;
        Ok(circuits::circuit(self.of, report, &self.status.overrides, &Clock::now()))
    }

    fn no_circuit(&self, wanted: &str) -> Refusal {
        let all = self.proxy.circuits();
        let mut text = format!("proxy {} has no circuit {:?}", self.name, wanted);
        let others = self.status.select(None).unwrap_or_default();
        let has_it = |proxy: &Proxy| proxy.circuits().iter().any(|report| &*report.name == wanted);
        match others.iter().find(|other| has_it(&other.proxy)).map(|other| &other.name) {
            Some(other) => text += &format!("; {other} has one: say so with ?proxy={other}"),
            None => text += &nearest(wanted, all.iter().map(|report| &*report.name)),
        }
        Refusal::Unknown(text)
    }

    fn drain(&self, cluster: &str, endpoint: &str, ttl: Duration) -> Result<Value, Refusal> {
        let (address, pod) = self.find(cluster, endpoint)?;
        let now = Instant::now();
        self.proxy.drain_endpoint(cluster, address, ttl).map_err(refusal)?;
        let until = now + ttl;
        self.status.overrides.note(self.name, What::Endpoint(cluster.to_owned(), address), self.by, until, now);
        let (proxy, by, seconds) = (self.name, self.by, ttl.as_secs_f64());
        tracing::warn!(proxy, cluster, %address, pod, by, seconds, "an endpoint is drained by hand");
        let clock = Clock::now();
        Ok(json!({
            "proxy": proxy, "cluster": cluster, "endpoint": pod, "address": address, "by": by,
            "until": clock.told(until), "seconds_left": clock.until(until),
        }))
    }

    fn restore(&self, cluster: &str, endpoint: &str) -> Result<Value, Refusal> {
        let (address, pod) = self.find(cluster, endpoint)?;
        let was_drained = self.proxy.restore_endpoint(cluster, address);
        self.status.overrides.forget(self.name, What::Endpoint(cluster.to_owned(), address));
        let (proxy, by) = (self.name, self.by);
        tracing::warn!(proxy, cluster, %address, pod, by, was_drained, "the drain of an endpoint is ended by hand");
        Ok(json!({
            "proxy": proxy, "cluster": cluster, "endpoint": pod, "address": address, "was_drained": was_drained,
        }))
    }

    fn reset(&self, cluster: &str, endpoint: &str) -> Result<Value, Refusal> {
        let (address, pod) = self.find(cluster, endpoint)?;
        let was_ejected = self.proxy.reset_ejection(cluster, address).map_err(refusal)?;
        let (proxy, by) = (self.name, self.by);
        tracing::warn!(proxy, cluster, %address, pod, by, was_ejected, "the ejection of an endpoint is ended by hand");
        Ok(json!({
            "proxy": proxy, "cluster": cluster, "endpoint": pod, "address": address, "was_ejected": was_ejected,
        }))
    }

    /// The address of an endpoint that was named by it or by its pod, and the name of that.
    fn find(&self, cluster: &str, endpoint: &str) -> Result<(SocketAddr, String), Refusal> {
        let clusters = self.proxy.clusters();
        let Some(found) = clusters.iter().find(|report| report.cluster.name.as_str() == cluster) else {
            let near = nearest(cluster, clusters.iter().map(|report| report.cluster.name.as_str()));
            return Err(Refusal::Unknown(format!("proxy {} has no cluster {cluster:?}{near}", self.name)));
        };
        find(found, endpoint).map(|endpoint| (endpoint.address(), circuits::name(endpoint)))
    }
}

fn find<'r>(cluster: &'r ClusterReport, endpoint: &str) -> Result<&'r EndpointReport, Refusal> {
    let address = endpoint.parse::<SocketAddr>().ok();
    let is_it = |report: &&EndpointReport| match address {
        Some(address) => report.address() == address,
        None => *report.endpoint.workload.pod == *endpoint,
    };
    let mut all = cluster.endpoints.iter().filter(is_it);
    match (all.next(), all.next()) {
        (Some(found), None) => Ok(found),
        (Some(_), Some(_)) => {
            Err(Refusal::Bad(format!("pod {endpoint} has several endpoints here; name one by its address")))
        }
        (None, _) => {
            let names: Vec<String> = cluster.endpoints.iter().map(circuits::name).collect();
            let near = nearest(endpoint, names.iter().map(String::as_str));
            let cluster = &cluster.cluster.name;
            Err(Refusal::Unknown(format!("cluster {cluster} has no endpoint {endpoint:?}{near}")))
        }
    }
}

fn refusal(error: EndpointError) -> Refusal {
    match error {
        EndpointError::NoCluster | EndpointError::NoEndpoint => Refusal::Unknown(error.to_string()),
        EndpointError::TooMany => Refusal::Full(error.to_string()),
    }
}

/// The nearest of the names there are, as the end of a sentence.
pub(super) fn nearest<'n>(wanted: &str, names: impl Iterator<Item = &'n str>) -> String {
    let distance = |name: &&str| strsim::damerau_levenshtein(name, wanted);
    // What a caller wrote may be long; a name is not.
    match names.min_by_key(distance).filter(|_| wanted.len() <= 512) {
        Some(name) => format!("; the nearest name is {name}"),
        None => "; there is none".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_told() {
        let names = ["cart.shop:80", "reviews.shop:80"];
        assert_eq!(nearest("crat.shop:80", names.into_iter()), "; the nearest name is cart.shop:80");
        assert_eq!(nearest("cart", [].into_iter()), "; there is none");
    }
}
