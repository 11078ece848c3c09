//! A listener made ready for the request path: its chains with their routes, and what its direction means.

use std::sync::Arc;

use outrigger_model::{Direction, HostPattern, Listener, Serve, Workload};

use crate::route::Table;

/// A compiled listener.
#[derive(Debug)]
pub(crate) struct Site {
    /// What the snapshot says of it.
    pub(crate) listener: Arc<Listener>,
    /// Its chains, in the snapshot's order.
    pub(crate) chains: Vec<Chain>,
    /// Whether clients are strangers: nobody vouches for the forwarding headers they send.
    pub(crate) clients_are_strangers: bool,
}

/// A compiled chain.
#[derive(Debug)]
pub(crate) struct Chain {
    /// Routes, where it serves HTTP.
    pub(crate) routes: Option<Table>,
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
            let routes = match &chain.serve {
                Serve::Http(routes) => Some(Table::compile(routes, before.and_then(|b| b.routes.as_ref()))),
                Serve::Tcp(_) => None,
            };
            Chain { routes }
        });
        let clients_are_strangers = match listener.direction {
            Direction::Gateway => true,
            Direction::Outbound => &*own.name == Workload::UNKNOWN,
            Direction::Inbound(_) => false,
        };
        Self { chains: chains.collect(), clients_are_strangers, listener: listener.clone() }
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
