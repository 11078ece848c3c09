//! Cases of retries, timeouts, budgets and bodies that are sent again.

use super::cases::{Case, differs};
use super::client::Step::{AtOnce, InTurn};
use super::client::{CALL, GET, POST, Request};
use super::policy::{Limits, PLAIN, Policy, Retry};

const ONE: &[super::client::Step] = &[InTurn(1, GET)];
const ONE_POST: &[super::client::Step] = &[InTurn(1, POST)];
const ONE_CALL: &[super::client::Step] = &[InTurn(1, CALL)];

const fn put(body_bytes: usize) -> Request {
    Request { method: "PUT", lines: "", body_bytes, body_after_ms: 0 }
}

const fn over_http2(mut policy: Policy) -> Policy {
    policy.is_http2 = true;
    policy
}

const fn per_try(attempts: u32, on: &'static str, per_try_ms: u32) -> Policy {
    Policy { retry: Some(Retry { attempts, on, per_try_ms, back_off_ms: 10 }), ..PLAIN }
}

const fn anything(mut policy: Policy) -> Policy {
    policy.non_idempotent = true;
    policy
}

const fn within(mut policy: Policy, timeout_ms: u32) -> Policy {
    policy.timeout_ms = timeout_ms;
    policy
}

const fn case(
    name: &'static str,
    about: &'static str,
    policy: Policy,
    script: &'static [&'static str],
    flags: &'static str,
) -> Case {
    Case::new(name, about, policy, script, ONE, flags)
}

const fn call(name: &'static str, on: &'static str, script: &'static [&'static str], flags: &'static str) -> Case {
    Case::new(name, "a status of gRPC", over_http2(Policy::retrying(2, on)), script, ONE_CALL, flags)
}

/// All of them. Where many are to fail at once, their retries take long, so that all of these last while the others fail.
pub(crate) static CASES: &[Case] = &[
    case("default-503", "by default an answer is not repeated", PLAIN, &["503 200"], "503 - ×1"),
    case("default-reset", "nor what broke after sending", PLAIN, &["reset 200"], "503 UC ×1"),
    case("default-refused", "but a connection that failed, twice", PLAIN, &["refused"], "503 UF,URX ×1"),
    case("attempts-0", "attempts: 0", Policy::retrying(0, "5xx"), &["refused"], "503 UF ×1"),
    case("5xx", "5xx repeats answers", Policy::retrying(2, "5xx"), &["503 500 200"], "200 - ×1"),
    case("5xx-404", "5xx leaves others", Policy::retrying(2, "5xx"), &["404 200"], "404 - ×1"),
    case("5xx-spent", "attempts are used up", Policy::retrying(2, "5xx"), &["500"], "500 URX ×1"),
    case("5xx-reset", "5xx repeats resets", Policy::retrying(2, "5xx"), &["reset 200"], "200 - ×1"),
    case("5xx-close", "5xx repeats what was closed", Policy::retrying(2, "5xx"), &["close 200"], "200 - ×1"),
    case("5xx-reset-spent", "resets until the end", Policy::retrying(1, "5xx"), &["reset"], "503 UC,URX ×1"),
    case("flag-order", "flags in a row", Policy::retrying(1, "5xx"), &["reset"], "503 UC,URX ×1")
        .verbatim()
        .but(&[differs("flags as written", "503 URX,UC ×1", "503 UC,URX ×1")]),
    case("5xx-refused", "5xx repeats connections", Policy::retrying(2, "5xx"), &["refused"], "503 UF,URX ×1"),
    case("gateway-error", "502 and 504", Policy::retrying(2, "gateway-error"), &["502 504 200"], "200 - ×1"),
    case("gateway-error-500", "but not 500", Policy::retrying(2, "gateway-error"), &["500 200"], "500 - ×1"),
    case("gateway-error-reset", "and resets", Policy::retrying(2, "gateway-error"), &["reset 200"], "200 - ×1"),
    case("reset", "reset repeats resets", Policy::retrying(2, "reset"), &["reset 200"], "200 - ×1"),
    case("reset-503", "and no answers", Policy::retrying(2, "reset"), &["503 200"], "503 - ×1"),
    case("reset-refused", "and connections", Policy::retrying(2, "reset"), &["refused"], "503 UF,URX ×1"),
    case("before", "sent is sent", Policy::retrying(2, "reset-before-request"), &["reset 200"], "503 UC ×1"),
    case("before-refused", "not sent", Policy::retrying(2, "reset-before-request"), &["refused"], "503 UF,URX ×1"),
    case("connect-reset", "connected is connected", Policy::retrying(2, "connect-failure"), &["reset"], "503 UC ×1"),
    case("connect-refused", "not connected", Policy::retrying(3, "connect-failure"), &["refused"], "503 UF,URX ×1"),
    case("retriable-4xx", "409", Policy::retrying(2, "retriable-4xx"), &["409 200"], "200 - ×1"),
    case("retriable-4xx-429", "but not 429", Policy::retrying(2, "retriable-4xx"), &["429 200"], "429 - ×1"),
    case("number", "a status by its number", Policy::retrying(2, "418,503"), &["418 503 200"], "200 - ×1"),
    case(
        "ratelimited",
        "x-envoy-ratelimited",
        Policy::retrying(2, "envoy-ratelimited"),
        &["429+x-envoy-ratelimited:true 200"],
        "200 - ×1",
    ),
    case(
        "ratelimited-5xx",
        "silences other words",
        Policy::retrying(2, "5xx"),
        &["503+x-envoy-ratelimited:true 200"],
        "503 - ×1",
    ),
    case(
        "retry-after",
        "an instance that asks for time",
        Policy::retrying(2, "429"),
        &["429+retry-after:3 200"],
        "200 - ×1",
    )
    .takes(0, 2800)
    .but(&[differs("outside of time", "", "slow ×1")]),
    call("grpc-unavailable", "unavailable", &["grpc14 grpc0"], "200 - ×1"),
    call("grpc-cancelled", "cancelled", &["grpc1 grpc0"], "200 - ×1"),
    call("grpc-deadline", "deadline-exceeded", &["grpc4 grpc0"], "200 - ×1"),
    call("grpc-exhausted", "resource-exhausted", &["grpc8 grpc0"], "200 - ×1"),
    call("grpc-internal", "internal", &["grpc13 grpc0"], "200 - ×1"),
    call("grpc-other", "unavailable", &["grpc13 grpc0"], "200 - ×1"),
    call("grpc-spent", "unavailable", &["grpc14"], "200 URX ×1"),
    call("grpc-trailers", "unavailable", &["grpc14! grpc0"], "200 - ×1"),
    case("h2-503", "over HTTP/2", over_http2(Policy::retrying(2, "5xx")), &["503 200"], "200 - ×1"),
    case("h2-reset", "a stream is reset", over_http2(Policy::retrying(2, "reset")), &["reset 200"], "200 - ×1"),
    case("h2-reset-default", "by default not repeated", over_http2(PLAIN), &["reset 200"], "503 UR ×1"),
    case("h2-refused", "a refused stream", over_http2(PLAIN), &["refused-stream 200"], "200 - ×1"),
    case("h2-refused-spent", "refused again and again", over_http2(PLAIN), &["refused-stream"], "503 UR,URX ×1"),
    case(
        "h2-refused-off",
        "no retries at all",
        over_http2(Policy::retrying(0, "5xx")),
        &["refused-stream 200"],
        "503 UR ×1",
    )
    .but(&[
        differs("statuses", "503 ×1", "200 ×1"),
        differs("flags", "503 UR ×1", "200 - ×1"),
        differs("tries", "1", "2"),
        differs("upstream_rq_total", "1", "2"),
        differs("upstream_rq_retry", "", "1"),
    ]),
    case("per-try", "one try was too slow", per_try(2, "5xx", 300), &["200~1500 200"], "200 - ×1").takes(290, 2500),
    case("per-try-spent", "all were", per_try(1, "5xx", 300), &["200~1500"], "504 URX,UT ×1").takes(590, 2500),
    case("per-try-reset", "reset covers it", per_try(1, "reset", 300), &["200~1500 200"], "200 - ×1"),
    case("per-try-other", "no word for it", per_try(2, "connect-failure", 300), &["200~1500 200"], "504 UT ×1"),
    case("timeout", "the route's", within(Policy::retrying(2, "5xx"), 300), &["200~1500 200"], "504 UT ×1")
        .takes(290, 2500),
    case("timeout-tries", "covers all tries", within(Policy::retrying(5, "5xx"), 1000), &["503~650"], "504 UT ×1"),
    case("timeout-plain", "without retries", within(PLAIN, 300), &["200~1500"], "504 UT ×1"),
    case(
        "back-off",
        "waits double from the base",
        Policy { retry: Some(Retry { attempts: 3, on: "5xx", per_try_ms: 0, back_off_ms: 100 }), ..PLAIN },
        &["503"],
        "503 URX ×1",
    )
    .waits(&[350, 550, 950]),
    case("previous", "hosts that were tried", Policy::retrying(2, "5xx"), &["503", "503", "503"], "503 URX ×1"),
    case("previous-all", "all of them", Policy::retrying(3, "5xx"), &["503", "503"], "503 URX ×1"),
    Case::new("post", "POST and an answer", Policy::retrying(2, "5xx"), &["503 200"], ONE_POST, "200 - ×1").but(&[
        differs("statuses", "200 ×1", "503 ×1"),
        differs("flags", "200 - ×1", "503 - ×1"),
        differs("tries", "2", "1"),
        differs("attempt-count", "1 ×1, 2 ×1", "1 ×1"),
        differs("upstream_rq_retry", "1", ""),
        differs("upstream_rq_retry_success", "1", ""),
        differs("upstream_rq_total", "2", "1"),
    ]),
    Case::new("post-reset", "POST and a reset", Policy::retrying(2, "reset"), &["reset 200"], ONE_POST, "200 - ×1")
        .but(&[
            differs("statuses", "200 ×1", "503 ×1"),
            differs("flags", "200 - ×1", "503 UC ×1"),
            differs("tries", "2", "1"),
            differs("attempt-count", "1 ×1, 2 ×1", "1 ×1"),
            differs("upstream_rq_retry", "1", ""),
            differs("upstream_rq_retry_success", "1", ""),
            differs("upstream_rq_total", "2", "1"),
        ]),
    Case::new(
        "post-said",
        "POST, allowed",
        anything(Policy::retrying(2, "5xx")),
        &["503 reset 200"],
        ONE_POST,
        "200 - ×1",
    ),
    Case::new(
        "post-late",
        "the same with a body that comes later",
        anything(Policy::retrying(2, "5xx")),
        &["503 200"],
        &[InTurn(1, Request { body_after_ms: 100, ..POST })],
        "200 - ×1",
    ),
    Case::new("post-refused", "POST, not connected", PLAIN, &["refused"], ONE_POST, "503 UF,URX ×1"),
    Case::new(
        "post-key",
        "POST with a key",
        Policy::retrying(2, "5xx"),
        &["503 200"],
        &[InTurn(1, Request { method: "POST", lines: "idempotency-key: 1\r\n", body_bytes: 10, body_after_ms: 0 })],
        "200 - ×1",
    ),
    Case::new("body", "a body", Policy::retrying(2, "5xx"), &["503 200"], &[InTurn(1, put(60_000))], "200 - ×1"),
    Case::new(
        "body-64k",
        "over 64 KiB",
        Policy::retrying(2, "5xx"),
        &["503 200"],
        &[InTurn(1, put(200_000))],
        "200 - ×1",
    )
    .but(&[
        differs("statuses", "200 ×1", "503 ×1"),
        differs("flags", "200 - ×1", "503 - ×1"),
        differs("tries", "2", "1"),
        differs("attempt-count", "1 ×1, 2 ×1", "1 ×1"),
        differs("upstream_rq_retry", "1", ""),
        differs("upstream_rq_retry_success", "1", ""),
        differs("upstream_rq_total", "2", "1"),
    ]),
    Case::new("body-4m", "4 MB", Policy::retrying(2, "5xx"), &["503 200"], &[InTurn(1, put(4_000_000))], "503 - ×1"),
    Case::new(
        "budget",
        "a retry budget",
        Policy { budget: Some((20, 3)), ..Policy::retrying(1, "5xx") },
        &["503~800*10 503~2500"],
        &[AtOnce(10, GET)],
        "503 UO ×7, 503 URX ×3",
    ),
    Case::new(
        "budget-percent",
        "by the percent",
        Policy { budget: Some((10, 1)), ..Policy::retrying(1, "5xx") },
        &["200~3500*20 503~800*4 503~2500"],
        &[AtOnce(24, GET)],
        "200 - ×20, 503 UO ×2, 503 URX ×2",
    ),
    Case::new(
        "max-retries",
        "maxRetries",
        Policy { limits: Limits { retries: 2, ..PLAIN.limits }, ..Policy::retrying(1, "5xx") },
        &["503~800*10 503~2500"],
        &[AtOnce(10, GET)],
        "503 UO ×8, 503 URX ×2",
    ),
    Case::new(
        "storm",
        "neither of the two",
        Policy::retrying(1, "5xx"),
        &["503~800"],
        &[AtOnce(40, GET)],
        "503 URX ×40",
    )
    .but(&[
        differs("flags", "503 URX ×40", "503 UO ×10, 503 URX ×30"),
        differs("tries", "80", "70"),
        differs("attempt-count", "1 ×40, 2 ×40", "1 ×40, 2 ×30"),
        differs("upstream_rq_retry", "40", "30"),
        differs("upstream_rq_retry_limit_exceeded", "40", "30"),
        differs("upstream_rq_retry_overflow", "", "10"),
        differs("upstream_rq_total", "80", "70"),
    ]),
];
