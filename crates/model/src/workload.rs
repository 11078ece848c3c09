//! Who sends or receives: the facts about a workload that metrics, spans and policies name.

use std::collections::BTreeMap;
use std::sync::Arc;

/// A workload, with Istio's fallbacks already applied: no text here is empty but `pod` and `principal`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Deployment, StatefulSet, … name; label `service.istio.io/workload-name` wins; else `unknown`.
    pub name: Arc<str>,
    /// Its namespace, else `unknown`.
    pub namespace: Arc<str>,
    /// Label `app`, else `unknown`.
    pub app: Arc<str>,
    /// Label `version`, else `unknown`.
    pub version: Arc<str>,
    /// `service.istio.io/canonical-name`, `app.kubernetes.io/name`, `app`, workload name.
    pub canonical_service: Arc<str>,
    /// `service.istio.io/canonical-revision`, `app.kubernetes.io/version`, `version`, else `latest`.
    pub canonical_revision: Arc<str>,
    /// Mesh cluster id, `Kubernetes` by default.
    pub cluster: Arc<str>,
    /// `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT` where the service account is known, else empty.
    pub principal: Arc<str>,
    /// Pod name where known, else empty.
    pub pod: Arc<str>,
    /// All labels, for subsets and source matches.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
}

impl Workload {
    /// The fallback of every label whose fact is not known.
    pub const UNKNOWN: &'static str = "unknown";

    /// A client nobody knows: the peer of `outrigger run` without `--workload`.
    pub fn unknown() -> Self {
        let unknown: Arc<str> = Self::UNKNOWN.into();
        Self {
            name: unknown.clone(),
            namespace: unknown.clone(),
            app: unknown.clone(),
            version: unknown.clone(),
            canonical_service: unknown.clone(),
            canonical_revision: "latest".into(),
            cluster: unknown,
            principal: Arc::default(),
            pod: Arc::default(),
            labels: BTreeMap::new(),
        }
    }

    /// Builds the facts from labels with Istio's order of precedence.
    pub fn new(name: &str, namespace: &str, pod: &str, cluster: &str, labels: BTreeMap<Arc<str>, Arc<str>>) -> Self {
        let label = |key: &str| labels.get(key).filter(|v| !v.is_empty()).cloned();
        let unknown = || Arc::<str>::from(Self::UNKNOWN);
        let non_empty = |text: &str| if text.is_empty() { unknown() } else { text.into() };
        let name = label("service.istio.io/workload-name").unwrap_or_else(|| non_empty(name));
        Self {
            namespace: non_empty(namespace),
            app: label("app").unwrap_or_else(unknown),
            version: label("version").unwrap_or_else(unknown),
            canonical_service: label("service.istio.io/canonical-name")
                .or_else(|| label("app.kubernetes.io/name"))
                .or_else(|| label("app"))
                .unwrap_or_else(|| name.clone()),
            canonical_revision: label("service.istio.io/canonical-revision")
                .or_else(|| label("app.kubernetes.io/version"))
                .or_else(|| label("version"))
                .unwrap_or_else(|| "latest".into()),
            cluster: non_empty(cluster),
            principal: Arc::default(),
            pod: pod.into(),
            name,
            labels,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_follow_istios_order() {
        let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let w = Workload::new(
            "reviews-v1",
            "shop",
            "reviews-v1-0",
            "Kubernetes",
            labels(&[("app", "reviews"), ("version", "v1")]),
        );
        assert_eq!((&*w.canonical_service, &*w.canonical_revision), ("reviews", "v1"));
        let w = Workload::new("d", "n", "", "", labels(&[("app.kubernetes.io/name", "cart"), ("app", "x")]));
        assert_eq!(
            (&*w.canonical_service, &*w.app, &*w.version, &*w.canonical_revision),
            ("cart", "x", "unknown", "latest")
        );
        let w = Workload::new("d", "", "", "", labels(&[]));
        assert_eq!((&*w.canonical_service, &*w.namespace, &*w.cluster), ("d", "unknown", "unknown"));
    }
}
