//! A service of plain TCP: an instance that takes no connections gets none, until it is back.

use std::net::SocketAddr;

use outrigger_testkit::eventually;

use crate::scene::{Fault, Replica, Scene, from_to, get, service};

const RULES: &str = "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: store, namespace: shop}
spec:
  host: store
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    outlierDetection:
      {consecutive5xxErrors: 3, interval: 100ms, baseEjectionTime: 600ms, maxEjectionPercent: 50}
";

#[test]
fn three_connections_that_fail_eject_an_instance_and_time_brings_it_back() {
    let mut replicas = Replica::some("store", 3);
    let scene =
        Scene::start(&(service("store", "tcp", &replicas) + RULES), &["--forward", "127.0.0.1:0=store.shop:80"]);
    let forward = scene.process.ready()["forwards"][0]["address"].as_str().and_then(|text| text.parse().ok());
    let forward: SocketAddr = forward.expect("the address of the forward");
    let connect = |times: usize| (0..times).filter(|_| get(forward, "store").status != 200).count();
    assert_eq!(connect(9), 0);
    assert!(replicas.iter().all(|replica| replica.count(true) > 0), "each has its turn");

    let failed_at = replicas[1].fail(Fault::Gone);
    let lost = connect(30);
    assert!((1..=3).contains(&lost), "a connection is not made twice, so clients notice {lost}");
    let ejected = scene.log(&["endpoint ejected", "pod=\"store-1\"", "reason=\"consecutive_5xx\""]);
    assert!(!ejected.is_empty(), "it is out");
    assert!(from_to(failed_at, ejected[0].0) < 1.0, "ejected after {} s", from_to(failed_at, ejected[0].0));
    assert_eq!(scene.sum("envoy_cluster_upstream_cx_connect_fail", &[]) as usize, lost);

    replicas[1].recover();
    let bad = [("endpoint", "store-1")];
    eventually("its return", || (scene.sum("outrigger_endpoint_ejected", &bad) == 0.0).then_some(()));
    let before = replicas[1].count(true);
    assert_eq!(connect(30), 0);
    // Each worker counts the turns of its own connections.
    let more = replicas[1].count(true) - before;
    assert!((8..=12).contains(&more), "its turn comes as ever: {more} of 30");
}
