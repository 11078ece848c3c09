//! The requests of a case: one after another or at once, each over a connection of its own.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// One step of a case.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Requests, each after the answer to the one before.
    InTurn(u32, Request),
    /// Requests at once.
    AtOnce(u32, Request),
    /// Milliseconds in which nothing is sent.
    Wait(u64),
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// Method.
    pub(crate) method: &'static str,
    /// Header lines, each with its end.
    pub(crate) lines: &'static str,
    /// Length of the body; 0: none.
    pub(crate) body_bytes: usize,
    /// Milliseconds between the head and the body.
    pub(crate) body_after_ms: u64,
}

/// A plain GET.
pub(crate) const GET: Request = Request { method: "GET", lines: "", body_bytes: 0, body_after_ms: 0 };

/// A POST with a small body.
pub(crate) const POST: Request = Request { method: "POST", lines: "", body_bytes: 10, body_after_ms: 0 };

/// A call of gRPC with an empty message.
pub(crate) const CALL: Request = Request {
    method: "POST",
    lines: "content-type: application/grpc\r\nte: trailers\r\n",
    body_bytes: 5,
    body_after_ms: 0,
};

/// What a client saw of an answer.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Status; 0: no answer.
    pub(crate) status: u16,
    /// Whether it has `x-envoy-overloaded`.
    pub(crate) is_overloaded: bool,
    /// How long it took.
    pub(crate) took: Duration,
}

/// Takes the steps and returns the answers.
pub(crate) fn walk(steps: &[Step], host: &str, proxy: SocketAddr) -> Result<Vec<Seen>> {
    let mut seen = Vec::new();
    for step in steps {
        match *step {
            Step::Wait(milliseconds) => thread::sleep(Duration::from_millis(milliseconds)),
            Step::InTurn(count, request) => {
                for _ in 0..count {
                    seen.push(send(request, host, proxy)?);
                }
            }
            Step::AtOnce(count, request) => {
                let answers: Vec<Result<Seen>> = thread::scope(|scope| {
                    let sending: Vec<_> = (0..count).map(|_| scope.spawn(|| send(request, host, proxy))).collect();
                    sending.into_iter().map(|one| one.join().expect("no panics")).collect()
                });
                for answer in answers {
                    seen.push(answer?);
                }
            }
        }
    }
    Ok(seen)
}

fn send(request: Request, host: &str, proxy: SocketAddr) -> Result<Seen> {
    let start = Instant::now();
    let mut stream = TcpStream::connect(proxy)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    let Request { method, lines, body_bytes, body_after_ms } = request;
    let length = if body_bytes == 0 { String::new() } else { format!("content-length: {body_bytes}\r\n") };
    let head = format!("{method} / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{lines}{length}\r\n");
    // In one piece, unless the case is about the pieces: a proxy may do with a body that is there what it cannot with others.
    let mut message = head.into_bytes();
    if body_after_ms > 0 {
        stream.write_all(&message)?;
        message.clear();
        thread::sleep(Duration::from_millis(body_after_ms));
    }
    message.resize(message.len() + body_bytes, 0);
    // A proxy may answer and close before it has read the whole body.
    let _ = stream.write_all(&message);
    let head = read(&mut stream).with_context(|| format!("no answer for {host} within {ANSWER_MAX:?}"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let is_overloaded = head.contains("\r\nx-envoy-overloaded: true");
    Ok(Seen { status, is_overloaded, took: start.elapsed() })
}

/// Reads an answer to its end, which may come before that of the connection, and returns its head in lower case.
fn read(stream: &mut TcpStream) -> Result<String> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        ensure!(reader.read_line(&mut head)? > 0, "the connection ended in the head `{head}`");
    }
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    io::copy(&mut reader.take(length.unwrap_or(u64::MAX)), &mut io::sink())?;
    Ok(head)
}
