//! A snapshot made ready for the request path: routes indexed, clusters joined with their live endpoints.
//!
//! Compiled once on the control thread and shared by the workers; parts that did not change are shared with the policy
//! before.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use outrigger_model::{ClusterName, Snapshot};

use crate::capture::Captures;
use crate::circuit::{Circuit, Circuits};
use crate::cluster::LiveCluster;
use crate::dns::{Name, Names};
use crate::rate_limit::RateLimits;
use crate::site::Site;
use crate::sweeper::Chore;

/// What the workers obey.
#[derive(Debug)]
pub(crate) struct Policy {
    /// Where it came from.
    pub(crate) snapshot: Arc<Snapshot>,
    /// Its listeners; a proxy has few.
    pub(crate) sites: Vec<Arc<Site>>,
    /// Where they are, by name; those behind the first few.
    places: Arc<HashMap<Arc<str>, u32, foldhash::fast::RandomState>>,
    /// Which of them serve redirected connections.
    pub(crate) captures: Arc<Captures>,
    /// The circuits of its clusters, and of those before.
    pub(crate) circuits: Arc<Circuits>,
    /// The rate limits of its routes, and of those before.
    pub(crate) rate_limits: Arc<RateLimits>,
    /// Live clusters by name.
    pub(crate) clusters: HashMap<ClusterName, Arc<LiveCluster>, foldhash::fast::RandomState>,
}

impl Policy {
    /// Listeners that are looked through before a name is hashed.
    const FEW: usize = 4;

    /// Compiles a snapshot, carrying over what is live in `previous`.
    pub(crate) fn compile(snapshot: Arc<Snapshot>, previous: Option<&Self>, names: &Names, now: Instant) -> Self {
        let sites = snapshot.listeners.iter().map(|listener| {
            let before = previous.and_then(|policy| policy.site(&listener.name));
            match before {
                Some((before, _)) if is_same(before, listener, &snapshot, previous) => before.clone(),
                _ => Arc::new(Site::compile(listener, &snapshot.workload, before.map(|(site, _)| &**site))),
            }
        });
        let sites: Vec<Arc<Site>> = sites.collect();
        let behind = sites.iter().enumerate().skip(Self::FEW);
        let places = behind.map(|(at, site)| (site.listener.name.clone(), at as u32)).collect();
        let circuits = previous.map_or_else(Arc::default, |policy| policy.circuits.clone());
        let clusters = snapshot
            .clusters
            .iter()
            .map(|(name, model)| {
                let before = previous.and_then(|p| p.clusters.get(name));
                (name.clone(), LiveCluster::reconcile(model, before, names, &circuits, now))
            })
            .collect();
        let rate_limits = previous.map_or_else(|| Arc::new(RateLimits::new(now)), |policy| policy.rate_limits.clone());
        sites.iter().for_each(|site| site.prepare(&rate_limits));
        let captures = Captures::compile(&snapshot.captures, previous.map(|policy| &policy.captures));
        let policy = Self { snapshot, sites, places: Arc::new(places), captures, circuits, rate_limits, clusters };
        policy.circuits.keep(policy.circuits_in_force());
        policy
    }

    /// This policy with the addresses that names have now; `None` where they are the same.
    pub(crate) fn with_names_of_now(&self, now: Instant) -> Option<Self> {
        let changed = self
            .clusters
            .iter()
            .filter_map(|(name, live)| Some((name.clone(), live.with_names_of_now(&self.circuits, now)?)));
        let changed: Vec<(ClusterName, Arc<LiveCluster>)> = changed.collect();
        if changed.is_empty() {
            return None;
        }
        let mut clusters = self.clusters.clone();
        clusters.extend(changed);
        let (sites, places) = (self.sites.clone(), self.places.clone());
        let (captures, circuits) = (self.captures.clone(), self.circuits.clone());
        let rate_limits = self.rate_limits.clone();
        let policy = Self { snapshot: self.snapshot.clone(), sites, places, captures, circuits, rate_limits, clusters };
        policy.circuits.keep(policy.circuits_in_force());
        Some(policy)
    }

    /// The circuits of its clusters and of their endpoints.
    fn circuits_in_force(&self) -> impl Iterator<Item = &Arc<Circuit>> {
        let guarded = self.clusters.values().filter(|live| live.model.breaker.is_some());
        guarded.flat_map(|live| live.circuit.iter().chain(live.hosts.iter().filter_map(|host| host.circuit.as_ref())))
    }

    /// What is to be done at given times for clusters that had nothing of the kind, or another rule for it, in `previous`;
    /// and for circuits, which say themselves whether there is anything to do.
    pub(crate) fn chores_since<'p>(&'p self, previous: Option<&'p Self>) -> impl Iterator<Item = Arc<dyn Chore>> + 'p {
        let of_clusters = self.clusters.iter().filter_map(move |(name, live)| {
            let outliers = live.outliers.as_ref()?;
            let before = previous.and_then(|policy| policy.clusters.get(name)).and_then(|live| live.outliers.as_ref());
            before.is_none_or(|before| !Arc::ptr_eq(before, outliers)).then(|| outliers.chore())
        });
        of_clusters.chain(std::iter::once(self.circuits.clone() as Arc<dyn Chore>))
    }

    /// Whether any cluster has endpoints by name.
    pub(crate) fn has_names(&self) -> bool {
        self.snapshot.clusters.values().any(|model| !model.names.is_empty())
    }

    /// The names of all clusters, each once.
    pub(crate) fn names(&self) -> Vec<Arc<Name>> {
        let mut names: Vec<Arc<Name>> = self.clusters.values().flat_map(|live| live.names()).cloned().collect();
        names.sort_by(|a, b| a.host.cmp(&b.host));
        names.dedup_by(|a, b| Arc::ptr_eq(a, b));
        names
    }

    /// The listener of a name, and its place.
    pub(crate) fn site(&self, name: &Arc<str>) -> Option<(&Arc<Site>, usize)> {
        // Most connections come to the first few; where connections are redirected, there may be thousands behind them.
        let is_it = |site: &Arc<Site>| Arc::ptr_eq(&site.listener.name, name) || site.listener.name == *name;
        let first = self.sites.iter().take(Self::FEW).position(is_it);
        let at = first.or_else(|| self.places.get(name).map(|at| *at as usize))?;
        Some((&self.sites[at], at))
    }
}

/// Whether a listener of the policy before can serve again as it is.
fn is_same(
    before: &Site,
    listener: &Arc<outrigger_model::Listener>,
    snapshot: &Snapshot,
    previous: Option<&Policy>,
) -> bool {
    Arc::ptr_eq(&before.listener, listener) && previous.is_some_and(|p| p.snapshot.workload == snapshot.workload)
}
