//! The bytes of a connection, both ways.
//!
//! Small messages are read into a buffer and written from it, which costs two system calls. A direction in which much
//! flows goes through a pipe instead ([`super::pipe`]), where both ends are plain text: copying is what costs there.
//! A connection on which nothing happens holds neither buffer nor pipe.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use outrigger_model::TcpKeepalive;

use super::pipe::{Filled, Lent, Pipe};
use crate::flag::Flag;
use crate::h1::buffer::Buffer;
use crate::h1::stream::{IoFailure, Reader, Stream, Writer};
use crate::record::{Bytes, Connection};
use crate::worker::Worker;

/// Why a relay ended before both sides had finished.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// The client broke off, or reads no more.
    Client,
    /// The instance did.
    Upstream,
    /// Nothing happened for too long.
    Idle,
    /// It has lasted as long as it may.
    Age,
}

impl End {
    /// As it shows in metrics.
    pub(crate) fn flag(self) -> Flag {
        match self {
            Self::Client => Flag::DownstreamConnectionTermination,
            Self::Upstream => Flag::UpstreamConnectionTermination,
            Self::Idle => Flag::StreamIdleTimeout,
            Self::Age => Flag::DurationTimeout,
        }
    }
}

/// How long a connection may be silent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Silence {
    /// Without a byte in either direction.
    pub(crate) timeout: Duration,
    /// How the instance is asked whether it is still there.
    pub(crate) keepalive: Option<TcpKeepalive>,
}

/// Relays until both sides have finished, or one breaks off, or nothing happens for too long.
pub(crate) async fn both_ways(
    worker: &Worker,
    client: &mut Stream,
    upstream: &mut Stream,
    connection: &Connection<'_>,
    silence: Silence,
) -> Result<(), End> {
    client.outlast_silence(None);
    upstream.outlast_silence(silence.keepalive);
    let (client_in, client_out) = client.split();
    let (upstream_in, upstream_out) = upstream.split();
    let moved_ms = Cell::new(worker.clock.now_ms());
    let idle_timeout = silence.timeout;
    let pump = |source, sink, bytes| Pump { worker, source, sink, bytes, idle_timeout, moved_ms: &moved_ms, flow: 0 };
    let up = pump(client_in, upstream_out, &connection.received);
    let down = pump(upstream_in, client_out, &connection.sent);
    tokio::try_join!(up.run(End::Client, End::Upstream), down.run(End::Upstream, End::Client)).map(|_| ())
}

/// One direction of a connection.
struct Pump<'p> {
    worker: &'p Worker,
    source: Reader<'p>,
    sink: Writer<'p>,
    bytes: &'p Bytes,
    idle_timeout: Duration,
    /// When a byte last passed, in either direction.
    moved_ms: &'p Cell<u64>,
    /// Bytes that came in large pieces, one after the other.
    flow: usize,
}

/// How a flow through a pipe ended.
enum Flow {
    /// The source has finished.
    Finished,
    /// It goes on by copying.
    Ebbed,
}

impl Pump<'_> {
    /// How long a connection that does nothing keeps its buffer: the next bytes of a conversation come sooner.
    const HOLD: Duration = Duration::from_secs(1);
    /// Bytes at once that make a large piece: for less, the calls of a splice cost more than the copy.
    const LARGE_PIECE: usize = 16 * 1024;
    /// Bytes in large pieces after which more are expected.
    const FLOW: usize = 64 * 1024;
    /// Pieces that are not large, one after the other, after which a flow has ebbed.
    const SMALL_PIECES: u32 = 4;
    /// Bytes of a flow after which other connections get their turn.
    const TURN: usize = 1024 * 1024;

    /// Relays until the source has finished, and says so to the sink.
    async fn run(mut self, source: End, sink: End) -> Result<(), End> {
        loop {
            let count = self.source.input.len();
            if count > 0 {
                self.write(sink).await?;
                self.flow = if count >= Self::LARGE_PIECE { self.flow + count } else { 0 };
                if self.flow > Self::FLOW
                    && let Flow::Finished = self.flow(source, sink).await?
                {
                    break;
                }
            }
            if count > Buffer::BLOCK_BYTES / 2 {
                self.source.input.enlarge(&self.worker.buffers);
            }
            match self.fill().await {
                Ok(()) => {}
                Err(IoFailure::Closed) => break,
                Err(IoFailure::Broken) => return Err(source),
                Err(IoFailure::TimedOut) => return Err(End::Idle),
            }
        }
        self.sink.finish(self.worker.settings.write_stall_timeout).await;
        Ok(())
    }

    /// Writes what was read.
    async fn write(&mut self, sink: End) -> Result<(), End> {
        let written = self.sink.write(self.source.input.bytes(), &[], self.idle_timeout).await;
        written.map_err(|failure| if let IoFailure::TimedOut = failure { End::Idle } else { sink })?;
        let count = self.source.input.len();
        self.source.input.consume(count);
        self.moved(count);
        Ok(())
    }

    /// Counts bytes that passed.
    fn moved(&self, count: usize) {
        self.bytes.add(count as u64);
        self.moved_ms.set(self.worker.clock.now_ms());
    }

    /// Reads the next bytes.
    async fn fill(&mut self) -> Result<(), IoFailure> {
        loop {
            let hold = Self::HOLD.min(self.idle_timeout);
            match self.source.fill(&self.worker.buffers, Buffer::LARGE_BYTES, hold).await {
                Err(IoFailure::TimedOut) => self.wait().await?,
                ended => return ended.map(|_| ()),
            }
        }
    }

    /// Waits until there is something to read, holding nothing.
    async fn wait(&mut self) -> Result<(), IoFailure> {
        let Worker { buffers, clock, .. } = self.worker;
        let (idle_timeout, moved_ms) = (self.idle_timeout, self.moved_ms);
        let still = || Duration::from_millis(clock.now_ms() - moved_ms.get());
        loop {
            match self.source.wait_readable(buffers, idle_timeout.saturating_sub(still())).await {
                // The other direction may have been busy meanwhile.
                Err(IoFailure::TimedOut) if still() < idle_timeout => {}
                waited => return waited,
            }
        }
    }

    /// Moves bytes through a pipe for as long as much flows.
    async fn flow(&mut self, source: End, sink: End) -> Result<Flow, End> {
        self.flow = 0;
        let pipes = &self.worker.pipes;
        if self.source.plain().is_none() || self.sink.plain().is_none() {
            return Ok(Flow::Ebbed);
        }
        self.source.input.release(&self.worker.buffers);
        let Some(mut pipe) = pipes.take() else { return Ok(Flow::Ebbed) };
        let (mut small, mut turn) = (0, 0);
        loop {
            let filled = self.source.plain().map_or(Ok(Filled::Unusable), |socket| pipe.fill(socket));
            match filled {
                Ok(Filled::Bytes(count)) => {
                    self.empty(&mut pipe, sink).await?;
                    small = if count < Self::LARGE_PIECE { small + 1 } else { 0 };
                    if small >= Self::SMALL_PIECES {
                        return Ok(Flow::Ebbed);
                    }
                    turn += count;
                    if turn >= Self::TURN {
                        turn = 0;
                        tokio::task::yield_now().await;
                    }
                }
                Ok(Filled::End) => return Ok(Flow::Finished),
                Ok(Filled::ReadInstead) => return Ok(Flow::Ebbed),
                Ok(Filled::Unusable) => {
                    pipes.are_unusable();
                    return Ok(Flow::Ebbed);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    drop(pipe);
                    self.wait().await.map_err(|failure| match failure {
                        IoFailure::TimedOut => End::Idle,
                        IoFailure::Closed | IoFailure::Broken => source,
                    })?;
                    let Some(next) = pipes.take() else { return Ok(Flow::Ebbed) };
                    (pipe, turn) = (next, 0);
                }
                Err(_) => return Err(source),
            }
        }
    }

    /// Passes on everything in a pipe.
    async fn empty(&mut self, pipe: &mut Lent<'_>, sink: End) -> Result<(), End> {
        while pipe.held() > 0 {
            let Some(socket) = self.sink.plain() else { return self.rescue(pipe, sink).await };
            match pipe.drain(socket) {
                Ok(count) => self.moved(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.sink.wait_writable(self.idle_timeout).await.map_err(|failure| match failure {
                        IoFailure::TimedOut => End::Idle,
                        IoFailure::Closed | IoFailure::Broken => sink,
                    })?;
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.worker.pipes.are_unusable();
                    return self.rescue(pipe, sink).await;
                }
                Err(_) => return Err(sink),
            }
        }
        Ok(())
    }

    /// Copies what is in a pipe to a sink that takes no splice.
    async fn rescue(&mut self, pipe: &mut Pipe, sink: End) -> Result<(), End> {
        while pipe.held() > 0 {
            let room = self.source.input.room(&self.worker.buffers, Buffer::BLOCK_BYTES);
            let count = pipe.read(room).map_err(|_| sink)?;
            self.source.input.fill(count);
            self.write(sink).await?;
        }
        Ok(())
    }
}
