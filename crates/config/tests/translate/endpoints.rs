//! Where endpoints come from, and who they are.

use crate::dump::{check, service};

const POD: &str = "
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {selector: {app: a}, ports: [{name: http, port: 80, targetPort: web}, {name: grpc, port: 81, targetPort: 9000}]}
---
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {topology.kubernetes.io/region: r1, topology.kubernetes.io/zone: z1}}
---
apiVersion: v1
kind: Pod
metadata:
  name: a-v1-7d9f-x2
  labels: {app: a, version: v1, pod-template-hash: 7d9f}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: a-v1-7d9f, uid: u, controller: true}]
spec:
  serviceAccountName: bookinfo-a
  nodeName: n1
  containers: [{name: c, ports: [{name: web, containerPort: 8080}]}]
status: {phase: Running, podIP: 10.1.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: a-2, labels: {app: a}}
spec: {containers: [{name: c, ports: [{name: web, containerPort: 8081}]}]}
status: {phase: Running, podIP: 10.1.0.2, conditions: [{type: Ready, status: 'False'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: a-3, labels: {app: b}}
spec: {containers: [{name: c}]}
status: {podIP: 10.1.0.3}
---
";

#[test]
fn without_slices_the_selected_ready_pods_count_with_named_target_ports() {
    check(
        "",
        "endpoints findings services",
        POD,
        "outbound|80||a.default.svc.cluster.local least [1]
         10.1.0.1:8080 default/a-v1 app=a version=v1 pod=a-v1-7d9f-x2 spiffe://cluster.local/ns/default/sa/bookinfo-a at=r1/z1
         outbound|81||a.default.svc.cluster.local least h2 [1]
         10.1.0.1:9000 default/a-v1 app=a version=v1 pod=a-v1-7d9f-x2 spiffe://cluster.local/ns/default/sa/bookinfo-a at=r1/z1
         default/a [80, 81] 1",
    );
}

#[test]
fn slices_win_and_find_their_pods_by_reference_or_address() {
    let slice = "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a-1, labels: {kubernetes.io/service-name: a}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.1.0.2], conditions: {ready: true}, targetRef: {kind: Pod, name: a-2, namespace: default}}
- {addresses: [10.1.0.1]}
- {addresses: [10.1.0.9], conditions: {ready: false}}
- {addresses: [10.1.0.2]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a-2, labels: {kubernetes.io/service-name: a, version: v9, istio-locality: r2.z2}}
addressType: IPv4
ports: [{name: grpc, port: 9001}, {name: other, port: 1}]
endpoints:
- {addresses: [10.1.0.7], zone: z1}
";
    check(
        "",
        "endpoints findings",
        &(POD.to_owned() + slice),
        "outbound|80||a.default.svc.cluster.local least [2]
         10.1.0.2:8080 default/a-2 app=a version=unknown pod=a-2 spiffe://cluster.local/ns/default/sa/default
         10.1.0.1:8080 default/a-v1 app=a version=v1 pod=a-v1-7d9f-x2 spiffe://cluster.local/ns/default/sa/bookinfo-a at=r1/z1
         outbound|81||a.default.svc.cluster.local least h2 [1]
         10.1.0.7:9001 default/a app=a version=v9 at=r2/z2",
    );
}

#[test]
fn a_zone_is_known_by_its_nodes() {
    let yaml = "
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {topology.kubernetes.io/region: r1, topology.kubernetes.io/zone: z1}}
---
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a, labels: {kubernetes.io/service-name: a}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.0.0.1], zone: z1}, {addresses: [10.0.0.2], zone: z9}, {addresses: [10.0.0.3], nodeName: n1}]
";
    check(
        "",
        "endpoints findings",
        yaml,
        "outbound|80||a.default.svc.cluster.local least as-client [3]
         10.0.0.1:8080 default/a app=unknown version=unknown at=r1/z1
         10.0.0.2:8080 default/a app=unknown version=unknown at=/z9
         10.0.0.3:8080 default/a app=unknown version=unknown at=r1/z1",
    );
}

#[test]
fn endpoints_count_where_there_are_no_slices_and_unready_ones_when_published() {
    let yaml = |publish: bool| {
        format!(
            "
apiVersion: v1
kind: Service
metadata: {{name: a}}
spec: {{publishNotReadyAddresses: {publish}, ports: [{{name: http, port: 80}}]}}
---
apiVersion: v1
kind: Endpoints
metadata: {{name: a, labels: {{app: a}}}}
subsets:
- addresses: [{{ip: 10.0.0.1}}]
  notReadyAddresses: [{{ip: 10.0.0.2}}]
  ports: [{{name: http, port: 8080}}]
"
        )
    };
    check(
        "",
        "endpoints findings",
        &yaml(false),
        "outbound|80||a.default.svc.cluster.local least [1]
         10.0.0.1:8080 default/a app=a version=unknown",
    );
    check(
        "",
        "endpoints findings",
        &yaml(true),
        "outbound|80||a.default.svc.cluster.local least [2]
         10.0.0.1:8080 default/a app=a version=unknown
         10.0.0.2:8080 default/a app=a version=unknown",
    );
}

#[test]
fn ports_are_matched_by_name_and_a_mismatch_is_explained() {
    let yaml = "
apiVersion: v1
kind: Service
metadata: {name: a}
spec:
  ports:
  - {name: http, port: 80}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a, labels: {kubernetes.io/service-name: a}}
addressType: IPv4
ports: [{name: web, port: 8080}]
endpoints: [{addresses: [10.0.0.1]}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: b, labels: {kubernetes.io/service-name: aa}}
addressType: IPv4
endpoints: []
";
    check(
        "",
        "clusters findings",
        yaml,
        r#"outbound|80||a.default.svc.cluster.local least [0]
         warning [OUT0206] Service default/a f.yaml:7:5: port 80 named "http" has no endpoints: its EndpointSlices have ports "web" (8080) (a Service port and the port of its endpoints are matched by name)
         warning [OUT0211] EndpointSlice default/b f.yaml:18:18: its Service default/aa does not exist, so nothing uses it (did you mean `a`?)"#,
    );
}

#[test]
fn workload_entries_are_selected_by_services_and_entries() {
    let yaml = "
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {selector: {app: a}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm1}
spec: {address: 10.2.0.1, labels: {app: a, version: vm}, serviceAccount: legacy, weight: 2, locality: r/z/s}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm2}
spec: {address: 10.2.0.2, labels: {app: a}, ports: {http: 7000}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: e}
spec:
  hosts: [vm.example.com]
  ports: [{number: 90, name: http}]
  resolution: STATIC
  location: MESH_INTERNAL
  workloadSelector: {labels: {version: vm}}
";
    check(
        "",
        "endpoints findings",
        yaml,
        "outbound|80||a.default.svc.cluster.local least [2]
         10.2.0.1:8080 default/vm1 app=a version=vm spiffe://cluster.local/ns/default/sa/legacy weight=2 at=r/z/s
         10.2.0.2:7000 default/vm2 app=a version=unknown
         outbound|90||vm.example.com least [1]
         10.2.0.1:90 default/vm1 app=a version=vm spiffe://cluster.local/ns/default/sa/legacy weight=2 at=r/z/s
         warning [OUT0103] ServiceEntry default/e f.yaml:24:13: spec.location: understood, but not enforced yet (traffic flows as if the field were absent)",
    );
}

#[test]
fn slices_without_pods_carry_the_labels_for_subsets() {
    let yaml = service("default", "reviews", &[("v1", 9001), ("v2", 9002)])
        + "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec: {host: reviews, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}, {name: v3, labels: {version: v3}}]}
";
    check(
        "",
        "endpoints findings",
        &yaml,
        r#"outbound|9080|v1|reviews.default.svc.cluster.local least by=default/reviews [1]
         127.0.0.1:9001 default/reviews app=reviews version=v1
         outbound|9080|v2|reviews.default.svc.cluster.local least by=default/reviews [1]
         127.0.0.1:9002 default/reviews app=reviews version=v2
         outbound|9080|v3|reviews.default.svc.cluster.local least by=default/reviews [0]
         outbound|9080||reviews.default.svc.cluster.local least by=default/reviews [2]
         127.0.0.1:9001 default/reviews app=reviews version=v1
         127.0.0.1:9002 default/reviews app=reviews version=v2
         warning [OUT0205] DestinationRule default/reviews f.yaml:23:110: subset "v3" (version=v3) selects none of the 2 endpoints of reviews.default.svc.cluster.local (compare its labels with those of the pods; requests to it get 503 (flag UH))"#,
    );
}
