//! Redirected connections: where they were to go, and what serves them.

use std::fmt::Write as _;
use std::sync::Arc;

use outrigger_config::loader::load_text;
use outrigger_config::simulate::captured;
use outrigger_config::translate::{View, translate};
use outrigger_model::*;

/// Translates YAML for workload `shop/app`, whose connections are redirected, and compares the captures: one a line with its
/// socket, addresses, port and listener, and below it the chains of the listener.
#[track_caller]
fn check(yaml: &str, expected: &str) {
    let (resources, _) = load_text("f.yaml", yaml);
    let view = View { captures: true, ..View::of("shop", "app") };
    let (outbound, _) = translate(&resources, &view);
    let snapshot = captured(&outbound, &resources, &view.workload.unwrap(), None);
    let all = outbound.listeners[0].route_tables().next().expect("routes").clone();
    let mut out = String::new();
    for capture in snapshot.captures.iter() {
        let addresses: Vec<String> = capture.addresses.iter().map(|network| network.address.to_string()).collect();
        let addresses = if addresses.is_empty() { "any".to_owned() } else { addresses.join(",") };
        writeln!(out, "{} {addresses} {} -> {}", capture.socket, capture.port, capture.listener).unwrap();
        let listener = snapshot.listener(&capture.listener).expect("a listener for every capture");
        for chain in listener.chains.iter().filter(|_| *listener.name != *Listener::OUTBOUND) {
            let names: Vec<String> = chain.server_names.iter().map(name).collect();
            writeln!(out, "[{}] {}", names.join(" "), serve(&chain.serve, &all)).unwrap();
        }
    }
    let lines = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
    };
    let (found, expected) = (lines(&out), lines(expected));
    assert!(found == expected, "found:\n{}\n\nexpected:\n{}\n", found.join("\n"), expected.join("\n"));
    for capture in snapshot.captures.iter() {
        for table in snapshot.listener(&capture.listener).iter().flat_map(|listener| listener.route_tables()) {
            assert!(!table.virtual_hosts.is_empty() || table.unmatched != Unmatched::NotFound, "it leads somewhere");
        }
    }
}

fn name(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Exact(name) => name.to_string(),
        HostPattern::Suffix(suffix) => format!("*{suffix}"),
        HostPattern::Prefix(prefix) => format!("{prefix}*"),
        HostPattern::Any => "*".to_owned(),
    }
}

/// `http: VIRTUAL HOSTS`, `tcp: CLUSTERS`, or both; `all` are those of the outbound listener.
fn serve(serve: &Serve, all: &Arc<RouteTable>) -> String {
    let http = |table: &Arc<RouteTable>| {
        if Arc::ptr_eq(table, all) {
            return "http: all".to_owned();
        }
        let hosts: Vec<&str> = table.virtual_hosts.iter().map(|vhost| &*vhost.name).collect();
        format!("http: {}", hosts.join(" "))
    };
    let tcp = |route: &TcpRoute| {
        let to = route.destinations.iter().map(|to| format!("{}*{}", to.cluster, to.weight));
        format!("tcp: {}", to.collect::<Vec<_>>().join(" "))
    };
    match serve {
        Serve::Http(table) => http(table),
        Serve::Tcp(route) => tcp(route),
        Serve::Detect { http: table, tcp: route } => format!("{} else {}", http(table), tcp(route)),
    }
}

const APP: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: app, namespace: shop}
spec:
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      containers:
      - {name: app, ports: [{containerPort: 8080, name: http}, {containerPort: 5000}, {containerPort: 3306}]}
";
const INBOUND: &str = "
    inbound any 8080 -> inbound|8080
    [] http: inbound|http|8080
    inbound any 5000 -> inbound|5000
    [] http: inbound|http|5000 else tcp: inbound|5000||*1
    inbound any 3306 -> inbound|3306
    [] tcp: inbound|3306||*1
    inbound any 0 -> inbound|unknown
    [] http: inbound|http|0 else tcp: InboundPassthroughCluster*1
";

fn app(yaml: &str) -> String {
    format!("{APP}{yaml}")
}

#[test]
fn what_a_port_states_decides_what_serves_it() {
    check(
        &app("---
apiVersion: v1
kind: Service
metadata: {name: all, namespace: shop}
spec:
  clusterIP: 10.96.0.1
  clusterIPs: [10.96.0.1, 'fd00::1']
  ports: [{name: http-a, port: 80}, {name: grpc, port: 81}, {name: tcp-b, port: 82}, {name: any, port: 83}]
"),
        &("
    outbound 10.96.0.1,fd00::1 80 -> outbound
    outbound 10.96.0.1,fd00::1 81 -> outbound
    outbound 10.96.0.1,fd00::1 82 -> outbound|82|all.shop.svc.cluster.local
    [] tcp: outbound|82||all.shop.svc.cluster.local*1
    outbound 10.96.0.1,fd00::1 83 -> outbound|83|all.shop.svc.cluster.local
    [] http: all.shop.svc.cluster.local:83 else tcp: outbound|83||all.shop.svc.cluster.local*1
    outbound any 0 -> outbound|unknown
    [] http: all else tcp: PassthroughCluster*1
    "
        .to_owned()
            + INBOUND),
    );
}

#[test]
fn rules_for_connections_are_obeyed() {
    check(
        &app("---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: 10.96.0.2, ports: [{name: mysql, port: 3306}]}
---
apiVersion: v1
kind: Service
metadata: {name: db-2, namespace: shop}
spec: {clusterIP: 10.96.0.3, ports: [{name: mysql, port: 3306}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: db, namespace: shop}
spec:
  hosts: [db]
  tcp:
  - route:
    - {destination: {host: db}, weight: 90}
    - {destination: {host: db-2}, weight: 10}
"),
        &("
    outbound 10.96.0.2 3306 -> outbound|3306|db.shop.svc.cluster.local
    [] tcp: outbound|3306||db.shop.svc.cluster.local*90 outbound|3306||db-2.shop.svc.cluster.local*10
    outbound 10.96.0.3 3306 -> outbound|3306|db-2.shop.svc.cluster.local
    [] tcp: outbound|3306||db-2.shop.svc.cluster.local*1
    outbound any 0 -> outbound|unknown
    [] http: all else tcp: PassthroughCluster*1
    "
        .to_owned()
            + INBOUND),
    );
}

#[test]
fn hosts_without_address_share_their_port_everywhere() {
    check(
        &app("---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a, namespace: shop}
spec: {hosts: [a.example, '*.b.example'], resolution: NONE, ports: [{number: 443, name: tls, protocol: TLS}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: c, namespace: shop}
spec: {hosts: [c.example], resolution: NONE, ports: [{number: 9000, name: tcp, protocol: TCP}]}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: shop}
spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}
"),
        &("
    outbound any 443 -> outbound|443
    [a.example] tcp: outbound|443||a.example*1
    [*.b.example] tcp: outbound|443||*.b.example*1
    [] http: all else tcp: BlackHoleCluster*1
    outbound any 9000 -> outbound|9000
    [] tcp: outbound|9000||c.example*1
    outbound any 0 -> outbound|unknown
    [] http: all else tcp: BlackHoleCluster*1
    "
        .to_owned()
            + INBOUND),
    );
}

#[test]
fn pods_of_a_headless_service_and_ports_out_of_scope_are_reached_as_they_are() {
    check(
        &app("---
apiVersion: v1
kind: Service
metadata: {name: nodes, namespace: shop}
spec: {clusterIP: None, ports: [{name: tcp, port: 7000}]}
---
apiVersion: v1
kind: Service
metadata: {name: far, namespace: far}
spec: {clusterIP: 10.96.0.9, ports: [{name: tcp, port: 7000}]}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: shop}
spec: {egress: [{hosts: ['./*']}]}
"),
        &("
    outbound any 0 -> outbound|unknown
    [] http: all else tcp: PassthroughCluster*1
    "
        .to_owned()
            + INBOUND),
    );
}

#[test]
fn a_view_without_redirects_has_none_and_an_edit_shows_in_the_version() {
    let service = |address: &str| {
        app(&format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: db, namespace: shop}}\n\
             spec: {{clusterIP: {address}, ports: [{{name: tcp, port: 1}}]}}\n"
        ))
    };
    let translated = |yaml: &str, captures| {
        let (resources, _) = load_text("f.yaml", yaml);
        translate(&resources, &View { captures, ..View::of("shop", "app") }).0
    };
    let without = translated(&service("10.0.0.1"), false);
    assert!(without.captures.is_empty() && without.listeners.len() == 1);
    let versions = ["10.0.0.1", "10.0.0.1", "10.0.0.2"].map(|address| translated(&service(address), true).version);
    assert!(versions[0] == versions[1] && versions[1] != versions[2], "{versions:?}");
}
