//! Where a body comes from, piece by piece, whatever the version of HTTP.

use std::cell::Cell;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;

use super::Failed;
use crate::h1::body::Decoder;
use crate::h1::buffer::{Buffer, BufferPool};
use crate::h1::stream::Reader;
use crate::h2::head;
use crate::h2::incoming::Incoming;
use crate::held_body::HeldBody;
use crate::progress::Progress;

/// A part of a message behind its head.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Data. Whoever takes it says so with [`Source::release`].
    Data(Bytes),
    /// The last part of a message that has some.
    Trailers(HeaderMap),
    /// The last part of one that has none.
    End,
}

/// One body.
pub(crate) enum Source<'s> {
    /// At hand already, or there is none.
    Held(Option<Bytes>, Option<HeaderMap>),
    /// From a connection of HTTP/1.
    Http1(Http1<'s>),
    /// From a stream of HTTP/2.
    Http2(&'s mut Incoming),
    /// The same, kept to be sent again until an answer is accepted.
    Kept(&'s mut Incoming, &'s Progress),
}

/// A body in HTTP/1's framing.
pub(crate) struct Http1<'s> {
    pub(crate) reader: Reader<'s>,
    pub(crate) decoder: Decoder,
    pub(crate) buffers: &'s BufferPool,
    trailers: Vec<u8>,
    /// Told when anything was taken, framing included.
    begun: Option<&'s Cell<bool>>,
}

impl<'s> Http1<'s> {
    /// A body that begins with the unread bytes.
    pub(crate) fn new(reader: Reader<'s>, decoder: Decoder, buffers: &'s BufferPool) -> Self {
        Self { reader, decoder, buffers, trailers: Vec::new(), begun: None }
    }

    /// Tells when anything was taken.
    pub(crate) fn telling(self, begun: &'s Cell<bool>) -> Self {
        Self { begun: Some(begun), ..self }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Failed>> {
        loop {
            if self.decoder.is_done() {
                let trailers = std::mem::take(&mut self.trailers);
                return Poll::Ready(Ok(if trailers.is_empty() {
                    Piece::End
                } else {
                    Piece::Trailers(head::trailers(&trailers))
                }));
            }
            let input = &mut *self.reader.input;
            let step = match self.decoder.step(input.bytes(), &mut self.trailers) {
                Ok(step) => step,
                Err(rule) => return Poll::Ready(Err(Failed::Framing(rule.0))),
            };
            input.consume(step.skip);
            if let Some(begun) = self.begun.filter(|_| step.skip + step.data > 0) {
                begun.set(true);
            }
            if step.data > 0 {
                let data = Bytes::copy_from_slice(&input.bytes()[..step.data]);
                input.consume(step.data);
                return Poll::Ready(Ok(Piece::Data(data)));
            }
            if step.skip > 0 {
                continue;
            }
            input.release(self.buffers);
            match ready!(self.reader.poll_fill(self.buffers, Buffer::LARGE_BYTES, cx)) {
                Ok(0) if matches!(self.decoder, Decoder::UntilClose) => self.decoder = Decoder::Done,
                Ok(0) => return Poll::Ready(Err(Failed::Io)),
                Ok(_) => {}
                Err(_) => return Poll::Ready(Err(Failed::Io)),
            }
        }
    }
}

impl Source<'_> {
    /// The next part.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Failed>> {
        match self {
            Self::Held(data, trailers) => Poll::Ready(Ok(match (data.take(), trailers.take()) {
                (Some(data), after) => {
                    *trailers = after;
                    Piece::Data(data)
                }
                (None, Some(trailers)) => Piece::Trailers(trailers),
                (None, None) => Piece::End,
            })),
            Self::Http1(source) => source.poll_next(cx),
            Self::Http2(stream) => poll_http2(stream, cx),
            Self::Kept(stream, progress) => {
                let piece = ready!(poll_http2(stream, cx));
                if progress.accepted.get() {
                    stream.forget();
                }
                match &piece {
                    Ok(Piece::Data(data)) => stream.keep_data(data, HeldBody::BYTES_MAX),
                    Ok(Piece::Trailers(trailers)) => stream.keep_trailers(trailers),
                    Ok(Piece::End) | Err(_) => {}
                }
                progress.kept.set(stream.is_kept());
                Poll::Ready(piece)
            }
        }
    }

    /// Whether nothing more comes, as far as that is known without waiting.
    pub(crate) fn is_at_end(&self) -> bool {
        match self {
            Self::Held(data, trailers) => data.is_none() && trailers.is_none(),
            Self::Http1(source) => source.decoder.is_done() && source.trailers.is_empty(),
            Self::Http2(stream) | Self::Kept(stream, _) => stream.is_end_stream(),
        }
    }

    /// Lets the peer send as much again as was taken.
    pub(crate) fn release(&mut self, count: usize) {
        if let Self::Http2(stream) | Self::Kept(stream, _) = self {
            stream.release(count);
        }
    }

    /// Ready once it is known that its connection was reset, or that this will not be known; for one of HTTP/1 that is not
    /// read from.
    pub(crate) fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<bool> {
        match self {
            Self::Http1(source) => source.reader.poll_reset(cx),
            Self::Held(..) | Self::Http2(_) | Self::Kept(..) => Poll::Ready(false),
        }
    }
}

fn poll_http2(stream: &mut Incoming, cx: &mut Context<'_>) -> Poll<Result<Piece, Failed>> {
    if let Some(data) = ready!(stream.poll_data(cx)) {
        return Poll::Ready(data.map(Piece::Data).map_err(Failed::Http2));
    }
    let trailers = ready!(stream.poll_trailers(cx)).map_err(Failed::Http2)?;
    Poll::Ready(Ok(trailers.map_or(Piece::End, Piece::Trailers)))
}
