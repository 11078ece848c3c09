//! GRPCRoutes at the listeners of Gateways: who is attached, what of their references holds, and who wins beside HTTPRoutes.

use super::{Gateway, check, findings, gateway, grant, http, route, same, service, status};

/// A GRPCRoute `NAMESPACE/NAME` with one rule: everything, to a Service of its namespace.
fn grpc(name: &str, parents: &str, hostnames: &str, backend: &str) -> String {
    let (namespace, name) = name.split_once('/').expect("NAMESPACE/NAME");
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{parentRefs: [{parents}], hostnames: [{hostnames}], rules: [{{backendRefs: [{{{backend}, port: 8080}}]}}]}}\n"
    )
}

/// A Service whose port says that it speaks gRPC.
fn calls(name: &str) -> String {
    service(name).replace("name: http, port", "name: grpc, port")
}

#[test]
fn host_names_meet_as_those_of_http_routes() {
    let listeners = [
        http("exact", "hostname: bar.com"),
        http("wild", "hostname: '*.bar.com'"),
        http("only-http", "hostname: only.com")
            .replace("allowedRoutes: {", "allowedRoutes: {kinds: [{kind: HTTPRoute}], "),
        http("only-grpc", "hostname: calls.com")
            .replace("allowedRoutes: {", "allowedRoutes: {kinds: [{kind: GRPCRoute}], "),
    ];
    let yaml = gateway("infra/web", &listeners.join(", "))
        + &grpc("infra/g1", "{name: web}", "bar.com", "name: one")
        + &grpc("infra/g2", "{name: web}", "foo.bar.com", "name: two")
        + &grpc("infra/g3", "{name: web}", "only.com", "name: one")
        + &grpc("infra/g4", "{name: web, sectionName: only-grpc, port: 80}", "", "name: one")
        + &grpc("infra/g5", "{name: web, sectionName: wild}", "other.com", "name: one")
        + &calls("infra/one")
        + &calls("infra/two");
    check(
        &yaml,
        r#"Gateway infra/web: Accepted Programmed ResolvedRefs
         Gateway infra/web/exact: Accepted ResolvedRefs Programmed routes=1
         Gateway infra/web/wild: Accepted ResolvedRefs Programmed routes=1
         Gateway infra/web/only-http: Accepted ResolvedRefs Programmed routes=0 kinds=["HTTPRoute"]
         Gateway infra/web/only-grpc: Accepted ResolvedRefs Programmed routes=1 kinds=["GRPCRoute"]
         GRPCRoute infra/g1 -> Gateway infra/web: Accepted ResolvedRefs
         GRPCRoute infra/g2 -> Gateway infra/web: Accepted ResolvedRefs
         GRPCRoute infra/g3 -> Gateway infra/web: Accepted=False/NoMatchingListenerHostname ResolvedRefs
         GRPCRoute infra/g4 -> Gateway infra/web/only-grpc:80: Accepted ResolvedRefs
         GRPCRoute infra/g5 -> Gateway infra/web/wild: Accepted=False/NoMatchingListenerHostname ResolvedRefs"#,
    );
    let gateway = Gateway::new("infra/web", &yaml);
    assert_eq!(gateway.http(80, "bar.com", "/shop.Cart/Get"), "one");
    assert_eq!(gateway.http(80, "foo.bar.com", "/shop.Cart/Get"), "two");
    assert_eq!(gateway.http(80, "calls.com", "/shop.Cart/Get"), "one");
    assert_eq!(gateway.http(80, "only.com", "/shop.Cart/Get"), "404");
}

#[test]
fn a_listener_for_other_kinds_takes_none() {
    let only = http("h", "").replace("allowedRoutes: {", "allowedRoutes: {kinds: [{kind: HTTPRoute}], ");
    let yaml = gateway("infra/web", &only) + &grpc("infra/g", "{name: web}", "", "name: a") + &calls("infra/a");
    same(
        status(&yaml).lines().last().unwrap(),
        "GRPCRoute infra/g -> Gateway infra/web: Accepted=False/NotAllowedByListeners ResolvedRefs",
    );
}

#[test]
fn references_that_lead_nowhere() {
    let from = "{group: gateway.networking.k8s.io, kind: GRPCRoute, namespace: infra}";
    let yaml = gateway("infra/web", &http("h", ""))
        + &grpc("infra/absent", "{name: web}", "a.com", "name: absent")
        + &grpc("infra/kind", "{name: web}", "b.com", "kind: Pod, name: a")
        + &grpc("infra/denied", "{name: web}", "c.com", "name: a, namespace: shop")
        + &grpc("infra/granted", "{name: web}", "d.com", "name: b, namespace: open")
        + &grpc("infra/nowhere", "{name: missing}", "e.com", "name: b, namespace: open")
        + &calls("shop/a")
        + &calls("open/b")
        + &grant("open/g", from, "{group: '', kind: Service}");
    same(
        &status(&yaml).lines().skip(2).collect::<Vec<_>>().join("\n"),
        "GRPCRoute infra/absent -> Gateway infra/web: Accepted ResolvedRefs=False/BackendNotFound
         GRPCRoute infra/kind -> Gateway infra/web: Accepted ResolvedRefs=False/InvalidKind
         GRPCRoute infra/denied -> Gateway infra/web: Accepted ResolvedRefs=False/RefNotPermitted
         GRPCRoute infra/granted -> Gateway infra/web: Accepted ResolvedRefs
         GRPCRoute infra/nowhere -> Gateway infra/missing: Accepted=False/NoMatchingParent ResolvedRefs",
    );
    let gateway = Gateway::new("infra/web", &yaml);
    let all = ["a.com", "b.com", "c.com", "d.com"].map(|host| gateway.http(80, host, "/shop.Cart/Get"));
    assert_eq!(all, ["503", "503", "503", "b"]);
}

/// "The implementation MUST accept exactly one of these two routes": the older, then the first by name.
#[test]
fn one_listener_and_host_have_one_kind_of_routes() {
    let created = |yaml: String, day: u8| {
        yaml.replace("metadata: {", &format!("metadata: {{creationTimestamp: '2024-01-0{day}T00:00:00Z', "))
    };
    let world = |http_day: u8, grpc_day: u8| {
        gateway("infra/web", &(http("one", "hostname: '*.one.com'") + ", " + &http("two", "hostname: two.com")))
            + &created(route("infra/b", "{name: web}", "'*.one.com'", "/", "http"), http_day)
            + &created(grpc("infra/a", "{name: web}", "x.one.com", "name: calls"), grpc_day)
            + &created(grpc("infra/c", "{name: web}", "x.one.com, two.com", "name: calls"), grpc_day)
            + &service("infra/http")
            + &calls("infra/calls")
    };
    let found = |http_day: u8, grpc_day: u8| {
        let yaml = world(http_day, grpc_day);
        let gateway = Gateway::new("infra/web", &yaml);
        let served = ["x.one.com", "y.one.com", "two.com"].map(|host| gateway.http(80, host, "/shop.Cart/Get"));
        status(&yaml).lines().skip(1).collect::<Vec<_>>().join("\n") + "\n" + &served.join(" ")
    };
    same(
        &found(1, 2),
        "Gateway infra/web/one: Accepted ResolvedRefs Programmed routes=1
         Gateway infra/web/two: Accepted ResolvedRefs Programmed routes=1
         HTTPRoute infra/b -> Gateway infra/web: Accepted ResolvedRefs
         GRPCRoute infra/a -> Gateway infra/web: Accepted=False/Conflicted ResolvedRefs
         GRPCRoute infra/c -> Gateway infra/web: Accepted ResolvedRefs
         http http calls",
    );
    same(
        &findings(&world(1, 2)),
        "error [OUT0223] GRPCRoute infra/a f.yaml:15:47: its host names are taken by a route of another kind: listener one (80) has HTTPRoute infra/b at f.yaml:9:61 for them (an HTTPRoute and a GRPCRoute cannot share a host name; the older one has it)
         warning [OUT0202] GRPCRoute infra/c f.yaml:20:47: its host names are taken by a route of another kind: listener one (80) has HTTPRoute infra/b at f.yaml:9:61 for them (an HTTPRoute and a GRPCRoute cannot share a host name; the older one has it)",
    );
    // Of one age, `infra/a` stands before `infra/b`.
    same(
        &found(2, 2),
        "Gateway infra/web/one: Accepted ResolvedRefs Programmed routes=2
         Gateway infra/web/two: Accepted ResolvedRefs Programmed routes=1
         HTTPRoute infra/b -> Gateway infra/web: Accepted=False/Conflicted ResolvedRefs
         GRPCRoute infra/a -> Gateway infra/web: Accepted ResolvedRefs
         GRPCRoute infra/c -> Gateway infra/web: Accepted ResolvedRefs
         calls 404 calls",
    );
}

#[test]
fn in_the_mesh_the_grpc_route_wins() {
    let parent = "{group: '', kind: Service, name: calls, port: 8080}";
    let yaml = route("infra/h", parent, "", "/", "http")
        + &grpc("infra/g", parent, "", "name: calls")
        + &service("infra/http")
        + &calls("infra/calls");
    same(
        &status(&yaml),
        "HTTPRoute infra/h -> Service infra/calls:8080: Accepted=False/Conflicted ResolvedRefs
         GRPCRoute infra/g -> Service infra/calls:8080: Accepted ResolvedRefs",
    );
}

/// At a gateway nobody's word for a port means HTTP/1.1, or clients that choose HTTP/2 would break its instances.
#[test]
fn a_gateway_sends_no_calls_to_a_port_that_does_not_say_so() {
    let told = |port: &str| {
        let backend = service("infra/a").replace("name: http, port", &format!("name: {port}, port"));
        findings(&(gateway("infra/web", &http("h", "")) + &grpc("infra/g", "{name: web}", "", "name: a") + &backend))
    };
    let what = |why: &str| {
        format!(
            "warning [OUT0218] GRPCRoute infra/g f.yaml:10:89: port 8080 of backend a.infra.svc.cluster.local gets HTTP/1.1, which \
             cannot carry gRPC: {why} (give the port of the Service `appProtocol: kubernetes.io/h2c`, or a name that begins with \
             `grpc`)"
        )
    };
    same(&told("grpc"), "");
    same(&told("http2"), "");
    same(&told("http"), &what("it is one of HTTP"));
    same(&told("metrics"), &what("nobody says what it speaks, and gateways send HTTP/1.1 there"));
}
