//! A request body that is held whole until the answer begins, so that the request can be sent again.
//!
//! A body that came with its head is held for nothing: it lies in the client's buffer anyway. A body that is still on
//! its way is waited for only where the request may have to be repeated: on a kept connection, when doing it twice is as
//! doing it once.

use crate::failure::Reason;
use crate::h1::body::{Decoder, Framing, write_chunk, write_last_chunk};
use crate::h1::buffer::Buffer;
use crate::h1::stream::{IoFailure, Stream};
use crate::plan::Exchange;
use crate::worker::Worker;

/// A whole body. Its bytes stay unread in the client's buffer until [`HeldBody::release`].
#[derive(Debug)]
pub(crate) struct HeldBody {
    /// Bytes it takes in the client's buffer, framing included.
    bytes: usize,
    /// A chunked body as it is sent on; one with a length goes as it lies in the buffer.
    recoded: Option<Vec<u8>>,
}

impl HeldBody {
    /// Longest body that is held, in bytes: Linkerd's bound for what may be sent again.
    const BYTES_MAX: usize = 64 * 1024;
    /// Room for it in the client's buffer, with the framing of chunks.
    const CAPACITY: usize = Self::BYTES_MAX + 8 * 1024;

    /// Holds the body of a request if it is short, and either here already or needed for a repetition. `None`: it is to
    /// be relayed as it comes.
    pub(crate) async fn take(
        worker: &Worker,
        client: &mut Stream,
        exchange: &Exchange,
        is_reused: bool,
    ) -> Result<Option<Self>, Reason> {
        let may_wait = is_reused && exchange.is_idempotent && !exchange.expects_continue;
        match exchange.framing {
            Framing::None => Ok(Some(Self { bytes: 0, recoded: None })),
            Framing::Length(bytes) if bytes <= Self::BYTES_MAX as u64 => {
                let bytes = bytes as usize;
                while client.input.len() < bytes {
                    if !may_wait {
                        return Ok(None);
                    }
                    fill(worker, client).await?;
                }
                Ok(Some(Self { bytes, recoded: None }))
            }
            Framing::Chunked => Self::take_chunks(worker, client, may_wait).await,
            Framing::Length(_) | Framing::UntilClose => Ok(None),
        }
    }

    async fn take_chunks(worker: &Worker, client: &mut Stream, may_wait: bool) -> Result<Option<Self>, Reason> {
        let (mut decoder, mut payload, mut trailers) = (Decoder::new(Framing::Chunked), Vec::new(), Vec::new());
        let mut bytes = 0;
        loop {
            let step =
                decoder.step(&client.input.bytes()[bytes..], &mut trailers).map_err(|rule| Reason::BadBody(rule.0))?;
            payload.extend_from_slice(&client.input.bytes()[bytes + step.skip..bytes + step.skip + step.data]);
            bytes += step.skip + step.data;
            if decoder.is_done() {
                let mut recoded = Vec::with_capacity(payload.len() + trailers.len() + 32);
                write_chunk(&payload, &mut recoded);
                write_last_chunk(&trailers, &mut recoded);
                return Ok(Some(Self { bytes, recoded: Some(recoded) }));
            }
            if step.skip + step.data > 0 {
                continue;
            }
            if !may_wait || payload.len() > Self::BYTES_MAX || client.input.len() >= Self::CAPACITY {
                return Ok(None);
            }
            fill(worker, client).await?;
        }
    }

    /// The body as it is sent on.
    pub(crate) fn wire<'b>(&'b self, client_input: &'b Buffer) -> &'b [u8] {
        self.recoded.as_deref().unwrap_or_else(|| &client_input.bytes()[..self.bytes])
    }

    /// Takes it off the client's buffer and counts it.
    pub(crate) fn release(&self, client: &mut Stream, exchange: &Exchange) {
        client.input.consume(self.bytes);
        exchange.bytes_received.set(exchange.bytes_received.get() + self.bytes as u64);
    }
}

async fn fill(worker: &Worker, client: &mut Stream) -> Result<(), Reason> {
    let limit = worker.settings.body_idle_timeout;
    match client.reader().fill(&worker.buffers, HeldBody::CAPACITY, limit).await {
        Ok(_) => Ok(()),
        Err(IoFailure::TimedOut) => Err(Reason::BodyTimeout),
        Err(IoFailure::Closed | IoFailure::Broken) => Err(Reason::ClientGone),
    }
}
