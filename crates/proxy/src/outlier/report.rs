//! What outlier detection knows of an endpoint, for who asks.

use std::time::Instant;

use super::EjectionReason;
use super::book::{Book, Member};
use crate::cluster::LiveCluster;

/// What outlier detection knows of one endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct OutlierReport {
    /// Its ejection, while there is one.
    pub ejection: Option<EjectionReport>,
    /// How many times it was ejected.
    pub ejections: u64,
    /// How many times `baseEjectionTime` its ejection lasts, or its last one did; falls while it is in.
    pub multiplier: u32,
    /// Answers of 5xx, and what counts as such, in a row.
    pub consecutive_5xx: u32,
    /// Answers of 502, 503 and 504, and what counts as such, in a row.
    pub consecutive_gateway_failures: u32,
    /// Failures of local origin in a row; only with `splitExternalLocalOriginErrors`.
    pub consecutive_local_origin_failures: u32,
    /// Successful answers in the last interval, in percent; `None` where rates are not compared, or there were too few.
    pub success_rate: Option<f64>,
    /// The same of tries to reach it.
    pub local_origin_success_rate: Option<f64>,
}

/// An ejection that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EjectionReport {
    /// When it began.
    pub since: Instant,
    /// When its time is over: it ends in the first sweep after that.
    pub until: Instant,
    /// Why.
    pub reason: EjectionReason,
}

/// Reports on the endpoints of a cluster in their order; `None` where nobody looks for outliers.
pub(crate) fn report(live: &LiveCluster) -> Vec<Option<OutlierReport>> {
    let Some(outliers) = &live.outliers else { return vec![None; live.hosts.len()] };
    let desk = outliers.shared.desk();
    let book = &desk.book;
    let mut members = book.members.iter();
    // The book has another list only while a snapshot comes into force.
    let of_host = |id: u64| members.find(|member| member.monitor.id == id).map(|member| of(member, book));
    live.hosts.iter().map(|host| host.id).map(of_host).collect()
}

fn of(member: &Member, book: &Book) -> OutlierReport {
    let runs = member.monitor.runs();
    let ejection = member.ejection.zip(member.lasts(&book.rule));
    let [success_rate, local_origin_success_rate] = member.success_rate;
    OutlierReport {
        ejection: ejection.map(|(ejection, lasts)| EjectionReport {
            since: ejection.since,
            until: ejection.since + lasts,
            reason: ejection.reason,
        }),
        ejections: member.ejections.values().map(|[_, enforced]| enforced).sum(),
        multiplier: member.multiplier,
        consecutive_5xx: runs.errors,
        consecutive_gateway_failures: runs.gateway,
        consecutive_local_origin_failures: runs.local,
        success_rate,
        local_origin_success_rate,
    }
}
