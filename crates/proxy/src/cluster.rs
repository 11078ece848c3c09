//! Live state of clusters and endpoints: what outlives a snapshot.
//!
//! A snapshot says which endpoints there are; how loaded they are, and since when they are known, stays here and is
//! carried over when a snapshot arrives. Built on the control thread, read by all workers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use outrigger_model::{BreakerScope, Cluster, Endpoint};

use crate::balance::HashTable;
use crate::circuit::{Circuit, Circuits};
use crate::dns::{Name, Names};
use crate::fallback::LastHeaders;
use crate::health::{Health, Out};
use crate::limits::Limits;
use crate::named::{self, Held, Place};
use crate::outlier::{Monitor, Outliers};
use crate::retry::Offered;

/// One endpoint of one cluster, shared by all workers.
#[derive(Debug)]
pub(crate) struct EndpointState {
    /// Never used twice in a process: the key of pools. An address that leaves a cluster and comes back is a new
    /// endpoint, so that no connection to what listened there before is used again.
    pub(crate) id: u64,
    /// What the snapshot says of it.
    pub(crate) endpoint: Arc<Endpoint>,
    /// When it was first seen, for warm-up. A change of weight or labels does not make it young again.
    pub(crate) since: Instant,
    /// Where its address comes from, if not from the snapshot.
    place: Option<Arc<Place>>,
    /// What all workers count together.
    load: Arc<Load>,
    /// Whether anything keeps it out.
    pub(crate) health: Arc<Health>,
    /// Its own circuit, where endpoints have some.
    pub(crate) circuit: Option<Arc<Circuit>>,
    /// What is counted of it, where somebody looks for outliers.
    pub(crate) monitor: Option<Arc<Monitor>>,
}

/// Counts over all workers: least request is only right when it is global.
///
/// Requests begun (modulo 2^32) stand in the upper half, requests on their way in the lower, so that one addition
/// counts both.
#[derive(Debug, Default)]
struct Load(AtomicU64);

impl Load {
    const BEGUN: u64 = 1 << 32;
}

/// One request on its way to an endpoint; ends when dropped.
#[derive(Debug)]
pub(crate) struct ActiveRequest<'e>(&'e Load);

/// Ids of endpoints, unique in a process.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl EndpointState {
    /// Ids from here on belong to addresses that no snapshot names.
    pub(crate) const DYNAMIC_ID_MIN: u64 = 1 << 63;

    /// An endpoint seen for the first time.
    pub(crate) fn first_seen(endpoint: Arc<Endpoint>, since: Instant) -> Self {
        Self::new(Self::next_id(), endpoint, since)
    }

    /// An address of a name that is seen for the first time.
    pub(crate) fn first_answered(endpoint: Arc<Endpoint>, place: Arc<Place>, since: Instant) -> Self {
        Self { place: Some(place), ..Self::first_seen(endpoint, since) }
    }

    fn next_id() -> u64 {
        NEXT_ID.fetch_add(1, Ordering::Relaxed)
    }

    /// An address that no snapshot names.
    pub(crate) fn dynamic(endpoint: Arc<Endpoint>, since: Instant) -> Self {
        Self::new(Self::next_id() | Self::DYNAMIC_ID_MIN, endpoint, since)
    }

    /// An endpoint with an id of the caller's.
    pub(crate) fn new(id: u64, endpoint: Arc<Endpoint>, since: Instant) -> Self {
        let (load, health) = (Arc::default(), Arc::default());
        Self { id, endpoint, since, place: None, load, health, circuit: None, monitor: None }
    }

    /// The same endpoint as a new snapshot, or a new answer for its name, describes it.
    pub(crate) fn described_by(&self, endpoint: Arc<Endpoint>, place: Option<Arc<Place>>) -> Self {
        let (load, health, circuit) = (self.load.clone(), self.health.clone(), self.circuit.clone());
        Self { id: self.id, endpoint, since: self.since, place, load, health, circuit, monitor: self.monitor.clone() }
    }

    /// The same endpoint with the circuit that its cluster asks for.
    fn guarded(self: Arc<Self>, model: &Cluster, circuits: &Circuits) -> Arc<Self> {
        let asks = model.breaker.as_ref().filter(|breaker| breaker.scope == BreakerScope::Endpoint);
        if self.circuit.as_ref().map(|circuit| &circuit.breaker) == asks {
            return self;
        }
        let mut other = self.described_by(self.endpoint.clone(), self.place.clone());
        other.circuit = asks.and_then(|_| circuits.of_endpoint(model, &other.endpoint, &other.health));
        Arc::new(other)
    }

    /// The same endpoint with a monitor where somebody looks for outliers, and only there.
    fn monitored(self: Arc<Self>, is_monitored: bool) -> Arc<Self> {
        if self.monitor.is_some() == is_monitored {
            return self;
        }
        let mut other = self.described_by(self.endpoint.clone(), self.place.clone());
        other.monitor = is_monitored.then(|| Arc::new(Monitor::new(self.id, self.health.clone())));
        Arc::new(other)
    }

    /// Where the next connection goes. One endpoint whose name has several addresses takes them in turn.
    pub(crate) fn next_address(&self) -> SocketAddr {
        self.place.as_ref().and_then(|place| place.next()).unwrap_or(self.endpoint.address)
    }

    /// Where its address comes from, if not from the snapshot.
    pub(crate) fn place(&self) -> Option<&Arc<Place>> {
        self.place.as_ref()
    }

    /// The name whose address it is, if the snapshot does not say the address itself.
    pub(crate) fn host(&self) -> Option<&Arc<str>> {
        self.place.as_ref().map(|place| &place.named.host)
    }

    /// Requests on their way now.
    pub(crate) fn active(&self) -> u32 {
        self.load.0.load(Ordering::Relaxed) as u32
    }

    /// Requests begun since it was first seen, modulo 2^32: differences count.
    pub(crate) fn begun(&self) -> u32 {
        (self.load.0.load(Ordering::Relaxed) >> 32) as u32
    }

    /// Whether it may be picked.
    pub(crate) fn is_available(&self, now: Instant) -> bool {
        self.health.is_fine() || self.may_be_probed(now)
    }

    /// Whether it may be picked where too few others are available: an ejection does not count then.
    pub(crate) fn is_usable(&self, now: Instant) -> bool {
        !self.health.is(Out::Drained) && (!self.health.is(Out::Circuit) || self.is_let_through(now))
    }

    /// Whether nothing but its circuit keeps it out, and that would let a request through.
    fn may_be_probed(&self, now: Instant) -> bool {
        !self.health.is(Out::Ejected) && !self.health.is(Out::Drained) && self.is_let_through(now)
    }

    fn is_let_through(&self, now: Instant) -> bool {
        self.circuit.as_ref().is_none_or(|circuit| circuit.would_admit(now))
    }

    /// Counts a request until the result is dropped.
    pub(crate) fn begin(&self) -> ActiveRequest<'_> {
        self.load.0.fetch_add(Load::BEGUN + 1, Ordering::Relaxed);
        ActiveRequest(&self.load)
    }

    /// Counts a request on, whose first count ends: it has become a connection of its own.
    pub(crate) fn go_on(&self) -> ActiveRequest<'_> {
        self.load.0.fetch_add(1, Ordering::Relaxed);
        ActiveRequest(&self.load)
    }
}

impl Drop for ActiveRequest<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A cluster of the snapshot in force with its live endpoints.
#[derive(Debug)]
pub(crate) struct LiveCluster {
    /// What the snapshot says of it.
    pub(crate) model: Arc<Cluster>,
    /// Its endpoints: those of the snapshot in its order, then the addresses of its names.
    pub(crate) hosts: Arc<[Arc<EndpointState>]>,
    /// Its names with the addresses that are among `hosts`.
    held: Box<[Held]>,
    /// The table of a consistent hash.
    pub(crate) table: Option<Arc<HashTable>>,
    /// What is under way in it.
    pub(crate) limits: Arc<Limits>,
    /// What a `retryBudget` goes by.
    pub(crate) offered: Arc<Offered>,
    /// Who looks for outliers among its endpoints.
    pub(crate) outliers: Option<Arc<Outliers>>,
    /// What its fallback remembers of good answers.
    pub(crate) last_headers: Option<Arc<LastHeaders>>,
    /// Its circuit, where it has one for all its endpoints.
    pub(crate) circuit: Option<Arc<Circuit>>,
}

impl LiveCluster {
    /// Reconciles a cluster with what was live under its name: the same addresses stay the same endpoints.
    pub(crate) fn reconcile(
        model: &Arc<Cluster>,
        previous: Option<&Arc<Self>>,
        names: &Names,
        circuits: &Circuits,
        now: Instant,
    ) -> Arc<Self> {
        if let Some(previous) = previous
            && (Arc::ptr_eq(&previous.model, model) || previous.model == *model)
        {
            return previous.with_names_of_now(circuits, now).unwrap_or_else(|| previous.clone());
        }
        let held = model.names.iter().map(|named| Held::new(names.hold(&named.host))).collect();
        Self::build(model, held, previous.map(|previous| &**previous), circuits, now)
    }

    /// This cluster with the addresses that its names have now; `None` where they are the same.
    pub(crate) fn with_names_of_now(&self, circuits: &Circuits, now: Instant) -> Option<Arc<Self>> {
        if self.held.iter().all(Held::is_current) {
            return None;
        }
        let held = self.held.iter().map(|held| Held::new(held.name.clone())).collect();
        Some(Self::build(&self.model, held, Some(self), circuits, now))
    }

    fn build(
        model: &Arc<Cluster>,
        held: Box<[Held]>,
        previous: Option<&Self>,
        circuits: &Circuits,
        now: Instant,
    ) -> Arc<Self> {
        let before = previous.map_or(&[][..], |previous| &previous.hosts);
        let known: HashMap<SocketAddr, &Arc<EndpointState>, foldhash::fast::FixedState> =
            before.iter().map(|h| (h.endpoint.address, h)).collect();
        let from_snapshot = model.endpoints.iter().map(|endpoint| match known.get(&endpoint.address) {
            Some(state) if state.endpoint == *endpoint && state.place.is_none() => (*state).clone(),
            Some(state) => Arc::new(state.described_by(endpoint.clone(), None)),
            None => Arc::new(EndpointState::first_seen(endpoint.clone(), now)),
        });
        let hosts: Arc<[Arc<EndpointState>]> = if held.is_empty() {
            from_snapshot.collect()
        } else {
            named::hosts(model, from_snapshot.collect(), &held, before, now)
        };
        let outliers = Outliers::of(model, previous.and_then(|previous| previous.outliers.as_ref()), now);
        let guarded = hosts.iter().map(|host| host.clone().guarded(model, circuits));
        let hosts: Arc<[_]> = guarded.map(|host| host.monitored(outliers.is_some())).collect();
        if let Some(outliers) = &outliers {
            outliers.set_members(&hosts);
        }
        let table = HashTable::build(&model.balance.policy, &hosts);
        let limits = previous.map_or_else(Arc::default, |previous| previous.limits.clone());
        limits.obey(&model.pool);
        let offered = previous.map_or_else(|| Arc::new(Offered::new(now)), |previous| previous.offered.clone());
        let circuit = circuits.of_cluster(model);
        let last_headers = LastHeaders::of(model, previous.and_then(|previous| previous.last_headers.as_ref()));
        Arc::new(Self { model: model.clone(), hosts, held, table, limits, offered, outliers, last_headers, circuit })
    }

    /// The names that give it addresses.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<Name>> {
        self.held.iter().filter_map(|held| held.name.as_ref())
    }

    /// Whether it is without endpoints only because no answer for its names has come yet.
    pub(crate) fn is_unanswered(&self) -> bool {
        self.hosts.is_empty() && self.names().any(|name| !name.is_answered())
    }

    /// Its name and, where it has no endpoint because of names, what is wrong with the first of them.
    pub(crate) fn why_empty(&self) -> String {
        let Some((named, held)) = self.model.names.iter().zip(&self.held).next() else {
            return self.model.name.to_string();
        };
        format!("{}: {}: {}", self.model.name, named.host, held.why_empty())
    }
}
