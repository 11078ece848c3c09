//! HTTP/2, with the `h2` crate: connections of clients and to endpoints, every limit set and watched.

pub(crate) mod answer;
pub(crate) mod call;
pub(crate) mod client;
pub(crate) mod crowd;
pub(crate) mod ended;
pub(crate) mod head;
pub(crate) mod incoming;
pub(crate) mod io;
pub(crate) mod keepalive;
pub(crate) mod meter;
pub(crate) mod request;
pub(crate) mod server;
pub(crate) mod stream;
mod windows;
