//! `--forward`: TCP connections through a simulated mesh, counted alike on both sides, and following edits.

use std::net::SocketAddr;

use outrigger_testkit::{Client, eventually, metrics};
use serde_json::json;

use crate::tools::{Mesh, address, app, scrape};

/// A Redis of two versions behind one Service, and rules that send everything to one of them.
fn redis(subset: &str) -> String {
    let of_version = |version: &str| {
        format!(
            "---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: redis-{version}, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: redis, version: {version}}}}}
  template:
    metadata: {{labels: {{app: redis, version: {version}}}}}
    spec: {{containers: [{{name: redis, image: any, ports: [{{name: tcp-redis, containerPort: 7483}}]}}]}}
"
        )
    };
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: redis, namespace: shop}}
spec:
  selector: {{app: redis}}
  ports: [{{name: tcp-redis, port: 6379, targetPort: tcp-redis}}]
{}{}---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: redis, namespace: shop}}
spec: {{host: redis, subsets: [{{name: v1, labels: {{version: v1}}}}, {{name: v2, labels: {{version: v2}}}}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: redis, namespace: shop}}
spec:
  hosts: [redis]
  tcp:
  - match: [{{sourceLabels: {{app: cart}}}}]
    route: [{{destination: {{host: redis, subset: {subset}}}}}]
",
        of_version("v1"),
        of_version("v2")
    )
}

/// Says it and hears it back, as long as the connection lasts.
fn said(client: &mut Client, text: &str) {
    client.send(text.as_bytes()).expect("sent");
    client.await_text(text).expect("it comes back");
}

fn sum(of: SocketAddr, name: &str, labels: &[(&str, &str)]) -> f64 {
    metrics::sum(&scrape(of), name, labels)
}

#[test]
fn a_connection_passes_to_the_pod_and_both_sides_count_it_alike() {
    let yaml = app("cart", "v1", 80, 1) + &redis("v2");
    let mesh = Mesh::start(&yaml, &["--workload", "shop/cart-v1", "--forward", "127.0.0.1:0=redis:6379"]);
    let ready = mesh.process.ready();
    let forward = address(&ready["forwards"][0]["address"]);
    assert_eq!(ready["forwards"], json!([{ "address": forward.to_string(), "to": "redis:6379" }]));
    assert_eq!(mesh.status()["forwards"], ready["forwards"]);
    // Rules and port are obeyed, so nobody says they are not.
    assert_eq!(ready["diagnostics"], json!([]));
    let mut client = Client::connect(forward).expect("it listens");
    said(&mut client, "*1\r\n$4\r\nPING\r\n");
    let sides = [("source", address(&ready["metrics"])), ("destination", address(&mesh.pod("redis-v2-0")["metrics"]))];
    let labels = |reporter| {
        [
            ("reporter", reporter),
            ("source_workload", "cart-v1"),
            ("destination_workload", "redis-v2"),
            ("destination_service", "redis.shop.svc.cluster.local"),
            ("request_protocol", "tcp"),
            ("response_flags", "-"),
        ]
    };
    let counted = |open: [f64; 4]| {
        for (reporter, from) in sides {
            let names = ["connections_opened", "connections_closed", "sent_bytes", "received_bytes"];
            let told = || {
                let all = names.map(|name| sum(from, &format!("istio_tcp_{name}_total"), &labels(reporter)));
                (all == open).then_some(())
            };
            eventually(reporter, told);
        }
    };
    // A connection that lasts shows meanwhile.
    counted([1.0, 0.0, 14.0, 14.0]);
    said(&mut client, "more\n");
    client.finish().expect("said everything");
    assert_eq!(client.read_ending().bytes, b"*1\r\n$4\r\nPING\r\nmore\n");
    counted([1.0, 1.0, 19.0, 19.0]);
    assert_eq!(sum(address(&mesh.pod("redis-v1-0")["metrics"]), "istio_tcp_connections_opened_total", &[]), 0.0);
}

#[test]
fn forwards_follow_edits_and_open_connections_stay() {
    let mesh = Mesh::start(
        &(app("cart", "v1", 80, 1) + &redis("v1")),
        &["--workload=shop/cart-v1", "--forward", ":0=redis:6379,:0=cart.shop:80", "--forward", ":0=late:1"],
    );
    let ready = mesh.process.ready();
    let forward = |at: usize| address(&ready["forwards"][at]["address"]);
    let opened = |pod: &str| sum(address(&mesh.pod(pod)["metrics"]), "istio_tcp_connections_opened_total", &[]);
    let mut first = Client::connect(forward(0)).expect("it listens");
    said(&mut first, "before\n");
    assert_eq!((opened("redis-v1-0"), opened("redis-v2-0")), (1.0, 0.0));
    // HTTP is bytes, too.
    let answer = Client::connect(forward(1)).expect("it listens").exchange(b"GET / HTTP/1.1\r\nhost: cart\r\n\r\n");
    assert_eq!(answer.expect("an answer").status, 200);
    // What is not there is told, and its connections end.
    let finding = &ready["diagnostics"][0];
    assert_eq!((&finding["code"], &finding["level"]), (&json!("IST0101"), &json!("error")));
    assert!(finding["message"].as_str().is_some_and(|m| m.contains("host \"late\" is no known service")), "{finding}");
    let closed = || sum(address(&ready["metrics"]), "istio_tcp_connections_closed_total", &[("response_flags", "NC")]);
    // It may be reset before the client knows that it is connected.
    if let Ok(mut none) = Client::connect(forward(2)) {
        assert_eq!(none.read_ending().bytes, b"");
    }
    eventually("the connection that had nowhere to go", || (closed() == 1.0).then_some(()));
    let late = "---\napiVersion: v1\nkind: Service\nmetadata: {name: late, namespace: shop}\nspec:\n  selector: {app: redis}\n  \
                ports: [{name: tcp, port: 1, targetPort: tcp-redis}]\n";
    mesh.world.write("mesh.yaml", &(app("cart", "v1", 80, 1) + &redis("v2") + late));
    eventually("the edit", || (mesh.status()["diagnostics"] == json!([])).then_some(()));
    let mut second = Client::connect(forward(0)).expect("it listens");
    said(&mut second, "after\n");
    assert_eq!((opened("redis-v1-0"), opened("redis-v2-0")), (1.0, 1.0));
    said(&mut first, "still\n");
    said(&mut Client::connect(forward(2)).expect("it listens"), "late\n");
}

#[test]
fn without_a_forward_it_is_told_what_is_missing_and_with_one_of_another_it_still_is() {
    let mesh = Mesh::start(&redis("v1"), &["--forward=:0=redis.shop:6379"]);
    assert_eq!(mesh.status()["diagnostics"], json!([]));
    let other = redis("v1") + &redis("v1").replace("redis", "cache").replace("7483", "7484");
    let mesh = Mesh::start(&other, &["--forward=:0=redis.shop:6379"]);
    let status = mesh.status();
    let told = status["diagnostics"].as_array().expect("a list").iter();
    let told: Vec<_> = told.map(|d| (d["code"].as_str(), d["object"].as_str())).collect();
    let expected = [("OUT0203", "Service shop/cache"), ("OUT0103", "VirtualService shop/cache")];
    assert_eq!(told, expected.map(|(code, object)| (Some(code), Some(object))));
}
