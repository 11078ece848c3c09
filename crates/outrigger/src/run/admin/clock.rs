//! Moments of the data plane, told by the time of day.

use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

/// One moment, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// The clock that only goes forward.
    pub(super) now: Instant,
    /// The time of day.
    pub(super) wall: SystemTime,
}

impl Clock {
    /// Now.
    pub(super) fn now() -> Self {
        Self { now: Instant::now(), wall: SystemTime::now() }
    }

    /// Another moment by the time of day, `2026-11-21T20:08:52.123Z` (RFC 3339).
    pub(super) fn told(&self, at: Instant) -> Value {
        let wall = match self.now.checked_duration_since(at) {
            Some(ago) => self.wall.checked_sub(ago),
            None => self.wall.checked_add(at.duration_since(self.now)),
        };
        let stamp = wall.and_then(|wall| jiff::Timestamp::try_from(wall).ok());
        json!(stamp.map(|stamp| format!("{stamp:.3}")))
    }

    /// Seconds since a moment.
    pub(super) fn since(&self, at: Instant) -> f64 {
        seconds(self.now.saturating_duration_since(at))
    }

    /// Seconds until a moment; 0 where it is over.
    pub(super) fn until(&self, at: Instant) -> f64 {
        seconds(at.saturating_duration_since(self.now))
    }
}

/// Seconds, to the millisecond.
pub(super) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

/// Milliseconds.
pub(super) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn moments_have_a_time_of_day() {
        let now = Instant::now();
        let clock = Clock { now, wall: UNIX_EPOCH + Duration::from_millis(1_700_000_000_250) };
        let (before, after) = (now - Duration::from_millis(1250), now + Duration::from_secs(60));
        assert_eq!(clock.told(before), json!("2023-11-14T22:13:19.000Z"));
        assert_eq!(clock.told(after), json!("2023-11-14T22:14:20.250Z"));
        assert_eq!((clock.since(before), clock.until(after), clock.until(before)), (1.25, 60.0, 0.0));
    }
}
