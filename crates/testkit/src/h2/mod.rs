//! Raw HTTP/2: frames built by hand, legal or not, and read one by one, by code of its own that shares nothing with the
//! proxy or the library it uses.

mod connection;
mod hpack;

pub use connection::{Answer, Connection, Wire};
pub use hpack::{Block, Decoder};

/// What a client sends first.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames, RFC 9113 §6.
pub mod kind {
    #![expect(missing_docs, reason = "the names are those of RFC 9113")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
    /// RFC 9218.
    pub const PRIORITY_UPDATE: u8 = 16;
}

/// Flags of frames.
pub mod flag {
    #![expect(missing_docs, reason = "the names are those of RFC 9113")]
    pub const NONE: u8 = 0;
    pub const ACK: u8 = 0x1;
    pub const END_STREAM: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// Error codes, RFC 9113 §7.
pub mod code {
    #![expect(missing_docs, reason = "the names are those of RFC 9113")]
    pub const NO_ERROR: u32 = 0;
    pub const PROTOCOL_ERROR: u32 = 1;
    pub const INTERNAL_ERROR: u32 = 2;
    pub const FLOW_CONTROL_ERROR: u32 = 3;
    pub const STREAM_CLOSED: u32 = 5;
    pub const FRAME_SIZE_ERROR: u32 = 6;
    pub const REFUSED_STREAM: u32 = 7;
    pub const CANCEL: u32 = 8;
    pub const COMPRESSION_ERROR: u32 = 9;
    pub const ENHANCE_YOUR_CALM: u32 = 11;
}

/// One frame as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// See [`kind`].
    pub kind: u8,
    /// See [`flag`].
    pub flags: u8,
    /// 0 is the connection.
    pub stream: u32,
    /// Whatever it holds.
    pub payload: Vec<u8>,
}

/// The bytes of any frame. Its length is that of the payload.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let length = u32::try_from(payload.len()).expect("payloads of tests are short").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// SETTINGS with these entries.
pub fn settings(entries: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        entries.iter().flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    frame(kind::SETTINGS, flag::NONE, 0, payload)
}

/// The acknowledgement of SETTINGS.
pub fn settings_ack() -> Vec<u8> {
    frame(kind::SETTINGS, flag::ACK, 0, [])
}

/// HEADERS that begin and end in one frame.
pub fn headers(stream: u32, ends: bool, block: &Block) -> Vec<u8> {
    let end = if ends { flag::END_STREAM } else { flag::NONE };
    frame(kind::HEADERS, flag::END_HEADERS | end, stream, block.bytes())
}

/// DATA without padding.
pub fn data(stream: u32, ends: bool, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    frame(kind::DATA, if ends { flag::END_STREAM } else { flag::NONE }, stream, bytes)
}

/// RST_STREAM.
pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, flag::NONE, stream, code.to_be_bytes())
}

/// WINDOW_UPDATE.
pub fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, flag::NONE, stream, increment.to_be_bytes())
}

/// PING.
pub fn ping(payload: [u8; 8]) -> Vec<u8> {
    frame(kind::PING, flag::NONE, 0, payload)
}

/// GOAWAY.
pub fn goaway(last_stream: u32, code: u32) -> Vec<u8> {
    frame(kind::GOAWAY, flag::NONE, 0, [last_stream.to_be_bytes(), code.to_be_bytes()].concat())
}

#[cfg(test)]
mod tests;
