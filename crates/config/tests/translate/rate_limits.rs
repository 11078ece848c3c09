//! RateLimits: what they say, which routes they are for, and who wins.

use outrigger_config::loader::load_text;
use outrigger_config::translate::{Translator, View};

use crate::dump::{check, dump, service};

/// A RateLimit in namespace `shop` for one target.
fn limit(name: &str, target: &str, more: &str) -> String {
    format!(
        "---\napiVersion: outrigger.dev/v1alpha1\nkind: RateLimit\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{targetRefs: [{{{target}}}], {more}}}\n"
    )
}

const CART: &str = "group: '', kind: Service, name: cart";
const TEN: &str = "limits: [{requests: 10, interval: 1s}]";

/// Two rules of a VirtualService for `cart`.
const RULES: &str = "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: cart, namespace: shop}\nspec:\n  hosts: [cart]\n  http:\n  - {name: admin, match: [{uri: {prefix: /admin}}, {uri: {prefix: /root}}], route: [{destination: {host: cart}}]}\n  - {route: [{destination: {host: cart}}]}\n";

#[test]
fn a_service_is_limited_as_a_whole_whatever_route_leads_there() {
    let spec = "limits: [{requests: 100, interval: 1m, burst: 5, perSource: true}, {requests: 7, per: 2s, key: [source.principal]}], bodies: {requestBytes: 1Mi, responseBytes: 65536}";
    let yaml = service("shop", "cart", &[]) + &limit("l", CART, spec);
    check(
        "",
        "routes findings",
        &yaml,
        "cart.shop.svc.cluster.local:9080
         default -> outbound|9080||cart.shop.svc.cluster.local*1 limit=100/60s+5 each source of shop/l[0] Service shop/cart limit=7/2s+7 each source of shop/l[1] Service shop/cart request<=1048576 response<=65536",
    );
    let with_rules = service("shop", "cart", &[]) + RULES + &limit("l", CART, TEN);
    let all = "outbound|9080||cart.shop.svc.cluster.local*1 limit=10/1s+10 of shop/l[0] Service shop/cart";
    check(
        "",
        "routes findings",
        &with_rules,
        &format!(
            "cart.shop.svc.cluster.local:9080\nadmin path=/admin* -> {all}\nadmin path=/root* -> {all}\ndefault -> {all}"
        ),
    );
}

#[test]
fn a_rule_wins_over_its_route_and_both_hold_beside_the_service() {
    let target = "group: networking.istio.io, kind: VirtualService, name: cart";
    let yaml = service("shop", "cart", &[])
        + RULES
        + &limit("all", target, "limits: [{requests: 3, interval: 1s}], bodies: {requestBytes: 10}")
        + &limit("admin", &format!("{target}, sectionName: admin"), "limits: [{requests: 1, interval: 1s}]")
        + &limit("cart", CART, "limits: [{requests: 9, interval: 1s}], bodies: {requestBytes: 5, responseBytes: 20}");
    let to = "-> outbound|9080||cart.shop.svc.cluster.local*1";
    let admin = "limit=1/1s+1 of shop/admin[0] VirtualService shop/cart/admin limit=9/1s+9 of shop/cart[0] Service shop/cart request<=5 response<=20";
    let other = "limit=3/1s+3 of shop/all[0] VirtualService shop/cart limit=9/1s+9 of shop/cart[0] Service shop/cart request<=5 response<=20";
    check(
        "",
        "routes findings",
        &yaml,
        &format!(
            "cart.shop.svc.cluster.local:9080\nadmin path=/admin* {to} {admin}\nadmin path=/root* {to} {admin}\ndefault {to} {other}"
        ),
    );
}

#[test]
fn routes_of_the_gateway_api_and_gateways_have_limits_too() {
    let gateway = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: g, namespace: shop}\nspec: {gatewayClassName: outrigger, listeners: [{name: web, port: 80, protocol: HTTP}]}\n";
    let route = |kind: &str, backend: &str| {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: r, namespace: shop}}\nspec: {{parentRefs: [{{name: g}}], rules: [{{name: one, backendRefs: [{backend}]}}]}}\n"
        )
    };
    let cart = "{name: cart, port: 9080}";
    for kind in ["HTTPRoute", "GRPCRoute"] {
        let target = format!("group: gateway.networking.k8s.io, kind: {kind}, name: r, sectionName: one");
        let yaml = service("shop", "cart", &[])
            + gateway
            + &route(kind, cart)
            + &limit("l", &target, TEN)
            + &limit("s", CART, TEN);
        let found = dump("api:shop/g", "listeners", &yaml);
        let expected =
            format!("limit=10/1s+10 of shop/l[0] {kind} shop/r/one limit=10/1s+10 of shop/s[0] Service shop/cart");
        assert!(found.contains(&expected), "{found}");
    }
    let mixed = service("shop", "cart", &[])
        + &service("shop", "stock", &[])
        + gateway
        + &route("HTTPRoute", &format!("{cart}, {{name: stock, port: 9080}}"))
        + &limit("s", CART, TEN);
    assert!(!dump("api:shop/g", "listeners", &mixed).contains("limit="));
    check(
        "api:shop/g",
        "findings",
        &mixed,
        "warning [OUT0102] RateLimit shop/s f.yaml:25:54: does not limit rule one of HTTPRoute shop/r, which sends to other Services as well and would count their requests (name that route in a RateLimit of its own)",
    );
}

#[test]
fn a_port_wins_over_its_service() {
    let ports = "apiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\nspec: {ports: [{name: http, port: 80}, {name: http-admin, port: 81}]}\n";
    let yaml = ports.to_owned()
        + &limit("all", CART, TEN)
        + &limit("admin", &format!("{CART}, sectionName: http-admin"), "limits: [{requests: 1, interval: 1s}]");
    check(
        "",
        "routes findings",
        &yaml,
        "cart.shop.svc.cluster.local:80
         default -> outbound|80||cart.shop.svc.cluster.local*1 limit=10/1s+10 of shop/all[0] Service shop/cart
         cart.shop.svc.cluster.local:81
         default -> outbound|81||cart.shop.svc.cluster.local*1 limit=1/1s+1 of shop/admin[0] Service shop/cart/http-admin",
    );
}

#[test]
fn what_servers_enforce_is_none_of_the_clients_affair() {
    let yaml = service("shop", "cart", &[])
        + &limit("l", CART, &format!("enforcedBy: Server, {TEN}"))
        + &limit("c", CART, "limits: [{requests: 2, interval: 1s}]");
    check(
        "",
        "routes findings",
        &yaml,
        "cart.shop.svc.cluster.local:9080
         default -> outbound|9080||cart.shop.svc.cluster.local*1 limit=2/1s+2 of shop/c[0] Service shop/cart",
    );
}

#[test]
fn targets_that_are_not_there_and_limits_that_lose_are_named() {
    let base = service("shop", "cart", &[]) + RULES;
    for (target, finding) in [
        (
            "group: '', kind: Service, name: card",
            "error [IST0101] RateLimit shop/l f.yaml:19:54: target Service shop/card does not exist (did you mean `cart`?)",
        ),
        (
            "group: '', kind: Service, name: cart, sectionName: web",
            "error [IST0101] RateLimit shop/l f.yaml:19:73: cart.shop.svc.cluster.local has no port named \"web\"; its ports are 9080 (http) (`sectionName` is the name of a port)",
        ),
        (
            "group: networking.istio.io, kind: VirtualService, name: carts",
            "error [IST0101] RateLimit shop/l f.yaml:19:78: target VirtualService shop/carts does not exist (did you mean `cart`?)",
        ),
        (
            "group: networking.istio.io, kind: VirtualService, name: cart, sectionName: admins",
            "error [IST0101] RateLimit shop/l f.yaml:19:97: VirtualService shop/cart has no rule named \"admins\"; its rules: admin (did you mean `admin`?)",
        ),
        (
            "group: gateway.networking.k8s.io, kind: HTTPRoute, name: cart",
            "error [IST0101] RateLimit shop/l f.yaml:19:79: target HTTPRoute shop/cart does not exist (a target stands in the namespace of its policy)",
        ),
    ] {
        check("", "findings", &(base.clone() + &limit("l", target, TEN)), finding);
    }
    check(
        "",
        "findings",
        &(base + &limit("first", CART, TEN) + &limit("second", CART, TEN)),
        "warning [OUT0212] RateLimit shop/second f.yaml:24:54: has no effect for this target: RateLimit shop/first at f.yaml:19:54 is older and is for the same (keep one RateLimit for a target; it may have several limits)",
    );
}

#[test]
fn values_that_are_not_legal_are_named() {
    for (spec, finding) in [
        ("limits: []", "spec: neither `limits` nor `bodies` says anything (state a limit, or remove the object)"),
        (
            "limits: [{requests: 0, interval: 1s}]",
            "spec.limits[0].requests: found the number 0, expected an integer from 1 to 1000000000",
        ),
        ("limits: [{requests: 1}]", "spec.limits[0]: required field `interval` is missing (such as `interval: 1s`)"),
        (
            "limits: [{requests: 1, interval: 25h}]",
            "spec.limits[0].interval: found the string \"25h\", expected a duration of at most `24h`",
        ),
        (
            "limits: [{requests: 1, interval: 1s, key: ['header:x-user']}]",
            "spec.limits[0].key: found \"header:x-user\", expected `source.principal` (limits by address or header are not supported: a client chooses its headers itself)",
        ),
        (
            "bodies: {requestBytes: -1}",
            "spec.bodies.requestBytes: found the number -1, expected a number of bytes, such as `1Mi` or `65536`",
        ),
        (
            "enforcedBy: Gateway, limits: [{requests: 1, interval: 1s}]",
            "spec.enforcedBy: found the string \"Gateway\", expected one of `Client`, `Server`",
        ),
    ] {
        let found = dump("", "findings", &(service("shop", "cart", &[]) + &limit("l", CART, spec)));
        let lines: Vec<&str> = found.lines().collect();
        assert!(lines.len() == 1 && lines[0].ends_with(finding), "{spec}\nfound:\n{found}\nexpected:\n{finding}");
    }
    let by_server =
        limit("l", "group: gateway.networking.k8s.io, kind: HTTPRoute, name: r", &format!("enforcedBy: Server, {TEN}"));
    let found = dump("", "findings", &by_server);
    assert!(found.contains("spec: enforcedBy: found `Server` with a target of kind HTTPRoute"), "{found}");
}

#[test]
fn an_edit_of_a_limit_changes_the_routes_it_is_for_alone() {
    let yaml = |requests: u32| {
        let spec = format!("limits: [{{requests: {requests}, interval: 1s}}]");
        service("shop", "cart", &[]) + &service("shop", "stock", &[]) + &limit("l", CART, &spec)
    };
    let load = |requests| load_text("f.yaml", &yaml(requests)).0;
    let mut translator = Translator::new(View::default());
    let (first, _) = translator.translate(&load(5));
    let (second, _) = translator.translate(&load(6));
    assert_ne!(first.version, second.version);
    let (before, now) = (crate::dump::outbound(&first), crate::dump::outbound(&second));
    let same = |name: &str| {
        let vhost = |table: &outrigger_model::RouteTable| {
            table.virtual_hosts.iter().find(|vhost| vhost.name.starts_with(name)).expect("it is there").clone()
        };
        std::sync::Arc::ptr_eq(&vhost(before), &vhost(now))
    };
    assert!(!same("cart."));
    assert!(same("stock."));
}
