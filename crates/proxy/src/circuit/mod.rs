//! Circuit breakers at work: what they count, and what they let through.

use std::sync::Arc;
use std::time::{Duration, Instant};

use outrigger_model::{Breaker, BreakerScope, Cluster, Endpoint};

use crate::health::Health;
use crate::trial::Trial;

/// The circuits of one proxy. They outlive snapshots; one that no snapshot has any more ends.
#[derive(Debug, Default)]
pub(crate) struct Circuits {}

/// One circuit as the snapshot in force describes it.
#[derive(Debug)]
pub(crate) struct Circuit {
    pub(crate) breaker: Arc<Breaker>,
}

/// One call that a circuit let through. Dropped without a result, it counts as cancelled.
#[derive(Debug)]
pub(crate) struct Pass<'c>(&'c Circuit);

/// Why a call is not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is open.
    Open,
    /// As many calls as it allows are under way.
    Full,
}

impl Circuits {
    /// The circuit of a cluster whose breaker has not the scope of an endpoint; subsets of one service may share it.
    pub(crate) fn of_cluster(&self, model: &Cluster) -> Option<Arc<Circuit>> {
        let breaker = model.breaker.as_ref().filter(|breaker| breaker.scope != BreakerScope::Endpoint)?;
        Some(Arc::new(Circuit { breaker: breaker.clone() }))
    }

    /// The circuit of an endpoint of a cluster whose breaker has that scope. It tells `health` while it is not closed.
    pub(crate) fn of_endpoint(
        &self,
        model: &Cluster,
        _endpoint: &Endpoint,
        _health: &Arc<Health>,
    ) -> Option<Arc<Circuit>> {
        let breaker = model.breaker.as_ref().filter(|breaker| breaker.scope == BreakerScope::Endpoint)?;
        Some(Arc::new(Circuit { breaker: breaker.clone() }))
    }
}

impl Circuit {
    /// Asks to let one call through.
    pub(crate) fn admit(&self, _now: Instant) -> Result<Pass<'_>, Refused> {
        Ok(Pass(self))
    }

    /// The time it allows a call until the head of its answer.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        None
    }

    /// Whether it would let one through now: an endpoint whose circuit would not is not picked.
    pub(crate) fn would_admit(&self, _now: Instant) -> bool {
        true
    }
}

impl Pass<'_> {
    /// How the call ended, and how long its answer, or its failure, was in coming.
    pub(crate) fn end(self, _trial: Trial, _took: Duration, _now: Instant) {}
}
