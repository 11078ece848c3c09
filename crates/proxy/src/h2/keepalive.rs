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
    /// When the PING that is under way was sent.
    asked_ms: Option<u64>,
}

/// How long a peer may take nothing of what is written to it; the value of HTTP/1's `write_stall_timeout`.
const STALL_MS: u64 = 30_000;

impl Keepalive {
    /// Asks after `interval` of silence, and waits for `timeout`.
    pub(crate) fn new(interval: Duration, timeout: Duration) -> Self {
        Self { interval_ms: interval.as_millis() as u64, timeout_ms: timeout.as_millis() as u64, asked_ms: None }
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
            due_ms = since_ms + STALL_MS;
            if now_ms >= due_ms {
                return Poll::Ready(());
            }
        }
        if let Some(ping) = ping {
            due_ms = due_ms.min(match self.ask(watch, ping, is_busy, now_ms, cx) {
                Some(due_ms) if now_ms >= due_ms => return Poll::Ready(()),
                Some(due_ms) => due_ms,
                None if is_busy => watch.heard_ms() + self.interval_ms,
                None => u64::MAX,
            });
        }
        if due_ms != u64::MAX && alarm.is_past(due_ms, cx) {
            // It became due this very moment: look again.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// When the answer to a PING is due, if one is under way.
    fn ask(&mut self, watch: &Watch, ping: &mut PingPong, is_busy: bool, now_ms: u64, cx: &Context<'_>) -> Option<u64> {
        let mut cx = Context::from_waker(cx.waker());
        if self.asked_ms.is_some() && ping.poll_pong(&mut cx).is_ready() {
            self.asked_ms = None;
        }
        let is_quiet = now_ms >= watch.heard_ms() + self.interval_ms;
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
