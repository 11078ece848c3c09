//! Clusters with a breaker, for tests.

use std::sync::Arc;
use std::time::Duration;

use outrigger_model::{
    Balance, BalancePolicy, Breaker, BreakerRule, BreakerScope, Cluster, ClusterName, ConnectionPool, Discovery,
    LocalityMode, ServiceRef, UpstreamHttp,
};

/// A cluster of `cart.shop` with a breaker.
pub(crate) fn cluster(subset: &str, scope: BreakerScope, rule: BreakerRule) -> Cluster {
    let host = "cart.shop.svc.cluster.local";
    Cluster {
        name: ClusterName::outbound(80, subset, host),
        service: ServiceRef {
            host: host.into(),
            name: "cart".into(),
            namespace: "shop".into(),
            port: 80,
            subset: subset.into(),
        },
        discovery: Discovery::Static,
        endpoints: Vec::new(),
        names: Vec::new(),
        http: UpstreamHttp::Http1,
        proxy_protocol: None,
        balance: Balance { policy: BalancePolicy::RoundRobin, warmup: None, locality: LocalityMode::Priority },
        connect_timeout: Duration::from_secs(10),
        pool: ConnectionPool::default(),
        outlier: None,
        breaker: Some(Arc::new(breaker(scope, rule))),
        retry_budget: None,
        tls: None,
        destination_rule: None,
    }
}

/// A breaker without a fallback.
pub(super) fn breaker(scope: BreakerScope, rule: BreakerRule) -> Breaker {
    Breaker { origin: "CircuitBreaker shop/cart".into(), scope, rule, fallback: None, fallbacks_max: 2 }
}
