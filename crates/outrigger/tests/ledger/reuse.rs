//! The race between using a kept connection again and its end, at scale: as it comes by nature, and forced every way that a
//! server can force it. What may be done twice is never lost; what may not is told to have failed, and never sent twice.
//!
//! `OUTRIGGER_REUSE_REQUESTS` sets how many requests all of these send (20,000 by default).

use std::collections::{BTreeMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use outrigger_testkit::ledger::{
    Account, Classes, Entry, Front, Http2Backend, Http2Load, Kind, Load, Manner, Sent, Witness, answer,
};
use outrigger_testkit::{Backend, Process, Reply, Request, World, eventually, metrics, speaking_service_yaml};

use super::{alone, endpoint, scrape, start};

/// How many requests one of the three tests sends.
fn requests() -> usize {
    let all = std::env::var("OUTRIGGER_REUSE_REQUESTS")
        .map_or(20_000, |text| text.parse().expect("OUTRIGGER_REUSE_REQUESTS is a number of requests"));
    usize::div_ceil(all, 3)
}

/// What may be done twice, by its method or because its client says so, and what may not.
const CLASSES: [&str; 3] = ["safe", "keyed", "once"];

/// Requests of each class for one service.
fn kinds(host: &str) -> Vec<Kind> {
    let kind = |method, class| Kind::new(method, host, "/", class);
    let keyed = || kind("POST", "keyed").with("idempotency-key", "4711");
    let safe = ["GET", "PUT", "GET", "DELETE", "HEAD", "PUT"].map(|method| kind(method, "safe"));
    safe.into_iter().chain([keyed(), kind("POST", "once"), kind("POST", "once")]).collect()
}

/// A mesh of services with one backend each, named as their services are.
struct Mesh {
    process: Process,
    _world: World,
    names: Vec<String>,
}

impl Mesh {
    fn start(backends: &[(String, &'static str, SocketAddr)]) -> Self {
        let world = World::new();
        for (name, protocol, address) in backends {
            let endpoints = [endpoint(name, "v1", *address)];
            world.write(&format!("{name}.yaml"), &speaking_service_yaml("default", name, (*protocol, 80), &endpoints));
        }
        let names = backends.iter().map(|(name, ..)| name.clone()).collect();
        Self { process: start(&world), _world: world, names }
    }

    fn proxy(&self) -> SocketAddr {
        self.process.address("outbound")
    }

    /// The whole promise, class by class, and that the proxy's own counters tell the same story.
    fn judge(&mut self, what: &str, sent: &[Sent], entries: &[Entry], races_min: usize) {
        let all: Classes = self.names.iter().map(|name| (name.clone(), CLASSES.map(str::to_owned).to_vec())).collect();
        let accounts: BTreeMap<&str, Account> =
            CLASSES.map(|class| (class, account(class, sent, entries, &all))).into_iter().collect();
        let samples = scrape(&self.process);
        let count = |metric: &str| metrics::sum(&samples, metric, &[]) as usize;
        let again = count("envoy_cluster_upstream_rq_retry");
        for class in CLASSES {
            println!("{what}, {class}: {}", accounts[class]);
        }
        println!("{what}: {} requests, {again} sent again", sent.len());
        for class in ["safe", "keyed"] {
            let account = &accounts[class];
            // A key makes a method that may not be repeated one that may.
            let duplicated = if class == "keyed" { Vec::new() } else { account.duplicated.clone() };
            let account = Account { duplicated, ..account.clone() };
            assert!(account.is_clean() && account.ok == account.sent, "{what}, {class}: {account}");
        }
        let once = Account { lost: Vec::new(), ..accounts["once"].clone() };
        assert!(once.is_clean(), "{what}, once: {once}");
        assert!(once.by_status.keys().all(|status| matches!(status, 200 | 503)), "{what}: {once}");
        assert_eq!(once.by_status.values().sum::<usize>(), once.sent, "{what}: everything is answered");
        assert!(accounts.values().all(|account| account.refused.is_empty()), "{what}: nobody was refused");
        assert!(again >= races_min, "{what}: only {again} were sent again: the race was not there");

        let (lost, total) = (accounts["once"].lost.len() as f64, sent.len() as f64);
        for (labels, wanted) in [(&[][..], total), (&[("response_code", "503")][..], lost)] {
            let counted = || metrics::sum(&scrape(&self.process), "istio_requests_total", labels) == wanted;
            eventually(&format!("{wanted} requests with {labels:?}"), || counted().then_some(()));
        }
        let tries = count("outrigger_endpoint_requests_total");
        assert_eq!(tries, sent.len() + again, "{what}: tries are requests, and what was sent again");
        self.process.assert_well();
    }
}

/// The account of one class: its requests, and what backends saw of them.
fn account(class: &str, sent: &[Sent], entries: &[Entry], classes: &Classes) -> Account {
    let sent: Vec<Sent> = sent.iter().filter(|request| request.class == class).cloned().collect();
    let ids: HashSet<&str> = sent.iter().map(|request| request.id.as_str()).collect();
    let seen: Vec<Entry> = entries.iter().filter(|entry| ids.contains(entry.id.as_str())).cloned().collect();
    Account::new(&sent, &seen, classes)
}

/// A load over one version or the other.
enum Either {
    Http1(Load),
    Http2(Http2Load),
}

/// The same load over HTTP/2.
fn over_http2(load: &Load) -> Http2Load {
    let Load { proxy, run, requests, rate, workers, kinds, stop } = load.clone();
    Http2Load { front: Front::new(proxy), run, requests, rate, connections: workers, kinds, stop }
}

/// Runs loads at the same time; what became of everything.
fn run(loads: Vec<Either>) -> Vec<Sent> {
    let run = |load: &Either| match load {
        Either::Http1(load) => load.run(),
        Either::Http2(load) => load.run().sent,
    };
    thread::scope(|scope| {
        let running: Vec<_> = loads.iter().map(|load| scope.spawn(move || run(load))).collect();
        running.into_iter().flat_map(|load| load.join().expect("a load does not panic")).collect()
    })
}

/// Services that have a client each.
const PAIRS: u32 = 48;
/// After how long backends close what is idle.
const IDLE: Duration = Duration::from_millis(24);

/// One client to each service, which asks again just when the backend closes what is idle: from a little before to some
/// milliseconds after, as the clocks of kernels round.
#[test]
fn connections_that_idle_out_by_nature_lose_nothing() {
    let _turn = alone();
    let witness = Witness::default();
    let (mut old, mut new, mut backends) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        let name = format!("p{pair}");
        if pair % 3 == 2 {
            let backend = witness.start_http2(&name, Ipv4Addr::LOCALHOST, Manner::Idles(IDLE));
            backends.push((name, "http2", backend.address()));
            new.push(backend);
        } else {
            let (shared, own) = (witness.share(), name.clone());
            let backend = Backend::start_impatient(IDLE, move |request| {
                shared.record(request, &own);
                Reply::Keep(answer(request, &own))
            });
            backends.push((name, "http", backend.address()));
            old.push(backend);
        }
    }
    let mut mesh = Mesh::start(&backends);
    let proxy = mesh.proxy();
    let load = |pair: u32| {
        let gap = IDLE + Duration::from_millis(8) * (pair % 16) / 16;
        let (rate, requests, stop) = (1.0 / gap.as_secs_f64(), requests().div_ceil(PAIRS as usize), Arc::default());
        let load = Load { proxy, run: pair, requests, rate, workers: 1, kinds: kinds(&format!("p{pair}")), stop };
        if pair % 4 == 3 { Either::Http2(over_http2(&load)) } else { Either::Http1(load) }
    };
    let sent = run((0..PAIRS).map(load).collect());
    let left: usize = new.iter().map(Http2Backend::left).sum();
    let opened: u64 = old.iter().map(Backend::connections).sum();
    println!("{opened} connections of HTTP/1, {left} of HTTP/2 idled out");
    assert!(opened > u64::from(PAIRS) && left > 0, "no connection idled out: the race was not there");
    mesh.judge("by nature", &sent, &witness.entries(), 1);
}

/// A backend of HTTP/1 that ends its connections in one way.
type Ends = fn(&Request, Vec<u8>) -> Reply;

/// Ways to end a connection: in the middle of a request that it has read, and behind an answer that does not say so.
const ENDS: [(&str, Ends); 4] = [
    ("resets", |request, answer| if request.sequence < 2 { Reply::Keep(answer) } else { Reply::Reset(Vec::new()) }),
    ("closes", |request, answer| if request.sequence < 1 { Reply::Keep(answer) } else { Reply::Close(Vec::new()) }),
    ("leaves", |request, answer| if request.sequence < 2 { Reply::Keep(answer) } else { Reply::Close(answer) }),
    ("cuts", |_, answer| Reply::Keep(answer)),
];

/// Backends of HTTP/1 that end connections when they are used again, asked over HTTP/1 and over HTTP/2.
#[test]
fn connections_that_are_ended_by_force_lose_nothing() {
    let _turn = alone();
    let witness = Witness::default();
    let started = ENDS.map(|(name, ends)| {
        let shared = witness.share();
        let script = move |request: &Request| {
            shared.record(request, name);
            ends(request, answer(request, name))
        };
        match name {
            "cuts" => Backend::start_cutting(2, script),
            _ => Backend::start_unrecorded(Ipv4Addr::LOCALHOST, script),
        }
    });
    let backends: Vec<_> =
        ENDS.iter().zip(&started).map(|((name, _), backend)| ((*name).to_owned(), "http", backend.address())).collect();
    let mut mesh = Mesh::start(&backends);
    let proxy = mesh.proxy();
    let load = |run: usize| {
        let (rate, requests, stop) = (400.0, requests().div_ceil(2 * ENDS.len()), Arc::default());
        let load = Load { proxy, run: run as u32, requests, rate, workers: 4, kinds: kinds(ENDS[run / 2].0), stop };
        if run % 2 == 1 { Either::Http2(over_http2(&load)) } else { Either::Http1(load) }
    };
    let sent = run((0..2 * ENDS.len()).map(load).collect());
    mesh.judge("by force", &sent, &witness.entries(), sent.len() / 20);
}

/// Backends of HTTP/2 that end a connection with all the requests on it, and say no GOAWAY.
#[test]
fn shared_connections_that_vanish_lose_nothing() {
    let _turn = alone();
    let witness = Witness::default();
    let started = [("second", 2), ("fifth", 5), ("fiftieth", 50)]
        .map(|(name, nth)| (name, witness.start_http2(name, Ipv4Addr::LOCALHOST, Manner::Vanishes(nth))));
    let backends: Vec<_> =
        started.iter().map(|(name, backend)| ((*name).to_owned(), "http2", backend.address())).collect();
    let mut mesh = Mesh::start(&backends);
    let proxy = mesh.proxy();
    // Clients that wait for their answers: were there as many at once on a connection as it serves, none would be answered.
    let load = |(run, (name, workers)): (usize, (&str, usize))| {
        let (rate, requests, stop) = (800.0, requests().div_ceil(3), Arc::default());
        Either::Http1(Load { proxy, run: run as u32, requests, rate, workers, kinds: kinds(name), stop })
    };
    let sent = run([("second", 1), ("fifth", 2), ("fiftieth", 8)].into_iter().enumerate().map(load).collect());
    let left: Vec<_> = started.iter().map(|(_, backend)| backend.left()).collect();
    println!("connections that vanished: {left:?}");
    mesh.judge("shared", &sent, &witness.entries(), sent.len() / 50);
}
