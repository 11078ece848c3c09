//! One worker of one proxy on its thread: accepting, policy changes, drain.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};

use crate::capture::canonical;
use crate::h2;
use crate::overload::Level;
use crate::policy::Policy;
use crate::serve;
use crate::shared::Shared;
use crate::threads::Bench;
use crate::worker::Worker;

/// What the control thread tells the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Serve.
    Serving,
    /// Finish what is there; still accept.
    Draining,
    /// As before, and accept no more.
    Closing,
    /// Stop now.
    Stopped,
}

/// What a worker is asked to do.
pub(crate) enum Order {
    /// Accept on this socket, too, for the listener of this name.
    Listen(Arc<str>, StdListener),
    /// Accept no more for the listener of this name.
    Close(Arc<str>),
    /// Serve a connection that another worker accepted.
    Serve(Accepted),
}

/// A connection that one worker accepted for another.
pub(crate) struct Accepted {
    socket: StdStream,
    peer: SocketAddr,
    listener: Arc<str>,
    counted: Counted,
}

/// A worker to be hosted, and its ends of the channels.
pub(crate) struct Hosting {
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) seed: u64,
    pub(crate) policy: watch::Receiver<Arc<Policy>>,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) orders: mpsc::UnboundedReceiver<Order>,
    /// Ways to hand connections to others.
    pub(crate) peers: Vec<mpsc::UnboundedSender<Order>>,
    /// Closed when the worker has ended.
    pub(crate) alive: mpsc::Sender<()>,
}

/// The sockets of a worker's listeners: dropping a sender closes one.
type Open = HashMap<Arc<str>, Vec<oneshot::Sender<()>>>;

/// Runs one worker until its proxy stops.
pub(crate) async fn host(hosting: Hosting, bench: Bench) {
    let Hosting { index, shared, seed, mut policy, mut phase, mut orders, peers, alive } = hosting;
    let first = policy.borrow_and_update().clone();
    let worker = Rc::new(Worker::new(index, shared, first, seed, &bench));
    bench.seat(&worker);
    let peers: Rc<[_]> = peers.into();
    let mut open = Open::new();
    loop {
        tokio::select! {
            Some(order) = orders.recv() => match order {
                Order::Listen(name, socket) => listen(&worker, name, socket, &peers, &mut open),
                Order::Close(name) => drop(open.remove(&name)),
                Order::Serve(accepted) => serve_accepted(&worker, accepted),
            },
            changed = policy.changed() => match changed {
                Ok(()) => {
                    let policy = policy.borrow_and_update().clone();
                    worker.obey(policy);
                }
                Err(_) => break,
            },
            changed = phase.changed() => {
                let phase = if changed.is_ok() { *phase.borrow_and_update() } else { Phase::Stopped };
                match phase {
                    Phase::Serving => {}
                    Phase::Draining => worker.drain(),
                    Phase::Closing => {
                        worker.drain();
                        open.clear();
                    }
                    Phase::Stopped => break,
                }
            }
        }
    }
    worker.end().await;
    drop(alive);
}

fn listen(
    worker: &Rc<Worker>,
    name: Arc<str>,
    socket: StdListener,
    peers: &Rc<[mpsc::UnboundedSender<Order>]>,
    open: &mut Open,
) {
    // Counted by whoever gave the order, so that a drain right after it waits for this listener too.
    let accepting = Accepting(worker.shared.clone());
    match TcpListener::from_std(socket) {
        Ok(listener) => {
            let (close, closed) = oneshot::channel();
            open.entry(name.clone()).or_default().push(close);
            let acceptor = Acceptor { worker: worker.clone(), name, peers: peers.clone() };
            worker.spawn(async move {
                acceptor.run(listener, closed).await;
                drop(accepting);
            });
        }
        Err(error) => tracing::error!(listener = %name, %error, "cannot accept on the socket"),
    }
}

/// Accepts for one listener.
struct Acceptor {
    worker: Rc<Worker>,
    name: Arc<str>,
    peers: Rc<[mpsc::UnboundedSender<Order>]>,
}

impl Acceptor {
    /// Accepts until `closed`; then what the system has accepted for us already, because connections that wait in its
    /// queue would be reset.
    async fn run(self, listener: TcpListener, mut closed: oneshot::Receiver<()>) {
        loop {
            tokio::select! {
                accepted = listener.accept() => self.accept(accepted).await,
                _ = &mut closed => break,
            }
        }
        while let Some(waiting) = std::future::poll_fn(|cx| {
            Poll::Ready(match listener.poll_accept(cx) {
                Poll::Ready(accepted) => Some(accepted),
                Poll::Pending => None,
            })
        })
        .await
        {
            let failed = waiting.is_err();
            self.accept(waiting).await;
            if failed {
                break;
            }
        }
    }

    async fn accept(&self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        let worker = &self.worker;
        let (socket, peer) = match accepted {
            Ok((socket, peer)) => (socket, canonical(peer)),
            Err(error) => {
                // Out of descriptors or memory: the connection stays in the backlog. Trying again at once would spin.
                worker.recorder.limit_hit("accept");
                if worker.may_complain() {
                    tracing::warn!(%error, "cannot accept; told once a second at most");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                return;
            }
        };
        worker.shared.arrived();
        if worker.overload.get() == Level::Refuse {
            worker.recorder.limit_hit("memory_connections");
            return;
        }
        let lightest = worker.shared.lightest(worker.index);
        // Counted before it is handed over, so that two acceptors do not both choose the same worker and no drain ends
        // while it is on its way.
        let counted = Counted::new(worker.shared.clone(), lightest);
        if lightest == worker.index {
            return serve_connection(worker, socket, peer, self.name.clone(), counted);
        }
        let sent = socket.into_std().map(|socket| {
            let accepted = Accepted { socket, peer, listener: self.name.clone(), counted };
            self.peers[lightest].send(Order::Serve(accepted)).is_ok()
        });
        if !sent.unwrap_or(false) {
            tracing::warn!("a connection could not be handed over");
        }
    }
}

/// Rest after an accept that failed for want of resources.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

fn serve_accepted(worker: &Rc<Worker>, accepted: Accepted) {
    let Accepted { socket, peer, listener, counted } = accepted;
    match TcpStream::from_std(socket) {
        Ok(socket) => serve_connection(worker, socket, peer, listener, counted),
        Err(error) => tracing::warn!(%error, "a connection handed over cannot be used"),
    }
}

fn serve_connection(worker: &Rc<Worker>, socket: TcpStream, peer: SocketAddr, listener: Arc<str>, counted: Counted) {
    // Counted already, and so are those whose task has not run yet.
    if worker.shared.load(worker.index).load(Ordering::Relaxed) > worker.settings.connections_max {
        worker.recorder.limit_hit("connections");
        return;
    }
    let served_by = worker.clone();
    worker.spawn(async move {
        // Made in here: a future that is moved in takes its room twice, once as what was moved and once as what runs.
        if let Some(start) = serve::connection(served_by.clone(), socket, peer, listener).await {
            let worker = served_by.clone();
            return served_by.spawn(async move {
                h2::server::serve(worker, start).await;
                drop(counted);
            });
        }
        drop(counted);
    });
}

/// A listener that accepts, until dropped.
struct Accepting(Arc<Shared>);

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.stopped_accepting();
    }
}

/// A connection in its worker's load, until dropped; also when its task panics.
pub(crate) struct Counted {
    shared: Arc<Shared>,
    worker: usize,
}

impl Counted {
    fn new(shared: Arc<Shared>, worker: usize) -> Self {
        shared.load(worker).fetch_add(1, Ordering::Relaxed);
        Self { shared, worker }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.shared.load(self.worker).fetch_sub(1, Ordering::Relaxed);
    }
}
