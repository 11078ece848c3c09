//! An answer of HTTP/2 as the proxy judges any answer.

use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use httparse::Header;

use crate::answer::reason_phrase;
use crate::h1::body::Framing;
use crate::h1::head::{self, FIELDS_MAX, ResponseHead};

/// Reads the head of an answer; the rule it breaks if it breaks one. `has_body` says whether its stream goes on.
pub(crate) fn read<'b>(
    status: u16,
    headers: &'b HeaderMap,
    has_body: bool,
    room: &'b mut Vec<Header<'b>>,
) -> Result<ResponseHead<'b>, &'static str> {
    if headers.len() > FIELDS_MAX {
        return Err("too_many_fields");
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let framing = match (lengths.next(), lengths.next()) {
        (_, Some(_)) => return Err("framing_field_twice"),
        (Some(length), None) => Framing::Length(head::content_length(length.as_bytes()).ok_or("content_length")?),
        (None, None) if has_body => Framing::Chunked,
        (None, None) => Framing::None,
    };
    room.extend(
        headers.iter().map(|(name, value)| Header { name: name.as_str(), value: value.as_bytes().trim_ascii() }),
    );
    Ok(ResponseHead { status, reason: reason_phrase(status), headers: room, framing, keep_alive: true, len: 0 })
}

/// Reads the head of an answer of 2xx to a WebSocket, as HTTP/1 would have said it.
pub(crate) fn read_grant<'b>(
    headers: &'b HeaderMap,
    accept: &'b [u8],
    room: &'b mut Vec<Header<'b>>,
) -> Result<ResponseHead<'b>, &'static str> {
    if headers.len() > FIELDS_MAX {
        return Err("too_many_fields");
    }
    room.extend(
        headers.iter().map(|(name, value)| Header { name: name.as_str(), value: value.as_bytes().trim_ascii() }),
    );
    room.push(Header { name: "connection", value: b"Upgrade" });
    room.push(Header { name: "upgrade", value: b"websocket" });
    room.push(Header { name: "sec-websocket-accept", value: accept });
    Ok(ResponseHead {
        status: 101,
        reason: "Switching Protocols",
        headers: room,
        framing: Framing::None,
        keep_alive: true,
        len: 0,
    })
}
