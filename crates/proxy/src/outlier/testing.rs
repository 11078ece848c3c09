//! Scripts for the tests: a cluster, and at given times what becomes of tries at its endpoints.
//!
//! A line is a time and words: `a:500` an answer of endpoint `a`, `a:500x4` four of them, `a:grpc14` a status of gRPC,
//! `a:refused`, `a:unreachable` (connecting took too long), `a:reset`, `a:slow` (the route's time limit) failures,
//! `a:overflow`, `a:deadline` and `a:gone` what is not the endpoint's; `sweep` an interval's end, `reset:a` an operator's word,
//! `endpoints:abc` other endpoints, `rule:k=v,k=v` another rule and `rule:none` none; `show:a` tells the counts of an endpoint.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outrigger_model::{
    Balance, BalancePolicy, Cluster, ClusterName, ConnectionPool, Discovery, Endpoint, FailurePercentage, Locality,
    LocalityMode, OutlierDetection, ServiceRef, SuccessRate, UpstreamHttp, Workload,
};

use super::book::Book;
use super::news::News;
use super::*;
use crate::circuit::Circuits;
use crate::cluster::LiveCluster;
use crate::dns::{NameServers, Names};
use crate::failure::Reason;
use crate::settings::Settings;

/// A rule: Envoy's defaults under Istio, all endpoints may be ejected, and what the words say.
pub(super) fn rule(words: &str) -> OutlierDetection {
    let mut rule = OutlierDetection { ejection_percent_max: 100, ..OutlierDetection::default() };
    for word in words.split([' ', ',']).filter(|word| !word.is_empty()) {
        let (key, value) = word.split_once('=').unwrap_or((word, "1"));
        let number: u32 = value.parse().unwrap_or_else(|_| panic!("{word} has no number"));
        let seconds = Duration::from_secs(number.into());
        match key {
            "5xx" => rule.consecutive_5xx = number,
            "gateway" => rule.consecutive_gateway = number,
            "split" => rule.split_local_origin = true,
            "local" => rule.consecutive_local_origin = number,
            "interval" => rule.interval = seconds,
            "base" => rule.base_ejection = seconds,
            "max" => rule.ejection_max = seconds,
            "jitter" => rule.ejection_jitter_max = seconds,
            "percent" => rule.ejection_percent_max = number,
            "one" => rule.always_eject_one = true,
            "code" => rule.error_codes.push(number as u16),
            "rate" => {
                rule.success_rate =
                    Some(SuccessRate { enforcing: number, hosts_min: 5, volume_min: 100, stdev_factor: 1900 });
            }
            "failures" => {
                rule.failure_percentage =
                    Some(FailurePercentage { enforcing: number, threshold: 85, hosts_min: 5, volume_min: 50 });
            }
            _ => panic!("{word} is no word of a rule"),
        }
    }
    rule
}

/// A cluster with these endpoints, one for each letter.
fn cluster(letters: &str, outlier: Option<OutlierDetection>) -> Arc<Cluster> {
    let endpoint = |letter: char| {
        Arc::new(Endpoint {
            address: ([10, 0, 0, letter as u8], 8080).into(),
            weight: 1,
            priority: 0,
            locality: Locality::default(),
            locality_weight: 0,
            workload: Arc::new(Workload { pod: letter.to_string().into(), ..Workload::unknown() }),
        })
    };
    Arc::new(Cluster {
        name: ClusterName::outbound(80, "", "cart.shop.svc.cluster.local"),
        service: ServiceRef {
            host: "cart.shop.svc.cluster.local".into(),
            name: "cart".into(),
            namespace: "shop".into(),
            port: 80,
            subset: "".into(),
        },
        discovery: Discovery::Static,
        endpoints: letters.chars().map(endpoint).collect(),
        names: Vec::new(),
        http: UpstreamHttp::Http1,
        proxy_protocol: None,
        balance: Balance { policy: BalancePolicy::RoundRobin, warmup: None, locality: LocalityMode::Priority },
        connect_timeout: Duration::from_secs(10),
        pool: ConnectionPool::default(),
        outlier,
        breaker: None,
        retry_budget: None,
        tls: None,
        destination_rule: None,
    })
}

/// A cluster on given time.
pub(super) struct World {
    pub(super) live: Arc<LiveCluster>,
    pub(super) start: Instant,
    pub(super) now: Instant,
    letters: String,
    rule: Option<OutlierDetection>,
    names: Names,
    circuits: Circuits,
}

impl World {
    pub(super) fn new(letters: &str, rule: OutlierDetection) -> Self {
        let names = Names::new(NameServers::At(Vec::new()), Settings::default());
        let (circuits, start) = (Circuits::default(), Instant::now());
        let live = LiveCluster::reconcile(&cluster(letters, Some(rule.clone())), None, &names, &circuits, start);
        let world = Self { live, start, now: start, letters: letters.into(), rule: Some(rule), names, circuits };
        world.outliers().shared.desk().rng = fastrand::Rng::with_seed(1);
        world
    }

    pub(super) fn outliers(&self) -> Arc<Outliers> {
        self.live.outliers.clone().expect("the cluster has a rule")
    }

    pub(super) fn host(&self, letter: &str) -> Arc<EndpointState> {
        let is_it = |host: &&Arc<EndpointState>| &*host.endpoint.workload.pod == letter;
        self.live.hosts.iter().find(is_it).unwrap_or_else(|| panic!("no endpoint {letter}")).clone()
    }

    fn apply(&mut self) {
        let model = cluster(&self.letters, self.rule.clone());
        self.live = LiveCluster::reconcile(&model, Some(&self.live), &self.names, &self.circuits, self.now);
    }

    /// Plays a script.
    pub(super) fn play_all(&mut self, script: &str) {
        script.lines().map(str::trim).filter(|line| !line.is_empty()).for_each(|line| drop(self.play(line)));
    }

    /// Does what a line of a script says; what happened, and what the line asks to be shown.
    fn play(&mut self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let time = words.next().expect("a line begins with its time");
        let seconds: f64 = time.trim_end_matches('s').parse().unwrap_or_else(|_| panic!("{time} is no time"));
        self.now = self.start + Duration::from_secs_f64(seconds);
        let mut shown = Vec::new();
        for word in words {
            let before = self.live.outliers.clone();
            shown.extend(self.play_word(word));
            let told = before.map(|outliers| std::mem::take(&mut *outliers.shared.told.lock().unwrap()));
            shown.extend(told.into_iter().flatten().map(|news| text(&news)));
        }
        shown.into_iter().fold(String::new(), |mut out, line| {
            let _ = writeln!(out, "{time} {line}");
            out
        })
    }

    fn play_word(&mut self, word: &str) -> Option<String> {
        match word.split_once(':') {
            None if word == "sweep" => self.outliers().shared.run(self.now),
            Some(("reset", letter)) => {
                let was_out = self.outliers().reset(&self.host(letter), self.now);
                return (!was_out).then(|| format!("{letter} was not out"));
            }
            Some(("endpoints", letters)) => {
                self.letters = letters.into();
                self.apply();
            }
            Some(("rule", words)) => {
                self.rule = (words != "none").then(|| rule(words));
                self.apply();
            }
            Some(("show", letter)) => return Some(self.show(letter)),
            Some((letter, what)) => {
                let (what, times) = what.split_once('x').unwrap_or((what, "1"));
                let (host, outliers) = (self.host(letter), self.outliers());
                (0..times.parse().expect("a number")).for_each(|_| outliers.tried(&host, trial(what), self.now));
            }
            None => panic!("{word} is no word of a script"),
        }
        None
    }

    fn show(&self, letter: &str) -> String {
        let host = self.host(letter);
        let at = self.live.hosts.iter().position(|other| other.id == host.id).unwrap_or_default();
        let is_in = if host.is_available(self.now) { "in" } else { "out" };
        match report(&self.live)[at].as_ref() {
            None => format!("{letter} {is_in}, unwatched"),
            Some(report) => format!(
                "{letter} {is_in} 5xx={} gateway={} local={} times={}",
                report.consecutive_5xx,
                report.consecutive_gateway_failures,
                report.consecutive_local_origin_failures,
                report.multiplier
            ),
        }
    }
}

fn trial(what: &str) -> Trial {
    match what {
        "refused" => Trial::Failed(Reason::ConnectFailure),
        "unreachable" => Trial::Failed(Reason::ConnectTimeout),
        "reset" => Trial::Failed(Reason::UpstreamReset),
        "slow" => Trial::Failed(Reason::RouteTimeout),
        "overflow" => Trial::Failed(Reason::Overflow("maxConnections")),
        "deadline" => Trial::Failed(Reason::CallTimeout),
        "gone" => Trial::Abandoned,
        _ => match what.strip_prefix("grpc") {
            Some(grpc) => Trial::Answered { status: 200, grpc: Some(grpc.parse().expect("a status of gRPC")) },
            None => Trial::Answered { status: what.parse().expect("a status"), grpc: None },
        },
    }
}

fn text(news: &News) -> String {
    match news {
        News::Ejected { endpoint, reason, lasts, active, hosts } => {
            let (pod, seconds) = (&endpoint.workload.pod, lasts.as_secs_f64());
            format!("{pod} out for {seconds}s: {} ({active} of {hosts})", reason.as_str())
        }
        News::KeptIn { endpoint, reason, active, hosts, .. } => {
            format!("{} kept in: {} ({active} of {hosts})", endpoint.workload.pod, reason.as_str())
        }
        News::NotEnforced { endpoint, reason } => format!("{} spared: {}", endpoint.workload.pod, reason.as_str()),
        News::Returned { endpoint, why, after, active, hosts, .. } => {
            let (pod, seconds) = (&endpoint.workload.pod, after.as_secs_f64());
            format!("{pod} in after {seconds}s: {} ({active} of {hosts})", why.as_str())
        }
    }
}

/// Plays a script on a cluster and compares what happened.
#[track_caller]
pub(super) fn check(letters: &str, words: &str, script: &str, expected: &str) {
    let mut world = World::new(letters, rule(words));
    let lines =
        |text: &str| text.lines().map(str::trim).filter(|line| !line.is_empty()).map(|l| format!("{l}\n")).collect();
    let script: Vec<String> = lines(script);
    let found: String = script.iter().map(|line| world.play(line)).collect();
    let expected: Vec<String> = lines(expected);
    assert_eq!(found, expected.concat(), "{letters} with {words}");
    // What the book says is what the balancer sees.
    if let Some(outliers) = &world.live.outliers {
        let desk = outliers.shared.desk();
        let book: &Book = &desk.book;
        for member in &book.members {
            let host = world.host(&member.endpoint.workload.pod);
            assert_eq!(host.health.is(crate::health::Out::Ejected), member.ejection.is_some(), "{member:?}");
        }
    }
}

/// Plays a script; the world after it.
pub(super) fn play(letters: &str, words: &str, script: &str) -> World {
    let mut world = World::new(letters, rule(words));
    world.play_all(script);
    world
}
