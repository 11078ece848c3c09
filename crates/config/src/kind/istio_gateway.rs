//! Istio `Gateway`: the ports, hosts and certificates of proxies at the edge of the mesh.
//!
//! The structure is judged here, as Istio's validation does; which of it can be served, and by which proxy, is decided in
//! `translate/gateways/istio`.

use std::net::IpAddr;
use std::sync::Arc;

use super::istio::spanned;
use super::proxy_protocol;
use crate::address;
use crate::codes;
use crate::decode::{Cx, Decode, clip};
use crate::node::{Node, Pos, Spanned};
use crate::object::{Labels, is_dns_label};
use crate::scalar;
use crate::{choices, object};

object! {
    /// A Gateway of `networking.istio.io`.
    pub resource struct IstioGateway {
        /// `spec`.
        pub spec: GatewaySpec = required "spec",
    }
    ignore ["status"]
    check check_gateway
}

object! {
    /// `spec`.
    pub struct GatewaySpec {
        /// `servers`.
        pub servers: Vec<Spanned<Server>> = or_default "servers",
        /// `selector`: labels of the proxies that serve it.
        pub selector: Labels = or_default "selector",
    }
}

object! {
    /// One of `servers`.
    pub struct Server {
        /// `port`.
        pub port: Spanned<ServerPort> = required "port",
        /// `bind`.
        pub bind: Option<Spanned<Bind>> = optional "bind",
        /// `hosts`.
        pub hosts: Vec<Spanned<ServerHost>> = required "hosts",
        /// `tls`.
        pub tls: Option<Spanned<ServerTls>> = optional "tls",
        /// `name`.
        pub name: Option<Arc<str>> = optional "name",
        /// `defaultEndpoint`, which Istio itself does not look at.
        pub default_endpoint: Option<Arc<str>> = with(default_endpoint) "defaultEndpoint",
    }
    check check_server
}

object! {
    /// `port`.
    pub struct ServerPort {
        /// `number`; 0 for a Unix socket.
        pub number: u16 = required "number",
        /// `name`.
        pub name: Arc<str> = required_with(scalar::non_empty) "name",
        /// `protocol`.
        pub protocol: Protocol = required "protocol",
        /// `targetPort`, which Istio refuses.
        pub target_port: Option<u16> = with(target_port) "targetPort",
    }
}

/// `protocol` of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `HTTP`, `HTTP2`, `GRPC`, `GRPC-WEB`, `HTTP_PROXY`: HTTP in plain text.
    Http(&'static str),
    /// `HTTPS`.
    Https,
    /// `TLS`.
    Tls,
    /// `TCP`, `MONGO`, `REDIS`, `MYSQL`: bytes.
    Tcp(&'static str),
}

impl Protocol {
    /// Reads it; letter case does not matter.
    fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_uppercase().as_str() {
            "HTTP" => Self::Http("HTTP"),
            "HTTP2" => Self::Http("HTTP2"),
            "HTTP_PROXY" => Self::Http("HTTP_PROXY"),
            "GRPC" => Self::Http("GRPC"),
            "GRPC-WEB" => Self::Http("GRPC-WEB"),
            "HTTPS" => Self::Https,
            "TLS" => Self::Tls,
            "TCP" => Self::Tcp("TCP"),
            "MONGO" => Self::Tcp("MONGO"),
            "REDIS" => Self::Tcp("REDIS"),
            "MYSQL" => Self::Tcp("MYSQL"),
            _ => return None,
        })
    }

    /// Its name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http(name) | Self::Tcp(name) => name,
            Self::Https => "HTTPS",
            Self::Tls => "TLS",
        }
    }
}

impl Decode for Protocol {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let expected = "one of `HTTP`, `HTTPS`, `TLS`, `TCP`, `HTTP2`, `GRPC`, `GRPC-WEB`, `MONGO`, `REDIS`, `MYSQL`";
        address::parsed(node, cx, expected, Self::parse)
    }
}

/// `bind`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// An IP address.
    Address(IpAddr),
    /// The path of a Unix socket.
    Unix(Arc<str>),
}

impl Decode for Bind {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        address::parsed(node, cx, "an IP address, or `unix:///path`", |text| match text.strip_prefix("unix://") {
            Some(path) => Some(Self::Unix(path.into())),
            None => text.parse().ok().map(Self::Address),
        })
    }
}

/// One of `hosts`: `host`, or `namespace/host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerHost {
    /// The namespaces whose VirtualServices may have it.
    pub namespace: HostNamespace,
    /// A name or a wildcard, `*` for all.
    pub host: Arc<str>,
}

impl ServerHost {
    /// As it is written.
    pub fn text(&self) -> String {
        match &self.namespace {
            HostNamespace::Any => self.host.to_string(),
            HostNamespace::Own => format!("./{}", self.host),
            HostNamespace::Named(name) => format!("{name}/{}", self.host),
        }
    }
}

/// The namespace part of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostNamespace {
    /// None, or `*`.
    Any,
    /// `.`: the Gateway's.
    Own,
    /// This one.
    Named(Arc<str>),
}

impl Decode for ServerHost {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let expected = "a host such as `www.example.com`, `*.example.com` or `*`, perhaps with `namespace/` in front";
        let (namespace, host) = address::parsed(node, cx, expected, |text| {
            let (namespace, host) = text.split_once('/').unwrap_or(("*", text));
            let namespace = match namespace {
                "*" => HostNamespace::Any,
                "." => HostNamespace::Own,
                name => HostNamespace::Named(is_dns_label(name).then(|| name.into())?),
            };
            let host = host.strip_suffix('.').unwrap_or(host);
            address::is_host_or_wildcard(host).then(|| (namespace, host.to_ascii_lowercase()))
        })?;
        Some(Self { namespace, host: cx.text(&host) })
    }
}

object! {
    /// `tls`.
    pub struct ServerTls {
        /// `httpsRedirect`.
        pub https_redirect: bool = or_default "httpsRedirect",
        /// `mode`; absent means `PASSTHROUGH`.
        pub mode: Option<Spanned<Mode>> = optional "mode",
        /// `serverCertificate`: a path.
        pub server_certificate: Option<Spanned<Arc<str>>> = with(text) "serverCertificate",
        /// `privateKey`: a path.
        pub private_key: Option<Spanned<Arc<str>>> = with(text) "privateKey",
        /// `caCertificates`: a path.
        pub ca_certificates: Option<Spanned<Arc<str>>> = with(text) "caCertificates",
        /// `caCrl`: a path.
        pub ca_crl: Option<Spanned<Arc<str>>> = with(text) "caCrl",
        /// `credentialName`: a Secret.
        pub credential_name: Option<Spanned<Arc<str>>> = with(text) "credentialName",
        /// `credentialNames`: Secrets.
        pub credential_names: Vec<Spanned<Arc<str>>> = or_default "credentialNames",
        /// `caCertCredentialName`: the Secret or ConfigMap of the client's authorities.
        pub authorities_name: Option<Spanned<Arc<str>>> = with(text) "caCertCredentialName",
        /// `tlsCertificates`: paths.
        pub tls_certificates: Vec<Spanned<CertificateFiles>> = or_default "tlsCertificates",
        /// `subjectAltNames` that clients must have one of.
        pub subject_alt_names: Vec<Spanned<Arc<str>>> = or_default "subjectAltNames",
        /// `verifyCertificateSpki`.
        pub verify_spki: Vec<Spanned<Arc<str>>> = or_default "verifyCertificateSpki",
        /// `verifyCertificateHash`.
        pub verify_hash: Vec<Spanned<Arc<str>>> = or_default "verifyCertificateHash",
        /// `minProtocolVersion`.
        pub version_min: Option<Spanned<Version>> = optional "minProtocolVersion",
        /// `maxProtocolVersion`.
        pub version_max: Option<Spanned<Version>> = optional "maxProtocolVersion",
        /// `cipherSuites`.
        pub cipher_suites: Vec<Spanned<Arc<str>>> = or_default "cipherSuites",
        /// `insecureSkipVerify`.
        pub skip_verify: Option<Spanned<bool>> = optional "insecureSkipVerify",
    }
    check check_tls
}

object! {
    /// One of `tlsCertificates`.
    pub struct CertificateFiles {
        /// `serverCertificate`.
        pub server_certificate: Option<Spanned<Arc<str>>> = with(text) "serverCertificate",
        /// `privateKey`.
        pub private_key: Option<Spanned<Arc<str>>> = with(text) "privateKey",
        /// `caCertificates`.
        pub ca_certificates: Option<Spanned<Arc<str>>> = with(text) "caCertificates",
    }
}

choices! {
    /// `tls.mode`.
    #[derive(Default)]
    pub enum Mode {
        /// TLS goes on as it is, by server name.
        #[default]
        Passthrough = "PASSTHROUGH" 0,
        /// TLS ends here.
        Simple = "SIMPLE" 1,
        /// TLS ends here, and clients show a certificate.
        Mutual = "MUTUAL" 2,
        /// As `PASSTHROUGH`, to the cluster that the server name spells.
        AutoPassthrough = "AUTO_PASSTHROUGH" 3,
        /// As `MUTUAL`, with the certificates of the mesh.
        IstioMutual = "ISTIO_MUTUAL" 4,
        /// As `MUTUAL`, but clients may have no certificate.
        OptionalMutual = "OPTIONAL_MUTUAL" 5,
    }
}

impl Mode {
    /// Whether TLS goes through untouched.
    pub fn passes_through(self) -> bool {
        matches!(self, Self::Passthrough | Self::AutoPassthrough)
    }

    /// Whether clients are asked for certificates of given authorities.
    pub fn asks_clients(self) -> bool {
        matches!(self, Self::Mutual | Self::OptionalMutual)
    }
}

choices! {
    /// A version of TLS.
    pub enum Version {
        /// What the proxy thinks best.
        Auto = "TLS_AUTO" 0,
        /// 1.0.
        V1_0 = "TLSV1_0" 1,
        /// 1.1.
        V1_1 = "TLSV1_1" 2,
        /// 1.2.
        V1_2 = "TLSV1_2" 3,
        /// 1.3.
        V1_3 = "TLSV1_3" 4,
    }
}

impl Server {
    /// `tls.mode`; `None` without `tls`.
    pub fn mode(&self) -> Option<Mode> {
        self.tls.as_ref().map(|tls| tls.mode())
    }

    /// `tls.httpsRedirect`, which is for plain HTTP.
    pub fn redirects(&self) -> bool {
        let plain = matches!(self.port.protocol, Protocol::Http(_));
        plain && self.tls.as_ref().is_some_and(|tls| tls.https_redirect)
    }
}

impl ServerTls {
    /// `mode`.
    pub fn mode(&self) -> Mode {
        self.mode.as_ref().map_or(Mode::default(), |mode| mode.value)
    }

    /// The Secrets it names, with their places.
    pub fn credentials(&self) -> impl Iterator<Item = &Spanned<Arc<str>>> {
        self.credential_name.iter().chain(&self.credential_names)
    }

    /// The first file it names.
    fn file(&self) -> Option<&Spanned<Arc<str>>> {
        let own = [&self.server_certificate, &self.private_key, &self.ca_certificates];
        own.into_iter().flatten().next()
    }
}

/// Text that counts as absent when empty.
fn text(node: &Node<'_>, cx: &mut Cx) -> Option<Spanned<Arc<str>>> {
    spanned(Arc::<str>::decode)(node, cx).filter(|text| !text.is_empty())
}

fn default_endpoint(node: &Node<'_>, cx: &mut Cx) -> Option<Arc<str>> {
    let endpoint = text(node, cx)?;
    cx.report(codes::NO_EFFECT, node.pos, "gateways do not look at it", "name destinations in a VirtualService");
    Some(endpoint.value)
}

fn target_port(node: &Node<'_>, cx: &mut Cx) -> Option<u16> {
    let port = u16::decode(node, cx)?;
    if port > 0 {
        cx.report(codes::NO_EFFECT, node.pos, "gateways do not look at it, and Istio refuses it", "remove it");
    }
    Some(port)
}

fn check_gateway(gateway: &IstioGateway, _pos: Pos, cx: &mut Cx) {
    let meta = &gateway.meta;
    proxy_protocol::check(meta, cx);
    if !is_dns_label(&meta.name) {
        let message = format!(
            "metadata.name: found {:?}, expected at most 63 lower-case letters, digits and inner hyphens",
            clip(&meta.name)
        );
        cx.report(codes::SCHEMA, meta.pos, message, "VirtualServices name it as `namespace/name`, without dots");
    }
    let servers = &gateway.spec.servers;
    if servers.is_empty() {
        cx.report(codes::SCHEMA, meta.pos, "spec.servers: it is missing or empty, expected at least one server", "");
    }
    for (index, server) in servers.iter().enumerate() {
        let name = &server.port.name;
        if servers[..index].iter().any(|s| s.port.name == *name) {
            let message = format!("spec.servers[{index}].port.name: {:?} is given twice", clip(name));
            cx.report(codes::SCHEMA, server.port.pos, message, "each server has a port name of its own");
        }
    }
}

fn check_server(server: &Server, pos: Pos, cx: &mut Cx) {
    if server.hosts.is_empty() {
        cx.report(codes::SCHEMA, pos, "hosts: the list is empty, expected at least one host", "`*` is every host");
    }
    let unix = matches!(server.bind.as_ref().map(|bind| &bind.value), Some(Bind::Unix(_)));
    if unix != (server.port.number == 0) {
        let message = match unix {
            true => format!("port.number: found {}, expected 0 with a Unix socket", server.port.number),
            false => "port.number: found 0, expected an integer from 1 to 65535".to_owned(),
        };
        cx.report(codes::SCHEMA, server.port.pos, message, "");
    }
    let protocol = server.port.protocol;
    let needs_tls = matches!(protocol, Protocol::Https | Protocol::Tls);
    match &server.tls {
        None if needs_tls => {
            let message = format!("`tls` is missing, protocol {} needs it", protocol.as_str());
            let hint = "add `tls: {mode: SIMPLE, credentialName: SECRET}`, or `tls: {mode: PASSTHROUGH}`";
            cx.report(codes::SCHEMA, server.port.pos, message, hint);
        }
        Some(tls) if !needs_tls => check_plain(tls, protocol, cx),
        Some(tls) if tls.https_redirect => {
            let message = format!("tls.httpsRedirect: it is for plain HTTP, this server speaks {}", protocol.as_str());
            cx.report(codes::NO_EFFECT, tls.pos, message, "add a server of protocol HTTP that redirects");
        }
        None | Some(_) => {}
    }
}

/// A server without TLS may say nothing about TLS but that clients are sent to it.
fn check_plain(tls: &Spanned<ServerTls>, protocol: Protocol, cx: &mut Cx) {
    if !matches!(protocol, Protocol::Http(_)) {
        let message = format!("tls: protocol {} is plain text, it has no TLS settings", protocol.as_str());
        cx.report(codes::SCHEMA, tls.pos, message, "use protocol TLS");
    } else if !tls.mode().passes_through() || tls.file().is_some() {
        let message =
            format!("tls: protocol {} is plain text, it has no TLS settings but `httpsRedirect`", protocol.as_str());
        cx.report(codes::SCHEMA, tls.pos, message, "use protocol HTTPS");
    }
}

fn check_tls(tls: &ServerTls, pos: Pos, cx: &mut Cx) {
    let mode = tls.mode();
    let credential = tls.credentials().next();
    let files = tls.file().or(tls.ca_crl.as_ref()).map(|file| file.pos);
    let source = credential.map(|name| name.pos).or(files).or(tls.tls_certificates.first().map(|files| files.pos));
    match mode {
        Mode::IstioMutual => {
            if let Some(at) = source {
                let message = "mode ISTIO_MUTUAL takes the certificates of the mesh, no others";
                cx.report(codes::SCHEMA, at, message, "remove them, or use mode MUTUAL");
            }
        }
        Mode::Passthrough | Mode::AutoPassthrough => {
            if let Some(at) = source {
                let message = format!("mode {} uses no certificates", mode.as_str());
                let hint = if tls.mode.is_none() { "add `mode: SIMPLE` if TLS is meant to end here" } else { "" };
                cx.report(codes::NO_EFFECT, at, message, hint);
            }
        }
        Mode::Simple | Mode::Mutual | Mode::OptionalMutual => check_sources(tls, pos, mode, cx),
    }
    if let (Some(min), Some(max)) = (&tls.version_min, &tls.version_max)
        && min.value != Version::Auto
        && max.value != Version::Auto
        && (min.value as u8) > (max.value as u8)
    {
        let message =
            format!("maxProtocolVersion: {} is older than minProtocolVersion, which is {}", max.as_str(), min.as_str());
        cx.report(codes::SCHEMA, max.pos, message, "");
    }
}

/// A server that ends TLS has its certificates from one kind of source.
fn check_sources(tls: &ServerTls, pos: Pos, mode: Mode, cx: &mut Cx) {
    let sources = [
        ("`credentialName`", tls.credential_name.is_some()),
        ("`credentialNames`", !tls.credential_names.is_empty()),
        ("`serverCertificate`", tls.server_certificate.is_some() && tls.private_key.is_some()),
        ("`tlsCertificates`", !tls.tls_certificates.is_empty()),
    ];
    let given: Vec<&str> = sources.iter().filter(|source| source.1).map(|source| source.0).collect();
    if given.len() > 1 {
        let message = format!("{} are given together, expected one of them", given.join(" and "));
        cx.report(codes::SCHEMA, pos, message, "");
    }
    if tls.credential_names.len() > 2 {
        let message = format!("credentialNames: found {}, expected at most 2", tls.credential_names.len());
        cx.report(codes::SCHEMA, pos, message, "one certificate may be RSA, the other ECDSA");
    }
    if tls.credentials().next().is_none() {
        check_files(tls, pos, mode, cx);
    } else if let (Some(crl), true) = (&tls.ca_crl, tls.credential_name.is_some()) {
        let message = "caCrl: it does not go with `credentialName`";
        cx.report(codes::SCHEMA, crl.pos, message, "put the list into the Secret, as `ca.crl`");
    }
}

fn check_files(tls: &ServerTls, pos: Pos, mode: Mode, cx: &mut Cx) {
    let mut missing = |message: String| {
        let hint = "name a Secret that has both in `credentialName`";
        cx.report(codes::SCHEMA, pos, message, hint);
    };
    if tls.tls_certificates.is_empty() {
        for (key, file) in [("serverCertificate", &tls.server_certificate), ("privateKey", &tls.private_key)] {
            if file.is_none() {
                missing(format!("`{key}` is missing, mode {} needs a certificate and its key", mode.as_str()));
            }
        }
    }
    for (index, files) in tls.tls_certificates.iter().enumerate() {
        for (key, file) in [("serverCertificate", &files.server_certificate), ("privateKey", &files.private_key)] {
            if file.is_none() {
                missing(format!("tlsCertificates[{index}]: `{key}` is missing"));
            }
        }
    }
    if mode.asks_clients() && tls.ca_certificates.is_none() {
        missing(format!("`caCertificates` is missing, mode {} needs the clients' authorities", mode.as_str()));
    }
    if let (Some(crl), Mode::Simple) = (&tls.ca_crl, mode) {
        cx.report(codes::SCHEMA, crl.pos, "caCrl: mode SIMPLE asks no client for a certificate", "remove it");
    }
}
