//! Conversations in which a side speaks HTTP/2: one message is read piece by piece, and written as the other side needs it.
//!
//! Two connections of HTTP/1 are relayed by `exchange`, which moves bytes from buffer to socket; here bodies are parts of
//! shared memory, trailers are fields, and each side has windows that open as the other takes what was sent.

mod messages;
mod open;
mod patience;
mod relay;
mod sink;
mod source;
mod talk;
pub(crate) mod tunnel;

pub(crate) use messages::{MessageCount, Messages};
pub(crate) use patience::Patience;
pub(crate) use relay::{Relay, relay};
pub(crate) use sink::{Http1 as Http1Sink, Refused, Sink};
pub(crate) use source::{Http1 as Http1Source, Piece, Source};
pub(crate) use talk::run;

/// Why a body stopped before its end.
#[derive(Debug)]
pub(crate) enum Failed {
    /// Its connection broke.
    Io,
    /// Its stream ended, or its connection of HTTP/2.
    Http2(h2::Error),
    /// The framing broke a rule: its name.
    Framing(&'static str),
    /// It is longer than it may be.
    Long,
    /// Nothing happened for too long.
    Quiet,
    /// Nobody takes it any more.
    Sink,
    /// Whoever is to take it has taken too little for too long.
    Slow,
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Gone => Self::Sink,
            Refused::Slow => Self::Slow,
        }
    }
}
