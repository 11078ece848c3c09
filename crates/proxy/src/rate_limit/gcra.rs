//! The generic cell rate algorithm (ITU-T I.371): a limit whose whole state is one number, the time at which everything it
//! has let through is paid for.
//!
//! A request costs the time that the limit grants to one. It passes while what would be owed with it is at most the cost
//! of a burst. Unlike a window that is counted and reset, any stretch of time sees at most the rate and one burst.
//!
//! Time is counted in parts of a nanosecond, so that three requests a second are three: where the interval does not divide
//! by the requests, a part is the share of a nanosecond that makes it divide. Limits for which that would be finer than
//! 1/64 ns round the cost of a request up to such a part, so that they never let more through than they say.

use std::time::Duration;

/// A limit; what it has let through is kept elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gcra {
    /// Parts of a nanosecond.
    parts: u64,
    /// What a request costs, in parts.
    cost: u64,
    /// What may be owed before a request comes, in parts.
    credit: u64,
}

impl Gcra {
    /// The finest part: at this one the clock runs for nine years.
    const PARTS_MAX: u64 = 64;

    /// So many requests in an interval, and so many at once; none of them is less than one.
    pub(super) fn new(requests: u32, interval: Duration, burst: u32) -> Self {
        let requests = u64::from(requests.max(1));
        let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX).max(1);
        let common = common_divisor(requests, interval);
        let exact = requests / common;
        let (parts, cost) = match exact <= Self::PARTS_MAX {
            true => (exact, interval / common),
            false => {
                let whole = u128::from(interval) * u128::from(Self::PARTS_MAX);
                let cost = whole.div_ceil(u128::from(requests));
                (Self::PARTS_MAX, u64::try_from(cost).unwrap_or(u64::MAX).max(1))
            }
        };
        Self { parts, cost, credit: cost.saturating_mul(u64::from(burst.max(1)) - 1) }
    }

    /// A time since the limit began, in parts.
    pub(super) fn parts(&self, since: Duration) -> u64 {
        let nanoseconds = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        nanoseconds.saturating_mul(self.parts)
    }

    /// Whether a request may pass at `now` when everything before is paid for at `paid`: when all is paid for with it, or
    /// how many parts are missing.
    pub(super) fn judge(&self, paid: u64, now: u64) -> Result<u64, u64> {
        let from = paid.max(now);
        let owed = from - now;
        if owed > self.credit { Err(owed - self.credit) } else { Ok(from.saturating_add(self.cost)) }
    }

    /// So many parts as a time, rounded up.
    pub(super) fn time(&self, parts: u64) -> Duration {
        Duration::from_nanos(parts.div_ceil(self.parts))
    }
}

fn common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// What becomes of requests at these nanoseconds: `.` passes, `x` does not; and the last wait.
    #[track_caller]
    fn check((requests, seconds, burst): (u32, u64, u32), times: &[u64], expected: &str, wait: u64) {
        let limit = Gcra::new(requests, Duration::from_secs(seconds), burst);
        let (mut paid, mut verdicts, mut last) = (0, String::new(), 0);
        for at in times {
            let now = limit.parts(Duration::from_nanos(*at));
            match limit.judge(paid, now) {
                Ok(then) => {
                    paid = then;
                    verdicts.push('.');
                }
                Err(missing) => {
                    last = limit.time(missing).as_nanos() as u64;
                    verdicts.push('x');
                }
            }
        }
        assert_eq!(
            (verdicts.as_str(), last),
            (expected, wait),
            "{requests} in {seconds} s, {burst} at once: {times:?}"
        );
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let tenth = SECOND / 10;
        check((10, 1, 1), &[0, 0], ".x", tenth);
        check((10, 1, 3), &[0, 0, 0, 0], "...x", tenth);
        // A nanosecond early is early.
        check((10, 1, 1), &[0, tenth - 1, tenth], ".x.", 1);
        check((10, 1, 3), &[5, 5, 5, 5, tenth + 4, tenth + 5, tenth + 5], "...xx.x", tenth);
        // A steady rate passes for ever; a burst after a rest is no larger for a longer rest.
        check((10, 1, 1), &[0, tenth, 2 * tenth, 3 * tenth], "....", 0);
        check((10, 1, 2), &[0, 9 * SECOND, 9 * SECOND, 9 * SECOND], "...x", tenth);
    }

    #[test]
    fn a_clock_that_leaps_or_stands_breaks_nothing() {
        let (year, tenth) = (31_536_000 * SECOND, SECOND / 10);
        check((10, 1, 2), &[0, 0, 9 * year, 9 * year, 9 * year], "....x", tenth);
        check((3, 1, 2), &[0, 5 * year, 5 * year, 5 * year, u64::MAX], "...x.", 333_333_334);
        // Workers read the clock one after the other: a little back is as little more to wait.
        check((10, 1, 1), &[tenth, tenth - 7, 2 * tenth - 1, 2 * tenth], ".xx.", 1);
        // Longer than the clock goes.
        check((1, u64::MAX / SECOND, 1), &[0, SECOND, u64::MAX], ".x.", (u64::MAX / SECOND - 1) * SECOND);
        check((u32::MAX, 1, u32::MAX), &[0, 0, 0], "...", 0);
    }

    #[test]
    fn what_passes_in_the_long_run_is_the_rate_to_the_request() {
        for (requests, seconds) in [(3, 1), (7, 60), (1_000, 1), (64, 1), (60, 60), (97, 10), (1_000_000, 1)] {
            let limit = Gcra::new(requests, Duration::from_secs(seconds), 1);
            let (mut paid, mut passed, tries) = (0, 0_u64, 200_001_u64);
            // Somebody who asks again the moment that it is allowed.
            let mut now = 0;
            for _ in 0..tries {
                match limit.judge(paid, now) {
                    Ok(then) => {
                        paid = then;
                        passed += 1;
                    }
                    Err(missing) => now += missing,
                }
            }
            let ideal =
                1 + u128::from(now) * u128::from(requests) / u128::from(limit.parts(Duration::from_secs(seconds)));
            assert_eq!(u128::from(passed), ideal, "{requests} in {seconds} s");
        }
    }

    #[test]
    fn a_rate_that_does_not_divide_is_never_exceeded_and_missed_by_little() {
        for requests in [99_999, 333_333, 7_777_777, 99_999_999] {
            let limit = Gcra::new(requests, Duration::from_secs(1), 1);
            let in_a_second = limit.parts(Duration::from_secs(1)) as f64 / limit.cost as f64;
            let share = in_a_second / f64::from(requests);
            assert!(share <= 1.0 && share > 0.998, "{requests}: {share}");
        }
    }
}
