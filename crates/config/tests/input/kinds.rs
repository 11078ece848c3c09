//! Core kinds: what is read, and what is wrong with them.

use std::net::IpAddr;

use outrigger_config::kind::service::Protocol;
use outrigger_config::loader::load_text;
use outrigger_config::resources::Resources;

use crate::check;

#[track_caller]
fn load(yaml: &str) -> Resources {
    let (resources, diagnostics) = load_text("f.yaml", yaml);
    assert!(diagnostics.is_empty(), "{diagnostics:#?}");
    resources
}

/// A service with this `spec`, indented by two.
fn service(spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata:\n  name: a\nspec:\n{spec}")
}

#[test]
fn scalars_are_judged_by_their_type() {
    check(
        &service("  ports:\n  - {port: 0x50, name: \"80\"}\n  - {port: 1e3, name: x}\n  - {port: \"81\", name: z}\n"),
        "error [IST0106] Service default/a f.yaml:8:12: spec.ports[1].port: found the number 1e3, expected an integer from 1 to 65535 (write 1000)
         error [IST0106] Service default/a f.yaml:9:12: spec.ports[2].port: found the string \"81\", expected an integer from 1 to 65535 (remove the quotes)",
    );
    check(
        &service("  publishNotReadyAddresses: yes\n  clusterIP: None\n  selector: {norway: no, version: 1.20, tier: \"1.20\"}\n"),
        "error [IST0106] Service default/a f.yaml:8:22: spec.selector[\"norway\"]: found the boolean no, expected a string (put it in quotes: \"no\")
         error [IST0106] Service default/a f.yaml:8:35: spec.selector[\"version\"]: found the number 1.20, expected a string (put it in quotes: \"1.20\")",
    );
    check(
        &service("  publishNotReadyAddresses: \"true\"\n  ports: 80\n  type: Clusterip\n"),
        "error [IST0106] Service default/a f.yaml:6:29: spec.publishNotReadyAddresses: found the string \"true\", expected `true` or `false` (remove the quotes)
         error [IST0106] Service default/a f.yaml:7:10: spec.ports: found the number 80, expected a list
         error [IST0106] Service default/a f.yaml:8:9: spec.type: found the string \"Clusterip\", expected one of `ClusterIP`, `NodePort`, `LoadBalancer`, `ExternalName` (did you mean `ClusterIP`?)",
    );
    check(
        &service("  ports: [{port: .inf, name: x}, {port: 65536, name: q}, {port: -1, name: z}, {port: 99999999999999999999, name: w}]\n"),
        "error [IST0106] Service default/a f.yaml:6:18: spec.ports[0].port: found the number .inf, expected an integer from 1 to 65535
         error [IST0106] Service default/a f.yaml:6:41: spec.ports[1].port: found the number 65536, expected an integer from 1 to 65535
         error [IST0106] Service default/a f.yaml:6:65: spec.ports[2].port: found the number -1, expected an integer from 1 to 65535
         error [IST0106] Service default/a f.yaml:6:86: spec.ports[3].port: found the number 99999999999999999999, expected an integer from 1 to 65535",
    );
}

#[test]
fn unknown_fields_are_warnings_and_the_object_stays() {
    let yaml = service("  ports:\n  - port: 80\n    targtPort: 8080\n  selectors: {a: b}\nstatus: {}\nextra: 1\n");
    check(
        &yaml,
        "warning [OUT0101] Service default/a f.yaml:8:5: spec.ports[0]: unknown field `targtPort` (did you mean `targetPort`?)
         warning [OUT0101] Service default/a f.yaml:9:3: spec: unknown field `selectors` (did you mean `selector`?)
         warning [OUT0101] Service default/a f.yaml:11:1: unknown field `extra` (it is ignored; remove it, or move it to where it belongs)",
    );
    assert!(load_text("f.yaml", &yaml).0.services.get("default", "a").is_some());
}

#[test]
fn services_obey_the_rules_of_the_api_server() {
    check(
        &service("  ports: []\n"),
        "error [IST0106] Service default/a f.yaml:4:9: spec: `ports` is missing or empty, a service with a cluster IP needs at least one port",
    );
    check(&service("  clusterIP: None\n"), "");
    check(
        &service("  type: ExternalName\n"),
        "error [IST0106] Service default/a f.yaml:4:9: spec: `externalName` is missing, a service of type `ExternalName` needs one",
    );
    check(
        &service("  ports:\n  - port: 80\n  - {port: 80, name: x}\n  - {port: 80, name: x, protocol: UDP}\n"),
        "error [IST0106] Service default/a f.yaml:7:5: spec.ports[0]: `name` is missing, it is required where a service has several ports
         error [IST0106] Service default/a f.yaml:8:5: spec.ports[1]: port 80 of protocol TCP stands twice
         error [IST0106] Service default/a f.yaml:9:5: spec.ports[2]: `name` is \"x\", which an earlier port has already",
    );
    check(
        &service("  ports: [{port: 80, targetPort: 0}]\n"),
        "error [IST0106] Service default/a f.yaml:6:34: spec.ports[0].targetPort: found the number 0, expected a port from 1 to 65535, or the name of a container port",
    );
    check(
        &service("  ports: [{port: 80, name: \"\"}, {port: 81, name: HTTP}]\n"),
        "error [IST0106] Service default/a f.yaml:6:50: spec.ports[1].name: found the string \"HTTP\", expected a name of at most 63 lower-case letters, digits and inner hyphens",
    );
    check(
        &service("  sessionAffinity: ClientIP\n  trafficDistribution: PreferClose\n  ports: [{port: 80}]\n"),
        "warning [OUT0103] Service default/a f.yaml:6:20: spec.sessionAffinity: \"ClientIP\" is not enforced (use consistentHash with useSourceIp in a DestinationRule)
         warning [OUT0103] Service default/a f.yaml:7:24: spec.trafficDistribution: \"PreferClose\" is not enforced (localityLbSetting of a DestinationRule keeps traffic in its zone)",
    );
}

#[test]
fn endpoint_slices_are_read() {
    let yaml = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a-1, labels: {kubernetes.io/service-name: a}}\n\
                addressType: IPv4\nports: [{name: http, port: 8080}]\nendpoints:\n- addresses: [10.0.0.1]\n  conditions: {}\n  \
                targetRef: {kind: Pod, name: a-0}\n  zone: z1\n- addresses: [10.0.0.2]\n  \
                conditions: {ready: false, terminating: true, serving: true}\n";
    let resources = load(yaml);
    let slice = resources.endpoint_slices.get("default", "a-1").expect("it is valid");
    assert_eq!(slice.service_name(), Some("a"));
    let [first, second] = &slice.endpoints[..] else { panic!("two endpoints") };
    assert!(first.conditions.is_ready() && first.conditions.is_serving() && !first.conditions.is_terminating());
    assert!(!second.conditions.is_ready() && second.conditions.is_serving() && second.conditions.is_terminating());
    assert_eq!(first.target.as_ref().and_then(|target| target.pod()).map(|name| &**name), Some("a-0"));
    check(
        &yaml.replace("[10.0.0.2]", "[\"::1\"]").replace("[10.0.0.1]", "[]").replace("kubernetes.io/service-name", "x"),
        "warning [OUT0102] EndpointSlice default/a-1 f.yaml:1:1: label `kubernetes.io/service-name` is missing, so that the slice belongs to no service
         error [IST0106] EndpointSlice default/a-1 f.yaml:7:3: endpoints[0].addresses: the list is empty, expected at least one address
         error [IST0106] EndpointSlice default/a-1 f.yaml:11:3: endpoints[1].addresses: found \"::1\", but addressType is `IPv4`",
    );
}

#[test]
fn pods_are_read() {
    let pod = |status: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a-0\n  ownerReferences: [{{apiVersion: apps/v1, kind: ReplicaSet, name: a, uid: u, controller: true}}]\n\
             spec:\n  serviceAccountName: shop\n  volumes: [{{name: v, emptyDir: {{}}}}]\n  initContainers:\n  - name: proxy\n    restartPolicy: Always\n    ports: [{{containerPort: 9}}]\n  \
             - name: once\n    ports: [{{containerPort: 10}}]\n  containers:\n  - name: app\n    image: x\n    livenessProbe: {{httpGet: {{path: /, port: 1}}}}\n    \
             ports: [{{containerPort: 8080, name: http}}, {{containerPort: 53, name: dns, protocol: UDP}}]\n{status}"
        )
    };
    let resources = load(&pod(
        "status:\n  phase: Running\n  podIP: 10.0.0.9\n  podIPs: [{ip: 10.0.0.9}, {ip: \"fd00::9\"}]\n  conditions: [{type: Ready, status: \"True\"}]\n  whatever: 1\n",
    ));
    let pod_object = resources.pods.get("default", "a-0").expect("it is valid");
    assert!(pod_object.is_ready() && !pod_object.is_over());
    let ips: Vec<IpAddr> = pod_object.ips().collect();
    assert_eq!(ips, ["10.0.0.9".parse::<IpAddr>().expect("ip"), "fd00::9".parse().expect("ip")]);
    assert_eq!(pod_object.spec.account(), "shop");
    let ports: Vec<u16> = pod_object.spec.ports().map(|(_, port)| port.container_port).collect();
    assert_eq!(ports, [8080, 53, 9]);
    assert_eq!(pod_object.spec.named_port("dns", Protocol::Udp), Some(53));
    assert_eq!(pod_object.spec.named_port("dns", Protocol::Tcp), None);
    assert!(load(&pod("")).pods.iter().all(|pod| pod.is_ready()));
    assert!(load(&pod("status: {phase: Pending}\n")).pods.iter().all(|pod| !pod.is_ready()));
    assert!(
        load(&pod("status: {conditions: [{type: Ready, status: False}]}\n")).pods.iter().all(|pod| !pod.is_ready())
    );
    check(
        &pod("").replace("serviceAccountName", "serviceAcountName").replace("livenessProbe", "livenesProbe"),
        "warning [OUT0101] Pod default/a-0 f.yaml:7:3: spec: unknown field `serviceAcountName` (did you mean `serviceAccountName`?)
         warning [OUT0101] Pod default/a-0 f.yaml:18:5: spec.containers[0]: unknown field `livenesProbe` (did you mean `livenessProbe`?)",
    );
}

#[test]
fn workloads_are_read() {
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a, namespace: shop}\nspec:\n  strategy: {type: Recreate}\n  \
                      selector: {matchLabels: {app: a}}\n  template:\n    metadata: {labels: {app: a, version: v1}}\n    spec:\n      \
                      containers: [{name: app, ports: [{containerPort: 80}]}]\n";
    let resources = load(deployment);
    let object = resources.deployments.get("shop", "a").expect("it is valid");
    assert_eq!((object.spec.replicas, object.spec.template.spec.account()), (1, "default"));
    check(
        &deployment.replace("matchLabels: {app: a}", "matchExpressions: [{key: app, operator: NotIn, values: [a]}]"),
        "error [IST0106] Deployment shop/a f.yaml:3:18: spec.selector: it does not match spec.template.metadata.labels (give the template the labels that the selector asks for)",
    );
    check(
        &deployment.replace("matchLabels: {app: a}", "matchExpressions: [{key: app, operator: Exists, values: [a]}]"),
        "error [IST0106] Deployment shop/a f.yaml:6:33: spec.selector.matchExpressions[0]: values: found 1, expected no values with this operator",
    );
    check(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {name: a}\nspec: {parallelism: -1, template: {spec: {restartPolicy: Never}}}\n",
        "error [IST0106] Job default/a f.yaml:4:21: spec.parallelism: found the number -1, expected an integer from 0 to 4294967295",
    );
    load(
        "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: a}\nspec: {replicas: 0, ordinals: {start: 3}, serviceName: a, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}}}\n",
    );
    load(
        "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: a}\nspec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}}}\n",
    );
}

#[test]
fn nodes_name_their_locality() {
    let resources = load(
        "apiVersion: v1\nkind: Node\nmetadata: {name: node, namespace: ignored, labels: {topology.kubernetes.io/region: r, failure-domain.beta.kubernetes.io/zone: z, topology.istio.io/subzone: s}}\n",
    );
    let node = resources.nodes.get("", "node").expect("cluster-scoped");
    assert_eq!(node.locality().to_string(), "r/z/s");
}

#[test]
fn texts_of_config_maps_know_their_place() {
    let resources = load(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |-\n    # c\n    a: 1\n  quoted: \"x\"\n  folded: >\n\n      y\n",
    );
    let map = resources.config_maps.get("istio-system", "istio").expect("it is valid");
    let origin = |key: &str| map.data.get(key).map(|text| (text.origin.line, text.origin.column));
    assert_eq!(origin("mesh"), Some((6, 5)));
    assert_eq!(origin("quoted"), Some((8, 12)));
    assert_eq!(origin("folded"), Some((10, 7)));
    assert_eq!(map.data.get("mesh").map(|text| &*text.text), Some("# c\na: 1"));
}

#[test]
fn the_oldest_comes_first() {
    let service = |name: &str, created: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}{created}}}\nspec: {{ports: [{{port: 80}}]}}\n"
        )
    };
    let at = |time: &str| format!(", creationTimestamp: \"{time}\"");
    let yaml = [
        service("new", ""),
        service("c", &at("2024-05-01T12:00:00Z")),
        service("b", &at("2024-05-01T14:00:00+02:00")),
        service("old", &at("2023-01-01T00:00:00Z")),
        service("also-new", ""),
    ]
    .concat();
    let names: Vec<String> = load(&yaml).services.oldest_first().iter().map(|s| s.meta.name.to_string()).collect();
    assert_eq!(names, ["old", "b", "c", "new", "also-new"]);
    check(
        &service("a", ", creationTimestamp: yesterday"),
        "error [IST0106] Service default/a f.yaml:4:40: metadata.creationTimestamp: found the string \"yesterday\", expected a time such as `2024-05-01T12:00:00Z`",
    );
}

#[test]
fn names_and_labels_are_those_of_the_api_server() {
    let service = |meta: &str| format!("apiVersion: v1\nkind: Service\nmetadata: {meta}\nspec: {{clusterIP: None}}\n");
    load(&service("{name: a-1, namespace: \"\", labels: {a.b/c_D: \"\", x: v1.2-3_4}}"));
    check(
        &service("{name: A.b, namespace: a_b}"),
        "error [IST0106] f.yaml:3:18: metadata.name: found the string \"A.b\", expected a name of at most 63 lower-case letters, digits and inner hyphens
         error [IST0106] f.yaml:3:34: metadata.namespace: found the string \"a_b\", expected a name of at most 63 lower-case letters, digits and inner hyphens",
    );
    check(
        &service("{name: a, labels: {\"a b\": c, d: \"e\\nf\", x: \"-\"}}"),
        "error [IST0106] Service default/a f.yaml:3:30: metadata.labels: found the label key \"a b\", expected NAME or DOMAIN/NAME
         error [IST0106] Service default/a f.yaml:3:43: metadata.labels[\"d\"]: found the string \"e\\nf\", expected at most 63 letters, digits and inner `-`, `_` and `.`
         error [IST0106] Service default/a f.yaml:3:54: metadata.labels[\"x\"]: found the string \"-\", expected at most 63 letters, digits and inner `-`, `_` and `.`",
    );
    let account = |name: &str| format!("apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}}}\n");
    load(&account("a.b-c.1"));
    for bad in ["a..b", "a-.b", "\"\"", ".a", "a/b", "\"a%\""] {
        assert_eq!(load_text("f.yaml", &account(bad)).1.len(), 1, "{bad}");
    }
}
