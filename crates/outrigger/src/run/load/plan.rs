//! What a load sends: one request for every route, made of the route's own conditions.
//!
//! A request is sent only if it would be taken by its route and by no route before it, and only where all the route's
//! destinations are on this machine: a load must not reach the world outside.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use outrigger_model::{
    Action, ClusterName, Discovery, Domain, DomainPort, HeaderMatch, HostPattern, Listener, PathMatch, QueryMatch,
    Route, RouteMatch, Serve, Snapshot, StringMatch, ValueMatch, VirtualHost,
};

use super::sample;
use crate::client;

/// Where requests can be sent, and what is routed there.
#[derive(Clone, Debug)]
pub(in crate::run) struct View {
    /// What the proxy obeys.
    pub(in crate::run) snapshot: Arc<Snapshot>,
    /// The listener, by its name.
    pub(in crate::run) listener: Arc<str>,
    /// The addresses of that listener: one for each proxy that obeys the snapshot; at least one.
    pub(in crate::run) ways: Vec<SocketAddr>,
}

/// One request, sent again and again.
#[derive(Debug)]
pub(in crate::run) struct Aim {
    /// The route, for logs.
    pub(super) name: String,
    /// Where to send it, in turn; at least one.
    pub(super) ways: Vec<SocketAddr>,
    /// What to send.
    pub(super) request: client::Request,
}

/// A request as conditions see it.
#[derive(Debug, PartialEq, Eq)]
struct Draft {
    method: String,
    authority: String,
    path: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
}

/// The requests of these views, and the routes that get none, with the reason.
pub(in crate::run) fn aims(views: &[View]) -> (Vec<Aim>, Vec<String>) {
    let mut aims: Vec<Aim> = Vec::new();
    let mut by_request: HashMap<(Vec<u8>, bool), usize> = HashMap::new();
    let mut left_out = Vec::new();
    for view in views {
        let Some(listener) = view.snapshot.listener(&view.listener) else { continue };
        let is_gateway = &*view.listener != Listener::OUTBOUND;
        for chain in &listener.chains {
            let (Serve::Http(table) | Serve::Detect { http: table, .. }) = &chain.serve else {
                left_out.push(format!("the connections of listener {}: they are no requests", view.listener));
                continue;
            };
            if chain.tls.is_some() {
                left_out.push(format!("the routes behind TLS of listener {}", view.listener));
                continue;
            }
            for (host, route) in table.virtual_hosts.iter().flat_map(|h| h.routes.iter().map(move |r| (h, r))) {
                let name = name(host, route);
                let request = match request(host, route, &view.snapshot) {
                    Ok(request) => request,
                    Err(why) => {
                        left_out.push(format!("{name}: {why}"));
                        continue;
                    }
                };
                // The same request means another thing at a gateway than among workloads, which share their routes.
                let known = by_request.entry((request.bytes.clone(), is_gateway)).or_insert(aims.len());
                match aims.get_mut(*known) {
                    Some(aim) => aim.ways.extend(&view.ways),
                    None => aims.push(Aim { name, ways: view.ways.clone(), request }),
                }
            }
        }
    }
    (aims, left_out)
}

/// Host and target of a plain GET that a view routes, for a person to copy; the host is empty where any will do.
pub(in crate::run) fn example(view: &View) -> Option<(String, String)> {
    let (aims, _) = aims(std::slice::from_ref(view));
    aims.iter().find_map(|aim| {
        let head = str::from_utf8(&aim.request.bytes).ok()?;
        let mut lines = head.trim_end().split("\r\n");
        let target = lines.next()?.strip_prefix("GET ")?.strip_suffix(" HTTP/1.1")?;
        let host = lines.next()?.strip_prefix("host: ")?;
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        // A host and a name of our own is all there may be.
        let plain = lines.next()?.starts_with("user-agent: ") && lines.next().is_none();
        plain.then(|| (if host == ANY_HOST { String::new() } else { host.to_owned() }, target.to_owned()))
    })
}

/// The host of requests to routes that take any.
const ANY_HOST: &str = "load";

fn name(host: &VirtualHost, route: &Route) -> String {
    match &route.origin {
        Some(o) => format!("{} {}/{} rule {} at {}", o.kind, o.namespace, o.name, o.rule, host.name),
        None => format!("route {} at {}", route.name, host.name),
    }
}

/// A request that the route takes.
fn request(host: &VirtualHost, route: &Route, snapshot: &Snapshot) -> Result<client::Request, String> {
    if !stays_here(route, snapshot) {
        return Err("it leads out of this machine".to_owned());
    }
    let draft = Draft::of(host, &route.matches).ok_or("no request could be made of its conditions")?;
    match host.routes.iter().find(|other| draft.is_taken_by(&other.matches)) {
        Some(first) if std::ptr::eq(&**first, route) => {
            draft.write().ok_or("its conditions fit no HTTP/1.1".to_owned())
        }
        Some(first) => Err(format!("route {} before it takes its requests", first.name)),
        None => Err("no request that fulfils its conditions was found".to_owned()),
    }
}

fn stays_here(route: &Route, snapshot: &Snapshot) -> bool {
    let is_here = |name: &ClusterName| match snapshot.clusters.get(name) {
        Some(cluster) => {
            cluster.discovery == Discovery::Static && cluster.endpoints.iter().all(|e| e.address.ip().is_loopback())
        }
        // A cluster that is not there is answered for by the proxy.
        None => name.as_str() != ClusterName::PASSTHROUGH,
    };
    let forward = match &route.action {
        Action::Forward(forward) => &forward.destinations[..],
        Action::Redirect(_) | Action::Respond(_) => &[],
    };
    let mirrors = route.mirrors.iter().map(|mirror| &mirror.cluster);
    forward.iter().map(|destination| &destination.cluster).chain(mirrors).all(is_here)
}

impl Draft {
    /// A request that should fulfil the conditions.
    fn of(host: &VirtualHost, matches: &RouteMatch) -> Option<Self> {
        let wanted = matches.authority.as_ref().and_then(sample::of);
        let authority = match wanted {
            Some(authority) => authority,
            None => authority(&host.domains)?,
        };
        let path = match &matches.path {
            PathMatch::Any => "/".to_owned(),
            PathMatch::Exact(path) | PathMatch::Prefix(path) => path.to_string(),
            PathMatch::Segments(path) if path.is_empty() => "/".to_owned(),
            PathMatch::Segments(path) => path.to_string(),
            PathMatch::Regex(pattern) if pattern.matches(b"/") => "/".to_owned(),
            PathMatch::Regex(pattern) => sample::of_pattern(pattern)?,
        };
        let mut headers = Vec::new();
        for condition in matches.headers.iter().filter(|condition| !condition.invert) {
            headers.push((condition.name.as_str().to_owned(), value(&condition.value)?));
        }
        let mut query = Vec::new();
        for QueryMatch { name, value: wanted } in &matches.query {
            query.push((name.to_string(), value(wanted)?));
        }
        let method = matches.method.as_ref().map_or_else(|| Some("GET".to_owned()), sample::of)?;
        Some(Self { method, authority, path, query, headers })
    }

    /// Whether the conditions hold.
    fn is_taken_by(&self, matches: &RouteMatch) -> bool {
        let is = |condition: &Option<StringMatch>, text: &str| {
            condition.as_ref().is_none_or(|condition| condition.matches(text.as_bytes()))
        };
        self.path_fits(matches)
            && is(&matches.method, &self.method)
            && is(&matches.scheme, "http")
            && is(&matches.authority, &self.authority)
            && matches.headers.iter().all(|condition| self.header_fits(condition))
            && matches.query.iter().all(|QueryMatch { name, value }| {
                let found = self.query.iter().find(|(n, _)| *n == **name).map(|(_, found)| found);
                found.is_some_and(|found| fits(value, found))
            })
    }

    fn path_fits(&self, matches: &RouteMatch) -> bool {
        let fold = |text: &str| if matches.path_ignore_case { text.to_ascii_lowercase() } else { text.to_owned() };
        let path = fold(&self.path);
        match &matches.path {
            PathMatch::Any => true,
            PathMatch::Exact(want) => path == fold(want),
            PathMatch::Prefix(want) => path.starts_with(&fold(want)),
            PathMatch::Segments(want) => {
                path.strip_prefix(&*fold(want)).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            PathMatch::Regex(pattern) => pattern.matches(self.path.as_bytes()),
        }
    }

    fn header_fits(&self, condition: &HeaderMatch) -> bool {
        let mut values = self.headers.iter().filter(|(name, _)| name == condition.name.as_str()).map(|(_, v)| &**v);
        let joined = values.next().map(|first| values.fold(first.to_owned(), |all, next| format!("{all},{next}")));
        match (joined, condition.invert) {
            (Some(joined), invert) => fits(&condition.value, &joined) != invert,
            (None, false) => false,
            (None, true) => !matches!(&condition.value, ValueMatch::String(wanted) if wanted.matches(b"")),
        }
    }

    /// The bytes; `None` where something in it cannot be written.
    fn write(&self) -> Option<client::Request> {
        let is_value = |text: &str| text.bytes().all(|byte| byte == b'\t' || (0x20..0x7f).contains(&byte));
        let is_word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        let headers_are_legal = self.headers.iter().all(|(_, value)| is_value(value) && value.trim() == value);
        let is_method = is_word(&self.method) && self.method != "CONNECT";
        if !is_method || !is_word(&self.authority) || !self.path.starts_with('/') || !headers_are_legal {
            return None;
        }
        let query: Vec<String> = self.query.iter().map(|(n, v)| format!("{}={}", encode(n), encode(v))).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        let target = format!("{}{mark}{}", encode_path(&self.path), query.join("&"));
        let mut head = format!("{} {target} HTTP/1.1\r\nhost: {}\r\n", self.method, self.authority);
        if !self.headers.iter().any(|(name, _)| name == "user-agent") {
            head.push_str(concat!("user-agent: outrigger-load/", env!("CARGO_PKG_VERSION"), "\r\n"));
        }
        for (name, value) in &self.headers {
            // What frames a request is not ours to play with, and nothing else may contradict the line above.
            if ["host", "content-length", "transfer-encoding", "connection", "upgrade", "expect", "te", "trailer"]
                .contains(&name.as_str())
            {
                return None;
            }
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let has_body = matches!(self.method.as_str(), "POST" | "PUT" | "PATCH");
        head.push_str(if has_body { "content-length: 0\r\n\r\n" } else { "\r\n" });
        let is_idempotent = matches!(self.method.as_str(), "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "TRACE");
        Some(client::Request { bytes: head.into_bytes(), is_head: self.method == "HEAD", is_idempotent })
    }
}

fn value(condition: &ValueMatch) -> Option<String> {
    match condition {
        ValueMatch::Present => Some("x".to_owned()),
        ValueMatch::String(condition) => sample::of(condition),
    }
}

fn fits(condition: &ValueMatch, value: &str) -> bool {
    match condition {
        ValueMatch::Present => true,
        ValueMatch::String(condition) => condition.matches(value.as_bytes()),
    }
}

/// What to write into `Host`: an exact name with its port if there is one, else a name that a pattern takes in.
fn authority(domains: &[Domain]) -> Option<String> {
    let rank = |domain: &&Domain| match (&domain.host, domain.port) {
        (HostPattern::Exact(_), DomainPort::Exact(_)) => 0,
        (HostPattern::Exact(_), _) => 1,
        (HostPattern::Suffix(_), _) => 2,
        (HostPattern::Prefix(_), _) => 3,
        (HostPattern::Any, _) => 4,
    };
    let domain = domains.iter().min_by_key(rank)?;
    let host = match &domain.host {
        HostPattern::Exact(host) => host.to_string(),
        HostPattern::Suffix(suffix) => format!("www{suffix}"),
        HostPattern::Prefix(prefix) => format!("{prefix}test"),
        HostPattern::Any => ANY_HOST.to_owned(),
    };
    Some(match domain.port {
        DomainPort::Exact(port) => format!("{host}:{port}"),
        DomainPort::Unstated | DomainPort::Any => host,
    })
}

/// Percent-encodes what has a meaning of its own in a query.
fn encode(text: &str) -> String {
    escape(text, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

/// Percent-encodes what cannot stand in a path. A percent sign stays: conditions see paths as they are sent.
fn encode_path(path: &str) -> String {
    escape(path, |byte| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&byte))
}

fn escape(text: &str, stays: impl Fn(u8) -> bool) -> String {
    let one = |byte: u8| if stays(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests;
