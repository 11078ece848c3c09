//! Chooses among weighted destinations so that the counts are right at every moment, not only on average.
//!
//! The order is that of Tijdeman's chairman assignment ("The chairman assignment problem", 1980): after any number of
//! choices, each destination has been chosen its ideal number of times but for less than one (at most
//! 1 - 1/(2n - 2) with n destinations). Random choice would miss by three in a hundred for a 10 % canary; smooth
//! weighted round robin can miss by more than one when there are many destinations.
//!
//! It follows that between any two moments the count is less than two off, and at most one off with two destinations.
//! All workers draw tickets from one counter, because each keeping its own sequence would add up their deviations.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The choice among the destinations of one route. A clone goes on with the same sequence.
#[derive(Clone, Debug)]
pub(super) enum Split {
    /// There is nothing to choose: always this destination.
    Only(usize),
    /// A sequence that repeats.
    Sequence(Arc<Sequence>),
    /// Weights whose sequence would be too long to keep.
    Online(Arc<Mutex<Chairman>>),
}

/// A whole period of choices, and the ticket counter.
#[derive(Debug)]
pub(super) struct Sequence {
    ticket: AtomicU64,
    order: Box<[u16]>,
}

impl Split {
    /// Longest sequence kept, and most destinations it can name: 128 KiB. Weights in percent have 100 steps at most, in per mille 1000.
    const PERIOD_MAX: u64 = 65_536;
    /// Most steps of work to compute a sequence, so that a snapshot with many such routes still compiles in no time.
    const WORK_MAX: u64 = 1 << 22;

    /// A new sequence for these weights; those of zero are never chosen.
    pub(super) fn new(weights: &[u32]) -> Self {
        let mut positive = weights.iter().enumerate().filter(|(_, weight)| **weight > 0).map(|(at, _)| at);
        let first = positive.next().unwrap_or(0);
        if positive.next().is_none() {
            return Self::Only(first);
        }
        let mut chairman = Chairman::new(weights);
        let period = chairman.total.unsigned_abs();
        let short = period <= Self::PERIOD_MAX && weights.len() as u64 <= Self::PERIOD_MAX;
        if !short || period * chairman.seats.len() as u64 > Self::WORK_MAX {
            return Self::Online(Arc::new(Mutex::new(chairman)));
        }
        let order = (0..period).map(|_| chairman.next() as u16).collect();
        Self::Sequence(Arc::new(Sequence { ticket: AtomicU64::new(0), order }))
    }

    /// The next destination.
    pub(super) fn next(&self) -> usize {
        match self {
            Self::Only(at) => *at,
            Self::Sequence(sequence) => {
                let ticket = sequence.ticket.fetch_add(1, Ordering::Relaxed);
                usize::from(sequence.order[(ticket % sequence.order.len() as u64) as usize])
            }
            // A panic cannot happen while the lock is held; were it so, the state is still a state.
            Self::Online(chairman) => chairman.lock().unwrap_or_else(PoisonError::into_inner).next(),
        }
    }
}

/// Tijdeman's algorithm, one step at a time.
///
/// A seat's claim is what it is owed, in units of 1/total of a choice: its weight is added at each step, the total is
/// taken off when it is chosen. All arithmetic is exact.
#[derive(Debug)]
pub(super) struct Chairman {
    seats: Vec<Seat>,
    total: i64,
}

#[derive(Debug)]
struct Seat {
    destination: usize,
    weight: i64,
    claim: i64,
}

impl Chairman {
    fn new(weights: &[u32]) -> Self {
        let divisor = weights.iter().fold(0, |a, b| gcd(a, *b)).max(1);
        let seats: Vec<Seat> = weights
            .iter()
            .enumerate()
            .filter(|(_, weight)| **weight > 0)
            .map(|(destination, weight)| Seat { destination, weight: i64::from(weight / divisor), claim: 0 })
            .collect();
        let total = seats.iter().map(|seat| seat.weight).sum();
        Self { seats, total }
    }

    /// Of the seats that are owed at least 1/(2n - 2), the one that would soonest be owed too much.
    fn next(&mut self) -> usize {
        let total = i128::from(self.total);
        let scale = (2 * self.seats.len() - 2) as i128;
        let mut chosen: Option<(usize, i128, i128)> = None;
        for (at, seat) in self.seats.iter_mut().enumerate() {
            seat.claim += seat.weight;
            let claim = scale * i128::from(seat.claim);
            if claim < total {
                continue;
            }
            // Steps until the claim passes the bound are `slack / weight`; compared without dividing.
            let (slack, weight) = (total * (scale - 1) - claim, i128::from(seat.weight));
            if chosen.is_none_or(|(_, least, divisor)| slack * divisor < least * weight) {
                chosen = Some((at, slack, weight));
            }
        }
        // Tijdeman proved that some seat is always eligible; the claims before a step sum to zero, so after it to the total.
        let at = chosen.map_or(0, |(at, ..)| at);
        let seat = &mut self.seats[at];
        seat.claim -= self.total;
        seat.destination
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests;
