//! Sending many requests: so many at once, at a fixed rate or as fast as answers come.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::{JoinSet, LocalSet};

use super::RequestArgs;
use super::build::Outgoing;
use super::report::{self, Tally};
use crate::client::{self, Answer, ClientError, http2};

/// What the tasks of a load share; they run on one thread.
struct Load {
    /// Where to send: request by request, in turn.
    ways: Vec<SocketAddr>,
    request: Outgoing,
    timeout: Duration,
    count: u32,
    rate: Option<f64>,
    start: Instant,
    /// Number of the next request.
    next: Cell<u32>,
    tally: RefCell<Tally>,
}

/// A server as a task sees it.
enum Server {
    /// With a connection of its own.
    Http1(client::Server),
    /// With a connection that it shares.
    Http2(Rc<http2::Server>),
}

impl Server {
    async fn exchange(&mut self, request: &Outgoing) -> Result<Answer, ClientError> {
        match (self, request) {
            (Self::Http1(server), Outgoing::Http1(request)) => server.exchange(request).await,
            (Self::Http2(server), Outgoing::Http2(request)) => server.exchange(request).await,
            (Self::Http1(_), Outgoing::Http2(_)) | (Self::Http2(_), Outgoing::Http1(_)) => {
                unreachable!("servers are made for the request")
            }
        }
    }
}

/// Sends everything, by `ways` in turn (at least one), or what can be sent until the user interrupts it; counts in `tally`.
pub(super) async fn send(ways: &[SocketAddr], request: Outgoing, args: &RequestArgs, tally: Tally) -> Tally {
    let default = if args.rate.is_some() { 64 } else { 1 };
    let tasks = u32::from(args.concurrency.unwrap_or(default)).min(args.count);
    let load = Rc::new(Load {
        ways: ways.to_vec(),
        request,
        timeout: args.timeout,
        count: args.count,
        rate: args.rate,
        start: Instant::now(),
        next: Cell::new(0),
        tally: RefCell::new(tally),
    });
    let local = LocalSet::new();
    let sending = local.run_until(async {
        let mut working = JoinSet::new();
        let mut shared = Vec::new();
        for number in 0..tasks as usize {
            if number % http2::STREAMS_MAX == 0 {
                shared = ways.iter().map(|way| Rc::new(http2::Server::new(*way))).collect();
            }
            working.spawn_local(load.clone().work(load.servers(&shared)));
        }
        while working.join_next().await.is_some() {}
    });
    tokio::select! {
        () = sending => {}
        _ = tokio::signal::ctrl_c() => tracing::warn!("interrupted; this is what came so far"),
        () = report::show_progress(&load.tally, args.count) => {}
    }
    load.tally.take()
}

impl Load {
    /// The servers of one task, by way.
    fn servers(&self, shared: &[Rc<http2::Server>]) -> Vec<Server> {
        match self.request {
            Outgoing::Http1(_) => self.ways.iter().map(|way| Server::Http1(client::Server::new(*way))).collect(),
            Outgoing::Http2(_) => shared.iter().cloned().map(Server::Http2).collect(),
        }
    }

    /// Sends requests until there are no more.
    async fn work(self: Rc<Self>, mut servers: Vec<Server>) {
        let ways = servers.len();
        loop {
            let number = self.next.get();
            if number >= self.count {
                return;
            }
            self.next.set(number + 1);
            let due = match self.rate {
                Some(rate) => self.start + Duration::from_secs_f64(f64::from(number) / rate),
                None => Instant::now(),
            };
            tokio::time::sleep_until(due.into()).await;
            let server = &mut servers[number as usize % ways];
            let outcome = match tokio::time::timeout(self.timeout, server.exchange(&self.request)).await {
                Ok(outcome) => outcome.map_err(|error| error.to_string()),
                Err(_) => Err(format!("no answer in {:?}", self.timeout)),
            };
            self.tally.borrow_mut().add(due.elapsed(), outcome);
        }
    }
}
