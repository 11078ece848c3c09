//! Locality failover and distribution, computed for one client: priorities and locality weights of endpoints.
//!
//! Follows Istio's `loadbalancer` package: one of distribute, failoverPriority and failover applies; failover needs outlier
//! detection. Pure; called by `clusters`.

use std::sync::Arc;

use outrigger_model::{Endpoint, Locality, LocalityMode};

use crate::kind::balancer::{Distribute, Failover, LocalitySetting};
use crate::object::Labels;

/// What of the client decides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Near<'c> {
    /// Where it runs.
    pub(crate) locality: &'c Locality,
    /// Its labels.
    pub(crate) labels: &'c Labels,
}

/// Sets priorities or locality weights of endpoints that have none yet. Endpoints in localities that a matching
/// distribution does not name are taken out.
pub(crate) fn apply(
    endpoints: &mut Vec<Arc<Endpoint>>,
    setting: &LocalitySetting,
    has_outlier_detection: bool,
    client: Near<'_>,
) -> LocalityMode {
    if setting.enabled == Some(false) {
        return LocalityMode::Priority;
    }
    if !setting.distribute.is_empty() {
        return match setting.distribute.iter().find(|d| matches(client.locality, &d.from)) {
            Some(found) => {
                distribute(endpoints, found);
                LocalityMode::Weighted
            }
            None => LocalityMode::Priority,
        };
    }
    if has_outlier_detection {
        prioritise(endpoints, setting, client);
    }
    LocalityMode::Priority
}

/// Whether a place is in one written as `region/zone/subzone`; `*` and missing parts match all.
fn matches(place: &Locality, rule: &str) -> bool {
    let rule = Locality::parse(rule);
    let part = |rule: &str, is: &str, may_miss: bool| rule == "*" || rule == is || (may_miss && rule.is_empty());
    part(&rule.region, &place.region, false)
        && part(&rule.zone, &place.zone, true)
        && part(&rule.sub_zone, &place.sub_zone, true)
}

/// Gives each locality its share; where a rule of `to` matches several localities they divide it by their weights.
fn distribute(endpoints: &mut Vec<Arc<Endpoint>>, rule: &Distribute) {
    let mut to: Vec<(&str, u32)> = rule.to.iter().map(|(place, weight)| (&**place, *weight)).collect();
    // The most specific first, so that `region1/*` does not take what `region1/zone1/*` names.
    to.sort_by_key(|(place, _)| std::cmp::Reverse(specificity(place)));
    let target = |endpoint: &Endpoint| to.iter().position(|(place, _)| matches(&endpoint.locality, place));
    let mut sums = vec![0_u64; to.len()];
    for endpoint in endpoints.iter() {
        if let Some(index) = target(endpoint) {
            sums[index] += u64::from(endpoint.weight);
        }
    }
    let weight_of = |place: &Locality, endpoints: &[Arc<Endpoint>]| -> u64 {
        endpoints.iter().filter(|e| e.locality == *place).map(|e| u64::from(e.weight)).sum()
    };
    let mut placed: Vec<(Locality, u32)> = Vec::new();
    let all = std::mem::take(endpoints);
    for endpoint in &all {
        let Some(index) = target(endpoint) else { continue };
        let known = placed.iter().find(|(place, _)| *place == endpoint.locality).map(|(_, weight)| *weight);
        let weight = known.unwrap_or_else(|| {
            let own = weight_of(&endpoint.locality, &all);
            let share = (own * u64::from(to[index].1)).div_ceil(sums[index].max(1));
            let share = u32::try_from(share).unwrap_or(u32::MAX);
            placed.push((endpoint.locality.clone(), share));
            share
        });
        if weight > 0 {
            endpoints.push(Arc::new(Endpoint { locality_weight: weight, ..Endpoint::clone(endpoint) }));
        }
    }
}

fn specificity(place: &str) -> usize {
    place.split('/').filter(|part| !part.is_empty() && *part != "*").count()
}

fn prioritise(endpoints: &mut [Arc<Endpoint>], setting: &LocalitySetting, client: Near<'_>) {
    let by_label = !setting.failover_priority.is_empty();
    let by_place = !by_label || !setting.failover.is_empty();
    let rank = |endpoint: &Endpoint| {
        let labels = if by_label { label_rank(endpoint, &setting.failover_priority, client) } else { 0 };
        // Five ranks of places at most: they refine the ranks of labels.
        labels * 5 + if by_place { place_rank(&endpoint.locality, &setting.failover, client.locality) } else { 0 }
    };
    let ranks: Vec<usize> = endpoints.iter().map(|e| rank(e)).collect();
    let mut levels = ranks.clone();
    levels.sort_unstable();
    levels.dedup();
    for (endpoint, rank) in endpoints.iter_mut().zip(ranks) {
        // Priorities are without gaps, 0 first.
        let priority = levels.binary_search(&rank).unwrap_or_default() as u32;
        if priority != endpoint.priority {
            *endpoint = Arc::new(Endpoint { priority, ..Endpoint::clone(endpoint) });
        }
    }
}

/// 0 in the same sub-zone, then zone, region, elsewhere; 4 elsewhere when the client's region fails over to another one.
fn place_rank(place: &Locality, failover: &[Failover], client: &Locality) -> usize {
    if place.region == client.region {
        return match (place.zone == client.zone, place.sub_zone == client.sub_zone) {
            (true, true) => 0,
            (true, false) => 1,
            (false, _) => 2,
        };
    }
    match failover.iter().find(|f| f.from == client.region) {
        Some(rule) if rule.to != place.region => 4,
        _ => 3,
    }
}

/// 0 when all labels agree; else counted from the first that does not.
fn label_rank(endpoint: &Endpoint, priority: &[Arc<str>], client: Near<'_>) -> usize {
    for (index, entry) in priority.iter().enumerate() {
        let (key, wanted) = match entry.split_once('=') {
            Some((key, value)) => (key, value),
            None => (&**entry, label(key_of(entry), client.labels, client.locality)),
        };
        if label(key, &endpoint.workload.labels, &endpoint.locality) != wanted {
            return priority.len() - index;
        }
    }
    0
}

fn key_of(entry: &str) -> &str {
    entry.split('=').next().unwrap_or_default()
}

/// A label; those of the place come from the place.
fn label<'l>(key: &str, labels: &'l Labels, place: &'l Locality) -> &'l str {
    match key {
        "topology.kubernetes.io/region" => &place.region,
        "topology.kubernetes.io/zone" => &place.zone,
        "topology.istio.io/subzone" => &place.sub_zone,
        _ => labels.get(key).map_or("", |value| value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outrigger_model::Workload;

    /// Endpoints written `PLACE[*WEIGHT]`, one a word; the result as `PLACE=PRIORITY/LOCALITY_WEIGHT`.
    #[track_caller]
    fn check(client: &str, endpoints: &str, setting: LocalitySetting, outlier: bool, expected: &str) {
        let mut endpoints: Vec<Arc<Endpoint>> = endpoints
            .split(' ')
            .map(|word| {
                let (place, weight) = word.split_once('*').unwrap_or((word, "1"));
                let locality = Locality::parse(place);
                let workload = Arc::new(Workload::unknown());
                let address = ([127, 0, 0, 1], 80).into();
                let weight = weight.parse().unwrap();
                Arc::new(Endpoint { address, weight, priority: 0, locality, locality_weight: 0, workload })
            })
            .collect();
        let locality = Locality::parse(client);
        apply(&mut endpoints, &setting, outlier, Near { locality: &locality, labels: &Labels::new() });
        let found: Vec<String> =
            endpoints.iter().map(|e| format!("{}={}/{}", e.locality, e.priority, e.locality_weight)).collect();
        assert_eq!(found.join(" "), expected);
    }

    fn setting() -> LocalitySetting {
        LocalitySetting { enabled: None, distribute: vec![], failover: vec![], failover_priority: vec![] }
    }

    #[test]
    fn failover_goes_from_near_to_far_and_only_with_outlier_detection() {
        check("r1/z1", "r1/z1 r1/z2 r2/z1", setting(), true, "r1/z1=0/0 r1/z2=1/0 r2/z1=2/0");
        check("r1/z1", "r1/z1 r1/z2 r2/z1", setting(), false, "r1/z1=0/0 r1/z2=0/0 r2/z1=0/0");
        let off = LocalitySetting { enabled: Some(false), ..setting() };
        check("r1/z1", "r1/z1 r2/z1", off, true, "r1/z1=0/0 r2/z1=0/0");
        let to = LocalitySetting { failover: vec![Failover { from: "r1".into(), to: "r3".into() }], ..setting() };
        check("r1/z1", "r2/z r3/z r1/z", to, true, "r2/z=2/0 r3/z=1/0 r1/z=0/0");
    }

    #[test]
    fn failover_priority_counts_labels_from_the_first() {
        let labels = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"].map(Arc::from).to_vec();
        let by_label = LocalitySetting { failover_priority: labels, ..setting() };
        check("r1/z1", "r1/z1 r1/z2 r2/z1", by_label, true, "r1/z1=0/0 r1/z2=1/0 r2/z1=2/0");
        let forced =
            LocalitySetting { failover_priority: vec!["topology.kubernetes.io/region=r2".into()], ..setting() };
        check("r1/z1", "r1/z1 r2/z1", forced, true, "r1/z1=1/0 r2/z1=0/0");
    }

    #[test]
    fn distribution_gives_shares_and_takes_out_the_rest() {
        let to = [("r1/z1/*".into(), 80), ("r1/*".into(), 20)].into();
        let rule = LocalitySetting { distribute: vec![Distribute { from: "r1/*".into(), to }], ..setting() };
        check("r1/z1", "r1/z1 r1/z2 r1/z3*3 r2/z1", rule.clone(), false, "r1/z1=0/80 r1/z2=0/5 r1/z3=0/15");
        check("r2/z1", "r1/z1 r2/z1", rule, false, "r1/z1=0/0 r2/z1=0/0");
    }
}
