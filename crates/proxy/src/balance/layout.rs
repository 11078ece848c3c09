//! The frame of every choice: levels of priority, localities within a level, available endpoints within a locality.
//!
//! Envoy's rules hold. A level takes load in proportion to its health, which is the share of available endpoints times
//! the overprovisioning factor, and passes what it cannot take to the next. Within a level, localities take load by
//! weight, lowered in the same way. There is no panic: endpoints that are not available get nothing.

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
}

/// Endpoints of one priority.
#[derive(Debug)]
pub(super) struct Level {
    /// Its share of all requests in percent.
    pub(super) percent: u32,
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
    is_available: bool,
}

/// A group of any health.
struct Counted {
    weight: u32,
    members: Vec<u32>,
    total: usize,
}

impl Layout {
    pub(super) fn new(mode: LocalityMode, hosts: &Hosts, now: Instant) -> Self {
        let nowhere = Locality::default();
        let place = |host: u32| {
            let endpoint = hosts.endpoint(host);
            let locality = match mode {
                LocalityMode::Priority => &nowhere,
                LocalityMode::Weighted => &endpoint.locality,
            };
            Place { priority: endpoint.priority, locality, host, is_available: hosts.is_available(host, now) }
        };
        let mut places: Vec<Place<'_>> = (0..hosts.len() as u32).map(place).collect();
        // Mostly they are in order already, and an ordered list is sorted at the price of reading it.
        places.sort_by_key(|place| (place.priority, place.locality));
        let count = |group: &[Place<'_>]| Counted {
            weight: match mode {
                LocalityMode::Priority => 1,
                LocalityMode::Weighted => hosts.endpoint(group[0].host).locality_weight,
            },
            members: group.iter().filter(|place| place.is_available).map(|place| place.host).collect(),
            total: group.len(),
        };
        let levels = places
            .chunk_by(|a, b| a.priority == b.priority)
            .map(|level| level.chunk_by(|a, b| a.locality == b.locality).map(count).collect())
            .collect();
        let mut left_out: Vec<u32> =
            places.iter().filter(|place| !place.is_available).map(|place| place.host).collect();
        left_out.sort_unstable();
        Self { levels: share(levels), left_out }
    }
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

fn share(levels: Vec<Vec<Counted>>) -> Vec<Level> {
    let counts = levels.iter().map(|groups| {
        let weighed = || groups.iter().filter(|group| group.weight > 0);
        (weighed().map(|group| group.members.len()).sum(), weighed().map(|group| group.total).sum())
    });
    let percents = loads(&counts.collect::<Vec<(usize, usize)>>());
    levels.into_iter().zip(percents).map(|(groups, percent)| Level { percent, groups: weigh(groups) }).collect()
}

fn weigh(groups: Vec<Counted>) -> Vec<Group> {
    let takes_part = |group: &Counted| group.weight > 0 && !group.members.is_empty();
    let weigh = |group: Counted| {
        let health = (OVERPROVISIONING_PERCENT * group.members.len()) as f64 / (100 * group.total) as f64;
        Group { weight: f64::from(group.weight) * health.min(1.0), members: group.members }
    };
    groups.into_iter().filter(takes_part).map(weigh).collect()
}

/// Percent of the load for each level, given how many of how many endpoints are available. The sum is 100, or 0 when
/// nobody is available.
fn loads(levels: &[(usize, usize)]) -> Vec<u32> {
    // Rounding must not take the last endpoint of a large level for none.
    let health = |&(available, total): &(usize, usize)| match available {
        0 => 0,
        _ => (OVERPROVISIONING_PERCENT * available / total).clamp(1, 100) as u32,
    };
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
