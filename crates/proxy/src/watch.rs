//! Who wants to know what becomes of a try: outlier detection and the circuits that let it through.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::circuit::{Circuit, Pass, Refused};
use crate::cluster::{EndpointState, LiveCluster};
use crate::failure::{Blame, Reason};
use crate::fallback;
use crate::outlier::Outliers;
use crate::trial::Trial;

/// One try as they see it. Dropped before anything is known, it counts as cancelled.
pub(crate) struct Watch<'w> {
    endpoint: &'w EndpointState,
    outliers: Option<&'w Outliers>,
    pass: Cell<Option<Pass<'w>>>,
    circuit: Option<&'w Circuit>,
    /// `None`: nobody wants to know.
    began: Option<Instant>,
    /// How long the head of an answer was in coming whose call is judged later.
    took: Cell<Option<Duration>>,
}

impl<'w> Watch<'w> {
    /// A try at an endpoint, if the circuits let it through. A breaker has one scope, so that there is one of them.
    pub(crate) fn begin(
        cluster: Option<&'w LiveCluster>,
        endpoint: &'w EndpointState,
    ) -> Result<Self, (Reason, String)> {
        let watching = cluster.filter(|cluster| cluster.outliers.is_some() || cluster.model.breaker.is_some());
        let Some(cluster) = watching else {
            let (pass, took) = Default::default();
            return Ok(Self { endpoint, outliers: None, pass, circuit: None, began: None, took });
        };
        let now = Instant::now();
        let circuit = cluster.circuit.as_deref().or(endpoint.circuit.as_deref());
        let pass = circuit.map(|circuit| admit(circuit, now)).transpose()?;
        let (outliers, pass, took) = (cluster.outliers.as_deref(), Cell::new(pass), Cell::default());
        Ok(Self { endpoint, outliers, pass, circuit, began: Some(now), took })
    }

    /// The time that the circuits allow the try, until the head of its answer.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.circuit.and_then(Circuit::timeout)
    }

    /// Whether an answer is given up because a fallback stands in for it.
    pub(crate) fn replaces(&self, status: u16, grpc: Option<u8>, is_at_hand: bool) -> bool {
        self.circuit.is_some_and(|circuit| fallback::replaces(circuit, Trial::Answered { status, grpc }, is_at_hand))
    }

    /// The head of an answer came to a call that is judged by its status at the end. However long it streams, it was not slow.
    pub(crate) fn began_to_answer(&self) {
        self.began_to_answer_at(Instant::now());
    }

    fn began_to_answer_at(&self, now: Instant) {
        self.took.set(self.began.map(|began| now.saturating_duration_since(began)));
    }

    /// The head of an answer came, or the status of a call.
    pub(crate) fn answered(&self, status: u16, grpc: Option<u8>) {
        self.tell(Trial::Answered { status, grpc });
    }

    /// A call came to its end. Where its first head said how, that was judged then.
    pub(crate) fn ended(&self, status: u16, grpc: Option<u8>) {
        if self.took.get().is_some() {
            self.answered(status, grpc);
        }
    }

    /// The try failed. After an answer began, only outlier detection hears of it: the call itself was judged.
    pub(crate) fn failed(&self, reason: Reason) {
        self.tell(if reason.row().blame == Blame::Downstream { Trial::Abandoned } else { Trial::Failed(reason) });
    }

    fn tell(&self, trial: Trial) {
        self.tell_at(trial, Instant::now());
    }

    fn tell_at(&self, trial: Trial, now: Instant) {
        let Some(began) = self.began else { return };
        let took = self.took.get().unwrap_or_else(|| now.saturating_duration_since(began));
        if let Some(outliers) = self.outliers {
            outliers.tried(self.endpoint, trial, now);
        }
        if let Some(pass) = self.pass.take() {
            pass.end(trial, took, now);
        }
    }
}

fn admit(circuit: &Circuit, now: Instant) -> Result<Pass<'_>, (Reason, String)> {
    circuit.admit(now).map_err(|refused| match refused {
        Refused::Open => (Reason::CircuitOpen, circuit.why(now)),
        Refused::Full => (Reason::CircuitFull, circuit.why_full()),
    })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use outrigger_model::{
        BreakerRule, BreakerScope, Cluster, Endpoint, HystrixRule, Locality, OutlierDetection, Workload,
    };

    use super::*;
    use crate::circuit::{CircuitEvent, Circuits, testing};
    use crate::dns::{NameServers, Names};
    use crate::settings::Settings;

    /// A cluster of one endpoint with this policy.
    fn live(limits: HystrixRule, outlier: Option<OutlierDetection>, circuits: &Circuits) -> Arc<LiveCluster> {
        let endpoint = Endpoint {
            address: SocketAddr::from(([127, 0, 0, 1], 80)),
            weight: 1,
            priority: 0,
            locality: Locality::default(),
            locality_weight: 0,
            workload: Arc::new(Workload::unknown()),
        };
        let model = testing::cluster("", BreakerScope::Service, BreakerRule::Hystrix(limits));
        let model = Arc::new(Cluster { endpoints: vec![Arc::new(endpoint)], outlier, ..model });
        let names = Names::new(NameServers::At(Vec::new()), Settings::default());
        LiveCluster::reconcile(&model, None, &names, circuits, Instant::now())
    }

    #[test]
    fn a_call_that_ends_with_its_head_is_judged_once() {
        let outlier = OutlierDetection { consecutive_5xx: 2, ejection_percent_max: 100, ..OutlierDetection::default() };
        let live = live(HystrixRule::default(), Some(outlier), &Circuits::default());
        for is_available in [true, false] {
            let watch = Watch::begin(Some(&live), &live.hosts[0]).expect("it is closed");
            watch.answered(200, Some(14));
            watch.ended(200, Some(14));
            assert_eq!(live.hosts[0].is_available(Instant::now()), is_available);
        }
    }

    #[test]
    fn a_call_that_streams_for_long_is_judged_by_its_end_and_is_as_slow_as_its_head() {
        let limits = HystrixRule { timeout: Some(Duration::from_secs(1)), ..HystrixRule::default() };
        let circuits = Circuits::default();
        let live = live(limits, None, &circuits);
        for (status, begins, expected) in
            [(0, true, CircuitEvent::Success), (14, true, CircuitEvent::Failure), (0, false, CircuitEvent::Timeout)]
        {
            let watch = Watch::begin(Some(&live), &live.hosts[0]).expect("it is closed");
            let now = Instant::now();
            if begins {
                watch.began_to_answer_at(now + Duration::from_millis(50));
            }
            let before = circuits.all(now)[0].total.of(expected);
            watch.tell_at(Trial::Answered { status: 200, grpc: Some(status) }, now + Duration::from_secs(600));
            let after = circuits.all(now)[0].total.of(expected);
            assert_eq!(after - before, 1, "{expected:?}");
        }
    }
}
