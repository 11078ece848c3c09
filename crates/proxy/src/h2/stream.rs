//! One request of a client of HTTP/2, from its head to the end of its answer.

use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Reason as Code, RecvStream};
use http::Request;
use http::request::Parts;

use super::call::Call;
use super::request::{self, Room, Unread, WebSocketFields};
use crate::act::{After, act};
use crate::answer::Answer;
use crate::downstream::{self, Downstream};
use crate::failure::Reason;
use crate::flag::Flag;
use crate::forward::OfHttp2;
use crate::plan::{Client, Exchange, Plan, exchange, plan};
use crate::record::{Outcome, Side};
use crate::upgrade;
use crate::worker::Worker;

/// A request on its way, as it was decided.
pub(crate) struct Begun {
    call: Call,
    /// `None` when its listener is gone, and once it is acted on.
    decided: Result<Option<(Exchange, Plan)>, Unread>,
    started: Instant,
}

impl Begun {
    /// Reads its head and decides on it. That takes no waiting.
    pub(crate) fn new(
        worker: &Worker,
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        who: &Client,
    ) -> Self {
        let started = Instant::now();
        let (head, body) = request.into_parts();
        let mut call = Call::new(body, respond, head.extensions.get::<Protocol>().is_some());
        let decided = decide(worker, &call, &head, who, started);
        call.head = Some(head);
        Self { call, decided, started }
    }

    /// Serves it.
    pub(crate) async fn serve(&mut self, worker: &Rc<Worker>, who: &Client) {
        let call = &mut self.call;
        let (exchange, plan) = match &mut self.decided {
            Ok(decided) => match decided.take() {
                Some(decided) => decided,
                None => return call.reset(Code::REFUSED_STREAM),
            },
            Err(unread) => return Box::pin(refuse(worker, call, who, *unread, self.started)).await,
        };
        let after = act::<OfHttp2>(worker, &mut Downstream::Http2(call), who, exchange, plan).await;
        if let After::Upgraded(tunnel) = after {
            Box::pin(upgrade::relay(worker, &mut Downstream::Http2(call), who, *tunnel)).await;
        }
    }
}

/// Reads the head and decides on it; `None` when its listener is gone.
fn decide(
    worker: &Worker,
    call: &Call,
    head: &Parts,
    who: &Client,
    started: Instant,
) -> Result<Option<(Exchange, Plan)>, Unread> {
    // What follows a CONNECT is the tunnel's.
    let has_body = !call.body.is_end_stream() && head.method != http::Method::CONNECT;
    let cookies = request::joined_cookies(&head.headers);
    let websocket = call.is_websocket.then(|| WebSocketFields::new(worker.rng.borrow_mut().u128(..)));
    let mut room = Room::default();
    let bounds = worker.settings.target_bytes_max;
    let head = request::read(head, &cookies, has_body, bounds, websocket.as_ref(), &mut room)?;
    let Some(exchange) = exchange(worker, &head, who, started) else { return Ok(None) };
    let plan = plan(worker, &exchange, &head, who);
    Ok(Some((exchange, plan)))
}

/// Ends a stream whose request is not read.
async fn refuse(worker: &Worker, call: &mut Call, who: &Client, unread: Unread, started: Instant) {
    let current = worker.current();
    let Some((site, _)) = current.policy.site(&who.listener) else { return call.reset(Code::REFUSED_STREAM) };
    let side = Side { direction: &site.listener.direction, peer: who.workload.as_ref() };
    worker.recorder.downstream(side.direction).requests_total.inc();
    let mut status = 0;
    match unread {
        Unread::Malformed(rule) => {
            worker.recorder.limit_hit("http2_malformed");
            if worker.may_complain() {
                let client = who.address;
                tracing::info!(%client, rule, "a malformed request is reset; told once a second at most");
            }
            call.reset(Code::PROTOCOL_ERROR);
        }
        Unread::TooManyFields => {
            worker.recorder.limit_hit("http2_fields");
            call.reset(Code::ENHANCE_YOUR_CALM);
        }
        Unread::TargetLong => {
            let reason = Reason::TargetLong;
            worker.recorder.limit_hit(reason.row().details);
            worker.recorder.proxy_reply(reason);
            let answer = Answer::failure(reason, "");
            status = answer.status;
            // A client that is gone already is no worse off.
            let _ = downstream::answer_http2(worker, call, &answer, &answer.body).await;
        }
    }
    let outcome = Outcome {
        status,
        flags: Flag::DownstreamProtocolError.into(),
        grpc: None,
        bytes_received: 0,
        bytes_sent: 0,
        duration: started.elapsed(),
    };
    worker.recorder.exchange(side, &outcome, None, &worker.recorder.nowhere());
}
