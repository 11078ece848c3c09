//! `outlierDetection` of Istio, and what Envoy has beside it.
//!
//! Istio's block leaves out much of Envoy's. What is left out stands in an annotation of the DestinationRule
//! ([`ANNOTATION`]), under Envoy's names, and completes every `outlierDetection` of that rule. Which block counts for a
//! cluster is decided in `translate::policy`; who is ejected, in the data plane.

use std::sync::Arc;
use std::time::Duration;

use outrigger_model::{FailurePercentage, OutlierDetection, SuccessRate};

use super::istio::duration_1ms;
use crate::codes;
use crate::decode::{Cx, Decode, Fields, Problem};
use crate::document::decode_nested;
use crate::node::{Node, Pos};
use crate::object;
use crate::object::Metadata;
use crate::scalar;

/// The annotation of a DestinationRule: a mapping, as YAML or JSON, with Envoy's fields.
pub const ANNOTATION: &str = "outrigger.dev/outlier-detection";

/// An `outlierDetection`.
#[derive(Clone, Debug, PartialEq)]
pub struct Detection {
    /// What Istio's API says.
    pub istio: Outlier,
    /// What the annotation adds.
    pub envoy: Option<EnvoyOutlier>,
    /// Where it stands.
    pub pos: Pos,
}

impl Decode for Detection {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        Some(Self { istio: Outlier::decode(node, cx)?, envoy: None, pos: node.pos })
    }
}

object! {
    /// The fields of Istio's API.
    pub struct Outlier {
        /// `consecutive5xxErrors`; 0 is off, absent 5.
        pub consecutive_5xx: Option<u32> = with(scalar::u32_or_string) "consecutive5xxErrors",
        /// `consecutiveGatewayErrors`; 0 and absent are off.
        pub consecutive_gateway: Option<u32> = with(scalar::u32_or_string) "consecutiveGatewayErrors",
        /// `consecutiveErrors`, which Istio no longer reads.
        pub consecutive_errors: Option<i32> = with(scalar::within(0..=i32::MAX.into())) "consecutiveErrors",
        /// `splitExternalLocalOriginErrors`.
        pub split_local_origin: bool = or_default "splitExternalLocalOriginErrors",
        /// `consecutiveLocalOriginFailures`; 0 and absent are both 5.
        pub consecutive_local_origin: Option<u32> = with(scalar::u32_or_string) "consecutiveLocalOriginFailures",
        /// `interval`.
        pub interval: Option<Duration> = with(duration_1ms) "interval",
        /// `baseEjectionTime`.
        pub base_ejection: Option<Duration> = with(duration_1ms) "baseEjectionTime",
        /// `maxEjectionPercent`; 0 and absent are both 10.
        pub ejection_percent_max: Option<u32> = with(scalar::within(0..=100)) "maxEjectionPercent",
        /// `minHealthPercent`.
        pub health_percent_min: Option<u32> = with(scalar::within(0..=100)) "minHealthPercent",
        /// `outlierDetectionHttpErrorCodes`.
        pub error_codes: Vec<StatusCode> = or_default "outlierDetectionHttpErrorCodes",
    }
    check check_outlier
}

/// What Istio accepts and does not do.
fn check_outlier(outlier: &Outlier, pos: Pos, cx: &mut Cx) {
    let mut idle = |message: String, hint: &str| cx.report(codes::NO_EFFECT, pos, message, hint);
    if outlier.consecutive_errors.is_some_and(|errors| errors > 0) {
        idle(
            "`consecutiveErrors` has no effect: Istio no longer reads it".to_owned(),
            "use `consecutive5xxErrors`, or `consecutiveGatewayErrors` for 502, 503 and 504 alone",
        );
    }
    if outlier.ejection_percent_max == Some(0) {
        idle(
            "`maxEjectionPercent: 0` counts as not given, which is 10".to_owned(),
            "to eject nobody, remove `outlierDetection`",
        );
    }
    let all = outlier.consecutive_5xx.unwrap_or(CONSECUTIVE_DEFAULT);
    let gateway = outlier.consecutive_gateway.unwrap_or(0);
    if all > 0 && gateway >= all {
        idle(
            format!(
                "`consecutiveGatewayErrors` ({gateway}) has no effect: `consecutive5xxErrors` ({all}) counts the same \
                 answers and is reached first"
            ),
            "make it less than `consecutive5xxErrors`, or set that to 0",
        );
    }
    match (outlier.split_local_origin, outlier.consecutive_local_origin) {
        (false, Some(1..)) => idle(
            "`consecutiveLocalOriginFailures` has no effect without `splitExternalLocalOriginErrors: true`".to_owned(),
            "without it failures to connect count as 5xx",
        ),
        (true, Some(0)) => idle(
            "`consecutiveLocalOriginFailures: 0` counts as not given, which is 5".to_owned(),
            "it cannot be turned off; set a high number",
        ),
        _ => {}
    }
}

/// Envoy's default for its consecutive counts.
const CONSECUTIVE_DEFAULT: u32 = 5;

/// An HTTP status from 100 to 599.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusCode(pub u16);

impl Decode for StatusCode {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        scalar::within(100..=599)(node, cx).map(Self)
    }
}

impl Outlier {
    /// `baseEjectionTime`, 30 s.
    fn base_ejection(&self) -> Duration {
        self.base_ejection.unwrap_or(Duration::from_secs(30))
    }
}

impl Detection {
    /// With the defaults of Istio and Envoy filled in.
    pub fn model(&self) -> OutlierDetection {
        let istio = &self.istio;
        let envoy = self.envoy.clone().unwrap_or_default();
        let base_ejection = istio.base_ejection();
        let mut error_codes: Vec<u16> = istio.error_codes.iter().map(|code| code.0).collect();
        error_codes.sort_unstable();
        error_codes.dedup();
        OutlierDetection {
            consecutive_5xx: istio.consecutive_5xx.unwrap_or(CONSECUTIVE_DEFAULT),
            consecutive_gateway: istio.consecutive_gateway.unwrap_or(0),
            split_local_origin: istio.split_local_origin,
            consecutive_local_origin: istio
                .consecutive_local_origin
                .filter(|failures| *failures > 0)
                .unwrap_or(CONSECUTIVE_DEFAULT),
            interval: istio.interval.unwrap_or(Duration::from_secs(10)),
            base_ejection,
            ejection_max: envoy.ejection_max.unwrap_or_else(|| base_ejection.max(Duration::from_secs(300))),
            ejection_jitter_max: envoy.ejection_jitter_max,
            ejection_percent_max: istio.ejection_percent_max.filter(|p| *p > 0).unwrap_or(10),
            always_eject_one: envoy.always_eject_one,
            health_percent_min: istio.health_percent_min.unwrap_or(0),
            error_codes,
            success_rate: envoy.success_rate,
            failure_percentage: envoy.failure_percentage,
        }
    }
}

/// The fields of Envoy's API that Istio's has not, from [`ANNOTATION`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvoyOutlier {
    /// `always_eject_one_host`.
    pub always_eject_one: bool,
    /// `max_ejection_time`.
    pub ejection_max: Option<Duration>,
    /// `max_ejection_time_jitter`, none.
    pub ejection_jitter_max: Duration,
    /// `success_rate_*`, where `enforcing_success_rate` is more than 0.
    pub success_rate: Option<SuccessRate>,
    /// `failure_percentage_*`, where `enforcing_failure_percentage` is more than 0.
    pub failure_percentage: Option<FailurePercentage>,
}

/// A field by its two names: that of protobuf, and that of its JSON.
type Names = [&'static str; 2];

/// Fields of Envoy's that stand in Istio's block.
const OF_ISTIO: &[(&[&str], &str)] = &[
    (&["consecutive_5xx", "consecutive5xx"], "consecutive5xxErrors"),
    (&["consecutive_gateway_failure", "consecutiveGatewayFailure"], "consecutiveGatewayErrors"),
    (&["split_external_local_origin_errors", "splitExternalLocalOriginErrors"], "splitExternalLocalOriginErrors"),
    (&["consecutive_local_origin_failure", "consecutiveLocalOriginFailure"], "consecutiveLocalOriginFailures"),
    (&["interval"], "interval"),
    (&["base_ejection_time", "baseEjectionTime"], "baseEjectionTime"),
    (&["max_ejection_percent", "maxEjectionPercent"], "maxEjectionPercent"),
];

impl Decode for EnvoyOutlier {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let mut fields = Fields::of(node, cx)?;
        for (names, istio) in OF_ISTIO {
            if let Some((name, node)) = fields.one_of(names, cx) {
                let message = format!("`{name}` has no effect here");
                cx.report(codes::NO_EFFECT, node.pos, message, format!("set `{istio}` in `outlierDetection`"));
            }
        }
        let time = |node: &Node<'_>, cx: &mut Cx| Duration::decode(node, cx);
        let envoy = Self {
            always_eject_one: take(&mut fields, ["always_eject_one_host", "alwaysEjectOneHost"], cx, bool::decode)
                .unwrap_or_default(),
            ejection_max: take(&mut fields, ["max_ejection_time", "maxEjectionTime"], cx, duration_1ms),
            ejection_jitter_max: take(&mut fields, ["max_ejection_time_jitter", "maxEjectionTimeJitter"], cx, time)
                .unwrap_or_default(),
            success_rate: success_rate(&mut fields, cx),
            failure_percentage: failure_percentage(&mut fields, cx),
        };
        fields.finish(cx);
        Some(envoy)
    }
}

fn take<T>(
    fields: &mut Fields<'_, '_>,
    names: Names,
    cx: &mut Cx,
    read: impl FnOnce(&Node<'_>, &mut Cx) -> Option<T>,
) -> Option<T> {
    let (name, node) = fields.one_of(&names, cx)?;
    cx.within(name, |cx| read(node, cx))
}

/// Reads a whole number up to a most; `None` where it is absent.
fn number(fields: &mut Fields<'_, '_>, names: Names, max: u32, cx: &mut Cx) -> Option<u32> {
    take(fields, names, cx, |node, cx| scalar::within(0..=max.into())(node, cx))
}

/// How much of the detected is ejected, in percent; says so where fields beside it have no effect, because it is off.
fn enforcing(fields: &mut Fields<'_, '_>, names: Names, others: bool, cx: &mut Cx) -> Option<u32> {
    let enforcing = number(fields, names, 100, cx).filter(|percent| *percent > 0);
    if enforcing.is_none() && others {
        let message = format!("the fields beside `{}` have no effect while it is 0 or absent", names[0]);
        cx.report(codes::NO_EFFECT, fields.pos(), message, format!("set `{}: 100`", names[0]));
    }
    enforcing
}

fn success_rate(fields: &mut Fields<'_, '_>, cx: &mut Cx) -> Option<SuccessRate> {
    let hosts = number(fields, ["success_rate_minimum_hosts", "successRateMinimumHosts"], u32::MAX, cx);
    let volume = number(fields, ["success_rate_request_volume", "successRateRequestVolume"], u32::MAX, cx);
    let factor = number(fields, ["success_rate_stdev_factor", "successRateStdevFactor"], u32::MAX, cx);
    let others = hosts.or(volume).or(factor).is_some();
    let enforcing = enforcing(fields, ["enforcing_success_rate", "enforcingSuccessRate"], others, cx)?;
    Some(SuccessRate {
        enforcing,
        hosts_min: hosts.unwrap_or(5),
        volume_min: volume.unwrap_or(100),
        stdev_factor: factor.unwrap_or(1900),
    })
}

fn failure_percentage(fields: &mut Fields<'_, '_>, cx: &mut Cx) -> Option<FailurePercentage> {
    let threshold = number(fields, ["failure_percentage_threshold", "failurePercentageThreshold"], 100, cx);
    let hosts = number(fields, ["failure_percentage_minimum_hosts", "failurePercentageMinimumHosts"], u32::MAX, cx);
    let volume = number(fields, ["failure_percentage_request_volume", "failurePercentageRequestVolume"], u32::MAX, cx);
    let others = threshold.or(hosts).or(volume).is_some();
    let enforcing = enforcing(fields, ["enforcing_failure_percentage", "enforcingFailurePercentage"], others, cx)?;
    Some(FailurePercentage {
        enforcing,
        threshold: threshold.unwrap_or(85),
        hosts_min: hosts.unwrap_or(5),
        volume_min: volume.unwrap_or(50),
    })
}

/// Completes the blocks of a rule by its annotation.
pub(super) fn complete(meta: &Metadata, blocks: Vec<&mut Arc<Detection>>, cx: &mut Cx) {
    let Some(annotation) = meta.annotations.get(ANNOTATION) else { return };
    // Where a line of a folded text stands is not known any more, so all findings stand where the text begins.
    let mut inner = Cx::default();
    let envoy: Option<EnvoyOutlier> = decode_nested(&annotation.value, annotation.pos, &mut inner);
    for problem in inner.take_problems() {
        let message = format!("metadata.annotations[{ANNOTATION}]: {}", problem.message);
        cx.push(Problem { pos: annotation.pos, message, ..problem });
    }
    let Some(envoy) = envoy else { return };
    let report = |code, message: String, hint: &str, cx: &mut Cx| {
        cx.report(code, annotation.pos, format!("metadata.annotations[{ANNOTATION}]: {message}"), hint);
    };
    if blocks.is_empty() {
        let message = "it has no effect, because this rule has no `outlierDetection`".to_owned();
        report(codes::NO_EFFECT, message, "add `outlierDetection: {}`", cx);
    }
    for block in blocks {
        let base = block.istio.base_ejection();
        if let Some(max) = envoy.ejection_max.filter(|max| *max < base) {
            let message = format!("max_ejection_time: found {max:?}, expected at least `baseEjectionTime` ({base:?})");
            report(codes::SCHEMA, message, "", cx);
        }
        // Nobody shares a block that has just been read.
        if let Some(block) = Arc::get_mut(block) {
            block.envoy = Some(envoy.clone());
        }
    }
}
