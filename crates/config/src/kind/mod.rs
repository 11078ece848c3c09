//! The kinds of objects that have a meaning here, one file each.

pub mod balancer;
pub mod cors;
pub mod destination_rule;
pub mod header_edits;
pub mod http_match;
pub mod http_route_group;
pub mod istio;
pub mod mesh_config;
pub mod resilience;
pub mod service;
pub mod service_entry;
pub mod sidecar;
pub mod traffic_split;
pub mod virtual_service;
pub mod workload_entry;
pub mod workload_group;
