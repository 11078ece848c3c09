//! The threads of the workers: event loops, accepting, policy changes, drain.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::thread::JoinHandle;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};

use crate::alarm::Clock;
use crate::policy::Policy;
use crate::serve;
use crate::shared::Shared;
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

/// A connection that one worker accepted for another.
pub(crate) type HandedOver = (StdStream, SocketAddr, Counted);

/// A worker's ends of the channels.
pub(crate) struct Wires {
    pub(crate) policy: watch::Receiver<Arc<Policy>>,
    pub(crate) phase: watch::Receiver<Phase>,
    /// Connections that another worker accepted for this one.
    pub(crate) handed: mpsc::UnboundedReceiver<HandedOver>,
    /// Ways to hand connections to others.
    pub(crate) peers: Vec<mpsc::UnboundedSender<HandedOver>>,
}

/// Starts the thread of one worker.
pub(crate) fn spawn(
    index: usize,
    shared: Arc<Shared>,
    listener: StdListener,
    wires: Wires,
    seed: u64,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        let result = runtime.and_then(|runtime| runtime.block_on(run(index, shared, listener, wires, seed)));
        if let Err(error) = result {
            tracing::error!(worker = index, %error, "worker cannot run");
        }
    })
}

async fn run(index: usize, shared: Arc<Shared>, listener: StdListener, wires: Wires, seed: u64) -> io::Result<()> {
    let Wires { mut policy, mut phase, mut handed, peers } = wires;
    let first = policy.borrow_and_update().clone();
    let worker = Rc::new(Worker::new(index, shared, first, seed));
    let mut listener = Some(TcpListener::from_std(listener)?);
    let mut tick = tokio::time::interval(Clock::TICK);
    let mut ticks: u32 = 0;
    loop {
        tokio::select! {
            accepted = next(listener.as_ref()) => accept(&worker, accepted, &peers).await,
            Some((socket, peer, counted)) = handed.recv() => match TcpStream::from_std(socket) {
                Ok(socket) => serve_connection(&worker, socket, peer, counted),
                Err(error) => tracing::warn!(%error, "a connection handed over cannot be used"),
            },
            Ok(()) = policy.changed() => {
                let policy = policy.borrow_and_update().clone();
                worker.obey(policy);
            }
            Ok(()) = phase.changed() => match *phase.borrow_and_update() {
                Phase::Serving => {}
                Phase::Draining => worker.drain(),
                Phase::Closing => {
                    worker.drain();
                    close(&worker, listener.take(), &peers).await;
                }
                Phase::Stopped => return Ok(()),
            },
            _ = tick.tick() => {
                worker.clock.tick();
                ticks = ticks.wrapping_add(1);
                if ticks.is_multiple_of(10) {
                    worker.sweep_pool();
                }
            }
        }
    }
}

/// The next connection; never without a listener.
async fn next(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// Accepts what the system has accepted for us already, then closes the listener: connections that wait in its queue
/// would be reset.
async fn close(worker: &Rc<Worker>, listener: Option<TcpListener>, peers: &[mpsc::UnboundedSender<HandedOver>]) {
    let Some(listener) = listener else { return };
    while let Some(waiting) = std::future::poll_fn(|cx| {
        Poll::Ready(match listener.poll_accept(cx) {
            Poll::Ready(accepted) => Some(accepted),
            Poll::Pending => None,
        })
    })
    .await
    {
        let failed = waiting.is_err();
        accept(worker, waiting, peers).await;
        if failed {
            break;
        }
    }
    drop(listener);
    worker.shared.stopped_accepting();
}

async fn accept(
    worker: &Rc<Worker>,
    accepted: io::Result<(TcpStream, SocketAddr)>,
    peers: &[mpsc::UnboundedSender<HandedOver>],
) {
    let (socket, peer) = match accepted {
        Ok(accepted) => accepted,
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
    let lightest = worker.shared.lightest(worker.index);
    // Counted before it is handed over, so that two acceptors do not both choose the same worker and no drain ends while
    // it is on its way.
    let counted = Counted::new(worker.shared.clone(), lightest);
    if lightest == worker.index {
        return serve_connection(worker, socket, peer, counted);
    }
    let sent = socket.into_std().map(|socket| peers[lightest].send((socket, peer, counted)).is_ok());
    if !sent.unwrap_or(false) {
        tracing::warn!("a connection could not be handed over");
    }
}

/// Rest after an accept that failed for want of resources.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

fn serve_connection(worker: &Rc<Worker>, socket: TcpStream, peer: SocketAddr, counted: Counted) {
    // Counted already, and so are those whose task has not run yet.
    if worker.shared.load(worker.index).load(Ordering::Relaxed) > worker.settings.connections_max {
        worker.recorder.limit_hit("connections");
        return;
    }
    let worker = worker.clone();
    tokio::task::spawn_local(async move {
        serve::connection(worker.clone(), socket, peer).await;
        drop(counted);
    });
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
