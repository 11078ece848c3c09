//! Mirrors: copies of requests whose answers nobody waits for (VirtualService `mirror`, HTTPRoute `RequestMirror`).
//!
//! A copy is the request as the upstream gets it, after the filters of its route, byte for byte: like Istio since 1.28,
//! and unlike Envoy by default, it has no `-shadow` behind the host. It picks one endpoint of its cluster, its answer is
//! read and thrown away, and it has its own time limit. It runs as a task of the worker, so it neither delays nor fails the
//! request, and ends with the proxy at the latest.
//!
//! A body that is here whole is copied; a longer one is fed to the copies as it goes to the upstream ([`Tee`]). How many
//! copies run and how many bytes wait for them is bounded; a copy that finds no room is not sent, or is cut.
//!
//! Each is counted once by what became of it, in `outrigger_mirrored_requests_total`, and in the metrics of its cluster
//! and endpoint like any request; not in `istio_requests_total`, which counts requests of clients.

mod http2;
mod tee;

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use outrigger_model::{ClusterName, Fraction, Mirror, Workload};
use outrigger_telemetry::{Counter, catalogue};

pub(crate) use self::tee::Tee;
use self::tee::{Budget, Feed, Held, NoMore};
use crate::choose::{Choice, choose_in};
use crate::connect::{admit, connect};
use crate::failure::Reason;
use crate::forward::Forwarding;
use crate::h1::body::{Decoder, Framing};
use crate::h1::head::{self, Bounds, Version};
use crate::h1::stream::{IoFailure, Reader, Stream, Writer};
use crate::labels::cluster_labels;
use crate::plan::Exchange;
use crate::pool::give_back;
use crate::proxy_protocol::Ends;
use crate::record::{Raised, Recorder};
use crate::settings::Settings;
use crate::worker::{Worker, WorkerCluster};

/// The copies of one worker that are under way.
#[derive(Debug)]
pub(crate) struct Mirrors {
    count: Cell<usize>,
    budget: Rc<Budget>,
}

/// What became of a copy: the `result` in its metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It was answered, whatever the answer.
    Answered,
    /// A bound on copies or on what they hold was reached, or a limit of the cluster.
    Limit,
    /// Its cluster is not there.
    NoCluster,
    /// Its cluster has no endpoint to pick.
    NoEndpoint,
    /// No connection could be opened.
    Connect,
    /// It did not take its body fast enough.
    Slow,
    /// The request ended before its body did.
    Cut,
    /// No answer in time.
    Timeout,
    /// The connection broke, or the answer was no HTTP.
    Broken,
    /// The proxy ended first.
    Stopped,
}

/// A cluster's counts of copies, made when first needed.
#[derive(Debug, Default)]
pub(crate) struct Mirrored([OnceCell<Counter>; Fate::ALL.len()]);

/// What all copies of a request have in common.
struct Original {
    head: Vec<u8>,
    /// The whole body; `None`: it is fed.
    body: Option<Held>,
    /// Of the body as it is copied.
    framing: Framing,
    ends: Rc<Ends>,
    over_http2: bool,
    takes_trailers: bool,
    is_head: bool,
    is_idempotent: bool,
    timeout: Duration,
}

/// One copy.
struct Copy {
    worker: Rc<Worker>,
    cluster: Rc<WorkerCluster>,
    original: Rc<Original>,
    feed: Option<Feed>,
    /// Set at its end; a copy that is dropped before was stopped.
    fate: Cell<Fate>,
}

/// Why a copy was not answered.
enum Loss {
    Failed(Reason),
    Starved(NoMore),
}

/// Sends the copies that the route asks for. `body` is the whole body as it is sent on, where it is here; otherwise it is
/// to be pushed through the result.
pub(crate) fn send(
    worker: &Rc<Worker>,
    exchange: &Exchange,
    forwarding: &Forwarding,
    body: Option<&[u8]>,
) -> Option<Tee> {
    let route = &forwarding.target.as_ref()?.route;
    if route.mirrors.is_empty() {
        return None;
    }
    let drawn: Vec<&Mirror> = route.mirrors.iter().filter(|mirror| is_drawn(worker, mirror.share)).collect();
    if drawn.is_empty() {
        return None;
    }
    let held = body.map(|body| Held::copy(body, &worker.mirrors.budget));
    let has_room = !matches!(held, Some(None));
    let original = Rc::new(Original {
        head: forwarding.head.clone(),
        body: held.flatten(),
        framing: exchange.framing,
        ends: exchange.ends.clone(),
        over_http2: exchange.version == Version::Http2,
        takes_trailers: exchange.takes_trailers,
        is_head: exchange.is_head,
        is_idempotent: exchange.is_idempotent,
        timeout: route.timeout.unwrap_or(worker.settings.mirror_timeout),
    });
    let mut tee = body.is_none().then(Tee::default);
    for mirror in drawn {
        let Some(cluster) = worker.cluster(&exchange.current, &mirror.cluster) else {
            count_missing(&worker.recorder, &mirror.cluster);
            continue;
        };
        if let Some(limit) = reached(worker, has_room) {
            worker.recorder.limit_hit(limit);
            cluster.stats.mirrored.count(&worker.recorder, &cluster, Fate::Limit);
            continue;
        }
        let feed = tee.as_mut().map(|tee| tee.add(worker.settings.mirror_bytes_max, &worker.mirrors.budget));
        worker.mirrors.count.set(worker.mirrors.count.get() + 1);
        let (worker, original) = (worker.clone(), original.clone());
        let copy = Copy { worker: worker.clone(), cluster, original, feed, fate: Cell::new(Fate::Stopped) };
        worker.spawn(copy.run());
    }
    tee
}

/// Whether a request is among the share that is mirrored.
fn is_drawn(worker: &Worker, share: Fraction) -> bool {
    share == Fraction::ALL || worker.rng.borrow_mut().u32(0..Fraction::ALL.millionths()) < share.millionths()
}

/// The bound that keeps a copy from being sent.
fn reached(worker: &Worker, has_room: bool) -> Option<&'static str> {
    if worker.mirrors.count.get() >= worker.settings.mirrors_max {
        return Some("mirrors");
    }
    (!has_room).then_some("mirror_bytes")
}

impl Mirrors {
    /// None yet, within these bounds.
    pub(crate) fn new(settings: &Settings) -> Self {
        Self { count: Cell::new(0), budget: Budget::new(settings.mirror_bytes_total_max) }
    }
}

impl Copy {
    async fn run(self) {
        let started = Instant::now();
        let Ok(choice) = choose_in(&self.worker, &self.cluster, None, started) else {
            return self.fate.set(Fate::NoEndpoint);
        };
        let stats = &self.cluster.stats;
        let _cluster_active = Raised::new(&stats.requests_active);
        let _endpoint_active = choice.state.begin();
        stats.requests_total.inc();
        let result = self.exchange(&choice).await;
        let status = match &result {
            Ok(status) => *status,
            Err(Loss::Failed(reason)) => {
                stats.losses.count(*reason, false);
                reason.row().status
            }
            Err(Loss::Starved(_)) => 0,
        };
        if let Err(Loss::Starved(NoMore::Full)) = result {
            self.worker.recorder.limit_hit("mirror_bytes");
        }
        self.worker.recorder.upstream_completed(stats, status, started.elapsed());
        self.fate.set(Fate::of(&result));
    }

    /// Sends it and reads the answer; its status.
    async fn exchange(&self, choice: &Choice<'_>) -> Result<u16, Loss> {
        if self.cluster.live.model.http.is_http2(self.original.over_http2) {
            return Box::pin(self.exchange_http2(choice)).await;
        }
        let worker = &self.worker;
        let mut reused = worker.pool.take(choice.state.id, worker.clock.now_ms());
        loop {
            let mut upstream = match reused.take() {
                Some(upstream) => upstream,
                None => self.in_time(connect(worker, choice, Some(&self.cluster), None, false)).await?,
            };
            let _admitted = admit(worker, &self.cluster).map_err(Loss::Failed)?;
            if let Some(counter) = &choice.stats.requests_total {
                counter.inc();
            }
            let was_reused = upstream.served > 0;
            let heard = Cell::new(false);
            match self.converse(&mut upstream.stream, &heard).await {
                Ok((status, reusable)) => {
                    if reusable && upstream.stream.input.is_empty() {
                        give_back(worker, Some(&self.cluster.live.model.pool), choice.state.id, upstream);
                    }
                    return Ok(status);
                }
                // The server may have closed the kept connection just then.
                Err(Loss::Failed(Reason::UpstreamClosed)) if was_reused && !heard.get() && self.may_repeat() => {
                    self.cluster.stats.retries.inc();
                }
                Err(loss) => return Err(loss),
            }
        }
    }

    /// A copy waits for a connection no longer than it would wait for an answer.
    async fn in_time<T>(&self, connected: impl Future<Output = Result<T, Reason>>) -> Result<T, Loss> {
        let connected = tokio::time::timeout(self.original.timeout, Box::pin(connected)).await;
        connected.unwrap_or(Err(Reason::RouteTimeout)).map_err(Loss::Failed)
    }

    fn may_repeat(&self) -> bool {
        self.feed.is_none() && self.original.is_idempotent
    }

    /// The status of the answer, and whether the connection is good for another request.
    async fn converse(&self, upstream: &mut Stream, heard: &Cell<bool>) -> Result<(u16, bool), Loss> {
        let (mut reader, mut writer) = upstream.split();
        self.write(&mut writer).await?;
        match tokio::time::timeout(self.original.timeout, self.read(&mut reader, heard)).await {
            Ok(answer) => answer.map_err(Loss::Failed),
            Err(_) => Err(Loss::Failed(Reason::RouteTimeout)),
        }
    }

    async fn write(&self, writer: &mut Writer<'_>) -> Result<(), Loss> {
        let limit = self.worker.settings.write_stall_timeout;
        let failed = |failure| match failure {
            IoFailure::TimedOut => Loss::Failed(Reason::UpstreamIdle),
            IoFailure::Closed | IoFailure::Broken => Loss::Failed(Reason::UpstreamClosed),
        };
        let Original { head, body, .. } = &*self.original;
        writer.write(head, body.as_ref().map_or(&[], Held::bytes), limit).await.map_err(failed)?;
        if let Some(feed) = &self.feed {
            while let Some(bytes) = feed.next().await.map_err(Loss::Starved)? {
                writer.write(&bytes, &[], limit).await.map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Reads the answer and forgets it.
    async fn read(&self, upstream: &mut Reader<'_>, heard: &Cell<bool>) -> Result<(u16, bool), Reason> {
        let settings = &self.worker.settings;
        let bounds = Bounds { head_bytes_max: settings.head_bytes_max, target_bytes_max: settings.target_bytes_max };
        let mut interim = 0;
        let (status, framing, keep_alive) = loop {
            let mut room = head::fields();
            match head::response(upstream.input.bytes(), &mut room, bounds) {
                Err(rule) => return Err(Reason::UpstreamProtocol(rule)),
                Ok(None) => {}
                Ok(Some(answer)) => {
                    let (status, framing, keep_alive) = (answer.status, answer.framing, answer.keep_alive);
                    let used = answer.len;
                    upstream.input.consume(used);
                    interim += 1;
                    match status {
                        200.. => break (status, framing, keep_alive),
                        102..200 | 100 if interim <= settings.interim_max => continue,
                        _ => return Err(Reason::UpstreamProtocol("interim_answers")),
                    }
                }
            }
            self.fill(upstream, settings.head_bytes_max, heard).await?;
        };
        let bodiless = self.original.is_head || matches!(status, 204 | 304);
        let mut body = Decoder::new(if bodiless { Framing::None } else { framing });
        let mut trailers = Vec::new();
        while !body.is_done() {
            let step =
                body.step(upstream.input.bytes(), &mut trailers).map_err(|rule| Reason::UpstreamProtocol(rule.0))?;
            upstream.input.consume(step.skip + step.data);
            if step.skip + step.data == 0 && !body.is_done() {
                match self.fill(upstream, settings.head_bytes_max, heard).await {
                    Err(Reason::UpstreamClosed) if matches!(body, Decoder::UntilClose) => return Ok((status, false)),
                    filled => filled?,
                }
            }
        }
        Ok((status, keep_alive))
    }

    async fn fill(&self, upstream: &mut Reader<'_>, bytes_max: usize, heard: &Cell<bool>) -> Result<(), Reason> {
        let worker = &self.worker;
        match upstream.fill(&worker.buffers, bytes_max, worker.settings.upstream_idle_timeout).await {
            Ok(_) => {
                heard.set(true);
                Ok(())
            }
            Err(IoFailure::TimedOut) => Err(Reason::UpstreamIdle),
            Err(IoFailure::Closed | IoFailure::Broken) => Err(Reason::UpstreamClosed),
        }
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let mirrors = &self.worker.mirrors;
        mirrors.count.set(mirrors.count.get() - 1);
        self.cluster.stats.mirrored.count(&self.worker.recorder, &self.cluster, self.fate.get());
    }
}

impl Fate {
    /// All, in the order of their declaration.
    const ALL: [Self; 10] = [
        Self::Answered,
        Self::Limit,
        Self::NoCluster,
        Self::NoEndpoint,
        Self::Connect,
        Self::Slow,
        Self::Cut,
        Self::Timeout,
        Self::Broken,
        Self::Stopped,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Limit => "limit",
            Self::NoCluster => "no_cluster",
            Self::NoEndpoint => "no_endpoint",
            Self::Connect => "connect",
            Self::Slow => "slow",
            Self::Cut => "cut",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::Stopped => "stopped",
        }
    }

    fn of(result: &Result<u16, Loss>) -> Self {
        match result {
            Ok(_) => Self::Answered,
            Err(Loss::Starved(NoMore::Slow)) => Self::Slow,
            Err(Loss::Starved(NoMore::Full)) => Self::Limit,
            Err(Loss::Starved(NoMore::Cut)) => Self::Cut,
            Err(Loss::Failed(Reason::ConnectFailure | Reason::ConnectTimeout | Reason::Loop)) => Self::Connect,
            Err(Loss::Failed(Reason::Overflow(_))) => Self::Limit,
            Err(Loss::Failed(Reason::RouteTimeout | Reason::UpstreamIdle)) => Self::Timeout,
            Err(Loss::Failed(_)) => Self::Broken,
        }
    }
}

impl Mirrored {
    fn count(&self, recorder: &Recorder, cluster: &WorkerCluster, fate: Fate) {
        let counter = self.0[fate as usize].get_or_init(|| {
            let [name, service, namespace, subset] = cluster_labels(&cluster.live.model);
            let labels = [name, service, namespace, subset, fate.as_str().into()];
            recorder.shard.counter(&catalogue::OUTRIGGER_MIRRORED_REQUESTS_TOTAL, &labels)
        });
        counter.inc();
    }
}

/// Counts a copy for a cluster that is not there; only its name is known.
fn count_missing(recorder: &Recorder, name: &ClusterName) {
    let (_, subset, host) = name.outbound_parts().unwrap_or((0, "", name.as_str()));
    let service = host.split('.').next().unwrap_or(host);
    let fate = Fate::NoCluster.as_str().into();
    let labels = [name.shared(), service.into(), Workload::UNKNOWN.into(), subset.into(), fate];
    recorder.shard.counter(&catalogue::OUTRIGGER_MIRRORED_REQUESTS_TOTAL, &labels).inc();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fate_has_its_place_and_name() {
        for (at, fate) in Fate::ALL.into_iter().enumerate() {
            assert_eq!(fate as usize, at);
            assert!(Fate::ALL[..at].iter().all(|other| other.as_str() != fate.as_str()), "{fate:?}");
        }
    }
}
