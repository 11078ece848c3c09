//! What there is to look at: the file for Prometheus, and the load that gives it something to count.

use std::collections::BTreeSet;

use outrigger_testkit::{Client, eventually, metrics};
use serde_json::{Value, json};

use crate::tools::{Mesh, address, app, scrape};

#[test]
fn the_file_for_prometheus_follows() {
    let folder = outrigger_testkit::World::new();
    let file = folder.path().join("targets.json");
    let read = || -> Value {
        serde_json::from_slice(&std::fs::read(&file).expect("the file is there")).expect("it is never half of one")
    };
    let targets = |told: &Value| -> Vec<(String, String)> {
        let entry = |e: &Value| {
            assert_eq!(e["labels"]["__metrics_path__"], "/stats/prometheus");
            (e["targets"][0].as_str().expect("an address").to_owned(), e["labels"]["pod"].to_string())
        };
        told.as_array().expect("a list").iter().map(entry).collect()
    };
    let mut mesh = Mesh::start(&app("cart", "v1", 80, 2), &["--sd-file", &file.display().to_string()]);
    let told = read();
    let metrics = |pod: &str| mesh.pod(pod)["metrics"].as_str().expect("an address").to_owned();
    let expected = [
        (mesh.process.address("metrics").to_string(), "null".to_owned()),
        (metrics("cart-v1-0"), "\"cart-v1-0\"".to_owned()),
        (metrics("cart-v1-1"), "\"cart-v1-1\"".to_owned()),
    ];
    assert_eq!(targets(&told), expected);
    let labels = json!({
        "__metrics_path__": "/stats/prometheus", "namespace": "shop", "pod": "cart-v1-0", "app": "cart", "version": "v1",
    });
    assert_eq!(told[1]["labels"], labels);
    for (target, _) in targets(&told) {
        assert!(!scrape(target.parse().expect("an address")).is_empty(), "{target}");
    }
    mesh.world.write("mesh.yaml", &app("cart", "v1", 80, 1));
    eventually("a target less", || (targets(&read()) == expected[..2]).then_some(()));
    // Only the file itself stands in its folder, and nothing in it once nobody listens any more.
    let names: Vec<_> =
        std::fs::read_dir(folder.path()).expect("a folder").map(|e| e.expect("a file").file_name()).collect();
    assert_eq!(names, ["targets.json"]);
    mesh.process.signal("TERM");
    assert_eq!((mesh.process.wait().code(), read()), (Some(0), json!([])));
}

#[test]
fn a_file_that_cannot_be_written_is_told() {
    let world = outrigger_testkit::World::new();
    world.write("mesh.yaml", &app("cart", "v1", 80, 1));
    let path = world.path().display().to_string();
    let args =
        ["run", &path, "--admin", ":0", "--outbound", ":0", "--stats", ":0", "--sd-file", "/no/such/folder/x.json"];
    let output = std::process::Command::new(crate::tools::OUTRIGGER).args(args).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("--sd-file /no/such/folder/x.json"), "{said}");
}

#[test]
fn a_load_reaches_every_route_and_follows_edits() {
    let route = "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: cart, namespace: shop}
spec:
  hosts: [cart]
  http:
  - {name: beta, match: [{uri: {prefix: /b}, headers: {x-beta: {exact: 'yes'}}}], route: [{destination: {host: cart}}]}
  - {name: old, match: [{uri: {regex: '/v[0-9]+/.+'}}], redirect: {uri: /}}
  - {name: rest, route: [{destination: {host: cart}}]}
";
    let both = app("cart", "v1", 80, 1) + &app("web", "v1", 80, 1);
    let mesh = Mesh::start(&(both.clone() + route), &["--load", "200"]);
    let rules = |pod: &str| -> BTreeSet<String> {
        let samples = scrape(address(&mesh.pod(pod)["metrics"]));
        let used = samples.iter().filter(|s| s.name == "outrigger_route_requests_total" && s.value > 0.0);
        used.filter(|s| s.labels["route_kind"] == "VirtualService").map(|s| s.labels["rule"].clone()).collect()
    };
    let all: BTreeSet<String> = ["beta", "rest"].map(str::to_owned).into();
    // Both workloads send, and a redirect has no destination to be counted for.
    eventually("every rule of both", || (rules("web-v1-0") == all && rules("cart-v1-0") == all).then_some(()));
    let counted = || {
        let samples = scrape(address(&mesh.pod("web-v1-0")["metrics"]));
        let codes = metrics::sum_by(&samples, "istio_requests_total", "response_code");
        codes.contains_key("301").then_some(())
    };
    eventually("redirects", counted);
    mesh.world.write("mesh.yaml", &both);
    eventually("fewer routes", || (mesh.status()["load"]["routes"] == 2).then_some(()));
    let told = mesh.status()["load"].clone();
    assert_eq!((&told["rate"], &told["failed"]), (&json!(200.0), &json!(0)), "{told}");
    // The clock sets the pace, not the answers.
    let sent = || mesh.status()["load"]["sent"].as_u64().expect("a number");
    let (before, start) = (sent(), std::time::Instant::now());
    outrigger_testkit::pass_time(std::time::Duration::from_secs(1));
    let rate = (sent() - before) as f64 / start.elapsed().as_secs_f64();
    assert!((20.0..=210.0).contains(&rate), "{rate} requests a second");
    assert!(Client::connect(address(&mesh.pod("web-v1-0")["outbound"])).is_ok());
}
