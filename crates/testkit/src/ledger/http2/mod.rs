//! The ledger over HTTP/2: clients with several connections and many streams on each, backends that share theirs and
//! leave in the ways that servers leave. Calls of gRPC are requests whose answers are judged by their trailers.

mod backend;
mod load;
mod turning;

use std::future::poll_fn;

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::HeaderMap;

pub use backend::{Http2Backend, Manner};
pub use load::{Front, Http2Load, Tally};

/// What a gRPC message says it is.
const GRPC: &str = "application/grpc";

/// A runtime of one thread: its own.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime needs nothing but memory")
}

/// Sends a body as the windows allow. One who wants it no more has said so elsewhere.
async fn send(stream: &mut SendStream<Bytes>, mut body: Bytes, trailers: Option<HeaderMap>) {
    stream.reserve_capacity(body.len());
    while !body.is_empty() {
        let Some(Ok(room)) = poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
        let part = body.split_to(room.min(body.len()));
        if stream.send_data(part, body.is_empty() && trailers.is_none()).is_err() {
            return;
        }
    }
    if let Some(trailers) = trailers {
        drop(stream.send_trailers(trailers));
    }
}

/// Reads a body and its trailers.
async fn read(body: &mut RecvStream) -> Result<(Vec<u8>, HeaderMap), h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        all.extend_from_slice(&data);
        body.flow_control().release_capacity(data.len())?;
    }
    Ok((all, body.trailers().await?.unwrap_or_default()))
}

/// The text of a field; empty where it is missing.
fn text(fields: &HeaderMap, name: &str) -> String {
    fields.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}
