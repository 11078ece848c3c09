//! `CircuitBreaker` (`outrigger.dev/v1alpha1`): Hystrix's breaker for a Service, a ServiceEntry, or a subset of one.
//!
//! The fields `circuitBreaker`, `execution`, `metrics` and `fallback` are Hystrix's properties as nested fields (`hystrix`).
//! Ours are the targets, the scope, what is a failure, and what the fallback is. Which breaker counts for a cluster is decided in
//! `translate::breakers`; `deploy/crds/circuitbreakers.yaml` is the schema for the API server.

use std::sync::Arc;
use std::time::Duration;

use outrigger_model::{BreakerScope, FailureAnswers, HeaderName, HeaderValue, HystrixRule};

use super::gateway_refs::BackendObjectRef;
use super::hystrix::{CONCURRENT, Given, Settings, TIMEOUT, Takes};
use super::istio::{duration_1ms, header_value, report_header, spanned};
use super::policy_target::{SERVICE, SERVICE_ENTRY, TargetRef, targets};
use crate::codes;
use crate::decode::{Cx, Decode, Fields, clip};
use crate::node::{Node, Pos, Spanned};
use crate::object::{Metadata, Resource};
use crate::scalar;

/// A CircuitBreaker.
#[derive(Clone, Debug)]
pub struct CircuitBreaker {
    /// Name, namespace, and where it stands.
    pub meta: Metadata,
    /// `spec`.
    pub spec: CircuitBreakerSpec,
}

impl Resource for CircuitBreaker {
    fn decode_body(meta: Metadata, fields: &mut Fields<'_, '_>, cx: &mut Cx) -> Option<Self> {
        let spec = fields.required("spec", cx);
        fields.ignore(&["status"]);
        Some(Self { meta, spec: spec? })
    }

    fn meta(&self) -> &Metadata {
        &self.meta
    }
}

/// `spec`.
#[derive(Clone, Debug, PartialEq)]
pub struct CircuitBreakerSpec {
    /// `targetRefs`.
    pub targets: Vec<Spanned<TargetRef>>,
    /// `scope`: what has a circuit of its own; `None`: what the target names.
    pub scope: Option<Spanned<BreakerScope>>,
    /// Hystrix's properties.
    pub settings: Settings,
    /// `slowCallDurationThreshold`: calls that take longer count as failures.
    pub slow_call: Option<Duration>,
    /// `failures.statusCodes` and `grpcStatuses`.
    pub failures: FailureAnswers,
    /// What of `fallback` is ours.
    pub fallback: Option<Spanned<FallbackSpec>>,
}

impl CircuitBreakerSpec {
    /// The rule, defaults filled in.
    pub fn rule(&self) -> HystrixRule {
        HystrixRule { slow_call: self.slow_call, failures: self.failures, ..self.settings.rule() }
    }
}

/// What a client gets where the call is not let through, or fails.
#[derive(Clone, Debug, PartialEq)]
pub enum FallbackSpec {
    /// `response`.
    Response {
        /// `statusCode`, 200 when absent.
        status: u16,
        /// `headers`.
        headers: Vec<(HeaderName, HeaderValue)>,
        /// `body`.
        body: Arc<str>,
    },
    /// `backendRef`.
    Backend(BackendObjectRef),
    /// `lastHeaders`.
    LastHeaders {
        /// `statusCode`, 200 when absent.
        status: u16,
        /// `names`.
        names: Vec<HeaderName>,
        /// `maxAge`.
        age_max: Duration,
    },
}

/// Bytes of the body of an answer that stands in a manifest, at most.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Fields of an answer at most.
const HEADERS_MAX: usize = 32;

impl Decode for CircuitBreakerSpec {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let errors = cx.errors();
        let mut fields = Fields::of(node, cx)?;
        let targets = fields.required_with("targetRefs", cx, targets(&[&SERVICE, &SERVICE_ENTRY], true));
        let scope = fields.with("scope", cx, spanned(scope));
        let mut settings = Settings::default();
        for prefix in ["circuitBreaker", "metrics"] {
            fields.with(prefix, cx, |node, cx| {
                let mut inner = Fields::of(node, cx)?;
                settings.read(prefix, &mut inner, cx);
                inner.finish(cx);
                Some(())
            });
        }
        fields.with("execution", cx, |node, cx| execution(node, &mut settings, cx));
        let threshold = fields.with("slowCallDurationThreshold", cx, spanned(duration_1ms));
        let (slow, failures) = fields.with("failures", cx, failures).unwrap_or_default();
        let fallback = fields.with("fallback", cx, |node, cx| fallback(node, &mut settings, cx)).flatten();
        fields.finish(cx);
        let slow_call = one_threshold(threshold, slow, cx);
        let spec = Self { targets: targets?, scope, settings, slow_call, failures, fallback };
        if cx.errors() == errors {
            spec.review(cx);
        }
        Some(spec)
    }
}

impl CircuitBreakerSpec {
    fn review(&self, cx: &mut Cx) {
        let mut problems = Vec::new();
        self.settings.review(&mut problems);
        for problem in problems {
            cx.report(problem.code, problem.pos, problem.message, problem.hint);
        }
        if let (Some(slow), Some(limit)) = (self.slow_call, self.rule().timeout)
            && slow >= limit
        {
            let pos = self.settings.place(TIMEOUT).unwrap_or_default();
            let message = format!(
                "slowCallDurationThreshold has no effect: {slow:?} is not below the time limit, {limit:?}, which ends the call"
            );
            cx.report(codes::NO_EFFECT, pos, message, "make it shorter than the time limit");
        }
        let Some(scope) = self.scope.as_ref().filter(|scope| scope.value == BreakerScope::Service) else { return };
        if self.targets.iter().any(|target| target.subset.is_some()) {
            let message = "scope: `Service` has no effect for a target with `subset`, which has a circuit of its own";
            cx.report(codes::NO_EFFECT, scope.pos, message, "write `Subset` or `Endpoint`, or remove `scope`");
        }
    }
}

/// `scope`, in the case of an enumeration of Kubernetes or in lower case.
fn scope(node: &Node<'_>, cx: &mut Cx) -> Option<BreakerScope> {
    let choices =
        [("Service", BreakerScope::Service), ("Subset", BreakerScope::Subset), ("Endpoint", BreakerScope::Endpoint)];
    let text = node.scalar().map(|scalar| scalar.text.as_ref()).unwrap_or_default();
    if let Some((_, scope)) = choices.iter().find(|(name, _)| name.to_lowercase() == text) {
        return Some(*scope);
    }
    scalar::choice(node, cx, &choices.map(|(name, scope)| (name, None, scope)))
}

/// `execution`, with two short names beside Hystrix's long ones.
fn execution(node: &Node<'_>, settings: &mut Settings, cx: &mut Cx) -> Option<()> {
    let mut fields = Fields::of(node, cx)?;
    settings.read("execution", &mut fields, cx);
    for (short, long) in [("timeoutInMilliseconds", TIMEOUT), ("maxConcurrentRequests", CONCURRENT)] {
        let Some(node) = fields.node(short) else { continue };
        let Some(Takes::Number(from, to)) = super::hystrix::takes(long) else { continue };
        let Some(number) = cx.within(short, |cx| scalar::int_in(node, cx, from..=to)) else { continue };
        if settings.set(long, Given::Number(number), node.pos).is_some() {
            let message = format!("{short} is short for {long}, which is given too");
            cx.within(short, |cx| cx.report(codes::SCHEMA, node.pos, message, "remove one of the two"));
        }
    }
    fields.finish(cx);
    Some(())
}

/// `failures`: a second name for slow calls, and statuses. A list takes the place of those that are failures without it.
fn failures(node: &Node<'_>, cx: &mut Cx) -> Option<(Option<Spanned<Duration>>, FailureAnswers)> {
    let mut fields = Fields::of(node, cx)?;
    let slow: Option<Spanned<u64>> = fields.with("slowCallMilliseconds", cx, spanned(scalar::within(1..=86_400_000)));
    let http: Option<Vec<Statuses>> = fields.optional("statusCodes", cx);
    let grpc: Option<Vec<GrpcStatus>> = fields.optional("grpcStatuses", cx);
    fields.finish(cx);
    let mut answers = FailureAnswers::default();
    if let Some(http) = http {
        answers = answers.with_http(http.into_iter().flat_map(|statuses| statuses.0));
    }
    if let Some(grpc) = grpc {
        answers = answers.with_grpc(grpc.into_iter().map(|status| status.0));
    }
    Some((slow.map(|slow| Spanned { value: Duration::from_millis(slow.value), pos: slow.pos }), answers))
}

/// Statuses of HTTP as one item: `503`, `5xx`, `500-504`.
struct Statuses(Vec<u16>);

impl Decode for Statuses {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let text = node.scalar().map(|scalar| scalar.text.as_ref()).unwrap_or_default();
        let statuses = super::linkerd::status_codes(text).filter(|_| !text.contains(','));
        if statuses.is_none() {
            cx.mismatch(node, "a status code, a range such as `502-504`, `5xx` or `gateway-error`");
        }
        statuses.map(Self)
    }
}

/// A status of gRPC by its name or number; `OK` is never a failure.
struct GrpcStatus(u8);

impl Decode for GrpcStatus {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let status = super::resilience::grpc(node, cx)?;
        if status == 0 {
            cx.report(codes::SCHEMA, node.pos, "a call that ends with OK is no failure", "remove it");
        }
        u8::try_from(status).ok().map(Self)
    }
}

/// The threshold of slow calls by either of its names.
fn one_threshold(ours: Option<Spanned<Duration>>, short: Option<Spanned<Duration>>, cx: &mut Cx) -> Option<Duration> {
    if let (Some(_), Some(short)) = (&ours, &short) {
        let message = "failures.slowCallMilliseconds and slowCallDurationThreshold say the same";
        cx.report(codes::SCHEMA, short.pos, message, "remove one of the two");
    }
    ours.or(short).map(|threshold| threshold.value)
}

/// `fallback`.
fn fallback(node: &Node<'_>, settings: &mut Settings, cx: &mut Cx) -> Option<Option<Spanned<FallbackSpec>>> {
    let mut fields = Fields::of(node, cx)?;
    settings.read("fallback", &mut fields, cx);
    let found = fields.one_of(&["response", "backendRef", "service", "lastHeaders"], cx);
    fields.finish(cx);
    let Some((key, inner)) = found else { return Some(None) };
    let spec = cx.within(key, |cx| match key {
        "response" => response(inner, cx),
        "lastHeaders" => last_headers(inner, cx),
        _ => BackendObjectRef::decode(inner, cx).map(FallbackSpec::Backend),
    });
    Some(spec.map(|value| Spanned { value, pos: inner.pos }))
}

fn status(fields: &mut Fields<'_, '_>, cx: &mut Cx) -> u16 {
    let found = fields.one_of(&["statusCode", "status"], cx);
    let read = |(key, node): (&'static str, &Node<'_>)| cx.within(key, |cx| scalar::within(200..=599)(node, cx));
    found.and_then(read).unwrap_or(200)
}

fn response(node: &Node<'_>, cx: &mut Cx) -> Option<FallbackSpec> {
    let mut fields = Fields::of(node, cx)?;
    let status = status(&mut fields, cx);
    let headers = fields.or_default_with("headers", cx, headers);
    let body: Arc<str> = fields.or_default_with("body", cx, |node, cx| {
        let body = Arc::<str>::decode(node, cx)?;
        if body.len() > BODY_BYTES_MAX {
            cx.mismatch(node, "a body of at most 64 KiB");
        }
        if !body.is_empty() && (status == 204 || status == 304) {
            let message = format!("found a body with status {status}, which has none");
            cx.report(codes::SCHEMA, node.pos, message, "write another status, or remove the body");
        }
        Some(body)
    });
    fields.finish(cx);
    Some(FallbackSpec::Response { status, headers, body })
}

/// Names with values.
fn headers(node: &Node<'_>, cx: &mut Cx) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let Some(entries) = node.entries() else {
        cx.mismatch(node, "a mapping of names to values");
        return None;
    };
    if entries.len() > HEADERS_MAX {
        let message = format!("found {} fields, expected at most {HEADERS_MAX}", entries.len());
        cx.report(codes::SCHEMA, node.pos, message, "");
    }
    let mut headers = Vec::with_capacity(entries.len());
    for (key, item) in entries {
        let name = editable(&key.text, key.pos, cx);
        let value = cx.at_key(key.text.as_ref().into(), |cx| {
            scalar::string(item, cx).and_then(|text| header_value(text, item.pos, cx))
        });
        headers.extend(name.zip(value));
    }
    Some(headers)
}

/// A name that does not frame the message.
fn editable(text: &str, pos: Pos, cx: &mut Cx) -> Option<HeaderName> {
    match HeaderName::parse_editable(text) {
        Ok(name) => Some(name),
        Err(error) => {
            report_header(text, pos, &error, cx);
            None
        }
    }
}

fn last_headers(node: &Node<'_>, cx: &mut Cx) -> Option<FallbackSpec> {
    let mut fields = Fields::of(node, cx)?;
    let status = status(&mut fields, cx);
    let names = fields.required_with("names", cx, |node, cx| {
        let items: Vec<Spanned<Arc<str>>> = Vec::decode(node, cx)?;
        if items.is_empty() || items.len() > HEADERS_MAX {
            let message = format!("found a list of {} items, expected 1 to {HEADERS_MAX}", items.len());
            cx.report(codes::SCHEMA, node.pos, message, "name the fields that are kept");
        }
        let mut names: Vec<HeaderName> = Vec::with_capacity(items.len());
        for item in &items {
            let Some(name) = editable(item, item.pos, cx) else { continue };
            if names.contains(&name) {
                let message = format!("{:?} stands there already, expected each once", clip(item));
                cx.report(codes::SCHEMA, item.pos, message, "remove one of the two");
            }
            names.push(name);
        }
        Some(names)
    });
    let age_max = fields.required_with("maxAge", cx, duration_1ms);
    fields.finish(cx);
    Some(FallbackSpec::LastHeaders { status, names: names?, age_max: age_max? })
}
