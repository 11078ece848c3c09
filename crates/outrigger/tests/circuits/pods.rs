//! Many proxies in a process: each has its circuits, and one of them can be meant.

use outrigger_testkit::{Process, World};
use serde_json::{Value, json};

use super::{CART, Mesh, OUTRIGGER, TOKEN};

const PODS: &str = "apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {selector: {app: cart}, ports: [{name: http, port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, namespace: shop}
spec:
  replicas: 1
  selector: {matchLabels: {app: cart}}
  template:
    metadata: {labels: {app: cart}}
    spec: {containers: [{name: cart, image: cart, ports: [{containerPort: 80}]}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: web}]}
---
apiVersion: outrigger.dev/v1alpha1
kind: CircuitBreaker
metadata: {name: cart, namespace: shop}
spec: {targetRefs: [{group: '', kind: Service, name: cart}]}
";

#[test]
fn each_pod_has_its_own_circuit() {
    let world = World::new();
    world.write("pods.yaml", PODS);
    let token = world.write("token", TOKEN).display().to_string();
    let path = world.path().display().to_string();
    let flags = ["--simulate", "-o", "json", "--admin", ":0", "--outbound", ":0", "--stats", ":0"];
    let process = Process::start(OUTRIGGER, ["run", &path, "--admin-token-file", &token].iter().chain(&flags));
    let mesh = Mesh { process, stock: [([127, 0, 0, 1], 1).into(); 2], token, _world: world };
    let circuits = |query: &str| -> Vec<(String, Value, Value)> {
        let told: Value =
            serde_json::from_str(&mesh.ask("GET", &format!("/api/v1/circuits{query}"), "").text()).expect("JSON");
        let all = told["circuits"].as_array().unwrap_or_else(|| panic!("{told:#}")).iter();
        all.map(|of| (of["proxy"].as_str().unwrap_or_default().to_owned(), of["workload"].clone(), of["state"].clone()))
            .collect()
    };
    let proxies: Vec<String> = circuits("").into_iter().map(|(proxy, ..)| proxy).collect();
    assert_eq!(proxies, ["main", "shop/cart-0", "shop/web-0", "shop/web-1"]);
    let force = format!("/api/v1/circuits/{CART}/force?state=open&ttl=1h");
    let (status, told) = mesh.post(&format!("{force}&proxy=shop/web"));
    let said = told["error"].as_str().unwrap_or_default();
    assert_eq!(status, 400);
    assert!(said.ends_with("name one: shop/web-0, shop/web-1"), "{said}");
    let (status, told) = mesh.post(&format!("{force}&proxy=shop/web-1"));
    assert_eq!((status, &told["proxy"], &told["workload"]), (200, &json!("shop/web-1"), &json!("shop/web")));
    let of_web = |name: &str, state: &str| (name.to_owned(), json!("shop/web"), json!(state));
    assert_eq!(circuits("?proxy=shop/web"), [of_web("shop/web-0", "closed"), of_web("shop/web-1", "forced_open")]);
    for (from, flag) in [("shop/web-0", None), ("shop/web-1", Some("UO"))] {
        let sent = mesh.command(&["request", "http://cart.shop/", "--from", from, "--count", "2", "-o", "json"]);
        let told: Value = serde_json::from_slice(&sent.stdout).expect("JSON");
        let flags = flag.map_or_else(|| json!({}), |flag| json!({ flag: 2 }));
        assert_eq!(told["by_flag"], flags, "{from}: {told:#}");
    }
}
