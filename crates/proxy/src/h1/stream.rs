//! A socket with its unread bytes and its time limits, in plain text or behind TLS.
//!
//! Used for both sides of an exchange. Reads go to the stream's buffer; writes go straight to the socket and return when
//! all is written, which is how backpressure travels: a peer that does not read stops us from reading the other side.
//! What is encrypted and not written yet is bounded by a batch of the session.
//!
//! Reader and writer of one stream work at the same time in one task. They share its TLS session, which neither holds
//! while it waits.

mod polled;

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use outrigger_model::TcpKeepalive;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::buffer::{Buffer, BufferPool};
use super::tls::{Handshake, Read, Session};
use crate::alarm::{Alarm, Clock};
use crate::keepalive;

/// What went wrong on a socket.
#[derive(Debug)]
pub(crate) enum IoFailure {
    /// The peer closed in good order; of a write: it had closed, and not a byte left.
    Closed,
    /// The connection broke.
    Broken,
    /// The time limit struck.
    TimedOut,
}

/// Why there is no TLS on a connection.
#[derive(Debug)]
pub(crate) enum HandshakeFailure {
    /// The peer went away.
    Gone,
    /// It took too long.
    TimedOut,
    /// One of the two does not want the other, or breaks the protocol.
    Refused(rustls::Error),
}

/// A socket, read through a buffer.
pub(crate) struct Stream {
    pub(crate) input: Buffer,
    socket: TcpStream,
    /// `None`: plain text.
    tls: Option<Box<RefCell<Session>>>,
    read_alarm: Rc<Alarm>,
    write_alarm: Rc<Alarm>,
}

/// The reading side of a stream.
pub(crate) struct Reader<'s> {
    pub(crate) input: &'s mut Buffer,
    half: ReadHalf<'s>,
    tls: Option<&'s RefCell<Session>>,
    alarm: &'s Alarm,
}

/// The writing side of a stream.
pub(crate) struct Writer<'s> {
    half: WriteHalf<'s>,
    tls: Option<&'s RefCell<Session>>,
    alarm: &'s Alarm,
}

impl Stream {
    /// Around a connected socket.
    pub(crate) fn new(socket: TcpStream, clock: &Rc<Clock>) -> Self {
        Self { input: Buffer::default(), socket, tls: None, read_alarm: clock.alarm(), write_alarm: clock.alarm() }
    }

    /// Around a socket that was accepted just now. The runtime takes such a socket for readable until it has been tried,
    /// which would make every silent client look like one that has begun to speak.
    pub(crate) fn accepted(socket: TcpStream, clock: &Rc<Clock>) -> Self {
        let peek = || socket2::SockRef::from(&socket).peek(&mut [MaybeUninit::uninit()]);
        // Whatever there is shows when it is read.
        let _ = socket.try_io(Interest::READABLE, peek);
        Self::new(socket, clock)
    }

    /// Prepares for a connection that may be silent for hours. A peer that vanished is noticed by keep-alive, as `asked`
    /// for or ours; one that is there and does not read for a while is waited for, so that no limit on unacknowledged
    /// bytes stays. A socket that refuses an option still works.
    pub(crate) fn outlast_silence(&self, asked: Option<TcpKeepalive>) {
        let socket = socket2::SockRef::from(&self.socket);
        let _ = socket.set_tcp_keepalive(&keepalive::options(asked));
        let _ = socket.set_tcp_user_timeout(None);
    }

    /// Both sides, to be used at the same time.
    pub(crate) fn split(&mut self) -> (Reader<'_>, Writer<'_>) {
        let (read, write) = self.socket.split();
        let tls = self.tls.as_deref();
        (
            Reader { input: &mut self.input, half: read, tls, alarm: &self.read_alarm },
            Writer { half: write, tls, alarm: &self.write_alarm },
        )
    }

    /// Puts TLS on the stream, as a server; the handshake begins with the unread bytes. Returns the version agreed on.
    /// After a failure the stream is in plain text again, so that the peer can be given time to read the alert.
    pub(crate) async fn secure(
        &mut self,
        config: Arc<ServerConfig>,
        pool: &Rc<BufferPool>,
        limit: Duration,
    ) -> Result<&'static str, HandshakeFailure> {
        let incoming = std::mem::take(&mut self.input);
        let session = Session::new(config, pool, incoming).map_err(HandshakeFailure::Refused)?;
        let session = self.tls.insert(Box::new(RefCell::new(session)));
        let (mut read, write) = self.socket.split();
        let mut writer = Writer { half: write, tls: Some(session), alarm: &self.write_alarm };
        let shake = async {
            loop {
                let stepped = session.borrow_mut().handshake();
                // The alert of a failure leaves if it can.
                let flushed = writer.flush(session, limit).await;
                match stepped.map_err(HandshakeFailure::Refused)? {
                    Handshake::Done => return Ok(session.borrow().version()),
                    Handshake::Blocked => flushed.map_err(|_| HandshakeFailure::Gone)?,
                }
                match poll_fn(|cx| poll_incoming(&mut session.borrow_mut(), &mut read, cx)).await {
                    Ok(0) | Err(_) => return Err(HandshakeFailure::Gone),
                    Ok(_) => {}
                }
            }
        };
        let shaken = self.read_alarm.limit(limit, shake).await.unwrap_or(Err(HandshakeFailure::TimedOut));
        if shaken.is_err() {
            self.tls = None;
        }
        shaken
    }

    /// The reading side alone.
    pub(crate) fn reader(&mut self) -> Reader<'_> {
        self.split().0
    }

    /// The writing side alone.
    pub(crate) fn writer(&mut self) -> Writer<'_> {
        self.split().1
    }

    /// Waits until there is something to read, holding no buffer meanwhile; a drain may cut it short.
    pub(crate) async fn wait_readable(&mut self, pool: &BufferPool, limit: Duration) -> Result<(), IoFailure> {
        let mut reader = self.reader();
        let alarm = reader.alarm;
        let waited = alarm.limit_idle(limit, poll_fn(|cx| reader.poll_readable(pool, cx))).await;
        waited.unwrap_or(Err(IoFailure::TimedOut))
    }

    /// Whether an idle connection is as we left it: open, with nothing to read.
    pub(crate) fn is_quiet(&self) -> bool {
        let mut byte = [0];
        self.input.is_empty()
            && self.tls.as_ref().is_none_or(|session| !session.borrow().has_unread())
            && matches!(self.socket.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Whether a handshake agreed on HTTP/2.
    pub(crate) fn agreed_on_http2(&self) -> bool {
        self.tls.as_ref().is_some_and(|session| session.borrow().agreed_on_http2())
    }

    /// Says goodbye over TLS, as far as that needs no waiting.
    pub(crate) fn say_goodbye(&self) {
        let Some(session) = &self.tls else { return };
        let mut session = session.borrow_mut();
        session.close();
        // Whoever is gone needs no goodbye.
        let _ = self.socket.try_write(session.take_outgoing().bytes());
    }

    /// Takes TLS off: what still comes is not for us, and is not even decrypted.
    pub(crate) fn leave_tls(&mut self) {
        self.tls = None;
    }

    /// Has the connection end with a reset, so that the peer sees that what it got broke off.
    pub(crate) fn cut(&self) {
        if let Some(session) = &self.tls {
            session.borrow_mut().fail();
        }
        // A socket that is gone already cannot be reset, and need not be.
        let _ = socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("socket", &self.socket)
            .field("is_tls", &self.tls.is_some())
            .finish_non_exhaustive()
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

    /// The socket, where nothing stands between it and the bytes.
    pub(crate) fn plain(&self) -> Option<&TcpStream> {
        self.tls.is_none().then(|| self.half.as_ref())
    }

    /// Waits as [`Stream::wait_readable`] does, in the middle of a conversation: no drain cuts it short.
    pub(crate) async fn wait_readable(&mut self, pool: &BufferPool, limit: Duration) -> Result<(), IoFailure> {
        let alarm = self.alarm;
        alarm.limit(limit, poll_fn(|cx| self.poll_readable(pool, cx))).await.unwrap_or(Err(IoFailure::TimedOut))
    }

    /// Ready when there is something to read. Behind TLS, bytes of the peer that mean nothing to us, such as new keys, are
    /// no reason; the beginning of a record is, because the rest of it is due.
    fn poll_readable(&mut self, pool: &BufferPool, cx: &mut Context<'_>) -> Poll<Result<(), IoFailure>> {
        self.input.release(pool);
        let Some(session) = self.tls else {
            return self.half.as_ref().poll_read_ready(cx).map_err(|_| IoFailure::Broken);
        };
        let mut session = session.borrow_mut();
        loop {
            if session.has_unread() {
                match session.read(self.input.room(pool, Buffer::BLOCK_BYTES)) {
                    Ok(Read::Bytes(count)) => {
                        self.input.fill(count);
                        return Poll::Ready(Ok(()));
                    }
                    Ok(Read::Blocked) if !session.has_unread() => {}
                    Ok(Read::Blocked | Read::Closed) => return Poll::Ready(Ok(())),
                    Err(_) => return Poll::Ready(Err(IoFailure::Broken)),
                }
            }
            self.input.release(pool);
            session.release();
            ready!(self.half.as_ref().poll_read_ready(cx)).map_err(|_| IoFailure::Broken)?;
            match ready!(poll_incoming(&mut session, &mut self.half, cx)) {
                // The end is told by the next read.
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(_) => {}
                Err(_) => return Poll::Ready(Err(IoFailure::Broken)),
            }
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
        let tls = self.tls;
        let read = poll_fn(|cx| match tls {
            None => poll_read(half, room, cx),
            Some(session) => poll_plaintext(&mut session.borrow_mut(), half, room, cx),
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
    /// The socket, where nothing stands between it and the bytes.
    pub(crate) fn plain(&self) -> Option<&TcpStream> {
        self.tls.is_none().then(|| self.half.as_ref())
    }

    /// Waits until the socket takes bytes.
    pub(crate) async fn wait_writable(&self, limit: Duration) -> Result<(), IoFailure> {
        let socket = self.half.as_ref();
        let waited = self.alarm.limit(limit, poll_fn(|cx| socket.poll_write_ready(cx))).await;
        waited.map_err(|_| IoFailure::TimedOut)?.map_err(|_| IoFailure::Broken)
    }

    /// Bytes that count as progress of a slow reader: less would let it hold memory for ever, a byte at a time.
    const PROGRESS_BYTES: usize = 16 * 1024;

    /// Writes all of `first`, then all of `second`, in as few calls as the socket allows. Within each `limit` the end or
    /// [`Self::PROGRESS_BYTES`] must be reached.
    pub(crate) async fn write(&mut self, first: &[u8], second: &[u8], limit: Duration) -> Result<(), IoFailure> {
        let Some(session) = self.tls else { return self.write_raw(first, second, limit).await };
        let (mut first, mut second) = (first, second);
        while !first.is_empty() || !second.is_empty() {
            session.borrow_mut().encrypt(&mut first, &mut second).map_err(|_| IoFailure::Broken)?;
            self.flush(session, limit).await?;
        }
        Ok(())
    }

    /// Writes what the session has for the peer.
    async fn flush(&mut self, session: &RefCell<Session>, limit: Duration) -> Result<(), IoFailure> {
        let mut outgoing = session.borrow_mut().take_outgoing();
        let written = self.write_raw(outgoing.bytes(), &[], limit).await;
        outgoing.consume(outgoing.len());
        session.borrow_mut().return_outgoing(outgoing);
        // Records before these may have left.
        written.map_err(|failure| if let IoFailure::Closed = failure { IoFailure::Broken } else { failure })
    }

    async fn write_raw(&mut self, first: &[u8], second: &[u8], limit: Duration) -> Result<(), IoFailure> {
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
                Ok(Ok(count @ 1..)) => count,
                Ok(Ok(0) | Err(_)) if progress == 0 => return Err(IoFailure::Closed),
                Ok(Ok(0) | Err(_)) => return Err(IoFailure::Broken),
                Err(_) => return Err(IoFailure::TimedOut),
            };
            progress += count;
            if progress >= Self::PROGRESS_BYTES {
                // Never 0 again: something has left.
                (since_ms, progress) = (self.alarm.now_ms(), 1);
            }
            let of_first = count.min(first.len());
            first = &first[of_first..];
            second = &second[count - of_first..];
        }
        Ok(())
    }

    /// Says that nothing more will be written. Over TLS that takes a few bytes, which may have to wait for the peer.
    pub(crate) async fn finish(&mut self, limit: Duration) {
        if let Some(session) = self.tls {
            session.borrow_mut().close();
            let _ = self.flush(session, limit).await;
        }
        let half = &mut self.half;
        // A peer that is gone already needs no goodbye.
        let _ = poll_fn(|cx| Pin::new(&mut *half).poll_shutdown(cx)).await;
    }
}

fn poll_read(half: &mut ReadHalf<'_>, room: &mut [u8], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let mut target = ReadBuf::new(room);
    match Pin::new(half).poll_read(cx, &mut target) {
        Poll::Ready(Ok(())) => Poll::Ready(Ok(target.filled().len())),
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        Poll::Pending => Poll::Pending,
    }
}

/// Reads once from the socket into the session; 0 at the end.
fn poll_incoming(session: &mut Session, half: &mut ReadHalf<'_>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let room = session.room();
    if room.is_empty() {
        return Poll::Ready(Err(io::Error::other("a message of TLS is too long")));
    }
    let read = ready!(poll_read(half, room, cx));
    if let Ok(count) = read {
        session.fill(count);
    }
    Poll::Ready(read)
}

/// Reads plaintext: at least one byte, or none at the end. An end that the peer did not announce is a failure: somebody
/// else may have cut the connection (RFC 8446 §6.1).
fn poll_plaintext(
    session: &mut Session,
    half: &mut ReadHalf<'_>,
    room: &mut [u8],
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    if room.len() > Buffer::BLOCK_BYTES {
        session.expect_much();
    }
    loop {
        match session.read(room) {
            Ok(Read::Bytes(count)) => return Poll::Ready(Ok(count)),
            Ok(Read::Closed) => return Poll::Ready(Ok(0)),
            Ok(Read::Blocked) => {}
            Err(error) => {
                // The alert leaves if it can.
                let _ = half.as_ref().try_write(session.take_outgoing().bytes());
                return Poll::Ready(Err(io::Error::other(error)));
            }
        }
        if ready!(poll_incoming(session, half, cx))? == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_silent_client_is_not_readable_and_holds_no_buffer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let _client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
        let (socket, _) = listener.accept().await.expect("a client");
        let pool = BufferPool::default();
        let mut stream = Stream::accepted(socket, &Clock::new());
        let wait = stream.wait_readable(&pool, Duration::from_secs(60));
        let waited = tokio::time::timeout(Duration::from_millis(50), wait).await;
        assert!(waited.is_err(), "nothing was sent");
    }

    #[tokio::test]
    async fn a_failed_write_tells_whether_any_byte_left() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        for (length, is_begun) in [(16 * 1024 * 1024, true), (1, false)] {
            let socket = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
            let (peer, _) = listener.accept().await.expect("a client");
            socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).expect("an option of TCP");
            let mut stream = Stream::new(socket, &Clock::new());
            let bytes = vec![0; length];
            let mut writer = stream.writer();
            let write = async { writer.write(&bytes, &bytes, Duration::from_secs(10)).await };
            let written = if is_begun {
                tokio::join!(write, async { drop(peer) }).0
            } else {
                drop(peer);
                write.await
            };
            let Err(failure) = written else { panic!("the peer resets") };
            assert_eq!(matches!(failure, IoFailure::Broken), is_begun, "{failure:?}");
        }
    }

    #[tokio::test]
    async fn a_peer_that_vanished_is_noticed_and_one_that_does_not_read_is_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let socket = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
        let limit = Some(Duration::from_secs(30));
        socket2::SockRef::from(&socket).set_tcp_user_timeout(limit).expect("an option of Linux");
        let stream = Stream::new(socket, &Clock::new());
        stream.outlast_silence(None);
        let socket = socket2::SockRef::from(&stream.socket);
        assert!(socket.keepalive().expect("readable") && socket.tcp_user_timeout().expect("readable").is_none());
        assert_eq!(socket.tcp_keepalive_time().expect("readable"), keepalive::QUIET);
    }
}
