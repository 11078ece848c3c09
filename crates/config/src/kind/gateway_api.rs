//! Gateway API `Gateway`: where traffic enters, and who may attach routes.
//!
//! A Gateway of Istio is another kind; see `istio_gateway`. What the API server would refuse is an error here. Whether two
//! listeners conflict is not judged here but in the translation, which answers with a condition.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::gateway_class::ParametersRef;
use super::gateway_refs::{self, group, kind_name, namespace, object_name};
use super::istio::spanned;
use super::proxy_protocol;
use super::selector::LabelSelector;
use crate::address::{is_host, parsed};
use crate::codes;
use crate::decode::{Cx, Decode, clip};
use crate::node::{Node, Pos, Spanned};
use crate::object::{Labels, labels};
use crate::scalar;

/// The group of this API's kinds.
pub const GROUP: &str = "gateway.networking.k8s.io";

/// Most listeners of one object.
const LISTENERS_MAX: usize = 64;

crate::object! {
    /// A Gateway.
    pub resource struct Gateway {
        /// `spec`.
        pub spec: GatewaySpec = required "spec",
    }
    ignore ["status"]
    check check_gateway
}

crate::object! {
    /// `spec`.
    pub struct GatewaySpec {
        /// `gatewayClassName`.
        pub class: Spanned<Arc<str>> = required "gatewayClassName",
        /// `listeners`: 1 to 64.
        pub listeners: Vec<Spanned<Listener>> = required_with(listeners) "listeners",
        /// `addresses` that are asked for.
        pub addresses: Vec<Spanned<Address>> = or_default "addresses",
        /// `infrastructure`: what the objects made for the Gateway look like.
        pub infrastructure: Infrastructure = or_default "infrastructure",
        /// `allowedListeners`: whose ListenerSets may add listeners.
        pub allowed_listeners: AllowedListeners = or_default "allowedListeners",
        /// `tls`: client certificates, and the certificate shown to backends.
        pub tls: GatewayTls = or_default "tls",
        /// `defaultScope` (experimental): reported where it asks for something.
        pub default_scope: Option<Spanned<Arc<str>>> = optional "defaultScope",
    }
}

crate::object! {
    /// One of `listeners`, of a Gateway or a ListenerSet.
    pub struct Listener {
        /// `name`, unique in its object.
        pub name: Spanned<Arc<str>> = required_with(spanned(gateway_refs::section_name)) "name",
        /// `hostname`: a name or `*.` and a name; every host when not given.
        pub hostname: Option<Spanned<Arc<str>>> = with(hostname) "hostname",
        /// `port`: 1 to 65535.
        pub port: u16 = required_with(scalar::port) "port",
        /// `protocol`: `HTTP`, `HTTPS`, `TLS`, `TCP`, `UDP`, or `DOMAIN/NAME`.
        pub protocol: Spanned<Arc<str>> = required_with(protocol) "protocol",
        /// `tls`: not for HTTP, TCP and UDP.
        pub tls: Option<Spanned<ListenerTls>> = optional "tls",
        /// `allowedRoutes`.
        pub allowed_routes: AllowedRoutes = or_default "allowedRoutes",
    }
    check check_listener
}

crate::object! {
    /// `tls` of a listener.
    pub struct ListenerTls {
        /// `mode`, default `Terminate`.
        pub mode: Option<TlsMode> = optional "mode",
        /// `certificateRefs`: several are shown by server name.
        pub certificates: Vec<Spanned<SecretRef>> = or_default "certificateRefs",
        /// `options`: this controller has none, so each is reported.
        pub options: BTreeMap<Arc<str>, Spanned<Arc<str>>> = or_default "options",
    }
}

crate::choices! {
    /// `mode` of a listener's `tls`.
    pub enum TlsMode {
        /// TLS ends here.
        Terminate = "Terminate",
        /// TLS passes through untouched.
        Passthrough = "Passthrough",
    }
}

crate::object! {
    /// A reference to a Secret, or to another kind that holds certificates.
    pub struct SecretRef {
        /// `group`, default the core group.
        pub group: Arc<str> = or_default_with(group) "group",
        /// `kind`, default `Secret`.
        pub kind: Arc<str> = or("Secret".into()) "kind",
        /// `name`.
        pub name: Arc<str> = required_with(object_name) "name",
        /// `namespace`; that of the object that refers when not given.
        pub namespace: Option<Arc<str>> = with(namespace) "namespace",
    }
}

crate::object! {
    /// A reference to an object of any kind.
    pub struct ObjectReference {
        /// `group`, empty for the core group.
        pub group: Arc<str> = required_with(group) "group",
        /// `kind`.
        pub kind: Arc<str> = required_with(kind_name) "kind",
        /// `name`.
        pub name: Arc<str> = required_with(object_name) "name",
        /// `namespace`; that of the object that refers when not given.
        pub namespace: Option<Arc<str>> = with(namespace) "namespace",
    }
}

crate::object! {
    /// `allowedRoutes`: which routes may attach to a listener.
    #[derive(Default)]
    pub struct AllowedRoutes {
        /// `namespaces`.
        pub namespaces: RouteNamespaces = or_default "namespaces",
        /// `kinds`; those of the protocol when empty.
        pub kinds: Vec<Spanned<RouteKind>> = or_default "kinds",
    }
}

crate::object! {
    /// `allowedRoutes.namespaces`.
    #[derive(Default)]
    pub struct RouteNamespaces {
        /// `from`, default `Same`.
        pub from: RoutesFrom = or_default "from",
        /// `selector` of namespaces, for `Selector`.
        pub selector: Option<LabelSelector> = optional "selector",
    }
    check check_route_namespaces
}

crate::choices! {
    /// `allowedRoutes.namespaces.from`.
    #[derive(Default)]
    pub enum RoutesFrom {
        /// Every namespace.
        All = "All",
        /// Namespaces by their labels.
        Selector = "Selector",
        /// The namespace of the listener's object.
        #[default]
        Same = "Same",
    }
}

crate::object! {
    /// One of `allowedRoutes.kinds`.
    pub struct RouteKind {
        /// `group`, default `gateway.networking.k8s.io`.
        pub group: Arc<str> = or(GROUP.into()) "group",
        /// `kind`.
        pub kind: Arc<str> = required_with(kind_name) "kind",
    }
}

crate::object! {
    /// `allowedListeners`.
    #[derive(Default)]
    pub struct AllowedListeners {
        /// `namespaces`.
        pub namespaces: ListenerNamespaces = or_default "namespaces",
    }
}

crate::object! {
    /// `allowedListeners.namespaces`.
    #[derive(Default)]
    pub struct ListenerNamespaces {
        /// `from`, default `None`.
        pub from: ListenersFrom = or_default "from",
        /// `selector` of namespaces, for `Selector`.
        pub selector: Option<LabelSelector> = optional "selector",
    }
    check check_listener_namespaces
}

crate::choices! {
    /// `allowedListeners.namespaces.from`.
    #[derive(Default)]
    pub enum ListenersFrom {
        /// Every namespace.
        All = "All",
        /// Namespaces by their labels.
        Selector = "Selector",
        /// The Gateway's own.
        Same = "Same",
        /// None.
        #[default]
        None = "None",
    }
}

crate::object! {
    /// One of `addresses`.
    pub struct Address {
        /// `type`, default `IPAddress`.
        pub address_type: Arc<str> = or("IPAddress".into()) "type",
        /// `value`; any address of the type when empty.
        pub value: Arc<str> = or_default "value",
    }
}

crate::object! {
    /// `infrastructure`.
    #[derive(Default)]
    pub struct Infrastructure {
        /// `labels` of the gateway's workload.
        pub labels: Labels = or_default_with(labels) "labels",
        /// `annotations`: reported, nothing here reads them.
        pub annotations: BTreeMap<Arc<str>, Spanned<Arc<str>>> = or_default "annotations",
        /// `parametersRef`.
        pub parameters: Option<Spanned<ParametersRef>> = optional "parametersRef",
    }
}

crate::object! {
    /// `tls` of a Gateway.
    #[derive(Default)]
    pub struct GatewayTls {
        /// `backend`: the certificate shown to backends.
        pub backend: Option<Spanned<BackendTls>> = optional "backend",
        /// `frontend`: what is asked of clients.
        pub frontend: Option<FrontendTls> = optional "frontend",
    }
}

crate::object! {
    /// `tls.backend`.
    pub struct BackendTls {
        /// `clientCertificateRef`.
        pub certificate: Option<Spanned<SecretRef>> = optional "clientCertificateRef",
    }
}

crate::object! {
    /// `tls.frontend`.
    pub struct FrontendTls {
        /// `default`: for the HTTPS listeners of every port without its own.
        pub default: ClientTls = required "default",
        /// `perPort`.
        pub per_port: Vec<Spanned<PortTls>> = or_default "perPort",
    }
    check check_frontend
}

crate::object! {
    /// One of `tls.frontend.perPort`.
    pub struct PortTls {
        /// `port`.
        pub port: u16 = required_with(scalar::port) "port",
        /// `tls`.
        pub tls: ClientTls = required "tls",
    }
}

crate::object! {
    /// What is asked of clients.
    pub struct ClientTls {
        /// `validation`: clients show a certificate; none is asked for when not given.
        pub validation: Option<ClientValidation> = optional "validation",
    }
}

crate::object! {
    /// `validation`.
    pub struct ClientValidation {
        /// `caCertificateRefs`: the authorities; at least one.
        pub authorities: Vec<Spanned<ObjectReference>> = required_with(at_least_one) "caCertificateRefs",
        /// `mode`, default `AllowValidOnly`.
        pub mode: Option<Spanned<ValidationMode>> = optional "mode",
    }
}

crate::choices! {
    /// `mode` of `validation`.
    pub enum ValidationMode {
        /// A certificate that one of the authorities has signed is required.
        AllowValidOnly = "AllowValidOnly",
        /// Every client is let in.
        AllowInsecureFallback = "AllowInsecureFallback",
    }
}

/// `listeners`: their number, and their names.
pub(crate) fn listeners(node: &Node<'_>, cx: &mut Cx) -> Option<Vec<Spanned<Listener>>> {
    let listeners: Vec<Spanned<Listener>> = Decode::decode(node, cx)?;
    let count = node.items().map_or(0, <[_]>::len);
    if count == 0 || count > LISTENERS_MAX {
        cx.report(codes::SCHEMA, node.pos, format!("found {count} listeners, expected 1 to {LISTENERS_MAX}"), "");
    }
    for (index, listener) in listeners.iter().enumerate() {
        let name = &listener.name;
        if listeners[..index].iter().any(|earlier| earlier.name.value == name.value) {
            let message = format!("found a second listener named {:?}, expected unique names", &*name.value);
            cx.report(codes::SCHEMA, name.pos, message, "");
        }
    }
    Some(listeners)
}

fn at_least_one<T: Decode>(node: &Node<'_>, cx: &mut Cx) -> Option<Vec<T>> {
    let items = Vec::decode(node, cx)?;
    if node.items().is_some_and(<[_]>::is_empty) {
        cx.report(codes::SCHEMA, node.pos, "it is empty, expected at least one item", "");
    }
    Some(items)
}

/// `hostname`; the empty text counts as not given.
fn hostname(node: &Node<'_>, cx: &mut Cx) -> Option<Spanned<Arc<str>>> {
    if scalar::string(node, cx)?.is_empty() {
        return None;
    }
    spanned(gateway_refs::hostname)(node, cx)
}

fn protocol(node: &Node<'_>, cx: &mut Cx) -> Option<Spanned<Arc<str>>> {
    let value = parsed(node, cx, "`HTTP`, `HTTPS`, `TLS`, `TCP`, `UDP`, or DOMAIN/NAME", |text| {
        let word = |part: &str| is_host(part) && !part.contains(['.', '_']);
        let legal = match text.split_once('/') {
            None => word(text),
            Some((domain, name)) => is_host(domain) && word(name),
        };
        legal.then(|| text.to_owned())
    })?;
    Some(Spanned { value: cx.text(&value), pos: node.pos })
}

fn check_gateway(gateway: &Gateway, _pos: Pos, cx: &mut Cx) {
    proxy_protocol::check(&gateway.meta, cx);
}

fn check_listener(listener: &Listener, pos: Pos, cx: &mut Cx) {
    let protocol = clip(&listener.protocol);
    let plain = matches!(protocol, "HTTP" | "TCP" | "UDP");
    if let Some(tls) = &listener.tls {
        if plain {
            cx.report(codes::SCHEMA, tls.pos, format!("tls: found it, expected none with protocol {protocol}"), "");
        }
        if protocol == "HTTPS" && tls.mode == Some(TlsMode::Passthrough) {
            let hint = "protocol TLS with TLSRoutes passes TLS through";
            cx.report(codes::SCHEMA, tls.pos, "tls.mode: found Passthrough, expected Terminate with HTTPS", hint);
        }
        if tls.mode != Some(TlsMode::Passthrough) && tls.certificates.is_empty() && tls.options.is_empty() {
            cx.report(codes::SCHEMA, tls.pos, "tls: `certificateRefs` is missing, expected at least one", "");
        }
    }
    if protocol == "TLS" && listener.tls.as_ref().is_none_or(|tls| tls.mode.is_none()) {
        cx.report(codes::SCHEMA, pos, "tls.mode: it is missing, expected one with protocol TLS", "");
    }
    if let Some(hostname) = listener.hostname.as_ref().filter(|_| matches!(protocol, "TCP" | "UDP")) {
        cx.report(codes::SCHEMA, hostname.pos, format!("hostname: found it, expected none with {protocol}"), "");
    }
}

fn check_route_namespaces(namespaces: &RouteNamespaces, pos: Pos, cx: &mut Cx) {
    check_selector(namespaces.from == RoutesFrom::Selector, namespaces.selector.as_ref(), pos, cx);
}

fn check_listener_namespaces(namespaces: &ListenerNamespaces, pos: Pos, cx: &mut Cx) {
    check_selector(namespaces.from == ListenersFrom::Selector, namespaces.selector.as_ref(), pos, cx);
}

/// A selector counts with `from: Selector` and nowhere else.
fn check_selector(counts: bool, selector: Option<&LabelSelector>, pos: Pos, cx: &mut Cx) {
    match selector {
        None if counts => {
            cx.report(
                codes::NO_EFFECT,
                pos,
                "`from: Selector` without `selector` selects no namespace",
                "add a `selector`",
            );
        }
        Some(_) if !counts => {
            cx.report(codes::NO_EFFECT, pos, "`selector` has no effect", "it counts with `from: Selector`");
        }
        None | Some(_) => {}
    }
}

fn check_frontend(frontend: &FrontendTls, _pos: Pos, cx: &mut Cx) {
    for (index, entry) in frontend.per_port.iter().enumerate() {
        if frontend.per_port[..index].iter().any(|earlier| earlier.port == entry.port) {
            let message = format!("perPort[{index}]: found port {} a second time, expected it once", entry.port);
            cx.report(codes::SCHEMA, entry.pos, message, "");
        }
    }
}
