//! How far a conversation with an upstream has come, and what is known of one that failed.

use std::cell::Cell;

use crate::failure::Reason;

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
            had_company: false,
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
    /// Whether other requests went over the same connection while this one did: it may have ended because of them.
    pub(crate) had_company: bool,
}

impl Lost {
    /// Of which nothing was sent.
    pub(crate) fn unsent(reason: Reason) -> Self {
        Self {
            reason,
            status_sent: 0,
            heard: false,
            sent: false,
            body_begun: false,
            refused: false,
            had_company: false,
        }
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
    /// still at hand, and the upstream either cannot have acted on it, or may act twice and has ended a connection that
    /// was used for other requests, too (`was_reused`). One that ends a connection because of this request may do so
    /// again, and that is for the policy of the route.
    pub(crate) fn may_be_sent_again(&self, is_idempotent: bool, was_reused: bool) -> bool {
        let was_closed = self.reason == Reason::UpstreamClosed;
        let by_others = was_reused || self.had_company;
        let is_safe = self.refused || (was_closed && (!self.sent || (is_idempotent && by_others)));
        is_safe && !self.heard && self.is_at_hand()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_goes_out_again_only_if_nobody_can_have_acted_on_it_or_may_twice() {
        let lost = |reason, sent| Lost { sent, ..Lost::unsent(reason) };
        let closed = |sent| lost(Reason::UpstreamClosed, sent);
        // What happened; whether it may be done twice, and whether the connection was used before: whether it goes again.
        let cases: &[(&str, Lost, [bool; 2], bool)] = &[
            ("closed when used again", closed(true), [true, true], true),
            ("the same, and not idempotent", closed(true), [false, true], false),
            ("the first on its connection", closed(true), [true, false], false),
            ("among others", Lost { had_company: true, ..closed(true) }, [true, false], true),
            ("among others, not idempotent", Lost { had_company: true, ..closed(true) }, [false, false], false),
            ("nothing left on a used one", closed(false), [false, true], true),
            ("nothing left on a fresh one", closed(false), [false, false], true),
            ("refused", Lost { refused: true, ..lost(Reason::UpstreamReset, true) }, [false, false], true),
            ("an answer had begun", Lost { heard: true, ..closed(true) }, [true, true], false),
            ("the client has an answer", Lost { status_sent: 200, ..closed(true) }, [true, true], false),
            ("its body is gone", Lost { body_begun: true, ..closed(true) }, [true, true], false),
            ("no connection", Lost::unsent(Reason::ConnectFailure), [true, false], false),
            ("out of time", lost(Reason::PerTryTimeout, true), [true, true], false),
        ];
        for (name, lost, [is_idempotent, was_reused], expected) in cases {
            assert_eq!(lost.may_be_sent_again(*is_idempotent, *was_reused), *expected, "{name}");
        }
    }
}
