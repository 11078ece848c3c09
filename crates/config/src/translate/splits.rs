//! Routes of an SMI TrafficSplit for one port of its root service.

use std::collections::HashMap;
use std::sync::Arc;

use outrigger_model::{
    Action, ClusterName, Destination, Forward, HeaderEdits, Origin, PathMatch, Rewrite, Route, RouteMatch,
};

use super::registry::ServiceInfo;
use super::resolve::{Resolved, Resolver};
use super::retries::{Defaults, Own, Tries};
use crate::codes;
use crate::decode::{clip, nearest};
use crate::hosts;
use crate::kind::http_route_group::RouteCondition;
use crate::kind::traffic_split::TrafficSplit;
use crate::precedence;
use crate::resources::Resources;

/// The TrafficSplits that count, by the full host of their root.
pub(crate) type Splits = HashMap<Arc<str>, Arc<TrafficSplit>>;

/// Finds the split of each root service: the oldest; roots that do not exist are reported.
pub(crate) fn select(resources: &Resources, resolver: &Resolver<'_>) -> Splits {
    let mut splits = Splits::new();
    for split in resources.traffic_splits.oldest_first() {
        let root = &split.spec.service;
        let host = hosts::expand(root, &split.meta.namespace, resolver.domain);
        let Some(index) = resolver.service(&host, &split.meta.namespace) else {
            let message = format!("root service {:?} ({host}) is no known service", clip(root));
            let hint = super::policy::nearest_host(&host, resolver.registry, resolver.domain);
            resolver.report(codes::REFERENCE_NOT_FOUND.about(&split.meta, root.pos, message, hint));
            continue;
        };
        // The service itself, where the root is an ExternalName that stands for it.
        let host = resolver.registry.at(index).host.clone();
        match splits.get(&host) {
            None => {
                splits.insert(host, split.clone());
            }
            Some(first) => {
                let winner = (&first.meta, first.spec.service.pos);
                resolver.report(precedence::taken(&host, (&split.meta, root.pos), winner));
            }
        }
    }
    splits
}

/// The routes of a split for a port, without those of the root itself; empty when it has no backend for the port.
pub(crate) fn routes(
    split: &Arc<TrafficSplit>,
    root: &ServiceInfo,
    port: u16,
    resources: &Resources,
    resolver: &Resolver<'_>,
    defaults: Defaults<'_>,
) -> Vec<Arc<Route>> {
    let destinations = destinations(split, root, port, resolver);
    if destinations.is_empty() {
        return Vec::new();
    }
    let route = |name: &str, matches: RouteMatch| {
        let forward = Forward { destinations: destinations.clone(), rewrite: Rewrite::default() };
        let origin = Origin {
            kind: split.meta.kind.into(),
            namespace: split.meta.namespace.clone(),
            name: split.meta.name.clone(),
            rule: name.into(),
            place: Some(split.meta.source.place(split.meta.pos)),
        };
        let action = Action::Forward(forward);
        let tries = defaults.of(Own::default(), &action, resolver);
        Arc::new(plain(name, Some(Arc::new(origin)), matches, action, tries))
    };
    if split.spec.matches.is_empty() {
        return vec![route("default", RouteMatch::default())];
    }
    let groups = split.spec.matches.iter().filter_map(|reference| {
        let namespace = &split.meta.namespace;
        let found = resources.http_route_groups.get(namespace, &reference.name);
        if found.is_none() {
            let all = resources.http_route_groups.in_namespace(namespace);
            let names: Vec<&str> = all.iter().map(|g| &*g.meta.name).collect();
            let hint =
                nearest(&reference.name, &names).map_or_else(String::new, |near| format!("did you mean `{near}`?"));
            let message = format!("HTTPRouteGroup {namespace}/{} does not exist", clip(&reference.name));
            resolver.report(codes::REFERENCE_NOT_FOUND.about(&split.meta, reference.pos, message, hint));
        }
        found
    });
    let conditions: Vec<_> = groups.flat_map(|group| group.conditions()).collect();
    conditions.iter().map(|condition| route(&condition.name, condition_match(condition))).collect()
}

/// A route that says nothing of its own but where requests go.
pub(crate) fn plain(
    name: &str,
    origin: Option<Arc<Origin>>,
    matches: RouteMatch,
    action: Action,
    tries: Tries,
) -> Route {
    Route {
        name: name.into(),
        origin,
        matches,
        action,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        cors: None,
        timeout: tries.timeout,
        retry: Some(tries.retry),
        fault: None,
        rate_limits: Vec::new(),
        body_limits: Default::default(),
        mirrors: Vec::new(),
    }
}

fn condition_match(condition: &RouteCondition) -> RouteMatch {
    RouteMatch {
        path: condition.path.clone().map_or(PathMatch::Any, PathMatch::Regex),
        method: condition.method.clone(),
        headers: condition.headers.clone(),
        ..RouteMatch::default()
    }
}

fn destinations(split: &TrafficSplit, root: &ServiceInfo, port: u16, resolver: &Resolver<'_>) -> Vec<Destination> {
    let mut found: Vec<(Resolved, u64)> = Vec::new();
    for backend in split.spec.backends.iter().filter(|b| b.weight_milli > 0) {
        let host = hosts::expand(&backend.service, &split.meta.namespace, resolver.domain);
        let pos = backend.service.pos;
        let Some(index) = resolver.service(&host, &split.meta.namespace) else {
            let cluster = ClusterName::outbound(port, "", &host);
            let message = format!("backend {:?} ({host}) is no known service", clip(&backend.service));
            let hint = super::policy::nearest_host(&host, resolver.registry, resolver.domain);
            found.push((resolver.missing(cluster, &split.meta, pos, message, hint), backend.weight_milli));
            continue;
        };
        let info = resolver.registry.at(index);
        if info.port(port).is_none() {
            let message = format!(
                "backend {} has no port {port}, which root {} has; it is left out there (its ports are {})",
                info.host,
                root.host,
                info.ports_text()
            );
            let hint = "give the backend every port of the root service";
            resolver.report(codes::SPLIT_PORT.about(&split.meta, pos, message, hint));
            continue;
        }
        resolver.used.borrow_mut().insert(index);
        let cluster = ClusterName::outbound(port, "", &info.host);
        found.push((Resolved { cluster, missing: None }, backend.weight_milli));
    }
    let weights = reduce(found.iter().map(|(_, weight)| *weight).collect());
    let destination = |((resolved, _), weight): ((Resolved, u64), u32)| Destination {
        cluster: resolved.cluster,
        missing: resolved.missing,
        weight,
        authority: None,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
    };
    found.into_iter().zip(weights).map(destination).collect()
}

/// The same ratio in the smallest whole numbers; halved until the sum fits, which only sums beyond 2^32 need.
fn reduce(weights: Vec<u64>) -> Vec<u32> {
    let divisor = weights.iter().fold(0, |a, b| gcd(a, *b)).max(1);
    let mut small: Vec<u64> = weights.iter().map(|w| w / divisor).collect();
    while small.iter().sum::<u64>() > u64::from(u32::MAX) {
        small.iter_mut().for_each(|w| *w = (*w / 2).max(1));
    }
    small.into_iter().map(|w| u32::try_from(w).unwrap_or(u32::MAX)).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::reduce;

    #[test]
    fn weights_keep_their_ratio() {
        assert_eq!(reduce(vec![900, 100]), [9, 1]);
        assert_eq!(reduce(vec![1500, 500]), [3, 1]);
        assert_eq!(reduce(vec![7000]), [1]);
        let big = reduce(vec![1 << 50, 3]);
        assert!(big.iter().map(|w| u64::from(*w)).sum::<u64>() <= u64::from(u32::MAX) && big[1] == 1);
    }
}
