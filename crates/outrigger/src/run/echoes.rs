//! The event loop of the echo servers: a thread of its own, so that work for the witnesses delays neither the proxies nor
//! the control thread.

use std::cell::OnceCell;
use std::io;
use std::sync::Arc;

use tokio::runtime::{Builder, Handle};
use tokio::sync::{oneshot, watch};

use crate::echo::{BindError, EchoServer, FailureCounts, Listen};

/// The thread, from the first echo server on.
#[derive(Default)]
pub(super) struct Echoes {
    thread: OnceCell<Thread>,
    counts: Arc<FailureCounts>,
}

/// Its event loop, which ends with the sender.
struct Thread {
    events: Handle,
    _stop: oneshot::Sender<()>,
}

/// An echo server that runs; it ends when dropped.
#[derive(Debug)]
pub(super) struct Echo {
    /// Where it listens and who it says it is.
    pub(super) listen: Listen,
    _stop: watch::Sender<bool>,
}

impl Echoes {
    /// Starts an echo server; port 0 becomes a free one.
    pub(super) fn serve(&self, listen: Listen) -> io::Result<Echo> {
        let server = EchoServer::bind(vec![listen], self.counts.clone()).map_err(BindError::into_cause)?;
        let listen = server.listeners().next().expect("one was bound").clone();
        let (stop, stopped) = watch::channel(false);
        let address = listen.address;
        self.events()?.spawn(async move {
            if let Err(error) = server.serve(stopped).await {
                tracing::error!(%address, %error, "an echo server broke down");
            }
        });
        Ok(Echo { listen, _stop: stop })
    }

    fn events(&self) -> io::Result<&Handle> {
        if self.thread.get().is_none() {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (stop, stopped) = oneshot::channel::<()>();
            let thread = Thread { events: runtime.handle().clone(), _stop: stop };
            std::thread::Builder::new().name("echo".to_owned()).spawn(move || {
                // Nothing is ever sent: the end of the channel is the message.
                let _ = runtime.block_on(stopped);
            })?;
            // Nobody else sets it: this is called on the control thread alone.
            let _ = self.thread.set(thread);
        }
        Ok(&self.thread.get().expect("set above").events)
    }
}
