//! The socket under a connection of HTTP/2: it shows the meter every byte, and notices a peer that takes none.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::meter::{FrameLimits, Meter};
use crate::alarm::Clock;
use crate::h1::stream::Stream;

/// A stream that is watched.
pub(crate) struct Io {
    stream: Stream,
    watch: Rc<Watch>,
}

/// What is seen of a connection from outside.
pub(crate) struct Watch {
    clock: Rc<Clock>,
    pub(crate) meter: Meter,
    /// When the peer last sent something.
    pub(crate) read_ms: Cell<u64>,
    /// Since when the peer has not taken what counts as progress; none while nothing waits.
    pub(crate) stalled_since_ms: Cell<Option<u64>>,
    /// Bytes taken since then.
    progress: Cell<usize>,
    has_read: Cell<bool>,
    reads: Notify,
}

/// Bytes that count as progress of a slow reader, as for HTTP/1.
const PROGRESS_BYTES: usize = 16 * 1024;

impl Io {
    /// Around a stream; what is unread in its buffer is read first.
    pub(crate) fn new(stream: Stream, clock: &Rc<Clock>, limits: &'static FrameLimits) -> (Self, Rc<Watch>) {
        let now_ms = clock.now_ms();
        let watch = Rc::new(Watch {
            clock: clock.clone(),
            meter: Meter::new(now_ms, limits),
            read_ms: Cell::new(now_ms),
            stalled_since_ms: Cell::new(None),
            progress: Cell::new(0),
            has_read: Cell::new(false),
            reads: Notify::new(),
        });
        (Self { stream, watch: watch.clone() }, watch)
    }
}

impl Watch {
    /// Whether the peer has said something.
    pub(crate) fn has_read(&self) -> bool {
        self.has_read.get()
    }

    /// Waits until the peer has said something, or its connection is over.
    pub(crate) async fn first_read(&self) {
        if !self.has_read.get() {
            self.reads.notified().await;
        }
    }

    /// The connection is over.
    pub(crate) fn ended(&self) {
        self.reads.notify_waiters();
    }

    /// Shows the meter what the peer took.
    fn wrote(&self, bytes: &[u8], cx: &Context<'_>) {
        if self.meter.wrote(bytes).is_err() {
            // The connection is looked at again at once, and found to have tripped.
            cx.waker().wake_by_ref();
        }
    }

    /// Takes notice of what a write came to.
    fn written(&self, result: &Poll<io::Result<usize>>) {
        match result {
            Poll::Pending if self.stalled_since_ms.get().is_none() => {
                self.stalled_since_ms.set(Some(self.clock.now_ms()));
                self.progress.set(0);
            }
            Poll::Ready(Ok(count)) if self.stalled_since_ms.get().is_some() => {
                let progress = self.progress.get() + count;
                self.progress.set(progress);
                if progress >= PROGRESS_BYTES {
                    self.stalled_since_ms.set(None);
                }
            }
            _ => {}
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Whoever owns the connection ends it; what a peer says after that counts for nothing.
        if self.watch.meter.tripped().is_some() {
            return Poll::Pending;
        }
        let before = room.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, room))?;
        let watch = &self.watch;
        watch.read_ms.set(watch.clock.now_ms());
        if !watch.has_read.replace(true) {
            watch.reads.notify_waiters();
        }
        if watch.meter.read(&room.filled()[before..], watch.clock.now_ms()).is_err() {
            room.set_filled(before);
            // The connection is looked at again at once, and found to have tripped.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch.written(&result);
        let count = ready!(result)?;
        self.watch.wrote(&bytes[..count], cx);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.watch.written(&result);
        let count = ready!(result)?;
        let mut left = count;
        for part in parts {
            let taken = left.min(part.len());
            self.watch.wrote(&part[..taken], cx);
            left -= taken;
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            // Everything has left: whatever was slow before is forgiven.
            self.watch.stalled_since_ms.set(None);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
