//! What the machine allows: workers as many as the cgroup lets run at once, connections as many as descriptors bear.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The CPU limit of the cgroup, rounded up, at most what the machine offers.
pub(super) fn default_workers() -> usize {
    let machine = std::thread::available_parallelism().map_or(1, usize::from);
    let v2 = fs::read_to_string("/sys/fs/cgroup/cpu.max").ok();
    let v1 = || {
        let read = |name| fs::read_to_string(format!("/sys/fs/cgroup/cpu/cpu.{name}")).ok();
        Some(format!("{} {}", read("cfs_quota_us")?.trim(), read("cfs_period_us")?.trim()))
    };
    match v2.or_else(v1).as_deref().and_then(limit) {
        Some(limit) => limit.clamp(1, machine),
        None => machine,
    }
}

/// Reads `QUOTA PERIOD` in microseconds; `max` or a negative quota is no limit.
fn limit(text: &str) -> Option<usize> {
    let mut words = text.split_whitespace();
    let quota: u64 = words.next()?.parse().ok()?;
    let period: u64 = words.next()?.parse().ok().filter(|p| *p > 0)?;
    Some(quota.div_ceil(period) as usize)
}

/// Raises the limit of descriptors as far as we may, and tells how many connections each worker may hold: half of the
/// descriptors are for clients, the rest for upstreams, files and the admin interface, so that a flood of clients cannot
/// starve what serves them.
pub(super) fn connections_max(workers: usize) -> usize {
    let default = outrigger_proxy::Settings::default().connections_max;
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // The usual soft limit of 1024 is for programs that use select(2).
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    current.map_or(default, |descriptors| share(descriptors, workers, default))
}

fn share(descriptors: u64, workers: usize, most: usize) -> usize {
    usize::try_from(descriptors / 2 / workers as u64).unwrap_or(most).clamp(1, most)
}

#[cfg(test)]
mod tests {
    use super::{limit, share};

    #[test]
    fn half_of_the_descriptors_are_for_clients() {
        assert_eq!(share(1024, 2, 65_536), 256);
        assert_eq!(share(1, 2, 65_536), 1);
        assert_eq!(share(u64::MAX, 1, 65_536), 65_536);
    }

    #[test]
    fn a_quota_is_rounded_up_and_none_is_no_limit() {
        for (text, want) in [
            ("200000 100000", Some(2)),
            ("150000 100000", Some(2)),
            ("10000 100000", Some(1)),
            ("max 100000", None),
            ("-1 100000", None),
            ("100000 0", None),
            ("", None),
        ] {
            assert_eq!(limit(text), want, "{text}");
        }
    }
}
