//! One HTTP/2 connection of an echo server: its streams, each answered by a task of its own.
//!
//! The codec is `h2`, which the proxy uses too: an own one would cost more than the independence is worth. Every limit is
//! set here, none is left to the library.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::head::{Field, Head, Received, Version};
use super::instructions::{Abort, FailureCounts, Plan};
use super::listen::Listen;
use super::reply::{self, Reply};
use super::{grpc, limits, told};

/// A request that has arrived, and everything it takes to answer it.
pub(super) struct Exchange {
    /// Its head.
    pub(super) head: Head,
    /// What comes after it.
    pub(super) body: RecvStream,
    /// Where the answer goes.
    pub(super) respond: SendResponse<Bytes>,
    /// Who answers.
    pub(super) listen: Arc<Listen>,
    /// What it was told to do, or why that cannot be understood.
    pub(super) plan: Result<Plan, String>,
    /// When to end what would not end by itself.
    pub(super) stop: watch::Receiver<bool>,
}

/// The peer is gone, was too slow, or has lost interest: there is nobody to answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// Serves streams until the client, an error or `stop` ends it.
pub(super) async fn serve(
    io: impl AsyncRead + AsyncWrite + Unpin,
    listen: Arc<Listen>,
    counts: Arc<FailureCounts>,
    mut stop: watch::Receiver<bool>,
) {
    let Ok(Ok(mut connection)) = timeout(limits::HEAD, builder().handshake::<_, Bytes>(io)).await else { return };
    let mut exchanges = JoinSet::new();
    let mut is_ending = false;
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    let exchange = Exchange::new(request, respond, &listen, &counts, &stop);
                    exchanges.spawn(exchange.serve());
                }
                // Closed, or broken: whoever still works on an answer has nobody to give it to.
                Some(Err(_)) | None => return,
            },
            Some(_) = exchanges.join_next() => {}
            () = told(&mut stop), if !is_ending => {
                is_ending = true;
                connection.graceful_shutdown();
            }
            // Begins anew whenever a stream comes or goes.
            () = sleep(if is_ending { limits::DRAIN } else { limits::IDLE }), if exchanges.is_empty() => {
                if std::mem::replace(&mut is_ending, true) {
                    return;
                }
                connection.graceful_shutdown();
            }
        }
    }
}

/// The limits of a connection.
fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits::STREAMS_MAX)
        .max_header_list_size(limits::HEAD_BYTES_MAX as u32)
        .header_table_size(4 * 1024)
        .initial_window_size(64 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_frame_size(16 * 1024)
        .max_send_buffer_size(64 * 1024)
        // Streams that we reset and whose frames may still be on their way.
        .max_concurrent_reset_streams(100)
        .reset_stream_duration(Duration::from_secs(10))
        // Whoever opens and resets streams faster than they are taken up is told to calm down.
        .max_pending_accept_reset_streams(100)
        .max_local_error_reset_streams(Some(100))
        // Each of so many streams may have a few small messages waiting: a frame costs 256 bytes of it.
        .data_frame_budget(limits::STREAMS_MAX as usize * 1024);
    builder
}

impl Exchange {
    fn new(
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        listen: &Arc<Listen>,
        counts: &FailureCounts,
        stop: &watch::Receiver<bool>,
    ) -> Self {
        let (parts, body) = request.into_parts();
        let head = Head {
            method: parts.method.as_str().to_owned(),
            target: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
            authority: parts.uri.authority().map(ToString::to_string),
            version: Version::Http2,
            fields: fields_of(&parts.headers),
        };
        let plan = Plan::read(&head, &listen.identity, counts, fastrand::f64());
        tracing::debug!(pod = listen.identity.pod, method = head.method, target = head.target, ?plan, "stream");
        Self { head, body, respond, listen: listen.clone(), plan, stop: stop.clone() }
    }

    async fn serve(mut self) {
        if self.head.fields.len() > limits::FIELDS_MAX {
            let refusal = Reply::refusal(431, "the head has too many fields", &self.head);
            // As everywhere here: a client that is gone needs no answer, and no log.
            let _ = self.send(refusal).await;
        } else if self.head.is_grpc() {
            grpc::serve(self).await;
        } else {
            let _ = self.serve_http().await;
        }
    }

    async fn serve_http(&mut self) -> Result<(), Gone> {
        if self.head.has_token("expect", "100-continue") && !self.body.is_end_stream() {
            self.respond.send_informational(Response::builder().status(100).body(()).expect("legal")).map_err(gone)?;
        }
        let received = read_body(&mut self.body).await?;
        let reply = match self.plan.clone() {
            Ok(plan) => {
                self.wait(plan.delay).await?;
                if plan.abort == Some(Abort::Before) {
                    self.respond.send_reset(Reason::INTERNAL_ERROR);
                    return Ok(());
                }
                Reply::planned(plan, &self.head, &received, &self.listen)
            }
            Err(problem) => Reply::refusal(400, &problem, &self.head),
        };
        self.send(reply).await
    }

    /// Waits, unless the client loses interest first.
    pub(super) async fn wait(&mut self, delay: Duration) -> Result<(), Gone> {
        tokio::select! {
            () = sleep(delay) => Ok(()),
            _ = poll_fn(|cx| self.respond.poll_reset(cx)) => Err(Gone),
        }
    }

    /// Sends an answer of plain HTTP.
    pub(super) async fn send(&mut self, mut reply: Reply) -> Result<(), Gone> {
        if let Some(length) = reply.length {
            reply.fields.push(("content-length".to_owned(), length.to_string()));
        }
        let has_trailers = !reply.trailers.is_empty();
        let is_empty = reply.body.length() == 0 && !has_trailers && !reply.is_cut;
        let response = response(reply.status, &reply.fields);
        let mut stream = self.respond.send_response(response, is_empty).map_err(gone)?;
        if is_empty {
            return Ok(());
        }
        for part in reply.body.parts() {
            send_part(&mut stream, part).await?;
        }
        if reply.is_cut {
            break_off(&mut stream).await;
            return Ok(());
        }
        if has_trailers {
            return stream.send_trailers(map_of(&reply.trailers)).map_err(gone);
        }
        stream.send_data(Bytes::new(), true).map_err(gone)
    }
}

/// The head of an answer.
pub(super) fn response(status: u16, fields: &[(String, String)]) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = http::StatusCode::from_u16(status).expect("a plan has no other status");
    *response.headers_mut() = map_of(fields);
    let date = HeaderValue::try_from(reply::date()).expect("a date is visible ASCII");
    response.headers_mut().entry(http::header::DATE).or_insert(date);
    response
}

/// Fields as the library wants them.
pub(super) fn map_of(fields: &[(String, String)]) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(fields.len());
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a plan has no other names");
        map.append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a plan has no other values"));
    }
    map
}

/// Fields as the library has them; those of one name stay in order.
fn fields_of(map: &HeaderMap) -> Vec<Field> {
    map.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

/// Sends some of a body, as fast as the client takes it.
pub(super) async fn send_part(stream: &mut SendStream<Bytes>, mut part: Bytes) -> Result<(), Gone> {
    while !part.is_empty() {
        stream.reserve_capacity(part.len());
        while stream.capacity() == 0 {
            match timeout(limits::STALL, poll_fn(|cx| stream.poll_capacity(cx))).await {
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(_)) | None) => return Err(Gone),
                Err(_) => {
                    stream.send_reset(Reason::CANCEL);
                    return Err(Gone);
                }
            }
        }
        let count = part.len().min(stream.capacity());
        stream.send_data(part.split_to(count), false).map_err(gone)?;
    }
    Ok(())
}

/// Resets a stream after what was sent on it.
pub(super) async fn break_off(stream: &mut SendStream<Bytes>) {
    // The library throws away what is not written when a stream is reset, and does not say when it is. The window of the
    // client has room for all of it: it goes out as soon as the connection's task runs and the socket takes it.
    sleep(limits::BREAK).await;
    stream.send_reset(Reason::INTERNAL_ERROR);
}

/// The next bytes of a body; `None` at its end. What was taken makes room for more at once.
pub(super) async fn read_part(body: &mut RecvStream, patience: Duration) -> Result<Option<Bytes>, Gone> {
    match timeout(patience, body.data()).await {
        Ok(Some(Ok(part))) => {
            body.flow_control().release_capacity(part.len()).map_err(gone)?;
            Ok(Some(part))
        }
        Ok(None) => Ok(None),
        Ok(Some(Err(_))) | Err(_) => Err(Gone),
    }
}

/// Reads a body to its end, and its trailers.
async fn read_body(body: &mut RecvStream) -> Result<Received, Gone> {
    let mut received = Received::default();
    while let Some(part) = read_part(body, limits::STALL).await? {
        received.body_bytes += part.len() as u64;
    }
    received.trailers = read_trailers(body).await?;
    Ok(received)
}

/// Reads what comes after a body that has ended.
pub(super) async fn read_trailers(body: &mut RecvStream) -> Result<Vec<Field>, Gone> {
    match timeout(limits::STALL, body.trailers()).await {
        Ok(Ok(trailers)) => Ok(trailers.as_ref().map(fields_of).unwrap_or_default()),
        Ok(Err(_)) | Err(_) => Err(Gone),
    }
}

/// What fails in the library fails because the stream has ended.
pub(super) fn gone(_: h2::Error) -> Gone {
    Gone
}
