//! Routing: which virtual host and route a request meets, and what the route changes.
//!
//! [`Table`] is a [`outrigger_model::RouteTable`] compiled for look-up: made on the control thread when a snapshot
//! arrives, immutable then but for the tickets of weighted routes, and shared by all workers. The other modules are
//! pure functions of a request and a route. There is no I/O, no clock and no randomness here.
//!
//! The data path calls [`Table::host`], [`Host::find`] and [`CompiledRoute::choose`] once a request, in this order,
//! then what the action of the route asks for.

pub(crate) mod cors;
mod host;
mod index;
mod matching;
pub(crate) mod query;
pub(crate) mod redirect;
pub(crate) mod rewrite;
mod split;
mod table;
mod tcp;
#[cfg(test)]
mod testing;

pub(crate) use host::{CompiledRoute, Host};
pub(crate) use table::Table;
pub(crate) use tcp::TcpTable;
