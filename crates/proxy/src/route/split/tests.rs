//! Every destination has its share at every moment.

use proptest::prelude::*;

use super::*;

/// How far a count may be from its ideal after any number of choices: Tijdeman's bound, in units of 1/total.
fn within_bound(count: u64, weight: u64, choices: u64, total: u64, destinations: u64) -> bool {
    let deviation = (i128::from(count) * i128::from(total) - i128::from(weight) * i128::from(choices)).abs();
    let scale = i128::from(2 * destinations - 2);
    deviation * scale <= i128::from(total) * (scale - 1)
}

#[track_caller]
fn check(weights: &[u32], choices: u64) {
    let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    let destinations = weights.iter().filter(|weight| **weight > 0).count() as u64;
    let split = Split::new(weights);
    let mut counts = vec![0_u64; weights.len()];
    for choice in 1..=choices {
        counts[split.next()] += 1;
        for (count, weight) in counts.iter().zip(weights) {
            let exact = destinations == 1 && (*weight == 0) == (*count == 0);
            assert!(
                exact || within_bound(*count, u64::from(*weight), choice, total, destinations),
                "{weights:?}: {counts:?} after {choice}"
            );
        }
    }
}

#[test]
fn known_splits() {
    let first = |weights: &[u32], count: usize| {
        let split = Split::new(weights);
        (0..count).map(|_| split.next()).collect::<Vec<_>>()
    };
    assert_eq!(first(&[90, 10], 10), [0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    assert_eq!(first(&[50, 50], 4), [0, 1, 0, 1]);
    assert_eq!(first(&[100, 0], 3), [0, 0, 0]);
    assert_eq!(first(&[0, 0, 7], 3), [2, 2, 2]);
    assert_eq!(first(&[0], 2), [0, 0]);
    assert_eq!(first(&[], 2), [0, 0]);
}

#[test]
fn the_kind_follows_from_the_weights() {
    let is_sequence = |weights: &[u32]| matches!(Split::new(weights), Split::Sequence(_));
    assert!(is_sequence(&[90, 10]));
    assert!(is_sequence(&[900_000_000, 100_000_000]), "what counts is the sum after dividing");
    assert!(matches!(Split::new(&[999_999, 1]), Split::Online(_)));
    assert!(matches!(Split::new(&[u32::MAX, u32::MAX - 1]), Split::Online(_)));
    assert!(matches!(Split::new(&[1; 10_000]), Split::Online(_)), "a long list is not computed ahead");
    assert!(matches!(Split::new(&[0, 5, 0]), Split::Only(1)));
    let mut far = vec![0; 70_000];
    far[69_998..].fill(1);
    let split = Split::new(&far);
    assert_eq!([split.next(), split.next()], [69_998, 69_999], "a position beyond 16 bits");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn counts_are_right_at_every_moment(weights in prop::collection::vec(0_u32..50, 2..12)) {
        prop_assume!(weights.iter().any(|weight| *weight > 0));
        check(&weights, 1_500);
    }

    #[test]
    fn counts_are_right_for_weights_of_any_size(weights in prop::collection::vec(any::<u32>(), 2..8)) {
        prop_assume!(weights.iter().any(|weight| *weight > 0));
        check(&weights, 1_500);
    }

    /// A run that begins in the middle: less than two off, at most one off with two destinations.
    #[test]
    fn counts_are_right_over_any_run(weights in prop::collection::vec(1_u32..40, 2..7)) {
        let total: i64 = weights.iter().map(|weight| i64::from(*weight)).sum();
        let split = Split::new(&weights);
        let chosen: Vec<usize> = (0..400).map(|_| split.next()).collect();
        let allowed = if weights.len() == 2 { total } else { 2 * total - 1 };
        for (destination, weight) in weights.iter().enumerate() {
            let (mut deviation, mut least, mut most) = (0_i64, 0_i64, 0_i64);
            for at in &chosen {
                deviation += i64::from(*at == destination) * total - i64::from(*weight);
                (least, most) = (least.min(deviation), most.max(deviation));
            }
            prop_assert!(most - least <= allowed, "{:?}: {} over {}", weights, most - least, total);
        }
    }
}

#[test]
fn parts_per_million_are_exact_over_a_long_run() {
    let split = Split::new(&[999_900, 100]);
    let canaries = (0..100_000).filter(|_| split.next() == 1).count();
    assert_eq!(canaries, 10);
}

#[test]
fn ten_thousand_destinations_stay_within_the_bound() {
    let weights: Vec<u32> = (0..10_000).map(|at| at % 7 + 1).collect();
    let split = Split::new(&weights);
    let mut counts = vec![0_u64; weights.len()];
    (0..2_000).for_each(|_| counts[split.next()] += 1);
    let total = weights.iter().map(|weight| u64::from(*weight)).sum();
    for (count, weight) in counts.iter().zip(&weights) {
        assert!(within_bound(*count, u64::from(*weight), 2_000, total, 10_000));
    }
}

#[test]
fn workers_that_choose_at_once_share_one_sequence() {
    for weights in [&[70_u32, 20, 10][..], &[700_001, 200_001, 100_001]] {
        let split = Split::new(weights);
        let choose = |split: Split| {
            move || {
                let mut counts = [0_u64; 3];
                (0..2_500).for_each(|_| counts[split.next()] += 1);
                counts
            }
        };
        let workers: Vec<_> = (0..4).map(|_| std::thread::spawn(choose(split.clone()))).collect();
        let counts = workers.into_iter().map(|worker| worker.join().unwrap());
        let sum = counts.fold([0_u64; 3], |sum, counts| std::array::from_fn(|at| sum[at] + counts[at]));
        for (count, ideal) in sum.iter().zip([7_000_u64, 2_000, 1_000]) {
            assert!(count.abs_diff(ideal) <= 1, "{weights:?}: {sum:?}");
        }
    }
}
