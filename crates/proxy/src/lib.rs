//! The data plane: listeners, HTTP, routing, balancing, pools.
//!
//! It obeys one [`outrigger_model::Snapshot`] at a time and knows nothing of YAML, protobuf or Kubernetes. Nothing here is
//! global, so that many proxies may share a process and its [`Threads`]: start one with [`Proxy::start`], give it sockets with
//! [`Proxy::listen`] and new snapshots with [`Proxy::apply`], end it with [`Proxy::drain`].
//!
//! The life of a request is in `serve`, from top to bottom.

mod act;
mod alarm;
mod answer;
mod balance;
mod before;
mod body_limit;
mod bridge;
mod capture;
mod choose;
mod circuit;
mod cluster;
mod collect;
mod connect;
mod deadlines;
mod detect;
mod dns;
mod downstream;
mod drains;
mod exchange;
mod failure;
mod fallback;
mod fault;
mod first_answer;
mod flag;
mod forward;
mod h1;
mod h2;
mod headers;
mod health;
mod held_body;
mod hello;
mod in_force;
mod keepalive;
mod labels;
mod limits;
mod line;
mod mirror;
mod named;
mod outlier;
mod overload;
mod plan;
mod policy;
mod pool;
mod progress;
mod proxy;
mod proxy_protocol;
mod rate_limit;
mod record;
mod relay;
mod report;
mod request;
mod request_id;
mod retry;
mod route;
mod runtime;
mod serve;
mod settings;
mod shared;
mod site;
mod sweeper;
mod target;
mod tcp;
mod threads;
mod trial;
mod tunnel;
mod upgrade;
mod watch;
mod worker;

pub use circuit::{
    CircuitCause, CircuitCounts, CircuitEvent, CircuitReport, CircuitState, Forced, Percentiles, Transition,
};
pub use dns::NameServers;
pub use drains::EndpointError;
pub use outlier::{EjectionReason, EjectionReport, OutlierReport};
pub use proxy::{Options, Proxy};
pub use report::{ClusterReport, EndpointReport};
pub use settings::Settings;
pub use threads::Threads;
