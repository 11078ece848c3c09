//! A socket with its unread bytes and its time limits.
//!
//! Used for both sides of an exchange. Reads go to the stream's buffer; writes go straight to the socket and return when
//! all is written, which is how backpressure travels: a peer that does not read stops us from reading the other side.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::buffer::{Buffer, BufferPool};
use crate::alarm::{Alarm, Clock};

/// What went wrong on a socket.
#[derive(Debug)]
pub(crate) enum IoFailure {
    /// The peer closed in good order.
    Closed,
    /// The connection broke.
    Broken,
    /// The time limit struck.
    TimedOut,
}

/// A socket, read through a buffer.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) input: Buffer,
    socket: TcpStream,
    read_alarm: Rc<Alarm>,
    write_alarm: Rc<Alarm>,
}

/// The reading side of a stream.
pub(crate) struct Reader<'s> {
    pub(crate) input: &'s mut Buffer,
    half: tokio::net::tcp::ReadHalf<'s>,
    alarm: &'s Alarm,
}

/// The writing side of a stream.
pub(crate) struct Writer<'s> {
    half: tokio::net::tcp::WriteHalf<'s>,
    alarm: &'s Alarm,
}

impl Stream {
    /// Around a connected socket.
    pub(crate) fn new(socket: TcpStream, clock: &Rc<Clock>) -> Self {
        Self { input: Buffer::default(), socket, read_alarm: clock.alarm(), write_alarm: clock.alarm() }
    }

    /// Both sides, to be used at the same time.
    pub(crate) fn split(&mut self) -> (Reader<'_>, Writer<'_>) {
        let (read, write) = self.socket.split();
        (
            Reader { input: &mut self.input, half: read, alarm: &self.read_alarm },
            Writer { half: write, alarm: &self.write_alarm },
        )
    }

    /// The reading side alone.
    pub(crate) fn reader(&mut self) -> Reader<'_> {
        self.split().0
    }

    /// The writing side alone.
    pub(crate) fn writer(&mut self) -> Writer<'_> {
        self.split().1
    }

    /// Waits until there is something to read, holding no buffer meanwhile.
    pub(crate) async fn wait_readable(&mut self, pool: &BufferPool, limit: Duration) -> Result<(), IoFailure> {
        self.input.release(pool);
        let socket = &self.socket;
        match self.read_alarm.limit_idle(limit, poll_fn(|cx| socket.poll_read_ready(cx))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(IoFailure::Broken),
            Err(_) => Err(IoFailure::TimedOut),
        }
    }

    /// Whether an idle connection is as we left it: open, with nothing to read.
    pub(crate) fn is_quiet(&self) -> bool {
        let mut byte = [0];
        self.input.is_empty()
            && matches!(self.socket.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The socket, for options and addresses.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }
}

impl Reader<'_> {
    /// Whether the peer has reset the connection; ready as soon as that is decided. A peer that has only finished sending
    /// may still want its answer (RFC 9112 §9.6), and one that sent more bytes is still there: both are no reset.
    pub(crate) fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let socket = self.half.as_ref();
        match socket.poll_read_ready(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(!matches!(socket.take_error(), Ok(None))),
            Poll::Ready(Err(_)) => Poll::Ready(true),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Reads once into the buffer: at least one byte, or a failure. `capacity_max` bounds the unread bytes.
    pub(crate) async fn fill(
        &mut self,
        pool: &BufferPool,
        capacity_max: usize,
        limit: Duration,
    ) -> Result<usize, IoFailure> {
        let room = self.input.room(pool, capacity_max);
        debug_assert!(!room.is_empty(), "the caller judges a full buffer before it asks for more");
        let half = &mut self.half;
        let read = poll_fn(|cx| {
            let mut target = ReadBuf::new(room);
            match Pin::new(&mut *half).poll_read(cx, &mut target) {
                Poll::Ready(Ok(())) => Poll::Ready(Ok(target.filled().len())),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => Poll::Pending,
            }
        });
        match self.alarm.limit(limit, read).await {
            Ok(Ok(0)) => Err(IoFailure::Closed),
            Ok(Ok(count)) => {
                self.input.fill(count);
                Ok(count)
            }
            Ok(Err(_)) => Err(IoFailure::Broken),
            Err(_) => Err(IoFailure::TimedOut),
        }
    }
}

impl Writer<'_> {
    /// Bytes that count as progress of a slow reader: less would let it hold memory for ever, a byte at a time.
    const PROGRESS_BYTES: usize = 16 * 1024;

    /// Writes all of `first`, then all of `second`, in as few calls as the socket allows. Within each `limit` the end or
    /// [`Self::PROGRESS_BYTES`] must be reached.
    pub(crate) async fn write(&mut self, first: &[u8], second: &[u8], limit: Duration) -> Result<(), IoFailure> {
        let (mut first, mut second) = (first, second);
        let (mut since_ms, mut progress) = (self.alarm.now_ms(), 0);
        while !first.is_empty() || !second.is_empty() {
            let half = &mut self.half;
            let write = poll_fn(|cx| {
                if second.is_empty() {
                    Pin::new(&mut *half).poll_write(cx, first)
                } else if first.is_empty() {
                    Pin::new(&mut *half).poll_write(cx, second)
                } else {
                    Pin::new(&mut *half).poll_write_vectored(cx, &[IoSlice::new(first), IoSlice::new(second)])
                }
            });
            let left = limit.saturating_sub(Duration::from_millis(self.alarm.now_ms() - since_ms));
            let count = match self.alarm.limit(left, write).await {
                Ok(Ok(0)) => return Err(IoFailure::Closed),
                Ok(Ok(count)) => count,
                Ok(Err(_)) => return Err(IoFailure::Broken),
                Err(_) => return Err(IoFailure::TimedOut),
            };
            progress += count;
            if progress >= Self::PROGRESS_BYTES {
                (since_ms, progress) = (self.alarm.now_ms(), 0);
            }
            let of_first = count.min(first.len());
            first = &first[of_first..];
            second = &second[count - of_first..];
        }
        Ok(())
    }

    /// Says that nothing more will be written.
    pub(crate) async fn finish(&mut self) {
        let half = &mut self.half;
        // A peer that is gone already needs no goodbye.
        let _ = poll_fn(|cx| Pin::new(&mut *half).poll_shutdown(cx)).await;
    }
}
