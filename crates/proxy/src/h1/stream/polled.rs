//! A stream as the runtime's traits want it, for HTTP/2: what is unread in its buffer comes first.
//!
//! Over TLS a write is encrypted a batch at a time, and the next one waits until the batch before has left: what is
//! encrypted and not written stays bounded.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::{Session, Stream, poll_plaintext, poll_read};
use crate::h1::buffer::BufferPool;
use crate::h1::stream::Reader;

impl Reader<'_> {
    /// Reads once into the buffer, without a limit of time: so many bytes, none at the end. A reader that waits holds no
    /// buffer.
    pub(crate) fn poll_fill(
        &mut self,
        pool: &BufferPool,
        capacity_max: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let room = self.input.room(pool, capacity_max);
        let read = match self.tls {
            None => poll_read(&mut self.half, room, cx),
            Some(session) => poll_plaintext(&mut session.borrow_mut(), &mut self.half, room, cx),
        };
        match read {
            Poll::Ready(Ok(count)) => self.input.fill(count),
            _ => self.input.release(pool),
        }
        read
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.input.is_empty() {
            let count = this.input.len().min(room.remaining());
            room.put_slice(&this.input.bytes()[..count]);
            this.input.consume(count);
            return Poll::Ready(Ok(()));
        }
        let Some(session) = &this.tls else { return Pin::new(&mut this.socket).poll_read(cx, room) };
        let mut session = session.borrow_mut();
        let (mut half, _) = this.socket.split();
        let read = poll_plaintext(&mut session, &mut half, room.initialize_unfilled(), cx);
        if read.is_pending() {
            session.release();
        }
        room.advance(ready!(read)?);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let Some(session) = &this.tls else { return Pin::new(&mut this.socket).poll_write_vectored(cx, parts) };
        let mut session = session.borrow_mut();
        ready!(poll_outgoing(&mut session, &mut this.socket, cx))?;
        let mut written = 0;
        for pair in parts.chunks(2) {
            let (mut first, mut second) = (&*pair[0], pair.get(1).map_or(&[][..], |part| part));
            let all = first.len() + second.len();
            session.encrypt(&mut first, &mut second).map_err(io::Error::other)?;
            let left = first.len() + second.len();
            written += all - left;
            if left > 0 || written >= Session::BATCH_BYTES {
                break;
            }
        }
        // What does not leave now leaves before the next write, or with a flush.
        if let Poll::Ready(Err(error)) = poll_outgoing(&mut session, &mut this.socket, cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(session) = &this.tls else { return Poll::Ready(Ok(())) };
        poll_outgoing(&mut session.borrow_mut(), &mut this.socket, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(session) = &this.tls {
            let mut session = session.borrow_mut();
            session.close();
            ready!(poll_outgoing(&mut session, &mut this.socket, cx))?;
        }
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

/// Writes what the session has for the peer; ready when all of it has left.
fn poll_outgoing(session: &mut Session, socket: &mut TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut outgoing = session.take_outgoing();
    let done = loop {
        if outgoing.is_empty() {
            break Poll::Ready(Ok(()));
        }
        match Pin::new(&mut *socket).poll_write(cx, outgoing.bytes()) {
            Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(count)) => outgoing.consume(count),
            Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
            Poll::Pending => break Poll::Pending,
        }
    };
    session.return_outgoing(outgoing);
    if done.is_ready() {
        session.release();
    }
    done
}
