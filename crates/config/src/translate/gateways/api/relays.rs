//! The chains of listeners that relay connections: TLS that passes through or ends here, and TCP.
//!
//! As with requests, a server name belongs to the most specific listener of its port, and meets the routes of no other. Of
//! routes for one server name, or for one listener of TCP, the oldest gets the connections; all of them are attached
//! (`TCPRouteMultipleRoutesAttachment` of the conformance suite). What a listener has no route for is reset.

use std::collections::HashMap;
use std::sync::Arc;

use outrigger_model::{Chain, HostPattern, Serve, TcpRoute};

use super::attach::Attached;
use super::chains::Port;
use super::hosts::{ANY, wider};
use super::listeners::{Entry, Protocol};
use crate::hosts::pattern;
use crate::node::Pos;
use crate::object::Metadata;
use crate::precedence;
use crate::translate::l4_routes;

/// Where the connections of each TLSRoute and TCPRoute go, by the address of its metadata.
pub(super) type Relays = HashMap<*const Metadata, Arc<TcpRoute>>;

/// The chains of one listener of a port.
pub(super) fn chains(port: &Port<'_>, at: usize) -> Vec<Chain> {
    let entry = port.entries[at];
    let mut taken: HashMap<&Arc<str>, (&Metadata, Pos)> = HashMap::new();
    let mut chains = Vec::new();
    for attached in &entry.attached {
        let Some(route) = port.relays.get(&std::ptr::from_ref(attached.route.meta())) else { continue };
        let mut names = Vec::new();
        for host in attached.hosts.iter().filter(|host| port.owner(host) == Some(at)) {
            let this = (attached.route.meta(), named(attached, host));
            match taken.get(host) {
                None => {
                    taken.insert(host, this);
                    names.push(host);
                }
                Some(first) => {
                    let lost = match entry.protocol {
                        Protocol::Tcp => precedence::taken(&format!("listener {}", entry.label()), this, *first),
                        _ => precedence::server_name_taken(host, this, *first),
                    };
                    port.builder.resolver.report(lost);
                }
            }
        }
        if !names.is_empty() {
            chains.push(chain(entry, &names, route.clone()));
        }
    }
    // What none of its routes is for must not fall to a wider listener.
    let in_wider = wider(&entry.hostname).skip(1).any(|wide| port.owner(&wide).is_some());
    if chains.is_empty() || in_wider && !taken.contains_key(&entry.hostname) {
        chains.push(nowhere(entry, "the listener has no route for it"));
    }
    chains
}

/// The chain of a listener that cannot be served for want of a certificate: its hosts are its own all the same, and are not
/// relayed by a listener for more.
pub(super) fn closed(port: &Port<'_>, at: usize) -> Option<Chain> {
    let entry = port.entries[at];
    let relays = |wide: String| {
        let owner = port.owner(&wide).map(|owner| port.entries[owner].protocol);
        matches!(owner, Some(Protocol::Tls | Protocol::Passthrough))
    };
    let falls = !entry.is_usable() && wider(&entry.hostname).skip(1).any(relays);
    falls.then(|| nowhere(entry, "the listener has no certificate"))
}

fn nowhere(entry: &Entry<'_>, reason: &str) -> Chain {
    chain(entry, &[&entry.hostname], Arc::new(l4_routes::nowhere(None, reason)))
}

/// Where a route names a host; as a whole, where the host is the listener's.
fn named(attached: &Attached<'_>, host: &str) -> Pos {
    let written = attached.route.hostnames().iter().find(|written| *written.0 == *host);
    written.map_or(attached.route.meta().pos, |written| written.pos)
}

/// Names that take in every client are none: a client may name no server.
fn chain(entry: &Entry<'_>, names: &[&Arc<str>], route: Arc<TcpRoute>) -> Chain {
    let all = names.iter().any(|name| &***name == ANY);
    let server_names: Vec<HostPattern> =
        if all { Vec::new() } else { names.iter().map(|name| pattern(name)).collect() };
    Chain { server_names, tls: entry.tls.clone(), serve: Serve::Tcp(route) }
}
