//! The tries of one request: whether there is another, where it goes and when.
//!
//! The decision about an answer is made when its head is read, before anything of it goes to the client. From then on the
//! answer is given up: whoever asks must mean it.

mod budget;
mod rules;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use outrigger_model::{BackOff, RetryOn, RetryPolicy};

use crate::deadlines::Deadlines;
use crate::failure::Reason;
use crate::flag::{Flag, Flags};
use crate::h1::head::ResponseHead;
use crate::plan::Exchange;
use crate::progress::Lost;
use crate::worker::{Worker, WorkerCluster};

use budget::count_within;
pub(crate) use budget::{Offered, Own};
use rules::Ending;

/// The tries of one request.
pub(crate) struct Tries<'t> {
    pub(crate) worker: &'t Rc<Worker>,
    pub(crate) exchange: &'t Exchange,
    pub(crate) deadlines: &'t Deadlines,
    cluster: Option<&'t WorkerCluster>,
    policy: Option<&'t RetryPolicy>,
    /// Retries that were granted.
    made: Cell<u32>,
    /// Times that it was sent again because a connection took no more requests.
    resends: Cell<u32>,
    /// The endpoints that were tried, from the first failure on.
    tried: Cell<Vec<u64>>,
    /// The wait before the retry that was granted and has not begun.
    granted: Cell<Option<Duration>>,
    flags: Cell<Flags>,
    /// Messages of a call that were counted: sent again, they are the same.
    pub(crate) messages_counted: Cell<u64>,
    /// What the retry under way is counted in.
    counted: Cell<Counted>,
}

/// What a retry is counted in while it lasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Counted {
    #[default]
    Nowhere,
    /// The `retryBudget`.
    Budget,
    /// `maxRetries`.
    Limit,
}

/// A `Retry-After` that is waited for at most; a client that waits longer may as well come again itself.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);

impl<'t> Tries<'t> {
    /// Picks that are made to avoid an endpoint that was tried; Istio's `hostSelectionRetryMaxAttempts`.
    pub(crate) const PICKS_MAX: usize = 5;
    const RESENDS_MAX: u32 = 3;

    /// Those of a request whose first is about to begin.
    pub(crate) fn new(
        worker: &'t Rc<Worker>,
        exchange: &'t Exchange,
        deadlines: &'t Deadlines,
        cluster: Option<&'t WorkerCluster>,
        policy: Option<&'t RetryPolicy>,
    ) -> Self {
        if let Some(cluster) = cluster {
            cluster.stats.offered.inc();
            cluster.budget.offered(worker.clock.now_ms() / 1000);
            if let Some(budget) = &cluster.live.model.retry_budget {
                cluster.live.offered.begin(budget, exchange.started);
            }
        }
        Self {
            worker,
            exchange,
            deadlines,
            cluster,
            policy: policy.filter(|policy| policy.attempts > 0),
            made: Cell::new(0),
            resends: Cell::new(0),
            tried: Cell::default(),
            granted: Cell::new(None),
            flags: Cell::default(),
            messages_counted: Cell::new(0),
            counted: Cell::default(),
        }
    }

    /// Whether a request that may be repeated is worth waiting for whole: its body would be gone otherwise.
    pub(crate) fn may_need_body(&self) -> bool {
        const AFTER_SENDING: RetryOn = RetryOn::FIVE_XX
            .and(RetryOn::GATEWAY_ERROR)
            .and(RetryOn::RESET)
            .and(RetryOn::RETRIABLE_4XX)
            .and(RetryOn::RETRIABLE_STATUS_CODES)
            .and(RetryOn::RETRIABLE_HEADERS)
            .and(RetryOn::ENVOY_RATELIMITED);
        self.policy.is_some_and(|policy| {
            policy.retry_on.has(AFTER_SENDING) && (self.exchange.is_idempotent || policy.non_idempotent)
        })
    }

    /// Tries so far, and the one that is about to begin.
    pub(crate) fn number(&self) -> u32 {
        self.made.get() + 1
    }

    /// Whether it is sent again because a connection took no more requests; counted if so. Over all its tries: several
    /// connections of HTTP/2 may end at one time, but endpoints that end each of them are not asked for ever. A stream that
    /// alone was refused is left to a policy that repeats it, in its number, with its waits and within its limits.
    pub(crate) fn may_resend(&self, lost: &Lost) -> bool {
        let is_for_policy = lost.refused && lost.reason == Reason::UpstreamReset && self.repeats_refusals();
        let more = !is_for_policy && self.resends.get() < Self::RESENDS_MAX;
        self.resends.set(self.resends.get() + u32::from(more));
        more
    }

    /// Flags that the exchange has because of its tries.
    pub(crate) fn flags(&self) -> Flags {
        self.flags.get()
    }

    /// An endpoint was chosen for the try that begins.
    pub(crate) fn began_at(&self, endpoint: u64) {
        if self.policy.is_some() {
            let mut tried = self.tried.take();
            tried.push(endpoint);
            self.tried.set(tried);
        }
    }

    /// Whether an endpoint is to be avoided.
    pub(crate) fn avoids(&self, endpoint: u64) -> bool {
        self.made.get() > 0 && self.policy.is_some_and(|policy| policy.avoid_previous_hosts) && self.has_tried(endpoint)
    }

    /// Whether a try may go one failover level further than those before.
    pub(crate) fn leaves_localities(&self) -> bool {
        self.made.get() > 0 && self.policy.is_some_and(|policy| policy.remote_localities)
    }

    /// Whether the policy repeats a stream that was refused.
    fn repeats_refusals(&self) -> bool {
        let refused = Ending::Lost { reason: Reason::UpstreamReset, was_sent: true, was_refused: true };
        self.policy.is_some_and(|policy| rules::asks(policy, refused).is_some())
    }

    /// Whether an endpoint was tried.
    pub(crate) fn has_tried(&self, endpoint: u64) -> bool {
        let tried = self.tried.take();
        let has = tried.contains(&endpoint);
        self.tried.set(tried);
        has
    }

    /// Whether an answer is given up for another try. `is_at_hand`: the request can be sent again.
    pub(crate) fn declines(&self, answer: &ResponseHead<'_>, grpc: Option<u8>, is_at_hand: bool) -> bool {
        let Some(policy) = self.policy else { return false };
        let grpc = grpc.filter(|status| *status != 0 && self.exchange.is_grpc);
        if answer.status < 400 && grpc.is_none() && policy.headers.is_empty() {
            return false;
        }
        let field = |name: &str| answer.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name));
        let ending = Ending::Answered {
            status: answer.status,
            grpc,
            is_rate_limited: field("x-envoy-ratelimited").is_some(),
            has_named_field: policy.headers.iter().any(|name| field(name.as_str()).is_some()),
        };
        let after = field("retry-after").and_then(|h| std::str::from_utf8(h.value).ok()?.trim().parse().ok());
        self.decide(policy, ending, is_at_hand, after.map(Duration::from_secs))
    }

    /// The wait before another try, if there is one after this.
    pub(crate) fn after(&self, lost: &Lost) -> Option<Duration> {
        if let Some(granted) = self.granted.take() {
            return Some(granted);
        }
        let policy = self.policy.filter(|_| lost.status_sent == 0 && !lost.was_declined())?;
        let ending = Ending::Lost { reason: lost.reason, was_sent: lost.sent, was_refused: lost.refused };
        self.decide(policy, ending, lost.is_at_hand(), None).then(|| self.granted.take()).flatten()
    }

    /// The answer goes to the client.
    pub(crate) fn answered(&self) {
        let is_good = self.made.get() > 0 && self.flags.get() == Flags::default();
        if let Some(cluster) = self.cluster.filter(|_| is_good) {
            cluster.stats.retries_succeeded.inc();
        }
    }

    fn decide(&self, policy: &RetryPolicy, ending: Ending, is_at_hand: bool, after: Option<Duration>) -> bool {
        let Some(reach) = rules::asks(policy, ending) else { return false };
        if !is_at_hand || !rules::may_repeat(reach, self.exchange.is_idempotent, policy) {
            return false;
        }
        let stats = self.cluster.map(|cluster| &cluster.stats);
        if self.made.get() >= policy.attempts {
            self.flags.set(self.flags.get().with(Flag::UpstreamRetryLimitExceeded));
            stats.inspect(|stats| stats.retry_limits_exceeded.inc());
            return false;
        }
        let Some(wait) = self.wait(policy, ending, after) else { return false };
        // Nobody has seen a try that got no connection: one at another endpoint adds nothing to what endpoints have to bear.
        let is_connect = matches!(ending, Ending::Lost { reason, .. } if reason.is_connect());
        if !self.grant(is_connect && self.has_others()) {
            self.flags.set(self.flags.get().with(Flag::UpstreamOverflow));
            stats.inspect(|stats| stats.retry_overflows.inc());
            return false;
        }
        stats.inspect(|stats| stats.retries.inc());
        self.made.set(self.made.get() + 1);
        self.granted.set(Some(wait));
        true
    }

    /// The wait before the next try; `None`: it would be over too late.
    fn wait(&self, policy: &RetryPolicy, ending: Ending, after: Option<Duration>) -> Option<Duration> {
        let jittered = back_off(policy.back_off, self.made.get() + 1, &mut self.worker.rng.borrow_mut());
        // It is the instance that wants to be left alone; others may answer at once.
        let same_again = matches!(ending, Ending::Answered { status: 429, .. }) || !self.has_others();
        let wait = match after.filter(|_| same_again) {
            Some(after) if after > RETRY_AFTER_MAX => return None,
            Some(after) => after.max(jittered),
            None => jittered,
        };
        self.deadlines.leaves(wait).then_some(wait)
    }

    /// Whether the cluster has an endpoint to pick that was not tried.
    fn has_others(&self) -> bool {
        let now = Instant::now();
        let hosts = self.cluster.map(|cluster| &*cluster.live.hosts).unwrap_or_default();
        hosts.iter().any(|host| !self.has_tried(host.id) && host.is_available(now))
    }

    /// Whether budget and limits allow one more retry. One that `adds_nothing` is outside the proxy's own budget.
    fn grant(&self, adds_nothing: bool) -> bool {
        // The one before is over.
        self.discount();
        let Some(cluster) = self.cluster else { return true };
        let live = &cluster.live;
        if let Some(budget) = &live.model.retry_budget {
            let granted = live.offered.grant(budget, Instant::now());
            self.counted.set(if granted { Counted::Budget } else { Counted::Nowhere });
            return granted;
        }
        if let Some(max) = live.model.pool.retries_max {
            if !count_within(&live.limits.retries, max) {
                return false;
            }
            self.counted.set(Counted::Limit);
        }
        let granted = adds_nothing || cluster.budget.grant(self.worker.clock.now_ms() / 1000);
        if !granted {
            self.discount();
        }
        granted
    }

    /// The retry that was counted is over.
    fn discount(&self) {
        let Some(cluster) = self.cluster else { return };
        match self.counted.take() {
            Counted::Nowhere => {}
            Counted::Budget => cluster.live.offered.retry_ends(),
            Counted::Limit => {
                cluster.live.limits.retries.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Tries<'_> {
    fn drop(&mut self) {
        self.discount();
        if let Some(cluster) = self.cluster.filter(|cluster| cluster.live.model.retry_budget.is_some()) {
            cluster.live.offered.end();
        }
    }
}

/// The wait before the n-th retry: drawn from 0 to (2^n − 1) × base, at most the longest, never less than the least.
fn back_off(back_off: BackOff, n: u32, rng: &mut fastrand::Rng) -> Duration {
    let factor = 2_u32.saturating_pow(n).saturating_sub(1);
    let longest = back_off.base.saturating_mul(factor).min(back_off.max);
    longest.mul_f64(rng.f64()).max(back_off.min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_drawn_from_a_range_that_doubles_up_to_the_longest() {
        let (min, base, max) = (Duration::ZERO, Duration::from_millis(25), Duration::from_millis(250));
        let policy = BackOff { min, base, max };
        let mut rng = fastrand::Rng::with_seed(1);
        for (n, longest_ms) in [(1, 25), (2, 75), (3, 175), (4, 250), (40, 250)] {
            let waits: Vec<Duration> = (0..2_000).map(|_| back_off(policy, n, &mut rng)).collect();
            let longest = Duration::from_millis(longest_ms);
            assert!(waits.iter().all(|wait| *wait < longest), "retry {n}");
            assert!(waits.iter().any(|wait| *wait > longest.mul_f64(0.98)), "retry {n}");
            assert!(waits.iter().any(|wait| *wait < longest.mul_f64(0.02)), "retry {n}: full jitter begins at zero");
            let least = BackOff { min: Duration::from_millis(20), ..policy };
            assert!((0..100).all(|_| back_off(least, n, &mut rng) >= least.min), "retry {n}");
        }
    }
}
