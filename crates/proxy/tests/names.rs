//! Clusters whose endpoints are names: a name server, backends behind the addresses it gives, and a proxy between.

mod common;

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{CLUSTER, World, proxy_asking, snapshot};
use outrigger_model as model;
use outrigger_proxy::{NameServers, Options, Proxy, Settings, Threads};
use outrigger_telemetry::Registry;
use outrigger_testkit::dns::{Answer, Data, NameServer, Question, Record};
use outrigger_testkit::{Backend, Client, Reply, eventually, response, within};

/// What the name server says of a name, to be changed while it runs: addresses, or `NXDOMAIN`, `SERVFAIL`, `silence`.
#[derive(Clone, Default)]
struct Zone(Arc<Mutex<String>>);

impl Zone {
    fn set(&self, said: &str) {
        *self.0.lock().unwrap() = said.to_owned();
    }

    fn start(said: &str) -> (Self, NameServer) {
        let zone = Self::default();
        zone.set(said);
        let answering = zone.clone();
        (zone, NameServer::start(move |question| answering.answer(question)))
    }

    fn answer(&self, question: &Question) -> Answer {
        match self.0.lock().unwrap().as_str() {
            "NXDOMAIN" => Answer::NO_NAME,
            "SERVFAIL" => Answer::BROKEN,
            "silence" => Answer::Silence,
            addresses => Answer::addresses(question, 0, &addresses.split(' ').collect::<Vec<_>>()),
        }
    }
}

/// Limits that make a second of hundredths.
fn quick() -> Settings {
    Settings {
        dns_ttl_min: Duration::from_millis(20),
        dns_retry_min: Duration::from_millis(20),
        dns_retry_max: Duration::from_millis(40),
        dns_timeout: Duration::from_millis(200),
        ..Settings::default()
    }
}

/// Every host goes to the addresses of names.
fn named(discovery: model::Discovery, names: &[&str], port: u16) -> model::Snapshot {
    let mut snapshot = snapshot(&[], |_| {});
    let cluster = snapshot.clusters.get_mut(&model::ClusterName::new(CLUSTER)).unwrap();
    let workload = Arc::new(model::Workload::new("web", "default", "", "Kubernetes", Default::default()));
    let name = |host: &&str| {
        Arc::new(model::NamedEndpoint {
            host: (*host).into(),
            port,
            weight: 1,
            priority: 0,
            locality: Default::default(),
            locality_weight: 0,
            workload: workload.clone(),
        })
    };
    *cluster = Arc::new(model::Cluster {
        discovery,
        names: names.iter().map(name).collect(),
        ..model::Cluster::clone(cluster)
    });
    snapshot
}

fn world(server: &NameServer, settings: Settings, port: u16) -> World {
    let servers = NameServers::At(vec![server.address()]);
    proxy_asking(servers, settings, named(model::Discovery::Dns, &["db.test"], port))
}

/// Backends on 127.0.0.N, each of which answers with its N.
fn backends(numbers: &[u8]) -> (Vec<Backend>, u16) {
    let ips: Vec<Ipv4Addr> = numbers.iter().map(|number| Ipv4Addr::new(127, 0, 0, *number)).collect();
    let answer = |ip: Ipv4Addr, _: &outrigger_testkit::Request| {
        Reply::Keep(response(200, &[], ip.octets()[3].to_string().as_bytes()))
    };
    let backends = Backend::start_at_one_port(&ips, answer);
    let port = backends[0].address().port();
    (backends, port)
}

/// One request on a connection of its own: status and body.
fn ask(world: &World) -> (u16, String) {
    let mut client = Client::connect(world.address()).unwrap();
    let answer = client.exchange(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").unwrap();
    (answer.status, answer.text())
}

/// The addresses that the proxy has for the cluster, without the port.
fn in_use(world: &World) -> String {
    let clusters = world.proxy.clusters();
    let endpoints = clusters.iter().flat_map(|cluster| &cluster.endpoints);
    let mut ips: Vec<String> = endpoints.map(|endpoint| endpoint.address().ip().to_string()).collect();
    ips.sort();
    ips.join(" ")
}

fn eventually_in_use(world: &World, expected: &str) {
    eventually(&format!("endpoints {expected}, last {}", in_use(world)), || (in_use(world) == expected).then_some(()));
}

#[test]
fn a_name_is_every_address_it_has_and_no_request_is_lost_when_they_change() {
    let (_backends, port) = backends(&[71, 72, 73]);
    let (zone, server) = Zone::start("127.0.0.71 127.0.0.72");
    let world = world(&server, quick(), port);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = || {
            let mut kept = Client::connect(world.address()).unwrap();
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                let answer = kept.exchange(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").unwrap();
                assert_eq!(answer.status, 200, "{}", answer.text());
                assert_eq!(ask(&world).0, 200);
                sent += 2;
            }
            sent
        };
        let loads = [scope.spawn(load), scope.spawn(load)];
        eventually_in_use(&world, "127.0.0.71 127.0.0.72");
        let begun = |ip: &str| {
            let clusters = world.proxy.clusters();
            let mut all = clusters.iter().flat_map(|cluster| &cluster.endpoints);
            all.find(|e| e.address().ip().to_string() == ip).map(|e| (e.requests_begun, e.host.clone()))
        };
        let before = eventually("requests to 72", || begun("127.0.0.72").filter(|(count, _)| *count > 2));
        assert_eq!(before.1.as_deref(), Some("db.test"));
        zone.set("127.0.0.72 127.0.0.73");
        eventually_in_use(&world, "127.0.0.72 127.0.0.73");
        let after = begun("127.0.0.72").unwrap();
        assert!(after.0 >= before.0, "what stays is the same endpoint: {after:?} after {before:?}");
        eventually("requests to 73", || begun("127.0.0.73").filter(|(count, _)| *count > 2));
        assert_eq!(world.sum("envoy_cluster_membership_total", CLUSTER), 2.0);
        for only in ["127.0.0.73", "127.0.0.71", "127.0.0.72"] {
            zone.set(only);
            eventually_in_use(&world, only);
        }
        stop.store(true, Ordering::Relaxed);
        let sent: i32 = loads.into_iter().map(|load| load.join().expect("no request was lost")).sum();
        assert!(sent > 0);
    });
    assert!(world.sum("outrigger_dns_lookups_total", "success") >= 5.0);
    assert_eq!(world.sum("outrigger_dns_addresses", "db.test"), 1.0);
    assert_eq!(world.sum("outrigger_dns_stale", ""), 0.0);
}

#[test]
fn addresses_stay_while_lookups_fail_and_go_in_the_end() {
    let (_backends, port) = backends(&[74]);
    for (failure, result) in [("NXDOMAIN", "no_name"), ("SERVFAIL", "refused"), ("silence", "timeout")] {
        let (zone, server) = Zone::start("127.0.0.74");
        let world = world(&server, Settings { dns_timeout: Duration::from_millis(20), ..quick() }, port);
        assert_eq!(ask(&world).0, 200);
        zone.set(failure);
        eventually("failed lookups", || (world.sum("outrigger_dns_lookups_total", result) > 2.0).then_some(()));
        assert_eq!(ask(&world), (200, "74".to_owned()), "{failure}");
        assert_eq!(world.sum("outrigger_dns_stale", "db.test"), 1.0, "{failure}");
        zone.set("127.0.0.74");
        eventually("an answer", || (world.sum("outrigger_dns_stale", "db.test") == 0.0).then_some(()));
    }
    let (zone, server) = Zone::start("127.0.0.74");
    let world = world(&server, Settings { dns_stale_max: Duration::from_millis(50), ..quick() }, port);
    assert_eq!(ask(&world).0, 200);
    zone.set("NXDOMAIN");
    eventually_in_use(&world, "");
    let (status, text) = ask(&world);
    assert!(status == 503 && text.contains("db.test: the name does not exist (NXDOMAIN)"), "{text}");
    zone.set("127.0.0.74");
    eventually("its return", || (ask(&world).0 == 200).then_some(()));
}

#[test]
fn what_never_resolves_is_503_and_says_which_name_and_why() {
    let looping = |question: &Question| match &*question.name {
        "loop.test" => Answer::alias(question, 60, "back.test"),
        "back.test" => Answer::alias(question, 60, "loop.test"),
        "blocked.test" => Answer::addresses(question, 60, &["0.0.0.0", "::"]),
        "empty.test" => Answer::Records(Vec::new()),
        _ => Answer::NO_NAME,
    };
    for (name, why, result) in [
        ("none.test", "the name does not exist (NXDOMAIN)", "no_name"),
        ("loop.test", "the name has no address", "no_address"),
        ("empty.test", "the name has no address", "no_address"),
        ("blocked.test", "the name has no address that can be connected to", "unusable"),
    ] {
        let server = NameServer::start(looping);
        let servers = NameServers::At(vec![server.address()]);
        let settings = Settings { dns_retry_min: Duration::from_secs(60), ..quick() };
        let world = proxy_asking(servers, settings, named(model::Discovery::Dns, &[name], 80));
        let (status, text) = ask(&world);
        assert_eq!(status, 503, "{text}");
        assert!(text.contains(&format!("{CLUSTER}: {name}: {why}")), "{text}");
        eventually("UH", || (world.sum("outrigger_proxy_replies_total", "UH") == 1.0).then_some(()));
        assert_eq!(world.sum("outrigger_dns_lookups_total", result), 1.0);
        assert!(server.asked().len() <= 2 * 9, "a loop ends: {:?}", server.asked());
    }
}

#[test]
fn requests_wait_for_the_first_answer_but_not_for_ever() {
    let (_backends, port) = backends(&[75]);
    let may_answer = Arc::new(AtomicBool::new(false));
    let answering = may_answer.clone();
    let server = NameServer::start(move |question| {
        eventually("leave to answer", || answering.load(Ordering::Relaxed).then_some(()));
        Answer::addresses(question, 60, &["127.0.0.75"])
    });
    let world = world(&server, Settings { dns_timeout: Duration::from_secs(5), ..quick() }, port);
    let mut client = Client::connect(world.address()).unwrap();
    client.send(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").unwrap();
    eventually("the request", || (world.sum("envoy_http_downstream_rq_active", "") == 1.0).then_some(()));
    may_answer.store(true, Ordering::Relaxed);
    let answer = client.read_response("GET").unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "75"));

    let (_zone, silent) = Zone::start("silence");
    let world = {
        let servers = NameServers::At(vec![silent.address()]);
        let settings = Settings { resolve_timeout: Duration::from_millis(50), ..Settings::default() };
        proxy_asking(servers, settings, named(model::Discovery::Dns, &["db.test"], port))
    };
    let (status, text) = ask(&world);
    assert!(status == 503 && text.contains("db.test: no name server has answered yet"), "{text}");
}

#[test]
fn addresses_in_turns_are_one_endpoint_whose_open_connections_stay() {
    let (backends, port) = backends(&[76, 77, 78]);
    let (zone, server) = Zone::start("127.0.0.76 127.0.0.77");
    let settings = Settings { pool_idle_timeout: Duration::from_secs(60), ..quick() };
    let servers = NameServers::At(vec![server.address()]);
    let mut snapshot = named(model::Discovery::DnsRoundRobin, &["db.test"], port);
    let cluster = snapshot.clusters.get_mut(&model::ClusterName::new(CLUSTER)).unwrap();
    // Connections that serve one request only: each request takes the next address.
    Arc::make_mut(cluster).pool.requests_per_connection_max = Some(1);
    let world = proxy_asking(servers, settings, snapshot);
    let answers: Vec<String> = (0..6).map(|_| ask(&world).1).collect();
    let count = |of: &str| answers.iter().filter(|answer| *answer == of).count();
    assert_eq!((count("76"), count("77")), (3, 3), "{answers:?}");
    assert_eq!(world.proxy.clusters()[0].endpoints.len(), 1);

    let mut snapshot = model::Snapshot::clone(&world.proxy.snapshot());
    let cluster = snapshot.clusters.get_mut(&model::ClusterName::new(CLUSTER)).unwrap();
    Arc::make_mut(cluster).pool.requests_per_connection_max = None;
    world.proxy.apply(Arc::new(snapshot));
    let mut client = Client::connect(world.address()).unwrap();
    let mut exchange = || client.exchange(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").unwrap().text();
    let first = eventually("a connection that is kept", || {
        let first = exchange();
        (exchange() == first && exchange() == first).then_some(first)
    });
    zone.set("127.0.0.78");
    eventually_in_use(&world, "127.0.0.78");
    assert_eq!(exchange(), first, "the connection goes on");
    assert_eq!(backends[2].seen().len(), 0);
    eventually("new connections go to the new address", || (ask(&world).1 == "78").then_some(()));
}

#[test]
fn long_answers_come_over_tcp_and_no_more_than_64_addresses_count() {
    let many = |question: &Question| {
        let count: u32 = if question.name == "long.test" { 40 } else { 4000 };
        let ip = |at: u32| Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 1)) + at).to_string();
        let addresses: Vec<String> = (0..count).map(ip).collect();
        Answer::addresses(question, 60, &addresses.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let server = NameServer::start(many);
    for (name, expected) in [("long.test", 40), ("endless.test", 64)] {
        let servers = NameServers::At(vec![server.address()]);
        let world = proxy_asking(servers, quick(), named(model::Discovery::Dns, &[name], 80));
        eventually("endpoints", || (world.proxy.clusters()[0].endpoints.len() == expected).then_some(()));
        assert!(server.asked().iter().any(|question| question.over_tcp && question.name == name));
        let dropped = if expected == 64 { 4000.0 - 64.0 } else { 0.0 };
        assert_eq!(world.sum("outrigger_limit_hits_total", "dns_addresses"), dropped);
    }
}

#[test]
fn answers_to_other_questions_do_not_count() {
    let server = NameServer::start(|question| {
        let Answer::Records(mut records) = Answer::addresses(question, 60, &["127.0.0.79"]) else { unreachable!() };
        let stranger = Data::Address(Ipv4Addr::new(192, 0, 2, 67).into());
        records.push(Record { name: "other.test".to_owned(), ttl: 60, data: stranger });
        Answer::AfterSpoof(records)
    });
    let world = world(&server, quick(), 80);
    eventually_in_use(&world, "127.0.0.79");
}

#[test]
fn names_without_time_to_live_are_asked_for_in_measure() {
    let server = NameServer::start(|question| Answer::addresses(question, 0, &["127.0.0.80"]));
    let names: Vec<String> = (0..50).map(|at| format!("n{at}.test")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let servers = NameServers::At(vec![server.address()]);
    let ttl = Duration::from_millis(100);
    let began = Instant::now();
    let _world =
        proxy_asking(servers, Settings { dns_ttl_min: ttl, ..quick() }, named(model::Discovery::Dns, &names, 80));
    eventually("the fourth question", || (server.times("n7.test") >= 8).then_some(()));
    let asked = server.asked();
    // Two questions a lookup at most; a lookup comes at most a tenth of the time early.
    let lookups = 1.0 + began.elapsed().as_secs_f64() / (0.9 * ttl.as_secs_f64());
    for name in names {
        let times = asked.iter().filter(|question| question.name == name).count();
        assert!(times as f64 <= 2.0 * lookups, "{name} {times} times");
    }
}

#[test]
fn a_name_is_looked_up_once_for_all_proxies_and_forgotten_when_nobody_has_it() {
    let server = NameServer::start(|question| match &*question.name {
        "db.test" => Answer::addresses(question, 3600, &["127.0.0.81"]),
        _ => Answer::addresses(question, 0, &["127.0.0.82"]),
    });
    let servers = NameServers::At(vec![server.address()]);
    let threads = Threads::start_with(1, servers, Settings { dns_names_max: 2, ..quick() }).unwrap();
    let registry = Registry::new(Default::default());
    let start = |snapshot| Proxy::start(&threads, Options::default(), &registry, Arc::new(snapshot)).unwrap();
    let one = |name: &'static str| named(model::Discovery::Dns, &[name], 80);
    let proxies = [start(one("db.test")), start(one("db.test"))];
    let endpoints = |proxy: &Proxy| proxy.clusters()[0].endpoints.len();
    for proxy in &proxies {
        eventually("an address", || (endpoints(proxy) == 1).then_some(()));
    }
    let v4 = || server.asked().iter().filter(|q| q.kind == outrigger_testkit::dns::Kind::A).count();
    assert_eq!(v4(), 1);

    // A third name finds no room before one of the two is gone.
    proxies[0].apply(Arc::new(one("busy.test")));
    eventually("the other name", || (server.times("busy.test") > 4).then_some(()));
    let third = start(one("third.test"));
    assert_eq!(endpoints(&third), 0);
    let limit_hits = || {
        let families = registry.gather(Instant::now());
        let samples = families.iter().filter(|f| f.desc.name == "outrigger_limit_hits_total").flat_map(|f| &f.samples);
        samples.map(|s| s.value.number()).sum::<f64>()
    };
    assert!(limit_hits() >= 1.0);
    // Twice, because the policy before the last is kept.
    for name in ["db.test", "db.test"] {
        proxies[0].apply(Arc::new(named(model::Discovery::Dns, &[name], 81)));
        proxies[0].apply(Arc::new(one(name)));
    }
    // The workers let the old policies go a moment later.
    let mut ports = 81..;
    eventually("room for the third name", || {
        third.apply(Arc::new(named(model::Discovery::Dns, &["third.test"], ports.next()?)));
        within(Duration::from_millis(200), || (endpoints(&third) == 1).then_some(()))
    });
    let times = server.times("busy.test");
    eventually("lookups of the third", || (server.times("third.test") > 20).then_some(()));
    assert!(server.times("busy.test") <= times + 2, "nobody wants it any more");
}
