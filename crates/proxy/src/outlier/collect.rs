//! What a scrape sees of outlier detection: Envoy's counters of a cluster, and each endpoint before and while it is out.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use outrigger_model::OutlierDetection;
use outrigger_telemetry::{Desc, Families, catalogue};

use super::book::{Counts, Member};
use super::{EjectionReason, Outliers};
use crate::cluster::LiveCluster;
use crate::labels::endpoint_labels;

/// Tells what is known of a cluster; of its endpoints one by one all of them, or, where there are more than so many, those
/// that have ever been out.
pub(crate) fn collect(live: &LiveCluster, outliers: &Outliers, endpoints_max: usize, now: Instant, out: &mut Families) {
    let cluster = [live.model.name.shared()];
    let desk = outliers.shared.desk();
    let book = &desk.book;
    out.gauge(&catalogue::ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_ACTIVE, &cluster, book.active() as f64);
    let Counts { detected, enforced, overflow } = book.counts;
    let total = enforced.iter().sum();
    out.counter(&catalogue::ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_ENFORCED_TOTAL, &cluster, total);
    out.counter(&catalogue::ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_OVERFLOW, &cluster, overflow);
    for reason in EjectionReason::ALL {
        let (of_detected, of_enforced) = names(reason);
        out.counter(of_detected, &cluster, detected[reason as usize]);
        out.counter(of_enforced, &cluster, enforced[reason as usize]);
    }
    out.counter(&catalogue::ENVOY_CLUSTER_LB_HEALTHY_PANIC, &cluster, outliers.shared.panics.load(Ordering::Relaxed));
    let are_few = book.members.len() <= endpoints_max;
    let told = book.members.iter().filter(|member| are_few || !member.ejections.is_empty()).take(endpoints_max);
    told.for_each(|member| endpoint(live, member, &book.rule, now, out));
}

fn endpoint(live: &LiveCluster, member: &Member, rule: &OutlierDetection, now: Instant, out: &mut Families) {
    let labels = endpoint_labels(&live.model, &member.endpoint);
    let is_ejected = f64::from(u8::from(member.ejection.is_some()));
    out.gauge(&catalogue::OUTRIGGER_ENDPOINT_EJECTED, &labels, is_ejected);
    let now_out = member.ejection.map_or(Duration::ZERO, |ejection| now.saturating_duration_since(ejection.since));
    let seconds = (member.ejected_before + now_out).as_secs_f64();
    out.counter_seconds(&catalogue::OUTRIGGER_ENDPOINT_EJECTED_SECONDS_TOTAL, &labels, seconds);
    let runs = member.monitor.runs();
    let limits = [
        (EjectionReason::Consecutive5xx, runs.errors, rule.consecutive_5xx),
        (EjectionReason::ConsecutiveGatewayFailure, runs.gateway, rule.consecutive_gateway),
        (
            EjectionReason::ConsecutiveLocalOriginFailure,
            runs.local,
            if rule.split_local_origin { rule.consecutive_local_origin } else { 0 },
        ),
    ];
    let [cluster, service, namespace, subset, instance, locality] = labels;
    let with = |reason: EjectionReason| {
        let (cluster, service, namespace) = (cluster.clone(), service.clone(), namespace.clone());
        [cluster, service, namespace, subset.clone(), instance.clone(), locality.clone(), reason.as_str().into()]
    };
    for (reason, run, _) in limits.into_iter().filter(|(_, _, limit)| *limit > 0) {
        out.gauge(&catalogue::OUTRIGGER_ENDPOINT_CONSECUTIVE_FAILURES, &with(reason), f64::from(run));
    }
    // What may happen is told from the beginning: Prometheus sees no increase in a counter that begins with 1.
    let may_happen = |reason: EjectionReason| match reason {
        EjectionReason::SuccessRate => rule.success_rate.is_some(),
        EjectionReason::FailurePercentage => rule.failure_percentage.is_some(),
        EjectionReason::LocalOriginSuccessRate => rule.success_rate.is_some() && rule.split_local_origin,
        EjectionReason::LocalOriginFailurePercentage => rule.failure_percentage.is_some() && rule.split_local_origin,
        _ => limits.into_iter().any(|(of, _, limit)| of == reason && limit > 0),
    };
    for reason in EjectionReason::ALL {
        let [kept, enforced] = member.ejections.get(&reason).copied().unwrap_or_default();
        for (count, is_enforced, is_told) in [(kept, "false", false), (enforced, "true", may_happen(reason))] {
            let [cluster, service, namespace, subset, instance, locality, reason] = with(reason);
            let labels = [cluster, service, namespace, subset, instance, locality, reason, is_enforced.into()];
            if count > 0 || is_told {
                out.counter(&catalogue::OUTRIGGER_ENDPOINT_EJECTIONS_TOTAL, &labels, count);
            }
        }
    }
}

/// The counters of what was found, and of what was done about it.
fn names(reason: EjectionReason) -> (&'static Desc, &'static Desc) {
    use catalogue::*;
    match reason {
        EjectionReason::Consecutive5xx => (
            &ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_DETECTED_CONSECUTIVE_5XX,
            &ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_ENFORCED_CONSECUTIVE_5XX,
        ),
        EjectionReason::ConsecutiveGatewayFailure => (
            &ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_DETECTED_CONSECUTIVE_GATEWAY_FAILURE,
            &ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_ENFORCED_CONSECUTIVE_GATEWAY_FAILURE,
        ),
        EjectionReason::ConsecutiveLocalOriginFailure => (
            &ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_DETECTED_CONSECUTIVE_LOCAL_ORIGIN_FAILURE,
            &ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_ENFORCED_CONSECUTIVE_LOCAL_ORIGIN_FAILURE,
        ),
        EjectionReason::SuccessRate => (
            &ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_DETECTED_SUCCESS_RATE,
            &ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_ENFORCED_SUCCESS_RATE,
        ),
        EjectionReason::LocalOriginSuccessRate => (
            &ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_DETECTED_LOCAL_ORIGIN_SUCCESS_RATE,
            &ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_ENFORCED_LOCAL_ORIGIN_SUCCESS_RATE,
        ),
        EjectionReason::FailurePercentage => (
            &ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_DETECTED_FAILURE_PERCENTAGE,
            &ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_ENFORCED_FAILURE_PERCENTAGE,
        ),
        EjectionReason::LocalOriginFailurePercentage => (
            &ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_DETECTED_LOCAL_ORIGIN_FAILURE_PERCENTAGE,
            &ENVOY_CLUSTER_OUTLIER_DETECTION_EJECTIONS_ENFORCED_LOCAL_ORIGIN_FAILURE_PERCENTAGE,
        ),
    }
}
