//! Istio `DestinationRule`: how to treat traffic to a host once it is routed, and the host's subsets.
//!
//! Blocks that the data plane does not obey yet are decoded completely and reported once, at their place. Which rule
//! counts for a host, and how rule, subset and port merge, is decided in `translate::policy`.

use std::sync::Arc;
use std::time::Duration;

use outrigger_model as model;

use super::balancer::LoadBalancer;
use super::istio::{ExportTo, PortSelector, Unmodelled, duration_1ms, later, spanned};
use super::outlier::{self, Detection};
use crate::address;
use crate::codes;
use crate::decode::{Cx, Fields, clip};
use crate::node::{Pos, Spanned};
use crate::object::{Labels, Metadata, Resource};
use crate::scalar;
use crate::{choices, object};

/// A DestinationRule.
#[derive(Clone, Debug)]
pub struct DestinationRule {
    /// Name, namespace, labels, and where it stands.
    pub meta: Metadata,
    /// `spec`, its `outlierDetection`s completed by the annotation.
    pub spec: DestinationRuleSpec,
}

impl Resource for DestinationRule {
    fn decode_body(meta: Metadata, fields: &mut Fields<'_, '_>, cx: &mut Cx) -> Option<Self> {
        let spec: Option<DestinationRuleSpec> = fields.required("spec", cx);
        fields.ignore(&["status"]);
        let mut spec = spec?;
        outlier::complete(&meta, spec.detections(), cx);
        Some(Self { meta, spec })
    }

    fn meta(&self) -> &Metadata {
        &self.meta
    }
}

impl DestinationRuleSpec {
    /// All of its `outlierDetection`s.
    fn detections(&mut self) -> Vec<&mut Arc<Detection>> {
        let policies =
            self.policy.iter_mut().chain(self.subsets.iter_mut().filter_map(|subset| subset.policy.as_mut()));
        policies
            .flat_map(|p| p.outlier.iter_mut().chain(p.ports.iter_mut().filter_map(|port| port.outlier.as_mut())))
            .collect()
    }
}

object! {
    /// `spec`.
    pub struct DestinationRuleSpec {
        /// `host`: a name without dot belongs to the rule's namespace.
        pub host: Spanned<Arc<str>> = required_with(spanned(address::host_or_wildcard)) "host",
        /// `trafficPolicy`.
        pub policy: Option<TrafficPolicy> = optional "trafficPolicy",
        /// `subsets`.
        pub subsets: Vec<Subset> = or_default "subsets",
        /// `exportTo`; empty means the mesh's default.
        pub export_to: Vec<ExportTo> = or_default "exportTo",
        /// `workloadSelector`: only these clients of the namespace.
        pub selector: Option<MatchLabels> = optional "workloadSelector",
    }
    check check_spec
}

fn check_spec(spec: &DestinationRuleSpec, _: Pos, cx: &mut Cx) {
    for (index, subset) in spec.subsets.iter().enumerate() {
        if spec.subsets[..index].iter().any(|s| s.name.value == subset.name.value) {
            let message = format!("subsets[{index}].name: {:?} is defined twice in this rule", clip(&subset.name));
            cx.report(codes::SCHEMA, subset.name.pos, message, "give each subset a name of its own");
        }
    }
}

object! {
    /// `workloadSelector` with `matchLabels`.
    pub struct MatchLabels {
        /// `matchLabels`.
        pub labels: Labels = or_default "matchLabels",
    }
}

object! {
    /// A named part of the host's endpoints.
    pub struct Subset {
        /// `name`.
        pub name: Spanned<Arc<str>> = required_with(spanned(scalar::non_empty)) "name",
        /// `labels` an endpoint must have.
        pub labels: Labels = or_default "labels",
        /// `trafficPolicy`, over that of the rule block by block.
        pub policy: Option<TrafficPolicy> = optional "trafficPolicy",
    }
}

object! {
    /// `trafficPolicy`.
    pub struct TrafficPolicy {
        /// `loadBalancer`.
        pub load_balancer: Option<Arc<LoadBalancer>> = optional "loadBalancer",
        /// `connectionPool`.
        pub connection_pool: Option<Arc<ConnectionPool>> = optional "connectionPool",
        /// `outlierDetection`.
        pub outlier: Option<Arc<Detection>> = optional "outlierDetection",
        /// `tls`.
        pub tls: Option<Arc<Tls>> = with(later) "tls",
        /// `portLevelSettings`.
        pub ports: Vec<PortPolicy> = or_default "portLevelSettings",
        /// `tunnel`.
        pub tunnel: Option<Tunnel> = with(later) "tunnel",
        /// `proxyProtocol`.
        pub proxy_protocol: Option<ProxyProtocol> = optional "proxyProtocol",
        /// `retryBudget`.
        pub retry_budget: Option<RetryBudget> = optional "retryBudget",
    }
}

object! {
    /// One of `portLevelSettings`; its blocks replace all four of the rule.
    pub struct PortPolicy {
        /// `port.number`, the service port.
        pub port: PortSelector = required "port",
        /// `loadBalancer`.
        pub load_balancer: Option<Arc<LoadBalancer>> = optional "loadBalancer",
        /// `connectionPool`.
        pub connection_pool: Option<Arc<ConnectionPool>> = optional "connectionPool",
        /// `outlierDetection`.
        pub outlier: Option<Arc<Detection>> = optional "outlierDetection",
        /// `tls`.
        pub tls: Option<Arc<Tls>> = with(later) "tls",
    }
}

object! {
    /// `connectionPool`.
    pub struct ConnectionPool {
        /// `tcp`.
        pub tcp: Option<TcpPool> = optional "tcp",
        /// `http`.
        pub http: Option<HttpPool> = optional "http",
    }
}

object! {
    /// `connectionPool.tcp`.
    pub struct TcpPool {
        /// `maxConnections`.
        pub connections_max: Option<i32> = optional "maxConnections",
        /// `connectTimeout`.
        pub connect_timeout: Option<Duration> = with(duration_1ms) "connectTimeout",
        /// `tcpKeepalive`.
        pub keepalive: Option<TcpKeepalive> = optional "tcpKeepalive",
        /// `maxConnectionDuration`.
        pub connection_duration_max: Option<Duration> = with(duration_1ms) "maxConnectionDuration",
        /// `idleTimeout` of relayed bytes, and of connections for HTTP where `http` has none.
        pub idle_timeout: Option<Duration> = optional "idleTimeout",
    }
    check check_tcp_pool
}

object! {
    /// `connectionPool.tcp.tcpKeepalive`.
    pub struct TcpKeepalive {
        /// `probes`.
        pub probes: Option<u32> = with(scalar::u32_or_string) "probes",
        /// `time`.
        pub time: Option<Duration> = with(duration_1ms) "time",
        /// `interval`.
        pub interval: Option<Duration> = with(duration_1ms) "interval",
    }
}

impl TcpKeepalive {
    /// As the model has it; no probes are Istio's word for the default.
    pub fn model(&self) -> model::TcpKeepalive {
        model::TcpKeepalive { probes: self.probes.filter(|p| *p > 0), time: self.time, interval: self.interval }
    }
}

object! {
    /// `connectionPool.http`.
    pub struct HttpPool {
        /// `http1MaxPendingRequests`.
        pub pending_max: Option<i32> = optional "http1MaxPendingRequests",
        /// `http2MaxRequests`.
        pub requests_max: Option<i32> = optional "http2MaxRequests",
        /// `maxRequestsPerConnection`; 0 is unlimited.
        pub requests_per_connection_max: Option<i32> = optional "maxRequestsPerConnection",
        /// `maxRetries`.
        pub retries_max: Option<i32> = optional "maxRetries",
        /// `idleTimeout`.
        pub idle_timeout: Option<Duration> = with(duration_1ms) "idleTimeout",
        /// `h2UpgradePolicy`.
        pub h2_upgrade: Option<H2Upgrade> = optional "h2UpgradePolicy",
        /// `useClientProtocol`.
        pub use_client_protocol: Option<bool> = optional "useClientProtocol",
        /// `maxConcurrentStreams`.
        pub concurrent_streams_max: Option<i32> = optional "maxConcurrentStreams",
        /// `http2KeepAlive`.
        pub http2_keepalive: Option<Http2KeepAlive> = optional "http2KeepAlive",
    }
    check check_http_pool
}

object! {
    /// `connectionPool.http.http2KeepAlive`.
    pub struct Http2KeepAlive {
        /// `interval`.
        pub interval: Duration = required_with(duration_1ms) "interval",
        /// `timeout`.
        pub timeout: Duration = required_with(duration_1ms) "timeout",
    }
}

choices! {
    /// `h2UpgradePolicy`.
    pub enum H2Upgrade {
        /// As the mesh says.
        Default = "DEFAULT" 0,
        /// Stay with HTTP/1.1.
        DoNotUpgrade = "DO_NOT_UPGRADE" 1,
        /// Use HTTP/2.
        Upgrade = "UPGRADE" 2,
    }
}

fn check_tcp_pool(pool: &TcpPool, pos: Pos, cx: &mut Cx) {
    non_negative("maxConnections", pool.connections_max, pos, cx);
}

fn check_http_pool(pool: &HttpPool, pos: Pos, cx: &mut Cx) {
    let all = [
        ("http1MaxPendingRequests", pool.pending_max),
        ("http2MaxRequests", pool.requests_max),
        ("maxRequestsPerConnection", pool.requests_per_connection_max),
        ("maxRetries", pool.retries_max),
        ("maxConcurrentStreams", pool.concurrent_streams_max),
    ];
    for (field, value) in all {
        non_negative(field, value, pos, cx);
    }
    if pool.h2_upgrade == Some(H2Upgrade::Upgrade) && pool.use_client_protocol == Some(true) {
        let message = "useClientProtocol must not be true where h2UpgradePolicy is UPGRADE";
        cx.report(codes::SCHEMA, pos, message, "keep one of the two");
    }
}

fn non_negative(field: &'static str, value: Option<i32>, pos: Pos, cx: &mut Cx) {
    if let Some(value) = value.filter(|v| *v < 0) {
        cx.report(codes::SCHEMA, pos, format!("{field}: found {value}, expected 0 or more"), "");
    }
}

impl ConnectionPool {
    /// The limits; zero means Istio's default of no limit, as in Istio.
    pub fn model(&self) -> model::ConnectionPool {
        let limit = |value: Option<i32>| value.and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0);
        let tcp = self.tcp.as_ref();
        let http = self.http.as_ref();
        model::ConnectionPool {
            connections_max: limit(tcp.and_then(|t| t.connections_max)),
            pending_max: limit(http.and_then(|h| h.pending_max)),
            requests_max: limit(http.and_then(|h| h.requests_max)),
            retries_max: limit(http.and_then(|h| h.retries_max)),
            requests_per_connection_max: limit(http.and_then(|h| h.requests_per_connection_max)),
            idle_timeout: http.and_then(|h| h.idle_timeout).or(tcp.and_then(|t| t.idle_timeout)),
            connection_duration_max: tcp.and_then(|t| t.connection_duration_max),
            tcp_idle_timeout: tcp.and_then(|t| t.idle_timeout),
            keepalive: tcp.and_then(|t| t.keepalive.as_ref()).map(TcpKeepalive::model),
            streams_max: limit(http.and_then(|h| h.concurrent_streams_max)),
            http2_keepalive: http
                .and_then(|h| h.http2_keepalive.as_ref())
                .map(|k| model::Http2KeepAlive { interval: k.interval, timeout: k.timeout }),
        }
    }
}

choices! {
    /// `tls.mode`.
    pub enum TlsMode {
        /// Plain text.
        Disable = "DISABLE" 0,
        /// Server certificate only.
        Simple = "SIMPLE" 1,
        /// Client certificate of the user.
        Mutual = "MUTUAL" 2,
        /// Client certificate of the mesh.
        IstioMutual = "ISTIO_MUTUAL" 3,
    }
}

object! {
    /// `tls`.
    pub struct Tls {
        /// `mode`.
        pub mode: Option<TlsMode> = optional "mode",
        /// `clientCertificate`.
        pub client_certificate: Option<Arc<str>> = optional "clientCertificate",
        /// `privateKey`, a path.
        pub private_key: Option<Arc<str>> = optional "privateKey",
        /// `caCertificates`.
        pub ca_certificates: Option<Arc<str>> = optional "caCertificates",
        /// `caCrl`.
        pub ca_crl: Option<Unmodelled> = optional "caCrl",
        /// `credentialName`.
        pub credential: Option<Arc<str>> = optional "credentialName",
        /// `subjectAltNames`.
        pub subject_alt_names: Vec<Arc<str>> = or_default "subjectAltNames",
        /// `sni`.
        pub sni: Option<Arc<str>> = optional "sni",
        /// `insecureSkipVerify`.
        pub skip_verify: bool = or_default "insecureSkipVerify",
    }
    check check_tls
}

fn check_tls(tls: &Tls, pos: Pos, cx: &mut Cx) {
    let mode = tls.mode.unwrap_or(TlsMode::Disable);
    let files = tls.client_certificate.is_some() || tls.private_key.is_some();
    if mode == TlsMode::Mutual
        && tls.credential.is_none()
        && !(tls.client_certificate.is_some() && tls.private_key.is_some())
    {
        let message = "mode MUTUAL needs `clientCertificate` and `privateKey`, or `credentialName`";
        cx.report(codes::SCHEMA, pos, message, "");
    }
    if mode == TlsMode::IstioMutual && (files || tls.credential.is_some() || tls.ca_certificates.is_some()) {
        let message = "mode ISTIO_MUTUAL takes its certificates from the mesh, but certificate fields are given";
        cx.report(codes::SCHEMA, pos, message, "remove them, or use mode MUTUAL");
    }
}

impl Tls {
    /// As the model has it; an absent mode is DISABLE, the first of the API.
    pub fn model(&self) -> model::UpstreamTls {
        model::UpstreamTls {
            mode: match self.mode.unwrap_or(TlsMode::Disable) {
                TlsMode::Disable => model::TlsMode::Disable,
                TlsMode::Simple => model::TlsMode::Simple,
                TlsMode::Mutual => model::TlsMode::Mutual,
                TlsMode::IstioMutual => model::TlsMode::IstioMutual,
            },
            sni: self.sni.clone(),
            subject_alt_names: self.subject_alt_names.clone(),
            credential: self.credential.clone(),
            client_certificate: self.client_certificate.clone(),
            private_key: self.private_key.clone(),
            ca_certificates: self.ca_certificates.clone(),
            skip_verify: self.skip_verify,
        }
    }
}

object! {
    /// `tunnel`.
    pub struct Tunnel {
        /// `protocol`: CONNECT or POST.
        pub protocol: Option<Arc<str>> = optional "protocol",
        /// `targetHost`.
        pub target_host: Arc<str> = required "targetHost",
        /// `targetPort`.
        pub target_port: u16 = required_with(scalar::port) "targetPort",
    }
}

choices! {
    /// `proxyProtocol.version`.
    pub enum ProxyProtocolVersion {
        /// Text form.
        V1 = "V1" 0,
        /// Binary form.
        V2 = "V2" 1,
    }
}

object! {
    /// `proxyProtocol`.
    pub struct ProxyProtocol {
        /// `version`, V1 when absent.
        pub version: Option<ProxyProtocolVersion> = optional "version",
    }
}

impl ProxyProtocol {
    /// As the model has it.
    pub fn model(&self) -> model::ProxyProtocol {
        match self.version {
            Some(ProxyProtocolVersion::V1) | None => model::ProxyProtocol::V1,
            Some(ProxyProtocolVersion::V2) => model::ProxyProtocol::V2,
        }
    }
}

object! {
    /// `retryBudget`.
    pub struct RetryBudget {
        /// `percent` of active requests, 20 when absent.
        pub percent: Option<f64> = with(scalar::percent) "percent",
        /// `minRetryConcurrency`, 3 when absent or 0.
        pub concurrency_min: Option<u32> = with(scalar::u32_or_string) "minRetryConcurrency",
        /// `budgetInterval`, 0 when absent.
        pub interval: Option<Duration> = optional "budgetInterval",
    }
}

impl RetryBudget {
    /// With Istio's defaults filled in; no concurrency is its word for the default.
    pub fn model(&self) -> model::RetryBudget {
        const PERCENT: f64 = 20.0;
        const CONCURRENCY: u32 = 3;
        model::RetryBudget {
            percent: model::Fraction::from_percent(self.percent.unwrap_or(PERCENT)).unwrap_or(model::Fraction::ALL),
            concurrency_min: self.concurrency_min.filter(|min| *min > 0).unwrap_or(CONCURRENCY),
            interval: self.interval.unwrap_or_default(),
        }
    }
}
