//! Shedding load before the system ends the process for want of memory.
//!
//! What counts is the memory of the cgroup, in which a container lives, against its limit; without a limit nothing is
//! ever shed. One thread looks ten times a second, for all proxies of the process, and every worker takes the level over
//! with its next tick, so that a request costs the look at a cell. Pages of files that nobody used lately are no pressure,
//! as they are none to the kubelet: the system takes them back before it ends anybody.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use crate::failure::Reason;
use crate::plan::{Plan, refuse};
use crate::settings::Settings;
use crate::worker::Worker;

/// How little memory is left. Each level does what those before it do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Level {
    /// Enough, or nobody knows.
    #[default]
    Calm,
    /// Idle connections of clients are closed, the others after their request.
    Drain,
    /// New requests are answered with 503.
    Shed,
    /// New connections are closed at once.
    Refuse,
}

/// What the workers of a process know of its memory.
#[derive(Debug, Default)]
pub(crate) struct Overload {
    level: AtomicU8,
    /// Memory in use, in millionths of the limit; [`Self::UNKNOWN`] without one.
    used: AtomicU32,
}

/// Looks at the memory. One of them in a process.
#[derive(Debug)]
pub(crate) struct Watch {
    memory: Memory,
    scale: Scale,
    level: Level,
    /// Looks that are left out where there is no limit.
    rests: u32,
}

/// Where the levels begin, in percent, and how far below that they end.
#[derive(Clone, Copy, Debug)]
struct Scale {
    drain: u32,
    shed: u32,
    refuse: u32,
    gap: u32,
}

/// The files of a cgroup.
#[derive(Debug)]
struct Memory {
    folder: PathBuf,
}

/// What they say, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Use {
    used: u64,
    limit: u64,
}

impl Level {
    const ALL: [Self; 4] = [Self::Calm, Self::Drain, Self::Shed, Self::Refuse];

    /// What it does, for the log.
    fn means(self) -> &'static str {
        match self {
            Self::Calm => "nothing is shed",
            Self::Drain => "idle connections are closed, and none is kept alive",
            Self::Shed => "new requests are answered with 503",
            Self::Refuse => "new connections are closed at once",
        }
    }
}

impl Overload {
    const UNKNOWN: u32 = 0;

    /// The level now.
    pub(crate) fn level(&self) -> Level {
        Level::ALL[usize::from(self.level.load(Ordering::Relaxed)).min(Level::ALL.len() - 1)]
    }

    /// Memory in use as a share of the limit, where there is one.
    pub(crate) fn used_ratio(&self) -> Option<f64> {
        let used = self.used.load(Ordering::Relaxed);
        (used != Self::UNKNOWN).then(|| f64::from(used) / 1e6)
    }
}

impl Watch {
    /// Looks left out where there is no limit, which seldom comes later: ten seconds.
    const RESTS: u32 = 100;

    /// As the settings say.
    pub(crate) fn new(settings: &Settings) -> Self {
        let scale = Scale {
            drain: settings.overload_drain_percent,
            shed: settings.overload_shed_percent,
            refuse: settings.overload_refuse_percent,
            gap: settings.overload_gap_percent,
        };
        Self { memory: Memory { folder: settings.cgroup_folder.into() }, scale, level: Level::Calm, rests: 0 }
    }

    /// Looks, and tells `overload`.
    pub(crate) fn look(&mut self, overload: &Overload) {
        if self.rests > 0 {
            self.rests -= 1;
            return;
        }
        let read = self.memory.read(self.scale.drain - self.scale.gap.min(self.scale.drain));
        let (level, used) = match read {
            Some(memory) => (self.scale.level(self.level, memory), memory.millionths()),
            None => {
                self.rests = Self::RESTS;
                (Level::Calm, Overload::UNKNOWN)
            }
        };
        overload.used.store(used, Ordering::Relaxed);
        overload.level.store(level as u8, Ordering::Relaxed);
        if level != self.level {
            let (used, limit) = read.map_or((0, 0), |memory| (memory.used, memory.limit));
            if level > self.level {
                tracing::warn!(used_bytes = used, limit_bytes = limit, "memory is short: {}", level.means());
            } else {
                tracing::info!(used_bytes = used, limit_bytes = limit, "memory is less short: {}", level.means());
            }
            self.level = level;
        }
    }
}

impl Scale {
    /// The level after `before`: one is entered where it begins, and left only when use has fallen by the gap.
    fn level(&self, before: Level, memory: Use) -> Level {
        let entered = self.at(memory, 0);
        let kept = self.at(memory, self.gap);
        entered.max(before.min(kept))
    }

    /// The level if each began so many percent earlier.
    fn at(&self, memory: Use, earlier: u32) -> Level {
        let is_at = |percent: u32| {
            let begins = u128::from(percent.saturating_sub(earlier));
            u128::from(memory.used) * 100 >= begins * u128::from(memory.limit)
        };
        match () {
            () if is_at(self.refuse) => Level::Refuse,
            () if is_at(self.shed) => Level::Shed,
            () if is_at(self.drain) => Level::Drain,
            () => Level::Calm,
        }
    }
}

impl Use {
    /// The share of the limit, at least one millionth.
    fn millionths(self) -> u32 {
        let share = u128::from(self.used) * 1_000_000 / u128::from(self.limit.max(1));
        u32::try_from(share).unwrap_or(u32::MAX).max(1)
    }
}

impl Memory {
    /// Limits from here on are none: version 1 says so by a number of pages that no machine has.
    const NO_LIMIT_MIN: u64 = 1 << 60;

    /// Use and limit; `None` without a limit. Up to so many percent the use is told as it is, cached files included: that
    /// is the larger number, and cheaper to have.
    fn read(&self, exact_from_percent: u32) -> Option<Use> {
        let old = self.folder.join("memory");
        let (folder, files) = match number(&self.folder, "memory.max") {
            Some(limit) => (&self.folder, (limit, "memory.current", "inactive_file ")),
            None => (&old, (number(&old, "memory.limit_in_bytes")?, "memory.usage_in_bytes", "total_inactive_file ")),
        };
        let (limit, current, inactive) = files;
        if limit == 0 || limit >= Self::NO_LIMIT_MIN {
            return None;
        }
        let mut used = number(folder, current)?;
        if u128::from(used) * 100 >= u128::from(exact_from_percent) * u128::from(limit) {
            let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
            let unused = stat.lines().find_map(|line| line.strip_prefix(inactive)?.trim().parse().ok());
            used = used.saturating_sub(unused.unwrap_or(0));
        }
        Some(Use { used, limit })
    }
}

/// The number in a file; `None` if there is none.
fn number(folder: &Path, file: &str) -> Option<u64> {
    let text = fs::read_to_string(folder.join(file)).ok()?;
    match text.trim() {
        "max" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// Refuses a request for want of memory.
#[cold]
pub(crate) fn shed(worker: &Worker) -> Plan {
    worker.recorder.limit_hit("memory_requests");
    refuse(worker, Reason::Overload)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALE: Scale = Scale { drain: 80, shed: 90, refuse: 95, gap: 3 };

    /// The levels, as digits, at which use in tenths of a percent leaves a watch.
    #[track_caller]
    fn check(used: &[u64], expected: &str) {
        let mut level = Level::Calm;
        let levels: String = used
            .iter()
            .map(|used| {
                level = SCALE.level(level, Use { used: *used, limit: 1000 });
                char::from(b'0' + level as u8)
            })
            .collect();
        assert_eq!(levels, expected, "{used:?}");
    }

    #[test]
    fn levels_begin_where_they_begin() {
        check(&[0, 799, 800, 899, 900, 949, 950, 1000, 2000], "001122333");
        // At once, and from one to any other.
        check(&[950, 0, 900, 0, 800, 0], "302010");
    }

    #[test]
    fn levels_end_only_a_while_below() {
        check(&[800, 799, 770, 769, 799, 800], "111001");
        check(&[950, 949, 920, 919, 950], "33323");
        check(&[900, 899, 870, 869, 771, 769], "222110");
        // Between two levels it stays where it is, however often it goes to and fro.
        check(&[800, 790, 800, 780, 799, 775, 800], "1111111");
    }

    /// A cgroup made of these files, and what is read of it.
    #[track_caller]
    fn read(files: &[(&str, &str)], expected: Option<(u64, u64)>) {
        let world = outrigger_testkit::World::new();
        fs::create_dir(world.path().join("memory")).unwrap();
        for (name, text) in files {
            fs::write(world.path().join(name), text).unwrap();
        }
        let memory = Memory { folder: world.path().into() };
        let expected = expected.map(|(used, limit)| Use { used, limit });
        assert_eq!(memory.read(77), expected, "{files:?}");
    }

    #[test]
    fn both_versions_of_cgroups_are_read() {
        let stat = "anon 5\ninactive_anon 7\nactive_file 9\ninactive_file 30\ntotal_inactive_file 40\n";
        read(&[], None);
        read(&[("memory.max", "max\n"), ("memory.current", "50\n")], None);
        read(&[("memory.max", "100\n")], None);
        read(&[("memory.max", "100\n"), ("memory.current", "50\n"), ("memory.stat", stat)], Some((50, 100)));
        // Only where it matters are unused files left out.
        read(&[("memory.max", "100\n"), ("memory.current", "77\n"), ("memory.stat", stat)], Some((47, 100)));
        read(&[("memory.max", "100\n"), ("memory.current", "77\n")], Some((77, 100)));
        read(&[("memory.max", "nonsense"), ("memory.current", "77\n")], None);
        let old = |limit| [("memory/memory.limit_in_bytes", limit), ("memory/memory.usage_in_bytes", "90\n")];
        read(&old("9223372036854771712\n"), None);
        read(&old("100\n"), Some((90, 100)));
        let [limit, usage] = old("100\n");
        read(&[limit, usage, ("memory/memory.stat", stat)], Some((50, 100)));
    }

    #[test]
    fn a_limit_that_is_taken_away_ends_all_shedding() {
        let world = outrigger_testkit::World::new();
        world.write("memory.max", "1000");
        world.write("memory.current", "960");
        let folder: &'static str = Box::leak(world.path().to_str().unwrap().to_owned().into_boxed_str());
        let mut watch = Watch::new(&Settings { cgroup_folder: folder, ..Settings::default() });
        let overload = Overload::default();
        assert_eq!((overload.level(), overload.used_ratio()), (Level::Calm, None));
        watch.look(&overload);
        assert_eq!((overload.level(), overload.used_ratio()), (Level::Refuse, Some(0.96)));
        world.write("memory.max", "max");
        watch.look(&overload);
        assert_eq!((overload.level(), overload.used_ratio()), (Level::Calm, None));
        // A limit that comes is noticed after a rest.
        world.write("memory.max", "1000");
        for _ in 0..Watch::RESTS {
            watch.look(&overload);
            assert_eq!(overload.level(), Level::Calm);
        }
        watch.look(&overload);
        assert_eq!(overload.level(), Level::Refuse);
    }
}
