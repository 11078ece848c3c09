//! Connections of clients that speak HTTP/2: each of their streams is a task of its own.
//!
//! The connection's own task moves its bytes, judges the client by its frames, asks whether it is still there, and says
//! goodbye: a drain tells it to send no more requests (GOAWAY, the last one known a round trip later), finishes those that
//! came, and closes.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::{Builder, Connection, SendResponse};
use h2::{PingPong, Reason, RecvStream};
use http::Request;

use super::call::Call;
use super::io::{Io, Watch};
use super::keepalive::Keepalive;
use super::meter::DOWNSTREAM;
use super::stream;
use crate::alarm::Alarm;
use crate::h1::stream::Stream;
use crate::plan::Client;
use crate::worker::Worker;

/// What the streams of a connection share.
pub(crate) struct Shared {
    pub(crate) worker: Rc<Worker>,
    pub(crate) who: Client,
    /// Streams that are being served.
    active: Cell<usize>,
    /// When the last of them ended.
    ended_ms: Cell<u64>,
}

/// A connection and what ends it.
struct Driver {
    shared: Rc<Shared>,
    connection: Connection<Io, Bytes>,
    watch: Rc<Watch>,
    ping: Option<PingPong>,
    keepalive: Keepalive,
    /// For the keep-alive, and for quiet.
    alarms: [Rc<Alarm>; 2],
    /// Whether the client was told to send no more requests.
    is_leaving: bool,
    /// Whether it was told why it is not served any more.
    is_broken: bool,
    /// After which a client that is told to go is left alone.
    until_ms: u64,
}

/// How long a client that broke the rules has to read why.
const PARTING: Duration = Duration::from_secs(1);

/// Serves a connection whose preface is unread.
pub(crate) async fn serve(worker: &Rc<Worker>, stream: Stream, who: Client) {
    let settings = &worker.settings;
    let (io, watch) = Io::new(stream, &worker.clock, &DOWNSTREAM, settings.linger_timeout);
    let mut builder = Builder::new();
    builder
        .initial_window_size(settings.h2_stream_window)
        .initial_connection_window_size(settings.h2_connection_window)
        .max_concurrent_streams(settings.h2_streams_max)
        .max_header_list_size(settings.head_bytes_max as u32)
        .max_send_buffer_size(settings.h2_send_buffer_max)
        .max_pending_accept_reset_streams(20)
        // The meter judges sooner, and forgives with time.
        .max_local_error_reset_streams(Some(1024))
        .max_concurrent_reset_streams(settings.h2_streams_max as usize)
        .reset_stream_duration(Duration::from_secs(10))
        .data_frame_budget(settings.h2_small_data_max)
        .enable_connect_protocol();
    let alarm = worker.clock.alarm();
    let Ok(Ok(mut connection)) = alarm.limit(settings.head_timeout, builder.handshake(io)).await else { return };
    let ping = connection.ping_pong();
    let quiet = worker.clock.alarm();
    quiet.heeds_drain();
    let now_ms = worker.clock.now_ms();
    let shared = Rc::new(Shared { worker: worker.clone(), who, active: Cell::new(0), ended_ms: Cell::new(now_ms) });
    let driver = Driver {
        shared,
        connection,
        watch,
        ping,
        keepalive: Keepalive::new(settings.h2_ping_interval, settings.h2_ping_timeout),
        alarms: [alarm, quiet],
        is_leaving: false,
        is_broken: false,
        until_ms: u64::MAX,
    };
    driver.await;
}

impl Driver {
    /// Serves what has come in.
    fn accept(&self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        let served = Served::begin(&self.shared);
        let started = Instant::now();
        self.shared.worker.spawn(async move {
            let Shared { worker, who, .. } = &*served.0;
            let (head, body) = request.into_parts();
            let is_websocket = head.extensions.get::<Protocol>().is_some();
            stream::serve(worker, Call::new(body, respond, is_websocket), head, who, started).await;
        });
    }

    /// Ends a connection whose client asks for it.
    fn break_off(&mut self, limit: &'static str) {
        let worker = &self.shared.worker;
        worker.recorder.limit_hit(limit);
        if worker.may_complain() {
            let (client, listener) = (self.shared.who.address, &self.shared.who.listener);
            tracing::info!(%client, %listener, limit, "a connection of HTTP/2 is closed; told once a second at most");
        }
        self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        self.is_leaving = true;
        self.is_broken = true;
        self.until_ms = worker.clock.now_ms() + PARTING.as_millis() as u64;
    }

    /// Says goodbye where that is due; when to look again.
    fn consider_leaving(&mut self, now_ms: u64) -> u64 {
        let Shared { worker, active, ended_ms, .. } = &*self.shared;
        let idle_ms = worker.settings.idle_timeout.as_millis() as u64;
        let idle_until_ms = match active.get() {
            // Whatever else it sends: a connection without requests is of no use.
            0 => ended_ms.get() + idle_ms,
            _ => now_ms + idle_ms,
        };
        if !self.is_leaving && (worker.draining.get() || now_ms >= idle_until_ms) {
            self.connection.graceful_shutdown();
            self.is_leaving = true;
            // Those on their way have the time that the drain leaves them.
            self.until_ms = now_ms + worker.settings.drain_timeout.as_millis() as u64;
        }
        if self.is_leaving { self.until_ms } else { idle_until_ms }
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            loop {
                match this.connection.poll_accept(cx) {
                    Poll::Ready(Some(Ok((request, respond)))) => this.accept(request, respond),
                    Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                    Poll::Pending => break,
                }
            }
            if let Some(tripped) = this.watch.meter.tripped().filter(|_| !this.is_broken) {
                this.break_off(tripped.0);
                continue;
            }
            let [alive, quiet] = &this.alarms;
            let now_ms = quiet.now_ms();
            let is_busy = this.shared.active.get() > 0;
            if this.keepalive.poll(&this.watch, this.ping.as_mut(), is_busy, alive, cx).is_ready() {
                this.shared.worker.recorder.limit_hit("http2_client_dead");
                return Poll::Ready(());
            }
            let was_leaving = this.is_leaving;
            let due_ms = this.consider_leaving(now_ms);
            if this.is_leaving && !was_leaving {
                continue;
            }
            if this.alarms[1].is_past(due_ms, cx) {
                return Poll::Ready(());
            }
            return Poll::Pending;
        }
    }
}

/// A stream that is being served, until dropped.
struct Served(Rc<Shared>);

impl Served {
    fn begin(shared: &Rc<Shared>) -> Self {
        shared.active.set(shared.active.get() + 1);
        Self(shared.clone())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get() - 1);
        self.0.ended_ms.set(self.0.worker.clock.now_ms());
    }
}
