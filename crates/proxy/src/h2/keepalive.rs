//! Whether a peer of HTTP/2 is still there: it takes what is written, and answers PINGs while requests are open.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::{Ping, PingPong};

use super::io::Watch;
use crate::alarm::Alarm;

/// The questions to one peer.
pub(crate) struct Keepalive {
    interval_ms: u64,
    timeout_ms: u64,
    /// How long a peer may take nothing of what is written to it.
    stall_ms: u64,
    /// When the PING that is under way was sent.
    asked_ms: Option<u64>,
    /// Silence between one PING and the next where nothing came but its answer.
    again_ms: u64,
    /// When the last PING was answered.
    answered_ms: u64,
}

/// A little more than what servers of gRPC allow.
const SPARING_MS: u64 = 310_000;

impl Keepalive {
    /// Asks after `interval` of silence, and waits for `timeout`; a peer that takes nothing has `stall`.
    pub(crate) fn new(interval: Duration, timeout: Duration, stall: Duration) -> Self {
        let interval_ms = interval.as_millis() as u64;
        let timeout_ms = timeout.as_millis() as u64;
        let stall_ms = stall.as_millis() as u64;
        Self { interval_ms, timeout_ms, stall_ms, asked_ms: None, again_ms: interval_ms, answered_ms: 0 }
    }

    /// Asks an endpoint that goes on to be silent less often: servers of gRPC end a connection on which PINGs come without
    /// data more often than every 5 minutes (`too_many_pings`).
    pub(crate) fn sparing(self) -> Self {
        Self { again_ms: SPARING_MS.max(self.interval_ms), ..self }
    }

    /// Ready when the peer counts as gone. To be polled whenever the connection is, after it: what the connection does may
    /// change what is to be waited for.
    pub(crate) fn poll(
        &mut self,
        watch: &Watch,
        ping: Option<&mut PingPong>,
        is_busy: bool,
        alarm: &Rc<Alarm>,
        cx: &Context<'_>,
    ) -> Poll<()> {
        let now_ms = alarm.now_ms();
        let mut due_ms = u64::MAX;
        if let Some(since_ms) = watch.stalled_since_ms.get() {
            due_ms = since_ms + self.stall_ms;
            if now_ms >= due_ms {
                return Poll::Ready(());
            }
        }
        if let Some(ping) = ping {
            due_ms = due_ms.min(match self.ask(watch, ping, is_busy, now_ms, cx) {
                Some(due_ms) if now_ms >= due_ms => return Poll::Ready(()),
                Some(due_ms) => due_ms,
                None if is_busy => self.next_ms(watch),
                None => u64::MAX,
            });
        }
        if due_ms != u64::MAX && alarm.is_past(due_ms, cx) {
            // It became due this very moment: look again.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// When to ask.
    fn next_ms(&self, watch: &Watch) -> u64 {
        let read_ms = watch.heard_ms();
        // Nothing has come since but the answer itself.
        let interval_ms = if read_ms <= self.answered_ms { self.again_ms } else { self.interval_ms };
        read_ms + interval_ms
    }

    /// When the answer to a PING is due, if one is under way.
    fn ask(&mut self, watch: &Watch, ping: &mut PingPong, is_busy: bool, now_ms: u64, cx: &Context<'_>) -> Option<u64> {
        let mut cx = Context::from_waker(cx.waker());
        if self.asked_ms.is_some() && ping.poll_pong(&mut cx).is_ready() {
            self.asked_ms = None;
            self.answered_ms = now_ms;
        }
        let is_quiet = now_ms >= self.next_ms(watch);
        if self.asked_ms.is_none() && is_busy && is_quiet && ping.send_ping(Ping::opaque()).is_ok() {
            self.asked_ms = Some(now_ms);
            // Has it written.
            cx.waker().wake_by_ref();
        }
        // Whoever says anything is there, and so is who makes room: the question may be behind all that waits.
        let asked_ms = self.asked_ms?.max(watch.heard_ms());
        Some(asked_ms + self.timeout_ms)
    }
}
