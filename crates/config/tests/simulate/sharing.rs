//! Many clients of one input share what is equal, and the work.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use outrigger_config::loader::{Loader, load_text};
use outrigger_config::resources::Resources;
use outrigger_config::simulate::Simulation;
use outrigger_config::translate::{Shared, Translator, View, translate};
use outrigger_model::Snapshot;

use crate::app;

const WORKLOADS: usize = 50;

/// Fifty workloads with their Services, in two namespaces; every tenth has subsets and a route by weight.
fn yaml(replicas: u32) -> String {
    let mut yaml = String::new();
    for index in 0..WORKLOADS {
        let name = format!("app{index}");
        let namespace = if index % 2 == 0 { "default" } else { "shop" };
        yaml += &app(&name, if index == 7 { replicas } else { 2 })
            .replace("metadata: {name: ", &format!("metadata: {{namespace: {namespace}, name: "));
        if index % 10 == 0 {
            yaml += &format!(
                "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
                 spec: {{host: {name}, trafficPolicy: {{outlierDetection: {{}}}}, subsets: [{{name: v1, labels: {{version: v1}}}}]}}\n---\n\
                 apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
                 spec: {{hosts: [{name}], http: [{{match: [{{sourceLabels: {{app: app1}}}}], route: [{{destination: {{host: {name}}}}}]}}, \
                 {{route: [{{destination: {{host: {name}, subset: v1}}, weight: 9}}, {{destination: {{host: {name}}}, weight: 1}}]}}]}}\n---\n"
            );
        }
    }
    yaml
}

fn views() -> Vec<View> {
    (0..WORKLOADS).map(|i| View::of(if i % 2 == 0 { "default" } else { "shop" }, &format!("app{i}"))).collect()
}

struct Mesh {
    simulation: Simulation,
    shared: Shared,
    translators: Vec<Translator>,
}

impl Mesh {
    fn new() -> Self {
        let translators = views().into_iter().map(Translator::new).collect();
        Self { simulation: Simulation::new(0), shared: Shared::new(), translators }
    }

    fn apply(&mut self, yaml: &str) -> (Resources, Vec<Snapshot>) {
        let resources = self.simulation.stage(&load_text("f.yaml", yaml).0).resources;
        let one = |translator: &mut Translator| translator.translate_sharing(&resources, &mut self.shared).0;
        let snapshots = self.translators.iter_mut().map(one).collect();
        (resources, snapshots)
    }
}

/// How many different values in memory each name has among all snapshots.
fn copies<T>(snapshots: &[Snapshot], parts: impl Fn(&Snapshot) -> Vec<(String, Arc<T>)>) -> HashMap<String, usize> {
    let mut seen: HashMap<String, HashSet<*const T>> = HashMap::new();
    for snapshot in snapshots {
        for (name, part) in parts(snapshot) {
            seen.entry(name).or_default().insert(Arc::as_ptr(&part));
        }
    }
    seen.into_iter().map(|(name, seen)| (name, seen.len())).collect()
}

fn vhosts(snapshot: &Snapshot) -> Vec<(String, Arc<outrigger_model::VirtualHost>)> {
    let tables = snapshot.listeners[0].route_tables();
    tables.flat_map(|table| &table.virtual_hosts).map(|vhost| (vhost.name.to_string(), vhost.clone())).collect()
}

fn clusters(snapshot: &Snapshot) -> Vec<(String, Arc<outrigger_model::Cluster>)> {
    snapshot.clusters.iter().map(|(name, cluster)| (name.to_string(), cluster.clone())).collect()
}

fn check_shared(snapshots: &[Snapshot]) {
    let clusters = copies(snapshots, clusters);
    assert_eq!(clusters.len(), WORKLOADS + WORKLOADS / 10);
    assert!(clusters.values().all(|copies| *copies == 1), "{clusters:?}");
    // A virtual host has its short name for its own namespace only, and one rule is for one client only.
    let vhosts = copies(snapshots, vhosts);
    assert_eq!(vhosts.len(), WORKLOADS);
    assert!(vhosts.values().all(|copies| (2..=3).contains(copies)), "{vhosts:?}");
    let listeners = copies(snapshots, |s| vec![("outbound".to_owned(), s.listeners[0].clone())]);
    assert_eq!(listeners["outbound"], 3, "one for each namespace, and that of the client of the rule");
}

#[test]
fn fifty_clients_of_fifty_services_hold_each_part_once() {
    let mut mesh = Mesh::new();
    check_shared(&mesh.apply(&yaml(2)).1);
    for replicas in [3, 4, 3, 1, 0, 2] {
        check_shared(&mesh.apply(&yaml(replicas)).1);
    }
    // What one client drops and another still has comes back as the same.
    check_shared(&mesh.apply(&yaml(2).replace("weight: 9", "weight: 8")).1);
    check_shared(&mesh.apply(&yaml(2)).1);
}

#[test]
fn sharing_changes_no_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let mut loader = Loader::new(vec![folder.path().to_owned()]);
    let mut mesh = Mesh::new();
    let base = yaml(2);
    let node = "apiVersion: v1\nkind: Node\nmetadata: {name: n, labels: {topology.kubernetes.io/region: r}}\n---\n";
    let settings = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: 'trustDomain: corp.example'}\n---\n";
    // One host of two entries, both of which select pods that come and go.
    let entries: String = [("default", "app2"), ("shop", "app7")]
        .map(|(namespace, app)| {
            format!(
                "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e, namespace: {namespace}}}\n\
                 spec: {{hosts: [e.example.com], resolution: STATIC, ports: [{{number: 80, name: http, targetPort: 8080}}], \
                 workloadSelector: {{labels: {{app: {app}}}}}}}\n---\n"
            )
        })
        .concat();
    let changes = [
        base.clone(),
        yaml(5),
        base.clone() + &entries,
        yaml(5) + &entries,
        yaml(0) + &entries,
        base.replace("{version: v1}}]", "{version: v9}}]"),
        base.clone() + node,
        base.clone() + settings,
        base.replace("name: app3}", "name: app333}"),
        String::new(),
        base,
    ];
    for change in changes {
        std::fs::write(folder.path().join("mesh.yaml"), change).unwrap();
        let resources = mesh.simulation.stage(&loader.load().resources).resources;
        for (view, translator) in views().iter().zip(&mut mesh.translators).step_by(7) {
            let (shared, found) = translator.translate_sharing(&resources, &mut mesh.shared);
            let (alone, expected) = translate(&resources, view);
            assert_eq!(found, expected);
            assert_eq!(shared.version, alone.version);
            assert_eq!(shared.workload, alone.workload);
            assert_eq!(shared.clusters, alone.clusters);
            assert_eq!(shared.listeners, alone.listeners);
            assert_eq!(shared.services, alone.services);
        }
    }
}

/// One more pod costs a fraction of everything. Prints what it takes; a quarter is far from what was measured, so that a
/// busy machine does not fail.
#[test]
fn one_more_pod_costs_a_fraction_for_all() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mesh.yaml");
    let mut loader = Loader::new(vec![folder.path().to_owned()]);
    let mut mesh = Mesh::new();
    let mut apply = |replicas: u32| {
        std::fs::write(&file, yaml(replicas)).unwrap();
        let resources = loader.load().resources;
        let started = Instant::now();
        let stage = mesh.simulation.stage(&resources);
        let staged = started.elapsed();
        for translator in &mut mesh.translators {
            translator.translate_sharing(&stage.resources, &mut mesh.shared);
        }
        (staged, started.elapsed() - staged)
    };
    let first = apply(2);
    let again = apply(3);
    eprintln!("staged and translated: {first:?} at first, {again:?} with one more pod");
    assert!(again.1 < first.1 / 4, "{again:?} of {first:?}");
}
