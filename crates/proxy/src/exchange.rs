//! One conversation with an upstream: request out, answer back, both bodies at the same time where there are two.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use outrigger_model::{Fallback, HeaderEdits};

use crate::bridge::MessageCount;
use crate::choose::Chosen;
use crate::deadlines::Deadlines;
use crate::failure::Reason;
use crate::forward::{Answered, Forwarding, Link};
use crate::h1::body::{Decoder, Framing};
use crate::h1::head::{self, Bounds, ResponseHead, Version};
use crate::h1::stream::{IoFailure, Reader, Stream, Writer};
use crate::headers::{Edits, Nominated, is_hop_by_hop, write_field};
use crate::held_body::HeldBody;
use crate::mirror::Tee;
use crate::plan::{Exchange, write_framing};
use crate::pool::{Upstream, give_back};
use crate::progress::{Lost, Progress};
use crate::relay::{Coding, Relay, RelayFailure};
use crate::retry::Tries;
use crate::upgrade::{self, Upgraded, UpstreamEnd};
use crate::watch::Watch;
use crate::worker::Worker;

/// A request and the connection to the endpoint it goes to.
pub(crate) struct Conversation<'c, 'w> {
    pub(crate) worker: &'c Rc<Worker>,
    pub(crate) exchange: &'c Exchange,
    pub(crate) forwarding: &'c Forwarding,
    pub(crate) endpoint: &'c Chosen<'c>,
    pub(crate) deadlines: &'c Deadlines,
    /// Where copies of a body go that is relayed.
    pub(crate) tee: Option<&'c Tee>,
    /// The whole request body, where it is at hand. `None`: it is relayed as it comes.
    pub(crate) held_body: Option<&'c HeldBody>,
    /// Where the messages of a gRPC call are counted.
    pub(crate) messages: Option<MessageCount>,
    /// Who decides whether an answer is given up for another try.
    pub(crate) tries: &'c Tries<'c>,
    /// Who wants to know how it ends.
    pub(crate) watch: &'c Watch<'w>,
}

/// What the bytes of an answer's head came to, with the head for the client.
pub(crate) enum Heard {
    Interim(u16, Vec<u8>),
    Answer(Begun, Vec<u8>),
    /// The head is not complete.
    NotYet,
}

/// How an answer ended.
struct Download {
    status: u16,
    grpc_status: Option<u8>,
    /// Whether the upstream connection is at a message boundary and stays open.
    reusable: bool,
}

/// Milliseconds the upstream took until its answer began.
const SERVICE_TIME: &str = "x-envoy-upstream-service-time";

impl Conversation<'_, '_> {
    /// Runs it; the connection goes back to the pool when it can be used again.
    pub(crate) async fn run(&self, client: &mut Stream, link: &mut Option<Link>) -> Result<Answered, Lost> {
        let progress = Progress::default();
        let outcome = {
            let Some(Link::Http1(upstream)) = link else { unreachable!("only links of HTTP/1 come here") };
            let conversation = pin!(self.converse(client, &mut upstream.stream, &progress));
            self.deadlines.limit(conversation, &progress.status_sent).await
        };
        self.exchange.bytes_received.set(self.exchange.bytes_received.get() + progress.body_bytes_read.get());
        let Some(Link::Http1(upstream)) = link.take() else { unreachable!("it was there before") };
        match outcome.flatten() {
            Ok(download) => {
                let upgraded = match download.status {
                    101 => Some(Upgraded { upstream: UpstreamEnd::Http1(upstream), state: self.endpoint.shared() }),
                    _ => {
                        self.keep(upstream, &download, &progress);
                        None
                    }
                };
                Ok(Answered { status: download.status, grpc_status: download.grpc_status, upgraded })
            }
            Err(reason) => Err(progress.lost(reason)),
        }
    }

    fn keep(&self, upstream: Box<Upstream>, download: &Download, progress: &Progress) {
        if download.reusable && progress.upload_done.get() && upstream.stream.input.is_empty() {
            let limits = self.forwarding.cluster().map(|c| &c.live.model.pool);
            give_back(self.worker, limits, self.endpoint.id, upstream);
        }
    }

    async fn converse(
        &self,
        client: &mut Stream,
        upstream: &mut Stream,
        progress: &Progress,
    ) -> Result<Download, Reason> {
        let (mut client_in, mut client_out) = client.split();
        let (mut upstream_in, mut upstream_out) = upstream.split();
        if let Some(body) = self.held_body {
            self.send(&mut upstream_out, body.wire_http1(client_in.input), progress).await?;
            progress.upload_done.set(true);
            let download = pin!(self.download(&mut upstream_in, &mut client_out, progress));
            return while_not_reset(&client_in, download).await;
        }
        let mut upload = pin!(self.upload(&mut client_in, &mut upstream_out, progress));
        let mut download = pin!(self.download(&mut upstream_in, &mut client_out, progress));
        let mut uploading = true;
        poll_fn(|cx| {
            if uploading && let Poll::Ready(result) = upload.as_mut().poll(cx) {
                uploading = false;
                match result {
                    Ok(()) => {
                        progress.upload_done.set(true);
                        self.deadlines.request_is_here();
                    }
                    // The upstream may have answered early and closed: what it said decides.
                    Err(RelayFailure::Sink) => {}
                    Err(failure) => return Poll::Ready(Err(upload_reason(&failure))),
                }
            }
            download.as_mut().poll(cx)
        })
        .await
    }

    async fn send(&self, upstream: &mut Writer<'_>, body: &[u8], progress: &Progress) -> Result<(), Reason> {
        let limit = self.worker.settings.write_stall_timeout;
        // A part of it may have left whenever this ends, also where a time limit ends it.
        progress.sent.set(true);
        upstream.write(&self.forwarding.head, body, limit).await.map_err(|failure| match failure {
            IoFailure::TimedOut => Reason::UpstreamIdle,
            IoFailure::Broken => Reason::UpstreamClosed,
            IoFailure::Closed => {
                progress.sent.set(false);
                Reason::UpstreamClosed
            }
        })
    }

    async fn upload(
        &self,
        client: &mut Reader<'_>,
        upstream: &mut Writer<'_>,
        progress: &Progress,
    ) -> Result<(), RelayFailure> {
        let mut head = self.worker.buffers.take_head();
        head.extend_from_slice(&self.forwarding.head);
        progress.sent.set(true);
        let relay = Relay {
            buffers: &self.worker.buffers,
            settings: &self.worker.settings,
            decoder: Decoder::new(self.exchange.framing),
            coding: if self.exchange.framing == Framing::Chunked { Coding::Chunked } else { Coding::Plain },
            idle_timeout: self.worker.settings.body_idle_timeout,
            bytes_read: &progress.body_bytes_read,
            bytes_written: &progress.upstream_bytes_written,
            left: self.exchange.request_bytes_max(),
            tee: self.tee,
        };
        relay.run(client, upstream, head).await
    }

    /// Awaits the final answer, relaying interim ones, and relays it.
    async fn download(
        &self,
        upstream: &mut Reader<'_>,
        client: &mut Writer<'_>,
        progress: &Progress,
    ) -> Result<Download, Reason> {
        let asked = Instant::now();
        let mut interim = 0;
        let (answer, pending) = loop {
            match self.heard(upstream, asked, progress)? {
                Heard::Interim(status, out) => {
                    interim += 1;
                    if interim > self.worker.settings.interim_max {
                        return Err(Reason::UpstreamProtocol("interim_answers"));
                    }
                    // Were a time limit to strike in the middle of it, nothing could follow any more.
                    progress.status_sent.set(status);
                    let written = self.write_client(client, &out).await;
                    progress.status_sent.set(0);
                    written?;
                    self.worker.buffers.give_head(out);
                    continue;
                }
                Heard::Answer(begun, out) => break (begun, out),
                Heard::NotYet => {}
            }
            self.hear(upstream, progress).await?;
        };
        progress.status_sent.set(answer.status);
        self.relay_answer(upstream, client, progress, &answer, pending).await?;
        Ok(Download { status: answer.status, grpc_status: answer.grpc_status, reusable: answer.reusable })
    }

    /// Reads the head that is there and writes the client's. Apart from the waiting, so that no connection holds the room
    /// for the fields of a head while it waits.
    pub(crate) fn heard(
        &self,
        upstream: &mut Reader<'_>,
        asked: Instant,
        progress: &Progress,
    ) -> Result<Heard, Reason> {
        let mut room = head::fields();
        let answer = head::response(upstream.input.bytes(), &mut room, self.bounds());
        let Some(answer) = answer.map_err(Reason::UpstreamProtocol)? else { return Ok(Heard::NotYet) };
        let used = answer.len;
        let heard = self.judge(&answer, asked, progress)?;
        upstream.input.consume(used);
        Ok(heard)
    }

    /// Judges the head of an answer and writes the client's.
    pub(crate) fn judge(
        &self,
        answer: &ResponseHead<'_>,
        asked: Instant,
        progress: &Progress,
    ) -> Result<Heard, Reason> {
        if answer.status < 200 && answer.status != 101 {
            let mut out = self.worker.buffers.take_head();
            self.write_interim(answer, &mut out);
            return Ok(Heard::Interim(answer.status, out));
        }
        upgrade::check(self.exchange, answer).map_err(Reason::UpstreamProtocol)?;
        let grpc = grpc_status(answer);
        if !self.exchange.is_grpc || grpc.is_some() || answer.status != 200 {
            self.watch.answered(answer.status, grpc.filter(|_| self.exchange.is_grpc));
        } else {
            self.watch.began_to_answer();
        }
        let is_at_hand = self.held_body.is_some() || progress.is_at_hand();
        let of_call = grpc.filter(|_| self.exchange.is_grpc);
        if self.tries.declines(answer, grpc, is_at_hand) || self.watch.replaces(answer.status, of_call, is_at_hand) {
            return Err(Reason::Declined(answer.status));
        }
        self.remember(answer);
        progress.accepted.set(true);
        let mut out = self.worker.buffers.take_head();
        let framing = self.answer_framing(answer);
        self.exchange.judge_length(framing)?;
        let begun = Begun::of(answer, framing, grpc);
        self.write_answer(answer, framing, asked, progress, &mut out);
        Ok(Heard::Answer(begun, out))
    }

    /// Keeps what a fallback may need of a good answer.
    fn remember(&self, answer: &ResponseHead<'_>) {
        let Some(cluster) = self.forwarding.cluster() else { return };
        let Some(last) = cluster.live.last_headers.as_ref().filter(|_| answer.status < 400) else { return };
        let fallback = cluster.live.model.breaker.as_ref().and_then(|breaker| breaker.fallback.as_ref());
        if let Some(Fallback::LastHeaders { names, .. }) = fallback {
            last.note(names, answer, Instant::now());
        }
    }

    async fn relay_answer(
        &self,
        upstream: &mut Reader<'_>,
        client: &mut Writer<'_>,
        progress: &Progress,
        answer: &Begun,
        pending: Vec<u8>,
    ) -> Result<(), Reason> {
        let relay = Relay {
            buffers: &self.worker.buffers,
            settings: &self.worker.settings,
            decoder: Decoder::new(answer.framing),
            coding: self.answer_coding(answer.framing),
            idle_timeout: self.worker.settings.upstream_idle_timeout,
            bytes_read: &progress.upstream_bytes_read,
            bytes_written: &self.exchange.bytes_sent,
            left: self.exchange.answer_bytes_max(),
            tee: None,
        };
        relay.run(upstream, client, pending).await.map_err(|failure| match failure {
            RelayFailure::Sink => Reason::ClientGone,
            RelayFailure::Source(IoFailure::TimedOut) => Reason::UpstreamIdle,
            RelayFailure::Source(_) => Reason::UpstreamClosed,
            RelayFailure::Framing(rule) => Reason::UpstreamProtocol(rule.0),
            RelayFailure::Long => Reason::AnswerLong,
        })
    }

    async fn hear(&self, upstream: &mut Reader<'_>, progress: &Progress) -> Result<(), Reason> {
        let settings = &self.worker.settings;
        match upstream.fill(&self.worker.buffers, settings.head_bytes_max, settings.upstream_idle_timeout).await {
            Ok(_) => {
                progress.heard.set(true);
                Ok(())
            }
            Err(IoFailure::TimedOut) => Err(Reason::UpstreamIdle),
            Err(_) if upstream.input.is_empty() => Err(Reason::UpstreamClosed),
            Err(_) => Err(Reason::UpstreamProtocol("head_cut")),
        }
    }

    pub(crate) async fn write_client(&self, client: &mut Writer<'_>, bytes: &[u8]) -> Result<(), Reason> {
        self.exchange.bytes_sent.set(self.exchange.bytes_sent.get() + bytes.len() as u64);
        client.write(bytes, &[], self.worker.settings.write_stall_timeout).await.map_err(|_| Reason::ClientGone)
    }

    fn bounds(&self) -> Bounds {
        let settings = &self.worker.settings;
        Bounds { head_bytes_max: settings.head_bytes_max, target_bytes_max: settings.target_bytes_max }
    }

    /// RFC 9112 §6.3: method and status may take the body away.
    fn answer_framing(&self, answer: &ResponseHead<'_>) -> Framing {
        match answer.status {
            101 | 204 | 304 => Framing::None,
            _ if self.exchange.is_head => Framing::None,
            _ => answer.framing,
        }
    }

    /// How the body goes to the client: HTTP/1.0 knows no chunks; HTTP/1.1 needs none where the length is known.
    pub(crate) fn answer_coding(&self, framing: Framing) -> Coding {
        match (framing, self.exchange.version) {
            (Framing::Chunked | Framing::UntilClose, Version::Http11) => Coding::Chunked,
            _ => Coding::Plain,
        }
    }

    /// An interim answer passes to clients that know of them.
    fn write_interim(&self, answer: &ResponseHead<'_>, out: &mut Vec<u8>) {
        if self.exchange.version == Version::Http10 {
            return;
        }
        write_status_line(answer, out);
        for header in answer.headers.iter().filter(|h| !is_hop_by_hop(h.name)) {
            write_field(header.name, header.value, out);
        }
        out.extend_from_slice(b"\r\n");
    }

    fn write_answer(
        &self,
        answer: &ResponseHead<'_>,
        framing: Framing,
        asked: Instant,
        progress: &Progress,
        out: &mut Vec<u8>,
    ) {
        write_status_line(answer, out);
        let none = HeaderEdits::default();
        let edits = match &self.forwarding.target {
            Some(target) => Edits::new(&target.destination().response_headers, &target.route.response_headers),
            None => Edits::new(&none, &none),
        };
        let nominated = Nominated::of(answer.headers);
        let cors = &self.forwarding.cors;
        let mut dated = false;
        for header in answer.headers {
            let name = header.name;
            let ours = match name.len() {
                14 => name.eq_ignore_ascii_case("content-length"),
                // That of the last hop counts, as in Envoy.
                29 => name.eq_ignore_ascii_case(SERVICE_TIME),
                _ => false,
            };
            let ours = ours || cors.iter().any(|(n, _)| *n != "vary" && name.eq_ignore_ascii_case(n));
            if ours || is_hop_by_hop(name) || edits.replaces(name) || nominated.contains(name) {
                continue;
            }
            dated |= name.len() == 4 && name.eq_ignore_ascii_case("date");
            write_field(name, header.value, out);
        }
        if !dated && !edits.replaces("date") {
            write_field("date", self.worker.date().as_bytes(), out);
        }
        let waited_ms = asked.elapsed().as_millis() as u64;
        write_field(SERVICE_TIME, itoa::Buffer::new().format(waited_ms).as_bytes(), out);
        cors.iter().for_each(|(name, value)| write_field(name, value, out));
        if let Some(cookie) = &self.forwarding.set_cookie {
            write_field("set-cookie", cookie, out);
        }
        edits.write(out);
        self.write_answer_framing(answer, framing, progress, out);
        out.extend_from_slice(b"\r\n");
    }

    fn write_answer_framing(
        &self,
        answer: &ResponseHead<'_>,
        framing: Framing,
        progress: &Progress,
        out: &mut Vec<u8>,
    ) {
        if answer.status == 101 {
            return upgrade::write_fields(out);
        }
        let keep_alive = &self.exchange.keep_alive;
        // The client is still sending: whatever it sends on would be read as a request.
        if !progress.upload_done.get() || self.worker.draining.get() {
            keep_alive.set(false);
        }
        match (framing, self.answer_coding(framing)) {
            (Framing::Length(_), _) => write_framing(framing, out),
            (Framing::Chunked | Framing::UntilClose, Coding::Chunked) => write_framing(Framing::Chunked, out),
            (Framing::Chunked | Framing::UntilClose, Coding::Plain) => keep_alive.set(false),
            // HEAD and 304 say what a GET would get; 204 says nothing.
            (Framing::None, _) if answer.status != 204 => {
                let says_nothing = self.exchange.is_head || answer.status == 304;
                match answer.framing {
                    Framing::Length(_) | Framing::Chunked => write_framing(answer.framing, out),
                    // It ended with its head, over HTTP/2: HTTP/1 has to be told.
                    Framing::None if !says_nothing && self.exchange.version != Version::Http2 => {
                        write_framing(Framing::Length(0), out);
                    }
                    Framing::None | Framing::UntilClose => {}
                }
            }
            (Framing::None, _) => {}
        }
        match (keep_alive.get(), self.exchange.version) {
            (false, _) => write_field("connection", b"close", out),
            (true, Version::Http10) => write_field("connection", b"keep-alive", out),
            (true, Version::Http11 | Version::Http2) => {}
        }
    }
}

/// Awaits the answer, or learns that nobody waits for it any more.
async fn while_not_reset(
    client: &Reader<'_>,
    mut download: Pin<&mut impl Future<Output = Result<Download, Reason>>>,
) -> Result<Download, Reason> {
    let mut watching = true;
    poll_fn(|cx| {
        if let Poll::Ready(result) = download.as_mut().poll(cx) {
            return Poll::Ready(result);
        }
        if watching && let Poll::Ready(reset) = client.poll_reset(cx) {
            watching = false;
            if reset {
                return Poll::Ready(Err(Reason::ClientGone));
            }
        }
        Poll::Pending
    })
    .await
}

/// What of an answer's head is needed after its bytes are gone.
pub(crate) struct Begun {
    pub(crate) status: u16,
    pub(crate) framing: Framing,
    pub(crate) grpc_status: Option<u8>,
    pub(crate) reusable: bool,
}

impl Begun {
    fn of(answer: &ResponseHead<'_>, framing: Framing, grpc_status: Option<u8>) -> Self {
        let reusable = answer.keep_alive && framing != Framing::UntilClose;
        Self { status: answer.status, framing, grpc_status, reusable }
    }
}

fn write_status_line(answer: &ResponseHead<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(answer.status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(answer.reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// `grpc-status` of an answer without body.
fn grpc_status(answer: &ResponseHead<'_>) -> Option<u8> {
    let field = answer.headers.iter().find(|h| h.name.len() == 11 && h.name.eq_ignore_ascii_case("grpc-status"))?;
    std::str::from_utf8(field.value).ok()?.parse().ok()
}

fn upload_reason(failure: &RelayFailure) -> Reason {
    match failure {
        RelayFailure::Source(IoFailure::TimedOut) => Reason::BodyTimeout,
        RelayFailure::Source(_) => Reason::ClientGone,
        RelayFailure::Framing(rule) => Reason::BadBody(rule.0),
        RelayFailure::Long => Reason::RequestLong,
        RelayFailure::Sink => Reason::UpstreamClosed,
    }
}
