//! Edits of the manifests are followed while it runs.

use std::collections::BTreeSet;

use outrigger_testkit::{Client, How, eventually};
use serde_json::Value;

use crate::tools::{Mesh, address, app, echo, get, pods};

/// Waits until the status has these pods, and tells it.
fn await_pods(mesh: &Mesh, wanted: &[&str]) -> Value {
    eventually(&format!("pods {wanted:?}"), || Some(mesh.status()).filter(|told| pods(told) == wanted))
}

#[test]
fn replicas_come_and_go() {
    let mesh = Mesh::start(&app("cart", "v1", 80, 1), &[]);
    let outbound = address(&mesh.process.ready()["outbound"]);
    let stays = mesh.pod("cart-v1-0")["address"].clone();
    mesh.world.write("mesh.yaml", &app("cart", "v1", 80, 3));
    let told = await_pods(&mesh, &["cart-v1-0", "cart-v1-1", "cart-v1-2"]);
    assert_eq!((&told["workloads"][0]["address"], &told["services"][0]["endpoints"]), (&stays, &3.into()));
    let mut seen = BTreeSet::new();
    while seen.len() < 3 {
        seen.insert(echo(outbound, "cart.shop", "/")["pod"].as_str().expect("a name").to_owned());
    }
    mesh.world.write("mesh.yaml", &app("cart", "v1", 80, 1));
    await_pods(&mesh, &["cart-v1-0"]);
    for _ in 0..10 {
        assert_eq!(echo(outbound, "cart.shop", "/")["pod"], "cart-v1-0");
    }
    let gone = address(&told["workloads"][2]["outbound"]);
    eventually("the end of what listened for a pod that is gone", || Client::connect(gone).is_err().then_some(()));
}

/// A request that is under way when its pod goes is answered.
#[test]
fn a_pod_that_goes_finishes_its_requests() {
    let mesh = Mesh::start(&app("cart", "v1", 80, 1), &[]);
    let pod = mesh.pod("cart-v1-0").clone();
    let mut client = Client::connect(address(&pod["ports"][0]["bound"])).expect("it listens");
    client.send(b"POST / HTTP/1.1\r\nhost: cart\r\ncontent-length: 4\r\n\r\nab").expect("sent");
    let begun = || {
        let clusters = mesh.ask("/api/v1/proxies/shop/cart-v1-0/clusters");
        clusters.to_string().contains(r#""name":"rq_active","type":"GAUGE","value":"1""#).then_some(())
    };
    eventually("the request to be under way", begun);
    mesh.world.write("mesh.yaml", &app("cart", "v1", 80, 0));
    await_pods(&mesh, &[]);
    let probe = |path: &str| get(address(&pod["metrics"]), "pod", path).status;
    eventually("readiness to end", || (probe("/healthz/ready") == 503).then_some(()));
    assert_eq!(probe("/metrics"), 200);
    client.send(b"cd").expect("sent");
    assert_eq!(client.read_response("POST").expect("an answer").status, 200);
    assert_eq!(client.read_ending().how, How::Closed);
}

#[test]
fn a_pod_takes_its_new_labels_and_ports_along() {
    let before = app("cart", "v1", 80, 1);
    let mesh = Mesh::start(&before, &[]);
    let outbound = address(&mesh.process.ready()["outbound"]);
    let ip = address(&mesh.pod("cart-v1-0")["outbound"]).ip();
    let after = before.replace("version: v1", "version: v2").replace("7480", "7490");
    mesh.world.write("mesh.yaml", &after);
    let moved = || {
        let answer = get(outbound, "cart.shop", "/");
        let told: Value = serde_json::from_slice(&answer.body).ok()?;
        (told["version"] == "v2" && told["httpPort"] == "7490").then_some(())
    };
    eventually("the new version on the new port", moved);
    assert_eq!(echo((ip, 7490).into(), "cart", "/")["version"], "v2");
    eventually("the old port to be closed", || Client::connect((ip, 7480).into()).is_err().then_some(()));
}

/// A pod that comes back while the one before it still drains gets another address: nobody meets a ghost.
#[test]
fn a_name_that_comes_back_is_another_pod() {
    let mesh = Mesh::start(&app("cart", "v1", 80, 2), &[]);
    let old = mesh.pod("cart-v1-1").clone();
    let mut client = Client::connect(address(&old["ports"][0]["bound"])).expect("it listens");
    client.send(b"POST / HTTP/1.1\r\nhost: cart\r\ncontent-length: 4\r\n\r\nab").expect("sent");
    mesh.world.write("mesh.yaml", &app("cart", "v1", 80, 1));
    await_pods(&mesh, &["cart-v1-0"]);
    mesh.world.write("mesh.yaml", &app("cart", "v1", 80, 2));
    let told = await_pods(&mesh, &["cart-v1-0", "cart-v1-1"]);
    let new = &told["workloads"][1];
    assert_ne!(new["address"], old["address"]);
    assert_eq!(echo(address(&new["ports"][0]["bound"]), "cart", "/")["pod"], "cart-v1-1");
}
