//! Documents of a file: how they are cut, what their text may be, and what happens to broken ones.

use crate::{check, service, services};

#[test]
fn documents_are_cut_at_their_lines() {
    let (a, b, c) = (service("a"), service("b"), service("c"));
    assert_eq!(services(&format!("{a}---\n{b}---\n{c}")), ["default/a", "default/b", "default/c"]);
    assert_eq!(
        services(&format!("---\n---\n# nothing\n--- # comment\n{a}---\n\n---\n{b}...\n")),
        ["default/a", "default/b"]
    );
    assert_eq!(services(&format!("%YAML 1.2\n---\n{a}...\n{b}")), ["default/a", "default/b"]);
    assert_eq!(services(&format!("{a}---\n{b}").replace('\n', "\r\n")), ["default/a", "default/b"]);
    assert_eq!(services(&format!("\u{feff}{a}---\n{b}")), ["default/a", "default/b"]);
    check("", "");
    check("# only a comment\n---\n", "");
}

#[test]
fn lists_are_unfolded() {
    let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: a, namespace: x}\n  \
                spec: {ports: [{port: 80}]}\n- apiVersion: v1\n  kind: Service\n  metadata: {name: b}\n  spec:\n    ports:\n    \
                - port: high\n";
    assert_eq!(services(list), ["x/a"]);
    check(
        list,
        r#"error [IST0106] Service default/b f.yaml:13:13: spec.ports[0].port: found the string "high", expected an integer from 1 to 65535"#,
    );
    let nested = r#"{"kind": "List", "apiVersion": "v1", "items": [{"kind": "ServiceList", "apiVersion": "v1", "items": [null, {"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}}]}]}"#;
    assert_eq!(services(nested), ["default/a"]);
    let typed = r#"{"kind": "ServiceList", "apiVersion": "v1", "items": [{"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}}]}"#;
    assert_eq!(services(typed), ["default/a"]);
}

#[test]
fn json_is_read() {
    let json = "{\n\t\"apiVersion\": \"v1\", \"kind\": \"Service\",\n\t\"metadata\": {\"name\": \"a\\u0062\"},\n\t\
                \"spec\": {\"ports\": [{\"port\":80,\"name\":null}]}\n}\n";
    assert_eq!(services(json), ["default/ab"]);
}

#[test]
fn a_broken_document_leaves_its_neighbours_alone() {
    let yaml = format!("{}---\nkind: Service\n  name: x\n---\n{}", service("a"), service("b"));
    assert_eq!(services(&yaml), ["default/a", "default/b"]);
    check(
        &yaml,
        "error [OUT0003] f.yaml:7:7: not valid YAML: mapping values are not allowed in this context (check the indentation \
         of this line and the one above, and quote text that holds `: `)",
    );
    let unclosed = format!("a: \"never closed\n---\n{}", service("b"));
    assert_eq!(services(&unclosed), ["default/b"]);
}

#[test]
fn syntax_errors_say_where_and_what_to_do() {
    check(
        "kind: Service\nmetadata:\n\tname: x\n",
        "error [OUT0003] f.yaml:3:2: not valid YAML: tabs disallowed within this context (block indentation) (indent with \
         spaces; YAML forbids tabs there)",
    );
    check(
        "kind: *nowhere\n",
        "error [OUT0003] f.yaml:1:7: not valid YAML: while parsing node, found unknown anchor (an alias must follow the \
         anchor it names, in the same document)",
    );
    check("kind: &a [*a]\n", "error [OUT0003] f.yaml:1:11: kind[0]: an alias cannot stand inside of what it names");
    check("? [a, b]\n: c\n", "error [OUT0003] f.yaml:1:3: a list or mapping cannot be a key (keys are text)");
}

#[test]
fn text_that_is_no_yaml_is_refused() {
    check(
        "kind: Service\nname: a\u{0}b\n",
        "error [OUT0006] f.yaml:2:8: the control character 0x00 is not allowed in YAML (save the file as UTF-8 text)",
    );
}

#[test]
fn what_is_no_object_is_named() {
    check(
        "replicas: 3\n",
        "error [OUT0008] f.yaml:1:1: `apiVersion`, `kind` missing; a manifest is a mapping with `apiVersion`, `kind` and \
         `metadata`",
    );
    check(
        "- a\n",
        "error [OUT0008] f.yaml:1:1: found a list; a manifest is a mapping with `apiVersion`, `kind` and `metadata`",
    );
    check("apiVersion: v1\nkind: Service\n", "error [IST0106] f.yaml:1:1: required field `metadata` is missing");
    check(
        "apiVersion: v1\nkind: Service\nmetadata: {namespace: x}\n",
        "error [IST0106] f.yaml:3:11: metadata: required field `name` is missing",
    );
    check(
        "apiVersion: networking.istio.io/v2\nkind: VirtualService\nmetadata: {name: a}\n",
        "error [OUT0104] VirtualService default/a f.yaml:1:13: apiVersion: found \"networking.istio.io/v2\", expected one of \
         `networking.istio.io/v1`, `networking.istio.io/v1beta1`, `networking.istio.io/v1alpha3`",
    );
}

#[test]
fn other_kinds_are_counted() {
    let crd = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: a}\n";
    let knative = "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: a}\n";
    check(
        &format!("{crd}---\n{crd}---\n{knative}"),
        "info [OUT0010]: 2 objects of kind CustomResourceDefinition passed over
         info [OUT0010]: 1 object of kind Service passed over",
    );
}

#[test]
fn a_policy_that_nothing_obeys_is_named() {
    let strict = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: strict, namespace: shop}\n\
                  spec: {mtls: {mode: STRICT}}\n";
    let other = strict.replace("security.istio.io/v1", "example.com/v1");
    let budget = "apiVersion: gateway.networking.x-k8s.io/v1alpha1\nkind: XBackendTrafficPolicy\nmetadata: {name: b}\n\
                  spec: {retryConstraint: {}}\n";
    check(
        budget,
        "warning [OUT0103] XBackendTrafficPolicy default/b f.yaml:2:7: kind XBackendTrafficPolicy is not enforced yet: this \
         object has no effect",
    );
    check(
        &format!("{strict}---\n{other}"),
        "warning [OUT0103] PeerAuthentication shop/strict f.yaml:2:7: kind PeerAuthentication is not enforced yet: this \
         object has no effect
         info [OUT0010]: 1 object of kind PeerAuthentication passed over",
    );
}

#[test]
fn duplicate_keys_are_errors() {
    check(
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports:\n  - port: 80\n    name: x\n    port: 81\n",
        "error [OUT0004] Service default/a f.yaml:8:5: spec.ports[0]: key `port` stands twice, first 2 lines above (remove \
         one of them)",
    );
    let many: String = (0..40).map(|n| format!("    l{}: x\n", n % 39)).collect();
    check(
        &format!(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  labels:\n{many}spec: {{ports: [{{port: 80}}]}}\n"
        ),
        "error [OUT0004] Service default/a f.yaml:45:5: metadata.labels: key `l0` stands twice, first 39 lines above \
         (remove one of them)",
    );
}

#[test]
fn duplicate_objects_are_errors() {
    let yaml = format!("{}---\n{}", service("a"), service("a"));
    assert_eq!(services(&yaml), ["default/a"]);
    check(
        &yaml,
        "error [OUT0009] Service default/a f.yaml:8:18: already defined at f.yaml:3:18, and that definition stays in force \
         (remove one of them, or give it another name)",
    );
}

#[test]
fn anchors_and_merge_keys_work_and_tags_do_not() {
    let yaml = "apiVersion: v1\nkind: Service\nmetadata: {name: a, labels: &l {app: a, v: one}}\nspec:\n  \
                selector: {<<: *l, v: two}\n  ports: [{port: 80}]\n";
    check(yaml, "");
    let (resources, _) = outrigger_config::loader::load_text("f.yaml", yaml);
    let service = resources.services.get("default", "a").expect("it is valid");
    let selector: Vec<_> = service.spec.selector.iter().map(|(k, v)| (&**k, &**v)).collect();
    assert_eq!(selector, [("app", "a"), ("v", "two")]);
    check(
        "apiVersion: v1\nkind: Service\nmetadata: {name: a, labels: {<<: 3}}\n",
        "error [OUT0007] f.yaml:3:34: metadata.labels: a merge key `<<` takes a mapping or a list of mappings (write the \
         fields out)",
    );
    check(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  x: !!binary aGk=\n",
        "error [OUT0007] f.yaml:5:15: data.x: the tag `!!binary` is not supported in manifests (remove the tag)",
    );
    assert_eq!(services(&service_with_tag()), ["default/a"]);
}

fn service_with_tag() -> String {
    service("a").replace("name: a", "name: !!str a")
}
