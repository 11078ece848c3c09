//! Backends that fail in the middle of their work, and what that costs: answers that break off, connections that nobody
//! accepts, requests that nobody answers, bodies that trickle.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use outrigger_testkit::ledger::{
    Account, Front, Http2Load, Kind, Load, Manner, Outcome, Sent, Witness, answer, classes,
};
use outrigger_testkit::{
    Backend, Client, Endpoint, Process, Reply, Request, World, pass_time, service_yaml, speaking_service_yaml,
    virtual_service_yaml,
};

use super::{beside_others, endpoint, start};

/// A load on one service over HTTP/1.
fn load(process: &Process, host: &str, methods: &[&'static str], requests: usize, rate: f64, workers: usize) -> Load {
    let kinds = methods.iter().map(|method| Kind::new(method, host, "/", "app")).collect();
    let (proxy, stop) = (process.address("outbound"), Arc::new(AtomicBool::new(false)));
    Load { proxy, run: 1, requests, rate, workers, kinds, stop }
}

/// A rule for service `app` that ejects after three failures in a row, for as long as a test lasts.
fn ejecting(world: &World) {
    let policy = "connectionPool: {tcp: {connectTimeout: 1s}}, outlierDetection: {consecutive5xxErrors: 3, interval: 1s, \
                  baseEjectionTime: 60s, maxEjectionPercent: 50}, loadBalancer: {simple: ROUND_ROBIN}";
    let rule = format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: app, namespace: default}}\n\
         spec: {{host: app, trafficPolicy: {{{policy}}}}}\n"
    );
    world.write("rule.yaml", &rule);
}

/// Two endpoints of service `app`: one with a fault, and one that is well.
fn write_app(world: &World, bad: SocketAddr, good: SocketAddr) {
    let endpoints: [Endpoint; 2] = [endpoint("bad", "v1", bad), endpoint("good", "v1", good)];
    world.write("app.yaml", &service_yaml("default", "app", 80, &endpoints));
}

/// How many of the requests took so long.
fn slower(sent: &[Sent], than: Duration) -> usize {
    sent.iter().filter(|request| request.latency > than).count()
}

/// How often answers break off.
const BREAKS: usize = 10;

/// Every tenth answer breaks off half way, by a reset and in good order, by length and in chunks, over HTTP/1 and HTTP/2, in
/// calls of gRPC: clients of either see that it did, and nothing happens to the others.
#[test]
fn answers_that_break_off_are_never_taken_for_whole() {
    let _turn = beside_others();
    let witness = Witness::default();
    let (shared, count, broken) = (witness.share(), AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let breaking = broken.clone();
    let old = Backend::start_unrecorded(Ipv4Addr::LOCALHOST, move |request: &Request| {
        shared.record(request, "old");
        let mut whole = answer(request, "old");
        let head = whole.windows(4).position(|window| window == b"\r\n\r\n").expect("a head ends") + 4;
        let number = count.fetch_add(1, Ordering::Relaxed);
        if number % BREAKS != 0 || whole.len() == head {
            return Reply::Keep(whole);
        }
        breaking.fetch_add(1, Ordering::Relaxed);
        whole.truncate(head + (whole.len() - head) / 2);
        if number % (2 * BREAKS) == 0 { Reply::Reset(whole) } else { Reply::Close(whole) }
    });
    let new = witness.start_http2("new", Ipv4Addr::LOCALHOST, Manner::BreaksOff(BREAKS));
    let world = World::new();
    world.write("old.yaml", &service_yaml("default", "old", 80, &[endpoint("old", "v1", old.address())]));
    let new_endpoint = [endpoint("new", "v1", new.address())];
    world.write("new.yaml", &speaking_service_yaml("default", "new", ("http2", 80), &new_endpoint));
    let mut process = start(&world);
    let kinds: Vec<_> = ["old", "new"].map(|host| Kind::new("GET", host, "/", "app")).into();
    let over_http1 = Load { kinds: kinds.clone(), ..load(&process, "old", &[], 1000, 500.0, 4) };
    let kinds = kinds.into_iter().chain([Kind::grpc("new", "app")]).collect();
    let (front, stop) = (Front::new(process.address("outbound")), over_http1.stop.clone());
    let over_http2 = Http2Load { front, run: 2, requests: 1000, rate: 500.0, connections: 3, kinds, stop };
    let mut sent = over_http1.run();
    sent.extend(over_http2.run().sent);
    let account = Account::new(&sent, &witness.entries(), &classes(&[("old", &["app"]), ("new", &["app"])]));
    let broken = broken.load(Ordering::Relaxed) + new.left();
    println!("{broken} broke off: {account}");
    let others = Account { lost: Vec::new(), ..account.clone() };
    assert!(others.is_clean() && others.refused.is_empty() && others.repeated == 0, "{account}");
    // One that is reset may lose what was on its way before: then there was no answer, and it says so.
    let told = |request: &&Sent| matches!(&request.outcome, Outcome::Answered { status: 503, .. });
    let told = sent.iter().filter(told).count();
    let seen = account.lost.len();
    assert!(broken > 100 && seen <= broken && seen + told >= broken, "{broken} broke off, {told} told: {account}");
    process.assert_well();
}

/// A listener whose queue is full: whoever connects waits.
struct Deaf {
    listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl Deaf {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
        let address = listener.local_addr().expect("a bound listener has an address");
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok();
        let queue: Vec<_> = std::iter::from_fn(connect).take(10_000).collect();
        assert!(queue.len() < 10_000, "the queue has an end");
        Self { listener, _queue: queue }
    }
}

/// An instance that has stopped accepting: no request takes 3 s, none is lost, whatever its method, and once three met it,
/// none waits any more.
#[test]
fn an_instance_that_accepts_nothing_costs_three_connect_timeouts_and_no_request() {
    let _turn = beside_others();
    let (deaf, witness) = (Deaf::start(), Witness::default());
    let (_good, good) = witness.start("good", Ipv4Addr::LOCALHOST);
    let world = World::new();
    write_app(&world, deaf.listener.local_addr().expect("bound"), good);
    ejecting(&world);
    let mut process = start(&world);
    let sent = load(&process, "app", &["GET", "POST", "PUT"], 200, 40.0, 1).run();
    let account = Account::new(&sent, &witness.entries(), &classes(&[("good", &["app"])]));
    println!("{account}");
    assert!(account.is_clean() && account.ok == 200 && account.repeated == 0, "{account}");
    // Those behind one that waits are late with it: it is one client.
    let times: Vec<_> = sent.windows(2).map(|two| two[1].latency.saturating_sub(two[0].latency)).collect();
    let waits = times.iter().filter(|time| **time > Duration::from_millis(700)).count();
    assert!(waits <= 3, "{waits} waited");
    assert_eq!(slower(&sent[150..], Duration::from_millis(500)), 0, "it is ejected");
    process.assert_well();
}

/// An instance that takes requests and never answers: each is given up after its time, what may be done twice is answered by
/// another, and once three met it, none waits any more. Where there is no other, 504 comes when the time is over.
#[test]
fn an_instance_that_never_answers_costs_three_tries() {
    let _turn = beside_others();
    let silent = Backend::start(|_| Reply::Hold(Vec::new()));
    let witness = Witness::default();
    let (_good, good) = witness.start("good", Ipv4Addr::LOCALHOST);
    let world = World::new();
    write_app(&world, silent.address(), good);
    ejecting(&world);
    let retries = "  - route: [{destination: {host: app}}]\n    timeout: 2s\n    retries: {attempts: 2, perTryTimeout: \
                   300ms, retryOn: reset}\n";
    world.write("route.yaml", &virtual_service_yaml("default", "app", "app", retries));
    world.write("alone.yaml", &service_yaml("default", "alone", 80, &[endpoint("bad", "v1", silent.address())]));
    let limit = "  - route: [{destination: {host: alone}}]\n    timeout: 500ms\n";
    world.write("limit.yaml", &virtual_service_yaml("default", "alone", "alone", limit));
    let mut process = start(&world);
    let sent = load(&process, "app", &["GET", "PUT"], 200, 40.0, 1).run();
    let account = Account::new(&sent, &witness.entries(), &classes(&[("good", &["app"])]));
    println!("{account}");
    assert!(account.is_clean() && account.ok == 200, "{account}");
    assert_eq!(silent.seen().len(), 3, "tries that met it");
    assert_eq!(slower(&sent[150..], Duration::from_millis(250)), 0, "it is ejected");
    for method in ["GET", "POST"] {
        let mut client = Client::connect(process.address("outbound")).expect("it listens");
        let started = Instant::now();
        let request = format!("{method} / HTTP/1.1\r\nhost: alone\r\ncontent-length: 0\r\n\r\n");
        let answer = client.exchange(request.as_bytes()).expect("an answer");
        let took = started.elapsed();
        assert_eq!(answer.status, 504);
        assert!((500..750).contains(&took.as_millis()), "{method}: {took:?}");
    }
    assert_eq!(silent.seen().len(), 5, "neither of these was repeated");
    process.assert_well();
}

/// A backend whose answers trickle: 40 bytes, one every 50 ms.
fn trickling() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
    let address = listener.local_addr().expect("a bound listener has an address");
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let _ = stream.set_nodelay(true);
                // A request without a body is one packet.
                let _ = stream.read(&mut [0; 4096]);
                let mut next = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\n");
                for byte in 0..40_u8 {
                    next = next.and_then(|()| stream.write_all(&[b'a' + byte % 26]));
                    pass_time(Duration::from_millis(50));
                }
                drop(next);
            });
        }
    });
    address
}

/// Answers that trickle reach their clients as they come and whole, and cost nobody else anything, memory included.
#[test]
fn bodies_that_trickle_hold_up_nobody_else() {
    let _turn = beside_others();
    let witness = Witness::default();
    let (_good, good) = witness.start("good", Ipv4Addr::LOCALHOST);
    let world = World::new();
    world.write("app.yaml", &service_yaml("default", "app", 80, &[endpoint("good", "v1", good)]));
    world.write("slow.yaml", &service_yaml("default", "slow", 80, &[endpoint("slow", "v1", trickling())]));
    let mut process = start(&world);
    let proxy = process.address("outbound");
    let before = load(&process, "app", &["GET"], 200, 400.0, 4).run();
    process.forget_peak();
    let resident = process.resident_kib();
    let trickle = || {
        let started = Instant::now();
        let mut client = Client::connect(proxy).expect("it listens");
        client.send(b"GET / HTTP/1.1\r\nhost: slow\r\n\r\n").expect("it takes requests");
        client.await_text("\r\n\r\na").expect("the first byte");
        let first = started.elapsed();
        (client.read_response("GET").expect("a whole answer").body, first, started.elapsed())
    };
    let (slow, fast) = thread::scope(|scope| {
        let slow: Vec<_> = (0..50).map(|_| scope.spawn(trickle)).collect();
        let fast = Load { run: 2, ..load(&process, "app", &["GET"], 600, 300.0, 4) }.run();
        (slow.into_iter().map(|slow| slow.join().expect("whole")).collect::<Vec<_>>(), fast)
    });
    for (body, first, all) in &slow {
        assert_eq!(body.len(), 40);
        assert!(*all > Duration::from_millis(1900) && *first < *all / 2, "the first after {first:?} of {all:?}");
    }
    let sent: Vec<_> = before.into_iter().chain(fast).collect();
    let account = Account::new(&sent, &witness.entries(), &classes(&[("good", &["app"])]));
    println!("{account}");
    assert!(account.is_clean() && account.ok == 800 && account.late == 0, "{account}");
    if let (Some(before), Some(peak)) = (resident, process.peak_kib()) {
        assert!(peak < before + 8 * 1024, "from {before} KiB to {peak} KiB");
    }
    process.assert_well();
}

/// One instance of five takes 500 ms for each answer: the balancer lets it have one request of twenty at most, and the others
/// stay as fast as they were.
#[test]
fn one_slow_instance_of_five_gets_little() {
    let _turn = beside_others();
    let (witness, slow) = (Witness::default(), Witness::default());
    let shared = slow.share();
    let dragging = Backend::start_unrecorded(Ipv4Addr::LOCALHOST, move |request| {
        shared.record(request, "slow");
        pass_time(Duration::from_millis(500));
        Reply::Keep(answer(request, "slow"))
    });
    let started = ["a", "b", "c", "d"].map(|name| (name, witness.start(name, Ipv4Addr::LOCALHOST)));
    let mut endpoints: Vec<_> = started.iter().map(|(name, (_, address))| endpoint(name, "v1", *address)).collect();
    endpoints.push(endpoint("slow", "v1", dragging.address()));
    let world = World::new();
    world.write("app.yaml", &service_yaml("default", "app", 80, &endpoints));
    let mut process = start(&world);
    let sent = load(&process, "app", &["GET"], 2000, 400.0, 40).run();
    let entries: Vec<_> = witness.entries().into_iter().chain(slow.entries()).collect();
    let all: Vec<_> = ["a", "b", "c", "d", "slow"].map(|name| (name, &["app"][..])).into();
    let account = Account::new(&sent, &entries, &classes(&all));
    println!("{account}");
    assert!(account.is_clean() && account.ok == 2000, "{account}");
    let dragged = slow.entries().len();
    assert!((1..=100).contains(&dragged), "{dragged} of 2000");
    assert!(slower(&sent, Duration::from_millis(450)) <= 150, "who waits is who met it: {account}");
    process.assert_well();
}
