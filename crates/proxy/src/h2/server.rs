//! Connections of clients that speak HTTP/2.
//!
//! A connection's task serves its streams (`crowd`), moves its bytes, judges the client by its frames, asks whether it is still there, and says
//! goodbye: a drain tells it to send no more requests (GOAWAY, the last one known a round trip later), finishes those that
//! came, and closes.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection};
use h2::{PingPong, Reason};

use super::crowd::{Crowd, Desk, Spare};
use super::io::{Io, Watch};
use super::keepalive::Keepalive;
use super::meter::DOWNSTREAM;
use super::stream::Begun;
use crate::alarm::Alarm;
use crate::h1::stream::Stream;
use crate::plan::Client;
use crate::record::HeldGauge;
use crate::worker::Worker;

/// A request and what the streams of its connection share.
pub(crate) struct Job {
    shared: Rc<Shared>,
    begun: Begun,
}

/// Those who serve streams and have none.
pub(crate) type SpareServers = Spare<Job>;

/// What the streams of a connection share.
struct Shared {
    worker: Rc<Worker>,
    who: Client,
}

/// A connection and what ends it.
struct Driver {
    shared: Rc<Shared>,
    /// None once it is closed; its streams learn of that, and come to their ends.
    connection: Option<Connection<Io, Bytes>>,
    streams: Crowd<Job>,
    /// When the last of the streams ended.
    ended_ms: u64,
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
/// How long memory is kept for the next streams of a connection that has none.
const KEPT: Duration = Duration::from_secs(1);

/// A connection that turned out to speak HTTP/2; its preface is unread.
pub(crate) struct Start {
    pub(crate) stream: Stream,
    pub(crate) who: Client,
    /// Counts it among those that carry HTTP.
    pub(crate) counted: HeldGauge,
}

/// Serves a connection.
pub(crate) async fn serve(worker: Rc<Worker>, start: Start) {
    let Start { stream, who, counted: _counted } = start;
    let (io, watch) = Io::new(stream, &worker.clock, &worker.buffers, &DOWNSTREAM, worker.settings.linger_timeout);
    let alarm = worker.clock.alarm();
    let handshake = builder(&worker).handshake(io);
    // Apart: it is over soon, and a connection may be idle for long.
    let shaken = Box::pin(alarm.limit(worker.settings.head_timeout, handshake)).await;
    let Ok(Ok(connection)) = shaken else { return };
    drive(worker, who, connection, watch, alarm).await;
}

/// What is asked of clients, and how much is kept for them.
fn builder(worker: &Worker) -> Builder {
    let settings = &worker.settings;
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
    builder
}

/// What serves a connection once it is agreed on.
fn drive(
    worker: Rc<Worker>,
    who: Client,
    mut connection: Connection<Io, Bytes>,
    watch: Rc<Watch>,
    alarm: Rc<Alarm>,
) -> impl Future<Output = ()> {
    let settings = worker.settings;
    let ping = connection.ping_pong();
    let quiet = worker.clock.alarm();
    quiet.heeds_drain();
    Box::new(Driver {
        ended_ms: worker.clock.now_ms(),
        shared: Rc::new(Shared { worker, who }),
        connection: Some(connection),
        streams: Crowd::new(),
        watch,
        ping,
        keepalive: Keepalive::new(settings.h2_ping_interval, settings.h2_ping_timeout, settings.write_stall_timeout),
        alarms: [alarm, quiet],
        is_leaving: false,
        is_broken: false,
        until_ms: u64::MAX,
    })
}

/// Serves streams, one after another.
async fn serve_streams(desk: Rc<Desk<Job>>) {
    loop {
        let Job { shared, mut begun } = desk.next().await;
        begun.serve(&shared.worker, &shared.who).await;
    }
}

impl Driver {
    /// Ends a connection whose client asks for it.
    fn break_off(&mut self, limit: &'static str) {
        let worker = &self.shared.worker;
        worker.recorder.limit_hit(limit);
        if worker.may_complain() {
            let (client, listener) = (self.shared.who.address, &self.shared.who.listener);
            tracing::info!(%client, %listener, limit, "a connection of HTTP/2 is closed; told once a second at most");
        }
        if let Some(connection) = &mut self.connection {
            connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        }
        self.is_leaving = true;
        self.is_broken = true;
        self.until_ms = worker.clock.now_ms() + PARTING.as_millis() as u64;
    }

    /// Moves bytes both ways, takes in what has come, and serves it. False when the connection is closed.
    fn turn(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        loop {
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    let Shared { worker, who } = &*self.shared;
                    let begun = Begun::new(worker, request, respond, who);
                    let job = Job { shared: self.shared.clone(), begun };
                    self.streams.push(job, &worker.spare_servers, serve_streams);
                }
                Poll::Ready(Some(Err(_)) | None) => return false,
                // What the streams had to say leaves with the next look at the connection.
                Poll::Pending if self.streams.poll(&self.shared.worker.spare_servers, cx) => {
                    self.ended_ms = self.shared.worker.clock.now_ms();
                }
                Poll::Pending => return true,
            }
        }
    }

    /// Lets the streams of a closed connection come to their ends, which is soon, so that they are counted.
    fn wind_up(&mut self, cx: &Context<'_>) -> Poll<()> {
        // Dropped, it tells them.
        self.connection = None;
        while self.streams.poll(&self.shared.worker.spare_servers, cx) {}
        if self.streams.len() == 0 { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Says goodbye where that is due; when to look again.
    fn consider_leaving(&mut self, now_ms: u64) -> u64 {
        let worker = &self.shared.worker;
        let idle_ms = worker.settings.idle_timeout.as_millis() as u64;
        let is_idle = self.streams.len() == 0;
        // Whatever else it sends: a connection without requests is of no use.
        let quiet_since_ms = if is_idle { self.ended_ms } else { now_ms };
        let mut due_ms = quiet_since_ms + idle_ms;
        if !self.is_leaving
            && (worker.draining.get() || now_ms >= due_ms)
            && let Some(connection) = &mut self.connection
        {
            connection.graceful_shutdown();
            self.is_leaving = true;
            // Those on their way have the time that the drain leaves them; what is short of memory only waits for them.
            if worker.drains() {
                self.until_ms = now_ms + worker.settings.drain_timeout.as_millis() as u64;
            }
        }
        if self.is_leaving {
            due_ms = self.until_ms;
        }
        if is_idle && self.streams.keeps() {
            let kept_until_ms = quiet_since_ms + KEPT.as_millis() as u64;
            if now_ms < kept_until_ms {
                return due_ms.min(kept_until_ms);
            }
            self.streams.shrink();
        }
        due_ms
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            if !this.turn(cx) {
                return this.wind_up(cx);
            }
            if let Some(tripped) = this.watch.meter.tripped().filter(|_| !this.is_broken) {
                this.break_off(tripped.0);
                continue;
            }
            let [alive, quiet] = &this.alarms;
            let quiet = quiet.clone();
            let is_busy = this.streams.len() > 0;
            if this.keepalive.poll(&this.watch, this.ping.as_mut(), is_busy, alive, cx).is_ready() {
                this.shared.worker.recorder.limit_hit("http2_client_dead");
                return this.wind_up(cx);
            }
            let was_leaving = this.is_leaving;
            let due_ms = this.consider_leaving(quiet.now_ms());
            if this.is_leaving && !was_leaving {
                continue;
            }
            if !quiet.is_past(due_ms, cx) {
                return Poll::Pending;
            }
            if this.is_leaving && quiet.now_ms() >= this.until_ms {
                return this.wind_up(cx);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of the future that a function makes, without making one.
    fn size<A, F: Future>(_: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_stream_is_small() {
        // There is one for each request that is served at a time, and some are kept.
        let bytes = size(serve_streams);
        assert!(bytes <= 7 * 1024, "the future of a stream has grown to {bytes} bytes");
    }

    #[test]
    fn a_request_is_small() {
        // It is moved to its place.
        let bytes = size_of::<Begun>();
        assert!(bytes <= 1024, "a request has grown to {bytes} bytes");
    }

    #[test]
    fn a_connection_is_small() {
        // What an idle connection costs besides the buffers of `h2`.
        let bytes = size(|(worker, start)| serve(worker, start)) + size_of::<Connection<Io, Bytes>>();
        assert!(bytes <= 4 * 1024, "the future of a connection has grown to {bytes} bytes");
    }
}
