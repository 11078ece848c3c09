//! Longest bodies: what is known to be too long is refused at its head, everything else is cut where it passes the limit.

use crate::failure::Reason;
use crate::h1::body::Framing;
use crate::plan::Exchange;

/// As much as there is.
const NO_LIMIT: u64 = u64::MAX;

/// What was beyond the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Exchange {
    /// Bytes that the body of its request may have.
    pub(crate) fn request_bytes_max(&self) -> u64 {
        self.applied.get().and_then(|applied| applied.bodies.request_bytes).unwrap_or(NO_LIMIT)
    }

    /// Bytes that the body of its answer may have.
    pub(crate) fn answer_bytes_max(&self) -> u64 {
        self.applied.get().and_then(|applied| applied.bodies.response_bytes).unwrap_or(NO_LIMIT)
    }

    /// Judges an answer by what its head says.
    pub(crate) fn judge_length(&self, framing: Framing) -> Result<(), Reason> {
        match framing {
            Framing::Length(bytes) if bytes > self.answer_bytes_max() => Err(Reason::AnswerLong),
            Framing::Length(_) | Framing::None | Framing::Chunked | Framing::UntilClose => Ok(()),
        }
    }
}

/// Takes so many bytes from those that may still come.
pub(crate) fn spend(left: u64, bytes: usize) -> Result<u64, TooLong> {
    left.checked_sub(bytes as u64).ok_or(TooLong)
}
