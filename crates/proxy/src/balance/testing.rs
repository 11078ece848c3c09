//! Endpoints for the tests of balancing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use outrigger_model::{Balance, BalancePolicy, CookieKey, Endpoint, HashKey, Locality, LocalityMode, Workload};

use super::Balancer;
use crate::cluster::EndpointState;

/// A moment to count from.
pub(super) fn start() -> Instant {
    // Far enough from the clock's origin that an endpoint can be older.
    Instant::now() + Duration::from_secs(1_000_000)
}

/// One endpoint, old enough to be warm at [`start`]; `text` is `WEIGHT`, `WEIGHT@PRIORITY` or
/// `WEIGHT/LOCALITY:LOCALITY_WEIGHT`.
fn endpoint(port: u16, text: &str, since: Instant) -> Arc<EndpointState> {
    let (text, locality) = text.split_once('/').unwrap_or((text, ":0"));
    let (weight, priority) = text.split_once('@').unwrap_or((text, "0"));
    let (locality, locality_weight) = locality.split_once(':').expect("a locality with a weight");
    let endpoint = Endpoint {
        address: ([127, 0, 0, 1], port).into(),
        weight: weight.parse().expect("a weight"),
        priority: priority.parse().expect("a priority"),
        locality: Locality::parse(locality),
        locality_weight: locality_weight.parse().expect("a locality weight"),
        workload: Arc::new(Workload::unknown()),
    };
    Arc::new(EndpointState::new(u64::from(port), Arc::new(endpoint), since))
}

/// Warm endpoints at 127.0.0.1, ports 90 and up.
pub(super) fn hosts(texts: &[&str]) -> Arc<[Arc<EndpointState>]> {
    aged(&texts.iter().map(|text| (*text, Duration::from_secs(900_000))).collect::<Vec<_>>(), start())
}

/// Endpoints of these ages.
pub(super) fn aged(texts: &[(&str, Duration)], now: Instant) -> Arc<[Arc<EndpointState>]> {
    texts.iter().zip(90..).map(|((text, age), port)| endpoint(port, text, now - *age)).collect()
}

/// That many warm endpoints of weight 1.
pub(super) fn equal(count: usize) -> Arc<[Arc<EndpointState>]> {
    hosts(&vec!["1"; count])
}

pub(super) fn balance(policy: BalancePolicy) -> Balance {
    Balance { policy, warmup: None, locality: LocalityMode::Priority }
}

pub(super) fn ring_hash(ring_size_min: u32) -> BalancePolicy {
    BalancePolicy::RingHash { ring_size_min, key: HashKey::SourceIp }
}

pub(super) fn maglev(table_size: u32) -> BalancePolicy {
    BalancePolicy::Maglev { table_size, key: HashKey::SourceIp }
}

pub(super) fn cookie(ttl: Option<Duration>) -> CookieKey {
    CookieKey { name: "sticky".into(), path: "/".into(), ttl, attributes: Vec::new() }
}

/// Every policy that chooses among endpoints.
pub(super) fn policies() -> [BalancePolicy; 5] {
    [BalancePolicy::RoundRobin, BalancePolicy::LeastRequest, BalancePolicy::Random, ring_hash(1024), maglev(65_537)]
}

/// How often each of `count` endpoints is picked.
pub(super) fn counts(balancer: &mut Balancer, count: usize, picks: usize, now: Instant, seed: u64) -> Vec<u64> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut counts = vec![0; count];
    for _ in 0..picks {
        counts[balancer.pick(None, now, &mut rng).expect("an endpoint is available")] += 1;
    }
    counts
}
