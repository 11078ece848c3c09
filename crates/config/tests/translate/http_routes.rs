//! HTTPRoutes: matches and their precedence, backends and weights, every filter, time limits, and what is reported.
//!
//! Shown for a Service of the mesh; Gateways get the same routes.

use crate::dump::{check, dump, service};

fn base() -> String {
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
fn of(rules: &str, expected: &str) {
    let expected = format!("a.default.svc.cluster.local:9080\n{expected}");
    check("", "routes findings host=a.default", &(http_route("r", rules) + &base()), &expected);
}

const A: &str = "outbound|9080||a.default.svc.cluster.local";
const B: &str = "outbound|9080||b.default.svc.cluster.local";
const C: &str = "outbound|9080||c.default.svc.cluster.local";

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
fn headers_are_edited_by_the_rule_and_then_by_the_backend() {
    of(
        "
- filters:
  - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Set, value: '1'}], add: [{name: X-Add, value: a b}], remove: [X-Gone]}}
  - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-R, value: '2'}], remove: [server]}}
  backendRefs: [{name: b, port: 9080}]",
        &format!(
            "default path=/* -> {B}*1 request:x-set=1 request:x-add+=a b request:-x-gone response:x-r=2 response:-server"
        ),
    );
    // The model applies those of a destination first; so those of the rule go down to the destinations.
    of(
        "
- filters:
  - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x, value: rule}], add: [{name: 'y', value: rule}]}}
  - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: z, value: rule}]}}
  backendRefs:
  - {name: b, port: 9080, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X, value: backend}], add: [{name: 'y', value: backend}]}}]}
  - {name: c, port: 9080}",
        &format!(
            "default path=/* -> {B}*1 request:x=backend request:y+=rule request:y+=backend {C}*1 request:x=rule request:y+=rule response:z=rule"
        ),
    );
    of(
        "
- filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x, value: rule}]}}]
  backendRefs: [{name: b, port: 9080, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: x, value: backend}]}}]}]",
        &format!("default path=/* -> {B}*1 request:x=rule,backend"),
    );
}

#[test]
fn an_edit_of_host_is_a_rewrite_of_the_authority() {
    of(
        "
- filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Host, value: one.example}], remove: [host]}}]
  backendRefs: [{name: b, port: 9080}]",
        &format!(
            "default path=/* -> {B}*1 authority:=one.example
             warning [OUT0102] HTTPRoute default/r f.yaml:7:119: spec.rules[0].filters[0].requestHeaderModifier: `Host` cannot be removed: every request needs one"
        ),
    );
    of(
        "
- filters: [{type: URLRewrite, urlRewrite: {hostname: rule.example}}]
  backendRefs:
  - {name: b, port: 9080, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Host, value: b.example}]}}]}
  - {name: c, port: 9080}",
        &format!("default path=/* -> {B}*1 authority:=b.example {C}*1 authority:=rule.example"),
    );
}

#[test]
fn redirects_fill_in_what_is_not_given() {
    let redirect = |fields: &str, expected: &str| {
        of(
            &format!("- filters: [{{type: RequestRedirect, requestRedirect: {{{fields}}}}}]"),
            &format!("default path=/* -> {expected}"),
        );
    };
    redirect("", "302 scheme=\"\" authority=\"\" port=Request path=Keep");
    redirect("hostname: example.org", "302 scheme=\"\" authority=\"example.org\" port=Request path=Keep");
    redirect("scheme: https, statusCode: 301", "301 scheme=\"https\" authority=\"\" port=ProtocolDefault path=Keep");
    redirect("scheme: https, port: 8443", "302 scheme=\"https\" authority=\"\" port=Exact(8443) path=Keep");
    redirect("port: 80, statusCode: 308", "308 scheme=\"\" authority=\"\" port=Exact(80) path=Keep");
    redirect(
        "path: {type: ReplaceFullPath, replaceFullPath: /new}",
        "302 scheme=\"\" authority=\"\" port=Request path=Full(\"/new\")",
    );
    redirect(
        "path: {type: ReplacePrefixMatch, replacePrefixMatch: /new/}",
        "302 scheme=\"\" authority=\"\" port=Request path=Prefix(\"/new/\")",
    );
}

#[test]
fn rewrites_change_path_and_authority() {
    of(
        "
- matches: [{path: {value: /old}}]
  filters: [{type: URLRewrite, urlRewrite: {hostname: b.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]
  backendRefs: [{name: b, port: 9080}, {name: c, port: 9080}]
- filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /x}}}]
  backendRefs: [{name: b, port: 9080}]",
        &format!(
            "default path=/old/* -> {B}*1 {C}*1 prefix:=/ authority:=b.example
             default path=/* -> {B}*1 path:=/x"
        ),
    );
}

/// With one backend they mean the same as filters of the rule; with several the data plane cannot tell them apart.
#[test]
fn filters_of_the_only_backend_are_those_of_the_rule() {
    of(
        "
- matches: [{path: {value: /rewrite}}]
  backendRefs:
  - {name: b, port: 9080, filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}]}
  - {name: c, port: 9080, weight: 0}
- matches: [{path: {value: /redirect}}]
  backendRefs: [{name: b, port: 9080, filters: [{type: RequestRedirect, requestRedirect: {port: 1}}]}]
- matches: [{path: {value: /missing}}]
  backendRefs: [{name: x, port: 9080, filters: [{type: RequestRedirect, requestRedirect: {port: 1}}]}]",
        &format!(
            "default path=/redirect/* -> 302 scheme=\"\" authority=\"\" port=Exact(1) path=Keep
             default path=/rewrite/* -> {B}*1 prefix:=/new
             default path=/missing/* -> outbound|9080||x.default.svc.cluster.local*1!500
             error [IST0101] HTTPRoute default/r f.yaml:14:26: backend Service default/x does not exist (define the Service or ServiceEntry, or correct the host)"
        ),
    );
    of(
        "
- filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /rule}}}]
  backendRefs: [{name: b, port: 9080, filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /backend}}}]}]
- matches: [{path: {value: /several}}]
  backendRefs:
  - {name: b, port: 9080, filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /backend}}}]}
  - {name: c, port: 9080, filters: [{type: RequestMirror, requestMirror: {backendRef: {name: b, port: 9080}}}]}",
        &format!(
            "default path=/several/* -> {B}*1!500 {C}*1
             default path=/* -> {B}*1!500 path:=/rule
             warning [OUT0103] HTTPRoute default/r f.yaml:8:51: filter URLRewrite of backend b is not supported, because the rule has one, too; requests for that backend get 500 (put it into the `filters` of a rule of its own)
             warning [OUT0103] HTTPRoute default/r f.yaml:11:39: filter URLRewrite of backend b is not supported, because the rule has several backends; requests for that backend get 500 (put it into the `filters` of a rule of its own)
             warning [OUT0103] HTTPRoute default/r f.yaml:12:39: a RequestMirror filter on one of several backends is not supported: nothing is copied (put it into the rule's `filters`)"
        ),
    );
}

#[test]
fn a_filter_that_cannot_be_obeyed_is_never_passed_over() {
    of(
        "
- matches: [{path: {value: /extension}}]
  filters: [{type: ExtensionRef, extensionRef: {group: acme.example, kind: Waf, name: strict}}]
  backendRefs: [{name: b, port: 9080}]
- matches: [{path: {value: /auth}}]
  filters: [{type: ExternalAuth, externalAuth: {protocol: HTTP, backendRef: {name: c, port: 9080}, http: {path: /check}}}]
  backendRefs: [{name: b, port: 9080}]
- backendRefs:
  - {name: b, port: 9080, filters: [{type: ExtensionRef, extensionRef: {group: acme.example, kind: Waf, name: strict}}]}
  - {name: c, port: 9080}",
        &format!(
            "default path=/extension/* -> BlackHoleCluster*1!500
             default path=/auth/* -> BlackHoleCluster*1!500
             default path=/* -> {B}*1!500 {C}*1
             error [IST0101] HTTPRoute default/r f.yaml:8:15: filter Waf strict is of group \"acme.example\", which brings no filters here; requests that meet it get 500 (remove it, or use a filter of the Gateway API)
             warning [OUT0103] HTTPRoute default/r f.yaml:11:15: filter ExternalAuth is not supported yet; requests that meet it get 500 (remove it if the requests may pass without)
             error [IST0101] HTTPRoute default/r f.yaml:14:39: filter Waf strict is of group \"acme.example\", which brings no filters here; requests that meet it get 500 (remove it, or use a filter of the Gateway API)"
        ),
    );
}

#[test]
fn mirrors_get_a_share_and_a_bad_one_is_left_out() {
    let mirror = |text: &str| format!("{{type: RequestMirror, requestMirror: {{backendRef: {text}}}}}");
    of(
        &format!(
            "
- filters:
  - {}
  - {}
  - {}
  - {}
  - {}
  backendRefs: [{{name: b, port: 9080}}]",
            mirror("{name: c, port: 9080}"),
            mirror("{name: a, port: 9080}, percent: 42"),
            mirror("{name: b, port: 9080}, fraction: {numerator: 5, denominator: 1000}"),
            mirror("{name: b, port: 9080}, percent: 0"),
            mirror("{name: x, port: 9080}"),
        ),
        &format!(
            "default path=/* -> {B}*1 mirror={C}@1000000 mirror={A}@420000 mirror={B}@5000
             error [IST0101] HTTPRoute default/r f.yaml:12:64: backend Service default/x does not exist (define the Service or ServiceEntry, or correct the host)"
        ),
    );
}

#[test]
fn a_cors_filter_is_read_as_the_data_plane_obeys_it() {
    use outrigger_config::loader::load_text;
    use outrigger_config::translate::{View, translate};
    let rules = "
- filters:
  - type: CORS
    cors:
      allowOrigins: ['https://www.foo.com', 'https://*.bar.com:8443']
      allowMethods: [GET, OPTIONS]
      allowHeaders: [X-Header-1]
      exposeHeaders: ['*', x-header-3]
      allowCredentials: true
  backendRefs: [{name: b, port: 9080}]
- matches: [{path: {value: /star}}]
  filters: [{type: CORS, cors: {allowOrigins: ['*'], allowMethods: ['*'], allowHeaders: ['*'], maxAge: 60}}]
  backendRefs: [{name: b, port: 9080}]";
    let yaml = http_route("r", rules) + &base();
    let (resources, _) = load_text("f.yaml", &yaml);
    let (snapshot, _) = translate(&resources, &View::default());
    let hosts = &crate::dump::outbound(&snapshot).virtual_hosts;
    let host = hosts.iter().find(|h| h.name.starts_with("a.default")).expect("a virtual host");
    let found: Vec<String> = host.routes.iter().map(|r| format!("{:?}", r.cors.as_ref().expect("a policy"))).collect();
    assert_eq!(
        found,
        [
            r#"Cors { origins: [Exact("*")], methods: ["*"], headers: [HeaderName("*")], expose: [], max_age: Some(60s), credentials: false, forward_unmatched_preflights: false }"#,
            r#"Cors { origins: [Regex(Pattern("(?i)https://www\\.foo\\.com(:443)?")), Regex(Pattern("(?i)https://[^/:]+\\.bar\\.com:8443"))], methods: ["GET", "OPTIONS"], headers: [HeaderName("x-header-1")], expose: [HeaderName("x-header-3")], max_age: Some(5s), credentials: true, forward_unmatched_preflights: false }"#,
        ]
    );
    check(
        "",
        "findings",
        &yaml,
        "warning [OUT0102] HTTPRoute default/r f.yaml:13:24: spec.rules[0].filters[0].cors.exposeHeaders: with `allowCredentials`, `*` means a header of that name and is left out (name the headers)",
    );
}

#[test]
fn time_limits_hold_and_retries_come_later() {
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
            "default path=/retry/* -> {B}*1 tries=1+4/100ms:connect-failure,refused-stream,reset,500,503
             default path=/off/* -> {B}*1 per-try=2s
             default path=/* -> {B}*1 timeout=60s per-try=500ms
             warning [OUT0103] HTTPRoute default/r f.yaml:13:12: spec.rules[2].retry: {LATER}
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
