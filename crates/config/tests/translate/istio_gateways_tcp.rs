//! Istio Gateways that take connections: TLS by server name, and TCP.

use crate::dump::{check, service};
use crate::istio_gateways::{INGRESS, gateway, http, rules};

/// A server that passes TLS through at port 443.
fn passthrough(name: &str, hosts: &str) -> String {
    format!("{{port: {{number: 443, name: {name}, protocol: TLS}}, hosts: [{hosts}], tls: {{mode: PASSTHROUGH}}}}")
}

/// A TCP server.
fn tcp(name: &str, port: u16) -> String {
    format!("{{port: {{number: {port}, name: {name}, protocol: TCP}}, hosts: ['*']}}")
}

fn services() -> String {
    service("default", "a", &[("v1", 9001)]) + &service("default", "b", &[])
}

#[test]
fn tls_goes_on_by_server_name() {
    let yaml = services()
        + &gateway("default/web", &(passthrough("tls", "'*.example.com', default/own.org") + ", " + &passthrough("rest", "'*'")))
        + &rules(
            "default/r",
            "'*.example.com', own.org, other.org",
            "web",
            "  tls:
  - {match: [{sniHosts: [a.example.com, '*.example.com']}], route: [{destination: {host: a}, weight: 80}, {destination: {host: b}, weight: 20}, {destination: {host: b, subset: x}, weight: 0}]}
  - {match: [{port: 443, sniHosts: [own.org, other.org]}, {port: 444, sniHosts: [own.org]}, {gateways: [mesh], sniHosts: [own.org]}], route: [{destination: {host: b}}]}",
        )
        + &rules("shop/s", "own.org, c.example.com", "default/web", "  tls: [{match: [{sniHosts: [own.org, c.example.com]}], route: [{destination: {host: a.default.svc.cluster.local, port: {number: 1}}}]}]");
    check(INGRESS, "listeners findings", &yaml, "gateway|443
         [a.example.com *.example.com] default/r tls[0] -> outbound|9080||a.default.svc.cluster.local*80 outbound|9080||b.default.svc.cluster.local*20
         [own.org] default/r tls[1] -> outbound|9080||b.default.svc.cluster.local*1
         [c.example.com] shop/s tls[0] -> outbound|1||a.default.svc.cluster.local*1!503
         [other.org] default/r tls[1] -> outbound|9080||b.default.svc.cluster.local*1
         warning [OUT0102] VirtualService default/r f.yaml:34:93: this match is for gateway \"mesh\", to which the rules are not bound (add it to `spec.gateways`)
         warning [OUT0201] VirtualService shop/s f.yaml:42:18: has no effect for server name own.org: VirtualService default/r at f.yaml:34:14 already has it (a connection goes one way; name the host in one of the two)
         error [IST0101] VirtualService shop/s f.yaml:42:121: a.default.svc.cluster.local has no port 1; its ports are 9080 (http) (use one of its ports)");
    check(
        "",
        "gateways",
        &yaml,
        "Istio istio-system/istio-ingressgateway [istio=ingressgateway]
         Gateway default/web
         tls 443 TLS *.example.com, own.org by gateway|443
         rest 443 TLS * by gateway|443",
    );
}

#[test]
fn a_server_name_belongs_to_the_first_rule_that_has_it() {
    let rule = |name: &str, hosts: &str| {
        rules(
            name,
            hosts,
            "web",
            &format!("  tls: [{{match: [{{sniHosts: [{hosts}]}}], route: [{{destination: {{host: a}}}}]}}]"),
        )
    };
    let yaml = services()
        + &gateway("default/web", &passthrough("tls", "'*'"))
        + &rule("default/one", "a.com, b.com")
        + &rule("default/two", "b.com, c.com")
        + &rule("default/three", "c.com, '*'");
    check(INGRESS, "listeners findings", &yaml, "gateway|443
         [a.com b.com] default/one tls[0] -> outbound|9080||a.default.svc.cluster.local*1
         [c.com] default/two tls[0] -> outbound|9080||a.default.svc.cluster.local*1
         [] default/three tls[0] -> outbound|9080||a.default.svc.cluster.local*1
         warning [OUT0201] VirtualService default/two f.yaml:40:18: has no effect for server name b.com: VirtualService default/one at f.yaml:32:18 already has it (a connection goes one way; name the host in one of the two)
         warning [OUT0201] VirtualService default/three f.yaml:48:18: has no effect for server name c.com: VirtualService default/two at f.yaml:40:18 already has it (a connection goes one way; name the host in one of the two)");
}

#[test]
fn tcp_takes_the_first_rule_for_the_port() {
    let yaml = services()
        + &gateway("default/web", &(tcp("echo", 31400) + ", " + &tcp("other", 31401)))
        + &rules(
            "default/r",
            "'*'",
            "web",
            "  tcp:
  - {match: [{port: 1}], route: [{destination: {host: b}}]}
  - {match: [{port: 31400, sourceSubnet: 10.0.0.0/8, sourceLabels: {app: x}}], route: [{destination: {host: a}, weight: 3}, {destination: {host: b}, weight: 1}]}
  - {route: [{destination: {host: b}}]}",
        );
    check(INGRESS, "listeners findings", &yaml, "gateway|31400
         [] default/r tcp[1] -> outbound|9080||a.default.svc.cluster.local*3 outbound|9080||b.default.svc.cluster.local*1
         gateway|31401
         [] default/r tcp[2] -> outbound|9080||b.default.svc.cluster.local*1
         warning [OUT0102] VirtualService default/r f.yaml:34:14: match.sourceLabels: gateways do not look at it, as in Istio (the rule takes connections whoever they are from)
         warning [OUT0102] VirtualService default/r f.yaml:34:42: match.sourceSubnet: gateways do not look at it, as in Istio (the rule takes connections whoever they are from)");
}

#[test]
fn a_port_is_for_one_protocol() {
    let yaml = services()
        + &gateway("default/one", &[http("'*'"), tcp("tcp", 81), passthrough("tls", "'*'")].join(", "))
        + &gateway(
            "default/two",
            &[
                tcp("tcp", 80),
                tcp("again", 81),
                http("a.com").replace("80", "443"),
                passthrough("tls", "a.com").replace("443", "80"),
                http("b.com").replace("name: http", "name: more"),
            ]
            .join(", "),
        )
        + &rules(
            "default/r",
            "'*'",
            "one, two",
            "  tcp: [{route: [{destination: {host: a}}]}]\n  tls: [{match: [{sniHosts: ['*']}], route: [{destination: {host: a}}]}]",
        );
    check(INGRESS, "listeners findings", &yaml, "gateway|80
         [] http NotFound
         gateway|81
         [] default/r tcp[0] -> outbound|9080||a.default.svc.cluster.local*1
         gateway|443
         [] default/r tls[0] -> outbound|9080||a.default.svc.cluster.local*1
         error [OUT0216] Gateway default/two f.yaml:31:20: spec.servers[0] (tcp) is left out: port 80 is for protocol HTTP already, since spec.servers[0] (http) of Gateway default/one at f.yaml:24:13 (a port serves plain HTTP, or servers with TLS, or one TCP server: use another port)
         error [OUT0216] Gateway default/two f.yaml:31:82: spec.servers[1] (again) is left out: port 81 is for protocol TCP already, since spec.servers[1] (tcp) of Gateway default/one at f.yaml:24:77 (a port serves plain HTTP, or servers with TLS, or one TCP server: use another port)
         error [OUT0216] Gateway default/two f.yaml:31:146: spec.servers[2] (http) is left out: port 443 is for protocol TLS already, since spec.servers[2] (tls) of Gateway default/one at f.yaml:24:139 (a port serves plain HTTP, or servers with TLS, or one TCP server: use another port)
         error [OUT0216] Gateway default/two f.yaml:31:213: spec.servers[3] (tls) is left out: port 80 is for protocol HTTP already, since spec.servers[0] (http) of Gateway default/one at f.yaml:24:13 (a port serves plain HTTP, or servers with TLS, or one TCP server: use another port)");
}

#[test]
fn servers_that_nothing_is_routed_from_are_left_out() {
    let yaml = services()
        + &gateway(
            "default/web",
            &[
                tcp("tcp", 81),
                passthrough("tls", "'*'"),
                passthrough("auto", "a.com").replace("PASS", "AUTO_PASS"),
                tcp("unix", 0).replace("hosts", "bind: 'unix:///x', hosts"),
                tcp("bound", 82).replace("hosts", "bind: 10.0.0.1, hosts"),
            ]
            .join(", "),
        )
        + &rules("default/r", "'*'", "web", "  tcp: [{match: [{port: 82}], route: [{destination: {host: a}}]}]");
    check(INGRESS, "listeners findings", &yaml, "gateway|82
         [] default/r tcp[0] -> outbound|9080||a.default.svc.cluster.local*1
         warning [OUT0215] Gateway default/web f.yaml:24:13: spec.servers[0] (tcp) is left out: no VirtualService has `tcp` rules for it (bind a VirtualService with `tcp` rules to gateway default/web)
         warning [OUT0215] Gateway default/web f.yaml:24:75: spec.servers[1] (tls) is left out: no VirtualService has `tls` rules for it (bind a VirtualService with `tls` rules (`sniHosts`) to gateway default/web)
         warning [OUT0215] Gateway default/web f.yaml:24:241: spec.servers[2] (auto) is left out: mode AUTO_PASSTHROUGH joins networks of several clusters, and is not supported (use mode PASSTHROUGH)
         warning [OUT0215] Gateway default/web f.yaml:24:314: spec.servers[3] (unix) is left out: Unix sockets are not supported (give it a port)
         warning [OUT0103] Gateway default/web f.yaml:24:397: spec.servers[4] (bound) has `bind`, which is understood, but not enforced yet (it listens where the gateway does)");
    check(
        "",
        "gateways",
        &yaml,
        "Istio istio-system/istio-ingressgateway [istio=ingressgateway]
         Gateway default/web
         tcp 81 TCP * by nothing
         tls 443 TLS * by nothing
         auto 443 TLS a.com by nothing
         unix 0 TCP * by nothing
         bound 82 TCP * by gateway|82",
    );
}

#[test]
fn rules_for_connections_are_told_to_count_on_gateways_only() {
    let yaml = services()
        + &gateway("default/web", &passthrough("tls", "'*'"))
        + &rules(
            "default/r",
            "a, x.com",
            "web, mesh",
            "  tls: [{match: [{sniHosts: [x.com]}], route: [{destination: {host: a}}]}]",
        );
    check(
        "",
        "findings",
        &yaml,
        "warning [OUT0103] VirtualService default/r f.yaml:32:9: spec.tls: understood, but not enforced yet for calls between services (they flow as if the field were absent; gateways and `outrigger run --forward` do obey it)",
    );
}
