//! What is known of one name, and when to ask again. Pure: time and randomness are arguments.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::settings::Settings;

/// Addresses as servers told them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// In the servers' order; not empty.
    pub(crate) addresses: Vec<IpAddr>,
    /// How long they hold.
    pub(crate) ttl: Duration,
    /// Whether one of IPv4 and IPv6 is missing because its lookup failed.
    pub(crate) is_partial: bool,
}

/// Why there is no answer with addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The name does not exist.
    NoName,
    /// It exists and leads to no address, or to itself.
    NoAddress,
    /// It has addresses that nobody can connect to: unspecified ones, or those of groups.
    Unusable,
    /// No server answered in time.
    Timeout,
    /// A server answered that it cannot, or will not.
    Refused,
    /// Servers could not be reached, or made no sense.
    Broken,
}

/// What a result changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// When to ask again.
    pub(crate) next: Instant,
    /// Whether the addresses changed.
    pub(crate) changed: bool,
    /// Addresses left out because there were too many.
    pub(crate) dropped: usize,
    /// What an operator should read.
    pub(crate) news: Option<News>,
}

/// What an operator should read, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// It has so many addresses, for the first time or again.
    Found(usize),
    /// Lookups fail; the addresses of before stay.
    Failing(Failure),
    /// There are no addresses.
    Lost(Failure),
}

/// How old the last good answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Age {
    /// Since it came.
    pub(crate) age: Duration,
    /// Whether it has expired.
    pub(crate) is_stale: bool,
}

/// What is known of a name.
#[derive(Debug)]
pub(crate) struct Known {
    addresses: Arc<[IpAddr]>,
    /// When the last good answer came, and when it expires.
    good: Option<(Instant, Instant)>,
    /// Since the last good answer.
    failures: u32,
    failure: Option<Failure>,
}

impl Default for Known {
    fn default() -> Self {
        Self { addresses: Arc::new([]), good: None, failures: 0, failure: None }
    }
}

impl Known {
    /// The addresses in use.
    pub(crate) fn addresses(&self) -> Arc<[IpAddr]> {
        self.addresses.clone()
    }

    /// Why the last lookup failed, if it did.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.failure
    }

    /// How old the last good answer is.
    pub(crate) fn age(&self, now: Instant) -> Option<Age> {
        let (came, expires) = self.good?;
        Some(Age { age: now.saturating_duration_since(came), is_stale: now > expires && self.failure.is_some() })
    }

    /// Takes in what a lookup brought at `now`.
    pub(crate) fn take(
        &mut self,
        result: Result<Answer, Failure>,
        now: Instant,
        settings: &Settings,
        rng: &mut fastrand::Rng,
    ) -> Taken {
        match result {
            Ok(answer) => self.answered(answer, now, settings, rng),
            Err(failure) => self.failed(failure, now, settings, rng),
        }
    }

    fn answered(&mut self, answer: Answer, now: Instant, settings: &Settings, rng: &mut fastrand::Rng) -> Taken {
        let recovered = self.failures > 0 || self.addresses.is_empty();
        let kept = |ip: &&IpAddr| answer.is_partial || answer.addresses.contains(ip);
        // What stays keeps its place, so that servers which rotate their answers change nothing.
        let mut addresses: Vec<IpAddr> = self.addresses.iter().filter(kept).copied().collect();
        for ip in &answer.addresses {
            if !addresses.contains(ip) {
                addresses.push(*ip);
            }
            // Looking each one up among the others is for short lists: the rest of a long one is dropped below anyway.
            if addresses.len() > settings.dns_addresses_max {
                break;
            }
        }
        let found = addresses.len().max(answer.addresses.len());
        addresses.truncate(settings.dns_addresses_max);
        let changed = *self.addresses != *addresses;
        let dropped = found - addresses.len();
        if changed {
            self.addresses = addresses.into();
        }
        let ttl = answer.ttl.clamp(settings.dns_ttl_min, settings.dns_ttl_max);
        self.good = Some((now, now + ttl));
        (self.failures, self.failure) = (0, None);
        let news = recovered.then_some(News::Found(self.addresses.len()));
        // A little before it expires, at random, so that names which came together do not come together for ever.
        Taken { next: now + ttl.mul_f64(1.0 - EARLY * rng.f64()), changed, dropped, news }
    }

    fn failed(&mut self, failure: Failure, now: Instant, settings: &Settings, rng: &mut fastrand::Rng) -> Taken {
        let first = self.failure.is_none();
        let back_off = settings.dns_retry_min.saturating_mul(1 << self.failures.min(DOUBLINGS_MAX));
        let back_off = back_off.min(settings.dns_retry_max).mul_f64(1.0 - JITTER * rng.f64());
        self.failures = self.failures.saturating_add(1);
        self.failure = Some(failure);
        let until = self.good.map(|(_, expires)| expires + settings.dns_stale_max);
        let mut next = now + back_off;
        let is_over = until.is_none_or(|until| now >= until);
        let lost = is_over && !self.addresses.is_empty();
        if lost {
            self.addresses = Arc::new([]);
        } else if let Some(until) = until.filter(|_| !is_over) {
            // The last try before they go is made when they go.
            next = next.min(until);
        }
        let news = match (lost, first) {
            (true, _) => Some(News::Lost(failure)),
            (false, true) if self.addresses.is_empty() => Some(News::Lost(failure)),
            (false, true) => Some(News::Failing(failure)),
            (false, false) => None,
        };
        Taken { next, changed: lost, dropped: 0, news }
    }
}

/// By how much of its time to live an answer is renewed early, at most.
const EARLY: f64 = 0.1;
/// By how much a back-off is shortened, at most.
const JITTER: f64 = 0.5;
/// A second doubled ten times is longer than any back-off.
const DOUBLINGS_MAX: u32 = 10;

impl Failure {
    /// All of them.
    pub(crate) const ALL: [Self; 6] =
        [Self::NoName, Self::NoAddress, Self::Unusable, Self::Timeout, Self::Refused, Self::Broken];

    /// As metrics name it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::NoName => "no_name",
            Self::NoAddress => "no_address",
            Self::Unusable => "unusable",
            Self::Timeout => "timeout",
            Self::Refused => "refused",
            Self::Broken => "broken",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoName => "the name does not exist (NXDOMAIN)",
            Self::NoAddress => "the name has no address",
            Self::Unusable => "the name has no address that can be connected to",
            Self::Timeout => "no name server answered in time",
            Self::Refused => "the name servers refuse to answer, or cannot (SERVFAIL)",
            Self::Broken => "no name server could be reached",
        })
    }
}

#[cfg(test)]
mod tests;
