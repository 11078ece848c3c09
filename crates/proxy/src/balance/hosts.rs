//! The endpoints of one cluster as the policies see them: by position, with weight, load and availability.

use std::sync::Arc;
use std::time::Instant;

use outrigger_model::{Endpoint, Warmup};

use super::warmup;
use crate::cluster::EndpointState;
use crate::health::Out;

/// All endpoints of a cluster, available or not.
#[derive(Clone, Debug)]
pub(super) struct Hosts {
    states: Arc<[Arc<EndpointState>]>,
    /// Endpoints that a test says are not available.
    #[cfg(test)]
    pub(super) out: std::collections::HashSet<u32>,
    /// Endpoints that a test says are ejected.
    #[cfg(test)]
    pub(super) ejected: std::collections::HashSet<u32>,
}

/// The available endpoints of one locality, as a policy sees them at one moment.
#[derive(Clone, Copy)]
pub(super) struct Members<'a> {
    /// All endpoints of the cluster.
    pub(super) hosts: &'a Hosts,
    /// The positions in `hosts` that take part; not empty.
    pub(super) at: &'a [u32],
    /// Slow start, where the policy has it.
    pub(super) warmup: Option<Warmup>,
    /// The moment.
    pub(super) now: Instant,
}

impl Hosts {
    pub(super) fn new(states: Arc<[Arc<EndpointState>]>) -> Self {
        Self {
            states,
            #[cfg(test)]
            out: Default::default(),
            #[cfg(test)]
            ejected: Default::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.states.len()
    }

    pub(super) fn endpoint(&self, host: u32) -> &Endpoint {
        &self.states[host as usize].endpoint
    }

    pub(super) fn since(&self, host: u32) -> Instant {
        self.states[host as usize].since
    }

    pub(super) fn active(&self, host: u32) -> u32 {
        self.states[host as usize].active()
    }

    pub(super) fn is_available(&self, host: u32, now: Instant) -> bool {
        #[cfg(test)]
        if self.out.contains(&host) || self.ejected.contains(&host) {
            return false;
        }
        self.states[host as usize].is_available(now)
    }

    /// Whether it may be picked where too few are available.
    pub(super) fn is_usable(&self, host: u32, now: Instant) -> bool {
        #[cfg(test)]
        if self.out.contains(&host) {
            return false;
        }
        self.states[host as usize].is_usable(now)
    }

    /// Whether an operator has taken it out.
    pub(super) fn is_drained(&self, host: u32) -> bool {
        self.states[host as usize].health.is(Out::Drained)
    }
}

impl Members<'_> {
    pub(super) fn len(&self) -> usize {
        self.at.len()
    }

    /// The weight of a member now: its own, less what it lacks in warmth.
    pub(super) fn weight(&self, slot: usize) -> f64 {
        let host = self.at[slot];
        let weight = f64::from(self.hosts.endpoint(host).weight);
        match &self.warmup {
            None => weight,
            Some(warmup) => weight * warmup::factor(warmup, self.now.saturating_duration_since(self.hosts.since(host))),
        }
    }

    /// Requests on their way to a member, over all workers.
    pub(super) fn active(&self, slot: usize) -> u32 {
        self.hosts.active(self.at[slot])
    }

    /// Whether all members have the same weight for as long as the layout holds.
    pub(super) fn are_equal(&self) -> bool {
        let first = self.hosts.endpoint(self.at[0]).weight;
        let young =
            |host: &u32| self.warmup.is_some_and(|warmup| warmup::is_young(&warmup, self.hosts.since(*host), self.now));
        self.at.iter().all(|host| self.hosts.endpoint(*host).weight == first && !young(host))
    }
}
