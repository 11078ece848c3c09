//! Filters of HTTPRoutes: each as the model has it, at a rule and at a backend, and what happens to those that cannot be
//! obeyed.

use outrigger_config::loader::load_text;
use outrigger_config::translate::{View, translate};

use crate::dump::{check, outbound};
use crate::http_routes::{A, B, C, base, http_route, of};

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
    let hosts = &outbound(&snapshot).virtual_hosts;
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
