//! GRPCRoutes: matches and their precedence, backends and weights, filters, and who wins beside an HTTPRoute.
//!
//! Shown for a Service of the mesh; Gateways get the same routes (`gateway_api::grpc_routes`). Cases of the conformance suite
//! (`conformance/tests` of kubernetes-sigs/gateway-api) that can be told from routes are here by name, in words and manifests
//! of our own:
//!
//! | case | here |
//! |---|---|
//! | GRPCExactMethodMatching, GRPCRouteHeaderMatching | `services_methods_and_headers_are_matched` |
//! | GRPCRouteWeight | `weights_are_shares_and_a_backend_that_is_not_there_answers_503` |
//! | GRPCRouteNamedRouteRule | `services_methods_and_headers_are_matched` |
//! | GRPCRouteListenerHostnameMatching | `gateway_api::grpc_routes` |

use crate::dump::check;

/// A Service of namespace `default` whose only port is called `grpc`.
fn service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{name: grpc, port: 9000}}]}}\n---\n"
    )
}

fn base() -> String {
    service("a") + &service("b") + &service("c")
}

/// A route of Service `a` with these rules.
fn route(kind: &str, name: &str, more: &str, rules: &str) -> String {
    let rules = rules.trim().replace('\n', "\n  ");
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}{more}}}\nspec:\n  parentRefs: [{{group: '', kind: Service, name: a}}]\n  rules:\n  {rules}\n---\n"
    )
}

/// The routes of Service `a`, and findings, for an anonymous client.
#[track_caller]
fn of(rules: &str, expected: &str) {
    let expected = format!("a.default.svc.cluster.local:9000\n{expected}");
    check("", "routes findings host=a.default", &(route("GRPCRoute", "r", "", rules) + &base()), &expected);
}

const B: &str = "outbound|9000||b.default.svc.cluster.local";
const C: &str = "outbound|9000||c.default.svc.cluster.local";

#[test]
fn services_methods_and_headers_are_matched() {
    of(
        "
- name: one
  matches:
  - method: {service: shop.v1.Cart, method: Get}
  - method: {type: Exact, service: .shop.v2.Cart}
    headers: [{name: Version, value: two}, {name: x-env, type: RegularExpression, value: 'a|b'}]
  - method: {method: List}
  backendRefs: [{name: b, port: 9000}]
- matches:
  - method: {type: RegularExpression, service: 'shop\\.v[0-9]+\\.Cart', method: Get|Put}
  - method: {type: RegularExpression, method: Get.*}
  - method: {type: RegularExpression, service: s.+, method: ''}
  - headers: [{name: version, value: three}]
  backendRefs: [{name: c, port: 9000}]",
        &format!(
            "one path=/.shop.v2.Cart/* header:version=two header:x-env~a|b -> {B}*1
             one path=/shop.v1.Cart/Get -> {B}*1
             one path~/[^/]+/(?:List) -> {B}*1
             default path~/(?:shop\\.v[0-9]+\\.Cart)/(?:Get|Put) -> {C}*1
             default path~/(?:s.+)/[^/]+ -> {C}*1
             default path~/[^/]+/(?:Get.*) -> {C}*1
             default path=/* header:version=three -> {C}*1"
        ),
    );
}

/// More characters of the service, then of the method, then more headers; and never by the length of the whole path.
#[test]
fn the_more_specific_match_is_asked_first() {
    of(
        "
- matches: [{headers: [{name: a, value: '1'}]}, {}]
  backendRefs: [{name: b, port: 9000}]
- matches: [{method: {service: shop.Cart}}, {method: {service: shop.Cart, method: Get}, headers: [{name: a, value: '1'}]}]
  backendRefs: [{name: b, port: 9000}]
- matches: [{method: {method: GetEverythingThereIsInTheShop}}, {method: {service: shop.Cart, method: Get}}]
  backendRefs: [{name: b, port: 9000}]
- matches: [{method: {service: shop.Cart, method: Update}}, {method: {service: shop.Carts}}]
  backendRefs: [{name: b, port: 9000}]",
        &format!(
            "default path=/shop.Carts/* -> {B}*1
             default path=/shop.Cart/Update -> {B}*1
             default path=/shop.Cart/Get header:a=1 -> {B}*1
             default path=/shop.Cart/Get -> {B}*1
             default path=/shop.Cart/* -> {B}*1
             default path~/[^/]+/(?:GetEverythingThereIsInTheShop) -> {B}*1
             default path=/* header:a=1 -> {B}*1
             default path=/* -> {B}*1"
        ),
    );
}

#[test]
fn of_equal_matches_the_older_route_wins() {
    let created = |name: &str, time: &str| {
        let rules = format!("- name: {name}\n  backendRefs: [{{name: b, port: 9000}}]");
        route("GRPCRoute", name, &format!(", creationTimestamp: '2024-01-0{time}T00:00:00Z'"), &rules)
    };
    check(
        "",
        "routes findings host=a.default",
        &(created("young", "2") + &created("old", "1") + &base()),
        &format!(
            "a.default.svc.cluster.local:9000
             old path=/* -> {B}*1
             warning [IST0130] GRPCRoute default/young f.yaml:7:5: rules[0] can never be reached: rules[0] of GRPCRoute default/old at f.yaml:16:5 has the same match and comes first (remove one of the two, or make them different)"
        ),
    );
}

/// A client of gRPC reads 503 as `UNAVAILABLE`, as the specification wants it.
#[test]
fn weights_are_shares_and_a_backend_that_is_not_there_answers_503() {
    of(
        "
- matches: [{method: {service: shares}}]
  backendRefs: [{name: b, port: 9000, weight: 9}, {name: c, port: 9000}, {name: a, port: 9000, weight: 0}]
- matches: [{method: {service: nobody}}]
- matches: [{method: {service: absent}}]
  backendRefs: [{name: b, port: 9000}, {name: absent, port: 9000}, {kind: Pod, name: p}]",
        &format!(
            "default path=/shares/* -> {B}*9 {C}*1
             default path=/nobody/* -> BlackHoleCluster*1!503
             default path=/absent/* -> {B}*1 outbound|9000||absent.default.svc.cluster.local*1!503 outbound|0||p.default.svc.cluster.local*1!503
             warning [OUT0213] GRPCRoute default/r f.yaml:9:5: rules[1] has no `backendRefs`: its requests get 503 (name a backend)
             error [IST0101] GRPCRoute default/r f.yaml:11:49: backend Service default/absent does not exist (define the Service or ServiceEntry, or correct the host)
             error [IST0101] GRPCRoute default/r f.yaml:11:88: backend default/p is of kind Pod, which is not known here (a backend is a Service)"
        ),
    );
}

#[test]
fn filters_are_those_of_http_routes() {
    of(
        "
- filters:
  - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: '1'}]}}
  - {type: ResponseHeaderModifier, responseHeaderModifier: {remove: [b]}}
  - {type: RequestMirror, requestMirror: {percent: 50, backendRef: {name: c, port: 9000}}}
  backendRefs:
  - {name: b, port: 9000, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: c, value: '2'}]}}]}
- matches: [{method: {service: own}}]
  filters: [{type: ExtensionRef, extensionRef: {group: example.com, kind: Filter, name: f}}]
  sessionPersistence: {cookie: {}}
  backendRefs: [{name: b, port: 9000}]",
        &format!(
            "default path=/own/* -> BlackHoleCluster*1!503
             default path=/* -> {B}*1 request:a=1 request:c+=2 response:-b mirror={C}@500000
             warning [OUT0103] GRPCRoute default/r f.yaml:15:25: spec.rules[1].sessionPersistence: understood, but not enforced yet (traffic flows as if the field were absent)
             error [IST0101] GRPCRoute default/r f.yaml:14:15: filter Filter f is of group \"example.com\", which brings no filters here; requests that meet it get 503 (remove it, or use a filter of the Gateway API)"
        ),
    );
}

#[test]
fn a_route_without_rules_sends_nowhere() {
    let yaml = "apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: GRPCRoute\nmetadata: {name: r}\nspec:\n  parentRefs: [{group: '', kind: Service, name: a}]\n  rules: []\n---\n";
    check(
        "",
        "routes findings host=a.default",
        &(yaml.to_owned() + &base()),
        "a.default.svc.cluster.local:9000
         default path=/* -> BlackHoleCluster*1!503
         warning [OUT0213] GRPCRoute default/r f.yaml:3:18: rules[0] has no `backendRefs`: its requests get 503 (name a backend)",
    );
}

/// A port decides what is spoken to it, as in Istio; a route only tells that it cannot work.
#[test]
fn calls_to_a_port_of_http_1_are_told() {
    let ports = "apiVersion: v1\nkind: Service\nmetadata: {name: ports}\nspec: {ports: [{name: http, port: 1}, {name: x, port: 2}, \
                 {name: h, port: 3, appProtocol: kubernetes.io/h2c}, {name: tcp, port: 4}]}\n---\n";
    let rules = "- backendRefs: [{name: ports, port: 1}, {name: ports, port: 2}, {name: ports, port: 3}, {name: ports, port: 4}]";
    let yaml = route("GRPCRoute", "r", "", rules) + &base() + ports;
    let told = |at: &str, port: u16, what: &str| {
        format!(
            "warning [OUT0218] GRPCRoute default/r f.yaml:7:{at}: port {port} of backend ports.default.svc.cluster.local gets \
             HTTP/1.1, which cannot carry gRPC: it is one of {what} (give the port of the Service `appProtocol: \
             kubernetes.io/h2c`, or a name that begins with `grpc`)\n"
        )
    };
    check("", "findings", &yaml, &(told("39", 1, "HTTP") + &told("111", 4, "TCP")));
    let upgrade = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d}\n\
                   spec: {host: ports, trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}}\n";
    check("", "findings", &(yaml.clone() + upgrade), "");
    check("", "findings", &yaml.replace("kind: GRPCRoute", "kind: HTTPRoute"), "");
}

/// GEP-1426: they are not merged, and the GRPCRoute is the more specific. Elsewhere the HTTPRoute stays.
#[test]
fn a_grpc_route_wins_over_an_http_route_for_the_same_port() {
    let rule = |name: &str, backend: &str| format!("- name: {name}\n  backendRefs: [{{name: {backend}, port: 9000}}]");
    let http = route("HTTPRoute", "h", "", &rule("http", "b"));
    let grpc = route("GRPCRoute", "g", "", &rule("grpc", "c"));
    let two_ports = base().replacen("port: 9000}]", "port: 9000}, {name: http, port: 80}]", 1);
    check(
        "",
        "routes findings host=a.default",
        &(http + &grpc.replace("name: a}]", "name: a, port: 9000}]") + &two_ports),
        &format!(
            "a.default.svc.cluster.local:9000
             grpc path=/* -> {C}*1
             a.default.svc.cluster.local:80
             http path=/* -> {B}*1
             warning [OUT0202] HTTPRoute default/h f.yaml:5:49: has no effect for a.default.svc.cluster.local:9000: GRPCRoute default/g at f.yaml:14:49 routes it, and a GRPCRoute wins over an HTTPRoute (remove one of the two, or move the rules into the GRPCRoute)"
        ),
    );
    let split = "apiVersion: split.smi-spec.io/v1alpha2\nkind: TrafficSplit\nmetadata: {name: s}\nspec: {service: a, backends: [{service: b, weight: 1}]}\n";
    check(
        "",
        "routes findings host=a.default",
        &(grpc + &base() + split),
        &format!(
            "a.default.svc.cluster.local:9000
             grpc path=/* -> {C}*1
             warning [OUT0202] TrafficSplit default/s f.yaml:28:17: has no effect for a.default.svc.cluster.local: GRPCRoute default/g at f.yaml:5:49 routes it, and a GRPCRoute wins over a TrafficSplit (remove one of the two, or move the weights into the GRPCRoute)"
        ),
    );
}
