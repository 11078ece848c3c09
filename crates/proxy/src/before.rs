//! What happens to a request of a route before it is sent on: rate limits, the limit on its body, faults.
//!
//! It is decided in the plan, at once, in this order: who is over a limit costs nothing else, and a request that is held
//! back on purpose is counted when it comes. Only the wait of an injected delay is left for later. A route without any of
//! this has none of it to look at.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use outrigger_model::{Action, BodyLimits, Route};
use outrigger_telemetry::{Counter, catalogue};

use crate::answer::Answer;
use crate::downstream::Downstream;
use crate::failure::Reason;
use crate::fault::Faults;
use crate::flag::Flag;
use crate::h1::body::Framing;
use crate::h1::buffer::Buffer;
use crate::headers::write_field;
use crate::plan::{Client, Exchange, Plan, Refused};
use crate::rate_limit::{self, Asking, Limit, RateLimits, Verdict};
use crate::record::{EndpointStats, HeldGauge};
use crate::worker::Worker;

/// What a route asks for; shared by the workers.
#[derive(Debug)]
pub(crate) struct Before {
    limits: Vec<Limit>,
    bodies: BodyLimits,
    faults: Option<Faults>,
}

/// What came of it for one request.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    pub(crate) bodies: BodyLimits,
    delay: RefCell<Option<Delay>>,
    /// Seconds until a request that was refused may come again.
    retry_after: Option<u64>,
}

/// A request that is held back.
#[derive(Debug)]
pub(crate) struct Delay {
    length: Duration,
    _slot: Slot,
    _active: HeldGauge,
}

/// One of the requests that a worker may hold back.
#[derive(Debug)]
struct Slot(Rc<Cell<usize>>);

/// What a worker remembers for routes that ask for something.
#[derive(Default)]
pub(crate) struct Ledger {
    delayed: Rc<Cell<usize>>,
    /// Requests by rate limit: those let through, and those refused.
    limited: RefCell<HashMap<Arc<str>, [Counter; 2], foldhash::fast::RandomState>>,
}

impl Before {
    /// What a route asks for; `None`: nothing.
    pub(crate) fn of_route(route: &Route, limits: &RateLimits) -> Option<Arc<Self>> {
        let limits = limits.of_route(route);
        let faults = route.fault.as_ref().and_then(Faults::new);
        let bodies = route.body_limits;
        let asks = !limits.is_empty() || faults.is_some() || bodies != BodyLimits::default();
        asks.then(|| Arc::new(Self { limits, bodies, faults }))
    }

    /// Whether a route may ask for anything.
    pub(crate) fn is_asked_by(route: &Route) -> bool {
        !route.rate_limits.is_empty() || route.fault.is_some() || route.body_limits != BodyLimits::default()
    }

    /// Applies it to a request; a plan if that is the end of it.
    pub(crate) fn apply(&self, worker: &Worker, exchange: &Exchange, who: &Client, route: &Route) -> Option<Plan> {
        let mut applied = Applied { bodies: self.bodies, ..Applied::default() };
        let refused = match self.limit(worker, exchange, who) {
            Err((name, wait)) => {
                applied.retry_after = Some((wait.as_nanos().div_ceil(1_000_000_000) as u64).max(1));
                Some((Reason::RateLimited, format!("RateLimit {name}")))
            }
            Ok(()) => {
                let reason = self.judge_length(exchange).or_else(|| self.inject(worker, exchange, &mut applied));
                reason.map(|reason| (reason, String::new()))
            }
        };
        // A request is planned once.
        let _ = exchange.applied.set(Box::new(applied));
        let (reason, cause) = refused?;
        Some(Plan::Fail(Refused { reason, cause, destination: destination(worker, exchange, route) }))
    }

    fn limit(&self, worker: &Worker, exchange: &Exchange, who: &Client) -> Result<(), (Arc<str>, Duration)> {
        if self.limits.is_empty() {
            return Ok(());
        }
        let workload = who.workload.as_deref();
        let is_stranger = exchange.site().clients_are_strangers;
        let asking = Asking { workload, address: who.address, is_stranger };
        // The time at which the head began to come may be long ago.
        rate_limit::pass(&self.limits, asking, Instant::now(), |limit, verdict| worker.count_limited(limit, verdict))
    }

    fn judge_length(&self, exchange: &Exchange) -> Option<Reason> {
        match (exchange.framing, self.bodies.request_bytes) {
            (Framing::Length(bytes), Some(max)) if bytes > max => Some(Reason::RequestLong),
            _ => None,
        }
    }

    fn inject(&self, worker: &Worker, exchange: &Exchange, applied: &mut Applied) -> Option<Reason> {
        let injected = self.faults.as_ref()?.decide(&mut worker.rng.borrow_mut());
        let stats = worker.recorder.downstream(&exchange.site().listener.direction).faults(&worker.recorder.shard);
        if let Some(length) = injected.delay {
            // With no room to hold one more back, it goes on at once, as in Envoy.
            match Slot::take(&worker.ledger.delayed, worker.settings.fault_delays_max) {
                Some(slot) => {
                    stats.delays.inc();
                    let delay = Delay { length, _slot: slot, _active: HeldGauge::new(&stats.active) };
                    applied.delay = RefCell::new(Some(delay));
                    exchange.flags.set(exchange.flags.get().with(Flag::DelayInjected));
                }
                None => {
                    stats.overflow.inc();
                    worker.recorder.limit_hit("fault_delays");
                }
            }
        }
        if injected.abort.is_some() {
            stats.aborts.inc();
        }
        injected.abort
    }
}

/// Where a request would have gone, for the metrics: of several destinations the first.
fn destination(worker: &Worker, exchange: &Exchange, route: &Route) -> Rc<EndpointStats> {
    let Action::Forward(forward) = &route.action else { return worker.recorder.nowhere() };
    let cluster = worker.cluster(&exchange.current, &forward.destinations[0].cluster);
    cluster.map_or_else(|| worker.recorder.nowhere(), |cluster| cluster.no_endpoint.clone())
}

impl Applied {
    /// Adds what an answer to the request has to say.
    fn complete(&self, answer: &mut Answer) {
        let Some(seconds) = self.retry_after else { return };
        write_field("retry-after", itoa::Buffer::new().format(seconds).as_bytes(), &mut answer.fields);
        // Who retries knows by it that a limit and no instance has answered.
        write_field("x-envoy-ratelimited", b"true", &mut answer.fields);
    }
}

impl Exchange {
    /// The delay that it still has to wait for.
    pub(crate) fn delay(&self) -> Option<Delay> {
        self.applied.get()?.delay.take()
    }

    /// Adds what its answer has to say, beyond what every answer of that kind says.
    pub(crate) fn complete(&self, answer: &mut Answer) {
        if let Some(applied) = self.applied.get() {
            applied.complete(answer);
        }
    }
}

impl Delay {
    /// Waits; false when the client has left before the end. One that has ended its side is taken to have left, as in
    /// Envoy: nothing else tells the two apart without writing.
    pub(crate) async fn pass(self, worker: &Worker, client: &mut Downstream<'_>) -> bool {
        tokio::select! {
            biased;
            () = poll_fn(|cx| poll_left(worker, client, cx)) => false,
            () = tokio::time::sleep(self.length) => true,
        }
    }
}

/// Ready when the client has left. What it sends meanwhile is taken in up to a block, behind which it is not watched.
fn poll_left(worker: &Worker, client: &mut Downstream<'_>, cx: &mut Context<'_>) -> Poll<()> {
    match client {
        Downstream::Http1(stream) => {
            let mut reader = stream.reader();
            while reader.input.len() < Buffer::BLOCK_BYTES {
                match reader.poll_fill(&worker.buffers, Buffer::BLOCK_BYTES, cx) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Pending
        }
        Downstream::Http2(call) => call.split().1.poll_gone(cx),
    }
}

impl Slot {
    fn take(taken: &Rc<Cell<usize>>, max: usize) -> Option<Self> {
        if taken.get() >= max {
            return None;
        }
        taken.set(taken.get() + 1);
        Some(Self(taken.clone()))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Worker {
    /// Rate limits whose counters are remembered; beyond, they are looked up anew.
    const LIMITED_MAX: usize = 1024;

    /// Counts what a limit said.
    fn count_limited(&self, limit: &Limit, verdict: Verdict) {
        if verdict.overflowed {
            self.recorder.limit_hit("rate_limit_sources");
        }
        let mut limited = self.ledger.limited.borrow_mut();
        if limited.len() >= Self::LIMITED_MAX && !limited.contains_key(&limit.name) {
            limited.clear();
        }
        let counters = limited.entry(limit.name.clone()).or_insert_with(|| {
            let counter = |result: &str| {
                let labels = [limit.name.clone(), result.into()];
                self.recorder.shard.counter(&catalogue::OUTRIGGER_RATELIMIT_REQUESTS_TOTAL, &labels)
            };
            [counter("allowed"), counter("limited")]
        });
        counters[usize::from(verdict.passed.is_err())].inc();
    }
}
