//! ROUND_ROBIN: each endpoint in turn, in proportion to weight.
//!
//! With equal weights a turn is one addition. With unequal weights, or while an endpoint warms up, the turns are
//! interleaved smoothly by a [`Schedule`]. Both start at a random place, so that many proxies do not send their first
//! requests to the same endpoint.

use super::hosts::Members;
use super::schedule::Schedule;

/// The turns of one locality.
#[derive(Debug)]
pub(super) enum RoundRobin {
    /// Equal weights: whose turn is next.
    Equal(usize),
    /// Unequal weights.
    Weighted(Schedule),
}

impl RoundRobin {
    pub(super) fn new(members: Members<'_>, rng: &mut fastrand::Rng) -> Self {
        if members.are_equal() {
            Self::Equal(rng.usize(0..members.len()))
        } else {
            Self::Weighted(Schedule::new(members.len(), |slot| members.weight(slot), rng))
        }
    }

    pub(super) fn pick(&mut self, members: Members<'_>) -> usize {
        match self {
            Self::Equal(next) => {
                let slot = *next;
                *next = if slot + 1 < members.len() { slot + 1 } else { 0 };
                slot
            }
            Self::Weighted(schedule) => schedule.next(|slot| members.weight(slot)),
        }
    }
}
