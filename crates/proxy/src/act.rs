//! What happens to a request that was read, whatever it came over: in order, under one policy.

use std::rc::Rc;

use crate::answer::Answer;
use crate::downstream::Downstream;
use crate::failure::{Blame, Reason, grpc_status_of};
use crate::fallback;
use crate::flag::Flags;
use crate::forward::{Broken, Talks, forward};
use crate::h1::body::Framing;
use crate::h1::head::Version;
use crate::plan::{Client, Exchange, Plan, Refused};
use crate::record::{ClusterStats, EndpointStats, GrpcStatus, Outcome, Raised, Side};
use crate::tcp;
use crate::upgrade::Tunnel;
use crate::worker::Worker;

/// What becomes of the connection after a request.
pub(crate) enum After {
    /// The next request.
    Next,
    /// Nothing: it is closed.
    Close,
    /// It is closed once the client had time to read the answer: it is still sending.
    Linger,
    /// Bytes of another protocol.
    Upgraded(Box<Tunnel>),
}

/// Acts on a request as it was decided: sends it on, answers it, or refuses it; and counts it.
pub(crate) async fn act<T: Talks>(
    worker: &Rc<Worker>,
    client: &mut Downstream<'_>,
    who: &Client,
    exchange: Exchange,
    plan: Plan,
) -> After {
    let side = Side { direction: &exchange.site().listener.direction, peer: who.workload.as_ref() };
    let downstream = worker.recorder.downstream(side.direction);
    downstream.requests_total.inc();
    downstream.of_version(&worker.recorder.shard, exchange.version == Version::Http2).1.inc();
    let _active = Raised::new(&downstream.requests_active);
    if let Some(delay) = exchange.delay()
        && !Box::pin(delay.pass(worker, client)).await
    {
        return left(worker, client, side, &exchange, &plan);
    }
    carry_out::<T>(worker, client, who, side, &exchange, plan).await
}

/// Does what is left to do for a request that is counted.
async fn carry_out<T: Talks>(
    worker: &Rc<Worker>,
    client: &mut Downstream<'_>,
    who: &Client,
    side: Side<'_>,
    exchange: &Exchange,
    plan: Plan,
) -> After {
    let mut forwarding = match plan {
        Plan::Forward(forwarding) => forwarding,
        Plan::Answer(answer) => {
            let nowhere = worker.recorder.nowhere();
            return answer_request(worker, client, side, exchange, answer, None, (&*nowhere, None)).await;
        }
        Plan::Fail(refused) => return refuse(worker, client, side, exchange, refused).await,
    };
    let target = forwarding.target.clone();
    let policy = target.as_ref().and_then(|target| target.route.retry.as_ref());
    let mut forwarded = forward::<T>(worker, client, who, exchange, &mut forwarding, policy).await;
    if fallback::is_for(&forwarded, &forwarding, exchange) {
        let standing_in = fallback::stand_in::<T>(worker, client, who, exchange, &mut forwarding, forwarded);
        forwarded = Box::pin(standing_in).await;
    }
    forwarding.give_up_body(client, exchange);
    let cluster = forwarding.cluster().cloned();
    let stats = cluster.as_ref().map(|c| &c.stats);
    worker.buffers.give_head(std::mem::take(&mut forwarding.head));
    match forwarded.result {
        Ok(answered) => {
            let mut outcome = exchange.outcome(answered.status, forwarded.flags);
            if let Some(upgraded) = answered.upgraded {
                let (direction, endpoint) = (side.direction.clone(), forwarded.endpoint);
                let started = exchange.started;
                let of_connect = exchange.is_connect.then(|| tcp::idle_timeout(worker, cluster.as_deref()));
                let idle_timeout = of_connect.unwrap_or(worker.settings.upgrade_idle_timeout);
                let tunnel = Tunnel { upgraded, direction, cluster, endpoint, started, idle_timeout, outcome };
                return After::Upgraded(Box::new(tunnel));
            }
            outcome.grpc = exchange.is_grpc.then_some(GrpcStatus(answered.grpc_status));
            worker.recorder.exchange(side, &outcome, stats, &forwarded.endpoint);
            if exchange.keep_alive.get() { After::Next } else { After::Linger }
        }
        Err(Broken { lost, cause, instead }) if lost.status_sent == 0 && lost.reason != Reason::ClientGone => {
            worker.recorder.proxy_reply(lost.reason);
            exchange.flags.set(exchange.flags.get().and(forwarded.flags));
            // A fallback's answer to a call of gRPC has its own status.
            let reason = instead.is_none().then_some(lost.reason);
            let answer = instead.map_or_else(|| Answer::failure(lost.reason, &cause), |instead| *instead);
            // The request body may be half read: the connection has no next request.
            if exchange.framing != Framing::None {
                exchange.keep_alive.set(false);
            }
            let endpoint = (&*forwarded.endpoint, stats);
            answer_request(worker, client, side, exchange, answer, reason, endpoint).await
        }
        Err(Broken { lost, .. }) => {
            let outcome = exchange.outcome(lost.status_sent, forwarded.flags.with(lost.reason.row().flag));
            worker.recorder.exchange(side, &outcome, stats, &forwarded.endpoint);
            debug_assert!(
                lost.status_sent != 0 || lost.reason == Reason::ClientGone,
                "a client that waits gets an answer"
            );
            client.cut();
            After::Close
        }
    }
}

/// Counts a request whose client left while it was held back.
fn left(worker: &Worker, client: &mut Downstream<'_>, side: Side<'_>, exchange: &Exchange, plan: &Plan) -> After {
    let destination = match plan {
        Plan::Forward(forwarding) => forwarding.cluster().map(|cluster| cluster.no_endpoint.clone()),
        Plan::Fail(refused) => Some(refused.destination.clone()),
        Plan::Answer(_) => None,
    };
    let outcome = exchange.outcome(0, Reason::ClientGone.row().flag.into());
    worker.recorder.exchange(side, &outcome, None, &destination.unwrap_or_else(|| worker.recorder.nowhere()));
    client.cut();
    After::Close
}

/// Answers a request that is not sent on.
async fn refuse(
    worker: &Worker,
    client: &mut Downstream<'_>,
    side: Side<'_>,
    exchange: &Exchange,
    Refused { reason, cause, destination }: Refused,
) -> After {
    // What follows a request that was refused for what it is may not be what it seems, such as the payload of a tunnel that
    // was never opened.
    if reason.row().blame == Blame::Downstream && reason != Reason::RateLimited {
        exchange.keep_alive.set(false);
    }
    worker.recorder.proxy_reply(reason);
    let answer = Answer::failure(reason, &cause);
    answer_request(worker, client, side, exchange, answer, Some(reason), (&*destination, None)).await
}

/// Sends an answer of the proxy's own and counts the exchange. `reason` is why it failed, if it did.
async fn answer_request(
    worker: &Worker,
    client: &mut Downstream<'_>,
    side: Side<'_>,
    exchange: &Exchange,
    answer: Answer,
    reason: Option<Reason>,
    (endpoint, cluster): (&EndpointStats, Option<&ClusterStats>),
) -> After {
    // A body that nobody will read would be taken for the next request.
    let close = !exchange.keep_alive.get() || exchange.framing != Framing::None || worker.draining.get();
    let own = answer.grpc_status();
    let of_reason = || reason.map_or_else(|| grpc_status_of(answer.status), Reason::grpc_status);
    let grpc = exchange.is_grpc.then(|| own.unwrap_or_else(of_reason));
    let mut answer = match grpc {
        Some(status) if own.is_none() => answer.for_grpc(status),
        Some(_) | None => answer,
    };
    exchange.complete(&mut answer);
    let sent = client.answer(worker, exchange, &answer, close).await;
    let mut outcome = exchange.outcome(answer.status, answer.flag.into());
    outcome.grpc = grpc.map(|status| GrpcStatus(Some(status)));
    worker.recorder.exchange(side, &outcome, cluster, endpoint);
    match (sent, close) {
        (false, _) => After::Close,
        (true, true) => After::Linger,
        (true, false) => After::Next,
    }
}

impl Exchange {
    /// The outcome as far as the exchange knows it.
    fn outcome(&self, status: u16, flags: Flags) -> Outcome {
        Outcome {
            status,
            flags: flags.and(self.flags.get()),
            grpc: None,
            bytes_received: self.bytes_received.get(),
            bytes_sent: self.bytes_sent.get(),
            duration: self.started.elapsed(),
        }
    }
}
