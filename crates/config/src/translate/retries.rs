//! Which retries and which time limit a route gets: what it says itself, its annotations, those of its Service, the mesh.
//!
//! | of | first | then | then | else |
//! |---|---|---|---|---|
//! | retries | `retries` or `retry` of the route | Linkerd's set on the route's object | that on its Service | the mesh's policy |
//! | the time of one try | `timeouts.backendRequest` | of the retries that count | | none |
//! | the time of the route | `timeout` or `timeouts.request`, zero is off | Linkerd's set on the route's object | that on its Service | none |
//! | retries of what is not idempotent | our annotation on the route's object | that on its Service | | no |
//!
//! The Service of a route is the one whose host and port its clients ask for; at a gateway, the only one that it sends to.

use std::time::Duration;

use outrigger_model::{Action, RetryPolicy};

use super::resolve::Resolver;
use crate::kind::linkerd::{self, Of};
use crate::kind::resilience::repeats;
use crate::object::Metadata;

/// What all routes of one table have in common.
#[derive(Clone, Copy)]
pub(crate) struct Defaults<'d> {
    /// The mesh's policy.
    pub(crate) mesh: &'d RetryPolicy,
    /// The Service that clients ask for.
    pub(crate) service: Option<&'d Metadata>,
}

/// What a route says itself.
#[derive(Clone, Copy, Default)]
pub(crate) struct Own<'o> {
    /// Its object, and what Linkerd takes it for; `None` for a default route.
    pub(crate) object: Option<(&'o Metadata, Option<Of>)>,
    /// Its policy.
    pub(crate) retry: Option<&'o RetryPolicy>,
    /// The time of one try, where it is no part of the policy; zero is off.
    pub(crate) per_try_timeout: Option<Duration>,
    /// The time of the route; zero is off.
    pub(crate) timeout: Option<Duration>,
}

/// What a route gets.
pub(crate) struct Tries {
    /// Its retries.
    pub(crate) retry: RetryPolicy,
    /// Its time; `None`: none.
    pub(crate) timeout: Option<Duration>,
}

impl<'d> Defaults<'d> {
    /// Those of routes for nobody in particular.
    pub(crate) fn of_mesh(mesh: &'d RetryPolicy) -> Self {
        Self { mesh, service: None }
    }

    /// What a route with this action gets.
    pub(crate) fn of(self, own: Own<'_>, action: &Action, resolver: &Resolver<'_>) -> Tries {
        let service = self.service.or_else(|| only_service(action, resolver));
        let of_route = own.object.and_then(|(meta, of)| Some(linkerd::read(meta, of?))).unwrap_or_default();
        let of_service = service.map(|meta| linkerd::read(meta, Of::Service)).unwrap_or_default();
        let mut retry = match (own.retry, of_route.retry.or(of_service.retry)) {
            (Some(own), _) => own.clone(),
            (None, Some(set)) => set.model(self.mesh),
            (None, None) => self.mesh.clone(),
        };
        if let Some(limit) = own.per_try_timeout {
            retry.per_try_timeout = Some(limit).filter(|limit| !limit.is_zero());
        }
        let by_object = own.object.and_then(|(meta, _)| repeats(meta));
        retry.non_idempotent = by_object.or_else(|| repeats(service?)).unwrap_or(false);
        let annotated = || of_route.timeouts.or(of_service.timeouts).and_then(|timeouts| timeouts.route());
        let timeout = own.timeout.map_or_else(annotated, |limit| Some(limit).filter(|limit| !limit.is_zero()));
        Tries { retry, timeout }
    }
}

/// The Service that all requests of a route go to.
fn only_service<'r>(action: &Action, resolver: &Resolver<'r>) -> Option<&'r Metadata> {
    let Action::Forward(forward) = action else { return None };
    let [only] = &*forward.destinations else { return None };
    let (_, _, host) = only.cluster.outbound_parts()?;
    let named = resolver.registry.named(host).iter().map(|index| resolver.registry.at(*index));
    named.filter(|info| info.is_kubernetes()).map(|info| info.meta()).next()
}
