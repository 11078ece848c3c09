//! A cluster: the instances of one service, port and subset, and how to talk to them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::{Balance, Breaker, ConnectionPool, OutlierDetection, RetryBudget, UpstreamTls, Workload};

/// A cluster's name in Istio's form `outbound|PORT|SUBSET|HOST`, `inbound|PORT||`, or `PassthroughCluster`, `BlackHoleCluster`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterName(Arc<str>);

impl ClusterName {
    /// Traffic to hosts that no configuration names, when that is allowed.
    pub const PASSTHROUGH: &'static str = "PassthroughCluster";
    /// Traffic that configuration refuses.
    pub const BLACK_HOLE: &'static str = "BlackHoleCluster";

    /// The outbound cluster of a host's port; an empty subset means all endpoints.
    pub fn outbound(port: u16, subset: &str, host: &str) -> Self {
        Self(format!("outbound|{port}|{subset}|{host}").into())
    }

    /// The cluster of a container's port.
    pub fn inbound(port: u16) -> Self {
        Self(format!("inbound|{port}||").into())
    }

    /// A name of another form.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// Port, subset and host of a name that [`Self::outbound`] made.
    pub fn outbound_parts(&self) -> Option<(u16, &str, &str)> {
        let mut parts = self.0.strip_prefix("outbound|")?.splitn(3, '|');
        Some((parts.next()?.parse().ok()?, parts.next()?, parts.next()?))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The shared text, for labels.
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl std::borrow::Borrow<str> for ClusterName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for ClusterName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// One cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Its name, unique in a snapshot.
    pub name: ClusterName,
    /// The service it belongs to, for metrics.
    pub service: ServiceRef,
    /// Where its endpoints come from.
    pub discovery: Discovery,
    /// Its endpoints; may be empty (then requests get 503 `UH`).
    pub endpoints: Vec<Arc<Endpoint>>,
    /// Names whose addresses are endpoints too, with [`Discovery::Dns`] and [`Discovery::DnsRoundRobin`].
    pub names: Vec<Arc<NamedEndpoint>>,
    /// What is spoken to its endpoints where requests are sent to them.
    pub http: UpstreamHttp,
    /// DestinationRule `proxyProtocol`: each connection begins with such a header.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// How requests are spread.
    pub balance: Balance,
    /// `connectionPool.tcp.connectTimeout`, default 10 s (mesh `connectTimeout`).
    pub connect_timeout: Duration,
    /// `connectionPool`.
    pub pool: ConnectionPool,
    /// `outlierDetection`.
    pub outlier: Option<OutlierDetection>,
    /// Its circuit breaker.
    pub breaker: Option<Arc<Breaker>>,
    /// `retryBudget`; `None`: the proxy's own.
    pub retry_budget: Option<RetryBudget>,
    /// `tls`; not enforced yet.
    pub tls: Option<UpstreamTls>,
    /// The object that shaped it, `namespace/name` of the DestinationRule.
    pub destination_rule: Option<Arc<str>>,
}

/// Where endpoints come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// Named in the snapshot.
    Static,
    /// Named in the snapshot; a request goes to the one whose pod its host names in the first label: `db-0.db.shop.svc` of
    /// a headless Service.
    PodName,
    /// The address the client asked for (Istio `PASSTHROUGH`, ServiceEntry `resolution: NONE`).
    OriginalDestination,
    /// Named in the snapshot, and every address that its names have (ServiceEntry `resolution: DNS`, ExternalName).
    Dns,
    /// One address at a time of a name, the next for every new connection (ServiceEntry `resolution: DNS_ROUND_ROBIN`).
    DnsRoundRobin,
}

/// The version of HTTP that endpoints get requests in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpstreamHttp {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge: ports that speak HTTP/2 or gRPC, and `h2UpgradePolicy: UPGRADE`.
    Http2,
    /// That of the client: `useClientProtocol`, and ports of which nobody says what they speak.
    AsClient,
}

impl UpstreamHttp {
    /// Whether it is HTTP/2, for a client that speaks it or not.
    pub fn is_http2(self, client_does: bool) -> bool {
        match self {
            Self::Http1 => false,
            Self::Http2 => true,
            Self::AsClient => client_does,
        }
    }
}

/// The version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// Instances behind a name of the DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedEndpoint {
    /// The name, lower case, without a dot at its end.
    pub host: Arc<str>,
    /// The port of its addresses.
    pub port: u16,
    /// As of an [`Endpoint`]: weight of each address.
    pub weight: u32,
    /// As of an [`Endpoint`].
    pub priority: u32,
    /// As of an [`Endpoint`].
    pub locality: Locality,
    /// As of an [`Endpoint`].
    pub locality_weight: u32,
    /// As of an [`Endpoint`].
    pub workload: Arc<Workload>,
}

/// The service behind a cluster, as the metrics name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRef {
    /// Full host name, e.g. `reviews.default.svc.cluster.local` (label `destination_service`).
    pub host: Arc<str>,
    /// Short name (label `destination_service_name`).
    pub name: Arc<str>,
    /// Namespace (label `destination_service_namespace`), `unknown` where there is none.
    pub namespace: Arc<str>,
    /// Service port.
    pub port: u16,
    /// Subset name, empty for none.
    pub subset: Arc<str>,
}

/// One instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// Relative weight, at least 1.
    pub weight: u32,
    /// Failover level: 0 is preferred.
    pub priority: u32,
    /// Where it runs.
    pub locality: Locality,
    /// Weight of its locality with [`crate::LocalityMode::Weighted`], else 0.
    pub locality_weight: u32,
    /// The workload it belongs to.
    pub workload: Arc<Workload>,
}

/// A place: region, zone and sub-zone; empty parts are unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locality {
    /// `topology.kubernetes.io/region`.
    pub region: Arc<str>,
    /// `topology.kubernetes.io/zone`.
    pub zone: Arc<str>,
    /// `topology.istio.io/subzone`.
    pub sub_zone: Arc<str>,
}

impl Locality {
    /// Reads Istio's `region/zone/subzone`; missing parts stay empty.
    pub fn parse(text: &str) -> Self {
        let mut parts = text.splitn(3, '/').map(Arc::from);
        let mut next = || parts.next().unwrap_or_default();
        Self { region: next(), zone: next(), sub_zone: next() }
    }
}

impl std::fmt::Display for Locality {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.region)?;
        if !self.zone.is_empty() {
            write!(f, "/{}", self.zone)?;
        }
        if !self.sub_zone.is_empty() {
            write!(f, "/{}", self.sub_zone)?;
        }
        Ok(())
    }
}
