//! Ends connections whose reader is too slow, so that slow scrapers cannot hold answers in memory for ever.
//!
//! hyper has no write timeout. This wraps the socket and adds up the time that writes had to wait; bytes that go
//! through pay it back at a low rate, and the debt may not exceed a fixed time. What the kernel buffers at once pays
//! for nothing, since there is no debt yet: several megabytes would else buy minutes.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Token;

/// A stream that gives up on slow readers.
pub(super) struct StallGuard<S> {
    stream: S,
    stall_max: Duration,
    token: Token,
    /// Time writes had to wait, less what the bytes written since have paid back.
    debt: Duration,
    /// Set while a write waits: since when, and when to give up.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<S> StallGuard<S> {
    /// Slower than any link a scrape comes over.
    pub(super) const BYTES_PER_SECOND_MIN: usize = 16 * 1024;

    pub(super) fn new(stream: S, stall_max: Duration, token: Token) -> Self {
        Self { stream, stall_max, token, debt: Duration::ZERO, waiting: None }
    }

    /// Books one attempt to write: either it went through, or the wait goes on until patience ends.
    fn book(&mut self, context: &mut Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let now = Instant::now();
        if let Poll::Ready(result) = result {
            if let Some((since, _)) = self.waiting.take() {
                self.debt += now - since;
            }
            let bytes = result.as_ref().map_or(0, |bytes| *bytes);
            let paid = Duration::from_secs_f64(bytes as f64 / Self::BYTES_PER_SECOND_MIN as f64);
            self.debt = self.debt.saturating_sub(paid);
            return Poll::Ready(result);
        }
        let left = self.stall_max.saturating_sub(self.debt);
        let (_, patience) = self.waiting.get_or_insert_with(|| (now, Box::pin(sleep_until(now + left))));
        ready!(patience.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads too slowly")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StallGuard<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let result = Pin::new(&mut this.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            this.token.received();
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StallGuard<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.book(cx, result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.book(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket has nothing to flush, so that there is no wait to book.
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn paused() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
    }

    #[test]
    fn a_reader_that_stops_is_left() {
        paused().block_on(async {
            let (ours, _theirs) = tokio::io::duplex(1024);
            let mut guard = StallGuard::new(ours, Duration::from_secs(10), Token::default());
            let start = Instant::now();
            let error = guard.write_all(&[0; 4096]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert_eq!(start.elapsed().as_secs(), 10);
        });
    }

    #[test]
    fn a_drip_does_not_buy_time() {
        paused().block_on(async {
            let (ours, mut theirs) = tokio::io::duplex(64);
            let mut guard = StallGuard::new(ours, Duration::from_secs(10), Token::default());
            let start = Instant::now();
            let reader = async {
                let mut byte = [0; 16];
                while theirs.read_exact(&mut byte).await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            };
            let writer = async {
                let result = guard.write_all(&[0; 100_000]).await;
                drop(guard);
                result
            };
            let (result, ()) = tokio::join!(writer, reader);
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
            assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        });
    }

    #[test]
    fn a_modest_reader_gets_everything() {
        paused().block_on(async {
            let (ours, mut theirs) = tokio::io::duplex(4096);
            let mut guard = StallGuard::new(ours, Duration::from_secs(10), Token::default());
            let reader = async {
                let mut block = vec![0; 32 * 1024];
                let mut total = 0;
                while theirs.read_exact(&mut block).await.is_ok() {
                    total += block.len();
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                total
            };
            let writer = async {
                let result = guard.write_all(&vec![0; 2 << 20]).await;
                drop(guard);
                result
            };
            let (result, total) = tokio::join!(writer, reader);
            result.unwrap();
            assert_eq!(total, 2 << 20);
        });
    }
}
