//! `GET /hystrix.stream`: what a Hystrix dashboard or Turbine reads, as server-sent events.
//!
//! One event for each circuit every 500 ms, or as `?delay=` says; `ping:` where there is none. Each stream asks for itself, on
//! the control thread; a reader that does not keep up gets fewer rounds, never old ones.

use std::fmt::Write;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use futures_core::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Interval, MissedTickBehavior};

use super::Busy;
use super::admin::AdminState;
use super::query::Query;
use super::reply::{reply, sentence};

/// Streams at once: Hystrix's `hystrix.config.stream.maxConcurrentConnections`.
const STREAMS_MAX: usize = 5;
/// Hystrix's interval, and how short and long it may be made.
const DELAY: Duration = Duration::from_millis(500);
const DELAY_MIN: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(60);

/// What streams are made of.
#[derive(Clone)]
pub(super) struct Streams {
    state: Arc<dyn AdminState>,
    places: Arc<Semaphore>,
}

impl Streams {
    pub(super) fn new(state: Arc<dyn AdminState>) -> Self {
        Self { state, places: Arc::new(Semaphore::new(STREAMS_MAX)) }
    }
}

pub(super) async fn stream(State(streams): State<Streams>, query: Query, request: Parts) -> Response {
    let delay = match query.get("delay").map(str::parse::<u64>) {
        None => DELAY,
        Some(Ok(ms)) => Duration::from_millis(ms).clamp(DELAY_MIN, DELAY_MAX),
        Some(Err(_)) => return sentence(StatusCode::BAD_REQUEST, "delay must be a number of milliseconds"),
    };
    let proxy = query.get("proxy").map(str::to_owned);
    if let Err(refusal) = streams.state.hystrix(proxy.as_deref()) {
        return refusal.response();
    }
    let Ok(permit) = streams.places.clone().try_acquire_owned() else {
        let text = format!("{STREAMS_MAX} streams are open already; close one");
        return sentence(StatusCode::SERVICE_UNAVAILABLE, &text);
    };
    let mut ticks = tokio::time::interval(delay);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let busy = request.extensions.get::<Busy>().cloned();
    let rounds = Rounds { ticks, state: streams.state, proxy, _permit: permit, _busy: busy };
    reply(StatusCode::OK, "text/event-stream;charset=UTF-8", Body::from_stream(rounds))
}

/// The events of one stream.
struct Rounds {
    ticks: Interval,
    state: Arc<dyn AdminState>,
    proxy: Option<String>,
    _permit: OwnedSemaphorePermit,
    /// Keeps its connection from being closed as idle.
    _busy: Option<Busy>,
}

impl Stream for Rounds {
    type Item = Result<Bytes, io::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        ready!(this.ticks.poll_tick(cx));
        // The proxy that was asked for is gone: so is its stream.
        let Ok(commands) = this.state.hystrix(this.proxy.as_deref()) else { return Poll::Ready(None) };
        let mut round = String::new();
        for command in &commands {
            write!(round, "data: {command}\n\n").expect("a String takes every write");
        }
        if commands.is_empty() {
            round.push_str("ping: \n\n");
        }
        Poll::Ready(Some(Ok(round.into())))
    }
}
