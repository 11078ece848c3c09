//! How long one direction of a conversation waits.

use std::cell::{Cell, OnceCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;

use super::sink::Refused;
use crate::alarm::{Alarm, Clock};
use crate::worker::Worker;

/// The limits of one direction. Silence is measured over both: a stream on which anything happens is not idle.
pub(crate) struct Patience<'p> {
    clock: &'p Rc<Clock>,
    /// Made with the first wait: most messages need none.
    alarm: OnceCell<Rc<Alarm>>,
    idle_ms: u64,
    /// How long a receiver may take to make room.
    pub(crate) stall: Duration,
    /// When a byte last passed, in either direction.
    moved_ms: &'p Cell<u64>,
}

impl<'p> Patience<'p> {
    /// For a direction that may be silent for `idle`.
    pub(crate) fn new(worker: &'p Worker, idle: Duration, moved_ms: &'p Cell<u64>) -> Self {
        Self {
            clock: &worker.clock,
            alarm: OnceCell::new(),
            idle_ms: idle.as_millis() as u64,
            stall: worker.settings.write_stall_timeout,
            moved_ms,
        }
    }

    /// The coarse time.
    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// A byte has passed.
    pub(crate) fn moved(&self) {
        self.moved_ms.set(self.clock.now_ms());
    }

    /// Whether it has been silent for too long; else the task is woken when it will have been.
    pub(crate) fn is_over(&self, cx: &Context<'_>) -> bool {
        loop {
            let due_ms = self.moved_ms.get() + self.idle_ms;
            if !self.alarm().is_past(due_ms, cx) {
                return false;
            }
            // Only now: the other direction may have been busy.
            if self.moved_ms.get() + self.idle_ms <= self.now_ms() {
                return true;
            }
        }
    }

    /// Waits for room at the receiver, who has had since `since_ms` to make some.
    pub(crate) async fn room(&self, stream: &mut SendStream<Bytes>, since_ms: u64) -> Result<usize, Refused> {
        let due_ms = since_ms + self.stall.as_millis() as u64;
        poll_fn(|cx| {
            loop {
                match stream.poll_capacity(cx) {
                    // None yet, whatever woke us.
                    Poll::Ready(Some(Ok(0))) => {}
                    Poll::Ready(Some(Ok(room))) => return Poll::Ready(Ok(room)),
                    Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Err(Refused::Gone)),
                    Poll::Pending if self.alarm().is_past(due_ms, cx) => return Poll::Ready(Err(Refused::Slow)),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    fn alarm(&self) -> &Rc<Alarm> {
        self.alarm.get_or_init(|| self.clock.lend())
    }
}

impl Drop for Patience<'_> {
    fn drop(&mut self) {
        if let Some(alarm) = self.alarm.take() {
            self.clock.give_back(alarm);
        }
    }
}
