//! The balancer of one cluster on one worker: level, locality, then the policy's choice.

use std::sync::Arc;
use std::time::Instant;

use outrigger_model::{Balance, BalancePolicy, LocalityMode, Warmup};

use super::hash_table::HashTable;
use super::hosts::{Hosts, Members};
use super::layout::{self, Layout};
use super::least_request::LeastRequest;
use super::random::Random;
use super::round_robin::RoundRobin;
use super::schedule::Schedule;
use super::{shares, warmup};
use crate::cluster::EndpointState;
use crate::outlier::Outliers;

/// Picks endpoints of one cluster for one worker.
#[derive(Debug)]
pub(crate) struct Balancer {
    policy: BalancePolicy,
    locality: LocalityMode,
    /// Only with policies that have it.
    warmup: Option<Warmup>,
    /// Only under a consistent hash.
    table: Option<Arc<HashTable>>,
    /// Where outliers are looked for: who says when there is panic, and counts the picks in it.
    outliers: Option<Arc<Outliers>>,
    hosts: Hosts,
    frame: Frame,
}

/// The layout at the moment it was last taken, with the state of the policies.
#[derive(Debug, Default)]
struct Frame {
    levels: Vec<Level>,
    /// Endpoints that were not available, ascending.
    left_out: Vec<u32>,
    /// Those of them that no level has, ascending.
    barred: Vec<u32>,
    /// The one of `left_out` to look at next.
    probe: usize,
    validity: Validity,
}

/// How long a frame holds, as far as time alone decides.
#[derive(Clone, Copy, Debug, Default)]
enum Validity {
    /// Not at all: it was never laid out.
    #[default]
    Never,
    /// Until then, because of warm-up.
    Until(Instant),
    /// Until endpoints leave or come back.
    Always,
}

#[derive(Debug)]
struct Level {
    percent: u32,
    is_panicking: bool,
    /// The turns of the groups, where there are several.
    turns: Option<Schedule>,
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    weight: f64,
    members: Vec<u32>,
    choice: Choice,
}

/// The state of a policy in one group.
#[derive(Debug)]
enum Choice {
    RoundRobin(RoundRobin),
    LeastRequest(LeastRequest),
    Random(Random),
    /// The shared table chooses, or there is nothing to choose from.
    Elsewhere,
}

/// How often a pick lays out the frame anew when it meets endpoints that have left, before it gives up.
const LAYOUTS_MAX: usize = 3;

impl Balancer {
    /// A balancer for the endpoints of a cluster; `table` is what [`HashTable::build`] made of the same endpoints.
    pub(crate) fn new(balance: &Balance, hosts: Arc<[Arc<EndpointState>]>, table: Option<Arc<HashTable>>) -> Self {
        Self {
            policy: balance.policy.clone(),
            locality: balance.locality,
            warmup: balance.warmup.filter(|_| shares::warms_up(&balance.policy)),
            table: table.or_else(|| HashTable::build(&balance.policy, &hosts)),
            outliers: None,
            hosts: Hosts::new(hosts),
            frame: Frame::default(),
        }
    }

    /// With the outlier detection of the cluster.
    pub(crate) fn with_outliers(self, outliers: Option<Arc<Outliers>>) -> Self {
        Self { outliers, ..self }
    }

    /// Picks an available endpoint, by its position among those the balancer was made for; `None` when there is none.
    ///
    /// `key` is the hash that a consistent hash goes by; without one, any endpoint will do. Other policies ignore it.
    pub(crate) fn pick(&mut self, key: Option<u64>, now: Instant, rng: &mut fastrand::Rng) -> Option<usize> {
        if self.is_stale(now) {
            self.lay_out(now, rng);
        }
        for _ in 0..LAYOUTS_MAX {
            if self.frame.is_empty() {
                return None;
            }
            let chosen = self.choose(key, now, rng);
            if let Some((host, _)) = chosen.filter(|(host, is_panicking)| self.may_be_picked(*host, *is_panicking, now))
            {
                if let (Some((_, true)), Some(outliers)) = (chosen, &self.outliers) {
                    outliers.picked_in_panic();
                }
                return Some(host as usize);
            }
            self.lay_out(now, rng);
        }
        None
    }

    fn may_be_picked(&self, host: u32, is_panicking: bool, now: Instant) -> bool {
        if is_panicking { self.hosts.is_usable(host, now) } else { self.hosts.is_available(host, now) }
    }

    /// Whether the frame is out of date, as far as can be told without looking at every endpoint. A pick that meets one
    /// that has left finds out the rest; of those that were left out, each pick looks at one, or, when nobody else is
    /// there, at all.
    fn is_stale(&mut self, now: Instant) -> bool {
        let frame = &mut self.frame;
        match frame.validity {
            Validity::Never => return true,
            Validity::Until(end) if now >= end => return true,
            Validity::Until(_) | Validity::Always => {}
        }
        if frame.left_out.is_empty() {
            return false;
        }
        if frame.left_out.len() == self.hosts.len() {
            return frame.left_out.iter().any(|host| self.hosts.is_available(*host, now));
        }
        frame.probe = (frame.probe + 1) % frame.left_out.len();
        self.hosts.is_available(frame.left_out[frame.probe], now)
    }

    /// An endpoint, and whether its level is in panic.
    fn choose(&mut self, key: Option<u64>, now: Instant, rng: &mut fastrand::Rng) -> Option<(u32, bool)> {
        if let Some(table) = &self.table {
            let hash = key.unwrap_or_else(|| rng.u64(..));
            let level = self.frame.level((hash % 100) as u32);
            // As of the frame and not as of now: that the frame is out of date must come to light.
            let host = table.find(level, hash, |host| self.frame.barred.binary_search(&host).is_err())?;
            return Some((host, self.frame.levels.get(level)?.is_panicking));
        }
        let level = if self.frame.levels.len() > 1 { self.frame.level(rng.u32(0..100)) } else { 0 };
        let level = self.frame.levels.get_mut(level)?;
        let group = level.turns.as_mut().map_or(0, |turns| turns.next(|at| level.groups[at].weight));
        let group = level.groups.get_mut(group)?;
        let members = Members { hosts: &self.hosts, at: &group.members, warmup: self.warmup, now };
        let slot = match &mut group.choice {
            Choice::RoundRobin(round_robin) => round_robin.pick(members),
            Choice::LeastRequest(least_request) => least_request.pick(members, rng),
            Choice::Random(random) => random.pick(members, rng),
            Choice::Elsewhere => return None,
        };
        Some((group.members[slot], level.is_panicking))
    }

    fn lay_out(&mut self, now: Instant, rng: &mut fastrand::Rng) {
        let panic_percent = self.outliers.as_ref().map_or(0, |outliers| outliers.panic_percent());
        let layout = Layout::new(self.locality, panic_percent, &self.hosts, now);
        let step = self.warmup.and_then(|warmup| warmup::next_step(&warmup, &self.hosts, now));
        self.frame = Frame {
            levels: layout.levels.into_iter().map(|level| self.level(level, now, rng)).collect(),
            left_out: layout.left_out,
            barred: layout.barred,
            probe: 0,
            validity: step.map_or(Validity::Always, Validity::Until),
        };
    }

    fn level(&self, level: layout::Level, now: Instant, rng: &mut fastrand::Rng) -> Level {
        let weight = |at: usize| level.groups[at].weight;
        let turns = (level.groups.len() > 1).then(|| Schedule::new(level.groups.len(), weight, rng));
        let group = |group: layout::Group| {
            let members = Members { hosts: &self.hosts, at: &group.members, warmup: self.warmup, now };
            let choice = Choice::new(&self.policy, members, rng);
            Group { weight: group.weight, members: group.members, choice }
        };
        let groups = level.groups.into_iter().map(group).collect();
        Level { percent: level.percent, is_panicking: level.is_panicking, turns, groups }
    }
}

impl Frame {
    /// Whether nobody can be picked.
    fn is_empty(&self) -> bool {
        self.levels.iter().all(|level| level.percent == 0)
    }

    /// The level that answers for a number from 0 to 99.
    fn level(&self, number: u32) -> usize {
        layout::level_of(self.levels.iter().map(|level| level.percent), number)
    }
}

impl Choice {
    fn new(policy: &BalancePolicy, members: Members<'_>, rng: &mut fastrand::Rng) -> Self {
        match policy {
            BalancePolicy::RoundRobin => Self::RoundRobin(RoundRobin::new(members, rng)),
            BalancePolicy::LeastRequest => Self::LeastRequest(LeastRequest::new(members, rng)),
            BalancePolicy::Random => Self::Random(Random::new(members)),
            BalancePolicy::RingHash { .. } | BalancePolicy::Maglev { .. } | BalancePolicy::Passthrough => {
                Self::Elsewhere
            }
        }
    }
}

#[cfg(test)]
impl Balancer {
    /// Says which endpoints are not available from now on.
    fn take_out(&mut self, out: impl IntoIterator<Item = u32>) {
        self.hosts.out = out.into_iter().collect();
    }

    /// Says which endpoints are ejected from now on.
    fn eject(&mut self, ejected: impl IntoIterator<Item = u32>) {
        self.hosts.ejected = ejected.into_iter().collect();
    }
}

#[cfg(test)]
mod tests;
