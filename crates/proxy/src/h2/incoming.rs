//! A body on a stream of HTTP/2, of which a part may have been taken already to see whether it is all there, or is kept to be
//! taken once more.

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;

/// One body.
pub(crate) struct Incoming {
    stream: RecvStream,
    /// What was taken before, in the order in which it came.
    ahead: VecDeque<Bytes>,
    /// The trailers, if they were taken before: the outer option says whether.
    trailers: Option<Option<HeaderMap>>,
    /// What was taken, as long as all of it is kept.
    kept: Option<Box<Kept>>,
    /// So many bytes in front have their window back already.
    released: usize,
}

/// What was taken of a body, to be taken once more.
#[derive(Default)]
struct Kept {
    data: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    /// What it counts for, against the limit.
    cost: usize,
    /// Bytes of it that have their window back.
    released: usize,
}

/// What a piece counts for besides its bytes, so that many small ones are not kept for nothing.
const PIECE_COST: usize = 64;

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
        Self { stream, ahead: VecDeque::new(), trailers: None, kept: None, released: 0 }
    }

    /// Takes the body if it is here whole and no longer than `bytes_max`; whatever is not taken stays.
    pub(crate) fn take(&mut self, bytes_max: usize, cx: &mut Context<'_>) -> Option<Whole> {
        let mut length = self.ahead.iter().map(Bytes::len).sum::<usize>();
        loop {
            match self.stream.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    length += data.len();
                    self.ahead.push_back(data);
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
        let data = match self.ahead.make_contiguous() {
            [] => Bytes::new(),
            [only] => std::mem::take(only),
            parts => parts.concat().into(),
        };
        self.ahead = VecDeque::new();
        Some(Whole { data, trailers: trailers.map(Box::new) })
    }

    /// The next data; `None` at the end.
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        if let Some(data) = self.ahead.pop_front() {
            return Poll::Ready(Some(Ok(data)));
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
        if let Some(kept) = &mut self.kept {
            kept.released += count;
        }
        let again = count.min(self.released);
        self.released -= again;
        // A stream that is gone needs no window.
        let _ = self.stream.flow_control().release_capacity(count - again);
    }

    /// Keeps what is taken from here on.
    pub(crate) fn keep(&mut self) {
        self.kept = Some(Box::default());
    }

    /// Keeps no more: [`Self::rewind`] cannot be.
    pub(crate) fn forget(&mut self) {
        self.kept = None;
    }

    /// Whether all that was taken since [`Self::keep`] is kept.
    pub(crate) fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// Keeps a piece that was taken, or gives up if that is more than `bytes_max`.
    pub(crate) fn keep_data(&mut self, data: &Bytes, bytes_max: usize) {
        let Some(kept) = &mut self.kept else { return };
        kept.cost += data.len() + PIECE_COST;
        if kept.cost > bytes_max {
            return self.forget();
        }
        kept.data.push(data.clone());
    }

    /// Keeps trailers that were taken.
    pub(crate) fn keep_trailers(&mut self, trailers: &HeaderMap) {
        if let Some(kept) = &mut self.kept {
            kept.trailers = Some(trailers.clone());
        }
    }

    /// Goes back to where it began to keep; whether it could.
    pub(crate) fn rewind(&mut self) -> bool {
        let Some(kept) = self.kept.take() else { return false };
        for data in kept.data.into_iter().rev() {
            self.ahead.push_front(data);
        }
        if let Some(trailers) = kept.trailers {
            self.trailers = Some(Some(trailers));
        }
        self.released += kept.released;
        true
    }
}
