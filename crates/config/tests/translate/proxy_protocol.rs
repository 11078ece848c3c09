//! Gateways whose ports take headers of the PROXY protocol.

use crate::dump::{check, service};
use crate::istio_gateways::{INGRESS, TO_A, gateway, http, rules};

/// The Gateway, annotated.
fn annotated(gateway: &str, value: &str) -> String {
    gateway.replacen(
        "metadata: {",
        &format!("metadata: {{annotations: {{outrigger.dev/proxy-protocol: \"{value}\"}}, "),
        1,
    )
}

/// A Gateway of the Gateway API with a listener of HTTP.
const API: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web, namespace: default}
spec: {gatewayClassName: outrigger, listeners: [{name: http, port: 80, protocol: HTTP}]}
";

#[test]
fn an_annotation_says_who_may_send_headers() {
    let route = rules("default/r", "'*'", "web", TO_A);
    let yaml = |value: &str| {
        service("default", "a", &[("v1", 9001)]) + &annotated(&gateway("default/web", &http("'*'")), value) + &route
    };
    let served = "
         [] http NotFound
         *:80 = *:*
         default -> outbound|9080||a.default.svc.cluster.local*1";
    for (value, trusted) in [
        ("10.0.0.0/8", "10.0.0.0/8"),
        (" 10.1.2.3/8 ,127.0.0.1, 2001:db8::/32", "10.0.0.0/8 127.0.0.1/32 2001:db8::/32"),
    ] {
        check(INGRESS, "listeners findings", &yaml(value), &format!("gateway|80 PROXY from {trusted}{served}"));
    }
    check(
        "api:default/web",
        "listeners",
        &annotated(API, "::1"),
        "gateway|80 PROXY from ::1/128
         [] http NotFound",
    );
    check(
        "api:default/web",
        "listeners",
        API,
        "gateway|80
         [] http NotFound",
    );
}

#[test]
fn a_slip_in_it_keeps_the_gateway_out() {
    for (value, word) in
        [("10.0.0.0/8, 10.0.0/8", "10.0.0/8"), ("", ""), ("true", "true"), ("10.0.0.0/33", "10.0.0.0/33")]
    {
        let finding = |place: &str, name: &str| {
            format!(
                "error [IST0106] {name} {place}: metadata.annotations[outrigger.dev/proxy-protocol]: found {word:?}, expected networks separated by commas (name who may send PROXY headers: `10.0.0.0/8, 127.0.0.1`)"
            )
        };
        let yaml = annotated(&gateway("default/web", &http("'*'")), value);
        check(INGRESS, "listeners findings", &yaml, &finding("f.yaml:4:56", "Gateway default/web"));
        check(
            "api:default/web",
            "listeners findings",
            &annotated(API, value),
            &finding("f.yaml:4:56", "Gateway default/web"),
        );
    }
}

#[test]
fn the_oldest_gateway_on_a_port_decides() {
    let yaml = annotated(&gateway("default/a", &http("a.com")), "10.0.0.0/8")
        + &annotated(&gateway("default/b", &http("b.com")), "127.0.0.0/8")
        + &annotated(&gateway("default/c", &http("c.com")), "10.0.0.0/8")
        + &gateway("default/d", &http("d.com"));
    check(INGRESS, "listeners findings", &yaml, "gateway|80 PROXY from 10.0.0.0/8
         [] http NotFound
         warning [OUT0102] Gateway default/b f.yaml:11:56: spec.servers[0] (http) annotation outrigger.dev/proxy-protocol has no effect on port 80: Gateway default/a at f.yaml:4:77 is older and says otherwise (annotate both alike)");
}
