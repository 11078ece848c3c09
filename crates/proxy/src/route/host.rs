//! A compiled virtual host: from a request to the first of its routes that matches.
//!
//! Routes keep the order of the configuration and the first match wins. A host with few routes is read from top to
//! bottom. With many, exact and prefix paths are found in an index, and only the routes whose path fits, and those that
//! cannot be indexed, are judged by their other conditions.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use outrigger_model::{Action, ClusterName, PathMatch, Route, VirtualHost};

use super::index::PathIndex;
use super::matching;
use super::split::Split;
use crate::before::Before;
use crate::rate_limit::RateLimits;
use crate::request::RequestView;

/// A compiled virtual host.
#[derive(Debug)]
pub(crate) struct Host {
    /// What it was compiled from.
    pub(crate) vhost: Arc<VirtualHost>,
    routes: Vec<CompiledRoute>,
    index: Option<Index>,
}

/// A route, ready to be taken.
#[derive(Debug)]
pub(crate) struct CompiledRoute {
    /// What it was compiled from.
    pub(crate) route: Arc<Route>,
    /// Never used twice in a process: the key of what workers remember about a route.
    pub(crate) id: u64,
    split: Split,
    /// What happens before a request is sent on; never set where that is nothing.
    before: OnceLock<Arc<Before>>,
}

impl Host {
    /// More routes than this are worth an index: below, reading them in order costs less than hashing the path.
    const SCANNED_ROUTES_MAX: usize = 8;

    pub(super) fn compile(vhost: &Arc<VirtualHost>, previous: Option<&Self>) -> Self {
        let mut kept = previous.map(Kept::new).unwrap_or_default();
        let compile = |route: &Arc<Route>| {
            let split = kept.take(route).unwrap_or_else(|| Split::new(&weights(route)));
            CompiledRoute { route: Arc::clone(route), id: next_id(), split, before: OnceLock::new() }
        };
        let routes = vhost.routes.iter().map(compile).collect();
        let index = (vhost.routes.len() > Self::SCANNED_ROUTES_MAX).then(|| Index::build(&vhost.routes));
        Self { vhost: Arc::clone(vhost), routes, index }
    }

    /// Whether any of its routes may ask for something before a request is sent on.
    pub(super) fn asks_before(&self) -> bool {
        self.routes.iter().any(|route| Before::is_asked_by(&route.route))
    }

    /// Makes ready what its routes ask for; what is ready stays.
    pub(super) fn prepare(&self, limits: &RateLimits) {
        for route in self.routes.iter().filter(|route| route.before.get().is_none()) {
            if let Some(before) = Before::of_route(&route.route, limits) {
                // Only the control thread prepares.
                let _ = route.before.set(before);
            }
        }
    }

    /// The first route, in the order of the configuration, whose conditions the request meets.
    pub(crate) fn find(&self, request: &RequestView<'_>) -> Option<&CompiledRoute> {
        let Some(index) = &self.index else {
            return self.routes.iter().find(|route| {
                matching::path_matches(&route.route.matches, request.path)
                    && matching::others_match(&route.route.matches, request)
            });
        };
        let mut best = self.routes.len();
        // Lists are in ascending order: within one, the first hit is its best, and whatever lies behind the best so far
        // cannot win any more.
        index.visit(request.path, |list, path_matched| {
            for at in list.iter().map(|at| *at as usize).take_while(|at| *at < best) {
                let matches = &self.routes[at].route.matches;
                if (path_matched || matching::path_matches(matches, request.path))
                    && matching::others_match(matches, request)
                {
                    best = at;
                    return;
                }
            }
        });
        self.routes.get(best)
    }

    /// The route at a position.
    #[cfg(test)]
    pub(super) fn route(&self, position: usize) -> &CompiledRoute {
        &self.routes[position]
    }
}

impl CompiledRoute {
    /// The position of the next destination in `Forward::destinations`, so that every destination has its share at
    /// every moment, over all workers. 0 where the route does not forward.
    pub(crate) fn choose(&self) -> usize {
        self.split.next()
    }

    /// What happens to a request before it is sent on.
    pub(crate) fn before(&self) -> Option<&Arc<Before>> {
        self.before.get()
    }
}

/// Where the routes of a virtual host are found by path.
#[derive(Debug)]
struct Index {
    as_sent: PathIndex,
    folded: PathIndex,
    /// Routes with a regular expression or no condition on the path, in order.
    residual: Vec<u32>,
}

impl Index {
    fn build(routes: &[Arc<Route>]) -> Self {
        let mut index = Self { as_sent: PathIndex::new(false), folded: PathIndex::new(true), residual: Vec::new() };
        for (at, route) in routes.iter().enumerate() {
            let at = at as u32;
            let paths = if route.matches.path_ignore_case { &mut index.folded } else { &mut index.as_sent };
            match &route.matches.path {
                PathMatch::Exact(path) => paths.insert_exact(path.as_bytes(), at),
                PathMatch::Prefix(path) => paths.insert_prefix(path.as_bytes(), at),
                PathMatch::Segments(path) => paths.insert_segments(path.as_bytes(), at),
                PathMatch::Regex(_) | PathMatch::Any => index.residual.push(at),
            }
        }
        index.as_sent.seal();
        index.folded.seal();
        index
    }

    /// Calls `judge` with every list of routes that may match `path`, and whether their path condition is met already.
    /// The residual comes last, when the best of the others is known and cuts it short.
    fn visit(&self, path: &[u8], mut judge: impl FnMut(&[u32], bool)) {
        self.as_sent.visit(path, |list| judge(list, true));
        self.folded.visit(path, |list| judge(list, true));
        judge(&self.residual, false);
    }
}

/// The sequences of a host's previous version.
#[derive(Default)]
struct Kept(HashMap<SplitKey, VecDeque<Split>>);

/// What must be the same for a route to go on with a sequence.
#[derive(PartialEq, Eq, Hash)]
struct SplitKey {
    route: Arc<str>,
    shares: Vec<(ClusterName, u32)>,
}

impl Kept {
    fn new(host: &Host) -> Self {
        let mut kept = Self::default();
        for route in &host.routes {
            if let Some(key) = SplitKey::new(&route.route) {
                kept.0.entry(key).or_default().push_back(route.split.clone());
            }
        }
        kept
    }

    /// Routes of one name and one split, such as unnamed ones, are taken in order.
    fn take(&mut self, route: &Route) -> Option<Split> {
        self.0.get_mut(&SplitKey::new(route)?)?.pop_front()
    }
}

impl SplitKey {
    fn new(route: &Route) -> Option<Self> {
        match &route.action {
            Action::Forward(forward) if forward.destinations.len() > 1 => {
                let shares = forward.destinations.iter().map(|d| (d.cluster.clone(), d.weight)).collect();
                Some(Self { route: route.name.clone(), shares })
            }
            _ => None,
        }
    }
}

fn weights(route: &Route) -> Vec<u32> {
    match &route.action {
        Action::Forward(forward) => forward.destinations.iter().map(|d| d.weight).collect(),
        Action::Redirect(_) | Action::Respond(_) => Vec::new(),
    }
}

/// The one thing that routes of all proxies in a process share: a number means nothing, only that it is not used twice.
fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests;
