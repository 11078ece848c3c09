//! Gateways, with simulated pods and without.

use std::net::SocketAddr;

use outrigger_testkit::{Client, Process, World, eventually, metrics};
use serde_json::json;

use crate::tools::{Mesh, OUTRIGGER, address, app, echo, get, scrape};

/// A Gateway with these listeners, and a route for all of them to `cart`.
fn gateway(listeners: &str) -> String {
    format!(
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: web, namespace: shop}}
spec:
  gatewayClassName: outrigger
  listeners:
{listeners}---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: cart, namespace: shop}}
spec:
  parentRefs: [{{name: web}}]
  rules: [{{backendRefs: [{{name: cart, port: 80}}]}}]
"
    )
}

const ONE: &str = "  - {name: http, port: 7488, protocol: HTTP, hostname: '*.example.com'}\n";
const TWO: &str = "  - {name: more, port: 7489, protocol: HTTP}\n";

fn bound(told: &serde_json::Value, listener: usize) -> SocketAddr {
    address(&told["gateways"][0]["listeners"][listener]["bound"])
}

#[test]
fn a_gateway_is_an_address_of_its_own() {
    let mesh = Mesh::start(&(app("cart", "v1", 80, 1) + &gateway(ONE)), &[]);
    let told = &mesh.process.ready()["gateways"][0];
    let ip = told["address"].as_str().expect("an address");
    let expected = json!({
        "kind": "Gateway", "namespace": "shop", "name": "web", "address": ip, "metrics": format!("{ip}:15020"),
        "listeners": [{
            "name": "http", "port": 7488, "bound": format!("{ip}:7488"), "protocol": "HTTP", "hostname": "*.example.com",
        }],
    });
    assert_eq!(*told, expected);
    assert_eq!(echo(bound(mesh.process.ready(), 0), "www.example.com", "/")["pod"], "cart-v1-0");
    assert_eq!(get(bound(mesh.process.ready(), 0), "other.org", "/").status, 404);
    let (code, said) = mesh.request(&[&format!("http://{ip}:7488/"), "-H", "Host: a.example.com"]);
    assert!(code == Some(0) && said.contains("answered by shop/cart, pod cart-v1-0"), "{said}");
    // The pod knows the gateway by its address.
    let counted = || {
        let samples = scrape(address(&mesh.pod("cart-v1-0")["metrics"]));
        let sources = metrics::sum_by(&samples, "istio_requests_total", "source_workload");
        (sources.values().sum::<f64>() == 2.0).then_some(sources)
    };
    let sources = eventually("two requests", counted);
    assert!(sources.len() == 1 && !sources.contains_key("unknown"), "{sources:?}");
    let status = mesh.status()["status"].clone();
    let accepted = status.as_array().expect("a list").iter().find(|of| of["kind"] == "HTTPRoute").expect("the route");
    assert_eq!(accepted["parent"], "Gateway shop/web");
    assert_eq!(accepted["conditions"][0]["type"], "Accepted");
    assert_eq!(accepted["conditions"][0]["status"], "True");
}

#[test]
fn listeners_and_gateways_come_and_go() {
    let cart = app("cart", "v1", 80, 1);
    let mesh = Mesh::start(&(cart.clone() + &gateway(ONE)), &[]);
    let first = bound(mesh.process.ready(), 0);
    mesh.world.write("mesh.yaml", &(cart.clone() + &gateway(TWO)));
    let told = || Some(mesh.status()).filter(|told| told["gateways"][0]["listeners"][0]["name"] == "more");
    let second = bound(&eventually("the other listener", told), 0);
    assert_eq!((second.ip(), second.port()), (first.ip(), 7489));
    assert_eq!(echo(second, "any", "/")["pod"], "cart-v1-0");
    eventually("the first port to be closed", || Client::connect(first).is_err().then_some(()));
    mesh.world.write("mesh.yaml", &cart);
    eventually("no gateway", || (mesh.status()["gateways"] == json!([])).then_some(()));
    // Back at once: it waits for its address until the one before it has ended.
    mesh.world.write("mesh.yaml", &(cart + &gateway(ONE)));
    let told = || Some(mesh.status()).filter(|told| told["gateways"][0]["listeners"][0]["bound"].is_string());
    let told = eventually("the gateway again", told);
    assert_eq!(bound(&told, 0), first);
    assert_eq!(echo(first, "a.example.com", "/")["pod"], "cart-v1-0");
}

#[test]
fn gateways_need_no_simulation() {
    let world = World::new();
    let slice = "---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {ports: [{name: http, port: 80, targetPort: 7480}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: cart-1, namespace: shop, labels: {kubernetes.io/service-name: cart}}
addressType: IPv4
ports: [{name: http, port: 7480, protocol: TCP}]
endpoints: [{addresses: [127.0.0.1], conditions: {ready: true}}]
";
    // An address of this run alone.
    let address = format!("127.200.{}.1", std::process::id() % 250);
    world.write("mesh.yaml", &(slice.replace("127.0.0.1", &address) + &gateway(ONE)));
    let path = world.path().display().to_string();
    let flags = ["-o", "json", "--admin", ":0", "--outbound", ":0", "--stats", ":0", "--echo"];
    let process = Process::start(OUTRIGGER, ["run", &path].iter().chain(&flags));
    assert_eq!(process.ready()["workloads"], json!([]));
    assert_eq!(echo(bound(process.ready(), 0), "a.example.com", "/")["service"], "cart");
}
