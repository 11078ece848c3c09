//! Reading HTTP/1 requests off a socket: heads, bodies, chunks, with every size and wait bounded; and telling HTTP/2 apart.
//!
//! Strict where leniency would hide a proxy's mistake: two lengths, a length beside chunks, or a coding other than
//! chunked is refused rather than guessed at.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::head::{Field, Head, Received, Version};
use super::limits;

/// What a client of HTTP/2 says first, RFC 9113 §3.4.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes; 0 is no body.
    Length(u64),
    /// After the last chunk.
    Chunked,
}

/// Why reading ended without a request.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The peer is gone, or was too slow between requests: nobody to answer.
    Gone,
    /// Answer with this status and sentence, then close.
    Refused(u16, &'static str),
}

/// A socket with what was read from it and not used yet.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Start of what is not used yet.
    start: usize,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new(), start: 0 }
    }

    /// Waits for the first byte of a request.
    pub(super) async fn wait(&mut self) -> Result<(), ReadError> {
        if self.unused().is_empty() {
            // Idle connections hold no buffer: there may be thousands.
            self.buffer = Vec::new();
            self.start = 0;
            match timeout(limits::IDLE, self.stream.readable()).await {
                Ok(Ok(())) => self.fill(limits::IDLE).await.map_err(|_| ReadError::Gone)?,
                _ => return Err(ReadError::Gone),
            }
        }
        Ok(())
    }

    /// Whether the connection begins as one of HTTP/2 does; takes no byte away. The preface may come in pieces: as long
    /// as what is there could be its beginning, more is waited for.
    pub(super) async fn begins_http2(&mut self) -> Result<bool, ReadError> {
        let reading = async {
            loop {
                let begin = &self.unused()[..self.unused().len().min(PREFACE.len())];
                if !PREFACE.starts_with(begin) {
                    return Ok(false);
                }
                if begin.len() == PREFACE.len() {
                    return Ok(true);
                }
                self.fill(limits::HEAD).await?;
            }
        };
        timeout(limits::HEAD, reading).await.unwrap_or(Err(ReadError::Refused(408, "the head took longer than 10 s")))
    }

    /// The socket, which gives once more what was read from it and not used.
    pub(super) fn into_io(mut self) -> impl AsyncRead + AsyncWrite + Unpin {
        self.buffer.drain(..self.start);
        let (read, write) = self.stream.into_split();
        tokio::io::join(io::Cursor::new(self.buffer).chain(read), write)
    }

    /// Reads a head, whose first byte is there.
    pub(super) async fn read_head(&mut self) -> Result<Head, ReadError> {
        let reading = async {
            loop {
                if let Some((head, length)) = parse_head(self.unused())? {
                    self.start += length;
                    return Ok(head);
                }
                if self.unused().len() >= limits::HEAD_BYTES_MAX {
                    return Err(ReadError::Refused(431, "the head is longer than 64 KiB"));
                }
                self.fill(limits::HEAD).await?;
            }
        };
        timeout(limits::HEAD, reading).await.unwrap_or(Err(ReadError::Refused(408, "the head took longer than 10 s")))
    }

    /// Reads a body to its end and tells its length and trailers.
    pub(super) async fn read_body(&mut self, framing: Framing) -> Result<Received, ReadError> {
        match framing {
            Framing::Length(length) => {
                self.skip(length).await?;
                Ok(Received { body_bytes: length, trailers: Vec::new() })
            }
            Framing::Chunked => {
                let body_bytes = self.read_chunks().await?;
                Ok(Received { body_bytes, trailers: self.read_trailers().await? })
            }
        }
    }

    /// Exactly so many of the next bytes. The caller bounds them.
    pub(super) async fn take_all(&mut self, bytes: usize) -> Result<Vec<u8>, ReadError> {
        while self.unused().len() < bytes {
            self.fill(limits::STALL).await?;
        }
        let taken = self.unused()[..bytes].to_vec();
        self.start += bytes;
        Ok(taken)
    }

    /// Whether some of what was read is not used yet.
    pub(super) fn has_unused(&self) -> bool {
        !self.unused().is_empty()
    }

    /// Writes all of it.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(limits::STALL, self.stream.write_all(bytes)).await.map_err(|_| io::ErrorKind::TimedOut)?
    }

    /// Closes so that the peer can still read what was written: a close with unread bytes would reset the connection.
    pub(super) async fn close(mut self) {
        let _ = self.stream.shutdown().await;
        let mut scrap = [0; 4096];
        let mut left: usize = 64 * 1024;
        while left > 0 {
            match timeout(Duration::from_secs(1), self.stream.read(&mut scrap)).await {
                Ok(Ok(count)) if count > 0 => left = left.saturating_sub(count),
                _ => return,
            }
        }
    }

    fn unused(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Reads some more; at least one byte.
    async fn fill(&mut self, wait: Duration) -> Result<(), ReadError> {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.reserve(2 * 1024);
        match timeout(wait, self.stream.read_buf(&mut self.buffer)).await {
            Ok(Ok(count)) if count > 0 => Ok(()),
            Ok(_) => Err(ReadError::Gone),
            Err(_) => Err(ReadError::Refused(408, "the request stalled")),
        }
    }

    async fn skip(&mut self, mut bytes: u64) -> Result<(), ReadError> {
        loop {
            let used = usize::try_from(bytes).map_or(self.unused().len(), |bytes| bytes.min(self.unused().len()));
            self.start += used;
            bytes -= used as u64;
            if bytes == 0 {
                return Ok(());
            }
            self.fill(limits::STALL).await?;
        }
    }

    async fn read_chunks(&mut self) -> Result<u64, ReadError> {
        let mut total: u64 = 0;
        loop {
            let line = self.read_line(limits::CHUNK_LINE_BYTES_MAX).await?;
            let size = parse_chunk_size(&line).ok_or(ReadError::Refused(400, "a chunk size is not hexadecimal"))?;
            if size == 0 {
                break;
            }
            self.skip(size).await?;
            total = total.checked_add(size).ok_or(ReadError::Refused(400, "the chunks are too long"))?;
            if !self.read_line(2).await?.is_empty() {
                return Err(ReadError::Refused(400, "a chunk is longer than its size"));
            }
        }
        Ok(total)
    }

    async fn read_trailers(&mut self) -> Result<Vec<Field>, ReadError> {
        let mut trailers = Vec::new();
        let mut trailer_bytes = 0;
        loop {
            let line = self.read_line(limits::TRAILER_BYTES_MAX).await?;
            trailer_bytes += line.len();
            if line.is_empty() {
                return Ok(trailers);
            }
            if trailer_bytes > limits::TRAILER_BYTES_MAX {
                return Err(ReadError::Refused(431, "the trailers are longer than 16 KiB"));
            }
            trailers.push(parse_trailer(&line).ok_or(ReadError::Refused(400, "a trailer is no field"))?);
        }
    }

    /// Reads up to CR LF, which it takes off.
    async fn read_line(&mut self, bytes_max: usize) -> Result<Vec<u8>, ReadError> {
        loop {
            if let Some(end) = self.unused().iter().position(|byte| *byte == b'\n') {
                let line = self.unused()[..end].to_vec();
                self.start += end + 1;
                return match line.strip_suffix(b"\r") {
                    Some(line) => Ok(line.to_vec()),
                    None => Err(ReadError::Refused(400, "a line ends in LF without CR")),
                };
            }
            if self.unused().len() > bytes_max {
                return Err(ReadError::Refused(400, "a line among the chunks is too long"));
            }
            self.fill(limits::STALL).await?;
        }
    }
}

/// Parses a head if all of it is there, and tells how long it is.
fn parse_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, ReadError> {
    let mut fields = [httparse::EMPTY_HEADER; limits::FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= limits::HEAD_BYTES_MAX => length,
        Ok(httparse::Status::Complete(_)) => return Err(ReadError::Refused(431, "the head is longer than 64 KiB")),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(ReadError::Refused(431, "the head has too many fields")),
        Err(httparse::Error::Version) => return Err(ReadError::Refused(505, "not HTTP/1")),
        Err(_) => return Err(ReadError::Refused(400, "not an HTTP/1 request")),
    };
    let head = Head {
        method: request.method.unwrap_or_default().to_owned(),
        target: request.path.unwrap_or_default().to_owned(),
        authority: None,
        version: if request.version == Some(0) { Version::Http10 } else { Version::Http11 },
        fields: request.headers.iter().map(|f| (f.name.to_ascii_lowercase(), f.value.to_vec())).collect(),
    };
    Ok(Some((head, length)))
}

/// `name: value`.
fn parse_trailer(line: &[u8]) -> Option<Field> {
    let colon = line.iter().position(|byte| *byte == b':').filter(|colon| *colon > 0)?;
    let name = str::from_utf8(&line[..colon]).ok()?.to_ascii_lowercase();
    Some((name, line[colon + 1..].trim_ascii().to_vec()))
}

/// 1*HEXDIG, then extensions that are passed over.
fn parse_chunk_size(line: &[u8]) -> Option<u64> {
    let size = line.split(|byte| *byte == b';').next()?.trim_ascii_end();
    let digits = str::from_utf8(size).ok().filter(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u64::from_str_radix(digits, 16).ok()
}
