//! Istio `Sidecar`: which services a workload's proxy knows.
//!
//! The egress scope and the outbound policy count; ingress and inbound parts are understood and not enforced yet.

use std::sync::Arc;

use super::destination_rule::ConnectionPool;
use super::istio::{Destination, Unmodelled, later};
use super::service_entry::WorkloadSelector;
use crate::address::is_host_or_wildcard;
use crate::codes;
use crate::decode::{Cx, Decode, clip};
use crate::node::{Node, Pos, Spanned};
use crate::scalar;
use crate::{choices, object};

object! {
    /// A Sidecar.
    pub resource struct Sidecar {
        /// `spec`.
        pub spec: SidecarSpec = or_default "spec",
    }
    ignore ["status"]
}

object! {
    /// `spec`.
    #[derive(Default)]
    pub struct SidecarSpec {
        /// `workloadSelector`; absent for the whole namespace.
        pub selector: Option<WorkloadSelector> = optional "workloadSelector",
        /// `egress`; empty means everything.
        pub egress: Vec<Spanned<Egress>> = or_default "egress",
        /// `outboundTrafficPolicy`; absent means the mesh's.
        pub outbound: Option<OutboundTrafficPolicy> = optional "outboundTrafficPolicy",
        /// `ingress`.
        pub ingress: Vec<Ingress> = or_default_with(later) "ingress",
        /// `inboundConnectionPool`.
        pub inbound_pool: Option<ConnectionPool> = with(later) "inboundConnectionPool",
    }
}

object! {
    /// One of `egress`.
    pub struct Egress {
        /// `hosts`.
        pub hosts: Vec<Spanned<EgressHost>> = required "hosts",
        /// `port`: only this port of the hosts.
        pub port: Option<SidecarPort> = optional "port",
        /// `bind`.
        pub bind: Option<Unmodelled> = optional "bind",
        /// `captureMode`.
        pub capture_mode: Option<CaptureMode> = with(later) "captureMode",
    }
    check check_egress
}

fn check_egress(egress: &Egress, pos: Pos, cx: &mut Cx) {
    if egress.hosts.is_empty() {
        cx.report(
            codes::SCHEMA,
            pos,
            "hosts: the list is empty, expected at least one `namespace/host`",
            "`~/*` is nothing",
        );
    }
}

choices! {
    /// `captureMode`.
    pub enum CaptureMode {
        /// As the environment says.
        Default = "DEFAULT" 0,
        /// Redirected traffic.
        Iptables = "IPTABLES" 1,
        /// Only what is sent to the listener.
        None = "NONE" 2,
    }
}

object! {
    /// `port`.
    pub struct SidecarPort {
        /// `number`.
        pub number: Option<u16> = with(scalar::port) "number",
        /// `protocol`.
        pub protocol: Option<Arc<str>> = optional "protocol",
        /// `name`.
        pub name: Option<Arc<str>> = optional "name",
        /// `targetPort`.
        pub target_port: Option<u16> = with(scalar::port) "targetPort",
    }
}

/// One of `egress[].hosts`: `namespace/host`, or `~namespace/host` for an exclusion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressHost {
    /// Whether it takes away.
    pub exclude: bool,
    /// Which namespaces.
    pub namespace: EgressNamespace,
    /// A host name or wildcard, `*` for all.
    pub host: Arc<str>,
}

/// The namespace part of an egress host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EgressNamespace {
    /// `.`: the client's.
    Own,
    /// `*`.
    Any,
    /// `~`: none.
    Nothing,
    /// This one.
    Named(Arc<str>),
}

impl Decode for EgressHost {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        const EXPECTED: &str = "`namespace/host`, such as `./*`, `shop/*`, `*/api.example.com` or `~/*`";
        let text = scalar::string(node, cx)?;
        let parsed = text.split_once('/').and_then(|(namespace, host)| {
            let (exclude, namespace) = match namespace.strip_prefix('~') {
                Some("") | None => (false, namespace),
                Some(rest) => (true, rest),
            };
            let namespace = match namespace {
                "." => EgressNamespace::Own,
                "*" => EgressNamespace::Any,
                "~" => EgressNamespace::Nothing,
                "" => return None,
                name => EgressNamespace::Named(cx.text(name)),
            };
            let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
            is_host_or_wildcard(&host).then(|| Self { exclude, namespace, host: cx.text(&host) })
        });
        if parsed.is_none() {
            cx.mismatch(node, EXPECTED);
        }
        parsed
    }
}

choices! {
    /// `outboundTrafficPolicy.mode`.
    #[derive(Default)]
    pub enum OutboundMode {
        /// Hosts that no configuration names are refused.
        #[default]
        RegistryOnly = "REGISTRY_ONLY" 0,
        /// They are let through.
        AllowAny = "ALLOW_ANY" 1,
    }
}

object! {
    /// `outboundTrafficPolicy`; also of MeshConfig.
    pub struct OutboundTrafficPolicy {
        /// `mode`.
        pub mode: Option<OutboundMode> = optional "mode",
        /// `egressProxy`.
        pub egress_proxy: Option<Destination> = with(later) "egressProxy",
    }
}

object! {
    /// One of `ingress`.
    pub struct Ingress {
        /// `port`.
        pub port: SidecarPort = required "port",
        /// `bind`.
        pub bind: Option<Arc<str>> = optional "bind",
        /// `captureMode`.
        pub capture_mode: Option<CaptureMode> = optional "captureMode",
        /// `defaultEndpoint`.
        pub default_endpoint: Option<Arc<str>> = optional "defaultEndpoint",
        /// `tls`.
        pub tls: Option<ServerTls> = optional "tls",
        /// `connectionPool`.
        pub connection_pool: Option<ConnectionPool> = optional "connectionPool",
    }
}

object! {
    /// `ingress[].tls`.
    pub struct ServerTls {
        /// `mode`.
        pub mode: Option<Arc<str>> = optional "mode",
    }
    ignore [
        "caCertCredentialName", "caCertificates", "caCrl", "cipherSuites", "credentialName", "credentialNames", "httpsRedirect",
        "insecureSkipVerify", "maxProtocolVersion", "minProtocolVersion", "privateKey", "serverCertificate", "subjectAltNames",
        "tlsCertificates", "verifyCertificateHash", "verifyCertificateSpki",
    ]
}

impl EgressHost {
    /// The text as written, for messages.
    pub fn text(&self) -> String {
        let namespace = match &self.namespace {
            EgressNamespace::Own => ".",
            EgressNamespace::Any => "*",
            EgressNamespace::Nothing => "~",
            EgressNamespace::Named(name) => name,
        };
        let exclude = if self.exclude { "~" } else { "" };
        clip(&format!("{exclude}{namespace}/{}", self.host)).to_owned()
    }
}
