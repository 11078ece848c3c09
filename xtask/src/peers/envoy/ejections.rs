//! Cases of outlier detection.

use super::cases::{Case, differs};
use super::client::Step::{self, InTurn, Wait};
use super::client::{CALL, GET};
use super::policy::{OUTLIER, Outlier, Policy};

/// Requests until the third error of one of two backends, and after its ejection.
const THREE: &[Step] = &[InTurn(6, GET), Wait(MERGED), InTurn(14, GET)];
/// The same with two errors.
const TWO: &[Step] = &[InTurn(4, GET), Wait(MERGED), InTurn(16, GET)];
/// The same with five errors.
const FIVE: &[Step] = &[InTurn(10, GET), Wait(MERGED), InTurn(10, GET)];
/// Calls until the third error, and after the ejection.
const CALLS: &[Step] = &[InTurn(6, CALL), Wait(MERGED), InTurn(14, CALL)];
/// Requests until the third error, while the backend is out, and when a short time is over.
const LATER: &[Step] = &[InTurn(6, GET), Wait(MERGED), InTurn(4, GET), Wait(4000), InTurn(10, GET)];

/// Milliseconds after which an ejection is in force: Envoy's workers hear of it from its main thread, which passes on changes
/// of health at most once a second (`update_merge_window`), but for the first.
const MERGED: u64 = 1500;

const fn case(
    name: &'static str,
    about: &'static str,
    outlier: Outlier,
    backends: &'static [&'static str],
    flags: &'static str,
) -> Case {
    Case::new(name, about, Policy::ejecting(outlier), backends, THREE, flags)
}

const fn over_http2(outlier: Outlier) -> Policy {
    let mut policy = Policy::ejecting(outlier);
    policy.is_http2 = true;
    policy
}

const fn within(outlier: Outlier, timeout_ms: u32) -> Policy {
    let mut policy = Policy::ejecting(outlier);
    policy.timeout_ms = timeout_ms;
    policy
}

/// All of them.
pub(crate) static CASES: &[Case] = &[
    case("eject-5xx", "three in a row", OUTLIER, &["500", "200"], "200 - ×17, 500 - ×3"),
    case(
        "eject-row",
        "a success begins anew",
        OUTLIER,
        &["500 500 200 500 500 200 500 500 200", "200"],
        "200 - ×14, 500 - ×6",
    ),
    Case::new(
        "eject-gateway",
        "gateway errors alone",
        Policy::ejecting(Outlier { errors: 5, gateway: 2, ..OUTLIER }),
        &["502", "200"],
        TWO,
        "200 - ×18, 502 - ×2",
    ),
    Case::new(
        "eject-gateway-500",
        "500 is not one",
        Policy::ejecting(Outlier { errors: 5, gateway: 2, ..OUTLIER }),
        &["500", "200"],
        FIVE,
        "200 - ×15, 500 - ×5",
    ),
    case("eject-refused", "connections count as 5xx", OUTLIER, &["refused", "200"], "200 - ×17, 503 UF ×3"),
    case("eject-reset", "so do resets", OUTLIER, &["reset", "200"], "200 - ×17, 503 UC ×3"),
    Case::new(
        "eject-split",
        "or on their own",
        Policy::ejecting(Outlier { errors: 5, local_origin: 2, ..OUTLIER }),
        &["refused", "200"],
        TWO,
        "200 - ×18, 503 UF ×2",
    ),
    case(
        "eject-split-5xx",
        "answers beside them",
        Outlier { local_origin: 2, ..OUTLIER },
        &["500", "200"],
        "200 - ×17, 500 - ×3",
    ),
    case(
        "eject-split-reset",
        "a connection was made, which is a success of local origin",
        Outlier { errors: 5, local_origin: 2, ..OUTLIER },
        &["reset", "200"],
        "200 - ×10, 503 UC ×10",
    ),
    Case::new(
        "eject-timeout",
        "a time that passed",
        within(OUTLIER, 300),
        &["200~1000", "200"],
        THREE,
        "200 - ×17, 504 UT ×3",
    ),
    Case::new("eject-grpc", "a status of gRPC", over_http2(OUTLIER), &["grpc14", "grpc0"], CALLS, "200 - ×20"),
    Case::new("eject-grpc-trailers", "in trailers", over_http2(OUTLIER), &["grpc14!", "grpc0!"], CALLS, "200 - ×20")
        .but(&[
            differs("tries", "10+10", "3+17"),
            differs("membership_healthy", "2", "1"),
            differs("outlier_detection_ejections_active", "", "1"),
            differs("outlier_detection_ejections_enforced_total", "", "1"),
            differs("outlier_detection_ejections_detected_consecutive_5xx", "", "1"),
            differs("outlier_detection_ejections_enforced_consecutive_5xx", "", "1"),
        ]),
    Case::new(
        "eject-half",
        "at most half of three",
        Policy::ejecting(Outlier { percent_max: 50, ..OUTLIER }),
        &["500", "500", "500"],
        &[InTurn(7, GET), Wait(MERGED), InTurn(2, GET), Wait(MERGED), InTurn(2, GET)],
        "500 - ×11",
    ),
    Case::new(
        "eject-10-percent",
        "ten percent of two is nobody",
        Policy::ejecting(Outlier { percent_max: 10, ..OUTLIER }),
        &["500", "200"],
        &[InTurn(6, GET), Wait(MERGED), InTurn(6, GET)],
        "200 - ×6, 500 - ×6",
    ),
    case(
        "eject-always-one",
        "always_eject_one_host",
        Outlier { percent_max: 10, always_one: true, ..OUTLIER },
        &["500", "200"],
        "200 - ×17, 500 - ×3",
    ),
    Case::new("eject-all", "nobody is left", Policy::ejecting(OUTLIER), &["500", "500"], THREE, "500 - ×6, 503 UH ×14"),
    Case::new(
        "panic",
        "too few are left",
        Policy::ejecting(Outlier { health_min: 60, percent_max: 50, ..OUTLIER }),
        &["500 500 500 200", "500 500 500 200"],
        &[InTurn(5, GET), Wait(MERGED), InTurn(16, GET)],
        "200 - ×15, 500 - ×6",
    )
    .but(&[differs("lb_healthy_panic", "16", "15")]),
    Case::new(
        "panic-all",
        "nobody is left",
        Policy::ejecting(Outlier { health_min: 1, ..OUTLIER }),
        &["500", "500"],
        THREE,
        "500 - ×20",
    ),
    Case::new(
        "return",
        "back with a sweep",
        Policy::ejecting(Outlier { base_ms: 3000, ..OUTLIER }),
        &["500 500 500 200", "200"],
        LATER,
        "200 - ×17, 500 - ×3",
    ),
    Case::new(
        "no-return",
        "not before the time",
        Policy::ejecting(OUTLIER),
        &["500 500 500 200", "200"],
        LATER,
        "200 - ×17, 500 - ×3",
    ),
];
