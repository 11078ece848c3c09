//! The gateway side of the Gateway API: YAML in, conditions, findings and answers out.
//!
//! Cases of the conformance suite (`conformance/tests` of kubernetes-sigs/gateway-api) that can be told from files are here
//! by name, in words and manifests of our own:
//!
//! | case | here |
//! |---|---|
//! | GatewayInvalidRouteKind | `gateways::a_listener_names_the_kinds_it_takes` |
//! | GatewayListenerUnsupportedProtocol | `gateways::protocols_that_are_not_served` |
//! | GatewayInvalidParametersRef | `gateways::parameters_of_other_controllers_are_refused` |
//! | GatewayStaticAddresses, GatewayOptionalAddressValue | `gateways::addresses_are_given_out_here` |
//! | GatewayInfrastructure | `gateways::the_proxy_is_named_as_istio_deploys_it` |
//! | GatewayWithAttachedRoutes, GatewayWithAttachedRoutesWithPort8080 | `routes::attached_routes_are_counted` |
//! | GatewayHTTPListenerIsolation (both halves) | `isolation::each_request_meets_the_most_specific_listener` |
//! | GatewayModifyListeners | `reuse::a_listener_is_added_and_removed` |
//! | GatewayInvalidTLSConfiguration | `tls::references_that_lead_nowhere` |
//! | GatewaySecretInvalidReferenceGrant, GatewaySecretMissingReferenceGrant | `tls::grants_that_do_not_permit` |
//! | GatewaySecretReferenceGrantAllInNamespace, GatewaySecretReferenceGrantSpecific | `tls::grants_that_permit` |
//! | GatewayInvalidTLSBackendConfiguration | `tls::the_certificate_for_backends` |
//! | GatewayFrontendClientCertificateValidation | `tls::clients_show_certificates` |
//! | GatewayInvalidFrontendClientCertificateValidation, GatewayFrontendInvalidDefaultClientCertificateValidation | `tls::authorities_that_cannot_be_used` |
//! | GatewayFrontendClientCertificateValidationInsecureFallback | `tls::the_insecure_fallback_is_refused` (not supported) |
//! | HTTPRouteHostnameIntersection | `routes::host_names_meet` |
//! | HTTPRouteListenerHostnameMatching | `isolation::hosts_of_listeners_pick_the_route` |
//! | HTTPRouteListenerPortMatching, HTTPRouteInvalidParentRefNotMatchingListenerPort | `routes::ports_pick_the_listener` |
//! | HTTPRouteInvalidParentRefNotMatchingSectionName, HTTPRouteInvalidParentRefSectionNameNotMatchingPort | `routes::listeners_that_are_not_there` |
//! | HTTPRouteInvalidCrossNamespaceParentRef, HTTPRouteCrossNamespace | `routes::namespaces_that_are_let_in` |
//! | HTTPRouteDisallowedKind | `routes::a_listener_for_other_kinds` |
//! | HTTPRouteInvalidCrossNamespaceBackendRef, HTTPRouteInvalidReferenceGrant, HTTPRouteReferenceGrant, HTTPRoutePartiallyInvalidViaInvalidReferenceGrant | `routes::backends_of_other_namespaces`, `reuse::a_grant_is_taken_back` |
//! | HTTPRouteInvalidNonExistentBackendRef, HTTPRouteInvalidBackendRefUnknownKind | `routes::backends_that_are_not_there` |
//! | HTTPRouteSimpleSameNamespace, HTTPRouteMultipleGateways | `routes::one_route_two_gateways` |
//! | HTTPRouteMatchingAcrossRoutes | `isolation::routes_of_one_host_are_merged` |
//! | HTTPRouteHTTPSListener, HTTPRouteHTTPSListenerDetectMisdirectedRequests | `tls::hosts_of_other_listeners_are_misdirected` |
//! | GRPCRouteListenerHostnameMatching | `grpc_routes::host_names_meet_as_those_of_http_routes` |
//! | ListenerSetAllowedNamespaceNone, ListenerSetAllowedNamespaceSame, ListenerSetAllowedNamespaceSelector, ListenerSetDefaultNotAllowed | `listener_sets::who_may_add_listeners` |
//! | ListenerSetAllowedRoutesNamespaces | `listener_sets::routes_of_its_own_namespace` |
//! | ListenerSetAllowedRoutesSupportedKinds | `listener_sets::kinds_of_a_passthrough_listener` |
//! | ListenerSetHostnameConflict, ListenerSetProtocolConflict | `listener_sets::the_earlier_object_wins` |
//! | ListenerSetReferenceGrant | `listener_sets::grants_are_not_inherited` |
//! | TLSRouteSimpleSameNamespace, TLSRouteHostnameIntersection, TLSRouteListenerPassthroughSupportedKinds | `relays::tls_passes_through_by_server_name` |
//! | TLSRouteMixedTerminationSameNamespace, GatewayHTTPSAndTLSPassthroughSamePort | `relays::https_and_tls_share_a_port` |
//! | TLSRouteListenerTerminateSupportedKinds, TLSRouteTerminateSimpleSameNamespace | `relays::tls_ends_for_routes_of_connections` |
//! | TLSRouteInvalidNoMatchingListener, TLSRouteInvalidNoMatchingListenerHostname | `relays::host_names_that_do_not_meet`, `relays::tls_ends_for_routes_of_connections` |
//! | GatewayListenerProtocolAndRouteKindConflicts | `relays::listeners_that_share_a_port_wrongly_are_all_out`, `routes::a_listener_for_other_kinds` |
//! | TCPRouteMultipleRoutesAttachment, TCPRouteParentRefPortAndSectionName, TCPRouteWeightedRouting | `relays::tcp_goes_to_the_oldest_route` |
//! | TCPRouteReferenceGrant, TLSRouteInvalidReferenceGrant | `relays::backends_that_are_not_there_keep_their_share_and_it_is_reset` |
//! | ListenerSetHTTPRouting, ListenerSetGatewayParentSectionNameNotFound, ListenerSetDualParentRefIndependence, ListenerSetRouteStatusScopedToParentRef | `listener_sets::parents_are_told_apart` |

mod gateways;
mod grpc_routes;
mod isolation;
mod listener_sets;
mod loading;
mod mutations;
mod relays;
mod reuse;
mod routes;
mod samples;
mod tls;

use std::fmt::Write as _;
use std::sync::Arc;

use outrigger_config::loader::load_text;
use outrigger_config::resources::Resources;
use outrigger_config::status::{ConditionStatus, ObjectStatus, conditions};
use outrigger_config::translate::gateways::{self as config_gateways, GatewayId, GatewayKind};
use outrigger_config::translate::{View, translate};
use outrigger_model::*;

/// Compares the status of everything in `yaml`, and that loading it finds nothing.
///
/// One line an object, listener or parent: conditions that are true for the reason of their own name stand as that name,
/// others with status and reason; `Conflicted` only when true, kinds of routes only when they are not those of HTTP.
#[track_caller]
fn check(yaml: &str, expected: &str) {
    same(&status(yaml), expected);
}

/// Compares line by line, without indentation and empty lines.
#[track_caller]
fn same(found: &str, expected: &str) {
    let lines =
        |text: &str| -> Vec<String> { text.lines().map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect() };
    let (found, expected) = (lines(found), lines(expected));
    assert!(found == expected, "found:\n{}\n\nexpected:\n{}\n", found.join("\n"), expected.join("\n"));
}

/// What `check` compares.
#[track_caller]
fn status(yaml: &str) -> String {
    conditions(&load(yaml), &View::default()).iter().map(line).collect()
}

#[track_caller]
fn load(yaml: &str) -> Resources {
    let (resources, findings) = load_text("f.yaml", yaml);
    assert!(findings.is_empty(), "{findings:#?}");
    resources
}

fn line(status: &ObjectStatus) -> String {
    let mut out = status.kind.to_string();
    if status.namespace.is_empty() {
        write!(out, " {}", status.name).unwrap();
    } else {
        write!(out, " {}/{}", status.namespace, status.name).unwrap();
    }
    if let Some(listener) = &status.listener {
        write!(out, "/{listener}").unwrap();
    }
    if let Some(parent) = &status.parent {
        write!(out, " -> {parent}").unwrap();
    }
    out.push(':');
    for condition in &status.conditions {
        let status = condition.status;
        match (status, condition.reason) {
            (ConditionStatus::True, reason) if reason == condition.kind => write!(out, " {reason}"),
            (ConditionStatus::False, "NoConflicts") => Ok(()),
            (status, reason) => write!(out, " {}={}/{reason}", condition.kind, status.as_str()),
        }
        .unwrap();
    }
    if let Some(routes) = status.attached_routes {
        write!(out, " routes={routes}").unwrap();
    }
    let of_requests = |kinds: &&Vec<Arc<str>>| kinds.iter().map(|kind| &**kind).eq(["HTTPRoute", "GRPCRoute"]);
    if let Some(kinds) = status.supported_kinds.as_ref().filter(|kinds| !of_requests(kinds)) {
        write!(out, " kinds={kinds:?}").unwrap();
    }
    if let Some(sets) = status.attached_listener_sets.filter(|sets| *sets > 0) {
        write!(out, " sets={sets}").unwrap();
    }
    out.push('\n');
    out
}

/// The findings of translation, one a line.
#[track_caller]
fn findings(yaml: &str) -> String {
    let (_, findings) = translate(&load(yaml), &View::default());
    findings.iter().fold(String::new(), |text, finding| text + &finding.to_string() + "\n")
}

/// The view of a Gateway `NAMESPACE/NAME`.
fn view(gateway: &str) -> View {
    let (namespace, name) = gateway.split_once('/').expect("NAMESPACE/NAME");
    View::of_gateway(GatewayId { kind: GatewayKind::Api, namespace: namespace.into(), name: name.into() })
}

/// A running Gateway, asked the way the data plane would.
struct Gateway(Snapshot);

impl Gateway {
    #[track_caller]
    fn new(gateway: &str, yaml: &str) -> Self {
        Self(translate(&load(yaml), &view(gateway)).0)
    }

    /// What answers a request in plain text: the name of a Service, or a status.
    fn http(&self, port: u16, host: &str, path: &str) -> String {
        self.ask(port, None, host, path)
    }

    /// What answers a request over TLS.
    fn https(&self, port: u16, server_name: &str, host: &str, path: &str) -> String {
        self.ask(port, Some(server_name), host, path)
    }

    fn ask(&self, port: u16, server_name: Option<&str>, host: &str, path: &str) -> String {
        let Some(listener) = self.0.listener(&Listener::gateway_name(port)) else { return "closed".to_owned() };
        let Some(chain) = chain(listener, server_name) else { return "closed".to_owned() };
        assert_eq!(chain.tls.is_some(), server_name.is_some(), "plain text and TLS are not mixed up");
        let Serve::Http(routes) = &chain.serve else { panic!("a gateway of HTTP") };
        let host = host.split(':').next().unwrap_or_default();
        let domains = |v: &VirtualHost| v.domains.iter().filter_map(|d| strength(&d.host, host)).max();
        let found = routes.virtual_hosts.iter().filter_map(|v| domains(v).map(|strength| (strength, v)));
        let Some((_, vhost)) = found.max_by_key(|(strength, _)| *strength) else {
            assert_eq!(routes.unmatched, Unmatched::NotFound);
            return "404".to_owned();
        };
        let route = vhost.routes.iter().find(|route| is_match(&route.matches, path));
        route.map_or_else(|| "404".to_owned(), |route| self.answer(route))
    }

    fn answer(&self, route: &Route) -> String {
        match &route.action {
            Action::Respond(response) => response.status.to_string(),
            Action::Redirect(redirect) => redirect.status.to_string(),
            Action::Forward(forward) => {
                let [destination] = &*forward.destinations else { panic!("one destination: {forward:?}") };
                if let Some(missing) = &destination.missing {
                    return missing.status.to_string();
                }
                assert!(self.0.clusters.contains_key(&destination.cluster), "{} has a cluster", destination.cluster);
                let host = destination.cluster.as_str().rsplit('|').next().unwrap_or_default();
                host.split('.').next().unwrap_or_default().to_owned()
            }
        }
    }
}

/// The most specific chain for a server name; without, the one that names none.
fn chain<'l>(listener: &'l Listener, server_name: Option<&str>) -> Option<&'l Chain> {
    let strongest = |chain: &Chain| chain.server_names.iter().filter_map(|p| strength(p, server_name?)).max();
    let named = listener.chains.iter().filter_map(|chain| Some((strongest(chain)?, chain)));
    let named = named.max_by_key(|(strength, _)| *strength).map(|(_, chain)| chain);
    named.or_else(|| listener.chains.iter().find(|chain| chain.server_names.is_empty()))
}

/// How well a pattern fits a host, if it does.
fn strength(pattern: &HostPattern, host: &str) -> Option<(u8, usize)> {
    match pattern {
        HostPattern::Exact(name) => (**name == *host).then_some((3, name.len())),
        HostPattern::Suffix(suffix) => {
            (host.len() > suffix.len() && host.ends_with(&**suffix)).then_some((2, suffix.len()))
        }
        HostPattern::Prefix(_) => None,
        HostPattern::Any => Some((0, 0)),
    }
}

fn is_match(matches: &RouteMatch, path: &str) -> bool {
    let whole = RouteMatch { path: matches.path.clone(), ..RouteMatch::default() };
    assert_eq!(*matches, whole, "these tests match on paths alone");
    match &matches.path {
        PathMatch::Any => true,
        PathMatch::Exact(exact) => **exact == *path,
        PathMatch::Segments(prefix) => {
            path.strip_prefix(&**prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        PathMatch::Prefix(_) | PathMatch::Regex(_) => panic!("no other paths here"),
    }
}

/// The listeners of all gateway proxies as the start-up report shows them.
#[track_caller]
fn proxies(yaml: &str) -> String {
    let mut out = String::new();
    for proxy in config_gateways::list(&load(yaml), &View::default()) {
        let w = &proxy.workload;
        writeln!(out, "{}/{} {} {}", proxy.id.namespace, proxy.id.name, w.name, w.principal).unwrap();
        for object in &proxy.objects {
            writeln!(out, "{} {}/{}", object.kind, object.namespace, object.name).unwrap();
            for l in &object.listeners {
                let served = l.listener.as_deref().unwrap_or("-");
                writeln!(out, "{} {} {} {} {served}", l.name, l.port, l.protocol, l.hostname).unwrap();
            }
        }
    }
    out
}

/// A Gateway `NAMESPACE/NAME` of a class that is served, with listeners.
fn gateway(name: &str, listeners: &str) -> String {
    gateway_with(name, "", listeners)
}

/// The same, with more fields of `spec`.
fn gateway_with(name: &str, spec: &str, listeners: &str) -> String {
    let (namespace, name) = name.split_once('/').expect("NAMESPACE/NAME");
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{gatewayClassName: outrigger, {spec} listeners: [{listeners}]}}\n"
    )
}

/// A ListenerSet `NAMESPACE/NAME` of a Gateway `NAMESPACE/NAME`.
fn listener_set(name: &str, gateway: &str, listeners: &str) -> String {
    let (namespace, name) = name.split_once('/').expect("NAMESPACE/NAME");
    let (of, parent) = gateway.split_once('/').expect("NAMESPACE/NAME");
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: ListenerSet\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{parentRef: {{name: {parent}, namespace: {of}}}, listeners: [{listeners}]}}\n"
    )
}

/// A listener for HTTP on port 80 that takes routes of every namespace; `more` are further fields.
fn http(name: &str, more: &str) -> String {
    format!("{{name: {name}, port: 80, protocol: HTTP, allowedRoutes: {{namespaces: {{from: All}}}}, {more}}}")
}

/// An HTTPRoute `NAMESPACE/NAME` with one rule: a prefix, to a Service of its namespace.
fn route(name: &str, parents: &str, hostnames: &str, prefix: &str, backend: &str) -> String {
    let (namespace, name) = name.split_once('/').expect("NAMESPACE/NAME");
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{parentRefs: [{parents}], hostnames: [{hostnames}], rules: [{{matches: [{{path: {{value: {prefix}}}}}], \
         backendRefs: [{{name: {backend}, port: 8080}}]}}]}}\n"
    )
}

/// A Service `NAMESPACE/NAME` on port 8080 without endpoints.
fn service(name: &str) -> String {
    let (namespace, name) = name.split_once('/').expect("NAMESPACE/NAME");
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{selector: {{app: {name}}}, ports: [{{name: http, port: 8080}}]}}\n"
    )
}

/// A Namespace with labels.
fn namespace(name: &str, labels: &str) -> String {
    format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n")
}

/// A ReferenceGrant `NAMESPACE/NAME`.
fn grant(name: &str, from: &str, to: &str) -> String {
    let (namespace, name) = name.split_once('/').expect("NAMESPACE/NAME");
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: ReferenceGrant\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{from: [{from}], to: [{to}]}}\n"
    )
}
