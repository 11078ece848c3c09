//! Bytes from socket to socket through a pipe (splice(2)): the kernel passes its pages on, and nothing is copied.
//!
//! A pipe is lent for as long as bytes flow. It is given back empty, so that a connection that waits holds none, and nobody
//! gets what was another's.

use std::cell::{Cell, RefCell};
use std::io;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// The pipes of one worker.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    free: RefCell<Vec<Pipe>>,
    lent: Cell<usize>,
    /// The system does not let us, or not for sockets.
    unusable: Cell<bool>,
}

/// A pipe of ours.
#[derive(Debug)]
pub(super) struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    /// Bytes in it.
    held: usize,
}

/// A pipe that is lent; dropped, it goes back if it is empty.
#[derive(Debug)]
pub(super) struct Lent<'p> {
    pipes: &'p Pipes,
    pipe: Option<Pipe>,
}

/// What came of filling a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// So many bytes are in it.
    Bytes(usize),
    /// Nothing more will come.
    End,
    /// There is something that only a read gets past: urgent data, at which a splice stops as if nothing were there.
    ReadInstead,
    /// The system does not splice such sockets.
    Unusable,
}

impl Pipes {
    /// Pipes that are lent at once; who finds none copies. A sink that does not read keeps one, with up to
    /// [`Pipe::BYTES`] of memory and two descriptors.
    const LENT_MAX: usize = 256;
    /// Free ones that are kept: as many as flow at once, which are few however many connections there are.
    const KEPT_MAX: usize = 8;

    /// A pipe, if there is one to be had.
    pub(super) fn take(&self) -> Option<Lent<'_>> {
        if self.unusable.get() || self.lent.get() >= Self::LENT_MAX {
            return None;
        }
        let free = self.free.borrow_mut().pop();
        let pipe = Some(free.or_else(Pipe::open)?);
        self.lent.set(self.lent.get() + 1);
        Some(Lent { pipes: self, pipe })
    }

    /// Has nobody try again.
    pub(super) fn are_unusable(&self) {
        if !self.unusable.replace(true) {
            tracing::info!("the system does not splice sockets: bytes of TCP are copied");
        }
    }
}

impl Pipe {
    /// What a pipe holds, if the system allows so much; otherwise 64 KiB. It is also the most of one call, so that other
    /// connections get their turn, and the memory of a sink that does not read is bounded.
    pub(super) const BYTES: usize = 256 * 1024;

    fn open() -> Option<Self> {
        let (out, into) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
        // A smaller one works too.
        let _ = fcntl_setpipe_size(&into, Self::BYTES);
        Some(Self { out, into, held: 0 })
    }

    /// Bytes in it.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Fills the pipe, which is empty, with what the socket has. An error `WouldBlock` if that is nothing.
    pub(super) fn fill(&mut self, source: &TcpStream) -> io::Result<Filled> {
        debug_assert_eq!(self.held, 0, "only an empty pipe tells what it means when nothing moves");
        let filled =
            source.try_io(Interest::READABLE, || match splice(source, None, &self.into, None, Self::BYTES, FLAGS) {
                Ok(0) => Ok(if has_more(source)? { Filled::ReadInstead } else { Filled::End }),
                Ok(count) => Ok(Filled::Bytes(count)),
                Err(Errno::AGAIN) if has_more(source)? => Ok(Filled::ReadInstead),
                Err(Errno::INVAL | Errno::NOSYS | Errno::PERM) => Ok(Filled::Unusable),
                Err(error) => Err(error.into()),
            })?;
        if let Filled::Bytes(count) = filled {
            self.held = count;
        }
        Ok(filled)
    }

    /// Passes on what the socket takes of it: how many bytes. An error `WouldBlock` if that is none.
    pub(super) fn drain(&mut self, sink: &TcpStream) -> io::Result<usize> {
        let count = sink.try_io(Interest::WRITABLE, || Ok(splice(&self.out, None, sink, None, self.held, FLAGS)?))?;
        self.held -= count;
        Ok(count)
    }

    /// Reads from it, for a sink that takes no splice.
    pub(super) fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let count = rustix::io::read(&self.out, room)?;
        self.held -= count;
        Ok(count)
    }
}

const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

/// Whether a read would get something.
fn has_more(source: &TcpStream) -> io::Result<bool> {
    match socket2::SockRef::from(source).peek(&mut [MaybeUninit::uninit()]) {
        Ok(count) => Ok(count > 0),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

impl Deref for Lent<'_> {
    type Target = Pipe;

    fn deref(&self) -> &Pipe {
        self.pipe.as_ref().expect("it is there until dropped")
    }
}

impl DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut Pipe {
        self.pipe.as_mut().expect("it is there until dropped")
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.pipes.lent.set(self.pipes.lent.get() - 1);
        let mut free = self.pipes.free.borrow_mut();
        if let Some(pipe) = self.pipe.take().filter(|pipe| pipe.held == 0)
            && free.len() < Pipes::KEPT_MAX
        {
            free.push(pipe);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net;

    use super::*;

    async fn pair() -> (TcpStream, net::TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let peer = net::TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        (listener.accept().await.expect("a client").0, peer)
    }

    async fn filled(pipe: &mut Pipe, source: &TcpStream) -> Filled {
        loop {
            source.readable().await.expect("no error");
            match pipe.fill(source) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                filled => return filled.expect("no other error"),
            }
        }
    }

    #[tokio::test]
    async fn bytes_go_through_and_an_empty_pipe_goes_back() {
        let pipes = Pipes::default();
        let ((source, mut sender), (sink, mut receiver)) = (pair().await, pair().await);
        sender.write_all(b"hello").expect("room");
        let mut pipe = pipes.take().expect("a pipe");
        assert_eq!(filled(&mut pipe, &source).await, Filled::Bytes(5));
        sink.writable().await.expect("room");
        assert_eq!(pipe.drain(&sink).expect("room"), 5);
        let mut bytes = [0; 5];
        receiver.read_exact(&mut bytes).expect("they came");
        assert_eq!(&bytes, b"hello");
        drop(pipe);
        assert_eq!((pipes.free.borrow().len(), pipes.lent.get()), (1, 0));

        // What is left in one is nobody's: the pipe is closed.
        let mut pipe = pipes.take().expect("the same");
        sender.write_all(b"rest").expect("room");
        assert_eq!(filled(&mut pipe, &source).await, Filled::Bytes(4));
        let mut room = [0; 3];
        assert_eq!((pipe.read(&mut room).expect("bytes"), &room), (3, b"res"));
        drop(pipe);
        assert_eq!((pipes.free.borrow().len(), pipes.lent.get()), (0, 0));

        drop(sender);
        assert_eq!(filled(&mut pipes.take().expect("a new one"), &source).await, Filled::End);
    }

    #[tokio::test]
    async fn urgent_data_is_no_end() {
        let pipes = Pipes::default();
        let (source, sender) = pair().await;
        let socket = socket2::SockRef::from(&sender);
        socket.send_out_of_band(b"!").expect("room");
        socket.send(b"after").expect("room");
        socket.shutdown(net::Shutdown::Write).expect("connected");
        let mut pipe = pipes.take().expect("a pipe");
        assert_eq!(filled(&mut pipe, &source).await, Filled::ReadInstead);
        let mut room = [0; 8];
        let count = source.try_read(&mut room).expect("bytes");
        assert_eq!(&room[..count], b"after");
    }

    #[test]
    fn pipes_are_bounded() {
        let pipes = Pipes::default();
        let lent: Vec<_> = (0..Pipes::LENT_MAX).map(|_| pipes.take().expect("a pipe")).collect();
        assert!(pipes.take().is_none());
        drop(lent);
        assert_eq!(pipes.free.borrow().len(), Pipes::KEPT_MAX);
        pipes.are_unusable();
        assert!(pipes.take().is_none());
    }
}
