//! Load balancing: which endpoint of a cluster takes a request.
//!
//! A [`Balancer`] belongs to one worker and one cluster, so that its turns and schedules need no lock; what must be
//! global, the active requests of an endpoint, is read from [`crate::cluster::EndpointState`]. Tables of consistent
//! hashes are built on the control thread and shared. Time and randomness are arguments: two balancers with the same
//! seed pick the same.
//!
//! Every policy works in the same frame ([`layout`]): endpoints fall into levels by priority, a level into localities,
//! and the policy chooses within one locality. Endpoints that are not available are left out of the frame, which is
//! laid out anew when one leaves or comes back. The policies are one file each: [`round_robin`], [`least_request`],
//! [`random`], [`ring_hash`] and [`maglev`]. `PASSTHROUGH` has nothing to choose from and never comes here.

mod balancer;
mod hash_table;
mod hosts;
mod key;
mod layout;
mod least_request;
mod maglev;
mod random;
mod ring_hash;
mod round_robin;
mod schedule;
mod shares;
#[cfg(test)]
mod testing;
mod warmup;

pub(crate) use balancer::Balancer;
pub(crate) use hash_table::HashTable;
pub(crate) use key::{Key, hash_key};
pub(crate) use shares::{expected_shares, fairness_index};
