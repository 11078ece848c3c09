//! HTTPRoutes of the mesh: which Services and ports they are for, producers and consumers, and who wins beside the other
//! APIs.

use crate::dump::{check, service};

fn base() -> String {
    service("shop", "a", &[("v1", 9001)])
        + &service("shop", "b", &[])
        + "apiVersion: v1
kind: Service
metadata: {name: ports, namespace: shop}
spec: {ports: [{name: http-one, port: 1}, {name: http-two, port: 2}, {name: tcp, port: 3}]}
---
apiVersion: v1
kind: Service
metadata: {name: headless, namespace: shop}
spec: {clusterIP: None, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: shop}
spec: {type: ExternalName, externalName: a.shop.svc.cluster.local, ports: [{name: http, port: 80}]}
---
"
}

/// An HTTPRoute of a namespace with this parent, whose only rule is named after it and sends to Service `b`.
fn http_route(namespace: &str, name: &str, parent: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  parentRefs: [{{group: '', kind: Service, {parent}}}]
  rules: [{{name: {namespace}-{name}, backendRefs: [{{name: b, namespace: shop, port: 9080}}]}}]
---
"
    )
}

const B: &str = "outbound|9080||b.shop.svc.cluster.local";

#[test]
fn a_producers_route_counts_for_everybody_and_a_consumers_for_its_namespace() {
    let yaml = base()
        + &http_route("shop", "producer", "name: a")
        + &http_route("web", "consumer", "name: a, namespace: shop")
        + &http_route("third", "other", "name: a, namespace: shop")
        + "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: web}\nspec: {selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: web}]}}}\n---\n"
        + "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: own, namespace: shop}\nspec: {selector: {matchLabels: {app: own}}, template: {metadata: {labels: {app: own}}, spec: {containers: [{name: own}]}}}\n";
    let of = |client: &str, rule: &str| {
        let expected = format!("a.shop.svc.cluster.local:9080\n{rule} path=/* -> {B}*1");
        check(client, "routes findings host=a.shop", &yaml, &expected);
    };
    of("", "shop-producer");
    of("shop/own", "shop-producer");
    of("web/web", "web-consumer");
}

/// The rules of both are one list; what none of them takes is not sent anywhere.
#[test]
fn routes_of_one_namespace_are_merged_and_add_no_default() {
    let matched = |name: &str, path: &str| {
        http_route("shop", name, "name: a")
            .replace("backendRefs", &format!("matches: [{{path: {{value: {path}}}}}], backendRefs"))
    };
    check(
        "",
        "routes findings host=a.shop",
        &(base() + &matched("one", "/x") + &matched("two", "/x/long")),
        &format!(
            "a.shop.svc.cluster.local:9080
             shop-two path=/x/long/* -> {B}*1
             shop-one path=/x/* -> {B}*1"
        ),
    );
}

#[test]
fn a_parent_may_name_a_port() {
    let of = |parent: &str, one: &str, two: &str| {
        let default = |port: u16| format!("default -> outbound|{port}||ports.shop.svc.cluster.local*1");
        let line = |rule: &str, port| if rule.is_empty() { default(port) } else { format!("{rule} path=/* -> {B}*1") };
        let expected = format!(
            "ports.shop.svc.cluster.local:1\n{}\nports.shop.svc.cluster.local:2\n{}",
            line(one, 1),
            line(two, 2)
        );
        check("", "routes findings host=ports.shop", &(base() + &http_route("shop", "r", parent)), &expected);
    };
    of("name: ports", "shop-r", "shop-r");
    of("name: ports, port: 1", "shop-r", "");
    of("name: ports, sectionName: http-two", "", "shop-r");
    of("name: ports, port: 1}, {group: core, kind: Service, name: ports, port: 2", "shop-r", "shop-r");
}

#[test]
fn parents_that_take_no_routes_are_told() {
    let of = |parent: &str, expected: &str| {
        let yaml = http_route("shop", "r", parent) + &base();
        check("", "findings", &yaml, expected);
    };
    of(
        "name: none",
        "error [IST0101] HTTPRoute shop/r f.yaml:5:49: parentRefs[0]: Service shop/none does not exist (the route has no effect there)",
    );
    of(
        "name: headless",
        "warning [OUT0102] HTTPRoute shop/r f.yaml:5:49: parentRefs[0]: Service shop/headless is headless and takes no routes (use a Service with an address of its own)",
    );
    of(
        "name: alias",
        "warning [OUT0102] HTTPRoute shop/r f.yaml:5:49: parentRefs[0]: Service shop/alias is an ExternalName and takes no routes (use a Service with an address of its own)",
    );
    of(
        "name: ports, port: 9",
        "error [IST0101] HTTPRoute shop/r f.yaml:5:62: parentRefs[0]: Service shop/ports has no such port; its ports are 1 (http-one), 2 (http-two), 3 (tcp) (use one of its ports)",
    );
    of(
        "name: ports, port: 1, sectionName: http-two",
        "error [IST0101] HTTPRoute shop/r f.yaml:5:62: parentRefs[0]: Service shop/ports has no such port; its ports are 1 (http-one), 2 (http-two), 3 (tcp) (use one of its ports)",
    );
    of(
        "name: ports, port: 3",
        "warning [OUT0102] HTTPRoute shop/r f.yaml:5:49: parentRefs[0]: Service shop/ports speaks no HTTP at that port; its ports are 1 (http-one), 2 (http-two), 3 (tcp) (give the port of the Service `appProtocol: http`, or a name that begins with `http`)",
    );
    of(
        "name: a}, {group: networking.istio.io, kind: ServiceEntry, name: a",
        "warning [OUT0102] HTTPRoute shop/r f.yaml:5:53: parentRefs[1]: a parent of kind networking.istio.io/ServiceEntry is not known here (a parent is a Gateway, a ListenerSet or a Service)",
    );
}

#[test]
fn hostnames_mean_nothing_for_a_service() {
    let yaml = http_route("shop", "r", "name: a").replace("  rules:", "  hostnames: [a.example]\n  rules:") + &base();
    check(
        "",
        "routes findings host=a.shop",
        &yaml,
        &format!(
            "a.shop.svc.cluster.local:9080
             shop-r path=/* -> {B}*1
             warning [OUT0102] HTTPRoute shop/r f.yaml:6:15: `hostnames` have no meaning for a parent that is a Service (the names are those of the Service; match on the header `Host` for more)"
        ),
    );
}

/// VirtualService, then HTTPRoutes, then TrafficSplit; each that loses is told, with both places.
#[test]
fn every_loser_beside_another_api_is_named() {
    let virtual_service = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: vs, namespace: shop}
spec: {hosts: [a], http: [{name: virtual, route: [{destination: {host: b}}]}]}
---
";
    let split = "apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: split, namespace: shop}
spec: {service: a, backends: [{service: b, weight: 1}]}
---
";
    let routes = http_route("shop", "one", "name: a") + &http_route("shop", "two", "name: a");
    let weaker = routes + split;
    check(
        "",
        "routes findings host=a.shop",
        &(weaker.clone() + &base()),
        &format!(
            "a.shop.svc.cluster.local:9080
             shop-one path=/* -> {B}*1
             warning [IST0130] HTTPRoute shop/two f.yaml:13:11: rules[0] can never be reached: rules[0] of HTTPRoute shop/one at f.yaml:6:11 has the same match and comes first (remove one of the two, or make them different)
             warning [OUT0202] TrafficSplit shop/split f.yaml:18:17: has no effect for a.shop.svc.cluster.local: HTTPRoute shop/one at f.yaml:5:49 routes it, and an HTTPRoute wins over a TrafficSplit (remove one of the two, or move the weights into the HTTPRoute)"
        ),
    );
    check(
        "",
        "routes findings host=a.shop",
        &(weaker + virtual_service + &base()),
        &format!(
            "a.shop.svc.cluster.local:9080
             virtual -> {B}*1
             warning [OUT0202] HTTPRoute shop/one f.yaml:5:49: has no effect for a.shop.svc.cluster.local: VirtualService shop/vs at f.yaml:23:16 routes it, and a VirtualService wins over an HTTPRoute (remove one of the two, or move the rules into the VirtualService)
             warning [OUT0202] HTTPRoute shop/two f.yaml:12:49: has no effect for a.shop.svc.cluster.local: VirtualService shop/vs at f.yaml:23:16 routes it, and a VirtualService wins over an HTTPRoute (remove one of the two, or move the rules into the VirtualService)
             warning [OUT0202] TrafficSplit shop/split f.yaml:18:17: has no effect for a.shop.svc.cluster.local: VirtualService shop/vs at f.yaml:23:16 routes it, and a VirtualService wins over a TrafficSplit (remove one of the two, or move the weights into the VirtualService)"
        ),
    );
}

/// A VirtualService that has no rule for a port leaves it to the next in line.
#[test]
fn a_port_that_a_virtual_service_leaves_open_is_the_http_routes() {
    let virtual_service = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: vs, namespace: shop}
spec: {hosts: [ports], http: [{name: virtual, match: [{port: 1}], route: [{destination: {host: b}}]}]}
---
";
    check(
        "",
        "routes host=ports.shop",
        &(virtual_service.to_owned() + &http_route("shop", "r", "name: ports") + &base()),
        &format!(
            "ports.shop.svc.cluster.local:1
             virtual -> {B}*1
             ports.shop.svc.cluster.local:2
             shop-r path=/* -> {B}*1"
        ),
    );
}
