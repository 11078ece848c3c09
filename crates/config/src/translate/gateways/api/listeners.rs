//! The listeners of a Gateway and of the ListenerSets that add to it: what each accepts, and which of them conflict.

use std::sync::Arc;

use outrigger_model::{ClientCertificate, KeyPair, ServerTls, TlsVersion};

use super::attach::Attached;
use super::fault::Fault;
use super::hosts::ANY;
use super::tls::Vault;
use crate::codes;
use crate::kind::gateway_api::{self, FrontendTls, GROUP, ListenerTls, TlsMode, ValidationMode};
use crate::node::Spanned;
use crate::object::Metadata;

/// A listener.
pub(super) struct Entry<'r> {
    /// The Gateway or ListenerSet it stands in.
    pub(super) meta: &'r Metadata,
    /// As written.
    pub(super) spec: &'r Spanned<gateway_api::Listener>,
    /// Which of the Gateway's ListenerSets it stands in; `None` for the Gateway itself.
    pub(super) set: Option<usize>,
    /// Its host name, `*` for all.
    pub(super) hostname: Arc<str>,
    /// What it speaks.
    pub(super) protocol: Protocol,
    /// `supportedKinds`.
    pub(super) kinds: Vec<&'static str>,
    /// Why it is in conflict: `HostnameConflict` or `ProtocolConflict`.
    pub(super) conflict: Option<Fault<'r>>,
    /// Why it is not accepted for other reasons.
    pub(super) refused: Option<Fault<'r>>,
    /// References that lead to nothing usable.
    pub(super) unresolved: Vec<Fault<'r>>,
    /// TLS that it terminates; `None` where none ends here, and without a usable certificate.
    pub(super) tls: Option<Arc<ServerTls>>,
    /// The routes attached to it, in order of precedence.
    pub(super) attached: Vec<Attached<'r>>,
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// `HTTP`.
    Http,
    /// `HTTPS`.
    Https,
    /// `TLS` that ends here; the bytes within are relayed.
    Tls,
    /// `TLS` that is relayed untouched.
    Passthrough,
    /// `TCP`: has its port for itself.
    Tcp,
    /// `UDP`: shares a port with everything else, as its packets are no connections.
    Udp,
    /// Anything else: not served.
    Other,
}

impl Protocol {
    fn of(spec: &gateway_api::Listener) -> Self {
        let passes = spec.tls.as_ref().is_some_and(|tls| tls.mode == Some(TlsMode::Passthrough));
        match &*spec.protocol.value {
            "HTTP" => Self::Http,
            "HTTPS" => Self::Https,
            "TLS" if passes => Self::Passthrough,
            "TLS" => Self::Tls,
            "TCP" => Self::Tcp,
            "UDP" => Self::Udp,
            _ => Self::Other,
        }
    }

    fn is_served(self) -> bool {
        !matches!(self, Self::Udp | Self::Other)
    }

    /// Whether clients begin with a hello, whose server name tells listeners apart.
    fn is_secure(self) -> bool {
        matches!(self, Self::Https | Self::Tls | Self::Passthrough)
    }

    /// The kinds of routes that it takes.
    fn kinds(self) -> &'static [&'static str] {
        match self {
            Self::Http | Self::Https => &["HTTPRoute", "GRPCRoute"],
            Self::Tls => &["TLSRoute", "TCPRoute"],
            Self::Passthrough => &["TLSRoute"],
            Self::Tcp => &["TCPRoute"],
            Self::Udp | Self::Other => &[],
        }
    }

    /// Whether a port can have both: then only host names tell listeners apart.
    fn shares_port_with(self, other: Self) -> bool {
        self == Self::Http && other == Self::Http || self.is_secure() && other.is_secure()
    }
}

impl<'r> Entry<'r> {
    /// A listener by itself, without a look at its neighbours.
    pub(super) fn new(
        meta: &'r Metadata,
        spec: &'r Spanned<gateway_api::Listener>,
        set: Option<usize>,
        gateway: &'r gateway_api::Gateway,
        vault: &Vault<'r>,
    ) -> Self {
        let protocol = Protocol::of(spec);
        let mut entry = Self {
            meta,
            spec,
            set,
            hostname: spec.hostname.as_ref().map_or_else(|| ANY.into(), |h| h.value.clone()),
            protocol,
            kinds: Vec::new(),
            conflict: None,
            refused: None,
            unresolved: Vec::new(),
            tls: None,
            attached: Vec::new(),
        };
        entry.judge_kinds();
        match protocol {
            Protocol::Http | Protocol::Passthrough | Protocol::Tcp => {}
            Protocol::Https | Protocol::Tls => entry.judge_tls(gateway, vault),
            Protocol::Udp | Protocol::Other => {
                let written = &spec.protocol;
                let message = format!(
                    "listener {}: protocol {} is not served, only HTTP, HTTPS, TLS and TCP are",
                    spec.name.value, written.value
                );
                let hint = if protocol == Protocol::Udp { "routes of UDP are to come" } else { "" };
                entry.refused = Some(entry.fault(written.pos, "UnsupportedProtocol", message, hint));
            }
        }
        entry
    }

    /// `Accepted`.
    pub(super) fn is_accepted(&self) -> bool {
        self.conflict.is_none() && self.refused.is_none()
    }

    /// Whether it can be served, if its Gateway is.
    pub(super) fn is_usable(&self) -> bool {
        let ends_tls = matches!(self.protocol, Protocol::Https | Protocol::Tls);
        self.is_accepted() && (!ends_tls || self.tls.is_some())
    }

    /// `http (80)`, for messages.
    pub(super) fn label(&self) -> String {
        format!("{} ({})", self.spec.name.value, self.spec.port)
    }

    fn fault(&self, pos: crate::node::Pos, reason: &'static str, message: String, hint: &str) -> Fault<'r> {
        let code = codes::LISTENER_REFUSED;
        Fault { meta: self.meta, pos, code, reason, message, hint: hint.to_owned() }
    }

    /// Which kinds of routes may attach.
    fn judge_kinds(&mut self) {
        let supported = self.protocol.kinds();
        let wanted = &self.spec.allowed_routes.kinds;
        if wanted.is_empty() {
            self.kinds = supported.to_vec();
            return;
        }
        for kind in wanted {
            let known = supported.iter().find(|known| *kind.group == *GROUP && *kind.kind == ***known);
            match known {
                Some(known) if self.kinds.contains(known) => {}
                Some(known) => self.kinds.push(known),
                None => {
                    let (name, protocol) = (&self.spec.name.value, &self.spec.protocol.value);
                    let message =
                        format!("listener {name}: routes of kind {} cannot attach to protocol {protocol}", kind.kind);
                    let hint = match supported {
                        [] => String::new(),
                        some => format!("{} can", some.join(" and ")),
                    };
                    self.unresolved.push(self.fault(kind.pos, "InvalidRouteKinds", message, &hint));
                }
            }
        }
    }

    fn judge_tls(&mut self, gateway: &'r gateway_api::Gateway, vault: &Vault<'r>) {
        let Some(tls) = &self.spec.tls else {
            let (name, protocol) = (&self.spec.name.value, &self.spec.protocol.value);
            let message = format!("listener {name}: `tls` is missing, {protocol} needs a certificate");
            let hint = "add tls.certificateRefs with a Secret of type kubernetes.io/tls";
            self.refused = Some(self.fault(self.spec.pos, "Invalid", message, hint));
            return;
        };
        let certificates = self.certificates(tls, vault);
        // Validation of clients is for "Listeners handling HTTPS traffic" (`GatewayTLSConfig`).
        let client = match self.protocol {
            Protocol::Https => self.client_certificate(gateway, vault),
            _ => Some(ClientCertificate::None),
        };
        if certificates.is_empty() {
            return;
        }
        let (version_min, version_max) = (TlsVersion::V1_2, TlsVersion::V1_3);
        self.tls = client.map(|client| Arc::new(ServerTls { certificates, client, version_min, version_max }));
    }

    fn certificates(&mut self, tls: &'r Spanned<ListenerTls>, vault: &Vault<'r>) -> Vec<Arc<KeyPair>> {
        const REASON: &str = "InvalidCertificateRef";
        let mut certificates = Vec::new();
        for reference in &tls.certificates {
            match vault.key_pair(self.meta, reference.pos, reference, REASON) {
                Ok(pair) => certificates.push(pair),
                Err(fault) => self.unresolved.push(fault),
            }
        }
        if tls.certificates.is_empty() {
            let (name, protocol) = (&self.spec.name.value, &self.spec.protocol.value);
            let message = format!("listener {name}: no certificateRefs, {protocol} needs a certificate");
            self.unresolved.push(self.fault(tls.pos, REASON, message, "name a Secret of type kubernetes.io/tls"));
        }
        certificates
    }

    /// What is asked of clients; `None` when it cannot be known whom to let in.
    fn client_certificate(
        &mut self,
        gateway: &'r gateway_api::Gateway,
        vault: &Vault<'r>,
    ) -> Option<ClientCertificate> {
        let Some(FrontendTls { default, per_port }) = &gateway.spec.tls.frontend else {
            return Some(ClientCertificate::None);
        };
        let own = per_port.iter().find(|p| p.port == self.spec.port).map(|p| &p.value.tls);
        let Some(validation) = &own.unwrap_or(default).validation else { return Some(ClientCertificate::None) };
        if let Some(mode) = validation.mode.as_ref().filter(|m| m.value == ValidationMode::AllowInsecureFallback) {
            let message = format!(
                "listener {}: validation mode AllowInsecureFallback of {} is not supported",
                self.spec.name.value,
                gateway.meta.object_ref()
            );
            let hint = "use AllowValidOnly, or no validation: with the fallback every client is let in as well";
            let fault = Fault { meta: &gateway.meta, ..self.fault(mode.pos, "UnsupportedValue", message, hint) };
            self.refused = Some(fault);
            return None;
        }
        let (authorities, faults) = vault.authorities(&gateway.meta, validation);
        self.unresolved.extend(faults);
        if authorities.is_none() {
            let message =
                format!("listener {}: none of the authorities for its clients is usable", self.spec.name.value);
            self.refused =
                Some(self.fault(self.spec.pos, "NoValidCACertificate", message, "see the references at fault"));
        }
        authorities.map(ClientCertificate::Required)
    }
}

/// Finds conflicts among listeners of one Gateway, in order of precedence: the Gateway's own, then each ListenerSet's.
///
/// Between objects the earlier wins, and what lost its place to an earlier object is in nobody's way. Within one object
/// nobody wins: all listeners that cannot be told apart are out. What this proxy does not serve anyway conflicts with
/// nothing before it came, so that a listener of UDP does not take down its neighbours.
pub(super) fn find_conflicts(entries: &mut [Entry<'_>]) {
    let mut found: Vec<(usize, &'static str, usize)> = Vec::new();
    let mut lost = vec![false; entries.len()];
    for (at, entry) in entries.iter().enumerate() {
        let earlier = (0..at).filter(|index| entries[*index].set != entry.set && !lost[*index]);
        if let Some((reason, index)) = worst_conflict(entry, earlier, entries) {
            lost[at] = true;
            found.push((at, reason, index));
        }
    }
    for (at, entry) in entries.iter().enumerate().filter(|(at, entry)| !lost[*at] && entry.protocol.is_served()) {
        let beside =
            (0..entries.len()).filter(|index| *index != at && entries[*index].set == entry.set && !lost[*index]);
        found.extend(worst_conflict(entry, beside, entries).map(|(reason, index)| (at, reason, index)));
    }
    for (at, reason, index) in found {
        let (entry, other) = (&entries[at], &entries[index]);
        // Other owners' objects are named, nothing of their content is: a ListenerSet may be a stranger's.
        let owner = if other.set == entry.set { String::new() } else { format!(" of {}", other.meta.object_ref()) };
        let (what, hint) = match reason {
            PROTOCOL if entry.protocol.is_secure() && other.protocol.is_secure() => {
                ("another protocol for the same port and host name", "give one of them another host name or port")
            }
            PROTOCOL if entry.protocol == Protocol::Tcp && other.protocol == Protocol::Tcp => {
                ("both are of TCP, which has a port for itself", "give one of them another port")
            }
            PROTOCOL => ("another protocol on the same port", "give one of them another port"),
            _ => ("the same port and host name", "give one of them another host name or port"),
        };
        let message = format!("listener {} conflicts with listener {}{owner}: {what}", entry.label(), other.label());
        let pos =
            entry.spec.hostname.as_ref().filter(|_| reason == HOSTNAME).map_or(entry.spec.protocol.pos, |h| h.pos);
        let fault = entry.fault(pos, reason, message, hint);
        entries[at].conflict = Some(fault);
    }
}

/// The conflict with one of others that are served. Another protocol on the port weighs more than the same host name; of
/// equals the first is named.
fn worst_conflict(
    entry: &Entry<'_>,
    others: impl Iterator<Item = usize>,
    entries: &[Entry<'_>],
) -> Option<(&'static str, usize)> {
    let mut worst = None;
    for index in others.filter(|index| entries[*index].protocol.is_served()) {
        match (conflict(entry, &entries[index]), worst) {
            (Some(PROTOCOL), None | Some((HOSTNAME, _))) => worst = Some((PROTOCOL, index)),
            (Some(reason), None) => worst = Some((reason, index)),
            _ => {}
        }
    }
    worst
}

const HOSTNAME: &str = "HostnameConflict";
const PROTOCOL: &str = "ProtocolConflict";

/// Why a listener cannot be told apart from another.
fn conflict(entry: &Entry<'_>, other: &Entry<'_>) -> Option<&'static str> {
    if entry.spec.port != other.spec.port || (entry.protocol == Protocol::Udp) != (other.protocol == Protocol::Udp) {
        None
    } else if !entry.protocol.shares_port_with(other.protocol) {
        Some(PROTOCOL)
    } else if entry.hostname == other.hostname {
        // Listeners that differ in their TLS alone are of one protocol.
        let same = (entry.protocol == Protocol::Https) == (other.protocol == Protocol::Https);
        Some(if same { HOSTNAME } else { PROTOCOL })
    } else {
        None
    }
}
