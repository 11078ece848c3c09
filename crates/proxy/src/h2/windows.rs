//! Windows of flow control towards endpoints.

/// How much the peer may send: for all answers together never less than for each, so that those nobody takes do not hold up
/// the others.
pub(super) struct Windows {
    pub(super) of_stream: u32,
    pub(super) now: u32,
}

impl Windows {
    /// A larger one for the connection, if so many answers need it.
    pub(super) fn grow(&mut self, active: usize) -> Option<u32> {
        let wanted = u64::from(self.of_stream) * active as u64;
        let wanted = wanted.min(WINDOW_MAX) as u32;
        (wanted > self.now).then(|| {
            self.now = wanted;
            wanted
        })
    }
}

/// The largest window there is (RFC 9113 §6.9.1).
const WINDOW_MAX: u64 = (1 << 31) - 1;
