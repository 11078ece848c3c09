//! `outrigger request` from the outside, with scripted ends in place of a proxy and its admin interface.

use std::net::TcpListener;
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use outrigger_testkit::h2::{Block, Connection, code, data, headers, kind, reset, settings};
use outrigger_testkit::{Backend, Process, Reply, Request, World, free_address, response};
use serde_json::Value;

/// Runs `outrigger request` and tells its exit status, what it printed and what it said.
fn request(args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
    let output = command.arg("request").args(args).output().expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Answers as an echo server behind a proxy: versions take turns by request.
fn mesh() -> Backend {
    let count = Mutex::new(0);
    Backend::start(move |request: &Request| {
        let mut count = count.lock().expect("no script panics");
        *count += 1;
        if request.target == "/none" {
            let status = "outrigger; error=destination_unavailable; details=\"no_healthy_upstream\"; flag=UH";
            return Reply::Keep(response(503, &[("proxy-status", status)], b"nobody is there\n"));
        }
        let version = if *count % 4 == 0 { "v2" } else { "v1" };
        let body = format!(
            r#"{{"namespace":"shop","service":"cart","pod":"cart-{version}-0","version":"{version}","method":"{}"}}"#,
            request.method
        );
        Reply::Keep(response(200, &[], body.as_bytes()))
    })
}

#[test]
fn one_request_prints_the_answer_and_the_way() {
    let mesh = mesh();
    let proxy = mesh.address().to_string();
    let args = ["http://cart.shop:80/a?b", "--proxy", &proxy, "-H", "X-A: 1", "-d", "body", "-X", "PUT"];
    let (code, printed, said) = request(&args);
    assert_eq!(code, Some(0), "{said}");
    assert!(printed.starts_with("HTTP/1.1 200 Scripted\n"), "{printed}");
    assert!(
        printed.contains(&format!("answered by shop/cart, pod cart-v1-0, version v1 through {proxy}")),
        "{printed}"
    );
    let seen = &mesh.seen()[0];
    assert_eq!((seen.method.as_str(), seen.target.as_str(), seen.body.as_slice()), ("PUT", "/a?b", b"body".as_slice()));
    assert_eq!((seen.fields.get("host"), seen.fields.get("x-a")), (Some("cart.shop:80"), Some("1")));
}

#[test]
fn many_requests_are_counted() {
    let mesh = mesh();
    let proxy = mesh.address().to_string();
    let args = ["http://cart.shop/", "--proxy", &proxy, "--count", "200", "--concurrency", "4", "-o", "json"];
    let (code, printed, said) = request(&args);
    assert_eq!(code, Some(0), "{said}");
    let told: Value = serde_json::from_str(&printed).expect("one JSON object");
    assert_eq!((&told["requests"], &told["by_status"]["200"]), (&200.into(), &200.into()));
    assert_eq!((&told["by_version"]["v1"], &told["by_pod"]["cart-v2-0"]), (&150.into(), &50.into()));
    assert_eq!(told["by_destination"]["shop/cart"], 200);
    let latency = |name: &str| told["latency_ms"][name].as_f64().expect("a number");
    assert!(0.0 < latency("p50") && latency("p50") <= latency("p99") && latency("p99") <= latency("max"));
    assert_eq!((mesh.seen().len(), mesh.connections()), (200, 4));
}

#[test]
fn a_rate_is_kept() {
    let mesh = mesh();
    let proxy = mesh.address().to_string();
    let start = std::time::Instant::now();
    let (code, printed, said) = request(&["http://cart/", "--proxy", &proxy, "--count", "101", "--rate", "200"]);
    // The last is due after half a second, whatever the answers do.
    assert!(code == Some(0) && start.elapsed().as_secs_f64() >= 0.5, "{said}");
    assert!(printed.contains("requests     101"), "{printed}");
}

#[test]
fn the_admin_interface_tells_where_to_send() {
    let mesh = mesh();
    let (ip, port) = (mesh.address().ip().to_string(), mesh.address().port());
    let listeners = serde_json::json!({"listener_statuses": [
        {"name": "other", "local_address": {"socket_address": {"address": "192.0.2.1", "port_value": 1}}},
        {"name": "outbound", "local_address": {"socket_address": {"address": ip, "port_value": port}}},
    ]});
    let admin = Backend::start(move |request| match request.target.as_str() {
        "/listeners?format=json" => Reply::Keep(response(200, &[], listeners.to_string().as_bytes())),
        _ => Reply::Keep(response(404, &[], b"")),
    });
    let (code, _, said) = request(&["http://cart/", "--admin", &admin.address().to_string()]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(mesh.seen().len(), 1);
    let (code, _, said) = request(&["http://cart/", "--admin", &free_address().to_string()]);
    assert!(code == Some(2) && said.contains("is `outrigger run` running?"), "{said}");
    let (code, _, said) = request(&["http://cart/", "--admin", &mesh.address().to_string()]);
    assert!(code == Some(2) && said.contains("names no outbound listener"), "{said}");
}

#[test]
fn a_workload_sends_through_its_pods_in_turn_and_a_gateway_is_met_directly() {
    let (pods, gateway) = ([mesh(), mesh()], mesh());
    let [first, second] = [0, 1].map(|pod: usize| pods[pod].address().to_string());
    let bound = gateway.address().to_string();
    let status = serde_json::json!({
        "workloads": [
            { "namespace": "shop", "name": "web", "pod": "web-0", "outbound": first },
            { "namespace": "shop", "name": "web", "pod": "web-1", "outbound": second },
        ],
        "gateways": [{ "address": "127.0.0.1", "listeners": [{ "port": 80, "bound": bound }] }],
    });
    let admin = Backend::start(move |_| Reply::Keep(response(200, &[], status.to_string().as_bytes())));
    let admin = admin.address().to_string();
    let (code, _, said) = request(&["http://cart/", "--admin", &admin, "--from", "shop/web", "--count", "10"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(pods.each_ref().map(|pod| pod.seen().len()), [5, 5]);
    let (code, _, said) = request(&["http://127.0.0.1/", "--admin", &admin, "-H", "Host: shop.example.com"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(gateway.seen()[0].fields.get("host"), Some("shop.example.com"));
    let (code, _, said) = request(&["http://cart/", "--admin", &admin, "--from", "shop/wep"]);
    assert!(code == Some(2) && said.contains("did you mean shop/web?"), "{said}");
}

#[test]
fn failures_are_told_apart() {
    let mesh = mesh();
    let proxy = mesh.address().to_string();
    let (code, printed, _) = request(&["http://cart/none", "--proxy", &proxy, "-o", "json"]);
    let told: Value = serde_json::from_str(&printed).expect("one JSON object");
    assert_eq!((code, &told["by_flag"]["UH"], &told["response"]["status"]), (Some(1), &1.into(), &503.into()));
    let (code, printed, _) = request(&["http://cart/none", "--proxy", &proxy]);
    assert!(code == Some(1) && printed.contains("by the proxy itself: UH no_healthy_upstream"), "{printed}");
    let silent = Backend::start(|_| Reply::Hold(Vec::new()));
    let (code, printed, _) = request(&["http://cart/", "--proxy", &silent.address().to_string(), "--timeout", "0.05"]);
    assert!(code == Some(1) && printed.contains("no answer in 50ms"), "{printed}");
    let (code, printed, _) = request(&["http://cart/", "--proxy", &free_address().to_string(), "--count", "3"]);
    assert!(code == Some(1) && printed.contains("could not connect"), "{printed}");
}

/// An echo server, and where it listens.
fn echo() -> (Process, String) {
    let binary = env!("CARGO_BIN_EXE_outrigger");
    let process = Process::start(binary, ["echo", "-o", "json", "--listen=127.0.0.1:0,service=cart,version=v1"]);
    let address = process.ready()["listeners"][0]["address"].as_str().expect("an address").to_owned();
    (process, address)
}

#[test]
fn http2_is_sent_with_prior_knowledge() {
    let (_echo, proxy) = echo();
    let args =
        ["http://cart.shop:80/a?b", "--http2", "--proxy", &proxy, "-H", "X-A: 1", "-H", "Host: other", "-d", "body"];
    let (code, printed, said) = request(&args);
    assert_eq!(code, Some(0), "{said}");
    assert!(printed.starts_with("HTTP/2 200\n"), "{printed}");
    let (code, printed, _) = request(&[&args[..], &["-H", "x-echo-set-trailer: x-t=1", "-o", "json"]].concat());
    let told: Value = serde_json::from_str(&printed).expect("one JSON object");
    assert_eq!((code, &told["response"]["trailers"]["x-t"][0]), (Some(0), &"1".into()));
    let arrived: Value = serde_json::from_str(told["response"]["body"].as_str().expect("text")).expect("JSON");
    let members = ["path", "host", "method", "proto"].map(|member| arrived[member].as_str().expect("text"));
    assert_eq!(members, ["/a?b", "other", "POST", "HTTP/2.0"]);
    assert_eq!((&arrived["bodyBytes"], &arrived["headers"]["x-a"][0]), (&4.into(), &"1".into()));
    let long = "a".repeat(100_000);
    let (code, printed, said) = request(&["http://cart/", "--http2", "--proxy", &proxy, "-d", &long]);
    assert!(code == Some(0) && printed.contains("\"bodyBytes\": 100000"), "{printed} {said}");
    let (code, printed, _) = request(&["http://cart/", "--http2", "--proxy", &proxy, "-H", "x-echo-abort: before"]);
    assert!(code == Some(1) && printed.contains("HTTP/2: stream error received"), "{printed}");
    // A server of HTTP/1 is told from one that does not answer.
    let (code, printed, _) = request(&["http://cart/", "--http2", "--proxy", &mesh().address().to_string()]);
    assert!(code == Some(1) && printed.contains("the answer is not HTTP/2"), "{printed}");
}

#[test]
fn grpc_is_judged_by_its_own_status() {
    let (_echo, proxy) = echo();
    let call = |args: &[&str]| request(&[&["--grpc", "--proxy", &proxy], args].concat());
    let (code, printed, said) = call(&["http://cart/shop.Cart/Get", "-d", "bytes"]);
    assert_eq!(code, Some(0), "{said}");
    for part in ["\"bodyBytes\": 5", "grpc-status 0 OK", "answered by default/cart, pod cart-v1-", "application/grpc"] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    // Protobuf of a service that is known is made readable.
    let (code, printed, _) = call(&["http://cart/outrigger.echo.v1.Echo/Unary", "-o", "json"]);
    let told: Value = serde_json::from_str(&printed).expect("one JSON object");
    assert_eq!(
        (code, &told["by_grpc_status"]["0"], &told["by_destination"]["default/cart"]),
        (Some(0), &1.into(), &1.into())
    );
    assert_eq!(told["response"]["grpc"], serde_json::json!({"status": 0, "message": "", "messages": 1}));
    let (code, printed, _) = call(&["http://cart/a.B/C", "-H", "x-echo-grpc-status: 14"]);
    assert!(code == Some(1) && printed.contains("grpc-status 14 UNAVAILABLE: asked for"), "{printed}");
    let (code, printed, _) = call(&["http://cart/a.B/C", "-H", "x-echo-status: 404"]);
    assert!(code == Some(1) && printed.contains("there is no grpc-status"), "{printed}");
    let (code, printed, _) =
        call(&["http://cart/a.B/C", "-H", "x-echo-fail-first: 7;key=k;grpc-status=8", "--count", "20", "-o", "json"]);
    let told: Value = serde_json::from_str(&printed).expect("one JSON object");
    assert_eq!((code, &told["by_grpc_status"]), (Some(1), &serde_json::json!({"0": 13, "8": 7})));
    assert_eq!((&told["by_status"]["200"], &told["by_version"]["v1"]), (&20.into(), &20.into()));
}

/// Accepts a client of HTTP/2.
fn accept(listener: &TcpListener) -> Connection {
    Connection::server(listener.accept().expect("a client").0, &settings(&[])).expect("a preface")
}

/// The streams of the next so many requests.
fn opened(connection: &mut Connection, count: usize) -> Vec<u32> {
    let mut streams = Vec::new();
    while streams.len() < count {
        let frame = connection.step().expect("a request");
        if frame.kind == kind::HEADERS {
            streams.push(frame.stream);
        }
    }
    streams
}

fn answer(connection: &mut Connection, streams: &[u32]) {
    let head = Block::new().field(":status", "200");
    let frames = streams.iter().flat_map(|stream| [headers(*stream, false, &head), data(*stream, true, "ok")]);
    connection.send(&frames.collect::<Vec<_>>().concat()).expect("sent");
}

#[test]
fn streams_share_a_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let proxy = listener.local_addr().expect("it is bound").to_string();
    let scripted = thread::spawn(move || {
        let mut connection = accept(&listener);
        // None is answered before all are open.
        for _ in 0..2 {
            let streams = opened(&mut connection, 20);
            answer(&mut connection, &streams);
        }
    });
    let (code, printed, _) =
        request(&["http://a/", "--http2", "--proxy", &proxy, "--count", "40", "--concurrency", "20"]);
    assert!(code == Some(0) && printed.contains("requests     40"), "{printed}");
    scripted.join().expect("all came on one connection");
}

#[test]
fn what_was_refused_goes_out_once_more() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let proxy = listener.local_addr().expect("it is bound").to_string();
    let scripted = thread::spawn(move || {
        let refuse = || {
            let mut connection = accept(&listener);
            let streams = opened(&mut connection, 1);
            connection.send(&reset(streams[0], code::REFUSED_STREAM)).expect("sent");
            connection
        };
        let _first = refuse();
        let mut second = accept(&listener);
        let streams = opened(&mut second, 1);
        answer(&mut second, &streams);
        // The client takes what it was given before it comes again.
        second.await_end();
        let _both = [refuse(), refuse()];
    });
    let args = ["http://a/", "--http2", "--proxy", &proxy, "-d", "not idempotent"];
    let (code, printed, _) = request(&args);
    assert!(code == Some(0) && printed.contains("ok"), "{printed}");
    let (code, printed, _) = request(&args);
    assert!(code == Some(1) && printed.contains("refused stream"), "{printed}");
    scripted.join().expect("as scripted");
}

const MESH: &str = "\
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec:
  selector: {app: cart}
  ports: [{name: grpc, port: 9090}, {name: http2, port: 9091}, {name: http, port: 80, targetPort: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: cart}}
  template:
    metadata: {labels: {app: cart}}
    spec:
      containers:
      - name: main
        image: any
        ports: [{name: grpc, containerPort: 9090}, {name: http2, containerPort: 9091}, {name: http, containerPort: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: any, ports: [{name: http, containerPort: 8080}]}]}
";

#[test]
fn a_simulated_mesh_is_asked_in_every_version() {
    let world = World::new();
    world.write("mesh.yaml", MESH);
    let path = world.path().display().to_string();
    let usual = ["--simulate", "-o", "json", "--admin", ":0", "--outbound", ":0", "--stats", ":0", "--concurrency=1"];
    let mesh = Process::start(env!("CARGO_BIN_EXE_outrigger"), ["run", &path].iter().chain(&usual));
    let admin = mesh.address("admin").to_string();
    for (url, flag, arrives_in) in [
        ("http://cart:9091/", "--http2", "HTTP/2.0"),
        ("http://cart/", "--http2", "HTTP/1.1"),
        ("http://cart:9091/", "--data=x", "HTTP/2.0"),
        ("http://cart:9090/shop.Cart/Get", "--grpc", "HTTP/2.0"),
        ("http://cart:9090/outrigger.echo.v1.Echo/Unary", "--grpc", "HTTP/2.0"),
    ] {
        let args = [url, flag, "--from", "shop/web", "--admin", &admin, "-o", "json"];
        let (code, printed, said) = request(&args);
        assert_eq!(code, Some(0), "{url} {flag}: {printed} {said}");
        let told: Value = serde_json::from_str(&printed).expect("one JSON object");
        let arrived: Value = serde_json::from_str(told["response"]["body"].as_str().expect("text")).expect("JSON");
        assert_eq!(arrived["proto"], arrives_in, "{url} {flag}");
        // Requests choose their pod each for itself, though they share a connection.
        let (code, printed, said) = request(&[&args[..], &["--count", "100", "--concurrency", "10"]].concat());
        assert_eq!(code, Some(0), "{url} {flag}: {printed} {said}");
        let told: Value = serde_json::from_str(&printed).expect("one JSON object");
        assert_eq!(told["by_destination"]["shop/cart"], 100, "{url} {flag}");
        assert_eq!(told["by_pod"].as_object().map(serde_json::Map::len), Some(2), "{url} {flag}: {told}");
    }
    let failed = ["--from", "shop/web", "--admin", &admin, "-o", "json", "-H", "x-echo-abort: before"];
    let (code, printed, _) = request(&[&["http://cart:9090/shop.Cart/Get", "--grpc"][..], &failed].concat());
    let told: Value = serde_json::from_str(&printed).expect("one JSON object");
    assert_eq!((code, &told["by_grpc_status"]["14"]), (Some(1), &1.into()), "{told}");
}

#[test]
fn wrong_use_is_told() {
    for (args, reason) in [
        (&["http://a/", "--grpc", "-X", "GET"][..], "cannot be used with"),
        (&["http://a/", "--grpc", "-H", "content-type: text/plain"][..], "has no place in a gRPC call"),
        (&["http://a/", "--http2", "-H", "keep-alive: 3"][..], "has no place in HTTP/2"),
        (&["http://a/", "--from", "shop/cart", "--proxy", ":1"][..], "cannot be used with"),
        (&["ftp://a/"][..], "scheme ftp is not supported"),
        (&["http://a/", "-H", "Content-Length: 3"][..], "frames the request"),
        (&["http://a/", "-X", "A B"][..], "expected a method"),
        (&["http://a/", "--count", "0"][..], "0 is not in"),
    ] {
        let (code, _, said) = request(args);
        assert!(code == Some(2) && said.contains(reason), "{args:?}: {said}");
    }
}
