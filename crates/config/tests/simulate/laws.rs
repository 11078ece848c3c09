//! What holds for every input: every endpoint of a simulated pod is served, and every pod says rightly for whom.

use std::collections::HashSet;
use std::net::IpAddr;

use outrigger_config::loader::load_text;
use outrigger_config::simulate::{SimulatedPod, Simulation};
use outrigger_config::translate::{View, translate};
use outrigger_model::Snapshot;

use crate::app;
use crate::replicas::cluster_dump;
use crate::samples::samples;

/// What the sidecar itself serves at the address of its pod.
const SIDECAR_PORTS: [u16; 5] = [15001, 15006, 15020, 15021, 15090];

#[track_caller]
fn check(what: &str, yaml: &str) -> usize {
    let stage = Simulation::new(0).stage(&load_text("f.yaml", yaml).0);
    let (snapshot, _) = translate(&stage.resources, &View::default());
    let mut addresses = HashSet::new();
    let mut names = HashSet::new();
    for pod in &stage.pods {
        assert!(addresses.insert(pod.address), "{what}: two pods at {}", pod.address);
        assert!(names.insert((&pod.namespace, &pod.name)), "{what}: two pods {}", pod.name);
        let ports: HashSet<u16> = pod.ports.iter().map(|port| port.port).collect();
        assert_eq!(ports.len(), pod.ports.len(), "{what}: {} has a port twice", pod.name);
        assert!(SIDECAR_PORTS.iter().all(|port| !ports.contains(port)), "{what}: {ports:?}");
        every_service_is_right(what, pod, &snapshot);
    }
    for endpoint in snapshot.clusters.values().flat_map(|cluster| &cluster.endpoints) {
        let IpAddr::V4(address) = endpoint.address.ip() else { continue };
        let Some(pod) = stage.pods.iter().find(|pod| pod.address == address) else {
            assert!(!address.is_loopback(), "{what}: nobody is at {address}");
            continue;
        };
        let port = endpoint.address.port();
        let served = pod.ports.iter().any(|served| served.port == port) || SIDECAR_PORTS.contains(&port);
        assert!(served, "{what}: {} does not serve {port}", pod.name);
        assert_eq!(*endpoint.workload, *pod.facts, "{what}");
    }
    stage.pods.len()
}

/// A ready pod is an endpoint of the Service that each of its ports names, by that very port.
fn every_service_is_right(what: &str, pod: &SimulatedPod, snapshot: &Snapshot) {
    for port in pod.ports.iter().filter(|_| pod.ready) {
        let Some(service) = &port.service else { continue };
        let name = format!("outbound|{}||{}", service.port, service.host);
        let cluster = snapshot.clusters.get(name.as_str()).unwrap_or_else(|| panic!("{what}: no {name}"));
        let at = (IpAddr::V4(pod.address), port.port);
        let is_there = cluster.endpoints.iter().any(|e| (e.address.ip(), e.address.port()) == at);
        assert!(is_there, "{what}: {at:?} is not in {name}");
    }
}

/// A little of everything.
fn world() -> String {
    cluster_dump(3)
        + &app("b", 2)
        + "apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: db
spec:
  replicas: 2
  serviceName: db
  selector:
    matchLabels:
      app: db
  template:
    metadata:
      labels:
        app: db
        tier: data
    spec:
      serviceAccountName: db
      containers:
      - name: pg
        ports:
        - name: tcp-pg
          containerPort: 5432
        - name: metrics
          containerPort: 9187
        readinessProbe:
          tcpSocket:
            port: tcp-pg
      - name: istio-proxy
        image: istio/proxyv2:1
        ports:
        - containerPort: 15090
---
apiVersion: v1
kind: Service
metadata:
  name: db
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector:
    app: db
  ports:
  - name: tcp
    port: 5432
    targetPort: tcp-pg
  - name: http-metrics
    port: 9187
  - name: stats
    port: 90
    targetPort: 15090
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: e
spec:
  hosts:
  - data.example.com
  resolution: STATIC
  ports:
  - number: 80
    name: http
    targetPort: 7070
  workloadSelector:
    labels:
      tier: data
---
apiVersion: v1
kind: Service
metadata:
  name: other
spec:
  selector:
    tier: data
  ports:
  - port: 80
    targetPort: 15020
"
}

#[test]
fn whatever_line_is_missing_every_endpoint_is_served() {
    let world = world();
    assert_eq!(check("the world", &world), 7);
    let lines: Vec<&str> = world.lines().collect();
    for missing in 0..lines.len() {
        let rest: Vec<&str> =
            lines.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, line)| *line).collect();
        check(&format!("without line {} ({})", missing + 1, lines[missing].trim()), &rest.join("\n"));
    }
}

#[test]
fn every_endpoint_of_every_sample_is_served() {
    let Some(samples) = samples() else { return };
    let mut folders = vec![samples];
    let mut pods = 0;
    while let Some(folder) = folders.pop() {
        // A folder's files belong together; where they are variants of each other the first definition counts.
        let mut all = String::new();
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "yaml") {
                all += &(std::fs::read_to_string(&path).unwrap() + "\n---\n");
            }
        }
        pods += check(&folder.display().to_string(), &all);
    }
    assert!(pods > 15, "{pods} pods");
}
