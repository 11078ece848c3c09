//! A server that leaves in one step while requests are on their way, which a polite library cannot be made to do.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::backend::Entry;
use super::super::{Side, body_of, message_of};
use super::GRPC;
use super::backend::Behind;
use crate::h2::{Block, Connection, code, data, goaway, headers, kind, settings};
use crate::wire::ReadError;

/// One connection.
struct Turning<'b> {
    connection: Connection,
    behind: &'b Behind,
    /// How many requests it serves.
    after: usize,
    /// Streams that it serves, in order.
    taken: Vec<u32>,
    /// How many of them it has answered.
    answered: usize,
    /// Whether it said that it leaves.
    leaves: bool,
    /// What the client takes of a stream from the start.
    stream_window: i64,
    /// What it still takes over all streams (0), and what more or less than at the start on each.
    room: BTreeMap<u32, i64>,
}

/// Names of SETTINGS.
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;

/// Serves `after` requests, leaves when the next one comes, and stays for as long as the client does: to close with
/// requests unread would take the answers away with them.
pub(super) fn serve(socket: TcpStream, after: usize, behind: &Behind) -> Result<(), ReadError> {
    // As many at once as servers usually allow: more than it serves would be refused again and again.
    let connection = Connection::server(socket, &settings(&[(MAX_CONCURRENT_STREAMS, 100)]))?;
    let (taken, room, stream_window) = (Vec::new(), [(0, 65_535)].into(), 65_535);
    let mut turning = Turning { connection, behind, after, taken, answered: 0, leaves: false, stream_window, room };
    loop {
        turning.step()?;
        while let Some(stream) = turning.due() {
            turning.answer(stream)?;
            turning.answered += 1;
        }
    }
}

impl Turning<'_> {
    fn step(&mut self) -> Result<(), ReadError> {
        // Clients keep connections for as long as they like to.
        self.connection.set_patience(Duration::from_secs(600));
        let frame = self.connection.step()?;
        match frame.kind {
            kind::WINDOW_UPDATE => {
                let by = frame.payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
                *self.room.entry(frame.stream).or_default() += i64::from(by);
            }
            kind::SETTINGS => {
                for [n0, n1, value @ ..] in frame.payload.as_chunks::<6>().0 {
                    if u16::from_be_bytes([*n0, *n1]) == INITIAL_WINDOW_SIZE {
                        self.stream_window = i64::from(u32::from_be_bytes(*value));
                    }
                }
            }
            kind::HEADERS if !self.taken.contains(&frame.stream) => self.begins(frame.stream)?,
            _ => {}
        }
        Ok(())
    }

    /// A request begins.
    fn begins(&mut self, stream: u32) -> Result<(), ReadError> {
        if self.taken.len() < self.after {
            self.taken.push(stream);
            return Ok(());
        }
        let counts = &self.behind.counts;
        counts.turned_away.fetch_add(1, Ordering::Relaxed);
        if !std::mem::replace(&mut self.leaves, true) {
            counts.left.fetch_add(1, Ordering::Relaxed);
            let last = self.taken.last().copied().unwrap_or_default();
            self.send(&goaway(last, code::NO_ERROR))?;
        }
        Ok(())
    }

    /// The next request that is here whole.
    fn due(&self) -> Option<u32> {
        let stream = *self.taken.get(self.answered)?;
        self.connection.answers.get(&stream)?.ended.then_some(stream)
    }

    fn answer(&mut self, stream: u32) -> Result<(), ReadError> {
        let request = self.connection.answers.remove(&stream).unwrap_or_default();
        let field = |name| request.blocks.first().and_then(|block| block.get(name)).unwrap_or_default();
        let (id, method, is_grpc) = (field("x-ledger-id"), field(":method"), field("content-type") == GRPC);
        let behind = self.behind;
        let name = &*behind.name;
        behind.witness.write(Entry::new(id, name, method, &request.body, is_grpc));
        let mut head = Block::new().field(":status", "200").field("x-ledger-id", id).field("x-ledger-backend", name);
        if is_grpc {
            head = head.field("content-type", GRPC);
        }
        let content = match (method, is_grpc) {
            ("HEAD", _) => Vec::new(),
            (_, true) => message_of(id, Side::Response),
            (_, false) => body_of(id, Side::Response),
        };
        self.send(&headers(stream, content.is_empty(), &head))?;
        let last = content.chunks(16_384).count();
        for (number, part) in content.chunks(16_384).enumerate() {
            let length = part.len() as i64;
            while self.room(0) < length || self.stream_window + self.room(stream) < length {
                self.step()?;
            }
            for window in [0, stream] {
                *self.room.entry(window).or_default() -= length;
            }
            self.send(&data(stream, number + 1 == last && !is_grpc, part))?;
        }
        if is_grpc {
            let trailers = Block::new().field("grpc-status", "0").field("x-ledger-id", id);
            self.send(&headers(stream, true, &trailers))?;
        }
        Ok(())
    }

    fn room(&self, window: u32) -> i64 {
        self.room.get(&window).copied().unwrap_or_default()
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        self.connection.send(bytes).map_err(|_| ReadError::Reset(Vec::new()))
    }
}
