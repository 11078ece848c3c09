//! As much of HTTP/2 as a scripted backend needs: it answers each stream when its request has ended, and reads no fields.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Result, ensure};

use super::backend::Backend;
use super::script::Act;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// Error codes of RFC 9113 §7.
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;
/// What a client of HTTP/2 begins with.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves a connection to its end.
pub(crate) fn serve(backend: &Backend, mut stream: TcpStream) -> Result<()> {
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface)?;
    ensure!(&preface == PREFACE, "no preface of HTTP/2");
    let writer = Arc::new(Mutex::new(stream.try_clone()?));
    send(&writer, &frame(SETTINGS, 0, 0, &[]))?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload)?;
        match kind {
            SETTINGS if flags & ACK == 0 => send(&writer, &frame(SETTINGS, ACK, 0, &[]))?,
            PING if flags & ACK == 0 => send(&writer, &frame(PING, ACK, 0, &payload))?,
            HEADERS | DATA if flags & END_STREAM != 0 => {
                let (act, writer) = (backend.next(None), Arc::clone(&writer));
                thread::spawn(move || answer(&act, id, &writer));
            }
            GOAWAY => return Ok(()),
            _ => {}
        }
    }
}

fn answer(act: &Act, id: u32, writer: &Mutex<TcpStream>) -> Result<()> {
    let answer = match act {
        Act::Answer(answer) => answer,
        Act::RefuseStream => return send(writer, &frame(RST_STREAM, 0, id, &REFUSED_STREAM.to_be_bytes())),
        Act::Reset | Act::Close => return send(writer, &frame(RST_STREAM, 0, id, &INTERNAL_ERROR.to_be_bytes())),
    };
    thread::sleep(answer.delay);
    let mut head = literal(":status", &answer.status.to_string());
    answer.fields.iter().for_each(|(name, value)| head.extend(literal(name, value)));
    // A call that fails at once has no body: its status stands in the one block of fields.
    if answer.fields.iter().any(|(name, _)| name == "grpc-status") {
        return send(writer, &frame(HEADERS, END_HEADERS | END_STREAM, id, &head));
    }
    let mut frames = frame(HEADERS, END_HEADERS, id, &head);
    if answer.trailers.is_empty() {
        frames.extend(frame(DATA, END_STREAM, id, b"ok\n"));
    } else {
        // An empty message of gRPC.
        frames.extend(frame(DATA, 0, id, &[0; 5]));
        let trailers: Vec<u8> = answer.trailers.iter().flat_map(|(name, value)| literal(name, value)).collect();
        frames.extend(frame(HEADERS, END_HEADERS | END_STREAM, id, &trailers));
    }
    send(writer, &frames)
}

fn send(writer: &Mutex<TcpStream>, bytes: &[u8]) -> Result<()> {
    Ok(writer.lock().unwrap_or_else(PoisonError::into_inner).write_all(bytes)?)
}

fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("frames are small").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(id.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A field of HPACK, literal and not indexed, not compressed.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        bytes.push(u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("fields are short"));
        bytes.extend(text.bytes());
    }
    bytes
}
