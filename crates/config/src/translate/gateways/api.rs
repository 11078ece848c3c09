//! Gateways of this API.

use std::sync::Arc;

use outrigger_model::{Listener, Workload};

use super::{GatewayId, GatewayProxy};
use crate::resources::Resources;
use crate::translate::vhosts::VhostBuilder;
use crate::translate::workloads::Naming;

/// All proxies of this API.
pub(super) fn list(_resources: &Resources, _naming: &Naming) -> Vec<GatewayProxy> {
    Vec::new()
}

/// The facts of one of them.
pub(super) fn workload(_id: &GatewayId, _resources: &Resources, _naming: &Naming) -> Arc<Workload> {
    Arc::new(Workload::unknown())
}

/// What one of them listens on.
pub(super) fn listeners(_id: &GatewayId, _resources: &Resources, _builder: &VhostBuilder<'_>) -> Vec<Listener> {
    Vec::new()
}
