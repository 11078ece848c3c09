//! Sending a request on: pick an endpoint, connect or reuse, send, await the answer, relay it.
//!
//! The request head was written by `plan`; the answer's head is written here. A request on a kept connection that dies
//! before the first byte of an answer is sent again once, on a fresh connection, if that is safe (RFC 9110 §9.2.2,
//! RFC 9112 §9.3.1): the server may have closed it just then.

use std::cell::{Cell, OnceCell};
use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use outrigger_model::{BreakerScope, RetryPolicy, UpstreamHttp};

use crate::answer::Answer;
use crate::bridge;
use crate::choose::{Choice, choose};
use crate::connect::{admit, connect};
use crate::deadlines::Deadlines;
use crate::downstream::Downstream;
use crate::exchange::Conversation;
use crate::failure::{Blame, Reason};
use crate::flag::Flags;
use crate::h1::body::Framing;
use crate::h1::head::Version;
use crate::h2::client::{Lease, lease};
use crate::held_body::{HeldBody, Needs};
use crate::mirror::{self, Tee};
use crate::plan::{Client, Exchange};
use crate::pool::{Upstream, give_back};
use crate::progress::Lost;
use crate::record::{EndpointStats, Raised, Side};
use crate::retry::Tries;
use crate::tunnel;
use crate::upgrade::Upgraded;
use crate::watch::Watch;
use crate::worker::{Target, Worker, WorkerCluster};

/// A request that is ready to be sent.
pub(crate) struct Forwarding {
    pub(crate) destination: Destination,
    /// The destination of the route that chose it, for the answer's header operations.
    pub(crate) target: Option<Rc<Target>>,
    /// The head as the upstream gets it.
    pub(crate) head: Vec<u8>,
    /// Where the number of the try stands in the head, if this proxy tells it.
    pub(crate) attempt_at: Option<usize>,
    /// The body, where it is held to be sent again.
    pub(crate) held_body: OnceCell<HeldBody>,
    /// Set when the copies of the route were sent; where the body goes on to them while it is relayed.
    pub(crate) mirrored: OnceCell<Option<Tee>>,
    /// Hash for consistent balancing.
    pub(crate) key: Option<u64>,
    /// Value of a `Set-Cookie` that keeps the client with its endpoint.
    pub(crate) set_cookie: Option<Vec<u8>>,
    /// Cross-origin fields of the answer.
    pub(crate) cors: Vec<(&'static str, Vec<u8>)>,
}

/// Where a request goes.
pub(crate) enum Destination {
    /// To an endpoint of a cluster.
    Cluster(Rc<WorkerCluster>),
    /// To the endpoint of a cluster that is this pod.
    Pod { cluster: Rc<WorkerCluster>, pod: String },
    /// To the address the client named, under the policies of a cluster.
    Original { cluster: Rc<WorkerCluster>, host: String, port: u16 },
    /// To the address the client named; no configuration has it.
    Passthrough { host: String, port: u16 },
}

/// A forwarded exchange that came to an end, or to grief.
pub(crate) struct Forwarded {
    /// The endpoint it went to, for the metrics.
    pub(crate) endpoint: Rc<EndpointStats>,
    /// Flags that it has because of its tries.
    pub(crate) flags: Flags,
    /// Whether the whole answer went through; otherwise why not.
    pub(crate) result: Result<Answered, Broken>,
}

/// The answer went through.
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) grpc_status: Option<u8>,
    /// The connection to the instance, if it speaks another protocol from here on.
    pub(crate) upgraded: Option<Upgraded>,
}

/// The exchange failed.
pub(crate) struct Broken {
    pub(crate) lost: Lost,
    /// The object at fault.
    pub(crate) cause: String,
    /// What a fallback answers instead.
    pub(crate) instead: Option<Box<Answer>>,
}

/// A connection for one request.
pub(crate) enum Link {
    /// Of its own while the request lasts.
    Http1(Box<Upstream>),
    /// Shared with other requests.
    Http2(Lease),
}

impl Link {
    /// Which of the requests over it this is, from 1 on.
    fn number(&self) -> u32 {
        match self {
            Self::Http1(upstream) => upstream.served.saturating_add(1),
            Self::Http2(lease) => lease.number,
        }
    }
}

/// How the conversations of a kind of client are held. A type and no branch, so that what only the other kind needs takes no
/// room in the future of a request.
pub(crate) trait Talks {
    /// Holds one; the link is taken when it is over.
    async fn talk(
        conversation: &Conversation<'_, '_>,
        client: &mut Downstream<'_>,
        link: &mut Option<Link>,
    ) -> Result<Answered, Lost>;
}

/// Clients of HTTP/1.
pub(crate) enum OfHttp1 {}

/// Clients of HTTP/2.
pub(crate) enum OfHttp2 {}

impl Talks for OfHttp1 {
    async fn talk(
        conversation: &Conversation<'_, '_>,
        client: &mut Downstream<'_>,
        link: &mut Option<Link>,
    ) -> Result<Answered, Lost> {
        match client {
            Downstream::Http1(client) if matches!(link, Some(Link::Http1(_))) => conversation.run(client, link).await,
            // Apart: most endpoints speak HTTP/1, too.
            client => Box::pin(bridge::run(conversation, client, link)).await,
        }
    }
}

impl Talks for OfHttp2 {
    async fn talk(
        conversation: &Conversation<'_, '_>,
        client: &mut Downstream<'_>,
        link: &mut Option<Link>,
    ) -> Result<Answered, Lost> {
        bridge::run(conversation, client, link).await
    }
}

/// Sends a request on and relays the answer, with as many tries as a policy and the circumstances allow.
pub(crate) async fn forward<T: Talks>(
    worker: &Rc<Worker>,
    client: &mut Downstream<'_>,
    who: &Client,
    exchange: &Exchange,
    forwarding: &mut Forwarding,
    policy: Option<&RetryPolicy>,
) -> Forwarded {
    let deadlines = forwarding.deadlines(exchange);
    if exchange.framing == Framing::None {
        deadlines.request_is_here();
    }
    let cluster = forwarding.cluster().cloned();
    let tries = Tries::new(worker, exchange, &deadlines, cluster.as_deref(), policy);
    let mut picks = 0;
    loop {
        let trying = Trying { who, forwarding, tries: &tries };
        let (endpoint, result) = trying.run::<T>(client).await;
        let again = match &result {
            Ok(_) => {
                tries.answered();
                None
            }
            // Others may be fine: the balancer picks once more, which is no retry.
            Err(broken) if picks < Tries::PICKS_MAX && forwarding.is_refused_by_endpoint(broken.lost.reason) => {
                picks += 1;
                continue;
            }
            Err(broken) => tries.after(&broken.lost),
        };
        let Some(wait) = again else {
            return Forwarded { endpoint, flags: tries.flags(), result };
        };
        // The time of one try does not count between two.
        let waited = deadlines.limit_whole(pin!(tokio::time::sleep(wait))).await;
        if let Err(reason) = waited {
            let broken = Broken::new(reason, forwarding.name().to_owned());
            return Forwarded { endpoint, flags: tries.flags(), result: Err(broken) };
        }
        forwarding.write_attempt(tries.number());
    }
}

/// One try of a request.
struct Trying<'t> {
    who: &'t Client,
    forwarding: &'t Forwarding,
    tries: &'t Tries<'t>,
}

impl Trying<'_> {
    /// One function, but for what waits for little: each more that waits for the rest would be moved into the one around it.
    async fn run<T: Talks>(&self, client: &mut Downstream<'_>) -> (Rc<EndpointStats>, Result<Answered, Broken>) {
        let Self { forwarding, tries, .. } = *self;
        let Tries { worker, exchange, deadlines, .. } = *tries;
        // When the request came is exact enough for the age of endpoints; a retry may come much later.
        let now = if tries.number() == 1 { exchange.started } else { Instant::now() };
        let choice = match choose(worker, forwarding, tries, now).await {
            Ok(choice) => choice,
            Err((stats, reason, cause)) => return (stats, Err(Broken::new(reason, cause))),
        };
        let cluster = forwarding.cluster();
        let watch = match Watch::begin(cluster.map(|cluster| &*cluster.live), &choice.state) {
            Ok(watch) => watch,
            Err((reason, cause)) => return (choice.stats, Err(Broken::new(reason, cause))),
        };
        tries.began_at(choice.state.id);
        let _cluster_active = cluster.map(|c| Raised::new(&c.stats.requests_active));
        let _endpoint_active = choice.state.begin();
        deadlines.try_begins(watch.timeout());
        if exchange.is_connect {
            let result = Box::pin(tunnel::open(worker, client, exchange, forwarding, &choice)).await;
            match &result {
                Ok(answered) => watch.answered(answered.status, None),
                Err(broken) => watch.failed(broken.lost.reason),
            }
            return (choice.stats, result);
        }
        let over_http2 = forwarding.goes_over_http2(exchange);
        // A connection that will not come back is not taken from those who share.
        let is_private = cluster.is_some_and(|cluster| cluster.live.model.proxy_protocol.is_some());
        let pooled = !exchange.asks_upgrade && !is_private && !over_http2;
        let reused = pooled.then(|| worker.pool.take(choice.state.id, worker.clock.now_ms())).flatten();
        if forwarding.held_body.get().is_none()
            && let Err(reason) = self.hold_body(client, reused.is_some(), over_http2).await
        {
            return (choice.stats, Err(Broken::new(reason, String::new())));
        }
        let conversation = self.conversation(client, &choice, &watch);
        let reused = reused.map(Link::Http1);
        let result = converse::<T>(&conversation, &choice, client, reused, over_http2).await;
        if let Some(messages) = &conversation.messages {
            tries.messages_counted.set(messages.requests_counted.get());
        }
        (choice.stats, result)
    }

    /// Takes the body if it is at hand, or waits for it where it may have to be sent again.
    async fn hold_body(&self, client: &mut Downstream<'_>, is_reused: bool, over_http2: bool) -> Result<(), Reason> {
        let Self { forwarding, tries, .. } = *self;
        // A connection of HTTP/2 is shared, and one that is waited for may have served others.
        let is_limited = forwarding.cluster().is_some_and(|c| c.live.model.pool.connections_max.is_some());
        let may_be_lost = tries.exchange.is_idempotent && (is_reused || over_http2 || is_limited);
        let needs = Needs { repetition: may_be_lost || tries.may_need_body(), data: over_http2 };
        if let Some(body) = HeldBody::take(tries.worker, client, tries.exchange, needs).await? {
            _ = forwarding.held_body.set(body);
        }
        Ok(())
    }

    /// What the try has to say to its endpoint.
    fn conversation<'c, 'w>(
        &'c self,
        client: &Downstream<'_>,
        choice: &'c Choice<'_>,
        watch: &'c Watch<'w>,
    ) -> Conversation<'c, 'w> {
        let Self { forwarding, tries, .. } = *self;
        let Tries { worker, exchange, deadlines, .. } = *tries;
        let held_body = forwarding.held_body.get();
        if held_body.is_some() {
            deadlines.request_is_here();
        }
        let tee = forwarding.mirrored.get_or_init(|| self.mirror(client, held_body));
        let messages = exchange.is_grpc.then(|| {
            let side = Side { direction: &exchange.site().listener.direction, peer: self.who.workload.as_ref() };
            let count = choice.stats.messages(&worker.recorder, side);
            count.requests_counted.set(tries.messages_counted.get());
            count
        });
        Conversation {
            worker,
            exchange,
            forwarding,
            endpoint: &choice.state,
            deadlines,
            tee: tee.as_ref(),
            held_body,
            messages,
            tries,
            watch,
        }
    }

    /// Sends the copies of the route, once.
    fn mirror(&self, client: &Downstream<'_>, held_body: Option<&HeldBody>) -> Option<Tee> {
        // A copy would be half of a conversation.
        if self.tries.exchange.asks_upgrade {
            return None;
        }
        // Made for copies alone: framing it again may cost a copy of its own.
        let whole_body = held_body.filter(|_| self.forwarding.is_mirrored()).map(|body| body.wire(client));
        mirror::send(self.tries.worker, self.tries.exchange, self.forwarding, whole_body.as_deref())
    }
}

/// Holds the conversation on the `reused` connection or another; once more, where that had been closed and it is safe.
async fn converse<T: Talks>(
    conversation: &Conversation<'_, '_>,
    choice: &Choice<'_>,
    client: &mut Downstream<'_>,
    mut reused: Option<Link>,
    over_http2: bool,
) -> Result<Answered, Broken> {
    let Conversation { worker, exchange, forwarding, deadlines, watch, tries, .. } = conversation;
    let cluster = forwarding.cluster().map(Rc::as_ref);
    let mut was_resent = false;
    loop {
        let mut was_reused = reused.is_some();
        let linked = match &reused {
            Some(_) => Ok(()),
            None => {
                let wanted = match (over_http2, was_resent) {
                    (true, _) => Wanted::Http2,
                    (false, false) => Wanted::Http1,
                    (false, true) => Wanted::FreshHttp1,
                };
                let linked = pin!(client.while_there(link(worker, choice, cluster, exchange, wanted)));
                deadlines.limit(linked, &Cell::new(0)).await.flatten().map(|link| reused = Some(link))
            }
        };
        let lost = match linked {
            Ok(()) => {
                let admitted = cluster.map(|cluster| admit(worker, cluster)).transpose();
                let _admitted = match admitted {
                    Ok(admitted) => admitted,
                    Err(reason) => {
                        spare(worker, cluster, choice, reused);
                        watch.failed(reason);
                        return Err(broken(Lost::unsent(reason), forwarding, choice));
                    }
                };
                let number = reused.as_ref().map_or(1, Link::number);
                was_reused |= number > 1;
                choice.sends(worker, cluster, number);
                match T::talk(conversation, client, &mut reused).await {
                    Ok(answered) => {
                        if exchange.is_grpc {
                            watch.ended(answered.status, answered.grpc_status);
                        }
                        return Ok(answered);
                    }
                    Err(lost) => lost,
                }
            }
            Err(reason) => Lost::unsent(reason),
        };
        if let Some(cluster) = cluster {
            cluster.stats.losses.count(lost.reason, lost.refused);
        }
        if lost.may_be_sent_again(exchange.is_idempotent, was_reused) && tries.may_resend(&lost) {
            was_resent = true;
            if let Some(cluster) = cluster {
                cluster.stats.retries.inc();
            }
            deadlines.try_begins(watch.timeout());
            continue;
        }
        if !lost.was_declined() {
            watch.failed(lost.reason);
        }
        return Err(broken(lost, forwarding, choice));
    }
}

/// Leaves a connection that was not used for other requests.
fn spare(worker: &Worker, cluster: Option<&WorkerCluster>, choice: &Choice<'_>, link: Option<Link>) {
    if let Some(Link::Http1(upstream)) = link {
        give_back(worker, cluster.map(|cluster| &cluster.live.model.pool), choice.state.id, upstream);
    }
}

/// What connection a request wants.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Http1,
    /// One that served nobody before, as one that did has just let the request down.
    FreshHttp1,
    Http2,
}

/// A connection to the chosen endpoint.
async fn link(
    worker: &Rc<Worker>,
    choice: &Choice<'_>,
    cluster: Option<&WorkerCluster>,
    exchange: &Exchange,
    wanted: Wanted,
) -> Result<Link, Reason> {
    if wanted == Wanted::Http2 {
        let lease = Box::pin(lease(worker, choice, cluster, &exchange.ends)).await?;
        // An endpoint that knows no WebSockets over HTTP/2 may know those of HTTP/1.
        if !exchange.asks_upgrade || Box::pin(lease.takes_websockets(choice.connect_timeout)).await {
            return Ok(Link::Http2(lease));
        }
    }
    // Apart: most requests find a connection open.
    Box::pin(connect(worker, choice, cluster, Some(&exchange.ends), wanted != Wanted::Http1)).await.map(Link::Http1)
}

/// A failure with what is known of it.
pub(crate) fn broken(lost: Lost, forwarding: &Forwarding, choice: &Choice<'_>) -> Broken {
    let cause = match lost.reason.row().blame {
        Blame::Upstream | Blame::Proxy => format!("{} at {}", forwarding.name(), choice.state.endpoint.address),
        Blame::Downstream => String::new(),
    };
    Broken { lost, cause, instead: None }
}

impl Broken {
    /// Before anything was sent.
    fn new(reason: Reason, cause: String) -> Self {
        Self { lost: Lost::unsent(reason), cause, instead: None }
    }
}

impl Forwarding {
    /// The cluster whose policies and counters apply.
    pub(crate) fn cluster(&self) -> Option<&Rc<WorkerCluster>> {
        match &self.destination {
            Destination::Cluster(cluster)
            | Destination::Pod { cluster, .. }
            | Destination::Original { cluster, .. } => Some(cluster),
            Destination::Passthrough { .. } => None,
        }
    }

    /// Takes a body that was held off the client: it is not sent again.
    pub(crate) fn give_up_body(&mut self, client: &mut Downstream<'_>, exchange: &Exchange) {
        if let Some(body) = self.held_body.take() {
            body.release(client, exchange);
        }
    }

    /// Writes the number of the try into the head, where it has one.
    fn write_attempt(&mut self, number: u32) {
        let Some(at) = self.attempt_at else { return };
        let end = self.head[at..].iter().position(|b| *b == b'\r').map_or(at, |length| at + length);
        self.head.splice(at..end, itoa::Buffer::new().format(number).bytes());
    }

    /// Whether it was the circuit of the endpoint that did not let it through.
    fn is_refused_by_endpoint(&self, reason: Reason) -> bool {
        let breaker = self.cluster().and_then(|cluster| cluster.live.model.breaker.as_ref());
        matches!(reason, Reason::CircuitOpen | Reason::CircuitFull)
            && breaker.is_some_and(|breaker| breaker.scope == BreakerScope::Endpoint)
    }

    /// Whether its route wants copies of it.
    fn is_mirrored(&self) -> bool {
        self.target.as_ref().is_some_and(|target| !target.route.mirrors.is_empty())
    }

    /// Whether the endpoints get it over HTTP/2.
    fn goes_over_http2(&self, exchange: &Exchange) -> bool {
        // What nobody has configured is spoken to as the client speaks.
        let http = self.cluster().map_or(UpstreamHttp::AsClient, |cluster| cluster.live.model.http);
        http.is_http2(exchange.version == Version::Http2)
    }

    /// The time limits of the route, and that of the call.
    fn deadlines(&self, exchange: &Exchange) -> Deadlines {
        let route = self.target.as_ref().map(|target| &target.route);
        let per_try = route.and_then(|route| route.retry.as_ref()).and_then(|retry| retry.per_try_timeout);
        let call = exchange.grpc_timeout.and_then(|timeout| exchange.started.checked_add(timeout));
        Deadlines::new(route.and_then(|route| route.timeout), per_try).until(call)
    }

    pub(crate) fn name(&self) -> &str {
        self.cluster().map_or(outrigger_model::ClusterName::PASSTHROUGH, |c| c.live.model.name.as_str())
    }
}
