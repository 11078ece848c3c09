//! ListenerSets: who may add listeners, who wins, and whose routes they take.

use super::*;

fn host(name: &str) -> String {
    http(name, &format!("hostname: {name}.com"))
}

#[test]
fn who_may_add_listeners() {
    let of = |name: &str, from: &str| {
        gateway_with(name, &format!("allowedListeners: {{namespaces: {{from: {from}}}}},"), &host("own"))
    };
    let sets = |gateway: &str| {
        let name = gateway.rsplit('/').next().unwrap();
        listener_set(&format!("infra/{name}-infra"), gateway, &host("infra"))
            + &listener_set(&format!("good/{name}-good"), gateway, &host("good"))
            + &listener_set(&format!("bad/{name}-bad"), gateway, &host("bad"))
    };
    let yaml = gateway("infra/default", &host("own"))
        + &of("infra/none", "None")
        + &of("infra/same", "Same")
        + &of("infra/some", "Selector, selector: {matchLabels: {allowed: ns}}")
        + &of("infra/all", "All")
        + &["infra/default", "infra/none", "infra/same", "infra/some", "infra/all"].map(sets).concat()
        + &namespace("good", "allowed: ns")
        + &namespace("bad", "");
    let found = status(&yaml);
    let accepted = |text: &str| found.lines().filter(|l| l.starts_with("ListenerSet") && l.contains(text)).count();
    for (gateway, sets) in [("default", 0), ("none", 0), ("same", 1), ("some", 1), ("all", 3)] {
        let line = match sets {
            0 => format!("Gateway infra/{gateway}: Accepted Programmed ResolvedRefs\n"),
            n => format!("Gateway infra/{gateway}: Accepted Programmed ResolvedRefs sets={n}\n"),
        };
        assert!(found.contains(&line), "{line} in {found}");
        assert_eq!(accepted(&format!("/{gateway}-")), 3 + sets, "a line for each, and one for each listener");
    }
    for line in [
        "ListenerSet infra/none-infra: Accepted=False/NotAllowed Programmed=False/NotAllowed",
        "ListenerSet good/same-good: Accepted=False/NotAllowed Programmed=False/NotAllowed",
        "ListenerSet good/some-good: Accepted Programmed",
        "ListenerSet good/some-good/good: Accepted ResolvedRefs Programmed routes=0",
        "ListenerSet bad/some-bad: Accepted=False/NotAllowed Programmed=False/NotAllowed",
    ] {
        assert!(found.lines().any(|l| l == line), "{line} in {found}");
    }
    let line = "Gateway infra/some takes ListenerSets of namespaces that its selector takes in (change its spec.allowedListeners)";
    assert!(findings(&yaml).contains(line));
}

const OPEN: &str = "allowedListeners: {namespaces: {from: All}},";

#[test]
fn the_earlier_object_wins() {
    let tcp = |name: &str| format!("{{name: {name}, port: 80, protocol: TCP}}");
    let both = |one: &str, two: &str| format!("{}, {}", host(one), host(two));
    let yaml = gateway_with("infra/web", OPEN, &both("gateway", "taken"))
        + &listener_set("infra/s1", "infra/web", &format!("{}, {}", both("one", "taken"), host("early")))
        + &listener_set("infra/s2", "infra/web", &host("taken"))
        + &listener_set("infra/s3", "infra/web", &both("three", "early"))
        + &listener_set("infra/s4", "infra/web", &host("early"))
        + &listener_set("infra/s5", "infra/web", &format!("{}, {}", host("five"), tcp("tcp")))
        + &listener_set("infra/s6", "infra/web", &tcp("tcp"))
        + &listener_set("infra/s7", "infra/web", &format!("{}, {}", host("same"), http("twin", "hostname: same.com")));
    check(
        &yaml,
        "Gateway infra/web: Accepted Programmed ResolvedRefs sets=3
         Gateway infra/web/gateway: Accepted ResolvedRefs Programmed routes=0
         Gateway infra/web/taken: Accepted ResolvedRefs Programmed routes=0
         ListenerSet infra/s1: Accepted=True/ListenersNotValid Programmed
         ListenerSet infra/s1/one: Accepted ResolvedRefs Programmed routes=0
         ListenerSet infra/s1/taken: Accepted=False/HostnameConflict Conflicted=True/HostnameConflict ResolvedRefs Programmed=False/HostnameConflict routes=0
         ListenerSet infra/s1/early: Accepted ResolvedRefs Programmed routes=0
         ListenerSet infra/s2: Accepted=False/ListenersNotValid Programmed=False/ListenersNotValid
         ListenerSet infra/s2/taken: Accepted=False/HostnameConflict Conflicted=True/HostnameConflict ResolvedRefs Programmed=False/HostnameConflict routes=0
         ListenerSet infra/s3: Accepted=True/ListenersNotValid Programmed
         ListenerSet infra/s3/three: Accepted ResolvedRefs Programmed routes=0
         ListenerSet infra/s3/early: Accepted=False/HostnameConflict Conflicted=True/HostnameConflict ResolvedRefs Programmed=False/HostnameConflict routes=0
         ListenerSet infra/s4: Accepted=False/ListenersNotValid Programmed=False/ListenersNotValid
         ListenerSet infra/s4/early: Accepted=False/HostnameConflict Conflicted=True/HostnameConflict ResolvedRefs Programmed=False/HostnameConflict routes=0
         ListenerSet infra/s5: Accepted=True/ListenersNotValid Programmed
         ListenerSet infra/s5/five: Accepted ResolvedRefs Programmed routes=0
         ListenerSet infra/s5/tcp: Accepted=False/ProtocolConflict Conflicted=True/ProtocolConflict ResolvedRefs Programmed=False/ProtocolConflict routes=0 kinds=[\"TCPRoute\"]
         ListenerSet infra/s6: Accepted=False/ListenersNotValid Programmed=False/ListenersNotValid
         ListenerSet infra/s6/tcp: Accepted=False/ProtocolConflict Conflicted=True/ProtocolConflict ResolvedRefs Programmed=False/ProtocolConflict routes=0 kinds=[\"TCPRoute\"]
         ListenerSet infra/s7: Accepted=False/ListenersNotValid Programmed=False/ListenersNotValid
         ListenerSet infra/s7/same: Accepted=False/HostnameConflict Conflicted=True/HostnameConflict ResolvedRefs Programmed=False/HostnameConflict routes=0
         ListenerSet infra/s7/twin: Accepted=False/HostnameConflict Conflicted=True/HostnameConflict ResolvedRefs Programmed=False/HostnameConflict routes=0",
    );
    let line = "error [OUT0222] ListenerSet infra/s2 f.yaml:15:154: listener taken (80) conflicts with listener taken (80) of Gateway infra/web: the same port and host name (give one of them another host name or port)";
    let found = findings(&yaml);
    assert!(found.lines().any(|l| l == line), "{found}");
    // The one that has the port by right is named.
    assert!(
        found.contains("listener tcp (80) conflicts with listener gateway (80) of Gateway infra/web: another protocol"),
        "{found}"
    );
}

#[test]
fn the_older_set_comes_first_wherever_it_stands() {
    let aged = |name: &str, year: u16| {
        listener_set(name, "infra/web", &host("x"))
            .replace("metadata: {", &format!("metadata: {{creationTimestamp: '{year}-01-01T00:00:00Z', "))
    };
    let yaml = gateway_with("infra/web", OPEN, &host("own")) + &aged("infra/young", 2025) + &aged("infra/old", 2024);
    let found = status(&yaml);
    assert!(found.contains("ListenerSet infra/old: Accepted Programmed\n"), "{found}");
    assert!(found.contains("ListenerSet infra/young: Accepted=False/ListenersNotValid"), "{found}");
}

#[test]
fn parents_are_told_apart() {
    let set = "kind: ListenerSet, name: set";
    let yaml = gateway_with("infra/web", OPEN, &host("gateway"))
        + &listener_set("infra/set", "infra/web", &format!("{}, {}", host("one"), host("two")))
        + &route("infra/gateway-only", "{name: web}", "", "/g", "a")
        + &route("infra/set-only", &format!("{{{set}}}"), "", "/s", "b")
        + &route("infra/both", &format!("{{name: web}}, {{{set}}}"), "", "/both", "c")
        + &route(
            "infra/section",
            &format!("{{name: web, sectionName: one}}, {{{set}, sectionName: one}}"),
            "",
            "/section",
            "c",
        )
        + &["infra/a", "infra/b", "infra/c"].map(service).concat();
    check(
        &yaml,
        "Gateway infra/web: Accepted Programmed ResolvedRefs sets=1
         Gateway infra/web/gateway: Accepted ResolvedRefs Programmed routes=2
         ListenerSet infra/set: Accepted Programmed
         ListenerSet infra/set/one: Accepted ResolvedRefs Programmed routes=3
         ListenerSet infra/set/two: Accepted ResolvedRefs Programmed routes=2
         HTTPRoute infra/gateway-only -> Gateway infra/web: Accepted ResolvedRefs
         HTTPRoute infra/set-only -> ListenerSet infra/set: Accepted ResolvedRefs
         HTTPRoute infra/both -> Gateway infra/web: Accepted ResolvedRefs
         HTTPRoute infra/both -> ListenerSet infra/set: Accepted ResolvedRefs
         HTTPRoute infra/section -> Gateway infra/web/one: Accepted=False/NoMatchingParent ResolvedRefs
         HTTPRoute infra/section -> ListenerSet infra/set/one: Accepted ResolvedRefs",
    );
    let web = Gateway::new("infra/web", &yaml);
    for (host, path, answer) in [
        ("gateway.com", "/g", "a"),
        ("gateway.com", "/s", "404"),
        ("gateway.com", "/both", "c"),
        ("gateway.com", "/section", "404"),
        ("one.com", "/g", "404"),
        ("one.com", "/s", "b"),
        ("one.com", "/both", "c"),
        ("one.com", "/section", "c"),
        ("two.com", "/s", "b"),
        ("two.com", "/section", "404"),
    ] {
        assert_eq!(web.http(80, host, path), answer, "{host} {path}");
    }
    same(
        &proxies(&yaml),
        "infra/web web-outrigger spiffe://cluster.local/ns/infra/sa/web-outrigger
         Gateway infra/web
         gateway 80 HTTP gateway.com gateway|80
         ListenerSet infra/set
         one 80 HTTP one.com gateway|80
         two 80 HTTP two.com gateway|80",
    );
}

#[test]
fn routes_of_its_own_namespace() {
    let same = "{name: own, port: 80, protocol: HTTP, hostname: own.com}";
    let set = "{kind: ListenerSet, name: set, namespace: team}";
    let yaml = gateway_with("infra/web", OPEN, &host("gateway"))
        + &listener_set("team/set", "infra/web", same)
        + &route("team/in", set, "", "/", "a")
        + &route("infra/out", set, "", "/", "b")
        + &["team/a", "infra/b"].map(service).concat();
    let found = status(&yaml);
    for line in [
        "ListenerSet team/set/own: Accepted ResolvedRefs Programmed routes=1",
        "HTTPRoute team/in -> ListenerSet team/set: Accepted ResolvedRefs",
        "HTTPRoute infra/out -> ListenerSet team/set: Accepted=False/NotAllowedByListeners ResolvedRefs",
    ] {
        assert!(found.lines().any(|l| l == line), "{line} in {found}");
    }
    assert_eq!(Gateway::new("infra/web", &yaml).http(80, "own.com", "/"), "a");
}

#[test]
fn kinds_of_a_passthrough_listener() {
    let tls =
        "{name: tls, port: 443, protocol: TLS, tls: {mode: Passthrough}, allowedRoutes: {kinds: [{kind: HTTPRoute}]}}";
    let yaml = gateway_with("infra/web", OPEN, &host("gateway")) + &listener_set("infra/set", "infra/web", tls);
    let found = status(&yaml);
    let line = "ListenerSet infra/set/tls: Accepted ResolvedRefs=False/InvalidRouteKinds Programmed routes=0 kinds=[]";
    assert!(found.lines().any(|l| l == line), "{found}");
}

#[test]
fn grants_are_not_inherited() {
    let secure = |name: &str| {
        format!(
            "{{name: {name}, port: 443, protocol: HTTPS, hostname: {name}.com, tls: {{certificateRefs: [{{name: c, namespace: vault}}]}}}}"
        )
    };
    let from = |kind: &str, namespace: &str| {
        let from = format!("{{group: gateway.networking.k8s.io, kind: {kind}, namespace: {namespace}}}");
        grant(&format!("vault/{}", kind.to_lowercase()), &from, "{group: '', kind: Secret}")
    };
    let yaml = gateway_with("infra/web", OPEN, &secure("gateway"))
        + &listener_set("infra/with", "infra/web", &secure("with"))
        + &listener_set("team/without", "infra/web", &secure("without"))
        + &from("Gateway", "infra")
        + &from("ListenerSet", "infra")
        + &tls::secret("vault/c", &["gateway.com"]);
    check(
        &yaml,
        "Gateway infra/web: Accepted Programmed ResolvedRefs sets=1
         Gateway infra/web/gateway: Accepted ResolvedRefs Programmed routes=0
         ListenerSet infra/with: Accepted Programmed
         ListenerSet infra/with/with: Accepted ResolvedRefs Programmed routes=0
         ListenerSet team/without: Accepted=False/ListenersNotValid Programmed=False/ListenersNotValid
         ListenerSet team/without/without: Accepted ResolvedRefs=False/RefNotPermitted Programmed=False/Invalid routes=0",
    );
}

#[test]
fn a_set_follows_its_gateway() {
    let refused = gateway_with("infra/web", &format!("{OPEN} addresses: [{{type: x/y, value: z}}],"), &host("own"));
    let yaml = refused
        + &listener_set("infra/set", "infra/web", &host("one"))
        + &listener_set("infra/lost", "infra/absent", &host("one"))
        + &listener_set("infra/odd", "infra/web", &host("one"))
            .replace("parentRef: {", "parentRef: {kind: Service, group: '', ")
        + &route("infra/r", "{kind: ListenerSet, name: set}", "", "/", "a")
        + &service("infra/a");
    check(
        &yaml,
        "Gateway infra/web: Accepted=False/UnsupportedAddress Programmed=False/Invalid ResolvedRefs
         Gateway infra/web/own: Accepted ResolvedRefs Programmed=False/Invalid routes=0
         ListenerSet infra/set: Accepted=False/ParentNotAccepted Programmed=False/ParentNotProgrammed
         ListenerSet infra/lost: Accepted=False/ParentNotAccepted Programmed=False/ParentNotAccepted
         ListenerSet infra/odd: Accepted=False/ParentNotAccepted Programmed=False/ParentNotAccepted
         HTTPRoute infra/r -> ListenerSet infra/set: Accepted=False/NoMatchingParent ResolvedRefs",
    );
}
