//! The sources of a limit that each of them has for itself.
//!
//! A source that owes nothing is as one that never came: it is forgotten, and nothing is lost. When there is no room for
//! one more, the one that has not asked for the longest time goes, and what it owes with it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use super::gcra::Gcra;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// By its identity.
    Principal(Arc<str>),
    /// By namespace and name, where its identity is not known.
    Workload(Arc<str>, Arc<str>),
    /// By its address.
    Address(IpAddr),
}

/// Many of them.
#[derive(Debug)]
pub(super) struct Sources {
    at: HashMap<Source, u32, foldhash::fast::RandomState>,
    seats: Vec<Seat>,
    free: Vec<u32>,
    /// Who asked last, and who has not asked for the longest time; [`NOBODY`] when there is none.
    newest: u32,
    oldest: u32,
    max: usize,
}

/// One of them, between the one that asked after it and the one that asked before it.
#[derive(Debug)]
struct Seat {
    source: Source,
    paid: u64,
    newer: u32,
    older: u32,
}

/// The verdict on one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// How many parts are missing, if it may not pass.
    pub(super) passed: Result<(), u64>,
    /// Whether a source was forgotten that owed something.
    pub(super) overflowed: bool,
}

const NOBODY: u32 = u32::MAX;

impl Source {
    /// The address of a stranger: whoever has an IPv6 address has a whole network of them.
    pub(super) fn stranger(address: IpAddr) -> Self {
        match address {
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_none() => {
                let network = u128::from(v6) & !u128::from(u64::MAX);
                Self::Address(Ipv6Addr::from(network).into())
            }
            _ => Self::Address(address),
        }
    }
}

impl Sources {
    /// At most so many.
    pub(super) fn new(max: usize) -> Self {
        let (at, seats, free) = Default::default();
        Self { at, seats, free, newest: NOBODY, oldest: NOBODY, max: max.clamp(1, NOBODY as usize) }
    }

    /// Judges a request of a source, and charges it if `charges`.
    pub(super) fn judge(&mut self, source: Source, limit: &Gcra, now: u64, charges: bool) -> Verdict {
        let found = self.at.get(&source).copied();
        let paid = found.map_or(0, |at| self.seats[at as usize].paid);
        let judged = limit.judge(paid, now);
        let overflowed = match (judged, found) {
            (Ok(_), _) if !charges => false,
            (judged, Some(at)) => {
                if let Ok(then) = judged {
                    self.seats[at as usize].paid = then;
                }
                self.unlink(at);
                self.link(at);
                false
            }
            (Ok(then), None) => self.admit(source, then, now),
            // A stranger owes nothing.
            (Err(_), None) => false,
        };
        Verdict { passed: judged.map(|_| ()), overflowed }
    }

    /// How many are known.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.at.len()
    }

    /// Takes in one more; whether another had to go for it that owed something.
    fn admit(&mut self, source: Source, paid: u64, now: u64) -> bool {
        // Two for one: so their number falls when they come no more.
        for _ in 0..2 {
            if self.oldest != NOBODY && self.seats[self.oldest as usize].paid <= now {
                self.forget_oldest();
            }
        }
        let overflowed = self.at.len() >= self.max;
        if overflowed {
            self.forget_oldest();
        }
        let seat = Seat { source: source.clone(), paid, newer: NOBODY, older: NOBODY };
        let at = match self.free.pop() {
            Some(at) => {
                self.seats[at as usize] = seat;
                at
            }
            None => {
                self.seats.push(seat);
                (self.seats.len() - 1) as u32
            }
        };
        self.at.insert(source, at);
        self.link(at);
        overflowed
    }

    fn forget_oldest(&mut self) {
        let at = self.oldest;
        self.unlink(at);
        self.at.remove(&self.seats[at as usize].source);
        self.free.push(at);
    }

    /// Takes one out of the order.
    fn unlink(&mut self, at: u32) {
        let Seat { newer, older, .. } = self.seats[at as usize];
        match newer {
            NOBODY => self.newest = older,
            newer => self.seats[newer as usize].older = older,
        }
        match older {
            NOBODY => self.oldest = newer,
            older => self.seats[older as usize].newer = newer,
        }
    }

    /// Puts one in front of the order.
    fn link(&mut self, at: u32) {
        let before = self.newest;
        self.seats[at as usize].newer = NOBODY;
        self.seats[at as usize].older = before;
        match before {
            NOBODY => self.oldest = at,
            before => self.seats[before as usize].newer = at,
        }
        self.newest = at;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn named(name: &str) -> Source {
        Source::Principal(name.into())
    }

    /// What becomes of requests of these sources, one letter each: `.` passes, `x` does not, `!` passes and another had
    /// to be forgotten.
    fn verdicts(sources: &mut Sources, limit: &Gcra, now: u64, asking: &str) -> String {
        let judge = |who: char| match sources.judge(named(&who.to_string()), limit, now, true) {
            Verdict { passed: Ok(()), overflowed: false } => '.',
            Verdict { passed: Ok(()), overflowed: true } => '!',
            Verdict { passed: Err(_), .. } => 'x',
        };
        asking.chars().map(judge).collect()
    }

    #[test]
    fn each_source_has_the_limit_for_itself() {
        let limit = Gcra::new(1, Duration::from_nanos(100), 2);
        let mut sources = Sources::new(10);
        assert_eq!(verdicts(&mut sources, &limit, 0, "aabababc"), "...x.xx.");
        assert_eq!(verdicts(&mut sources, &limit, 100, "aabc"), ".x..");
    }

    #[test]
    fn who_has_not_asked_for_the_longest_time_makes_room() {
        let limit = Gcra::new(1, Duration::from_nanos(100), 1);
        let mut sources = Sources::new(3);
        assert_eq!(verdicts(&mut sources, &limit, 0, "abc"), "...");
        // `a` asks again, in vain, so `b` is the one to go; `b` then makes `c` go, and is as new.
        assert_eq!(verdicts(&mut sources, &limit, 1, "adabca"), "x!x!!x");
        assert_eq!(sources.len(), 3);
    }

    #[test]
    fn a_source_that_owes_nothing_is_forgotten_without_loss() {
        let limit = Gcra::new(1, Duration::from_nanos(100), 1);
        let mut sources = Sources::new(4);
        assert_eq!(verdicts(&mut sources, &limit, 0, "abcd"), "....");
        assert_eq!(verdicts(&mut sources, &limit, 100, "e"), ".", "room is made without harm");
        assert_eq!(sources.len(), 3, "two have gone for one");
        assert_eq!(verdicts(&mut sources, &limit, 100, "f"), ".");
        assert_eq!(sources.len(), 2);
        assert_eq!(sources.seats.len(), 4, "seats are used again");
    }

    #[test]
    fn asking_without_a_charge_changes_nothing() {
        let limit = Gcra::new(1, Duration::from_nanos(100), 1);
        let mut sources = Sources::new(4);
        for _ in 0..3 {
            assert_eq!(sources.judge(named("a"), &limit, 0, false).passed, Ok(()));
        }
        assert_eq!(sources.len(), 0);
        assert_eq!(verdicts(&mut sources, &limit, 0, "aa"), ".x");
        assert_eq!(sources.judge(named("a"), &limit, 30, false).passed, Err(70));
    }

    #[test]
    fn a_stranger_is_its_network() {
        let source = |address: &str| Source::stranger(address.parse().unwrap());
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_ne!(source("::ffff:192.0.2.1"), source("::ffff:192.0.2.2"));
    }
}
