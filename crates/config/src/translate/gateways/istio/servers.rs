//! The servers of a proxy's Gateways, port by port: which share a port, and which are left out.
//!
//! The older Gateway comes first, so that a younger one never takes a port or a name away.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use outrigger_model::{Diagnostic, Network, ServerTls};

use super::credentials::Credentials;
use crate::codes::{self, CodeInfo};
use crate::decode::clip;
use crate::kind::istio_gateway::{Bind, IstioGateway, Mode, Protocol, Server};
use crate::kind::proxy_protocol;
use crate::node::{Pos, Spanned};

/// Why a server is left out.
pub(super) type Refusal = Box<Diagnostic>;

/// What a port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// HTTP in plain text: all servers share their hosts.
    Http,
    /// TLS: the server name tells servers apart.
    Tls,
    /// Bytes of one server.
    Tcp,
}

/// A port with its servers.
pub(super) struct Port<'r> {
    /// What it is for.
    pub(super) for_what: Use,
    /// The servers that are served, the oldest Gateway's first.
    pub(super) servers: Vec<Served<'r>>,
    /// The first that wanted the port, served or not.
    first: Wanted<'r>,
    /// Who has a host, where TLS tells servers apart.
    hosts: HashMap<Arc<str>, Wanted<'r>>,
}

/// A server of a Gateway.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'r> {
    /// The Gateway.
    pub(super) gateway: &'r Arc<IstioGateway>,
    /// Which of its servers.
    pub(super) index: usize,
}

/// A server that is served.
pub(super) struct Served<'r> {
    /// Which one.
    pub(super) wanted: Wanted<'r>,
    /// TLS that ends here.
    pub(super) tls: Option<Arc<ServerTls>>,
}

impl<'r> Wanted<'r> {
    /// The server.
    pub(super) fn server(&self) -> &'r Spanned<Server> {
        &self.gateway.spec.servers[self.index]
    }

    /// The full name of the Gateway, as VirtualServices are bound to it.
    pub(super) fn gateway_name(&self) -> String {
        format!("{}/{}", self.gateway.meta.namespace, self.gateway.meta.name)
    }

    /// Its name for people: that of the server, else that of the port.
    pub(super) fn name(&self) -> &'r Arc<str> {
        let server = self.server();
        server.name.as_ref().filter(|name| !name.is_empty()).unwrap_or(&server.port.name)
    }

    /// `spec.servers[0] (https)`.
    pub(super) fn label(&self) -> String {
        format!("spec.servers[{}] ({})", self.index, clip(self.name()))
    }

    /// A finding about it.
    pub(super) fn finding(&self, code: &CodeInfo, pos: Pos, message: &str, hint: impl Into<String>) -> Diagnostic {
        code.about(&self.gateway.meta, pos, format!("{} {message}", self.label()), hint)
    }

    /// A finding that says why it is left out.
    pub(super) fn refusal(&self, code: &CodeInfo, pos: Pos, message: &str, hint: impl Into<String>) -> Refusal {
        Box::new(self.finding(code, pos, message, hint))
    }

    fn place(&self) -> String {
        let meta = &self.gateway.meta;
        format!("{} of {} at {}", self.label(), meta.object_ref(), meta.source.place(self.server().pos))
    }
}

impl Port<'_> {
    /// Who may send PROXY headers: the oldest Gateway on the port says so.
    pub(super) fn proxy_protocol(&self, findings: &mut Vec<Diagnostic>) -> Option<Arc<[Network]>> {
        let oldest = &self.servers.first()?.wanted.gateway.meta;
        let trusted = proxy_protocol::trusted(oldest);
        for served in &self.servers {
            let (meta, number) = (&served.wanted.gateway.meta, served.wanted.server().port.number);
            if let Some(own) = meta.annotations.get(proxy_protocol::ANNOTATION)
                && proxy_protocol::trusted(meta) != trusted
            {
                let message = format!(
                    "annotation {} has no effect on port {number}: {} at {} is older and says otherwise",
                    proxy_protocol::ANNOTATION,
                    oldest.object_ref(),
                    oldest.source.place(oldest.pos)
                );
                findings.push(served.wanted.finding(codes::NO_EFFECT, own.pos, &message, "annotate both alike"));
            }
        }
        trusted
    }
}

/// Sorts the servers of Gateways, the oldest first, into ports.
pub(super) fn plan<'r>(
    gateways: &[&'r Arc<IstioGateway>],
    credentials: &Credentials<'_>,
    findings: &mut Vec<Diagnostic>,
) -> BTreeMap<u16, Port<'r>> {
    let mut ports = BTreeMap::new();
    for gateway in gateways {
        for index in 0..gateway.spec.servers.len() {
            let wanted = Wanted { gateway, index };
            if let Err(refusal) = add(wanted, &mut ports, credentials, findings) {
                findings.push(*refusal);
            }
        }
    }
    ports
}

fn add<'r>(
    wanted: Wanted<'r>,
    ports: &mut BTreeMap<u16, Port<'r>>,
    credentials: &Credentials<'_>,
    findings: &mut Vec<Diagnostic>,
) -> Result<(), Refusal> {
    let server = wanted.server();
    judge_bind(wanted, findings)?;
    let for_what = match (server.port.protocol, &server.tls) {
        (Protocol::Http(_), _) => Use::Http,
        (_, Some(_)) => Use::Tls,
        (_, None) => Use::Tcp,
    };
    let number = server.port.number;
    let port = ports.entry(number).or_insert_with(|| Port {
        for_what,
        servers: Vec::new(),
        first: wanted,
        hosts: HashMap::new(),
    });
    let is_first = port.first.index == wanted.index && Arc::ptr_eq(port.first.gateway, wanted.gateway);
    if port.for_what != for_what || (for_what == Use::Tcp && !is_first) {
        let message = format!(
            "is left out: port {number} is for protocol {} already, since {}",
            port.first.server().port.protocol.as_str(),
            port.first.place()
        );
        let hint = "a port serves plain HTTP, or servers with TLS, or one TCP server: use another port";
        return Err(wanted.refusal(codes::PORT_TAKEN, server.port.pos, &message, hint));
    }
    if for_what == Use::Tls {
        claim_hosts(wanted, port)?;
    }
    let tls = match &server.tls {
        Some(settings) if for_what == Use::Tls => match settings.mode() {
            Mode::Passthrough => None,
            Mode::AutoPassthrough => {
                let pos = settings.mode.as_ref().map_or(server.pos, |mode| mode.pos);
                let message =
                    "is left out: mode AUTO_PASSTHROUGH joins networks of several clusters, and is not supported";
                return Err(wanted.refusal(codes::SERVER_LEFT_OUT, pos, message, "use mode PASSTHROUGH"));
            }
            _ => Some(credentials.server_tls(wanted, settings, findings)?),
        },
        Some(_) | None => None,
    };
    port.servers.push(Served { wanted, tls });
    Ok(())
}

/// Refuses sockets that are no ports; an address does not matter yet, and that is told.
fn judge_bind(wanted: Wanted<'_>, findings: &mut Vec<Diagnostic>) -> Result<(), Refusal> {
    match &wanted.server().bind {
        Some(Spanned { value: Bind::Unix(_), pos }) => {
            let message = "is left out: Unix sockets are not supported";
            return Err(wanted.refusal(codes::SERVER_LEFT_OUT, *pos, message, "give it a port"));
        }
        Some(Spanned { value: Bind::Address(address), pos }) if !address.is_unspecified() => {
            let message = "has `bind`, which is understood, but not enforced yet";
            findings.push(wanted.finding(codes::NOT_ENFORCED, *pos, message, "it listens where the gateway does"));
        }
        None | Some(_) => {}
    }
    Ok(())
}

/// Takes the hosts of a server with TLS, all or none: two servers could not be told apart by them.
fn claim_hosts<'r>(wanted: Wanted<'r>, port: &mut Port<'r>) -> Result<(), Refusal> {
    let server = wanted.server();
    if let Some((host, first)) = server.hosts.iter().find_map(|host| Some((host, port.hosts.get(&host.host)?))) {
        let message = format!(
            "is left out: host {} of port {} belongs to {}",
            clip(&host.host),
            server.port.number,
            first.place()
        );
        let hint = "name the host in one of the two";
        return Err(wanted.refusal(codes::CONFLICTING_GATEWAYS, host.pos, &message, hint));
    }
    port.hosts.extend(server.hosts.iter().map(|host| (host.host.clone(), wanted)));
    Ok(())
}
