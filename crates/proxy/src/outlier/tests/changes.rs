//! What stays when snapshots come, and what operators do.

use super::super::testing::{check, play};
use crate::trial::Trial;

#[test]
fn counters_and_ejections_outlive_a_reload() {
    check("ab", "", "0s a:500x4 endpoints:cab a:500 show:a", {
        "0s a out for 30s: consecutive_5xx (1 of 3)
         0s a out 5xx=0 gateway=0 local=0 times=1"
    });
    check(
        "ab",
        "",
        "0s a:500x5 endpoints:abc show:a
         30s sweep",
        "0s a out for 30s: consecutive_5xx (1 of 2)
         0s a out 5xx=0 gateway=0 local=0 times=1
         30s a in after 30s: its time is over (0 of 3)",
    );
}

#[test]
fn an_endpoint_that_leaves_is_ejected_no_more() {
    check(
        "abc",
        "percent=50",
        "0s a:500x5 b:500x5 endpoints:bc b:500x5
         1s endpoints:abc show:a",
        "0s a out for 30s: consecutive_5xx (1 of 3)
         0s b kept in: consecutive_5xx (1 of 3)
         0s b out for 30s: consecutive_5xx (1 of 2)
         1s a in 5xx=0 gateway=0 local=0 times=0",
    );
}

#[test]
fn another_rule_keeps_the_ejections_that_it_would_make() {
    check(
        "ab",
        "",
        "0s a:500x5
         5s rule:5xx=3,base=60 show:a
         31s sweep
         60s sweep",
        "0s a out for 30s: consecutive_5xx (1 of 2)
         5s a out 5xx=0 gateway=0 local=0 times=1
         60s a in after 60s: its time is over (0 of 2)",
    );
    check(
        "ab",
        "",
        "0s a:500x5
         5s rule:5xx=0,gateway=3 show:a a:503x3",
        "0s a out for 30s: consecutive_5xx (1 of 2)
         5s a in after 5s: the rule has changed (0 of 2)
         5s a in 5xx=0 gateway=0 local=0 times=1
         5s a out for 60s: consecutive_gateway_failure (1 of 2)",
    );
}

#[test]
fn a_smaller_share_brings_the_last_ones_back() {
    check(
        "abcd",
        "",
        "0s a:500x5
         1s b:500x5
         2s c:500x5
         5s rule:percent=50 show:a",
        "0s a out for 30s: consecutive_5xx (1 of 4)
         1s b out for 30s: consecutive_5xx (2 of 4)
         2s c out for 30s: consecutive_5xx (3 of 4)
         5s c in after 3s: the rule has changed (2 of 4)
         5s a out 5xx=0 gateway=0 local=0 times=1",
    );
}

#[test]
fn a_rule_that_goes_takes_everything_with_it() {
    check(
        "ab",
        "",
        "0s a:500x5 b:500x4
         5s rule:none show:a
         6s rule:5xx=5 show:a show:b",
        "0s a out for 30s: consecutive_5xx (1 of 2)
         5s a in after 5s: the rule was removed (0 of 2)
         5s a in, unwatched
         6s a in 5xx=0 gateway=0 local=0 times=0
         6s b in 5xx=0 gateway=0 local=0 times=0",
    );
}

#[test]
fn a_request_that_began_under_a_rule_that_has_gone_ejects_nobody() {
    let mut world = play("ab", "", "0s a:500x4");
    let (outliers, host) = (world.outliers(), world.host("a"));
    world.play_all("1s rule:none");
    outliers.tried(&host, Trial::Answered { status: 500, grpc: None }, world.now);
    assert!(host.is_available(world.now) && world.host("a").is_available(world.now));
    assert_eq!(crate::sweeper::Chore::due(&*outliers.shared), None, "and nothing sweeps");
}

#[test]
fn an_operator_ends_an_ejection() {
    check(
        "ab",
        "",
        "0s a:500x5
         5s reset:a reset:a a:500x4 show:a
         6s a:500",
        "0s a out for 30s: consecutive_5xx (1 of 2)
         5s a in after 5s: reset by hand (0 of 2)
         5s a was not out
         5s a in 5xx=4 gateway=0 local=0 times=1
         6s a out for 60s: consecutive_5xx (1 of 2)",
    );
}
