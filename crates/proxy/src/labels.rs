//! The values of labels: of workloads, clusters, endpoints and routes, in the catalogue's order.

use std::sync::Arc;

use outrigger_model::{Cluster, Destination, Endpoint, Route, ServiceRef, Workload};

/// The value of `source_FACT` or `destination_FACT`.
pub(crate) fn workload_label(fact: &str, w: &Workload) -> Arc<str> {
    match fact {
        "workload" => w.name.clone(),
        "workload_namespace" => w.namespace.clone(),
        "canonical_service" => w.canonical_service.clone(),
        "canonical_revision" => w.canonical_revision.clone(),
        "app" => w.app.clone(),
        "version" => w.version.clone(),
        "cluster" => w.cluster.clone(),
        // Principals are facts of certificates; without mutual TLS there are none.
        _ => Workload::UNKNOWN.into(),
    }
}

/// The labels of a cluster in our own metrics.
pub(crate) fn cluster_labels(cluster: &Cluster) -> [Arc<str>; 4] {
    let service = &cluster.service;
    [cluster.name.shared(), service.name.clone(), service.namespace.clone(), service.subset.clone()]
}

/// The labels of an endpoint: its pod's name, or its address where that is not known.
pub(crate) fn endpoint_labels(cluster: &Cluster, endpoint: &Endpoint) -> [Arc<str>; 6] {
    let [name, service, namespace, subset] = cluster_labels(cluster);
    let pod = &endpoint.workload.pod;
    let instance = if pod.is_empty() { endpoint.address.to_string().into() } else { pod.clone() };
    [name, service, namespace, subset, instance, endpoint.locality.to_string().into()]
}

/// The labels of a route's share; `service` is that of the cluster where it exists.
pub(crate) fn route_labels(
    route: &Route,
    destination: &Destination,
    service: Option<&ServiceRef>,
) -> Option<[Arc<str>; 9]> {
    let origin = route.origin.as_ref()?;
    let unknown = || Arc::<str>::from(Workload::UNKNOWN);
    let backend = match destination.cluster.outbound_parts() {
        Some((port, "", host)) => format!("{host}:{port}").into(),
        Some((port, subset, host)) => format!("{host}:{port}/{subset}").into(),
        None => destination.cluster.shared(),
    };
    Some([
        destination.cluster.shared(),
        service.map_or_else(unknown, |s| s.name.clone()),
        service.map_or_else(unknown, |s| s.namespace.clone()),
        service.map_or_else(Arc::default, |s| s.subset.clone()),
        origin.kind.clone(),
        origin.namespace.clone(),
        origin.name.clone(),
        origin.rule.clone(),
        backend,
    ])
}
