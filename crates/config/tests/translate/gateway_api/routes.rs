//! Which routes attach to which listeners, and what they are told.

use super::*;

const SAME: &str = "{name: http, port: 80, protocol: HTTP}";

#[test]
fn attached_routes_are_counted() {
    let selector = "allowedRoutes: {kinds: [{kind: HTTPRoute}], namespaces: {from: Selector, selector: {matchLabels: {kubernetes.io/metadata.name: infra}}}}";
    let listener = |more: &str| format!("{{name: http, port: 80, protocol: HTTP, {more} {selector}}}");
    let secure =
        format!("{{name: tls, port: 443, protocol: HTTPS, tls: {{certificateRefs: [{{name: absent}}]}}, {selector}}}");
    let sections = "{name: unattached, port: 8080, protocol: HTTP, hostname: unattached}, {name: http, port: 8080, protocol: HTTP}";
    let yaml = gateway("infra/one", &listener(""))
        + &gateway("infra/two", &listener("hostname: foo.example.com,"))
        + &gateway("infra/unresolved", &secure)
        + &gateway("infra/sections", sections)
        + &route("infra/r1", "{name: one}", "", "/", "a")
        + &route("infra/r2", "{name: two}", "", "/", "a")
        + &route("infra/r3", "{name: two}", "", "/x", "a")
        + &route("infra/r4", "{name: two}", "not-accepted.test.com", "/", "a")
        + &route("infra/r5", "{name: unresolved, sectionName: tls}", "", "/", "absent")
        + &route("infra/r6", "{name: sections, sectionName: http}", "", "/", "a")
        + &service("infra/a");
    check(
        &yaml,
        "Gateway infra/one: Accepted Programmed ResolvedRefs
         Gateway infra/one/http: Accepted ResolvedRefs Programmed routes=1 kinds=[\"HTTPRoute\"]
         Gateway infra/two: Accepted Programmed ResolvedRefs
         Gateway infra/two/http: Accepted ResolvedRefs Programmed routes=2 kinds=[\"HTTPRoute\"]
         Gateway infra/unresolved: Accepted Programmed=False/Invalid ResolvedRefs=False/ListenersNotResolved
         Gateway infra/unresolved/tls: Accepted ResolvedRefs=False/InvalidCertificateRef Programmed=False/Invalid routes=1 kinds=[\"HTTPRoute\"]
         Gateway infra/sections: Accepted Programmed ResolvedRefs
         Gateway infra/sections/unattached: Accepted ResolvedRefs Programmed routes=0
         Gateway infra/sections/http: Accepted ResolvedRefs Programmed routes=1
         HTTPRoute infra/r1 -> Gateway infra/one: Accepted ResolvedRefs
         HTTPRoute infra/r2 -> Gateway infra/two: Accepted ResolvedRefs
         HTTPRoute infra/r3 -> Gateway infra/two: Accepted ResolvedRefs
         HTTPRoute infra/r4 -> Gateway infra/two: Accepted=False/NoMatchingListenerHostname ResolvedRefs
         HTTPRoute infra/r5 -> Gateway infra/unresolved/tls: Accepted ResolvedRefs=False/BackendNotFound
         HTTPRoute infra/r6 -> Gateway infra/sections/http: Accepted ResolvedRefs",
    );
    let found = findings(&yaml);
    let line = "error [OUT0223] HTTPRoute infra/r4 f.yaml:40:47: none of its host names meets a listener's: listener http (80) is for foo.example.com (name a host that the listener is for; `*.example.com` does not take in `example.com`)";
    assert!(found.lines().any(|l| l == line), "{found}");
}

#[test]
fn host_names_meet() {
    let of = |name: &str, host: &str| format!("{{name: {name}, port: 80, protocol: HTTP, hostname: {host}}}");
    let listeners = [of("l1", "very.specific.com"), of("l2", "'*.wildcard.io'"), of("l3", "'*.another.io'")].join(", ");
    let yaml = gateway("infra/web", &listeners)
        + &gateway("infra/all", SAME)
        + &route("infra/s1", "{name: web}", "non.matching.com, '*.nonmatching.io', very.specific.com", "/s1", "a")
        + &route(
            "infra/s2",
            "{name: web}",
            "non.matching.com, wildcard.io, foo.wildcard.io, foo.bar.wildcard.io",
            "/s2",
            "b",
        )
        + &route("infra/s3", "{name: web}", "non.matching.com, '*.specific.com'", "/s3", "c")
        + &route("infra/s4", "{name: web}", "'*.another.io'", "/s4", "a")
        + &route("infra/s5", "{name: web}", "specific.but.wrong.com, wildcard.io", "/s5", "b")
        + &route("infra/s6", "{name: all}", "first.com, sub.first.com", "/", "b")
        + &["infra/a", "infra/b", "infra/c"].map(service).concat();
    check(
        &yaml,
        "Gateway infra/web: Accepted Programmed ResolvedRefs
         Gateway infra/web/l1: Accepted ResolvedRefs Programmed routes=2
         Gateway infra/web/l2: Accepted ResolvedRefs Programmed routes=1
         Gateway infra/web/l3: Accepted ResolvedRefs Programmed routes=1
         Gateway infra/all: Accepted Programmed ResolvedRefs
         Gateway infra/all/http: Accepted ResolvedRefs Programmed routes=1
         HTTPRoute infra/s1 -> Gateway infra/web: Accepted ResolvedRefs
         HTTPRoute infra/s2 -> Gateway infra/web: Accepted ResolvedRefs
         HTTPRoute infra/s3 -> Gateway infra/web: Accepted ResolvedRefs
         HTTPRoute infra/s4 -> Gateway infra/web: Accepted ResolvedRefs
         HTTPRoute infra/s5 -> Gateway infra/web: Accepted=False/NoMatchingListenerHostname ResolvedRefs
         HTTPRoute infra/s6 -> Gateway infra/all: Accepted ResolvedRefs",
    );
    let web = Gateway::new("infra/web", &yaml);
    for (host, path, answer) in [
        ("very.specific.com", "/s1", "a"),
        ("very.specific.com:1234", "/s1", "a"),
        ("non.matching.com", "/s1", "404"),
        ("foo.nonmatching.io", "/s1", "404"),
        ("foo.wildcard.io", "/s1", "404"),
        ("very.specific.com", "/other", "404"),
        ("foo.wildcard.io", "/s2", "b"),
        ("foo.bar.wildcard.io", "/s2", "b"),
        ("bar.wildcard.io", "/s2", "404"),
        ("wildcard.io", "/s2", "404"),
        ("very.specific.com", "/s2", "404"),
        ("very.specific.com", "/s3", "c"),
        ("foo.specific.com", "/s3", "404"),
        ("foo.bar.another.io", "/s4", "a"),
        ("another.io", "/s4", "404"),
        ("specific.but.wrong.com", "/s5", "404"),
    ] {
        assert_eq!(web.http(80, host, path), answer, "{host} {path}");
    }
    let all = Gateway::new("infra/all", &yaml);
    assert_eq!((all.http(80, "sub.first.com", "/"), all.http(80, "third.com", "/")), ("b".into(), "404".into()));
}

#[test]
fn ports_pick_the_listener() {
    let of =
        |name: &str, port: u16, host: &str| format!("{{name: {name}, port: {port}, protocol: HTTP, hostname: {host}}}");
    let listeners =
        [of("l1", 80, "foo.com"), of("l2", 8080, "foo.com"), of("l3", 8080, "bar.com"), of("l4", 8090, "foo.com")];
    let yaml = gateway("infra/web", &listeners.join(", "))
        + &route("infra/r1", "{name: web, port: 80}", "", "/", "a")
        + &route("infra/r2", "{name: web, port: 8080}", "", "/", "b")
        + &route("infra/r3", "{name: web, port: 8090, sectionName: l4}", "", "/", "c")
        + &route("infra/r4", "{name: web, port: 81}", "", "/", "c")
        + &["infra/a", "infra/b", "infra/c"].map(service).concat();
    let web = Gateway::new("infra/web", &yaml);
    for (port, host, answer) in [
        (80, "foo.com", "a"),
        (8080, "foo.com:8080", "b"),
        (8080, "bar.com", "b"),
        (8090, "foo.com", "c"),
        (8090, "bar.com", "404"),
    ] {
        assert_eq!(web.http(port, host, "/"), answer, "{port} {host}");
    }
    assert_eq!(web.http(81, "foo.com", "/"), "closed");
    let found = status(&yaml);
    assert!(
        found.ends_with("HTTPRoute infra/r4 -> Gateway infra/web:81: Accepted=False/NoMatchingParent ResolvedRefs\n"),
        "{found}"
    );
}

#[test]
fn listeners_that_are_not_there() {
    let yaml = gateway("infra/web", &http("http", ""))
        + &route("infra/r1", "{name: web, sectionName: http1}", "", "/", "a")
        + &route("infra/r2", "{name: web, sectionName: http, port: 81}", "", "/", "a")
        + &route("infra/r3", "{name: absent}", "", "/", "a")
        + &route("infra/r4", "{name: absent, kind: ListenerSet}", "", "/", "a")
        + &service("infra/a");
    check(
        &yaml,
        "Gateway infra/web: Accepted Programmed ResolvedRefs
         Gateway infra/web/http: Accepted ResolvedRefs Programmed routes=0
         HTTPRoute infra/r1 -> Gateway infra/web/http1: Accepted=False/NoMatchingParent ResolvedRefs
         HTTPRoute infra/r2 -> Gateway infra/web/http:81: Accepted=False/NoMatchingParent ResolvedRefs
         HTTPRoute infra/r3 -> Gateway infra/absent: Accepted=False/NoMatchingParent ResolvedRefs
         HTTPRoute infra/r4 -> ListenerSet infra/absent: Accepted=False/NoMatchingParent ResolvedRefs",
    );
    same(
        &findings(&yaml),
        "error [OUT0223] HTTPRoute infra/r1 f.yaml:10:46: Gateway infra/web has no listener named \"http1\"; its listeners: http (80) (name one of them in `sectionName`, or leave it out for all)
         error [OUT0223] HTTPRoute infra/r2 f.yaml:15:46: Gateway infra/web has no listener named \"http\" on port 81; its listeners: http (80) (name one of them in `sectionName`, or leave it out for all)
         error [IST0101] HTTPRoute infra/r3 f.yaml:20:28: Gateway infra/absent does not exist (add it to the input, or fix its errors)
         error [IST0101] HTTPRoute infra/r4 f.yaml:25:28: ListenerSet infra/absent does not exist (add it to the input, or fix its errors)",
    );
}

#[test]
fn namespaces_that_are_let_in() {
    let selector = "{matchLabels: {tier: web}, matchExpressions: [{key: stage, operator: NotIn, values: [test]}]}";
    let from = |name: &str, port: u16, from: &str| {
        format!("{{name: {name}, port: {port}, protocol: HTTP, allowedRoutes: {{namespaces: {{from: {from}}}}}}}")
    };
    let listeners = [
        from("same", 80, "Same"),
        from("all", 81, "All"),
        from("some", 82, &format!("Selector, selector: {selector}")),
    ];
    let parent = "{name: web, namespace: infra}";
    let sections = "{name: web, namespace: infra, sectionName: same}, {name: web, namespace: infra, sectionName: some}";
    let yaml = gateway("infra/web", &listeners.join(", "))
        + &namespace("good", "tier: web")
        + &namespace("bad", "tier: web, stage: test")
        + &route("infra/r1", "{name: web}", "", "/", "a")
        + &route("good/r2", parent, "", "/", "b")
        + &route("bad/r3", parent, "", "/", "c")
        + &route("bad/r4", sections, "", "/", "c")
        + &["infra/a", "good/b", "bad/c"].map(service).concat();
    check(
        &yaml,
        "Gateway infra/web: Accepted Programmed ResolvedRefs
         Gateway infra/web/same: Accepted ResolvedRefs Programmed routes=1
         Gateway infra/web/all: Accepted ResolvedRefs Programmed routes=3
         Gateway infra/web/some: Accepted ResolvedRefs Programmed routes=1
         HTTPRoute infra/r1 -> Gateway infra/web: Accepted ResolvedRefs
         HTTPRoute good/r2 -> Gateway infra/web: Accepted ResolvedRefs
         HTTPRoute bad/r3 -> Gateway infra/web: Accepted ResolvedRefs
         HTTPRoute bad/r4 -> Gateway infra/web/same: Accepted=False/NotAllowedByListeners ResolvedRefs
         HTTPRoute bad/r4 -> Gateway infra/web/some: Accepted=False/NotAllowedByListeners ResolvedRefs",
    );
    let web = Gateway::new("infra/web", &yaml);
    assert_eq!([80, 82].map(|port| web.http(port, "x", "/")), ["a", "b"]);
    let found = findings(&yaml);
    for message in [
        "listener same (80) takes routes of its own namespace only, not of bad (change `allowedRoutes` of the listener)",
        "listener some (82) takes routes of namespaces that its selector takes in only, not of bad",
    ] {
        assert!(found.contains(message), "{found}");
    }
}

#[test]
fn a_listener_for_other_kinds() {
    let tls =
        "{name: tls, port: 443, protocol: TLS, tls: {mode: Passthrough}, allowedRoutes: {kinds: [{kind: TLSRoute}]}}";
    let yaml = gateway("infra/web", tls) + &route("infra/r", "{name: web}", "", "/", "a") + &service("infra/a");
    check(
        &yaml,
        "Gateway infra/web: Accepted Programmed ResolvedRefs
         Gateway infra/web/tls: Accepted ResolvedRefs Programmed routes=0 kinds=[\"TLSRoute\"]
         HTTPRoute infra/r -> Gateway infra/web: Accepted=False/NotAllowedByListeners ResolvedRefs",
    );
}

#[test]
fn backends_of_other_namespaces() {
    let to_other = |name: &str, backends: &str| {
        route(name, "{name: web}", "", "/", "a").replace("{name: a, port: 8080}", backends)
    };
    let from = "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: infra}";
    let yaml = gateway("infra/web", &http("http", ""))
        + &to_other("infra/r1", "{name: b, namespace: apps, port: 8080}")
        + &to_other("infra/r2", "{name: c, namespace: apps, port: 8080}")
        + &["apps/b", "apps/c"].map(service).concat()
        + &grant("apps/g", from, "{group: '', kind: Service, name: b}")
        + &grant("infra/wrong-place", from, "{group: '', kind: Service}");
    check(
        &yaml,
        "Gateway infra/web: Accepted Programmed ResolvedRefs
         Gateway infra/web/http: Accepted ResolvedRefs Programmed routes=2
         HTTPRoute infra/r1 -> Gateway infra/web: Accepted ResolvedRefs
         HTTPRoute infra/r2 -> Gateway infra/web: Accepted ResolvedRefs=False/RefNotPermitted",
    );
    let web = Gateway::new("infra/web", &yaml.replace("- &[", ""));
    assert_eq!(web.http(80, "x", "/"), "b");
}

#[test]
fn backends_that_are_not_there() {
    let other = |name: &str, backend: &str| {
        route(name, "{name: web}", name.rsplit('/').next().unwrap(), "/", "a").replace("{name: a, port: 8080}", backend)
    };
    let yaml = gateway("infra/web", &http("http", ""))
        + &other("infra/absent", "{name: absent, port: 8080}")
        + &other("infra/port", "{name: a, port: 8081}")
        + &other("infra/kind", "{group: example.com, kind: Thing, name: a, port: 8080}")
        + &service("infra/a");
    check(
        &yaml,
        "Gateway infra/web: Accepted Programmed ResolvedRefs
         Gateway infra/web/http: Accepted ResolvedRefs Programmed routes=3
         HTTPRoute infra/absent -> Gateway infra/web: Accepted ResolvedRefs=False/BackendNotFound
         HTTPRoute infra/port -> Gateway infra/web: Accepted ResolvedRefs=False/BackendNotFound
         HTTPRoute infra/kind -> Gateway infra/web: Accepted ResolvedRefs=False/InvalidKind",
    );
    let web = Gateway::new("infra/web", &yaml);
    assert_eq!(["absent", "port", "kind", "none"].map(|host| web.http(80, host, "/")), ["500", "500", "500", "404"]);
}

/// An ExternalName must not lead where the route itself may not go.
#[test]
fn a_backend_of_another_namespace_by_another_name() {
    let alias = "---\napiVersion: v1\nkind: Service\nmetadata: {name: alias, namespace: infra}\n\
                 spec: {type: ExternalName, externalName: b.apps.svc.cluster.local, ports: [{name: http, port: 8080}]}\n";
    let yaml = gateway("infra/web", &http("http", ""))
        + &route("infra/r", "{name: web}", "", "/", "alias")
        + &service("apps/b")
        + alias;
    let from = "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: infra}";
    let permitted = yaml.clone() + &grant("apps/g", from, "{group: '', kind: Service}");
    let answers = [&yaml, &permitted].map(|yaml| Gateway::new("infra/web", yaml).http(80, "x", "/"));
    assert_eq!(answers, ["500", "b"]);
    check(
        &yaml,
        "Gateway infra/web: Accepted Programmed ResolvedRefs
         Gateway infra/web/http: Accepted ResolvedRefs Programmed routes=1
         HTTPRoute infra/r -> Gateway infra/web: Accepted ResolvedRefs=False/RefNotPermitted",
    );
}

#[test]
fn one_route_two_gateways() {
    let yaml = gateway("infra/one", &http("http", ""))
        + &gateway("edge/two", &http("http", ""))
        + &route("infra/r", "{name: one}, {name: two, namespace: edge}", "", "/", "a")
        + &service("infra/a")
        + &service("infra/unused");
    for name in ["infra/one", "edge/two"] {
        assert_eq!(Gateway::new(name, &yaml).http(80, "x", "/y"), "a");
    }
}

#[test]
fn services_are_parents_too() {
    let parent = |name: &str| format!("{{group: '', kind: Service, name: {name}}}");
    let yaml = gateway("infra/web", &http("http", ""))
        + &route("infra/r1", &format!("{{name: web}}, {}", parent("a")), "", "/", "b")
        + &route("infra/r2", &parent("absent"), "", "/", "b")
        + &route("infra/r3", &parent("a"), "", "/x", "absent")
        + &["infra/a", "infra/b"].map(service).concat();
    check(
        &yaml,
        "Gateway infra/web: Accepted Programmed ResolvedRefs
         Gateway infra/web/http: Accepted ResolvedRefs Programmed routes=1
         HTTPRoute infra/r1 -> Gateway infra/web: Accepted ResolvedRefs
         HTTPRoute infra/r1 -> Service infra/a: Accepted ResolvedRefs
         HTTPRoute infra/r2 -> Service infra/absent: Accepted=False/NoMatchingParent ResolvedRefs
         HTTPRoute infra/r3 -> Service infra/a: Accepted ResolvedRefs=False/BackendNotFound",
    );
}

#[test]
fn a_route_of_another_controllers_gateway_has_no_status() {
    let yaml = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: ours}\nspec: {controllerName: outrigger.dev/gateway-controller}\n".to_owned()
        + &gateway("infra/web", &http("http", "")).replace("outrigger,", "nginx,")
        + &route("infra/r", "{name: web}", "", "/", "absent");
    check(&yaml, "GatewayClass ours: Accepted");
}

#[test]
fn a_parent_of_another_kind_is_told() {
    let yaml = gateway("infra/web", &http("http", ""))
        + &route("infra/r", "{name: web}, {kind: GatewayClass, name: web}", "", "/", "a")
        + &service("infra/a");
    same(
        &findings(&yaml),
        "warning [OUT0102] HTTPRoute infra/r f.yaml:10:34: a GatewayClass is no parent: Gateways, ListenerSets and Services are",
    );
}
