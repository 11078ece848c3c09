//! Failures in a row, the share that may be out, how long an ejection lasts.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::super::testing::{check, play, rule};
use super::super::{EjectionReason, Shared};
use crate::outlier::news::News;

#[test]
fn the_fifth_error_in_a_row_ejects() {
    check(
        "ab",
        "",
        "0s a:500x4 show:a a:501 show:a",
        "0s a in 5xx=4 gateway=0 local=0 times=0
         0s a out for 30s: consecutive_5xx (1 of 2)
         0s a out 5xx=0 gateway=0 local=0 times=1",
    );
}

#[test]
fn a_success_resets() {
    check("ab", "", "0s a:500x4 a:200 a:500x4 a:404 a:500x4 show:a", "0s a in 5xx=4 gateway=0 local=0 times=0");
}

#[test]
fn endpoints_are_counted_each_by_itself() {
    check("ab", "", "0s a:500x4 b:500x4 b:200 a:500", "0s a out for 30s: consecutive_5xx (1 of 2)");
}

#[test]
fn zero_turns_a_limit_off() {
    check("ab", "5xx=0", "0s a:500x20 show:a", "0s a in 5xx=20 gateway=0 local=0 times=0");
}

#[test]
fn the_counter_is_reset_even_where_nobody_is_ejected() {
    let script = "0s a:500x5 show:a a:500x10 show:a";
    let expected = "0s a kept in: consecutive_5xx (0 of 2)
                    0s a in 5xx=0 gateway=0 local=0 times=0
                    0s a in 5xx=0 gateway=0 local=0 times=0";
    check("ab", "percent=49", script, expected);
    let world = play("ab", "percent=49", script);
    let counts = world.outliers().shared.desk().book.counts;
    assert_eq!((counts.detected[EjectionReason::Consecutive5xx as usize], counts.overflow), (3, 3));
    assert_eq!(counts.enforced, [0; 7]);
}

#[test]
fn ten_percent_of_less_than_ten_endpoints_is_nobody() {
    check("abcdefghi", "percent=10", "0s a:500x5", "0s a kept in: consecutive_5xx (0 of 9)");
    check(
        "abcdefghij",
        "percent=10",
        "0s a:500x5 b:500x5",
        "0s a out for 30s: consecutive_5xx (1 of 10)
         0s b kept in: consecutive_5xx (1 of 10)",
    );
}

#[test]
fn half_of_three_endpoints_is_one() {
    check(
        "abc",
        "percent=50",
        "0s a:500x5 b:500x5",
        "0s a out for 30s: consecutive_5xx (1 of 3)
         0s b kept in: consecutive_5xx (1 of 3)",
    );
}

#[test]
fn all_may_be_out() {
    check(
        "ab",
        "percent=100",
        "0s a:500x5 b:500x5",
        "0s a out for 30s: consecutive_5xx (1 of 2)
         0s b out for 30s: consecutive_5xx (2 of 2)",
    );
}

#[test]
fn one_may_always_be_out_where_the_rule_says_so() {
    check(
        "ab",
        "percent=0 one",
        "0s a:500x5 b:500x5
         30s sweep b:500x5",
        "0s a out for 30s: consecutive_5xx (1 of 2)
         0s b kept in: consecutive_5xx (1 of 2)
         30s a in after 30s: its time is over (0 of 2)
         30s b out for 30s: consecutive_5xx (1 of 2)",
    );
}

#[test]
fn one_that_is_kept_in_is_told_once_until_an_interval_passes_without() {
    check(
        "ab",
        "percent=10",
        "0s a:500x20
         10s sweep a:500x20
         20s sweep
         30s sweep a:500x20",
        "0s a kept in: consecutive_5xx (0 of 2)
         30s a kept in: consecutive_5xx (0 of 2)",
    );
}

#[test]
fn gateway_errors_have_a_counter_of_their_own() {
    check(
        "ab",
        "5xx=10 gateway=3",
        "0s a:503x2 a:500 show:a a:503 a:502 show:a a:504 show:a",
        "0s a in 5xx=3 gateway=0 local=0 times=0
         0s a in 5xx=5 gateway=2 local=0 times=0
         0s a out for 30s: consecutive_gateway_failure (1 of 2)
         0s a out 5xx=6 gateway=0 local=0 times=1",
    );
}

#[test]
fn of_two_limits_reached_at_once_the_gateways_ejects() {
    let script = "0s a:503x5 show:a";
    let expected = "0s a out for 30s: consecutive_gateway_failure (1 of 2)
                    0s a out 5xx=5 gateway=0 local=0 times=1";
    check("ab", "5xx=5 gateway=5", script, expected);
    let detected = play("ab", "5xx=5 gateway=5", script).outliers().shared.desk().book.counts.detected;
    assert_eq!((detected[0], detected[1]), (0, 1), "nothing more is found of one that is out");
}

#[test]
fn without_split_failures_on_the_way_are_gateway_errors() {
    check("ab", "", "0s a:refused a:unreachable a:reset a:slow a:503", "0s a out for 30s: consecutive_5xx (1 of 2)");
    check(
        "ab",
        "gateway=4",
        "0s a:refused a:unreachable a:reset a:slow",
        "0s a out for 30s: consecutive_gateway_failure (1 of 2)",
    );
    check("ab", "local=1", "0s a:refusedx4 show:a", "0s a in 5xx=4 gateway=4 local=0 times=0");
}

#[test]
fn what_is_not_the_endpoints_neither_counts_nor_resets() {
    check("ab", "", "0s a:500x4 a:overflow a:deadline a:gone show:a", "0s a in 5xx=4 gateway=0 local=0 times=0");
}

#[test]
fn with_split_failures_on_the_way_count_apart() {
    check(
        "ab",
        "split",
        "0s a:refusedx4 show:a
         1s a:500 show:a
         2s a:refusedx3 a:unreachable show:a a:refused show:a",
        "0s a in 5xx=0 gateway=0 local=4 times=0
         1s a in 5xx=1 gateway=0 local=0 times=0
         2s a in 5xx=1 gateway=0 local=4 times=0
         2s a out for 30s: consecutive_local_origin_failure (1 of 2)
         2s a out 5xx=1 gateway=0 local=0 times=1",
    );
}

#[test]
fn with_split_a_request_that_had_a_connection_has_reached_the_endpoint() {
    check("ab", "split", "0s a:refusedx3 a:resetx9 show:a", "0s a in 5xx=0 gateway=0 local=1 times=0");
    check("ab", "split local=1", "0s a:slow", "0s a out for 30s: consecutive_local_origin_failure (1 of 2)");
}

#[test]
fn calls_of_grpc_count_by_their_status() {
    check("ab", "", "0s a:grpc14x4 a:grpc13", "0s a out for 30s: consecutive_5xx (1 of 2)");
    check("ab", "gateway=3", "0s a:grpc14x2 a:grpc4", "0s a out for 30s: consecutive_gateway_failure (1 of 2)");
    check("ab", "", "0s a:grpc14x4 a:grpc0 a:grpc14x4 a:grpc5 show:a", "0s a in 5xx=0 gateway=0 local=0 times=0");
}

#[test]
fn error_codes_say_what_counts() {
    check("ab", "code=429", "0s a:500x9 a:429x5", "0s a out for 30s: consecutive_5xx (1 of 2)");
    check("ab", "code=429", "0s a:429x4 a:500 show:a", "0s a in 5xx=0 gateway=0 local=0 times=0");
    check("ab", "code=429", "0s a:429x2 a:refusedx3", "0s a out for 30s: consecutive_5xx (1 of 2)");
}

#[test]
fn an_ejection_ends_in_a_sweep_and_nowhere_else() {
    check(
        "ab",
        "",
        "0s a:500x5
         29s sweep
         35s a:200 show:a
         39s sweep show:a",
        "0s a out for 30s: consecutive_5xx (1 of 2)
         35s a out 5xx=0 gateway=0 local=0 times=1
         39s a in after 39s: its time is over (0 of 2)
         39s a in 5xx=0 gateway=0 local=0 times=1",
    );
    check(
        "ab",
        "",
        "0s a:500x5
         30s sweep",
        "0s a out for 30s: consecutive_5xx (1 of 2)
         30s a in after 30s: its time is over (0 of 2)",
    );
}

#[test]
fn a_return_resets_all_counters() {
    check(
        "ab",
        "gateway=9",
        "0s a:500x5 a:503x7 show:a
         30s sweep show:a",
        "0s a out for 30s: consecutive_5xx (1 of 2)
         0s a out 5xx=7 gateway=7 local=0 times=1
         30s a in after 30s: its time is over (0 of 2)
         30s a in 5xx=0 gateway=0 local=0 times=1",
    );
}

#[test]
fn each_ejection_lasts_longer_up_to_the_longest() {
    check(
        "ab",
        "max=90",
        "0s a:500x5
         30s sweep
         31s a:500x5
         91s sweep
         92s a:500x5
         182s sweep
         183s a:500x5 show:a
         273s sweep
         274s a:500x5 show:a",
        "0s a out for 30s: consecutive_5xx (1 of 2)
         30s a in after 30s: its time is over (0 of 2)
         31s a out for 60s: consecutive_5xx (1 of 2)
         91s a in after 60s: its time is over (0 of 2)
         92s a out for 90s: consecutive_5xx (1 of 2)
         182s a in after 90s: its time is over (0 of 2)
         183s a out for 90s: consecutive_5xx (1 of 2)
         183s a out 5xx=0 gateway=0 local=0 times=4
         273s a in after 90s: its time is over (0 of 2)
         274s a out for 90s: consecutive_5xx (1 of 2)
         274s a out 5xx=0 gateway=0 local=0 times=4",
    );
}

#[test]
fn the_multiplier_falls_in_sweeps_that_find_it_in_for_an_interval() {
    check(
        "ab",
        "",
        "0s a:500x5
         30s sweep a:500x5
         90s sweep show:a
         99s sweep show:a
         100s sweep show:a
         110s sweep show:a
         120s sweep show:a",
        "0s a out for 30s: consecutive_5xx (1 of 2)
         30s a in after 30s: its time is over (0 of 2)
         30s a out for 60s: consecutive_5xx (1 of 2)
         90s a in after 60s: its time is over (0 of 2)
         90s a in 5xx=0 gateway=0 local=0 times=2
         99s a in 5xx=0 gateway=0 local=0 times=2
         100s a in 5xx=0 gateway=0 local=0 times=1
         110s a in 5xx=0 gateway=0 local=0 times=0
         120s a in 5xx=0 gateway=0 local=0 times=0",
    );
}

#[test]
fn jitter_is_drawn_for_each_ejection() {
    let mut drawn = HashSet::new();
    let world = play("abcdefghijklmnopqrst", "jitter=10", "0s a:200");
    for letter in 'a'..='t' {
        let (host, outliers) = (world.host(&letter.to_string()), world.outliers());
        for _ in 0..5 {
            outliers.tried(&host, crate::trial::Trial::Answered { status: 500, grpc: None }, world.now);
        }
    }
    for news in world.outliers().shared.told.lock().unwrap().iter() {
        let News::Ejected { lasts, .. } = news else { panic!("{news:?}") };
        assert!((Duration::from_secs(30)..=Duration::from_secs(40)).contains(lasts), "{lasts:?}");
        drawn.insert(*lasts);
    }
    assert!(drawn.len() > 10, "{drawn:?}");
}

#[test]
fn a_full_return_is_at_once() {
    // No half-open: it takes as many failures as ever to be out again.
    check(
        "ab",
        "",
        "0s a:500x5
         30s sweep a:500x4 show:a",
        "0s a out for 30s: consecutive_5xx (1 of 2)
         30s a in after 30s: its time is over (0 of 2)
         30s a in 5xx=4 gateway=0 local=0 times=1",
    );
}

#[test]
fn sweeps_come_every_interval() {
    use crate::sweeper::Chore;

    let start = Instant::now();
    let shared =
        Shared::new(outrigger_model::ClusterName::new("c"), &rule("interval=7"), start, fastrand::Rng::with_seed(1));
    let at = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(shared.due(), Some(at(7)));
    shared.run(at(9));
    assert_eq!(shared.due(), Some(at(16)), "an interval after the last one began");
}
