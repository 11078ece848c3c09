//! How far a conversation with an upstream has come, and what is known of one that failed.

use std::cell::Cell;

use crate::failure::Reason;
use crate::plan::Exchange;

/// What is known while a conversation runs; shared by its two directions.
#[derive(Default)]
pub(crate) struct Progress {
    /// Whether the request, or the beginning of it, has left.
    pub(crate) sent: Cell<bool>,
    /// Whether anything of an answer came.
    pub(crate) heard: Cell<bool>,
    /// Whether the answer is the one that goes to the client.
    pub(crate) accepted: Cell<bool>,
    /// Whether what was taken of the request body is kept, to be sent again.
    pub(crate) kept: Cell<bool>,
    /// Status of the answer that has begun to go to the client; 0: none.
    pub(crate) status_sent: Cell<u16>,
    /// Whether the whole request was sent.
    pub(crate) upload_done: Cell<bool>,
    /// Whether the upstream said that it has not acted on it.
    pub(crate) refused: Cell<bool>,
    /// Whether anything of the request body was taken from the client for good.
    pub(crate) body_begun: Cell<bool>,
    pub(crate) body_bytes_read: Cell<u64>,
    pub(crate) upstream_bytes_written: Cell<u64>,
    pub(crate) upstream_bytes_read: Cell<u64>,
}

impl Progress {
    /// Whether all of the request can still be sent again.
    pub(crate) fn is_at_hand(&self) -> bool {
        self.kept.get() || !(self.body_begun.get() || self.body_bytes_read.get() > 0)
    }

    /// The conversation failed.
    pub(crate) fn lost(&self, reason: Reason) -> Lost {
        Lost {
            reason,
            status_sent: self.status_sent.get(),
            heard: self.heard.get(),
            sent: self.sent.get(),
            body_begun: self.body_begun.get() || self.body_bytes_read.get() > 0,
            refused: self.refused.get(),
        }
    }
}

/// A conversation that failed.
pub(crate) struct Lost {
    pub(crate) reason: Reason,
    /// Status sent to the client before it failed; 0: none.
    pub(crate) status_sent: u16,
    /// Whether the upstream sent any byte.
    heard: bool,
    /// Whether a byte of the request left.
    pub(crate) sent: bool,
    /// Whether a byte of the request body was taken from the client.
    body_begun: bool,
    /// Whether the upstream said that it has not acted on the request.
    pub(crate) refused: bool,
}

impl Lost {
    /// Of which nothing was sent.
    pub(crate) fn unsent(reason: Reason) -> Self {
        Self { reason, status_sent: 0, heard: false, sent: false, body_begun: false, refused: false }
    }

    /// Whether there was an answer, which was given up for another try.
    pub(crate) fn was_declined(&self) -> bool {
        matches!(self.reason, Reason::Declined(_))
    }

    /// Whether all of the request can be sent again.
    pub(crate) fn is_at_hand(&self) -> bool {
        !self.body_begun && self.status_sent == 0
    }

    /// Whether the request may be sent again on a fresh connection: no byte of an answer came, all of the request is
    /// still at hand, and the upstream either cannot have acted on it or may act twice.
    pub(crate) fn may_be_sent_again(&self, exchange: &Exchange) -> bool {
        let is_safe = self.refused || (self.reason == Reason::UpstreamClosed && (!self.sent || exchange.is_idempotent));
        is_safe && !self.heard && self.is_at_hand()
    }
}
