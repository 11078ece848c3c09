//! The circuits of a proxy by what they are the circuits of, and the hand of an operator on them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use outrigger_model::{BreakerScope, Cluster, ClusterName, Endpoint};

use super::Circuit;
use super::core::{Core, Forced};
use super::report::CircuitReport;
use crate::health::Health;
use crate::sweeper::Chore;

/// The circuits of one proxy. They outlive snapshots; one that the policy in force does not have any more ends.
#[derive(Debug, Default)]
pub(crate) struct Circuits {
    cores: Mutex<BTreeMap<Arc<str>, Arc<Core>>>,
    rng: Mutex<fastrand::Rng>,
    last_tick: Mutex<Option<Instant>>,
}

/// What a circuit is the circuit of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Its name, unique in a proxy: `HOST:PORT` of a service, a cluster's name, or that and `@ADDRESS`.
    pub(super) name: Arc<str>,
    /// A short name for people: `cart.shop/v1`.
    pub(super) short: Arc<str>,
    pub(super) cluster_name: Arc<str>,
    pub(super) service: Arc<str>,
    pub(super) namespace: Arc<str>,
    pub(super) subset: Arc<str>,
    pub(super) scope: BreakerScope,
    /// The pod's name, or the address where that is not known.
    pub(super) endpoint: Option<(Arc<str>, SocketAddr)>,
}

impl Place {
    fn of(model: &Cluster, scope: BreakerScope, endpoint: Option<&Endpoint>) -> Self {
        let service = &model.service;
        let is_outbound = model.name.outbound_parts().is_some();
        let (cluster_name, subset) = match scope {
            // All subsets share one, under the name of the cluster that has all endpoints.
            BreakerScope::Service if is_outbound => {
                (ClusterName::outbound(service.port, "", &service.host).shared(), Arc::from(""))
            }
            _ => (model.name.shared(), service.subset.clone()),
        };
        let endpoint = endpoint.map(|endpoint| {
            let pod = &endpoint.workload.pod;
            let name = if pod.is_empty() { endpoint.address.to_string().into() } else { pod.clone() };
            (name, endpoint.address)
        });
        let name = match (scope, &endpoint) {
            (_, Some((_, address))) => format!("{cluster_name}@{address}").into(),
            (BreakerScope::Service, None) if is_outbound => format!("{}:{}", service.host, service.port).into(),
            _ => cluster_name.clone(),
        };
        let parts = [subset.clone(), endpoint.as_ref().map(|(name, _)| name.clone()).unwrap_or_default()];
        let mut short = format!("{}.{}", service.name, service.namespace);
        for part in parts.iter().filter(|part| !part.is_empty()) {
            short.push('/');
            short.push_str(part);
        }
        Self {
            name,
            short: short.into(),
            cluster_name,
            service: service.name.clone(),
            namespace: service.namespace.clone(),
            subset,
            scope,
            endpoint,
        }
    }
}

impl Circuits {
    /// The circuit of a cluster whose breaker has not the scope of an endpoint; subsets of one service may share it.
    pub(crate) fn of_cluster(&self, model: &Cluster) -> Option<Arc<Circuit>> {
        let scope = model.breaker.as_ref()?.scope;
        (scope != BreakerScope::Endpoint).then(|| self.circuit(model, None, Instant::now()))
    }

    /// The circuit of an endpoint of a cluster whose breaker has that scope. It tells `health` while it is not closed.
    pub(crate) fn of_endpoint(
        &self,
        model: &Cluster,
        endpoint: &Endpoint,
        health: &Arc<Health>,
    ) -> Option<Arc<Circuit>> {
        let scope = model.breaker.as_ref()?.scope;
        (scope == BreakerScope::Endpoint).then(|| self.circuit(model, Some((endpoint, health)), Instant::now()))
    }

    /// The circuit of a cluster that has a breaker: the state that was there, or a new one.
    pub(super) fn circuit(
        &self,
        model: &Cluster,
        endpoint: Option<(&Endpoint, &Arc<Health>)>,
        now: Instant,
    ) -> Arc<Circuit> {
        let breaker = model.breaker.as_ref().expect("only clusters with a breaker have circuits");
        let (endpoint, health) = endpoint.unzip();
        let place = Place::of(model, breaker.scope, endpoint);
        let mut cores = self.cores();
        let core = match cores.get(&place.name) {
            Some(core) => core.clone(),
            None => {
                let rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner).fork();
                let name = place.name.clone();
                let core = Arc::new(Core::new(place, breaker.clone(), rng, now));
                cores.insert(name, core.clone());
                core
            }
        };
        let ring = core.obey(breaker, health, core.at(now));
        Arc::new(Circuit { breaker: breaker.clone(), core, ring })
    }

    /// Ends those that are not among the ones in force.
    pub(crate) fn keep<'c>(&self, in_force: impl Iterator<Item = &'c Arc<Circuit>>) {
        let mut cores = self.cores();
        if cores.is_empty() {
            return;
        }
        let named: std::collections::HashSet<*const Core, foldhash::fast::FixedState> =
            in_force.map(|circuit| Arc::as_ptr(&circuit.core)).collect();
        cores.retain(|_, core| {
            let is_named = named.contains(&Arc::as_ptr(core));
            if !is_named {
                core.end();
            }
            is_named
        });
    }

    /// Every circuit as it is now, by name.
    pub(crate) fn all(&self, now: Instant) -> Vec<CircuitReport> {
        // Not under the lock: there may be thousands.
        let cores: Vec<Arc<Core>> = self.cores().values().cloned().collect();
        cores.iter().map(|core| CircuitReport::of(core, now)).collect()
    }

    /// Forces a circuit until a moment; whether there is one of that name.
    pub(crate) fn force(&self, name: &str, forced: Forced, until: Instant, now: Instant) -> bool {
        self.with(name, |core| core.force(Some((forced, core.at(until))), core.at(now)))
    }

    /// Leaves a circuit to itself; whether there is one of that name.
    pub(crate) fn release(&self, name: &str, now: Instant) -> bool {
        self.with(name, |core| core.force(None, core.at(now)))
    }

    fn with(&self, name: &str, act: impl FnOnce(&Core)) -> bool {
        let core = self.cores().get(name).cloned();
        core.as_deref().map(act).is_some()
    }

    fn last_tick(&self) -> MutexGuard<'_, Option<Instant>> {
        self.last_tick.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cores(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<Core>>> {
        self.cores.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Chore for Circuits {
    fn due(&self) -> Option<Instant> {
        if self.cores().is_empty() {
            return None;
        }
        Some(self.last_tick().map_or_else(Instant::now, |last| last + TICK))
    }

    /// Lets time pass for circuits that get no calls: what they decide has its moment anyway, but the log has to hear of it.
    fn run(&self, now: Instant) {
        *self.last_tick() = Some(now);
        self.cores().values().for_each(|core| core.keep_up(core.at(now)));
    }
}

/// Hystrix's health interval, if nobody says otherwise.
const TICK: Duration = Duration::from_millis(500);
