//! A second translation lends what did not change, and works out the rest.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use outrigger_config::loader::load_text;
use outrigger_config::translate::{Translator, View};
use outrigger_model::{Route, Snapshot};

use crate::dump::service;

const RULES: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec: {hosts: [a], http: [{match: [{uri: {exact: /x}}], route: [{destination: {host: a}}]}, {route: [{destination: {host: b}}]}]}
";

const HTTP_ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: a}
spec:
  parentRefs: [{group: '', kind: Service, name: a}]
  rules: [{matches: [{path: {value: /x}}], backendRefs: [{name: a, port: 9080}]}]
";

const GRPC_ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: a}
spec:
  parentRefs: [{group: '', kind: Service, name: a}]
  rules: [{matches: [{method: {service: x}}], backendRefs: [{name: a, port: 9080}]}]
";

fn snapshots(first: &str, second: &str) -> (Snapshot, Snapshot) {
    let mut translator = Translator::new(View::default());
    let first = translator.translate(&load_text("f.yaml", first).0).0;
    let second = translator.translate(&load_text("f.yaml", second).0).0;
    (first, second)
}

/// The names of clusters and virtual hosts that are not the same in memory.
fn changed(first: &Snapshot, second: &Snapshot) -> Vec<String> {
    let mut changed = Vec::new();
    for (name, cluster) in &second.clusters {
        if !first.clusters.get(name).is_some_and(|old| Arc::ptr_eq(old, cluster)) {
            changed.push(name.to_string());
        }
    }
    let old: HashMap<_, _> = crate::dump::outbound(first).virtual_hosts.iter().map(|v| (v.name.clone(), v)).collect();
    for vhost in &crate::dump::outbound(second).virtual_hosts {
        if !old.get(&vhost.name).is_some_and(|old| Arc::ptr_eq(old, vhost)) {
            changed.push(vhost.name.to_string());
        }
    }
    changed.sort();
    changed
}

#[test]
fn equal_input_is_lent_whole_though_its_objects_are_new() {
    let yaml = service("default", "a", &[("v1", 9001)]) + &service("default", "b", &[]) + RULES;
    let (first, second) = snapshots(&yaml, &yaml);
    assert_eq!(changed(&first, &second), Vec::<String>::new());
    assert!(Arc::ptr_eq(&first.listeners[0], &second.listeners[0]));
    assert_eq!(first.version, second.version);
}

#[test]
fn one_more_endpoint_changes_one_cluster_and_keeps_the_other_endpoints() {
    let of = |ports: &[(&str, u16)]| service("default", "b", &[]) + RULES + "---\n" + &service("default", "a", ports);
    let (first, second) = snapshots(&of(&[("v1", 9001)]), &of(&[("v0", 9000), ("v1", 9001)]));
    assert_eq!(changed(&first, &second), ["outbound|9080||a.default.svc.cluster.local"]);
    let name = "outbound|9080||a.default.svc.cluster.local";
    let (old, new) = (&first.clusters[name].endpoints, &second.clusters[name].endpoints);
    assert_eq!(new.len(), 2);
    assert!(Arc::ptr_eq(&old[0], &new[1]), "the endpoint that stayed is the same in memory");
    assert_ne!(first.version, second.version);
}

#[test]
fn a_changed_rule_changes_its_virtual_host_and_keeps_the_routes_that_stayed() {
    let yaml = service("default", "a", &[("v1", 9001)]) + &service("default", "b", &[]);
    let (first, second) = snapshots(&(yaml.clone() + RULES), &(yaml + &RULES.replace("host: b", "host: a")));
    assert_eq!(changed(&first, &second), ["a.default.svc.cluster.local:9080"]);
    let routes = |s: &Snapshot| crate::dump::outbound(s).virtual_hosts[0].routes.clone();
    assert!(Arc::ptr_eq(&routes(&first)[0], &routes(&second)[0]));
    assert_ne!(first.version, second.version);
}

#[test]
fn a_second_translation_equals_a_fresh_one() {
    let yaml = service("default", "a", &[("v1", 9001), ("v2", 9002)]) + &service("shop", "b", &[("v1", 9003)]);
    let changes = [
        yaml.replace("9002", "9009"),
        yaml.replace("name: b,", "name: c,"),
        yaml.clone() + "---\n" + RULES,
        yaml.clone() + "---\n" + HTTP_ROUTE,
        yaml.clone() + "---\n" + &HTTP_ROUTE.replace("/x", "/longer"),
        yaml.clone() + "---\n" + HTTP_ROUTE + "---\n" + GRPC_ROUTE,
        yaml.clone() + "---\n" + HTTP_ROUTE + "---\n" + &GRPC_ROUTE.replace("service: x", "service: longer"),
        String::new(),
        yaml.clone(),
    ];
    let mut translator = Translator::new(View::default());
    translator.translate(&load_text("f.yaml", &yaml).0);
    for change in changes {
        let resources = load_text("f.yaml", &change).0;
        let (kept, kept_findings) = translator.translate(&resources);
        let (fresh, findings) = outrigger_config::translate::translate(&resources, &View::default());
        assert_eq!(kept.version, fresh.version);
        assert_eq!(kept.clusters, fresh.clusters);
        assert_eq!(kept.listeners, fresh.listeners);
        assert_eq!(kept.services, fresh.services);
        assert_eq!(kept_findings, findings);
    }
}

#[test]
fn the_last_good_mesh_settings_stay() {
    let mesh = |text: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata: {{mesh: '{text}'}}\n"
        )
    };
    let mut translator = Translator::new(View::default());
    translator.translate(&load_text("f.yaml", &mesh("trustDomain: corp.example")).0);
    let (snapshot, findings) = translator.translate(&load_text("f.yaml", &mesh("trustDomain: [x]")).0);
    assert_eq!(&*snapshot.mesh.trust_domain, "corp.example");
    let codes: Vec<_> = findings.iter().map(|f| f.code.0).collect();
    assert_eq!(codes, ["OUT0011", "IST0106"]);
}

/// Translating the same tables again costs a fraction of the first time. Prints what it takes; a third is far from the
/// measured tenth, so that a busy machine does not fail.
#[test]
fn the_same_tables_again_cost_a_fraction() {
    const SERVICES: usize = 2_000;
    let mut yaml = String::new();
    for index in 0..SERVICES {
        write!(
            yaml,
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s{index}}}\nspec: {{selector: {{app: s{index}}}, ports: [{{name: http, port: 80}}]}}\n---\n\
             apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: s{index}, labels: {{kubernetes.io/service-name: s{index}}}}}\n\
             addressType: IPv4\nports: [{{name: http, port: 8080}}]\nendpoints:\n"
        )
        .unwrap();
        for endpoint in 0..5 {
            writeln!(yaml, "- {{addresses: [10.{}.{}.{endpoint}]}}", index / 256, index % 256).unwrap();
        }
        yaml.push_str("---\n");
    }
    let first = load_text("f.yaml", &yaml).0;
    let mut translator = Translator::new(View::default());
    let started = std::time::Instant::now();
    let before = translator.translate(&first).0;
    let whole = started.elapsed();
    assert_eq!(before.clusters.len(), SERVICES);
    let same = translator.translate(&first).0;
    assert_eq!(changed(&before, &same), Vec::<String>::new());
    let started = std::time::Instant::now();
    translator.translate(&first);
    let again = started.elapsed();
    eprintln!("{SERVICES} services: {whole:?} at first, {again:?} again");
    assert!(again < whole / 3, "{again:?} of {whole:?}");
}

/// A rule list of ten thousand paths is worked through in about linear time: a quadratic step would take minutes here.
#[test]
fn ten_thousand_rules_of_one_host_are_no_trouble() {
    let mut yaml = service("default", "a", &[]);
    yaml.push_str(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n  hosts: [a]\n  http:\n",
    );
    for index in 0..10_000 {
        writeln!(yaml, "  - {{match: [{{uri: {{exact: /p{index}}}}}], route: [{{destination: {{host: a}}}}]}}")
            .unwrap();
    }
    let started = std::time::Instant::now();
    let (first, second) = snapshots(&yaml, &yaml.replace("/p5000}", "/q}"));
    let routes = |s: &Snapshot| crate::dump::outbound(s).virtual_hosts[0].routes.clone();
    let shared = routes(&first).iter().zip(&routes(&second)).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
    assert_eq!(shared, 9_999);
    eprintln!("10000 rules, loaded and translated twice: {:?}", started.elapsed());
}

/// So it is with the matches of a thousand HTTPRoutes for one Service.
#[test]
fn a_thousand_http_routes_of_one_service_are_no_trouble() {
    let mut yaml = service("default", "a", &[]);
    for index in 0..1_000 {
        let route = HTTP_ROUTE.replace("name: a}\nspec", &format!("name: r{index}}}\nspec"));
        let rules: Vec<String> = (0..10)
            .map(|rule| {
                format!("{{matches: [{{path: {{value: /{index}/{rule}}}}}], backendRefs: [{{name: a, port: 9080}}]}}")
            })
            .collect();
        let (head, _) = route.split_once("rules: ").expect("rules");
        write!(yaml, "{head}rules: [{}]\n---", rules.join(", ")).unwrap();
    }
    let started = std::time::Instant::now();
    let (first, second) = snapshots(&yaml, &yaml.replace("/500/9}", "/q}"));
    let routes = |s: &Snapshot| crate::dump::outbound(s).virtual_hosts[0].routes.clone();
    let (first, second) = (routes(&first), routes(&second));
    assert_eq!((first.len(), second.len()), (10_000, 10_000));
    let known: HashSet<*const Route> = second.iter().map(Arc::as_ptr).collect();
    let shared = first.iter().filter(|route| known.contains(&Arc::as_ptr(route))).count();
    assert_eq!(shared, 9_999);
    eprintln!("1000 HTTPRoutes, loaded and translated twice: {:?}", started.elapsed());
}
