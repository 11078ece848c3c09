//! Instances that are known by name: where they may be, and what chooses among them.

use crate::dump::{check, service};

fn entry(host: &str, resolution: &str, more: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e}}\nspec:\n  hosts: [{host}]\n  ports: [{{number: 80, name: http}}]\n  resolution: {resolution}\n{more}"
    )
}

const SELECTED: &str = "---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm}
spec: {address: vm.example.com, labels: {app: x, version: v1}}
";

#[test]
fn names_are_for_resolution_by_dns() {
    let by_labels = "  workloadSelector: {labels: {app: x}}\n";
    check(
        "",
        "endpoints findings",
        &(entry("x.example.com", "DNS", by_labels) + SELECTED),
        "outbound|80||x.example.com least dns [1]
         vm.example.com:80 default/vm app=x version=v1",
    );
    let refused = "names are looked up for ServiceEntries with `resolution: DNS` and ExternalName Services";
    check(
        "",
        "endpoints findings",
        &(entry("x.example.com", "STATIC", by_labels) + SELECTED),
        &format!(
            "outbound|80||x.example.com least [0]
             warning [OUT0204] WorkloadEntry default/vm f.yaml:14:17: address \"vm.example.com\" is a name, and x.example.com takes addresses only; there is no endpoint for it (give IP addresses; {refused})"
        ),
    );
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {selector: {app: x}, ports: [{name: http, port: 80}]}\n";
    check(
        "",
        "endpoints findings",
        &(service.to_owned() + SELECTED),
        &format!(
            "outbound|80||s.default.svc.cluster.local least [0]
             warning [OUT0204] WorkloadEntry default/vm f.yaml:10:17: address \"vm.example.com\" is a name, and s.default.svc.cluster.local takes addresses only; there is no endpoint for it (give IP addresses; {refused})"
        ),
    );
}

#[test]
fn what_cannot_be_looked_up_is_refused() {
    check(
        "",
        "endpoints findings",
        &entry("'*.example.com'", "DNS", ""),
        "error [IST0106] ServiceEntry default/e f.yaml:6:11: spec: hosts[0]: found \"*.example.com\", expected a name without wildcard: without `endpoints` the hosts are looked up (give `endpoints`, or use resolution NONE)",
    );
    check(
        "",
        "endpoints findings",
        &entry("'*.example.com'", "DNS", "  endpoints: [{address: front.example.com}]\n"),
        "outbound|80||*.example.com least dns [1]
         front.example.com:80 default/unknown app=unknown version=unknown",
    );
    check(
        "",
        "endpoints findings",
        &entry("x.example.com", "DNS", "  endpoints: [{address: 'a b'}]\n"),
        "error [IST0106] ServiceEntry default/e f.yaml:9:25: spec.endpoints[0]: address: found \"a b\", expected an IP address, a host name or `unix://PATH`",
    );
}

#[test]
fn subsets_and_failover_choose_among_names_too() {
    let yaml = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: e}
spec:
  hosts: [x.example.com]
  ports: [{number: 80, name: http}]
  resolution: DNS
  endpoints:
  - {address: a.example.com, locality: far/z, labels: {version: v1}}
  - {address: 10.0.0.1, locality: near/z, labels: {version: v2}}
  - {address: b.example.com, locality: near/z, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: r}
spec:
  host: x.example.com
  trafficPolicy:
    outlierDetection: {consecutive5xxErrors: 7}
    loadBalancer: {localityLbSetting: {failoverPriority: ['topology.kubernetes.io/region=near']}}
  subsets: [{name: v1, labels: {version: v1}}, {name: none, labels: {version: v3}}]
";
    check(
        "",
        "endpoints",
        yaml,
        "outbound|80|none|x.example.com least dns outlier=7/10% by=default/r [0]
         outbound|80|v1|x.example.com least dns outlier=7/10% by=default/r [1]
         a.example.com:80 default/unknown app=unknown version=v1 at=far/z
         outbound|80||x.example.com least dns outlier=7/10% by=default/r [3]
         10.0.0.1:80 default/unknown app=unknown version=v2 at=near/z
         a.example.com:80 default/unknown app=unknown version=v1 priority=1 at=far/z
         b.example.com:80 default/unknown app=unknown version=v2 at=near/z",
    );
    let found = "subset \"none\" (version=v3) selects none of the 3 endpoints of x.example.com";
    assert!(crate::dump::dump("", "findings", yaml).contains(found));
}

#[test]
fn an_external_name_of_an_external_name_stands_for_the_last() {
    let alias = |name: &str, target: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: ExternalName, externalName: {target}, ports: [{{name: http, port: 80}}]}}\n"
        )
    };
    let host = |name: &str| format!("{name}.default.svc.cluster.local");
    let yaml = service("shop", "cart", &[]) + &alias("a", &host("b")) + &alias("b", "cart.shop.svc.cluster.local");
    let domains = crate::dump::dump("", "domains", &yaml);
    assert!(domains.contains(" a.default.svc.cluster.local:9080 ") && domains.contains(" b.default.svc "), "{domains}");
    let yaml = alias("a", &host("b")) + &alias("b", "b.example.com");
    check(
        "",
        "endpoints findings",
        &yaml,
        "outbound|80||b.default.svc.cluster.local least dns [1]
         b.example.com:80 default/unknown app=unknown version=unknown",
    );
    // In a circle nobody stands for anybody.
    let yaml = alias("a", &host("b")) + &alias("b", &host("a"));
    check(
        "",
        "endpoints findings",
        &yaml,
        "outbound|80||a.default.svc.cluster.local least dns [1]
         b.default.svc.cluster.local:80 default/unknown app=unknown version=unknown
         outbound|80||b.default.svc.cluster.local least dns [1]
         a.default.svc.cluster.local:80 default/unknown app=unknown version=unknown",
    );
}
