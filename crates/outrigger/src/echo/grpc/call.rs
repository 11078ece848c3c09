//! The answering side of one call: head, messages and status, as frames.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use h2::SendStream;
use h2::server::SendResponse;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use tokio::sync::watch;

use super::messages::Messages;
use super::proto::EchoResponse;
use super::{End, Head, Listen, Status};
use crate::echo::body::Body;
use crate::echo::http2::{Exchange, Gone, break_off, gone, map_of, response, send_part};
use crate::echo::instructions::{Abort, Plan};
use crate::echo::reply;

/// A call that is being answered.
pub(super) struct Call {
    /// Its head.
    pub(super) head: Head,
    /// Who answers.
    pub(super) listen: Arc<Listen>,
    /// What it was told to do.
    pub(super) plan: Plan,
    /// When to end what would not end by itself.
    pub(super) stop: watch::Receiver<bool>,
    respond: SendResponse<Bytes>,
    /// There once the head is sent.
    stream: Option<SendStream<Bytes>>,
}

/// A message to send: bytes, then so many of a pattern.
pub(super) struct Outgoing {
    bytes: Bytes,
    pattern: u64,
}

impl Outgoing {
    /// A message of these bytes, or of so many of the pattern instead.
    pub(super) fn new(bytes: impl Into<Bytes>, instead: Option<u64>) -> Self {
        match instead {
            Some(pattern) => Self { bytes: Bytes::new(), pattern },
            None => Self { bytes: bytes.into(), pattern: 0 },
        }
    }

    /// Such a message of protobuf, with so many bytes of the pattern as payload instead of its own.
    fn echo(mut response: EchoResponse, instead: Option<u64>) -> Self {
        let Some(pattern) = instead else { return Self::new(response.encode_to_vec(), None) };
        response.payload = Vec::new();
        let mut bytes = BytesMut::from(&*response.encode_to_vec());
        encode_key(EchoResponse::PAYLOAD, WireType::LengthDelimited, &mut bytes);
        encode_varint(pattern, &mut bytes);
        Self { bytes: bytes.freeze(), pattern }
    }

    /// Its parts, with the prefix that gRPC puts before a message.
    fn parts(self, is_cut: bool) -> impl Iterator<Item = Bytes> {
        let length = self.bytes.len() as u64 + self.pattern;
        let mut first = BytesMut::from(&[0][..]);
        first.extend_from_slice(&u32::try_from(length).expect("bodies are bounded").to_be_bytes());
        first.extend_from_slice(&self.bytes);
        let mut left = if is_cut { length / 2 } else { length } + 5;
        let pattern = Body::Pattern(self.pattern).parts();
        std::iter::once(first.freeze()).chain(pattern).map_while(move |part| {
            let count = left.min(part.len() as u64);
            left -= count;
            Some(part.slice(..count as usize)).filter(|part| !part.is_empty())
        })
    }
}

impl Call {
    /// Takes a call apart into its two directions.
    pub(super) fn new(exchange: Exchange, plan: Plan) -> (Self, Messages) {
        let Exchange { head, body, respond, listen, stop, .. } = exchange;
        (Self { head, listen, plan, stop, respond, stream: None }, Messages::new(body))
    }

    /// Sends a message, after the head if it is the first.
    pub(super) async fn send(&mut self, message: Outgoing) -> Result<(), End> {
        let is_cut = self.plan.abort == Some(Abort::AfterHeaders);
        let stream = self.open()?;
        for part in message.parts(is_cut) {
            send_part(stream, part).await?;
        }
        if is_cut { Err(End::Abort) } else { Ok(()) }
    }

    /// Sends an answer of `outrigger.echo.v1.Echo`.
    pub(super) async fn send_echo(&mut self, answer: EchoResponse) -> Result<(), End> {
        self.send(Outgoing::echo(answer, self.plan.body_bytes)).await
    }

    /// Sends a message that no instruction changes.
    pub(super) async fn send_message(&mut self, message: &impl Message) -> Result<(), End> {
        self.send(Outgoing::new(message.encode_to_vec(), None)).await
    }

    /// The stream, with the head sent.
    pub(super) fn open(&mut self) -> Result<&mut SendStream<Bytes>, Gone> {
        if self.stream.is_none() {
            let head = response(200, &self.fields());
            self.stream = Some(self.respond.send_response(head, false).map_err(gone)?);
        }
        Ok(self.stream.as_mut().expect("set above"))
    }

    /// Resets the stream after what was sent.
    pub(super) async fn break_off(mut self) {
        if let Some(stream) = &mut self.stream {
            break_off(stream).await;
        }
    }

    /// Ends the call: with trailers, or with the head alone where nothing was sent.
    pub(super) fn finish(mut self, status: Status) {
        let mut trailers = vec![("grpc-status".to_owned(), status.code.to_string())];
        if !status.message.is_empty() {
            trailers.push(("grpc-message".to_owned(), percent_encode(&status.message)));
        }
        trailers.extend(std::mem::take(&mut self.plan.trailers));
        // An error says that the client is gone: nobody is left to be told.
        let _ = match &mut self.stream {
            Some(stream) => stream.send_trailers(map_of(&trailers)),
            None => {
                trailers.splice(0..0, self.fields());
                self.respond.send_response(response(200, &trailers), true).map(drop)
            }
        };
    }

    fn fields(&self) -> Vec<(String, String)> {
        let mut fields = reply::fields(&self.plan, &self.listen);
        if !fields.iter().any(|(name, _)| name == "content-type") {
            fields.push(("content-type".to_owned(), "application/grpc".to_owned()));
        }
        fields
    }
}

/// As gRPC writes a status message: all but printable ASCII, and the percent sign, as `%XX`.
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(message: Outgoing, is_cut: bool) -> Vec<u8> {
        message.parts(is_cut).collect::<Vec<_>>().concat()
    }

    #[test]
    fn messages_have_their_length_before_them() {
        assert_eq!(whole(Outgoing::new("abc", None), false), b"\0\0\0\0\x03abc");
        assert_eq!(whole(Outgoing::new("abc", Some(4)), false), b"\0\0\0\0\x040123");
        assert_eq!(whole(Outgoing::new("abc", Some(4)), true), b"\0\0\0\0\x0401");
        assert_eq!(whole(Outgoing::new("", None), true), b"\0\0\0\0\0");
    }

    #[test]
    fn a_long_payload_is_part_of_its_message() {
        let response = EchoResponse { pod: "p".to_owned(), messages: 7, ..EchoResponse::default() };
        let bytes = whole(Outgoing::echo(response, Some(100_000)), false);
        let decoded = EchoResponse::decode(&bytes[5..]).expect("protobuf");
        assert_eq!((decoded.pod.as_str(), decoded.messages, decoded.payload.len()), ("p", 7, 100_000));
        assert!(decoded.payload.starts_with(b"0123456789ab"));
    }

    #[test]
    fn status_messages_are_printable() {
        assert_eq!(percent_encode("50 % of ä\n"), "50 %25 of %C3%A4%0A");
    }
}
