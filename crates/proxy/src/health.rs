//! Why an endpoint gets no requests although the snapshot has it.

use std::sync::atomic::{AtomicU8, Ordering};

/// What keeps an endpoint out; more than one thing may.
#[derive(Debug, Default)]
pub(crate) struct Health(AtomicU8);

/// One thing that keeps an endpoint out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Out {
    /// Outlier detection has ejected it.
    Ejected = 1,
    /// An operator drains it.
    Drained = 1 << 1,
    /// Its own circuit is not closed: the circuit says whether it gets a request.
    Circuit = 1 << 2,
}

impl Health {
    /// Whether nothing keeps it out.
    pub(crate) fn is_fine(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// Whether this keeps it out.
    pub(crate) fn is(&self, out: Out) -> bool {
        self.0.load(Ordering::Relaxed) & out as u8 != 0
    }

    /// Keeps it out, or no more; returns whether that changed anything.
    pub(crate) fn set(&self, out: Out, is_out: bool) -> bool {
        let bit = out as u8;
        let before =
            if is_out { self.0.fetch_or(bit, Ordering::Relaxed) } else { self.0.fetch_and(!bit, Ordering::Relaxed) };
        (before & bit != 0) != is_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_comes_and_goes_by_itself() {
        let health = Health::default();
        assert!(health.is_fine());
        assert!(health.set(Out::Ejected, true) && !health.set(Out::Ejected, true));
        assert!(health.set(Out::Drained, true) && health.is(Out::Ejected) && !health.is(Out::Circuit));
        assert!(health.set(Out::Ejected, false) && !health.is_fine());
        assert!(health.set(Out::Drained, false) && health.is_fine());
    }
}
