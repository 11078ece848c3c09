//! Loading the kinds: what the API server refuses is refused, and kinds of one name in two groups live side by side.

use outrigger_config::loader::Loader;

use super::*;

/// The findings of loading.
fn found(yaml: &str) -> String {
    let (_, findings) = load_text("f.yaml", yaml);
    findings.iter().fold(String::new(), |text, finding| text + &finding.to_string() + "\n")
}

#[test]
fn what_the_api_server_refuses_is_refused() {
    let long: String = (0..65).map(|at| format!("{{name: l{at}, port: {}, protocol: HTTP}}, ", at + 1)).collect();
    for (listeners, message) in [
        ("", "spec.listeners: found 0 listeners, expected 1 to 64"),
        (long.as_str(), "spec.listeners: found 65 listeners, expected 1 to 64"),
        (
            "{name: a, port: 80, protocol: HTTP}, {name: a, port: 81, protocol: HTTP}",
            "spec.listeners: found a second listener named \"a\", expected unique names",
        ),
        (
            "{name: a, port: 80, protocol: HTTP, tls: {certificateRefs: [{name: c}]}}",
            "spec.listeners[0]: tls: found it, expected none with protocol HTTP",
        ),
        (
            "{name: a, port: 80, protocol: HTTPS, tls: {mode: Passthrough}}",
            "spec.listeners[0]: tls.mode: found Passthrough, expected Terminate with HTTPS",
        ),
        (
            "{name: a, port: 80, protocol: HTTPS, tls: {}}",
            "spec.listeners[0]: tls: `certificateRefs` is missing, expected at least one",
        ),
        (
            "{name: a, port: 80, protocol: TLS}",
            "spec.listeners[0]: tls.mode: it is missing, expected one with protocol TLS",
        ),
        (
            "{name: a, port: 80, protocol: TCP, hostname: a.com}",
            "spec.listeners[0]: hostname: found it, expected none with TCP",
        ),
        (
            "{name: a, port: 0, protocol: HTTP}",
            "spec.listeners[0].port: found the number 0, expected an integer from 1 to 65535",
        ),
        ("{name: A, port: 80, protocol: HTTP}", "spec.listeners[0].name: found the string \"A\", expected a name"),
        (
            "{name: a, port: 80, protocol: HTTP, hostname: 'a.*'}",
            "spec.listeners[0].hostname: found the string \"a.*\", expected a host name",
        ),
        (
            "{name: a, port: 80, protocol: 'a.b'}",
            "spec.listeners[0].protocol: found the string \"a.b\", expected `HTTP`",
        ),
        (
            "{name: a, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: None}}}",
            "spec.listeners[0].allowedRoutes.namespaces.from: found",
        ),
    ] {
        let yaml = gateway("infra/web", listeners);
        let text = found(&yaml);
        assert!(text.starts_with("error [IST0106] Gateway infra/web") && text.contains(message), "{listeners}: {text}");
        assert!(load_text("f.yaml", &yaml).0.gateways.is_empty());
        let set = listener_set("infra/set", "infra/web", listeners);
        assert!(found(&set).contains(message), "{listeners}");
    }
}

#[test]
fn other_kinds_are_judged_too() {
    let class = "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: c}\nspec: {controllerName: nobody}\n";
    same(
        &found(class),
        "error [IST0106] GatewayClass c f.yaml:4:24: spec.controllerName: found the string \"nobody\", expected DOMAIN/PATH, such as `outrigger.dev/gateway-controller`",
    );
    same(
        &found(&grant("infra/g", "", "{group: '', kind: Secret}")),
        "error [IST0106] ReferenceGrant infra/g f.yaml:2:1: spec.from: it is empty, expected at least one item",
    );
    let frontend = "tls: {frontend: {default: {}, perPort: [{port: 1, tls: {}}, {port: 1, tls: {}}]}},";
    let text = found(&gateway_with("infra/web", frontend, &http("http", "")));
    assert!(text.contains("spec.tls.frontend: perPort[1]: found port 1 a second time, expected it once"), "{text}");
    let text = found(&gateway_with(
        "infra/web",
        "tls: {frontend: {default: {validation: {caCertificateRefs: []}}}},",
        &http("http", ""),
    ));
    assert!(text.contains("caCertificateRefs: it is empty, expected at least one item"), "{text}");
    let text = found(&gateway(
        "infra/web",
        "{name: a, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector}}}",
    ));
    assert!(text.contains("`from: Selector` without `selector` selects no namespace"), "{text}");
    let text =
        found("apiVersion: gateway.networking.x-k8s.io/v1alpha1\nkind: XListenerSet\nmetadata: {name: x}\nspec: {}\n");
    assert!(text.contains("did you mean `ListenerSet`?"), "{text}");
}

const ISTIO: &str = "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: web, namespace: infra}\n\
    spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}\n";

#[test]
fn gateways_of_both_apis_live_side_by_side() {
    for yaml in
        [ISTIO.to_owned() + &gateway("infra/web", &http("http", "")), gateway("infra/web", &http("http", "")) + ISTIO]
    {
        let resources = load(&yaml);
        assert_eq!((resources.gateways.len(), resources.istio_gateways.len(), resources.len()), (1, 1, 2));
        let kinds = [
            resources.gateways.iter().next().unwrap().meta.kind,
            resources.istio_gateways.iter().next().unwrap().meta.kind,
        ];
        assert_eq!(kinds, ["Gateway", "Gateway"]);
        assert_eq!(status(&yaml).lines().count(), 2, "only one of them has conditions");
    }
}

#[test]
fn the_last_good_version_is_that_of_its_own_group() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.yaml");
    let mut loader = Loader::new(vec![folder.path().to_owned()]);
    let good = ISTIO.to_owned() + &gateway("infra/web", &http("http", ""));
    std::fs::write(&file, &good).unwrap();
    assert_eq!(loader.load().objects, 2);
    // Each breaks once while the other changes: what stays of the broken one is its own last good version.
    for (bad, change) in [("port: 80, protocol: HTTP,", "number: 80,"), ("number: 80,", "port: 80, protocol: HTTP,")] {
        let text = good.replace(bad, &bad.replace("80", "eighty")).replace(change, &change.replace("80", "8080"));
        std::fs::write(&file, &text).unwrap();
        let loaded = loader.load();
        let ports = (
            loaded.resources.gateways.iter().next().map(|g| g.spec.listeners[0].port),
            loaded.resources.istio_gateways.iter().next().map(|g| g.spec.servers[0].port.number),
        );
        let expected = if bad.starts_with("port") { (Some(80), Some(8080)) } else { (Some(8080), Some(80)) };
        assert_eq!(ports, expected, "{:#?}", loaded.diagnostics);
        let notices: Vec<_> = loaded.diagnostics.iter().filter(|d| d.code.0 == "OUT0011").collect();
        assert_eq!(notices.len(), 1, "{notices:?}");
        std::fs::write(&file, &good).unwrap();
        loader.load();
    }
}
