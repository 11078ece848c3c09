//! Cases of limits and of faults.

use super::cases::Case;
use super::client::GET;
use super::client::Step::{AtOnce, InTurn};
use super::policy::{Limits, PLAIN, Policy, Retry};

const NONE: Limits = PLAIN.limits;

const fn limited(limits: Limits) -> Policy {
    Policy { limits, ..PLAIN }
}

const fn over_http2(limits: Limits) -> Policy {
    Policy { limits, is_http2: true, ..PLAIN }
}

const fn retrying(limits: Limits) -> Policy {
    let retry = Retry { attempts: 2, on: "5xx", per_try_ms: 0, back_off_ms: 10 };
    Policy { limits, retry: Some(retry), ..PLAIN }
}

/// All of them.
pub(crate) static CASES: &[Case] = &[
    Case::new(
        "max-requests",
        "http2MaxRequests, over HTTP/1.1",
        limited(Limits { requests: 4, ..NONE }),
        &["200~1500"],
        &[AtOnce(10, GET)],
        "200 - ×4, 503 UO ×6",
    ),
    Case::new(
        "max-requests-h2",
        "http2MaxRequests",
        over_http2(Limits { requests: 4, ..NONE }),
        &["200~1500"],
        &[AtOnce(10, GET)],
        "200 - ×4, 503 UO ×6",
    ),
    Case::new(
        "max-pending",
        "http1MaxPendingRequests",
        limited(Limits { connections: 1, pending: 2, ..NONE }),
        &["200 200~1000"],
        // A connection that is there already does not count as one that is waited for.
        &[InTurn(1, GET), AtOnce(10, GET)],
        "200 - ×4, 503 UO ×7",
    ),
    Case::new(
        "max-connections",
        "maxConnections: others wait",
        limited(Limits { connections: 2, ..NONE }),
        &["200~300"],
        &[AtOnce(6, GET)],
        "200 - ×6",
    )
    .takes(290, 4000),
    Case::new(
        "overflow-retry",
        "an overflow is not repeated",
        retrying(Limits { connections: 1, pending: 1, ..NONE }),
        &["200 200~1000"],
        &[InTurn(1, GET), AtOnce(6, GET)],
        "200 - ×3, 503 UO ×4",
    ),
    Case::new(
        "per-connection",
        "maxRequestsPerConnection",
        limited(Limits { per_connection: 2, ..NONE }),
        &["200"],
        &[InTurn(6, GET)],
        "200 - ×6",
    ),
    Case::new(
        "abort",
        "a fault for all",
        Policy { abort: Some((100, 418)), ..PLAIN },
        &["200"],
        &[InTurn(5, GET)],
        "418 FI ×5",
    ),
    Case::new(
        "abort-none",
        "a fault for nobody",
        Policy { abort: Some((0, 418)), ..PLAIN },
        &["200"],
        &[InTurn(5, GET)],
        "200 - ×5",
    ),
    Case::new(
        "abort-retry",
        "a fault is not repeated",
        Policy { abort: Some((100, 503)), ..retrying(NONE) },
        &["200"],
        &[InTurn(2, GET)],
        "503 FI ×2",
    ),
    Case::new(
        "delay",
        "a delay",
        Policy { delay: Some((100, 400)), ..PLAIN },
        &["200"],
        &[InTurn(2, GET)],
        "200 DI ×2",
    )
    .takes(390, 3000),
    Case::new(
        "delay-none",
        "a delay for nobody",
        Policy { delay: Some((0, 5000)), ..PLAIN },
        &["200"],
        &[InTurn(2, GET)],
        "200 - ×2",
    )
    .takes(0, 4500),
    Case::new(
        "delay-timeout",
        "a delay is no part of the timeout",
        Policy { delay: Some((100, 900)), timeout_ms: 500, ..PLAIN },
        &["200"],
        &[InTurn(1, GET)],
        "200 DI ×1",
    )
    .takes(890, 3500),
    Case::new(
        "delay-abort",
        "both",
        Policy { delay: Some((100, 300)), abort: Some((100, 503)), ..PLAIN },
        &["200"],
        &[InTurn(1, GET)],
        "503 DI,FI ×1",
    )
    .takes(290, 3000),
];
