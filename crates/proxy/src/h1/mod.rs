//! HTTP/1: heads, bodies and the streams they travel on (RFC 9110, RFC 9112).
//!
//! Parsing is strict: whatever two peers could read differently is refused, because ambiguity is what request smuggling
//! lives on. Nothing here knows of routes, clusters or metrics.

pub(crate) mod body;
pub(crate) mod buffer;
pub(crate) mod head;
pub(crate) mod path;
pub(crate) mod stream;
pub(crate) mod tls;
