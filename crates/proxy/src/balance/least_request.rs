//! LEAST_REQUEST: where the fewest requests are on their way. Istio's default.
//!
//! With equal weights, two endpoints are drawn at random and the less loaded one is taken: nearly as good as looking at
//! all (Mitzenmacher, "The power of two choices"), at a constant price and without a herd. With unequal weights, or
//! while an endpoint warms up, Envoy's way: turns by weight / (active + 1).

use super::hosts::Members;
use super::schedule::Schedule;

/// The choice in one locality.
#[derive(Debug)]
pub(super) enum LeastRequest {
    /// Equal weights.
    TwoChoices,
    /// Unequal weights.
    Weighted(Schedule),
}

impl LeastRequest {
    pub(super) fn new(members: Members<'_>, rng: &mut fastrand::Rng) -> Self {
        if members.are_equal() {
            Self::TwoChoices
        } else {
            Self::Weighted(Schedule::new(members.len(), |slot| members.weight(slot), rng))
        }
    }

    pub(super) fn pick(&mut self, members: Members<'_>, rng: &mut fastrand::Rng) -> usize {
        match self {
            Self::TwoChoices => two_choices(members, rng),
            // The pick itself is not among the active requests yet.
            Self::Weighted(schedule) => {
                schedule.next(|slot| members.weight(slot) / (f64::from(members.active(slot)) + 1.0))
            }
        }
    }
}

/// The less loaded of two different endpoints; on a tie the first drawn, which is as good as a coin.
fn two_choices(members: Members<'_>, rng: &mut fastrand::Rng) -> usize {
    let count = members.len();
    if count == 1 {
        return 0;
    }
    let first = rng.usize(0..count);
    let second = (first + rng.usize(1..count)) % count;
    if members.active(second) < members.active(first) { second } else { first }
}
