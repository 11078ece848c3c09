//! VirtualServices: matches, order, weights, header operations, rewriting, delegation, and what is reported.

use crate::dump::{check, dump, service};

fn virtual_service(http: &str) -> String {
    let http = http.trim_end().replace('\n', "\n  ");
    format!(
        "---\napiVersion: networking.istio.io/v1alpha3\nkind: VirtualService\nmetadata: {{name: v}}\nspec:\n  hosts: [a]\n  http:\n  {http}\n"
    )
}

fn base() -> String {
    service("default", "a", &[("v1", 9001), ("v2", 9002)])
        + &service("default", "b", &[])
        + "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a}
spec: {host: a, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
"
}

/// The routes of host `a`, and findings, for an anonymous client.
#[track_caller]
fn of(http: &str, expected: &str) {
    let expected = format!("a.default.svc.cluster.local:9080\n{expected}");
    check("", "routes findings host=a.default", &(base() + &virtual_service(http)), &expected);
}

const V1: &str = "outbound|9080|v1|a.default.svc.cluster.local";
const V2: &str = "outbound|9080|v2|a.default.svc.cluster.local";
const A: &str = "outbound|9080||a.default.svc.cluster.local";

#[test]
fn blocks_are_alternatives_and_their_conditions_add_up() {
    of(
        "
- name: rule
  match:
  - {name: one, uri: {prefix: /foo}, method: {exact: GET}, headers: {End-User: {exact: jason}, x-any: {}, x-re: {regex: '*'}, cookie: {regex: '^(.*?;)?(u=1)(;.*)?$'}}}
  - {uri: {exact: /bar}, ignoreUriCase: true, scheme: {exact: https}, authority: {prefix: API.}}
  - {uri: {regex: '/a/[0-9]+'}, withoutHeaders: {x-debug: {}, x-mode: {exact: slow}}, queryParams: {q: {exact: ''}, r: {prefix: x}, s: {}}}
  route: [{destination: {host: a, subset: v1}}]
- route: [{destination: {host: a, subset: v2}}]",
        &format!(
            "rule.one path=/foo* method=GET header:end-user=jason header:x-any? header:x-re? header:cookie~^(.*?;)?(u=1)(;.*)?$ -> {V1}*1
             rule path=/bar nocase scheme=https authority=api.* -> {V1}*1
             rule path~/a/[0-9]+ !header:x-debug? !header:x-mode=slow query:q= query:r=x* query:s? -> {V1}*1
             default -> {V2}*1"
        ),
    );
}

#[test]
fn a_catch_all_ends_the_list_and_dead_rules_are_named() {
    of(
        "
- match: [{uri: {prefix: /x}}]
  route: [{destination: {host: a, subset: v1}}]
- name: all
  match: [{uri: {prefix: /}}]
  route: [{destination: {host: a, subset: v2}}]
- name: dead
  route: [{destination: {host: a, subset: v1}}]",
        &format!(
            "default path=/x* -> {V1}*1
             all path=/* -> {V2}*1
             warning [IST0130] VirtualService default/v f.yaml:42:5: http[2] (dead) can never be reached: http[1] (all) at f.yaml:39:5 takes every request (move it in front of that rule, or give that rule a match)"
        ),
    );
    let repeated = base()
        + &virtual_service(
            "
- match: [{uri: {exact: /x}}, {uri: {exact: /y}}]
  route: [{destination: {host: a}}]
- match: [{uri: {exact: /y}}]
  route: [{destination: {host: a}}]
- match: [{uri: {exact: /x}}, {uri: {exact: /z}}]
  route: [{destination: {host: a}}]",
        );
    check("", "codes", &repeated, "IST0130 39\nIST0131 41");
}

#[test]
fn weights_are_relative_and_one_alone_gets_everything() {
    let two = |a: &str, b: &str| {
        format!("- route: [{{destination: {{host: a, subset: v1}}{a}}}, {{destination: {{host: a, subset: v2}}{b}}}]")
    };
    of(&two(", weight: 1", ", weight: 3"), &format!("default -> {V1}*1 {V2}*3"));
    of(&two(", weight: 1", ", weight: 0"), &format!("default -> {V1}*1"));
    of(&two("", ", weight: 5"), &format!("default -> {V2}*5"));
    of("- route: [{destination: {host: a, subset: v1}, weight: 0}]", &format!("default -> {V1}*1"));
    of(
        &two("", ""),
        &format!(
            "default -> {A}*1
             error [IST0106] VirtualService default/v f.yaml:36:5: spec.http[0]: all weights are zero or absent, so no destination gets a request (give at least one destination a weight of 1 or more)"
        ),
    );
    of(
        &two(", weight: -1", ", weight: 1"),
        &format!(
            "default -> {A}*1
             error [IST0106] VirtualService default/v f.yaml:36:58: spec.http[0].route[0].weight: found the number -1, expected an integer from 0 to 2147483647"
        ),
    );
}

#[test]
fn missing_destinations_keep_their_share_and_say_what_is_there() {
    of(
        "
- route:
  - {destination: {host: a, subset: v11}, weight: 1}
  - {destination: {host: c}, weight: 1}
  - {destination: {host: b, subset: v1}, weight: 1}
  - {destination: {host: b, port: {number: 81}}, weight: 1}
  - {destination: {host: b}, weight: 6}",
        r#"default -> outbound|9080|v11|a.default.svc.cluster.local*1!503 outbound|9080||c.default.svc.cluster.local*1!503 outbound|9080|v1|b.default.svc.cluster.local*1!503 outbound|81||b.default.svc.cluster.local*1!503 outbound|9080||b.default.svc.cluster.local*6
           error [IST0101] VirtualService default/v f.yaml:38:39: subset "v11" of a.default.svc.cluster.local is not defined; DestinationRule default/a defines: v1, v2 (did you mean `v1`?)
           error [IST0101] VirtualService default/v f.yaml:39:28: destination host "c" (c.default.svc.cluster.local) is no known service (define the Service or ServiceEntry, or correct the host)
           error [IST0101] VirtualService default/v f.yaml:40:39: subset "v1" of b.default.svc.cluster.local is not defined: no DestinationRule counts for it (define the subset in a DestinationRule for this host)
           error [IST0101] VirtualService default/v f.yaml:41:37: b.default.svc.cluster.local has no port 81; its ports are 9080 (http) (use one of its ports)"#,
    );
}

#[test]
fn the_port_of_a_destination_is_its_only_one_or_that_of_the_request() {
    let yaml = |ports: &str| {
        base()
            + &format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: c}}\nspec: {{ports: {ports}}}\n")
            + &virtual_service("- route: [{destination: {host: c}}]")
    };
    let head = "a.default.svc.cluster.local:9080\ndefault ->";
    let show = "routes findings host=a.default";
    check("", show, &yaml("[{name: http, port: 80}]"), &format!("{head} outbound|80||c.default.svc.cluster.local*1"));
    check(
        "",
        show,
        &yaml("[{name: http, port: 80}, {name: http-x, port: 9080}]"),
        &format!(
            "{head} outbound|9080||c.default.svc.cluster.local*1
             warning [IST0112] VirtualService default/v f.yaml:41:34: destination c.default.svc.cluster.local has several ports (80 (http), 9080 (http-x)) and none is named; a request goes to the port it came for (add `port: {{number: …}}` to the destination)"
        ),
    );
    check(
        "",
        show,
        &yaml("[{name: http, port: 80}, {name: http-x, port: 81}]"),
        &format!(
            "{head} outbound|9080||c.default.svc.cluster.local*1!503
             error [IST0112] VirtualService default/v f.yaml:41:34: destination c.default.svc.cluster.local has several ports (80 (http), 81 (http-x)), none is named, and 9080 is not among them (add `port: {{number: …}}` to the destination)"
        ),
    );
}

#[test]
fn conditions_on_source_and_port_are_decided_here() {
    let http = "
- match: [{sourceLabels: {app: web}, uri: {exact: /l}}]
  route: [{destination: {host: a, subset: v1}}]
- match: [{sourceNamespace: shop, uri: {exact: /n}}]
  route: [{destination: {host: a, subset: v1}}]
- match: [{port: 9080, uri: {exact: /p}}, {port: 80, uri: {exact: /q}}]
  route: [{destination: {host: a, subset: v1}}]
- match: [{gateways: [mesh], uri: {exact: /m}}, {gateways: [gw], uri: {exact: /g}}]
  route: [{destination: {host: a, subset: v1}}]
- match: [{uri: {exact: /z}}]
  route: [{destination: {host: a, subset: v2}}]";
    let client = |namespace: &str, name: &str| {
        format!(
            "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  selector: {{matchLabels: {{app: {name}}}}}\n  template: {{metadata: {{labels: {{app: {name}}}}}, spec: {{containers: [{{name: c}}]}}}}\n"
        )
    };
    let yaml = base() + &virtual_service(http) + &client("default", "web") + &client("shop", "job");
    let at = |from: &str, paths: &str| {
        let lines: String =
            paths.split(' ').map(|p| format!("default path={p} -> {}*1\n", if p == "/z" { V2 } else { V1 })).collect();
        check(from, "routes host=a.default", &yaml, &format!("a.default.svc.cluster.local:9080\n{lines}"));
    };
    at("", "/p /m /z");
    at("default/web", "/l /p /m /z");
    at("shop/job", "/n /p /m /z");
    at("default/nobody", "/p /m /z");
}

#[test]
fn a_port_without_rules_keeps_its_default_route() {
    let two = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{name: http, port: 80}, {name: http-x, port: 81}]}\n".to_owned();
    let yaml = two + &virtual_service("- match: [{port: 80}]\n  route: [{destination: {host: a, port: {number: 81}}}]");
    check(
        "",
        "routes findings",
        &yaml,
        "a.default.svc.cluster.local:80
         default -> outbound|81||a.default.svc.cluster.local*1
         a.default.svc.cluster.local:81
         default -> outbound|81||a.default.svc.cluster.local*1",
    );
}

#[test]
fn headers_are_edited_at_both_levels_and_host_is_the_authority() {
    of(
        "
- headers:
    request: {set: {X-A: '1', Host: route.example}, add: {x-a: '2', x-b: 100%%}, remove: [x-c]}
    response: {add: {x-r: r}}
  route:
  - destination: {host: a, subset: v1}
    weight: 1
    headers: {request: {set: {':authority': one.example}}, response: {remove: [server]}}
  - {destination: {host: a, subset: v2}, weight: 1}",
        &format!(
            "default -> {V1}*1 response:-server {V2}*1 authority:=route.example request:x-a=1 request:x-b+=100% request:-x-c response:x-r+=r"
        ),
    );
    of(
        "
- route:
  - {destination: {host: a, subset: v1}, weight: 1, headers: {request: {set: {host: one.example}}}}
  - {destination: {host: a, subset: v2}, weight: 1, headers: {request: {add: {Host: two.example}}}}",
        &format!("default -> {V1}*1 authority:=one.example {V2}*1 authority:=two.example"),
    );
    of(
        "- route: [{destination: {host: a}, headers: {request: {set: {host: one.example}}}}]",
        &format!("default -> {A}*1 authority:=one.example"),
    );
    of(
        "
- rewrite: {authority: rewritten.example}
  headers: {request: {set: {host: header.example}}}
  route: [{destination: {host: a}}]",
        &format!("default -> {A}*1 authority:=rewritten.example"),
    );
}

#[test]
fn headers_that_inject_frame_or_vary_do_not_pass() {
    let error = |what: &str, expected: &str| {
        let http = format!("- headers: {{request: {what}}}\n  route: [{{destination: {{host: a}}}}]");
        of(&http, &format!("default -> {A}*1\n{expected}"));
    };
    error(
        "{set: {Content-Length: '1'}}",
        r#"error [IST0106] VirtualService default/v f.yaml:36:31: spec.http[0].headers.request.set["Content-Length"]: found "Content-Length", expected a header name: this header frames the message or belongs to one connection; a proxy sets it itself"#,
    );
    error(
        r#"{set: {x: "a\r\nb: c"}}"#,
        r#"error [IST0106] VirtualService default/v f.yaml:36:34: spec.http[0].headers.request.set["x"]: found "a\r\nb: c", expected a header value: byte 0x0d at offset 1 is not allowed in a header"#,
    );
    error(
        "{add: {x: '%REQ(y)%'}}",
        r#"warning [OUT0103] VirtualService default/v f.yaml:36:34: spec.http[0].headers.request.add["x"]: the variable `%REQ(y)%` is not supported yet; this header is left alone (write `%%` where a plain per cent sign is meant)"#,
    );
    error(
        "{set: {':path': /x}}",
        r#"warning [OUT0102] VirtualService default/v f.yaml:36:31: spec.http[0].headers.request.set[":path"]: pseudo-header ":path" cannot be edited here and stays as it is (use `rewrite` for path and authority)"#,
    );
}

#[test]
fn rewrites_replace_the_prefix_or_the_whole_path() {
    let rewrite = |matching: &str, rewrite: &str, expected: &str| {
        of(
            &format!("- match: [{{{matching}}}]\n  rewrite: {rewrite}\n  route: [{{destination: {{host: a}}}}]"),
            expected,
        );
    };
    rewrite("uri: {prefix: /v1/}", "{uri: /}", &format!("default path=/v1/* -> {A}*1 prefix:=/"));
    rewrite("uri: {exact: /x}", "{uri: /y}", &format!("default path=/x -> {A}*1 path:=/y"));
    rewrite("uri: {regex: '/x.*'}", "{uri: /y}", &format!("default path~/x.* -> {A}*1 path:=/y"));
    rewrite("method: {exact: GET}", "{uri: /y}", &format!("default path=/* method=GET -> {A}*1 prefix:=/y"));
    rewrite(
        "uri: {prefix: /s/}",
        r"{uriRegexRewrite: {match: '^/s/([^/]+)(/.*)$', rewrite: '\2/i/\1'}}",
        &format!(r"default path=/s/* -> {A}*1 path:s/^/s/([^/]+)(/.*)$/\2/i/\1/"),
    );
}

#[test]
fn redirects_and_direct_responses_answer() {
    of(
        "
- match: [{uri: {exact: /a}}]
  redirect: {uri: /b, authority: x.example, scheme: https, port: 8443, redirectCode: 308}
- match: [{uri: {prefix: /c}}]
  redirect: {prefixRewrite: /d, derivePort: FROM_PROTOCOL_DEFAULT}
- match: [{uri: {exact: /e}}]
  redirect: {derivePort: FROM_REQUEST_PORT}
- match: [{uri: {exact: /f}}]
  directResponse: {status: 503, body: {string: sorry}}
- directResponse: {status: 200, body: {bytes: aGVsbG8=}}",
        r#"default path=/a -> 308 scheme="https" authority="x.example" port=Exact(8443) path=Full("/b")
           default path=/c* -> 301 scheme="" authority="" port=ProtocolDefault path=Prefix("/d")
           default path=/e -> 301 scheme="" authority="" port=Request path=Keep
           default path=/f -> 503 "sorry"
           default -> 200 "hello""#,
    );
}

#[test]
fn a_rule_does_one_thing() {
    let error = |http: &str, expected: &str| {
        of(
            http,
            &format!(
                "default -> {A}*1\nerror [IST0106] VirtualService default/v f.yaml:36:5: spec.http[0]: {expected}"
            ),
        );
    };
    error("- name: x", "expected one of `route`, `redirect`, `directResponse` and `delegate`, found none");
    error(
        "- redirect: {uri: /}\n  route: [{destination: {host: a}}]",
        "`route` and `redirect` are given together, expected one of them (a rule does one thing; write two rules)",
    );
    error(
        "- redirect: {uri: /}\n  rewrite: {uri: /x}",
        "`rewrite` and `mirror` need a `route`: nothing is sent on (remove them from this rule)",
    );
}

#[test]
fn bad_patterns_are_errors_with_their_place() {
    let error = |regex: &str, expected: &str| {
        of(
            &format!("- match: [{{uri: {{regex: '{regex}'}}}}]\n  route: [{{destination: {{host: a}}}}]"),
            &format!(
                "default -> {A}*1\nerror [IST0106] VirtualService default/v f.yaml:36:27: spec.http[0].match[0].uri.regex: {expected}"
            ),
        );
    };
    error(
        "(?:a{1000}){1000}",
        "found \"(?:a{1000}){1000}\": compiles to more than 1048576 bytes; simplify its repetitions (RE2 has no look-around and no back-references)",
    );
    let look_around = dump(
        "",
        "findings",
        &(base() + &virtual_service("- match: [{uri: {regex: '(?=a)'}}]\n  route: [{destination: {host: a}}]")),
    );
    assert!(look_around.contains("look-around") && look_around.contains("f.yaml:36:27"), "{look_around}");
}

#[test]
fn what_a_rule_says_beside_its_route_is_translated() {
    let http = "
- timeout: 3s
  retries: {attempts: 3, perTryTimeout: 1s, retryOn: 'gateway-error,503'}
  fault: {delay: {fixedDelay: 5s, percentage: {value: 0.1}}, abort: {httpStatus: 555}}
  mirror: {host: b}
  mirrorPercentage: {value: 50}
  corsPolicy: {allowOrigins: [{exact: '*'}, {regex: 'x.*'}], allowMethods: [GET], maxAge: 24h}
  route: [{destination: {host: a}}]";
    check("", "codes", &(base() + &virtual_service(http)), "OUT0230 38");
    check(
        "",
        "routes host=a.default",
        &(base() + &virtual_service(http)),
        &format!(
            "a.default.svc.cluster.local:9080
             default -> {A}*1 timeout=3s per-try=1s tries=1+3/25ms-250ms:gateway-error,retriable-status-codes,503 fault=Fault {{ delay: Some(FaultDelay {{ delay: 5s, share: Fraction(1000) }}), abort: Some(FaultAbort {{ http_status: Some(555), grpc_status: None, share: Fraction(0) }}) }} mirror=outbound|9080||b.default.svc.cluster.local@500000 cors=[Prefix(\"\"), Regex(Pattern(\"x.*\"))]"
        ),
    );
}

#[test]
fn tcp_and_tls_rules_are_known_and_come_later() {
    let yaml = base()
        + "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\nspec:\n  hosts: [a]\n  tcp:\n  - match: [{port: 1}]\n    route: [{destination: {host: a}}]\n  tls:\n  - match: [{port: 443, sniHosts: [a]}]\n    route: [{destination: {host: a}}]\n";
    check("", "codes", &yaml, "OUT0103 36\nOUT0103 39");
}

#[test]
fn rules_for_gateways_alone_do_not_count_in_the_mesh() {
    let of = |gateways: &str, expected: &str, codes: &str| {
        let yaml = base()
            + &virtual_service("- route: [{destination: {host: b}}]")
                .replace("hosts: [a]", &format!("hosts: [a]\n  gateways: [{gateways}]"));
        check(
            "",
            "routes host=a.default codes",
            &yaml,
            &format!("a.default.svc.cluster.local:9080\ndefault -> {expected}*1\n{codes}"),
        );
    };
    of("gw", A, "IST0101 35");
    of("gw, mesh", "outbound|9080||b.default.svc.cluster.local", "IST0101 35");
    of("mesh", "outbound|9080||b.default.svc.cluster.local", "");
}

#[test]
fn virtual_services_are_exported_and_the_private_one_is_asked_first() {
    let rule = |name: &str, namespace: &str, export: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  hosts: [a.default.svc.cluster.local]\n  exportTo: [{export}]\n  http:\n  - name: {name}\n    directResponse: {{status: 200}}\n"
        )
    };
    let of = |rules: &[String], expected: &str| {
        let yaml = rules.iter().fold(base(), |yaml, rule| yaml + rule);
        check("", "routes host=a.default", &yaml, &format!("a.default.svc.cluster.local:9080\n{expected}"));
    };
    of(&[rule("x", "shop", "'.'")], &format!("default -> {A}*1"));
    of(&[rule("x", "shop", "default")], "x -> 200 \"\"");
    of(&[rule("x", "shop", "'*'"), rule("z", "default", "'.'")], "z -> 200 \"\"");
}

fn delegate(http: &str, more: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: leaf, namespace: shop}}\nspec:\n  http:\n{http}\n{more}"
    )
}

#[test]
fn a_delegate_adds_rules_within_the_roots_match() {
    let root = virtual_service(
        "
- name: root
  match: [{uri: {prefix: /api}, headers: {x-r: {exact: r}}}]
  headers: {request: {set: {x-root: '1'}}}
  delegate: {name: leaf, namespace: shop}
- route: [{destination: {host: a, subset: v1}}]",
    );
    let leaf = delegate(
        "
  - name: one
    match: [{uri: {prefix: /api/v1}}, {uri: {exact: /api/x}, method: {exact: GET}}]
    route: [{destination: {host: a.default.svc.cluster.local, subset: v2}}]
  - name: outside
    match: [{uri: {prefix: /other}}]
    route: [{destination: {host: a.default.svc.cluster.local, subset: v2}}]
  - headers: {request: {set: {x-leaf: '1'}}}
    route: [{destination: {host: a.default.svc.cluster.local}}]",
        "",
    );
    check(
        "",
        "routes findings host=a.default",
        &(base() + &root + &leaf),
        &format!(
            "a.default.svc.cluster.local:9080
             root-one path=/api/v1* header:x-r=r -> {V2}*1 request:x-root=1
             root-one path=/api/x method=GET header:x-r=r -> {V2}*1 request:x-root=1
             root path=/api* header:x-r=r -> {A}*1 request:x-leaf=1
             default -> {V1}*1
             warning [IST0130] VirtualService shop/leaf f.yaml:52:5: http[1] is left out: its match is not within that of the rule that delegates to it, f.yaml:37:5 (a delegate's match must be a subset of the root's)"
        ),
    );
}

#[test]
fn delegation_that_cannot_be_is_an_error() {
    let root = |name: &str| {
        virtual_service(&format!(
            "- match: [{{uri: {{prefix: /x}}}}]\n  delegate: {{name: {name}, namespace: shop}}\n- route: [{{destination: {{host: a}}}}]"
        ))
    };
    let leaf = delegate("  - route: [{destination: {host: b.default.svc.cluster.local}}]", "");
    let of = |yaml: &str, expected: &str| {
        check(
            "",
            "routes findings host=a.default",
            yaml,
            &format!("a.default.svc.cluster.local:9080\ndefault -> {A}*1\n{expected}"),
        );
    };
    of(
        &(base() + &root("lea") + &leaf),
        "error [IST0101] VirtualService default/v f.yaml:37:15: delegate shop/lea does not exist; its requests are not routed (did you mean `leaf`?)",
    );
    of(
        &(base() + &root("leaf") + &leaf.replace("  http:", "  exportTo: ['.']\n  http:")),
        "error [IST0101] VirtualService default/v f.yaml:37:15: delegate shop/leaf is not exported to default (add this namespace to its `exportTo`)",
    );
    of(
        &(base() + &root("leaf") + &leaf.replace("  http:", "  hosts: [x.example]\n  http:")),
        "error [IST0101] VirtualService default/v f.yaml:37:15: shop/leaf is no delegate: it has hosts of its own (remove its `hosts`)",
    );
    let nested = delegate("  - delegate: {name: x}", "");
    of(
        &(base() + &root("leaf") + &nested),
        "error [IST0106] VirtualService shop/leaf f.yaml:45:5: spec: a delegate (a VirtualService without hosts) cannot delegate further (Istio allows one level of delegation)
         error [IST0101] VirtualService default/v f.yaml:37:15: delegate shop/leaf does not exist; its requests are not routed",
    );
}

#[test]
fn one_bad_object_does_not_take_down_the_rest() {
    let bad =
        virtual_service("- route: [{destination: {host: a}, wieght: 3, weight: x}]").replace("name: v}", "name: bad}");
    let good = virtual_service("- route: [{destination: {host: b}}]");
    check(
        "",
        "routes findings host=a.default",
        &(base() + &bad + &good),
        r#"a.default.svc.cluster.local:9080
           default -> outbound|9080||b.default.svc.cluster.local*1
           warning [OUT0101] VirtualService default/bad f.yaml:36:38: spec.http[0].route[0]: unknown field `wieght` (did you mean `weight`?)
           error [IST0106] VirtualService default/bad f.yaml:36:57: spec.http[0].route[0].weight: found the string "x", expected an integer from 0 to 2147483647"#,
    );
}
