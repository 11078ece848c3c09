//! Linkerd's annotations for retries and time limits: their words, and who wins over whom.

use crate::dump::{check, service};

const A: &str = "outbound|9080||a.default.svc.cluster.local";
const SAFE: &str = "connect-failure,refused-stream";

/// `metadata.annotations` of pairs `KEY VALUE`, with `r/` and `t/` for Linkerd's prefixes.
fn annotations(pairs: &[&str]) -> String {
    let pair = |pair: &&str| {
        let (key, value) = pair.split_once(' ').expect("KEY VALUE");
        let key = key.replace("r/", "retry.linkerd.io/").replace("t/", "timeout.linkerd.io/");
        format!("{key}: \"{value}\"")
    };
    format!("annotations: {{{}}}", pairs.iter().map(pair).collect::<Vec<_>>().join(", "))
}

fn of_service(pairs: &[&str]) -> String {
    service("default", "a", &[])
        .replace("namespace: default}", &format!("namespace: default, {}}}", annotations(pairs)))
}

/// A route of a Service for itself, of a kind, with annotations and what its rule says beside.
fn route(kind: &str, pairs: &[&str], rule: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: r, {}}}\nspec:\n  parentRefs: [{{group: '', kind: Service, name: a}}]\n  rules:\n  - backendRefs: [{{name: a, port: 9080}}]\n    {rule}\n",
        annotations(pairs)
    )
}

fn virtual_service(rule: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v}}\nspec:\n  hosts: [a]\n  http:\n  - route: [{{destination: {{host: a}}}}]\n    {rule}\n"
    )
}

#[track_caller]
fn at(yaml: &str, expected: &str) {
    check("", "routes findings host=a.", yaml, &format!("a.default.svc.cluster.local:9080\ndefault {expected}"));
}

#[test]
fn the_words_of_a_service_count_for_its_requests_and_calls() {
    let of = |pairs: &[&str], expected: &str| at(&of_service(pairs), &format!("-> {A}*1{expected}"));
    of(&["r/http 5xx"], &format!(" tries=1+1/25ms-250ms:{SAFE},retriable-status-codes,500-599"));
    of(&["r/http gateway-error,429"], &format!(" tries=1+1/25ms-250ms:{SAFE},retriable-status-codes,429,502-504"));
    of(&["r/http 500-502, 504"], &format!(" tries=1+1/25ms-250ms:{SAFE},retriable-status-codes,500-502,504"));
    of(
        &["r/grpc Cancelled,deadline-exceeded,internal,resource-exhausted,unavailable", "r/limit 3"],
        &format!(" tries=1+3/25ms-250ms:{SAFE},cancelled,deadline-exceeded,internal,resource-exhausted,unavailable"),
    );
    // A try whose own time is over is repeated, which is a word of its own here.
    of(
        &["r/http 503", "r/timeout 300ms"],
        " per-try=300ms tries=1+1/25ms-250ms:reset,connect-failure,refused-stream,retriable-status-codes,503",
    );
    // A limit of 0 is not given, and so is a set of nothing else.
    of(&["r/limit 0"], "");
    of(&["r/limit 4"], &format!(" tries=1+4/25ms-250ms:{SAFE}"));
    of(&["t/request 2s"], " timeout=2s");
    of(&["t/request 2s", "t/response 500ms"], " timeout=500ms");
    of(&["t/response 0"], "");
}

#[test]
fn idle_times_are_reported() {
    at(
        &of_service(&["t/idle 5s", "t/response 1s"]),
        &format!(
            "-> {A}*1 timeout=1s\nwarning [OUT0103] Service default/a f.yaml:3:80: metadata.annotations[timeout.linkerd.io/idle]: understood, but a route has no idle time of its own yet (a limit on the whole exchange is `response`)"
        ),
    );
}

#[test]
fn a_slip_leaves_the_set_out_and_is_named() {
    let of = |pairs: &[&str], finding: &str| {
        at(&of_service(pairs), &format!("-> {A}*1\nwarning [OUT0102] Service default/a f.yaml:3:{finding}"));
    };
    of(
        &["r/http 5x", "r/limit 3"],
        "78: metadata.annotations[retry.linkerd.io/http]: found \"5x\", expected `5xx`, `gateway-error`, status codes and ranges such as `502-504`, with commas between them (no `retry.linkerd.io` annotation of this object counts until it is corrected)",
    );
    of(
        &["r/grpc aborted"],
        "78: metadata.annotations[retry.linkerd.io/grpc]: found \"aborted\", expected `cancelled`, `deadline-exceeded`, `internal`, `resource-exhausted`, `unavailable`, with commas between them (no `retry.linkerd.io` annotation of this object counts until it is corrected)",
    );
    of(
        &["r/limit many"],
        "79: metadata.annotations[retry.linkerd.io/limit]: found \"many\", expected a number from 0 to 65535 (no `retry.linkerd.io` annotation of this object counts until it is corrected)",
    );
    of(
        &["t/request 1.5s", "t/response 1s"],
        "83: metadata.annotations[timeout.linkerd.io/request]: found \"1.5s\", expected a whole number with a unit (`ms`, `s`, `m`, `h`, `d`), such as `300ms` (no `timeout.linkerd.io` annotation of this object counts until it is corrected)",
    );
    let misspelt = of_service(&["r/limits 3"]);
    at(
        &misspelt,
        &format!(
            "-> {A}*1\nwarning [OUT0101] Service default/a f.yaml:3:80: metadata.annotations[retry.linkerd.io/limits]: no such annotation of Linkerd (did you mean `retry.linkerd.io/limit`?)"
        ),
    );
}

#[test]
fn a_route_has_its_own_sets_or_those_of_its_service() {
    let service = of_service(&["r/http 5xx", "r/limit 5", "t/response 9s"]);
    let of_service = format!("tries=1+5/25ms-250ms:{SAFE},retriable-status-codes,500-599");
    let http = |pairs: &[&str], rule: &str, expected: &str| {
        at(&(service.clone() + &route("HTTPRoute", pairs, rule)), &format!("path=/* -> {A}*1 {expected}"));
    };
    http(&[], "name: default", &format!("timeout=9s {of_service}"));
    // One annotation makes the whole set; the other set stays the Service's.
    http(&["r/limit 2"], "name: default", &format!("timeout=9s tries=1+2/25ms-250ms:{SAFE}"));
    http(&["t/request 3s"], "name: default", &format!("timeout=3s {of_service}"));
    // Fields win over annotations.
    http(
        &["r/http 503", "r/timeout 2s", "t/response 1s"],
        "timeouts: {request: 4s, backendRequest: 1s}",
        "timeout=4s per-try=1s tries=1+1/25ms-250ms:reset,connect-failure,refused-stream,retriable-status-codes,503",
    );
    http(&[], "timeouts: {request: 0s}", &of_service);
    http(
        &["r/http 5xx"],
        "retry: {codes: [500], attempts: 1}",
        &format!("timeout=9s tries=1+1/25ms-250ms:reset,{SAFE},retriable-status-codes,500"),
    );
}

#[test]
fn a_virtual_service_wins_by_its_fields() {
    let service = of_service(&["r/http 503", "t/response 9s"]);
    let of =
        |rule: &str, expected: &str| at(&(service.clone() + &virtual_service(rule)), &format!("-> {A}*1{expected}"));
    let annotated = format!("tries=1+1/25ms-250ms:{SAFE},retriable-status-codes,503");
    of("name: default", &format!(" timeout=9s {annotated}"));
    of("timeout: 2s", &format!(" timeout=2s {annotated}"));
    of("timeout: 0s", &format!(" {annotated}"));
    of("retries: {attempts: 3, retryOn: unavailable}", " timeout=9s tries=1+3/25ms-250ms:unavailable");
}

#[test]
fn annotations_win_over_the_mesh() {
    let mesh = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: 'defaultHttpRetryPolicy: {attempts: 7, retryOn: reset, backoff: 1s}'\n";
    // Of the mesh's policy the back-off is left, which Linkerd has no word for.
    at(&(of_service(&["r/http 503"]) + mesh), &format!("-> {A}*1 tries=1+1/1s-10s:{SAFE},retriable-status-codes,503"));
}

#[test]
fn a_grpc_route_has_the_words_of_calls() {
    let yaml =
        of_service(&[]) + &route("GRPCRoute", &["r/grpc unavailable", "r/http 5xx", "r/limit 2"], "name: default");
    let yaml = yaml.replace("name: http,", "name: grpc,");
    at(
        &yaml,
        &format!(
            "path=/* -> {A}*1 tries=1+2/25ms-250ms:{SAFE},unavailable
             warning [OUT0102] GRPCRoute default/r f.yaml:9:96: metadata.annotations[retry.linkerd.io/http]: it has no effect on a GRPCRoute (use `retry.linkerd.io/grpc`)"
        ),
    );
    at(
        &(of_service(&[]) + &route("HTTPRoute", &["r/grpc unavailable"], "name: default")),
        &format!(
            "path=/* -> {A}*1\nwarning [OUT0102] HTTPRoute default/r f.yaml:9:58: metadata.annotations[retry.linkerd.io/grpc]: it has no effect on an HTTPRoute (use `retry.linkerd.io/http`, or a GRPCRoute)"
        ),
    );
}

#[test]
fn who_asks_for_statuses_is_told_what_is_safe() {
    let told = |key: &str, column: u32| {
        format!(
            "info [OUT0230] Service default/a f.yaml:3:{column}: metadata.annotations[{key}]: requests that are not idempotent (POST, PATCH) and have no Idempotency-Key are not repeated once they may have reached the application (if they may be, annotate the object or its Service with `outrigger.dev/retry-non-idempotent: \"true\"`)"
        )
    };
    check("", "all-findings", &of_service(&["r/http 5xx"]), &told("retry.linkerd.io/http", 78));
    check("", "all-findings", &of_service(&["r/limit 2"]), "");
    check("", "all-findings", &of_service(&["r/http 5xx", "outrigger.dev/retry-non-idempotent true"]), "");
}
