//! What the sidecar of one pod obeys: the outbound view of its workload, and an inbound listener for each of its ports.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use outrigger_model::{
    Action, Balance, BalancePolicy, Chain, Cluster, ClusterName, ConnectionPool, Destination, Direction, Discovery,
    Domain, DomainPort, Endpoint, Forward, HeaderEdits, HostPattern, Inbound, Listener, Locality, LocalityMode,
    Rewrite, Route, RouteMatch, RouteTable, Serve, ServiceRef, Snapshot, TcpRoute, Unmatched, UpstreamHttp,
    VirtualHost, Workload,
};

use super::{SimulatedPod, SimulatedPort};
use crate::translate::fingerprint;

/// The application is beside the proxy; it answers at once or not at all, but Istio's default is what people know.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Who is behind every address of the mesh.
#[derive(Clone, Debug, Default)]
pub struct Peers {
    workloads: Arc<HashMap<IpAddr, Arc<Workload>>>,
    /// Of the content; worked out once for all sidecars.
    fingerprint: u64,
}

impl Peers {
    /// By address.
    pub fn workloads(&self) -> &Arc<HashMap<IpAddr, Arc<Workload>>> {
        &self.workloads
    }
}

/// Who is behind the addresses of pods and gateways.
pub fn peers(pods: &[Arc<SimulatedPod>], gateways: &[(Ipv4Addr, Arc<Workload>)]) -> Peers {
    let of_pods = pods.iter().map(|pod| (pod.address, &pod.facts));
    let all = of_pods.chain(gateways.iter().map(|(address, facts)| (*address, facts)));
    let mut workloads = HashMap::with_capacity(pods.len() + gateways.len());
    let mut parts = Vec::with_capacity(pods.len() + gateways.len());
    for (address, facts) in all {
        parts.push(fingerprint::peer(address, facts));
        workloads.insert(IpAddr::V4(address), facts.clone());
    }
    Peers { workloads: Arc::new(workloads), fingerprint: fingerprint::combine(parts.into_iter()) }
}

/// The snapshot of a pod's sidecar: the outbound view of its workload, and an inbound listener and cluster for each port.
///
/// `applications` says where the container behind each port listens; a port that is not among them is not served.
/// `before` is the last snapshot of the same pod, whose parts are lent where they are the same; its outbound parts are
/// those of `outbound`. The summaries of services stay with `outbound`, where the start-up report finds them.
pub fn sidecar(
    outbound: &Snapshot,
    pod: &SimulatedPod,
    applications: &[(u16, SocketAddr)],
    peers: &Peers,
    before: Option<&Snapshot>,
) -> Snapshot {
    let mut listeners = outbound.listeners.clone();
    let mut clusters = outbound.clusters.clone();
    let mut parts = vec![outbound.version, fingerprint::workload(&pod.facts, &outbound.mesh), peers.fingerprint];
    for port in &pod.ports {
        let Some((_, application)) = applications.iter().find(|(number, _)| *number == port.port) else { continue };
        let listener = listener(port);
        let cluster = cluster(pod, port, *application);
        parts.extend([
            fingerprint::listener(&listener, |vhost| fingerprint::virtual_host(vhost)),
            fingerprint::cluster(&cluster),
        ]);
        parts.push(fingerprint::service(&cluster.service));
        listeners.push(match before.and_then(|before| before.listener(&listener.name)) {
            Some(same) if **same == listener => same.clone(),
            _ => Arc::new(listener),
        });
        let cluster = match before.and_then(|before| before.clusters.get(&cluster.name)) {
            Some(same) if **same == cluster => same.clone(),
            _ => Arc::new(cluster),
        };
        clusters.insert(cluster.name.clone(), cluster);
    }
    Snapshot {
        version: fingerprint::combine(parts.into_iter()),
        workload: pod.facts.clone(),
        mesh: outbound.mesh.clone(),
        listeners,
        captures: Arc::default(),
        clusters,
        peers: peers.workloads.clone(),
        services: Vec::new(),
    }
}

/// The listener of a port.
pub(super) fn listener(port: &SimulatedPort) -> Listener {
    let http = || Arc::new(routes(port));
    let tcp = || Arc::new(TcpRoute { origin: None, destinations: vec![destination(port.port)] });
    let serve = match (port.is_http(), port.http) {
        (true, UpstreamHttp::AsClient) => Serve::Detect { http: http(), tcp: tcp() },
        (true, UpstreamHttp::Http1 | UpstreamHttp::Http2) => Serve::Http(http()),
        (false, _) => Serve::Tcp(tcp()),
    };
    let inbound = Inbound { container: port.container.clone(), port: port.port, port_name: port.name.clone() };
    Listener {
        name: Listener::inbound_name(port.port),
        direction: Direction::Inbound(Arc::new(inbound)),
        port: port.port,
        proxy_protocol: None,
        chains: vec![Chain { server_names: Vec::new(), tls: None, serve }],
    }
}

/// Everything goes to the application: who it was meant for was decided on the other side.
fn routes(port: &SimulatedPort) -> RouteTable {
    let number = port.port;
    let mut table = routes_of(format!("inbound|http|{number}").into(), destination(number));
    let routes = table.virtual_hosts.iter_mut().flat_map(|vhost| &mut Arc::make_mut(vhost).routes);
    for route in routes {
        let route = Arc::make_mut(route);
        route.rate_limits.clone_from(&port.rate_limits);
        route.body_limits = port.body_limits;
    }
    table
}

/// A table, with a virtual host of this name, by which everything goes to one destination.
pub(super) fn routes_of(name: Arc<str>, destination: Destination) -> RouteTable {
    let route = Route {
        name: "default".into(),
        origin: None,
        matches: RouteMatch::default(),
        action: Action::Forward(Forward { destinations: vec![destination], rewrite: Rewrite::default() }),
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        cors: None,
        timeout: None,
        retry: None,
        fault: None,
        rate_limits: Vec::new(),
        body_limits: Default::default(),
        mirrors: Vec::new(),
    };
    let vhost = VirtualHost {
        name,
        domains: vec![Domain { host: HostPattern::Any, port: DomainPort::Any }],
        routes: vec![Arc::new(route)],
    };
    RouteTable { virtual_hosts: vec![Arc::new(vhost)], unmatched: Unmatched::NotFound }
}

fn destination(port: u16) -> Destination {
    destination_of(ClusterName::inbound(port))
}

/// A destination without conditions.
pub(super) fn destination_of(cluster: ClusterName) -> Destination {
    Destination {
        cluster,
        missing: None,
        weight: 1,
        authority: None,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
    }
}

fn cluster(pod: &SimulatedPod, port: &SimulatedPort, application: SocketAddr) -> Cluster {
    let endpoint = Endpoint {
        address: application,
        weight: 1,
        priority: 0,
        locality: Locality::default(),
        locality_weight: 0,
        workload: pod.facts.clone(),
    };
    Cluster {
        name: ClusterName::inbound(port.port),
        service: service_of(&pod.facts, port),
        discovery: Discovery::Static,
        endpoints: vec![Arc::new(endpoint)],
        names: Vec::new(),
        http: port.http,
        proxy_protocol: None,
        balance: Balance { policy: BalancePolicy::RoundRobin, warmup: None, locality: LocalityMode::Priority },
        connect_timeout: CONNECT_TIMEOUT,
        pool: ConnectionPool::default(),
        outlier: None,
        breaker: None,
        retry_budget: None,
        tls: None,
        destination_rule: None,
    }
}

/// The service of a port for the metrics. Where no Service sends there, Istio says the canonical service of the workload.
pub(super) fn service_of(facts: &Workload, port: &SimulatedPort) -> ServiceRef {
    port.service.clone().unwrap_or_else(|| ServiceRef {
        host: facts.canonical_service.clone(),
        name: facts.canonical_service.clone(),
        namespace: facts.namespace.clone(),
        port: port.port,
        subset: Arc::default(),
    })
}
