//! Gateways by themselves: classes, protocols, kinds, addresses, conflicts.

use super::*;

fn class(name: &str, controller: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{name: {name}}}\n\
         spec: {{controllerName: {controller}}}\n"
    )
}

fn of_class(name: &str, class: &str) -> String {
    gateway(name, &http("http", "")).replace("gatewayClassName: outrigger", &format!("gatewayClassName: {class}"))
}

#[test]
fn without_classes_every_gateway_is_served() {
    check(
        &of_class("infra/web", "nginx"),
        "Gateway infra/web: Accepted Programmed ResolvedRefs
         Gateway infra/web/http: Accepted ResolvedRefs Programmed routes=0",
    );
}

#[test]
fn classes_say_which_gateways_are_served() {
    let yaml = class("ours", "outrigger.dev/gateway-controller")
        + &class("istio", "istio.io/gateway-controller")
        + &class("nginx", "nginx.org/gateway-controller")
        + &of_class("infra/a", "ours")
        + &of_class("infra/b", "istio")
        + &of_class("infra/c", "outrigger")
        + &of_class("infra/d", "nginx")
        + &of_class("infra/e", "absent");
    check(
        &yaml,
        "GatewayClass ours: Accepted
         GatewayClass istio: Accepted
         Gateway infra/a: Accepted Programmed ResolvedRefs
         Gateway infra/a/http: Accepted ResolvedRefs Programmed routes=0
         Gateway infra/b: Accepted Programmed ResolvedRefs
         Gateway infra/b/http: Accepted ResolvedRefs Programmed routes=0
         Gateway infra/c: Accepted Programmed ResolvedRefs
         Gateway infra/c/http: Accepted ResolvedRefs Programmed routes=0",
    );
    same(
        &findings(&yaml),
        "info [OUT0220] Gateway infra/d f.yaml:35:26: is not served: its class \"nginx\" belongs to the controller nginx.org/gateway-controller (name a class whose controllerName is outrigger.dev/gateway-controller, or `outrigger` or `istio`)
         info [OUT0220] Gateway infra/e f.yaml:40:26: is not served: its class \"absent\" is not among the GatewayClasses of the input (name a class whose controllerName is outrigger.dev/gateway-controller, or `outrigger` or `istio`)",
    );
    assert!(Gateway::new("infra/d", &yaml).0.listeners.is_empty());
}

#[test]
fn protocols_that_are_not_served() {
    let invalid = "{name: invalid, port: 1111, protocol: INVALID}";
    let udp = "{name: udp, port: 80, protocol: UDP}";
    let yaml =
        gateway("infra/only", invalid) + &gateway("infra/both", &format!("{}, {invalid}, {udp}", http("http", "")));
    check(
        &yaml,
        "Gateway infra/only: Accepted=False/ListenersNotValid Programmed=False/Invalid ResolvedRefs
         Gateway infra/only/invalid: Accepted=False/UnsupportedProtocol ResolvedRefs Programmed=False/Invalid routes=0 kinds=[]
         Gateway infra/both: Accepted=True/ListenersNotValid Programmed ResolvedRefs
         Gateway infra/both/http: Accepted ResolvedRefs Programmed routes=0
         Gateway infra/both/invalid: Accepted=False/UnsupportedProtocol ResolvedRefs Programmed=False/Invalid routes=0 kinds=[]
         Gateway infra/both/udp: Accepted=False/UnsupportedProtocol ResolvedRefs Programmed=False/Invalid routes=0 kinds=[]",
    );
    same(
        &findings(&yaml),
        "error [OUT0222] Gateway infra/only f.yaml:5:88: listener invalid: protocol INVALID is not served, only HTTP, HTTPS, TLS and TCP are
         error [OUT0222] Gateway infra/both f.yaml:10:172: listener invalid: protocol INVALID is not served, only HTTP, HTTPS, TLS and TCP are
         error [OUT0222] Gateway infra/both f.yaml:10:214: listener udp: protocol UDP is not served, only HTTP, HTTPS, TLS and TCP are (routes of UDP are to come)",
    );
    same(
        &proxies(&yaml),
        "infra/both both-outrigger spiffe://cluster.local/ns/infra/sa/both-outrigger
         Gateway infra/both
         http 80 HTTP * gateway|80
         invalid 1111 INVALID * -
         udp 80 UDP * -
         infra/only only-outrigger spiffe://cluster.local/ns/infra/sa/only-outrigger
         Gateway infra/only
         invalid 1111 INVALID * -",
    );
}

#[test]
fn a_listener_names_the_kinds_it_takes() {
    let of = |name: &str, kinds: &str| {
        let listener = format!("{{name: http, port: 80, protocol: HTTP, allowedRoutes: {{kinds: [{kinds}]}}}}");
        gateway(name, &listener)
    };
    let yaml = of("infra/none", "{kind: InvalidRoute}")
        + &of("infra/one", "{kind: InvalidRoute}, {kind: HTTPRoute}")
        + &of("infra/group", "{group: example.com, kind: HTTPRoute}")
        + &route("infra/r", "{name: one}, {name: none}", "", "/", "a")
        + &service("infra/a");
    check(
        &yaml,
        "Gateway infra/none: Accepted Programmed ResolvedRefs=False/ListenersNotResolved
         Gateway infra/none/http: Accepted ResolvedRefs=False/InvalidRouteKinds Programmed routes=0 kinds=[]
         Gateway infra/one: Accepted Programmed ResolvedRefs=False/ListenersNotResolved
         Gateway infra/one/http: Accepted ResolvedRefs=False/InvalidRouteKinds Programmed routes=1 kinds=[\"HTTPRoute\"]
         Gateway infra/group: Accepted Programmed ResolvedRefs=False/ListenersNotResolved
         Gateway infra/group/http: Accepted ResolvedRefs=False/InvalidRouteKinds Programmed routes=0 kinds=[]
         HTTPRoute infra/r -> Gateway infra/one: Accepted ResolvedRefs
         HTTPRoute infra/r -> Gateway infra/none: Accepted=False/NotAllowedByListeners ResolvedRefs",
    );
}

#[test]
fn parameters_of_other_controllers_are_refused() {
    let of = |name: &str, parameters: &str| {
        gateway_with(name, &format!("infrastructure: {{parametersRef: {{{parameters}}}}},"), &http("http", ""))
    };
    let yaml = of("infra/kind", "group: example.com, kind: Parameters, name: p")
        + &of("infra/absent", "group: '', kind: ConfigMap, name: absent")
        + &of("infra/known", "group: '', kind: ConfigMap, name: options")
        + "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: options, namespace: infra}\n";
    check(
        &yaml,
        "Gateway infra/kind: Accepted=False/InvalidParameters Programmed=False/Invalid ResolvedRefs
         Gateway infra/kind/http: Accepted ResolvedRefs Programmed=False/Invalid routes=0
         Gateway infra/absent: Accepted=False/InvalidParameters Programmed=False/Invalid ResolvedRefs
         Gateway infra/absent/http: Accepted ResolvedRefs Programmed=False/Invalid routes=0
         Gateway infra/known: Accepted Programmed ResolvedRefs
         Gateway infra/known/http: Accepted ResolvedRefs Programmed routes=0",
    );
    assert!(Gateway::new("infra/kind", &yaml).0.listeners.is_empty());
    same(
        &findings(&yaml),
        "error [OUT0221] Gateway infra/kind f.yaml:5:69: parametersRef names a Parameters of the group \"example.com\", expected a ConfigMap of the core group (remove it: this controller has no parameters)
         error [OUT0221] Gateway infra/absent f.yaml:10:69: parametersRef names ConfigMap infra/absent, which does not exist (add it, or remove the reference)
         warning [OUT0102] Gateway infra/known f.yaml:15:69: spec.infrastructure.parametersRef: it changes how a gateway is deployed, and nothing is here",
    );
}

#[test]
fn a_class_that_is_not_accepted_leaves_its_gateways_waiting() {
    let yaml = class("ours", "outrigger.dev/gateway-controller")
        .replace("gateway-controller}", "gateway-controller, parametersRef: {group: example.com, kind: P, name: p}}")
        + &of_class("infra/web", "ours");
    check(
        &yaml,
        "GatewayClass ours: Accepted=False/InvalidParameters
         Gateway infra/web: Accepted=Unknown/Pending Programmed=Unknown/Pending",
    );
    assert!(Gateway::new("infra/web", &yaml).0.listeners.is_empty());
}

#[test]
fn addresses_are_given_out_here() {
    let of = |name: &str, addresses: &str| gateway_with(name, &format!("addresses: [{addresses}],"), &http("http", ""));
    let yaml = of("infra/type", "{type: test/fake, value: x}, {value: 10.0.0.1}")
        + &of("infra/value", "{value: 10.0.0.1}")
        + &of("infra/host", "{type: Hostname, value: ingress.infra.svc.cluster.local}")
        + &of("infra/any", "{type: IPAddress}");
    check(
        &yaml,
        "Gateway infra/type: Accepted=False/UnsupportedAddress Programmed=False/Invalid ResolvedRefs
         Gateway infra/type/http: Accepted ResolvedRefs Programmed=False/Invalid routes=0
         Gateway infra/value: Accepted Programmed=False/AddressNotUsable ResolvedRefs
         Gateway infra/value/http: Accepted ResolvedRefs Programmed routes=0
         Gateway infra/host: Accepted Programmed=False/AddressNotUsable ResolvedRefs
         Gateway infra/host/http: Accepted ResolvedRefs Programmed routes=0
         Gateway infra/any: Accepted Programmed ResolvedRefs
         Gateway infra/any/http: Accepted ResolvedRefs Programmed routes=0",
    );
    same(
        &findings(&of("infra/value", "{value: 10.0.0.1}")),
        "warning [OUT0224] Gateway infra/value f.yaml:5:49: the address \"10.0.0.1\" is not used: a gateway is served at an address of its own (the start-up report names it)",
    );
    assert_eq!(Gateway::new("infra/value", &yaml).0.listeners.len(), 1);
}

#[test]
fn the_proxy_is_named_as_istio_deploys_it() {
    let yaml = gateway_with(
        "infra/web",
        "infrastructure: {labels: {version: v2, team: edge}, annotations: {example.com/a: b}},",
        &http("http", ""),
    );
    let snapshot = Gateway::new("infra/web", &yaml).0;
    let w = &snapshot.workload;
    assert_eq!((&*w.name, &*w.namespace, &*w.version), ("web-outrigger", "infra", "v2"));
    assert_eq!((&*w.canonical_service, &*w.canonical_revision), ("web-outrigger", "v2"));
    assert_eq!(&*w.principal, "spiffe://cluster.local/ns/infra/sa/web-outrigger");
    assert_eq!(w.labels.get("team").map(|v| &**v), Some("edge"));
    assert_eq!(w.labels.get("gateway.networking.k8s.io/gateway-name").map(|v| &**v), Some("web"));
    same(
        &findings(&yaml),
        "warning [OUT0102] Gateway infra/web f.yaml:5:118: spec.infrastructure.annotations: nothing here reads them",
    );
}

#[test]
fn listeners_that_cannot_be_told_apart_are_all_out() {
    let host = |name: &str, host: &str| http(name, &format!("hostname: {host}"));
    let secure = "{name: secure, port: 81, protocol: HTTPS, tls: {certificateRefs: [{name: c}]}}";
    let plain = "{name: plain, port: 81, protocol: HTTP, hostname: a.com}";
    let tcp = "{name: tcp, port: 81, protocol: TCP}";
    let all = [host("a", "a.com"), host("b", "a.com"), host("c", "c.com"), secure.into(), plain.into(), tcp.into()];
    let yaml = gateway("infra/web", &all.join(", "));
    check(
        &yaml,
        "Gateway infra/web: Accepted=True/ListenersNotValid Programmed ResolvedRefs=False/ListenersNotResolved
         Gateway infra/web/a: Accepted=False/HostnameConflict Conflicted=True/HostnameConflict ResolvedRefs Programmed=False/HostnameConflict routes=0
         Gateway infra/web/b: Accepted=False/HostnameConflict Conflicted=True/HostnameConflict ResolvedRefs Programmed=False/HostnameConflict routes=0
         Gateway infra/web/c: Accepted ResolvedRefs Programmed routes=0
         Gateway infra/web/secure: Accepted=False/ProtocolConflict Conflicted=True/ProtocolConflict ResolvedRefs=False/InvalidCertificateRef Programmed=False/ProtocolConflict routes=0
         Gateway infra/web/plain: Accepted=False/ProtocolConflict Conflicted=True/ProtocolConflict ResolvedRefs Programmed=False/ProtocolConflict routes=0
         Gateway infra/web/tcp: Accepted=False/ProtocolConflict Conflicted=True/ProtocolConflict ResolvedRefs Programmed=False/ProtocolConflict routes=0 kinds=[\"TCPRoute\"]",
    );
    let found = findings(&yaml);
    for message in [
        "listener a (80) conflicts with listener b (80): the same port and host name (give one of them another host name or port)",
        "listener b (80) conflicts with listener a (80): the same port and host name",
        "listener plain (81) conflicts with listener secure (81): another protocol on the same port (give one of them another port)",
    ] {
        assert!(found.contains(message), "{found}");
    }
    let gateway = Gateway::new("infra/web", &yaml);
    assert_eq!(gateway.http(80, "c.com", "/"), "404");
    assert_eq!(gateway.http(81, "a.com", "/"), "closed");
}

#[test]
fn a_gateway_with_nothing_but_conflicts_is_not_accepted() {
    check(
        &gateway("infra/web", &format!("{}, {}", http("a", ""), http("b", ""))),
        "Gateway infra/web: Accepted=False/ListenersNotValid Programmed=False/Invalid ResolvedRefs
         Gateway infra/web/a: Accepted=False/HostnameConflict Conflicted=True/HostnameConflict ResolvedRefs Programmed=False/HostnameConflict routes=0
         Gateway infra/web/b: Accepted=False/HostnameConflict Conflicted=True/HostnameConflict ResolvedRefs Programmed=False/HostnameConflict routes=0",
    );
}

#[test]
fn what_is_not_enforced_is_told() {
    let listener = "{name: s, port: 443, protocol: HTTPS, tls: {options: {example.com/ciphers: strong}}}";
    let yaml = gateway_with("infra/web", "defaultScope: All,", &format!("{}, {listener}", http("http", "")));
    same(
        &findings(&yaml),
        "warning [OUT0103] Gateway infra/web f.yaml:5:51: spec.defaultScope: not enforced yet, routes attach by `parentRefs` only
         error [OUT0222] Gateway infra/web f.yaml:5:195: listener s: no certificateRefs, HTTPS needs a certificate (name a Secret of type kubernetes.io/tls)
         warning [OUT0103] Gateway infra/web f.yaml:5:227: listener s: the option \"example.com/ciphers\" of `tls` is not enforced",
    );
}
