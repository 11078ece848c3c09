//! `outrigger run` from the outside: a folder is served, followed, counted, and left in good order.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use outrigger_testkit::{
    Backend, Client, Endpoint, Process, Reply, World, eventually, free_address, metrics, response, service_yaml,
    virtual_service_yaml,
};
use serde_json::Value;

const OUTRIGGER: &str = env!("CARGO_BIN_EXE_outrigger");
const FREE_PORTS: [&str; 8] = ["-o", "json", "--admin", ":0", "--outbound", ":0", "--stats", ":0"];

fn start(path: &Path, more: &[&str]) -> Process {
    let path = path.display().to_string();
    Process::start(OUTRIGGER, ["run", &path].iter().chain(&FREE_PORTS).chain(more))
}

fn get(address: SocketAddr, host: &str, target: &str) -> String {
    let request = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let answer = Client::connect(address).expect("it listens").exchange(request.as_bytes());
    answer.expect("an answer").text()
}

/// Echo servers stand in for endpoints of loopback: weights are kept to the request, and metrics count what the client
/// counted.
#[test]
fn echo_servers_stand_in_for_endpoints() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/canary");
    let world = World::new();
    let routing = std::fs::read_to_string(example.join("routing.yaml")).expect("the example is there");
    world.write("routing.yaml", &routing);
    let pods = [("reviews-v1-0", "v1"), ("reviews-v1-1", "v1"), ("reviews-v2-0", "v2")];
    let endpoints = pods.map(|(pod, version)| Endpoint {
        address: free_address(),
        pod: pod.to_owned(),
        version: version.to_owned(),
    });
    world.write("services.yaml", &service_yaml("shop", "reviews", 9080, &endpoints));
    let process = start(world.path(), &["--echo", "--concurrency", "2"]);
    let admin = process.address("admin").to_string();
    let args = ["request", "http://reviews.shop:9080/", "--admin", &admin, "--count", "1000", "--concurrency", "4"];
    let output = Command::new(OUTRIGGER).args(args).args(["-o", "json"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let count = |version: &str| told["by_version"][version].as_u64().expect("a count");
    assert_eq!(count("v1") + count("v2"), 1000);
    // The workers draw from one sequence: together they keep within one request of the weights.
    assert!(count("v2").abs_diff(100) <= 1, "{told}");
    let counted = || {
        let samples = metrics::parse(&get(process.address("metrics"), "metrics", "/stats/prometheus"));
        let by_version = ["v1", "v2"].map(|version| {
            let labels = [("reporter", "source"), ("destination_version", version), ("response_code", "200")];
            metrics::sum(&samples, "istio_requests_total", &labels) as u64
        });
        (by_version == [count("v1"), count("v2")]).then_some(())
    };
    eventually("istio_requests_total to be what the client counted", counted);
}

/// The machine's own names serve: a ServiceEntry and an ExternalName Service lead to `localhost`, which needs no name server.
#[test]
fn names_lead_to_the_addresses_that_the_machine_knows_for_them() {
    let backend =
        Backend::start(|request| Reply::Keep(response(200, &[], request.fields.get("host").unwrap().as_bytes())));
    let port = backend.address().port();
    let world = World::new();
    world.write(
        "names.yaml",
        &format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: api}}\nspec:\n  hosts: \
             [api.example]\n  ports: [{{number: 80, name: http, targetPort: {port}}}]\n  resolution: DNS\n  endpoints: \
             [{{address: localhost}}]\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: out}}\nspec:\n  type: \
             ExternalName\n  externalName: localhost\n  ports: [{{name: http, port: 80, targetPort: {port}}}]\n"
        ),
    );
    let process = start(world.path(), &[]);
    let (outbound, admin) = (process.address("outbound"), process.address("admin"));
    assert_eq!(process.ready()["diagnostics"], Value::Array(Vec::new()));
    for host in ["api.example", "out.default"] {
        assert_eq!(get(outbound, host, "/"), host);
    }
    let clusters = get(admin, "localhost", "/clusters");
    for cluster in ["outbound|80||api.example", "outbound|80||out.default.svc.cluster.local"] {
        assert!(clusters.contains(&format!("{cluster}::127.0.0.1:{port}::hostname::localhost\n")), "{clusters}");
    }
    let samples = metrics::parse(&get(process.address("metrics"), "metrics", "/stats/prometheus"));
    assert_eq!(metrics::sum(&samples, "outrigger_dns_addresses", &[("host", "localhost")]), 1.0);
}

/// A VirtualService whose answer tells which text is in force.
fn marker(text: &str) -> String {
    let http = format!("  - directResponse: {{status: 200, body: {{string: \"{text}\"}}}}\n");
    service_yaml("default", "marker", 80, &[]) + "---\n" + &virtual_service_yaml("default", "marker", "marker", &http)
}

fn assert_becomes(process: &Process, text: &str) {
    let outbound = process.address("outbound");
    eventually(&format!("{text:?} to be in force"), || (get(outbound, "marker", "/") == text).then_some(()));
}

#[test]
fn changes_are_followed_at_once() {
    let world = World::new();
    world.write("a.yaml", &marker("one"));
    let mut process = start(world.path(), &[]);
    assert_becomes(&process, "one");
    world.write("a.yaml", &marker("two"));
    assert_becomes(&process, "two");
    // Broken: the last good version stays, and the next good one is taken.
    world.write("a.yaml", "kind: [\n");
    world.write("b.yaml", &service_yaml("default", "other", 80, &[]));
    assert_becomes(&process, "two");
    world.write("a.yaml", &marker("three"));
    assert_becomes(&process, "three");
    process.signal("HUP");
    assert_becomes(&process, "three");
    process.assert_well();
}

/// Kubernetes mounts a ConfigMap as links into a folder that is swapped whole.
#[test]
fn a_config_map_mount_is_followed() {
    let world = World::new();
    let folder = |name: &str| world.path().join(name);
    let write = |name: &str, text: &str| {
        std::fs::create_dir(folder(name)).expect("a folder");
        std::fs::write(folder(name).join("mesh.yaml"), marker(text)).expect("a file");
    };
    write("..1", "one");
    std::os::unix::fs::symlink("..1", folder("..data")).expect("a link");
    std::os::unix::fs::symlink("..data/mesh.yaml", folder("mesh.yaml")).expect("a link");
    let process = start(world.path(), &[]);
    assert_becomes(&process, "one");
    write("..2", "two");
    std::os::unix::fs::symlink("..2", folder("..data_tmp")).expect("a link");
    std::fs::rename(folder("..data_tmp"), folder("..data")).expect("swapped");
    std::fs::remove_dir_all(folder("..1")).expect("removed");
    assert_becomes(&process, "two");
}

#[test]
fn standard_input_is_read() {
    let backend = Backend::start(|_| Reply::Keep(response(200, &[], b"hello")));
    let endpoint = Endpoint { address: backend.address(), pod: "app-0".to_owned(), version: "v1".to_owned() };
    let mut command = Command::new(OUTRIGGER);
    command.args(["run", "-"]).args(FREE_PORTS).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut input = child.stdin.take().expect("piped");
    input.write_all(service_yaml("default", "app", 80, &[endpoint]).as_bytes()).expect("read");
    drop(input);
    let mut line = String::new();
    let mut reader = std::io::BufReader::new(child.stdout.take().expect("piped"));
    std::io::BufRead::read_line(&mut reader, &mut line).expect("a line");
    let ready: BTreeMap<String, Value> = serde_json::from_str(&line).expect("JSON");
    let outbound = ready["outbound"].as_str().expect("an address").parse().expect("an address");
    assert_eq!(get(outbound, "app", "/"), "hello");
    child.kill().and_then(|()| child.wait()).expect("ended");
}

#[test]
fn what_cannot_run_says_why() {
    let run = |args: &[&str]| {
        let output = Command::new(OUTRIGGER).arg("run").args(args).output().expect("it starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = run(&["/no/such/folder"]);
    assert!(code == Some(2) && said.contains("/no/such/folder"), "{code:?} {said}");
    let taken = std::net::TcpListener::bind(free_address()).expect("free");
    let address = taken.local_addr().expect("bound").to_string();
    let world = World::new();
    let folder = world.path().display().to_string();
    let (code, said) = run(&[&folder, "--admin", ":0", "--stats", ":0", "--outbound", &address]);
    assert!(code == Some(2) && said.contains(&address) && said.contains("--outbound"), "{code:?} {said}");
}

/// SIGTERM ends it with 0, at once when nobody is there; a second one does not wait for who is.
#[test]
fn signals_end_it() {
    let backend = Backend::start(|_| Reply::Hold(Vec::new()));
    let endpoint = Endpoint { address: backend.address(), pod: "app-0".to_owned(), version: "v1".to_owned() };
    let world = World::new();
    world.write("app.yaml", &service_yaml("default", "app", 80, &[endpoint]));
    let mut process = start(world.path(), &[]);
    let mut client = Client::connect(process.address("outbound")).expect("it listens");
    client.send(b"GET / HTTP/1.1\r\nhost: app\r\n\r\n").expect("sent");
    eventually("the request to reach the backend", || (backend.connections() == 1).then_some(()));
    process.signal("TERM");
    eventually("the drain to begin", || process.stderr().contains("draining").then_some(()));
    assert!(process.is_running(), "a request is under way");
    process.signal("TERM");
    assert_eq!(process.wait().code(), Some(0));
}

/// Bad input is the input's fault, 1; a path that is not there is the caller's, 2.
#[test]
fn the_exit_status_tells_whose_fault_it_is() {
    let world = World::new();
    world.write("bad.yaml", "a: [");
    let missing = world.path().join("missing");
    for (path, status, told) in
        [(world.path(), 1, "bad.yaml:1:4: not valid YAML"), (missing.as_path(), 2, "missing:1:1: cannot be read")]
    {
        let path = path.display().to_string();
        let output = Command::new(OUTRIGGER).args(["run", &path]).args(FREE_PORTS).output().expect("it starts");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{stderr}");
        assert!(stderr.contains(told), "{stderr}");
    }
}
