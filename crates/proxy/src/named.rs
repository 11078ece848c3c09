//! Endpoints by name: the addresses of the names of a cluster, joined with its live state.
//!
//! With `Discovery::Dns` every address is an endpoint. With `Discovery::DnsRoundRobin` a name is one endpoint, whose
//! connections go to the addresses in turn: those that are open stay where they are when its addresses change.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use outrigger_model::{Cluster, Discovery, Endpoint, NamedEndpoint};

use crate::cluster::EndpointState;
use crate::dns::Name;

/// A name of a cluster with the addresses that were taken from it.
#[derive(Debug)]
pub(crate) struct Held {
    /// `None` where there are too many names in the process.
    pub(crate) name: Option<Arc<Name>>,
    addresses: Arc<[IpAddr]>,
}

/// Where the address of an endpoint comes from.
#[derive(Debug)]
pub(crate) struct Place {
    /// What the snapshot says.
    pub(crate) named: Arc<NamedEndpoint>,
    /// The addresses that are taken in turn; empty where each is an endpoint of its own.
    turns: Box<[SocketAddr]>,
    next: AtomicUsize,
}

impl Held {
    /// With the addresses of now.
    pub(crate) fn new(name: Option<Arc<Name>>) -> Self {
        let addresses = name.as_ref().map_or_else(Arc::default, |name| name.addresses());
        Self { name, addresses }
    }

    /// Whether the name still has these addresses.
    pub(crate) fn is_current(&self) -> bool {
        self.name.as_ref().is_none_or(|name| Arc::ptr_eq(&name.addresses(), &self.addresses))
    }

    /// Why there are no addresses.
    pub(crate) fn why_empty(&self) -> String {
        match &self.name {
            None => "there are too many names".to_owned(),
            Some(name) => {
                name.failure().map_or_else(|| "no name server has answered yet".to_owned(), |f| f.to_string())
            }
        }
    }
}

impl Place {
    fn new(named: &Arc<NamedEndpoint>, turns: Box<[SocketAddr]>) -> Self {
        Self { named: named.clone(), turns, next: AtomicUsize::new(0) }
    }

    /// The next address where there are turns. All workers share them.
    pub(crate) fn next(&self) -> Option<SocketAddr> {
        if self.turns.is_empty() {
            return None;
        }
        self.turns.get(self.next.fetch_add(1, Ordering::Relaxed) % self.turns.len()).copied()
    }
}

/// The endpoints of a cluster: those of its snapshot, and after them those of its names, each address once. What was there
/// `before` stays the same endpoint.
pub(crate) fn hosts(
    model: &Cluster,
    from_snapshot: Vec<Arc<EndpointState>>,
    held: &[Held],
    before: &[Arc<EndpointState>],
    now: Instant,
) -> Arc<[Arc<EndpointState>]> {
    let mut hosts = from_snapshot;
    let mut seen: HashSet<SocketAddr, foldhash::fast::RandomState> = hosts.iter().map(|h| h.endpoint.address).collect();
    for (named, held) in model.names.iter().zip(held).filter(|(_, held)| !held.addresses.is_empty()) {
        let addresses = held.addresses.iter().map(|ip| SocketAddr::new(*ip, named.port));
        if model.discovery == Discovery::DnsRoundRobin {
            hosts.push(one_in_turns(named, addresses.collect(), before, now));
            continue;
        }
        for address in addresses.filter(|address| seen.insert(*address)) {
            let known = before.iter().find(|host| host.endpoint.address == address);
            hosts.push(state(known, named, address, Box::default(), now));
        }
    }
    hosts.into()
}

/// The one endpoint of a name. It is known by the name: its address is one of several, the one of before while the name has
/// it.
fn one_in_turns(
    named: &Arc<NamedEndpoint>,
    addresses: Box<[SocketAddr]>,
    before: &[Arc<EndpointState>],
    now: Instant,
) -> Arc<EndpointState> {
    let is_it = |host: &&Arc<EndpointState>| {
        host.place().is_some_and(|place| place.named.host == named.host && place.named.port == named.port)
    };
    let known = before.iter().find(is_it);
    let kept = known.map(|host| host.endpoint.address).filter(|address| addresses.contains(address));
    state(known, named, kept.unwrap_or(addresses[0]), addresses, now)
}

fn state(
    known: Option<&Arc<EndpointState>>,
    named: &Arc<NamedEndpoint>,
    address: SocketAddr,
    turns: Box<[SocketAddr]>,
    now: Instant,
) -> Arc<EndpointState> {
    let NamedEndpoint { weight, priority, locality, locality_weight, workload, .. } = &**named;
    let endpoint = Endpoint {
        address,
        weight: *weight,
        priority: *priority,
        locality: locality.clone(),
        locality_weight: *locality_weight,
        workload: workload.clone(),
    };
    let is_same = |state: &&Arc<EndpointState>| {
        let place = state.place().filter(|place| place.named == *named && place.turns == turns);
        place.is_some() && *state.endpoint == endpoint
    };
    if let Some(same) = known.filter(is_same) {
        return same.clone();
    }
    let (endpoint, place) = (Arc::new(endpoint), Arc::new(Place::new(named, turns)));
    Arc::new(match known {
        Some(state) => state.described_by(endpoint, Some(place)),
        None => EndpointState::first_answered(endpoint, place, now),
    })
}
