//! One worker: a thread with its own event loop, connections, pools and metric cells.
//!
//! Workers share nothing on the request path but what must be global to be right. A worker owns its view of the policy
//! in an `Rc`, so that taking it for a request touches no memory that another worker writes.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use outrigger_model::{Action, ClusterName, Destination, Endpoint, Locality, Route, Workload};
use outrigger_telemetry::Counter;
use tokio::task::JoinSet;

use crate::alarm::Clock;
use crate::balance::Balancer;
use crate::before::Ledger;
use crate::cluster::{EndpointState, LiveCluster};
use crate::h1::buffer::BufferPool;
use crate::h1::stream::Stream;
use crate::h2::client::Connections;
use crate::h2::server::SpareServers;
use crate::mirror::Mirrors;
use crate::overload::{Level, Overload};
use crate::policy::Policy;
use crate::pool::Pool;
use crate::record::{ClusterStats, EndpointStats, LimitStats, Recorder};
use crate::retry;
use crate::route::CompiledRoute;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::tcp::Pipes;
use crate::threads::Bench;

/// What the tasks of one worker share.
pub(crate) struct Worker {
    pub(crate) settings: Settings,
    pub(crate) shared: Arc<Shared>,
    pub(crate) index: usize,
    pub(crate) clock: Rc<Clock>,
    pub(crate) buffers: Rc<BufferPool>,
    pub(crate) pipes: Pipes,
    pub(crate) pool: Pool,
    /// Connections of HTTP/2 to endpoints.
    pub(crate) http2: Connections,
    /// Who serves streams of HTTP/2 and has none.
    pub(crate) spare_servers: SpareServers,
    pub(crate) recorder: Recorder,
    pub(crate) mirrors: Mirrors,
    pub(crate) rng: RefCell<fastrand::Rng>,
    /// Raised when the proxy drains or memory is short: answers say `connection: close`.
    pub(crate) draining: Cell<bool>,
    /// Whether it is the owner who drains, and not a lack of memory.
    drains: Cell<bool>,
    /// How short memory is.
    pub(crate) overload: Cell<Level>,
    memory: Arc<Overload>,
    pub(crate) ledger: Ledger,
    /// When a complaint about a lack of resources was last logged, in seconds of the clock.
    complained: Cell<u64>,
    date: RefCell<(u64, Rc<str>)>,
    dynamic: RefCell<HashMap<SocketAddr, Arc<EndpointState>, foldhash::fast::RandomState>>,
    current: RefCell<Rc<Current>>,
    clusters: RefCell<HashMap<ClusterName, Rc<WorkerCluster>, foldhash::fast::RandomState>>,
    /// Connections, acceptors and mirrored requests.
    tasks: RefCell<JoinSet<()>>,
    ticks: Cell<u32>,
}

/// The policy in force, with what this worker has looked up in it.
pub(crate) struct Current {
    pub(crate) policy: Arc<Policy>,
    targets: RefCell<HashMap<(u64, usize), Rc<Target>, foldhash::fast::RandomState>>,
}

/// One destination of one route.
pub(crate) struct Target {
    pub(crate) route: Arc<Route>,
    index: usize,
    pub(crate) requests_total: Option<Counter>,
    /// Its cluster; where there is none, what counts the requests that wanted it.
    pub(crate) cluster: Result<Rc<WorkerCluster>, Rc<EndpointStats>>,
}

/// One cluster as a worker uses it.
pub(crate) struct WorkerCluster {
    pub(crate) live: Arc<LiveCluster>,
    pub(crate) balancer: RefCell<Balancer>,
    pub(crate) stats: ClusterStats,
    pub(crate) limit_stats: LimitStats,
    pub(crate) no_endpoint: Rc<EndpointStats>,
    /// How many retries there may be where the configuration does not say so.
    pub(crate) budget: Rc<retry::Own>,
    endpoints: RefCell<Vec<Option<Rc<EndpointStats>>>>,
}

impl Worker {
    /// Addresses without configuration that are remembered.
    const DYNAMIC_MAX: usize = 1024;

    /// A worker that obeys `policy`.
    pub(crate) fn new(index: usize, shared: Arc<Shared>, policy: Arc<Policy>, seed: u64, bench: &Bench) -> Self {
        let mirrors = Mirrors::new(&shared.settings);
        let recorder = Recorder::new(shared.registry.shard(), &policy.snapshot.workload);
        Self {
            settings: shared.settings,
            shared,
            index,
            clock: Clock::new(),
            buffers: bench.buffers.clone(),
            pipes: Pipes::default(),
            pool: Pool::default(),
            http2: Connections::default(),
            spare_servers: SpareServers::default(),
            recorder,
            mirrors,
            rng: RefCell::new(fastrand::Rng::with_seed(seed)),
            draining: Cell::new(false),
            drains: Cell::new(false),
            overload: Cell::default(),
            memory: bench.overload.clone(),
            ledger: Ledger::default(),
            complained: Cell::new(u64::MAX),
            date: RefCell::new((0, "".into())),
            dynamic: RefCell::default(),
            current: RefCell::new(Rc::new(Current { policy, targets: RefCell::default() })),
            clusters: RefCell::default(),
            tasks: RefCell::default(),
            ticks: Cell::new(0),
        }
    }

    /// Runs a task on this worker's thread; it ends with the worker at the latest.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.tasks.borrow_mut().spawn_local(task);
    }

    /// Ends everything that still runs.
    pub(crate) async fn end(&self) {
        // Taken out first: what ends may want to look at the set.
        let mut tasks = self.tasks.take();
        tasks.shutdown().await;
        self.pool.sweep(u64::MAX, |_| false);
        self.http2.sweep(u64::MAX, |_| false);
        self.clock.end();
    }

    /// A tenth of a second has passed.
    pub(crate) fn tick(&self) {
        self.clock.tick();
        self.heed(self.memory.level());
        while self.tasks.borrow_mut().try_join_next().is_some() {}
        let ticks = self.ticks.get().wrapping_add(1);
        self.ticks.set(ticks);
        if ticks.is_multiple_of(10) {
            self.sweep_pool();
        }
    }

    /// The policy in force now; a request keeps what it got.
    pub(crate) fn current(&self) -> Rc<Current> {
        self.current.borrow().clone()
    }

    /// Takes a new policy into force. Balancers, pools and handles of what did not change stay.
    pub(crate) fn obey(&self, policy: Arc<Policy>) {
        self.recorder.set_own(&policy.snapshot.workload);
        self.clusters.borrow_mut().retain(|name, cluster| match policy.clusters.get(name) {
            Some(live) if Arc::ptr_eq(live, &cluster.live) => true,
            Some(live) => {
                // At once, not when it is used again: the pool keeps connections to endpoints of these clusters only.
                *cluster = Rc::new(WorkerCluster::new(live.clone(), &self.recorder, cluster.budget.clone()));
                true
            }
            None => false,
        });
        *self.current.borrow_mut() = Rc::new(Current { policy, targets: RefCell::default() });
        self.sweep_pool();
    }

    /// Closes upstream connections that are idle too long or lead to endpoints that are gone.
    pub(crate) fn sweep_pool(&self) {
        if self.pool.is_empty() && self.http2.is_empty() {
            return;
        }
        let clusters = self.clusters.borrow();
        let known: std::collections::HashSet<u64, foldhash::fast::RandomState> =
            clusters.values().flat_map(|c| c.live.hosts.iter().map(|h| h.id)).collect();
        let is_known = |id| known.contains(&id) || id >= EndpointState::DYNAMIC_ID_MIN;
        self.pool.sweep(self.clock.now_ms(), is_known);
        self.http2.sweep(self.clock.now_ms(), is_known);
    }

    /// The present moment, to be moved on while bytes pass.
    pub(crate) fn moved(&self) -> Cell<u64> {
        Cell::new(self.clock.now_ms())
    }

    /// Waits for the first byte of a request, holding no buffer; false when there will be none.
    pub(crate) async fn await_request(&self, client: &mut Stream, limit: Duration) -> bool {
        let limit = if self.draining.get() { limit.min(self.settings.drain_idle) } else { limit };
        client.wait_readable(&self.buffers, limit).await.is_ok()
    }

    /// Begins to drain: idle connections close soon, the others after their request.
    pub(crate) fn drain(&self) {
        self.drains.set(true);
        self.draining.set(true);
        self.clock.shorten_idle_waits(self.settings.drain_idle);
    }

    /// Whether its owner drains it.
    pub(crate) fn drains(&self) -> bool {
        self.drains.get()
    }

    /// Does what a lack of memory asks for, and no more once there is enough.
    fn heed(&self, level: Level) {
        let before = self.overload.replace(level);
        if level == before {
            return;
        }
        self.draining.set(self.drains.get() || level >= Level::Drain);
        if before < Level::Drain {
            self.recorder.limit_hit("memory_idle");
            self.clock.shorten_idle_waits(self.settings.drain_idle);
        }
    }

    /// Whether a complaint may be logged: one a second, so that a flood does not fill the log too.
    pub(crate) fn may_complain(&self) -> bool {
        let second = self.clock.now_ms() / 1000;
        self.complained.replace(second) != second
    }

    /// The time for `Date`, at most a second old.
    pub(crate) fn date(&self) -> Rc<str> {
        let second = self.clock.now_ms() / 1000 + 1;
        let mut date = self.date.borrow_mut();
        if date.0 != second {
            *date = (second, httpdate::fmt_http_date(SystemTime::now()).into());
        }
        date.1.clone()
    }

    /// The state of an address that no snapshot names.
    pub(crate) fn dynamic_endpoint(&self, address: SocketAddr) -> Arc<EndpointState> {
        let mut dynamic = self.dynamic.borrow_mut();
        if dynamic.len() >= Self::DYNAMIC_MAX {
            dynamic.clear();
        }
        dynamic
            .entry(address)
            .or_insert_with(|| {
                let endpoint = Endpoint {
                    address,
                    weight: 1,
                    priority: 0,
                    locality: Locality::default(),
                    locality_weight: 0,
                    workload: Arc::new(Workload::unknown()),
                };
                Arc::new(EndpointState::dynamic(Arc::new(endpoint), Instant::now()))
            })
            .clone()
    }

    /// A retry budget of which nothing is used.
    pub(crate) fn new_budget(&self) -> Rc<retry::Own> {
        Rc::new(retry::Own::new(self.shared.workers()))
    }

    /// The cluster of this name, if the policy has it.
    pub(crate) fn cluster(&self, current: &Current, name: &ClusterName) -> Option<Rc<WorkerCluster>> {
        let live = current.policy.clusters.get(name)?;
        if let Some(known) = self.clusters.borrow().get(name)
            && Arc::ptr_eq(&known.live, live)
        {
            return Some(known.clone());
        }
        let budget = self.clusters.borrow().get(name).map(|known| known.budget.clone());
        let budget = budget.unwrap_or_else(|| self.new_budget());
        let cluster = Rc::new(WorkerCluster::new(live.clone(), &self.recorder, budget));
        // A request may still follow the policy before: what is in force now must not be replaced by its past.
        if std::ptr::eq(current, &raw const **self.current.borrow()) {
            self.clusters.borrow_mut().insert(name.clone(), cluster.clone());
        }
        Some(cluster)
    }
}

impl Current {
    /// The destination a route chose.
    pub(crate) fn target(&self, worker: &Worker, route: &CompiledRoute, index: usize) -> Rc<Target> {
        let key = (route.id, index);
        if let Some(target) = self.targets.borrow().get(&key) {
            return target.clone();
        }
        let destination = destination(&route.route, index);
        let cluster = match destination.missing {
            Some(_) => None,
            None => worker.cluster(self, &destination.cluster),
        };
        let service = cluster.as_ref().map(|c| &c.live.model.service);
        let requests_total = worker.recorder.route(&route.route, destination, service);
        let cluster = cluster.ok_or_else(|| Rc::new(worker.recorder.missing(&destination.cluster)));
        let target = Rc::new(Target { route: route.route.clone(), index, requests_total, cluster });
        self.targets.borrow_mut().insert(key, target.clone());
        target
    }
}

impl Target {
    /// What the route says of it.
    pub(crate) fn destination(&self) -> &Destination {
        destination(&self.route, self.index)
    }
}

fn destination(route: &Route, index: usize) -> &Destination {
    let Action::Forward(forward) = &route.action else { unreachable!("only a route that forwards has destinations") };
    &forward.destinations[index]
}

impl WorkerCluster {
    /// A cluster that this worker has not used yet.
    pub(crate) fn new(live: Arc<LiveCluster>, recorder: &Recorder, budget: Rc<retry::Own>) -> Self {
        let balancer = Balancer::new(&live.model.balance, live.hosts.clone(), live.table.clone())
            .with_outliers(live.outliers.clone());
        Self {
            balancer: RefCell::new(balancer),
            stats: recorder.cluster(&live.model),
            limit_stats: LimitStats::new(&recorder.shard, &live.model),
            no_endpoint: Rc::new(recorder.no_endpoint(&live.model.service)),
            budget,
            endpoints: RefCell::new(Vec::new()),
            live,
        }
    }

    /// The endpoint for a request; its index.
    pub(crate) fn pick(&self, key: Option<u64>, rng: &mut fastrand::Rng, now: Instant) -> Option<usize> {
        self.balancer.borrow_mut().pick(key, now, rng)
    }

    /// Handles of the endpoint at `index`.
    pub(crate) fn endpoint_stats(&self, index: usize, recorder: &Recorder) -> Rc<EndpointStats> {
        let mut known = self.endpoints.borrow_mut();
        if known.len() <= index {
            known.resize_with(self.live.hosts.len().max(index + 1), || None);
        }
        known[index]
            .get_or_insert_with(|| Rc::new(recorder.endpoint(&self.live.model, &self.live.hosts[index].endpoint)))
            .clone()
    }
}
