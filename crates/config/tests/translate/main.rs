//! Translation as data: YAML in, routes, clusters, endpoints and findings out.

mod dump;
mod endpoints;
mod forwards;
mod gateway_api;
mod hosts;
mod http_routes;
mod http_routes_filters;
mod http_routes_invalid;
mod http_routes_mesh;
mod istio_gateways;
mod istio_gateways_mutations;
mod istio_gateways_samples;
mod istio_gateways_tcp;
mod istio_gateways_tls;
mod listeners;
mod mutations;
mod oracle;
mod policies;
mod protocols;
mod reuse;
mod samples;
mod scope;
mod splits;
mod virtual_services;
