//! What a client sees: exportTo, Sidecar, outbound policy.

use crate::dump::{check, dump, service};

fn base() -> String {
    let client = |namespace: &str, name: &str| {
        format!(
            "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  selector: {{matchLabels: {{app: {name}}}}}\n  template: {{metadata: {{labels: {{app: {name}}}}}, spec: {{containers: [{{name: c}}]}}}}\n---\n"
        )
    };
    service("shop", "cart", &[])
        + &service("shop", "pay", &[])
        + &service("web", "site", &[])
        + &client("web", "web")
        + &client("shop", "job")
}

fn sidecar(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    )
}

/// The names of the virtual hosts a client has.
#[track_caller]
fn sees(from: &str, yaml: &str, expected: &str) {
    let hosts: Vec<String> = dump(from, "domains", yaml)
        .lines()
        .filter(|l| !l.starts_with(' '))
        .map(|l| l.replace(".svc.cluster.local:9080", ""))
        .collect();
    assert_eq!(hosts.join(" "), expected);
}

#[test]
fn a_sidecar_narrows_what_is_addressed() {
    sees("web/web", &base(), "site.web cart.shop pay.shop");
    let of = |hosts: &str, expected: &str| {
        sees("web/web", &(base() + &sidecar("web", "default", &format!("{{egress: [{{hosts: {hosts}}}]}}"))), expected);
    };
    of("['./*']", "site.web");
    of("['./*', 'shop/pay.shop.svc.cluster.local']", "site.web pay.shop");
    of("['*/*']", "site.web cart.shop pay.shop");
    of("['~/*']", "");
    of("['*/*', '~shop/cart.shop.svc.cluster.local']", "site.web pay.shop");
    of("['shop/*.svc.cluster.local']", "cart.shop pay.shop");
}

#[test]
fn the_selector_wins_over_the_namespace_and_the_namespace_over_the_root() {
    let root = sidecar("istio-system", "root", "{egress: [{hosts: ['web/*']}]}");
    let namespace = sidecar("web", "namespace", "{egress: [{hosts: ['shop/pay.shop.svc.cluster.local']}]}");
    let selected =
        sidecar("web", "selected", "{workloadSelector: {labels: {app: web}}, egress: [{hosts: ['shop/*']}]}");
    sees("shop/job", &(base() + &root + &namespace + &selected), "site.web");
    sees("web/web", &(base() + &root + &namespace + &selected), "cart.shop pay.shop");
    sees("web/web", &(base() + &root + &namespace), "pay.shop");
    sees("", &(base() + &root + &namespace + &selected), "site.web");
}

#[test]
fn a_second_sidecar_without_selector_is_named() {
    let yaml = base()
        + &sidecar("web", "a", "{egress: [{hosts: ['./*']}]}")
        + &sidecar("web", "b", "{egress: [{hosts: ['*/*']}]}");
    sees("web/web", &yaml, "site.web");
    let findings = dump("web/web", "findings", &yaml);
    assert!(findings.contains("[OUT0212] Sidecar web/b"), "{findings}");
}

#[test]
fn what_routes_send_to_keeps_its_cluster_outside_the_scope() {
    let yaml = base()
        + &sidecar("web", "default", "{egress: [{hosts: ['./*']}]}")
        + "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, namespace: web}\nspec:\n  hosts: [site]\n  http:\n  - route: [{destination: {host: cart.shop.svc.cluster.local}}]\n";
    check(
        "web/web",
        "routes clusters findings",
        &yaml,
        "site.web.svc.cluster.local:9080
         default -> outbound|9080||cart.shop.svc.cluster.local*1
         outbound|9080||cart.shop.svc.cluster.local least [0]
         outbound|9080||site.web.svc.cluster.local least [0]",
    );
}

#[test]
fn egress_with_a_port_takes_in_that_port_only() {
    let two = "apiVersion: v1\nkind: Service\nmetadata: {name: two, namespace: web}\nspec: {ports: [{name: http-a, port: 80}, {name: http-b, port: 81}]}\n";
    let yaml = base()
        + two
        + &sidecar("web", "default", "{egress: [{port: {number: 81, protocol: HTTP, name: http}, hosts: ['web/*']}]}");
    sees("web/web", &yaml, "two.web.svc.cluster.local:81");
}

#[test]
fn export_to_hides_and_the_rest_is_unmatched() {
    let hidden = "apiVersion: v1\nkind: Service\nmetadata: {name: h, namespace: shop, annotations: {networking.istio.io/exportTo: '.'}}\nspec: {ports: [{name: http, port: 9080}]}\n";
    let named = hidden.replace("'.'", "'web, x'").replace("name: h,", "name: named,");
    let yaml = base() + hidden + "---\n" + &named;
    sees("web/web", &yaml, "site.web cart.shop pay.shop named.shop");
    sees("shop/job", &yaml, "cart.shop pay.shop h.shop site.web");
    check("", "unmatched", &yaml, "Passthrough");
    let strict = sidecar("web", "default", "{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}");
    check("web/web", "unmatched", &(yaml.clone() + &strict), "BlackHole");
    check("shop/job", "unmatched", &(yaml + &strict), "Passthrough");
}

#[test]
fn an_unknown_workload_is_an_error() {
    check(
        "web/ghost",
        "findings",
        &base(),
        "error [OUT0207]: there is no workload web/ghost (Deployment, StatefulSet, DaemonSet, Job, Pod, WorkloadEntry) (name one that is defined; until then it acts as a workload without labels)",
    );
}

#[test]
fn ingress_parts_are_known_and_not_enforced() {
    let yaml = base()
        + &sidecar(
            "web",
            "default",
            "{ingress: [{port: {number: 80, protocol: HTTP, name: http}, defaultEndpoint: '127.0.0.1:8080'}]}",
        );
    let found = dump("web/web", "findings", &yaml);
    assert!(found.contains("[OUT0103] Sidecar web/default") && found.contains("spec.ingress:"), "{found}");
}

#[test]
fn a_destination_that_is_hidden_is_told_from_one_that_is_not_there() {
    let yaml = base()
        + "apiVersion: v1\nkind: Service\nmetadata: {name: h, namespace: shop, annotations: {networking.istio.io/exportTo: '.'}}\nspec: {ports: [{name: http, port: 80}]}\n---\n"
        + "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, namespace: web}\nspec:\n  hosts: [site]\n  http:\n  - route: [{destination: {host: h.shop.svc.cluster.local}}]\n";
    let found = dump("web/web", "findings", &yaml);
    assert!(
        found.contains("is not exported to namespace web, only Service shop/h has it (add the client's namespace to its `exportTo`)"),
        "{found}"
    );
}
