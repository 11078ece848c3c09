//! One stream of a client: a request that came over HTTP/2, and the way its answer goes.

use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::Response;
use http::request::Parts;

use super::incoming::Incoming;

/// A request that is being answered.
pub(crate) struct Call {
    /// Its body.
    pub(crate) body: Incoming,
    /// Its head as it came, until it is sent on.
    pub(crate) head: Option<Parts>,
    /// Whether it is an extended CONNECT (RFC 8441).
    pub(crate) is_websocket: bool,
    respond: SendResponse<Bytes>,
    /// There once the head of the answer is sent.
    send: Option<SendStream<Bytes>>,
}

impl Call {
    /// Around a stream.
    pub(crate) fn new(body: RecvStream, respond: SendResponse<Bytes>, is_websocket: bool) -> Self {
        Self { body: Incoming::new(body), head: None, is_websocket, respond, send: None }
    }

    /// Sends the head of the answer; its end too, if nothing follows.
    pub(crate) fn answer(&mut self, answer: Response<()>, end: bool) -> Result<(), h2::Error> {
        self.send = Some(self.respond.send_response(answer, end)?);
        Ok(())
    }

    /// Body and answer, to be used at the same time. The answer's head has to be sent before its body is.
    pub(crate) fn split(&mut self) -> (&mut Incoming, Answering<'_>) {
        (&mut self.body, Answering { respond: &mut self.respond, send: &mut self.send })
    }

    /// Ends the stream: nothing of it can be mended.
    pub(crate) fn reset(&mut self, reason: Reason) {
        match &mut self.send {
            Some(send) => send.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }
}

/// The way of an answer.
pub(crate) struct Answering<'c> {
    respond: &'c mut SendResponse<Bytes>,
    send: &'c mut Option<SendStream<Bytes>>,
}

impl Answering<'_> {
    /// Sends an interim answer.
    pub(crate) fn inform(&mut self, answer: Response<()>) -> Result<(), h2::Error> {
        self.respond.send_informational(answer)
    }

    /// As [`Call::answer`].
    pub(crate) fn answer(&mut self, answer: Response<()>, end: bool) -> Result<(), h2::Error> {
        *self.send = Some(self.respond.send_response(answer, end)?);
        Ok(())
    }

    /// Where the body goes.
    pub(crate) fn stream(&mut self) -> Option<&mut SendStream<Bytes>> {
        self.send.as_mut()
    }

    /// Ready when the client wants the answer no more.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.send {
            Some(send) => send.poll_reset(cx).map(|_| ()),
            None => self.respond.poll_reset(cx).map(|_| ()),
        }
    }
}
