//! How requests are spread over the endpoints of a cluster (Istio `trafficPolicy.loadBalancer`).

use std::sync::Arc;
use std::time::Duration;

use crate::HeaderName;

/// The balancing of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balance {
    /// The algorithm.
    pub policy: BalancePolicy,
    /// Slow start of new endpoints (`loadBalancer.warmup`); only with round robin and least request.
    pub warmup: Option<Warmup>,
    /// How localities take part.
    pub locality: LocalityMode,
}

/// The algorithm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BalancePolicy {
    /// Smooth weighted round robin with a random start.
    RoundRobin,
    /// Power of two choices on active requests; weighted where weights differ. Istio's default.
    LeastRequest,
    /// Weighted random choice.
    Random,
    /// To the address the client asked for.
    Passthrough,
    /// Ketama ring over `address_i` with xxHash64, as Envoy's `ring_hash`.
    RingHash {
        /// Fewest points on the ring (`minimumRingSize`), 1 to [`BalancePolicy::RING_SIZE_MAX`].
        ring_size_min: u32,
        /// What of the request is hashed.
        key: HashKey,
    },
    /// Maglev table, as Envoy's `maglev`.
    Maglev {
        /// Table entries: a prime up to [`BalancePolicy::MAGLEV_SIZE_MAX`].
        table_size: u32,
        /// What of the request is hashed.
        key: HashKey,
    },
}

impl BalancePolicy {
    /// Envoy's default for `minimum_ring_size` under Istio.
    pub const RING_SIZE_DEFAULT: u32 = 1024;
    /// Envoy's bound on ring points.
    pub const RING_SIZE_MAX: u32 = 8 * 1024 * 1024;
    /// Envoy's default Maglev table size.
    pub const MAGLEV_SIZE_DEFAULT: u32 = 65_537;
    /// Envoy's bound on the Maglev table size.
    pub const MAGLEV_SIZE_MAX: u32 = 5_000_011;
}

/// What of a request decides its endpoint (Istio `consistentHash`).
///
/// A request that lacks the thing is balanced at random, as Envoy does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// `httpHeaderName`.
    Header(HeaderName),
    /// `httpCookie`.
    Cookie(CookieKey),
    /// `useSourceIp`: the address of the connection.
    SourceIp,
    /// `httpQueryParameterName`, percent-decoded.
    Query(Arc<str>),
}

/// The cookie that keeps a client with its endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieKey {
    /// Cookie name.
    pub name: Arc<str>,
    /// `Path` attribute; none when empty.
    pub path: Arc<str>,
    /// Lifetime. `None`: never issued by the proxy; zero: a session cookie; else `Max-Age`.
    pub ttl: Option<Duration>,
    /// Further attributes in order, e.g. `SameSite=Strict`; the value may be empty.
    pub attributes: Vec<(Arc<str>, Arc<str>)>,
}

/// Slow start of an endpoint (Istio `warmup`, Envoy `SlowStartConfig`).
///
/// Weight factor = max(minimum, (age / duration) ^ (1 / aggression)).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Warmup {
    /// How long an endpoint is young.
    pub duration: Duration,
    /// Lowest share of its weight it gets, 0 to 1 (`minimumPercent` / 100, default 0.1).
    pub minimum_ratio: f64,
    /// Shape of the ramp, at least 1 (default 1: linear).
    pub aggression: f64,
}

impl Eq for Warmup {}

/// How localities take part in the choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalityMode {
    /// By the priorities of the endpoints: the lowest number that has healthy endpoints serves (failover).
    Priority,
    /// By `Endpoint::locality_weight`: first a locality by weight, then an endpoint in it (distribute).
    Weighted,
}
