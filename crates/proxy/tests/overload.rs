//! What is shed as memory gets short, and that it comes back.

mod common;

use common::http2::{self, connect};
use common::{World, proxy_with, snapshot};
use outrigger_proxy::Settings;
use outrigger_testkit::{self as testkit, Backend, Client, How, Reply, eventually, response};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A proxy in a cgroup of 1000 bytes.
struct Cgroup {
    world: World,
    files: testkit::World,
    backend: Backend,
}

impl Cgroup {
    fn new() -> Self {
        let files = testkit::World::new();
        files.write("memory.max", "1000\n");
        files.write("memory.current", "100\n");
        files.write("memory.stat", "inactive_file 0\n");
        // Settings are plain values: a path in them lives for ever.
        let folder: &'static str = Box::leak(files.path().to_str().unwrap().to_owned().into_boxed_str());
        let backend = Backend::start(|_| Reply::Keep(response(200, &[], b"hi")));
        let settings = Settings { cgroup_folder: folder, ..Settings::default() };
        let world = proxy_with(settings, snapshot(&[backend.address()], |_| {}));
        Self { world, files, backend }
    }

    /// So many bytes are in use now; waits until that level is in force.
    fn uses(&self, bytes: u32, level: f64) {
        self.files.write("memory.current", &format!("{bytes}\n"));
        let ratio = f64::from(bytes) / 1000.0;
        eventually("the level is told", || {
            let told = self.world.sum("outrigger_overload_level", "");
            (told == level && self.world.sum("outrigger_overload_memory_ratio", "") == ratio).then_some(())
        });
    }

    fn hits(&self, limit: &str) -> f64 {
        self.world.sum("outrigger_limit_hits_total", limit)
    }

    fn get(&self) -> Option<testkit::Response> {
        Client::connect(self.world.address()).ok()?.exchange(GET).ok()
    }
}

#[test]
fn connections_are_not_kept_when_memory_gets_short() {
    let cgroup = Cgroup::new();
    let mut idle = Client::connect(cgroup.world.address()).unwrap();
    assert!(!idle.exchange(GET).unwrap().closes());
    cgroup.uses(800, 1.0);
    assert_eq!(idle.read_ending().how, How::Closed, "an idle connection is closed");
    eventually("answers say so", || cgroup.get().filter(|answer| answer.status == 200 && answer.closes()));
    eventually("each worker has begun", || (cgroup.hits("memory_idle") == 2.0).then_some(()));
    // It ends only some way below.
    cgroup.uses(780, 1.0);
    cgroup.uses(600, 0.0);
    eventually("connections are kept again", || cgroup.get().filter(|answer| !answer.closes()));
    assert_eq!(cgroup.world.sum("outrigger_proxy_replies_total", ""), 0.0);
}

#[test]
fn requests_are_shed_when_memory_is_short() {
    let cgroup = Cgroup::new();
    cgroup.uses(900, 2.0);
    let shed = eventually("a request is shed", || cgroup.get().filter(|answer| answer.status == 503));
    assert_eq!(shed.fields.get("x-envoy-overloaded"), Some("true"));
    let cause = "outrigger; error=proxy_internal_error; details=\"overload_manager\"; flag=OM";
    assert_eq!((shed.fields.get("proxy-status"), shed.closes()), (Some(cause), true));
    assert!(shed.text().starts_with("proxy overloaded\n"), "{}", shed.text());
    eventually("both workers shed", || {
        (0..8).all(|_| cgroup.get().is_some_and(|answer| answer.status == 503)).then_some(())
    });
    let (seen, hits) = (cgroup.backend.seen().len(), cgroup.hits("memory_requests"));
    assert!((0..8).all(|_| cgroup.get().is_some_and(|answer| answer.status == 503)));
    eventually("each is counted", || (cgroup.hits("memory_requests") == hits + 8.0).then_some(()));
    assert_eq!(cgroup.backend.seen().len(), seen, "and nobody else hears of it");
    assert!(cgroup.world.sum("istio_requests_total", "OM") >= 8.0);
    // Files that nobody used lately are no pressure.
    cgroup.files.write("memory.stat", "anon 1\ninactive_file 500\n");
    eventually("it is over", || cgroup.get().filter(|answer| answer.status == 200 && !answer.closes()));
}

#[test]
fn connections_are_refused_when_there_is_hardly_any_left() {
    let cgroup = Cgroup::new();
    cgroup.uses(950, 3.0);
    eventually("both workers refuse", || (0..8).all(|_| cgroup.get().is_none()).then_some(()));
    let hits = cgroup.hits("memory_connections");
    assert!((0..8).all(|_| cgroup.get().is_none()));
    assert_eq!(cgroup.hits("memory_connections"), hits + 8.0);
    cgroup.files.write("memory.max", "max\n");
    eventually("without a limit nothing is shed", || cgroup.get().filter(|answer| answer.status == 200));
}

#[tokio::test]
async fn a_client_of_http_2_is_told_to_go_and_its_calls_end_in_peace() {
    let cgroup = Cgroup::new();
    let mut client = connect(cgroup.world.address()).await;
    assert_eq!(http2::get(&mut client, "a/").await.unwrap().line, "200");
    cgroup.uses(850, 1.0);
    let gone = tokio::time::timeout(testkit::PATIENCE, async {
        while http2::get(&mut client, "a/").await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    gone.await.expect("a connection without requests is closed");
    cgroup.uses(100, 0.0);
    let mut client = connect(cgroup.world.address()).await;
    assert_eq!(http2::get(&mut client, "a/").await.unwrap().line, "200");
}
