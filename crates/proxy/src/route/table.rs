//! The compiled route table of one listener: from a host name and port to a virtual host.
//!
//! Exact names are one hash look-up. Wildcards are looked up by each distinct length of their texts, longest first, so
//! that the cost depends on the shapes of the configured names and not on how many there are.

use std::collections::HashMap;
use std::sync::Arc;

use outrigger_model::{DomainPort, HostPattern, RouteTable, Unmatched, VirtualHost};

use super::Host;

/// A compiled route table; workers share it in an `Arc`.
#[derive(Debug)]
pub(crate) struct Table {
    unmatched: Unmatched,
    hosts: Vec<Arc<Host>>,
    exact: HashMap<Box<[u8]>, Ports, foldhash::fast::RandomState>,
    suffixes: Wildcards,
    prefixes: Wildcards,
    any: Ports,
}

impl Table {
    /// Compiles `routes`.
    ///
    /// Virtual hosts that `previous` has compiled already are shared with it. In changed ones, a route whose name,
    /// destinations and weights stayed the same goes on with its weighted sequence where it was.
    pub(crate) fn compile(routes: &Arc<RouteTable>, previous: Option<&Self>) -> Self {
        let known: HashMap<*const VirtualHost, &Arc<Host>> =
            previous.iter().flat_map(|table| &table.hosts).map(|host| (Arc::as_ptr(&host.vhost), host)).collect();
        let named: HashMap<&str, &Arc<Host>> =
            previous.iter().flat_map(|table| &table.hosts).map(|host| (&*host.vhost.name, host)).collect();
        let mut table = Self {
            unmatched: routes.unmatched,
            hosts: Vec::with_capacity(routes.virtual_hosts.len()),
            exact: HashMap::default(),
            suffixes: Wildcards::default(),
            prefixes: Wildcards::default(),
            any: Ports::default(),
        };
        for vhost in &routes.virtual_hosts {
            let host = match known.get(&Arc::as_ptr(vhost)) {
                Some(host) => Arc::clone(host),
                None => Arc::new(Host::compile(vhost, named.get(&*vhost.name).map(|host| &***host))),
            };
            table.insert(host);
        }
        table.suffixes.seal();
        table.prefixes.seal();
        table
    }

    /// What happens to a host that no virtual host claims.
    pub(crate) fn unmatched(&self) -> Unmatched {
        self.unmatched
    }

    /// The virtual host that answers for `host` (lower case, without port and trailing dot).
    ///
    /// `stated_port` is the port in the request's authority, `default_port` the one meant when there is none. Envoy's
    /// order of preference holds: exact name, longest suffix, longest prefix, any; a name whose ports do not fit
    /// leaves the request to the next.
    pub(crate) fn host(&self, host: &[u8], stated_port: Option<u16>, default_port: u16) -> Option<&Arc<Host>> {
        let port = RequestPort { stated: stated_port.is_some(), effective: stated_port.unwrap_or(default_port) };
        let at = self
            .exact
            .get(host)
            .and_then(|ports| ports.find(port))
            .or_else(|| self.suffixes.find(host, port, |length| &host[host.len() - length..]))
            .or_else(|| self.prefixes.find(host, port, |length| &host[..length]))
            .or_else(|| self.any.find(port))?;
        self.hosts.get(at as usize)
    }

    fn insert(&mut self, host: Arc<Host>) {
        let at = self.hosts.len() as u32;
        for domain in &host.vhost.domains {
            let ports = match &domain.host {
                HostPattern::Exact(name) => self.exact.entry(name.as_bytes().into()).or_default(),
                HostPattern::Suffix(text) => self.suffixes.texts.entry(text.as_bytes().into()).or_default(),
                HostPattern::Prefix(text) => self.prefixes.texts.entry(text.as_bytes().into()).or_default(),
                HostPattern::Any => &mut self.any,
            };
            ports.claim(domain.port, at);
        }
        self.hosts.push(host);
    }
}

/// Suffixes or prefixes.
#[derive(Debug, Default)]
struct Wildcards {
    texts: HashMap<Box<[u8]>, Ports, foldhash::fast::RandomState>,
    /// The distinct lengths of `texts`, longest first.
    lengths: Vec<usize>,
}

impl Wildcards {
    fn seal(&mut self) {
        self.lengths = self.texts.keys().map(|text| text.len()).collect();
        self.lengths.sort_unstable_by(|a, b| b.cmp(a));
        self.lengths.dedup();
    }

    /// The longest text that fits; the star stands for at least one character.
    fn find<'a>(&self, host: &'a [u8], port: RequestPort, part: impl Fn(usize) -> &'a [u8]) -> Option<u32> {
        self.lengths
            .iter()
            .filter(|length| **length < host.len())
            .find_map(|length| self.texts.get(part(*length)).and_then(|ports| ports.find(port)))
    }
}

/// The port of a request.
#[derive(Clone, Copy)]
struct RequestPort {
    stated: bool,
    effective: u16,
}

/// Which virtual host has which port of one host pattern.
#[derive(Debug, Default)]
struct Ports(Vec<(DomainPort, u32)>);

impl Ports {
    /// The model promises that no domain is claimed twice; should it happen, the first claim holds.
    fn claim(&mut self, port: DomainPort, host: u32) {
        if self.get(port).is_none() {
            self.0.push((port, host));
        }
    }

    fn get(&self, port: DomainPort) -> Option<u32> {
        self.0.iter().find(|(claimed, _)| *claimed == port).map(|(_, host)| *host)
    }

    fn find(&self, port: RequestPort) -> Option<u32> {
        self.get(DomainPort::Exact(port.effective))
            .or_else(|| if port.stated { None } else { self.get(DomainPort::Unstated) })
            .or_else(|| self.get(DomainPort::Any))
    }
}
