//! Gateways that relay connections: TLS by the server name in the hello, TCP by port and weight.

use std::net::SocketAddr;

use outrigger_testkit::{Client, How, eventually, metrics};
use serde_json::{Value, json};

use crate::tools::{Mesh, address, scrape};

/// A Service and a Deployment whose port is called `port`, which is no name of HTTP.
fn server(name: &str, port: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop}}
spec:
  selector: {{app: {name}}}
  ports: [{{name: {port}, port: 6379, targetPort: {port}}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec: {{containers: [{{name: main, image: any, ports: [{{name: {port}, containerPort: 7485}}]}}]}}
"
    )
}

/// A Gateway for TLS that passes through, and for TCP; `backends` are those of the TCPRoute.
fn gateway(backends: &str) -> String {
    format!(
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge, namespace: shop}}
spec:
  gatewayClassName: outrigger
  listeners:
  - {{name: tls, port: 7486, protocol: TLS, hostname: '*.example.com', tls: {{mode: Passthrough}}}}
  - {{name: tcp, port: 7487, protocol: TCP}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {{name: vault, namespace: shop}}
spec:
  parentRefs: [{{name: edge}}]
  hostnames: [vault.example.com]
  rules: [{{backendRefs: [{{name: vault, port: 6379}}]}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {{name: cache, namespace: shop}}
spec:
  parentRefs: [{{name: edge, sectionName: tcp}}]
  rules: [{{backendRefs: [{backends}]}}]
"
    )
}

/// The hello of a client of TLS 1.3 that names a server, in one record.
fn hello(server_name: &str) -> Vec<u8> {
    let sized = |bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).expect("a short list");
        [&length.to_be_bytes(), bytes].concat()
    };
    let extension = |kind: u16, body: &[u8]| [kind.to_be_bytes().to_vec(), sized(body)].concat();
    let name = [&[0], &*sized(server_name.as_bytes())].concat();
    let extensions = [
        extension(0x0000, &sized(&name)),
        extension(0x000a, &sized(&[0x00, 0x1d])),
        extension(0x000d, &sized(&[0x04, 0x03, 0x08, 0x04])),
        extension(0x002b, &[2, 0x03, 0x04]),
        extension(0x0033, &sized(&[&[0x00, 0x1d], &*sized(&[7; 32])].concat())),
    ];
    let body =
        [&[0x03, 0x03][..], &[9; 32], &[0], &sized(&[0x13, 0x01]), &[1, 0], &sized(&extensions.concat())].concat();
    let length = u32::try_from(body.len()).expect("a short message").to_be_bytes();
    let message = [&[1], &length[1..], &body].concat();
    [&[0x16, 0x03, 0x01], &*sized(&message)].concat()
}

fn bound(told: &Value, listener: usize) -> SocketAddr {
    address(&told["gateways"][0]["listeners"][listener]["bound"])
}

/// Sends bytes, says that nothing more comes, and reads what comes back and how it ends.
fn sent(to: SocketAddr, bytes: &[u8]) -> (Vec<u8>, How) {
    // It may be reset before the client knows that it is connected.
    let Ok(mut client) = Client::connect(to) else { return (Vec::new(), How::Reset) };
    if client.send(bytes).and_then(|()| client.finish()).is_err() {
        return (Vec::new(), How::Reset);
    }
    let ending = client.read_ending();
    (ending.bytes, ending.how)
}

fn opened(mesh: &Mesh, pod: &str) -> f64 {
    let labels = [("reporter", "destination"), ("source_workload", "edge-outrigger")];
    metrics::sum(&scrape(address(&mesh.pod(pod)["metrics"])), "istio_tcp_connections_opened_total", &labels)
}

#[test]
fn tls_passes_through_a_gateway_by_its_server_name() {
    let mesh = Mesh::start(&(server("vault", "tls-vault") + &gateway("{name: vault, port: 6379}")), &[]);
    let ready = mesh.process.ready();
    let listeners = &ready["gateways"][0]["listeners"];
    assert_eq!((&listeners[0]["protocol"], &listeners[0]["hostname"]), (&json!("TLS"), &json!("*.example.com")));
    assert_eq!((&listeners[1]["protocol"], &listeners[1]["hostname"]), (&json!("TCP"), &json!("*")));
    // What the pod gets is the hello itself, byte by byte, and it echoes it.
    let ours = hello("vault.example.com");
    assert_eq!(sent(bound(ready, 0), &ours), (ours, How::Closed));
    assert_eq!(opened(&mesh, "vault-0"), 1.0);
    // Names without a route get the alert for that, `unrecognized_name`; who says no hello gets nothing of the pod either.
    for stranger in ["other.example.com", "example.org"] {
        assert_eq!(sent(bound(ready, 0), &hello(stranger)).0, [21, 3, 3, 0, 2, 2, 112]);
    }
    let (answer, _) = sent(bound(ready, 0), b"GET / HTTP/1.1\r\nhost: vault.example.com\r\n\r\n");
    assert!(!answer.windows(3).any(|bytes| bytes == b"GET"), "{answer:?}");
    assert_eq!(opened(&mesh, "vault-0"), 1.0);
}

#[test]
fn tcp_is_shared_out_by_weight_and_a_backend_that_is_missing_resets_its_share() {
    let world = |backends: &str| {
        server("cache-a", "tcp-cache")
            + &server("cache-b", "tcp-b")
            + &server("vault", "tls-vault")
            + &gateway(backends)
    };
    let three_to_one = world("{name: cache-a, port: 6379, weight: 3}, {name: cache-b, port: 6379}");
    let mesh = Mesh::start(&three_to_one, &[]);
    let ready = mesh.process.ready();
    assert_eq!(
        mesh.status()["diagnostics"].as_array().map(|all| all.iter().filter(|d| d["code"] != "OUT0203").count()),
        Some(0)
    );
    let tcp = bound(ready, 1);
    for _ in 0..20 {
        assert_eq!(sent(tcp, b"PING\r\n"), (b"PING\r\n".to_vec(), How::Closed));
    }
    assert_eq!((opened(&mesh, "cache-a-0"), opened(&mesh, "cache-b-0")), (15.0, 5.0));
    // A Service that is not there keeps its share.
    mesh.world.write("mesh.yaml", &world("{name: cache-a, port: 6379, weight: 3}, {name: gone, port: 6379}"));
    let is_told = || {
        let status = mesh.status();
        let route = status["status"].as_array()?.iter().find(|of| of["kind"] == "TCPRoute")?.clone();
        route["conditions"].as_array()?.iter().find(|condition| condition["reason"] == "BackendNotFound").cloned()
    };
    eventually("the edit", is_told);
    let answers: Vec<Vec<u8>> = (0..20).map(|_| sent(tcp, b"PING\r\n").0).collect();
    let (served, reset): (Vec<_>, Vec<_>) = answers.into_iter().partition(|bytes| bytes == b"PING\r\n");
    assert_eq!((served.len(), reset.len()), (15, 5), "{reset:?}");
    let refused = |flag| {
        let samples = scrape(address(&ready["gateways"][0]["metrics"]));
        metrics::sum(&samples, "istio_tcp_connections_closed_total", &[("response_flags", flag)])
    };
    eventually("the connections that were reset", || (refused("NC") == 5.0).then_some(()));
}
