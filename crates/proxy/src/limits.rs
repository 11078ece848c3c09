//! The limits of `connectionPool`, counted for a cluster over all workers of a proxy, as Envoy counts them for one priority.
//!
//! | field | what counts | where it is reached |
//! |---|---|---|
//! | `maxConnections` | connections to its endpoints, whatever is spoken on them, from when they are dialled | a request waits ([`crate::line`]); relayed bytes are refused |
//! | `http1MaxPendingRequests` | requests without a connection yet, those whose connection is being opened among them | refused |
//! | `http2MaxRequests` | requests that have a connection, until their answer ends | refused |
//! | `maxRetries` | retries under way | the retry is not made |
//!
//! They say what is at capacity now and forget at once; circuits, which remember, are another thing. Waiting connections are
//! served in the order they came, whatever worker they wait on: whoever gives a slot back passes it on. Counts are exact; all
//! of them live as long as the cluster does, so that no reload forgets what is under way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use outrigger_model::{Cluster, ConnectionPool};
use outrigger_telemetry::{Families, catalogue};
use tokio::sync::oneshot::{Receiver, Sender, channel};

use crate::failure::Reason;

/// What is under way in a cluster. It outlives snapshots.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    connections: AtomicU32,
    /// The rule in force, also for those that wait already; 0: none.
    connections_max: AtomicU32,
    pending: AtomicU32,
    requests: AtomicU32,
    /// Retries under way, counted where they are decided on (`retry`).
    pub(crate) retries: AtomicU32,
    /// Length of the queue, to be seen without its lock.
    waiting: AtomicUsize,
    queue: Mutex<BTreeMap<Ticket, Sender<Slot>>>,
}

/// A place in the queue: who came first has the lower one. No two in a process are the same.
pub(crate) type Ticket = u64;

static NEXT_TICKET: AtomicU64 = AtomicU64::new(0);

/// Counts one until it is dropped.
#[derive(Debug)]
pub(crate) struct Held<'l>(&'l AtomicU32);

/// Leave to have one connection; passed on when dropped.
#[derive(Debug)]
pub(crate) struct Slot(Arc<Limits>);

/// What a cluster has under way, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UnderWay {
    pub(crate) connections: u32,
    pub(crate) pending: u32,
    pub(crate) requests: u32,
    pub(crate) retries: u32,
}

impl Limits {
    /// Takes the rules of a snapshot into force. More room is there at once; what is too much under less stays.
    pub(crate) fn obey(self: &Arc<Self>, pool: &ConnectionPool) {
        self.connections_max.store(pool.connections_max.unwrap_or(0), Ordering::SeqCst);
        self.serve();
    }

    /// Admits a request that has a connection. Without a limit it counts nothing and costs nothing.
    pub(crate) fn admit_request(&self, pool: &ConnectionPool) -> Result<Option<Held<'_>>, Reason> {
        let Some(max) = pool.requests_max else { return Ok(None) };
        Held::below(&self.requests, max).map(Some).ok_or(Reason::Overflow("http2MaxRequests"))
    }

    /// Counts a request on, whose first count ends: it has become a connection of its own.
    pub(crate) fn go_on(&self, pool: &ConnectionPool) -> Option<Held<'_>> {
        pool.requests_max?;
        self.requests.fetch_add(1, Ordering::Relaxed);
        Some(Held(&self.requests))
    }

    /// Admits a request, or a connection of relayed bytes, that has no connection to its endpoint yet.
    pub(crate) fn admit_pending(&self, pool: &ConnectionPool) -> Result<Held<'_>, Reason> {
        let max = pool.pending_max.unwrap_or(u32::MAX);
        Held::below(&self.pending, max).ok_or(Reason::Overflow("http1MaxPendingRequests"))
    }

    /// Leave for one connection, unless the limit is reached or somebody waits for one.
    pub(crate) fn slot(self: &Arc<Self>) -> Option<Slot> {
        if self.waiting.load(Ordering::SeqCst) == 0 { self.take() } else { None }
    }

    /// Leave for one connection, whatever the limit.
    pub(crate) fn slot_regardless(self: &Arc<Self>) -> Slot {
        self.connections.fetch_add(1, Ordering::SeqCst);
        Slot(self.clone())
    }

    /// Waits in line for a slot. Whoever goes away must [`Self::leave`].
    pub(crate) fn wait(self: &Arc<Self>) -> (Ticket, Receiver<Slot>) {
        let (sender, receiver) = channel();
        let mut queue = self.queue();
        // Under the lock, so that the order of tickets is that of the queue.
        let ticket = NEXT_TICKET.fetch_add(1, Ordering::Relaxed);
        queue.insert(ticket, sender);
        self.waiting.store(queue.len(), Ordering::SeqCst);
        drop(queue);
        // Whoever gave one back before the line above did not see us.
        self.serve();
        (ticket, receiver)
    }

    /// Gives a slot to one that waits, before its turn and whatever the limit; nothing if it has one, or has left.
    pub(crate) fn grant(self: &Arc<Self>, ticket: Ticket) {
        if let Some(sender) = self.remove(ticket) {
            drop(sender.send(self.slot_regardless()));
        }
    }

    /// Gives a place in the queue up.
    pub(crate) fn leave(&self, ticket: Ticket) {
        drop(self.remove(ticket));
    }

    /// Counts of now.
    pub(crate) fn under_way(&self) -> UnderWay {
        let now = |count: &AtomicU32| count.load(Ordering::Relaxed);
        UnderWay {
            connections: now(&self.connections),
            pending: now(&self.pending),
            requests: now(&self.requests),
            retries: now(&self.retries),
        }
    }

    /// Tells what is at capacity, and how much is left, of the limits that are set.
    pub(crate) fn collect(&self, cluster: &Cluster, out: &mut Families) {
        let labels = [cluster.name.shared()];
        let (pool, now) = (&cluster.pool, self.under_way());
        for (max, now, open, remaining) in [
            (
                pool.connections_max,
                now.connections,
                &catalogue::ENVOY_CLUSTER_CIRCUIT_BREAKERS_DEFAULT_CX_OPEN,
                &catalogue::ENVOY_CLUSTER_CIRCUIT_BREAKERS_DEFAULT_REMAINING_CX,
            ),
            (
                pool.pending_max,
                now.pending,
                &catalogue::ENVOY_CLUSTER_CIRCUIT_BREAKERS_DEFAULT_RQ_PENDING_OPEN,
                &catalogue::ENVOY_CLUSTER_CIRCUIT_BREAKERS_DEFAULT_REMAINING_PENDING,
            ),
            (
                pool.requests_max,
                now.requests,
                &catalogue::ENVOY_CLUSTER_CIRCUIT_BREAKERS_DEFAULT_RQ_OPEN,
                &catalogue::ENVOY_CLUSTER_CIRCUIT_BREAKERS_DEFAULT_REMAINING_RQ,
            ),
            (
                pool.retries_max,
                now.retries,
                &catalogue::ENVOY_CLUSTER_CIRCUIT_BREAKERS_DEFAULT_RQ_RETRY_OPEN,
                &catalogue::ENVOY_CLUSTER_CIRCUIT_BREAKERS_DEFAULT_REMAINING_RETRIES,
            ),
        ] {
            let Some(max) = max else { continue };
            out.gauge(open, &labels, f64::from(u8::from(now >= max)));
            out.gauge(remaining, &labels, f64::from(max.saturating_sub(now)));
        }
    }

    fn take(self: &Arc<Self>) -> Option<Slot> {
        let max = match self.connections_max.load(Ordering::SeqCst) {
            0 => u32::MAX,
            max => max,
        };
        let more = |count| (count < max).then_some(count + 1);
        self.connections.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).ok()?;
        Some(Slot(self.clone()))
    }

    /// Gives slots to those who wait, as many as there are.
    fn serve(self: &Arc<Self>) {
        while self.waiting.load(Ordering::SeqCst) > 0 {
            let Some((sender, slot)) = self.next() else { return };
            // Of one that leaves just now it comes back, and is passed on.
            drop(sender.send(slot));
        }
    }

    /// Who is next, with a slot.
    fn next(self: &Arc<Self>) -> Option<(Sender<Slot>, Slot)> {
        let mut queue = self.queue();
        let first = queue.first_entry()?;
        let slot = self.take()?;
        let sender = first.remove();
        self.waiting.store(queue.len(), Ordering::SeqCst);
        Some((sender, slot))
    }

    fn remove(&self, ticket: Ticket) -> Option<Sender<Slot>> {
        let mut queue = self.queue();
        let sender = queue.remove(&ticket);
        self.waiting.store(queue.len(), Ordering::SeqCst);
        sender
    }

    fn queue(&self) -> MutexGuard<'_, BTreeMap<Ticket, Sender<Slot>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'l> Held<'l> {
    fn below(count: &'l AtomicU32, max: u32) -> Option<Self> {
        let more = |now| (now < max).then_some(now + 1);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Self(count))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
        self.0.serve();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(connections: Option<u32>) -> Arc<Limits> {
        let limits = Arc::new(Limits::default());
        limits.obey(&ConnectionPool { connections_max: connections, ..ConnectionPool::default() });
        limits
    }

    #[test]
    fn counts_are_exact_and_given_back() {
        let limits = Limits::default();
        let pool = ConnectionPool { requests_max: Some(2), pending_max: Some(1), ..ConnectionPool::default() };
        let first = limits.admit_request(&pool).unwrap();
        let second = limits.admit_request(&pool).unwrap();
        assert_eq!(limits.admit_request(&pool).unwrap_err(), Reason::Overflow("http2MaxRequests"));
        let waiting = limits.admit_pending(&pool).unwrap();
        assert_eq!(limits.admit_pending(&pool).unwrap_err(), Reason::Overflow("http1MaxPendingRequests"));
        assert_eq!(limits.under_way(), UnderWay { pending: 1, requests: 2, ..UnderWay::default() });
        let tunnel = limits.go_on(&pool);
        assert_eq!(limits.under_way().requests, 3, "what was admitted is not refused");
        drop(tunnel);
        drop(first);
        let third = limits.admit_request(&pool).unwrap();
        assert!(third.is_some());
        drop((second, third, waiting));
        assert_eq!(limits.under_way(), UnderWay::default());
    }

    #[test]
    fn without_a_limit_nothing_is_refused_and_requests_are_not_counted() {
        let limits = Limits::default();
        let none = ConnectionPool::default();
        assert!(limits.admit_request(&none).unwrap().is_none() && limits.go_on(&none).is_none());
        let waiting = [limits.admit_pending(&none).unwrap(), limits.admit_pending(&none).unwrap()];
        assert_eq!(limits.under_way(), UnderWay { pending: 2, ..UnderWay::default() }, "a limit may come");
        drop(waiting);
    }

    #[test]
    fn a_lower_limit_cuts_nothing_and_admits_nothing_until_it_is_kept() {
        let limits = limited(Some(3));
        let mut slots: Vec<Slot> = (0..3).map(|_| limits.slot().unwrap()).collect();
        assert!(limits.slot().is_none());
        limits.obey(&ConnectionPool { connections_max: Some(1), ..ConnectionPool::default() });
        for left in [2, 1] {
            slots.pop();
            assert_eq!(limits.under_way().connections, left);
            assert!(limits.slot().is_none(), "{left}");
        }
        slots.pop();
        assert!(limits.slot().is_some());
    }

    #[test]
    fn slots_go_to_who_waits_in_order_and_to_no_newcomer() {
        let limits = limited(Some(1));
        let held = limits.slot().unwrap();
        let mut waits: Vec<_> = (0..3).map(|_| limits.wait()).collect();
        assert!(waits.iter_mut().all(|(_, slot)| slot.try_recv().is_err()));
        // The second one leaves.
        let (ticket, receiver) = waits.remove(1);
        limits.leave(ticket);
        drop(receiver);
        drop(held);
        assert!(limits.slot().is_none(), "the slot is not for newcomers");
        let slot = waits[0].1.try_recv().expect("the first one's turn");
        assert!(waits[1].1.try_recv().is_err());
        drop(slot);
        drop(waits.pop().unwrap().1.try_recv().expect("then the third one's"));
        assert_eq!(limits.under_way(), UnderWay::default());
    }

    #[test]
    fn a_slot_sent_to_one_that_has_left_is_passed_on() {
        let limits = limited(Some(1));
        let held = limits.slot().unwrap();
        let (_, gone) = limits.wait();
        let (_, granted) = limits.wait();
        let (_, mut last) = limits.wait();
        drop(gone);
        drop(held);
        // It has the slot now, and goes without having looked.
        drop(granted);
        assert!(last.try_recv().is_ok());
        assert_eq!(limits.under_way().connections, 0);
    }

    #[test]
    fn more_room_and_no_limit_are_there_for_those_who_wait() {
        for (max, served) in [(Some(2), 1), (Some(3), 2), (None, 3)] {
            let limits = limited(Some(1));
            let held = limits.slot().unwrap();
            let mut waits: Vec<_> = (0..3).map(|_| limits.wait().1).collect();
            limits.obey(&ConnectionPool { connections_max: max, ..ConnectionPool::default() });
            let slots: Vec<Slot> = waits.iter_mut().filter_map(|wait| wait.try_recv().ok()).collect();
            assert_eq!(slots.len(), served, "{max:?}");
            drop(held);
        }
    }

    #[test]
    fn workers_that_come_and_go_lose_no_slot() {
        let limits = limited(Some(3));
        let work = || {
            for round in 0..2_000_u32 {
                let slot = match limits.slot() {
                    Some(slot) => slot,
                    None => {
                        let (ticket, receiver) = limits.wait();
                        if round.is_multiple_of(3) {
                            limits.leave(ticket);
                            continue;
                        }
                        receiver.blocking_recv().expect("nobody is forgotten")
                    }
                };
                assert!(limits.under_way().connections <= 3);
                drop(slot);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(work);
            }
        });
        assert_eq!(limits.under_way(), UnderWay::default());
        assert_eq!(limits.waiting.load(Ordering::SeqCst), 0);
    }
}
