//! Which circuit breaker each cluster has: from CircuitBreakers, and from the annotations of Services and ServiceEntries.
//!
//! A breaker is the owner's word about a service: it stands in the service's namespace and counts for every client, so that
//! all of this is worked out once for an input. For a cluster, a CircuitBreaker wins over annotation `outrigger.dev/hystrix`,
//! and that over Linkerd's annotations; of CircuitBreakers the one for the subset wins over the one for the port, and that
//! over the one for the whole service; of two for the same the older one ([`crate::precedence`]).

use std::collections::HashMap;
use std::sync::Arc;

use outrigger_model::{Breaker, BreakerRule, BreakerScope, ClusterName, Diagnostic, Fallback, ServiceRef};

use super::policy::nearest_host;
use super::registry::{Registry, ServiceInfo, Source};
use crate::codes;
use crate::decode::{Problem, clip, nearest};
use crate::hosts;
use crate::kind::circuit_breaker::{CircuitBreaker, FallbackSpec};
use crate::kind::failure_accrual;
use crate::kind::gateway_refs::BackendObjectRef;
use crate::kind::hystrix::Settings;
use crate::kind::hystrix_lines;
use crate::kind::policy_target::{SERVICE, TargetRef};
use crate::node::{Pos, Spanned};
use crate::object::Metadata;
use crate::precedence::{BreakerRank, BreakerSource};
use crate::resources::Resources;

/// The breakers of all services.
#[derive(Debug, Default)]
pub(crate) struct Breakers {
    /// By index of the registry, the strongest first.
    claims: HashMap<u32, Vec<Claim>, foldhash::fast::RandomState>,
    /// What was found wrong.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// A breaker for a service, or a part of one.
#[derive(Debug)]
struct Claim {
    /// Only this port.
    port: Option<u16>,
    /// Only this subset.
    subset: Option<Arc<str>>,
    source: BreakerSource,
    /// Where it stands.
    owner: Metadata,
    pos: Pos,
    breaker: Arc<Breaker>,
    /// The service that its fallback leads to.
    fallback: Option<u32>,
}

impl Claim {
    fn rank(&self) -> BreakerRank {
        BreakerRank::of(self.source, self.subset.is_some(), self.port.is_some())
    }
}

impl Breakers {
    /// Reads CircuitBreakers and annotations.
    pub(crate) fn build(resources: &Resources, registry: &Registry, domain: &str) -> Self {
        let mut builder = Builder { resources, registry, domain, breakers: Self::default() };
        let entries = builder.entries();
        for object in resources.circuit_breakers.oldest_first() {
            builder.circuit_breaker(object, &entries);
        }
        for index in 0..registry.services.len() as u32 {
            builder.annotations(index);
        }
        builder.misplaced();
        let mut breakers = builder.breakers;
        // Stable: of equal ranks the older object stays in front.
        breakers.claims.values_mut().for_each(|claims| claims.sort_by_key(|claim| std::cmp::Reverse(claim.rank())));
        breakers
    }

    /// The breaker of a cluster.
    pub(crate) fn of(&self, service: u32, cluster: &ServiceRef) -> Option<Arc<Breaker>> {
        let counts = |claim: &&Claim| {
            claim.port.is_none_or(|port| port == cluster.port)
                && claim.subset.as_ref().is_none_or(|subset| *subset == cluster.subset)
        };
        self.claims.get(&service)?.iter().find(counts).map(|claim| claim.breaker.clone())
    }

    /// Adds the services that fallbacks of needed ones lead to, and the fallbacks of these: no route names them.
    pub(crate) fn add_fallbacks(&self, needed: &mut [bool]) {
        let mut open: Vec<u32> = (0..needed.len() as u32).filter(|index| needed[*index as usize]).collect();
        while let Some(index) = open.pop() {
            let claims = self.claims.get(&index).into_iter().flatten();
            for fallback in claims.filter_map(|claim| claim.fallback) {
                if !std::mem::replace(&mut needed[fallback as usize], true) {
                    open.push(fallback);
                }
            }
        }
    }
}

struct Builder<'b> {
    resources: &'b Resources,
    registry: &'b Registry,
    domain: &'b str,
    breakers: Breakers,
}

/// The hosts of ServiceEntries, by namespace and name.
type Entries<'b> = HashMap<(&'b str, &'b str), Vec<u32>>;

impl<'b> Builder<'b> {
    fn entries(&self) -> Entries<'b> {
        let mut entries = Entries::new();
        if self.resources.circuit_breakers.is_empty() {
            return entries;
        }
        for (index, info) in self.registry.services.iter().enumerate() {
            if let Source::Entry(entry) = &info.source {
                entries.entry((&entry.meta.namespace, &entry.meta.name)).or_default().push(index as u32);
            }
        }
        entries
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        self.breakers.diagnostics.push(diagnostic);
    }

    fn circuit_breaker(&mut self, object: &Arc<CircuitBreaker>, entries: &Entries<'b>) {
        let meta = &object.meta;
        let (fallback, leads_to) = match self.fallback(object) {
            Some((fallback, leads_to)) => (Some(fallback), leads_to),
            None => (None, None),
        };
        for target in &object.spec.targets {
            let services = self.targets(meta, target, entries);
            for (at, index) in services.iter().enumerate() {
                // The hosts of one ServiceEntry have the same ports, so that one finding is enough.
                let Some(port) = self.port(meta, target, *index, at == 0) else { continue };
                if !self.has_subset(meta, target, *index) {
                    continue;
                }
                let (fallback, leads_to) = match leads_to {
                    Some((to, to_port)) if to == *index && port.is_none_or(|port| port == to_port) => {
                        self.report_circle(object, *index);
                        (None, None)
                    }
                    _ => (fallback.clone(), leads_to.map(|(to, _)| to)),
                };
                let subset = target.subset.as_ref().map(|subset| subset.value.clone());
                let breaker = Breaker {
                    origin: format!("{} {}/{}", meta.kind, meta.namespace, meta.name).into(),
                    scope: scope(object, target),
                    rule: BreakerRule::Hystrix(object.spec.rule()),
                    fallback,
                    fallbacks_max: object.spec.settings.fallbacks_max(),
                };
                self.claim(
                    *index,
                    Claim {
                        port,
                        subset,
                        source: BreakerSource::Kind,
                        owner: meta.clone(),
                        pos: target.name.pos,
                        breaker: Arc::new(breaker),
                        fallback: leads_to,
                    },
                );
            }
        }
    }

    /// Adds a claim, unless an older one is for the very same.
    fn claim(&mut self, service: u32, claim: Claim) {
        let claims = self.breakers.claims.entry(service).or_default();
        let same =
            |known: &&Claim| known.source == claim.source && known.port == claim.port && known.subset == claim.subset;
        let Some(first) = claims.iter().find(same) else {
            claims.push(claim);
            return;
        };
        let place = first.owner.source.place(first.pos);
        let message = format!(
            "has no effect for {}: {} at {place} is older and is for the same",
            described(self.registry.at(service), claim.port, claim.subset.as_deref()),
            first.owner.object_ref()
        );
        let finding = codes::SUPERSEDED.about(&claim.owner, claim.pos, message, "keep one CircuitBreaker for a target");
        self.report(finding);
    }

    /// The services that a target names: those of the policy's own namespace. None is reported.
    fn targets(&mut self, meta: &Metadata, target: &Spanned<TargetRef>, entries: &Entries<'b>) -> Vec<u32> {
        let (namespace, name) = (&*meta.namespace, &*target.name.value);
        let kind = target.kind.kind;
        let is_service = target.kind == &SERVICE;
        let found = if is_service {
            let host = hosts::service_host(name, namespace, self.domain);
            let of_kind = |index: &u32| self.registry.at(*index).is_kubernetes();
            self.registry.named(&host).iter().copied().filter(of_kind).collect()
        } else {
            entries.get(&(namespace, name)).cloned().unwrap_or_default()
        };
        if found.is_empty() {
            let message = format!("target {kind} {namespace}/{} does not exist", clip(name));
            let hint = self.nearest_target(namespace, name, is_service);
            self.report(codes::REFERENCE_NOT_FOUND.about(meta, target.name.pos, message, hint));
        }
        let alias = found.iter().find_map(|index| self.registry.at(*index).alias_of.clone());
        if let Some(alias) = alias {
            let message = format!("has no effect: Service {namespace}/{name} stands for {alias}");
            let hint = "name the service behind it";
            self.report(codes::NO_EFFECT.about(meta, target.name.pos, message, hint));
            return Vec::new();
        }
        found
    }

    fn nearest_target(&self, namespace: &str, name: &str, is_service: bool) -> String {
        let others = "a target stands in the namespace of its policy";
        let of_kind = |info: &&Arc<ServiceInfo>| info.is_kubernetes() == is_service;
        let all = || self.registry.services.iter().filter(of_kind).map(|info| info.meta());
        if let Some(elsewhere) = all().find(|meta| *meta.name == *name) {
            return format!("{} is in namespace {}: {others}", clip(name), elsewhere.namespace);
        }
        let names: Vec<&str> = all().filter(|meta| *meta.namespace == *namespace).map(|meta| &*meta.name).collect();
        nearest(name, &names).map_or_else(|| others.to_owned(), |near| format!("did you mean `{near}`?"))
    }

    /// The port that a target names, or all: `Some(None)`. `None`: there is nothing to break, and that is reported.
    fn port(&mut self, meta: &Metadata, target: &TargetRef, index: u32, aloud: bool) -> Option<Option<u16>> {
        let info = self.registry.at(index).clone();
        let Some(section) = &target.section else {
            if info.http_ports().next().is_none() && aloud {
                let message = format!(
                    "has no effect for {}: none of its ports speaks HTTP, and circuits are of requests",
                    info.host
                );
                let hint = "give the port `appProtocol: http`, or a name that begins with `http`";
                self.report(codes::NO_EFFECT.about(meta, target.name.pos, message, hint));
            }
            return Some(None);
        };
        let named = info.ports.iter().find(|port| port.name == section.value);
        if let Some(port) = named.filter(|port| port.protocol.is_http()) {
            return Some(Some(port.number));
        }
        if !aloud {
            return None;
        }
        let finding = match named {
            Some(port) => codes::NO_EFFECT.about(
                meta,
                section.pos,
                format!("has no effect: port {} of {} speaks no HTTP", port.number, info.host),
                "circuits are of requests",
            ),
            None => {
                let names: Vec<&str> = info.ports.iter().map(|port| &*port.name).collect();
                let hint = nearest(section, &names)
                    .map_or("`sectionName` is the name of a port".to_owned(), |near| format!("did you mean `{near}`?"));
                let message =
                    format!("{} has no port named {:?}; its ports are {}", info.host, clip(section), info.ports_text());
                codes::REFERENCE_NOT_FOUND.about(meta, section.pos, message, hint)
            }
        };
        self.report(finding);
        None
    }

    /// Whether the subset that a target names, if any, is defined for the service.
    fn has_subset(&mut self, meta: &Metadata, target: &TargetRef, index: u32) -> bool {
        let Some(subset) = &target.subset else { return true };
        let info = self.registry.at(index).clone();
        let of_host = self.resources.destination_rules.iter().filter(|rule| {
            let host = hosts::expand(&rule.spec.host, &rule.meta.namespace, self.domain);
            hosts::covers(&host, &info.host)
        });
        let defined: Vec<&str> = of_host.flat_map(|rule| &rule.spec.subsets).map(|s| &*s.name.value).collect();
        if defined.contains(&&*subset.value) {
            return true;
        }
        let names = if defined.is_empty() { "none".to_owned() } else { defined.join(", ") };
        let message =
            format!("subset {:?} of {} is not defined; its DestinationRules define: {names}", clip(subset), info.host);
        let hint = nearest(subset, &defined)
            .map_or("define it in a DestinationRule".to_owned(), |near| format!("did you mean `{near}`?"));
        self.report(codes::REFERENCE_NOT_FOUND.about(meta, subset.pos, message, hint));
        false
    }

    /// The fallback of an object, and where it leads if to another service.
    fn fallback(&mut self, object: &CircuitBreaker) -> Option<(Fallback, Option<(u32, u16)>)> {
        let spec = object.spec.fallback.as_ref()?;
        if !object.spec.settings.has_fallback() {
            let message = "the fallback has no effect: fallback.enabled is false";
            self.report(codes::NO_EFFECT.about(&object.meta, spec.pos, message, "remove one of the two"));
            return None;
        }
        match &spec.value {
            FallbackSpec::Response { status, headers, body } => {
                let body = body.as_bytes().into();
                Some((Fallback::Static { status: *status, headers: headers.clone(), body }, None))
            }
            FallbackSpec::LastHeaders { status, names, age_max } => {
                let fallback = Fallback::LastHeaders { status: *status, names: names.clone(), age_max: *age_max };
                Some((fallback, None))
            }
            FallbackSpec::Backend(backend) => match self.backend(&object.meta, backend) {
                Ok((cluster, to)) => Some((Fallback::Cluster(cluster), Some(to))),
                Err((message, hint)) => {
                    let message = format!("fallback: {message}; there is no fallback");
                    self.report(codes::REFERENCE_NOT_FOUND.about(&object.meta, backend.name.pos, message, hint));
                    None
                }
            },
        }
    }

    /// The cluster of a backend, and its service and port. As with routes of the mesh, no grant is needed for another
    /// namespace: clients could go there without a breaker.
    fn backend(
        &self,
        meta: &Metadata,
        backend: &BackendObjectRef,
    ) -> Result<(ClusterName, (u32, u16)), (String, String)> {
        let namespace = backend.namespace_or(&meta.namespace);
        let name = clip(&backend.name);
        if !backend.is_service() {
            let message = format!("{name} is of kind {}, which is not known here", clip(&backend.kind));
            return Err((message, "a backend is a Service".to_owned()));
        }
        let host = hosts::service_host(&backend.name, namespace, self.domain);
        let found = self.registry.named(&host).iter().copied().find(|i| self.registry.at(*i).is_kubernetes());
        let Some(mut index) = found else {
            let hint = nearest_host(&host, self.registry, self.domain);
            return Err((format!("Service {namespace}/{name} does not exist"), hint));
        };
        if let Some(alias) = &self.registry.at(index).alias_of
            && let Some(real) = self.registry.named(alias).first()
        {
            index = *real;
        }
        let info = self.registry.at(index);
        let number = backend.port.as_ref().map_or(0, |port| port.value);
        match info.port(number) {
            None => {
                let message = format!("{} has no port {number}; its ports are {}", info.host, info.ports_text());
                Err((message, "use one of its ports".to_owned()))
            }
            Some(port) if !port.protocol.is_http() => {
                let message = format!("port {number} of {} speaks no HTTP", info.host);
                Err((message, "send to a port that does".to_owned()))
            }
            Some(_) => Ok((ClusterName::outbound(number, "", &info.host), (index, number))),
        }
    }

    fn report_circle(&mut self, object: &CircuitBreaker, service: u32) {
        let pos = object.spec.fallback.as_ref().map_or(object.meta.pos, |fallback| fallback.pos);
        let host = &self.registry.at(service).host;
        let message = format!("fallback: it leads back to {host}, which it stands in for; there is no fallback");
        let hint = "name another Service, or another port of it and `sectionName` in the target";
        self.report(codes::FALLBACK_CIRCLE.about(&object.meta, pos, message, hint));
    }

    /// What the annotations of a service's object say.
    fn annotations(&mut self, index: u32) {
        let info = self.registry.at(index).clone();
        let meta = info.meta();
        let hystrix = meta.annotations.get(hystrix_lines::ANNOTATION);
        let linkerd = failure_accrual::is_given(&meta.annotations);
        if hystrix.is_none() && !linkerd {
            return;
        }
        let mut problems = Vec::new();
        let settings = hystrix.and_then(|text| hystrix_lines::read(text, text.pos, &meta.name, &mut problems));
        let accrual = if linkerd { failure_accrual::read(&meta.annotations, &mut problems) } else { None };
        // Findings of a ServiceEntry with several hosts are the same, and come out once.
        let findings =
            problems.into_iter().map(|Problem { code, pos, message, hint }| code.about(meta, pos, message, hint));
        self.breakers.diagnostics.extend(findings);
        let of_hystrix = |settings: Settings| {
            let rule = BreakerRule::Hystrix(settings.rule());
            (BreakerSource::Hystrix, BreakerScope::Service, rule, hystrix_lines::ANNOTATION)
        };
        let of_linkerd = |rule| (BreakerSource::Linkerd, BreakerScope::Endpoint, rule, failure_accrual::ANNOTATION);
        let found: Vec<_> = settings.map(of_hystrix).into_iter().chain(accrual.map(of_linkerd)).collect();
        for (source, scope, rule, annotation) in found {
            let pos = meta.annotations.get(annotation).map_or(meta.pos, |text| text.pos);
            if self.annotation_loses(index, meta, pos, annotation, source) {
                continue;
            }
            let origin = format!("{} {}/{} {annotation}", meta.kind, meta.namespace, meta.name).into();
            let breaker = Breaker { origin, scope, rule, fallback: None, fallbacks_max: 10 };
            let (owner, breaker) = (meta.clone(), Arc::new(breaker));
            self.claim(index, Claim { port: None, subset: None, source, owner, pos, breaker, fallback: None });
        }
    }

    /// Whether something stronger is for all of the service; then reported.
    fn annotation_loses(&mut self, index: u32, meta: &Metadata, pos: Pos, name: &str, source: BreakerSource) -> bool {
        let claims = self.breakers.claims.get(&index).into_iter().flatten();
        let whole = |claim: &&Claim| claim.port.is_none() && claim.subset.is_none() && claim.source > source;
        let Some(winner) = claims.filter(whole).max_by_key(|claim| claim.source) else { return false };
        let what = match winner.source {
            BreakerSource::Kind => {
                let place = winner.owner.source.place(winner.pos);
                format!("{} at {place} is for the same service, and a CircuitBreaker", winner.owner.object_ref())
            }
            BreakerSource::Hystrix | BreakerSource::Linkerd => hystrix_lines::ANNOTATION.to_owned(),
        };
        let message = format!("{name} has no effect: {what} wins over it");
        self.report(codes::PRECEDENCE.about(meta, pos, message, "remove one of the two"));
        true
    }

    /// The annotation on objects that nobody asks for it.
    fn misplaced(&mut self) {
        for rule in self.resources.destination_rules.iter() {
            if let Some(text) = rule.meta.annotations.get(hystrix_lines::ANNOTATION) {
                let message = format!("{} has no effect on a DestinationRule", hystrix_lines::ANNOTATION);
                let hint = "put it on the Service, or write a CircuitBreaker with `subset`";
                self.report(codes::NO_EFFECT.about(&rule.meta, text.pos, message, hint));
            }
        }
    }
}

/// What has a circuit of its own: a target that is a subset never shares one with the rest of its service.
fn scope(object: &CircuitBreaker, target: &TargetRef) -> BreakerScope {
    let stated = object.spec.scope.as_ref().map_or(BreakerScope::Service, |scope| scope.value);
    match (stated, &target.subset) {
        (BreakerScope::Service, Some(_)) => BreakerScope::Subset,
        (stated, _) => stated,
    }
}

fn described(info: &ServiceInfo, port: Option<u16>, subset: Option<&str>) -> String {
    let port = port.map_or(String::new(), |port| format!(" port {port}"));
    let subset = subset.map_or(String::new(), |subset| format!(" subset {subset:?}"));
    format!("{}{port}{subset}", info.host)
}
