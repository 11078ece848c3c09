//! One connection of an echo server, from its first request to its last: HTTP/1, unless it begins as HTTP/2.

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::watch;

use super::head::Version;
use super::instructions::{Abort, FailureCounts, Plan};
use super::listen::Listen;
use super::reply::{self, Reply};
use super::wire::{Framing, ReadError, Wire};
use super::{http2, told, websocket};

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
    let mut is_first = true;
    loop {
        tokio::select! {
            biased;
            waited = wire.wait() => if waited.is_err() { return },
            () = told(&mut stop) => return wire.close().await,
        }
        let begins_http2 = if std::mem::take(&mut is_first) { wire.begins_http2().await } else { Ok(false) };
        let served = match begins_http2 {
            Ok(true) => return http2::serve(wire.into_io(), listen, counts, stop).await,
            Ok(false) => serve_one(&mut wire, &listen, &counts, &stop).await,
            Err(error) => Err(error),
        };
        match served {
            Ok(Next::KeepAlive) => {}
            Ok(Next::Close) => return wire.close().await,
            Ok(Next::Abort) | Err(ReadError::Gone) => return,
            Err(ReadError::Refused(status, reason)) => {
                let body = serde_json::json!({ "error": reason }).to_string() + "\n";
                if wire.write(&head_bytes(status, Some(body.len() as u64), &[], false, true)).await.is_ok() {
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
    let expects =
        head.version == Version::Http11 && framing != Framing::Length(0) && head.has_token("expect", "100-continue");
    if expects && !wire.has_unused() {
        wire.write(b"HTTP/1.1 100 Continue\r\n\r\n").await.map_err(|_| ReadError::Gone)?;
    }
    let received = wire.read_body(framing).await?;
    let plan = Plan::read(&head, &listen.identity, counts, fastrand::f64());
    tracing::debug!(pod = listen.identity.pod, method = head.method, target = head.target, ?plan, "request");
    let reply = match plan {
        Ok(plan) => {
            tokio::time::sleep(plan.delay).await;
            // Other instructions refuse it.
            if plan.is_plain() && websocket::is_asked(&head, framing) {
                let granted = websocket::grant(&head, &reply::fields(&plan, listen))?;
                wire.write(&granted).await.map_err(|_| ReadError::Gone)?;
                websocket::serve(wire, stop.clone()).await;
                return Ok(Next::Close);
            }
            if plan.abort == Some(Abort::Before) {
                return Ok(Next::Abort);
            }
            Reply::planned(plan, &head, &received, listen)
        }
        Err(problem) => Reply::refusal(400, &problem, &head),
    };
    let closes = !head.keeps_alive() || *stop.borrow();
    send(wire, reply, closes).await.map_err(|_| ReadError::Gone)
}

/// Writes an answer, or the part of it that the plan allows.
async fn send(wire: &mut Wire, reply: Reply, closes: bool) -> io::Result<Next> {
    // Only chunks have something after them.
    let is_chunked = !reply.trailers.is_empty();
    let length = reply.length.filter(|_| !is_chunked);
    let mut out = head_bytes(reply.status, length, &reply.fields, is_chunked, closes);
    for part in reply.body.parts() {
        if is_chunked {
            out.extend(format!("{:x}\r\n", part.len()).into_bytes());
        }
        out.extend_from_slice(&part);
        if is_chunked {
            out.extend(b"\r\n");
        }
        wire.write(&std::mem::take(&mut out)).await?;
    }
    if is_chunked && !reply.is_cut {
        out.extend(b"0\r\n");
        for (name, value) in &reply.trailers {
            out.extend(format!("{name}: {value}\r\n").into_bytes());
        }
        out.extend(b"\r\n");
    }
    wire.write(&out).await?;
    Ok(match closes {
        _ if reply.is_cut => Next::Abort,
        true => Next::Close,
        false => Next::KeepAlive,
    })
}

/// The head of an answer.
fn head_bytes(
    status: u16,
    length: Option<u64>,
    fields: &[(String, String)],
    is_chunked: bool,
    closes: bool,
) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} {}\r\ndate: {}\r\n", reason(status), reply::date());
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(length) = length {
        head.push_str(&format!("content-length: {length}\r\n"));
    }
    if is_chunked {
        head.push_str("transfer-encoding: chunked\r\n");
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
