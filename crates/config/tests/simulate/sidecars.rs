//! What the sidecar of a pod obeys.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use outrigger_config::loader::load_text;
use outrigger_config::simulate::{Peers, SimulatedPod, Simulation, peers, sidecar};
use outrigger_config::translate::{View, translate};
use outrigger_model::{Action, ClusterName, Serve, Snapshot, UpstreamHttp, Workload};

use crate::app;

/// Two containers with three ports, one of them without Service and one that speaks TCP; and a client.
fn mesh() -> (Snapshot, Vec<Arc<SimulatedPod>>) {
    let yaml = app("a", 1).replace(
        "- {name: web, ports: [{name: http, containerPort: 8080}]}",
        "- {name: web, ports: [{name: http, containerPort: 8080}]}\n      - {name: aux, ports: [{containerPort: 9100}, {name: tcp-db, containerPort: 5432}]}",
    ) + &app("client", 1);
    let stage = Simulation::new(0).stage(&load_text("f.yaml", &yaml).0);
    let (outbound, _) = translate(&stage.resources, &View::of("default", "a"));
    (outbound, stage.pods)
}

const APPLICATIONS: [(u16, u16); 3] = [(8080, 40_001), (9100, 40_002), (5432, 40_003)];

fn applications() -> Vec<(u16, SocketAddr)> {
    APPLICATIONS.map(|(port, at)| (port, SocketAddr::from((Ipv4Addr::LOCALHOST, at)))).to_vec()
}

fn dump(snapshot: &Snapshot) -> String {
    let mut out = String::new();
    for listener in &snapshot.listeners[1..] {
        writeln!(out, "{} {:?}", listener.name, listener.direction).unwrap();
        assert_eq!(listener.chains.len(), 1);
        assert!(listener.chains[0].tls.is_none() && listener.chains[0].server_names.is_empty());
        let serve = &listener.chains[0].serve;
        match serve {
            Serve::Http(table) | Serve::Detect { http: table, .. } => {
                let [vhost] = &*table.virtual_hosts else { panic!("{table:?}") };
                let [route] = &*vhost.routes else { panic!("{vhost:?}") };
                let Action::Forward(forward) = &route.action else { panic!("{route:?}") };
                let [to] = &*forward.destinations else { panic!("{forward:?}") };
                writeln!(out, "  {} {:?} -> {} {:?}", vhost.name, vhost.domains, to.cluster, table.unmatched).unwrap();
            }
            Serve::Tcp(route) => writeln!(out, "  tcp -> {}", route.destinations[0].cluster).unwrap(),
        }
    }
    let inbound: BTreeMap<_, _> =
        snapshot.clusters.iter().filter(|(name, _)| name.as_str().starts_with("in")).collect();
    for (name, cluster) in inbound {
        let service = &cluster.service;
        write!(out, "{name} {}/{}/{}:{} ->", service.host, service.namespace, service.name, service.port).unwrap();
        for endpoint in &cluster.endpoints {
            write!(out, " {}={}", endpoint.workload.pod, endpoint.address).unwrap();
        }
        out.push('\n');
    }
    out
}

#[test]
fn every_port_has_a_listener_and_a_cluster_with_its_application() {
    let (outbound, pods) = mesh();
    let snapshot = sidecar(&outbound, &pods[0], &applications(), &peers(&pods, &[]), None);
    let expected = r#"
inbound|8080 Inbound(Inbound { container: "web", port: 8080, port_name: "http" })
  inbound|http|8080 [Domain { host: Any, port: Any }] -> inbound|8080|| NotFound
inbound|9100 Inbound(Inbound { container: "aux", port: 9100, port_name: "" })
  inbound|http|9100 [Domain { host: Any, port: Any }] -> inbound|9100|| NotFound
inbound|5432 Inbound(Inbound { container: "aux", port: 5432, port_name: "tcp-db" })
  tcp -> inbound|5432||
inbound|5432|| a/default/a:5432 -> a-0=127.0.0.1:40003
inbound|8080|| a.default.svc.cluster.local/default/a:80 -> a-0=127.0.0.1:40001
inbound|9100|| a/default/a:9100 -> a-0=127.0.0.1:40002
"#;
    assert_eq!(dump(&snapshot), expected.trim_start());
    assert_eq!(&*snapshot.workload.pod, "a-0");
    // A port whose application is not there is not served.
    let fewer = sidecar(&outbound, &pods[0], &applications()[..1], &peers(&pods, &[]), None);
    assert_eq!(fewer.listeners.len(), 2);
}

#[test]
fn the_outbound_view_is_shared_and_so_is_what_did_not_change() {
    let (outbound, pods) = mesh();
    let peers = peers(&pods, &[]);
    let first = sidecar(&outbound, &pods[0], &applications(), &peers, None);
    assert!(Arc::ptr_eq(&first.listeners[0], &outbound.listeners[0]));
    assert!(!outbound.clusters.is_empty());
    for (name, cluster) in &outbound.clusters {
        assert!(Arc::ptr_eq(cluster, &first.clusters[name]), "{name}");
    }
    assert!(Arc::ptr_eq(&first.peers, peers.workloads()));
    let mut moved = applications();
    moved[1].1.set_port(50_000);
    let second = sidecar(&outbound, &pods[0], &moved, &peers, Some(&first));
    let same: Vec<bool> = first.listeners.iter().zip(&second.listeners).map(|(a, b)| Arc::ptr_eq(a, b)).collect();
    assert_eq!(same, [true; 4]);
    let is_same = |name: &str| Arc::ptr_eq(&first.clusters[name], &second.clusters[name]);
    assert_eq!((is_same("inbound|8080||"), is_same("inbound|9100||")), (true, false));
}

#[test]
fn the_version_differs_when_anything_does() {
    let (outbound, pods) = mesh();
    let all = peers(&pods, &[]);
    let version = |outbound: &Snapshot, pod: &SimulatedPod, applications: &[(u16, SocketAddr)], peers: &Peers| {
        sidecar(outbound, pod, applications, peers, None).version
    };
    let base = version(&outbound, &pods[0], &applications(), &all);
    assert_eq!(base, version(&outbound, &pods[0], &applications(), &peers(&pods, &[])), "the same again");
    let mut other_view = outbound.clone();
    other_view.version += 1;
    let mut other_facts = SimulatedPod::clone(&pods[0]);
    other_facts.facts = Arc::new(Workload { pod: "a-1".into(), ..Workload::clone(&pods[0].facts) });
    let mut other_service = SimulatedPod::clone(&pods[0]);
    other_service.ports[0].service = None;
    let mut other_container = SimulatedPod::clone(&pods[0]);
    other_container.ports[0].container = "x".into();
    let mut other_application = applications();
    other_application[0].1.set_port(1);
    let gateway = [(Ipv4Addr::new(127, 0, 2, 1), Arc::new(Workload::unknown()))];
    let others = [
        version(&other_view, &pods[0], &applications(), &all),
        version(&outbound, &other_facts, &applications(), &all),
        version(&outbound, &other_service, &applications(), &all),
        version(&outbound, &other_container, &applications(), &all),
        version(&outbound, &pods[0], &other_application, &all),
        version(&outbound, &pods[0], &applications()[..2], &all),
        version(&outbound, &pods[0], &applications(), &peers(&pods, &gateway)),
        version(&outbound, &pods[0], &applications(), &peers(&pods[..1], &[])),
    ];
    for (index, other) in others.iter().enumerate() {
        assert_ne!(base, *other, "{index}");
        assert!(!others[..index].contains(other), "{index}");
    }
}

#[test]
fn peers_are_found_by_address() {
    let (_, pods) = mesh();
    let gateway = [(Ipv4Addr::new(127, 0, 2, 1), Arc::new(Workload::unknown()))];
    let peers = peers(&pods, &gateway);
    let name = |address: [u8; 4]| peers.workloads().get(&IpAddr::from(address)).map(|w| &*w.name);
    assert_eq!(name([127, 0, 1, 1]), Some("a"));
    assert_eq!(name([127, 0, 1, 2]), Some("client"));
    assert_eq!(name([127, 0, 2, 1]), Some("unknown"));
    assert_eq!(name([127, 0, 1, 3]), None);
}

/// The application gets what its port says that it speaks; where nobody says, what the client speaks.
#[test]
fn an_application_gets_what_its_port_speaks() {
    let yaml = "apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: p}}
spec:
  containers:
  - {name: web, ports: [{name: http, containerPort: 1}, {name: grpc-a, containerPort: 2}, {name: metrics, containerPort: 3}, {containerPort: 4}, {name: tcp-x, containerPort: 5}]}
---
apiVersion: v1
kind: Service
metadata: {name: s}
spec: {selector: {app: p}, ports: [{name: web, port: 4, appProtocol: kubernetes.io/h2c}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: s}
spec: {host: s, trafficPolicy: {connectionPool: {http: {useClientProtocol: true}}}}
";
    let stage = Simulation::new(0).stage(&load_text("f.yaml", yaml).0);
    let (outbound, _) = translate(&stage.resources, &View::of("default", "p"));
    let applications: Vec<(u16, SocketAddr)> = (1..=5).map(|p| (p, (Ipv4Addr::LOCALHOST, 40_000 + p).into())).collect();
    let snapshot = sidecar(&outbound, &stage.pods[0], &applications, &Peers::default(), None);
    let of = |port: u16| snapshot.clusters[&ClusterName::inbound(port)].http;
    use UpstreamHttp::{AsClient, Http1, Http2};
    assert_eq!([1, 2, 3, 4, 5].map(of), [Http1, Http2, AsClient, Http2, Http1]);
}

#[test]
fn a_pod_enforces_the_limits_of_its_services_that_servers_enforce() {
    let limit = |name: &str, by: &str, more: &str| {
        format!(
            "---\napiVersion: outrigger.dev/v1alpha1\nkind: RateLimit\nmetadata: {{name: {name}}}\nspec: {{targetRefs: [{{group: '', kind: Service, name: a}}], {by}{more}}}\n"
        )
    };
    let requests = |number: u32| {
        format!("limits: [{{requests: {number}, interval: 1s, perSource: true}}], bodies: {{requestBytes: 1Ki}}")
    };
    let yaml =
        app("a", 1) + &limit("client", "", &requests(3)) + &limit("server", "enforcedBy: Server, ", &requests(7));
    let stage = Simulation::new(0).stage(&load_text("f.yaml", &yaml).0);
    let (outbound, findings) = translate(&stage.resources, &View::of("default", "a"));
    assert_eq!(findings, []);
    let snapshot = sidecar(&outbound, &stage.pods[0], &applications(), &Peers::default(), None);
    let limits = |listener: &str| {
        let table = snapshot.listener(listener).expect("it is there").route_tables().next().expect("it speaks HTTP");
        let routes = table.virtual_hosts.iter().flat_map(|vhost| &vhost.routes);
        let text = |route: &Arc<outrigger_model::Route>| {
            let numbers: Vec<u32> = route.rate_limits.iter().map(|limit| limit.requests).collect();
            format!("{numbers:?} {:?}", route.body_limits.request_bytes)
        };
        routes.map(text).collect::<Vec<_>>()
    };
    assert_eq!(limits(&outrigger_model::Listener::inbound_name(8080)), ["[7] Some(1024)"]);
    assert_eq!(limits(outrigger_model::Listener::OUTBOUND), ["[3] Some(1024)"]);
}
