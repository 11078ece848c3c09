//! The data plane: listeners, HTTP, routing, balancing, pools.
//!
//! It obeys one [`outrigger_model::Snapshot`] at a time and knows nothing of YAML, protobuf or Kubernetes. Nothing here is
//! global, so that many proxies may share a process.

mod balance;
mod cluster;
mod request;
mod route;
