//! EndpointSlices and Endpoints of Services that select pods: a cluster made them from its pods, and the simulated pods
//! take their place. Those of Services without selector were written by somebody, and stay.

use std::collections::BTreeMap;
use std::sync::Arc;

use outrigger_model::Diagnostic;

use crate::codes;
use crate::kind::endpoint_slice::EndpointSlice;
use crate::kind::endpoints::Endpoints;
use crate::kind::service::{Service, ServiceType};
use crate::object::{Metadata, Resource};
use crate::resources::{Resources, Table};

/// What is left of the endpoints of an input.
#[derive(Debug, Default)]
pub(super) struct Replaced {
    /// What it was made from.
    input: Resources,
    /// Slices that stay.
    pub(super) slices: Arc<Table<EndpointSlice>>,
    /// Endpoints that stay.
    pub(super) endpoints: Arc<Table<Endpoints>>,
    /// What does not stay, once for each Service.
    pub(super) diagnostics: Vec<Diagnostic>,
}

impl Replaced {
    /// Looks at an input, unless that of before is the same in this.
    pub(super) fn update(&mut self, resources: &Resources) {
        let before = &self.input;
        if Arc::ptr_eq(&before.services, &resources.services)
            && Arc::ptr_eq(&before.endpoint_slices, &resources.endpoint_slices)
            && Arc::ptr_eq(&before.endpoints, &resources.endpoints)
        {
            return;
        }
        let mut left_out: BTreeMap<(&Arc<str>, &Arc<str>), usize> = BTreeMap::new();
        let mut stays = |meta: &'_ Metadata, name: Option<&str>| {
            let service = name.and_then(|name| resources.services.get(&meta.namespace, name));
            let Some(service) = service.filter(|service| selects(service)) else { return true };
            *left_out.entry((&service.meta.namespace, &service.meta.name)).or_default() += 1;
            false
        };
        let slices = filtered(&resources.endpoint_slices, &self.slices, |s| stays(&s.meta, s.service_name()));
        let endpoints = filtered(&resources.endpoints, &self.endpoints, |e| stays(&e.meta, Some(&e.meta.name)));
        self.diagnostics = left_out
            .into_iter()
            .filter_map(|((namespace, name), count)| Some(notice(resources.services.get(namespace, name)?, count)))
            .collect();
        (self.slices, self.endpoints) = (slices, endpoints);
        self.input = resources.clone();
    }
}

fn filtered<T: Resource>(
    input: &Arc<Table<T>>,
    before: &Arc<Table<T>>,
    mut stays: impl FnMut(&T) -> bool,
) -> Arc<Table<T>> {
    let items: Vec<Arc<T>> = input.iter().filter(|item| stays(item)).cloned().collect();
    if items.len() == input.len() { input.clone() } else { Table::of(items, before) }
}

/// Whether a Service has its endpoints from the pods it selects.
pub(super) fn selects(service: &Service) -> bool {
    !service.spec.selector.is_empty() && service.spec.service_type != ServiceType::ExternalName
}

fn notice(service: &Service, count: usize) -> Diagnostic {
    let meta = &service.meta;
    let objects = if count == 1 { "object" } else { "objects" };
    let message = format!(
        "{count} {objects} with its endpoints (EndpointSlice, Endpoints) left out: simulated pods take their place"
    );
    codes::ENDPOINTS_REPLACED.about(meta, meta.pos, message, "")
}
