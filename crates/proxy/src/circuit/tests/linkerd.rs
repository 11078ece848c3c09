//! Linkerd's failure accrual, case by case.

use super::*;

/// Three failures in a row; a second to eight; no jitter.
fn row() -> ConsecutiveRule {
    ConsecutiveRule {
        failures_max: 3,
        penalty_min: Duration::from_secs(1),
        penalty_max: Duration::from_secs(8),
        jitter_ratio: 0.0,
    }
}

/// Four of five have to go well, of five at least, in 10 s.
fn window() -> SuccessWindow {
    SuccessWindow { threshold: 0.8, window: Duration::from_secs(10), requests_min: 5 }
}

#[test]
fn failures_in_a_row_open_at_once() {
    check(row(), "0 fail 2 > 2/2 closed\n 0 fail > 1/1 open\n 1 ok > 0/1 open");
    check(row(), "0 fail 2, ok, fail 2 > 5/5 closed\n 3600000 fail > 1/1 open");
    check(row(), "0 fail 2, bad, fail 2 > 5/5 closed");
    check(row(), "0 fail 2, limited, fail 2 > 5/5 closed");
    check(row(), "0 fail 2, exhausted, fail 2 > 5/5 closed");
    check(row(), "0 timeout, denied, fail > 3/3 open");
    // What says nothing of the endpoint neither counts nor makes good.
    check(row(), "0 fail 2, cancel, gone, overflow, fail > 6/6 open");
}

#[test]
fn one_call_decides_and_the_penalty_doubles_up_to_its_bound() {
    check(
        row(),
        "0     fail 3                    > 3/3 open
         999   ok                        > 0/1 open
         1000  begin A, begin B          > 1/2 half_open
         1500  end A fail                > open
         3499  ok                        > 0/1 open
         3500  fail                      > 1/1 open
         7499  ok                        > 0/1 open
         7500  fail                      > 1/1 open
         15499 ok                        > 0/1 open
         15500 fail                      > 1/1 open
         23499 ok                        > 0/1 open
         23500 ok                        > 1/1 closed
         23501 fail 3                    > 3/3 open
         24500 wait                      > open
         24501 limited                   > 1/1 closed",
    );
}

#[test]
fn a_probe_that_nobody_waits_for_leaves_the_penalty_as_it_is() {
    check(
        row(),
        "0     fail 3                    > 3/3 open
         1000  begin A                   > 1/1 half_open
         2000  drop A                    > open
         2999  ok                        > 0/1 open
         3000  fail                      > 1/1 open
         4999  ok                        > 0/1 open
         5000  ok                        > 1/1 closed",
    );
}

#[test]
fn what_was_under_way_when_it_opened_says_nothing() {
    check(
        row(),
        "0     begin A, begin B, begin C, fail 3 > 6/6 open
         100   end A ok, end B fail      > open
         1000  begin P                   > 1/1 half_open
         1001  end C ok                  > half_open
         1002  end P ok                  > closed
         1003  fail 2                    > 2/2 closed",
    );
}

#[test]
fn jitter_makes_a_penalty_longer_within_its_bound() {
    let mut seen = Vec::new();
    for seed in 0..100 {
        let rule = BreakerRule::Consecutive(ConsecutiveRule { jitter_ratio: 0.5, ..row() });
        let mut machine = machine::Machine::default();
        let mut rng = fastrand::Rng::with_seed(seed);
        assert!(machine.trip(&rule, Duration::ZERO, &mut rng));
        for penalty_ms in [1000, 2000, 4000, 8000] {
            let machine::Phase::Open { retry_after, .. } = machine.phase() else { panic!("it is open") };
            let at = retry_after + Duration::from_nanos(1);
            let (least, most) = (Duration::from_millis(penalty_ms), Duration::from_millis(penalty_ms * 3 / 2));
            assert!(at >= least && at <= most.min(Duration::from_secs(8)), "{penalty_ms}: {at:?}");
            seen.push(at);
            assert_eq!(machine.probe(retry_after), None);
            let probe = machine.probe(at).expect("its time has come");
            // Told as of the beginning, so that the next penalty is seen from there.
            assert!(machine.probed(&rule, probe, machine::ProbeEnd::Failure, Duration::ZERO, &mut rng));
        }
    }
    seen.sort_unstable();
    seen.dedup();
    assert!(seen.len() > 250, "endpoints that fail together are probed at different times: {}", seen.len());
}

#[test]
fn beside_failures_in_a_row_the_share_of_successes_opens() {
    let rule = || (ConsecutiveRule { failures_max: 7, ..row() }, window());
    // Fewer than five calls say nothing; then the next answer decides, even a good one.
    check(rule(), "0 fail 4 > 4/4 closed\n 1 ok > 1/1 open");
    check(rule(), "0 ok 4, fail > 5/5 closed\n 1 fail > 1/1 open");
    check(rule(), "0 limited 4, ok > 5/5 open");
    check(rule(), "0 exhausted 4, ok > 5/5 open");
    check(rule(), "0 bad 100, fail, denied > 102/102 closed");
    check(rule(), "0 ok 1000, fail 6 > 1006/1006 closed\n 1 fail > 1/1 open");
    // Too many requests are no failures in a row.
    check(rule(), "0 ok 1000, fail 6, limited, fail 6 > 1013/1013 closed");
}

#[test]
fn a_quiet_window_forgets_by_itself() {
    let rule = || (ConsecutiveRule { failures_max: 7, ..row() }, window());
    check(
        rule(),
        "0     fail 4                    > 4/4 closed
         9999  wait                      > closed
         10000 ok                        > 1/1 closed
         10001 fail                      > 1/1 closed",
    );
    check(rule(), "0 fail 4 > 4/4 closed\n 9999 ok > 1/1 open");
    check(rule(), "0 fail 4 > 4/4 closed\n 3600000 fail, ok 3 > 4/4 closed\n 3600001 ok > 1/1 closed");
}

#[test]
fn a_probe_of_the_unified_rule_has_to_be_good() {
    let rule = || (row(), window());
    for (how, state) in
        [("ok", "closed"), ("bad", "closed"), ("limited", "open"), ("exhausted", "open"), ("fail", "open")]
    {
        check(rule(), &format!("0 fail 3 > 3/3 open\n 1000 {how} > 1/1 {state}"));
    }
    // It begins again with an empty window.
    check(rule(), "0 fail 3 > 3/3 open\n 1000 ok > 1/1 closed\n 1001 fail 2, ok 2 > 4/4 closed");
}

#[test]
fn either_half_of_the_unified_rule_may_be_off() {
    let no_row = || (ConsecutiveRule { failures_max: 0, ..row() }, window());
    check(no_row(), "0 ok 1000, fail 200 > 1200/1200 closed");
    check(no_row(), "0 fail 4 > 4/4 closed\n 0 fail > 1/1 open");
    let no_window = || (row(), SuccessWindow { threshold: 0.0, ..window() });
    check(no_window(), "0 fail 2, ok, fail 2, limited 100 > 105/105 closed\n 1 fail 3 > 3/3 open");
    check(no_window(), "0 fail 3 > 3/3 open\n 1000 limited > 1/1 closed");
}
