//! Which listeners serve connections of a workload that the system redirects to its sidecar, by where they were to go.
//!
//! Where a port states what it speaks, that decides: HTTP is routed by the outbound listener, TLS and TCP by rules for
//! connections. Where nobody says, the first bytes do. A connection to an address that nothing in the configuration has goes
//! on to it, or is refused, as `outboundTrafficPolicy` says; so do those to the pods of a headless service, which have
//! addresses of their own. Services without any address (ServiceEntries most often) have their port at every address that
//! nobody else has; several share one where their clients name them in the hello of TLS.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use outrigger_model::{
    Balance, BalancePolicy, Capture, Chain, Cluster, ClusterName, ConnectionPool, Direction, Discovery, Listener,
    LocalityMode, Network, RouteTable, Serve, ServiceRef, TcpRoute, Unmatched, UpstreamHttp, Workload,
};

use super::forwards::{Forwarding, Found, destination};
use super::protocol::Protocol;
use crate::hosts;
use crate::kind::mesh_config::MeshConfig;

/// Listeners for redirected connections, and which of them serves what.
#[derive(Debug, Default)]
pub(crate) struct Captured {
    /// Beside the outbound listener, which serves some of the captures.
    pub(crate) listeners: Vec<Listener>,
    /// The first that fits counts.
    pub(crate) captures: Vec<Capture>,
    names: HashSet<Arc<str>>,
}

impl Forwarding<'_> {
    /// What is made of connections that were to go elsewhere; `outbound` are the routes of the outbound listener.
    pub(crate) fn captured(&self, outbound: &Arc<RouteTable>) -> Captured {
        let mut out = Captured::default();
        let unknown = Serve::Detect { http: outbound.clone(), tcp: Arc::new(beyond(outbound.unmatched)) };
        let mut everywhere: BTreeMap<u16, Vec<Found<'_>>> = BTreeMap::new();
        let mut http_everywhere: HashSet<u16> = HashSet::new();
        for found in self.addressable() {
            let addresses = found.addresses();
            let number = found.port.number;
            match found.port.protocol {
                Protocol::Udp => {}
                protocol if protocol.is_http() && addresses.is_empty() => drop(http_everywhere.insert(number)),
                Protocol::Tls | Protocol::Tcp if addresses.is_empty() => {
                    // The pods of a headless service have addresses of their own.
                    if !found.info.is_kubernetes() {
                        everywhere.entry(number).or_default().push(found);
                    }
                }
                Protocol::Http | Protocol::Http2 => out.serve(Listener::OUTBOUND.into(), &addresses, number),
                Protocol::Undetermined => {
                    let http = Arc::new(of_service(outbound, &found));
                    let chains = self.chains_at(found, &addresses);
                    out.add(found.name(), number, &addresses, detecting(chains, &http));
                }
                Protocol::Tls | Protocol::Tcp => {
                    out.add(found.name(), number, &addresses, self.chains_at(found, &addresses));
                }
            }
        }
        for (port, services) in everywhere {
            let chains = self.chains_everywhere(&services, &unknown);
            let chains = if http_everywhere.contains(&port) { detecting(chains, outbound) } else { chains };
            out.add(format!("outbound|{port}").into(), port, &[], chains);
        }
        out.add(UNKNOWN.into(), 0, &[], vec![Chain { server_names: Vec::new(), tls: None, serve: unknown }]);
        out
    }

    /// The chains of services that share all addresses of a port: the name in a hello tells them apart.
    fn chains_everywhere(&self, services: &[Found<'_>], unknown: &Serve) -> Vec<Chain> {
        let mut chains: Vec<Chain> = Vec::new();
        let mut rest = None;
        for found in services {
            let is_tls = found.port.protocol == Protocol::Tls;
            for mut chain in self.chains_at(*found, &[]) {
                if chain.server_names.is_empty() {
                    if !is_tls {
                        // Who names nobody can mean one of them only: the first.
                        rest.get_or_insert(chain.serve);
                        continue;
                    }
                    chain.server_names = vec![hosts::pattern(&found.info.host)];
                }
                let is_new = |name: &_| !chains.iter().any(|other| other.server_names.contains(name));
                chain.server_names.retain(is_new);
                if !chain.server_names.is_empty() {
                    chains.push(chain);
                }
            }
        }
        let serve = rest.unwrap_or_else(|| unknown.clone());
        chains.push(Chain { server_names: Vec::new(), tls: None, serve });
        chains
    }
}

impl Captured {
    /// Adds a listener that serves connections to these addresses (none: all) and this port (0: all). A name that is there
    /// already is that of an equal service, which came first.
    fn add(&mut self, name: Arc<str>, port: u16, addresses: &[IpAddr], chains: Vec<Chain>) {
        if self.names.insert(name.clone()) {
            self.serve(name.clone(), addresses, port);
            let direction = Direction::Outbound;
            self.listeners.push(Listener { name, direction, port, proxy_protocol: None, chains });
        }
    }

    fn serve(&mut self, listener: Arc<str>, addresses: &[IpAddr], port: u16) {
        let one = |address: &IpAddr| Network { address: *address, prefix: if address.is_ipv4() { 32 } else { 128 } };
        let addresses = addresses.iter().map(one).collect();
        self.captures.push(Capture { socket: Listener::OUTBOUND.into(), addresses, port, listener });
    }
}

impl Found<'_> {
    /// The virtual addresses of the service.
    fn addresses(&self) -> Vec<IpAddr> {
        let read = |text: &Arc<str>| text.trim_matches(['[', ']']).parse().ok();
        self.info.addresses.iter().filter_map(read).collect()
    }

    /// The name of the listener for redirected connections to it.
    fn name(&self) -> Arc<str> {
        format!("outbound|{}|{}", self.port.number, self.info.host).into()
    }
}

/// The listener for what no service is for.
const UNKNOWN: &str = "outbound|unknown";

/// The chains, where what begins like HTTP is routed instead. TLS does not begin so, and goes by its name.
fn detecting(chains: Vec<Chain>, http: &Arc<RouteTable>) -> Vec<Chain> {
    let detect = |mut chain: Chain| {
        if let Serve::Tcp(tcp) = &chain.serve
            && chain.server_names.is_empty()
        {
            chain.serve = Serve::Detect { http: http.clone(), tcp: tcp.clone() };
        }
        chain
    };
    chains.into_iter().map(detect).collect()
}

/// The routes of one port of a service: a client that connects to its address has chosen it already.
fn of_service(outbound: &RouteTable, found: &Found<'_>) -> RouteTable {
    let name = format!("{}:{}", found.info.host, found.port.number);
    let own = outbound.virtual_hosts.iter().filter(|vhost| *vhost.name == *name).cloned();
    RouteTable { virtual_hosts: own.collect(), unmatched: outbound.unmatched }
}

/// Where bytes go that are for nobody in the configuration.
fn beyond(unmatched: Unmatched) -> TcpRoute {
    let cluster = match unmatched {
        Unmatched::Passthrough => ClusterName::PASSTHROUGH,
        Unmatched::BlackHole | Unmatched::NotFound => ClusterName::BLACK_HOLE,
    };
    TcpRoute { origin: None, destinations: vec![destination(ClusterName::new(cluster), None)] }
}

/// The cluster of connections that go on to where they were to go.
pub(crate) fn passthrough(mesh: &MeshConfig) -> Cluster {
    original(ClusterName::new(ClusterName::PASSTHROUGH), ClusterName::PASSTHROUGH, mesh.connect_timeout)
}

/// A cluster of whatever address a connection was to go to; metrics give it as a service of this name.
pub(crate) fn original(name: ClusterName, service: &str, connect_timeout: std::time::Duration) -> Cluster {
    let unknown: Arc<str> = Workload::UNKNOWN.into();
    Cluster {
        service: ServiceRef {
            host: unknown.clone(),
            name: service.into(),
            namespace: unknown,
            port: 0,
            subset: Arc::default(),
        },
        name,
        discovery: Discovery::OriginalDestination,
        endpoints: Vec::new(),
        names: Vec::new(),
        http: UpstreamHttp::AsClient,
        proxy_protocol: None,
        balance: Balance { policy: BalancePolicy::Passthrough, warmup: None, locality: LocalityMode::Priority },
        connect_timeout,
        pool: ConnectionPool::default(),
        outlier: None,
        breaker: None,
        retry_budget: None,
        tls: None,
        destination_rule: None,
    }
}
