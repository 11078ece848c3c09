//! The socket under a connection of HTTP/2: it shows the meter every byte, and notices a peer that takes none.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::meter::{FrameLimits, Meter};
use crate::alarm::{Alarm, Clock};
use crate::h1::buffer::BufferPool;
use crate::h1::stream::Stream;

/// A stream that is watched.
pub(crate) struct Io {
    stream: Stream,
    watch: Rc<Watch>,
    /// Where the stream's own buffer goes: nothing is read through it any more.
    buffers: Rc<BufferPool>,
    /// How it ends, once it does.
    linger: Option<Linger>,
    linger_timeout: Duration,
}

/// What a peer says after everything was said to it is read for a moment: closing on unread bytes would reset the connection,
/// and lose what it has not read yet. A peer that reads an answer opens windows all the while.
struct Linger {
    alarm: Rc<Alarm>,
    until_ms: u64,
    bytes_left: usize,
}

/// Bytes that are read in that time at most.
const LINGER_BYTES_MAX: usize = 64 * 1024;

/// What is seen of a connection from outside.
pub(crate) struct Watch {
    clock: Rc<Clock>,
    pub(crate) meter: Meter,
    /// When the peer last sent something.
    read_ms: Cell<u64>,
    /// Since when the peer has not taken what counts as progress; none while nothing waits.
    pub(crate) stalled_since_ms: Cell<Option<u64>>,
    /// When the peer last made room for what waited: as good as a word from it.
    taken_ms: Cell<u64>,
    /// Bytes taken since then.
    progress: Cell<usize>,
    has_read: Cell<bool>,
    reads: Notify,
}

/// Bytes that count as progress of a slow reader, as for HTTP/1.
const PROGRESS_BYTES: usize = 16 * 1024;

impl Io {
    /// Around a stream; what is unread in its buffer is read first. At its end the peer has `linger_timeout` to read.
    pub(crate) fn new(
        stream: Stream,
        clock: &Rc<Clock>,
        buffers: &Rc<BufferPool>,
        limits: &'static FrameLimits,
        linger_timeout: Duration,
    ) -> (Self, Rc<Watch>) {
        let now_ms = clock.now_ms();
        let watch = Rc::new(Watch {
            clock: clock.clone(),
            meter: Meter::new(now_ms, limits),
            read_ms: Cell::new(now_ms),
            stalled_since_ms: Cell::new(None),
            taken_ms: Cell::new(now_ms),
            progress: Cell::new(0),
            has_read: Cell::new(false),
            reads: Notify::new(),
        });
        (Self { stream, watch: watch.clone(), buffers: buffers.clone(), linger: None, linger_timeout }, watch)
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

    /// When the peer last showed that it is there.
    pub(crate) fn heard_ms(&self) -> u64 {
        self.read_ms.get().max(self.taken_ms.get())
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
                self.taken_ms.set(self.clock.now_ms());
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
        let Self { stream, watch, buffers, .. } = &mut *self;
        stream.input.release(buffers);
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
        if self.linger.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            let clock = &self.watch.clock;
            let until_ms = clock.now_ms() + self.linger_timeout.as_millis() as u64;
            self.linger = Some(Linger { alarm: clock.alarm(), until_ms, bytes_left: LINGER_BYTES_MAX });
        }
        let Self { stream, linger: Some(linger), .. } = &mut *self else { return Poll::Ready(Ok(())) };
        loop {
            let mut room = [0; 4096];
            let mut room = ReadBuf::new(&mut room);
            match Pin::new(&mut *stream).poll_read(cx, &mut room) {
                Poll::Ready(Ok(())) if !room.filled().is_empty() => {
                    linger.bytes_left = linger.bytes_left.saturating_sub(room.filled().len());
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending if linger.alarm.is_past(linger.until_ms, cx) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
            if linger.bytes_left == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpSocket, TcpStream};

    use super::super::meter::DOWNSTREAM;
    use super::*;

    /// Longer than what a client takes before it reads, shorter than what the system takes for it.
    const TAIL: usize = 40 * 1024;

    #[tokio::test]
    async fn a_client_that_still_speaks_can_read_to_the_end() {
        let listener = TcpSocket::new_v4().unwrap();
        listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = listener.listen(1).unwrap();
        let client = TcpSocket::new_v4().unwrap();
        client.set_recv_buffer_size(4096).unwrap();
        let client: TcpStream = client.connect(listener.local_addr().unwrap()).await.unwrap();
        let clock = Clock::new();
        let stream = Stream::accepted(listener.accept().await.unwrap().0, &clock);
        let (mut io, _) = Io::new(stream, &clock, &Rc::default(), &DOWNSTREAM, Duration::from_secs(5));
        io.write_all(&[b'x'; TAIL]).await.unwrap();
        let mut client = client.into_std().unwrap();
        client.set_nonblocking(false).unwrap();
        // It has read nothing yet, and opens a window.
        client.write_all(b"window").unwrap();
        let reading = tokio::task::spawn_blocking(move || {
            let mut received = Vec::new();
            let mut block = [0; 1024];
            loop {
                match client.read(&mut block) {
                    Ok(0) => return Ok(received.len()),
                    Ok(count) => received.extend_from_slice(&block[..count]),
                    Err(error) => return Err((received.len(), error)),
                }
                // One more for each block: some of them come after all was said.
                let _ = client.write_all(b"window");
            }
        });
        io.shutdown().await.unwrap();
        drop(io);
        assert_eq!(reading.await.unwrap().expect("no reset"), TAIL);
    }

    #[tokio::test]
    async fn what_was_read_ahead_comes_first_and_takes_no_memory_after() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = listener.accept().unwrap().0;
        server.set_nonblocking(true).unwrap();
        let (clock, buffers) = (Clock::new(), Rc::default());
        let mut stream = Stream::accepted(TcpStream::from_std(server).unwrap(), &clock);
        client.write_all(b"ahead").unwrap();
        stream.reader().fill(&buffers, 1024, Duration::from_secs(5)).await.unwrap();
        assert!(stream.input.has_block());
        client.write_all(b", then").unwrap();
        let (mut io, _) = Io::new(stream, &clock, &buffers, &DOWNSTREAM, Duration::ZERO);
        let mut read = [0; 11];
        io.read_exact(&mut read).await.unwrap();
        assert_eq!((&read, io.stream.input.has_block()), (b"ahead, then", false));
    }

    #[tokio::test(start_paused = true)]
    async fn who_makes_room_is_there() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nonblocking(true).unwrap();
        let clock = Clock::new();
        let stream = Stream::accepted(TcpStream::from_std(client).unwrap(), &clock);
        let (_io, watch) = Io::new(stream, &clock, &Rc::default(), &DOWNSTREAM, Duration::ZERO);
        for (waits, heard_ms) in [(false, 1), (true, 10_001)] {
            if waits {
                watch.written(&Poll::Pending);
            }
            tokio::time::advance(Duration::from_secs(5)).await;
            clock.tick();
            watch.written(&Poll::Ready(Ok(1)));
            assert_eq!(watch.heard_ms(), heard_ms, "what the system takes at once tells nothing");
        }
    }
}
