//! Locality failover and distribution, computed for one client: priorities and locality weights of instances.
//!
//! Follows Istio's `loadbalancer` package: one of distribute, failoverPriority and failover applies; failover needs outlier
//! detection. Pure; called by `clusters`.

use std::sync::Arc;

use outrigger_model::{Endpoint, Locality, LocalityMode, NamedEndpoint};

use super::endpoints::Instances;
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

/// What of an instance decides, whether it is known by address or by name.
#[derive(Clone, Copy, Debug)]
struct Facts<'i> {
    locality: &'i Locality,
    labels: &'i Labels,
    weight: u32,
}

/// What is decided of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It takes part, at this level and with this weight of its locality.
    In { priority: u32, locality_weight: u32 },
    /// It gets nothing.
    Out,
}

/// Sets priorities or locality weights of instances that have none yet. Those in localities that a matching distribution
/// does not name are taken out.
pub(crate) fn apply(
    instances: &mut Instances,
    setting: &LocalitySetting,
    has_outlier_detection: bool,
    client: Near<'_>,
) -> LocalityMode {
    let by_address = instances.endpoints.iter().map(|e| (&e.locality, &e.workload, e.weight));
    let by_name = instances.names.iter().map(|n| (&n.locality, &n.workload, n.weight));
    let facts = by_address.chain(by_name);
    let facts: Vec<Facts<'_>> =
        facts.map(|(locality, workload, weight)| Facts { locality, labels: &workload.labels, weight }).collect();
    let (mode, verdicts) = judge(&facts, setting, has_outlier_detection, client);
    let Some(verdicts) = verdicts else { return mode };
    let mut verdicts = verdicts.into_iter();
    let mut next = || verdicts.next().expect("there is a verdict for each instance");
    instances.endpoints.retain_mut(|endpoint| match next() {
        Verdict::In { priority, locality_weight } => {
            if (endpoint.priority, endpoint.locality_weight) != (priority, locality_weight) {
                *endpoint = Arc::new(Endpoint { priority, locality_weight, ..Endpoint::clone(endpoint) });
            }
            true
        }
        Verdict::Out => false,
    });
    instances.names.retain_mut(|name| match next() {
        Verdict::In { priority, locality_weight } => {
            if (name.priority, name.locality_weight) != (priority, locality_weight) {
                *name = Arc::new(NamedEndpoint { priority, locality_weight, ..NamedEndpoint::clone(name) });
            }
            true
        }
        Verdict::Out => false,
    });
    mode
}

/// A verdict for each instance; `None` where all stay as they are.
fn judge(
    instances: &[Facts<'_>],
    setting: &LocalitySetting,
    has_outlier_detection: bool,
    client: Near<'_>,
) -> (LocalityMode, Option<Vec<Verdict>>) {
    if setting.enabled == Some(false) {
        return (LocalityMode::Priority, None);
    }
    if !setting.distribute.is_empty() {
        return match setting.distribute.iter().find(|d| matches(client.locality, &d.from)) {
            Some(found) => (LocalityMode::Weighted, Some(distribute(instances, found))),
            None => (LocalityMode::Priority, None),
        };
    }
    (LocalityMode::Priority, has_outlier_detection.then(|| prioritise(instances, setting, client)))
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
fn distribute<'i>(instances: &[Facts<'i>], rule: &Distribute) -> Vec<Verdict> {
    let mut to: Vec<(&str, u32)> = rule.to.iter().map(|(place, weight)| (&**place, *weight)).collect();
    // The most specific first, so that `region1/*` does not take what `region1/zone1/*` names.
    to.sort_by_key(|(place, _)| std::cmp::Reverse(specificity(place)));
    let target = |instance: &Facts<'_>| to.iter().position(|(place, _)| matches(instance.locality, place));
    let mut sums = vec![0_u64; to.len()];
    for instance in instances {
        if let Some(index) = target(instance) {
            sums[index] += u64::from(instance.weight);
        }
    }
    let weight_of = |place: &Locality| -> u64 {
        instances.iter().filter(|i| i.locality == place).map(|i| u64::from(i.weight)).sum()
    };
    let mut placed: Vec<(&Locality, u32)> = Vec::new();
    let verdict = |instance: &Facts<'i>| {
        let Some(index) = target(instance) else { return Verdict::Out };
        let known = placed.iter().find(|(place, _)| *place == instance.locality).map(|(_, weight)| *weight);
        let locality_weight = known.unwrap_or_else(|| {
            let own = weight_of(instance.locality);
            let share = (own * u64::from(to[index].1)).div_ceil(sums[index].max(1));
            let share = u32::try_from(share).unwrap_or(u32::MAX);
            placed.push((instance.locality, share));
            share
        });
        if locality_weight > 0 { Verdict::In { priority: 0, locality_weight } } else { Verdict::Out }
    };
    instances.iter().map(verdict).collect()
}

fn specificity(place: &str) -> usize {
    place.split('/').filter(|part| !part.is_empty() && *part != "*").count()
}

fn prioritise(instances: &[Facts<'_>], setting: &LocalitySetting, client: Near<'_>) -> Vec<Verdict> {
    let by_label = !setting.failover_priority.is_empty();
    let by_place = !by_label || !setting.failover.is_empty();
    let rank = |instance: &Facts<'_>| {
        let labels = if by_label { label_rank(instance, &setting.failover_priority, client) } else { 0 };
        // Five ranks of places at most: they refine the ranks of labels.
        labels * 5 + if by_place { place_rank(instance.locality, &setting.failover, client.locality) } else { 0 }
    };
    let ranks: Vec<usize> = instances.iter().map(rank).collect();
    let mut levels = ranks.clone();
    levels.sort_unstable();
    levels.dedup();
    // Priorities are without gaps, 0 first.
    let priority = |rank: &usize| levels.binary_search(rank).unwrap_or_default() as u32;
    ranks.iter().map(|rank| Verdict::In { priority: priority(rank), locality_weight: 0 }).collect()
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
fn label_rank(instance: &Facts<'_>, priority: &[Arc<str>], client: Near<'_>) -> usize {
    for (index, entry) in priority.iter().enumerate() {
        let (key, wanted) = match entry.split_once('=') {
            Some((key, value)) => (key, value),
            None => (&**entry, label(key_of(entry), client.labels, client.locality)),
        };
        if label(key, instance.labels, instance.locality) != wanted {
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

    /// Instances written `PLACE[*WEIGHT]`, one a word, those with a `~` before them known by name; the result as
    /// `PLACE=PRIORITY/LOCALITY_WEIGHT`.
    #[track_caller]
    fn check(client: &str, written: &str, setting: LocalitySetting, outlier: bool, expected: &str) {
        let mut instances = Instances::default();
        for word in written.split(' ') {
            let (place, weight) = word.split_once('*').unwrap_or((word, "1"));
            let (weight, workload) = (weight.parse().unwrap(), Arc::new(Workload::unknown()));
            let (priority, locality_weight) = (0, 0);
            if let Some(place) = place.strip_prefix('~') {
                let (host, port, locality) = ("db".into(), 80, Locality::parse(place));
                let name = NamedEndpoint { host, port, weight, priority, locality, locality_weight, workload };
                instances.names.push(Arc::new(name));
                continue;
            }
            let (address, locality) = (([127, 0, 0, 1], 80).into(), Locality::parse(place));
            let endpoint = Endpoint { address, weight, priority, locality, locality_weight, workload };
            instances.endpoints.push(Arc::new(endpoint));
        }
        let locality = Locality::parse(client);
        apply(&mut instances, &setting, outlier, Near { locality: &locality, labels: &Labels::new() });
        let endpoints =
            instances.endpoints.iter().map(|e| format!("{}={}/{}", e.locality, e.priority, e.locality_weight));
        let names = instances.names.iter().map(|n| format!("~{}={}/{}", n.locality, n.priority, n.locality_weight));
        assert_eq!(endpoints.chain(names).collect::<Vec<_>>().join(" "), expected);
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
        check("r1/z1", "r1/z2 r2/z1 ~r1/z1 ~r2/z2", setting(), true, "r1/z2=1/0 r2/z1=2/0 ~r1/z1=0/0 ~r2/z2=2/0");
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
        check("r1/z1", "r1/z1 ~r1/z2 ~r1/z3*3 ~r2/z1", rule.clone(), false, "r1/z1=0/80 ~r1/z2=0/5 ~r1/z3=0/15");
        check("r2/z1", "r1/z1 r2/z1", rule, false, "r1/z1=0/0 r2/z1=0/0");
    }
}
