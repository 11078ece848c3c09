//! Kubernetes `Node`: its labels say where pods run.

use outrigger_model::Locality;

crate::object! {
    /// A node.
    pub resource struct Node {}
    ignore ["spec", "status"]
}

impl Node {
    /// Region, zone and sub-zone from the well-known labels; the older `failure-domain` labels count where the newer
    /// ones are absent.
    pub fn locality(&self) -> Locality {
        let label = |keys: &[&str]| {
            let value = keys.iter().find_map(|key| self.meta.labels.get(*key).filter(|value| !value.is_empty()));
            value.cloned().unwrap_or_default()
        };
        Locality {
            region: label(&["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"]),
            zone: label(&["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"]),
            sub_zone: label(&["topology.istio.io/subzone"]),
        }
    }
}
