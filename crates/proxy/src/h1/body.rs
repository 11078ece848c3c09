//! Bodies: where they end, what of the bytes at hand is data, and how the data is framed again (RFC 9112 §6, §7).
//!
//! Chunked framing is verified byte by byte and never forwarded: what leaves is our own framing of the same data, so
//! that a chunk extension or a stray byte has no second reading further on.

use super::head::FIELDS_MAX;

/// How a message says where its body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// No body.
    None,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// By closing the connection; responses only.
    UntilClose,
}

/// The chunk framing broke a rule; its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadChunk(pub(crate) &'static str);

/// Bytes of chunk extensions a body may carry; they are read over and dropped.
const EXTENSION_BYTES_MAX: u32 = 16 * 1024;
/// Bytes of trailer fields a body may carry.
const TRAILER_BYTES_MAX: usize = 16 * 1024;
/// Chunks of fewer than 64 bytes a body may carry: the work per byte must stay bounded.
const SMALL_CHUNKS_MAX: u32 = 1_000_000;
/// Digits of a chunk size: 2^60 is more than any body.
const SIZE_DIGITS_MAX: u8 = 15;

/// Reads one body.
#[derive(Debug)]
pub(crate) enum Decoder {
    /// Nothing more to come.
    Done,
    /// So many bytes to come.
    Length(u64),
    /// Chunks.
    Chunked(Box<Chunks>),
    /// Until the peer closes.
    UntilClose,
}

/// What the bytes at hand mean.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Bytes to drop in front: framing.
    pub(crate) skip: usize,
    /// Bytes of data after them.
    pub(crate) data: usize,
}

impl Decoder {
    /// For a body of this framing.
    pub(crate) fn new(framing: Framing) -> Self {
        match framing {
            Framing::None | Framing::Length(0) => Self::Done,
            Framing::Length(bytes) => Self::Length(bytes),
            Framing::Chunked => Self::Chunked(Box::default()),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    /// Whether the whole body was read.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// Judges the next bytes. Call again with what is left, until a step moves nothing: then more bytes are needed or
    /// the body is done.
    pub(crate) fn step(&mut self, bytes: &[u8], trailers: &mut Vec<u8>) -> Result<Step, BadChunk> {
        match self {
            Self::Done => Ok(Step { skip: 0, data: 0 }),
            Self::UntilClose => Ok(Step { skip: 0, data: bytes.len() }),
            Self::Length(left) => {
                let data = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= data as u64;
                if *left == 0 {
                    *self = Self::Done;
                }
                Ok(Step { skip: 0, data })
            }
            Self::Chunked(chunks) => {
                let step = chunks.step(bytes, trailers)?;
                if chunks.state == State::Done {
                    *self = Self::Done;
                }
                Ok(step)
            }
        }
    }
}

/// The chunk reader's place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the first digit of a size.
    #[default]
    Size,
    /// After at least one digit.
    Digits,
    /// In an extension.
    Extension,
    /// After the CR of a size line.
    SizeLf,
    /// In the data.
    Data,
    /// Before the CR after data.
    DataCr,
    /// Before the LF after data.
    DataLf,
    /// In trailer fields, up to the empty line.
    Trailers,
    /// After the end.
    Done,
}

/// Reads chunked framing.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    state: State,
    digits: u8,
    left: u64,
    extension_bytes: u32,
    small_chunks: u32,
    /// Raw trailer section read so far.
    raw_trailers: Vec<u8>,
}

impl Chunks {
    fn step(&mut self, bytes: &[u8], trailers: &mut Vec<u8>) -> Result<Step, BadChunk> {
        let mut at = 0;
        while at < bytes.len() {
            if self.state == State::Data {
                let data = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - at);
                self.left -= data as u64;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                return Ok(Step { skip: at, data });
            }
            let byte = bytes[at];
            at += 1;
            self.state = self.framing_byte(byte, trailers)?;
            if self.state == State::Done {
                break;
            }
        }
        Ok(Step { skip: at, data: 0 })
    }

    fn framing_byte(&mut self, byte: u8, trailers: &mut Vec<u8>) -> Result<State, BadChunk> {
        match (self.state, byte) {
            (State::Size | State::Digits, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => self.digit(byte),
            (State::Digits, b'\r') | (State::Extension, b'\r') => Ok(State::SizeLf),
            (State::Digits, b';') => Ok(State::Extension),
            (State::Extension, b'\n' | 0..=8 | 11..=31 | 127) => Err(BadChunk("chunk_extension")),
            (State::Extension, _) => {
                self.extension_bytes += 1;
                if self.extension_bytes > EXTENSION_BYTES_MAX {
                    return Err(BadChunk("chunk_extension_large"));
                }
                Ok(State::Extension)
            }
            (State::SizeLf, b'\n') => self.size_ends(),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => {
                self.digits = 0;
                Ok(State::Size)
            }
            (State::Trailers, _) => self.trailer_byte(byte, trailers),
            (State::Size | State::Digits | State::SizeLf, _) => Err(BadChunk("chunk_size")),
            (State::DataCr | State::DataLf, _) => Err(BadChunk("chunk_end")),
            (State::Data | State::Done, _) => Err(BadChunk("chunk_state")),
        }
    }

    fn digit(&mut self, byte: u8) -> Result<State, BadChunk> {
        self.digits += 1;
        if self.digits > SIZE_DIGITS_MAX {
            return Err(BadChunk("chunk_size_large"));
        }
        let value = char::from(byte).to_digit(16).expect("the caller saw a hexadecimal digit");
        self.left = self.left * 16 + u64::from(value);
        Ok(State::Digits)
    }

    fn size_ends(&mut self) -> Result<State, BadChunk> {
        if self.left == 0 {
            return Ok(State::Trailers);
        }
        if self.left < 64 {
            self.small_chunks += 1;
            if self.small_chunks > SMALL_CHUNKS_MAX {
                return Err(BadChunk("chunks_small"));
            }
        }
        Ok(State::Data)
    }

    fn trailer_byte(&mut self, byte: u8, trailers: &mut Vec<u8>) -> Result<State, BadChunk> {
        self.raw_trailers.push(byte);
        if self.raw_trailers.len() > TRAILER_BYTES_MAX {
            return Err(BadChunk("trailers_large"));
        }
        if byte != b'\n' {
            return Ok(State::Trailers);
        }
        if !self.raw_trailers.ends_with(b"\r\n") {
            return Err(BadChunk("trailer_line"));
        }
        if self.raw_trailers != b"\r\n" && !self.raw_trailers.ends_with(b"\r\n\r\n") {
            return Ok(State::Trailers);
        }
        keep_trailers(&self.raw_trailers, trailers)?;
        Ok(State::Done)
    }
}

/// Copies the fields that may be trailers; those that would change framing, routing or authority are dropped
/// (RFC 9110 §6.5.1).
fn keep_trailers(raw: &[u8], out: &mut Vec<u8>) -> Result<(), BadChunk> {
    let mut room = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(raw, &mut room) else {
        return Err(BadChunk("trailers"));
    };
    for field in fields {
        let name = field.name;
        if !crate::headers::may_be_trailer(name) {
            continue;
        }
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(field.value);
        out.extend_from_slice(b"\r\n");
    }
    Ok(())
}

/// Writes `data` as one chunk; nothing for no data.
pub(crate) fn write_chunk(data: &[u8], out: &mut Vec<u8>) {
    if data.is_empty() {
        return;
    }
    write_chunk_size(data.len(), out);
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Writes what stands before the data of a chunk.
pub(crate) fn write_chunk_size(bytes: usize, out: &mut Vec<u8>) {
    write_hex(bytes, out);
    out.extend_from_slice(b"\r\n");
}

/// Writes the last chunk with its trailers.
pub(crate) fn write_last_chunk(trailers: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(trailers);
    out.extend_from_slice(b"\r\n");
}

fn write_hex(value: usize, out: &mut Vec<u8>) {
    let digits = (usize::BITS - value.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(value >> (4 * place)) & 15]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `wire` in pieces of `piece` bytes; the data, the trailers and what was left over.
    fn read(wire: &[u8], piece: usize) -> Result<(Vec<u8>, Vec<u8>, usize), BadChunk> {
        let (mut decoder, mut data, mut trailers) = (Decoder::new(Framing::Chunked), Vec::new(), Vec::new());
        let mut used = 0;
        for end in (piece..wire.len() + piece).step_by(piece).map(|e| e.min(wire.len())) {
            loop {
                let step = decoder.step(&wire[used..end], &mut trailers)?;
                data.extend_from_slice(&wire[used + step.skip..used + step.skip + step.data]);
                used += step.skip + step.data;
                if step.skip + step.data == 0 || decoder.is_done() {
                    break;
                }
            }
        }
        assert!(decoder.is_done(), "the body has an end");
        Ok((data, trailers, wire.len() - used))
    }

    #[test]
    fn chunks_read_the_same_however_they_arrive() {
        let wire = b"5;a=b\r\nhello\r\n01\r\n \r\n5\r\nworld\r\n0\r\nX-T: 1\r\nHost: evil\r\n\r\nGET";
        for piece in 1..wire.len() {
            let (data, trailers, left) = read(wire, piece).unwrap();
            assert_eq!((&data[..], &trailers[..]), (&b"hello world"[..], &b"X-T: 1\r\n"[..]), "pieces of {piece}");
            assert_eq!(left, 3);
        }
    }

    #[test]
    fn framing_that_has_two_readings_is_refused() {
        for (wire, rule) in [
            ("0x1\r\nZ\r\n0\r\n\r\n", "chunk_size"),
            ("+1\r\nZ\r\n0\r\n\r\n", "chunk_size"),
            (" 1\r\nZ\r\n0\r\n\r\n", "chunk_size"),
            ("1 \r\nZ\r\n0\r\n\r\n", "chunk_size"),
            ("1_0\r\nZ\r\n0\r\n\r\n", "chunk_size"),
            ("\r\nZ\r\n0\r\n\r\n", "chunk_size"),
            ("1\nZ\r\n0\r\n\r\n", "chunk_size"),
            ("1;a\nZ\r\n0\r\n\r\n", "chunk_extension"),
            ("1\r\r;x\r\nZ\r\n0\r\n\r\n", "chunk_size"),
            ("1;a\rb\r\nZ\r\n0\r\n\r\n", "chunk_size"),
            ("ffffffffffffffff\r\n", "chunk_size_large"),
            ("1\r\nZZZZ\r\n0\r\n\r\n", "chunk_end"),
            ("1\r\nZ\n0\r\n\r\n", "chunk_end"),
            ("0\r\nX: y\n\r\n", "trailer_line"),
            ("0\r\nXX\r\n\r\n", "trailers"),
            ("0\n\r\n", "chunk_size"),
        ] {
            assert_eq!(read(wire.as_bytes(), wire.len()).unwrap_err(), BadChunk(rule), "{wire:?}");
        }
        let extension = format!("1;{}\r\nZ\r\n0\r\n\r\n", "x".repeat(20_000));
        assert_eq!(read(extension.as_bytes(), 4096).unwrap_err(), BadChunk("chunk_extension_large"));
    }

    #[test]
    fn what_is_written_reads_back() {
        for size in [1, 9, 10, 15, 16, 255, 256, 70_000] {
            let data = vec![b'x'; size];
            let mut wire = Vec::new();
            write_chunk(&data, &mut wire);
            write_last_chunk(b"a: b\r\n", &mut wire);
            assert_eq!(read(&wire, wire.len()).unwrap(), (data, b"a: b\r\n".to_vec(), 0));
        }
    }
}
