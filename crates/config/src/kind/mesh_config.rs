//! Istio `MeshConfig`: settings of the whole mesh, from key `mesh` of ConfigMap `istio` in the root namespace.

use std::sync::Arc;
use std::time::Duration;

use super::balancer::LocalitySetting;
use super::destination_rule::{ConnectionPool, TcpKeepalive};
use super::istio::{ExportTo, Unmodelled, duration_1ms};
use super::outlier::Detection;
use super::resilience::{Retries, mesh_retries};
use super::sidecar::OutboundTrafficPolicy;
use crate::choices;
use crate::decode::{Cx, Decode, Fields};
use crate::node::Node;
use crate::object;
use crate::scalar;

/// The settings that count, absent ones at Istio's defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct MeshConfig {
    /// `trustDomain`, `cluster.local`.
    pub trust_domain: Arc<str>,
    /// `rootNamespace`, `istio-system`.
    pub root_namespace: Arc<str>,
    /// `connectTimeout`, 10 s.
    pub connect_timeout: Duration,
    /// `protocolDetectionTimeout`; zero, Istio's "wait for ever", counts as absent: the proxy's own 3 s.
    pub detect_timeout: Option<Duration>,
    /// `h2UpgradePolicy`, DO_NOT_UPGRADE: ports of HTTP/1.1 get HTTP/2 where no DestinationRule says otherwise.
    pub h2_upgrade: MeshUpgrade,
    /// `tcpKeepalive`, for what a DestinationRule leaves open.
    pub keepalive: Option<TcpKeepalive>,
    /// `outboundTrafficPolicy`, ALLOW_ANY.
    pub outbound: Option<OutboundTrafficPolicy>,
    /// `localityLbSetting`, enabled.
    pub locality: LocalitySetting,
    /// `defaultServiceExportTo`, `*`.
    pub service_export_to: Vec<ExportTo>,
    /// `defaultVirtualServiceExportTo`, `*`.
    pub virtual_service_export_to: Vec<ExportTo>,
    /// `defaultDestinationRuleExportTo`, `*`.
    pub destination_rule_export_to: Vec<ExportTo>,
    /// `defaultHttpRetryPolicy`: two attempts.
    pub retries: Option<Retries>,
    /// `defaultTrafficPolicy`.
    pub policy: Option<DefaultTrafficPolicy>,
}

object! {
    /// `defaultTrafficPolicy`: blocks for rules that have none of their own.
    pub struct DefaultTrafficPolicy {
        /// `connectionPool`.
        pub connection_pool: Option<Arc<ConnectionPool>> = optional "connectionPool",
        /// `outlierDetection`.
        pub outlier: Option<Arc<Detection>> = optional "outlierDetection",
    }
}

choices! {
    /// `h2UpgradePolicy`.
    #[derive(Default)]
    pub enum MeshUpgrade {
        /// Ports of HTTP/1.1 get HTTP/1.1.
        #[default]
        DoNotUpgrade = "DO_NOT_UPGRADE" 0,
        /// They get HTTP/2.
        Upgrade = "UPGRADE" 1,
    }
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self {
            trust_domain: "cluster.local".into(),
            root_namespace: "istio-system".into(),
            connect_timeout: Duration::from_secs(10),
            detect_timeout: None,
            h2_upgrade: MeshUpgrade::DoNotUpgrade,
            keepalive: None,
            outbound: None,
            locality: LocalitySetting {
                enabled: Some(true),
                distribute: Vec::new(),
                failover: Vec::new(),
                failover_priority: Vec::new(),
            },
            service_export_to: vec![ExportTo::All],
            virtual_service_export_to: vec![ExportTo::All],
            destination_rule_export_to: vec![ExportTo::All],
            retries: None,
            policy: None,
        }
    }
}

/// Settings of the API that belong to parts that come later.
const LATER: &[&str] = &[
    "accessLogEncoding",
    "accessLogFile",
    "accessLogFormat",
    "ca",
    "caCertificates",
    "certificates",
    "defaultConfig",
    "defaultProviders",
    "disableEnvoyListenerLog",
    "discoverySelectors",
    "dnsRefreshRate",
    "enableAutoMtls",
    "enableEnvoyAccessLogService",
    "enablePrometheusMerge",
    "enableTracing",
    "extensionProviders",
    "hboneIdleTimeout",
    "inboundTrafficPolicy",
    "meshMTLS",
    "pathNormalization",
    "serviceScopeConfigs",
    "serviceSettings",
    "tlsDefaults",
    "trustDomainAliases",
    "verifyCertificateAtClient",
];

/// Settings of Istio's own control plane and of Envoy, which mean nothing here.
const FOREIGN: &[&str] = &[
    "configSources",
    "inboundClusterStatName",
    "ingressClass",
    "ingressControllerMode",
    "ingressSelector",
    "ingressService",
    "outboundClusterStatName",
    "proxyHttpPort",
    "proxyInboundListenPort",
    "proxyListenPort",
    "statsMatcher",
    "thriftConfig",
];

impl Decode for MeshConfig {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let mut fields = Fields::of(node, cx)?;
        let default = Self::default();
        let config = Self {
            trust_domain: fields.with("trustDomain", cx, scalar::non_empty).unwrap_or(default.trust_domain),
            root_namespace: fields.with("rootNamespace", cx, scalar::non_empty).unwrap_or(default.root_namespace),
            connect_timeout: fields.with("connectTimeout", cx, duration_1ms).unwrap_or(default.connect_timeout),
            detect_timeout: fields.optional("protocolDetectionTimeout", cx),
            h2_upgrade: fields.or("h2UpgradePolicy", cx, default.h2_upgrade),
            keepalive: fields.optional("tcpKeepalive", cx),
            outbound: fields.optional("outboundTrafficPolicy", cx),
            locality: fields.optional("localityLbSetting", cx).unwrap_or(default.locality),
            service_export_to: exports(&mut fields, "defaultServiceExportTo", cx),
            virtual_service_export_to: exports(&mut fields, "defaultVirtualServiceExportTo", cx),
            destination_rule_export_to: exports(&mut fields, "defaultDestinationRuleExportTo", cx),
            retries: fields.with("defaultHttpRetryPolicy", cx, mesh_retries),
            policy: fields.optional("defaultTrafficPolicy", cx),
        };
        for key in LATER {
            let _: Option<Unmodelled> = fields.optional(key, cx);
        }
        fields.ignore(FOREIGN);
        fields.finish(cx);
        Some(config)
    }
}

fn exports(fields: &mut Fields<'_, '_>, key: &'static str, cx: &mut Cx) -> Vec<ExportTo> {
    let given: Vec<ExportTo> = fields.or_default(key, cx);
    if given.is_empty() { vec![ExportTo::All] } else { given }
}
