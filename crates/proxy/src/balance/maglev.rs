//! Maglev (Eisenbud et al., NSDI 2016), entry for entry as Envoy's `maglev`, so that clients stay with their endpoints
//! during a migration.
//!
//! Hosts take turns to claim table entries, each in an order of its own that two hashes of its address give; a host of
//! less weight sits out turns. A look-up is one remainder and one read. If the host found is not available, the next
//! entries stand in: they belong to all the others alike.

use xxhash_rust::xxh64::xxh64;

use super::hosts::Hosts;

/// Which host has which entry.
#[derive(Debug)]
pub(super) struct Maglev {
    entries: Box<[u32]>,
}

/// A host on its way through the table.
struct Claimant {
    host: u32,
    share: f64,
    offset: u64,
    skip: u64,
    /// How many entries of its order it has tried.
    tried: u64,
    /// The share of turns that it must have come to for its next claim.
    due: f64,
}

impl Maglev {
    /// Builds the table of hosts with their shares; `size` is a prime, so that every order meets every entry.
    pub(super) fn build(hosts: &Hosts, shares: &[(u32, f64)], size: u32) -> Self {
        let size = size.max(2);
        let most = shares.iter().map(|(_, share)| *share).fold(0.0, f64::max);
        let mut claimants = claimants(hosts, shares, u64::from(size));
        let mut entries = vec![FREE; size as usize].into_boxed_slice();
        let mut free = entries.len();
        for turn in 1_u32.. {
            for claimant in &mut claimants {
                if free == 0 {
                    return Self { entries };
                }
                if f64::from(turn) * claimant.share < claimant.due {
                    continue;
                }
                claimant.due += most;
                let entry = claimant.next_free(&entries);
                entries[entry] = claimant.host;
                free -= 1;
            }
        }
        Self { entries }
    }

    /// The available host for a hash.
    pub(super) fn find(&self, hash: u64, is_available: impl Fn(u32) -> bool) -> Option<u32> {
        let (before, after) = self.entries.split_at((hash % self.entries.len() as u64) as usize);
        after.iter().chain(before).copied().find(|host| is_available(*host))
    }
}

/// An entry that nobody has claimed yet.
const FREE: u32 = u32::MAX;

/// The hosts in the order of their turns: by address as text, so that the order of a list does not matter.
fn claimants(hosts: &Hosts, shares: &[(u32, f64)], size: u64) -> Vec<Claimant> {
    let mut named: Vec<(String, u32, f64)> =
        shares.iter().map(|(host, share)| (hosts.endpoint(*host).address.to_string(), *host, *share)).collect();
    named.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    let claimant = |(name, host, share): (String, u32, f64)| Claimant {
        host,
        share,
        offset: xxh64(name.as_bytes(), 0) % size,
        skip: xxh64(name.as_bytes(), 1) % (size - 1) + 1,
        tried: 0,
        due: 0.0,
    };
    named.into_iter().map(claimant).collect()
}

impl Claimant {
    /// The next entry of its order that is free; there must be one.
    fn next_free(&mut self, entries: &[u32]) -> usize {
        let size = entries.len() as u64;
        // A whole round without success can only be if the size is no prime.
        for _ in 0..size {
            let entry = ((self.offset + self.skip * self.tried) % size) as usize;
            self.tried += 1;
            if entries[entry] == FREE {
                return entry;
            }
        }
        entries.iter().position(|host| *host == FREE).unwrap_or(0)
    }
}

#[cfg(test)]
impl Maglev {
    pub(super) fn entries(&self) -> &[u32] {
        &self.entries
    }
}
