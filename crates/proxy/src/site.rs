//! A listener made ready for the request path: its chains with their routes, and what its direction means.

use std::sync::Arc;

use outrigger_identity::server_config;
use outrigger_model::{Direction, HostPattern, Listener, Serve, Workload};
use rustls::ServerConfig;

use crate::rate_limit::RateLimits;
use crate::route::{Table, TcpTable};

/// A compiled listener.
#[derive(Debug)]
pub(crate) struct Site {
    /// What the snapshot says of it.
    pub(crate) listener: Arc<Listener>,
    /// Its chains, in the snapshot's order.
    pub(crate) chains: Vec<Chain>,
    /// Whether the first bytes of a connection decide what becomes of it.
    pub(crate) reads_hello: bool,
    /// Whether clients are strangers: nobody vouches for the forwarding headers they send.
    pub(crate) clients_are_strangers: bool,
}

/// A compiled chain.
#[derive(Debug)]
pub(crate) struct Chain {
    /// What happens to TLS.
    pub(crate) tls: Tls,
    /// Routes, where it serves HTTP.
    pub(crate) routes: Option<Table>,
    /// Destinations, where it relays bytes.
    pub(crate) tcp: Option<TcpTable>,
}

/// What a chain does with TLS.
#[derive(Clone, Debug)]
pub(crate) enum Tls {
    /// None is expected, or it passes through.
    None,
    /// It is terminated so. Kept for as long as its settings are the same: tickets of its sessions stay good.
    Terminate(Arc<ServerConfig>),
    /// It should be terminated and cannot be.
    Unusable,
}

impl Site {
    /// Compiles a listener; routes go on where those of `previous` are.
    pub(crate) fn compile(listener: &Arc<Listener>, own: &Workload, previous: Option<&Self>) -> Self {
        let chains = listener.chains.iter().enumerate().map(|(at, chain)| {
            let before = previous.and_then(|site| {
                // Chains are known by their server names; where these are the same twice, by their place.
                let same = site.listener.chains.iter().position(|c| c.server_names == chain.server_names);
                site.chains.get(same.unwrap_or(at))
            });
            let routes = |routes| Table::compile(routes, before.and_then(|b| b.routes.as_ref()));
            let bytes = |route| TcpTable::compile(route, before.and_then(|b| b.tcp.as_ref()));
            let (routes, tcp) = match &chain.serve {
                Serve::Http(http) => (Some(routes(http)), None),
                Serve::Tcp(tcp) => (None, Some(bytes(tcp))),
                Serve::Detect { http, tcp } => (Some(routes(http)), Some(bytes(tcp))),
            };
            Chain { tls: Tls::compile(listener, chain, previous), routes, tcp }
        });
        let reads_hello = listener.chains.iter().any(|chain| chain.tls.is_some() || !chain.server_names.is_empty());
        let clients_are_strangers = match listener.direction {
            Direction::Gateway => true,
            Direction::Outbound => &*own.name == Workload::UNKNOWN,
            Direction::Inbound(_) => false,
        };
        Self { chains: chains.collect(), reads_hello, clients_are_strangers, listener: listener.clone() }
    }

    /// Makes ready what its routes ask for before a request is sent on.
    pub(crate) fn prepare(&self, limits: &RateLimits) {
        self.chains.iter().filter_map(|chain| chain.routes.as_ref()).for_each(|routes| routes.prepare(limits));
    }

    /// The chain for a connection with this server name (lower case).
    pub(crate) fn chain(&self, server_name: Option<&str>) -> Option<usize> {
        let chains = &self.listener.chains;
        if let [only] = &chains[..]
            && only.server_names.is_empty()
        {
            return Some(0);
        }
        let best = |chain: &outrigger_model::Chain| {
            let name = server_name?;
            chain.server_names.iter().filter_map(|pattern| rank(pattern, name)).max()
        };
        let named = (0..chains.len()).filter_map(|at| best(&chains[at]).map(|rank| (rank, at)));
        // Of equal ones the first: the model promises that there are none.
        let named = named.max_by_key(|(rank, at)| (*rank, usize::MAX - at)).map(|(_, at)| at);
        named.or_else(|| chains.iter().position(|chain| chain.server_names.is_empty()))
    }
}

impl Tls {
    /// Makes the settings of a chain ready, or goes on with those of a chain before that had the same.
    fn compile(listener: &Listener, chain: &outrigger_model::Chain, previous: Option<&Site>) -> Self {
        let Some(tls) = &chain.tls else { return Self::None };
        let is_http = |chain: &outrigger_model::Chain| !matches!(chain.serve, Serve::Tcp(_));
        let before = previous.and_then(|site| {
            let same = |c: &outrigger_model::Chain| c.tls.as_ref() == Some(tls) && is_http(c) == is_http(chain);
            site.listener.chains.iter().position(same).map(|at| &site.chains[at].tls)
        });
        if let Some(before) = before {
            return before.clone();
        }
        let protocols: &[&[u8]] = if is_http(chain) { &[b"h2", b"http/1.1"] } else { &[] };
        match server_config(tls, protocols) {
            Ok(config) => Self::Terminate(config),
            Err(error) => {
                // Configuration has been checked before: whatever it was, it is not silent.
                tracing::error!(listener = %listener.name, %error, "connections are closed: TLS cannot be served");
                Self::Unusable
            }
        }
    }
}

/// How well a pattern fits a name: an exact one best, then the longest.
fn rank(pattern: &HostPattern, name: &str) -> Option<(u8, usize)> {
    match pattern {
        HostPattern::Exact(exact) => (**exact == *name).then_some((3, 0)),
        HostPattern::Suffix(suffix) => {
            (name.len() > suffix.len() && name.ends_with(&**suffix)).then_some((2, suffix.len()))
        }
        HostPattern::Prefix(prefix) => {
            (name.len() > prefix.len() && name.starts_with(&**prefix)).then_some((1, prefix.len()))
        }
        HostPattern::Any => Some((0, 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_server_name_wins() {
        let chain = |names: &[HostPattern]| {
            let routes = outrigger_model::RouteTable {
                virtual_hosts: Vec::new(),
                unmatched: outrigger_model::Unmatched::NotFound,
            };
            outrigger_model::Chain { server_names: names.to_vec(), ..outrigger_model::Chain::plain(routes.into()) }
        };
        let listener = Listener {
            name: "gateway|443".into(),
            direction: Direction::Gateway,
            port: 443,
            proxy_protocol: None,
            chains: vec![
                chain(&[]),
                chain(&[HostPattern::Suffix(".example.com".into())]),
                chain(&[HostPattern::Suffix(".shop.example.com".into()), HostPattern::Exact("a.org".into())]),
                chain(&[HostPattern::Exact("x.shop.example.com".into())]),
            ],
        };
        let site = Site::compile(&Arc::new(listener), &Workload::unknown(), None);
        for (name, want) in [
            (None, 0),
            (Some("b.org"), 0),
            (Some("example.com"), 0),
            (Some("a.example.com"), 1),
            (Some("a.shop.example.com"), 2),
            (Some("x.shop.example.com"), 3),
            (Some("a.org"), 2),
        ] {
            assert_eq!(site.chain(name), Some(want), "{name:?}");
        }
    }
}
