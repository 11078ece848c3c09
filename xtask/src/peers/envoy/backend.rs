//! A scripted backend: HTTP/1.1, or HTTP/2 with prior knowledge, and what it was asked.
//!
//! One thread for each connection, and for HTTP/2 one for each answer: they are few, and delays are simply slept.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::frames;
use super::script::{self, Act, Answer};

/// How long a connection may be silent before its thread ends.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Largest head that is read.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// One request that came.
#[derive(Clone, Debug)]
pub(crate) struct Try {
    /// When.
    pub(crate) at: Instant,
    /// Its `x-envoy-attempt-count`; not read of HTTP/2.
    pub(crate) attempt: Option<String>,
}

/// A backend, which lasts as long as the process.
#[derive(Clone)]
pub(crate) struct Backend {
    shared: Arc<Shared>,
}

struct Shared {
    acts: Vec<Act>,
    tries: Mutex<Vec<Try>>,
}

impl Backend {
    /// Begins to listen, unless its script is not to.
    pub(crate) fn start(script: &str, address: SocketAddr, is_http2: bool) -> Result<Self> {
        let acts = script::parse(script)?;
        let listens = acts.is_some();
        let shared = Arc::new(Shared { acts: acts.unwrap_or_default(), tries: Mutex::default() });
        let backend = Self { shared };
        if listens {
            let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
            let accepting = backend.clone();
            thread::spawn(move || accepting.accept(&listener, is_http2));
        }
        Ok(backend)
    }

    /// The requests that came, in order.
    pub(crate) fn tries(&self) -> Vec<Try> {
        self.shared.tries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn accept(&self, listener: &TcpListener, is_http2: bool) {
        for stream in listener.incoming().map_while(Result::ok) {
            let backend = self.clone();
            thread::spawn(move || {
                // A proxy may break off whenever it likes: what is compared is what it did before.
                let _ = stream.set_nodelay(true);
                let _ = stream.set_read_timeout(Some(SILENCE_MAX));
                let _ = if is_http2 { frames::serve(&backend, stream) } else { backend.serve(stream) };
            });
        }
    }

    /// Notes a request and says what to do with it.
    pub(crate) fn next(&self, attempt: Option<String>) -> Act {
        let mut tries = self.shared.tries.lock().unwrap_or_else(PoisonError::into_inner);
        let number = tries.len().min(self.shared.acts.len() - 1);
        tries.push(Try { at: Instant::now(), attempt });
        self.shared.acts[number].clone()
    }

    /// Serves a connection of HTTP/1.1 to its end.
    fn serve(&self, stream: TcpStream) -> Result<()> {
        let mut writer = stream.try_clone()?;
        let mut reader = BufReader::new(stream.try_clone()?);
        loop {
            // Looked at and left: bytes that nobody has read make the end of a connection a reset.
            if reader.buffer().is_empty() && !peek_head(&stream)? {
                return Ok(());
            }
            let mut head = [0; HEAD_BYTES_MAX];
            let length = stream.peek(&mut head)?;
            let act = self.next(field(&String::from_utf8_lossy(&head[..length]), "x-envoy-attempt-count"));
            if act == Act::Reset {
                return Ok(());
            }
            read_request(&mut reader)?;
            let Act::Answer(answer) = act else { return Ok(()) };
            thread::sleep(answer.delay);
            writer.write_all(&on_wire(&answer))?;
        }
    }
}

/// Waits for the head of a request without taking it; false: the connection ended first.
fn peek_head(stream: &TcpStream) -> Result<bool> {
    let mut bytes = [0; HEAD_BYTES_MAX];
    let start = Instant::now();
    while start.elapsed() < SILENCE_MAX {
        let length = stream.peek(&mut bytes)?;
        if length == 0 {
            return Ok(false);
        }
        if length == bytes.len() || bytes[..length].windows(4).any(|window| window == b"\r\n\r\n") {
            return Ok(true);
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(false)
}

fn field(head: &str, name: &str) -> Option<String> {
    let head = head.split("\r\n\r\n").next()?;
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
}

/// Reads a request to the end of its body.
fn read_request(reader: &mut BufReader<TcpStream>) -> Result<()> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head)? > 0 {}
    if let Some(length) = field(&head, "content-length") {
        std::io::copy(&mut reader.take(length.parse()?), &mut std::io::sink())?;
    } else if field(&head, "transfer-encoding").is_some() {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size)?;
            let size = u64::from_str_radix(size.trim(), 16).context("size of a chunk")?;
            std::io::copy(&mut reader.take(size + 2), &mut std::io::sink())?;
            if size == 0 {
                break;
            }
        }
    }
    Ok(())
}

fn on_wire(answer: &Answer) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {} Scripted\r\n", answer.status);
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name}: {value}\r\n"));
    answer.fields.iter().for_each(|(name, value)| line(name, value));
    if answer.trailers.is_empty() {
        line("content-length", "3");
        text.push_str("\r\nok\n");
    } else {
        line("transfer-encoding", "chunked");
        text.push_str("\r\n3\r\nok\n\r\n0\r\n");
        answer.trailers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
        text.push_str("\r\n");
    }
    text.into_bytes()
}
