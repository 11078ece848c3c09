//! Backends that the network takes away: peers that vanish without a word, connections that nobody answers, endpoints that
//! flap, packets that get lost. Each with its figure: what is lost, and when it is noticed.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use outrigger_testkit::ledger::{Account, Entry, Kind, Load, Manner, Sent, Witness, classes};
use outrigger_testkit::{Client, pass_time};

use super::MESH;
use super::pod::{Pod, shell, within};

/// Where the endpoints are: the first has the faults.
const HOSTS: [Ipv4Addr; 3] = [Ipv4Addr::new(10, 1, 0, 4), Ipv4Addr::new(10, 1, 0, 5), Ipv4Addr::new(10, 1, 0, 6)];

/// Gives the namespace the endpoints' addresses.
fn arrange() {
    let hosts = HOSTS.map(|host| host.to_string()).join(" ");
    shell(&format!("ip link set lo up; for address in {hosts}; do ip address add $address/32 dev lo; done"));
}

/// The packets to an endpoint, and those from it.
fn of(endpoint: SocketAddr) -> [String; 2] {
    let (ip, port) = (endpoint.ip(), endpoint.port());
    [format!("-d {ip} --dport {port}"), format!("-s {ip} --sport {port}")]
}

/// Adds rules for such packets (`-I`), or takes them away (`-D`).
fn change(command: &str, packets: &[String], target: &str) {
    for packets in packets {
        shell(&format!("iptables {command} INPUT -p tcp {packets} -j {target}"));
    }
}

/// A service with an address, and these endpoints in turn.
fn service(name: &str, address: &str, protocol: &str, endpoints: &[SocketAddr], policy: &str) -> String {
    let mut yaml = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{clusterIP: {address}, ports: [{{name: {protocol}, port: 8000}}]}}\n\
         ---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec:\n  host: {name}\n  trafficPolicy:\n    loadBalancer: {{simple: ROUND_ROBIN}}\n    \
         connectionPool: {{tcp: {{connectTimeout: 1s}}}}\n{policy}"
    );
    for (number, endpoint) in endpoints.iter().enumerate() {
        write!(
            yaml,
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: {name}-{number}, namespace: shop, labels: {{kubernetes.io/service-name: {name}}}}}\n\
             addressType: IPv4\nports: [{{name: {protocol}, port: {}}}]\n\
             endpoints: [{{addresses: ['{}'], conditions: {{ready: true}}}}]\n",
            endpoint.port(),
            endpoint.ip()
        )
        .expect("writing to a string succeeds");
    }
    yaml
}

/// A load on service `flaky`, whose address is 10.96.0.20.
fn load(run: u32, requests: usize, rate: f64, workers: usize, methods: &[&'static str]) -> Load {
    let proxy = "10.96.0.20:8000".parse().expect("an address");
    let kinds = methods.iter().map(|method| Kind::new(method, "flaky.shop", "/", "any")).collect();
    Load { proxy, run, requests, rate, workers, kinds, stop: Arc::new(AtomicBool::new(false)) }
}

/// How the requests of one run add up.
fn account(run: u32, sent: &[Sent], entries: &[Entry]) -> Account {
    let is_of_run = |id: &str| id.starts_with(&format!("{run}."));
    let entries: Vec<_> = entries.iter().filter(|entry| is_of_run(&entry.id)).cloned().collect();
    let account = Account::new(sent, &entries, &classes(&[("a", &["any"]), ("b", &["any"]), ("c", &["any"])]));
    println!("run {run}: {account}");
    account
}

/// Requests at the same time, each on a connection of its own; the status and the time of each.
fn ask_at_once(address: &str, request: &str, count: usize) -> Vec<(u16, Duration)> {
    let address: SocketAddr = address.parse().expect("an address");
    thread::scope(|scope| {
        let ask = |_| {
            scope.spawn(move || {
                let started = Instant::now();
                let mut client = Client::connect(address).expect("the sidecar takes it");
                client.set_patience(Duration::from_secs(45));
                let answer = client.exchange(request.as_bytes()).expect("an answer");
                (answer.status, started.elapsed())
            })
        };
        let asking: Vec<_> = (0..count).map(ask).collect();
        asking.into_iter().map(|asking| asking.join().expect("a client does not panic")).collect()
    })
}

/// Connections to a peer that is gone, and said nothing: over HTTP/2 it is missed after 13 s, by a PING that has no answer;
/// over HTTP/1 after 30 s, by bytes that nobody acknowledges. What was on its way and may be done twice is answered by the
/// other.
#[test]
fn peers_that_vanish_are_missed_and_nothing_is_lost() {
    within("backends::peers_that_vanish_are_missed_and_nothing_is_lost", || {
        arrange();
        let witness = Witness::default();
        let old = [0, 1].map(|n| witness.start(["a", "b"][n], HOSTS[n]));
        let new = [0, 1].map(|n| witness.start_http2(["a", "b"][n], HOSTS[n], Manner::Steady));
        let yaml = MESH.to_owned()
            + &service("old", "10.96.0.20", "http", &[old[0].1, old[1].1], "")
            + &service("new", "10.96.0.21", "http2", &[new[0].address(), new[1].address()], "");
        let mut pod = Pod::start(&yaml);
        let request = |method: &str, host: &str, id: &str| {
            format!("{method} / HTTP/1.1\r\nhost: {host}.shop\r\nx-ledger-id: {id}\r\ncontent-length: 0\r\n\r\n")
        };
        let services = [("old", "10.96.0.20:8000", 30), ("new", "10.96.0.21:8000", 13)];
        // Each worker has kept connections to both.
        for (host, address, _) in services {
            for _ in 0..10 {
                let answers = ask_at_once(address, &request("GET", host, "early"), 4);
                assert!(answers.iter().all(|(status, _)| *status == 200), "{host}: {answers:?}");
            }
        }
        for gone in [old[0].1, new[0].address()] {
            change("-I", &of(gone), "DROP");
        }
        thread::scope(|scope| {
            for (host, address, noticed_s) in services {
                scope.spawn(move || {
                    let answers = ask_at_once(address, &request("GET", host, "late"), 12);
                    println!("{host}: {answers:?}");
                    assert!(answers.iter().all(|(status, _)| *status == 200), "{host}: {answers:?}");
                    // Once it is missed, one more connection is tried, for as long as a connection may take.
                    let longest = answers.iter().map(|(_, time)| *time).max().expect("twelve answers");
                    assert!(longest < Duration::from_secs(noticed_s + 3), "{host}: {longest:?}");
                    assert!(longest > Duration::from_secs(noticed_s - 3), "{host}: nobody met the peer that vanished");
                    // From then on nobody waits for more than a connection.
                    let after = ask_at_once(address, &request("POST", host, "after"), 12);
                    println!("{host}, after: {after:?}");
                    let limit = Duration::from_millis(2500);
                    assert!(after.iter().all(|(status, time)| *status == 200 && *time < limit), "{host}: {after:?}");
                });
            }
        });
        pod.assert_well();
    });
}

/// Ejects after three failures in a row, for as long as a test lasts.
const EJECTING: &str = "    outlierDetection: {consecutive5xxErrors: 3, interval: 1s, baseEjectionTime: 60s, \
                        maxEjectionPercent: 50}\n";

/// An endpoint that answers no SYN: three requests pay the connect timeout of 1 s, then it is ejected; nothing is lost,
/// whatever the method.
#[test]
fn a_black_hole_costs_three_connect_timeouts_and_no_request() {
    within("backends::a_black_hole_costs_three_connect_timeouts_and_no_request", || {
        arrange();
        let witness = Witness::default();
        let started = [0, 1, 2].map(|n| witness.start(["a", "b", "c"][n], HOSTS[n]));
        change("-I", &[format!("--syn {}", of(started[0].1)[0])], "DROP");
        let endpoints = [started[0].1, started[1].1, started[2].1];
        let mut pod = Pod::start(&(MESH.to_owned() + &service("flaky", "10.96.0.20", "http", &endpoints, EJECTING)));
        let sent = load(1, 200, 50.0, 1, &["GET", "POST", "PUT"]).run();
        let account = account(1, &sent, &witness.entries());
        assert!(account.is_clean() && account.ok == 200 && account.repeated == 0, "{account}");
        let metric = |name| pod.metric(name, &[]);
        assert_eq!(metric("envoy_cluster_upstream_cx_connect_timeout"), 3, "tries that met it");
        assert_eq!(metric("envoy_cluster_outlier_detection_ejections_enforced_total"), 1);
        let last = sent[150..].iter().map(|request| request.latency).max().expect("fifty requests");
        assert!(last < Duration::from_millis(500), "{last:?}");
        pod.assert_well();
    });
}

/// An endpoint that comes and goes ten times a second, with all its connections: what may be done twice is never lost, and
/// what may not is never sent twice.
#[test]
fn an_endpoint_that_flaps_loses_nothing_that_may_be_done_twice() {
    within("backends::an_endpoint_that_flaps_loses_nothing_that_may_be_done_twice", || {
        arrange();
        let witness = Witness::default();
        let started = [0, 1].map(|n| witness.start(["a", "b"][n], HOSTS[n]));
        let endpoints = [started[0].1, started[1].1];
        let mut pod = Pod::start(&(MESH.to_owned() + &service("flaky", "10.96.0.20", "http", &endpoints, "")));
        let safe = load(1, 2000, 400.0, 8, &["GET", "PUT", "DELETE", "GET"]);
        let once = load(2, 500, 100.0, 4, &["POST"]);
        let over = AtomicBool::new(false);
        let (safe, once, flaps) = thread::scope(|scope| {
            let running = [&safe, &once].map(|load| scope.spawn(|| load.run()));
            let flapping = scope.spawn(|| {
                let mut flaps = 0;
                while !over.load(Ordering::Relaxed) {
                    for command in ["-I", "-D"] {
                        change(command, &of(endpoints[0])[..1], "REJECT --reject-with tcp-reset");
                        pass_time(Duration::from_millis(50));
                    }
                    flaps += 1;
                }
                flaps
            });
            let [safe, once] = running.map(|load| load.join().expect("a load does not panic"));
            over.store(true, Ordering::Relaxed);
            (safe, once, flapping.join().expect("rules can be set"))
        });
        assert!(flaps > 10, "{flaps} flaps");
        let entries = witness.entries();
        let safe = account(1, &safe, &entries);
        assert!(safe.is_clean() && safe.ok == 2000, "{safe}");
        assert!(safe.by_backend["a"] > 100, "it was used whenever it was there: {safe}");
        let once = account(2, &once, &entries);
        let told = Account { lost: Vec::new(), ..once.clone() };
        assert!(told.is_clean() && told.by_status.keys().all(|status| matches!(status, 200 | 503)), "{once}");
        assert_eq!(told.by_status.values().sum::<usize>(), 500, "everything is answered: {once}");
        assert!(once.lost.len() < 50, "connections that are refused cost nobody anything: {once}");
        pod.assert_well();
    });
}

/// Every twentieth packet from and to all endpoints is lost: nothing else is.
#[test]
fn packets_that_get_lost_lose_no_request() {
    within("backends::packets_that_get_lost_lose_no_request", || {
        arrange();
        let witness = Witness::default();
        let started = [0, 1].map(|n| witness.start(["a", "b"][n], HOSTS[n]));
        let endpoints = [started[0].1, started[1].1];
        let mut pod = Pod::start(&(MESH.to_owned() + &service("flaky", "10.96.0.20", "http", &endpoints, "")));
        for packets in endpoints.into_iter().flat_map(of) {
            change("-I", &[format!("{packets} -m statistic --mode random --probability 0.05")], "DROP");
        }
        let sent = load(1, 800, 200.0, 8, &["GET", "PUT", "POST"]).run();
        let account = account(1, &sent, &witness.entries());
        assert!(account.is_clean() && account.ok == 800, "{account}");
        pod.assert_well();
    });
}
