//! What a connection carries, where that is not settled before its first byte.
//!
//! Where a port may carry HTTP or something else, the first bytes decide, as few of them as possible: a request line begins
//! with a method and a target, HTTP/2 with its preface, TLS with a handshake record. All else is bytes to be relayed. Some
//! protocols have the server speak first; their clients wait, so silence counts as bytes once a limit has passed. What was
//! read stays unread for whoever serves the connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use outrigger_model::Serve;
use outrigger_telemetry::catalogue;

use crate::h1::buffer::Buffer;
use crate::h1::stream::{IoFailure, Stream};
use crate::plan::Client;
use crate::record::Recorder;
use crate::worker::Worker;

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// HTTP/1.
    Http1,
    /// HTTP/2, with prior knowledge or agreed on by TLS: its preface is unread.
    Http2,
    /// Bytes that are relayed.
    Bytes,
    /// Nothing: it has left, or nobody serves it.
    Nothing,
}

/// What a detection came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detected {
    /// A request line of HTTP/1.
    Http1,
    /// The preface of HTTP/2.
    Http2,
    /// A record of TLS.
    Tls,
    /// Bytes of anything else.
    Opaque,
    /// Not enough to tell within the limit.
    Timeout,
    /// The client left before anything could be told.
    Closed,
}

/// Finds out what a client speaks. What it sent stays unread.
pub(crate) async fn spoken(worker: &Worker, client: &mut Stream, who: &Client) -> Spoken {
    let limit = {
        let current = worker.current();
        let Some((site, _)) = current.policy.site(&who.listener) else { return Spoken::Nothing };
        let Some(at) = site.chain(who.server_name.as_deref()) else { return Spoken::Nothing };
        match &site.listener.chains[at].serve {
            Serve::Http(_) => None,
            Serve::Tcp(_) => return Spoken::Bytes,
            Serve::Detect { .. } => Some(current.policy.snapshot.mesh.detect_timeout),
        }
    };
    let Some(limit) = limit else { return version(worker, client).await };
    let began = Instant::now();
    let detected = detect(worker, client, began + limit.unwrap_or(worker.settings.detect_timeout)).await;
    worker.recorder.detection(&who.listener, detected, began.elapsed());
    match detected {
        // Redirected, it is meant for another proxy: that one is to answer it.
        Detected::Http1 if who.is_redirected && client.input.bytes().starts_with(b"CONNECT ") => Spoken::Bytes,
        Detected::Http1 => Spoken::Http1,
        Detected::Http2 => Spoken::Http2,
        Detected::Tls | Detected::Opaque | Detected::Timeout => Spoken::Bytes,
        Detected::Closed => Spoken::Nothing,
    }
}

/// Which version of HTTP a client speaks. One whose first bytes are neither is left to HTTP/1, which says what is wrong; but
/// one that agreed on HTTP/2 would not understand it, and is hung up on (RFC 9113 §3.4).
async fn version(worker: &Worker, client: &mut Stream) -> Spoken {
    let settings = &worker.settings;
    if client.input.is_empty() && !worker.await_request(client, settings.first_byte_timeout).await {
        return Spoken::Nothing;
    }
    let until = Instant::now() + settings.head_timeout;
    loop {
        let bytes = client.input.bytes();
        let compared = bytes.len().min(PREFACE.len());
        if bytes[..compared] != PREFACE[..compared] {
            return if client.agreed_on_http2() { Spoken::Nothing } else { Spoken::Http1 };
        }
        if compared == PREFACE.len() {
            return Spoken::Http2;
        }
        let left = until.saturating_duration_since(Instant::now());
        if client.reader().fill(&worker.buffers, Buffer::BLOCK_BYTES, left).await.is_err() {
            return if client.input.is_empty() { Spoken::Nothing } else { Spoken::Http1 };
        }
    }
}

/// Reads until it is clear what comes, at most until a moment.
async fn detect(worker: &Worker, client: &mut Stream, until: Instant) -> Detected {
    let left = || until.saturating_duration_since(Instant::now());
    // No buffer is held for a client that says nothing.
    let waited = match client.input.is_empty() {
        true => client.reader().wait_readable(&worker.buffers, left()).await,
        false => Ok(()),
    };
    if let Err(failure) = waited {
        return gave_up(&failure);
    }
    loop {
        if let Some(detected) = judge(client.input.bytes()) {
            return detected;
        }
        // A wait of no time at all would still read what is there.
        let limit = left().max(Duration::from_millis(1));
        if let Err(failure) = client.reader().fill(&worker.buffers, Buffer::BLOCK_BYTES, limit).await {
            return gave_up(&failure);
        }
    }
}

fn gave_up(failure: &IoFailure) -> Detected {
    if let IoFailure::TimedOut = failure { Detected::Timeout } else { Detected::Closed }
}

/// How HTTP/2 begins (RFC 9113 §3.4), as far as nothing else does.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";
/// Longest method that is taken for one; the registry's longest is `UPDATEREDIRECTREF`.
const METHOD_BYTES_MAX: usize = 20;
/// The first byte of a record with a handshake message, and the major version behind it (RFC 8446 §5.1).
const TLS_HANDSHAKE: [u8; 2] = [22, 3];

/// What begins so; `None`: more bytes are needed.
pub(crate) fn judge(bytes: &[u8]) -> Option<Detected> {
    let (first, rest) = bytes.split_first()?;
    if *first == TLS_HANDSHAKE[0] {
        let version = rest.first()?;
        return Some(if *version == TLS_HANDSHAKE[1] { Detected::Tls } else { Detected::Opaque });
    }
    if bytes.starts_with(PREFACE) {
        return Some(Detected::Http2);
    }
    if PREFACE.starts_with(bytes) {
        return None;
    }
    // Methods are case-sensitive, and all there are have capitals (RFC 9110 §9.1), some with a dash.
    let method = bytes.iter().take_while(|byte| byte.is_ascii_uppercase() || **byte == b'-').count();
    let is_method = first.is_ascii_uppercase() && method <= METHOD_BYTES_MAX;
    match (is_method, bytes.get(method), bytes.get(method + 1)) {
        (true, None, _) => None,
        (true, Some(b' '), None) => None,
        (true, Some(b' '), Some(target)) if is_target(&bytes[..method], *target) => Some(Detected::Http1),
        _ => Some(Detected::Opaque),
    }
}

/// Whether a target may begin so (RFC 9112 §3.2): other protocols of text have capitals and a space, too.
fn is_target(method: &[u8], first: u8) -> bool {
    match method {
        b"CONNECT" => first.is_ascii_alphanumeric() || first == b'[',
        // A path, `http://`, or the server as a whole.
        _ => matches!(first, b'/' | b'h' | b'H' | b'*'),
    }
}

impl Detected {
    /// The value of the label: one of a fixed set.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Tls => "tls",
            Self::Opaque => "opaque",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
        }
    }
}

impl Recorder {
    /// A connection whose protocol was found out; rare beside what it costs, so it looks its series up.
    fn detection(&self, listener: &Arc<str>, detected: Detected, took: Duration) {
        let labels = [listener.clone(), detected.as_str().into()];
        self.shard.counter(&catalogue::OUTRIGGER_DETECTION_TOTAL, &labels).inc();
        let seconds = &catalogue::OUTRIGGER_DETECTION_DURATION_SECONDS;
        self.shard.histogram(seconds, &labels[..1]).observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What bytes come to, and after how many of them that is clear.
    fn judged(bytes: &[u8]) -> Option<(Detected, usize)> {
        (1..=bytes.len()).find_map(|count| judge(&bytes[..count]).map(|detected| (detected, count)))
    }

    #[test]
    fn few_bytes_are_enough() {
        use Detected::{Http1, Http2, Opaque, Tls};
        for (bytes, want, count) in [
            (&b"GET / HTTP/1.1\r\n"[..], Http1, 5),
            (b"GET http://a/ HTTP/1.1\r\n", Http1, 5),
            (b"OPTIONS * HTTP/1.1\r\n", Http1, 9),
            (b"M-SEARCH * HTTP/1.1\r\n", Http1, 10),
            (b"PROPFIND /a HTTP/1.1\r\n", Http1, 10),
            (b"CONNECT a:1 HTTP/1.1\r\n", Http1, 9),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Http2, 14),
            (b"\x16\x03\x01\x00\xa5", Tls, 2),
            (b"\x16\x02\x01\x00\xa5", Opaque, 2),
            (b"*1\r\n$4\r\nPING\r\n", Opaque, 1),
            (b"PING\r\n", Opaque, 5),
            (b"SET a b\r\n", Opaque, 5),
            (b"CONNECT {\"verbose\":false}\r\n", Opaque, 9),
            (b"get / HTTP/1.1\r\n", Opaque, 1),
            (b"\r\nGET / HTTP/1.1\r\n", Opaque, 1),
            (b"PRI * HTTP/1.1\r\n", Http1, 12),
            (b"\0\0\0\x08", Opaque, 1),
            (b"ABCDEFGHIJKLMNOPQRSTUVWXYZ /", Opaque, 21),
        ] {
            assert_eq!(judged(bytes), Some((want, count)), "{:?}", String::from_utf8_lossy(bytes));
        }
        for unclear in [&b""[..], b"G", b"GET", b"GET ", b"PRI * HTTP/2.", b"\x16"] {
            assert_eq!(judged(unclear), None, "{unclear:?}");
        }
    }

    proptest! {
        #[test]
        fn it_is_soon_clear_and_stays_so(bytes in prop::collection::vec(any::<u8>(), 24..100)) {
            let (detected, count) = judged(&bytes).expect("24 bytes are enough for everything");
            prop_assert!(count <= 24);
            prop_assert_eq!(judge(&bytes), Some(detected), "more bytes change nothing");
        }

        #[test]
        fn capitals_are_soon_clear_too(text in "[A-Z /*-]{24,40}") {
            prop_assert!(judged(text.as_bytes()).is_some());
        }
    }
}
