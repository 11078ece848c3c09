//! The threads of the workers: event loops, accepting, policy changes, drain.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
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

/// A worker's ends of the channels.
pub(crate) struct Wires {
    pub(crate) policy: watch::Receiver<Arc<Policy>>,
    pub(crate) phase: watch::Receiver<Phase>,
    /// Connections that another worker accepted for this one.
    pub(crate) handed: mpsc::UnboundedReceiver<(StdStream, SocketAddr)>,
    /// Ways to hand connections to others.
    pub(crate) peers: Vec<mpsc::UnboundedSender<(StdStream, SocketAddr)>>,
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
    let listener = TcpListener::from_std(listener)?;
    let mut tick = tokio::time::interval(Clock::TICK);
    let mut ticks: u32 = 0;
    loop {
        let accepting = *phase.borrow() < Phase::Closing;
        tokio::select! {
            accepted = listener.accept(), if accepting => accept(&worker, accepted, &peers).await,
            Some((socket, peer)) = handed.recv() => match TcpStream::from_std(socket) {
                Ok(socket) => serve_connection(&worker, socket, peer),
                Err(error) => tracing::warn!(%error, "a connection handed over cannot be used"),
            },
            Ok(()) = policy.changed() => {
                let policy = policy.borrow_and_update().clone();
                worker.obey(policy);
            }
            Ok(()) = phase.changed() => match *phase.borrow_and_update() {
                Phase::Serving => {}
                Phase::Draining | Phase::Closing => worker.drain(),
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

async fn accept(
    worker: &Rc<Worker>,
    accepted: io::Result<(TcpStream, SocketAddr)>,
    peers: &[mpsc::UnboundedSender<(StdStream, SocketAddr)>],
) {
    let (socket, peer) = match accepted {
        Ok(accepted) => accepted,
        Err(error) => {
            // Out of descriptors or memory: the connection stays in the backlog. Trying again at once would spin.
            tracing::warn!(%error, "cannot accept");
            worker.recorder.limit_hit("accept");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            return;
        }
    };
    let lightest = worker.shared.lightest(worker.index);
    if lightest == worker.index {
        return serve_connection(worker, socket, peer);
    }
    // The other worker is told at once of the connection it will get, so that two acceptors do not both choose it.
    worker.shared.load(lightest).fetch_add(1, Ordering::Relaxed);
    let sent = socket.into_std().map(|socket| peers[lightest].send((socket, peer)).is_ok());
    worker.shared.load(lightest).fetch_sub(1, Ordering::Relaxed);
    if !sent.unwrap_or(false) {
        tracing::warn!("a connection could not be handed over");
    }
}

/// Rest after an accept that failed for want of resources.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

fn serve_connection(worker: &Rc<Worker>, socket: TcpStream, peer: SocketAddr) {
    if worker.connections.count() >= worker.settings.connections_max {
        worker.recorder.limit_hit("connections");
        return;
    }
    let worker = worker.clone();
    tokio::task::spawn_local(async move {
        worker.shared.load(worker.index).fetch_add(1, Ordering::Relaxed);
        let counted = Counted(&worker);
        let _connection = worker.connections.raise();
        serve::connection(worker.clone(), socket, peer).await;
        drop(counted);
    });
}

/// Takes the connection off its worker's load, also when its task panics.
struct Counted<'w>(&'w Worker);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.shared.load(self.0.index).fetch_sub(1, Ordering::Relaxed);
    }
}
