//! GRPCRoutes that the API server would refuse: each stays out, with the reason and the place.

use outrigger_config::loader::load_text;

const BACKEND: &str = "backendRefs: [{name: b, port: 80}]";

/// The errors and warnings about a GRPCRoute with this rule, without object, place and hint.
fn found(rule: &str) -> Vec<String> {
    let yaml = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {{name: r}}\nspec: {{rules: [{{{rule}}}]}}\n"
    );
    let (resources, findings) = load_text("f.yaml", &yaml);
    let errors = findings.iter().any(|f| f.code.0 == "IST0106");
    assert_eq!(resources.grpc_routes.is_empty(), errors, "{findings:#?}");
    findings.iter().map(|f| format!("{} {}", f.code.0, f.message.trim_start_matches("spec.rules[0]."))).collect()
}

#[track_caller]
fn rule(rule: &str, expected: &str) {
    assert_eq!(found(rule).join("\n"), expected, "{rule}");
}

#[track_caller]
fn method(method: &str, expected: &str) {
    let expected = if expected.is_empty() { String::new() } else { format!("IST0106 matches[0].method{expected}") };
    rule(&format!("matches: [{{method: {{{method}}}}}], {BACKEND}"), &expected);
}

#[test]
fn names_have_one_form() {
    const SERVICE: &str =
        "expected a service such as `shop.v1.Cart`: names of letters, digits and `_`, with dots between them";
    const METHOD: &str = "expected a method such as `GetCart`: a name of letters, digits and `_`";
    method("service: shop.v1.Cart_2, method: _Get", "");
    method("service: .shop.Cart", "");
    for bad in ["shop/Cart", "shop..Cart", "1shop", "sh-op", ""] {
        method(&format!("service: '{bad}', method: Get"), &format!(".service: found the string {bad:?}, {SERVICE}"));
    }
    for bad in ["shop.Get", "1Get", "Get/"] {
        method(&format!("method: '{bad}'"), &format!(".method: found the string {bad:?}, {METHOD}"));
    }
    method("type: RegularExpression, service: 'sh-op|1', method: '.*'", "");
    let long = found(&format!("matches: [{{method: {{service: {}}}}}], {BACKEND}", "a".repeat(1025)));
    assert!(long[0].ends_with("expected at most 1024 characters"), "{long:?}");
    method(&format!("service: {0}, method: {0}", "a".repeat(1024)), "");
}

#[test]
fn a_method_match_says_something() {
    let neither = ": found neither `service` nor `method`, expected one of them or both";
    method("type: Exact", neither);
    method("type: RegularExpression, service: '', method: ''", neither);
    method(
        "type: Prefix, service: a",
        ".type: found the string \"Prefix\", expected one of `Exact`, `RegularExpression`",
    );
    let broken = found(&format!("matches: [{{method: {{type: RegularExpression, service: '(a'}}}}], {BACKEND}"));
    assert!(broken[0].starts_with("IST0106 matches[0].method.service: found \"(a\": "), "{broken:?}");
    rule(
        &format!("matches: [{{method: {{service: a}}, path: {{value: /}}}}], {BACKEND}"),
        "OUT0101 matches[0]: unknown field `path`",
    );
}

#[test]
fn filters_are_fewer_than_those_of_http_routes() {
    rule(
        &format!("filters: [{{type: URLRewrite, urlRewrite: {{hostname: a.org}}}}], {BACKEND}"),
        "IST0106 filters[0].type: found the string \"URLRewrite\", expected one of `RequestHeaderModifier`, `ResponseHeaderModifier`, \
         `RequestMirror`, `ExtensionRef`\nOUT0101 filters[0]: unknown field `urlRewrite`",
    );
    rule(
        &format!("filters: [{{type: RequestHeaderModifier}}], {BACKEND}"),
        "IST0106 filters[0]: required field `requestHeaderModifier` is missing for type `RequestHeaderModifier`",
    );
    let twice = "{type: RequestHeaderModifier, requestHeaderModifier: {remove: [a]}}";
    rule(
        &format!("filters: [{twice}, {twice}], {BACKEND}"),
        "IST0106 filters[1]: found a second RequestHeaderModifier filter, expected one",
    );
    rule(
        &format!("backendRefs: [{{name: b, port: 80, filters: [{twice}, {twice}]}}]"),
        "IST0106 backendRefs[0].filters[1]: found a second RequestHeaderModifier filter, expected one",
    );
}

#[test]
fn what_http_routes_refuse_is_refused() {
    rule("backendRefs: [{name: b}]", "IST0106 backendRefs[0]: required field `port` is missing");
    rule(
        "backendRefs: [{name: b, port: 80, weight: 1000001}]",
        "IST0106 backendRefs[0].weight: found the number 1000001, expected an integer from 0 to 1000000",
    );
    let session = found("sessionPersistence: {type: Header, cookie: {}}, backendRefs: [{name: b, port: 80}]");
    assert!(
        session.iter().any(|f| f.starts_with("IST0106 sessionPersistence: required field `header`")),
        "{session:?}"
    );
    let matches = "{},".repeat(65);
    rule(&format!("matches: [{matches}], {BACKEND}"), "IST0106 matches: found a list of 65 items, expected at most 64");
    let header = "{name: a, value: b}";
    rule(
        &format!("matches: [{{headers: [{header}, {header}]}}], {BACKEND}"),
        "IST0106 matches[0].headers[1]: \"a\" stands there already, expected each once\n\
         OUT0102 matches[0].headers[1]: \"a\" is already asked for, and only the first counts",
    );
    rule(
        &format!("name: x, {BACKEND}}}, {{name: x, {BACKEND}"),
        "IST0106 spec.rules[1]: the name \"x\" is that of an earlier rule",
    );
    rule(&format!("timeouts: {{request: 1s}}, {BACKEND}"), "OUT0101 spec.rules[0]: unknown field `timeouts`");
}
