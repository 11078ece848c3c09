//! A copy of a request for an endpoint that speaks HTTP/2. The copy is made as HTTP/1 frames it; here its framing is taken
//! off again.

use bytes::Bytes;
use h2::SendStream;

use super::{Copy, Loss};
use crate::bridge::{Patience, Sink};
use crate::choose::Choice;
use crate::connect::admit;
use crate::failure::Reason;
use crate::h1::body::{BadChunk, Decoder};
use crate::h2::client::lease;
use crate::h2::head::{self, Manner};

impl Copy {
    /// Sends it and reads the answer; its status.
    pub(super) async fn exchange_http2(&self, choice: &Choice<'_>) -> Result<u16, Loss> {
        let worker = &self.worker;
        let original = &*self.original;
        let lease = self.in_time(lease(worker, choice, Some(&self.cluster), &original.ends)).await?;
        let _admitted = admit(worker, &self.cluster).map_err(Loss::Failed)?;
        if let Some(counter) = &choice.stats.requests_total {
            counter.inc();
        }
        let manner = Manner { takes_trailers: original.takes_trailers, opens_websocket: false };
        let unfit = |unfit: head::Unfit| Loss::Failed(Reason::BadRequest(unfit.0));
        let request = head::request(&original.head, manner).map_err(unfit)?;
        let mut decoder = Decoder::new(original.framing);
        let (response, mut stream) = lease.send(request, decoder.is_done()).map_err(broken)?;
        if !decoder.is_done() {
            self.write_http2(&mut stream, &mut decoder).await?;
        }
        let answer = async {
            let mut answer = response.await.map_err(broken)?;
            let body = answer.body_mut();
            while let Some(data) = body.data().await {
                let count = data.map_err(broken)?.len();
                // A stream that is gone needs no window.
                let _ = body.flow_control().release_capacity(count);
            }
            Ok(answer.status().as_u16())
        };
        tokio::time::timeout(original.timeout, answer).await.unwrap_or(Err(Loss::Failed(Reason::RouteTimeout)))
    }

    /// Sends the body.
    async fn write_http2(&self, stream: &mut SendStream<Bytes>, decoder: &mut Decoder) -> Result<(), Loss> {
        let mut trailers = Vec::new();
        if let Some(body) = &self.original.body {
            return self.push(stream, decoder, &mut body.bytes(), &mut trailers).await;
        }
        let Some(feed) = &self.feed else { return Ok(()) };
        // What a chunk's framing leaves over waits for the bytes behind it.
        let mut unread = Vec::new();
        while let Some(bytes) = feed.next().await.map_err(Loss::Starved)? {
            unread.extend_from_slice(&bytes);
            let mut rest = &unread[..];
            self.push(stream, decoder, &mut rest, &mut trailers).await?;
            let read = unread.len() - rest.len();
            unread.drain(..read);
        }
        Ok(())
    }

    async fn push(
        &self,
        stream: &mut SendStream<Bytes>,
        decoder: &mut Decoder,
        bytes: &mut &[u8],
        trailers: &mut Vec<u8>,
    ) -> Result<(), Loss> {
        let moved_ms = self.worker.moved();
        let patience = Patience::new(&self.worker, self.worker.settings.upstream_idle_timeout, &moved_ms);
        let mut sink = Sink::Http2(stream);
        let gone = |_| Loss::Failed(Reason::UpstreamClosed);
        loop {
            let step = decoder.step(bytes, trailers).map_err(|BadChunk(rule)| Loss::Failed(Reason::BadBody(rule)))?;
            let data = Bytes::copy_from_slice(&bytes[step.skip..step.skip + step.data]);
            *bytes = &bytes[step.skip + step.data..];
            let ends = decoder.is_done();
            if !data.is_empty() {
                sink.data(data, ends && trailers.is_empty(), &patience).await.map_err(gone)?;
            }
            if ends && (step.data == 0 || !trailers.is_empty()) {
                let trailers = (!trailers.is_empty()).then(|| head::trailers(trailers));
                return sink.end(trailers, &patience).await.map_err(gone);
            }
            if ends || step.skip + step.data == 0 {
                return Ok(());
            }
        }
    }
}

fn broken(error: h2::Error) -> Loss {
    Loss::Failed(if error.is_io() || error.is_go_away() { Reason::UpstreamClosed } else { Reason::UpstreamReset })
}
