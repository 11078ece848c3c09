//! What DestinationRules and routes say of connections and copies: limits, keep-alive, TLS, mirrors, and the shares they use.
//!
//! All of it is translated completely. `tls` of a DestinationRule is not enforced yet, and the translation reports it, with
//! its place.

use std::sync::Arc;
use std::time::Duration;

use crate::ClusterName;

/// A share in millionths, Envoy's finest denominator: exact for Istio's 0.0001 % steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fraction(u32);

impl Fraction {
    /// Everything.
    pub const ALL: Self = Self(1_000_000);

    /// From a percentage; `None` outside 0 to 100 or when not a number.
    pub fn from_percent(percent: f64) -> Option<Self> {
        (0.0..=100.0).contains(&percent).then(|| Self((percent * 10_000.0).round() as u32))
    }

    /// From a numerator and a denominator; `None` when the denominator is 0 or less than the numerator.
    pub fn from_ratio(numerator: u32, denominator: u32) -> Option<Self> {
        let exact = (u64::from(numerator) * 1_000_000).checked_div(u64::from(denominator))?;
        u32::try_from(exact).ok().filter(|m| *m <= 1_000_000).map(Self)
    }

    /// Millionths, 0 to 1,000,000.
    pub fn millionths(self) -> u32 {
        self.0
    }
}

/// Istio `connectionPool`; `None` means Istio's default of no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionPool {
    /// `tcp.maxConnections`.
    pub connections_max: Option<u32>,
    /// `http.http1MaxPendingRequests`, for HTTP/1 and HTTP/2.
    pub pending_max: Option<u32>,
    /// `http.http2MaxRequests`, for HTTP/1 and HTTP/2.
    pub requests_max: Option<u32>,
    /// `http.maxRetries`.
    pub retries_max: Option<u32>,
    /// `http.maxRequestsPerConnection`; 1 turns keep-alive off. Enforced.
    pub requests_per_connection_max: Option<u32>,
    /// `http.idleTimeout`. Enforced on upstream connections, capped by the proxy's own pool limit.
    pub idle_timeout: Option<Duration>,
    /// `tcp.maxConnectionDuration`.
    pub connection_duration_max: Option<Duration>,
    /// `tcp.idleTimeout` of relayed bytes; none: one hour.
    pub tcp_idle_timeout: Option<Duration>,
    /// `tcp.tcpKeepalive`.
    pub keepalive: Option<TcpKeepalive>,
    /// `http.maxConcurrentStreams` of a connection of HTTP/2; the instance's own limit counts too.
    pub streams_max: Option<u32>,
    /// `http.http2KeepAlive`; none: the proxy's own.
    pub http2_keepalive: Option<Http2KeepAlive>,
}

/// `tcpKeepalive`; `None` is the proxy's own value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpKeepalive {
    /// `probes` without answer until the peer counts as gone.
    pub probes: Option<u32>,
    /// `time` of silence before the first probe.
    pub time: Option<Duration>,
    /// `interval` between probes.
    pub interval: Option<Duration>,
}

/// `http2KeepAlive`: PING frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2KeepAlive {
    /// `interval` between them.
    pub interval: Duration,
    /// `timeout` of an answer.
    pub timeout: Duration,
}

/// DestinationRule `tls.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Plain text.
    Disable,
    /// Server certificate only.
    Simple,
    /// Client certificate from files or a secret.
    Mutual,
    /// Client certificate from the mesh.
    IstioMutual,
}

/// DestinationRule `tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// `mode`.
    pub mode: TlsMode,
    /// `sni`.
    pub sni: Option<Arc<str>>,
    /// `subjectAltNames`.
    pub subject_alt_names: Vec<Arc<str>>,
    /// `credentialName`.
    pub credential: Option<Arc<str>>,
    /// `clientCertificate`.
    pub client_certificate: Option<Arc<str>>,
    /// `privateKey` (a path, never the key).
    pub private_key: Option<Arc<str>>,
    /// `caCertificates`.
    pub ca_certificates: Option<Arc<str>>,
    /// `insecureSkipVerify`.
    pub skip_verify: bool,
}

/// VirtualService `mirror` / `mirrors[]`, HTTPRoute `RequestMirror`. Enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Where copies go.
    pub cluster: ClusterName,
    /// How many of them; all when absent.
    pub share: Fraction,
}
