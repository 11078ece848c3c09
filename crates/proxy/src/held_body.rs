//! A request body that is held whole until the answer begins, so that the request can be sent again.
//!
//! A body that came with its head is held for nothing: it is in memory anyway. A body that is still on its way is waited for
//! only where the request may have to be repeated: on a connection that may be a used one, when doing it twice is as doing
//! it once, or by a policy that allows it.
//! That of a client of HTTP/2 need not be waited for: what is relayed of it is kept (`h2/incoming.rs`).

use std::borrow::Cow;
use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;
use http::HeaderMap;

use crate::downstream::Downstream;
use crate::failure::Reason;
use crate::h1::body::{Decoder, Framing, write_chunk, write_last_chunk};
use crate::h1::buffer::Buffer;
use crate::h1::stream::{IoFailure, Stream};
use crate::h2::call::Call;
use crate::h2::head;
use crate::h2::incoming::Whole;
use crate::plan::Exchange;
use crate::worker::Worker;

/// A whole body.
#[derive(Debug)]
pub(crate) enum HeldBody {
    /// Of a client of HTTP/1. Its bytes stay unread in the client's buffer until [`HeldBody::release`].
    Http1 {
        /// Bytes it takes in the client's buffer, framing included.
        bytes: usize,
        /// A chunked body as it is sent on; one with a length goes as it lies in the buffer.
        recoded: Option<Vec<u8>>,
        /// The same without framing, for HTTP/2.
        whole: Option<Whole>,
    },
    /// Of a client of HTTP/2.
    Http2(Whole, Framing),
}

/// What a body is held for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    /// It may have to be sent again: it is worth waiting for.
    pub(crate) repetition: bool,
    /// It is sent without framing.
    pub(crate) data: bool,
}

impl HeldBody {
    /// Longest body that is held, in bytes: Linkerd's bound for what may be sent again.
    pub(crate) const BYTES_MAX: usize = 64 * 1024;
    /// Room for it in the client's buffer, with the framing of chunks.
    const CAPACITY: usize = Self::BYTES_MAX + 8 * 1024;

    /// Holds the body of a request if it is short, and either here already or needed for a repetition. `None`: it is to
    /// be relayed as it comes.
    pub(crate) async fn take(
        worker: &Worker,
        client: &mut Downstream<'_>,
        exchange: &Exchange,
        needs: Needs,
    ) -> Result<Option<Self>, Reason> {
        match client {
            Downstream::Http1(client) => Self::take_http1(worker, client, exchange, needs).await,
            Downstream::Http2(call) => Self::take_http2(call, exchange).await,
        }
    }

    async fn take_http1(
        worker: &Worker,
        client: &mut Stream,
        exchange: &Exchange,
        needs: Needs,
    ) -> Result<Option<Self>, Reason> {
        let may_wait = needs.repetition && !exchange.expects_continue;
        match exchange.framing {
            Framing::None => {
                let whole = needs.data.then(Whole::default);
                Ok(Some(Self::Http1 { bytes: 0, recoded: None, whole }))
            }
            Framing::Length(bytes) if bytes <= Self::BYTES_MAX as u64 => {
                let bytes = bytes as usize;
                while client.input.len() < bytes {
                    if !may_wait {
                        return Ok(None);
                    }
                    fill(worker, client).await?;
                }
                let copy = || Whole { data: Bytes::copy_from_slice(&client.input.bytes()[..bytes]), trailers: None };
                let whole = needs.data.then(copy);
                Ok(Some(Self::Http1 { bytes, recoded: None, whole }))
            }
            Framing::Chunked => {
                let bytes_max = exchange.request_bytes_max();
                Self::take_chunks(worker, client, may_wait, needs.data, bytes_max).await
            }
            Framing::Length(_) | Framing::UntilClose => Ok(None),
        }
    }

    async fn take_chunks(
        worker: &Worker,
        client: &mut Stream,
        may_wait: bool,
        needs_data: bool,
        bytes_max: u64,
    ) -> Result<Option<Self>, Reason> {
        let (mut decoder, mut payload, mut trailers) = (Decoder::new(Framing::Chunked), Vec::new(), Vec::new());
        let mut bytes = 0;
        loop {
            let step =
                decoder.step(&client.input.bytes()[bytes..], &mut trailers).map_err(|rule| Reason::BadBody(rule.0))?;
            payload.extend_from_slice(&client.input.bytes()[bytes + step.skip..bytes + step.skip + step.data]);
            bytes += step.skip + step.data;
            if payload.len() as u64 > bytes_max {
                return Err(Reason::RequestLong);
            }
            if decoder.is_done() {
                let recoded = Some(chunked(&payload, &trailers));
                let whole = needs_data.then(|| Whole {
                    data: payload.into(),
                    trailers: (!trailers.is_empty()).then(|| Box::new(head::trailers(&trailers))),
                });
                return Ok(Some(Self::Http1 { bytes, recoded, whole }));
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

    async fn take_http2(call: &mut Call, exchange: &Exchange) -> Result<Option<Self>, Reason> {
        // A WebSocket has no body: what comes is for later.
        if exchange.asks_upgrade || exchange.framing == Framing::None {
            return Ok(Some(Self::Http2(Whole::default(), exchange.framing)));
        }
        let whole = poll_fn(|cx| Poll::Ready(call.body.take(Self::BYTES_MAX, cx))).await;
        match whole {
            Some(whole) if whole.data.len() as u64 > exchange.request_bytes_max() => Err(Reason::RequestLong),
            whole => Ok(whole.map(|whole| Self::Http2(whole, exchange.framing))),
        }
    }

    /// The body as HTTP/1 sends it on.
    pub(crate) fn wire<'b>(&'b self, client: &'b Downstream<'_>) -> Cow<'b, [u8]> {
        match (self, client) {
            (Self::Http1 { recoded: Some(recoded), .. }, _) => Cow::Borrowed(recoded),
            (Self::Http1 { .. }, Downstream::Http1(client)) => Cow::Borrowed(self.wire_http1(&client.input)),
            (Self::Http2(whole, Framing::Chunked), _) => {
                let lines = whole.trailers.as_deref().map(head::lines).unwrap_or_default();
                Cow::Owned(chunked(&whole.data, &lines))
            }
            (Self::Http2(whole, _), _) => Cow::Borrowed(&whole.data),
            (Self::Http1 { .. }, Downstream::Http2(_)) => Cow::Borrowed(&[]),
        }
    }

    /// The same, for a client of HTTP/1 whose buffer it lies in.
    pub(crate) fn wire_http1<'b>(&'b self, client_input: &'b Buffer) -> &'b [u8] {
        match self {
            Self::Http1 { recoded: Some(recoded), .. } => recoded,
            Self::Http1 { bytes, .. } => &client_input.bytes()[..*bytes],
            Self::Http2(whole, _) => &whole.data,
        }
    }

    /// The body without framing: data, and trailers where there are some.
    pub(crate) fn data(&self) -> (Option<Bytes>, Option<HeaderMap>) {
        let whole = match self {
            Self::Http1 { whole, .. } => whole.as_ref(),
            Self::Http2(whole, _) => Some(whole),
        };
        let data = whole.map(|whole| whole.data.clone()).filter(|data| !data.is_empty());
        (data, whole.and_then(|whole| whole.trailers.as_deref().cloned()))
    }

    /// Takes it off the client's buffer and counts it.
    pub(crate) fn release(&self, client: &mut Downstream<'_>, exchange: &Exchange) {
        let bytes = match (self, client) {
            (Self::Http1 { bytes, .. }, Downstream::Http1(client)) => {
                client.input.consume(*bytes);
                *bytes
            }
            (Self::Http2(whole, _), _) => whole.data.len(),
            (Self::Http1 { .. }, Downstream::Http2(_)) => 0,
        };
        exchange.bytes_received.set(exchange.bytes_received.get() + bytes as u64);
    }
}

/// A body in one chunk.
fn chunked(data: &[u8], trailers: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + trailers.len() + 32);
    write_chunk(data, &mut out);
    write_last_chunk(trailers, &mut out);
    out
}

async fn fill(worker: &Worker, client: &mut Stream) -> Result<(), Reason> {
    let limit = worker.settings.body_idle_timeout;
    match client.reader().fill(&worker.buffers, HeldBody::CAPACITY, limit).await {
        Ok(_) => Ok(()),
        Err(IoFailure::TimedOut) => Err(Reason::BodyTimeout),
        Err(IoFailure::Closed | IoFailure::Broken) => Err(Reason::ClientGone),
    }
}
