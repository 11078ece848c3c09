//! Hystrix's rule, case by case.

use super::*;

/// Trips at half of at least four calls; a window of 2 s in four buckets of 500 ms; asleep for 5 s.
fn rule() -> HystrixRule {
    HystrixRule { volume_threshold: 4, window: Duration::from_secs(2), ..HystrixRule::default() }
}

#[test]
fn a_bucket_is_seen_when_it_is_complete() {
    check(
        rule(),
        "0     fail 4          > 4/4 closed
         499   fail 4          > 4/4 closed
         500   fail            > 0/1 open
         501   ok              > 0/1 open",
    );
    check(
        rule(),
        "0     fail 4          > 4/4 closed
         500   wait            > open",
    );
}

#[test]
fn the_default_is_twenty_buckets_of_500_ms() {
    let trips = "
         0     fail 10         > 10/10 closed
         9400  wait            > closed
         9600  fail 10         > 10/10 closed
         10000 wait            > open";
    check(HystrixRule::default(), trips);
    let forgets = "
         0     fail 10         > 10/10 closed
         10100 fail 10         > 10/10 closed
         10500 wait            > closed
         10600 fail 9          > 9/9 closed
         11000 wait            > closed
         11001 fail            > 1/1 closed
         11500 wait            > open";
    check(HystrixRule::default(), forgets);
}

#[test]
fn the_volume_is_at_least_and_the_share_is_whole_percent_at_least() {
    let percent = |threshold| HystrixRule { error_threshold_percent: threshold, ..rule() };
    check(percent(50), "0 fail 3 > 3/3 closed\n 500 wait > closed\n 600 fail > 1/1 closed\n 1000 wait > open");
    check(percent(50), "0 fail 2, ok 2 > 4/4 closed\n 500 wait > open");
    check(percent(50), "0 fail 2, ok 3 > 5/5 closed\n 500 wait > closed");
    // 2 of 3 are 66.7 %, cut off.
    check(percent(66), "0 fail 4, ok 2 > 6/6 closed\n 500 wait > open");
    check(percent(67), "0 fail 4, ok 2 > 6/6 closed\n 500 wait > closed");
    check(percent(100), "0 fail 4 > 4/4 closed\n 500 wait > open");
}

#[test]
fn timeouts_and_rejections_count_and_nothing_else_does() {
    check(rule(), "0 timeout 2, ok 2 > 4/4 closed\n 500 wait > open");
    check(rule(), "0 overflow 2, ok 2 > 4/4 closed\n 500 wait > open");
    check(rule(), "0 bad 20, cancel 20, gone 20, limited 20, fail 3 > 83/83 closed\n 500 wait > closed");
    let limited = HystrixRule { concurrent_max: Some(1), ..rule() };
    check(limited, "0 begin A, begin B, begin C, end A ok, ok > 2/4 closed\n 500 wait > open");
}

#[test]
fn after_strictly_more_than_the_sleep_window_exactly_one_call_passes() {
    check(
        rule(),
        "0     fail 4                    > 4/4 closed
         500   fail 3                    > 0/3 open
         5500  ok                        > 0/1 open
         5501  begin A, begin B, begin C > 1/3 half_open
         9000  begin B                   > 0/1 half_open
         9001  end A ok                  > closed
         9002  ok 3                      > 3/3 closed",
    );
}

#[test]
fn success_closes_with_an_empty_window() {
    check(
        rule(),
        "0     begin L, fail 4           > 5/5 closed
         500   wait                      > open
         5501  fail                      > 1/1 open
         10501 wait                      > open
         10502 ok                        > 1/1 closed
         10502 fail 3                    > 3/3 closed
         11001 wait                      > closed
         11002 end L fail                > closed
         11502 wait                      > open",
    );
}

#[test]
fn a_probe_that_fails_in_any_way_opens_for_the_same_time_again() {
    for how in ["fail", "timeout", "bad", "gone", "overflow", "limited"] {
        check(
            rule(),
            &format!(
                "0     fail 4          > 4/4 closed
                 5501  begin P         > 1/1 half_open
                 6000  end P {how}     > open
                 11000 ok              > 0/1 open
                 11001 begin P         > 1/1 half_open
                 12000 end P {how}     > open
                 17000 ok              > 0/1 open
                 17001 ok              > 1/1 closed"
            ),
        );
    }
    check(
        rule(),
        "0     fail 4          > 4/4 closed
         5501  begin P         > 1/1 half_open
         6000  drop P          > open
         11000 ok              > 0/1 open
         11001 ok              > 1/1 closed",
    );
}

#[test]
fn a_call_from_before_does_not_decide_for_the_probe() {
    check(
        rule(),
        "0     begin L, begin M, fail 4 > 6/6 closed
         5501  begin P                  > 1/1 half_open
         5502  end L ok                 > half_open
         5503  end M fail               > half_open
         5504  end P ok                 > closed",
    );
}

#[test]
fn a_full_circuit_gives_no_probe_away() {
    let limited = HystrixRule { concurrent_max: Some(1), ..rule() };
    check(
        limited,
        "0     fail 4, begin L          > 5/5 closed
         500   ok                       > 0/1 open
         5501  ok                       > 0/1 open
         5502  end L ok, ok             > 1/1 closed",
    );
}

#[test]
fn at_most_so_many_calls_are_under_way() {
    let limited = HystrixRule { concurrent_max: Some(2), volume_threshold: 100, ..rule() };
    check(
        limited,
        "0     begin A, begin B, begin C > 2/3 closed
         1     end A ok, begin C         > 1/1 closed
         2     ok                        > 0/1 closed
         3     drop B, ok 5              > 5/5 closed",
    );
}

#[test]
fn forced_open_wins_over_forced_closed_and_both_over_what_is_counted() {
    let forced = |force_open, force_closed| HystrixRule { force_open, force_closed, ..rule() };
    check(forced(true, false), "0 ok > 0/1 forced_open\n 60000 ok > 0/1 forced_open");
    check(forced(true, true), "0 ok > 0/1 forced_open");
    check(forced(false, true), "0 fail 4 > 4/4 disabled\n 500 fail > 1/1 disabled\n 60000 fail > 1/1 disabled");
}

#[test]
fn without_a_breaker_nothing_opens_but_the_limit_holds() {
    let off = HystrixRule { enabled: false, force_open: true, concurrent_max: Some(1), ..rule() };
    check(off, "0 fail 40 > 40/40 disabled\n 500 begin A, begin B > 1/2 disabled\n 900 end A ok > disabled");
}

#[test]
fn slow_calls_are_failures_where_the_rule_says_so() {
    let slow = HystrixRule { slow_call: Some(Duration::from_millis(800)), ..rule() };
    check(slow, "0 slow 2, ok 2 > 4/4 closed\n 500 wait > open");
    check(rule(), "0 slow 4 > 4/4 closed\n 500 wait > closed");
    check(
        slow,
        "0     fail 4          > 4/4 closed
         5501  slow            > 1/1 open",
    );
    for (calls, cause) in [("slow 2, ok 2", "slow"), ("slow, fail, ok 2", "slow"), ("slow, fail 2, ok", "error_rate")] {
        let (circuit, start) = circuit(slow);
        for call in calls.split(", ") {
            let (how, count) = call.split_once(' ').unwrap_or((call, "1"));
            (0..count.parse().unwrap()).for_each(|_: u32| end(circuit.admit(start).unwrap(), how, start));
        }
        let report = CircuitReport::of(&circuit.core, start + Duration::from_millis(500));
        assert_eq!(report.cause.map(CircuitCause::label), Some(cause), "{calls}");
    }
}

#[test]
fn it_opens_at_the_moment_at_which_hystrix_would_have_looked() {
    // Nobody asks for a second: the sleep window has run since 500 ms all the same.
    check(
        rule(),
        "0     fail 4          > 4/4 closed
         5500  ok              > 0/1 open
         5501  ok              > 1/1 closed",
    );
    // Long after, the window has been bad, and open it stays until somebody tries.
    check(
        rule(),
        "0       fail 4        > 4/4 closed
         3600000 wait          > open
         3600001 ok            > 1/1 closed",
    );
}

#[test]
fn one_probe_however_many_threads_ask() {
    let (circuit, start) = circuit(rule());
    (0..4).for_each(|_| end(circuit.admit(start).unwrap(), "fail", start));
    // Each round fails, so that the next is another one.
    for round in 0..50_u64 {
        let now = start + Duration::from_millis(500 + 5001 * (round + 1));
        let barrier = std::sync::Barrier::new(4);
        let probes = std::thread::scope(|scope| {
            let ask = || {
                barrier.wait();
                let passes: Vec<Pass<'_>> = (0..100).filter_map(|_| circuit.admit(now).ok()).collect();
                assert!(passes.iter().all(|pass| pass.probe.is_some()));
                // Kept until all have asked: a probe that ended would make room for none anyway.
                barrier.wait();
                let count = passes.len();
                passes.into_iter().for_each(|pass| end(pass, "fail", now));
                count
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
        assert_eq!(probes, 1, "round {round}");
    }
    assert_eq!(circuit.core.active(), 0);
}

#[test]
fn no_call_is_lost_from_the_counts() {
    let (circuit, start) = circuit(HystrixRule { volume_threshold: 1_000_000, concurrent_max: Some(3), ..rule() });
    let refused: u64 = std::thread::scope(|scope| {
        let call = |thread: u64| {
            let circuit = &circuit;
            move || {
                let mut refused = 0;
                for turn in 0..5000_u64 {
                    // Time runs through many windows meanwhile.
                    let now = start + Duration::from_millis(turn * 3);
                    match circuit.admit(now) {
                        Ok(pass) => end(pass, if (turn + thread).is_multiple_of(3) { "fail" } else { "ok" }, now),
                        Err(Refused::Full) => refused += 1,
                        Err(Refused::Open) => panic!("there are too few calls to open"),
                    }
                }
                refused
            }
        };
        let threads: Vec<_> = (0..4).map(|thread| scope.spawn(call(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let total = CircuitReport::of(&circuit.core, start + Duration::from_secs(60)).total;
    assert_eq!(total.requests(), 20_000);
    assert_eq!(total.of(Event::SemaphoreRejected), refused);
    assert_eq!(circuit.core.active(), 0);
}
