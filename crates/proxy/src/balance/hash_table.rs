//! The table of a consistent hash: a ring or a Maglev table for each level of priority.
//!
//! Built on the control thread when the endpoints of a cluster change, shared by all workers. It holds all endpoints;
//! those that are not available are passed over when it is asked, so an ejection moves only its own requests and needs
//! no new table.

use std::collections::BTreeMap;
use std::sync::Arc;

use outrigger_model::{BalancePolicy, Locality};

use super::hosts::Hosts;
use super::maglev::Maglev;
use super::ring_hash::Ring;
use crate::cluster::EndpointState;

/// The table of one cluster.
#[derive(Debug)]
pub(crate) struct HashTable {
    /// By ascending priority number, as in [`super::layout::Layout`].
    levels: Vec<Level>,
}

#[derive(Debug)]
enum Level {
    Ring(Ring),
    Maglev(Maglev),
    /// All its localities have weight zero.
    Empty,
}

impl HashTable {
    /// Builds the table; `None` for policies that have none, and for no endpoints.
    ///
    /// Where endpoints have a locality weight, a locality has its share of the table, and its endpoints have theirs of
    /// that, as in Envoy.
    pub(crate) fn build(policy: &BalancePolicy, hosts: &[Arc<EndpointState>]) -> Option<Arc<Self>> {
        if !matches!(policy, BalancePolicy::RingHash { .. } | BalancePolicy::Maglev { .. }) || hosts.is_empty() {
            return None;
        }
        let hosts = Hosts::new(hosts.into());
        let mut levels: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for host in 0..hosts.len() as u32 {
            levels.entry(hosts.endpoint(host).priority).or_default().push(host);
        }
        let levels = levels.into_values().map(|members| Level::build(policy, &hosts, &members)).collect();
        Some(Arc::new(Self { levels }))
    }

    /// The available host of a level for a hash.
    pub(super) fn find(&self, level: usize, hash: u64, is_available: impl Fn(u32) -> bool) -> Option<u32> {
        match self.levels.get(level)? {
            Level::Ring(ring) => ring.find(hash, is_available),
            Level::Maglev(maglev) => maglev.find(hash, is_available),
            Level::Empty => None,
        }
    }
}

impl Level {
    fn build(policy: &BalancePolicy, hosts: &Hosts, members: &[u32]) -> Self {
        let shares = shares(hosts, members);
        match policy {
            _ if shares.is_empty() => Self::Empty,
            BalancePolicy::RingHash { ring_size_min, .. } => {
                Self::Ring(Ring::build(hosts, &shares, *ring_size_min, BalancePolicy::RING_SIZE_MAX))
            }
            BalancePolicy::Maglev { table_size, .. } => Self::Maglev(Maglev::build(hosts, &shares, *table_size)),
            _ => Self::Empty,
        }
    }
}

/// What share of the level each endpoint has; those in a locality without weight have none and are left out.
fn shares(hosts: &Hosts, members: &[u32]) -> Vec<(u32, f64)> {
    let mut localities: BTreeMap<&Locality, (u32, Vec<u32>)> = BTreeMap::new();
    let weighted = members.iter().any(|host| hosts.endpoint(*host).locality_weight > 0);
    let nowhere = Locality::default();
    for host in members {
        let endpoint = hosts.endpoint(*host);
        let (locality, weight) = if weighted { (&endpoint.locality, endpoint.locality_weight) } else { (&nowhere, 1) };
        localities.entry(locality).or_insert((weight, Vec::new())).1.push(*host);
    }
    let all: f64 = localities.values().map(|(weight, _)| f64::from(*weight)).sum();
    let mut shares = Vec::with_capacity(members.len());
    for (weight, members) in localities.values().filter(|(weight, _)| *weight > 0) {
        let sum: f64 = members.iter().map(|host| f64::from(hosts.endpoint(*host).weight)).sum();
        let share = |host: u32| f64::from(hosts.endpoint(host).weight) * (f64::from(*weight) / all) / sum;
        shares.extend(members.iter().map(|host| (*host, share(*host))));
    }
    shares
}

#[cfg(test)]
mod tests;
