//! Retries and time limits of VirtualServices, HTTPRoutes and the mesh; our annotation; retry budgets.

use crate::dump::{check, service};

const A: &str = "outbound|9080||a.default.svc.cluster.local";

/// Services `a` and `b`, the first with annotations.
fn services(annotations: &str) -> String {
    let a =
        service("default", "a", &[]).replace("namespace: default}", &format!("namespace: default, {annotations}}}"));
    a + &service("default", "b", &[])
}

fn virtual_service(annotations: &str, rule: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v, {annotations}}}\nspec:\n  hosts: [a]\n  http:\n  - {rule}\n"
    )
}

fn mesh(text: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |-\n    {text}\n"
    )
}

const TO_A: &str = "route: [{destination: {host: a}}]";
const REPEAT: &str = "annotations: {outrigger.dev/retry-non-idempotent: \"true\"}";
const NEVER_REPEAT: &str = "annotations: {outrigger.dev/retry-non-idempotent: \"false\"}";

/// What a VirtualService with these `retries` makes of the default route, and its findings but for those of information.
#[track_caller]
fn of(retries: &str, expected: &str, findings: &str) {
    let yaml = services("") + &virtual_service("", &format!("retries: {retries}\n    {TO_A}"));
    check(
        "",
        "routes findings host=a.",
        &yaml,
        &format!("a.default.svc.cluster.local:9080\ndefault -> {A}*1{expected}\n{findings}"),
    );
}

#[test]
fn every_word_of_retry_on_is_taken() {
    for word in [
        "5xx",
        "gateway-error",
        "reset",
        "reset-before-request",
        "connect-failure",
        "envoy-ratelimited",
        "retriable-4xx",
        "refused-stream",
        "cancelled",
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "unavailable",
    ] {
        of(&format!("{{attempts: 1, retryOn: {word}}}"), &format!(" tries=1+1/25ms-250ms:{word}"), "");
    }
    of("{retryOn: '503, 429,reset, 503'}", " tries=1+2/25ms-250ms:reset,retriable-status-codes,429,503", "");
    of("{retryOn: 503}", " tries=1+2/25ms-250ms:retriable-status-codes,503", "");
    of("{retryOn: ''}", "", "");
}

#[test]
fn words_that_mean_nothing_are_named() {
    let idle = |word: &str, why: &str| {
        of(
            &format!("{{retryOn: '503,{word}'}}"),
            &format!(
                " tries=1+2/25ms-250ms:{},503",
                if word.starts_with("http3") {
                    "retriable-status-codes,http3-post-connect-failure"
                } else {
                    "retriable-status-codes,retriable-headers"
                }
            ),
            &format!(
                "warning [OUT0102] VirtualService default/v f.yaml:18:24: spec.http[0].retries.retryOn: `{word}` has no effect: {why}"
            ),
        );
    };
    idle(
        "retriable-headers",
        "Istio has no field for the names of the headers (name status codes instead, or remove it)",
    );
    idle("http3-post-connect-failure", "HTTP/3 is not spoken to upstreams (remove it)");
    of(
        "{retryOn: 'reset,retriable-status-codes'}",
        " tries=1+2/25ms-250ms:reset,retriable-status-codes",
        "warning [OUT0102] VirtualService default/v f.yaml:18:24: spec.http[0].retries.retryOn: `retriable-status-codes` has no effect: no status code stands beside it (add the codes, such as `503`)",
    );
    let misspelt = services("") + &virtual_service("", &format!("retries: {{retryOn: gateway-eror}}\n    {TO_A}"));
    check(
        "",
        "findings",
        &misspelt,
        "error [IST0106] VirtualService default/v f.yaml:18:24: spec.http[0].retries.retryOn: found \"gateway-eror\", expected a status code or one of `5xx`, `gateway-error`, `reset`, `reset-before-request`, `connect-failure`, `envoy-ratelimited`, `retriable-4xx`, `refused-stream`, `retriable-status-codes`, `retriable-headers`, `cancelled`, `deadline-exceeded`, `internal`, `resource-exhausted`, `unavailable`, `http3-post-connect-failure` (did you mean `gateway-error`?)",
    );
}

#[test]
fn attempts_times_and_back_off_are_taken() {
    of("{}", "", "");
    of("{attempts: 0}", " tries=1+0/25ms-250ms:connect-failure,refused-stream,cancelled,unavailable", "");
    of(
        "{attempts: 5, perTryTimeout: 2s, backoff: 100ms, retryRemoteLocalities: true, retryIgnorePreviousHosts: false}",
        " per-try=2s tries=1+5/100ms-1s:connect-failure,refused-stream,cancelled,unavailable elsewhere same-host",
        "",
    );
    of(
        "{attempts: 0, retryOn: 5xx}",
        " tries=1+0/25ms-250ms:5xx",
        "warning [OUT0102] VirtualService default/v f.yaml:18:14: spec.http[0].retries: `attempts` is 0, which turns retries off (remove the other fields)",
    );
}

/// Istio's policy of the mesh is for routes that have none; one that has some is completed by Istio's own default.
#[test]
fn the_policy_of_the_mesh_is_for_routes_without() {
    let policy = mesh("defaultHttpRetryPolicy: {attempts: 7, retryOn: reset, backoff: 1s, perTryTimeout: 3s}");
    let of_mesh = "tries=1+7/1s-10s:reset";
    let shown = "routes findings host=a.";
    let head = "a.default.svc.cluster.local:9080";
    let finding = |line: u32| {
        format!(
            "warning [OUT0102] ConfigMap istio-system/istio f.yaml:{line}:29: data.mesh.defaultHttpRetryPolicy: `perTryTimeout` has no effect in the policy of the mesh (set it in the `retries` of a route)"
        )
    };
    check("", shown, &(services("") + &policy), &format!("{head}\ndefault -> {A}*1 {of_mesh}\n{}", finding(17)));
    let without = services("") + &policy + &virtual_service("", TO_A);
    check("", shown, &without, &format!("{head}\ndefault -> {A}*1 {of_mesh}\n{}", finding(17)));
    let with = services("") + &policy + &virtual_service("", &format!("retries: {{attempts: 3}}\n    {TO_A}"));
    let own = "tries=1+3/25ms-250ms:connect-failure,refused-stream,cancelled,unavailable";
    check("", shown, &with, &format!("{head}\ndefault -> {A}*1 {own}\n{}", finding(17)));
    let off = services("") + &mesh("defaultHttpRetryPolicy: {attempts: 0}");
    let none = "tries=1+0/25ms-250ms:connect-failure,refused-stream,cancelled,unavailable";
    check("", shown, &off, &format!("{head}\ndefault -> {A}*1 {none}"));
}

/// Istio's translation leaves both in force for the requests that a fault passes over; a fault itself is not repeated.
#[test]
fn a_fault_leaves_time_and_retries_in_force() {
    let rule = format!(
        "timeout: 2s\n    retries: {{attempts: 1, retryOn: unavailable}}\n    fault: {{abort: {{httpStatus: 503, percentage: {{value: 50}}}}}}\n    {TO_A}"
    );
    check(
        "",
        "routes findings host=a.",
        &(services("") + &virtual_service("", &rule)),
        &format!(
            "a.default.svc.cluster.local:9080\ndefault -> {A}*1 timeout=2s tries=1+1/25ms-250ms:unavailable fault=Fault {{ delay: None, abort: Some(FaultAbort {{ http_status: Some(503), grpc_status: None, share: Fraction(500000) }}) }}"
        ),
    );
}

#[test]
fn a_hash_keeps_its_host_unless_the_route_says_otherwise() {
    let hash = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d}\nspec:\n  host: a\n  trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}\n";
    let at = |rule: &str, expected: &str| {
        let yaml = services("") + hash + &virtual_service("", rule);
        check("", "routes host=a.", &yaml, &format!("a.default.svc.cluster.local:9080\ndefault -> {expected}"));
    };
    at(TO_A, &format!("{A}*1 same-host"));
    at(&format!("retries: {{retryIgnorePreviousHosts: true}}\n    {TO_A}"), &format!("{A}*1"));
    let b = A.replace("||a.", "||b.");
    at("route: [{destination: {host: b}}]", &format!("{b}*1"));
    at("route: [{destination: {host: a}, weight: 1}, {destination: {host: b}, weight: 1}]", &format!("{A}*1 {b}*1"));
}

#[test]
fn who_asks_for_unsafe_retries_is_told_once_what_is_safe() {
    const TOLD: &str = "requests that are not idempotent (POST, PATCH) and have no Idempotency-Key are not repeated once they may have reached the application (if they may be, annotate the object or its Service with `outrigger.dev/retry-non-idempotent: \"true\"`)";
    let twice = "retries: {retryOn: 'connect-failure,5xx'}\n    match: [{uri: {exact: /x}}]\n    route: [{destination: {host: a}}]\n  - retries: {retryOn: reset}\n    route: [{destination: {host: a}}]";
    let told = format!("info [OUT0230] VirtualService default/v f.yaml:18:24: spec.http[0].retries.retryOn: {TOLD}");
    check("", "all-findings", &(services("") + &virtual_service("", twice)), &told);
    for silent in [
        virtual_service(REPEAT, twice),
        virtual_service(NEVER_REPEAT, twice),
        virtual_service("", &format!("retries: {{attempts: 3, retryOn: 'connect-failure,unavailable'}}\n    {TO_A}")),
        virtual_service("", &format!("retries: {{attempts: 3}}\n    {TO_A}")),
    ] {
        check("", "all-findings", &(services("") + &silent), "");
    }
    check(
        "",
        "all-findings",
        &(services("") + &http_route("", "retry: {attempts: 1}")),
        &format!("info [OUT0230] HTTPRoute default/r f.yaml:18:12: spec.rules[0].retry: {TOLD}"),
    );
}

#[test]
fn the_annotation_is_the_routes_and_else_its_services() {
    let at = |of_service: &str, rule: &str, expected: &str| {
        check(
            "",
            "routes findings host=a.",
            &(services(of_service) + rule),
            &format!("a.default.svc.cluster.local:9080\ndefault {expected}"),
        );
    };
    at(REPEAT, "", &format!("-> {A}*1 any-method"));
    at(REPEAT, &virtual_service("", TO_A), &format!("-> {A}*1 any-method"));
    at(REPEAT, &virtual_service(NEVER_REPEAT, TO_A), &format!("-> {A}*1"));
    at("", &virtual_service(REPEAT, TO_A), &format!("-> {A}*1 any-method"));
    at(REPEAT, &http_route("", "name: default"), &format!("path=/* -> {A}*1 any-method"));
    at("", &http_route(REPEAT, "name: default"), &format!("path=/* -> {A}*1 any-method"));
    at(
        "annotations: {outrigger.dev/retry-non-idempotent: 'yes'}",
        "",
        &format!(
            "-> {A}*1\nwarning [OUT0102] Service default/a f.yaml:3:91: metadata.annotations[outrigger.dev/retry-non-idempotent]: found \"yes\", expected \"true\" or \"false\"; it has no effect"
        ),
    );
}

fn http_route(annotations: &str, rule: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r, {annotations}}}\nspec:\n  parentRefs: [{{group: '', kind: Service, name: a}}]\n  rules:\n  - {rule}\n    backendRefs: [{{name: a, port: 9080}}]\n"
    )
}

#[test]
fn retry_of_an_http_route_repeats_failures_and_the_codes_it_names() {
    let at = |rule: &str, expected: &str| {
        check(
            "",
            "routes findings host=a.",
            &(services("") + &http_route("", rule)),
            &format!("a.default.svc.cluster.local:9080\ndefault path=/* -> {A}*1{expected}"),
        );
    };
    at("retry: {}", " tries=1+2/25ms-250ms:reset,connect-failure,refused-stream");
    at(
        "retry: {codes: [504, 500, 502, 503], attempts: 1}",
        " tries=1+1/25ms-250ms:reset,connect-failure,refused-stream,retriable-status-codes,500,502-504",
    );
    // No wait is shorter than `backoff`.
    at("retry: {attempts: 3, backoff: 2s}", " tries=1+3/2s+2s-20s:reset,connect-failure,refused-stream");
    at("retry: {attempts: 3, backoff: 10ms}", " tries=1+3/10ms+10ms-100ms:reset,connect-failure,refused-stream");
    at("retry: {attempts: 3, backoff: 0s}", " tries=1+3/0ns-0ns:reset,connect-failure,refused-stream");
    at(
        "retry: {attempts: 1}\n    timeouts: {request: 3s, backendRequest: 1s}",
        " timeout=3s per-try=1s tries=1+1/25ms-250ms:reset,connect-failure,refused-stream",
    );
    at("name: default", "");
    let many = services("") + &mesh("defaultHttpRetryPolicy: {attempts: 0}") + &http_route("", "retry: {}");
    check(
        "",
        "routes host=a.",
        &many,
        &format!(
            "a.default.svc.cluster.local:9080\ndefault path=/* -> {A}*1 tries=1+1/25ms-250ms:reset,connect-failure,refused-stream"
        ),
    );
}

fn rule(spec: &str) -> String {
    format!("---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: d}}\nspec: {spec}\n")
}

#[test]
fn budgets_are_the_rules_or_the_subsets() {
    let at = |policy: &str, expected: &str| {
        let yaml = service("default", "a", &[]) + &rule(policy);
        check("", "clusters findings", &yaml, expected);
    };
    at("{host: a, trafficPolicy: {retryBudget: {}}}", &format!("{A} least budget=200000/3/0ns by=default/d [0]"));
    at(
        "{host: a, trafficPolicy: {retryBudget: {percent: 12.5, minRetryConcurrency: 0, budgetInterval: 10s}}, subsets: [{name: v1}, {name: v2, trafficPolicy: {retryBudget: {percent: 0, minRetryConcurrency: 1}}}]}",
        "outbound|9080|v1|a.default.svc.cluster.local least budget=125000/3/10s by=default/d [0]
         outbound|9080|v2|a.default.svc.cluster.local least budget=0/1/0ns by=default/d [0]
         outbound|9080||a.default.svc.cluster.local least budget=125000/3/10s by=default/d [0]",
    );
    // Settings for a port replace the rule's, and have no budget.
    at(
        "{host: a, trafficPolicy: {retryBudget: {}, portLevelSettings: [{port: {number: 9080}, loadBalancer: {simple: RANDOM}}]}}",
        &format!("{A} random by=default/d [0]"),
    );
    at(
        "{host: a, trafficPolicy: {portLevelSettings: [{port: {number: 9080}, retryBudget: {}}]}}",
        &format!(
            "{A} least by=default/d [0]\nwarning [OUT0101] DestinationRule default/d f.yaml:10:76: spec.trafficPolicy.portLevelSettings[0]: unknown field `retryBudget` (it is ignored; remove it, or move it to where it belongs)"
        ),
    );
}

#[test]
fn limits_of_a_pool_are_taken_and_zero_is_none() {
    let yaml = service("default", "a", &[])
        + &rule(
            "{host: a, trafficPolicy: {connectionPool: {tcp: {maxConnections: 4, maxConnectionDuration: 1h}, http: {http1MaxPendingRequests: 0, http2MaxRequests: 9, maxRetries: 2}}}}",
        );
    check(
        "",
        "clusters findings",
        &yaml,
        &format!("{A} least pool,connections=4,requests=9,retries=2,age=3600s by=default/d [0]"),
    );
}

/// The examples of the documentation say what they mean, without a finding.
#[test]
fn the_examples_of_the_documentation_are_in_force() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/resilience.md");
    let text = std::fs::read_to_string(path).expect("the document is there");
    let examples: Vec<&str> = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    check(
        "",
        "routes clusters all-findings",
        &examples.join("---\n"),
        "search.default.svc.cluster.local:80
         default -> outbound|80||search.default.svc.cluster.local*1 tries=1+2/25ms-250ms:connect-failure,refused-stream,retriable-status-codes,503 any-method
         reviews.default.svc.cluster.local:9080
         default -> outbound|9080||reviews.default.svc.cluster.local*1
         outbound|80||search.default.svc.cluster.local least [0]
         outbound|9080||reviews.default.svc.cluster.local least outlier=3/10%,max=120,one-always,failures=100/60/5/50 budget=100000/3/0ns by=default/reviews [0]",
    );
}
