//! HTTPRoutes that the API server would refuse: each stays out, with the reason and the place.

use outrigger_config::loader::load_text;

const BACKEND: &str = "backendRefs: [{name: b, port: 80}]";

/// The only error in an HTTPRoute with this `spec`, without object and hint: `LINE:COLUMN: MESSAGE`. Line 5 is that of the
/// spec.
fn error(spec: &str) -> String {
    let yaml = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r}}\nspec:\n  {{{spec}}}\n"
    );
    let (resources, findings) = load_text("f.yaml", &yaml);
    let errors: Vec<String> = findings
        .iter()
        .filter(|f| f.code.0 == "IST0106")
        .map(|f| {
            let place = f.place.as_ref().expect("a place");
            format!("{}:{}: {}", place.line, place.column, f.message)
        })
        .collect();
    assert_eq!(resources.http_routes.is_empty(), !errors.is_empty(), "{findings:#?}");
    errors.join("\n")
}

/// Of a rule.
#[track_caller]
fn rule(rule: &str, expected: &str) {
    let found = error(&format!("rules: [{{{rule}}}]"));
    let found = found.split_once(": ").map_or(&*found, |(_, message)| message);
    assert_eq!(found, expected, "{rule}");
}

#[test]
fn paths_have_one_form() {
    let of = |value: &str, expected: &str| {
        let expected = if expected.is_empty() {
            String::new()
        } else {
            format!("spec.rules[0].matches[0].path.value: found the string {value:?}, expected a path {expected}")
        };
        rule(&format!("matches: [{{path: {{value: '{value}'}}}}], {BACKEND}"), &expected);
        rule(&format!("matches: [{{path: {{type: Exact, value: '{value}'}}}}], {BACKEND}"), &expected);
        rule(&format!("matches: [{{path: {{type: RegularExpression, value: '{value}'}}}}], {BACKEND}"), "");
    };
    of("/a-b_c.d~e/!$&()*+,;=:@%2e%C3", "");
    of("a", "that begins with `/`");
    of("/a//b", "without `//`");
    of("/a/./b", "without `/./`");
    of("/../a", "without `/../`");
    of("/a%2fb", "without `%2f`");
    of("/a%2Fb", "without `%2F`");
    of("/a#b", "without `#`");
    of("/a/..", "that does not end with `/..`");
    of("/a/.", "that does not end with `/.`");
    for bad in ["/a b", "/a?b", "/%2", "/%zz", "/\u{e9}", "/[a]"] {
        of(bad, "of letters, digits, `/-._~!$&'()*+,;=:@` and `%` with two hexadecimal digits");
    }
}

#[test]
fn regular_expressions_are_bounded_and_re2() {
    rule(
        &format!("matches: [{{path: {{type: RegularExpression, value: '/(?=a)'}}}}], {BACKEND}"),
        "spec.rules[0].matches[0].path.value: found \"/(?=a)\": not an RE2 regular expression: look-around, including look-ahead and look-behind, is not supported",
    );
    rule(
        &format!("matches: [{{path: {{type: RegularExpression}}}}], {BACKEND}"),
        "spec.rules[0].matches[0].path: required field `value` is missing",
    );
    rule(
        &format!("matches: [{{headers: [{{name: a, type: RegularExpression, value: '['}}]}}], {BACKEND}"),
        "spec.rules[0].matches[0].headers[0].value: found \"[\": not an RE2 regular expression: unclosed character class",
    );
}

#[test]
fn matches_name_what_there_is() {
    rule(
        &format!("matches: [{{method: get}}], {BACKEND}"),
        "spec.rules[0].matches[0].method: found the string \"get\", expected one of `GET`, `HEAD`, `POST`, `PUT`, `DELETE`, `CONNECT`, `OPTIONS`, `TRACE`, `PATCH`",
    );
    rule(
        &format!("matches: [{{headers: [{{name: 'a b', value: c}}]}}], {BACKEND}"),
        "spec.rules[0].matches[0].headers[0].name: found \"a b\", expected a header name: byte 0x20 at offset 1 is not allowed in a header",
    );
    rule(
        &format!("matches: [{{queryParams: [{{name: a, value: ''}}]}}], {BACKEND}"),
        "spec.rules[0].matches[0].queryParams[0].value: found the string \"\", expected a string that is not empty",
    );
}

#[test]
fn what_is_named_is_named_once() {
    let twice =
        |at: &str, what: &str| format!("spec.rules[0].{at}[1]: {what:?} stands there already, expected each once");
    let two = "[{name: A, value: b}, {name: A, value: c}]";
    rule(&format!("matches: [{{headers: {two}}}], {BACKEND}"), &twice("matches[0].headers", "A"));
    rule(&format!("matches: [{{queryParams: {two}}}], {BACKEND}"), &twice("matches[0].queryParams", "A"));
    let edit = |operation: &str| {
        format!("filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{{operation}}}}}], {BACKEND}")
    };
    rule(&edit(&format!("set: {two}")), &twice("filters[0].requestHeaderModifier.set", "A"));
    rule(&edit(&format!("add: {two}")), &twice("filters[0].requestHeaderModifier.add", "A"));
    rule(&edit("remove: [x, x]"), &twice("filters[0].requestHeaderModifier.remove", "x"));
    let cors = |list: &str| format!("filters: [{{type: CORS, cors: {{{list}}}}}], {BACKEND}");
    rule(&cors("allowMethods: [GET, GET]"), &twice("filters[0].cors.allowMethods", "GET"));
    rule(&format!("retry: {{codes: [500, 500]}}, {BACKEND}"), &twice("retry.codes", "500"));
}

#[test]
fn a_redirect_stands_alone() {
    rule(
        &format!("filters: [{{type: RequestRedirect, requestRedirect: {{port: 1}}}}], {BACKEND}"),
        "spec.rules[0]: `backendRefs` and a RequestRedirect filter are given together: nothing is sent on",
    );
    rule(
        "filters: [{type: RequestRedirect, requestRedirect: {port: 1}}, {type: URLRewrite, urlRewrite: {hostname: a}}]",
        "spec.rules[0].filters[1]: found URLRewrite after RequestRedirect, expected one of them",
    );
    rule(
        "filters: [{type: CORS, cors: {}}, {type: CORS, cors: {}}]",
        "spec.rules[0].filters[1]: found a second CORS filter, expected one",
    );
    rule(
        "backendRefs: [{name: b, port: 80, filters: [{type: URLRewrite, urlRewrite: {}}, {type: URLRewrite, urlRewrite: {}}]}]",
        "spec.rules[0].backendRefs[0].filters[1]: found a second URLRewrite filter, expected one",
    );
    rule(
        "filters: [{type: RequestRedirect, requestRedirect: {statusCode: 304}}]",
        "spec.rules[0].filters[0].requestRedirect.statusCode: found the number 304, expected 301, 302, 303, 307 or 308",
    );
    rule(
        "filters: [{type: RequestRedirect, requestRedirect: {hostname: '*.example.com'}}]",
        "spec.rules[0].filters[0].requestRedirect.hostname: found the string \"*.example.com\", expected a host name in lower case such as `www.example.com`",
    );
    let mirror = "{type: RequestMirror, requestMirror: {backendRef: {name: b, port: 80}}}";
    rule(&format!("filters: [{mirror}, {mirror}], {BACKEND}"), "");
}

#[test]
fn a_replaced_prefix_needs_the_match_of_a_prefix() {
    let modify = |matches: &str, expected: &str| {
        let path = "path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}";
        let message = |at: &str| match expected {
            "" => String::new(),
            _ => format!(
                "spec.rules[0].{at}: `replacePrefixMatch` needs a rule with exactly one match, of type PathPrefix"
            ),
        };
        let redirect = format!("filters: [{{type: RequestRedirect, requestRedirect: {{{path}}}}}]");
        rule(&format!("{matches} {redirect}"), &message("filters[0]"));
        let rewrite = format!("filters: [{{type: URLRewrite, urlRewrite: {{{path}}}}}]");
        rule(&format!("{matches} {rewrite}, {BACKEND}"), &message("filters[0]"));
        let backend = format!("backendRefs: [{{name: b, port: 80, {rewrite}}}]");
        rule(&format!("{matches} {backend}"), &message("backendRefs[0].filters[0]"));
    };
    modify("", "");
    modify("matches: [{path: {value: /a}}],", "");
    modify("matches: [{headers: [{name: a, value: b}]}],", "");
    modify("matches: [{path: {type: Exact, value: /a}}],", "refused");
    modify("matches: [{path: {value: /a}}, {path: {value: /b}}],", "refused");
    rule(
        "filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, replacePrefixMatch: /x}}}]",
        "spec.rules[0].filters[0].requestRedirect.path: required field `replaceFullPath` is missing for type `ReplaceFullPath`\n5:71: spec.rules[0].filters[0].requestRedirect.path: `replacePrefixMatch` is given, and the type is `ReplaceFullPath`",
    );
}

#[test]
fn a_filter_has_the_field_of_its_type() {
    rule(
        &format!("filters: [{{type: CORS}}], {BACKEND}"),
        "spec.rules[0].filters[0]: required field `cors` is missing for type `CORS`",
    );
    rule(
        &format!("filters: [{{type: CORS, cors: {{}}, urlRewrite: {{}}}}], {BACKEND}"),
        "spec.rules[0].filters[0]: `urlRewrite` is given, and the type is `CORS`",
    );
    rule(
        &format!("filters: [{{type: Waf}}], {BACKEND}"),
        "spec.rules[0].filters[0].type: found the string \"Waf\", expected one of `RequestHeaderModifier`, `ResponseHeaderModifier`, `RequestMirror`, `RequestRedirect`, `URLRewrite`, `ExtensionRef`, `CORS`, `ExternalAuth`",
    );
    rule(
        &format!("filters: [{{type: CORS, cors: {{allowOrigins: ['*', 'https://a']}}}}], {BACKEND}"),
        "spec.rules[0].filters[0].cors.allowOrigins: `*` stands beside others, expected it alone",
    );
    rule(
        &format!("filters: [{{type: CORS, cors: {{allowOrigins: [a.example]}}}}], {BACKEND}"),
        "spec.rules[0].filters[0].cors.allowOrigins[0]: found the string \"a.example\", expected `*`, or an origin such as `https://www.example.com` or `https://*.example.com:8443`",
    );
}

#[test]
fn mirrors_have_one_share() {
    let mirror = |share: &str, expected: &str| {
        let filter = format!("{{type: RequestMirror, requestMirror: {{backendRef: {{name: b, port: 80}}, {share}}}}}");
        rule(&format!("filters: [{filter}], {BACKEND}"), expected);
    };
    let at = "spec.rules[0].filters[0].requestMirror";
    mirror(
        "percent: 1, fraction: {numerator: 1}",
        &format!("{at}: `percent` and `fraction` are both given, expected one of them"),
    );
    mirror("percent: 101", &format!("{at}.percent: found the number 101, expected an integer from 0 to 100"));
    mirror("fraction: {numerator: 101}", &format!("{at}.fraction: 101 of 100 is more than everything"));
    mirror(
        "fraction: {numerator: 0, denominator: 0}",
        &format!("{at}.fraction.denominator: found the number 0, expected an integer from 1 to 2147483647"),
    );
}

#[test]
fn backends_name_a_port_and_a_weight() {
    rule("backendRefs: [{name: b}]", "spec.rules[0].backendRefs[0]: required field `port` is missing");
    rule("backendRefs: [{name: b, kind: Bucket, group: acme.example}]", "");
    rule(
        "backendRefs: [{name: b, port: 80, weight: 1000001}]",
        "spec.rules[0].backendRefs[0].weight: found the number 1000001, expected an integer from 0 to 1000000",
    );
    rule(
        "backendRefs: [{name: b, port: 0}]",
        "spec.rules[0].backendRefs[0].port: found the number 0, expected an integer from 1 to 65535",
    );
    rule(
        "backendRefs: [{name: b, port: 80, namespace: Shop}]",
        "spec.rules[0].backendRefs[0].namespace: found the string \"Shop\", expected a name of at most 63 lower-case letters, digits and inner hyphens",
    );
}

#[test]
fn time_limits_have_the_form_of_gep_2257() {
    rule(
        &format!("timeouts: {{request: 1.5s}}, {BACKEND}"),
        "spec.rules[0].timeouts.request: found the string \"1.5s\", expected a duration such as `10s`, `1m30s` or `250ms` (whole numbers of at most five digits)",
    );
    rule(
        &format!("timeouts: {{request: 1s, backendRequest: 2s}}, {BACKEND}"),
        "spec.rules[0].timeouts: `backendRequest` (2s) is longer than `request` (1s)",
    );
    rule(&format!("timeouts: {{request: 0s, backendRequest: 2s}}, {BACKEND}"), "");
    rule(
        &format!("retry: {{codes: [200]}}, {BACKEND}"),
        "spec.rules[0].retry.codes[0]: found the number 200, expected an integer from 400 to 599",
    );
    rule(
        &format!("sessionPersistence: {{cookie: {{lifetimeType: Permanent}}}}, {BACKEND}"),
        "spec.rules[0].sessionPersistence: a cookie that is `Permanent` needs `absoluteTimeout`",
    );
    rule(
        &format!("sessionPersistence: {{type: Header}}, {BACKEND}"),
        "spec.rules[0].sessionPersistence: required field `header` is missing for type `Header`",
    );
}

#[test]
fn lists_are_bounded() {
    let rules = |count: usize, matches: usize| {
        let matches = vec!["{method: GET}"; matches].join(", ");
        format!("rules: [{}]", vec![format!("{{matches: [{matches}]}}"); count].join(", "))
    };
    assert_eq!(error(&rules(16, 8)), "");
    assert_eq!(error(&rules(17, 1)), "5:11: spec.rules: found a list of 17 items, expected at most 16");
    assert_eq!(error(&rules(1, 65)), "5:22: spec.rules[0].matches: found a list of 65 items, expected at most 64");
    assert_eq!(error(&rules(16, 9)), "5:3: spec.rules: found 144 matches in all rules, expected at most 128");
    assert_eq!(error("rules: []"), "5:11: spec.rules: found a list, expected at least one rule");
}

#[test]
fn names_are_unique_and_in_lower_case() {
    assert_eq!(
        error("rules: [{name: a}, {name: a}]"),
        "5:23: spec.rules[1]: the name \"a\" is that of an earlier rule"
    );
    assert_eq!(
        error("hostnames: [WWW.example.com]"),
        "5:16: spec.hostnames[0]: found the string \"WWW.example.com\", expected a host name in lower case such as `www.example.com`, or a wildcard such as `*.example.com`"
    );
    assert_eq!(error("hostnames: ['*.example.com', a, '1.2.3.4']"), "");
    for bad in ["'*'", "'*a.example'", "a.*", "'a..b'", "'a:80'", "''"] {
        assert!(error(&format!("hostnames: [{bad}]")).starts_with("5:16: spec.hostnames[0]: found"), "{bad}");
    }
}

#[test]
fn one_parent_is_named_once() {
    let of = |parents: &str, expected: &str| assert_eq!(error(&format!("parentRefs: [{parents}]")), expected);
    of("{name: a}, {name: b}, {name: a, namespace: other}, {name: a, kind: ListenerSet}", "");
    of("{name: a, sectionName: x}, {name: a, sectionName: z}", "");
    of("{name: a}, {name: a}", "5:28: spec.parentRefs[1]: the same parent is named twice");
    of(
        "{name: a, port: 1}, {name: a}",
        "5:37: spec.parentRefs[1]: the same parent is named once with and once without `sectionName` or `port`",
    );
}
