//! HTTPRoutes: matches and their precedence, backends and weights, time limits, and what is reported. Filters are in
//! `http_routes_filters`.
//!
//! Shown for a Service of the mesh; Gateways get the same routes. Cases of the conformance suite (`conformance/tests` of
//! kubernetes-sigs/gateway-api) that can be told from routes are here by name; what the data plane makes of them is tested
//! in `proxy`, and who is attached to what in `gateway_api`.
//!
//! | case | here |
//! |---|---|
//! | HTTPRouteMatching, HTTPRouteMethodMatching, HTTPRouteHeaderMatching, HTTPRouteQueryParamMatching, HTTPRouteExactPathMatching | `matches_are_alternatives_and_their_conditions_add_up`, `only_the_first_condition_on_a_name_counts` |
//! | HTTPRoutePathMatchOrder, and the precedence of the other matching cases | `the_more_specific_match_is_asked_first` |
//! | HTTPRouteMatchingAcrossRoutes | `of_equal_matches_the_older_route_wins`, `identical_matches_are_told_and_the_first_wins` |
//! | HTTPRouteWeight | `weights_default_to_one_and_zero_is_nothing` |
//! | HTTPRouteNoBackendRefs | `weights_default_to_one_and_zero_is_nothing`, `a_route_without_rules_matches_everything_and_sends_nowhere` |
//! | HTTPRouteInvalidNonExistentBackendRef, HTTPRouteInvalidBackendRefUnknownKind | `a_backend_that_is_not_there_keeps_its_share_and_answers_500` |
//! | HTTPRouteServiceTypes | `a_service_without_address_is_a_backend_like_others` |
//! | HTTPRouteNamedRule | `matches_are_alternatives_and_their_conditions_add_up` |
//! | HTTPRouteBackendProtocolWebSocket | `what_a_port_speaks_is_taken_from_its_app_protocol` |
//! | HTTPRouteRequestHeaderModifier, HTTPRouteResponseHeaderModifier, HTTPRouteRequestHeaderModifierBackendWeights | `http_routes_filters::headers_are_edited_by_the_rule_and_then_by_the_backend` |
//! | HTTPRouteRedirectHostAndStatus, HTTPRouteRedirectPath, HTTPRouteRedirectPort, HTTPRouteRedirectScheme, HTTPRouteRedirectPortAndScheme, HTTPRoute303Redirect and its like | `http_routes_filters::redirects_fill_in_what_is_not_given` |
//! | HTTPRouteRewriteHost, HTTPRouteRewritePath | `http_routes_filters::rewrites_change_path_and_authority` |
//! | HTTPRouteBackendURLRewrite, HTTPRouteBackendRequestRedirect | `http_routes_filters::filters_of_the_only_backend_are_those_of_the_rule` |
//! | HTTPRouteRequestMirror, HTTPRouteRequestMultipleMirrors, HTTPRouteRequestPercentageMirror | `http_routes_filters::mirrors_get_a_share_and_a_bad_one_is_left_out` |
//! | HTTPRouteCORS | `http_routes_filters::a_cors_filter_is_read_as_the_data_plane_obeys_it` |
//! | HTTPRouteTimeoutRequest, HTTPRouteTimeoutBackendRequest; HTTPRouteRetry, HTTPRouteRetryWithTimeouts (not enforced yet) | `time_limits_hold_and_retries_come_later` |
//! | MeshConsumerRoute, MeshPorts, MeshTrafficSplit, MeshHTTPRouteWeight | `http_routes_mesh` |

use crate::dump::{check, dump, service};

pub(crate) fn base() -> String {
    service("default", "a", &[("v1", 9001)])
        + &service("default", "b", &[("v1", 9002)])
        + &service("default", "c", &[])
        + &service("other", "d", &[])
}

/// An HTTPRoute of Service `a` with these rules.
pub(crate) fn http_route(name: &str, rules: &str) -> String {
    let rules = rules.trim().replace('\n', "\n  ");
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\nspec:\n  parentRefs: [{{group: '', kind: Service, name: a}}]\n  rules:\n  {rules}\n---\n"
    )
}

/// The routes of Service `a`, and findings, for an anonymous client.
#[track_caller]
pub(crate) fn of(rules: &str, expected: &str) {
    let expected = format!("a.default.svc.cluster.local:9080\n{expected}");
    check("", "routes findings host=a.default", &(http_route("r", rules) + &base()), &expected);
}

pub(crate) const A: &str = "outbound|9080||a.default.svc.cluster.local";
pub(crate) const B: &str = "outbound|9080||b.default.svc.cluster.local";
pub(crate) const C: &str = "outbound|9080||c.default.svc.cluster.local";

#[test]
fn matches_are_alternatives_and_their_conditions_add_up() {
    of(
        "
- name: one
  matches:
  - path: {type: Exact, value: /exact}
    method: POST
  - path: {value: /prefix/}
    headers: [{name: X-Env, value: canary}, {name: version, type: RegularExpression, value: 'v[12]'}]
    queryParams: [{name: q, value: '1'}, {name: r, type: RegularExpression, value: '.+'}]
  - path: {type: RegularExpression, value: '/item/[0-9]+'}
  - method: GET
  backendRefs: [{name: b, port: 9080}]
- backendRefs: [{name: c, port: 9080}]",
        &format!(
            "one path=/exact method=POST -> {B}*1
             one path=/prefix/* header:x-env=canary header:version~v[12] query:q=1 query:r~.+ -> {B}*1
             one path~/item/[0-9]+ -> {B}*1
             one path=/* method=GET -> {B}*1
             default path=/* -> {C}*1"
        ),
    );
}

#[test]
fn only_the_first_condition_on_a_name_counts() {
    of(
        "
- matches:
  - headers: [{name: Version, value: one}, {name: version, value: two}]
    queryParams: [{name: q, value: a}, {name: Q, value: c}]
  backendRefs: [{name: b, port: 9080}]",
        &format!(
            "default path=/* header:version=one query:q=a query:Q=c -> {B}*1
             warning [OUT0102] HTTPRoute default/r f.yaml:8:46: spec.rules[0].matches[0].headers[1]: \"version\" is already asked for, and only the first counts (remove it, or put it into a match of its own)"
        ),
    );
}

/// The order of the specification: path, method, headers, query parameters, then the order written.
#[test]
fn the_more_specific_match_is_asked_first() {
    let to = "backendRefs: [{name: b, port: 9080}]";
    of(
        &format!(
            "
- {{name: any, {to}}}
- {{name: query, matches: [{{queryParams: [{{name: a, value: '1'}}, {{name: b, value: '1'}}]}}], {to}}}
- {{name: header, matches: [{{headers: [{{name: a, value: '1'}}]}}], {to}}}
- {{name: headers, matches: [{{headers: [{{name: a, value: '1'}}, {{name: b, value: '1'}}]}}], {to}}}
- {{name: method, matches: [{{method: GET}}], {to}}}
- {{name: short, matches: [{{path: {{value: /a}}, method: GET}}], {to}}}
- {{name: long, matches: [{{path: {{value: /a/b/}}}}], {to}}}
- {{name: same-length, matches: [{{path: {{value: /a/c}}}}], {to}}}
- {{name: regex, matches: [{{path: {{type: RegularExpression, value: '/[a-z]+/x'}}}}], {to}}}
- {{name: long-regex, matches: [{{path: {{type: RegularExpression, value: '/[a-z]+/[0-9]+'}}}}], {to}}}
- {{name: exact, matches: [{{path: {{type: Exact, value: /}}}}], {to}}}
- {{name: exact-method, matches: [{{path: {{type: Exact, value: /}}, method: GET}}], {to}}}"
        ),
        &format!(
            "exact-method path=/ method=GET -> {B}*1
             exact path=/ -> {B}*1
             long path=/a/b/* -> {B}*1
             same-length path=/a/c/* -> {B}*1
             short path=/a/* method=GET -> {B}*1
             long-regex path~/[a-z]+/[0-9]+ -> {B}*1
             regex path~/[a-z]+/x -> {B}*1
             method path=/* method=GET -> {B}*1
             headers path=/* header:a=1 header:b=1 -> {B}*1
             header path=/* header:a=1 -> {B}*1
             query path=/* query:a=1 query:b=1 -> {B}*1
             any path=/* -> {B}*1"
        ),
    );
}

/// Creation time first, then `namespace/name`; a route without creation time is the youngest.
#[test]
fn of_equal_matches_the_older_route_wins() {
    let route = |name: &str, created: &str, backend: &str| {
        http_route(name, &format!("- {{name: {name}, backendRefs: [{{name: {backend}, port: 9080}}]}}"))
            .replace(&format!("{{name: {name}}}\nspec"), &format!("{{name: {name}{created}}}\nspec"))
    };
    let of = |one: String, two: String, expected: &str| {
        let found = dump("", "routes host=a.default", &(one + &two + &base()));
        let found = found.lines().nth(1).unwrap_or_default().trim().to_owned();
        assert_eq!(found, expected);
    };
    let (b, c) = (format!(" path=/* -> {B}*1"), format!(" path=/* -> {C}*1"));
    of(route("p", "", "b"), route("q", "", "c"), &format!("p{b}"));
    of(route("q", "", "c"), route("p", "", "b"), &format!("p{b}"));
    let (old, new) = (", creationTimestamp: '2024-01-01T00:00:00Z'", ", creationTimestamp: '2025-01-01T00:00:00Z'");
    of(route("p", new, "b"), route("q", old, "c"), &format!("q{c}"));
    of(route("p", "", "b"), route("q", new, "c"), &format!("q{c}"));
}

#[test]
fn identical_matches_are_told_and_the_first_wins() {
    let yaml = http_route("one", "- matches: [{path: {value: /p}}]\n  backendRefs: [{name: b, port: 9080}]")
        + &http_route(
            "two",
            "- backendRefs: [{name: c, port: 9080}]\n- matches: [{method: GET}, {path: {value: /p/}}, {}]\n  backendRefs: [{name: b, port: 9080}]",
        )
        + &base();
    check(
        "",
        "routes findings host=a.default",
        &yaml,
        &format!(
            "a.default.svc.cluster.local:9080
             default path=/p/* -> {B}*1
             default path=/* method=GET -> {B}*1
             default path=/* -> {C}*1
             warning [IST0130] HTTPRoute default/two f.yaml:17:30: matches[1] of rules[1] can never be reached: rules[0] of HTTPRoute default/one at f.yaml:7:15 has the same match and comes first (remove one of the two, or make them different)
             warning [IST0130] HTTPRoute default/two f.yaml:17:52: matches[2] of rules[1] can never be reached: rules[0] at f.yaml:16:5 has the same match and comes first (remove one of the two, or make them different)"
        ),
    );
}

#[test]
fn weights_default_to_one_and_zero_is_nothing() {
    let of = |backends: &str, expected: &str| of(&format!("- backendRefs: [{backends}]"), expected);
    of("{name: b, port: 9080}, {name: c, port: 9080}", &format!("default path=/* -> {B}*1 {C}*1"));
    of(
        "{name: b, port: 9080, weight: 70}, {name: c, port: 9080, weight: 30}, {name: a, port: 9080, weight: 0}",
        &format!("default path=/* -> {B}*70 {C}*30"),
    );
    let nobody = |what: &str| {
        format!(
            "default path=/* -> BlackHoleCluster*1!500
             warning [OUT0213] HTTPRoute default/r f.yaml:7:5: rules[0] has {what}: its requests get 500 (name a backend, or redirect)"
        )
    };
    of("{name: b, port: 9080, weight: 0}", &nobody("only `backendRefs` with weight 0"));
    of("", &nobody("no `backendRefs`"));
}

#[test]
fn a_backend_that_is_not_there_keeps_its_share_and_answers_500() {
    of(
        "
- backendRefs:
  - {name: b, port: 9080, weight: 3}
  - {name: bb, port: 9080, weight: 2}
  - {name: b, port: 81, weight: 2}
  - {group: apps, kind: Deployment, name: b, weight: 2}",
        &format!(
            "default path=/* -> {B}*3 outbound|9080||bb.default.svc.cluster.local*2!500 outbound|81||b.default.svc.cluster.local*2!500 outbound|0||b.default.svc.cluster.local*2!500
             error [IST0101] HTTPRoute default/r f.yaml:9:14: backend Service default/bb does not exist (did you mean `b`?)
             error [IST0101] HTTPRoute default/r f.yaml:10:14: backend b.default.svc.cluster.local has no port 81; its ports are 9080 (http) (use one of its ports)
             error [IST0101] HTTPRoute default/r f.yaml:11:45: backend default/b is of kind apps/Deployment, which is not known here (a backend is a Service)"
        ),
    );
}

#[test]
fn a_backend_of_another_namespace_needs_no_grant_in_the_mesh() {
    of(
        "- backendRefs: [{name: d, namespace: other, port: 9080}, {name: c, port: 9080}]",
        &format!("default path=/* -> outbound|9080||d.other.svc.cluster.local*1 {C}*1"),
    );
}

#[test]
fn a_service_without_address_is_a_backend_like_others() {
    let headless = "apiVersion: v1\nkind: Service\nmetadata: {name: h}\nspec: {clusterIP: None, ports: [{name: http, port: 80}]}\n";
    check(
        "",
        "routes findings host=a.default",
        &(http_route("r", "- backendRefs: [{name: h, port: 80}]") + &base() + headless),
        "a.default.svc.cluster.local:9080\ndefault path=/* -> outbound|80||h.default.svc.cluster.local*1",
    );
}

#[test]
fn what_a_port_speaks_is_taken_from_its_app_protocol() {
    let services = "apiVersion: v1
kind: Service
metadata: {name: e}
spec: {ports: [{name: tcp-odd, port: 1}, {name: secure, port: 2, appProtocol: https}, {name: ws, port: 3, appProtocol: kubernetes.io/ws}]}
";
    let yaml = http_route("r", "- backendRefs: [{name: e, port: 1}, {name: e, port: 2}, {name: e, port: 3}]")
        + &base()
        + services;
    check(
        "",
        "routes findings host=a.default",
        &yaml,
        "a.default.svc.cluster.local:9080
         default path=/* -> outbound|1||e.default.svc.cluster.local*1 outbound|2||e.default.svc.cluster.local*1!500 outbound|3||e.default.svc.cluster.local*1
         warning [OUT0103] HTTPRoute default/r f.yaml:7:46: port 2 of backend e.default.svc.cluster.local is no HTTP: its appProtocol is \"https\" (send to a port that speaks plain HTTP)",
    );
}

#[test]
fn time_limits_and_retries_hold() {
    const LATER: &str = "understood, but not enforced yet (traffic flows as if the field were absent)";
    of(
        "
- timeouts: {request: 1m, backendRequest: 500ms}
  backendRefs: [{name: b, port: 9080}]
- matches: [{path: {value: /off}}]
  timeouts: {request: 0s, backendRequest: 2s}
  backendRefs: [{name: b, port: 9080}]
- matches: [{path: {value: /retry}}]
  retry: {codes: [500, 503], attempts: 4, backoff: 100ms}
  sessionPersistence: {cookie: {name: session}}
  backendRefs: [{name: b, port: 9080}]",
        &format!(
            "default path=/retry/* -> {B}*1 tries=1+4/100ms+100ms-1s:reset,connect-failure,refused-stream,retriable-status-codes,500,503
             default path=/off/* -> {B}*1 per-try=2s
             default path=/* -> {B}*1 timeout=60s per-try=500ms
             warning [OUT0103] HTTPRoute default/r f.yaml:14:25: spec.rules[2].sessionPersistence: {LATER}"
        ),
    );
}

#[test]
fn a_route_without_rules_matches_everything_and_sends_nowhere() {
    let yaml = http_route("r", "").replace("\n  rules:\n  \n", "\n") + &base();
    check(
        "",
        "routes findings host=a.default",
        &yaml,
        "a.default.svc.cluster.local:9080
         default path=/* -> BlackHoleCluster*1!500
         warning [OUT0213] HTTPRoute default/r f.yaml:3:18: rules[0] has no `backendRefs`: its requests get 500 (name a backend, or redirect)",
    );
}
