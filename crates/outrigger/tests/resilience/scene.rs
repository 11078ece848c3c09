//! What the scenes share: replicas that fail on command, clients that never stop asking, and the proxy under test with what
//! it tells.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use outrigger_testkit::metrics::{self, Sample};
use outrigger_testkit::{
    Backend, Client, Endpoint, Process, Reply, Request, World, eventually, pass_time, response, speaking_service_yaml,
};

pub(crate) const OUTRIGGER: &str = env!("CARGO_BIN_EXE_outrigger");
const FREE_PORTS: [&str; 9] = ["-o", "json", "--admin", ":0", "--outbound", ":0", "--stats", ":0", "--concurrency=2"];

/// A proxy on a folder of its own.
pub(crate) struct Scene {
    pub(crate) process: Process,
    _world: World,
}

impl Scene {
    /// Starts the program on a manifest, which it must find nothing wrong with.
    pub(crate) fn start(yaml: &str, flags: &[&str]) -> Self {
        let world = World::new();
        world.write("scene.yaml", yaml);
        let path = world.path().display().to_string();
        let process = Process::start(OUTRIGGER, ["run", &path].iter().chain(&FREE_PORTS).chain(flags));
        let findings = process.ready()["diagnostics"].as_array().expect("a list");
        assert!(findings.iter().all(|finding| finding["level"] == "info"), "the manifest is in force: {findings:#?}");
        Self { process, _world: world }
    }

    /// All that is exposed now.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        let mut client = Client::connect(self.process.address("metrics")).expect("metrics are served");
        let answer = client.exchange(b"GET /stats/prometheus HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        metrics::parse(&answer.expect("an exposition").text())
    }

    /// The sum of a metric now.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        metrics::sum(&self.samples(), name, labels)
    }

    /// Waits until a metric has a value of at least this.
    pub(crate) fn until(&self, name: &str, labels: &[(&str, &str)], at_least: f64) {
        let reached = || (self.sum(name, labels) >= at_least).then_some(());
        eventually(&format!("{name}{labels:?} >= {at_least}"), reached);
    }

    /// Lines of the log with all of these words, each with its second of the day.
    pub(crate) fn log(&self, words: &[&str]) -> Vec<(f64, String)> {
        let said = self.process.stderr();
        let with = |line: &&str| words.iter().all(|word| line.contains(word));
        said.lines().filter(with).map(|line| (second_of_line(line), line.to_owned())).collect()
    }
}

/// What is wrong with a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It answers with this status.
    Status(u16),
    /// It resets the connection instead of an answer.
    Resets,
    /// It is gone: nobody listens.
    Gone,
}

/// One call as a replica saw it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) second: f64,
    pub(crate) is_good: bool,
}

/// A backend that fails on command.
pub(crate) struct Replica {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    fault: Arc<Mutex<Option<Fault>>>,
    calls: Arc<Mutex<Vec<Call>>>,
    backend: Option<Backend>,
}

impl Replica {
    /// So many of a service, called `NAME-0` and so on.
    pub(crate) fn some(service: &str, count: usize) -> Vec<Self> {
        (0..count).map(|number| Self::start(format!("{service}-{number}"))).collect()
    }

    fn start(name: String) -> Self {
        let (fault, calls) = (Arc::<Mutex<Option<Fault>>>::default(), Arc::<Mutex<Vec<Call>>>::default());
        let backend = Backend::start_unrecorded(Ipv4Addr::LOCALHOST, script(&name, &fault, &calls));
        Self { name, address: backend.address(), fault, calls, backend: Some(backend) }
    }

    /// Lets it fail from now on; tells the second of the day.
    pub(crate) fn fail(&mut self, fault: Fault) -> f64 {
        let now = second_of_day();
        *self.fault.lock().unwrap() = Some(fault);
        if fault == Fault::Gone {
            self.backend = None;
            // A connection that is still taken and then closed would be another fault.
            eventually("connections to be refused", || TcpStream::connect(self.address).err());
        }
        now
    }

    /// Lets it be well from now on.
    pub(crate) fn recover(&mut self) {
        *self.fault.lock().unwrap() = None;
        let restart = || Backend::start_again(self.address, script(&self.name, &self.fault, &self.calls));
        self.backend.get_or_insert_with(restart);
    }

    /// All calls so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// How many of them it answered well, or not.
    pub(crate) fn count(&self, is_good: bool) -> usize {
        self.calls.lock().unwrap().iter().filter(|call| call.is_good == is_good).count()
    }
}

fn script(
    name: &str,
    fault: &Arc<Mutex<Option<Fault>>>,
    calls: &Arc<Mutex<Vec<Call>>>,
) -> impl Fn(&Request) -> Reply + Send + Sync + use<> {
    let (name, fault, calls) = (name.to_owned(), fault.clone(), calls.clone());
    move |_| {
        let fault = *fault.lock().unwrap();
        calls.lock().unwrap().push(Call { second: second_of_day(), is_good: fault.is_none() });
        match fault {
            None => Reply::Keep(response(200, &[], name.as_bytes())),
            Some(Fault::Status(status)) => Reply::Keep(response(status, &[], b"ill")),
            Some(Fault::Resets | Fault::Gone) => Reply::Reset(Vec::new()),
        }
    }
}

/// A Service of these replicas in namespace `shop`, at port 80.
pub(crate) fn service(name: &str, protocol: &str, replicas: &[Replica]) -> String {
    let endpoint =
        |replica: &Replica| Endpoint { address: replica.address, pod: replica.name.clone(), version: "v1".to_owned() };
    speaking_service_yaml("shop", name, (protocol, 80), &replicas.iter().map(endpoint).collect::<Vec<_>>())
}

/// What a client got.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) took: Duration,
    /// 0: none.
    pub(crate) status: u16,
    /// `Proxy-Status`, where the proxy answered by itself.
    pub(crate) proxy_status: String,
    pub(crate) body: String,
}

/// Clients that ask one after the other, all the time.
pub(crate) struct Load {
    stopped: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Answer>>>,
}

impl Load {
    /// So many clients, each with a GET every `pause` and the time that it takes.
    pub(crate) fn start(to: SocketAddr, host: &str, clients: usize, pause: Duration) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let client = |_| {
            let (stopped, host) = (stopped.clone(), host.to_owned());
            std::thread::spawn(move || ask(to, &host, pause, &stopped))
        };
        Self { clients: (0..clients).map(client).collect(), stopped }
    }

    /// Ends them and tells what they got.
    pub(crate) fn stop(self) -> Vec<Answer> {
        self.stopped.store(true, Ordering::Relaxed);
        self.clients.into_iter().flat_map(|client| client.join().expect("a client ends")).collect()
    }
}

fn ask(to: SocketAddr, host: &str, pause: Duration, stopped: &AtomicBool) -> Vec<Answer> {
    let (mut answers, mut kept) = (Vec::new(), None);
    while !stopped.load(Ordering::Relaxed) {
        let client = kept.take().or_else(|| Client::connect(to).ok());
        let (answer, client) = once(client, host);
        kept = client;
        answers.push(answer);
        pass_time(pause);
    }
    answers
}

/// One request; the client is given back if its connection lasts.
fn once(mut client: Option<Client>, host: &str) -> (Answer, Option<Client>) {
    let start = Instant::now();
    let response = client.as_mut().and_then(|client| {
        client.set_patience(Duration::from_secs(10));
        client.exchange(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).ok()
    });
    let took = start.elapsed();
    let Some(response) = response else {
        return (Answer { took, status: 0, proxy_status: String::new(), body: String::new() }, None);
    };
    let proxy_status = response.fields.get("proxy-status").unwrap_or_default().to_owned();
    let answer = Answer { took, status: response.status, proxy_status, body: response.text() };
    (answer, client.filter(|_| !response.closes()))
}

/// One request on a connection of its own.
pub(crate) fn get(to: SocketAddr, host: &str) -> Answer {
    once(Client::connect(to).ok(), host).0
}

/// Seconds from one second of the day to a later one, over midnight too.
pub(crate) fn from_to(from: f64, to: f64) -> f64 {
    (to - from).rem_euclid(DAY)
}

/// The time of the day, as the log tells it.
fn second_of_day() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64() % DAY
}

/// The time at the beginning of a line of the log, `2026-01-31T10:20:30.123456Z`.
fn second_of_line(line: &str) -> f64 {
    let time = line.split(' ').next().and_then(|word| word.strip_suffix('Z')?.split_once('T'));
    let time = time.unwrap_or_else(|| panic!("a line without a time: {line}")).1;
    time.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().expect("figures"))
}

const DAY: f64 = 86_400.0;
