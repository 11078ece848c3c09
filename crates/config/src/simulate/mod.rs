//! Simulation: pods for the workloads of an input, each with a loopback address of its own.
//!
//! [`Simulation::stage`] puts a Pod into the resources for every replica of every workload, so that everything after it
//! (Services, subsets, localities, identities) works as on a cluster. It starts nothing: whoever runs the pods binds their
//! sockets and says with [`Simulation::release`] when an address is free again.

use std::net::Ipv4Addr;
use std::sync::Arc;

use outrigger_model::{Diagnostic, ServiceRef, Workload};

use crate::resources::Resources;

/// What an input looks like with its pods.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The resources, simulated Pods among them.
    pub resources: Resources,
    /// The pods, sorted by namespace and name.
    pub pods: Vec<Arc<SimulatedPod>>,
    /// What of the input cannot be simulated, and why.
    pub diagnostics: Vec<Diagnostic>,
}

/// A pod that stands for a replica.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatedPod {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Pod name: `reviews-v1-0` for the first replica of `reviews-v1`; its own for a Pod.
    pub name: Arc<str>,
    /// The workload it belongs to: its own name for a Pod.
    pub owner: Arc<str>,
    /// Its address; stays the same while the pod exists.
    pub address: Ipv4Addr,
    /// `serviceAccountName`, `default` where none is given.
    pub service_account: Arc<str>,
    /// Its facts, for metrics, subsets and policies.
    pub facts: Arc<Workload>,
    /// The ports of all its containers.
    pub ports: Vec<SimulatedPort>,
}

/// A container's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulatedPort {
    /// The container's name.
    pub container: Arc<str>,
    /// The port's name, perhaps empty.
    pub name: Arc<str>,
    /// Its number.
    pub port: u16,
    /// What it speaks, as the Service that targets it says: `http`, `http2`, `grpc`, `tcp`, `tls`, …
    pub protocol: Arc<str>,
    /// The Service whose requests come in here: the first by name that selects the pod and targets the port.
    pub service: Option<ServiceRef>,
}
