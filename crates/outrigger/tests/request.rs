//! `outrigger request` from the outside, with scripted ends in place of a proxy and its admin interface.

use std::process::Command;
use std::sync::Mutex;

use outrigger_testkit::{Backend, Reply, Request, free_address, response};
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
