//! A body on its way from a source to a sink.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;
use http::HeaderMap;

use super::{Failed, Messages, Patience, Piece, Sink, Source};
use crate::body_limit::{TooLong, spend};
use crate::h1::body::{write_chunk, write_last_chunk};
use crate::headers::{is_hop_by_hop, may_be_trailer};
use crate::mirror::Tee;

/// What happens to a body on its way.
pub(crate) struct Relay<'r> {
    /// Bytes of it that were read.
    pub(crate) bytes_read: &'r Cell<u64>,
    /// Bytes of it that were written.
    pub(crate) bytes_written: &'r Cell<u64>,
    /// Bytes of it that may still come.
    pub(crate) left: Cell<u64>,
    /// Where its gRPC messages are counted.
    pub(crate) messages: &'r Messages<'r>,
    /// Where copies of it go, and whether these are chunked.
    pub(crate) tee: Option<(&'r Tee, bool)>,
    pub(crate) patience: &'r Patience<'r>,
}

/// Relays all of a body; the `grpc-status` of its trailers.
pub(crate) async fn relay(
    source: &mut Source<'_>,
    sink: &mut Sink<'_>,
    with: &Relay<'_>,
) -> Result<Option<u8>, Failed> {
    let patience = with.patience;
    loop {
        let at_hand = poll_fn(|cx| Poll::Ready(source.poll_next(cx))).await;
        let piece = match at_hand {
            Poll::Ready(piece) => piece?,
            Poll::Pending => {
                sink.flush(patience).await?;
                next(source, sink, patience).await?
            }
        };
        match piece {
            Piece::Data(data) => {
                let count = data.len();
                let left = spend(with.left.get(), count).map_err(|TooLong| Failed::Long)?;
                with.left.set(left);
                let is_last = source.is_at_end();
                with.read(&data, is_last);
                sink.data(data, is_last, patience).await?;
                with.bytes_written.set(with.bytes_written.get() + count as u64);
                patience.moved();
                source.release(count);
                if is_last {
                    return Ok(None);
                }
                if with.tee.is_some_and(|(tee, _)| tee.is_behind()) {
                    tokio::task::yield_now().await;
                }
            }
            Piece::Trailers(mut trailers) => {
                keep_trailers(&mut trailers);
                with.end(Some(&trailers));
                let status = grpc_status(&trailers);
                sink.end(Some(trailers), patience).await?;
                return Ok(status);
            }
            Piece::End => {
                with.end(None);
                sink.end(None, patience).await?;
                return Ok(None);
            }
        }
    }
}

/// Waits for the next piece, as long as somebody wants it.
pub(super) async fn next(
    source: &mut Source<'_>,
    sink: &mut Sink<'_>,
    patience: &Patience<'_>,
) -> Result<Piece, Failed> {
    poll_fn(|cx| {
        if let Poll::Ready(piece) = source.poll_next(cx) {
            return Poll::Ready(piece);
        }
        if sink.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Failed::Sink));
        }
        if patience.is_over(cx) { Poll::Ready(Err(Failed::Quiet)) } else { Poll::Pending }
    })
    .await
}

impl Relay<'_> {
    /// Takes note of data.
    fn read(&self, data: &Bytes, is_last: bool) {
        self.bytes_read.set(self.bytes_read.get() + data.len() as u64);
        self.messages.see(data);
        match self.tee {
            Some((tee, true)) => {
                let mut chunk = Vec::with_capacity(data.len() + 32);
                write_chunk(data, &mut chunk);
                tee.push(&chunk);
            }
            Some((tee, false)) => tee.push(data),
            None => {}
        }
        if is_last {
            self.end(None);
        }
    }

    /// Takes note of the end.
    fn end(&self, trailers: Option<&HeaderMap>) {
        let Some((tee, is_chunked)) = self.tee else { return };
        if is_chunked {
            let mut last = Vec::new();
            write_last_chunk(&trailers.map(crate::h2::head::lines).unwrap_or_default(), &mut last);
            tee.push(&last);
        }
        tee.finish();
    }
}

/// Drops fields that would change framing, routing or authority (RFC 9110 §6.5.1).
fn keep_trailers(trailers: &mut HeaderMap) {
    let dropped: Vec<_> = trailers.keys().filter(|name| !may_pass(name.as_str())).cloned().collect();
    for name in dropped {
        trailers.remove(name);
    }
}

fn may_pass(name: &str) -> bool {
    may_be_trailer(name) && !is_hop_by_hop(name)
}

fn grpc_status(trailers: &HeaderMap) -> Option<u8> {
    trailers.get("grpc-status")?.to_str().ok()?.parse().ok()
}
