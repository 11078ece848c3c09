//! Pods as they start: their report, their containers, their sidecars and the servers beside them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use outrigger_testkit::{Client, eventually, metrics};
use serde_json::{Value, json};

use crate::tools::{Mesh, address, app, echo, get, pods, scrape};

#[test]
fn the_report_tells_every_pod() {
    let mesh = Mesh::start(&(app("cart", "v1", 80, 2) + &app("web", "v1", 80, 1)), &[]);
    let ready = mesh.process.ready();
    assert_eq!(pods(ready), ["cart-v1-0", "cart-v1-1", "web-v1-0"]);
    let pod = mesh.pod("cart-v1-1");
    let ip = pod["address"].as_str().expect("an address");
    assert!(ip.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback()), "{ip}");
    let expected = json!({
        "namespace": "shop", "name": "cart-v1", "pod": "cart-v1-1", "address": ip,
        "labels": { "app": "cart", "version": "v1" }, "service_account": "cart-account", "ready": true,
        "outbound": format!("{ip}:15001"), "metrics": format!("{ip}:15020"),
        "ports": [{ "container": "main", "name": "http", "port": 7480, "protocol": "http", "bound": format!("{ip}:7480") }],
    });
    assert_eq!(*pod, expected);
    let services = json!([
        { "namespace": "shop", "name": "cart", "ports": [80], "endpoints": 2 },
        { "namespace": "shop", "name": "web", "ports": [80], "endpoints": 1 },
    ]);
    assert_eq!((&ready["services"], &ready["gateways"]), (&services, &json!([])));
    assert_eq!(ready["diagnostics"], json!([]));
    let told = mesh.status();
    for member in ["workloads", "gateways", "services", "diagnostics", "status"] {
        assert_eq!(told[member], ready[member], "{member}");
    }
}

#[test]
fn a_request_passes_both_sidecars_and_both_count_it() {
    let mesh = Mesh::start(&(app("cart", "v1", 80, 1) + &app("web", "v1", 80, 1)), &[]);
    let (web, cart) = (mesh.pod("web-v1-0"), mesh.pod("cart-v1-0"));
    for _ in 0..3 {
        let told = echo(address(&web["outbound"]), "cart", "/items?a=b");
        let expected = [
            ("path", "/items?a=b"),
            ("host", "cart"),
            ("httpPort", "7480"),
            ("namespace", "shop"),
            ("service", "cart"),
            ("pod", "cart-v1-0"),
            ("container", "main"),
            ("version", "v1"),
        ];
        for (member, want) in expected {
            assert_eq!(told[member], want, "{member}: {told}");
        }
    }
    let edge = [("source_workload", "web-v1"), ("destination_workload", "cart-v1"), ("response_code", "200")];
    for (pod, reporter) in [(web, "source"), (cart, "destination")] {
        let counted = || {
            let labels = [&edge[..], &[("reporter", reporter)]].concat();
            (metrics::sum(&scrape(address(&pod["metrics"])), "istio_requests_total", &labels) == 3.0).then_some(())
        };
        eventually(reporter, counted);
    }
    let samples = scrape(address(&cart["metrics"]));
    assert_eq!(metrics::sum(&samples, "outrigger_container_requests_total", &[("container", "main")]), 3.0);
    // Memory is the process's, and it alone tells it.
    assert!(samples.iter().all(|s| s.name != "envoy_server_memory_allocated" && s.name != "process_threads"));
}

#[test]
fn each_port_beside_a_sidecar_serves_its_own_paths() {
    let mesh = Mesh::start(&app("cart", "v1", 80, 1), &[]);
    let ip = mesh.pod("cart-v1-0")["address"].as_str().expect("an address").parse::<Ipv4Addr>().expect("an address");
    for (port, found) in [(15020, [200, 200, 200]), (15021, [404, 404, 200]), (15090, [200, 404, 404])] {
        for (path, status) in ["/stats/prometheus", "/metrics", "/healthz/ready"].iter().zip(found) {
            assert_eq!(get((ip, port).into(), "pod", path).status, status, "{port}{path}");
        }
    }
}

#[test]
fn containers_of_a_pod_share_its_address_and_answer_by_their_own_names() {
    let yaml = "
apiVersion: v1
kind: Pod
metadata: {name: both, namespace: shop, labels: {app: both}}
spec:
  containers:
  - {name: front, image: any, ports: [{name: http, containerPort: 7480}]}
  - {name: back, image: any, ports: [{name: http-back, containerPort: 7481}, {name: tcp-raw, containerPort: 7482}]}
---
apiVersion: v1
kind: Service
metadata: {name: both, namespace: shop}
spec:
  selector: {app: both}
  ports:
  - {name: http, port: 80, targetPort: 7480}
  - {name: http-back, port: 81, targetPort: http-back}
  - {name: tcp-raw, port: 82, targetPort: tcp-raw}
";
    let mesh = Mesh::start(yaml, &[]);
    let outbound = address(&mesh.process.ready()["outbound"]);
    let who = |host: &str| {
        let told = echo(outbound, host, "/");
        ["pod", "container", "httpPort"].map(|member| told[member].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(who("both.shop"), ["both", "front", "7480"]);
    assert_eq!(who("both.shop:81"), ["both", "back", "7481"]);
    let samples = scrape(address(&mesh.pod("both")["metrics"]));
    let by_container = metrics::sum_by(&samples, "outrigger_container_requests_total", "container");
    assert_eq!(by_container, [("back".to_owned(), 1.0), ("front".to_owned(), 1.0)].into());
    // What is no HTTP comes back byte by byte.
    let raw = address(&mesh.pod("both")["ports"][2]["bound"]);
    let mut client = Client::connect(raw).expect("it listens");
    client.send(b"\x00anything\n").expect("sent");
    client.await_text("anything\n").expect("it comes back");
    client.finish().expect("said everything");
    assert_eq!(client.read_ending().bytes, b"\x00anything\n");
}

/// The port of the containers is taken on all addresses, as by a program that has nothing to do with the mesh.
#[test]
fn a_port_that_is_taken_becomes_a_free_one_and_traffic_finds_it() {
    let taken = TcpListener::bind("0.0.0.0:0").expect("free");
    let port = taken.local_addr().expect("bound").port();
    let yaml = app("cart", "v1", 80, 1).replace("7480", &port.to_string());
    let mesh = Mesh::start(&yaml, &[]);
    let bound = address(&mesh.pod("cart-v1-0")["ports"][0]["bound"]);
    assert_ne!(bound.port(), port);
    let told = echo(address(&mesh.process.ready()["outbound"]), "cart.shop", "/");
    assert_eq!((&told["pod"], &told["httpPort"]), (&json!("cart-v1-0"), &json!(port.to_string())));
    let finding = &mesh.process.ready()["diagnostics"][0];
    let message = finding["message"].as_str().expect("a sentence");
    assert_eq!((&finding["code"], &finding["object"]), (&json!("OUT0311"), &json!("Pod shop/cart-v1-0")));
    assert!(message.contains("another program listens there") && message.contains(&bound.to_string()), "{message}");
}

#[test]
fn a_pod_that_is_not_ready_runs_and_gets_no_traffic() {
    let yaml = app("cart", "v1", 80, 1)
        .replace("containers:", "readinessGates: [{conditionType: example.com/go}]\n      containers:");
    let mesh = Mesh::start(&yaml, &[]);
    let pod = mesh.pod("cart-v1-0");
    assert_eq!(pod["ready"], false);
    let answer = get(address(&mesh.process.ready()["outbound"]), "cart.shop", "/");
    assert!(answer.status == 503 && answer.fields.get("proxy-status").is_some_and(|s| s.contains("flag=UH")));
    assert_eq!(echo(address(&pod["ports"][0]["bound"]), "any", "/")["pod"], "cart-v1-0");
}

#[test]
fn workloads_send_with_their_own_rules() {
    let route = "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: cart, namespace: shop}
spec:
  hosts: [cart]
  http:
  - match: [{sourceLabels: {app: web}}]
    directResponse: {status: 418}
  - route: [{destination: {host: cart}}]
";
    let mesh = Mesh::start(&(app("cart", "v1", 80, 1) + &app("web", "v1", 80, 2) + route), &[]);
    let (code, said) = mesh.request(&["http://cart/", "--from", "shop/web-v1", "--count", "4", "-o", "json"]);
    let told: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((code, &told["by_status"]["418"]), (Some(0), &json!(4)), "{said}");
    let (code, said) = mesh.request(&["http://cart/", "--from", "shop/cart-v1-0"]);
    assert!(code == Some(0) && said.contains("answered by shop/cart, pod cart-v1-0, version v1"), "{said}");
    let (code, said) = mesh.request(&["http://cart/", "--from", "shop/wep-v1"]);
    assert!(code == Some(2) && said.contains("did you mean shop/web-v1?"), "{said}");
    // The pods of the workload took turns.
    let sent = |pod: &str| {
        let samples = scrape(address(&mesh.pod(pod)["metrics"]));
        metrics::sum(&samples, "istio_requests_total", &[("response_code", "418")])
    };
    assert_eq!((sent("web-v1-0"), sent("web-v1-1")), (2.0, 2.0));
}

#[test]
fn two_simulations_do_not_meet() {
    let yaml = app("cart", "v1", 80, 1);
    let meshes = [Mesh::start(&yaml, &[]), Mesh::start(&yaml, &[])];
    let ports = meshes.each_ref().map(|mesh| address(&mesh.pod("cart-v1-0")["ports"][0]["bound"]));
    assert!(ports[0].ip() != ports[1].ip() && ports.iter().all(|address: &SocketAddr| address.port() == 7480));
}

#[test]
fn the_pods_of_a_headless_service_answer_to_their_own_names() {
    let db = "---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec:
  clusterIP: None
  selector: {app: db}
  ports: [{name: http, port: 80, targetPort: 7480}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: shop}
spec:
  serviceName: db
  replicas: 3
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: main, image: img, ports: [{containerPort: 7480}]}]}
";
    let mesh = Mesh::start(&(app("web", "v1", 80, 1) + db), &[]);
    let web = address(&mesh.pod("web-v1-0")["outbound"]);
    for (host, pod) in [
        ("db-0.db", "db-0"),
        ("db-1.db.shop", "db-1"),
        ("DB-2.db.shop.svc", "db-2"),
        ("db-1.db.shop.svc.cluster.local:80", "db-1"),
    ] {
        for _ in 0..3 {
            assert_eq!(echo(web, host, "/")["pod"], pod, "{host}");
        }
    }
    let balanced: Vec<String> = (0..3).map(|_| echo(web, "db", "/")["pod"].to_string()).collect();
    assert!(balanced[0] != balanced[1] || balanced[1] != balanced[2], "the service itself is balanced: {balanced:?}");
    let answer = get(web, "db-9.db", "/");
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(get(web, "db-0.web", "/").status, 404, "a service with an address has no names of pods");
}
