//! How many workers: as many as the cgroup lets run at once, at least one.

use std::fs;

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

#[cfg(test)]
mod tests {
    use super::limit;

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
