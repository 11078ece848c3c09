//! gRPC to the echo servers: one of three answers `UNAVAILABLE`, and no call is lost.

use std::process::Command;

use outrigger_testkit::{eventually, metrics};
use serde_json::Value;

use crate::scene::{OUTRIGGER, Scene};

const MESH: &str = "
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop}
spec:
  selector: {app: reviews}
  ports: [{name: grpc, port: 9080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: reviews, namespace: shop}
spec:
  replicas: 3
  selector: {matchLabels: {app: reviews}}
  template:
    metadata: {labels: {app: reviews, version: v1}}
    spec: {containers: [{name: reviews, image: any, ports: [{name: grpc, containerPort: 9080}]}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: shop}
spec:
  host: reviews
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    outlierDetection: {consecutive5xxErrors: 3, baseEjectionTime: 300s, maxEjectionPercent: 50}
";

#[test]
fn calls_that_are_unavailable_are_made_again_by_default_and_their_server_is_left_out() {
    let scene = Scene::start(MESH, &["--simulate"]);
    let admin = scene.process.address("admin").to_string();
    let call = |instruction: &str| -> Value {
        let mut command = Command::new(OUTRIGGER);
        command.args(["request", "http://reviews.shop:9080/shop.Reviews/List", "--grpc", "--admin", &admin]);
        command.args(["--count", "150", "-o", "json", "-H", instruction]);
        let output = command.output().expect("it starts");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    };
    let told = call("x-echo-grpc-status: 14;pod=reviews-1");
    assert_eq!(told["by_grpc_status"], serde_json::json!({ "0": 150 }), "no call is lost: {told}");
    assert_eq!(told["by_pod"]["reviews-1"], Value::Null, "{told}");
    let counts = || {
        let samples = scene.samples();
        let sum = |name: &str, labels: &[(&str, &str)]| metrics::sum(&samples, name, labels) as u64;
        let bad = [("endpoint", "reviews-1")];
        let found = [
            sum("outrigger_endpoint_requests_total", &bad),
            sum("outrigger_endpoint_ejections_total", &bad),
            sum("envoy_cluster_upstream_rq_retry", &[]),
            sum("envoy_cluster_upstream_rq_retry_success", &[]),
        ];
        (found == [3, 1, 3, 3]).then_some(()).ok_or(found)
    };
    eventually("three attempts, one ejection, three retries that helped", || counts().ok());
    // What every server says of itself cannot be helped by asking another one.
    let told = call("x-echo-grpc-status: 5");
    assert_eq!(told["by_grpc_status"], serde_json::json!({ "5": 150 }), "{told}");
    assert_eq!(counts(), Ok(()), "NOT_FOUND is no failure of a server, and nothing is retried");
}
