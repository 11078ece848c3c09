//! A second translation takes in what changed, and lends the rest.

use std::sync::Arc;

use outrigger_config::translate::Translator;

use super::*;

/// Translates one input after the other.
fn both(gateway: &str, first: &str, second: &str) -> (Gateway, Gateway) {
    let mut translator = Translator::new(view(gateway));
    let first = translator.translate(&load(first)).0;
    let (second_found, findings) = translator.translate(&load(second));
    let (fresh, fresh_findings) = translate(&load(second), &view(gateway));
    assert_eq!((second_found.version, &second_found.listeners), (fresh.version, &fresh.listeners));
    assert_eq!(second_found.clusters, fresh.clusters);
    assert_eq!(findings, fresh_findings);
    assert_eq!(translator.conditions(), conditions(&load(second), &view(gateway)));
    (Gateway(first), Gateway(second_found))
}

#[test]
fn a_grant_is_taken_back() {
    let yaml = gateway("infra/web", &http("http", ""))
        + &route("infra/r", "{name: web}", "", "/", "a").replace("{name: a,", "{name: a, namespace: apps,")
        + &service("apps/a");
    let from = "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: infra}";
    let granted = yaml.clone() + &grant("apps/g", from, "{group: '', kind: Service}");
    let (with, without) = both("infra/web", &granted, &yaml);
    assert_eq!((with.http(80, "x", "/"), without.http(80, "x", "/")), ("a".into(), "500".into()));
    let (without, with) = both("infra/web", &yaml, &granted);
    assert_eq!((without.http(80, "x", "/"), with.http(80, "x", "/")), ("500".into(), "a".into()));
}

#[test]
fn a_listener_is_added_and_removed() {
    let one = gateway("infra/web", &http("http", ""));
    let two =
        gateway("infra/web", &format!("{}, {}", http("http", ""), http("more", "hostname: a.com").replace("80", "81")));
    let (before, after) = both("infra/web", &one, &two);
    assert_eq!((before.http(81, "a.com", "/"), after.http(81, "a.com", "/")), ("closed".into(), "404".into()));
    assert!(Arc::ptr_eq(&before.0.listeners[0], &after.0.listeners[0]), "the other listener is lent");
    let (_, after) = both("infra/web", &two, &one);
    assert_eq!(after.http(81, "a.com", "/"), "closed");
}

#[test]
fn whatever_it_depends_on_may_change() {
    let selector = "allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {tier: web}}}}";
    let listeners = format!(
        "{{name: http, port: 80, protocol: HTTP, {selector}}}, {{name: https, port: 443, protocol: HTTPS, \
         tls: {{certificateRefs: [{{name: c}}]}}}}"
    );
    let class = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: outrigger}\nspec: {controllerName: x.io/y}\n";
    let set = listener_set("infra/set", "infra/web", &http("more", "hostname: a.com"));
    let open = "allowedListeners: {namespaces: {from: All}},";
    let secret = tls::secret("infra/c", &["a.com"]);
    let base = gateway_with("infra/web", open, &listeners)
        + &namespace("team", "tier: web")
        + &route("team/r", "{name: web, namespace: infra}", "", "/", "a")
        + &service("team/a")
        + &secret;
    for change in [
        base.replace("tier: web}}\n", "tier: api}}\n"),
        base.replace(&secret, &tls::secret("infra/c", &["b.com"])),
        base.replace(&secret, ""),
        base.clone() + class,
        base.clone() + &class.replace("name: outrigger", "name: other"),
        base.clone() + &set,
        base.replace(open, ""),
    ] {
        assert_ne!(change, base);
        both("infra/web", &base, &change);
        both("infra/web", &change, &base);
    }
}

#[test]
fn equal_input_is_lent_whole() {
    let yaml =
        gateway("infra/web", &http("http", "")) + &route("infra/r", "{name: web}", "", "/", "a") + &service("infra/a");
    let (before, after) = both("infra/web", &yaml, &yaml);
    assert!(Arc::ptr_eq(&before.0.listeners[0], &after.0.listeners[0]));
    let changed = yaml.clone() + &route("infra/r2", "{name: web}", "b.com", "/", "a");
    let (before, after) = both("infra/web", &yaml, &changed);
    let vhosts = |gateway: &Gateway| gateway.0.listeners[0].route_tables().next().unwrap().virtual_hosts.clone();
    assert!(Arc::ptr_eq(&vhosts(&before)[0], &vhosts(&after)[0]), "a virtual host that stayed is lent");
}

#[test]
fn sidecars_know_nothing_of_gateways() {
    let yaml = gateway("infra/web", "{name: x, port: 1, protocol: INVALID}");
    let mut translator = Translator::new(View::of("infra", "w"));
    let (_, findings) = translator.translate(&load(&yaml));
    let codes: Vec<_> = findings.iter().map(|f| f.code.0).collect();
    assert_eq!((codes, translator.conditions().len()), (vec!["OUT0207"], 0));
}
