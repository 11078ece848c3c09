//! A number that changes when the content of a snapshot does.

use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::net::Ipv4Addr;
use std::sync::Arc;

use outrigger_model::{Capture, Cluster, Endpoint, Listener, Mesh, Serve, ServiceRef, VirtualHost, Workload};
use xxhash_rust::xxh3::Xxh3;

/// Text that goes into a hash.
struct Sink(Xxh3);

impl std::fmt::Write for Sink {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

/// Of a cluster.
pub(crate) fn cluster(cluster: &Cluster) -> u64 {
    let mut sink = Sink(Xxh3::new());
    cluster.name.as_str().hash(&mut sink.0);
    // The policies print all of their fields; writing to a hash cannot fail.
    let _ = write!(
        sink,
        "{:?}{:?}{:?}{:?}{:?}{:?}{:?}{:?}{:?}{:?}{:?}",
        cluster.discovery,
        cluster.names,
        cluster.http,
        cluster.proxy_protocol,
        cluster.balance,
        cluster.connect_timeout,
        cluster.pool,
        cluster.outlier,
        cluster.breaker,
        cluster.tls,
        cluster.destination_rule
    );
    let _ = write!(sink, "{:?}", cluster.retry_budget);
    cluster.endpoints.iter().for_each(|e| endpoint(e, &mut sink.0));
    sink.0.finish()
}

fn endpoint(endpoint: &Arc<Endpoint>, hash: &mut Xxh3) {
    let Endpoint { address, weight, priority, locality, locality_weight, workload } = &**endpoint;
    (address, weight, priority, locality, locality_weight).hash(hash);
    (&workload.name, &workload.namespace, &workload.pod, &workload.principal, &workload.labels).hash(hash);
}

/// Of the service that a cluster belongs to, where its name does not say it.
pub(crate) fn service(service: &ServiceRef) -> u64 {
    let ServiceRef { host, name, namespace, port, subset } = service;
    let mut hash = Xxh3::new();
    (host, name, namespace, port, subset).hash(&mut hash);
    hash.finish()
}

/// Of who is behind an address.
pub(crate) fn peer(address: Ipv4Addr, workload: &Workload) -> u64 {
    let mut hash = Xxh3::new();
    (address, &workload.name, &workload.namespace, &workload.cluster).hash(&mut hash);
    (&workload.pod, &workload.principal, &workload.labels).hash(&mut hash);
    hash.finish()
}

/// Of a virtual host.
pub(crate) fn virtual_host(vhost: &VirtualHost) -> u64 {
    let mut sink = Sink(Xxh3::new());
    (&vhost.name, &vhost.domains).hash(&mut sink.0);
    for route in &vhost.routes {
        let _ = write!(sink, "{route:?}");
    }
    sink.0.finish()
}

/// Of a listener with its virtual hosts, whose fingerprints the caller may know.
pub(crate) fn listener(listener: &Listener, mut of_vhost: impl FnMut(&Arc<VirtualHost>) -> u64) -> u64 {
    let mut sink = Sink(Xxh3::new());
    let _ = write!(sink, "{}{:?}{}{:?}", listener.name, listener.direction, listener.port, listener.proxy_protocol);
    for chain in &listener.chains {
        let _ = write!(sink, "{:?}{:?}", chain.server_names, chain.tls);
        let (http, tcp) = match &chain.serve {
            Serve::Http(routes) => (Some(routes), None),
            Serve::Tcp(route) => (None, Some(route)),
            Serve::Detect { http, tcp } => (Some(http), Some(tcp)),
        };
        if let Some(routes) = http {
            let _ = write!(sink, "{:?}", routes.unmatched);
            routes.virtual_hosts.iter().for_each(|vhost| of_vhost(vhost).hash(&mut sink.0));
        }
        if let Some(route) = tcp {
            let _ = write!(sink, "{route:?}");
        }
    }
    sink.0.finish()
}

/// Of a capture.
pub(crate) fn capture(capture: &Capture) -> u64 {
    let mut sink = Sink(Xxh3::new());
    let _ = write!(sink, "{capture:?}");
    sink.0.finish()
}

/// Of many fingerprints in order.
pub(crate) fn combine(parts: impl Iterator<Item = u64>) -> u64 {
    let mut hash = Xxh3::new();
    parts.for_each(|part| part.hash(&mut hash));
    hash.finish()
}

/// Of the client and the mesh.
pub(crate) fn workload(workload: &Workload, mesh: &Mesh) -> u64 {
    let mut sink = Sink(Xxh3::new());
    let _ = write!(sink, "{workload:?}{mesh:?}");
    sink.0.finish()
}
