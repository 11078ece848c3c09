//! What each endpoint should get, and how close to it what they got is.

use std::sync::Arc;
use std::time::Instant;

use outrigger_model::{Balance, BalancePolicy};

use super::hosts::{Hosts, Members};
use super::layout::Layout;
use crate::cluster::EndpointState;

/// The share of requests each endpoint should get now, in the order of `hosts`; they sum to one, or are all zero when
/// nobody is available.
///
/// Least request counts by weight, as if all answered equally fast; a consistent hash as if keys were spread evenly.
pub(crate) fn expected_shares(
    balance: &Balance,
    panic_percent: u32,
    hosts: &[Arc<EndpointState>],
    now: Instant,
) -> Vec<f64> {
    let hosts = Hosts::new(hosts.into());
    let layout = Layout::new(balance.locality, panic_percent, &hosts, now);
    let warmup = balance.warmup.filter(|_| warms_up(&balance.policy));
    let mut shares = vec![0.0; hosts.len()];
    for level in &layout.levels {
        let of_level = f64::from(level.percent) / 100.0;
        let localities: f64 = level.groups.iter().map(|group| group.weight).sum();
        for group in &level.groups {
            let members = Members { hosts: &hosts, at: &group.members, warmup, now };
            let weights: Vec<f64> = (0..members.len()).map(|slot| members.weight(slot)).collect();
            let of_group = of_level * group.weight / localities / weights.iter().sum::<f64>();
            for (host, weight) in group.members.iter().zip(weights) {
                shares[*host as usize] = of_group * weight;
            }
        }
    }
    shares
}

/// Whether slow start applies: Istio has it for these two only.
pub(super) fn warms_up(policy: &BalancePolicy) -> bool {
    matches!(policy, BalancePolicy::RoundRobin | BalancePolicy::LeastRequest)
}

/// Jain's fairness index of served over expected share: 1 when everybody got the expected share, down to 1/n when one
/// of n got everything (Jain, Chiu and Hawe, 1984). Endpoints that should get nothing do not count; 1 when nothing was
/// served.
pub(crate) fn fairness_index(served: &[u64], expected: &[f64]) -> f64 {
    let ratios = || served.iter().zip(expected).filter(|(_, share)| **share > 0.0).map(|(n, share)| *n as f64 / share);
    let (count, sum) = (ratios().count() as f64, ratios().sum::<f64>());
    if sum == 0.0 { 1.0 } else { sum * sum / (count * ratios().map(|ratio| ratio * ratio).sum::<f64>()) }
}

#[cfg(test)]
mod tests {
    use outrigger_model::LocalityMode;

    use super::super::testing::{balance, hosts, policies, start};
    use super::*;

    #[track_caller]
    fn check(locality: LocalityMode, texts: &[&str], expected: &[f64]) {
        for policy in policies() {
            let balance = Balance { locality, ..balance(policy) };
            let found = expected_shares(&balance, 0, &hosts(texts), start());
            let close = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12);
            assert!(close && found.len() == expected.len(), "{texts:?}: {found:?}, not {expected:?}");
        }
    }

    #[test]
    fn shares_follow_priority_locality_and_weight() {
        check(LocalityMode::Priority, &["1", "3"], &[0.25, 0.75]);
        check(LocalityMode::Priority, &["1@0", "3@1"], &[1.0, 0.0]);
        check(LocalityMode::Priority, &[], &[]);
        check(LocalityMode::Weighted, &["1/a:80", "3/a:80", "5/b:20"], &[0.2, 0.6, 0.2]);
        check(LocalityMode::Weighted, &["1/a:0", "1/b:7"], &[0.0, 1.0]);
        check(LocalityMode::Weighted, &["1/a:0"], &[0.0]);
    }

    #[test]
    fn the_index_is_one_when_all_got_what_they_should() {
        assert_eq!(fairness_index(&[10, 30], &[0.25, 0.75]), 1.0);
        assert_eq!(fairness_index(&[0, 0], &[0.5, 0.5]), 1.0);
        assert_eq!(fairness_index(&[], &[]), 1.0);
        assert_eq!(fairness_index(&[10, 0, 0, 0], &[0.25; 4]), 0.25);
        assert_eq!(fairness_index(&[10, 99], &[1.0, 0.0]), 1.0);
        let skewed = fairness_index(&[60, 40], &[0.5, 0.5]);
        assert!((skewed - 10_000.0 / (2.0 * 5_200.0)).abs() < 1e-12, "{skewed}");
    }
}
