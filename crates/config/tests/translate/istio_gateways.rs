//! Istio Gateways that speak HTTP: which proxies there are, which VirtualServices they obey, and in which order.

use crate::dump::{check, service};

/// The proxy of `selector: {istio: ingressgateway}`.
pub(crate) const INGRESS: &str = "istio:istio-system/istio-ingressgateway";

/// A Gateway `namespace/name` with selector `istio: ingressgateway`.
pub(crate) fn gateway(name: &str, servers: &str) -> String {
    let (namespace, name) = name.split_once('/').expect("NAMESPACE/NAME");
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  selector: {{istio: ingressgateway}}\n  servers: [{servers}]\n"
    )
}

/// A server of plain HTTP at port 80.
pub(crate) fn http(hosts: &str) -> String {
    format!("{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: [{hosts}]}}")
}

/// A VirtualService `namespace/name`; `rules` are indented by two.
pub(crate) fn rules(name: &str, hosts: &str, gateways: &str, rules: &str) -> String {
    let (namespace, name) = name.split_once('/').expect("NAMESPACE/NAME");
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  hosts: [{hosts}]\n  gateways: [{gateways}]\n{rules}\n"
    )
}

/// One route to service `a` of namespace `default`.
pub(crate) const TO_A: &str = "  http: [{route: [{destination: {host: a.default.svc.cluster.local}}]}]";

#[test]
fn a_gateway_routes_by_the_virtual_services_bound_to_it() {
    let yaml = service("default", "a", &[("v1", 9001), ("v2", 9002)])
        + "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a}
spec: {host: a, trafficPolicy: {loadBalancer: {simple: RANDOM}}, subsets: [{name: v1, labels: {version: v1}}]}
" + &gateway("default/web", &http("www.example.com, '*.example.org'"))
        + &rules(
            "default/web",
            "www.example.com, '*.org', x.example.net",
            "web",
            "  http:
  - {name: one, match: [{uri: {prefix: /one}}], route: [{destination: {host: a, subset: v1}}]}
  - {name: rest, route: [{destination: {host: a}, weight: 9}, {destination: {host: a, subset: v1}, weight: 1}]}",
        )
        + &rules("default/other", "www.example.com", "mesh", TO_A);
    check(
        INGRESS,
        "listeners clusters findings",
        &yaml,
        "gateway|80
         [] http NotFound
         www.example.com:80 = www.example.com:*
         one path=/one* -> outbound|9080|v1|a.default.svc.cluster.local*1
         rest -> outbound|9080||a.default.svc.cluster.local*9 outbound|9080|v1|a.default.svc.cluster.local*1
         *.example.org:80 = *.example.org:*
         one path=/one* -> outbound|9080|v1|a.default.svc.cluster.local*1
         rest -> outbound|9080||a.default.svc.cluster.local*9 outbound|9080|v1|a.default.svc.cluster.local*1
         outbound|9080|v1|a.default.svc.cluster.local random by=default/a [1]
         outbound|9080||a.default.svc.cluster.local random by=default/a [2]",
    );
    check(
        "",
        "gateways",
        &yaml,
        "Istio istio-system/istio-ingressgateway [istio=ingressgateway]
         Gateway default/web
         http 80 HTTP www.example.com, *.example.org by gateway|80",
    );
}

/// A Deployment `namespace/name` with labels.
fn deployment(name: &str, labels: &str) -> String {
    let (namespace, name) = name.split_once('/').expect("NAMESPACE/NAME");
    format!(
        "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  selector: {{matchLabels: {{{labels}}}}}\n  template: {{metadata: {{labels: {{{labels}}}}}, spec: {{serviceAccountName: edge, containers: [{{name: istio-proxy}}]}}}}\n"
    )
}

#[test]
fn gateways_with_one_selector_are_one_proxy() {
    let other = |name: &str, selector: &str| {
        gateway(name, &http("'*'")).replace("{istio: ingressgateway}", &format!("{{{selector}}}"))
    };
    let yaml = gateway("shop/b", &http("b.com"))
        + &gateway("default/a", &http("a.com"))
        + &other("default/e", "app: edge, tier: Public")
        + &other("shop/none", "")
        + &other("default/app", "app: istio-ingressgateway");
    check(
        "",
        "gateways",
        &yaml,
        "Istio istio-system/edge-tier-public [app=edge tier=Public]
         Gateway default/e
         http 80 HTTP * by gateway|80
         Istio istio-system/istio-ingressgateway [app=istio-ingressgateway istio=ingressgateway]
         Gateway default/a
         http 80 HTTP a.com by gateway|80
         Gateway default/app
         http 80 HTTP * by gateway|80
         Gateway shop/b
         http 80 HTTP b.com by gateway|80
         Istio shop/gateway []
         Gateway shop/none
         http 80 HTTP * by gateway|80",
    );
}

#[test]
fn the_proxy_is_the_workload_that_the_selector_picks() {
    let pod = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: p-0, namespace: pods, labels: {istio: ingressgateway}, ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: p, uid: u, controller: true}]}\nspec: {containers: [{name: c}]}\n";
    let yaml = deployment("edge/one", "istio: ingressgateway, app: one")
        + &deployment("edge/other", "app: other")
        + pod
        + &gateway("default/a", &http("a.com"))
        + &gateway("default/one", &http("one.com")).replace("{istio: ingressgateway}", "{app: one}");
    check(
        "",
        "gateways",
        &yaml,
        "Istio edge/one [app=one istio=ingressgateway] spiffe://cluster.local/ns/edge/sa/edge
         Gateway default/a
         http 80 HTTP a.com by gateway|80
         Gateway default/one
         http 80 HTTP one.com by gateway|80
         Istio pods/p [istio=ingressgateway] spiffe://cluster.local/ns/pods/sa/default
         Gateway default/a
         http 80 HTTP a.com by gateway|80",
    );
    let both = yaml + &rules("default/r", "'*'", "a, one", "  http: [{directResponse: {status: 200}}]");
    let hosts = "gateway|80\n[] http NotFound\na.com:80 = a.com:*\ndefault -> 200 \"\"";
    check("istio:pods/p", "listeners", &both, hosts);
    check("istio:edge/one", "listeners", &both, &format!("{hosts}\none.com:80 = one.com:*\ndefault -> 200 \"\""));
    check("istio:edge/gone", "listeners findings", &both, "");
}

#[test]
fn virtual_services_for_one_host_are_merged_and_what_takes_everything_comes_last() {
    let answer = |name: &str, path: &str| {
        let block = if path.is_empty() { String::new() } else { format!("match: [{{uri: {{prefix: {path}}}}}], ") };
        format!("  http: [{{name: {name}, {block}directResponse: {{status: 200}}}}]")
    };
    let created = |yaml: String, year: &str| {
        yaml.replacen("metadata: {", &format!("metadata: {{creationTimestamp: '{year}-01-01T00:00:00Z', "), 1)
    };
    let yaml = gateway("default/web", &http("'*'"))
        + &created(rules("default/all", "'*'", "web", &answer("all", "")), "2020")
        + &created(rules("default/younger", "'*'", "web", &answer("younger", "/y")), "2022")
        + &created(rules("shop/older", "'*'", "default/web", &answer("older", "/o")), "2021")
        + &created(rules("shop/host", "a.com", "default/web", &answer("host", "/h")), "2019");
    check(
        INGRESS,
        "listeners findings",
        &yaml,
        "gateway|80
         [] http NotFound
         a.com:80 = a.com:*
         host path=/h* -> 200 \"\"
         *:80 = *:*
         older path=/o* -> 200 \"\"
         younger path=/y* -> 200 \"\"
         all -> 200 \"\"",
    );
    let second = yaml + &created(rules("shop/dead", "'*'", "default/web", &answer("dead", "")), "2023");
    check(
        INGRESS,
        "findings",
        &second,
        "warning [IST0130] VirtualService shop/dead f.yaml:47:10: rule dead can never be reached for *: VirtualService default/all at f.yaml:15:10 takes every request (give one of the two a match, or another host)",
    );
}

#[test]
fn the_private_virtual_service_comes_first_and_the_hidden_one_is_told() {
    let answer = |name: &str| {
        format!("  http: [{{name: {name}, match: [{{uri: {{exact: /{name}}}}}], directResponse: {{status: 200}}}}]")
    };
    let export = |yaml: String, to: &str| yaml.replace("spec:\n", &format!("spec:\n  exportTo: [{to}]\n"));
    let yaml = gateway("istio-system/web", &http("'*'"))
        + &rules("default/all", "'*'", "istio-system/web", &answer("all"))
        + &export(rules("default/named", "'*'", "istio-system/web", &answer("named")), "istio-system")
        + &export(rules("istio-system/own", "'*'", "web", &answer("own")), "'.'")
        + &export(rules("default/hidden", "'*'", "istio-system/web", &answer("hidden")), "'.'");
    check(
        INGRESS,
        "listeners findings",
        &yaml,
        "gateway|80
         [] http NotFound
         *:80 = *:*
         own path=/own -> 200 \"\"
         named path=/named -> 200 \"\"
         all path=/all -> 200 \"\"
         warning [OUT0102] VirtualService default/hidden f.yaml:41:14: has no effect on gateway istio-system/web: it is not exported to namespace istio-system, where the proxy of the gateway is (add istio-system to `exportTo`)",
    );
}

#[test]
fn hosts_of_a_server_may_be_for_one_namespace_only() {
    let answer = "  http: [{directResponse: {status: 200}}]";
    let yaml = gateway("shop/web", &http("'./own.com', 'default/*.org', '*/any.com', '*.net'"))
        + &rules("shop/s", "own.com, a.org, any.com", "web", answer)
        + &rules("default/d", "own.com, a.org, any.com, b.net", "shop/web", answer);
    check(
        INGRESS,
        "listeners",
        &yaml,
        "gateway|80
         [] http NotFound
         own.com:80 = own.com:*
         default -> 200 \"\"
         any.com:80 = any.com:*
         default -> 200 \"\"
         a.org:80 = a.org:*
         default -> 200 \"\"
         b.net:80 = b.net:*
         default -> 200 \"\"",
    );
}

#[test]
fn matches_may_be_for_one_gateway_or_port() {
    let yaml = gateway("default/one", &http("'*'"))
        + &gateway("default/two", "{port: {number: 81, name: http, protocol: HTTP}, hosts: ['*']}")
        + &rules(
            "default/r",
            "x.com",
            "one, two, mesh",
            "  http:
  - {name: one, match: [{gateways: [one], uri: {exact: /one}, sourceLabels: {app: x}}], directResponse: {status: 200}}
  - {name: two, match: [{gateways: [default/two], uri: {exact: /two}}, {port: 80, uri: {exact: /80}}], directResponse: {status: 200}}
  - {name: mesh, match: [{gateways: [mesh]}], directResponse: {status: 200}}
  - {name: labels, match: [{sourceLabels: {app: x}, uri: {exact: /x}}, {sourceLabels: {istio: ingressgateway}, uri: {exact: /gw}}], directResponse: {status: 200}}
  - {name: namespace, match: [{sourceNamespace: default, uri: {exact: /d}}, {sourceNamespace: istio-system, uri: {exact: /i}}], directResponse: {status: 200}}
  - {name: rest, directResponse: {status: 404}}",
        );
    check(
        INGRESS,
        "listeners findings",
        &yaml,
        "gateway|80
         [] http NotFound
         x.com:80 = x.com:*
         one path=/one -> 200 \"\"
         two path=/80 -> 200 \"\"
         labels path=/gw -> 200 \"\"
         namespace path=/i -> 200 \"\"
         rest -> 404 \"\"
         gateway|81
         [] http NotFound
         x.com:81 = x.com:*
         two path=/two -> 200 \"\"
         labels path=/gw -> 200 \"\"
         namespace path=/i -> 200 \"\"
         rest -> 404 \"\"",
    );
}

#[test]
fn a_delegates_matches_name_gateways_of_its_own_namespace() {
    let leaf = |gateways: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: leaf, namespace: shop}}\nspec:\n  http:\n  - {{name: leaf, match: [{{uri: {{prefix: /a/b}}{gateways}}}], directResponse: {{status: 200}}}}\n"
        )
    };
    let of = |gateways: &str| {
        gateway("default/web", &http("'*'"))
            + &rules(
                "default/r",
                "x.com",
                "web",
                "  http: [{match: [{gateways: [web], uri: {prefix: /a}}], delegate: {name: leaf, namespace: shop}}]",
            )
            + &leaf(gateways)
    };
    let routed = "gateway|80\n[] http NotFound\nx.com:80 = x.com:*\nleaf path=/a/b* -> 200 \"\"";
    check(INGRESS, "listeners findings", &of(""), routed);
    check(INGRESS, "listeners findings", &of(", gateways: [default/web]"), routed);
    check(
        INGRESS,
        "listeners findings",
        &of(", gateways: [web]"),
        "gateway|80
         [] http NotFound
         warning [IST0130] VirtualService shop/leaf f.yaml:22:5: http[0] is left out: its match is not within that of the rule that delegates to it, f.yaml:15:10 (a delegate's match must be a subset of the root's)",
    );
}

#[test]
fn a_server_may_send_all_its_clients_to_https() {
    let redirecting = http("a.com, b.com").replace("hosts:", "tls: {httpsRedirect: true}, hosts:");
    let plain = "{port: {number: 80, name: plain, protocol: HTTP}, hosts: [c.com]}";
    let yaml = gateway("default/web", &format!("{redirecting}, {plain}"))
        + &rules("default/r", "a.com, c.com", "web", "  http: [{directResponse: {status: 200}}]");
    let to_https = "https-redirect -> 301 scheme=\"https\" authority=\"\" port=Keep path=Keep";
    check(
        INGRESS,
        "listeners findings",
        &yaml,
        &format!(
            "gateway|80
             [] http NotFound
             a.com:80 = a.com:*
             {to_https}
             b.com:80 = b.com:*
             {to_https}
             c.com:80 = c.com:*
             default -> 200 \"\""
        ),
    );
}

#[test]
fn a_server_without_virtual_service_answers_404() {
    check(INGRESS, "listeners findings", &gateway("default/web", &http("'*'")), "gateway|80\n[] http NotFound");
}

#[test]
fn destinations_and_sidecars_are_seen_from_the_proxys_namespace() {
    let sidecar = "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s, namespace: istio-system}\nspec: {egress: [{hosts: ['~/*']}], outboundTrafficPolicy: {mode: REGISTRY_ONLY}}\n";
    let hidden = service("default", "h", &[]).replacen(
        "name: h,",
        "name: h, annotations: {networking.istio.io/exportTo: '.'},",
        1,
    );
    let yaml = service("default", "a", &[])
        + &hidden
        + sidecar
        + &gateway("default/web", &http("'*'"))
        + &rules(
            "default/r",
            "'*'",
            "web",
            "  http: [{route: [{destination: {host: a}, weight: 1}, {destination: {host: h}, weight: 1}]}]",
        );
    check(
        INGRESS,
        "listeners clusters findings",
        &yaml,
        "gateway|80
         [] http NotFound
         *:80 = *:*
         default -> outbound|9080||a.default.svc.cluster.local*1 outbound|80||h.default.svc.cluster.local*1!503
         outbound|9080||a.default.svc.cluster.local least [0]
         error [IST0101] VirtualService default/r f.yaml:30:77: destination host \"h\" (h.default.svc.cluster.local) is not exported to namespace istio-system, only Service default/h has it (add the client's namespace to its `exportTo`)",
    );
}

#[test]
fn names_of_gateways_are_judged() {
    let yaml = gateway("shop/web", &http("shop/a.com, b.com"))
        + "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: api}\nspec: {gatewayClassName: istio, listeners: [{name: http, port: 80, protocol: HTTP}]}\n"
        + &rules(
            "default/r",
            "a.com",
            "web, shop/wep, api, shop/web, gone",
            "  http:
  - {match: [{gateways: [shop/web, ./other], uri: {exact: /x}}], directResponse: {status: 200}}",
        );
    let expected = "
        error [IST0101] VirtualService default/r f.yaml:19:14: gateway default/web does not exist (did you mean `shop/web`?)
        error [IST0101] VirtualService default/r f.yaml:19:19: gateway shop/wep does not exist (define the Gateway, or correct the name)
        error [IST0101] VirtualService default/r f.yaml:19:29: gateway default/api is one of gateway.networking.k8s.io; VirtualServices bind to those of networking.istio.io (attach an HTTPRoute to it instead)
        warning [IST0132] VirtualService default/r f.yaml:19:34: none of its hosts (a.com) is among those of Gateway shop/web for namespace default (shop/a.com, b.com) (add a host to a server of the Gateway, or correct `hosts`)
        error [IST0101] VirtualService default/r f.yaml:19:44: gateway default/gone does not exist (define the Gateway, or correct the name)
        warning [OUT0102] VirtualService default/r f.yaml:21:14: this match is for gateway \"default/other\", to which the rules are not bound (add it to `spec.gateways`)";
    check("", "findings", &yaml, expected);
}
