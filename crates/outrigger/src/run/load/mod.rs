//! `--load`: a steady load over every route, so that metrics and pages have something to show.
//!
//! Runs on a thread of its own. [`plan`] says what to send; requests go out by the clock, route by route in turn, and one
//! that finds too many under way is left out rather than sent late. Answers are read and counted, nothing else.

mod plan;
mod sample;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::LocalSet;

use crate::client::Server;
use plan::{Aim, aims};
pub(super) use plan::{View, example};

/// Requests under way at once.
const UNDER_WAY_MAX: usize = 64;
/// Kept connections to one address.
const KEPT_MAX: usize = 4;
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Further behind than this it goes on from now instead of catching up: a machine that slept sends no burst.
const BEHIND_MAX: Duration = Duration::from_secs(1);

/// A load that runs. It ends when dropped.
pub(super) struct Load {
    aims: watch::Sender<Arc<[Aim]>>,
    counts: Arc<Counts>,
    known: HashSet<String>,
    thread: Option<JoinHandle<()>>,
}

/// What became of the requests.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Requests a second that were asked for.
    rate: f64,
    /// Routes that get some.
    routes: AtomicUsize,
    sent: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    left_out: AtomicU64,
}

impl Load {
    /// Begins, with nothing to send yet.
    pub(super) fn start(rate: f64) -> io::Result<Self> {
        let (aims, wire) = watch::channel(Arc::from([]));
        let counts = Arc::new(Counts { rate, ..Counts::default() });
        let counted = counts.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("load".to_owned()).spawn(move || {
            let sender = Rc::new(Sender { counts: counted, ..Sender::default() });
            LocalSet::new().block_on(&runtime, sender.run(rate, wire));
        })?;
        Ok(Self { aims, counts, known: HashSet::new(), thread: Some(thread) })
    }

    /// Sends what these views route from now on. What cannot be sent is told once.
    pub(super) fn follow(&mut self, views: &[View]) {
        let (aims, left_out) = aims(views);
        for why in left_out {
            if self.known.len() < TOLD_MAX && self.known.insert(why.clone()) {
                tracing::info!("no load for {why}");
            }
        }
        self.counts.routes.store(aims.len(), Relaxed);
        self.aims.send_replace(aims.into());
    }

    /// What it has done so far.
    pub(super) fn counts(&self) -> Arc<Counts> {
        self.counts.clone()
    }
}

impl Counts {
    /// For the admin interface.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "rate": self.rate,
            "routes": self.routes.load(Relaxed),
            "sent": self.sent.load(Relaxed),
            "answered": self.answered.load(Relaxed),
            "failed": self.failed.load(Relaxed),
            "left_out": self.left_out.load(Relaxed),
        })
    }
}

/// Routes whose lack of load is told; after so many, configuration that changes all day says no more.
const TOLD_MAX: usize = 10_000;

impl Drop for Load {
    fn drop(&mut self) {
        // Without a sender of aims the loop ends.
        self.aims = watch::channel(Arc::from([])).0;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// What the tasks of the thread share.
#[derive(Default)]
struct Sender {
    counts: Arc<Counts>,
    under_way: Cell<usize>,
    kept: RefCell<HashMap<SocketAddr, Vec<Server>>>,
}

impl Sender {
    /// Sends at the rate until nobody says what to send any more.
    async fn run(self: Rc<Self>, rate: f64, mut wire: watch::Receiver<Arc<[Aim]>>) {
        let interval = Duration::from_secs_f64(1.0 / rate);
        let mut aims = wire.borrow_and_update().clone();
        let mut due = Instant::now();
        let mut number = 0;
        loop {
            tokio::select! {
                biased;
                changed = wire.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    aims = wire.borrow_and_update().clone();
                    self.forget(&aims);
                    continue;
                }
                () = tokio::time::sleep_until(due.into()) => {}
            }
            due = (due + interval).max(Instant::now().checked_sub(BEHIND_MAX).unwrap_or(due));
            if aims.is_empty() {
                continue;
            }
            self.send(&aims, number);
            number += 1;
        }
    }

    /// Sends one request of the aim whose turn it is, by the way whose turn it is.
    fn send(self: &Rc<Self>, aims: &Arc<[Aim]>, number: usize) {
        if self.under_way.get() >= UNDER_WAY_MAX {
            self.counts.left_out.fetch_add(1, Relaxed);
            return;
        }
        let (at, round) = (number % aims.len(), number / aims.len());
        let way = aims[at].ways[round % aims[at].ways.len()];
        self.under_way.set(self.under_way.get() + 1);
        self.counts.sent.fetch_add(1, Relaxed);
        let (this, aims) = (self.clone(), aims.clone());
        tokio::task::spawn_local(async move {
            let mut server = this.kept.borrow_mut().get_mut(&way).and_then(Vec::pop);
            let server = server.get_or_insert_with(|| Server::new(way));
            let outcome = tokio::time::timeout(TIMEOUT, server.exchange(&aims[at].request)).await;
            this.under_way.set(this.under_way.get() - 1);
            match outcome {
                Ok(Ok(_)) => {
                    this.counts.answered.fetch_add(1, Relaxed);
                    this.keep(std::mem::replace(server, Server::new(way)));
                }
                Ok(Err(error)) => {
                    this.counts.failed.fetch_add(1, Relaxed);
                    tracing::debug!(%way, route = aims[at].name, %error, "a request of the load failed");
                }
                Err(_) => {
                    this.counts.failed.fetch_add(1, Relaxed);
                    tracing::debug!(%way, route = aims[at].name, "a request of the load got no answer in {TIMEOUT:?}");
                }
            }
        });
    }

    fn keep(&self, server: Server) {
        let mut kept = self.kept.borrow_mut();
        let servers = kept.entry(server.address).or_default();
        if servers.len() < KEPT_MAX {
            servers.push(server);
        }
    }

    /// Closes connections to where nothing goes any more.
    fn forget(&self, aims: &[Aim]) {
        let ways: HashSet<&SocketAddr> = aims.iter().flat_map(|aim| &aim.ways).collect();
        self.kept.borrow_mut().retain(|address, _| ways.contains(address));
    }
}
