//! Addresses of the simulated network: one block of the loopback range, handed out and taken back.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::net::Ipv4Addr;

/// Block `n` of the loopback range. Pods get `127.n.1.1` to `127.n.1.254` and go on with `127.n.16.1`; gateways get
/// `127.n.2.1` to `127.n.15.254`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(pub u8);

/// Last parts from 1 to 254, so that no address looks like that of a network or a broadcast.
const HOSTS: u32 = 254;

impl Network {
    /// The address of the pod of an index; `None` beyond the end of the block.
    pub fn pod(self, index: u32) -> Option<Ipv4Addr> {
        // Gateways stand between the first part and the rest, so that small meshes read well: 127.0.1.7 and 127.0.2.1.
        let third = if index < HOSTS { 1 } else { 15 + index / HOSTS };
        self.host(third, index)
    }

    /// The address of the gateway of an index; `None` beyond the end of its part.
    pub fn gateway(self, index: u32) -> Option<Ipv4Addr> {
        let third = 2 + index / HOSTS;
        if third <= 15 { self.host(third, index) } else { None }
    }

    fn host(self, third: u32, index: u32) -> Option<Ipv4Addr> {
        let fourth = u8::try_from(1 + index % HOSTS).ok()?;
        Some(Ipv4Addr::new(127, self.0, u8::try_from(third).ok()?, fourth))
    }
}

/// Which address belongs to whom.
///
/// An address is free, bound to somebody, or left: its owner is gone, but what listened there may not be yet. Addresses
/// that were never used come first, then the one that has been free for longest, so that late traffic to a removed
/// endpoint does not reach somebody else.
#[derive(Debug)]
pub(super) struct Addresses<K> {
    nth: fn(Network, u32) -> Option<Ipv4Addr>,
    network: Network,
    /// Index of the first address that was never used.
    next: u32,
    free: VecDeque<Ipv4Addr>,
    bound: HashMap<K, Ipv4Addr>,
    left: HashSet<Ipv4Addr>,
}

impl<K: Hash + Eq> Addresses<K> {
    /// All addresses that `nth` gives.
    pub(super) fn new(network: Network, nth: fn(Network, u32) -> Option<Ipv4Addr>) -> Self {
        Self { nth, network, next: 0, free: VecDeque::new(), bound: HashMap::new(), left: HashSet::new() }
    }

    /// The address of an owner, a new one if it has none; `None` when there are no more.
    pub(super) fn of(&mut self, owner: K) -> Option<Ipv4Addr> {
        if let Some(address) = self.bound.get(&owner) {
            return Some(*address);
        }
        let fresh = (self.nth)(self.network, self.next);
        self.next += u32::from(fresh.is_some());
        let address = fresh.or_else(|| self.free.pop_front())?;
        self.bound.insert(owner, address);
        Some(address)
    }

    /// Takes the addresses of owners that are gone; they are free once they are released.
    pub(super) fn keep(&mut self, is_there: impl Fn(&K) -> bool) {
        let gone = self.bound.extract_if(|owner, _| !is_there(owner));
        self.left.extend(gone.map(|(_, address)| address));
    }

    /// Frees the address of an owner that is gone; of others it stays.
    pub(super) fn release(&mut self, address: Ipv4Addr) {
        if self.left.remove(&address) {
            self.free.push_back(address);
        }
    }

    /// Takes and frees the address of an owner.
    pub(super) fn release_owner(&mut self, owner: &K) {
        self.free.extend(self.bound.remove(owner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_and_gateways_never_share_an_address() {
        let network = Network(3);
        let all = |nth: fn(Network, u32) -> Option<Ipv4Addr>| -> Vec<Ipv4Addr> {
            (0..).map_while(|index| nth(network, index)).collect()
        };
        let (pods, gateways) = (all(Network::pod), all(Network::gateway));
        assert_eq!((pods.len(), gateways.len()), (241 * 254, 14 * 254));
        assert_eq!(pods[0], Ipv4Addr::new(127, 3, 1, 1));
        assert_eq!((pods[253], pods[254]), (Ipv4Addr::new(127, 3, 1, 254), Ipv4Addr::new(127, 3, 16, 1)));
        assert_eq!(
            (gateways[0], gateways[14 * 254 - 1]),
            (Ipv4Addr::new(127, 3, 2, 1), Ipv4Addr::new(127, 3, 15, 254))
        );
        let distinct: HashSet<Ipv4Addr> = pods.iter().chain(&gateways).copied().collect();
        assert_eq!(distinct.len(), pods.len() + gateways.len());
    }

    #[test]
    fn the_address_that_was_free_for_longest_is_used_again_first() {
        let few: fn(Network, u32) -> Option<Ipv4Addr> = |network, index| network.pod(index).filter(|_| index < 3);
        let mut addresses = Addresses::new(Network(0), few);
        let (a, b) = (addresses.of("a"), addresses.of("b"));
        addresses.keep(|_| false);
        assert_eq!(addresses.of("c"), Network(0).pod(2), "never used before");
        assert_eq!(addresses.of("a"), None, "its old address is not released yet");
        addresses.release(b.unwrap());
        addresses.release(a.unwrap());
        addresses.release(a.unwrap());
        addresses.release(Network(0).pod(2).unwrap());
        assert_eq!((addresses.of("d"), addresses.of("a"), addresses.of("e")), (b, a, None));
    }
}
