//! The policy in force, and the two who replace it: the owner of the proxy with a new snapshot, and the thread of `dns` when
//! names have other addresses. One at a time: neither may put back what the other has replaced.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use outrigger_model::Snapshot;
use tokio::sync::watch;

use crate::dns::Names;
use crate::drains::{Drains, EndpointError};
use crate::policy::Policy;
use crate::sweeper::{Chore, Sweeper};

/// The policy that the workers of a proxy obey.
pub(crate) struct InForce {
    policy: watch::Sender<Arc<Policy>>,
    names: Names,
    sweeper: Sweeper,
    drains: Arc<Drains>,
    last: Mutex<Last>,
}

/// What is looked after with the change.
#[derive(Default)]
struct Last {
    /// The policy before the one in force, kept so that no worker has to free it.
    before: Option<Arc<Policy>>,
    /// Whether changes of names are told to this.
    is_told: bool,
}

impl InForce {
    /// With a first snapshot.
    pub(crate) fn new(snapshot: Arc<Snapshot>, names: Names, sweeper: Sweeper) -> Arc<Self> {
        let first = Policy::compile(snapshot, None, &names, Instant::now());
        first.chores_since(None).for_each(|chore| sweeper.take(&chore));
        let policy = watch::Sender::new(Arc::new(first));
        let in_force = Arc::new(Self { policy, names, sweeper, drains: Arc::default(), last: Mutex::default() });
        in_force.listen_for_names(&mut in_force.last());
        in_force
    }

    /// Takes a snapshot into force. What did not change keeps its state.
    pub(crate) fn apply(self: &Arc<Self>, snapshot: Arc<Snapshot>) {
        let mut last = self.last();
        let current = self.policy();
        let next = Policy::compile(snapshot, Some(&current), &self.names, Instant::now());
        self.replace(&mut last, current, next);
        self.listen_for_names(&mut last);
    }

    /// Takes the addresses into force that names have now.
    pub(crate) fn names_changed(&self) {
        let mut last = self.last();
        let current = self.policy();
        if let Some(next) = current.with_names_of_now(Instant::now()) {
            self.replace(&mut last, current, next);
        }
    }

    fn replace(&self, last: &mut Last, current: Arc<Policy>, next: Policy) {
        next.chores_since(Some(&current)).for_each(|chore| self.sweeper.take(&chore));
        self.drains.apply(&next);
        self.policy.send_replace(Arc::new(next));
        last.before = Some(current);
    }

    /// From the first policy with names on, changes of them are heard of; one that came before that is looked for.
    fn listen_for_names(self: &Arc<Self>, last: &mut Last) {
        let current = self.policy();
        if last.is_told || !current.has_names() {
            return;
        }
        last.is_told = true;
        self.names.tell(Arc::downgrade(self));
        if let Some(next) = current.with_names_of_now(Instant::now()) {
            self.replace(last, current, next);
        }
    }

    /// Drains an endpoint for so long; a drain that it has already is replaced.
    pub(crate) fn drain(&self, cluster: &str, address: SocketAddr, ttl: Duration) -> Result<(), EndpointError> {
        let _last = self.last();
        let now = Instant::now();
        self.drains.add(&self.policy(), cluster, address, now + ttl, now)?;
        let chore: Arc<dyn Chore> = self.drains.clone();
        self.sweeper.take(&chore);
        Ok(())
    }

    /// Ends the drain of an endpoint; whether there was one.
    pub(crate) fn restore(&self, cluster: &str, address: SocketAddr) -> bool {
        let _last = self.last();
        self.drains.remove(cluster, address)
    }

    /// Ends the ejection of an endpoint; whether there was one.
    pub(crate) fn reset_ejection(&self, cluster: &str, address: SocketAddr) -> Result<bool, EndpointError> {
        let policy = self.policy();
        let live = policy.clusters.get(cluster).ok_or(EndpointError::NoCluster)?;
        let host = live.hosts.iter().find(|host| host.endpoint.address == address).ok_or(EndpointError::NoEndpoint)?;
        Ok(live.outliers.as_ref().is_some_and(|outliers| outliers.reset(host, Instant::now())))
    }

    /// What is drained by hand.
    pub(crate) fn drains(&self) -> &Drains {
        &self.drains
    }

    /// The policy now.
    pub(crate) fn policy(&self) -> Arc<Policy> {
        self.policy.borrow().clone()
    }

    /// The policy now, and every one after it.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Policy>> {
        self.policy.subscribe()
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
