//! Idle upstream connections of one worker, by endpoint.
//!
//! A connection goes back only when both messages on it ended where they said; it is taken out last in, first out, so
//! that the rest can age, and is looked at before it is used. What closes between that look and the request is the
//! business of the resend rule in `forward`.

use std::cell::RefCell;
use std::collections::HashMap;

use outrigger_model::ConnectionPool;

use crate::h1::stream::Stream;
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
    /// Counts it among the cluster's connections.
    pub(crate) _counted: Option<HeldGauge>,
}

#[derive(Debug)]
struct Idle {
    upstream: Upstream,
    until_ms: u64,
}

/// The idle connections.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: RefCell<HashMap<u64, Vec<Idle>, foldhash::fast::RandomState>>,
}

/// Keeps a connection that is at a message boundary for the next request to its endpoint, if its cluster's `limits` let
/// it serve one more.
pub(crate) fn give_back(worker: &Worker, limits: Option<&ConnectionPool>, endpoint_id: u64, mut upstream: Upstream) {
    let requests_max = limits.and_then(|l| l.requests_per_connection_max).filter(|max| *max > 0);
    if upstream.is_private || requests_max.is_some_and(|max| upstream.served + 1 >= max) {
        return;
    }
    upstream.stream.input.release(&worker.buffers);
    let configured = limits.and_then(|l| l.idle_timeout).filter(|t| !t.is_zero());
    let idle = configured.map_or(worker.settings.pool_idle_timeout, |t| t.min(worker.settings.pool_idle_timeout));
    let until_ms = worker.clock.now_ms() + idle.as_millis() as u64;
    worker.pool.put(endpoint_id, upstream, until_ms, &worker.settings);
}

impl Pool {
    /// Whether nothing is idle.
    pub(crate) fn is_empty(&self) -> bool {
        self.idle.borrow().is_empty()
    }

    /// An idle connection to the endpoint, if a good one is there.
    pub(crate) fn take(&self, endpoint_id: u64, now_ms: u64) -> Option<Upstream> {
        let mut pools = self.idle.borrow_mut();
        let idle = pools.get_mut(&endpoint_id)?;
        while let Some(candidate) = idle.pop() {
            if candidate.until_ms > now_ms && candidate.upstream.stream.is_quiet() {
                return Some(candidate.upstream);
            }
        }
        None
    }

    /// Keeps a connection for the next request to this endpoint.
    fn put(&self, endpoint_id: u64, mut upstream: Upstream, until_ms: u64, settings: &Settings) {
        upstream.served += 1;
        let mut pools = self.idle.borrow_mut();
        let idle = pools.entry(endpoint_id).or_default();
        if idle.len() < settings.pool_idle_max {
            idle.push(Idle { upstream, until_ms });
        }
    }

    /// Closes what lay idle too long, or belongs to endpoints that `is_known` no longer knows.
    pub(crate) fn sweep(&self, now_ms: u64, is_known: impl Fn(u64) -> bool) {
        self.idle.borrow_mut().retain(|id, idle| {
            if !is_known(*id) {
                return false;
            }
            // Last in is at the back: the front is the oldest.
            idle.retain(|i| i.until_ms > now_ms && i.upstream.stream.is_quiet());
            !idle.is_empty()
        });
    }
}
