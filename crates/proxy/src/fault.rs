//! Faults on purpose: requests of a route that are held back for a while, or answered with a failure.
//!
//! Shares are kept to the millionth: the requests of a route are dealt from a deck of a thousand cards, of which as many
//! say yes as the share asks for; what is left of a card goes into the next deck. So any thousand dealt from one deck, and
//! any thousand decks, have exactly their share, while nobody can tell what comes next. Dice would be off by three in a
//! thousand after a hundred thousand requests; a regular pattern would be exact, too, and would show every client that
//! repeats its request a success.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use outrigger_model::{Fault, Fraction};

use crate::failure::Reason;

/// The faults of a route; all workers deal from the same decks.
#[derive(Debug)]
pub(crate) struct Faults {
    delay: Option<(Duration, Deck)>,
    abort: Option<(Reason, Deck)>,
}

/// What is done to one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Injected {
    /// It is held back for so long.
    pub(crate) delay: Option<Duration>,
    /// It is answered so, after the delay if there is one.
    pub(crate) abort: Option<Reason>,
}

impl Faults {
    /// Of a route; `None` where nothing can ever happen.
    pub(crate) fn new(fault: &Fault) -> Option<Self> {
        let delay = fault.delay.filter(|delay| !delay.delay.is_zero());
        let delay = delay.and_then(|delay| Some((delay.delay, Deck::new(delay.share)?)));
        let abort = fault.abort.and_then(|abort| {
            // The status of HTTP comes first, as in Envoy.
            let status = abort.http_status.map(Reason::Fault);
            let status =
                status.or_else(|| Some(Reason::FaultGrpc(u8::try_from(abort.grpc_status?).unwrap_or(UNKNOWN))));
            Some((status?, Deck::new(abort.share)?))
        });
        (delay.is_some() || abort.is_some()).then_some(Self { delay, abort })
    }

    /// Decides on one request. Delay and abort are independent of each other.
    pub(crate) fn decide(&self, rng: &mut fastrand::Rng) -> Injected {
        Injected {
            delay: self.delay.as_ref().filter(|(_, deck)| deck.deal(rng)).map(|(delay, _)| *delay),
            abort: self.abort.as_ref().filter(|(_, deck)| deck.deal(rng)).map(|(reason, _)| *reason),
        }
    }
}

/// gRPC's status for one that has no meaning.
const UNKNOWN: u8 = 2;

/// A deck of cards that say yes or no.
#[derive(Debug)]
struct Deck {
    /// In millionths, at least 1.
    share: u32,
    /// [`Cards`] in one number; [`Self::SEALED`] before the first.
    left: AtomicU64,
}

/// What is left of a deck.
#[derive(Clone, Copy)]
struct Cards {
    all: u32,
    yes: u32,
    /// Thousandths of a card that the decks so far owe.
    owed: u32,
}

impl Deck {
    const CARDS: u32 = 1000;
    const SEALED: u64 = u64::MAX;

    fn new(share: Fraction) -> Option<Self> {
        let share = share.millionths();
        (share > 0).then_some(Self { share, left: AtomicU64::new(Self::SEALED) })
    }

    /// Takes the next card.
    fn deal(&self, rng: &mut fastrand::Rng) -> bool {
        if self.share == Fraction::ALL.millionths() {
            return true;
        }
        // Nothing else is published by it.
        let mut before = self.left.load(Ordering::Relaxed);
        loop {
            let mut cards = Cards::unpack(before, rng);
            if cards.all == 0 {
                let due = self.share + cards.owed;
                cards = Cards { all: Self::CARDS, yes: due / Self::CARDS, owed: due % Self::CARDS };
            }
            let is_yes = rng.u32(0..cards.all) < cards.yes;
            cards.all -= 1;
            cards.yes -= u32::from(is_yes);
            match self.left.compare_exchange_weak(before, cards.pack(), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return is_yes,
                Err(other) => before = other,
            }
        }
    }
}

impl Cards {
    fn pack(self) -> u64 {
        u64::from(self.all) << 32 | u64::from(self.yes) << 16 | u64::from(self.owed)
    }

    fn unpack(packed: u64, rng: &mut fastrand::Rng) -> Self {
        if packed == Deck::SEALED {
            // A small share has as good a chance to begin with the first deck as with any.
            return Self { all: 0, yes: 0, owed: rng.u32(0..Deck::CARDS) };
        }
        let part = |shift: u32| (packed >> shift) as u32 & 0xffff;
        Self { all: part(32), yes: part(16), owed: part(0) }
    }
}

#[cfg(test)]
mod tests {
    use outrigger_model::{FaultAbort, FaultDelay};

    use super::*;

    const DELAY: Duration = Duration::from_secs(3);

    fn share(millionths: u32) -> Fraction {
        Fraction::from_ratio(millionths, 1_000_000).unwrap()
    }

    fn faults(delay: u32, abort: u32) -> Option<Faults> {
        let delay = (delay > 0).then(|| FaultDelay { delay: DELAY, share: share(delay) });
        let abort = FaultAbort { http_status: Some(555), grpc_status: Some(14), share: share(abort) };
        Faults::new(&Fault { delay, abort: Some(abort) })
    }

    /// How often each came among so many: delays, aborts, both.
    fn count(faults: &Faults, requests: usize, seed: u64) -> (u32, u32, u32) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut delays, mut aborts, mut both) = (0, 0, 0);
        for _ in 0..requests {
            let injected = faults.decide(&mut rng);
            delays += u32::from(injected.delay.is_some());
            aborts += u32::from(injected.abort.is_some());
            both += u32::from(injected.delay.is_some() && injected.abort.is_some());
        }
        (delays, aborts, both)
    }

    #[test]
    fn shares_are_exact_to_the_millionth() {
        for (delay, abort) in [(1, 999_999), (100_000, 1_000), (333_333, 666_667), (500_000, 1), (12_345, 678_901)] {
            let (delays, aborts, both) = count(&faults(delay, abort).unwrap(), 1_000_000, 7);
            assert_eq!((delays, aborts), (delay, abort));
            // Independent: the number of both has its own share, within four standard deviations.
            let expected = f64::from(delay) * f64::from(abort) / 1e6;
            let off = (f64::from(both) - expected).abs();
            assert!(off <= 4.0 * expected.sqrt().max(1.0), "{delay} {abort}: {both} of {expected}");
        }
    }

    #[test]
    fn any_thousand_of_a_share_in_per_mille_is_exact() {
        let faults = faults(250_000, 1_000).unwrap();
        for seed in 0..20 {
            let (delays, aborts, _) = count(&faults, 1000, seed);
            assert_eq!((delays, aborts), (250, 1));
        }
    }

    #[test]
    fn none_and_all_are_none_and_all() {
        assert!(faults(0, 0).is_none());
        let all = faults(1_000_000, 0).unwrap();
        assert_eq!(count(&all, 10_000, 1), (10_000, 0, 0));
        let both = faults(1_000_000, 1_000_000).unwrap();
        assert_eq!(count(&both, 10_000, 1), (10_000, 10_000, 10_000));
        // A delay of nothing, and an abort without a status, are none.
        let nothing = FaultDelay { delay: Duration::ZERO, share: Fraction::ALL };
        let silent = FaultAbort { http_status: None, grpc_status: None, share: Fraction::ALL };
        assert!(Faults::new(&Fault { delay: Some(nothing), abort: Some(silent) }).is_none());
    }

    #[test]
    fn what_comes_next_does_not_follow_from_what_came() {
        // Who repeats a request meets a fault of 50 % with a chance of a quarter, not never.
        let (faults, mut rng) = (faults(500_000, 0).unwrap(), fastrand::Rng::with_seed(3));
        let dealt: Vec<bool> = (0..1_000_000).map(|_| faults.decide(&mut rng).delay.is_some()).collect();
        for distance in [1, 2, 3, 10, 100] {
            let pairs = dealt.iter().zip(&dealt[distance..]).filter(|(a, b)| **a && **b).count();
            let share = pairs as f64 / 1e6;
            assert!((share - 0.25).abs() < 0.002, "{distance}: {share}");
        }
        // Runs of 20 would come once in a million by a coin; there are some of 12 at least.
        let runs = dealt.split(|hit| !hit).map(<[bool]>::len).max();
        assert!(runs.is_some_and(|longest| (12..40).contains(&longest)), "{runs:?}");
    }

    #[test]
    fn workers_deal_from_one_deck() {
        let faults = faults(0, 300_000).unwrap();
        let worker = |seed| count(&faults, 250_000, seed).1;
        let aborts: u32 = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4).map(|seed| scope.spawn(move || worker(seed))).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert_eq!(aborts, 300_000);
    }

    #[test]
    fn the_status_of_http_comes_first() {
        let abort = |http_status, grpc_status| {
            let abort = FaultAbort { http_status, grpc_status, share: Fraction::ALL };
            let faults = Faults::new(&Fault { delay: None, abort: Some(abort) })?;
            faults.decide(&mut fastrand::Rng::with_seed(1)).abort
        };
        assert_eq!(abort(Some(418), Some(14)), Some(Reason::Fault(418)));
        assert_eq!(abort(None, Some(14)), Some(Reason::FaultGrpc(14)));
        assert_eq!(abort(None, Some(4711)), Some(Reason::FaultGrpc(2)));
        assert_eq!(abort(None, None), None);
    }
}
