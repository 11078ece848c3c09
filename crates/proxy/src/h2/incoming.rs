//! A body on a stream of HTTP/2, of which a part may have been taken already to see whether it is all there.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;

/// One body.
pub(crate) struct Incoming {
    stream: RecvStream,
    /// What was taken before, in the order in which it came.
    ahead: Vec<Bytes>,
    /// The trailers, if they were taken before: the outer option says whether.
    trailers: Option<Option<HeaderMap>>,
}

/// A body that was here whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct Whole {
    pub(crate) data: Bytes,
    /// Apart: few have some, and all would carry their room.
    pub(crate) trailers: Option<Box<HeaderMap>>,
}

impl Incoming {
    /// All of it is to come.
    pub(crate) fn new(stream: RecvStream) -> Self {
        Self { stream, ahead: Vec::new(), trailers: None }
    }

    /// Takes the body if it is here whole and no longer than `bytes_max`; whatever is not taken stays.
    pub(crate) fn take(&mut self, bytes_max: usize, cx: &mut Context<'_>) -> Option<Whole> {
        let mut length = self.ahead.iter().map(Bytes::len).sum::<usize>();
        loop {
            match self.stream.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    length += data.len();
                    self.ahead.push(data);
                    if length > bytes_max {
                        return None;
                    }
                }
                Poll::Ready(None) => break,
                // The failure is for whoever reads on.
                Poll::Ready(Some(Err(_))) | Poll::Pending => return None,
            }
        }
        let Poll::Ready(Ok(trailers)) = self.stream.poll_trailers(cx) else { return None };
        self.trailers = Some(None);
        // Nothing more comes: only the connection's window is of use to anybody.
        let _ = self.stream.flow_control().release_capacity(length);
        let data = match &mut self.ahead[..] {
            [] => Bytes::new(),
            [only] => std::mem::take(only),
            parts => parts.concat().into(),
        };
        self.ahead = Vec::new();
        Some(Whole { data, trailers: trailers.map(Box::new) })
    }

    /// The next data; `None` at the end.
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        if !self.ahead.is_empty() {
            return Poll::Ready(Some(Ok(self.ahead.remove(0))));
        }
        if self.trailers.is_some() {
            return Poll::Ready(None);
        }
        self.stream.poll_data(cx)
    }

    /// The trailers behind it.
    pub(crate) fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, h2::Error>> {
        if let Some(trailers) = &mut self.trailers {
            return Poll::Ready(Ok(trailers.take()));
        }
        let trailers = ready!(self.stream.poll_trailers(cx))?;
        self.trailers = Some(None);
        Poll::Ready(Ok(trailers))
    }

    /// Whether nothing more comes, as far as that is known.
    pub(crate) fn is_end_stream(&self) -> bool {
        self.ahead.is_empty() && self.trailers.as_ref().map_or(self.stream.is_end_stream(), Option::is_none)
    }

    /// Lets the peer send as much again.
    pub(crate) fn release(&mut self, count: usize) {
        // A stream that is gone needs no window.
        let _ = self.stream.flow_control().release_capacity(count);
    }
}
