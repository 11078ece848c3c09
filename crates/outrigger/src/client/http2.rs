//! The client's HTTP/2, with prior knowledge: requests side by side on one connection.

use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::HeaderMap;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::{Answer, ClientError};

/// Requests that one connection should carry at once; what proxies commonly allow.
pub(crate) const STREAMS_MAX: usize = 100;

/// A request, ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Head, with the whole URI.
    pub(crate) head: http::Request<()>,
    /// Body; empty is none.
    pub(crate) body: Bytes,
}

/// A server, and the connection to it that requests share.
pub(crate) struct Server {
    address: SocketAddr,
    kept: Mutex<Option<Kept>>,
}

/// A connection, whose frames a task of its own reads and writes.
#[derive(Clone)]
struct Kept {
    /// Tells it from those before and after it.
    number: u64,
    sender: SendRequest<Bytes>,
}

impl Server {
    /// A server to which nothing was sent yet.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, kept: Mutex::new(None) }
    }

    /// Sends one request, on the connection that is open or on a new one. Once more, if the server has not looked at it.
    pub(crate) async fn exchange(&self, request: &Request) -> Result<Answer, ClientError> {
        let kept = self.connection(None).await?;
        let number = kept.number;
        match exchange(kept.sender, request).await {
            Err(Failure { error, is_unseen: true }) => {
                tracing::debug!(address = %self.address, %error, "sent again on another connection");
                let kept = self.connection(Some(number)).await?;
                exchange(kept.sender, request).await.map_err(ClientError::from)
            }
            outcome => outcome.map_err(ClientError::from),
        }
    }

    /// The connection that is open, unless it is the one of this number; else a new one.
    async fn connection(&self, not: Option<u64>) -> Result<Kept, ClientError> {
        let mut kept = self.kept.lock().await;
        if let Some(kept) = kept.as_ref().filter(|kept| Some(kept.number) != not) {
            return Ok(kept.clone());
        }
        let stream = TcpStream::connect(self.address).await.map_err(ClientError::Connect)?;
        let _ = stream.set_nodelay(true);
        let (sender, connection) = builder().handshake(stream).await.map_err(ClientError::Http2)?;
        let address = self.address;
        tokio::spawn(async move {
            // Requests under way are told the same.
            if let Err(error) = connection.await {
                tracing::debug!(%address, %error, "an HTTP/2 connection broke");
            }
        });
        let number = kept.as_ref().map_or(0, |kept| kept.number) + 1;
        let new = Kept { number, sender };
        *kept = Some(new.clone());
        Ok(new)
    }
}

/// Why there is no answer, and whether the server has surely not looked at the request.
struct Failure {
    error: h2::Error,
    is_unseen: bool,
}

impl From<Failure> for ClientError {
    fn from(failure: Failure) -> Self {
        Self::Http2(failure.error)
    }
}

/// Sends a request, when the server allows one more, and reads its answer to the end.
async fn exchange(sender: SendRequest<Bytes>, request: &Request) -> Result<Answer, Failure> {
    let unseen = |error| Failure { error, is_unseen: true };
    let mut sender = sender.ready().await.map_err(unseen)?;
    let (answer, stream) = sender.send_request(request.head.clone(), request.body.is_empty()).map_err(unseen)?;
    // Streams that others wait for must not wait for this handle.
    drop(sender);
    let receiving = receive(answer);
    tokio::pin!(receiving);
    tokio::select! {
        biased;
        answer = &mut receiving => answer,
        // A server may answer before it has read everything, or without: then the answer counts.
        () = send(stream, request.body.clone()) => receiving.await,
    }
}

/// Sends a body, as fast as the server takes it, unless it wants no more.
async fn send(mut stream: SendStream<Bytes>, mut body: Bytes) {
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        while stream.capacity() == 0 {
            match poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            }
        }
        let part = body.split_to(body.len().min(stream.capacity()));
        if stream.send_data(part, body.is_empty()).is_err() {
            return;
        }
    }
}

async fn receive(answer: ResponseFuture) -> Result<Answer, Failure> {
    let failed = |error: h2::Error| {
        // RFC 9113 §8.7: what is refused, or above the last stream of a GOAWAY, was not processed.
        let is_unseen = error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM));
        Failure { error, is_unseen }
    };
    let (head, mut body) = answer.await.map_err(failed)?.into_parts();
    let seen = |error| Failure { error, is_unseen: false };
    let mut answer =
        Answer { protocol: "HTTP/2", status: head.status.as_u16(), fields: owned(&head.headers), ..Answer::default() };
    while let Some(part) = body.data().await {
        let part = part.map_err(seen)?;
        answer.keep(&part, super::BODY_BYTES_MAX);
        // An error says that the stream has ended, which the next read tells too.
        let _ = body.flow_control().release_capacity(part.len());
    }
    answer.trailers = body.trailers().await.map_err(seen)?.as_ref().map(owned).unwrap_or_default();
    Ok(answer)
}

/// The limits of a connection: none is left to the library.
fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(STREAMS_MAX)
        .max_concurrent_streams(0)
        .max_header_list_size(super::HEAD_BYTES_MAX as u32)
        .header_table_size(4 * 1024)
        .initial_window_size(256 * 1024)
        .initial_connection_window_size(4 * 1024 * 1024)
        .max_frame_size(16 * 1024)
        .max_send_buffer_size(256 * 1024)
        .max_concurrent_reset_streams(STREAMS_MAX)
        .reset_stream_duration(Duration::from_secs(10))
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(Some(STREAMS_MAX))
        .data_frame_budget(4 * 1024 * 1024);
    builder
}

fn owned(fields: &HeaderMap) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    fields.iter().map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes()))).collect()
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}
