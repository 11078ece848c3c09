//! The worker threads of a process: event loops on which any number of proxies run.
//!
//! Each proxy has one worker on each thread; the threads know nothing of what they host. Ten times a second a thread moves
//! the clocks of its workers on, so that an idle proxy costs no timer of its own.

use std::cell::RefCell;
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::alarm::Clock;
use crate::dns::{NameServers, Names};
use crate::h1::buffer::BufferPool;
use crate::overload::{Overload, Watch};
use crate::runtime::{self, Hosting};
use crate::settings::Settings;
use crate::sweeper::Sweeper;
use crate::worker::Worker;

/// Worker threads. Dropping them ends every proxy that still runs on them.
#[derive(Debug)]
pub struct Threads {
    threads: Vec<Thread>,
    names: Names,
    sweeper: Sweeper,
    overload: Arc<Overload>,
}

#[derive(Debug)]
struct Thread {
    orders: mpsc::UnboundedSender<Hosting>,
    handle: Option<JoinHandle<()>>,
}

/// What the workers of one thread share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bench {
    pub(crate) buffers: Rc<BufferPool>,
    /// How short memory is.
    pub(crate) overload: Arc<Overload>,
    /// The workers whose clocks this thread moves on.
    workers: Rc<RefCell<Vec<Weak<Worker>>>>,
}

impl Threads {
    /// Starts so many threads, at least one.
    ///
    /// # Errors
    /// When the system has no more threads or descriptors.
    pub fn start(count: usize) -> io::Result<Self> {
        Self::start_with(count, NameServers::System, Settings::default())
    }

    /// As [`Self::start`], with other name servers and other limits on looking names up, which all proxies share.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(count: usize, servers: NameServers, settings: Settings) -> io::Result<Self> {
        let mut threads = Vec::with_capacity(count.max(1));
        let overload = Arc::new(Overload::default());
        for index in 0..count.max(1) {
            let (orders, wire) = mpsc::unbounded_channel();
            // Made here, so that the caller learns that there are no descriptors left.
            let (built, ready) = std::sync::mpsc::channel();
            let bench = overload.clone();
            let watch = (index == 0).then(|| Watch::new(&settings));
            let handle = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
                    Ok(runtime) => {
                        // Whoever waits for this is there: it waits below.
                        let _ = built.send(Ok(()));
                        runtime.block_on(run(wire, bench, watch));
                    }
                    Err(error) => {
                        let _ = built.send(Err(error));
                    }
                }
            })?;
            ready.recv().map_err(io::Error::other)??;
            threads.push(Thread { orders, handle: Some(handle) });
        }
        let names = Names::new(servers, settings);
        Ok(Self { threads, names, sweeper: Sweeper::default(), overload })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.threads.len()
    }

    /// The names of the process.
    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// The thread that does what is due at given times.
    pub(crate) fn sweeper(&self) -> &Sweeper {
        &self.sweeper
    }

    /// What is known of the memory of the process.
    pub(crate) fn overload(&self) -> &Arc<Overload> {
        &self.overload
    }

    /// Has a thread host a worker.
    pub(crate) fn host(&self, index: usize, hosting: Hosting) -> io::Result<()> {
        self.threads[index].orders.send(hosting).map_err(|_| io::Error::other("the worker thread has ended"))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        for thread in &mut self.threads {
            // Without orders to come the loop ends.
            thread.orders = mpsc::unbounded_channel().0;
        }
        for thread in &mut self.threads {
            if let Some(handle) = thread.handle.take() {
                // A thread that panicked has said so already.
                let _ = handle.join();
            }
        }
    }
}

impl Bench {
    /// Takes in a worker.
    pub(crate) fn seat(&self, worker: &Rc<Worker>) {
        self.workers.borrow_mut().push(Rc::downgrade(worker));
    }

    fn tick(&self) {
        self.workers.borrow_mut().retain(|worker| match worker.upgrade() {
            Some(worker) => {
                worker.tick();
                true
            }
            None => false,
        });
    }
}

/// Runs a thread; the one with the watch looks for all.
async fn run(mut orders: mpsc::UnboundedReceiver<Hosting>, overload: Arc<Overload>, mut watch: Option<Watch>) {
    let bench = Bench { overload, ..Bench::default() };
    let mut hosted = JoinSet::new();
    let mut tick = tokio::time::interval(Clock::TICK);
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(hosting) => {
                    hosted.spawn_local(runtime::host(hosting, bench.clone()));
                }
                None => return,
            },
            // A worker that panicked outside a connection has said so already.
            Some(_) = hosted.join_next() => {}
            _ = tick.tick() => {
                if let Some(watch) = &mut watch {
                    watch.look(&bench.overload);
                }
                bench.tick();
            }
        }
    }
}
