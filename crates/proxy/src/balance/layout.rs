//! The frame of every choice: levels of priority, localities within a level, available endpoints within a locality.
//!
//! Envoy's rules hold. A level takes load in proportion to its health, which is the share of available endpoints times
//! the overprovisioning factor, and passes what it cannot take to the next. Within a level, localities take load by
//! weight, lowered in the same way.
//!
//! Where the levels together cannot take everything, a level with too small a share of available endpoints is in **panic**:
//! its load goes to all its endpoints, ejected or not, whatever their localities. When all levels are in panic, each takes
//! load by its number of endpoints. Endpoints that an operator drains, or whose circuit is open, get nothing even then; a
//! drained one does not count at all, as if it were not there.

use std::collections::HashSet;
use std::time::Instant;

use outrigger_model::{Locality, LocalityMode};

use super::hosts::Hosts;

/// A level counts as fully healthy until less than 100/140, about 71 %, of its endpoints are available (Envoy's
/// `overprovisioning_factor`, in percent).
const OVERPROVISIONING_PERCENT: usize = 140;

/// The frame at one moment.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// By ascending priority number; those without available endpoints are there too.
    pub(super) levels: Vec<Level>,
    /// Endpoints that were not available, ascending.
    pub(super) left_out: Vec<u32>,
    /// Those of them that no level in panic has, ascending.
    pub(super) barred: Vec<u32>,
}

/// Endpoints of one priority.
#[derive(Debug)]
pub(super) struct Level {
    /// Its share of all requests in percent.
    pub(super) percent: u32,
    /// Whether it has all its endpoints.
    pub(super) is_panicking: bool,
    /// Its localities that have available endpoints and weight; just one where localities do not matter.
    pub(super) groups: Vec<Group>,
}

/// Endpoints of one locality.
#[derive(Debug)]
pub(super) struct Group {
    /// Its weight among the groups of the level.
    pub(super) weight: f64,
    /// Its available endpoints.
    pub(super) members: Vec<u32>,
}

/// Where an endpoint stands.
struct Place<'a> {
    priority: u32,
    locality: &'a Locality,
    host: u32,
    /// Asked once, so that an endpoint that changes meanwhile is either a member or left out.
    state: State,
}

/// What an endpoint may get.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Requests.
    Available,
    /// Requests in panic only.
    Ejected,
    /// Nothing.
    Barred,
    /// Nothing, and it does not count as one that is ill.
    Drained,
}

/// A group of any health.
struct Counted {
    weight: u32,
    members: Vec<u32>,
    /// Those that panic adds.
    ejected: Vec<u32>,
    total: usize,
}

impl Layout {
    /// Lays out all endpoints. `panic_percent` is the share of available endpoints below which a level is in panic (Istio
    /// `minHealthPercent`); 0: never.
    pub(super) fn new(mode: LocalityMode, panic_percent: u32, hosts: &Hosts, now: Instant) -> Self {
        let nowhere = Locality::default();
        let place = |host: u32| {
            let endpoint = hosts.endpoint(host);
            let locality = match mode {
                LocalityMode::Priority => &nowhere,
                LocalityMode::Weighted => &endpoint.locality,
            };
            Place { priority: endpoint.priority, locality, host, state: state(hosts, host, now) }
        };
        let mut places: Vec<Place<'_>> = (0..hosts.len() as u32).map(place).collect();
        // Mostly they are in order already, and an ordered list is sorted at the price of reading it.
        places.sort_by_key(|place| (place.priority, place.locality));
        let count = |group: &[Place<'_>]| Counted {
            weight: match mode {
                LocalityMode::Priority => 1,
                LocalityMode::Weighted => hosts.endpoint(group[0].host).locality_weight,
            },
            members: in_state(group, State::Available),
            ejected: in_state(group, State::Ejected),
            total: group.iter().filter(|place| place.state != State::Drained).count(),
        };
        let levels = places
            .chunk_by(|a, b| a.priority == b.priority)
            .map(|level| level.chunk_by(|a, b| a.locality == b.locality).map(count).collect())
            .collect();
        let levels = share(levels, panic_percent);
        let mut left_out: Vec<u32> =
            places.iter().filter(|place| place.state != State::Available).map(|place| place.host).collect();
        left_out.sort_unstable();
        let in_panic = levels.iter().filter(|level| level.is_panicking).flat_map(|level| &level.groups);
        let in_panic: HashSet<u32, foldhash::fast::FixedState> =
            in_panic.flat_map(|group| group.members.iter().copied()).collect();
        let barred = left_out.iter().copied().filter(|host| !in_panic.contains(host)).collect();
        Self { levels, left_out, barred }
    }
}

fn state(hosts: &Hosts, host: u32, now: Instant) -> State {
    if hosts.is_available(host, now) {
        State::Available
    } else if hosts.is_usable(host, now) {
        State::Ejected
    } else if hosts.is_drained(host) {
        State::Drained
    } else {
        State::Barred
    }
}

fn in_state(group: &[Place<'_>], state: State) -> Vec<u32> {
    group.iter().filter(|place| place.state == state).map(|place| place.host).collect()
}

/// The level that answers for a number from 0 to 99.
pub(super) fn level_of(percents: impl Iterator<Item = u32>, number: u32) -> usize {
    let mut sum = 0;
    let mut percents = percents.map(|percent| {
        sum += percent;
        sum
    });
    percents.position(|sum| number < sum).unwrap_or(0)
}

fn share(levels: Vec<Vec<Counted>>, panic_percent: u32) -> Vec<Level> {
    let counts = levels.iter().map(|groups| {
        let weighed = || groups.iter().filter(|group| group.weight > 0);
        (weighed().map(|group| group.members.len()).sum(), weighed().map(|group| group.total).sum())
    });
    let counts: Vec<(usize, usize)> = counts.collect();
    let panics = panics(&counts, panic_percent);
    let percents = if !panics.is_empty() && panics.iter().all(|panics| *panics) {
        loads_by_number(&levels.iter().map(|groups| usable(groups)).collect::<Vec<_>>())
    } else {
        loads(&counts)
    };
    let level = |((groups, percent), is_panicking): ((Vec<Counted>, u32), bool)| {
        let groups = if is_panicking { everybody(groups) } else { weigh(groups) };
        Level { percent, is_panicking, groups }
    };
    levels.into_iter().zip(percents).zip(panics).map(level).collect()
}

/// How many endpoints a level has in panic.
fn usable(groups: &[Counted]) -> usize {
    groups.iter().map(|group| group.members.len() + group.ejected.len()).sum()
}

/// All endpoints of a level in one group, which is how Envoy picks in panic: localities have no weight then.
fn everybody(groups: Vec<Counted>) -> Vec<Group> {
    let mut members: Vec<u32> = groups.into_iter().flat_map(|group| [group.members, group.ejected]).flatten().collect();
    members.sort_unstable();
    if members.is_empty() { Vec::new() } else { vec![Group { weight: 1.0, members }] }
}

fn weigh(groups: Vec<Counted>) -> Vec<Group> {
    let takes_part = |group: &Counted| group.weight > 0 && !group.members.is_empty();
    let weigh = |group: Counted| {
        let health = (OVERPROVISIONING_PERCENT * group.members.len()) as f64 / (100 * group.total) as f64;
        Group { weight: f64::from(group.weight) * health.min(1.0), members: group.members }
    };
    groups.into_iter().filter(takes_part).map(weigh).collect()
}

/// How much of all load a level can take, in percent.
fn health(&(available, total): &(usize, usize)) -> u32 {
    // Rounding must not take the last endpoint of a large level for none.
    match available {
        0 => 0,
        _ => (OVERPROVISIONING_PERCENT * available / total).clamp(1, 100) as u32,
    }
}

/// Which levels are in panic: none as long as all together can take everything. A level without endpoints always is,
/// otherwise, so that it does not keep the others from being all there are.
fn panics(levels: &[(usize, usize)], panic_percent: u32) -> Vec<bool> {
    let is_enough = levels.iter().map(health).sum::<u32>() >= 100;
    let panics = |&(available, total): &(usize, usize)| {
        let percent = if total == 0 { 0.0 } else { 100.0 * available as f64 / total as f64 };
        panic_percent > 0 && !is_enough && percent < f64::from(panic_percent.min(100))
    };
    levels.iter().map(panics).collect()
}

/// Percent of the load for each level when all are in panic, given their endpoints. The sum is 100, or 0 when there are none.
fn loads_by_number(levels: &[usize]) -> Vec<u32> {
    let total: usize = levels.iter().sum();
    let load = |count: &usize| (100 * count).checked_div(total).unwrap_or_default() as u32;
    let mut loads: Vec<u32> = levels.iter().map(load).collect();
    if let Some(first) = levels.iter().position(|count| *count > 0) {
        loads[first] += 100 - loads.iter().sum::<u32>();
    }
    loads
}

/// Percent of the load for each level, given how many of how many endpoints are available. The sum is 100, or 0 when
/// nobody is available.
fn loads(levels: &[(usize, usize)]) -> Vec<u32> {
    let healths: Vec<u32> = levels.iter().map(health).collect();
    let sum = healths.iter().sum::<u32>().min(100);
    if sum == 0 {
        return healths;
    }
    let mut left = 100;
    let take = |health: &u32| {
        let load = (health * 100 / sum).min(left);
        left -= load;
        load
    };
    let mut loads: Vec<u32> = healths.iter().map(take).collect();
    // What rounding left over goes to the first level that can take any.
    if let Some(first) = healths.iter().position(|health| *health > 0) {
        loads[first] += left;
    }
    loads
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(levels: &[(usize, usize)], expected: &[u32]) {
        assert_eq!(loads(levels), expected, "{levels:?}");
    }

    #[test]
    fn load_spills_over_as_a_level_loses_endpoints() {
        check(&[(10, 10), (10, 10)], &[100, 0]);
        check(&[(8, 10), (10, 10)], &[100, 0]);
        check(&[(7, 10), (10, 10)], &[98, 2]);
        check(&[(5, 10), (10, 10)], &[70, 30]);
        check(&[(1, 2), (1, 1)], &[70, 30]);
        check(&[(1, 10), (10, 10)], &[14, 86]);
        check(&[(0, 10), (10, 10)], &[0, 100]);
        check(&[(0, 10), (0, 10), (3, 3)], &[0, 0, 100]);
    }

    #[test]
    fn levels_that_are_all_weak_share_everything() {
        check(&[(1, 4), (1, 4)], &[50, 50]);
        check(&[(1, 10), (1, 10), (1, 10)], &[34, 33, 33]);
        check(&[(1, 1000)], &[100]);
        check(&[(0, 3), (0, 3)], &[0, 0]);
        check(&[], &[]);
    }

    #[track_caller]
    fn check_panic(panic_percent: u32, levels: &[(usize, usize)], expected: &[bool]) {
        assert_eq!(panics(levels, panic_percent), expected, "{levels:?} at {panic_percent} %");
    }

    #[test]
    fn a_level_panics_below_the_threshold_if_the_others_cannot_take_its_load() {
        check_panic(50, &[(5, 10)], &[false]);
        check_panic(50, &[(4, 10)], &[true]);
        check_panic(100, &[(8, 10)], &[false]);
        check_panic(50, &[(1, 10), (10, 10)], &[false, false]);
        check_panic(50, &[(1, 10), (6, 10)], &[true, false]);
        check_panic(50, &[(1, 10), (1, 10)], &[true, true]);
        check_panic(50, &[(0, 0), (1, 10)], &[true, true]);
        check_panic(200, &[(7, 10)], &[true]);
        check_panic(0, &[(0, 10), (0, 10)], &[false, false]);
        check_panic(1, &[(0, 10)], &[true]);
        check_panic(50, &[], &[]);
    }

    #[test]
    fn levels_that_all_panic_share_by_number() {
        assert_eq!(loads_by_number(&[10, 10]), [50, 50]);
        assert_eq!(loads_by_number(&[0, 5, 15]), [0, 25, 75]);
        assert_eq!(loads_by_number(&[1, 1, 1]), [34, 33, 33]);
        assert_eq!(loads_by_number(&[0, 0]), [0, 0]);
    }

    #[test]
    fn a_number_finds_its_level() {
        let level = |number| level_of([70, 0, 30].into_iter(), number);
        assert_eq!([0, 69, 70, 99].map(level), [0, 0, 2, 2]);
    }

    #[test]
    fn the_loads_of_any_levels_sum_to_a_hundred() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..10_000 {
            let level = |rng: &mut fastrand::Rng| {
                let total = rng.usize(1..2000);
                (rng.usize(0..=total), total)
            };
            let levels: Vec<_> = (0..rng.usize(1..5)).map(|_| level(&mut rng)).collect();
            let expected = if levels.iter().all(|level| level.0 == 0) { 0 } else { 100 };
            let loads = loads(&levels);
            assert_eq!(loads.iter().sum::<u32>(), expected, "{levels:?}");
            for (load, level) in loads.iter().zip(&levels) {
                assert!(*load == 0 || level.0 > 0, "{levels:?}: load for a level without available endpoints");
            }
        }
    }
}
