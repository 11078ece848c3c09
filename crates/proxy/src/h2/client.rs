//! Connections of HTTP/2 to endpoints: each carries many requests at once.
//!
//! A worker has its own, by endpoint. A request goes over one that has room for a stream; where none has, one more is
//! opened, and whoever needs it meanwhile waits for the same. A connection takes no new requests once the peer says GOAWAY,
//! it has served as many as `maxRequestsPerConnection` allows, it is older than `maxConnectionDuration`, or its endpoint is
//! gone; requests on it go on. Where the limits of the cluster allow no more connections, requests are in line for room.

#[path = "client_driver.rs"]
mod driver;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use http::Request;
use outrigger_model::ConnectionPool;
use tokio::sync::Notify;

use super::io::{Io, Watch};
use super::keepalive::Keepalive;
use super::meter::UPSTREAM;
use super::windows::Windows;
use crate::alarm::Clock;
use crate::choose::Choice;
use crate::connect::{self, Pending};
use crate::failure::Reason;
use crate::line::{Leave, Line, Turn};
use crate::pool::{Counted, Upstream};
use crate::proxy_protocol::Ends;
use crate::worker::{Worker, WorkerCluster};
use driver::Driver;

/// The connections of one worker, by the endpoints' numbers.
#[derive(Default)]
pub(crate) struct Connections {
    by_endpoint: RefCell<HashMap<u64, Rc<Endpoint>, foldhash::fast::RandomState>>,
}

/// Those to one endpoint.
#[derive(Default)]
struct Endpoint {
    live: RefCell<Vec<Rc<Live>>>,
    opening: RefCell<Option<Rc<Opening>>>,
    /// Where no more connections may be opened, those who wait for room on these.
    line: Rc<Line<Lease>>,
    rules: Cell<Rules>,
}

/// What the cluster says of each connection.
#[derive(Clone, Copy, Default)]
struct Rules {
    streams_max: Option<u32>,
    requests_max: Option<u32>,
}

/// One that is being opened.
#[derive(Default)]
struct Opening {
    done: Notify,
    failed: Cell<Option<Reason>>,
}

/// One connection.
struct Live {
    /// Each request is sent with a copy: one sender keeps whatever waits for a stream's turn to itself, and wakes one.
    sender: SendRequest<Bytes>,
    /// Requests on it now.
    active: Cell<usize>,
    /// Requests sent on it.
    served: Cell<u32>,
    /// So many it carries at once, as its peer said.
    streams_max: Cell<usize>,
    /// No more requests.
    is_closed: Cell<bool>,
    /// When it last had a request.
    used_ms: Cell<u64>,
    /// How long it may have none.
    idle_ms: u64,
    driver: RefCell<Option<Waker>>,
    watch: Rc<Watch>,
    /// When it is too old for another request.
    expires_ms: u64,
    endpoint: Weak<Endpoint>,
    _counted: Counted,
}

/// Room for one request on a connection; given back when dropped.
pub(crate) struct Lease {
    live: Rc<Live>,
    clock: Rc<Clock>,
    /// Which of the requests over the connection this is, from 1 on.
    pub(crate) number: u32,
}

impl Connections {
    /// Closes connections that are idle too long, or lead to endpoints that `is_known` no longer knows.
    pub(crate) fn sweep(&self, now_ms: u64, is_known: impl Fn(u64) -> bool) {
        self.by_endpoint.borrow_mut().retain(|id, endpoint| {
            let known = is_known(*id);
            endpoint.live.borrow_mut().retain(|live| {
                let is_idle = live.active.get() == 0 && live.used_ms.get() + live.idle_ms < now_ms;
                if !known || is_idle || live.expires_ms <= now_ms {
                    live.retire();
                }
                !live.is_closed.get()
            });
            // What is being opened is to be found here once it is there.
            let in_use = endpoint.opening.borrow().is_some() || endpoint.line.has_waiting();
            in_use || (known && !endpoint.live.borrow().is_empty())
        });
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_endpoint.borrow().is_empty()
    }

    fn endpoint(&self, id: u64) -> Rc<Endpoint> {
        self.by_endpoint.borrow_mut().entry(id).or_default().clone()
    }
}

impl Rules {
    fn of(pool: &ConnectionPool) -> Self {
        let requests_max = pool.requests_per_connection_max.filter(|max| *max > 0);
        Self { streams_max: pool.streams_max, requests_max }
    }
}

impl Endpoint {
    /// A connection with room.
    fn lease(&self, clock: &Rc<Clock>) -> Option<Lease> {
        let Rules { streams_max, requests_max } = self.rules.get();
        let mut all = self.live.borrow_mut();
        all.retain(|live| !live.is_over(clock.now_ms()));
        let streams_max = streams_max.map_or(usize::MAX, |max| max as usize);
        let live = all.iter().find(|live| live.active.get() < live.streams_max.get().min(streams_max))?;
        let lease = Lease::new(live, clock);
        if requests_max.is_some_and(|max| live.served.get() >= max) {
            live.retire();
        }
        Some(lease)
    }

    /// As [`Self::lease`], for one that has not waited: who is in line is not overtaken.
    fn room(&self, clock: &Rc<Clock>) -> Option<Lease> {
        if self.line.has_waiting() { None } else { self.lease(clock) }
    }

    /// Gives what room there is to those in line.
    fn serve(&self, clock: &Rc<Clock>) {
        while self.line.has_waiting() {
            let Some(lease) = self.lease(clock) else { return };
            drop(self.line.give(lease));
        }
    }

    /// Gives the room on a new connection to those in line, once its peer has said how much that is.
    fn serve_once_heard(self: &Rc<Self>, worker: &Rc<Worker>, live: Rc<Live>, limit: Duration) {
        if !self.line.has_waiting() {
            return;
        }
        let (endpoint, clock) = (self.clone(), worker.clock.clone());
        worker.spawn(async move {
            // One that says nothing takes one request.
            let _ = clock.alarm().limit(limit, live.watch.first_read()).await;
            endpoint.serve(&clock);
        });
    }

    /// A connection whose peer has not said yet how many requests it takes at once, which is the first it says.
    fn silent(&self) -> Option<Rc<Live>> {
        self.live.borrow().iter().find(|live| !live.is_closed.get() && !live.watch.has_read()).cloned()
    }
}

/// Room for a request to the chosen endpoint on a connection that is there, if one has some and nobody waits for it.
fn at_hand(worker: &Worker, choice: &Choice<'_>, cluster: Option<&WorkerCluster>) -> Option<Lease> {
    // A connection that names its client is nobody else's.
    if cluster.is_some_and(|cluster| cluster.live.model.proxy_protocol.is_some()) {
        return None;
    }
    let endpoints = worker.http2.by_endpoint.borrow();
    let endpoint = endpoints.get(&choice.state.id).filter(|endpoint| !endpoint.line.has_waiting())?;
    endpoint.rules.set(cluster.map_or_else(Rules::default, |cluster| Rules::of(&cluster.live.model.pool)));
    endpoint.lease(&worker.clock)
}

/// Room for a request to the chosen endpoint: on a connection that is there, or on one more.
pub(crate) async fn lease(
    worker: &Rc<Worker>,
    choice: &Choice<'_>,
    cluster: Option<&WorkerCluster>,
    ends: &Rc<Ends>,
) -> Result<Lease, Reason> {
    match at_hand(worker, choice, cluster) {
        Some(lease) => Ok(lease),
        // Apart: most requests need not wait for one.
        None => Box::pin(wait(worker, choice, cluster, ends)).await,
    }
}

/// As [`lease`], where none is at hand.
async fn wait(
    worker: &Rc<Worker>,
    choice: &Choice<'_>,
    cluster: Option<&WorkerCluster>,
    ends: &Rc<Ends>,
) -> Result<Lease, Reason> {
    let endpoint = worker.http2.endpoint(choice.state.id);
    endpoint.rules.set(cluster.map_or_else(Rules::default, |cluster| Rules::of(&cluster.live.model.pool)));
    // A connection that names its client is nobody else's.
    let is_private = cluster.is_some_and(|cluster| cluster.live.model.proxy_protocol.is_some());
    if !is_private && let Some(lease) = endpoint.room(&worker.clock) {
        return Ok(lease);
    }
    let _pending = cluster.map(|cluster| Pending::begin(worker, cluster)).transpose()?;
    if !is_private && let Some(lease) = room_soon(worker, choice, &endpoint).await? {
        return Ok(lease);
    }
    let leave = loop {
        let Some(cluster) = cluster else { break None };
        match connect::turn(worker, cluster, &endpoint.line, || None).await {
            Turn::Open(leave) => break Some(leave),
            Turn::Given(shared) if is_private => drop(shared),
            Turn::Given(lease) => return Ok(lease),
        }
    };
    if is_private {
        let live = open(worker, choice, cluster, ends, leave, &endpoint).await?;
        let lease = Lease::new(&live, &worker.clock);
        live.retire();
        return Ok(lease);
    }
    let opening = Guard::begin(&endpoint);
    let opened = open(worker, choice, cluster, ends, leave, &endpoint).await;
    let failed = opened.as_ref().err().copied();
    if let Ok(live) = opened {
        endpoint.live.borrow_mut().push(live.clone());
        endpoint.serve_once_heard(worker, live, choice.connect_timeout);
    }
    opening.end(failed);
    endpoint.lease(&worker.clock).ok_or(failed.unwrap_or(Reason::UpstreamClosed))
}

/// Room on a connection that is there or is being opened; `None`: one more is needed.
async fn room_soon(worker: &Worker, choice: &Choice<'_>, endpoint: &Endpoint) -> Result<Option<Lease>, Reason> {
    loop {
        if let Some(lease) = endpoint.room(&worker.clock) {
            return Ok(Some(lease));
        }
        if let Some(live) = endpoint.silent() {
            // More than it takes would be refused. One that keeps it to itself has one request.
            let alarm = worker.clock.alarm();
            if alarm.limit(choice.connect_timeout, live.watch.first_read()).await.is_ok() {
                continue;
            }
        }
        let under_way = endpoint.opening.borrow().clone();
        let Some(opening) = under_way else { return Ok(None) };
        let done = opening.done.notified();
        let mut done = pin!(done);
        // From here on it is told, even if it is over before it is waited for.
        done.as_mut().enable();
        if endpoint.opening.borrow().is_some() {
            done.await;
        }
        if let Some(reason) = opening.failed.get() {
            // One that was full may have room by now.
            return endpoint.room(&worker.clock).map(Some).ok_or(reason);
        }
    }
}

/// Ends an opening whatever happens to whoever opens.
struct Guard<'e> {
    endpoint: &'e Endpoint,
    opening: Rc<Opening>,
}

impl<'e> Guard<'e> {
    fn begin(endpoint: &'e Endpoint) -> Self {
        let opening = Rc::new(Opening::default());
        *endpoint.opening.borrow_mut() = Some(opening.clone());
        Self { endpoint, opening }
    }

    fn end(self, failed: Option<Reason>) {
        self.opening.failed.set(failed);
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        *self.endpoint.opening.borrow_mut() = None;
        self.opening.done.notify_waiters();
    }
}

/// Opens a connection. It is ready at once: what the peer has to say about it comes with the first answer.
async fn open(
    worker: &Rc<Worker>,
    choice: &Choice<'_>,
    cluster: Option<&WorkerCluster>,
    ends: &Rc<Ends>,
    leave: Option<Leave>,
    endpoint: &Rc<Endpoint>,
) -> Result<Rc<Live>, Reason> {
    let upstream = connect::open(worker, choice, cluster, Some(ends), leave).await?;
    if let Some(cluster) = cluster {
        cluster.stats.connected(&worker.recorder.shard, true);
    }
    let Upstream { stream, expires_ms, counted, .. } = *upstream;
    let (io, watch) = Io::new(stream, &worker.clock, &worker.buffers, &UPSTREAM, Duration::ZERO);
    let settings = &worker.settings;
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(settings.h2_upstream_stream_window)
        .initial_connection_window_size(settings.h2_upstream_connection_window)
        .max_header_list_size(settings.head_bytes_max as u32)
        .max_send_buffer_size(settings.h2_send_buffer_max)
        .max_concurrent_reset_streams(100)
        .reset_stream_duration(Duration::from_secs(10))
        .data_frame_budget(settings.h2_small_data_max)
        // Until the peer says how many it takes.
        .initial_max_send_streams(settings.h2_streams_max as usize);
    let (sender, mut connection) = builder.handshake(io).await.map_err(|_| Reason::UpstreamClosed)?;
    let keepalive = cluster.and_then(|c| c.live.model.pool.http2_keepalive);
    let keepalive = match keepalive {
        Some(configured) => Keepalive::new(configured.interval, configured.timeout, settings.write_stall_timeout),
        None => {
            Keepalive::new(settings.h2_ping_interval, settings.h2_ping_timeout, settings.write_stall_timeout).sparing()
        }
    };
    let idle = cluster.and_then(|c| c.live.model.pool.idle_timeout).filter(|idle| !idle.is_zero());
    let idle = idle.unwrap_or(settings.h2_pool_idle_timeout);
    let live = Rc::new(Live {
        sender,
        active: Cell::new(0),
        served: Cell::new(0),
        // Until the peer has said how many it takes, which is the first it says.
        streams_max: Cell::new(1),
        is_closed: Cell::new(false),
        used_ms: Cell::new(worker.clock.now_ms()),
        idle_ms: idle.as_millis() as u64,
        driver: RefCell::new(None),
        watch: watch.clone(),
        expires_ms,
        endpoint: Rc::downgrade(endpoint),
        _counted: counted,
    });
    let ping = connection.ping_pong();
    let alarm = worker.clock.alarm();
    let windows =
        Windows { of_stream: settings.h2_upstream_stream_window, now: settings.h2_upstream_connection_window };
    let driver = Driver { connection, live: live.clone(), watch, ping, keepalive, alarm, windows };
    let name = cluster.map(|c| c.live.model.name.to_string());
    let of = worker.clone();
    worker.spawn(async move {
        if let Err(ended) = driver.await {
            ended.tell(&of, name.as_deref());
        }
    });
    Ok(live)
}

impl Live {
    /// Whether it takes no more requests: it was retired, or is too old, or the peer has said GOAWAY, or it broke.
    fn is_over(&self, now_ms: u64) -> bool {
        if !self.is_closed.get() && self.expires_ms <= now_ms {
            self.retire();
        }
        self.is_closed.get()
    }

    /// Takes note of what the peer has said since the last time: how many requests it takes at once, or GOAWAY. It is heard
    /// when its bytes are read, so that no request needs to ask.
    fn listen(&self) {
        if self.watch.has_read() {
            self.streams_max.set(self.sender.current_max_send_streams());
        }
        // A sender that has sent nothing is ready, or never will be.
        let state = self.sender.clone().poll_ready(&mut Context::from_waker(Waker::noop()));
        if matches!(state, Poll::Ready(Err(_))) {
            self.is_closed.set(true);
        }
    }

    /// Takes no more requests; those on it go on.
    fn retire(&self) {
        self.is_closed.set(true);
        self.wake();
    }

    fn wake(&self) {
        if let Some(driver) = &*self.driver.borrow() {
            driver.wake_by_ref();
        }
    }
}

impl Lease {
    fn new(live: &Rc<Live>, clock: &Rc<Clock>) -> Self {
        live.active.set(live.active.get() + 1);
        let number = live.served.get().saturating_add(1);
        live.served.set(number);
        Self { live: live.clone(), clock: clock.clone(), number }
    }

    /// Whether the endpoint takes WebSockets over HTTP/2 (RFC 8441). It says so in the first frame it sends.
    pub(crate) async fn takes_websockets(&self, limit: Duration) -> bool {
        // One that says nothing takes none.
        let _ = self.clock.alarm().limit(limit, self.live.watch.first_read()).await;
        self.live.sender.is_extended_connect_protocol_enabled()
    }

    /// Sends a request.
    pub(crate) fn send(
        &self,
        request: Request<()>,
        end: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        self.live.sender.clone().send_request(request, end)
    }

    /// Whether other requests went over the connection, before or since.
    pub(crate) fn has_company(&self) -> bool {
        self.live.served.get() > 1
    }

    /// The peer takes no more requests on this connection.
    pub(crate) fn retire(&self) {
        self.live.retire();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.live.active.set(self.live.active.get() - 1);
        self.live.used_ms.set(self.clock.now_ms());
        if self.live.is_closed.get() {
            self.live.wake();
        }
        if let Some(endpoint) = self.live.endpoint.upgrade() {
            endpoint.serve(&self.clock);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_is_gone_is_remembered_while_a_connection_to_it_is_opened() {
        let connections = Connections::default();
        let endpoint = connections.endpoint(7);
        let opening = Guard::begin(&endpoint);
        connections.sweep(0, |_| false);
        // Else nobody would ever close what is being opened.
        assert!(Rc::ptr_eq(&endpoint, &connections.endpoint(7)));
        drop(opening);
        connections.sweep(0, |_| false);
        assert!(connections.is_empty());
    }
}
