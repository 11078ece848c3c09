//! WebSocket (RFC 6455): every message comes back.
//!
//! Frames go back as they come, in parts as they arrive, so that a long message needs no memory. Text is not checked to
//! be UTF-8: whoever sent it gets it back as it was. What breaks the framing is answered with a close and 1002.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::watch;

use super::head::{Head, Version};
use super::told;
use super::wire::{Framing, ReadError, Wire};

/// What RFC 6455 §1.3 joins to the key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Longest payload of a control frame.
const CONTROL_BYTES_MAX: u64 = 125;
/// Payload that is sent back at once.
const PART_BYTES_MAX: u64 = 16 * 1024;

const CONTINUATION: u8 = 0;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Close codes of RFC 6455 §7.4.1.
const GOING_AWAY: u16 = 1001;
const PROTOCOL_ERROR: u16 = 1002;

/// Whether a request asks for WebSocket.
pub(super) fn is_asked(head: &Head, framing: Framing) -> bool {
    head.method == "GET"
        && head.version == Version::Http11
        && framing == Framing::Length(0)
        && head.has_token("connection", "upgrade")
        && head.has_token("upgrade", "websocket")
}

/// The head that grants it, with `fields` more; otherwise why not.
pub(super) fn grant(head: &Head, fields: &[(String, String)]) -> Result<Vec<u8>, ReadError> {
    if head.all("sec-websocket-version").ne([b"13"]) {
        return Err(ReadError::Refused(400, "Sec-WebSocket-Version is not 13"));
    }
    let mut keys = head.all("sec-websocket-key");
    let (Some(key), None) = (keys.next(), keys.next()) else {
        return Err(ReadError::Refused(400, "there is not one Sec-WebSocket-Key"));
    };
    let mut granted = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {}\r\n",
        accept(key)
    );
    for (name, value) in fields {
        granted.push_str(&format!("{name}: {value}\r\n"));
    }
    granted.push_str("\r\n");
    Ok(granted.into_bytes())
}

/// The answer to a key: that of a server that knows what it was asked.
fn accept(key: &[u8]) -> String {
    // The RFC wants SHA-1; nothing secret depends on it.
    STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat()))
}

/// Sends messages back until the client closes, breaks the protocol or leaves, or `stop` ends it.
pub(super) async fn serve(wire: &mut Wire, mut stop: watch::Receiver<bool>) {
    let mut is_inside = false;
    loop {
        let waited = tokio::select! {
            biased;
            waited = wire.wait() => waited.map_err(|_| End::Gone),
            () = told(&mut stop) => Err(End::Close(GOING_AWAY.to_be_bytes().to_vec())),
        };
        let echoed = match waited {
            Ok(()) => echo(wire, &mut is_inside).await,
            Err(end) => Err(end),
        };
        match echoed {
            Ok(()) => {}
            Err(End::Gone) => return,
            Err(End::Close(payload)) => {
                let mut out = header(true, CLOSE, payload.len() as u64);
                out.extend(payload);
                // A client that is gone needs no goodbye.
                let _ = wire.write(&out).await;
                return;
            }
        }
    }
}

/// Why there are no more messages.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The client is gone, or too slow.
    Gone,
    /// To be told in a close frame with this payload.
    Close(Vec<u8>),
}

impl End {
    fn protocol_error() -> Self {
        Self::Close(PROTOCOL_ERROR.to_be_bytes().to_vec())
    }
}

impl From<ReadError> for End {
    fn from(_: ReadError) -> Self {
        Self::Gone
    }
}

impl From<std::io::Error> for End {
    fn from(_: std::io::Error) -> Self {
        Self::Gone
    }
}

/// What stands before a payload.
#[derive(Debug, PartialEq, Eq)]
struct Frame {
    is_last: bool,
    opcode: u8,
    length: u64,
    mask: [u8; 4],
}

/// Answers one frame. `is_inside`: whether a message has begun and not ended.
async fn echo(wire: &mut Wire, is_inside: &mut bool) -> Result<(), End> {
    let frame = read_frame(wire).await?;
    match frame.opcode {
        CLOSE if frame.length == 1 => Err(End::protocol_error()),
        CLOSE => Err(End::Close(payload(wire, &frame, 0, frame.length).await?)),
        PING => send_back(wire, &frame, PONG).await,
        PONG => payload(wire, &frame, 0, frame.length).await.map(|_| ()),
        opcode if (opcode == CONTINUATION) == *is_inside => {
            *is_inside = !frame.is_last;
            send_back(wire, &frame, opcode).await
        }
        _ => Err(End::protocol_error()),
    }
}

/// Reads what stands before a payload, and judges it.
async fn read_frame(wire: &mut Wire) -> Result<Frame, End> {
    let first = wire.take_all(2).await?;
    let (is_last, reserved, opcode) = (first[0] & 0x80 != 0, first[0] & 0x70, first[0] & 0x0f);
    let (is_masked, short) = (first[1] & 0x80 != 0, u64::from(first[1] & 0x7f));
    let is_control = matches!(opcode, CLOSE | PING | PONG);
    let known = opcode <= BINARY || (is_control && is_last && short <= CONTROL_BYTES_MAX);
    if reserved != 0 || !known || !is_masked {
        return Err(End::protocol_error());
    }
    let (bytes, length_min) = match short {
        126 => (2, 126),
        127 => (8, 1 << 16),
        _ => (0, 0),
    };
    let long = wire.take_all(bytes).await?.iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
    let length = if bytes == 0 { short } else { long };
    if length < length_min || length > i64::MAX as u64 {
        return Err(End::protocol_error());
    }
    let mask = wire.take_all(4).await?.try_into().expect("four bytes were asked for");
    Ok(Frame { is_last, opcode, length, mask })
}

/// Sends a frame back as this opcode, part by part.
async fn send_back(wire: &mut Wire, frame: &Frame, opcode: u8) -> Result<(), End> {
    let mut out = header(frame.is_last, opcode, frame.length);
    let mut done = 0;
    loop {
        let part = (frame.length - done).min(PART_BYTES_MAX);
        out.extend(payload(wire, frame, done, part).await?);
        wire.write(&out).await?;
        out.clear();
        done += part;
        if done == frame.length {
            return Ok(());
        }
    }
}

/// So many bytes of a frame's payload, from `offset` on, without their mask.
async fn payload(wire: &mut Wire, frame: &Frame, offset: u64, bytes: u64) -> Result<Vec<u8>, End> {
    let mut payload = wire.take_all(bytes as usize).await?;
    for (at, byte) in payload.iter_mut().enumerate() {
        *byte ^= frame.mask[(offset as usize + at) % 4];
    }
    Ok(payload)
}

/// What a server writes before a payload.
fn header(is_last: bool, opcode: u8, length: u64) -> Vec<u8> {
    let mut header = vec![u8::from(is_last) << 7 | opcode];
    match length {
        0..126 => header.push(length as u8),
        126..0x1_0000 => {
            header.push(126);
            header.extend((length as u16).to_be_bytes());
        }
        _ => {
            header.push(127);
            header.extend(length.to_be_bytes());
        }
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_answered_as_in_the_rfc() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn lengths_take_as_few_bytes_as_they_may() {
        for (length, expected) in [
            (125, &[0x82, 125][..]),
            (126, &[0x82, 126, 0, 126]),
            (65_535, &[0x82, 126, 0xff, 0xff]),
            (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            assert_eq!(header(true, BINARY, length), expected);
        }
    }
}
