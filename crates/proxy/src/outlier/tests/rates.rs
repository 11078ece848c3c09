//! Comparison of rates in sweeps.

use super::super::EjectionReason;
use super::super::testing::{check, play};

const FOUR_GOOD: &str = "b:200x100 c:200x100 d:200x100 e:200x100";

#[test]
fn a_rate_far_below_the_mean_ejects_in_the_sweep() {
    check(
        "abcde",
        "5xx=0 rate=100",
        &format!(
            "0s a:500x50 a:200x50 {FOUR_GOOD}
             9s show:a
             10s sweep
             20s sweep"
        ),
        "9s a in 5xx=0 gateway=0 local=0 times=0
         10s a out for 30s: success_rate (1 of 5)",
    );
}

#[test]
fn rates_are_of_one_interval() {
    check("abcde", "5xx=0 rate=100", &format!("0s {FOUR_GOOD} a:500x50\n10s sweep a:200x50\n20s sweep"), "");
}

#[test]
fn rates_are_told_until_the_next_sweep() {
    let script = format!("0s a:500x50 a:200x50 {FOUR_GOOD}\n10s sweep");
    let rate_of = |script: &str, at: usize| {
        super::super::report(&play("abcde", "5xx=0 rate=100", script).live)[at].clone().unwrap().success_rate
    };
    assert_eq!((rate_of(&script, 0), rate_of(&script, 1)), (Some(50.0), Some(100.0)));
    assert_eq!(rate_of(&format!("{script}\n20s sweep"), 1), None);
}

#[test]
fn the_share_that_may_be_out_holds_for_rates_too() {
    check(
        "abcde",
        "5xx=0 rate=100 percent=19",
        &format!("0s a:500x100 {FOUR_GOOD}\n10s sweep"),
        "10s a kept in: success_rate (0 of 5)",
    );
}

#[test]
fn dice_decide_what_is_enforced() {
    let script = format!("0s a:500x100 {FOUR_GOOD}\n10s sweep");
    let mut enforced = 0;
    for seed in 0..300 {
        let mut world = play("abcde", "5xx=0 rate=30", "0s a:200");
        world.outliers().shared.desk().rng = fastrand::Rng::with_seed(seed);
        world.play_all(&script);
        let counts = world.outliers().shared.desk().book.counts;
        assert_eq!(counts.detected[EjectionReason::SuccessRate as usize], 1, "found in any case");
        assert_eq!(counts.overflow, 0);
        enforced += counts.enforced[EjectionReason::SuccessRate as usize];
    }
    assert!((60..=120).contains(&enforced), "{enforced} of 300 at 30 %");
}

#[test]
fn too_large_a_share_of_failures_ejects() {
    check(
        "abcde",
        "5xx=0 failures=100",
        "0s a:500x43 a:200x7 b:500x42 b:200x8 c:200x50 d:200x50 e:200x50
         10s sweep",
        "10s a out for 30s: failure_percentage (1 of 5)",
    );
}

#[test]
fn with_split_tries_to_reach_it_are_compared_too() {
    check(
        "abcde",
        "5xx=0 local=0 split rate=100",
        &format!("0s a:refusedx50 a:200x50 {FOUR_GOOD}\n10s sweep"),
        "10s a out for 30s: local_origin_success_rate (1 of 5)",
    );
    check(
        "abcde",
        "5xx=0 local=0 split failures=100",
        &format!("0s a:refusedx50 {FOUR_GOOD}\n10s sweep"),
        "10s a out for 30s: failure_percentage_local_origin (1 of 5)",
    );
}

#[test]
fn one_that_both_rates_condemn_is_ejected_once() {
    let script = format!("0s a:500x100 {FOUR_GOOD}\n10s sweep");
    check("abcde", "5xx=0 rate=100 failures=100", &script, "10s a out for 30s: success_rate (1 of 5)");
    let counts = play("abcde", "5xx=0 rate=100 failures=100", &script).outliers().shared.desk().book.counts;
    assert_eq!(counts.enforced.iter().sum::<u64>(), 1);
}

#[test]
fn one_that_is_out_takes_no_part() {
    check(
        "abcde",
        "rate=100",
        &format!("0s a:500x100 {FOUR_GOOD}\n10s sweep"),
        "0s a out for 30s: consecutive_5xx (1 of 5)",
    );
}

#[test]
fn one_that_comes_back_in_a_sweep_is_judged_in_it() {
    check(
        "abcde",
        "5xx=5 base=10 rate=100",
        &format!("0s a:500x100 {FOUR_GOOD}\n10s sweep"),
        "0s a out for 10s: consecutive_5xx (1 of 5)
         10s a in after 10s: its time is over (0 of 5)
         10s a out for 20s: success_rate (1 of 5)",
    );
}
