//! No request is lost: over reloads, over connections that die when they are used again, and over a drain.
//!
//! `OUTRIGGER_LEDGER_REQUESTS` sets how many requests the ledgers of reloads and of drains over HTTP/2 send (10,000 by
//! default).

mod faults;
mod http2;
mod reuse;

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use outrigger_testkit::ledger::{Account, Kind, Load, Witness, answer, classes};
use outrigger_testkit::metrics::{self, Sample};
use outrigger_testkit::{
    Backend, Client, Endpoint, Process, Reply, World, eventually, pass_time, service_yaml, speaking_service_yaml,
    virtual_service_yaml, within,
};

/// Whose turn it is. What asks at a rate of its own goes beside others of its kind; what takes all that the machine has goes alone.
static TURNS: RwLock<()> = RwLock::new(());

fn beside_others() -> RwLockReadGuard<'static, ()> {
    TURNS.read().unwrap_or_else(PoisonError::into_inner)
}

fn alone() -> RwLockWriteGuard<'static, ()> {
    TURNS.write().unwrap_or_else(PoisonError::into_inner)
}

/// The program under test. `OUTRIGGER_UNDER_TEST` puts another build in its place.
fn start(world: &World) -> Process {
    let binary = std::env::var("OUTRIGGER_UNDER_TEST").unwrap_or_else(|_| env!("CARGO_BIN_EXE_outrigger").to_owned());
    let folder = world.path().display().to_string();
    Process::start(binary, ["run", &folder, "-o", "json", "--admin", ":0", "--outbound", ":0", "--stats", ":0"])
}

fn endpoint(pod: &str, version: &str, address: SocketAddr) -> Endpoint {
    Endpoint { address, pod: pod.to_owned(), version: version.to_owned() }
}

/// How many requests a ledger sends.
fn requests() -> usize {
    std::env::var("OUTRIGGER_LEDGER_REQUESTS")
        .map_or(10_000, |text| text.parse().expect("OUTRIGGER_LEDGER_REQUESTS is a number of requests"))
}

/// Asks `target` of `host` on a connection of its own.
fn get(address: SocketAddr, host: &str, target: &str) -> Option<String> {
    let request = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    Some(Client::connect(address).ok()?.exchange(request.as_bytes()).ok()?.text())
}

fn scrape(process: &Process) -> Vec<Sample> {
    metrics::parse(&get(process.address("metrics"), "metrics", "/stats/prometheus").expect("metrics"))
}

/// The folder of the reload ledger: service `app` with versions v1 and v2 by header or by weight, and service `other`.
struct Mesh {
    world: World,
    /// What `app` speaks, by the name of its port.
    protocol: &'static str,
    app: [Endpoint; 4],
}

/// How often the folder is written again.
const REWRITES: u32 = 50;

impl Mesh {
    fn new(protocol: &'static str, app: [Endpoint; 4]) -> Self {
        let mesh = Self { world: World::new(), protocol, app };
        mesh.world.write("marker-service.yaml", &service_yaml("default", "marker", 80, &[]));
        mesh.write_endpoints(true);
        mesh.write_routes(50);
        mesh.write_subsets(0);
        mesh.write_generation(0);
        mesh
    }

    /// With all endpoints, or with one of each version.
    fn write_endpoints(&self, all: bool) {
        let [v1a, v1b, v2a, v2b] = self.app.clone();
        let endpoints = if all { vec![v1a, v1b, v2a, v2b] } else { vec![v1a, v2a] };
        self.world.write("app.yaml", &speaking_service_yaml("default", "app", (self.protocol, 80), &endpoints));
    }

    fn write_routes(&self, v1_weight: u32) {
        let v2_weight = 100 - v1_weight;
        let http = format!(
            "  - match: [{{headers: {{x-version: {{exact: v1}}}}}}]\n    route: [{{destination: {{host: app, subset: \
             v1}}}}]\n  - match: [{{headers: {{x-version: {{exact: v2}}}}}}]\n    route: [{{destination: {{host: app, \
             subset: v2}}}}]\n  - route:\n    - {{destination: {{host: app, subset: v1}}, weight: {v1_weight}}}\n    - \
             {{destination: {{host: app, subset: v2}}, weight: {v2_weight}}}\n"
        );
        self.world.write("routes.yaml", &virtual_service_yaml("default", "app", "app", &http));
    }

    fn write_subsets(&self, round: u32) {
        let policy = ["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM"][round as usize % 3];
        self.world.write(
            "subsets.yaml",
            &format!(
                "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: app, namespace: \
                 default}}\nspec:\n  host: app\n  trafficPolicy: {{loadBalancer: {{simple: {policy}}}}}\n  subsets:\n  \
                 - {{name: v1, labels: {{version: v1}}}}\n  - {{name: v2, labels: {{version: v2}}}}\n  - {{name: \
                 spare-{round}, labels: {{version: none}}}}\n"
            ),
        );
    }

    /// An answer that tells which configuration is in force.
    fn write_generation(&self, generation: u32) {
        let http = format!("  - directResponse: {{status: 200, body: {{string: \"generation {generation}\"}}}}\n");
        self.world.write("marker.yaml", &virtual_service_yaml("default", "marker", "marker", &http));
    }

    /// One rewrite: endpoints, weights, subsets, a file that is no YAML, and objects that are broken, in turn.
    fn rewrite(&self, round: u32) {
        match round % 5 {
            0 => self.write_endpoints(round.is_multiple_of(10)),
            1 => self.write_routes([10, 50, 90][round as usize / 5 % 3]),
            2 => self.write_subsets(round),
            3 => drop(self.world.write("broken.yaml", "kind: [Service\n  {: }\n")),
            _ => {
                let broken = "  - route: [{destination: {host: app, subset: v1}, weight: -7}]\n";
                self.world.write("routes.yaml", &virtual_service_yaml("default", "app", "app", broken));
                self.world.remove("broken.yaml");
            }
        }
        self.write_generation(round);
    }

    /// All rewrites, spread over a time.
    fn rewrite_all(&self, time: Duration) {
        let (start, between) = (Instant::now(), time / (REWRITES + 1));
        for round in 1..=REWRITES {
            pass_time((start + between * round).saturating_duration_since(Instant::now()));
            self.rewrite(round);
        }
    }

    fn await_last(proxy: SocketAddr) {
        let wanted = format!("generation {REWRITES}");
        eventually("the last rewrite to be in force", || get(proxy, "marker", "/").filter(|text| *text == wanted));
    }
}

#[test]
fn reloads_lose_nothing() {
    let _turn = beside_others();
    let requests = requests();
    let witness = Witness::default();
    let started = [1, 2, 3, 4, 5]
        .map(|n| witness.start(["a1", "a2", "b1", "b2", "o1"][n - 1], Ipv4Addr::new(127, 0, 9, n as u8)));
    let address = |n: usize| started[n].1;
    let app = [
        endpoint("a1", "v1", address(0)),
        endpoint("a2", "v1", address(1)),
        endpoint("b1", "v2", address(2)),
        endpoint("b2", "v2", address(3)),
    ];
    let mesh = Mesh::new("http", app);
    mesh.world.write("other.yaml", &service_yaml("default", "other", 80, &[endpoint("o1", "v1", address(4))]));
    let mut process = start(&mesh.world);
    let proxy = process.address("outbound");
    let app = |method, class: &str| Kind::new(method, "app.default", "/", class);
    let kinds = vec![
        app("GET", "app"),
        app("GET", "v1").with("x-version", "v1"),
        app("POST", "app"),
        app("GET", "v2").with("x-version", "v2"),
        Kind::new("PUT", "other", "/", "other"),
        app("POST", "v2").with("x-version", "v2"),
        Kind::new("GET", "other.default.svc.cluster.local", "/", "other"),
    ];
    let (rate, stop) = (1_500.0, Arc::new(AtomicBool::new(false)));
    let load = Load { proxy, run: 1, requests, rate, workers: 24, kinds, stop };
    let sent = thread::scope(|scope| {
        let load = scope.spawn(|| load.run());
        mesh.rewrite_all(Duration::from_secs_f64(requests as f64 / rate));
        load.join().expect("the load does not panic")
    });
    Mesh::await_last(proxy);
    let entries = witness.entries();
    let allowed = [
        ("a1", ["app", "v1"]),
        ("a2", ["app", "v1"]),
        ("b1", ["app", "v2"]),
        ("b2", ["app", "v2"]),
        ("o1", ["other", ""]),
    ];
    let account = Account::new(&sent, &entries, &classes(&allowed.each_ref().map(|(name, of)| (*name, of.as_slice()))));
    println!("{account}");
    assert!(account.is_clean() && account.refused.is_empty() && account.ok == requests, "{account}");
    process.assert_well();

    // The proxy's own counters tell the same story: by service, and by endpoint.
    let of_service = |name: &str| sent.iter().filter(|request| (request.class == "other") == (name == "other")).count();
    for service in ["app", "other"] {
        let labels = [("reporter", "source"), ("destination_service_name", service), ("response_code", "200")];
        let wanted = of_service(service) as f64;
        let counted =
            || Some(metrics::sum(&scrape(&process), "istio_requests_total", &labels)).filter(|sum| *sum == wanted);
        eventually(&format!("istio_requests_total of {service} to be {wanted}"), counted);
    }
    let by_endpoint = metrics::sum_by(&scrape(&process), "outrigger_endpoint_requests_total", "endpoint");
    for name in ["a1", "a2", "b1", "b2", "o1"] {
        let seen = entries.iter().filter(|entry| entry.backend == name).count() as f64;
        let counted = by_endpoint.get(name).copied().unwrap_or_default();
        assert_eq!(counted, seen, "outrigger_endpoint_requests_total of {name} in {by_endpoint:?}");
    }
}

/// A backend that answers the first request of each connection and dies on the second: it has read it, and says nothing.
fn dies_when_used_again(witness: &Witness, resets: bool) -> Backend {
    let witness = witness.share();
    Backend::start_unrecorded(Ipv4Addr::LOCALHOST, move |request| match request.sequence {
        0 => {
            witness.record(request, "a1");
            Reply::Keep(answer(request, "a1"))
        }
        _ => {
            witness.record(request, "a1");
            if resets { Reply::Reset(Vec::new()) } else { Reply::Close(Vec::new()) }
        }
    })
}

/// The race between using a connection again and its end, forced every time.
#[test]
fn connections_that_die_when_used_again_lose_nothing() {
    let _turn = beside_others();
    for resets in [false, true] {
        let witness = Witness::default();
        let backend = dies_when_used_again(&witness, resets);
        let world = World::new();
        world.write("app.yaml", &service_yaml("default", "app", 80, &[endpoint("a1", "v1", backend.address())]));
        let mut process = start(&world);
        let classes = classes(&[("a1", &["app"])]);
        let send = |run: u32, methods: &[&'static str]| {
            let kinds = methods.iter().map(|method| Kind::new(method, "app", "/", "app")).collect();
            let (proxy, stop) = (process.address("outbound"), Arc::new(AtomicBool::new(false)));
            Load { proxy, run, requests: 400, rate: 800.0, workers: 4, kinds, stop }.run()
        };
        let idempotent = send(1, &["GET", "HEAD", "PUT", "DELETE"]);
        let seen = witness.entries();
        let account = Account::new(&idempotent, &seen, &classes);
        println!("resets: {resets}: {account}");
        assert!(account.is_clean() && account.ok == 400, "resets: {resets}: {account}");
        assert!(account.repeated > 0, "no connection was used again: the race was not there");
        // What is not idempotent may fail, once, and is never sent twice.
        let others = send(2, &["POST"]);
        let seen: Vec<_> = witness.entries().split_off(seen.len());
        let account = Account::new(&others, &seen, &classes);
        println!("resets: {resets}: {account}");
        assert!(
            account.duplicated.is_empty() && account.corrupted.is_empty() && account.cross_talk.is_empty(),
            "{account}"
        );
        assert_eq!(account.ok + account.lost.len(), 400, "{account}");
        assert!(account.by_status.keys().all(|status| matches!(status, 200 | 502 | 503)), "{account}");
        process.assert_well();
    }
}

/// The same race as it comes by nature: the backend closes what is idle just when it is used again.
#[test]
fn connections_that_idle_out_lose_nothing() {
    let _turn = beside_others();
    let witness = Witness::default();
    let shared = witness.share();
    let backend = Backend::start_impatient(Duration::from_millis(16), move |request| {
        shared.record(request, "a1");
        Reply::Keep(answer(request, "a1"))
    });
    let world = World::new();
    world.write("app.yaml", &service_yaml("default", "app", 80, &[endpoint("a1", "v1", backend.address())]));
    let mut process = start(&world);
    let kinds = vec![Kind::new("GET", "app", "/", "app")];
    let (proxy, stop) = (process.address("outbound"), Arc::new(AtomicBool::new(false)));
    // One client asks every 20 ms, about when the timeout fires as the kernel rounds it; more would keep connections busy.
    let load = Load { proxy, run: 1, requests: 300, rate: 50.0, workers: 1, kinds, stop };
    let account = Account::new(&load.run(), &witness.entries(), &classes(&[("a1", &["app"])]));
    println!("{} connections: {account}", backend.connections());
    assert!(account.is_clean() && account.ok == 300, "{account}");
    assert!(backend.connections() > 5, "no connection idled out: the race was not there");
    process.assert_well();
}

/// A backend that resets in the middle of an upload: 502 at once, and no half request is sent again.
#[test]
fn a_broken_upload_is_told_at_once() {
    let _turn = beside_others();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
    let address = listener.local_addr().expect("a bound listener has an address");
    let accepted = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the proxy connects");
        let mut block = vec![0; 32 * 1024];
        stream.read_exact(&mut block).expect("the upload begins");
        drop(stream); // Unread bytes make this a reset.
        listener.set_nonblocking(true).expect("a flag");
        within(Duration::from_millis(300), || listener.accept().ok()).is_some()
    });
    let world = World::new();
    world.write("app.yaml", &service_yaml("default", "app", 80, &[endpoint("a1", "v1", address)]));
    let mut process = start(&world);
    let mut client = Client::connect(process.address("outbound")).expect("it listens");
    let head = "POST / HTTP/1.1\r\nhost: app\r\ncontent-length: 1048576\r\n\r\n";
    let _ = client.send(&[head.as_bytes(), &vec![b'x'; 1024 * 1024]].concat());
    let start = Instant::now();
    let answer = client.read_response("POST").expect("an answer");
    assert!(matches!(answer.status, 502 | 503), "{}", answer.status);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert!(!accepted.join().expect("the backend does not panic"), "the upload was tried again");
    process.assert_well();
}

/// SIGTERM under load: whatever was sent is answered; then the program ends in good order.
#[test]
fn a_drain_loses_nothing() {
    let _turn = beside_others();
    let witness = Witness::default();
    let shared = witness.share();
    let backend = Backend::start_unrecorded(Ipv4Addr::LOCALHOST, move |request| {
        shared.record(request, "a1");
        // Long enough that some requests are under way whenever the signal comes.
        pass_time(Duration::from_millis(20));
        Reply::Keep(answer(request, "a1"))
    });
    let world = World::new();
    world.write("app.yaml", &service_yaml("default", "app", 80, &[endpoint("a1", "v1", backend.address())]));
    let mut process = start(&world);
    let kinds = vec![Kind::new("GET", "app", "/", "app"), Kind::new("POST", "app", "/", "app")];
    let (proxy, stop) = (process.address("outbound"), Arc::new(AtomicBool::new(false)));
    let load = Load { proxy, run: 1, requests: 20_000, rate: 500.0, workers: 24, kinds, stop: stop.clone() };
    let (sent, status) = thread::scope(|scope| {
        let load = scope.spawn(|| load.run());
        eventually("the load to run", || (witness.entries().len() > 300).then_some(()));
        process.signal("TERM");
        // The drain may take its 30 s; the load goes on all the while.
        let status = within(Duration::from_secs(45), || process.ended());
        stop.store(true, Ordering::Relaxed);
        (load.join().expect("the load does not panic"), status)
    });
    let account = Account::new(&sent, &witness.entries(), &classes(&[("a1", &["app"])]));
    println!("{account}");
    assert_eq!(status.and_then(|status| status.code()), Some(0), "the end of the program");
    assert!(account.is_clean() && account.ok == account.sent, "{account}");
}
