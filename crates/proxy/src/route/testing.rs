//! Builders for the tests of routing.

use std::net::IpAddr;
use std::sync::Arc;

use outrigger_model::{
    Action, ClusterName, Destination, Domain, DomainPort, Forward, HeaderEdits, HostPattern, Pattern, Rewrite, Route,
    RouteMatch, RouteTable, StringMatch, Unmatched, VirtualHost,
};

use crate::request::RequestView;

/// Calls `judge` with the request of a line such as `GET http://host:80/path?query` and of header fields.
pub(super) fn with_request<T>(line: &str, fields: &[(&str, &str)], judge: impl FnOnce(&RequestView<'_>) -> T) -> T {
    let (method, url) = line.split_once(' ').expect("a method and a URL");
    let (scheme, rest) = url.split_once("://").expect("a scheme");
    let (authority, target) = rest.find('/').map_or((rest, "*"), |at| rest.split_at(at));
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query.as_bytes())));
    let headers: Vec<httparse::Header<'_>> =
        fields.iter().map(|(name, value)| httparse::Header { name, value: value.as_bytes() }).collect();
    judge(&RequestView {
        method: method.as_bytes(),
        scheme,
        authority: authority.as_bytes(),
        path: path.as_bytes(),
        query,
        headers: &headers,
        peer: IpAddr::from([127, 0, 0, 1]),
    })
}

/// A route that forwards to clusters `0`, `1`, ... with these weights.
pub(super) fn route(name: &str, matches: RouteMatch, weights: &[u32]) -> Arc<Route> {
    let destination = |(at, weight): (usize, &u32)| Destination {
        cluster: ClusterName::new(&at.to_string()),
        missing: None,
        weight: *weight,
        authority: None,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
    };
    let destinations = weights.iter().enumerate().map(destination).collect();
    Arc::new(Route {
        name: name.into(),
        origin: None,
        matches,
        action: Action::Forward(Forward { destinations, rewrite: Rewrite::default() }),
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        cors: None,
        timeout: None,
        retry: None,
        fault: None,
        rate_limits: Vec::new(),
        body_limits: Default::default(),
        mirrors: Vec::new(),
    })
}

/// A virtual host named after its domains, written `name`, `*.suffix`, `prefix.*` or `*`, each with `:PORT` for one
/// port, `:` for no port stated, and nothing for all ports.
pub(super) fn virtual_host(domains: &str, routes: Vec<Arc<Route>>) -> Arc<VirtualHost> {
    let domains_of = |text: &str| text.split_ascii_whitespace().map(domain).collect();
    Arc::new(VirtualHost { name: domains.into(), domains: domains_of(domains), routes })
}

fn domain(text: &str) -> Domain {
    let (host, port) = match text.split_once(':') {
        None => (text, DomainPort::Any),
        Some((host, "")) => (host, DomainPort::Unstated),
        Some((host, port)) => (host, DomainPort::Exact(port.parse().expect("a port"))),
    };
    let host = match (host, host.strip_prefix('*'), host.strip_suffix('*')) {
        ("*", ..) => HostPattern::Any,
        (_, Some(suffix), _) => HostPattern::Suffix(suffix.into()),
        (_, _, Some(prefix)) => HostPattern::Prefix(prefix.into()),
        _ => HostPattern::Exact(host.into()),
    };
    Domain { host, port }
}

/// A table that refuses unknown hosts.
pub(super) fn table(virtual_hosts: Vec<Arc<VirtualHost>>) -> Arc<RouteTable> {
    Arc::new(RouteTable { virtual_hosts, unmatched: Unmatched::BlackHole })
}

/// `=text` exact, `^text` prefix, `~text` regular expression.
pub(super) fn string(text: &str) -> StringMatch {
    match text.split_at(1) {
        ("=", text) => StringMatch::Exact(text.into()),
        ("^", text) => StringMatch::Prefix(text.into()),
        ("~", text) => StringMatch::Regex(pattern(text)),
        _ => panic!("{text} begins with none of = ^ ~"),
    }
}

pub(super) fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).expect("a regular expression")
}
