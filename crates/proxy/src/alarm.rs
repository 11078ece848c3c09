//! Time limits that cost nothing while they do not strike.
//!
//! A connection sets a deadline before each wait and takes it away after; both are a store. One ticker per worker looks
//! at all deadlines ten times a second and wakes the tasks whose deadline has passed. Limits are therefore kept to a
//! tenth of a second, which is right for limits of a second and more; anything finer uses the runtime's timers.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

/// The wait lasted too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimedOut;

/// One deadline: that of the wait its owner is in.
#[derive(Debug)]
pub(crate) struct Alarm {
    clock: Rc<Clock>,
    deadline_ms: Cell<u64>,
    /// Whether the wait is one for a request, which a drain shortens.
    idle: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Alarm {
    /// As [`Self::limit`], for a wait that [`Clock::shorten_idle_waits`] may end early.
    pub(crate) async fn limit_idle<F: Future>(&self, limit: Duration, future: F) -> Result<F::Output, TimedOut> {
        self.idle.set(true);
        let result = self.limit(limit, future).await;
        self.idle.set(false);
        result
    }

    /// Waits for `future`, at most `limit` long.
    pub(crate) async fn limit<F: Future>(&self, limit: Duration, future: F) -> Result<F::Output, TimedOut> {
        let mut future = pin!(future);
        // Most waits are over at once: only one that is not sets the alarm.
        let mut set = false;
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                self.deadline_ms.set(u64::MAX);
                return Poll::Ready(Ok(output));
            }
            if !set {
                set = true;
                self.deadline_ms.set(self.clock.now_ms.get() + limit.as_millis() as u64);
            } else if self.deadline_ms.get() == 0 {
                self.deadline_ms.set(u64::MAX);
                return Poll::Ready(Err(TimedOut));
            }
            let mut waker = self.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// Whether it is `deadline_ms` or later; else the task is woken then, or earlier, by [`Clock::shorten_idle_waits`] if
    /// the alarm is an idle one. For tasks that wait for many things and judge by the clock themselves.
    pub(crate) fn is_past(&self, deadline_ms: u64, cx: &Context<'_>) -> bool {
        if self.clock.now_ms() >= deadline_ms {
            self.deadline_ms.set(u64::MAX);
            return true;
        }
        self.deadline_ms.set(deadline_ms);
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        false
    }

    /// Lets a drain wake its owner early, whatever it waits for.
    pub(crate) fn heeds_drain(&self) {
        self.idle.set(true);
    }

    /// The worker's coarse time.
    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Whether the deadline has passed; marks it as struck and wakes the waiter.
    fn strike(&self, now_ms: u64) {
        if self.deadline_ms.get() != u64::MAX && self.deadline_ms.get() <= now_ms {
            self.deadline_ms.set(0);
            if let Some(waker) = &*self.waker.borrow() {
                waker.wake_by_ref();
            }
        }
    }
}

/// The clock of one worker: coarse time and all its alarms.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    now_ms: Cell<u64>,
    alarms: RefCell<Vec<Weak<Alarm>>>,
    /// Alarms for the next short waits.
    spare: RefCell<Vec<Rc<Alarm>>>,
}

impl Clock {
    /// How often deadlines are looked at.
    pub(crate) const TICK: Duration = Duration::from_millis(100);
    /// Alarms that are kept to be lent.
    const SPARE_MAX: usize = 128;

    /// A clock that starts at 1 ms, so that 0 can mean "struck".
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            started: Instant::now(),
            now_ms: Cell::new(1),
            alarms: RefCell::default(),
            spare: RefCell::default(),
        })
    }

    /// Milliseconds since start, at most a tick old.
    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }

    /// A new alarm.
    pub(crate) fn alarm(self: &Rc<Self>) -> Rc<Alarm> {
        let alarm = Rc::new(Alarm {
            clock: self.clone(),
            deadline_ms: Cell::new(u64::MAX),
            idle: Cell::default(),
            waker: RefCell::default(),
        });
        self.alarms.borrow_mut().push(Rc::downgrade(&alarm));
        alarm
    }

    /// An alarm that is given back soon. One of its own for every wait of every request would be looked for by the ticker
    /// long after it is gone.
    pub(crate) fn lend(self: &Rc<Self>) -> Rc<Alarm> {
        let spare = self.spare.borrow_mut().pop();
        spare.unwrap_or_else(|| self.alarm())
    }

    /// Takes back an alarm that was lent.
    pub(crate) fn give_back(&self, alarm: Rc<Alarm>) {
        alarm.deadline_ms.set(u64::MAX);
        alarm.idle.set(false);
        *alarm.waker.borrow_mut() = None;
        let mut spare = self.spare.borrow_mut();
        if spare.len() < Self::SPARE_MAX {
            spare.push(alarm);
        }
    }

    /// Keeps no alarms: each of them keeps the clock.
    pub(crate) fn end(&self) {
        self.spare.take();
    }

    /// Lets no wait for a request last longer than `limit` from now.
    pub(crate) fn shorten_idle_waits(&self, limit: Duration) {
        let latest_ms = self.now_ms.get() + limit.as_millis() as u64;
        let alarms = self.alarms.borrow();
        for alarm in alarms.iter().filter_map(Weak::upgrade).filter(|a| a.idle.get()) {
            alarm.deadline_ms.set(alarm.deadline_ms.get().min(latest_ms));
        }
    }

    /// Moves the time on and wakes whoever waited too long.
    pub(crate) fn tick(&self) {
        let now_ms = self.started.elapsed().as_millis() as u64 + 1;
        self.now_ms.set(now_ms);
        self.alarms.borrow_mut().retain(|alarm| match alarm.upgrade() {
            Some(alarm) => {
                alarm.strike(now_ms);
                true
            }
            None => false,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_alarm_strikes_once_its_wait_is_too_long_and_only_then() {
        let clock = Clock::new();
        let alarm = clock.alarm();
        assert_eq!(alarm.limit(Duration::from_secs(1), async { 7 }).await, Ok(7));
        let ticker = async {
            for _ in 0..40 {
                tokio::time::advance(Clock::TICK).await;
                clock.tick();
                tokio::task::yield_now().await;
            }
        };
        let before = Instant::now();
        let wait = async {
            let struck = alarm.limit(Duration::from_secs(1), std::future::pending::<()>()).await;
            (struck, before.elapsed())
        };
        let ((struck, elapsed), ()) = tokio::join!(wait, ticker);
        assert_eq!(struck, Err(TimedOut));
        assert!(elapsed >= Duration::from_secs(1) && elapsed < Duration::from_millis(1300), "{elapsed:?}");
        assert_eq!(alarm.limit(Duration::from_secs(1), async { 8 }).await, Ok(8), "it can be set again");
    }

    #[test]
    fn alarms_are_lent_again() {
        let clock = Clock::new();
        let alarms = || clock.alarms.borrow().len();
        let (one, two) = (clock.lend(), clock.lend());
        one.is_past(50, &Context::from_waker(Waker::noop()));
        clock.give_back(one);
        let again = clock.lend();
        assert_eq!((alarms(), again.deadline_ms.get(), again.waker.borrow().is_none()), (2, u64::MAX, true));
        clock.give_back(again);
        clock.give_back(two);
        clock.end();
        clock.tick();
        assert_eq!(alarms(), 0);
    }

    #[test]
    fn alarms_of_ended_connections_are_forgotten() {
        let clock = Clock::new();
        drop(clock.alarm());
        let kept = clock.alarm();
        clock.tick();
        assert_eq!(clock.alarms.borrow().len(), 1);
        drop(kept);
    }
}
