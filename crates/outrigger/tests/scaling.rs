//! Pods come and go twenty times a second, and no request is lost for it.
//!
//! A Deployment is scaled up and down while clients ask it, through the anonymous outbound listener and from a workload of
//! the mesh. Everything must add up: what was sent, what was answered and by which pod, and what the metrics say. A pod
//! that is gone gets no request once the snapshot without it is in force.
//!
//! `OUTRIGGER_LEDGER_SECONDS` sets how long it goes on (3 by default).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use outrigger_testkit::ledger::{Account, Classes, Entry, Outcome, Sent};
use outrigger_testkit::metrics::{self, Sample};
use outrigger_testkit::{Client, Process, World, eventually, pass_time};
use serde_json::Value;

/// How many pods there are after each step, again and again; never none, or there would be nobody to ask.
const REPLICAS: [usize; 8] = [4, 1, 3, 2, 6, 2, 5, 1];

/// Between two steps.
const STEP: Duration = Duration::from_millis(50);

/// Requests a second of each client, and its connections.
const RATE: f64 = 80.0;
const CLIENTS: usize = 4;

/// The promise is 100 ms; a machine that is busy with other tests may hold a thread for longer than that.
const LATE_MAX: Duration = Duration::from_secs(2);

/// One way into the mesh, with what its clients did and when which generation was in force there.
struct Way {
    name: &'static str,
    outbound: SocketAddr,
    metrics: SocketAddr,
}

/// A request and its answer.
struct Exchange {
    sent: Sent,
    begun: Instant,
    ended: Instant,
    /// Who answered.
    pod: String,
    /// The id that the pod saw.
    seen: String,
}

/// A generation as a client saw it for the first time and for the last.
#[derive(Clone, Copy, Debug)]
struct Seen {
    generation: usize,
    first: Instant,
    last: Instant,
}

/// The Deployment, and in the same file an answer that tells which generation is in force.
fn app(generation: usize) -> String {
    let replicas = REPLICAS[generation % REPLICAS.len()];
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: app}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: app}}}}
  template:
    metadata: {{labels: {{app: app}}}}
    spec: {{containers: [{{name: app, image: app, ports: [{{containerPort: 8080}}]}}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: marker}}
spec:
  hosts: [marker]
  http:
  - directResponse: {{status: 200, body: {{string: \"{generation}\"}}}}
"
    )
}

const AROUND: &str = "apiVersion: v1
kind: Service
metadata: {name: app}
spec: {selector: {app: app}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: marker}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, labels: {app: client}}
spec: {containers: [{name: client, image: client}]}
";

/// The measure itself: a request to a pod that is gone is found out, and one that was under way is none.
#[test]
fn lateness_is_measured() {
    let start = Instant::now();
    let at = |ms: u64| start + Duration::from_millis(ms);
    let seen = |generation, first, last| Seen { generation, first: at(first), last: at(last) };
    // Four pods, then one, then three.
    let generations = [seen(0, 0, 99), seen(1, 100, 199), seen(2, 200, 300)];
    let late = |pod: &str, begun, ended| {
        let outcome = Outcome::Failed(String::new());
        let (id, class, latency) = (String::new(), "app".to_owned(), Duration::ZERO);
        let sent = Sent { id, class, method: "GET", reused: false, latency, outcome };
        let (begun, ended) = (at(begun), at(ended));
        lateness(&[Exchange { sent, begun, ended, pod: pod.to_owned(), seen: String::new() }], &generations).as_millis()
    };
    assert_eq!(late("app-3", 130, 140), 30, "sent to a pod that is gone");
    assert_eq!(late("app-3", 250, 260), 150, "gone for two generations");
    assert_eq!((late("app-3", 90, 140), late("app-0", 130, 140), late("app-2", 250, 260)), (0, 0, 0));
    assert_eq!(late("app-2", 198, 205), 0, "the next generation may have been in force");
    assert_eq!(late("app-2", 150, 160), 50, "it cannot have been that early");
}

#[test]
fn pods_come_and_go_and_no_request_is_lost() {
    let seconds: u64 = std::env::var("OUTRIGGER_LEDGER_SECONDS")
        .map_or(3, |text| text.parse().expect("OUTRIGGER_LEDGER_SECONDS is a number of seconds"));
    let world = World::new();
    world.write("around.yaml", AROUND);
    world.write("app.yaml", &app(0));
    let folder = world.path().display().to_string();
    let flags = ["--simulate", "-o", "json", "--admin", ":0", "--outbound", ":0", "--stats", ":0"];
    let mut process = Process::start(env!("CARGO_BIN_EXE_outrigger"), ["run", &folder].iter().chain(&flags));
    let ways = ways(&process);
    let stop = AtomicBool::new(false);
    let (exchanges, generations, steps) = thread::scope(|scope| {
        let spawn = |way: usize| {
            let (way, stop) = (&ways[way], &stop);
            let clients: Vec<_> = (0..CLIENTS).map(|n| scope.spawn(move || client(way, n, stop))).collect();
            (clients, scope.spawn(move || watch(way, stop)))
        };
        let spawned: Vec<_> = (0..ways.len()).map(spawn).collect();
        let steps = scale(&world, Duration::from_secs(seconds));
        // The last step must be in force while the clients are still at it.
        for way in &ways {
            eventually("the last step to be in force", || (generation(way)? == steps).then_some(()));
        }
        pass_time(STEP);
        stop.store(true, Ordering::Relaxed);
        let (mut exchanges, mut generations) = (Vec::new(), Vec::new());
        for (clients, watcher) in spawned {
            exchanges
                .push(clients.into_iter().flat_map(|c| c.join().expect("a client does not panic")).collect::<Vec<_>>());
            generations.push(watcher.join().expect("a watcher does not panic"));
        }
        (exchanges, generations, steps)
    });
    process.assert_well();
    for ((way, exchanges), generations) in ways.iter().zip(&exchanges).zip(&generations) {
        println!("{}: {} of {steps} steps were seen in force", way.name, generations.len());
        assert!(generations.len() * 4 > steps, "steps are in force before the next ones");
        reconcile(way, exchanges);
        let late = lateness(exchanges, generations);
        println!("{}: the last request to a removed pod was sent {late:?} after the snapshot without it", way.name);
        assert!(late < LATE_MAX, "{}: {late:?}", way.name);
    }
    stayed(&process, &exchanges);
}

/// The anonymous client and the workload.
fn ways(process: &Process) -> [Way; 2] {
    let pods = process.ready()["workloads"].as_array().expect("a list");
    let client = pods.iter().find(|pod| pod["pod"] == "client").expect("the pod of the input");
    let address = |member: &str| client[member].as_str().and_then(|text| text.parse().ok()).expect("an address");
    [
        Way { name: "anonymous", outbound: process.address("outbound"), metrics: process.address("metrics") },
        Way { name: "workload", outbound: address("outbound"), metrics: address("metrics") },
    ]
}

/// Scales the Deployment step by step, ending with the most pods; tells the last generation.
fn scale(world: &World, duration: Duration) -> usize {
    let steps = (duration.as_secs_f64() / STEP.as_secs_f64()) as usize;
    let begun = Instant::now();
    for generation in 1..=steps {
        pass_time((begun + STEP * generation as u32).saturating_duration_since(Instant::now()));
        world.write("app.yaml", &app(generation));
    }
    steps
}

/// Asks again and again until told to stop. Odd clients close their connection after each request.
fn client(way: &Way, number: usize, stop: &AtomicBool) -> Vec<Exchange> {
    let (mut exchanges, mut connection) = (Vec::new(), None);
    let begun = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let due = begun + Duration::from_secs_f64(exchanges.len() as f64 / RATE);
        pass_time(due.saturating_duration_since(Instant::now()));
        let id = format!("{}.{number}.{}", way.name, exchanges.len());
        exchanges.push(ask(way, id, number % 2 == 1, &mut connection));
    }
    exchanges
}

fn ask(way: &Way, id: String, closes: bool, connection: &mut Option<Client>) -> Exchange {
    let begun = Instant::now();
    let end = if closes { "connection: close\r\n\r\n" } else { "\r\n" };
    let request = format!("GET / HTTP/1.1\r\nhost: app\r\nx-ledger-id: {id}\r\n{end}");
    let kept = connection.take().filter(|connection| !connection.is_spent());
    let reused = kept.is_some();
    let (mut pod, mut seen) = (String::new(), String::new());
    let outcome = match kept.map_or_else(|| Client::connect(way.outbound), Ok) {
        Err(error) => Outcome::NotSent(error.to_string()),
        Ok(mut client) => {
            client.set_patience(Duration::from_secs(20));
            match client.exchange(request.as_bytes()) {
                Err(error) => Outcome::Failed(error.to_string()),
                Ok(answer) => {
                    let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                    pod = told["pod"].as_str().unwrap_or_default().to_owned();
                    seen = told["headers"]["x-ledger-id"][0].as_str().unwrap_or_default().to_owned();
                    *connection = Some(client).filter(|_| !closes && !answer.closes());
                    Outcome::Answered {
                        status: answer.status,
                        id: seen.clone(),
                        backend: pod.clone(),
                        is_intact: told["host"] == "app",
                        cause: answer.fields.get("proxy-status").unwrap_or_default().to_owned(),
                    }
                }
            }
        }
    };
    let ended = Instant::now();
    let sent = Sent { id, class: "app".to_owned(), method: "GET", reused, latency: ended - begun, outcome };
    Exchange { sent, begun, ended, pod, seen }
}

/// Which generation is in force.
fn generation(way: &Way) -> Option<usize> {
    get(way.outbound, "marker", "/")?.parse().ok()
}

/// Notes when which generation was in force, until told to stop.
fn watch(way: &Way, stop: &AtomicBool) -> Vec<Seen> {
    let mut all: Vec<Seen> = Vec::new();
    let mut client = Client::connect(way.outbound).expect("it listens");
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        client.set_patience(Duration::from_secs(20));
        let answer = client.exchange(b"GET / HTTP/1.1\r\nhost: marker\r\n\r\n").expect("an answer");
        let generation = answer.text().parse().expect("a generation");
        match all.last_mut().filter(|seen| seen.generation == generation) {
            // It was in force at some time between question and answer: the question is what is certain.
            Some(seen) => seen.last = asked,
            None => all.push(Seen { generation, first: Instant::now(), last: asked }),
        }
        pass_time(Duration::from_millis(1));
    }
    all
}

/// Everything that was sent was answered, once, and the proxy counted the same.
fn reconcile(way: &Way, exchanges: &[Exchange]) {
    let sent: Vec<Sent> = exchanges.iter().map(|exchange| exchange.sent.clone()).collect();
    let entry = |exchange: &Exchange| Entry {
        id: exchange.seen.clone(),
        backend: exchange.pod.clone(),
        method: "GET".to_owned(),
        is_intact: true,
    };
    let entries: Vec<Entry> = exchanges.iter().filter(|exchange| !exchange.seen.is_empty()).map(entry).collect();
    let most = REPLICAS.iter().max().copied().unwrap_or_default();
    let classes: Classes = (0..most).map(|n| (format!("app-{n}"), vec!["app".to_owned()])).collect();
    let account = Account::new(&sent, &entries, &classes);
    println!("{}: {account}", way.name);
    assert!(account.is_clean() && account.refused.is_empty() && account.ok == sent.len(), "{}: {account}", way.name);
    let labels = [("reporter", "source"), ("destination_service_name", "app"), ("response_code", "200")];
    let counted = || {
        let counted = metrics::sum(&scrape(way.metrics), "istio_requests_total", &labels);
        (counted == sent.len() as f64).then_some(())
    };
    eventually(&format!("istio_requests_total of {} to be {}", way.name, sent.len()), counted);
}

/// How long after the snapshot without a pod a request to it was still sent, at most.
fn lateness(exchanges: &[Exchange], generations: &[Seen]) -> Duration {
    let has = |seen: &Seen, pod: &str| {
        let number: usize = pod.strip_prefix("app-").and_then(|number| number.parse().ok()).expect("a pod of app");
        number < REPLICAS[seen.generation % REPLICAS.len()]
    };
    let late = |exchange: &Exchange| -> Option<Duration> {
        let at = generations.partition_point(|seen| seen.first <= exchange.begun);
        let without = generations[..at].iter().rev().take_while(|seen| !has(seen, &exchange.pod)).last()?;
        // The next one may have been in force already when the pod was asked.
        let is_next = generations[..at].last().is_some_and(|seen| exchange.ended > seen.last);
        let next_has = generations.get(at).is_some_and(|next| has(next, &exchange.pod));
        (!(is_next && next_has)).then(|| exchange.begun - without.first)
    };
    exchanges.iter().filter_map(late).max().unwrap_or_default()
}

/// The pod that was always there counted what the clients say it answered.
fn stayed(process: &Process, exchanges: &[Vec<Exchange>]) {
    let mut answers = BTreeMap::<&str, usize>::new();
    for exchange in exchanges.iter().flatten() {
        *answers.entry(&exchange.pod).or_default() += 1;
    }
    println!("answers by pod: {answers:?}");
    assert!(answers.len() > 1, "pods that came were never asked");
    let pods = process.ready()["workloads"].as_array().expect("a list");
    let pod = pods.iter().find(|pod| pod["pod"] == "app-0").expect("the pod of the input");
    let address = pod["metrics"].as_str().and_then(|text| text.parse().ok()).expect("an address");
    let wanted = answers["app-0"] as f64;
    let counted = || {
        let labels = [("reporter", "destination"), ("response_code", "200")];
        (metrics::sum(&scrape(address), "istio_requests_total", &labels) == wanted).then_some(())
    };
    eventually(&format!("istio_requests_total at app-0 to be {wanted}"), counted);
}

fn scrape(address: SocketAddr) -> Vec<Sample> {
    metrics::parse(&get(address, "metrics", "/stats/prometheus").expect("metrics"))
}

/// The body of an answer, on a connection of its own.
fn get(address: SocketAddr, host: &str, target: &str) -> Option<String> {
    let request = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    Some(Client::connect(address).ok()?.exchange(request.as_bytes()).ok()?.text())
}
