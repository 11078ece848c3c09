//! Listeners that relay connections: TLS that passes through or ends at the Gateway, and TCP, with their routes.

use super::{check, findings, gateway, gateway_with, grant, http, listener_set, proxies, same, service, status};
use crate::dump;

/// A listener of protocol TLS on port 443; `more` are further fields.
fn passthrough(name: &str, more: &str) -> String {
    format!("{{name: {name}, port: 443, protocol: TLS, tls: {{mode: Passthrough}}, {more}}}")
}

/// A listener that ends TLS on port 443.
fn terminate(name: &str, more: &str) -> String {
    format!(
        "{{name: {name}, port: 443, protocol: TLS, tls: {{certificateRefs: [{{name: cert}}], mode: Terminate}}, {more}}}"
    )
}

/// A listener of protocol TCP.
fn tcp(name: &str, port: u16) -> String {
    format!("{{name: {name}, port: {port}, protocol: TCP}}")
}

/// A TLSRoute `NAMESPACE/NAME` to backends.
fn tls_route(name: &str, parents: &str, hostnames: &str, backends: &str) -> String {
    let (namespace, name) = name.split_once('/').expect("NAMESPACE/NAME");
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: TLSRoute\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{parentRefs: [{parents}], hostnames: [{hostnames}], rules: [{{backendRefs: [{backends}]}}]}}\n"
    )
}

/// A TCPRoute `NAMESPACE/NAME` to backends.
fn tcp_route(name: &str, parents: &str, backends: &str) -> String {
    let (namespace, name) = name.split_once('/').expect("NAMESPACE/NAME");
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: TCPRoute\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{parentRefs: [{parents}], rules: [{{backendRefs: [{backends}]}}]}}\n"
    )
}

/// The listeners of the Gateway `infra/web`.
#[track_caller]
fn listeners(yaml: &str, expected: &str) {
    dump::check("api:infra/web", "listeners", yaml, expected);
}

fn secret() -> String {
    super::tls::secret("infra/cert", &["*.example.com"])
}

const A: &str = "{name: a, port: 8080}";
const B: &str = "{name: b, port: 8080}";

#[test]
fn tls_passes_through_by_server_name() {
    let yaml = gateway("infra/web", &passthrough("tls", "hostname: '*.example.com'"))
        + &tls_route("infra/one", "{name: web}", "a.example.com, '*.deep.example.com', a.org", A)
        + &tls_route(
            "infra/two",
            "{name: web, sectionName: tls}",
            "'*.com'",
            "{name: b, port: 8080, weight: 3}, {name: a, port: 8080}",
        )
        + &service("infra/a")
        + &service("infra/b");
    check(
        &yaml,
        "Gateway infra/web: Accepted Programmed ResolvedRefs
         Gateway infra/web/tls: Accepted ResolvedRefs Programmed routes=2 kinds=[\"TLSRoute\"]
         TLSRoute infra/one -> Gateway infra/web: Accepted ResolvedRefs
         TLSRoute infra/two -> Gateway infra/web/tls: Accepted ResolvedRefs",
    );
    same(&findings(&yaml), "");
    listeners(
        &yaml,
        "gateway|443
         [a.example.com *.deep.example.com] infra/one 0 -> outbound|8080||a.infra.svc.cluster.local*1
         [*.example.com] infra/two 0 -> outbound|8080||b.infra.svc.cluster.local*3 outbound|8080||a.infra.svc.cluster.local*1",
    );
    same(
        &proxies(&yaml),
        "infra/web web-outrigger spiffe://cluster.local/ns/infra/sa/web-outrigger
         Gateway infra/web
         tls 443 TLS *.example.com gateway|443",
    );
}

#[test]
fn a_server_name_belongs_to_the_most_specific_listener_and_the_oldest_route() {
    let old = |name: &str, year: u16, route: String| {
        route.replace(
            &format!("{{name: {name}, "),
            &format!("{{name: {name}, creationTimestamp: '{year}-01-01T00:00:00Z', "),
        )
    };
    let yaml = gateway(
        "infra/web",
        &[
            passthrough("all", ""),
            passthrough("some", "hostname: '*.example.com'"),
            passthrough("one", "hostname: a.example.com"),
        ]
        .join(", "),
    ) + &old("young", 2025, tls_route("infra/young", "{name: web}", "b.example.com, a.org", B))
        + &old("old", 2024, tls_route("infra/old", "{name: web}", "a.example.com, b.example.com", A))
        + &service("infra/a")
        + &service("infra/b");
    // `all` gets a.org alone: the other names are of narrower listeners.
    listeners(
        &yaml,
        "gateway|443
         [a.org] infra/young 0 -> outbound|8080||b.infra.svc.cluster.local*1
         [b.example.com] infra/old 0 -> outbound|8080||a.infra.svc.cluster.local*1
         [*.example.com]  -> BlackHoleCluster*1!500
         [a.example.com] infra/old 0 -> outbound|8080||a.infra.svc.cluster.local*1",
    );
    dump::check(
        "api:infra/web",
        "findings",
        &yaml,
        "warning [OUT0201] TLSRoute infra/young f.yaml:10:47: has no effect for server name b.example.com: TLSRoute infra/old at f.yaml:15:62 already has it (a connection goes one way; name the host in one of the two)",
    );
}

#[test]
fn https_and_tls_share_a_port() {
    let https =
        "{name: https, port: 443, protocol: HTTPS, hostname: '*.example.com', tls: {certificateRefs: [{name: cert}]}}";
    let yaml = secret()
        + &gateway(
            "infra/web",
            &[https, &passthrough("through", "hostname: b.example.com"), &terminate("end", "hostname: c.example.com")]
                .join(", "),
        )
        + &tls_route("infra/b", "{name: web}", "'*.example.com'", B)
        + &tcp_route("infra/t", "{name: web}", A)
        + &super::route("infra/r", "{name: web}", "", "/", "a")
        + &service("infra/a")
        + &service("infra/b");
    check(
        &yaml,
        "Gateway infra/web: Accepted Programmed ResolvedRefs
         Gateway infra/web/https: Accepted ResolvedRefs Programmed routes=1
         Gateway infra/web/through: Accepted ResolvedRefs Programmed routes=1 kinds=[\"TLSRoute\"]
         Gateway infra/web/end: Accepted ResolvedRefs Programmed routes=2 kinds=[\"TLSRoute\", \"TCPRoute\"]
         HTTPRoute infra/r -> Gateway infra/web: Accepted ResolvedRefs
         TLSRoute infra/b -> Gateway infra/web: Accepted ResolvedRefs
         TCPRoute infra/t -> Gateway infra/web: Accepted ResolvedRefs",
    );
    let found = dump::dump("api:infra/web", "listeners", &yaml);
    let chains: Vec<&str> = found.lines().map(str::trim).filter(|l| l.starts_with('[')).collect();
    assert_eq!(
        chains,
        [
            "[*.example.com] tls(Secret infra/cert) http NotFound",
            "[b.example.com] infra/b 0 -> outbound|8080||b.infra.svc.cluster.local*1",
            "[c.example.com] tls(Secret infra/cert) infra/b 0 -> outbound|8080||b.infra.svc.cluster.local*1",
        ],
        "{found}"
    );
    // The hosts of the others are misdirected where requests are read.
    assert!(found.contains("b.example.com:443|misdirected|"), "{found}");
}

#[test]
fn tls_ends_for_routes_of_connections() {
    let yaml = secret()
        + &gateway("infra/web", &terminate("end", "allowedRoutes: {kinds: [{kind: TCPRoute}, {kind: HTTPRoute}]}"))
        + &tcp_route("infra/t", "{name: web, port: 443}", A)
        + &tls_route("infra/x", "{name: web}", "a.example.com", A)
        + &service("infra/a");
    check(
        &yaml,
        "Gateway infra/web: Accepted Programmed ResolvedRefs=False/ListenersNotResolved
         Gateway infra/web/end: Accepted ResolvedRefs=False/InvalidRouteKinds Programmed routes=1 kinds=[\"TCPRoute\"]
         TLSRoute infra/x -> Gateway infra/web: Accepted=False/NotAllowedByListeners ResolvedRefs
         TCPRoute infra/t -> Gateway infra/web:443: Accepted ResolvedRefs",
    );
    listeners(
        &yaml,
        "gateway|443
         [] tls(Secret infra/cert) infra/t 0 -> outbound|8080||a.infra.svc.cluster.local*1",
    );
    // Without certificate there is nothing to end TLS with.
    let bare = yaml.replace("name: cert}]", "name: none}]");
    let line = "Gateway infra/web/end: Accepted ResolvedRefs=False/InvalidRouteKinds Programmed=False/Invalid routes=1 kinds=[\"TCPRoute\"]";
    let found = status(&bare);
    assert!(found.lines().any(|l| l == line), "{found}");
}

#[test]
fn clients_of_a_listener_for_connections_are_not_asked() {
    let frontend =
        "tls: {frontend: {default: {validation: {caCertificateRefs: [{group: '', kind: ConfigMap, name: none}]}}}},";
    let through = passthrough("through", "hostname: a.org")
        .replace("Passthrough}", "Passthrough, certificateRefs: [{name: cert}]}");
    let yaml = secret() + &gateway_with("infra/web", frontend, &[terminate("end", ""), through].join(", "));
    let line = yaml.lines().position(|l| l.starts_with("spec: {gatewayClassName")).expect("the Gateway") + 1;
    same(
        &findings(&yaml),
        &format!(
            "warning [OUT0102] Gateway infra/web f.yaml:{line}:189: listener end: its clients are not asked for certificates, `frontend` validation is for HTTPS listeners (let the backends ask, with mode Passthrough)
             warning [OUT0102] Gateway infra/web f.yaml:{line}:339: listener through: certificateRefs have no effect with mode Passthrough (the backends show their own certificates; remove them)"
        ),
    );
}

#[test]
fn tcp_goes_to_the_oldest_route() {
    let yaml = gateway("infra/web", &[tcp("echo", 7), tcp("other", 9), tcp("idle", 11), http("http", "")].join(", "))
        + &tcp_route(
            "infra/first",
            "{name: web, sectionName: echo}",
            "{name: a, port: 8080, weight: 9}, {name: b, port: 8080, weight: 1}, {name: a, port: 8080, weight: 0}",
        )
        + &tcp_route("infra/second", "{name: web, port: 7}, {name: web, port: 9}", B)
        + &tcp_route("infra/third", "{name: web, sectionName: http}", B)
        + &tcp_route("infra/fourth", "{name: web, sectionName: absent}", B)
        + &service("infra/a")
        + &service("infra/b");
    check(
        &yaml,
        "Gateway infra/web: Accepted Programmed ResolvedRefs
         Gateway infra/web/echo: Accepted ResolvedRefs Programmed routes=2 kinds=[\"TCPRoute\"]
         Gateway infra/web/other: Accepted ResolvedRefs Programmed routes=1 kinds=[\"TCPRoute\"]
         Gateway infra/web/idle: Accepted ResolvedRefs Programmed routes=0 kinds=[\"TCPRoute\"]
         Gateway infra/web/http: Accepted ResolvedRefs Programmed routes=0
         TCPRoute infra/first -> Gateway infra/web/echo: Accepted ResolvedRefs
         TCPRoute infra/second -> Gateway infra/web:7: Accepted ResolvedRefs
         TCPRoute infra/second -> Gateway infra/web:9: Accepted ResolvedRefs
         TCPRoute infra/third -> Gateway infra/web/http: Accepted=False/NotAllowedByListeners ResolvedRefs
         TCPRoute infra/fourth -> Gateway infra/web/absent: Accepted=False/NoMatchingParent ResolvedRefs",
    );
    dump::check(
        "api:infra/web",
        "listeners findings",
        &yaml,
        "gateway|7
         [] infra/first 0 -> outbound|8080||a.infra.svc.cluster.local*9 outbound|8080||b.infra.svc.cluster.local*1
         gateway|9
         [] infra/second 0 -> outbound|8080||b.infra.svc.cluster.local*1
         gateway|11
         []  -> BlackHoleCluster*1!500
         gateway|80
         [] http NotFound
         warning [OUT0201] TCPRoute infra/second f.yaml:14:18: has no effect for listener echo (7): TCPRoute infra/first at f.yaml:9:18 already has it (objects of this kind are not merged for one host; put the rules into one object)
         error [OUT0223] TCPRoute infra/third f.yaml:20:28: listener http (80) takes no TCPRoutes (change `allowedRoutes` of the listener)
         error [OUT0223] TCPRoute infra/fourth f.yaml:25:46: Gateway infra/web has no listener named \"absent\"; its listeners: echo (7), other (9), idle (11), http (80) (name one of them in `sectionName`, or leave it out for all)",
    );
}

#[test]
fn backends_that_are_not_there_keep_their_share_and_it_is_reset() {
    let udp = "---\napiVersion: v1\nkind: Service\nmetadata: {name: dns, namespace: infra}\nspec: {ports: [{name: dns, port: 53, protocol: UDP}]}\n";
    let yaml = gateway("infra/web", &tcp("echo", 7))
        + &tcp_route(
            "infra/r",
            "{name: web}",
            "{name: a, port: 8080, weight: 2}, {name: none, port: 1}, {name: a, port: 1}, {name: a, port: 8080, namespace: other}, {kind: Queue, group: x.io, name: q}, {name: dns, port: 53}",
        )
        + &service("infra/a")
        + &service("other/a")
        + udp;
    check(
        &yaml,
        "Gateway infra/web: Accepted Programmed ResolvedRefs
         Gateway infra/web/echo: Accepted ResolvedRefs Programmed routes=1 kinds=[\"TCPRoute\"]
         TCPRoute infra/r -> Gateway infra/web: Accepted ResolvedRefs=False/BackendNotFound",
    );
    listeners(
        &yaml,
        "gateway|7
         [] infra/r 0 -> outbound|8080||a.infra.svc.cluster.local*2 outbound|1||none.infra.svc.cluster.local*1!500 outbound|1||a.infra.svc.cluster.local*1!500 outbound|8080||a.other.svc.cluster.local*1!500 outbound|0||q.infra.svc.cluster.local*1!500 outbound|53||dns.infra.svc.cluster.local*1!500",
    );
    // A grant is for the kind of route it names.
    let grant = |kind: &str| {
        grant(
            "other/g",
            &format!("{{group: gateway.networking.k8s.io, kind: {kind}, namespace: infra}}"),
            "{group: '', kind: Service}",
        )
    };
    let of_other = |yaml: &str| {
        let found = dump::dump("api:infra/web", "listeners", yaml);
        found.contains("outbound|8080||a.other.svc.cluster.local*1 ")
    };
    assert!(!of_other(&(yaml.clone() + &grant("TLSRoute"))));
    assert!(of_other(&(yaml + &grant("TCPRoute"))));
}

#[test]
fn a_route_without_weight_resets_everything() {
    let yaml = gateway("infra/web", &tcp("echo", 7))
        + &tcp_route("infra/r", "{name: web}", "{name: a, port: 8080, weight: 0}")
        + &service("infra/a");
    dump::check(
        "api:infra/web",
        "listeners findings",
        &yaml,
        "gateway|7
         [] infra/r 0 -> BlackHoleCluster*1!500
         warning [OUT0213] TCPRoute infra/r f.yaml:10:43: rules[0] has only `backendRefs` with weight 0: its connections are reset (give a backend a weight of 1 or more)",
    );
}

#[test]
fn rules_behind_the_first_get_nothing() {
    let yaml = gateway("infra/web", &tcp("echo", 7))
        + &tcp_route("infra/r", "{name: web}", A)
            .replace("k8s.io/v1\nkind: TCP", "k8s.io/v1alpha2\nkind: TCP")
            .replace("rules: [", &format!("rules: [{{name: main, backendRefs: [{B}]}}, "))
        + &service("infra/a")
        + &service("infra/b");
    dump::check(
        "api:infra/web",
        "listeners findings",
        &yaml,
        "gateway|7
         [] infra/r main -> outbound|8080||b.infra.svc.cluster.local*1
         warning [IST0130] TCPRoute infra/r f.yaml:10:95: rules[1] can never be reached: rules[0] takes every connection (rules have no matches: put all backends into the first, with weights)",
    );
}

#[test]
fn host_names_that_do_not_meet() {
    let yaml =
        gateway("infra/web", &[passthrough("a", "hostname: a.com"), passthrough("b", "hostname: b.com")].join(", "))
            + &tls_route("infra/r", "{name: web}", "c.com", A)
            + &service("infra/a");
    let found = status(&yaml);
    let line = "TLSRoute infra/r -> Gateway infra/web: Accepted=False/NoMatchingListenerHostname ResolvedRefs";
    assert!(found.lines().any(|l| l == line), "{found}");
}

#[test]
fn listeners_that_share_a_port_wrongly_are_all_out() {
    let https = "{name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: cert}]}}";
    let yaml = secret()
        + &gateway(
            "infra/web",
            &[
                https,
                &passthrough("tls", ""),
                &passthrough("x", "hostname: x.com"),
                &terminate("z", "hostname: x.com"),
                &tcp("a", 80),
                &http("b", ""),
                &tcp("c", 9),
            ]
            .join(", "),
        );
    check(
        &yaml,
        "Gateway infra/web: Accepted=True/ListenersNotValid Programmed ResolvedRefs
         Gateway infra/web/https: Accepted=False/ProtocolConflict Conflicted=True/ProtocolConflict ResolvedRefs Programmed=False/ProtocolConflict routes=0
         Gateway infra/web/tls: Accepted=False/ProtocolConflict Conflicted=True/ProtocolConflict ResolvedRefs Programmed=False/ProtocolConflict routes=0 kinds=[\"TLSRoute\"]
         Gateway infra/web/x: Accepted=False/HostnameConflict Conflicted=True/HostnameConflict ResolvedRefs Programmed=False/HostnameConflict routes=0 kinds=[\"TLSRoute\"]
         Gateway infra/web/z: Accepted=False/HostnameConflict Conflicted=True/HostnameConflict ResolvedRefs Programmed=False/HostnameConflict routes=0 kinds=[\"TLSRoute\", \"TCPRoute\"]
         Gateway infra/web/a: Accepted=False/ProtocolConflict Conflicted=True/ProtocolConflict ResolvedRefs Programmed=False/ProtocolConflict routes=0 kinds=[\"TCPRoute\"]
         Gateway infra/web/b: Accepted=False/ProtocolConflict Conflicted=True/ProtocolConflict ResolvedRefs Programmed=False/ProtocolConflict routes=0
         Gateway infra/web/c: Accepted ResolvedRefs Programmed routes=0 kinds=[\"TCPRoute\"]",
    );
    let found = findings(&yaml);
    for message in [
        "listener tls (443) conflicts with listener https (443): another protocol for the same port and host name (give one of them another host name or port)",
        "listener x (443) conflicts with listener z (443): the same port and host name",
        "listener a (80) conflicts with listener b (80): another protocol on the same port (give one of them another port)",
    ] {
        assert!(found.contains(message), "{found}");
    }
}

#[test]
fn a_port_of_tcp_stays_with_the_earlier_object() {
    let open = "allowedListeners: {namespaces: {from: All}},";
    let yaml = gateway_with("infra/web", open, &tcp("echo", 7))
        + &listener_set("infra/set", "infra/web", &[tcp("echo", 7), tcp("more", 8)].join(", "))
        + &tcp_route("infra/r", "{group: gateway.networking.k8s.io, kind: ListenerSet, name: set}", A)
        + &service("infra/a");
    check(
        &yaml,
        "Gateway infra/web: Accepted Programmed ResolvedRefs sets=1
         Gateway infra/web/echo: Accepted ResolvedRefs Programmed routes=0 kinds=[\"TCPRoute\"]
         ListenerSet infra/set: Accepted=True/ListenersNotValid Programmed
         ListenerSet infra/set/echo: Accepted=False/ProtocolConflict Conflicted=True/ProtocolConflict ResolvedRefs Programmed=False/ProtocolConflict routes=1 kinds=[\"TCPRoute\"]
         ListenerSet infra/set/more: Accepted ResolvedRefs Programmed routes=1 kinds=[\"TCPRoute\"]
         TCPRoute infra/r -> ListenerSet infra/set: Accepted ResolvedRefs",
    );
    listeners(
        &yaml,
        "gateway|7
         []  -> BlackHoleCluster*1!500
         gateway|8
         [] infra/r 0 -> outbound|8080||a.infra.svc.cluster.local*1",
    );
}

#[test]
fn hosts_of_a_listener_without_certificate_are_not_relayed() {
    let https =
        "{name: https, port: 443, protocol: HTTPS, hostname: a.example.com, tls: {certificateRefs: [{name: none}]}}";
    let yaml = gateway("infra/web", &[https, &passthrough("through", "hostname: '*.example.com'")].join(", "))
        + &tls_route("infra/r", "{name: web}", "'*.example.com'", A)
        + &service("infra/a");
    listeners(
        &yaml,
        "gateway|443
         [*.example.com] infra/r 0 -> outbound|8080||a.infra.svc.cluster.local*1
         [a.example.com]  -> BlackHoleCluster*1!500",
    );
}
