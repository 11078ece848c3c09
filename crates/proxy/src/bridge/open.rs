//! Opening a WebSocket at an endpoint that speaks HTTP/2 (RFC 8441).

use bytes::Bytes;
use h2::SendStream;
use h2::client::ResponseFuture;

use super::talk::{Answers, Behind, Download, Out, Talk};
use super::tunnel::Opened;
use super::{Http1Sink, Sink, Source};
use crate::exchange::Begun;
use crate::failure::Reason;
use crate::h2::head;
use crate::h2::incoming::Incoming;
use crate::upgrade;

impl Talk<'_, '_> {
    /// Opens a WebSocket over HTTP/2 (RFC 8441): an answer of 2xx grants it.
    pub(super) async fn open(
        &self,
        response: ResponseFuture,
        stream: SendStream<Bytes>,
        mut out: Out<'_>,
    ) -> Result<Download, Reason> {
        let mut answers = Answers::Http2(response);
        match self.answer(&mut answers, &mut out).await? {
            (begun, head, Some(Behind { body, .. })) if begun.status == 101 => {
                self.opened(&begun, head, Opened { body, stream }, out).await
            }
            (begun, head, behind) => self.refused(begun, head, behind.map(|behind| behind.body), out).await,
        }
    }

    async fn opened(&self, begun: &Begun, head: Vec<u8>, opened: Opened, out: Out<'_>) -> Result<Download, Reason> {
        self.progress.status_sent.set(begun.status);
        self.progress.upload_done.set(true);
        match out {
            Out::Http1(mut writer) => self.conversation.write_client(&mut writer, &head).await?,
            Out::Http2(mut answering) => {
                let response = self.response(begun.status, &head, None)?;
                answering.answer(response, false).map_err(|_| Reason::ClientGone)?;
            }
        }
        Ok(Download { status: begun.status, grpc_status: None, reusable: false, opened: Some(opened) })
    }

    /// Relays an answer that grants no WebSocket.
    async fn refused(
        &self,
        begun: Begun,
        head: Vec<u8>,
        mut body: Option<Incoming>,
        out: Out<'_>,
    ) -> Result<Download, Reason> {
        self.progress.status_sent.set(begun.status);
        self.progress.upload_done.set(true);
        let mut source = body.as_mut().map_or(Source::Held(None, None), Source::Http2);
        let mut sink = match out {
            Out::Http1(writer) => {
                let coding = self.conversation.answer_coding(begun.framing);
                Sink::Http1(Http1Sink { writer, coding, pending: head })
            }
            Out::Http2(mut answering) => {
                let response = self.response(begun.status, &head, None)?;
                answering.answer(response, false).map_err(|_| Reason::ClientGone)?;
                Sink::Client(answering)
            }
        };
        let grpc_status = self.relay_answer(&mut source, &mut sink).await?;
        Ok(Download { status: begun.status, grpc_status, reusable: false, opened: None })
    }

    /// What answers the key that the client sent.
    pub(super) fn accept_key(&self) -> String {
        let key = head::field(&self.conversation.forwarding.head, b"sec-websocket-key");
        upgrade::accept_key(key.unwrap_or_default())
    }
}
