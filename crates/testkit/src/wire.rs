//! Reading HTTP/1 messages off a blocking socket, strictly: what the proxy writes has no excuse to be sloppy.

use std::fmt;
use std::io::{self, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Fields of a head or of trailers, in the order sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(
    /// Names in lower case, values without surrounding blanks.
    pub Vec<(String, Vec<u8>)>,
);

/// Why there is no message, or only part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// Closed in good order before its first byte.
    Closed,
    /// Closed in good order in the middle; what was read of the message.
    Truncated(Vec<u8>),
    /// Reset; what was read of the message.
    Reset(Vec<u8>),
    /// The deadline passed; what was read of the message.
    Deadline(Vec<u8>),
    /// Not HTTP/1; why, and what was read of the message.
    Malformed(String, Vec<u8>),
}

/// A socket's reading half with what was read and not used yet.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
    /// Everything from the start of the message being read, for errors.
    used: usize,
    pub(crate) deadline: Instant,
}

impl Fields {
    /// The first value of a field; `name` is lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).and_then(|(_, value)| str::from_utf8(value).ok())
    }

    /// All values of a field; `name` is lower case. Values that are not UTF-8 are left out.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).filter_map(|(_, value)| str::from_utf8(value).ok())
    }

    /// Whether a comma-separated field names this token.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name).flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(token))
    }

    /// Reads lines `name: value`.
    fn parse<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Result<Self, String> {
        let mut fields = Vec::new();
        for line in lines {
            let shown = || String::from_utf8_lossy(line).into_owned();
            let colon = line.iter().position(|byte| *byte == b':').ok_or_else(|| format!("no colon: {}", shown()))?;
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            if name.is_empty() || name.iter().any(|byte| !byte.is_ascii_graphic()) {
                return Err(format!("bad field name: {}", shown()));
            }
            if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
                return Err(format!("control character in a value: {}", shown()));
            }
            fields.push((String::from_utf8_lossy(name).to_ascii_lowercase(), value.to_vec()));
        }
        Ok(Self(fields))
    }
}

impl Reader {
    pub(crate) fn new(stream: TcpStream, patience: Duration) -> Self {
        Self { stream, buffer: Vec::new(), used: 0, deadline: Instant::now() + patience }
    }

    /// Reads a head: its first line and its fields.
    pub(crate) fn head(&mut self) -> Result<(String, Fields), ReadError> {
        self.buffer.drain(..self.used);
        self.used = 0;
        let mut searched: usize = 0;
        let end = loop {
            let from = searched.saturating_sub(3);
            match self.buffer[from..].windows(4).position(|window| window == b"\r\n\r\n") {
                Some(at) => break from + at,
                None => searched = self.buffer.len(),
            }
            self.fill()?;
        };
        let head = self.buffer[..end].to_vec();
        self.used = end + 4;
        let mut lines = split_lines(&head);
        let first = lines.next().unwrap_or_default();
        let fields = Fields::parse(lines).map_err(|why| self.malformed(why))?;
        let first = str::from_utf8(first).map_err(|_| self.malformed("first line is not UTF-8".to_owned()))?;
        Ok((first.to_owned(), fields))
    }

    /// Reads a body of this length.
    pub(crate) fn exactly(&mut self, length: usize) -> Result<Vec<u8>, ReadError> {
        while self.buffer.len() - self.used < length {
            self.fill()?;
        }
        self.used += length;
        Ok(self.buffer[self.used - length..self.used].to_vec())
    }

    /// Reads chunks and trailers.
    pub(crate) fn chunks(&mut self) -> Result<(Vec<u8>, Fields), ReadError> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
            let digits = str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
            let size = digits.and_then(|digits| usize::from_str_radix(digits, 16).ok());
            let size = size.ok_or_else(|| self.malformed("bad chunk size".to_owned()))?;
            if size == 0 {
                break;
            }
            body.extend(self.exactly(size)?);
            if !self.line()?.is_empty() {
                return Err(self.malformed("no CRLF after a chunk".to_owned()));
            }
        }
        let mut trailers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                let trailers = Fields::parse(trailers.iter().map(Vec::as_slice));
                return trailers.map(|trailers| (body, trailers)).map_err(|why| self.malformed(why));
            }
            trailers.push(line);
        }
    }

    /// Reads to the end of the connection, which must be in good order.
    pub(crate) fn until_end(&mut self) -> Result<Vec<u8>, ReadError> {
        let from = self.used;
        loop {
            match self.fill() {
                Ok(()) => {}
                Err(ReadError::Truncated(_) | ReadError::Closed) => {
                    self.used = self.buffer.len();
                    return Ok(self.buffer[from..].to_vec());
                }
                Err(other) => return Err(other),
            }
        }
    }

    /// Reads until this text is among what is not used yet.
    pub(crate) fn await_text(&mut self, text: &[u8]) -> Result<(), ReadError> {
        while !self.buffer[self.used..].windows(text.len()).any(|window| window == text) {
            self.fill()?;
        }
        Ok(())
    }

    /// Reads whatever comes until the connection ends or the deadline passes; how it ended is the error.
    pub(crate) fn rest(&mut self) -> ReadError {
        self.buffer.drain(..self.used);
        self.used = 0;
        loop {
            if let Err(end) = self.fill() {
                return end;
            }
        }
    }

    /// Whether something was read that belongs to no message yet.
    pub(crate) fn has_unused(&self) -> bool {
        self.used < self.buffer.len()
    }

    /// Whether the peer has closed, or sent what nobody asked for: then a connection must not be used again.
    pub(crate) fn is_spent(&self) -> bool {
        let mut byte = [0];
        let peeked = self.stream.set_nonblocking(true).and_then(|()| self.stream.peek(&mut byte));
        let restored = self.stream.set_nonblocking(false);
        restored.is_err() || !matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    fn line(&mut self) -> Result<Vec<u8>, ReadError> {
        let mut searched = self.used;
        loop {
            if let Some(at) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let end = searched + at;
                let line = self.buffer[self.used..end].to_vec();
                self.used = end + 1;
                return match line.strip_suffix(b"\r") {
                    Some(line) => Ok(line.to_vec()),
                    None => Err(self.malformed("bare LF".to_owned())),
                };
            }
            searched = self.buffer.len();
            self.fill()?;
        }
    }

    fn malformed(&self, why: String) -> ReadError {
        ReadError::Malformed(why, self.buffer.clone())
    }

    /// Reads some more, at least one byte.
    fn fill(&mut self) -> Result<(), ReadError> {
        let mut block = [0; 16 * 1024];
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.stream.set_read_timeout(Some(left)).is_err() {
                return Err(ReadError::Deadline(self.buffer.clone()));
            }
            match self.stream.read(&mut block) {
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

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tail = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(400)]).into_owned();
            format!("after {} bytes: {text:?}", bytes.len())
        };
        match self {
            Self::Closed => write!(f, "closed without a byte"),
            Self::Truncated(bytes) => write!(f, "closed {}", tail(bytes)),
            Self::Reset(bytes) => write!(f, "reset {}", tail(bytes)),
            Self::Deadline(bytes) => write!(f, "nothing more in time {}", tail(bytes)),
            Self::Malformed(why, bytes) => write!(f, "{why}, {}", tail(bytes)),
        }
    }
}

impl std::error::Error for ReadError {}

/// Splits at CRLF alone, so that a bare CR or LF stays in its line and is found there.
fn split_lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(head);
    std::iter::from_fn(move || {
        let bytes = rest?;
        match bytes.windows(2).position(|window| window == b"\r\n") {
            Some(at) => {
                rest = Some(&bytes[at + 2..]);
                Some(&bytes[..at])
            }
            None => rest.take(),
        }
    })
}
