//! One request of a client of HTTP/2, from its head to the end of its answer.

use std::rc::Rc;
use std::time::Instant;

use h2::Reason as Code;
use http::request::Parts;

use super::call::Call;
use super::request::{self, Room, Unread, WebSocketFields};
use crate::act::{After, act};
use crate::answer::Answer;
use crate::downstream::{self, Downstream};
use crate::failure::{Flag, Reason};
use crate::forward::OfHttp2;
use crate::plan::{Client, Exchange, Plan, exchange, plan};
use crate::record::{Outcome, Side};
use crate::upgrade;
use crate::worker::Worker;

/// Serves it.
pub(crate) async fn serve(worker: &Rc<Worker>, mut call: Call, head: Parts, who: &Client, started: Instant) {
    let decided = decide(worker, &call, &head, who, started);
    drop(head);
    let (exchange, plan) = match decided {
        Ok(Some(decided)) => decided,
        // Its listener is gone.
        Ok(None) => return call.reset(Code::REFUSED_STREAM),
        Err(unread) => return refuse(worker, &mut call, who, unread, started).await,
    };
    let after = act::<OfHttp2>(worker, &mut Downstream::Http2(&mut call), who, exchange, plan).await;
    if let After::Upgraded(tunnel) = after {
        // Apart: few streams become one.
        Box::pin(upgrade::relay(worker, &mut Downstream::Http2(&mut call), who, *tunnel)).await;
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
        flag: Flag::DownstreamProtocolError,
        grpc: None,
        bytes_received: 0,
        bytes_sent: 0,
        duration: started.elapsed(),
    };
    worker.recorder.exchange(side, &outcome, None, &worker.recorder.nowhere());
}
