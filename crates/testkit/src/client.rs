//! A raw HTTP/1 client: sends any bytes, reads answers one by one.

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::PATIENCE;
use crate::wire::{Fields, ReadError, Reader};

/// One connection.
#[derive(Debug)]
pub struct Client {
    reader: Reader,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status code of the final answer.
    pub status: u16,
    /// Its version, `HTTP/1.1`.
    pub version: String,
    /// Statuses of the interim answers before it.
    pub interim: Vec<u16>,
    /// Its fields.
    pub fields: Fields,
    /// Its body, without framing.
    pub body: Vec<u8>,
    /// Its trailers.
    pub trailers: Fields,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// What still came.
    pub bytes: Vec<u8>,
    /// Closed in good order, reset, or still open when the deadline passed.
    pub how: How,
}

/// See [`Ending`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Closed in good order.
    Closed,
    /// Reset.
    Reset,
    /// Open.
    Open,
}

impl Client {
    /// Connects; answers must come within [`PATIENCE`] from now.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { reader: Reader::new(stream, PATIENCE) })
    }

    /// Answers must come within `patience` from now.
    pub fn set_patience(&mut self, patience: Duration) {
        self.reader.deadline = Instant::now() + patience;
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.stream.write_all(bytes)
    }

    /// A second handle for sending from another thread.
    pub fn writer(&self) -> io::Result<TcpStream> {
        self.reader.stream.try_clone()
    }

    /// Sends no more, and keeps reading.
    pub fn finish(&mut self) -> io::Result<()> {
        self.reader.stream.shutdown(Shutdown::Write)
    }

    /// Reads one answer to a request of this method.
    pub fn read_response(&mut self, method: &str) -> Result<Response, ReadError> {
        let mut interim = Vec::new();
        loop {
            let (first, fields) = self.reader.head()?;
            let (version, status) =
                parse_status_line(&first).ok_or_else(|| ReadError::Malformed(first.clone(), Vec::new()))?;
            if (100..200).contains(&status) && status != 101 {
                interim.push(status);
                continue;
            }
            let mut response =
                Response { status, version, interim, fields, body: Vec::new(), trailers: Fields::default() };
            self.read_body(method, &mut response)?;
            return Ok(response);
        }
    }

    /// Sends a request and reads its answer.
    pub fn exchange(&mut self, request: &[u8]) -> Result<Response, ReadError> {
        self.send(request).map_err(|_| ReadError::Reset(Vec::new()))?;
        let method = request.split(|byte| *byte == b' ').next().unwrap_or_default();
        self.read_response(&String::from_utf8_lossy(method))
    }

    /// Waits until this text has come, and leaves it to be read.
    pub fn await_text(&mut self, text: &str) -> Result<(), ReadError> {
        self.reader.await_text(text.as_bytes())
    }

    /// Reads whatever comes until the connection ends or the deadline passes.
    pub fn read_ending(&mut self) -> Ending {
        match self.reader.rest() {
            ReadError::Closed => Ending { bytes: Vec::new(), how: How::Closed },
            ReadError::Truncated(bytes) => Ending { bytes, how: How::Closed },
            ReadError::Reset(bytes) => Ending { bytes, how: How::Reset },
            ReadError::Deadline(bytes) | ReadError::Malformed(_, bytes) => Ending { bytes, how: How::Open },
        }
    }

    /// Whether the server has closed it, or sent what nobody asked for. Tells what is known now, without waiting.
    pub fn is_spent(&self) -> bool {
        self.reader.has_unused() || self.reader.is_spent()
    }

    /// Resets the connection.
    pub fn reset(self) {
        reset(&self.reader.stream);
    }

    fn read_body(&mut self, method: &str, response: &mut Response) -> Result<(), ReadError> {
        if method == "HEAD" || matches!(response.status, 101 | 204 | 304) {
            return Ok(());
        }
        let fields = &response.fields;
        let malformed = |why: &str| Err(ReadError::Malformed(why.to_owned(), Vec::new()));
        match (fields.get("transfer-encoding"), fields.get("content-length")) {
            (Some(_), Some(_)) => return malformed("both Transfer-Encoding and Content-Length"),
            (Some("chunked"), None) => (response.body, response.trailers) = self.reader.chunks()?,
            (Some(_), None) => return malformed("unknown Transfer-Encoding"),
            (None, Some(length)) if fields.all("content-length").count() == 1 => match length.parse() {
                Ok(length) => response.body = self.reader.exactly(length)?,
                Err(_) => return malformed("bad Content-Length"),
            },
            (None, Some(_)) => return malformed("several Content-Length"),
            (None, None) => response.body = self.reader.until_end()?,
        }
        Ok(())
    }
}

impl Response {
    /// The body as text, with what is not UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Whether the server said that it closes.
    pub fn closes(&self) -> bool {
        self.fields.has_token("connection", "close") || self.version == "HTTP/1.0"
    }
}

/// Closes so that the peer gets a reset instead of an end.
pub(crate) fn reset(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// `HTTP/1.x NNN ...`, strictly.
fn parse_status_line(line: &str) -> Option<(String, u16)> {
    let (version, rest) = line.split_once(' ')?;
    let (status, _reason) = rest.split_once(' ')?;
    let is_known = matches!(version, "HTTP/1.0" | "HTTP/1.1");
    let status = status.parse().ok().filter(|code| status.len() == 3 && (100..=599).contains(code))?;
    is_known.then(|| (version.to_owned(), status))
}
