//! Weighted turns, smoothly interleaved: stride scheduling on a virtual clock (Waldspurger, 1995; the same order as
//! Envoy's earliest-deadline-first scheduler).
//!
//! Each slot is due again after one over its weight, and the slot due first has the turn, in O(log n). The slots start
//! at random phases, so that workers and proxies do not run in lock step; with constant weights the order repeats, and
//! each period holds every slot exactly in proportion.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Slots in the order of their next turns.
#[derive(Debug)]
pub(super) struct Schedule {
    turns: BinaryHeap<Reverse<Turn>>,
}

/// Slots due at the same time take turns in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    due: u64,
    slot: u32,
}

/// The stride of weight one: fine enough that rounding needs millions of turns to shift an order, even with weights in
/// the millions.
const ONE: f64 = (1_u64 << 52) as f64;

/// Longest stride, so that two fit into the clock.
const STRIDE_MAX: f64 = (1_u64 << 62) as f64;

/// When the clock has come this far, it is set back.
const REWIND_AT: u64 = 1 << 62;

impl Schedule {
    /// Schedules slots 0 to `slots` - 1.
    pub(super) fn new(slots: usize, weight: impl Fn(usize) -> f64, rng: &mut fastrand::Rng) -> Self {
        let turn = |slot: usize| {
            let due = (rng.f64() * stride(weight(slot)) as f64) as u64;
            Reverse(Turn { due, slot: slot as u32 })
        };
        Self { turns: (0..slots).map(turn).collect() }
    }

    /// The slot whose turn it is; `weight` says how soon it is due again.
    pub(super) fn next(&mut self, weight: impl Fn(usize) -> f64) -> usize {
        let mut first = self.turns.peek_mut().expect("a schedule is made of at least one slot");
        let Turn { due, slot } = first.0;
        first.0.due = due + stride(weight(slot as usize));
        drop(first);
        if due >= REWIND_AT {
            self.rewind(due);
        }
        slot as usize
    }

    fn rewind(&mut self, by: u64) {
        let rewound = |turn: &Reverse<Turn>| Reverse(Turn { due: turn.0.due - by, slot: turn.0.slot });
        self.turns = self.turns.iter().map(rewound).collect();
    }
}

fn stride(weight: f64) -> u64 {
    (ONE / weight).clamp(1.0, STRIDE_MAX) as u64
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Every window of a period's length holds each slot in exact proportion, also across a rewind of the clock.
    #[test]
    fn a_period_is_exact() {
        let weights = [50_u32, 20, 7, 1];
        let weight = |slot: usize| f64::from(weights[slot]);
        let mut schedule = Schedule::new(weights.len(), weight, &mut fastrand::Rng::with_seed(1));
        let order: Vec<usize> = (0..78 * 1_500).map(|_| schedule.next(weight)).collect();
        let furthest = schedule.turns.iter().map(|turn| turn.0.due).max().unwrap();
        assert!(furthest < 1_500 << 52, "the clock was set back on the way");
        for run in order.chunks(78) {
            for (slot, weight) in weights.iter().enumerate() {
                assert_eq!(run.iter().filter(|at| **at == slot).count(), *weight as usize, "slot {slot} in {run:?}");
            }
        }
    }

    #[test]
    fn turns_are_interleaved() {
        let weight = |slot: usize| if slot == 0 { 6.0 } else { 1.0 };
        let mut schedule = Schedule::new(7, weight, &mut fastrand::Rng::with_seed(2));
        let order: Vec<usize> = (0..1_200).map(|_| schedule.next(weight)).collect();
        let gap = order.split(|slot| *slot == 0).map(<[_]>::len).max().unwrap();
        assert!(gap <= 6, "half of the turns, and {gap} others in a row");
    }

    #[test]
    fn no_weight_is_too_small_or_too_large() {
        for weights in [[f64::MIN_POSITIVE, 1.0], [0.0, 1.0], [f64::MAX, 1.0], [f64::INFINITY, 1.0]] {
            let mut schedule = Schedule::new(2, |slot| weights[slot], &mut fastrand::Rng::with_seed(3));
            (0..10_000).for_each(|_| assert!(schedule.next(|slot| weights[slot]) < 2));
        }
    }

    /// A turn reads one weight, however many slots there are.
    #[test]
    fn a_turn_reads_one_weight() {
        let read = Cell::new(0);
        let weight = |slot: usize| {
            read.set(read.get() + 1);
            (slot % 5 + 1) as f64
        };
        let mut schedule = Schedule::new(10_000, weight, &mut fastrand::Rng::with_seed(4));
        read.set(0);
        (0..1_000).for_each(|_| assert!(schedule.next(weight) < 10_000));
        assert_eq!(read.get(), 1_000);
    }
}
