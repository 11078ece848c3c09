//! What a configuration depends on: as long as these tables are the same in memory, so is everything but endpoints.

use std::sync::Arc;

use super::View;
use crate::resources::Resources;

/// Whether a view's configuration is the same for two inputs. A table that `translate` reads stands here.
pub(super) fn are_same(view: &View, before: &Resources, now: &Resources) -> bool {
    Arc::ptr_eq(&before.services, &now.services)
        && Arc::ptr_eq(&before.service_entries, &now.service_entries)
        && Arc::ptr_eq(&before.destination_rules, &now.destination_rules)
        && Arc::ptr_eq(&before.virtual_services, &now.virtual_services)
        && Arc::ptr_eq(&before.sidecars, &now.sidecars)
        && Arc::ptr_eq(&before.istio_gateways, &now.istio_gateways)
        // A VirtualService that names one of these is told that it means the others.
        && Arc::ptr_eq(&before.gateways, &now.gateways)
        && (view.gateway.is_none() || Arc::ptr_eq(&before.secrets, &now.secrets))
        && Arc::ptr_eq(&before.traffic_splits, &now.traffic_splits)
        && Arc::ptr_eq(&before.http_route_groups, &now.http_route_groups)
        && Arc::ptr_eq(&before.http_routes, &now.http_routes)
        && Arc::ptr_eq(&before.grpc_routes, &now.grpc_routes)
        && Arc::ptr_eq(&before.tls_routes, &now.tls_routes)
        && Arc::ptr_eq(&before.tcp_routes, &now.tcp_routes)
        && Arc::ptr_eq(&before.circuit_breakers, &now.circuit_breakers)
        && Arc::ptr_eq(&before.rate_limits, &now.rate_limits)
        && Arc::ptr_eq(&before.reference_grants, &now.reference_grants)
        && (view.workload.is_some() || are_same_gateways(before, now))
}

/// Listeners and conditions of the Gateway API.
fn are_same_gateways(before: &Resources, now: &Resources) -> bool {
    let none = now.gateways.is_empty() && now.gateway_classes.is_empty();
    Arc::ptr_eq(&before.gateway_classes, &now.gateway_classes)
        && Arc::ptr_eq(&before.listener_sets, &now.listener_sets)
        && (none
            || Arc::ptr_eq(&before.namespaces, &now.namespaces)
                && Arc::ptr_eq(&before.secrets, &now.secrets)
                && Arc::ptr_eq(&before.config_maps, &now.config_maps))
}
