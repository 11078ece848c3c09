//! What one proxy must obey, as plain immutable values.
//!
//! Configuration of any origin (Kubernetes, Istio, SMI, later xDS) is translated into one [`Snapshot`]; the data plane
//! reads nothing else. A value of this crate that exists is legal: hosts are normalised, header names and values carry
//! no control characters, regular expressions compile, weights have a positive sum. There is no I/O here, no YAML, no
//! protobuf and no clock.
//!
//! Names follow Envoy and Istio: a cluster is called `outbound|9080|v1|reviews.default.svc.cluster.local`.

mod balance;
mod breaker;
mod cluster;
mod diagnostic;
mod header;
mod listener;
mod matcher;
mod policy;
mod resilience;
mod route;
mod snapshot;
mod workload;

pub use balance::{Balance, BalancePolicy, CookieKey, HashKey, LocalityMode, Warmup};
pub use breaker::{
    Breaker, BreakerRule, BreakerScope, ConsecutiveRule, FailureAnswers, Fallback, HystrixRule, SuccessWindow,
};
pub use cluster::{
    Cluster, ClusterName, Discovery, Endpoint, Locality, NamedEndpoint, ProxyProtocol, ServiceRef, UpstreamHttp,
};
pub use diagnostic::{Code, Diagnostic, Level, ObjectRef, Place};
pub use header::{HeaderEdits, HeaderError, HeaderName, HeaderValue};
pub use listener::{
    Chain, ClientCertificate, Direction, Inbound, KeyPair, Listener, Network, Secret, Serve, ServerTls, TcpRoute,
    TlsVersion,
};
pub use matcher::{HeaderMatch, Pattern, PatternError, QueryMatch, StringMatch, ValueMatch};
pub use policy::{ConnectionPool, Fraction, Http2KeepAlive, Mirror, TcpKeepalive, TlsMode, UpstreamTls};
pub use resilience::{
    BackOff, BodyLimits, FailurePercentage, Fault, FaultAbort, FaultDelay, OutlierDetection, RateLimit, RetryBudget,
    RetryOn, RetryPolicy, SuccessRate,
};
pub use route::{
    Action, Cors, Destination, DirectResponse, Domain, DomainPort, Forward, HostPattern, Missing, Origin, PathMatch,
    PathRewrite, Redirect, RedirectPath, RedirectPort, Rewrite, Route, RouteMatch, RouteTable, Unmatched, VirtualHost,
};
pub use snapshot::{Capture, Mesh, ServiceSummary, Snapshot};
pub use workload::Workload;
