//! Bodies on their way from one stream to the other.
//!
//! Data is read, its framing judged, and written on before more is read: what a connection holds is one block each way,
//! and a reader that stops makes the writer on the other side stop.

use std::cell::Cell;
use std::time::Duration;

use crate::body_limit::{TooLong, spend};
use crate::h1::body::{BadChunk, Decoder, write_chunk, write_last_chunk};
use crate::h1::buffer::{Buffer, BufferPool};
use crate::h1::stream::{IoFailure, Reader, Writer};
use crate::mirror::Tee;
use crate::settings::Settings;

/// How data is framed when it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// As it is: by length or by closing.
    Plain,
    /// In chunks.
    Chunked,
}

/// Why a relay stopped before the end.
#[derive(Debug)]
pub(crate) enum RelayFailure {
    /// Reading failed.
    Source(IoFailure),
    /// Writing failed.
    Sink,
    /// The framing broke a rule.
    Framing(BadChunk),
    /// It is longer than it may be.
    Long,
}

/// One body, and what is written before it.
pub(crate) struct Relay<'r> {
    pub(crate) buffers: &'r BufferPool,
    pub(crate) settings: &'r Settings,
    pub(crate) decoder: Decoder,
    pub(crate) coding: Coding,
    /// Longest wait for the next byte of the source.
    pub(crate) idle_timeout: Duration,
    /// Bytes of body read, framing included.
    pub(crate) bytes_read: &'r Cell<u64>,
    /// Bytes written, framing and the bytes before included.
    pub(crate) bytes_written: &'r Cell<u64>,
    /// Bytes of data that may still come.
    pub(crate) left: u64,
    /// Where copies of the body go, in the framing it leaves in.
    pub(crate) tee: Option<&'r Tee>,
}

impl Relay<'_> {
    /// Longest data that is copied behind a head rather than written beside it.
    const JOINED_BYTES_MAX: usize = 4 * 1024;

    /// Writes `pending`, then the body from `source`, to `sink`. Returns when the whole body is written.
    pub(crate) async fn run(
        mut self,
        source: &mut Reader<'_>,
        sink: &mut Writer<'_>,
        mut pending: Vec<u8>,
    ) -> Result<(), RelayFailure> {
        let result = self.relay(source, sink, &mut pending).await;
        self.buffers.give_head(pending);
        result
    }

    async fn relay(
        &mut self,
        source: &mut Reader<'_>,
        sink: &mut Writer<'_>,
        pending: &mut Vec<u8>,
    ) -> Result<(), RelayFailure> {
        let (mut payload, mut trailers) = (Vec::new(), Vec::new());
        let mut head_bytes = pending.len();
        loop {
            let direct = match (&self.decoder, self.coding) {
                (Decoder::Chunked(_), _) | (_, Coding::Chunked) => {
                    self.recode(source.input, pending, &mut payload, &mut trailers)?;
                    0
                }
                _ => {
                    let step = self.decoder.step(source.input.bytes(), &mut trailers);
                    let data = step.map_err(RelayFailure::Framing)?.data;
                    self.left = spend(self.left, data).map_err(|TooLong| RelayFailure::Long)?;
                    data
                }
            };
            if !pending.is_empty() || direct > 0 {
                // A short body travels with its head: one plain write is cheaper than one that gathers.
                let joined = if direct <= Self::JOINED_BYTES_MAX { direct } else { 0 };
                pending.extend_from_slice(&source.input.bytes()[..joined]);
                let data = &source.input.bytes()[joined..direct];
                if let Some(tee) = self.tee {
                    tee.push(&pending[head_bytes..]);
                    tee.push(data);
                    head_bytes = 0;
                }
                sink.write(pending, data, self.settings.write_stall_timeout).await.map_err(|_| RelayFailure::Sink)?;
                self.bytes_written.set(self.bytes_written.get() + (pending.len() + data.len()) as u64);
                self.bytes_read.set(self.bytes_read.get() + direct as u64);
                pending.clear();
                source.input.consume(direct);
            }
            if self.decoder.is_done() {
                if let Some(tee) = self.tee {
                    tee.finish();
                }
                return Ok(());
            }
            if self.tee.is_some_and(Tee::is_behind) {
                tokio::task::yield_now().await;
            }
            match self.fill(source).await {
                Err(IoFailure::Closed) if matches!(self.decoder, Decoder::UntilClose) => {
                    self.decoder = Decoder::Done;
                    if self.coding == Coding::Plain {
                        return Ok(());
                    }
                    write_last_chunk(&[], pending);
                }
                Err(failure) => return Err(RelayFailure::Source(failure)),
                Ok(()) => {}
            }
        }
    }

    /// Takes all data at hand out of its framing and writes it to `out` in the framing it leaves in.
    fn recode(
        &mut self,
        input: &mut Buffer,
        out: &mut Vec<u8>,
        payload: &mut Vec<u8>,
        trailers: &mut Vec<u8>,
    ) -> Result<(), RelayFailure> {
        if self.decoder.is_done() {
            return Ok(());
        }
        payload.clear();
        loop {
            let step = self.decoder.step(input.bytes(), trailers).map_err(RelayFailure::Framing)?;
            input.consume(step.skip);
            payload.extend_from_slice(&input.bytes()[..step.data]);
            input.consume(step.data);
            let moved = step.skip + step.data;
            self.bytes_read.set(self.bytes_read.get() + moved as u64);
            if moved == 0 || self.decoder.is_done() {
                break;
            }
        }
        self.left = spend(self.left, payload.len()).map_err(|TooLong| RelayFailure::Long)?;
        match self.coding {
            Coding::Plain => out.extend_from_slice(payload),
            Coding::Chunked => {
                write_chunk(payload, out);
                if self.decoder.is_done() {
                    write_last_chunk(trailers, out);
                }
            }
        }
        Ok(())
    }

    async fn fill(&self, source: &mut Reader<'_>) -> Result<(), IoFailure> {
        let is_long = match &self.decoder {
            Decoder::Length(left) => *left > 2 * Buffer::BLOCK_BYTES as u64,
            _ => self.bytes_read.get() > 2 * Buffer::BLOCK_BYTES as u64,
        };
        if is_long {
            source.input.enlarge(self.buffers);
        }
        source.fill(self.buffers, Buffer::LARGE_BYTES, self.idle_timeout).await.map(|_| ())
    }
}
