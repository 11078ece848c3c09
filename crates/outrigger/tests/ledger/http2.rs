//! The same over HTTP/2 and gRPC: over reloads, to endpoints that leave, and over proxies that drain one after the other.

use std::net::Ipv4Addr;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use outrigger_testkit::ledger::{Account, Front, Http2Backend, Http2Load, Kind, Load, Manner, Sent, Witness, classes};
use outrigger_testkit::{Process, World, eventually, metrics, pass_time, service_yaml, speaking_service_yaml, within};

use super::{Mesh, beside_others, endpoint, requests, scrape, start};

/// What is sent to `app` by version and at large, to `calls`, which speaks gRPC alone, and to `old`, which speaks HTTP/1.
fn kinds() -> Vec<Kind> {
    let app = |method, class: &str| Kind::new(method, "app.default", "/", class);
    vec![
        app("GET", "app"),
        Kind::grpc("app", "v1").with("x-version", "v1"),
        app("POST", "app"),
        app("GET", "v2").with("x-version", "v2"),
        Kind::grpc("calls", "calls"),
        app("PUT", "v1").with("x-version", "v1"),
        app("HEAD", "app"),
        Kind::grpc("calls.default.svc.cluster.local", "calls"),
        Kind::new("POST", "old", "/", "old"),
        Kind::grpc("app", "v2").with("x-version", "v2"),
        app("DELETE", "v2").with("x-version", "v2"),
        Kind::new("GET", "old", "/", "old"),
    ]
}

const ALLOWED: [(&str, &[&str]); 6] = [
    ("a1", &["app", "v1"]),
    ("a2", &["app", "v1"]),
    ("b1", &["app", "v2"]),
    ("b2", &["app", "v2"]),
    ("c1", &["calls"]),
    ("p1", &["old"]),
];

/// Fifty reloads while endpoints leave in every way they can, and while HTTP/1 clients ask the same endpoints.
#[test]
fn reloads_and_endpoints_that_leave_lose_nothing() {
    let _turn = beside_others();
    let requests = requests();
    let witness = Witness::default();
    let manners = [Manner::Steady, Manner::Leaves(40), Manner::TurnsAway(120), Manner::Refuses(10), Manner::Leaves(60)];
    let backends: [Http2Backend; 5] = [1, 2, 3, 4, 5].map(|n| {
        witness.start_http2(
            ["a1", "a2", "b1", "b2", "c1"][n - 1],
            Ipv4Addr::new(127, 0, 9, 10 + n as u8),
            manners[n - 1],
        )
    });
    let (_old, old) = witness.start("p1", Ipv4Addr::new(127, 0, 9, 16));
    let address = |n: usize| backends[n].address();
    let app = [
        endpoint("a1", "v1", address(0)),
        endpoint("a2", "v1", address(1)),
        endpoint("b1", "v2", address(2)),
        endpoint("b2", "v2", address(3)),
    ];
    let mesh = Mesh::new("http2", app);
    let calls = [endpoint("c1", "v1", address(4))];
    mesh.world.write("calls.yaml", &speaking_service_yaml("default", "calls", ("grpc", 80), &calls));
    mesh.world.write("old.yaml", &service_yaml("default", "old", 80, &[endpoint("p1", "v1", old)]));
    let mut process = start(&mesh.world);
    let proxy = process.address("outbound");
    let (rate, stop) = (1_000.0, Arc::new(AtomicBool::new(false)));
    let (front, over_http2) = (Front::new(proxy), requests * 4 / 5);
    let load =
        Http2Load { front, run: 1, requests: over_http2, rate: rate * 0.8, connections: 6, kinds: kinds(), stop };
    let older = Load {
        proxy,
        run: 2,
        requests: requests - over_http2,
        rate: rate * 0.2,
        workers: 4,
        // A body that comes over HTTP/1 is not kept while it passes: what is refused then is told, not sent again.
        kinds: ["GET", "DELETE"].map(|method| Kind::new(method, "app", "/", "app")).into(),
        stop: load.stop.clone(),
    };
    let (tally, older) = thread::scope(|scope| {
        let (load, older) = (scope.spawn(|| load.run()), scope.spawn(|| older.run()));
        mesh.rewrite_all(Duration::from_secs_f64(requests as f64 / rate));
        (load.join().expect("the load does not panic"), older.join().expect("the load does not panic"))
    });
    Mesh::await_last(proxy);
    let sent: Vec<Sent> = tally.sent.into_iter().chain(older).collect();
    let entries = witness.entries();
    let account = Account::new(&sent, &entries, &classes(&ALLOWED));
    let left: Vec<_> = backends.iter().map(Http2Backend::left).collect();
    let turned_away: Vec<_> = backends.iter().map(Http2Backend::turned_away).collect();
    println!("{} connections, left {left:?}, turned away {turned_away:?}: {account}", tally.connections);
    assert!(account.is_clean() && account.refused.is_empty() && account.ok == requests, "{account}");
    assert_eq!(tally.sent_again, 0, "the proxy told its clients to go");
    assert!(left[1] > 0 && left[2] > 0 && left[4] > 0, "nobody left: the race was not there");
    assert!(turned_away[2] > 0 && turned_away[3] > 0, "nothing was turned away");
    process.assert_well();
    agree(&process, &sent, entries.len());
}

/// The proxy's own counters tell the same story: requests by service, messages of gRPC, and what went out again.
fn agree(process: &Process, sent: &[Sent], seen: usize) {
    let service = |class: &str| match class {
        "calls" | "old" => class.to_owned(),
        _ => "app".to_owned(),
    };
    let calls: Vec<_> = kinds().into_iter().filter(|kind| kind.target.starts_with("/ledger")).collect();
    // What came over HTTP/1 is of class `app`, as no call is.
    let is_call = |sent: &Sent| sent.method == "POST" && calls.iter().any(|kind| kind.class == sent.class);
    for name in ["app", "calls", "old"] {
        let all: Vec<_> = sent.iter().filter(|request| service(&request.class) == name).collect();
        let messages = all.iter().filter(|request| is_call(request)).count();
        let labels = [("reporter", "source"), ("destination_service_name", name)];
        for (metric, wanted) in [
            ("istio_requests_total", all.len()),
            ("istio_request_messages_total", messages),
            ("istio_response_messages_total", messages),
        ] {
            let wanted = wanted as f64;
            let mut last = 0.0;
            let counted = within(Duration::from_secs(5), || {
                last = metrics::sum(&scrape(process), metric, &labels);
                (last == wanted).then_some(())
            });
            assert!(counted.is_some(), "{metric} of {name} is {last}, not {wanted}");
        }
    }
    let samples = scrape(process);
    let count = |metric| metrics::sum(&samples, metric, &[]);
    let (tries, resends) = (count("outrigger_endpoint_requests_total"), count("envoy_cluster_upstream_rq_retry"));
    assert_eq!(tries, seen as f64 + resends, "tries: what endpoints saw, and what went out again ({resends})");
}

/// How many proxies drain, one after the other.
const DRAINS: usize = 20;

/// Twenty times a proxy is told to end while another takes its place. What the first has taken it finishes; what it has not,
/// it says so, and the client goes to the next.
#[test]
fn drains_lose_nothing() {
    let _turn = beside_others();
    let requests = requests();
    let witness = Witness::default();
    let slow = Manner::Slow(Duration::from_millis(20));
    // Long enough that some requests are under way whenever the signal comes.
    let app = witness.start_http2("a1", Ipv4Addr::new(127, 0, 9, 21), slow);
    let calls = witness.start_http2("c1", Ipv4Addr::new(127, 0, 9, 22), slow);
    let world = World::new();
    for (name, protocol, pod, backend) in [("app", "http2", "a1", &app), ("calls", "grpc", "c1", &calls)] {
        let endpoints = [endpoint(pod, "v1", backend.address())];
        world.write(&format!("{name}.yaml"), &speaking_service_yaml("default", name, (protocol, 80), &endpoints));
    }
    let app = |method| Kind::new(method, "app", "/", "app");
    let kinds = vec![app("GET"), Kind::grpc("calls", "calls"), app("POST"), Kind::grpc("calls", "calls"), app("PUT")];
    let first = start(&world);
    let front = Front::new(first.address("outbound"));
    let (rate, stop) = (750.0, Arc::new(AtomicBool::new(false)));
    let pace = Duration::from_secs_f64(requests as f64 / rate) / (DRAINS as u32 + 1);
    // It goes on until the last proxy stands alone.
    let load = Http2Load { front, run: 1, requests: requests * 20, rate, connections: 8, kinds, stop };
    let (tally, ended) = thread::scope(|scope| {
        let sending = scope.spawn(|| load.run());
        eventually("the load to run", || (witness.entries().len() > 100).then_some(()));
        let (mut last, mut draining, began) = (first, Vec::new(), Instant::now());
        for round in 1..=DRAINS {
            let next = start(&world);
            load.front.move_to(next.address("outbound"));
            let drained = std::mem::replace(&mut last, next);
            drained.signal("TERM");
            draining.push(drained);
            pass_time((began + pace * round as u32).saturating_duration_since(Instant::now()));
        }
        let ended: Vec<_> = draining.iter_mut().map(end).collect();
        load.stop.store(true, Ordering::Relaxed);
        let tally = sending.join().expect("the load does not panic");
        last.assert_well();
        (tally, ended)
    });
    let account = Account::new(&tally.sent, &witness.entries(), &classes(&ALLOWED));
    println!("{} connections, {} sent again: {account}", tally.connections, tally.sent_again);
    assert_eq!(ended, [Some(0); DRAINS], "the ends of the programs");
    assert!(account.is_clean() && account.refused.is_empty() && account.ok == account.sent, "{account}");
    assert!(tally.connections > DRAINS, "nobody moved on: the race was not there");
}

/// The code with which a drained proxy ends: it has its time, and the load goes on all the while.
fn end(process: &mut Process) -> Option<i32> {
    within(Duration::from_secs(45), || process.ended()).as_ref().and_then(ExitStatus::code)
}
