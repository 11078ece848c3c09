//! A client that opens many connections, has one request answered on each, and then holds them.
//!
//! It speaks just enough HTTP/1.1 and HTTP/2 (RFC 9113) for one GET at a time; what it sends and expects is fixed, so
//! that a proxy that answers anything else fails the measurement.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::bench::configurations::HOST;

/// What the backend answers.
const BODY: &[u8] = b"hello, world\n";
/// How long one answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Connections that are asked again after the measurement: they must still be there.
const ASKED_AGAIN: usize = 100;

/// Frame types of HTTP/2 (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
/// `END_STREAM` of DATA and HEADERS; `ACK` of SETTINGS and PING.
const FLAG_1: u8 = 1;
const END_HEADERS: u8 = 4;

/// Connections that are held.
pub(crate) struct Idle {
    connections: Vec<TcpStream>,
    h2: bool,
    /// How long it took to open them all.
    pub(crate) took: Duration,
}

/// One frame.
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Idle {
    /// Opens connections one after another, so that one connection to the backend is enough and only what a client's
    /// connection holds is measured.
    pub(crate) fn open(address: SocketAddr, count: u32, h2: bool) -> Result<Self> {
        let start = Instant::now();
        let mut connections = Vec::with_capacity(count as usize);
        for number in 1..=count {
            let connection = open_one(address, h2).with_context(|| format!("connection {number} of {count}"))?;
            connections.push(connection);
        }
        Ok(Self { connections, h2, took: start.elapsed() })
    }

    /// Some of them, spread over all, are still there and answer.
    pub(crate) fn ask_again(&mut self) -> Result<()> {
        let step = (self.connections.len() / ASKED_AGAIN).max(1);
        for connection in self.connections.iter_mut().step_by(step) {
            let answered = if self.h2 { ask_h2(connection, 3) } else { ask_http1(connection) };
            answered.context("a connection that was idle")?;
        }
        Ok(())
    }
}

fn open_one(address: SocketAddr, h2: bool) -> Result<TcpStream> {
    let mut connection = TcpStream::connect_timeout(&address, ANSWER_MAX)?;
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(ANSWER_MAX))?;
    if h2 {
        connection.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
        connection.write_all(&frame(SETTINGS, 0, 0, &[]))?;
        // The connection's preface is answered by one (section 3.4).
        loop {
            let frame = read_frame(&mut connection)?;
            if is_settings(&mut connection, &frame)? {
                break;
            }
        }
        ask_h2(&mut connection, 1)?;
    } else {
        ask_http1(&mut connection)?;
    }
    Ok(connection)
}

fn ask_http1(connection: &mut TcpStream) -> Result<()> {
    connection.write_all(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes())?;
    let (mut answer, mut block) = (Vec::new(), [0; 4096]);
    while !answer.ends_with(BODY) {
        let read = connection.read(&mut block)?;
        ensure!(read > 0 && answer.len() < 65_536, "answered {:?}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&block[..read]);
    }
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "answered {:?}", String::from_utf8_lossy(&answer));
    Ok(())
}

fn ask_h2(connection: &mut TcpStream, stream: u32) -> Result<()> {
    // Fields from the static table (RFC 7541, appendix A): GET, http, `/`; the authority as a literal.
    let mut fields = vec![0x82, 0x86, 0x84, 0x01, u8::try_from(HOST.len()).context("a short host")?];
    fields.extend_from_slice(HOST.as_bytes());
    connection.write_all(&frame(HEADERS, FLAG_1 | END_HEADERS, stream, &fields))?;
    let mut body = Vec::new();
    loop {
        let frame = read_frame(connection)?;
        match frame.kind {
            DATA if frame.stream == stream => body.extend_from_slice(&frame.payload),
            RST_STREAM | GOAWAY => bail!("the proxy sent frame {} with {:?}", frame.kind, frame.payload),
            PING if frame.flags & FLAG_1 == 0 => connection.write_all(&self::frame(PING, FLAG_1, 0, &frame.payload))?,
            _ => drop(is_settings(connection, &frame)?),
        }
        if frame.stream == stream && matches!(frame.kind, DATA | HEADERS) && frame.flags & FLAG_1 != 0 {
            break;
        }
    }
    ensure!(body == BODY, "answered {:?}", String::from_utf8_lossy(&body));
    Ok(())
}

/// Whether it is the peer's settings; they are acknowledged then.
fn is_settings(connection: &mut TcpStream, received: &Frame) -> Result<bool> {
    let new = received.kind == SETTINGS && received.flags & FLAG_1 == 0;
    if new {
        connection.write_all(&frame(SETTINGS, FLAG_1, 0, &[]))?;
    }
    Ok(new)
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("frames of this client are short").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn read_frame(connection: &mut TcpStream) -> Result<Frame> {
    let mut head = [0; 9];
    connection.read_exact(&mut head).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => anyhow::anyhow!("the proxy closed the connection"),
        _ => error.into(),
    })?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    connection.read_exact(&mut payload)?;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
    Ok(Frame { kind: head[3], flags: head[4], stream, payload })
}
