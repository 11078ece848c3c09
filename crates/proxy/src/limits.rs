//! The limits of `connectionPool`, counted for a cluster over all workers of a proxy, as Envoy counts them for one priority.

use std::sync::atomic::AtomicU32;

/// What is under way in a cluster. It outlives snapshots.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    /// Connections of HTTP/1 and TCP, and of HTTP/2.
    pub(crate) connections: AtomicU32,
    /// Requests that wait for a connection.
    pub(crate) pending: AtomicU32,
    /// Requests under way.
    pub(crate) requests: AtomicU32,
    /// Retries under way.
    pub(crate) retries: AtomicU32,
}
