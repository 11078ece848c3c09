//! Idle upstream connections of one worker, by endpoint.
//!
//! A connection goes back only when both messages on it ended where they said; it is taken out last in, first out, so
//! that the rest can age, and is looked at before it is used. What closes between that look and the request is the
//! business of the resend rule in `forward`. Where requests are in line for one ([`Line`]), the first of them gets it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use outrigger_model::ConnectionPool;

use crate::h1::stream::Stream;
use crate::line::{Leave, Line};
use crate::record::HeldGauge;
use crate::settings::Settings;
use crate::worker::Worker;

/// A connection to an endpoint.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) stream: Stream,
    /// Requests sent on it before this one.
    pub(crate) served: u32,
    /// Whether it speaks for one client only, so that no other request may use it.
    pub(crate) is_private: bool,
    /// When it is too old for another request, in milliseconds of the worker's clock.
    pub(crate) expires_ms: u64,
    pub(crate) counted: Counted,
}

/// Counts a connection among those of its cluster, in the metrics and for the limits.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) _gauge: Option<HeldGauge>,
    pub(crate) _leave: Option<Leave>,
}

#[derive(Debug)]
struct Idle {
    upstream: Box<Upstream>,
    until_ms: u64,
}

/// The connections to one endpoint.
#[derive(Debug, Default)]
struct Kept {
    idle: Vec<Idle>,
    /// Of those that are idle, and those that are not.
    line: Rc<Line<Box<Upstream>>>,
}

/// The idle connections.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    endpoints: RefCell<HashMap<u64, Kept, foldhash::fast::RandomState>>,
}

/// Keeps a connection that is at a message boundary for the next request to its endpoint, if its cluster's `limits` let
/// it serve one more.
pub(crate) fn give_back(
    worker: &Worker,
    limits: Option<&ConnectionPool>,
    endpoint_id: u64,
    mut upstream: Box<Upstream>,
) {
    let requests_max = limits.and_then(|l| l.requests_per_connection_max).filter(|max| *max > 0);
    let now_ms = worker.clock.now_ms();
    upstream.served += 1;
    if upstream.is_private || requests_max.is_some_and(|max| upstream.served >= max) || upstream.expires_ms <= now_ms {
        return;
    }
    upstream.stream.input.release(&worker.buffers);
    let configured = limits.and_then(|l| l.idle_timeout).filter(|t| !t.is_zero());
    let idle = configured.map_or(worker.settings.pool_idle_timeout, |t| t.min(worker.settings.pool_idle_timeout));
    let until_ms = (now_ms + idle.as_millis() as u64).min(upstream.expires_ms);
    worker.pool.put(endpoint_id, upstream, until_ms, &worker.settings);
}

impl Pool {
    /// Whether there are no connections.
    pub(crate) fn is_empty(&self) -> bool {
        self.endpoints.borrow().is_empty()
    }

    /// The line for connections to the endpoint.
    pub(crate) fn line(&self, endpoint_id: u64) -> Rc<Line<Box<Upstream>>> {
        self.endpoints.borrow_mut().entry(endpoint_id).or_default().line.clone()
    }

    /// An idle connection to the endpoint, if a good one is there.
    pub(crate) fn take(&self, endpoint_id: u64, now_ms: u64) -> Option<Box<Upstream>> {
        let mut endpoints = self.endpoints.borrow_mut();
        let kept = endpoints.get_mut(&endpoint_id)?;
        while let Some(candidate) = kept.idle.pop() {
            if candidate.until_ms > now_ms && candidate.upstream.stream.is_quiet() {
                return Some(candidate.upstream);
            }
        }
        None
    }

    /// Keeps a connection for the next request to this endpoint, which may be waiting for it.
    fn put(&self, endpoint_id: u64, upstream: Box<Upstream>, until_ms: u64, settings: &Settings) {
        let mut endpoints = self.endpoints.borrow_mut();
        let kept = endpoints.entry(endpoint_id).or_default();
        let Some(upstream) = kept.line.give(upstream) else { return };
        if kept.idle.len() < settings.pool_idle_max {
            kept.idle.push(Idle { upstream, until_ms });
        }
    }

    /// Closes what lay idle too long, or belongs to endpoints that `is_known` no longer knows.
    pub(crate) fn sweep(&self, now_ms: u64, is_known: impl Fn(u64) -> bool) {
        self.endpoints.borrow_mut().retain(|id, kept| {
            if is_known(*id) {
                // Last in is at the back: the front is the oldest.
                kept.idle.retain(|i| i.until_ms > now_ms && i.upstream.stream.is_quiet());
            } else {
                kept.idle.clear();
            }
            !kept.idle.is_empty() || !kept.line.is_unused()
        });
    }
}
