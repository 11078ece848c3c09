//! Which VirtualServices count for a client, with delegates merged in.

use std::net::IpAddr;
use std::sync::Arc;

use outrigger_model::{Diagnostic, StringMatch};

use super::bindings;
use super::client::Client;
use super::scope::Scope;
use crate::codes;
use crate::decode::{clip, nearest};
use crate::hosts;
use crate::kind::http_match::HttpMatch;
use crate::kind::istio::ExportTo;
use crate::kind::mesh_config::MeshConfig;
use crate::kind::virtual_service::{Delegate, HttpRoute, VirtualService};
use crate::node::{Pos, Spanned};
use crate::precedence;
use crate::resources::Resources;

/// A VirtualService that counts.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// The object.
    pub(crate) object: Arc<VirtualService>,
    /// Its hosts in full, with their places.
    pub(crate) hosts: Vec<(Arc<str>, Pos)>,
    /// Its HTTP rules in order.
    pub(crate) rules: Vec<Rule>,
}

/// One HTTP rule.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// The object it stands in: the delegate for a delegated one.
    pub(crate) object: Arc<VirtualService>,
    /// Its index there.
    pub(crate) index: usize,
    /// Where it stands there.
    pub(crate) pos: Pos,
    /// The rule.
    pub(crate) route: Arc<HttpRoute>,
}

/// The VirtualServices that count for a client, in the order in which they are asked for a host.
pub(crate) fn select(
    resources: &Resources,
    mesh: &MeshConfig,
    domain: &str,
    client: &Client,
    scope: &Scope,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Candidate> {
    let mut ranked = Vec::new();
    for object in resources.virtual_services.oldest_first() {
        let (spec, meta) = (&object.spec, &object.meta);
        if spec.hosts.is_empty() {
            continue;
        }
        bindings::review(object, resources, domain, diagnostics);
        if !bindings::is_for_mesh(object) {
            continue;
        }
        let Some(rank) = precedence::virtual_service_rank(exports(object, mesh), &meta.namespace, &client.namespace)
        else {
            continue;
        };
        let hosts = full_hosts(object, domain);
        if let Some((host, pos)) = hosts.iter().find(|(host, _)| !may_be_of_mesh(host)) {
            diagnostics.push(codes::SCHEMA.about(
                meta,
                *pos,
                format!(
                    "host {:?} is for gateways only, and these rules are bound to `mesh`; they are left out",
                    clip(host)
                ),
                "name the hosts, or list only gateways in `gateways`",
            ));
            continue;
        }
        let imported = hosts.iter().any(|(host, _)| scope.rule(&meta.namespace, host));
        let is_empty = spec.http.is_empty() && spec.tls.is_empty() && spec.tcp.is_empty();
        if !imported || is_empty {
            continue;
        }
        let rules = rules_of(object, resources, mesh, diagnostics);
        ranked.push((rank, Candidate { object: object.clone(), hosts, rules }));
    }
    // Stable: within a rank the oldest stays first.
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, candidate)| candidate).collect()
}

/// The hosts of a VirtualService in full, with their places.
pub(super) fn full_hosts(object: &VirtualService, domain: &str) -> Vec<(Arc<str>, Pos)> {
    let namespace = &object.meta.namespace;
    object.spec.hosts.iter().map(|host| (hosts::expand(&host.value.0, namespace, domain), host.pos)).collect()
}

/// Istio refuses an address, and the host that is every host: it would take each service of the mesh.
fn may_be_of_mesh(host: &str) -> bool {
    host != "*" && host.parse::<IpAddr>().is_err()
}

/// Who sees it.
pub(super) fn exports<'o>(object: &'o VirtualService, mesh: &'o MeshConfig) -> &'o [ExportTo] {
    match &*object.spec.export_to {
        [] => &mesh.virtual_service_export_to,
        given => given,
    }
}

/// The HTTP rules of a VirtualService, those of its delegates in their place.
pub(super) fn rules_of(
    object: &Arc<VirtualService>,
    resources: &Resources,
    mesh: &MeshConfig,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Rule> {
    let mut rules = Vec::with_capacity(object.spec.http.len());
    for (index, route) in object.spec.http.iter().enumerate() {
        let Some(delegate) = &route.delegate else {
            rules.push(Rule { object: object.clone(), index, pos: route.pos, route: route.value.clone() });
            continue;
        };
        let Some(target) = find_delegate(object, delegate, resources, mesh, diagnostics) else { continue };
        let root = with_full_gateways(&route.value, &object.meta.namespace);
        for (index, leaf) in target.spec.http.iter().enumerate() {
            match merge(&root, &with_full_gateways(&leaf.value, &target.meta.namespace)) {
                Some(merged) => {
                    rules.push(Rule { object: target.clone(), index, pos: leaf.pos, route: Arc::new(merged) });
                }
                None => diagnostics.push(codes::UNREACHABLE_RULE.about(
                    &target.meta,
                    leaf.pos,
                    format!(
                        "http[{index}] is left out: its match is not within that of the rule that delegates to it, {}",
                        object.meta.source.place(route.pos)
                    ),
                    "a delegate's match must be a subset of the root's",
                )),
            }
        }
    }
    rules
}

fn find_delegate<'r>(
    root: &VirtualService,
    delegate: &Spanned<Delegate>,
    resources: &'r Resources,
    mesh: &MeshConfig,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<&'r Arc<VirtualService>> {
    let namespace = delegate.namespace.as_ref().filter(|n| !n.is_empty()).unwrap_or(&root.meta.namespace);
    let mut fail = |message: String, hint: String| {
        diagnostics.push(codes::REFERENCE_NOT_FOUND.about(&root.meta, delegate.pos, message, hint));
    };
    let Some(found) = resources.virtual_services.get(namespace, &delegate.name) else {
        let all = resources.virtual_services.in_namespace(namespace);
        let names: Vec<&str> = all.iter().map(|v| &*v.meta.name).collect();
        let hint = nearest(&delegate.name, &names).map_or_else(String::new, |near| format!("did you mean `{near}`?"));
        fail(format!("delegate {namespace}/{} does not exist; its requests are not routed", delegate.name), hint);
        return None;
    };
    if !found.spec.hosts.is_empty() {
        let message = format!("{namespace}/{} is no delegate: it has hosts of its own", delegate.name);
        fail(message, "remove its `hosts`".to_owned());
        return None;
    }
    if !hosts::is_visible(exports(found, mesh), namespace, &root.meta.namespace) {
        let message = format!("delegate {namespace}/{} is not exported to {}", delegate.name, root.meta.namespace);
        fail(message, "add this namespace to its `exportTo`".to_owned());
        return None;
    }
    Some(found)
}

/// The rule with the names of its gateways in full: root and delegate may be of different namespaces.
fn with_full_gateways(route: &Arc<HttpRoute>, namespace: &str) -> Arc<HttpRoute> {
    if route.matches.iter().all(|block| block.gateways.is_empty()) {
        return route.clone();
    }
    let mut full = HttpRoute::clone(route);
    for block in &mut full.matches {
        let names = block.value.gateways.iter().map(|name| bindings::full_name(name, namespace).into());
        block.value.gateways = names.collect();
    }
    Arc::new(full)
}

/// A delegate's rule with what the root adds; `None` when no match of it is within the root's.
fn merge(root: &HttpRoute, leaf: &HttpRoute) -> Option<HttpRoute> {
    let matches = merge_matches(&root.matches, &leaf.matches)?;
    let name = match (&root.name, &leaf.name) {
        (Some(root), Some(leaf)) => Some(format!("{root}-{leaf}").into()),
        (root, leaf) => leaf.clone().or_else(|| root.clone()),
    };
    let mut merged = HttpRoute { name, matches, ..leaf.clone() };
    let own_mirror = leaf.mirror.is_some() || !leaf.mirrors.is_empty();
    if !own_mirror {
        merged.mirror.clone_from(&root.mirror);
        merged.mirrors.clone_from(&root.mirrors);
    }
    merged.rewrite = leaf.rewrite.clone().or_else(|| root.rewrite.clone());
    merged.timeout = leaf.timeout.or(root.timeout);
    merged.retries = leaf.retries.clone().or_else(|| root.retries.clone());
    merged.fault = leaf.fault.clone().or_else(|| root.fault.clone());
    merged.mirror_percentage = leaf.mirror_percentage.clone().or_else(|| root.mirror_percentage.clone());
    merged.mirror_percent = leaf.mirror_percent.or(root.mirror_percent);
    merged.mirror_percent_snake = leaf.mirror_percent_snake.or(root.mirror_percent_snake);
    merged.cors = leaf.cors.clone().or_else(|| root.cors.clone());
    merged.headers = leaf.headers.clone().or_else(|| root.headers.clone());
    Some(merged)
}

fn merge_matches(root: &[Spanned<HttpMatch>], leaf: &[Spanned<HttpMatch>]) -> Option<Vec<Spanned<HttpMatch>>> {
    if root.is_empty() {
        return Some(leaf.to_vec());
    }
    if leaf.is_empty() {
        return Some(root.to_vec());
    }
    let mut merged = Vec::new();
    for inner in leaf {
        let before = merged.len();
        let within = root.iter().filter(|outer| !conflict(outer, inner));
        merged.extend(within.map(|outer| Spanned { value: both(outer, inner), pos: inner.pos }));
        // Each match of a delegate needs a match of the root that takes it in.
        if merged.len() == before {
            return None;
        }
    }
    Some(merged)
}

fn conflict(root: &HttpMatch, leaf: &HttpMatch) -> bool {
    let differ = |a: &Option<Arc<str>>, b: &Option<Arc<str>>| matches!((a, b), (Some(a), Some(b)) if a != b);
    text_conflict(root.uri.as_ref(), leaf.uri.as_ref())
        || text_conflict(root.scheme.as_ref(), leaf.scheme.as_ref())
        || text_conflict(root.method.as_ref(), leaf.method.as_ref())
        || text_conflict(root.authority.as_ref(), leaf.authority.as_ref())
        || (root.uri.is_some() && leaf.uri.is_some() && root.ignore_uri_case != leaf.ignore_uri_case)
        || matches!((root.port, leaf.port), (Some(a), Some(b)) if a != b)
        || differ(&root.source_namespace, &leaf.source_namespace)
        || (!root.gateways.is_empty() && leaf.gateways.iter().any(|name| !root.gateways.contains(name)))
        || leaf.source_labels.iter().any(|(key, value)| root.source_labels.get(key).is_some_and(|v| v != value))
        || leaf.headers.iter().any(|inner| {
            let outer = root.headers.iter().find(|h| h.name == inner.name && h.invert == inner.invert);
            outer.is_some_and(|outer| value_conflict(&outer.value, &inner.value))
        })
        || leaf.query.iter().any(|inner| {
            let outer = root.query.iter().find(|q| q.name == inner.name);
            outer.is_some_and(|outer| value_conflict(&outer.value, &inner.value))
        })
}

fn value_conflict(root: &outrigger_model::ValueMatch, leaf: &outrigger_model::ValueMatch) -> bool {
    use outrigger_model::ValueMatch::{Present, String};
    match (root, leaf) {
        (Present, _) => false,
        (String(_), Present) => true,
        (String(root), String(leaf)) => text_conflict(Some(root), Some(leaf)),
    }
}

/// Whether the inner text match is not known to be within the outer one.
fn text_conflict(root: Option<&StringMatch>, leaf: Option<&StringMatch>) -> bool {
    use StringMatch::{Exact, Prefix, Regex};
    let (Some(root), Some(leaf)) = (root, leaf) else { return false };
    match (root, leaf) {
        // What two patterns have in common cannot be told.
        (Regex(_), _) | (_, Regex(_)) | (Exact(_), Prefix(_)) => true,
        (Exact(root), Exact(leaf)) => root != leaf,
        (Prefix(root), Prefix(leaf) | Exact(leaf)) => !leaf.starts_with(&**root),
    }
}

/// All conditions of both, the inner ones where both have one.
fn both(root: &HttpMatch, leaf: &HttpMatch) -> HttpMatch {
    let mut merged = leaf.clone();
    merged.name = match (&root.name, &leaf.name) {
        (Some(root), Some(leaf)) => Some(format!("{root}-{leaf}").into()),
        (root, leaf) => leaf.clone().or_else(|| root.clone()),
    };
    if leaf.uri.is_none() {
        merged.uri.clone_from(&root.uri);
        merged.ignore_uri_case = root.ignore_uri_case;
    }
    merged.scheme = merged.scheme.or_else(|| root.scheme.clone());
    merged.method = merged.method.or_else(|| root.method.clone());
    merged.authority = merged.authority.or_else(|| root.authority.clone());
    let missing =
        |h: &&outrigger_model::HeaderMatch| !leaf.headers.iter().any(|l| l.name == h.name && l.invert == h.invert);
    merged.headers.extend(root.headers.iter().filter(missing).cloned());
    merged.query.extend(root.query.iter().filter(|q| !leaf.query.iter().any(|l| l.name == q.name)).cloned());
    merged.port = merged.port.or(root.port);
    for (key, value) in &root.source_labels {
        merged.source_labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    merged.source_namespace = merged.source_namespace.or_else(|| root.source_namespace.clone());
    if merged.gateways.is_empty() {
        merged.gateways.clone_from(&root.gateways);
    }
    merged
}
