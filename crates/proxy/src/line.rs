//! The connections of one worker to one endpoint, of one kind, and the requests in line for one of them.
//!
//! Requests wait where the cluster has as many connections as `maxConnections` allows. The first in line takes the first of
//! two things: a connection of its own worker to its endpoint that another request gives back, or a slot of the cluster,
//! when a connection closes anywhere. A request that comes later never overtakes; neither wait has a time limit of its own,
//! those of the request apply.
//!
//! As in Envoy, a line that has no connection may have one whatever the limit, so that no endpoint is out of reach because
//! others have all the connections. A cluster may therefore have one more for each endpoint, kind and worker.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::oneshot::{Receiver, Sender, channel};

use crate::limits::{Limits, Slot, Ticket};

/// Connections, and who waits to be given a `T`: one of them, or room on one.
pub(crate) struct Line<T> {
    open: Cell<u32>,
    waiting: RefCell<BTreeMap<Ticket, Awaiting<T>>>,
}

/// One in line, as the line sees it.
struct Awaiting<T> {
    /// Where it waits for a slot, too.
    limits: Arc<Limits>,
    taker: Sender<T>,
}

/// Leave to open one connection, which it counts from then on until it is dropped.
#[derive(Debug)]
pub(crate) struct Leave {
    // First, so that the next in its line comes before those of other lines.
    _place: Option<Place>,
    _slot: Slot,
}

/// What a line says to a request that needs a connection.
pub(crate) enum Asked {
    /// There is room for one more.
    Room(Leave),
    /// There is none, but the line has no connection at all.
    Regardless(Leave),
    /// It has to wait.
    Full,
}

/// What a request that waited goes on with.
pub(crate) enum Turn<T> {
    /// Leave to open a connection.
    Open(Leave),
    /// What another gave back.
    Given(T),
}

/// One connection of a line.
struct Place(Weak<dyn Closes>);

trait Closes {
    fn closed(&self);
}

/// One request in line. It leaves when it is dropped, and gives on what it was given and did not take.
struct Waiter<'l, T> {
    line: &'l Line<T>,
    limits: &'l Arc<Limits>,
    ticket: Ticket,
    slot: Receiver<Slot>,
    given: Receiver<T>,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { open: Cell::default(), waiting: RefCell::default() }
    }
}

impl<T> Line<T> {
    /// Whether somebody is in line.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }

    /// Whether it has neither connections nor anybody in line.
    pub(crate) fn is_unused(&self) -> bool {
        self.open.get() == 0 && !self.has_waiting()
    }

    /// Gives it to the first in line; `None`: done, otherwise nobody is there.
    pub(crate) fn give(&self, mut what: T) -> Option<T> {
        loop {
            let first = self.waiting.borrow_mut().pop_first();
            let Some((_, first)) = first else { return Some(what) };
            match first.taker.send(what) {
                Ok(()) => return None,
                Err(refused) => what = refused,
            }
        }
    }

    /// Lets the first in line open a connection, if there is none that could be given back.
    fn serve_if_empty(&self) {
        if self.open.get() > 0 {
            return;
        }
        let first = self.waiting.borrow().first_key_value().map(|(ticket, first)| (*ticket, first.limits.clone()));
        if let Some((ticket, limits)) = first {
            limits.grant(ticket);
        }
    }
}

impl<T: 'static> Line<T> {
    /// Asks for one more connection.
    pub(crate) fn ask(self: &Rc<Self>, limits: &Arc<Limits>) -> Asked {
        if self.has_waiting() {
            return Asked::Full;
        }
        match limits.slot() {
            Some(slot) => Asked::Room(self.leave(slot)),
            None if self.open.get() == 0 => Asked::Regardless(self.leave(limits.slot_regardless())),
            None => Asked::Full,
        }
    }

    /// Waits for leave to open a connection, or for one.
    pub(crate) async fn turn(self: &Rc<Self>, limits: &Arc<Limits>) -> Turn<T> {
        let (taker, given) = channel();
        let (ticket, slot) = limits.wait();
        self.waiting.borrow_mut().insert(ticket, Awaiting { limits: limits.clone(), taker });
        let mut waiter = Waiter { line: self, limits, ticket, slot, given };
        // The last connection may have closed before there was a line.
        self.serve_if_empty();
        poll_fn(|cx| {
            if let Poll::Ready(Ok(given)) = Pin::new(&mut waiter.given).poll(cx) {
                return Poll::Ready(Turn::Given(given));
            }
            match Pin::new(&mut waiter.slot).poll(cx) {
                // Counted before the waiter goes: the line is not empty any more.
                Poll::Ready(Ok(slot)) => Poll::Ready(Turn::Open(self.leave(slot))),
                // The queue keeps the other end until it sends.
                Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    fn leave(self: &Rc<Self>, slot: Slot) -> Leave {
        self.open.set(self.open.get() + 1);
        let line: Rc<dyn Closes> = self.clone();
        Leave { _place: Some(Place(Rc::downgrade(&line))), _slot: slot }
    }
}

impl Leave {
    /// For a connection that nobody is in line for.
    pub(crate) fn alone(slot: Slot) -> Self {
        Self { _place: None, _slot: slot }
    }
}

impl<T> Closes for Line<T> {
    fn closed(&self) {
        self.open.set(self.open.get() - 1);
        self.serve_if_empty();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(line) = self.0.upgrade() {
            line.closed();
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Place")
    }
}

impl<T> fmt::Debug for Line<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("open", &self.open).finish_non_exhaustive()
    }
}

impl<T> Drop for Waiter<'_, T> {
    fn drop(&mut self) {
        self.line.waiting.borrow_mut().remove(&self.ticket);
        self.limits.leave(self.ticket);
        if let Ok(given) = self.given.try_recv() {
            drop(self.line.give(given));
        }
        // A slot that came goes on with the receiver; the next in this line may need one of its own.
        self.line.serve_if_empty();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use outrigger_model::ConnectionPool;

    use super::*;

    fn limits(max: u32) -> Arc<Limits> {
        let limits = Arc::new(Limits::default());
        limits.obey(&ConnectionPool { connections_max: Some(max), ..ConnectionPool::default() });
        limits
    }

    fn line() -> Rc<Line<u32>> {
        Rc::default()
    }

    /// What the line says, as one word, with what has to be kept.
    fn ask(line: &Rc<Line<u32>>, limits: &Arc<Limits>) -> (&'static str, Option<Leave>) {
        match line.ask(limits) {
            Asked::Room(leave) => ("room", Some(leave)),
            Asked::Regardless(leave) => ("regardless", Some(leave)),
            Asked::Full => ("full", None),
        }
    }

    fn poll(turn: Pin<&mut impl Future<Output = Turn<u32>>>) -> Option<Turn<u32>> {
        match turn.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        }
    }

    #[test]
    fn every_line_may_have_one_connection_and_further_ones_within_the_limit() {
        let (limits, first, second, third) = (limits(2), line(), line(), line());
        let mut kept = Vec::new();
        for (line, expected) in [
            (&first, "room"),
            (&first, "room"),
            (&first, "full"),
            (&second, "regardless"),
            (&second, "full"),
            (&third, "regardless"),
        ] {
            let (said, leave) = ask(line, &limits);
            assert_eq!(said, expected);
            kept.extend(leave);
        }
        assert_eq!(limits.under_way().connections, 4, "two, and one more for each of the others");
        drop(kept);
        assert_eq!(limits.under_way().connections, 0);
        assert!(first.is_unused() && second.is_unused());
    }

    #[test]
    fn what_is_given_back_goes_to_the_first_in_line() {
        let (limits, line) = (limits(1), line());
        let (_, _open) = ask(&line, &limits);
        let (mut first, mut second) = (pin!(line.turn(&limits)), pin!(line.turn(&limits)));
        assert!(poll(first.as_mut()).is_none() && poll(second.as_mut()).is_none());
        assert_eq!(line.give(7), None);
        assert!(poll(second.as_mut()).is_none(), "it was second");
        assert!(matches!(poll(first.as_mut()), Some(Turn::Given(7))));
        assert_eq!(line.give(8), None);
        assert!(matches!(poll(second.as_mut()), Some(Turn::Given(8))));
        assert_eq!(line.give(9), Some(9), "nobody is left");
    }

    #[test]
    fn a_slot_goes_to_who_waited_longest_on_any_line() {
        let (limits, here, there) = (limits(2), line(), line());
        let (_, mine) = ask(&here, &limits);
        let (_, _other) = ask(&there, &limits);
        let mut away = pin!(there.turn(&limits));
        assert!(poll(away.as_mut()).is_none());
        let mut near = Box::pin(here.turn(&limits));
        assert!(poll(near.as_mut()).is_none());
        // One that has no connection left is served first: nothing can be given back in it.
        drop(mine);
        assert!(poll(away.as_mut()).is_none());
        let Some(Turn::Open(opened)) = poll(near.as_mut()) else { panic!("it may open one") };
        let mut later = pin!(here.turn(&limits));
        assert!(poll(later.as_mut()).is_none());
        let (said, spare) = ask(&line(), &limits);
        assert_eq!((said, limits.under_way().connections), ("regardless", 3));
        drop(spare);
        limits.obey(&ConnectionPool { connections_max: Some(3), ..ConnectionPool::default() });
        assert!(poll(later.as_mut()).is_none());
        assert!(matches!(poll(away.as_mut()), Some(Turn::Open(_))), "it was there first");
        drop(opened);
    }

    #[test]
    fn who_leaves_takes_nothing_along() {
        let (limits, line) = (limits(1), line());
        let (_, open) = ask(&line, &limits);
        let mut gone: Vec<_> = (0..3).map(|_| Box::pin(line.turn(&limits))).collect();
        assert!(gone.iter_mut().all(|turn| poll(turn.as_mut()).is_none()));
        let mut last = pin!(line.turn(&limits));
        assert!(poll(last.as_mut()).is_none());
        // The first goes while it waits, the second and the third with a connection they were given.
        drop(gone.remove(0));
        assert_eq!(line.give(5), None);
        drop(gone.remove(0));
        assert!(poll(last.as_mut()).is_none(), "the third was given what the second had");
        drop(gone.remove(0));
        assert!(matches!(poll(last.as_mut()), Some(Turn::Given(5))));
        drop(open);
        assert_eq!(limits.under_way().connections, 0);
        assert!(line.is_unused());
    }

    #[test]
    fn leave_that_is_not_used_is_there_for_the_next_in_line() {
        let (limits, line, elsewhere) = (limits(1), line(), line());
        let (_, open) = ask(&line, &limits);
        let (_, _other) = ask(&elsewhere, &limits);
        let mut gone = Box::pin(line.turn(&limits));
        let mut next = pin!(line.turn(&limits));
        assert!(poll(gone.as_mut()).is_none() && poll(next.as_mut()).is_none());
        // The other connection is above the limit: only because its line is empty may one be opened.
        drop(open);
        drop(gone);
        let Some(Turn::Open(opened)) = poll(next.as_mut()) else { panic!("the line is not forgotten") };
        assert_eq!(limits.under_way().connections, 2);
        let mut failed = pin!(line.turn(&limits));
        assert!(poll(failed.as_mut()).is_none());
        // The connection was refused: the one behind tries for itself.
        drop(opened);
        assert!(matches!(poll(failed.as_mut()), Some(Turn::Open(_))));
    }
}
