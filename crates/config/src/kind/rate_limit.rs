//! `RateLimit` (`outrigger.dev/v1alpha1`): how many requests pass, and how long bodies may be, for a route or a Service.
//!
//! What the references lead to, and which routes obey, is decided in `translate::rate_limits`;
//! `deploy/crds/ratelimits.yaml` is the schema for the API server.

use std::sync::Arc;
use std::time::Duration;

use outrigger_model::BodyLimits;

use super::istio::duration_1ms;
use super::policy_target::{GRPC_ROUTE, HTTP_ROUTE, SERVICE, TargetRef, VIRTUAL_SERVICE, targets};
use crate::choices;
use crate::codes;
use crate::decode::{Cx, Decode, Fields, clip};
use crate::node::{Node, Pos, Spanned};
use crate::object;
use crate::quantity::Quantity;
use crate::scalar;

object! {
    /// A RateLimit.
    pub resource struct RateLimit {
        /// `spec`.
        pub spec: RateLimitSpec = required "spec",
    }
    ignore ["status"]
}

object! {
    /// `spec`.
    pub struct RateLimitSpec {
        /// `targetRefs`.
        pub targets: Vec<Spanned<TargetRef>> =
            required_with(targets(&[&HTTP_ROUTE, &GRPC_ROUTE, &VIRTUAL_SERVICE, &SERVICE], false)) "targetRefs",
        /// `enforcedBy`.
        pub enforced_by: Option<Spanned<EnforcedBy>> = optional "enforcedBy",
        /// `limits`, each of which must let a request pass.
        pub limits: Vec<Spanned<Limit>> = or_default_with(limits) "limits",
        /// `bodies`.
        pub bodies: Option<Bodies> = optional "bodies",
    }
    check check_spec
}

choices! {
    /// `enforcedBy`: whose proxy counts.
    #[derive(Default)]
    pub enum EnforcedBy {
        /// That of each client (for routes of a gateway: the gateway). Each proxy counts its own requests.
        #[default]
        Client = "Client",
        /// That of each pod of the Service. Each pod counts the requests it gets, from all clients.
        Server = "Server",
    }
}

fn check_spec(spec: &RateLimitSpec, pos: Pos, cx: &mut Cx) {
    if spec.limits.is_empty() && spec.bodies.as_ref().is_none_or(|bodies| bodies.model() == BodyLimits::default()) {
        let message = "neither `limits` nor `bodies` says anything";
        cx.report(codes::SCHEMA, pos, message, "state a limit, or remove the object");
    }
    let Some(by) = spec.enforced_by.as_ref().filter(|by| by.value == EnforcedBy::Server) else { return };
    if let Some(target) = spec.targets.iter().find(|target| target.kind != &SERVICE) {
        let message = format!(
            "enforcedBy: found `Server` with a target of kind {}, expected Services only: the proxies of servers know no routes",
            target.kind.kind
        );
        cx.report(codes::SCHEMA, by.pos, message, "write `Client`, or name the Service");
    }
}

/// Limits of one object at most: each is looked at for every request.
const LIMITS_MAX: usize = 8;

fn limits(node: &Node<'_>, cx: &mut Cx) -> Option<Vec<Spanned<Limit>>> {
    if let Some(items) = node.items()
        && items.len() > LIMITS_MAX
    {
        let message = format!("found a list of {} items, expected at most {LIMITS_MAX}", items.len());
        cx.report(codes::SCHEMA, node.pos, message, "");
    }
    Vec::decode(node, cx)
}

/// One of `limits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// `requests` in an interval.
    pub requests: u32,
    /// `interval`.
    pub interval: Duration,
    /// `burst`: requests that may come at once; `requests` when absent.
    pub burst: u32,
    /// `perSource`: whether each source workload has a limit of its own.
    pub per_source: bool,
}

/// A day: a limit over more than that is a quota, which no proxy can keep in its memory.
const INTERVAL_MAX: Duration = Duration::from_secs(86_400);
const COUNT_MAX: i64 = 1_000_000_000;
/// What `key` may hold; it says the same as `perSource`.
const SOURCE: &str = "source.principal";

impl Decode for Limit {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let mut fields = Fields::of(node, cx)?;
        let requests = fields.required_with("requests", cx, scalar::within(1..=COUNT_MAX));
        let interval = match fields.one_of(&["interval", "per"], cx) {
            Some((key, node)) => cx.within(key, |cx| interval(node, cx)),
            None => {
                cx.report(
                    codes::SCHEMA,
                    fields.pos(),
                    "required field `interval` is missing",
                    "such as `interval: 1s`",
                );
                None
            }
        };
        let burst = fields.with("burst", cx, scalar::within(1..=COUNT_MAX));
        let per_source = match fields.one_of(&["perSource", "key"], cx) {
            Some(("key", node)) => cx.within("key", |cx| key(node, cx)),
            Some((name, node)) => cx.within(name, |cx| bool::decode(node, cx)),
            None => None,
        };
        fields.finish(cx);
        let requests = requests?;
        Some(Self {
            requests,
            interval: interval?,
            burst: burst.unwrap_or(requests),
            per_source: per_source.unwrap_or(false),
        })
    }
}

fn interval(node: &Node<'_>, cx: &mut Cx) -> Option<Duration> {
    let interval = duration_1ms(node, cx)?;
    if interval > INTERVAL_MAX {
        cx.mismatch(node, "a duration of at most `24h`");
        return None;
    }
    Some(interval)
}

/// `key`: empty, or the source.
fn key(node: &Node<'_>, cx: &mut Cx) -> Option<bool> {
    let keys: Vec<Spanned<Arc<str>>> = Vec::decode(node, cx)?;
    for key in keys.iter().filter(|key| &*key.value != SOURCE) {
        let message = format!("found {:?}, expected `{SOURCE}`", clip(key));
        let hint = "limits by address or header are not supported: a client chooses its headers itself";
        cx.report(codes::SCHEMA, key.pos, message, hint);
    }
    Some(!keys.is_empty())
}

object! {
    /// `bodies`.
    pub struct Bodies {
        /// `requestBytes`.
        pub request: Option<u64> = with(bytes) "requestBytes",
        /// `responseBytes`.
        pub response: Option<u64> = with(bytes) "responseBytes",
    }
}

impl Bodies {
    /// As the data plane has them.
    pub fn model(&self) -> BodyLimits {
        BodyLimits { request_bytes: self.request, response_bytes: self.response }
    }
}

/// A quantity of bytes: `1Mi`, or a number.
fn bytes(node: &Node<'_>, cx: &mut Cx) -> Option<u64> {
    let units = Quantity::decode(node, cx)?.units();
    let bytes = u64::try_from(units).ok();
    if bytes.is_none() {
        cx.mismatch(node, "a number of bytes, such as `1Mi` or `65536`");
    }
    bytes
}

impl RateLimitSpec {
    /// Whose proxy counts.
    pub fn enforced_by(&self) -> EnforcedBy {
        self.enforced_by.as_ref().map(|by| by.value).unwrap_or_default()
    }
}
