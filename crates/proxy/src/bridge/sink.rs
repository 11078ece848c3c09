//! Where a body goes, piece by piece, whatever the version of HTTP.

use std::task::{Context, Poll};

use bytes::Bytes;
use h2::SendStream;
use http::HeaderMap;

use super::Patience;
use crate::h1::body::write_last_chunk;
use crate::h1::stream::{IoFailure, Writer};
use crate::h2::call::Answering;
use crate::h2::head;
use crate::relay::Coding;

/// The way out of one message, behind its head.
pub(crate) enum Sink<'s> {
    /// Over a connection of HTTP/1.
    Http1(Http1<'s>),
    /// To an endpoint, over a stream of HTTP/2.
    Http2(&'s mut SendStream<Bytes>),
    /// To a client, over a stream of HTTP/2.
    Client(Answering<'s>),
}

/// A body in HTTP/1's framing.
pub(crate) struct Http1<'s> {
    pub(crate) writer: Writer<'s>,
    pub(crate) coding: Coding,
    /// What is written before the next data: the head first.
    pub(crate) pending: Vec<u8>,
}

/// The receiver takes no more.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refused {
    /// It has said so, or is gone.
    Gone,
    /// It has taken too little for too long.
    Slow,
}

impl Http1<'_> {
    /// Longest data that is copied behind what is pending rather than written beside it.
    const JOINED_BYTES_MAX: usize = 4 * 1024;

    async fn data(&mut self, data: &[u8], is_last: bool, patience: &Patience<'_>) -> Result<(), Refused> {
        // A chunk of nothing would be the last.
        let is_chunk = self.coding == Coding::Chunked && !data.is_empty();
        if is_chunk {
            crate::h1::body::write_chunk_size(data.len(), &mut self.pending);
        }
        if data.len() <= Self::JOINED_BYTES_MAX {
            self.pending.extend_from_slice(data);
        } else {
            self.write(data, patience).await?;
        }
        if is_chunk {
            self.pending.extend_from_slice(b"\r\n");
        }
        if is_last {
            self.end(&[]);
        }
        // The end of a long chunk goes with what comes next, which comes soon.
        let is_due = is_last || data.len() <= Self::JOINED_BYTES_MAX;
        if is_due && !self.pending.is_empty() { self.write(&[], patience).await } else { Ok(()) }
    }

    /// Puts the end behind what is pending.
    fn end(&mut self, trailers: &[u8]) {
        if self.coding == Coding::Chunked {
            write_last_chunk(trailers, &mut self.pending);
        }
    }

    /// Writes what is pending, then `data`.
    async fn write(&mut self, data: &[u8], patience: &Patience<'_>) -> Result<(), Refused> {
        let written = self.writer.write(&self.pending, data, patience.stall).await;
        self.pending.clear();
        written.map_err(|failure| if let IoFailure::TimedOut = failure { Refused::Slow } else { Refused::Gone })
    }
}

impl Sink<'_> {
    /// Sends what waits for more, because more takes a while.
    pub(crate) async fn flush(&mut self, patience: &Patience<'_>) -> Result<(), Refused> {
        match self {
            // Apart, here and below: where both sides speak HTTP/2 nobody carries the room for it.
            Self::Http1(sink) if !sink.pending.is_empty() => Box::pin(sink.write(&[], patience)).await,
            // The connection's own task writes as soon as this one waits.
            Self::Http1(_) | Self::Http2(_) | Self::Client(_) => Ok(()),
        }
    }

    /// Sends data, and the end with it if it is the last. Waits until the receiver has room for it.
    pub(crate) async fn data(&mut self, data: Bytes, is_last: bool, patience: &Patience<'_>) -> Result<(), Refused> {
        let stream = match self {
            Self::Http1(sink) => return Box::pin(sink.data(&data, is_last, patience)).await,
            Self::Http2(stream) => stream,
            Self::Client(answering) => answering.stream().ok_or(Refused::Gone)?,
        };
        send(stream, data, is_last, patience).await
    }

    /// Sends the end, with trailers where there are some.
    pub(crate) async fn end(&mut self, trailers: Option<HeaderMap>, patience: &Patience<'_>) -> Result<(), Refused> {
        let stream = match self {
            Self::Http1(sink) => {
                sink.end(&trailers.map(|trailers| head::lines(&trailers)).unwrap_or_default());
                return self.flush(patience).await;
            }
            Self::Http2(stream) => stream,
            Self::Client(answering) => answering.stream().ok_or(Refused::Gone)?,
        };
        let sent = match trailers {
            Some(trailers) => stream.send_trailers(trailers),
            None => stream.send_data(Bytes::new(), true),
        };
        sent.map_err(|_| Refused::Gone)
    }

    /// Says that no more bytes come, to whoever carries on listening.
    pub(crate) async fn finish(&mut self, patience: &Patience<'_>) {
        match self {
            Self::Http1(sink) => Box::pin(sink.writer.finish(patience.stall)).await,
            // One that is gone already needs no goodbye.
            sink => drop(sink.end(None, patience).await),
        }
    }

    /// Ready when the receiver is known to want no more.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            // It shows with the next write, or when it is read from.
            Self::Http1(_) => Poll::Pending,
            Self::Http2(stream) => stream.poll_reset(cx).map(|_| ()),
            Self::Client(answering) => answering.poll_gone(cx),
        }
    }
}

/// Sends data as the receiver's windows allow. One that opens them by a byte at a time is given up, as one that reads so.
async fn send(
    stream: &mut SendStream<Bytes>,
    mut data: Bytes,
    is_last: bool,
    patience: &Patience<'_>,
) -> Result<(), Refused> {
    if data.is_empty() {
        // A frame without data may still be the last one.
        return if is_last { stream.send_data(data, true).map_err(|_| Refused::Gone) } else { Ok(()) };
    }
    let mut since_ms = patience.now_ms();
    let mut progress = 0;
    stream.reserve_capacity(data.len());
    while !data.is_empty() {
        let room = match stream.capacity() {
            0 => patience.room(stream, since_ms).await?,
            room => room,
        };
        let part = data.split_to(room.min(data.len()));
        progress += part.len();
        if progress >= PROGRESS_BYTES {
            (since_ms, progress) = (patience.now_ms(), 0);
        }
        stream.send_data(part, is_last && data.is_empty()).map_err(|_| Refused::Gone)?;
    }
    patience.moved();
    Ok(())
}

/// Bytes that count as progress of a slow reader, as for HTTP/1.
const PROGRESS_BYTES: usize = 16 * 1024;
