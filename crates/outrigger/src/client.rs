//! A small HTTP/1.1 client for one answer at a time: what `outrigger request` sends with, and the load of `outrigger run`.
//! [`http2`] does the same for HTTP/2, with the same answers.

pub(crate) mod http2;

use std::fmt;
use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A request, ready to be written.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Head and body.
    pub(crate) bytes: Vec<u8>,
    /// Whether the answer has no body.
    pub(crate) is_head: bool,
    /// Whether it may be sent again when a connection dies under it.
    pub(crate) is_idempotent: bool,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// `HTTP/1.1` or `HTTP/2`.
    pub(crate) protocol: &'static str,
    /// Status.
    pub(crate) status: u16,
    /// The phrase beside it.
    pub(crate) reason: String,
    /// Names in lower case, in the order they came.
    pub(crate) fields: Vec<(String, String)>,
    /// The beginning of the body, as much as the connection keeps: [`BODY_BYTES_MAX`], if nobody says otherwise.
    pub(crate) body: Vec<u8>,
    /// Length of the whole body.
    pub(crate) body_bytes: u64,
    /// Fields after it, as `fields`.
    pub(crate) trailers: Vec<(String, String)>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum ClientError {
    /// No connection.
    Connect(io::Error),
    /// The connection ended before the first byte of the answer.
    ClosedEarly,
    /// The connection ended in the middle of the answer.
    Truncated,
    /// Reading or writing failed.
    Io(io::Error),
    /// Not an HTTP/1 answer.
    Malformed(&'static str),
    /// What HTTP/2 says of it.
    Http2(h2::Error),
}

/// A connection to the proxy.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    /// Whether another request may be sent.
    pub(crate) is_reusable: bool,
    /// How much of a body is kept.
    pub(crate) body_bytes_max: usize,
}

/// A server, and the connection to it that is kept between two requests.
#[derive(Debug)]
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    kept: Option<Connection>,
}

/// How much of a body is kept to be printed or read; the rest is counted.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Head of an answer.
const HEAD_BYTES_MAX: usize = 256 * 1024;
/// Fields of an answer.
const FIELDS_MAX: usize = 256;

/// How a body ends.
enum Framing {
    Length(u64),
    Chunked,
    Close,
}

impl Answer {
    /// The first value of a field; `name` is lower case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The first value of a field after the body; `name` is lower case.
    pub(crate) fn trailer(&self, name: &str) -> Option<&str> {
        self.trailers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    fn has_token(&self, name: &str, token: &str) -> bool {
        let values = self.fields.iter().filter(|(n, _)| n == name);
        values.flat_map(|(_, value)| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(token))
    }

    fn framing(&self, is_head: bool) -> Result<Framing, ClientError> {
        if is_head || matches!(self.status, 204 | 304) {
            return Ok(Framing::Length(0));
        }
        if self.field("transfer-encoding").is_some() {
            let is_chunked = self.has_token("transfer-encoding", "chunked");
            return if is_chunked { Ok(Framing::Chunked) } else { Ok(Framing::Close) };
        }
        match self.field("content-length").map(str::parse) {
            Some(Ok(length)) => Ok(Framing::Length(length)),
            Some(Err(_)) => Err(ClientError::Malformed("Content-Length is not a number")),
            None => Ok(Framing::Close),
        }
    }
}

impl Server {
    /// A server to which nothing was sent yet.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, kept: None }
    }

    /// Sends one request, on the connection that is open or on a new one. When the result is dropped before it is there,
    /// the connection goes with it.
    pub(crate) async fn exchange(&mut self, request: &Request) -> Result<Answer, ClientError> {
        if let Some(mut connection) = self.kept.take().filter(|connection| !connection.is_closed()) {
            match connection.exchange(request).await {
                Ok(answer) => {
                    self.kept = Some(connection).filter(|connection| connection.is_reusable);
                    return Ok(answer);
                }
                // It was closed just when it was used again: the server has not seen the request.
                Err(ClientError::ClosedEarly) if request.is_idempotent => {}
                Err(error) => return Err(error),
            }
        }
        let mut connection = Connection::open(self.address).await?;
        let answer = connection.exchange(request).await?;
        self.kept = Some(connection).filter(|connection| connection.is_reusable);
        Ok(answer)
    }
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self, ClientError> {
        let stream = TcpStream::connect(address).await.map_err(ClientError::Connect)?;
        let _ = stream.set_nodelay(true);
        let body_bytes_max = BODY_BYTES_MAX;
        Ok(Self { stream, buffer: Vec::new(), start: 0, is_reusable: false, body_bytes_max })
    }

    /// Sends a request and reads its answer to the end.
    pub(crate) async fn exchange(&mut self, request: &Request) -> Result<Answer, ClientError> {
        self.is_reusable = false;
        // A server may refuse before it has read everything: then the answer counts, not the failed write.
        let written = self.stream.write_all(&request.bytes).await;
        let (mut answer, minor) = match self.read_head().await {
            Err(ClientError::ClosedEarly) if written.is_err() => return Err(ClientError::ClosedEarly),
            head => head?,
        };
        let framing = answer.framing(request.is_head)?;
        let is_whole = !matches!(framing, Framing::Close);
        match framing {
            Framing::Length(length) => self.read_length(length, &mut answer).await?,
            Framing::Chunked => self.read_chunks(&mut answer).await?,
            Framing::Close => self.read_to_close(&mut answer).await?,
        }
        self.is_reusable = is_whole && written.is_ok() && minor == 1 && !answer.has_token("connection", "close");
        Ok(answer)
    }

    /// Whether the server has closed it meanwhile, as far as is known without waiting.
    fn is_closed(&self) -> bool {
        let mut byte = [0];
        !matches!(self.stream.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Reads the head of the final answer, and its minor version.
    async fn read_head(&mut self) -> Result<(Answer, u8), ClientError> {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
            let mut head = httparse::Response::new(&mut fields);
            match head.parse(&self.buffer[self.start..]) {
                Ok(httparse::Status::Complete(length)) => {
                    let answer = Answer {
                        protocol: "HTTP/1.1",
                        status: head.code.unwrap_or_default(),
                        reason: head.reason.unwrap_or_default().to_owned(),
                        fields: head.headers.iter().map(owned).collect(),
                        ..Answer::default()
                    };
                    let minor = head.version.unwrap_or_default();
                    self.start += length;
                    // Interim answers are not what was asked for; 101 was not asked for either.
                    if !(100..200).contains(&answer.status) {
                        return Ok((answer, minor));
                    }
                }
                Ok(httparse::Status::Partial) if self.buffer.len() - self.start > HEAD_BYTES_MAX => {
                    return Err(ClientError::Malformed("the head is too long"));
                }
                Ok(httparse::Status::Partial) => {
                    let is_first = self.buffer.len() == self.start;
                    match self.fill().await {
                        Err(_) if is_first => return Err(ClientError::ClosedEarly),
                        filled => filled?,
                    }
                }
                Err(_) => return Err(ClientError::Malformed("not an HTTP/1 answer")),
            }
        }
    }

    async fn read_length(&mut self, mut left: u64, answer: &mut Answer) -> Result<(), ClientError> {
        while left > 0 {
            if self.start == self.buffer.len() {
                self.fill().await?;
            }
            let available = self.buffer.len() - self.start;
            let count = usize::try_from(left).map_or(available, |left| left.min(available));
            answer.keep(&self.buffer[self.start..self.start + count], self.body_bytes_max);
            self.start += count;
            left -= count as u64;
        }
        Ok(())
    }

    async fn read_chunks(&mut self, answer: &mut Answer) -> Result<(), ClientError> {
        loop {
            let line = self.read_line().await?;
            let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
            let digits = str::from_utf8(digits).unwrap_or_default().trim();
            let size = u64::from_str_radix(digits, 16).map_err(|_| ClientError::Malformed("bad chunk size"))?;
            if size == 0 {
                break;
            }
            self.read_length(size, answer).await?;
            if !self.read_line().await?.is_empty() {
                return Err(ClientError::Malformed("a chunk is longer than its size"));
            }
        }
        loop {
            let line = self.read_line().await?;
            let line = String::from_utf8_lossy(&line);
            match line.split_once(':') {
                Some((name, value)) => {
                    answer.trailers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
                }
                None if line.is_empty() => return Ok(()),
                None => return Err(ClientError::Malformed("a trailer is no field")),
            }
            if answer.trailers.len() > FIELDS_MAX {
                return Err(ClientError::Malformed("there are too many trailers"));
            }
        }
    }

    async fn read_to_close(&mut self, answer: &mut Answer) -> Result<(), ClientError> {
        loop {
            answer.keep(&self.buffer[self.start..], self.body_bytes_max);
            self.start = self.buffer.len();
            match self.fill().await {
                Ok(()) => {}
                Err(ClientError::Truncated) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    async fn read_line(&mut self) -> Result<Vec<u8>, ClientError> {
        loop {
            let unused = &self.buffer[self.start..];
            if let Some(end) = unused.iter().position(|byte| *byte == b'\n') {
                let line = unused[..end].strip_suffix(b"\r").unwrap_or(&unused[..end]).to_vec();
                self.start += end + 1;
                return Ok(line);
            }
            if unused.len() > HEAD_BYTES_MAX {
                return Err(ClientError::Malformed("a line among the chunks is too long"));
            }
            self.fill().await?;
        }
    }

    /// Reads some more; at least one byte.
    async fn fill(&mut self) -> Result<(), ClientError> {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.reserve(16 * 1024);
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err(ClientError::Truncated),
            Ok(_) => Ok(()),
            Err(error) => Err(ClientError::Io(error)),
        }
    }
}

impl Answer {
    fn keep(&mut self, bytes: &[u8], bytes_max: usize) {
        let room = bytes_max.saturating_sub(self.body.len());
        self.body.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.body_bytes += bytes.len() as u64;
    }
}

fn owned(field: &httparse::Header<'_>) -> (String, String) {
    (field.name.to_ascii_lowercase(), String::from_utf8_lossy(field.value).into_owned())
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "could not connect: {error}"),
            Self::ClosedEarly => write!(f, "the connection was closed without an answer"),
            Self::Truncated => write!(f, "the connection was closed in the middle of the answer"),
            Self::Io(error) => write!(f, "the connection broke: {error}"),
            Self::Malformed(why) => write!(f, "the answer is not HTTP/1: {why}"),
            // We found it wrong, not the server: mostly, that is one of another protocol.
            Self::Http2(error) if error.is_library() && error.is_go_away() => {
                write!(f, "the answer is not HTTP/2: {error}")
            }
            Self::Http2(error) => write!(f, "HTTP/2: {error}"),
        }
    }
}

impl std::error::Error for ClientError {}
