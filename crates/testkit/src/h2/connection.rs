//! One connection of HTTP/2 on a blocking socket: sends any bytes, reads frame by frame, keeps what answers said.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::{Decoder, Frame, PREFACE, flag, frame, kind, settings, settings_ack, window_update};
use crate::PATIENCE;
use crate::wire::{Fields, ReadError};

/// What a connection runs on: a socket, or TLS over one.
pub trait Wire: Read + Write + Send {
    /// The socket below, for its time limits.
    fn socket(&self) -> &TcpStream;
}

impl Wire for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

/// One connection, from either side. A client reads answers with it, a scripted server requests.
pub struct Connection {
    wire: Box<dyn Wire>,
    /// Read and not used yet.
    buffer: Vec<u8>,
    deadline: Instant,
    decoder: Decoder,
    /// A block whose CONTINUATION frames are still to come, with its HEADERS.
    block: Option<Frame>,
    /// Whether frames are answered: SETTINGS and PING acknowledged, windows opened again.
    polite: bool,
    /// What was taken of each window since it was opened last.
    owed: BTreeMap<u32, u32>,
    /// What came for each stream.
    pub answers: BTreeMap<u32, Answer>,
    /// Code of the last GOAWAY that came, with its debug data.
    pub goaway: Option<(u32, String)>,
    /// Payloads of the acknowledged PINGs.
    pub pongs: Vec<[u8; 8]>,
}

/// What came for one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Blocks of fields with the pseudo-fields, in order: interim heads, the head, trailers.
    pub blocks: Vec<Fields>,
    /// Content of all DATA.
    pub body: Vec<u8>,
    /// How many DATA frames there were.
    pub data_frames: usize,
    /// Whether END_STREAM came.
    pub ended: bool,
    /// Code of an RST_STREAM.
    pub reset: Option<u32>,
}

impl Answer {
    /// Status of the final head.
    pub fn status(&self) -> Option<u16> {
        self.head()?.get(":status")?.parse().ok()
    }

    /// The final head: the first that is not interim.
    pub fn head(&self) -> Option<&Fields> {
        self.blocks.iter().find(|block| block.get(":status").is_some_and(|status| !status.starts_with('1')))
    }

    /// The trailers.
    pub fn trailers(&self) -> Option<&Fields> {
        self.blocks.last().filter(|block| block.get(":status").is_none())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Whether nothing more can come.
    pub fn is_over(&self) -> bool {
        self.ended || self.reset.is_some()
    }
}

impl Connection {
    /// Connects and sends preface and empty SETTINGS. What is awaited must come within [`PATIENCE`] from now.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::client(dial(address)?, &settings(&[]))
    }

    /// Connects and sends nothing.
    pub fn silent(address: SocketAddr) -> io::Result<Self> {
        Ok(Self::over(dial(address)?))
    }

    /// A client on a connection that stands, which sends the preface and these bytes.
    pub fn client(wire: impl Wire + 'static, first: &[u8]) -> io::Result<Self> {
        let mut connection = Self::over(wire);
        connection.send(&[PREFACE, first].concat())?;
        Ok(connection)
    }

    /// A server on an accepted connection: reads the preface, sends these bytes.
    pub fn server(stream: TcpStream, first: &[u8]) -> Result<Self, ReadError> {
        let reset = |_| ReadError::Reset(Vec::new());
        stream.set_nodelay(true).and_then(|()| stream.set_write_timeout(Some(PATIENCE))).map_err(reset)?;
        let mut connection = Self::over(stream);
        while connection.buffer.len() < PREFACE.len() {
            connection.fill()?;
        }
        if connection.buffer.drain(..PREFACE.len()).as_slice() != PREFACE {
            return Err(ReadError::Malformed("no preface".to_owned(), connection.buffer));
        }
        connection.send(first).map_err(reset)?;
        Ok(connection)
    }

    fn over(wire: impl Wire + 'static) -> Self {
        Self {
            wire: Box::new(wire),
            buffer: Vec::new(),
            deadline: Instant::now() + PATIENCE,
            decoder: Decoder::default(),
            block: None,
            polite: true,
            owed: BTreeMap::new(),
            answers: BTreeMap::new(),
            goaway: None,
            pongs: Vec::new(),
        }
    }

    /// What is awaited must come within `patience` from now.
    pub fn set_patience(&mut self, patience: Duration) {
        self.deadline = Instant::now() + patience;
    }

    /// Acknowledges nothing and opens no windows from now on.
    pub fn be_rude(&mut self) {
        self.polite = false;
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.write_all(bytes)?;
        self.wire.flush()
    }

    /// Sends `bytes` up to so many times, or until the peer has had enough of it; how often it went out.
    pub fn flood(&mut self, bytes: &[u8], times: usize) -> usize {
        let _ = self.wire.socket().set_write_timeout(Some(Duration::from_secs(2)));
        let batch = (16 * 1024 / bytes.len().max(1)).max(1);
        let mut sent = 0;
        while sent < times {
            let count = batch.min(times - sent);
            if self.send(&bytes.repeat(count)).is_err() {
                break;
            }
            sent += count;
        }
        sent
    }

    /// What came for this stream so far.
    pub fn answer(&self, stream: u32) -> Answer {
        self.answers.get(&stream).cloned().unwrap_or_default()
    }

    /// Reads until this stream is over.
    pub fn await_answer(&mut self, stream: u32) -> Result<Answer, ReadError> {
        while !self.answer(stream).is_over() {
            self.step()?;
        }
        Ok(self.answer(stream))
    }

    /// Sends a PING and reads until it is acknowledged: everything sent before it was seen by then.
    pub fn await_pong(&mut self, payload: [u8; 8]) -> Result<(), ReadError> {
        self.send(&super::ping(payload)).map_err(|_| ReadError::Reset(Vec::new()))?;
        while !self.pongs.contains(&payload) {
            self.step()?;
        }
        Ok(())
    }

    /// Reads until the peer ends the connection; how it did is the result.
    pub fn await_end(&mut self) -> ReadError {
        loop {
            if let Err(end) = self.step() {
                return end;
            }
        }
    }

    /// Reads one frame and keeps what it says.
    pub fn step(&mut self) -> Result<Frame, ReadError> {
        let read = self.frame()?;
        let (stream, ends) = (read.stream, read.flags & flag::END_STREAM != 0);
        match read.kind {
            kind::HEADERS | kind::CONTINUATION => self.fields(read.clone())?,
            kind::DATA => {
                let answer = self.answers.entry(stream).or_default();
                answer.body.extend(unpadded(&read));
                answer.data_frames += 1;
                answer.ended |= ends;
                if self.polite {
                    let length = read.payload.len() as u32;
                    self.open_window(0, length);
                    if !ends {
                        self.open_window(stream, length);
                    }
                }
            }
            kind::RST_STREAM => self.answers.entry(stream).or_default().reset = Some(number(&read.payload)),
            kind::GOAWAY => {
                let debug = read.payload.get(8..).unwrap_or_default();
                let code = number(read.payload.get(4..).unwrap_or_default());
                self.goaway = Some((code, String::from_utf8_lossy(debug).into_owned()));
            }
            kind::PING if read.flags & flag::ACK != 0 => self.pongs.extend(read.payload.first_chunk::<8>()),
            kind::PING if self.polite => _ = self.send(&frame(kind::PING, flag::ACK, 0, &read.payload)),
            kind::SETTINGS if self.polite && read.flags & flag::ACK == 0 => _ = self.send(&settings_ack()),
            _ => {}
        }
        Ok(read)
    }

    /// Reads one frame, and does nothing about it.
    pub fn frame(&mut self) -> Result<Frame, ReadError> {
        while self.buffer.len() < 9 {
            self.fill()?;
        }
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = self.buffer[..9] else { unreachable!("nine bytes are there") };
        let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        if length > 16_384 {
            return Err(ReadError::Malformed(format!("a frame of {length} bytes"), self.buffer.clone()));
        }
        while self.buffer.len() < 9 + length {
            self.fill()?;
        }
        let payload = self.buffer[9..9 + length].to_vec();
        self.buffer.drain(..9 + length);
        Ok(Frame { kind, flags, stream: u32::from_be_bytes([s0, s1, s2, s3]), payload })
    }

    /// Opens a window again by what was taken, once that is a quarter of what it is at the start.
    fn open_window(&mut self, stream: u32, taken: u32) {
        let owed = self.owed.entry(stream).or_default();
        *owed += taken;
        if *owed >= 16 * 1024 {
            let update = window_update(stream, std::mem::take(owed));
            let _ = self.send(&update);
        }
    }

    fn fields(&mut self, read: Frame) -> Result<(), ReadError> {
        let is_end = read.flags & flag::END_HEADERS != 0;
        let mut whole = match (self.block.take(), read.kind) {
            (None, kind::HEADERS) => Frame { payload: unpadded(&read).to_vec(), ..read },
            (Some(mut begun), kind::CONTINUATION) if begun.stream == read.stream => {
                begun.payload.extend(read.payload);
                begun
            }
            _ => return Err(ReadError::Malformed("HEADERS or CONTINUATION out of order".to_owned(), Vec::new())),
        };
        if !is_end {
            self.block = Some(whole);
            return Ok(());
        }
        if whole.flags & flag::PRIORITY != 0 {
            whole.payload.drain(..5);
        }
        let fields = self.decoder.read(&whole.payload).map_err(|why| ReadError::Malformed(why, whole.payload))?;
        let answer = self.answers.entry(whole.stream).or_default();
        answer.blocks.push(Fields(fields));
        answer.ended |= whole.flags & flag::END_STREAM != 0;
        Ok(())
    }

    fn fill(&mut self) -> Result<(), ReadError> {
        let mut block = [0; 16 * 1024];
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.wire.socket().set_read_timeout(Some(left)).is_err() {
                return Err(ReadError::Deadline(self.buffer.clone()));
            }
            match self.wire.read(&mut block) {
                Ok(0) if self.buffer.is_empty() => return Err(ReadError::Closed),
                Ok(0) => return Err(ReadError::Truncated(self.buffer.clone())),
                Ok(count) => {
                    self.buffer.extend_from_slice(&block[..count]);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(_) => return Err(ReadError::Reset(self.buffer.clone())),
            }
        }
    }
}

fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn unpadded(frame: &Frame) -> &[u8] {
    match frame.payload.split_first() {
        Some((padding, rest)) if frame.flags & flag::PADDED != 0 => {
            &rest[..rest.len().saturating_sub(usize::from(*padding))]
        }
        _ => &frame.payload,
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(u32::MAX, |bytes| u32::from_be_bytes(*bytes))
}
