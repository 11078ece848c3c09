//! Outlier detection that can never eject: the share of one endpoint is more than `maxEjectionPercent`.
//!
//! Envoy, and so Istio, ejects an endpoint only if the ejected ones are then at most that share of all. With the default
//! of 10 % that takes ten endpoints; with fewer the rule looks as if it protected and does nothing. It is said once for a
//! block, of the cluster that needs the highest percentage, and once for the whole mesh where the block is the mesh's.

use std::sync::Arc;

use outrigger_model::{Cluster, Diagnostic};

use super::policy::Merged;
use crate::codes;
use crate::kind::config_map::ConfigMap;
use crate::kind::outlier::{ANNOTATION, Detection};

/// A cluster of which nobody can be ejected.
#[derive(Clone, Debug)]
pub(crate) struct Never {
    cluster: Arc<Cluster>,
    endpoints: usize,
    percent: u32,
}

impl Never {
    /// The cluster, if that is so. A single endpoint is no case: without it there would be nobody. How many addresses a name
    /// has is not known here.
    fn of(cluster: &Arc<Cluster>) -> Option<Self> {
        let outlier = cluster.outlier.as_ref().filter(|outlier| !outlier.always_eject_one)?;
        let endpoints = cluster.endpoints.len();
        let percent = outlier.ejection_percent_max;
        let never = endpoints > 1 && cluster.names.is_empty() && 100 > endpoints * percent as usize;
        never.then(|| Self { cluster: cluster.clone(), endpoints, percent })
    }

    fn message(&self) -> String {
        let Self { cluster, endpoints, percent } = self;
        format!(
            "outlier detection of cluster {} can never eject: each of its {endpoints} endpoints is {:.0} % of them, and \
             maxEjectionPercent is {percent}",
            cluster.name,
            100.0 / *endpoints as f64
        )
    }

    fn hint(&self) -> String {
        let least = 100_usize.div_ceil(self.endpoints);
        format!(
            "set `maxEjectionPercent` to {least} or more, or annotate the DestinationRule with `{ANNOTATION}: \
             \"always_eject_one_host: true\"`"
        )
    }
}

/// The clusters of one service with outlier detection, by the block that they have it from.
#[derive(Debug, Default)]
pub(crate) struct Ejections<'p> {
    found: Vec<(&'p Arc<Detection>, Never)>,
}

impl<'p> Ejections<'p> {
    /// Adds a cluster and its block.
    pub(crate) fn add(&mut self, block: Option<&'p Arc<Detection>>, cluster: &Arc<Cluster>) {
        let Some(block) = block else { return };
        let Some(never) = Never::of(cluster) else { return };
        match self.found.iter_mut().find(|(known, _)| Arc::ptr_eq(known, block)) {
            Some((_, known)) if known.endpoints <= never.endpoints => {}
            Some((_, known)) => *known = never,
            None => self.found.push((block, never)),
        }
    }

    /// The cluster of a block.
    pub(crate) fn of(&self, block: &Arc<Detection>) -> Option<Never> {
        self.found.iter().find(|(known, _)| Arc::ptr_eq(known, block)).map(|(_, never)| never.clone())
    }

    /// What is to be said of the blocks of a rule.
    pub(crate) fn never(&self, rule: &Merged) -> Vec<Diagnostic> {
        let about = |(block, never): &(&Arc<Detection>, Never)| {
            let owner = rule.owner(block)?;
            Some(codes::NEVER_EJECTS.about(&owner.meta, block.pos, never.message(), never.hint()))
        };
        self.found.iter().filter_map(about).collect()
    }
}

/// What is to be said of the mesh's block: one cluster stands for all.
pub(crate) fn never_of_mesh<'n>(all: impl Iterator<Item = &'n Never>, mesh: Option<&ConfigMap>) -> Option<Diagnostic> {
    let (mut services, mut worst) = (0, None::<&Never>);
    for never in all {
        services += 1;
        worst = worst.filter(|worst| worst.endpoints <= never.endpoints).or(Some(never));
    }
    let (worst, map) = (worst?, mesh?);
    let message = format!("defaultTrafficPolicy: {}; so it is with {services} service(s)", worst.message());
    let hint = format!("set `maxEjectionPercent` to {} or more", 100_usize.div_ceil(worst.endpoints));
    Some(codes::NEVER_EJECTS.about(&map.meta, map.meta.pos, message, hint))
}
