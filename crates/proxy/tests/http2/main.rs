//! HTTP/2 through the data plane, on either side and on both.

#[path = "../common/mod.rs"]
mod common;

mod connections;
mod edges;
mod endings;
mod grpc;
mod pairings;
mod pressure;
mod sharing;
mod websocket;

use std::net::SocketAddr;
use std::sync::Arc;

use common::{World, proxy_with, snapshot};
use outrigger_model::{self as model, UpstreamHttp};
use outrigger_proxy::Settings;

/// A proxy that sends every host to `endpoints`, which speak this.
fn proxy_to(endpoints: &[SocketAddr], http: UpstreamHttp) -> World {
    proxy_edited(endpoints, http, |_| {}, |_| {})
}

/// The same, with its cluster and route changed.
fn proxy_edited(
    endpoints: &[SocketAddr],
    http: UpstreamHttp,
    edit_cluster: impl FnOnce(&mut model::Cluster),
    edit_route: impl FnOnce(&mut model::Route),
) -> World {
    proxy_with(Settings::default(), policy(endpoints, http, edit_cluster, edit_route))
}

/// What such a proxy obeys.
fn policy(
    endpoints: &[SocketAddr],
    http: UpstreamHttp,
    edit_cluster: impl FnOnce(&mut model::Cluster),
    edit_route: impl FnOnce(&mut model::Route),
) -> model::Snapshot {
    let mut snapshot = snapshot(endpoints, edit_route);
    let cluster = snapshot.clusters.values_mut().next().expect("it has one");
    let mut edited = model::Cluster { http, ..model::Cluster::clone(cluster) };
    edit_cluster(&mut edited);
    *cluster = Arc::new(edited);
    snapshot
}
