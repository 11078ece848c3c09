//! One connection of an echo server, from its first request to its last.

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::watch;

use super::answer::Answer;
use super::instructions::{Abort, FailureCounts, Plan};
use super::listen::Listen;
use super::wire::{Framing, Head, ReadError, Wire};
use super::{told, websocket};

/// What a body of `x-echo-body-bytes` repeats: position-dependent, so that a shifted or swapped part shows.
const PATTERN: &[u8; 64] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+\n";

/// Serves requests until the client, an error or `stop` ends it.
pub(super) async fn serve(
    stream: TcpStream,
    listen: Arc<Listen>,
    counts: Arc<FailureCounts>,
    mut stop: watch::Receiver<bool>,
) {
    // Small answers leave at once; the echo server is a witness of latency too.
    let _ = stream.set_nodelay(true);
    let mut wire = Wire::new(stream);
    loop {
        tokio::select! {
            biased;
            waited = wire.wait() => if waited.is_err() { return },
            () = told(&mut stop) => return wire.close().await,
        }
        match serve_one(&mut wire, &listen, &counts, &stop).await {
            Ok(Next::KeepAlive) => {}
            Ok(Next::Close) => return wire.close().await,
            Ok(Next::Abort) | Err(ReadError::Gone) => return,
            Err(ReadError::Refused(status, reason)) => {
                let body = serde_json::json!({ "error": reason }).to_string() + "\n";
                if wire.write(&head_bytes(status, body.len() as u64, &[], true)).await.is_ok() {
                    let _ = wire.write(body.as_bytes()).await;
                }
                return wire.close().await;
            }
        }
    }
}

/// What follows an answer.
enum Next {
    KeepAlive,
    /// Close in good order.
    Close,
    /// Close at once, as asked.
    Abort,
}

/// Reads and answers one request.
async fn serve_one(
    wire: &mut Wire,
    listen: &Listen,
    counts: &FailureCounts,
    stop: &watch::Receiver<bool>,
) -> Result<Next, ReadError> {
    let head = wire.read_head().await?;
    let framing = head.framing()?;
    let expects = head.minor >= 1 && framing != Framing::Length(0) && head.has_token("expect", "100-continue");
    if expects && !wire.has_unused() {
        wire.write(b"HTTP/1.1 100 Continue\r\n\r\n").await.map_err(|_| ReadError::Gone)?;
    }
    let body_bytes = wire.read_body(framing).await?;
    let plan = Plan::read(&head, &listen.identity, counts, fastrand::f64());
    tracing::debug!(pod = listen.identity.pod, method = head.method, target = head.target, ?plan, "request");
    let closes = !head.keeps_alive() || *stop.borrow();
    let answered = match plan {
        Ok(plan) => {
            tokio::time::sleep(plan.delay).await;
            // Other instructions refuse it.
            if plan.is_plain() && websocket::is_asked(&head, framing) {
                let granted = websocket::grant(&head, &fields(&plan, listen))?;
                wire.write(&granted).await.map_err(|_| ReadError::Gone)?;
                websocket::serve(wire, stop.clone()).await;
                return Ok(Next::Close);
            }
            answer(wire, &head, body_bytes, listen, &plan, closes).await
        }
        Err(problem) => {
            let body = serde_json::json!({ "error": problem }).to_string() + "\n";
            let plan = Plan { status: 400, ..Plan::default() };
            send(wire, &head, &plan, Body::Text(body.as_bytes()), closes).await
        }
    };
    answered.map_err(|_| ReadError::Gone)
}

/// Answers as planned.
async fn answer(
    wire: &mut Wire,
    head: &Head,
    body_bytes: u64,
    listen: &Listen,
    plan: &Plan,
    closes: bool,
) -> io::Result<Next> {
    match plan.body_bytes {
        Some(bytes) => {
            let plan = Plan { fields: fields(plan, listen), ..plan.clone() };
            send(wire, head, &plan, Body::Pattern(bytes), closes).await
        }
        None => send(wire, head, plan, Body::Text(&Answer::new(head, body_bytes, listen).to_bytes()), closes).await,
    }
}

/// The fields that were asked for, and two that tell who answered where no JSON does.
fn fields(plan: &Plan, listen: &Listen) -> Vec<(String, String)> {
    let who = [("x-echo-pod", &listen.identity.pod), ("x-echo-version", &listen.identity.version)];
    let who = who.map(|(name, value)| (name.to_owned(), value.clone()));
    plan.fields.iter().cloned().chain(who).collect()
}

/// The body of an answer.
#[derive(Clone, Copy)]
enum Body<'a> {
    /// JSON.
    Text(&'a [u8]),
    /// So many bytes of [`PATTERN`].
    Pattern(u64),
}

impl Body<'_> {
    fn length(&self) -> u64 {
        match self {
            Body::Text(text) => text.len() as u64,
            Body::Pattern(bytes) => *bytes,
        }
    }

    fn content_type(&self) -> &'static str {
        match self {
            Body::Text(_) => "application/json",
            Body::Pattern(_) => "application/octet-stream",
        }
    }
}

/// Writes an answer, or the part of it that the plan allows.
async fn send(wire: &mut Wire, head: &Head, plan: &Plan, body: Body<'_>, closes: bool) -> io::Result<Next> {
    if plan.abort == Some(Abort::Before) {
        return Ok(Next::Abort);
    }
    let has_body = !matches!(plan.status, 204 | 205 | 304);
    let mut fields = plan.fields.clone();
    if has_body && !fields.iter().any(|(name, _)| name == "content-type") {
        fields.push(("content-type".to_owned(), body.content_type().to_owned()));
    }
    let length = if has_body { body.length() } else { 0 };
    let mut out = head_bytes(plan.status, length, &fields, closes);
    let mut to_send = if head.method == "HEAD" { 0 } else { length };
    if plan.abort == Some(Abort::AfterHeaders) {
        to_send /= 2;
    }
    if let Body::Text(text) = body {
        out.extend_from_slice(&text[..to_send as usize]);
        to_send = 0;
    }
    wire.write(&out).await?;
    if to_send > 0 {
        write_pattern(wire, to_send).await?;
    }
    Ok(match plan.abort {
        Some(_) => Next::Abort,
        None if closes => Next::Close,
        None => Next::KeepAlive,
    })
}

/// Streams so many bytes of the pattern.
async fn write_pattern(wire: &mut Wire, mut bytes: u64) -> io::Result<()> {
    let block = PATTERN.repeat(256);
    while bytes > 0 {
        let count = bytes.min(block.len() as u64);
        wire.write(&block[..count as usize]).await?;
        bytes -= count;
    }
    Ok(())
}

/// The head of an answer.
fn head_bytes(status: u16, length: u64, fields: &[(String, String)], closes: bool) -> Vec<u8> {
    let date = httpdate::fmt_http_date(std::time::SystemTime::now());
    let mut head = format!("HTTP/1.1 {status} {}\r\ndate: {date}\r\n", reason(status));
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    // RFC 9110 §8.6: no length in a 204; in a 304 it would be that of another answer.
    if !matches!(status, 204 | 304) {
        head.push_str(&format!("content-length: {length}\r\n"));
    }
    head.push_str(if closes { "connection: close\r\n\r\n" } else { "\r\n" });
    head.into_bytes()
}

/// The phrase beside a status; HTTP/1.1 allows it to be empty.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        409 => "Conflict",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
