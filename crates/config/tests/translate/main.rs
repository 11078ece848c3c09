//! Translation as data: YAML in, routes, clusters, endpoints and findings out.

mod dump;
mod endpoints;
mod hosts;
mod mutations;
mod oracle;
mod policies;
mod reuse;
mod samples;
mod scope;
mod splits;
mod virtual_services;
