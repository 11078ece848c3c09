//! The bytes of a tunnel of which an end is a stream of HTTP/2.

use std::cell::Cell;

use bytes::Bytes;
use h2::SendStream;

use super::{Failed, Http1Sink, Http1Source, Patience, Piece, Sink, Source};
use crate::downstream::Downstream;
use crate::h1::body::Decoder;
use crate::h2::incoming::Incoming;
use crate::record::{Bytes as Count, Connection};
use crate::relay::Coding;
use crate::tcp::End;
use crate::upgrade::UpstreamEnd;
use crate::worker::Worker;

/// A stream to an endpoint that carries bytes.
pub(crate) struct Opened {
    pub(crate) body: Incoming,
    pub(crate) stream: SendStream<Bytes>,
}

/// Relays until both sides have finished, or one breaks off, or nothing happens for `idle_timeout`.
pub(crate) async fn relay(
    worker: &Worker,
    client: &mut Downstream<'_>,
    upstream: &mut UpstreamEnd,
    connection: &Connection<'_>,
    idle_timeout: std::time::Duration,
) -> Result<(), End> {
    let moved_ms = worker.moved();
    let (client_in, client_out) = match client {
        Downstream::Http1(stream) => http1(worker, stream),
        Downstream::Http2(call) => {
            let (body, answering) = call.split();
            (Source::Http2(body), Sink::Client(answering))
        }
    };
    let (upstream_in, upstream_out) = match upstream {
        UpstreamEnd::Http1(upstream) => http1(worker, &mut upstream.stream),
        UpstreamEnd::Http2 { opened, .. } => (Source::Http2(&mut opened.body), Sink::Http2(&mut opened.stream)),
    };
    let pump = |source, sink, bytes| Pump { source, sink, bytes, patience: patience(worker, idle_timeout, &moved_ms) };
    let up = pump(client_in, upstream_out, &connection.received);
    let down = pump(upstream_in, client_out, &connection.sent);
    tokio::try_join!(up.run(End::Client, End::Upstream), down.run(End::Upstream, End::Client)).map(|_| ())
}

fn http1<'s>(worker: &'s Worker, stream: &'s mut crate::h1::stream::Stream) -> (Source<'s>, Sink<'s>) {
    let (reader, writer) = stream.split();
    (
        Source::Http1(Http1Source::new(reader, Decoder::UntilClose, &worker.buffers)),
        Sink::Http1(Http1Sink { writer, coding: Coding::Plain, pending: Vec::new() }),
    )
}

fn patience<'p>(worker: &'p Worker, idle: std::time::Duration, moved_ms: &'p Cell<u64>) -> Patience<'p> {
    let mut patience = Patience::new(worker, idle, moved_ms);
    // A tunnel waits for a slow reader as long as for a silent one.
    patience.stall = idle;
    patience
}

/// One direction.
struct Pump<'p> {
    source: Source<'p>,
    sink: Sink<'p>,
    bytes: &'p Count,
    patience: Patience<'p>,
}

impl Pump<'_> {
    /// Relays until the source has finished, and says so to the sink.
    async fn run(mut self, source: End, sink: End) -> Result<(), End> {
        loop {
            let piece = super::relay::next(&mut self.source, &mut self.sink, &self.patience).await;
            match piece {
                Ok(Piece::Data(data)) => {
                    let count = data.len();
                    self.sink.data(data, false, &self.patience).await.map_err(|_| sink)?;
                    self.bytes.add(count as u64);
                    self.patience.moved();
                    self.source.release(count);
                }
                Ok(Piece::Trailers(_) | Piece::End) => {
                    self.sink.finish(&self.patience).await;
                    return Ok(());
                }
                Err(Failed::Quiet) => return Err(End::Idle),
                Err(Failed::Sink | Failed::Slow) => return Err(sink),
                Err(Failed::Io | Failed::Http2(_) | Failed::Framing(_) | Failed::Long) => return Err(source),
            }
        }
    }
}
