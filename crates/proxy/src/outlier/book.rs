//! The decisions: who is ejected, for how long, and when it comes back.
//!
//! A plain machine: moments and dice are given. Envoy's order of steps is kept where it shows.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outrigger_model::{Endpoint, OutlierDetection};

use super::EjectionReason;
use super::monitor::Monitor;
use super::news::{News, Return};
use super::rates::{self, Rate};
use crate::cluster::EndpointState;

/// What is known of the endpoints of one cluster.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) rule: OutlierDetection,
    /// In the order of the cluster.
    pub(super) members: Vec<Member>,
    pub(super) counts: Counts,
    /// `None` once the rule has gone.
    next_sweep: Option<Instant>,
}

/// One endpoint.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) monitor: Arc<Monitor>,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) ejection: Option<Ejection>,
    /// How many times `baseEjectionTime` an ejection lasts.
    pub(super) multiplier: u32,
    /// By reason, those that were not enforced and those that were.
    pub(super) ejections: HashMap<EjectionReason, [u64; 2], foldhash::fast::FixedState>,
    /// In ejections that are over.
    pub(super) ejected_before: Duration,
    came_back: Option<Instant>,
    /// Of the last interval, in percent: of answers, and of tries to reach it. `None` with too few of them.
    pub(super) success_rate: [Option<f64>; 2],
    /// Whether it was told, in this interval or the last, that it should be out and may not.
    kept_in: KeptIn,
}

/// An ejection that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ejection {
    pub(super) since: Instant,
    pub(super) reason: EjectionReason,
    jitter: Duration,
}

/// When an endpoint was last kept in by `maxEjectionPercent`: it is told once until an interval passes without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum KeptIn {
    #[default]
    No,
    LastInterval,
    ThisInterval,
}

/// Envoy's counters of a cluster; reasons in the order of [`EjectionReason::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) detected: [u64; 7],
    pub(super) enforced: [u64; 7],
    pub(super) overflow: u64,
}

impl Book {
    pub(super) fn new(rule: &OutlierDetection, now: Instant) -> Self {
        let next_sweep = Some(now + rule.interval);
        Self { rule: rule.clone(), members: Vec::new(), counts: Counts::default(), next_sweep }
    }

    /// When to sweep next; `None`: never again.
    pub(super) fn next_sweep(&self) -> Option<Instant> {
        self.next_sweep
    }

    /// How many endpoints are ejected.
    pub(super) fn active(&self) -> usize {
        self.members.iter().filter(|member| member.ejection.is_some()).count()
    }

    /// Takes the endpoints there are now. One that has gone no longer counts as ejected.
    pub(super) fn set_members(&mut self, hosts: &[Arc<EndpointState>]) {
        let mut known: HashMap<u64, Member, foldhash::fast::FixedState> =
            self.members.drain(..).map(|member| (member.monitor.id, member)).collect();
        let watched = hosts.iter().filter_map(|host| Some((host, host.monitor.as_ref()?)));
        let members = watched.map(|(host, monitor)| match known.remove(&host.id) {
            Some(member) => Member { endpoint: host.endpoint.clone(), ..member },
            None => Member::new(monitor.clone(), host.endpoint.clone()),
        });
        self.members = members.collect();
    }

    /// Another rule. Ejections stay whose reason it has too, the oldest first, as far as its share allows.
    pub(super) fn set_rule(&mut self, rule: &OutlierDetection, now: Instant, news: &mut Vec<News>) {
        let has_more_room = rule.ejection_percent_max >= self.rule.ejection_percent_max
            && rule.always_eject_one >= self.rule.always_eject_one;
        self.rule = rule.clone();
        let due = now + rule.interval;
        self.next_sweep = Some(self.next_sweep.map_or(due, |next| next.min(due)));
        for at in 0..self.members.len() {
            if self.members[at].ejection.is_some_and(|ejection| !is_watched(rule, ejection.reason)) {
                self.bring_back(at, now, Return::RuleChanged, news);
            }
        }
        while !has_more_room && self.active() > 0 && !self.allows(self.active()) {
            let last =
                (0..self.members.len()).max_by_key(|at| self.members[*at].ejection.map(|ejection| ejection.since));
            let Some(last) = last else { return };
            self.bring_back(last, now, Return::RuleChanged, news);
        }
    }

    /// The rule has gone, and everything with it.
    pub(super) fn close(&mut self, now: Instant, news: &mut Vec<News>) {
        for at in 0..self.members.len() {
            if self.members[at].ejection.is_some() {
                self.bring_back(at, now, Return::RuleRemoved, news);
            }
        }
        self.members = Vec::new();
        self.next_sweep = None;
    }

    /// Ends an ejection at once; whether there was one.
    pub(super) fn reset(&mut self, id: u64, now: Instant, news: &mut Vec<News>) -> bool {
        let Some(at) = self.members.iter().position(|m| m.monitor.id == id && m.ejection.is_some()) else {
            return false;
        };
        self.bring_back(at, now, Return::Manual, news);
        true
    }

    /// A run of failures has reached its limit.
    pub(super) fn detected(
        &mut self,
        monitor: &Monitor,
        reason: EjectionReason,
        now: Instant,
        rng: &mut fastrand::Rng,
        news: &mut Vec<News>,
    ) {
        // One that has left the cluster may still have had a request on its way.
        let Some(at) = self.members.iter().position(|member| member.monitor.id == monitor.id) else { return };
        if self.members[at].ejection.is_some() {
            return;
        }
        self.counts.detected[reason as usize] += 1;
        self.eject(at, reason, 100, now, rng, news);
        match reason {
            EjectionReason::Consecutive5xx => monitor.clear_errors(),
            EjectionReason::ConsecutiveGatewayFailure => monitor.clear_gateway(),
            _ => monitor.clear_local(),
        }
    }

    /// Ejects an endpoint if its cluster can spare it and the dice fall so; `enforcing` is in percent.
    fn eject(
        &mut self,
        at: usize,
        reason: EjectionReason,
        enforcing: u32,
        now: Instant,
        rng: &mut fastrand::Rng,
        news: &mut Vec<News>,
    ) {
        let (active, hosts) = (self.active(), self.members.len());
        if !self.allows(active + 1) {
            self.counts.overflow += 1;
            let member = &mut self.members[at];
            if member.kept_in == KeptIn::No {
                let percent_max = self.rule.ejection_percent_max;
                news.push(News::KeptIn { endpoint: member.endpoint.clone(), reason, active, hosts, percent_max });
            }
            member.kept_in = KeptIn::ThisInterval;
            return;
        }
        let is_enforced = enforcing >= 100 || rng.u32(0..100) < enforcing;
        let rule = &self.rule;
        let member = &mut self.members[at];
        member.ejections.entry(reason).or_default()[usize::from(is_enforced)] += 1;
        if !is_enforced {
            news.push(News::NotEnforced { endpoint: member.endpoint.clone(), reason });
            return;
        }
        self.counts.enforced[reason as usize] += 1;
        let jitter_max_ms = rule.ejection_jitter_max.as_millis() as u64;
        let jitter = Duration::from_millis(rng.u64(0..=jitter_max_ms));
        member.ejection = Some(Ejection { since: now, reason, jitter });
        if rule.base_ejection.saturating_mul(member.multiplier) < rule.ejection_max.saturating_add(rule.base_ejection) {
            member.multiplier += 1;
        }
        member.monitor.set_ejected(true);
        let lasts = member.lasts(rule).unwrap_or_default();
        let endpoint = member.endpoint.clone();
        news.push(News::Ejected { endpoint, reason, lasts, active: active + 1, hosts });
    }

    /// Whether so many may be ejected at one time. The first one may be where the rule says so, whatever its share is.
    fn allows(&self, active: usize) -> bool {
        let percent = 100.0 * active as f64 / self.members.len() as f64;
        percent <= f64::from(self.rule.ejection_percent_max.min(100)) || self.rule.always_eject_one && active == 1
    }

    fn bring_back(&mut self, at: usize, now: Instant, why: Return, news: &mut Vec<News>) {
        let member = &mut self.members[at];
        let Some(ejection) = member.ejection.take() else { return };
        let after = now.saturating_duration_since(ejection.since);
        member.ejected_before += after;
        member.came_back = Some(now);
        member.monitor.set_ejected(false);
        // Or a few failures more would eject it again for a reason that had nearly been one before.
        member.monitor.clear();
        let endpoint = member.endpoint.clone();
        let (active, hosts) = (self.active(), self.members.len());
        news.push(News::Returned { endpoint, reason: ejection.reason, why, after, active, hosts });
    }

    /// What is done every interval.
    pub(super) fn sweep(&mut self, now: Instant, rng: &mut fastrand::Rng, news: &mut Vec<News>) {
        if self.next_sweep.is_none() {
            return;
        }
        for at in 0..self.members.len() {
            let member = &self.members[at];
            let is_over = |since: Instant, lasts| lasts <= now.saturating_duration_since(since);
            let since = member.ejection.map(|ejection| ejection.since);
            if since.zip(member.lasts(&self.rule)).is_some_and(|(since, lasts)| is_over(since, lasts)) {
                self.bring_back(at, now, Return::Over, news);
            }
        }
        self.compare(now, rng, news);
        for member in &mut self.members {
            let is_calm = member.came_back.is_some_and(|at| now.saturating_duration_since(at) >= self.rule.interval);
            if member.ejection.is_none() && is_calm {
                member.multiplier = member.multiplier.saturating_sub(1);
            }
            member.kept_in = match member.kept_in {
                KeptIn::ThisInterval => KeptIn::LastInterval,
                KeptIn::LastInterval | KeptIn::No => KeptIn::No,
            };
        }
        self.next_sweep = Some(now + self.rule.interval);
    }

    /// Compares the rates of the interval that ends: those of answers, then those of tries to reach an endpoint.
    fn compare(&mut self, now: Instant, rng: &mut fastrand::Rng, news: &mut Vec<News>) {
        let (success_rate, failures) = (self.rule.success_rate, self.rule.failure_percentage);
        let origins = [
            (EjectionReason::SuccessRate, EjectionReason::FailurePercentage),
            (EjectionReason::LocalOriginSuccessRate, EjectionReason::LocalOriginFailurePercentage),
        ];
        // Both are counted anew from now on, whatever comes of them.
        let counted: Vec<[(u32, u32); 2]> =
            self.members.iter().map(|member| [member.monitor.answers.take(), member.monitor.reaches.take()]).collect();
        self.members.iter_mut().for_each(|member| member.success_rate = [None, None]);
        let hosts_min = [success_rate.map(|rule| rule.hosts_min), failures.map(|rule| rule.hosts_min)];
        let volume_min = [success_rate.map(|rule| rule.volume_min), failures.map(|rule| rule.volume_min)];
        let Some(hosts_min) = hosts_min.into_iter().flatten().min() else { return };
        let volume_min = volume_min.into_iter().flatten().min().unwrap_or_default();
        if self.members.len() < hosts_min as usize {
            return;
        }
        for (origin, (by_mean, by_share)) in origins.into_iter().enumerate() {
            let in_force = self.members.iter().enumerate().filter(|(_, member)| member.ejection.is_none());
            let rates: Vec<Rate> = in_force.filter_map(|(at, _)| Rate::new(at, counted[at][origin])).collect();
            for rate in rates.iter().filter(|rate| rate.volume >= volume_min) {
                self.members[rate.at].success_rate[origin] = Some(rate.success);
            }
            let outliers = success_rate.map_or_else(Vec::new, |rule| rates::below_mean(&rates, &rule));
            let failing = failures.map_or_else(Vec::new, |rule| rates::failing(&rates, &rule));
            let enforcing = [success_rate.map(|rule| rule.enforcing), failures.map(|rule| rule.enforcing)];
            let found = outliers.into_iter().map(|at| (at, by_mean, enforcing[0]));
            for (at, reason, enforcing) in found.chain(failing.into_iter().map(|at| (at, by_share, enforcing[1]))) {
                if self.members[at].ejection.is_none() {
                    self.counts.detected[reason as usize] += 1;
                    self.eject(at, reason, enforcing.unwrap_or_default(), now, rng, news);
                }
            }
        }
    }
}

impl Member {
    fn new(monitor: Arc<Monitor>, endpoint: Arc<Endpoint>) -> Self {
        Self {
            monitor,
            endpoint,
            ejection: None,
            multiplier: 0,
            ejections: HashMap::default(),
            ejected_before: Duration::ZERO,
            came_back: None,
            success_rate: [None, None],
            kept_in: KeptIn::No,
        }
    }

    /// How long its ejection lasts at least: it ends in the first sweep after that.
    pub(super) fn lasts(&self, rule: &OutlierDetection) -> Option<Duration> {
        let ejection = self.ejection?;
        Some(rule.base_ejection.saturating_mul(self.multiplier).min(rule.ejection_max) + ejection.jitter)
    }
}

/// Whether the rule ejects for this reason at all.
fn is_watched(rule: &OutlierDetection, reason: EjectionReason) -> bool {
    let split = rule.split_local_origin;
    match reason {
        EjectionReason::Consecutive5xx => rule.consecutive_5xx > 0,
        EjectionReason::ConsecutiveGatewayFailure => rule.consecutive_gateway > 0,
        EjectionReason::ConsecutiveLocalOriginFailure => split && rule.consecutive_local_origin > 0,
        EjectionReason::SuccessRate => rule.success_rate.is_some(),
        EjectionReason::LocalOriginSuccessRate => split && rule.success_rate.is_some(),
        EjectionReason::FailurePercentage => rule.failure_percentage.is_some(),
        EjectionReason::LocalOriginFailurePercentage => split && rule.failure_percentage.is_some(),
    }
}
