//! Sending a request on: pick an endpoint, connect or reuse, send, await the answer, relay it.
//!
//! The request head was written by `plan`; the answer's head is written here. A request on a kept connection that dies
//! before the first byte of an answer is sent again once, on a fresh connection, if that is safe (RFC 9110 §9.2.2,
//! RFC 9112 §9.3.1): the server may have closed it just then.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outrigger_model::UpstreamHttp;

use crate::bridge;
use crate::cluster::EndpointState;
use crate::connect::connect;
use crate::deadlines::Deadlines;
use crate::downstream::Downstream;
use crate::exchange::Conversation;
use crate::failure::{Blame, Reason};
use crate::first_answer;
use crate::h1::body::Framing;
use crate::h1::head::Version;
use crate::h2::client::{Lease, lease};
use crate::held_body::{HeldBody, Needs};
use crate::mirror;
use crate::plan::{Client, Exchange};
use crate::pool::Upstream;
use crate::progress::Lost;
use crate::record::{EndpointStats, Raised, Side};
use crate::tunnel;
use crate::upgrade::Upgraded;
use crate::worker::{Target, Worker, WorkerCluster};

/// A request that is ready to be sent.
pub(crate) struct Forwarding {
    pub(crate) destination: Destination,
    /// The destination of the route that chose it, for the answer's header operations.
    pub(crate) target: Option<Rc<Target>>,
    /// The head as the upstream gets it.
    pub(crate) head: Vec<u8>,
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
    pub(crate) reason: Reason,
    /// The status that was sent already; 0 when the client still waits for an answer.
    pub(crate) status_sent: u16,
    /// The object at fault.
    pub(crate) cause: String,
}

/// One chosen endpoint.
pub(crate) struct Choice<'f> {
    pub(crate) state: Chosen<'f>,
    pub(crate) stats: Rc<EndpointStats>,
    pub(crate) connect_timeout: Duration,
}

/// The state of a chosen endpoint. That of a cluster is borrowed: to count one more reference to it would be a write to
/// memory that all workers share.
pub(crate) enum Chosen<'f> {
    OfCluster(&'f Arc<EndpointState>),
    Dynamic(Arc<EndpointState>),
}

impl Chosen<'_> {
    /// For what outlives the request.
    pub(crate) fn shared(&self) -> Arc<EndpointState> {
        match self {
            Self::OfCluster(state) => Arc::clone(state),
            Self::Dynamic(state) => state.clone(),
        }
    }
}

impl Deref for Chosen<'_> {
    type Target = EndpointState;

    fn deref(&self) -> &EndpointState {
        match self {
            Self::OfCluster(state) => state,
            Self::Dynamic(state) => state,
        }
    }
}

/// A connection for one request.
pub(crate) enum Link {
    /// Of its own while the request lasts.
    Http1(Upstream),
    /// Shared with other requests.
    Http2(Lease),
}

/// How the conversations of a kind of client are held. A type and no branch, so that what only the other kind needs takes no
/// room in the future of a request.
pub(crate) trait Talks {
    /// Holds one.
    async fn talk(conversation: &Conversation<'_>, client: &mut Downstream<'_>, link: Link) -> Result<Answered, Lost>;
}

/// Clients of HTTP/1.
pub(crate) enum OfHttp1 {}

/// Clients of HTTP/2.
pub(crate) enum OfHttp2 {}

impl Talks for OfHttp1 {
    async fn talk(conversation: &Conversation<'_>, client: &mut Downstream<'_>, link: Link) -> Result<Answered, Lost> {
        match (client, link) {
            (Downstream::Http1(client), Link::Http1(upstream)) => conversation.run(client, upstream).await,
            // Apart: most endpoints speak HTTP/1, too.
            (client, link) => Box::pin(bridge::run(conversation, client, link)).await,
        }
    }
}

impl Talks for OfHttp2 {
    async fn talk(conversation: &Conversation<'_>, client: &mut Downstream<'_>, link: Link) -> Result<Answered, Lost> {
        bridge::run(conversation, client, link).await
    }
}

/// Sends a request on and relays the answer.
pub(crate) async fn forward<T: Talks>(
    worker: &Rc<Worker>,
    client: &mut Downstream<'_>,
    who: &Client,
    exchange: &Exchange,
    forwarding: &Forwarding,
) -> Forwarded {
    let deadlines = forwarding.deadlines(exchange);
    if exchange.framing == Framing::None {
        deadlines.request_is_here();
    }
    let choice = match choose(worker, forwarding, exchange.started).await {
        Ok(choice) => choice,
        Err((stats, reason, cause)) => {
            return Forwarded { endpoint: stats, result: Err(Broken { reason, status_sent: 0, cause }) };
        }
    };
    let cluster = forwarding.cluster();
    let stats = cluster.as_ref().map(|c| &c.stats);
    let _cluster_active = stats.map(|s| Raised::new(&s.requests_active));
    let _endpoint_active = choice.state.begin();
    if let Some(stats) = stats {
        stats.requests_total.inc();
    }
    if exchange.is_connect {
        let result = Box::pin(tunnel::open(worker, client, exchange, forwarding, &choice)).await;
        return Forwarded { endpoint: choice.stats, result };
    }
    let over_http2 = forwarding.goes_over_http2(exchange);
    // A connection that will not come back is not taken from those who share.
    let is_private = cluster.is_some_and(|cluster| cluster.live.model.proxy_protocol.is_some());
    let pooled = !exchange.asks_upgrade && !is_private && !over_http2;
    let reused = pooled.then(|| worker.pool.take(choice.state.id, worker.clock.now_ms())).flatten();
    let needs = Needs { repetition: reused.is_some(), data: over_http2 };
    let held_body = match HeldBody::take(worker, client, exchange, needs).await {
        Ok(body) => body,
        Err(reason) => {
            let result = Err(Broken { reason, status_sent: 0, cause: String::new() });
            return Forwarded { endpoint: choice.stats, result };
        }
    };
    if held_body.is_some() {
        deadlines.request_is_here();
    }
    // Made for copies alone: framing it again may cost a copy of its own.
    let whole_body = held_body.as_ref().filter(|_| forwarding.is_mirrored()).map(|body| body.wire(client));
    // A copy would be half of a conversation.
    let tee =
        if exchange.asks_upgrade { None } else { mirror::send(worker, exchange, forwarding, whole_body.as_deref()) };
    let messages = exchange.is_grpc.then(|| {
        let side = Side { direction: &exchange.site().listener.direction, peer: who.workload.as_ref() };
        choice.stats.messages(&worker.recorder, side)
    });
    let conversation = Conversation {
        worker,
        exchange,
        forwarding,
        endpoint: &choice.state,
        deadlines: &deadlines,
        tee: tee.as_ref(),
        held_body: held_body.as_ref(),
        messages,
    };
    let reused = reused.map(Link::Http1);
    let result = converse::<T>(&conversation, &choice, client, reused, over_http2).await;
    if let Some(body) = held_body {
        body.release(client, exchange);
    }
    Forwarded { endpoint: choice.stats, result }
}

/// Times that a request is sent again because a connection took no more requests: several of HTTP/2 may end at one time, but
/// an endpoint that ends each of them is not asked for ever.
const RESENDS_MAX: u32 = 3;

/// Holds the conversation on the `reused` connection or another; once more, where that had been closed and it is safe.
async fn converse<T: Talks>(
    conversation: &Conversation<'_>,
    choice: &Choice<'_>,
    client: &mut Downstream<'_>,
    mut reused: Option<Link>,
    over_http2: bool,
) -> Result<Answered, Broken> {
    let Conversation { worker, exchange, forwarding, deadlines, .. } = conversation;
    let cluster = forwarding.cluster().map(Rc::as_ref);
    let mut resends = 0;
    loop {
        deadlines.try_begins();
        let mut was_reused = reused.is_some();
        let connection = match reused.take() {
            Some(link) => Ok(link),
            None => {
                let linked = pin!(link(worker, choice, cluster, exchange, over_http2));
                deadlines.limit(linked, &Cell::new(0)).await.flatten()
            }
        };
        let lost = match connection {
            Ok(link) => {
                if let Some(counter) = &choice.stats.requests_total {
                    counter.inc();
                }
                was_reused |= matches!(&link, Link::Http2(lease) if lease.was_used);
                match T::talk(conversation, client, link).await {
                    Ok(answered) => return Ok(answered),
                    Err(lost) => lost,
                }
            }
            Err(reason) => Lost::unsent(reason),
        };
        if (was_reused || lost.refused) && resends < RESENDS_MAX && lost.may_be_sent_again(exchange) {
            resends += 1;
            if let Some(cluster) = cluster {
                cluster.stats.resends.inc();
            }
            continue;
        }
        if let Some(cluster) = cluster {
            cluster.stats.timed_out(lost.reason);
        }
        return Err(broken(&lost, forwarding, choice));
    }
}

/// A connection to the chosen endpoint.
async fn link(
    worker: &Rc<Worker>,
    choice: &Choice<'_>,
    cluster: Option<&WorkerCluster>,
    exchange: &Exchange,
    over_http2: bool,
) -> Result<Link, Reason> {
    if over_http2 {
        let lease = Box::pin(lease(worker, choice, cluster, &exchange.ends)).await?;
        // An endpoint that knows no WebSockets over HTTP/2 may know those of HTTP/1.
        if !exchange.asks_upgrade || Box::pin(lease.takes_websockets(choice.connect_timeout)).await {
            return Ok(Link::Http2(lease));
        }
    }
    let upstream = connect(worker, choice, cluster, Some(&exchange.ends)).await?;
    if let Some(cluster) = cluster {
        cluster.stats.connected(&worker.recorder.shard, false);
    }
    Ok(Link::Http1(upstream))
}

/// A failure with what is known of it.
pub(crate) fn broken(lost: &Lost, forwarding: &Forwarding, choice: &Choice<'_>) -> Broken {
    let cause = match lost.reason.row().blame {
        Blame::Upstream | Blame::Proxy => format!("{} at {}", forwarding.name(), choice.state.endpoint.address),
        Blame::Downstream => String::new(),
    };
    Broken { reason: lost.reason, status_sent: lost.status_sent, cause }
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

    fn name(&self) -> &str {
        self.cluster().map_or(outrigger_model::ClusterName::PASSTHROUGH, |c| c.live.model.name.as_str())
    }
}

/// What counts the request, why there is no endpoint, and the object at fault.
pub(crate) type NoChoice = (Rc<EndpointStats>, Reason, String);

/// Chooses the endpoint; `now` is when the request came, which is exact enough for the age of endpoints.
async fn choose<'f>(worker: &Worker, forwarding: &'f Forwarding, now: Instant) -> Result<Choice<'f>, NoChoice> {
    match &forwarding.destination {
        Destination::Cluster(cluster) if cluster.live.is_unanswered() => {
            Box::pin(first_answer::choose_in(worker, cluster, forwarding.key, now)).await
        }
        Destination::Cluster(cluster) => choose_in(worker, cluster, forwarding.key, now),
        Destination::Pod { cluster, pod } => {
            let index = cluster.live.hosts.iter().position(|host| *host.endpoint.workload.pod == **pod);
            chosen(worker, cluster, index)
        }
        Destination::Original { cluster, host, port } => {
            let stats = cluster.no_endpoint.clone();
            let address =
                resolve(worker, host, *port).await.map_err(|reason| (stats.clone(), reason, String::new()))?;
            let state = Chosen::Dynamic(worker.dynamic_endpoint(address));
            Ok(Choice { state, stats, connect_timeout: cluster.live.model.connect_timeout })
        }
        Destination::Passthrough { host, port } => {
            let stats = worker.recorder.passthrough();
            let address =
                resolve(worker, host, *port).await.map_err(|reason| (stats.clone(), reason, String::new()))?;
            let state = Chosen::Dynamic(worker.dynamic_endpoint(address));
            Ok(Choice { state, stats, connect_timeout: PASSTHROUGH_CONNECT_TIMEOUT })
        }
    }
}

/// Chooses among the endpoints of a cluster.
pub(crate) fn choose_in<'c>(
    worker: &Worker,
    cluster: &'c WorkerCluster,
    key: Option<u64>,
    now: Instant,
) -> Result<Choice<'c>, NoChoice> {
    let index = cluster.pick(key, &mut worker.rng.borrow_mut(), now);
    chosen(worker, cluster, index)
}

/// The address a redirected connection was to go to, under the policies of a cluster.
pub(crate) fn choose_original<'c>(
    worker: &Worker,
    cluster: &'c WorkerCluster,
    original: Option<SocketAddr>,
) -> Result<Choice<'c>, NoChoice> {
    let stats = cluster.no_endpoint.clone();
    let Some(address) = original else {
        return Err((stats, Reason::NoEndpoint, cluster.live.model.name.to_string()));
    };
    let state = Chosen::Dynamic(worker.dynamic_endpoint(address));
    Ok(Choice { state, stats, connect_timeout: cluster.live.model.connect_timeout })
}

/// The endpoint at an index, if there is one.
fn chosen<'c>(worker: &Worker, cluster: &'c WorkerCluster, index: Option<usize>) -> Result<Choice<'c>, NoChoice> {
    let Some(index) = index else {
        cluster.stats.none_healthy.inc();
        return Err((cluster.no_endpoint.clone(), Reason::NoEndpoint, cluster.live.why_empty()));
    };
    Ok(Choice {
        state: Chosen::OfCluster(&cluster.live.hosts[index]),
        stats: cluster.endpoint_stats(index, &worker.recorder),
        connect_timeout: cluster.live.model.connect_timeout,
    })
}

/// Istio's default `connectTimeout`.
const PASSTHROUGH_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The address of a host that the client named. The answer is used for this request only, so that a name cannot point
/// somewhere else between check and use.
async fn resolve(worker: &Worker, host: &str, port: u16) -> Result<SocketAddr, Reason> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, port));
    }
    let lookup = tokio::net::lookup_host((host, port));
    match tokio::time::timeout(worker.settings.resolve_timeout, lookup).await {
        Ok(Ok(mut addresses)) => addresses.next().ok_or(Reason::Unresolved),
        Ok(Err(_)) | Err(_) => Err(Reason::Unresolved),
    }
}
