//! The client's side of one exchange: a connection of HTTP/1, or one stream of HTTP/2.

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll};

use crate::answer::Answer;
use crate::bridge::{Patience, Sink};
use crate::failure::Reason;
use crate::h1::stream::Stream;
use crate::h2::call::Call;
use crate::h2::head;
use crate::plan::Exchange;
use crate::worker::Worker;

/// Who waits for an answer.
pub(crate) enum Downstream<'c> {
    /// The client of a connection.
    Http1(&'c mut Stream),
    /// The client of a stream.
    Http2(&'c mut Call),
}

impl Downstream<'_> {
    /// Sends an answer of the proxy's own; whether that worked.
    pub(crate) async fn answer(&mut self, worker: &Worker, exchange: &Exchange, answer: &Answer, close: bool) -> bool {
        let body: &[u8] = if exchange.is_head || !answer.has_length() { &[] } else { &answer.body };
        let mut out = worker.buffers.take_head();
        let sent = match self {
            Self::Http1(client) => {
                answer.write_head(&worker.date(), close, &mut out);
                client.writer().write(&out, body, worker.settings.write_stall_timeout).await.is_ok()
            }
            Self::Http2(call) => {
                answer.write_head(&worker.date(), false, &mut out);
                send(worker, call, &out, body).await
            }
        };
        exchange.bytes_sent.set((out.len() + body.len()) as u64);
        worker.buffers.give_head(out);
        sent
    }

    /// Awaits what does not take the client's doing, unless the client is known to have gone before.
    pub(crate) async fn while_there<T>(&mut self, work: impl Future<Output = Result<T, Reason>>) -> Result<T, Reason> {
        let mut work = pin!(work);
        let mut watching = true;
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            if watching && let Poll::Ready(gone) = self.poll_gone(cx) {
                watching = false;
                if gone {
                    return Poll::Ready(Err(Reason::ClientGone));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Ready once it is known whether the client has gone.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        match self {
            Self::Http1(client) => client.split().0.poll_reset(cx),
            Self::Http2(call) => call.split().1.poll_gone(cx).map(|()| true),
        }
    }

    /// An answer that broke off cannot be mended, only be seen to be incomplete. A reset says so whatever the framing: an
    /// answer that ends by closing would look complete otherwise.
    pub(crate) fn cut(&mut self) {
        match self {
            Self::Http1(client) => client.cut(),
            Self::Http2(call) => call.reset(h2::Reason::INTERNAL_ERROR),
        }
    }
}

/// Sends an answer of the proxy's own over HTTP/2; whether that worked.
pub(crate) async fn answer_http2(worker: &Worker, call: &mut Call, answer: &Answer, body: &[u8]) -> bool {
    let mut out = worker.buffers.take_head();
    answer.write_head(&worker.date(), false, &mut out);
    let sent = send(worker, call, &out, body).await;
    worker.buffers.give_head(out);
    sent
}

async fn send(worker: &Worker, call: &mut Call, out: &[u8], body: &[u8]) -> bool {
    let Ok(answer) = head::response(out) else { return false };
    if call.answer(answer, body.is_empty()).is_err() {
        return false;
    }
    if body.is_empty() {
        return true;
    }
    let moved = worker.moved();
    let patience = Patience::new(worker, worker.settings.write_stall_timeout, &moved);
    let (_, answering) = call.split();
    let mut sink = Sink::Client(answering);
    let sent = pin!(sink.data(bytes::Bytes::copy_from_slice(body), true, &patience));
    sent.await.is_ok()
}
