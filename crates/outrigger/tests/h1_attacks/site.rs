//! The program under test in front of scripted backends.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::thread;

use outrigger_testkit::{Backend, Client, Endpoint, Process, Reply, Request, World, metrics, response, service_yaml};

/// The host that [`Site::backend`] serves.
pub(crate) const HOST: &str = "app.default";

/// Descriptors that come and go by themselves: of pooled connections to backends, and of the watch over the folder.
pub(crate) const DESCRIPTOR_SLACK: usize = 8;

/// The program under test. `OUTRIGGER_UNDER_TEST` puts another build in its place.
pub(crate) fn binary() -> String {
    std::env::var("OUTRIGGER_UNDER_TEST").unwrap_or_else(|_| env!("CARGO_BIN_EXE_outrigger").to_owned())
}

/// The program under test, and what stands behind it.
pub(crate) struct Site {
    pub(crate) process: Process,
    /// Its outbound listener.
    pub(crate) proxy: SocketAddr,
    /// Serves [`HOST`]; answers with the target.
    pub(crate) backend: Backend,
    /// Refusals that clients saw, by status; 0 stands for a connection closed without an answer.
    pub(crate) refusals: Mutex<BTreeMap<u16, u64>>,
    _world: World,
}

/// A backend that answers every request with its own target.
pub(crate) fn mirror(request: &Request) -> Reply {
    Reply::Keep(response(200, &[], request.target.as_bytes()))
}

impl Site {
    /// Starts it with a mirror for [`HOST`] and further services; `extra` is more YAML.
    pub(crate) fn start(services: &[(&str, SocketAddr)], extra: &str) -> Self {
        let backend = Backend::start(mirror);
        let world = World::new();
        let all = services.iter().copied().chain([("app", backend.address())]);
        let yaml: Vec<_> = all
            .map(|(name, address)| {
                let (pod, version) = (format!("{name}-0"), "v1".to_owned());
                service_yaml("default", name, 80, &[Endpoint { address, pod, version }])
            })
            .collect();
        world.write("services.yaml", &yaml.join("---\n"));
        if !extra.is_empty() {
            world.write("extra.yaml", extra);
        }
        let folder = world.path().display().to_string();
        let args = ["run", &folder, "-o", "json", "--admin", ":0", "--outbound", ":0", "--stats", ":0"];
        let process = Process::start(binary(), args);
        let proxy = process.address("outbound");
        Self { process, proxy, backend, refusals: Mutex::default(), _world: world }
    }

    /// The common check: a request on a fresh connection is answered.
    pub(crate) fn assert_healthy(&self) {
        let mut client = Client::connect(self.proxy).expect("the proxy accepts");
        let request = format!("GET /health HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
        let answer = client.exchange(request.as_bytes()).expect("a health request is answered");
        assert_eq!((answer.status, answer.text().as_str()), (200, "/health"));
    }

    /// Writes down a refusal; 0 stands for a connection closed without an answer.
    pub(crate) fn count_refusal(&self, status: u16) {
        *self.refusals.lock().expect("no thread panics while it holds this").entry(status).or_default() += 1;
    }

    /// What the program counts of its own answers, by status.
    pub(crate) fn counted_replies(&self) -> BTreeMap<u16, u64> {
        let mut client = Client::connect(self.process.address("metrics")).expect("metrics are served");
        let request = b"GET /stats/prometheus HTTP/1.1\r\nhost: metrics\r\nconnection: close\r\n\r\n";
        let samples = metrics::parse(&client.exchange(request).expect("metrics").text());
        let by_code = metrics::sum_by(&samples, "outrigger_proxy_replies_total", "response_code");
        by_code.into_iter().filter_map(|(code, count)| Some((code.parse().ok()?, count as u64))).collect()
    }

    /// Open file descriptors of the program under test.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).map_or(0, Iterator::count)
    }
}

/// Runs `judge` on every item on some threads, with a health check beside each, and tells what failed.
pub(crate) fn judge_all<T: Sync>(
    site: &Site,
    items: &[T],
    judge: impl Fn(usize, &T) -> Result<(), String> + Sync,
) -> Vec<String> {
    const THREADS: usize = 16;
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for worker in 0..THREADS {
            let (failures, judge) = (&failures, &judge);
            scope.spawn(move || {
                for (number, item) in items.iter().enumerate().skip(worker).step_by(THREADS) {
                    if let Err(failure) = judge(number, item) {
                        failures.lock().expect("no thread panics while it holds this").push(failure);
                    }
                    site.assert_healthy();
                }
            });
        }
    });
    let mut failures = failures.into_inner().expect("no thread panics while it holds this");
    failures.sort();
    failures
}
