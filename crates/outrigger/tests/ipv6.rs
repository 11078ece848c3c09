//! The same over IPv6: listeners, endpoints, forwards, hosts and what is told of clients, all of them at `::1`.

use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::process::Command;

use outrigger_testkit::{Client, Process, World, metrics};
use serde_json::Value;

const OUTRIGGER: &str = env!("CARGO_BIN_EXE_outrigger");

/// Whether the machine has a loopback of IPv6; CI must.
fn has_ipv6(test: &str) -> bool {
    let has = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    assert!(has || std::env::var_os("CI").is_none(), "{test} must run in CI: ::1 is not there");
    if !has {
        eprintln!("{test} was not run: this machine has no IPv6 loopback (::1)");
    }
    has
}

fn echo(pod: &str) -> (Process, SocketAddr) {
    let process = Process::start(OUTRIGGER, ["echo", "-o", "json", "--listen", &format!("[::1]:0,pod={pod}")]);
    let listeners = process.ready()["listeners"].as_array().cloned().unwrap_or_default();
    let address = listeners.first().and_then(|listener| listener["address"].as_str()).map(str::to_owned);
    let address = address.unwrap_or_else(|| panic!("no address in {}", process.ready()));
    (process, address.parse().expect("an address"))
}

/// A Service with addresses of its own, and one endpoint.
fn service(endpoint: SocketAddr) -> String {
    let (ip, port) = (endpoint.ip(), endpoint.port());
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop}}\n\
         spec: {{clusterIP: 'fd00:96::1', ports: [{{name: http, port: 9080}}, {{name: tcp, port: 9081}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: web, namespace: shop, labels: {{kubernetes.io/service-name: web}}}}\n\
         addressType: IPv6\nports: [{{name: http, port: {port}}}, {{name: tcp, port: {port}}}]\n\
         endpoints: [{{addresses: ['{ip}'], conditions: {{ready: true}}}}]\n"
    )
}

fn run(world: &World, more: &[&str]) -> Process {
    let path = world.path().display().to_string();
    let v6 = ["-o", "json", "--admin", "[::1]:0", "--outbound", "[::1]:0", "--stats", "[::1]:0"];
    Process::start(OUTRIGGER, ["run", &path].iter().chain(&v6).chain(more))
}

fn get(address: SocketAddr, target: &str, host: &str) -> (u16, Value, String) {
    let request = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let answer = Client::connect(address).expect("it listens").exchange(request.as_bytes()).expect("an answer");
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default(), answer.text())
}

#[test]
fn every_address_may_be_of_ipv6() {
    if !has_ipv6("every_address_may_be_of_ipv6") {
        return;
    }
    let (_echo, endpoint) = echo("web-0");
    let world = World::new();
    world.write("all.yaml", &service(endpoint));
    let mut process = run(&world, &["--forward", "[::1]:0=web.shop:9081"]);
    for member in ["outbound", "admin", "metrics"] {
        assert_eq!(process.address(member).ip(), Ipv6Addr::LOCALHOST, "{member} in {}", process.ready());
    }
    let outbound = process.address("outbound");
    let asked = endpoint.to_string();
    for (target, host, want) in [
        ("/", "web.shop:9080", 200),
        ("/", "[fd00:96::1]:9080", 200),
        ("/", "[FD00:96::1]:9080", 200),
        // By no name that the input has: a bare Host is refused, a proxy's target is reached.
        ("/", "[fd00:96::2]:9080", 404),
        (&format!("http://{asked}/"), &asked, 200),
        ("/", "fd00:96::1", 400),
    ] {
        let (status, told, text) = get(outbound, target, host);
        assert_eq!(status, want, "{target} {host}: {text}");
        assert_eq!(told["pod"] == "web-0", want == 200, "{target} {host}: {text}");
        // What comes from an unknown client says so by its address.
        let forwarded = &told["headers"]["x-forwarded-for"][0];
        assert!(want != 200 || forwarded == "::1", "{target} {host}: {told}");
    }
    let forward = process.ready()["forwards"][0]["address"].as_str().expect("a forward").to_owned();
    assert!(forward.starts_with("[::1]:"), "{forward}");
    assert_eq!(get(forward.parse().expect("an address"), "/", "any").1["pod"], "web-0");
    let (_, _, text) = get(process.address("metrics"), "/stats/prometheus", "metrics");
    let labels = [("endpoint", &*asked)];
    assert!(metrics::sum(&metrics::parse(&text), "outrigger_endpoint_requests_total", &labels) >= 3.0, "{text}");
    process.assert_well();
}

#[test]
fn a_tunnel_and_a_request_of_ours_go_over_ipv6() {
    if !has_ipv6("a_tunnel_and_a_request_of_ours_go_over_ipv6") {
        return;
    }
    let (_echo, endpoint) = echo("web-0");
    let world = World::new();
    world.write("all.yaml", &service(endpoint));
    let process = run(&world, &[]);
    let mut tunnel = Client::connect(process.address("outbound")).expect("it listens");
    let connect = format!("CONNECT {endpoint} HTTP/1.1\r\nhost: {endpoint}\r\n\r\n");
    tunnel.send(connect.as_bytes()).expect("sent");
    tunnel.await_text(" 200 Connection Established\r\n").expect("a tunnel");
    tunnel.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
    tunnel.await_text("\"pod\": \"web-0\"").expect("an answer through the tunnel");
    let admin = process.address("admin").to_string();
    let args = ["request", "http://[fd00:96::1]:9080/", "--admin", &admin, "--count", "3", "-o", "json"];
    let output = Command::new(OUTRIGGER).args(args).output().expect("it starts");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    assert_eq!(told["by_status"]["200"], 3, "{told} {}", String::from_utf8_lossy(&output.stderr));
}
