//! Which proxies Istio Gateways are for.
//!
//! On a cluster a selector picks pods. Where such pods, or what makes them, are in the input, their workload is the proxy,
//! and every Gateway whose selector picks it is served there. Where there are none, as in most folders of manifests, the
//! Gateways with one selector are a proxy with a name made of it: `istio: ingressgateway` is `istio-ingressgateway` in
//! `istio-system`, as Istio's own installation has it. A Gateway without selector is for all gateway pods of a cluster;
//! here it is a proxy of its own, called `gateway`, in the Gateway's namespace.

use std::collections::BTreeMap;
use std::sync::Arc;

use outrigger_model::Workload;

use crate::kind::istio_gateway::IstioGateway;
use crate::kind::pod::PodTemplate;
use crate::object::{Labels, Metadata};
use crate::resources::Resources;
use crate::translate::workloads::{Naming, has_labels, owner_name};

/// Where proxies are that no pods are known of: Istio's own installation puts them there.
const NAMESPACE: &str = "istio-system";

/// The Gateways of one proxy.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Members {
    /// Namespace and name of each, the oldest first.
    pub(crate) gateways: Vec<(Arc<str>, Arc<str>)>,
    /// Whether the proxy's pods, or what makes them, are in the input.
    pub(crate) deployed: bool,
}

/// A proxy.
pub(super) struct Proxy {
    /// Namespace and name of its workload.
    pub(super) key: Key,
    /// Its facts.
    pub(super) workload: Arc<Workload>,
    /// What it serves.
    pub(super) members: Members,
}

/// Namespace and name.
type Key = (Arc<str>, Arc<str>);

/// A proxy while its Gateways are gathered.
struct Draft {
    labels: Labels,
    /// The service account, where it is known.
    account: Option<Arc<str>>,
    members: Members,
}

impl Members {
    /// The objects, the oldest first.
    pub(super) fn objects<'r>(&self, resources: &'r Resources) -> Vec<&'r Arc<IstioGateway>> {
        self.gateways.iter().filter_map(|(namespace, name)| resources.istio_gateways.get(namespace, name)).collect()
    }
}

/// All proxies of an input, by namespace and name.
pub(super) fn proxies(resources: &Resources, naming: &Naming) -> Vec<Proxy> {
    let gateways = resources.istio_gateways.oldest_first();
    let mut drafts = deployed(&gateways, resources);
    for gateway in &gateways {
        let selector = &gateway.spec.selector;
        let name = (gateway.meta.namespace.clone(), gateway.meta.name.clone());
        let picks =
            |draft: &Draft| draft.members.deployed && !selector.is_empty() && has_labels(&draft.labels, selector);
        let mut picked = drafts.values_mut().filter(|draft| picks(draft)).peekable();
        if picked.peek().is_none() {
            assumed(&mut drafts, gateway).members.gateways.push(name);
            continue;
        }
        picked.for_each(|draft| draft.members.gateways.push(name.clone()));
    }
    drafts.into_iter().map(|(key, draft)| draft.proxy(key, naming)).collect()
}

/// The workloads that a selector picks: by their pods, else by their templates.
fn deployed(gateways: &[&Arc<IstioGateway>], resources: &Resources) -> BTreeMap<Key, Draft> {
    let mut drafts = BTreeMap::new();
    let mut selectors: Vec<&Labels> =
        gateways.iter().map(|gateway| &gateway.spec.selector).filter(|selector| !selector.is_empty()).collect();
    selectors.sort_unstable();
    selectors.dedup();
    let picked = |labels: &Labels| selectors.iter().any(|selector| has_labels(labels, selector));
    for pod in resources.pods.iter().filter(|pod| !pod.is_over() && picked(&pod.meta.labels)) {
        let key = (pod.meta.namespace.clone(), owner_name(resources, &pod.meta));
        drafts.entry(key).or_insert_with(|| Draft::deployed(&pod.meta.labels, pod.spec.account()));
    }
    let mut template = |meta: &Metadata, template: &PodTemplate| {
        let labels = &template.metadata.labels;
        if picked(labels) {
            let key = (meta.namespace.clone(), owner_name(resources, meta));
            drafts.entry(key).or_insert_with(|| Draft::deployed(labels, template.spec.account()));
        }
    };
    resources.deployments.iter().for_each(|o| template(&o.meta, &o.spec.template));
    resources.stateful_sets.iter().for_each(|o| template(&o.meta, &o.spec.template));
    resources.daemon_sets.iter().for_each(|o| template(&o.meta, &o.spec.template));
    resources.replica_sets.iter().for_each(|o| template(&o.meta, &o.spec.template));
    drafts
}

/// The proxy that is assumed for a selector that picks nothing.
fn assumed<'d>(drafts: &'d mut BTreeMap<Key, Draft>, gateway: &IstioGateway) -> &'d mut Draft {
    let selector = &gateway.spec.selector;
    let namespace = if selector.is_empty() { gateway.meta.namespace.clone() } else { NAMESPACE.into() };
    let name = assumed_name(selector);
    let fits = |draft: &Draft| {
        let agrees = |(key, value): (&Arc<str>, &Arc<str>)| selector.get(key).is_none_or(|own| own == value);
        !draft.members.deployed && draft.labels.iter().all(agrees)
    };
    let mut key = (namespace, Arc::from(&*name));
    let mut number = 1;
    while drafts.get(&key).is_some_and(|draft| !fits(draft)) {
        number += 1;
        key.1 = format!("{name}-{number}").into();
    }
    let draft = drafts.entry(key).or_insert_with(|| Draft {
        labels: Labels::new(),
        account: None,
        members: Members::default(),
    });
    draft.labels.extend(selector.iter().map(|(key, value)| (key.clone(), value.clone())));
    draft
}

/// A readable name for a selector: of label `istio` the value with `istio-` in front, of `app` the value, of others both
/// key and value.
fn assumed_name(selector: &Labels) -> String {
    let mut parts: Vec<String> = Vec::new();
    for (key, value) in selector {
        let part = match &**key {
            "istio" => format!("istio-{value}"),
            "app" => value.to_string(),
            key => format!("{key}-{value}"),
        };
        let part = part.to_ascii_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let part = part.trim_matches('-').to_owned();
        if !part.is_empty() && !parts.contains(&part) {
            parts.push(part);
        }
    }
    if parts.is_empty() { "gateway".to_owned() } else { parts.join("-") }
}

impl Draft {
    fn deployed(labels: &Labels, account: &str) -> Self {
        let members = Members { gateways: Vec::new(), deployed: true };
        Self { labels: labels.clone(), account: Some(account.into()), members }
    }

    fn proxy(self, key: Key, naming: &Naming) -> Proxy {
        let mut workload = Workload::new(&key.1, &key.0, "", &naming.cluster, self.labels);
        if let Some(account) = self.account {
            workload.principal = naming.principal(&key.0, &account);
        }
        Proxy { key, workload: Arc::new(workload), members: self.members }
    }
}

#[cfg(test)]
mod tests {
    use super::assumed_name;

    #[test]
    fn a_selector_makes_a_readable_name() {
        let name = |labels: &[(&str, &str)]| {
            assumed_name(&labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect())
        };
        assert_eq!(name(&[("istio", "ingressgateway")]), "istio-ingressgateway");
        assert_eq!(name(&[("app", "istio-ingressgateway"), ("istio", "ingressgateway")]), "istio-ingressgateway");
        assert_eq!(name(&[("app", "edge"), ("example.com/tier", "Web_1")]), "edge-example-com-tier-web-1");
        assert_eq!(name(&[("istio", "")]), "istio");
        assert_eq!(name(&[]), "gateway");
    }
}
