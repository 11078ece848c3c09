//! Circuits on given time and without luck: scripts of (time, event) and what is seen then.

mod hystrix;
mod linkerd;
mod registry;
mod told;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outrigger_model::{
    BreakerRule, BreakerScope, Cluster, ConsecutiveRule, Endpoint, HystrixRule, Locality, SuccessWindow, Workload,
};

use super::testing::{breaker, cluster};
use super::*;
use crate::failure::Reason;

fn endpoint(last: u8, pod: &str) -> Endpoint {
    Endpoint {
        address: ([10, 0, 0, last], 8080).into(),
        weight: 1,
        priority: 0,
        locality: Locality::default(),
        locality_weight: 0,
        workload: Arc::new(Workload { pod: pod.into(), ..Workload::unknown() }),
    }
}

/// A circuit of the subset `v1`, and when it was made.
fn circuit(rule: impl Into<Rule>) -> (Arc<Circuit>, Instant) {
    let start = Instant::now();
    let Rule(rule) = rule.into();
    (Circuits::default().circuit(&cluster("v1", BreakerScope::Subset, rule), None, start), start)
}

/// A rule of any kind.
struct Rule(BreakerRule);

impl From<HystrixRule> for Rule {
    fn from(rule: HystrixRule) -> Self {
        Self(BreakerRule::Hystrix(rule))
    }
}

impl From<ConsecutiveRule> for Rule {
    fn from(rule: ConsecutiveRule) -> Self {
        Self(BreakerRule::Consecutive(rule))
    }
}

impl From<(ConsecutiveRule, SuccessWindow)> for Rule {
    fn from((rule, window): (ConsecutiveRule, SuccessWindow)) -> Self {
        Self(BreakerRule::Unified(rule, window))
    }
}

/// Plays a script. A line is `MILLISECONDS EVENTS > WHAT IS SEEN`; events, with commas between them:
///
/// - `ok 3`, `fail`, `timeout`, `bad`, `limited`, `overflow`, `slow`, `cancel`: calls that begin and end so at that moment;
/// - `begin A`, `end A ok`, `drop A`: a call that lasts;
/// - `wait`: nothing.
///
/// What is seen: how many of the calls that began in this line passed, of how many, if any; then the state.
#[track_caller]
fn check(rule: impl Into<Rule>, script: &str) {
    let (circuit, start) = circuit(rule);
    let mut held: HashMap<&str, Pass<'_>> = HashMap::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (given, expected) = line.split_once('>').expect("a line has an expectation");
        let (ms, events) = given.trim().split_once(' ').expect("a line has events");
        let now = start + Duration::from_millis(ms.parse().expect("a line begins with its time"));
        let (mut asked, mut passed) = (0, 0);
        for event in events.split(',') {
            let words: Vec<&str> = event.split_whitespace().collect();
            match words[..] {
                ["wait"] => {}
                ["begin", name] => {
                    asked += 1;
                    if let Ok(pass) = circuit.admit(now) {
                        passed += 1;
                        held.insert(name, pass);
                    }
                }
                ["end", name, how] => end(held.remove(name).expect("it has begun"), how, now),
                ["drop", name] => held.remove(name).expect("it has begun").cancel(now),
                [how] | [how, _] => {
                    for _ in 0..words.get(1).map_or(1, |count| count.parse().expect("a count")) {
                        asked += 1;
                        let Ok(pass) = circuit.admit(now) else { continue };
                        passed += 1;
                        end(pass, how, now);
                    }
                }
                _ => panic!("{line}: {event}"),
            }
        }
        let calls = if asked == 0 { String::new() } else { format!("{passed}/{asked} ") };
        let seen = format!("{calls}{}", state(&circuit, now).label());
        assert_eq!(seen, expected.trim(), "{line}\n{}", circuit.why(now));
    }
}

fn state(circuit: &Circuit, now: Instant) -> CircuitState {
    CircuitReport::of(&circuit.core, now).state
}

fn end(mut pass: Pass<'_>, how: &str, now: Instant) {
    let answered = |status| Trial::Answered { status, grpc: None };
    let (trial, took_ms) = match how {
        "ok" => (answered(200), 10),
        "fail" => (answered(503), 10),
        "slow" => (answered(200), 900),
        "bad" => (answered(404), 10),
        "limited" => (answered(429), 10),
        "exhausted" => (Trial::Answered { status: 200, grpc: Some(8) }, 10),
        "denied" => (Trial::Answered { status: 200, grpc: Some(7) }, 10),
        "timeout" => (Trial::Failed(Reason::CircuitTimeout), 1000),
        "overflow" => (Trial::Failed(Reason::Overflow("maxConnections")), 0),
        "gone" => (Trial::Abandoned, 10),
        "cancel" => return pass.cancel(now),
        _ => panic!("no call ends as `{how}`"),
    };
    pass.end(trial, Duration::from_millis(took_ms), now);
}
