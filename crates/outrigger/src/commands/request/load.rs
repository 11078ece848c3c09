//! Sending many requests: so many at once, at a fixed rate or as fast as answers come.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::{JoinSet, LocalSet};

use super::RequestArgs;
use super::report::{self, Tally};
use crate::client::{Request, Server};

/// What the tasks of a load share; they run on one thread.
struct Load {
    /// Where to send: request by request, in turn.
    ways: Vec<SocketAddr>,
    request: Request,
    timeout: Duration,
    count: u32,
    rate: Option<f64>,
    start: Instant,
    /// Number of the next request.
    next: Cell<u32>,
    tally: RefCell<Tally>,
}

/// Sends everything, by `ways` in turn (at least one), or what can be sent until the user interrupts it.
pub(super) async fn send(ways: &[SocketAddr], request: Request, args: &RequestArgs) -> Tally {
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
        tally: RefCell::new(Tally::default()),
    });
    let local = LocalSet::new();
    let sending = local.run_until(async {
        let mut working = JoinSet::new();
        for _ in 0..tasks {
            working.spawn_local(load.clone().work());
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
    /// Sends requests on connections of its own until there are no more.
    async fn work(self: Rc<Self>) {
        let mut servers: Vec<Server> = self.ways.iter().map(|way| Server::new(*way)).collect();
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
