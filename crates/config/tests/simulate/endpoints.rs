//! Endpoints that the input brings itself.

use crate::{app, check};

fn slice(service: &str, name: &str, address: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}, labels: {{kubernetes.io/service-name: {service}}}}}\n\
         addressType: IPv4\nports: [{{name: http, port: 8080}}]\nendpoints: [{{addresses: [{address}]}}]\n---\n"
    )
}

#[test]
fn those_of_services_with_selector_give_way_and_others_stay() {
    let yaml = app("a", 1)
        + &slice("a", "a-1", "10.0.0.1")
        + &slice("a", "a-2", "10.0.0.2")
        + "apiVersion: v1
kind: Endpoints
metadata: {name: a}
subsets: [{addresses: [{ip: 10.0.0.3}], ports: [{name: http, port: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: old}
subsets: [{addresses: [{ip: 10.0.0.4}], ports: [{name: http, port: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: old}
spec: {ports: [{name: http, port: 80}]}
---
" + &slice("outside", "outside-1", "10.0.0.5");
    check(
        "endpoints all-findings",
        &yaml,
        "outbound|80||a.default.svc.cluster.local a-0=127.0.1.1:8080
         outbound|80||old.default.svc.cluster.local =10.0.0.4:8080
         outbound|80||outside.default.svc.cluster.local =10.0.0.5:8080
         info [OUT0307] Service default/a f.yaml:15:18: 3 objects with its endpoints (EndpointSlice, Endpoints) left out: simulated pods take their place",
    );
}

#[test]
fn a_service_of_workload_entries_needs_no_pods() {
    let yaml = "apiVersion: v1
kind: Service
metadata: {name: vm}
spec: {selector: {app: vm}, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm1}
spec: {address: 10.2.0.1, labels: {app: vm}}
";
    check("endpoints all-findings", yaml, "outbound|80||vm.default.svc.cluster.local =10.2.0.1:80");
}
