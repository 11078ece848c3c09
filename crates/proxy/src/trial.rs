//! What became of one try at an endpoint: what outlier detection and circuit breakers judge by.

use crate::failure::Reason;

/// What became of one try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trial {
    /// An answer's head came; of a call of gRPC its status counts, wherever it stood.
    Answered {
        /// Status of HTTP.
        status: u16,
        /// `grpc-status` of a call of gRPC, if it came.
        grpc: Option<u8>,
    },
    /// No answer came, or it broke off, through the instance or on the way to it.
    Failed(Reason),
    /// The client went away, or broke the rules, before anything was known; nobody is to blame.
    Abandoned,
}
