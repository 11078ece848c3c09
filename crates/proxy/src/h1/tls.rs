//! TLS of one connection as a state machine: ciphertext in, plaintext out, and back. It knows no socket; the waiting is
//! [`super::stream`]'s.
//!
//! Built on the unbuffered interface of rustls, because its blocks are ours then: a connection that waits for its next
//! request holds none, and one read of the socket may bring several records. All bytes at hand are shown to rustls at
//! every step, as it asks for; what is here from the peer is therefore bounded by one block of [`Buffer::LARGE_BYTES`].

use std::rc::Rc;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic};

use super::buffer::{Buffer, BufferPool};

/// One connection, seen from the server.
pub(crate) struct Session {
    connection: UnbufferedServerConnection,
    /// From the peer, not decrypted yet.
    incoming: Buffer,
    queues: Queues,
    /// Whether the peer said that it sends no more.
    closed: bool,
    /// Why nothing more can be read or written.
    failure: Option<rustls::Error>,
}

/// What waits to be taken.
struct Queues {
    pool: Rc<BufferPool>,
    /// Decrypted, and without room so far.
    plaintext: Buffer,
    /// To the peer, not written yet.
    outgoing: Buffer,
}

/// What there is to read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// So many bytes.
    Bytes(usize),
    /// Nothing before the peer sends more.
    Blocked,
    /// The peer has closed in good order.
    Closed,
}

/// How far a handshake is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Handshake {
    /// It is complete.
    Done,
    /// The peer's turn.
    Blocked,
}

/// What a step of rustls came to.
enum Event {
    /// Bytes are in the room, or queued where they had none.
    Plaintext(usize),
    /// Something was done; there may be more to do.
    Onward,
    /// The peer closed.
    Closed,
    /// The task is done; without one, there is nothing to do before the peer sends more.
    Idle,
    /// The peer has to do its part of the handshake before anything can be sent.
    Handshaking,
}

/// What to do once rustls lets us write.
#[derive(Clone, Copy)]
enum Task<'t> {
    /// Nothing.
    None,
    /// Send this.
    Encrypt(&'t [u8]),
    /// Say that we send no more.
    Close,
}

impl Session {
    /// Plaintext that is encrypted before the socket takes it: four whole records.
    pub(super) const BATCH_BYTES: usize = 64 * 1024;
    /// More than a record adds to its plaintext, whatever the suite.
    const OVERHEAD_BYTES: usize = 64;
    const RECORD_BYTES: usize = 16 * 1024;

    /// A session that begins with the bytes of `incoming`.
    pub(crate) fn new(
        config: Arc<ServerConfig>,
        pool: &Rc<BufferPool>,
        incoming: Buffer,
    ) -> Result<Self, rustls::Error> {
        let queues = Queues { pool: pool.clone(), plaintext: Buffer::default(), outgoing: Buffer::default() };
        let connection = UnbufferedServerConnection::new(config)?;
        Ok(Self { connection, incoming, queues, closed: false, failure: None })
    }

    /// Room for bytes of the peer; empty when there are too many that make no whole message.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        self.incoming.room(&self.queues.pool, Buffer::LARGE_BYTES)
    }

    /// Marks `count` bytes of the room as filled.
    pub(crate) fn fill(&mut self, count: usize) {
        self.incoming.fill(count);
    }

    /// Whether the handshake agreed on HTTP/2.
    pub(crate) fn agreed_on_http2(&self) -> bool {
        self.connection.alpn_protocol() == Some(b"h2")
    }

    /// Whether bytes of the peer are here that nobody has read, whole records or not.
    pub(crate) fn has_unread(&self) -> bool {
        !self.incoming.is_empty() || !self.queues.plaintext.is_empty()
    }

    /// Makes the next reads of the socket long ones.
    pub(crate) fn expect_much(&mut self) {
        self.incoming.enlarge(&self.queues.pool);
    }

    /// Gives back all blocks that hold nothing.
    pub(crate) fn release(&mut self) {
        let Queues { pool, plaintext, outgoing } = &mut self.queues;
        [&mut self.incoming, plaintext, outgoing].into_iter().for_each(|buffer| buffer.release(pool));
    }

    /// What is to be written to the peer; [`Self::return_outgoing`] takes the block back.
    pub(crate) fn take_outgoing(&mut self) -> Buffer {
        std::mem::take(&mut self.queues.outgoing)
    }

    /// Takes back the block of what was written.
    pub(crate) fn return_outgoing(&mut self, written: Buffer) {
        if self.queues.outgoing.is_empty() {
            self.queues.outgoing = written;
        }
    }

    /// The version of TLS that was agreed on, once the handshake is done.
    pub(crate) fn version(&self) -> &'static str {
        match self.connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
            _ => "1.2",
        }
    }

    /// Goes on with the handshake as far as the bytes at hand allow. After a failure, what is outgoing is the alert.
    pub(crate) fn handshake(&mut self) -> Result<Handshake, rustls::Error> {
        loop {
            match self.step(&mut [], Task::None)? {
                Event::Handshaking => return Ok(Handshake::Blocked),
                Event::Idle | Event::Closed => return Ok(Handshake::Done),
                Event::Plaintext(_) | Event::Onward => {}
            }
        }
    }

    /// Moves plaintext to the room: as many records as are here and fit.
    pub(crate) fn read(&mut self, room: &mut [u8]) -> Result<Read, rustls::Error> {
        let mut filled = self.queues.plaintext.len().min(room.len());
        if filled > 0 {
            room[..filled].copy_from_slice(&self.queues.plaintext.bytes()[..filled]);
            self.queues.plaintext.consume(filled);
            return Ok(Read::Bytes(filled));
        }
        while filled == 0 || self.next_record_fits(room.len() - filled) {
            if self.closed {
                break;
            }
            match self.step(&mut room[filled..], Task::None) {
                Ok(Event::Plaintext(count)) => filled += count,
                Ok(Event::Onward | Event::Closed) => {}
                Ok(Event::Idle | Event::Handshaking) => break,
                // What came before it is whole; the failure is for the next read.
                Err(_) if filled > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(match (filled, self.closed) {
            (0, true) => Read::Closed,
            (0, false) => Read::Blocked,
            _ => Read::Bytes(filled),
        })
    }

    /// Encrypts a batch of `first`, then of `second`, and takes it off them; it is outgoing then.
    pub(crate) fn encrypt<'d>(&mut self, first: &mut &'d [u8], second: &mut &'d [u8]) -> Result<(), rustls::Error> {
        let mut left = Self::BATCH_BYTES;
        for part in [first, second] {
            let (batch, rest) = part.split_at(left.min(part.len()));
            *part = rest;
            left -= batch.len();
            if !batch.is_empty() {
                self.finish(Task::Encrypt(batch))?;
            }
        }
        Ok(())
    }

    /// Says that we send no more; outgoing then. After a failure there is nothing to say.
    pub(crate) fn close(&mut self) {
        let _ = self.finish(Task::Close);
    }

    /// Lets nothing more be said: what broke off must not look complete.
    pub(crate) fn fail(&mut self) {
        self.failure = Some(rustls::Error::General("given up".into()));
        self.queues.outgoing = Buffer::default();
    }

    /// Steps until the task is done. What the peer sent meanwhile waits for its reader; it is no more than is here.
    fn finish(&mut self, task: Task<'_>) -> Result<(), rustls::Error> {
        loop {
            match self.step(&mut [], task)? {
                Event::Idle => return Ok(()),
                Event::Handshaking => return Err(rustls::Error::HandshakeNotComplete),
                Event::Plaintext(_) | Event::Onward | Event::Closed => {}
            }
        }
    }

    /// Whether the next record is here whole and its plaintext surely fits.
    fn next_record_fits(&self, room: usize) -> bool {
        match self.incoming.bytes() {
            [_, _, _, high, low, rest @ ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                length <= rest.len() && length <= room
            }
            _ => false,
        }
    }

    fn step(&mut self, room: &mut [u8], task: Task<'_>) -> Result<Event, rustls::Error> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let UnbufferedStatus { discard, state } = self.connection.process_tls_records(self.incoming.bytes_mut());
        let stepped = match state {
            Ok(state) => self.queues.obey(state, room, task),
            Err(error) => Err(error),
        };
        self.incoming.consume(discard);
        match stepped {
            Ok(Event::Closed) if self.closed => return Ok(Event::Idle),
            Ok(Event::Closed) => self.closed = true,
            Ok(_) => {}
            Err(ref error) => {
                self.collect_alert();
                self.failure = Some(error.clone());
            }
        }
        stepped
    }

    /// Makes outgoing what rustls wants the peer to know of a failure. It is one message, and is taken once: to go on
    /// would be to read again what failed.
    fn collect_alert(&mut self) {
        let UnbufferedStatus { discard, state } = self.connection.process_tls_records(self.incoming.bytes_mut());
        if let Ok(state @ ConnectionState::EncodeTlsData(_)) = state {
            // There is nobody to tell that the failure cannot be told.
            let _ = self.queues.obey(state, &mut [], Task::None);
        }
        self.incoming.consume(discard);
    }
}

impl Queues {
    /// Does what rustls asks for.
    fn obey<D>(
        &mut self,
        state: ConnectionState<'_, '_, D>,
        room: &mut [u8],
        task: Task<'_>,
    ) -> Result<Event, rustls::Error> {
        match state {
            ConnectionState::ReadTraffic(mut traffic) => {
                let mut filled = 0;
                while let Some(record) = traffic.next_record() {
                    let payload = record?.payload;
                    let (fits, rest) = payload.split_at(payload.len().min(room.len() - filled));
                    room[filled..filled + fits.len()].copy_from_slice(fits);
                    filled += fits.len();
                    if !rest.is_empty() {
                        self.plaintext.room_of(&self.pool, rest.len())[..rest.len()].copy_from_slice(rest);
                        self.plaintext.fill(rest.len());
                    }
                }
                Ok(Event::Plaintext(filled))
            }
            ConnectionState::EncodeTlsData(mut message) => {
                let mut size = Session::OVERHEAD_BYTES;
                loop {
                    match message.encode(self.outgoing.room_of(&self.pool, size)) {
                        Ok(count) => {
                            self.outgoing.fill(count);
                            return Ok(Event::Onward);
                        }
                        Err(EncodeError::InsufficientSize(needed)) => size = needed.required_size,
                        Err(EncodeError::AlreadyEncoded) => return Ok(Event::Onward),
                    }
                }
            }
            // It is outgoing: whoever steps writes it before it waits for the peer.
            ConnectionState::TransmitTlsData(message) => {
                message.done();
                Ok(Event::Onward)
            }
            ConnectionState::PeerClosed | ConnectionState::Closed => Ok(Event::Closed),
            ConnectionState::BlockedHandshake => Ok(Event::Handshaking),
            ConnectionState::WriteTraffic(traffic) => self.write(traffic, task),
            // Early data is never accepted.
            _ => Err(rustls::Error::General("a state that was not asked for".into())),
        }
    }

    fn write<D>(&mut self, mut traffic: WriteTraffic<'_, D>, task: Task<'_>) -> Result<Event, rustls::Error> {
        let mut size = match task {
            Task::None => return Ok(Event::Idle),
            Task::Encrypt(data) => data.len() + (data.len() / Session::RECORD_BYTES + 1) * Session::OVERHEAD_BYTES,
            Task::Close => Session::OVERHEAD_BYTES,
        };
        loop {
            let room = self.outgoing.room_of(&self.pool, size);
            let written = match task {
                Task::Encrypt(data) => traffic.encrypt(data, room),
                Task::Close | Task::None => traffic.queue_close_notify(room),
            };
            match written {
                Ok(count) => {
                    self.outgoing.fill(count);
                    return Ok(Event::Idle);
                }
                Err(EncryptError::InsufficientSize(needed)) => size = needed.required_size,
                Err(EncryptError::EncryptExhausted) => return Err(rustls::Error::EncryptError),
            }
        }
    }
}

#[cfg(test)]
mod tests;
