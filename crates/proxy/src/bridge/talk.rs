//! One conversation in which a side speaks HTTP/2: request out, answer back, both bodies at the same time.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use h2::SendStream;
use h2::client::ResponseFuture;
use http::HeaderMap;
use http::request::Parts;

use super::{Failed, Http1Sink, Http1Source, Messages, Patience, Relay, Sink, Source, relay, tunnel::Opened};
use crate::downstream::Downstream;
use crate::exchange::{Begun, Conversation, Heard};
use crate::failure::Reason;
use crate::forward::{Answered, Link};
use crate::h1::body::{Decoder, Framing};
use crate::h1::stream::Reader;
use crate::h2::call::Answering;
use crate::h2::head::{self, Manner};
use crate::h2::incoming::Incoming;
use crate::h2::{answer, client::Lease};
use crate::pool::{Upstream, give_back};
use crate::progress::{Lost, Progress};
use crate::relay::Coding;
use crate::upgrade::{Upgraded, UpstreamEnd};

/// How an answer ended.
pub(super) struct Download {
    pub(super) status: u16,
    pub(super) grpc_status: Option<u8>,
    /// Whether a connection of HTTP/1 to the endpoint is at a message boundary and stays open.
    pub(super) reusable: bool,
    pub(super) opened: Option<Opened>,
}

/// What is behind the head of an answer of HTTP/2, and the fields in it.
pub(super) struct Behind {
    pub(super) body: Incoming,
    pub(super) fields: HeaderMap,
}

/// Where the answer comes from.
pub(super) enum Answers<'a> {
    Http1(Reader<'a>),
    Http2(ResponseFuture),
}

/// Where the answer goes.
pub(super) enum Out<'a> {
    Http1(crate::h1::stream::Writer<'a>),
    Http2(Answering<'a>),
}

/// What both directions of a conversation share.
pub(super) struct Talk<'t, 'w> {
    pub(super) conversation: &'t Conversation<'t, 'w>,
    pub(super) progress: &'t Progress,
    moved_ms: &'t Cell<u64>,
}

/// Runs it; a connection of HTTP/1 goes back to the pool when it can be used again.
pub(crate) async fn run(
    conversation: &Conversation<'_, '_>,
    client: &mut Downstream<'_>,
    link: &mut Option<Link>,
) -> Result<Answered, Lost> {
    let Conversation { worker, exchange, deadlines, endpoint, .. } = conversation;
    let progress = Progress::default();
    let moved_ms = worker.moved();
    let talk = Talk { conversation, progress: &progress, moved_ms: &moved_ms };
    let outcome = {
        let talking = pin!(talk.hold(client, link));
        deadlines.limit(talking, &progress.status_sent).await
    };
    let outcome = outcome.flatten();
    if let (Err(_), Downstream::Http2(call)) = (&outcome, &mut *client)
        && !progress.accepted.get()
        && call.body.rewind()
    {
        // It is as if nothing of it had been taken.
        progress.body_bytes_read.set(0);
    }
    exchange.bytes_received.set(exchange.bytes_received.get() + progress.body_bytes_read.get());
    let link = link.take();
    match outcome {
        Ok(download) => {
            let status = download.status;
            let upgraded = match (download.opened, link) {
                (Some(opened), Some(Link::Http2(lease))) => Some(UpstreamEnd::Http2 { _lease: lease, opened }),
                (_, Some(Link::Http1(upstream))) if status == 101 => Some(UpstreamEnd::Http1(upstream)),
                (_, Some(Link::Http1(upstream))) => {
                    keep(conversation, upstream, download.reusable && progress.upload_done.get());
                    None
                }
                (None, Some(Link::Http2(_))) | (_, None) => None,
            };
            let upgraded = upgraded.map(|upstream| Upgraded { upstream, state: endpoint.shared() });
            Ok(Answered { status, grpc_status: download.grpc_status, upgraded })
        }
        Err(reason) => {
            let mut lost = progress.lost(reason);
            if let Some(Link::Http2(lease)) = &link {
                lost.had_company = lease.has_company();
                // One that resets a stream takes others; one that says GOAWAY, or broke, takes none.
                if reason == Reason::UpstreamClosed {
                    lease.retire();
                }
            }
            Err(lost)
        }
    }
}

fn keep(conversation: &Conversation<'_, '_>, upstream: Box<Upstream>, reusable: bool) {
    if reusable && upstream.stream.input.is_empty() {
        let limits = conversation.forwarding.cluster().map(|c| &c.live.model.pool);
        give_back(conversation.worker, limits, conversation.endpoint.id, upstream);
    }
}

impl Talk<'_, '_> {
    async fn hold(&self, client: &mut Downstream<'_>, link: &mut Option<Link>) -> Result<Download, Reason> {
        let Conversation { worker, exchange, held_body, .. } = self.conversation;
        // For HTTP/2 alone.
        let original = match (&mut *client, &*link) {
            (Downstream::Http2(call), Some(Link::Http2(_))) => call.head.take(),
            _ => None,
        };
        let (source, out) = match client {
            Downstream::Http1(stream) => {
                let (reader, writer) = stream.split();
                let source = Http1Source::new(reader, Decoder::new(exchange.framing), &worker.buffers);
                (Source::Http1(source.telling(&self.progress.body_begun)), Out::Http1(writer))
            }
            Downstream::Http2(call) => {
                let (body, answering) = call.split();
                // A copy for a mirror cannot begin anew.
                let source = match self.conversation.tee {
                    Some(_) => Source::Http2(body),
                    None => {
                        body.keep();
                        self.progress.kept.set(true);
                        Source::Kept(body, self.progress)
                    }
                };
                (source, Out::Http2(answering))
            }
        };
        // What is held is not read again; the client is still there to be watched.
        let (mut source, client) = match held_body {
            Some(held) => {
                let (data, trailers) = held.data();
                (Source::Held(data, trailers), Some(source))
            }
            None => (source, None),
        };
        let mut stream: SendStream<Bytes>;
        let (sink, answers) = match link {
            None => unreachable!("a conversation has a connection"),
            Some(Link::Http1(upstream)) => {
                let (reader, writer) = upstream.stream.split();
                let mut pending = worker.buffers.take_head();
                pending.extend_from_slice(&self.conversation.forwarding.head);
                let coding = if exchange.framing == Framing::Chunked { Coding::Chunked } else { Coding::Plain };
                (Some(Sink::Http1(Http1Sink { writer, coding, pending })), Answers::Http1(reader))
            }
            Some(Link::Http2(lease)) => {
                let ends = source.is_at_end() && !exchange.asks_upgrade;
                let (response, sending) = self.ask(lease, ends, original)?;
                stream = sending;
                // A WebSocket's stream stays open, for what follows.
                let sink = (!ends && !exchange.asks_upgrade).then_some(Sink::Http2(&mut stream));
                if sink.is_none() && exchange.asks_upgrade {
                    return Box::pin(self.open(response, stream, out)).await;
                }
                (sink, Answers::Http2(response))
            }
        };
        self.progress.sent.set(true);
        self.both(&mut source, client.as_ref(), sink, answers, out).await
    }

    /// Sends the head of a request over HTTP/2; `original` is what it was made of, if that came so, too.
    fn ask(
        &self,
        lease: &Lease,
        ends: bool,
        original: Option<Parts>,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), Reason> {
        let Conversation { exchange, forwarding, .. } = self.conversation;
        let manner = Manner { takes_trailers: exchange.takes_trailers, opens_websocket: exchange.asks_upgrade };
        let request = match original {
            Some(original) => head::request_like(original, &forwarding.head, manner),
            None => head::request(&forwarding.head, manner),
        };
        let request = request.map_err(|unfit| Reason::BadRequest(unfit.0))?;
        let sent = lease.send(request, ends).map_err(|error| self.reason(&error))?;
        self.progress.sent.set(true);
        self.progress.upstream_bytes_written.set(forwarding.head.len() as u64);
        Ok(sent)
    }

    /// Both directions at the same time, until the answer is complete, or `client`, which is not read from, is gone.
    async fn both(
        &self,
        source: &mut Source<'_>,
        client: Option<&Source<'_>>,
        sink: Option<Sink<'_>>,
        answers: Answers<'_>,
        out: Out<'_>,
    ) -> Result<Download, Reason> {
        let deadlines = self.conversation.deadlines;
        let done = || {
            self.progress.upload_done.set(true);
            deadlines.request_is_here();
        };
        let mut uploading = sink.is_some();
        if !uploading {
            done();
        }
        let mut upload = pin!(self.upload(source, sink));
        let mut download = pin!(self.download(answers, out));
        let mut watched = client;
        poll_fn(|cx| {
            if uploading && let Poll::Ready(result) = upload.as_mut().poll(cx) {
                uploading = false;
                match result {
                    Ok(()) => done(),
                    // The upstream may have answered early: what it said decides.
                    Err(Failed::Sink) => {}
                    Err(failure) => return Poll::Ready(Err(upload_reason(&failure))),
                }
            }
            if let Poll::Ready(result) = download.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            match watched.map(|client| client.poll_reset(cx)) {
                Some(Poll::Ready(true)) => return Poll::Ready(Err(Reason::ClientGone)),
                Some(Poll::Ready(false)) => watched = None,
                Some(Poll::Pending) | None => {}
            }
            Poll::Pending
        })
        .await
    }

    async fn upload(&self, source: &mut Source<'_>, sink: Option<Sink<'_>>) -> Result<(), Failed> {
        let Some(mut sink) = sink else { return Ok(()) };
        let Conversation { worker, exchange, tee, .. } = self.conversation;
        let settings = &worker.settings;
        // A call may be silent for as long as it likes to, within the limit on a stream.
        let idle = if exchange.is_grpc { settings.upstream_idle_timeout } else { settings.body_idle_timeout };
        let messages = Messages::of_request(self.conversation.messages.as_ref());
        // What is held has not been taken from the client: it can be sent again, and is counted when it is given up.
        let mut patience = Patience::new(worker, idle, self.moved_ms);
        // An instance may let a call wait for longer than a client may: it knows why.
        patience.stall = settings.upstream_idle_timeout;
        let held = Cell::new(0);
        let is_held = self.conversation.held_body.is_some();
        let with = Relay {
            bytes_read: if is_held { &held } else { &self.progress.body_bytes_read },
            bytes_written: &self.progress.upstream_bytes_written,
            left: Cell::new(exchange.request_bytes_max()),
            messages: &messages,
            tee: tee.map(|tee| (tee, exchange.framing == Framing::Chunked)),
            patience: &patience,
        };
        relay(source, &mut sink, &with).await.map(|_| ())
    }

    /// Awaits the answer, relaying interim ones, and relays it.
    async fn download(&self, mut answers: Answers<'_>, mut out: Out<'_>) -> Result<Download, Reason> {
        let (begun, head, behind) = self.answer(&mut answers, &mut out).await?;
        let (mut body, fields) = behind.map(|Behind { body, fields }| (body, fields)).unzip();
        self.progress.status_sent.set(begun.status);
        let worker = self.conversation.worker;
        let mut source = match (&mut body, answers) {
            (Some(body), _) if begun.framing == Framing::None && body.is_end_stream() => Source::Held(None, None),
            (Some(body), _) => Source::Http2(body),
            (None, Answers::Http1(reader)) => {
                Source::Http1(Http1Source::new(reader, Decoder::new(begun.framing), &worker.buffers))
            }
            (None, Answers::Http2(_)) => Source::Held(None, None),
        };
        let bytes_sent = &self.conversation.exchange.bytes_sent;
        bytes_sent.set(bytes_sent.get() + head.len() as u64);
        let sink = match out {
            Out::Http1(writer) => {
                let coding = self.conversation.answer_coding(begun.framing);
                Some(Sink::Http1(Http1Sink { writer, coding, pending: head }))
            }
            Out::Http2(mut answering) => {
                let ends = source.is_at_end() || begun.framing == Framing::None;
                let response = self.response(begun.status, &head, fields)?;
                worker.buffers.give_head(head);
                // An upgrade's stream stays open, for what follows.
                answering.answer(response, ends && begun.status != 101).map_err(|_| Reason::ClientGone)?;
                (!ends).then_some(Sink::Client(answering))
            }
        };
        let trailing = match sink {
            Some(mut sink) => self.relay_answer(&mut source, &mut sink).await?,
            None => None,
        };
        let grpc_status = trailing.or(begun.grpc_status);
        Ok(Download { status: begun.status, grpc_status, reusable: begun.reusable, opened: None })
    }

    /// Awaits the head of the answer, relaying interim ones; the body behind it if it is one of HTTP/2.
    pub(super) async fn answer(
        &self,
        answers: &mut Answers<'_>,
        out: &mut Out<'_>,
    ) -> Result<(Begun, Vec<u8>, Option<Behind>), Reason> {
        let worker = self.conversation.worker;
        let asked = Instant::now();
        let mut interim = 0;
        loop {
            match self.hear(answers, out, asked).await? {
                (Heard::Interim(status, head), _) => {
                    interim += 1;
                    if interim > worker.settings.interim_max {
                        return Err(Reason::UpstreamProtocol("interim_answers"));
                    }
                    self.inform(status, &head, out).await?;
                    worker.buffers.give_head(head);
                }
                (Heard::Answer(begun, head), behind) => return Ok((begun, head, behind)),
                (Heard::NotYet, _) => {}
            }
        }
    }

    pub(super) async fn relay_answer(
        &self,
        source: &mut Source<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<Option<u8>, Reason> {
        let worker = self.conversation.worker;
        let messages = Messages::new(self.conversation.messages.as_ref().map(|count| &count.responses));
        let with = Relay {
            bytes_read: &self.progress.upstream_bytes_read,
            bytes_written: &self.conversation.exchange.bytes_sent,
            left: Cell::new(self.conversation.exchange.answer_bytes_max()),
            messages: &messages,
            tee: None,
            patience: &Patience::new(worker, worker.settings.upstream_idle_timeout, self.moved_ms),
        };
        relay(source, sink, &with).await.map_err(|failure| match failure {
            Failed::Sink | Failed::Slow => Reason::ClientGone,
            Failed::Quiet => Reason::UpstreamIdle,
            Failed::Io => Reason::UpstreamClosed,
            Failed::Http2(error) => self.reason(&error),
            Failed::Framing(rule) => Reason::UpstreamProtocol(rule),
            Failed::Long => Reason::AnswerLong,
        })
    }

    /// Sends an interim answer on.
    async fn inform(&self, status: u16, head: &[u8], out: &mut Out<'_>) -> Result<(), Reason> {
        let progress = self.progress;
        match out {
            Out::Http1(writer) => {
                // Were a time limit to strike in the middle of it, nothing could follow any more.
                progress.status_sent.set(status);
                let written = self.conversation.write_client(writer, head).await;
                progress.status_sent.set(0);
                written
            }
            Out::Http2(answering) => {
                answering.inform(self.response(status, head, None)?).map_err(|_| Reason::ClientGone)
            }
        }
    }

    /// The next head of the upstream, and the body behind it if it is one of HTTP/2.
    async fn hear(
        &self,
        answers: &mut Answers<'_>,
        out: &mut Out<'_>,
        asked: Instant,
    ) -> Result<(Heard, Option<Behind>), Reason> {
        let worker = self.conversation.worker;
        let patience = Patience::new(worker, worker.settings.upstream_idle_timeout, self.moved_ms);
        match answers {
            Answers::Http1(reader) => loop {
                let heard = self.conversation.heard(reader, asked, self.progress)?;
                if !matches!(heard, Heard::NotYet) {
                    return Ok((heard, None));
                }
                let max = worker.settings.head_bytes_max;
                let filled = poll_fn(|cx| self.wait(reader.poll_fill(&worker.buffers, max, cx), out, &patience, cx));
                match filled.await? {
                    Ok(0) | Err(_) if reader.input.is_empty() => return Err(Reason::UpstreamClosed),
                    Ok(0) | Err(_) => return Err(Reason::UpstreamProtocol("head_cut")),
                    Ok(_) => self.progress.heard.set(true),
                }
            },
            Answers::Http2(response) => {
                let heard = poll_fn(|cx| {
                    let next = match response.poll_informational(cx) {
                        Poll::Ready(Some(interim)) => Poll::Ready(interim.map(|interim| (interim, None))),
                        Poll::Ready(None) => std::pin::Pin::new(&mut *response).poll(cx).map_ok(|answer| {
                            let (parts, body) = answer.into_parts();
                            (http::Response::from_parts(parts, ()), Some(Incoming::new(body)))
                        }),
                        Poll::Pending => Poll::Pending,
                    };
                    self.wait(next, out, &patience, cx)
                });
                let (head, body) = heard.await?.map_err(|error| self.reason(&error))?;
                self.progress.heard.set(true);
                let has_body = body.as_ref().is_none_or(|body| !body.is_end_stream());
                let mut room = Vec::with_capacity(head.headers().len() + 3);
                let grants = self.conversation.exchange.asks_upgrade && head.status().is_success();
                let accept = if grants { self.accept_key() } else { String::new() };
                let read = match grants {
                    true => answer::read_grant(head.headers(), accept.as_bytes(), &mut room),
                    false => answer::read(head.status().as_u16(), head.headers(), has_body, &mut room),
                };
                let read = read.map_err(Reason::UpstreamProtocol)?;
                let heard = self.conversation.judge(&read, asked, self.progress)?;
                Ok((heard, body.map(|body| Behind { body, fields: head.into_parts().0.headers })))
            }
        }
    }

    /// The head for a client of HTTP/2; `original` are the fields it was made of, if they came so, too.
    pub(super) fn response(
        &self,
        status: u16,
        head: &[u8],
        original: Option<HeaderMap>,
    ) -> Result<http::Response<()>, Reason> {
        let response = match original {
            Some(original) => head::response_like(original, head),
            None => head::response(head),
        };
        let mut response = response.map_err(|unfit| Reason::UpstreamProtocol(unfit.0))?;
        if status == 101 {
            // A WebSocket over HTTP/2 is granted by a plain success (RFC 8441 §5).
            *response.status_mut() = http::StatusCode::OK;
            response.headers_mut().remove("sec-websocket-accept");
        }
        Ok(response)
    }

    /// Waits for the upstream, as long as the client waits for it.
    fn wait<T>(
        &self,
        awaited: Poll<T>,
        out: &mut Out<'_>,
        patience: &Patience<'_>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Result<T, Reason>> {
        if let Poll::Ready(ready) = awaited {
            patience.moved();
            return Poll::Ready(Ok(ready));
        }
        if let Out::Http2(answering) = out
            && answering.poll_gone(cx).is_ready()
        {
            return Poll::Ready(Err(Reason::ClientGone));
        }
        if patience.is_over(cx) { Poll::Ready(Err(Reason::UpstreamIdle)) } else { Poll::Pending }
    }

    /// What a failure of an endpoint's stream or connection means.
    fn reason(&self, error: &h2::Error) -> Reason {
        let never_acted =
            error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM));
        if never_acted && !self.progress.heard.get() {
            self.progress.refused.set(true);
        }
        if error.is_go_away() && error.is_remote() {
            return Reason::UpstreamClosed;
        }
        if error.is_reset() && error.is_remote() {
            return Reason::UpstreamReset;
        }
        if error.is_io() { Reason::UpstreamClosed } else { Reason::UpstreamProtocol("http2") }
    }
}

fn upload_reason(failure: &Failed) -> Reason {
    match failure {
        Failed::Quiet => Reason::BodyTimeout,
        Failed::Io | Failed::Http2(_) => Reason::ClientGone,
        Failed::Framing(rule) => Reason::BadBody(rule),
        Failed::Long => Reason::RequestLong,
        Failed::Sink => Reason::UpstreamClosed,
        Failed::Slow => Reason::UpstreamIdle,
    }
}
