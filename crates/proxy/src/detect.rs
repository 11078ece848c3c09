//! What a connection carries, where that is not settled before its first byte.

use crate::h1::stream::Stream;
use crate::plan::Client;
use crate::worker::Worker;

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// HTTP/1.
    Http1,
    /// Bytes that are relayed.
    Bytes,
    /// Nothing: it has left, or nobody serves it.
    Nothing,
}

/// Finds out what a client speaks. What it sent stays unread.
#[allow(clippy::unused_async)]
pub(crate) async fn spoken(worker: &Worker, _client: &mut Stream, who: &Client) -> Spoken {
    let current = worker.current();
    let Some((site, _)) = current.policy.site(&who.listener) else { return Spoken::Nothing };
    let Some(at) = site.chain(who.server_name.as_deref()) else { return Spoken::Nothing };
    match (&site.chains[at].routes, &site.chains[at].tcp) {
        (None, Some(_)) => Spoken::Bytes,
        _ => Spoken::Http1,
    }
}
