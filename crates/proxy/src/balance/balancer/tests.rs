//! Laws that hold under every policy, and what each policy promises beyond them.

use std::time::Duration;

use super::super::testing::*;
use super::super::{expected_shares, fairness_index};
use super::*;

#[track_caller]
fn check_shares(balance: &Balance, texts: &[&str], tolerance: f64) {
    let hosts = hosts(texts);
    let expected = expected_shares(balance, 0, &hosts, start());
    let mut balancer = Balancer::new(balance, hosts, None);
    let picks = 60_000;
    let counts = counts(&mut balancer, texts.len(), picks, start(), 1);
    for (count, share) in counts.iter().zip(&expected) {
        let found = *count as f64 / picks as f64;
        assert!((found - share).abs() <= tolerance, "{:?}, {texts:?}: {counts:?}, not {expected:?}", balance.policy);
    }
    assert!(fairness_index(&counts, &expected) >= 1.0 - 30.0 * tolerance, "{:?}: {counts:?}", balance.policy);
}

#[test]
fn shares_converge_to_weights() {
    for policy in policies() {
        let balance = balance(policy);
        check_shares(&balance, &["1"], 0.0);
        for texts in [&["1"; 7][..], &["1", "2", "3", "4"], &["100", "1"], &["7", "7", "1", "1", "1"]] {
            // A hash spreads as well as its points do.
            let tolerance = if matches!(balance.policy, BalancePolicy::RingHash { .. }) { 0.06 } else { 0.008 };
            check_shares(&balance, texts, tolerance);
        }
    }
}

#[test]
fn localities_get_their_weights_and_endpoints_theirs_within() {
    for policy in policies() {
        let balance = Balance { locality: LocalityMode::Weighted, ..balance(policy) };
        let tolerance = if matches!(balance.policy, BalancePolicy::RingHash { .. }) { 0.06 } else { 0.008 };
        check_shares(&balance, &["1/a:80", "3/a:80", "1/b:20"], tolerance);
        check_shares(&balance, &["1/a:1", "1/b:0", "1/c:1"], tolerance);
    }
}

#[test]
fn a_lower_priority_serves_only_when_the_higher_cannot() {
    for policy in policies() {
        let balance = balance(policy);
        let mut balancer = Balancer::new(&balance, hosts(&["1@0", "1@0", "1@1", "1@2"]), None);
        let mut check = |out: &[u32], expected: [f64; 4]| {
            balancer.take_out(out.iter().copied());
            let counts = counts(&mut balancer, 4, 20_000, start(), 2);
            for (count, share) in counts.iter().zip(expected) {
                assert!((*count as f64 / 20_000.0 - share).abs() < 0.05, "{balance:?} without {out:?}: {counts:?}");
            }
        };
        check(&[], [0.5, 0.5, 0.0, 0.0]);
        check(&[0], [0.0, 0.7, 0.3, 0.0]);
        check(&[0, 1], [0.0, 0.0, 1.0, 0.0]);
        check(&[0, 1, 2], [0.0, 0.0, 0.0, 1.0]);
        check(&[3], [0.5, 0.5, 0.0, 0.0]);
    }
}

#[test]
fn a_locality_that_loses_endpoints_passes_load_to_the_others() {
    let balance = Balance { locality: LocalityMode::Weighted, ..balance(BalancePolicy::RoundRobin) };
    let mut balancer = Balancer::new(&balance, hosts(&["1/a:1", "1/a:1", "1/b:1", "1/b:1"]), None);
    balancer.take_out([0]);
    let counts = counts(&mut balancer, 4, 17_000, start(), 3);
    // Locality a is half there: 0.5 times 1.4 is 0.7, against 1 for b.
    assert_eq!(counts[0], 0);
    assert!(counts[1].abs_diff(7_000) <= 10 && counts[2].abs_diff(5_000) <= 10, "{counts:?}");
}

#[test]
fn an_endpoint_that_is_not_available_is_never_picked_and_comes_back() {
    for policy in policies() {
        let balance = balance(policy);
        let mut rng = fastrand::Rng::with_seed(4);
        let texts = ["1", "2", "1@1", "5", "1@1", "1@2"];
        let mut balancer = Balancer::new(&balance, hosts(&texts), None);
        for _ in 0..400 {
            let out: Vec<u32> = (0..texts.len() as u32).filter(|_| rng.bool()).collect();
            balancer.take_out(out.iter().copied());
            for _ in 0..20 {
                let picked = balancer.pick(Some(rng.u64(..)), start(), &mut rng);
                assert_eq!(picked.is_none(), out.len() == texts.len(), "{balance:?} without {out:?}");
                assert!(picked.is_none_or(|host| !out.contains(&(host as u32))), "{balance:?} without {out:?}");
            }
        }
        balancer.take_out([]);
        let counts = counts(&mut balancer, texts.len(), 2_000, start(), 5);
        assert!(counts[0] > 0 && counts[1] > 0 && counts[3] > 0, "{balance:?}: {counts:?}");
    }
}

#[test]
fn an_endpoint_that_comes_back_is_seen_within_as_many_picks_as_were_out() {
    let mut balancer = Balancer::new(&balance(BalancePolicy::RoundRobin), equal(10), None);
    let mut rng = fastrand::Rng::with_seed(6);
    balancer.take_out([2, 5, 7]);
    (0..10).for_each(|_| assert!(balancer.pick(None, start(), &mut rng).is_some()));
    assert_eq!(balancer.frame.left_out, [2, 5, 7]);
    balancer.take_out([2, 7]);
    (0..3).for_each(|_| assert!(balancer.pick(None, start(), &mut rng).is_some()));
    assert_eq!(balancer.frame.left_out, [2, 7]);
}

#[test]
fn without_endpoints_nothing_is_picked() {
    let mut rng = fastrand::Rng::with_seed(0);
    for policy in policies() {
        let mut balancer = Balancer::new(&balance(policy.clone()), equal(0), None);
        assert_eq!(balancer.pick(Some(1), start(), &mut rng), None, "{policy:?}");
        let weighted = Balance { locality: LocalityMode::Weighted, ..balance(policy) };
        // One endpoint in a locality without weight: nothing is meant to go there.
        let mut balancer = Balancer::new(&weighted, hosts(&["1/a:0", "1/b:1"]), None);
        assert_eq!(counts(&mut balancer, 2, 100, start(), 0), [0, 100], "{weighted:?}");
        balancer.take_out([1]);
        assert_eq!(balancer.pick(Some(1), start(), &mut rng), None, "{weighted:?}");
    }
}

#[test]
fn nobody_starves() {
    let weights = ["1", "1000", "50", "1", "3"];
    for policy in policies() {
        let mut balancer = Balancer::new(&balance(policy.clone()), hosts(&weights), None);
        let counts = counts(&mut balancer, weights.len(), 40_000, start(), 8);
        assert!(counts.iter().all(|count| *count > 0), "{policy:?}: {counts:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_picks() {
    let picks = |policy: &BalancePolicy, seed: u64| {
        let mut balancer = Balancer::new(&balance(policy.clone()), hosts(&["1", "2", "3", "4@1"]), None);
        let mut rng = fastrand::Rng::with_seed(seed);
        (0..100).map(|_| balancer.pick(None, start(), &mut rng)).collect::<Vec<_>>()
    };
    for policy in policies() {
        assert_eq!(picks(&policy, 1), picks(&policy, 1), "{policy:?}");
        assert_ne!(picks(&policy, 1), picks(&policy, 2), "{policy:?}");
    }
}

#[test]
fn round_robin_is_exact_over_any_run_of_equal_weights() {
    let mut balancer = Balancer::new(&balance(BalancePolicy::RoundRobin), equal(5), None);
    let mut rng = fastrand::Rng::with_seed(9);
    let picks: Vec<usize> = (0..1_000).map(|_| balancer.pick(None, start(), &mut rng).unwrap()).collect();
    for run in picks.windows(5) {
        let different: std::collections::HashSet<_> = run.iter().collect();
        assert_eq!(different.len(), 5);
    }
}

#[test]
fn round_robin_is_exact_over_a_period_of_unequal_weights() {
    for (seed, weights) in [["5", "3", "2"], ["50", "30", "20"], ["7", "1", "1"]].iter().enumerate() {
        let mut balancer = Balancer::new(&balance(BalancePolicy::RoundRobin), hosts(weights), None);
        let mut rng = fastrand::Rng::with_seed(seed as u64);
        let sum: usize = weights.iter().map(|weight| weight.parse::<usize>().unwrap()).sum();
        let picks: Vec<usize> = (0..sum * 20).map(|_| balancer.pick(None, start(), &mut rng).unwrap()).collect();
        for run in picks.windows(sum) {
            for (host, weight) in weights.iter().enumerate() {
                let count = run.iter().filter(|picked| **picked == host).count();
                assert_eq!(count, weight.parse::<usize>().unwrap(), "host {host} of {weights:?} in {run:?}");
            }
        }
    }
}

#[test]
fn round_robin_starts_anywhere() {
    for weights in [["1", "1", "1"], ["2", "2", "3"]] {
        let first = |seed| {
            let mut rng = fastrand::Rng::with_seed(seed);
            Balancer::new(&balance(BalancePolicy::RoundRobin), hosts(&weights), None).pick(None, start(), &mut rng)
        };
        let firsts: std::collections::HashSet<_> = (0..50).map(first).collect();
        assert_eq!(firsts.len(), 3, "{weights:?}");
    }
}

#[test]
fn least_request_prefers_the_less_loaded() {
    let hosts = equal(2);
    let mut balancer = Balancer::new(&balance(BalancePolicy::LeastRequest), hosts.clone(), None);
    let busy = hosts[0].begin();
    assert_eq!(counts(&mut balancer, 2, 100, start(), 1), [0, 100], "of two, both are always looked at");
    drop(busy);
    let counts = counts(&mut balancer, 2, 1_000, start(), 1);
    assert!(counts.iter().all(|count| *count > 400), "{counts:?}");
}

#[test]
fn the_most_loaded_of_many_is_never_picked() {
    let hosts = equal(10);
    let _busy = [hosts[3].begin(), hosts[3].begin()];
    let mut balancer = Balancer::new(&balance(BalancePolicy::LeastRequest), hosts.clone(), None);
    let counts = counts(&mut balancer, 10, 10_000, start(), 1);
    assert_eq!(counts[3], 0);
    assert!(counts.iter().enumerate().all(|(host, count)| host == 3 || *count > 800), "{counts:?}");
}

#[test]
fn least_request_divides_unequal_weights_by_the_load() {
    let hosts = hosts(&["4", "1"]);
    // Weight 4 with three requests on their way counts as much as weight 1 with none.
    let _busy: Vec<_> = (0..3).map(|_| hosts[0].begin()).collect();
    let mut balancer = Balancer::new(&balance(BalancePolicy::LeastRequest), hosts.clone(), None);
    let counts = counts(&mut balancer, 2, 10_000, start(), 1);
    assert!(counts[0].abs_diff(5_000) < 50, "{counts:?}");
}

#[test]
fn least_request_levels_the_load_when_endpoints_differ_in_speed() {
    let hosts = equal(3);
    let mut balancer = Balancer::new(&balance(BalancePolicy::LeastRequest), hosts.clone(), None);
    let mut rng = fastrand::Rng::with_seed(3);
    let mut running: Vec<Vec<_>> = vec![Vec::new(), Vec::new(), Vec::new()];
    let mut served = [0; 3];
    for step in 0..30_000 {
        let host = balancer.pick(None, start(), &mut rng).unwrap();
        running[host].push(hosts[host].begin());
        served[host] += 1;
        // Endpoint 0 answers one request in three steps, the others one a step.
        for (host, running) in running.iter_mut().enumerate() {
            if host > 0 || step % 3 == 0 {
                running.pop();
            }
        }
    }
    assert!(served[0] < served[1] * 7 / 10 && running[0].len() < 20, "{served:?}");
}

#[test]
fn a_young_endpoint_gets_its_share_step_by_step() {
    for policy in [BalancePolicy::RoundRobin, BalancePolicy::LeastRequest] {
        let warmup = Warmup { duration: Duration::from_secs(100), minimum_ratio: 0.1, aggression: 1.0 };
        let balance = Balance { warmup: Some(warmup), ..balance(policy) };
        let old = Duration::from_secs(1_000);
        let hosts = aged(&[("1", old), ("1", old), ("1", Duration::ZERO)], start());
        let mut balancer = Balancer::new(&balance, hosts.clone(), None);
        let mut shares = Vec::new();
        for age in [0, 10, 25, 50, 75, 100, 200] {
            let now = start() + Duration::from_secs(age);
            let counts = counts(&mut balancer, 3, 6_000, now, age);
            let share = counts[2] as f64 / 6_000.0;
            let expected = expected_shares(&balance, 0, &hosts, now)[2];
            assert!((share - expected).abs() < 0.02, "{balance:?} after {age} s: {share}, not {expected}");
            shares.push(share);
        }
        assert!(shares.windows(2).all(|pair| pair[0] <= pair[1] + 0.01), "{shares:?}");
        assert!(shares[0] < 0.06 && shares[6] > 0.31, "{shares:?}");
        let settled = !matches!(balancer.frame.validity, Validity::Until(_));
        assert!(settled, "once all are warm, no more steps are taken");
    }
}

#[test]
fn the_weight_of_a_cold_endpoint_is_not_read_too_late() {
    // One pick a second, while the cold endpoint's first turn would come after hundreds of picks.
    let warmup = Warmup { duration: Duration::from_secs(160), minimum_ratio: 0.0, aggression: 1.0 };
    let balance = Balance { warmup: Some(warmup), ..balance(BalancePolicy::RoundRobin) };
    let old = Duration::from_secs(1_000);
    let mut balancer = Balancer::new(&balance, aged(&[("1", old), ("1", Duration::ZERO)], start()), None);
    let mut rng = fastrand::Rng::with_seed(11);
    let young = |from: u64, to: u64, balancer: &mut Balancer, rng: &mut fastrand::Rng| {
        let pick = |second| balancer.pick(None, start() + Duration::from_secs(second), rng);
        (from..to).map(pick).filter(|host| *host == Some(1)).count()
    };
    assert!(young(0, 160, &mut balancer, &mut rng) > 20);
    assert_eq!(young(160, 260, &mut balancer, &mut rng), 50);
}

#[test]
fn other_policies_do_not_warm_up() {
    let warmup = Warmup { duration: Duration::from_secs(100), minimum_ratio: 0.1, aggression: 1.0 };
    let balance = Balance { warmup: Some(warmup), ..balance(BalancePolicy::Random) };
    let hosts = aged(&[("1", Duration::ZERO), ("1", Duration::from_secs(1_000))], start());
    assert_eq!(expected_shares(&balance, 0, &hosts, start()), [0.5, 0.5]);
    let counts = counts(&mut Balancer::new(&balance, hosts, None), 2, 10_000, start(), 1);
    assert!(counts[0].abs_diff(5_000) < 200, "{counts:?}");
}

#[test]
fn a_key_stays_with_its_endpoint() {
    for policy in [ring_hash(1024), maglev(65_537)] {
        let mut balancer = Balancer::new(&balance(policy), equal(9), None);
        let mut rng = fastrand::Rng::with_seed(12);
        let keys: Vec<u64> = (0..1_000).map(|_| rng.u64(..)).collect();
        let mut pick = |balancer: &mut Balancer, key: u64| balancer.pick(Some(key), start(), &mut rng).unwrap();
        let before: Vec<usize> = keys.iter().map(|key| pick(&mut balancer, *key)).collect();
        assert_eq!(before, keys.iter().map(|key| pick(&mut balancer, *key)).collect::<Vec<_>>());
        balancer.take_out([4]);
        for (key, before) in keys.iter().zip(&before) {
            let after = pick(&mut balancer, *key);
            assert!(after == *before || *before == 4, "only the keys of the endpoint that left move");
        }
        balancer.take_out([]);
        assert_eq!(before, keys.iter().map(|key| pick(&mut balancer, *key)).collect::<Vec<_>>());
    }
}

#[test]
fn without_a_key_a_hash_spreads_at_random() {
    for policy in [ring_hash(1024), maglev(65_537)] {
        let counts = counts(&mut Balancer::new(&balance(policy), equal(4), None), 4, 10_000, start(), 13);
        assert!(counts.iter().all(|count| *count > 1_800), "{counts:?}");
    }
}

/// Outlier detection that says so much about panic, and nothing else.
fn outliers(panic_percent: u32) -> Arc<Outliers> {
    Outliers::for_panic(panic_percent)
}

#[test]
fn a_level_in_panic_uses_all_its_endpoints() {
    for policy in policies() {
        let balance = balance(policy);
        let outliers = outliers(50);
        let mut balancer = Balancer::new(&balance, equal(4), None).with_outliers(Some(outliers.clone()));
        let mut check = |ejected: &[u32], out: &[u32], picked: [bool; 4], in_panic: bool| {
            balancer.eject(ejected.iter().copied());
            balancer.take_out(out.iter().copied());
            let before = outliers.picks_in_panic();
            // The first few picks may be those that notice who has come back.
            counts(&mut balancer, 4, 5, start(), 6);
            let counts = counts(&mut balancer, 4, 2_000, start(), 7);
            assert_eq!(
                *counts.iter().map(|count| *count > 0).collect::<Vec<_>>(),
                picked,
                "{balance:?} without {ejected:?}, {out:?}: {counts:?}"
            );
            let panics = outliers.picks_in_panic() - before;
            assert_eq!(panics > 1_900, in_panic, "{balance:?} without {ejected:?}, {out:?}: {panics} picks in panic");
        };
        check(&[], &[], [true; 4], false);
        check(&[0, 1], &[], [false, false, true, true], false);
        check(&[0, 1, 2], &[], [true; 4], true);
        check(&[0, 1, 2, 3], &[], [true; 4], true);
        // One whose circuit is open gets nothing in panic either.
        check(&[0, 1], &[2], [true, true, false, true], true);
        check(&[0, 1], &[], [false, false, true, true], false);
    }
}

#[test]
fn without_a_threshold_there_is_no_panic() {
    for policy in policies() {
        let mut balancer = Balancer::new(&balance(policy.clone()), equal(3), None).with_outliers(Some(outliers(0)));
        balancer.eject([0, 1]);
        assert_eq!(counts(&mut balancer, 3, 100, start(), 8), [0, 0, 100], "{policy:?}");
        balancer.eject([0, 1, 2]);
        assert_eq!(balancer.pick(Some(1), start(), &mut fastrand::Rng::with_seed(8)), None, "{policy:?}");
    }
}

#[test]
fn panic_is_for_levels_that_nobody_else_can_relieve() {
    for policy in policies() {
        let balance = balance(policy);
        let hosts = hosts(&["1@0", "1@0", "1@1", "1@1"]);
        let check = |panic_percent: u32, ejected: &[u32], expected: [f64; 4]| {
            let outliers = outliers(panic_percent);
            let mut balancer = Balancer::new(&balance, hosts.clone(), None).with_outliers(Some(outliers));
            balancer.eject(ejected.iter().copied());
            counts(&mut balancer, 4, 5, start(), 9);
            let counts = counts(&mut balancer, 4, 20_000, start(), 9);
            for (count, share) in counts.iter().zip(expected) {
                assert!((*count as f64 / 20_000.0 - share).abs() < 0.05, "{balance:?} without {ejected:?}: {counts:?}");
            }
        };
        // Each level can take 70 of 100: together all there is.
        check(60, &[0], [0.0, 0.7, 0.15, 0.15]);
        check(60, &[0, 2], [0.0, 0.7, 0.0, 0.3]);
        // 70 of 100 together, and both in panic: by number.
        check(60, &[0, 1, 2], [0.25; 4]);
        check(60, &[0, 1, 2, 3], [0.25; 4]);
        // The same, but level 1 is not in panic: it has all the load that can be taken.
        check(50, &[0, 1, 2], [0.0, 0.0, 0.0, 1.0]);
    }
}

#[test]
fn localities_do_not_matter_in_panic() {
    let balance = Balance { locality: LocalityMode::Weighted, ..balance(BalancePolicy::RoundRobin) };
    let hosts = hosts(&["1/a:9", "1/a:9", "1/b:1", "1/b:1"]);
    let mut balancer = Balancer::new(&balance, hosts, None).with_outliers(Some(outliers(50)));
    balancer.eject([0, 1, 2]);
    assert_eq!(counts(&mut balancer, 4, 400, start(), 10), [100; 4]);
}

#[test]
fn a_drained_endpoint_is_as_if_it_were_not_there() {
    for policy in policies() {
        let hosts = equal(3);
        let mut balancer =
            Balancer::new(&balance(policy.clone()), hosts.clone(), None).with_outliers(Some(outliers(50)));
        hosts[0].health.set(crate::health::Out::Drained, true);
        // One of two that count is available: no panic.
        balancer.eject([1]);
        assert_eq!(counts(&mut balancer, 3, 200, start(), 11), [0, 0, 200], "{policy:?}");
        balancer.eject([1, 2]);
        let counts = counts(&mut balancer, 3, 200, start(), 11);
        assert!(counts[0] == 0 && counts[1] > 0 && counts[2] > 0, "{policy:?}: {counts:?}");
    }
}
