//! A snapshot as text: one line a virtual host, route, cluster; and the helper that compares it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use outrigger_config::kind::resilience::default_retry;
use outrigger_config::loader::load_text;
use outrigger_config::translate::{Forward, View, translate};
use outrigger_model::*;

use crate::listeners::{gateway_view, gateways, listeners};

/// Translates YAML for an anonymous client (`from` empty), a workload `ns/name` or a gateway `istio:ns/name`, `api:ns/name`,
/// each perhaps with forwards behind it, `ns/name > host:port host:port`, and compares what `show` selects.
///
/// The expected text is compared line by line, without indentation and empty lines. `show` is a list of words:
/// `routes` (virtual hosts with routes), `domains` (names of all virtual hosts), `clusters`, `endpoints` (clusters with their
/// endpoints), `findings` (diagnostics of loading and translation but for informational ones), `all-findings`,
/// `services`, `listeners` (with chains, virtual hosts and routes), `gateways` (all gateway proxies); and `host=TEXT` keeps virtual hosts and clusters whose name contains the text.
#[track_caller]
pub(crate) fn check(from: &str, show: &str, yaml: &str, expected: &str) {
    let found = dump(from, show, yaml);
    let lines =
        |text: &str| -> Vec<String> { text.lines().map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect() };
    let (found, expected) = (lines(&found), lines(expected));
    assert!(found == expected, "found:\n{}\n\nexpected:\n{}\n", found.join("\n"), expected.join("\n"));
}

/// What `check` compares.
pub(crate) fn dump(from: &str, show: &str, yaml: &str) -> String {
    let (resources, loading) = load_text("f.yaml", yaml);
    let (from, to) = from.split_once('>').unwrap_or((from, ""));
    let from = from.trim();
    let view = gateway_view(from).unwrap_or_else(|| match from.split_once('/') {
        Some((namespace, name)) => View::of(namespace, name),
        None => View::default(),
    });
    let view = View { forwards: to.split_whitespace().zip(1..).map(forward).collect(), ..view };
    let (snapshot, findings) = translate(&resources, &view);
    let findings: Vec<Diagnostic> = loading.into_iter().chain(findings).collect();
    let mut out = String::new();
    let wanted = |name: &str| show.split(' ').filter_map(|w| w.strip_prefix("host=")).all(|text| name.contains(text));
    for word in show.split(' ') {
        match word {
            "routes" | "domains" => {
                for vhost in &outbound(&snapshot).virtual_hosts {
                    // Ports that speak no HTTP are there for CONNECT alone.
                    let has_routes = word == "domains" || !vhost.routes.is_empty();
                    if wanted(&vhost.name) && has_routes {
                        virtual_host(vhost, word == "domains", &mut out);
                    }
                }
            }
            "clusters" | "endpoints" => {
                let sorted: BTreeMap<&str, &Cluster> =
                    snapshot.clusters.iter().map(|(name, cluster)| (name.as_str(), &**cluster)).collect();
                for (_, found) in sorted.into_iter().filter(|(name, _)| wanted(name)) {
                    cluster(found, word == "endpoints", &mut out);
                }
            }
            "findings" => {
                for finding in findings.iter().filter(|f| f.level != Level::Info) {
                    writeln!(out, "{finding}").unwrap();
                }
            }
            "all-findings" => {
                for finding in &findings {
                    writeln!(out, "{finding}").unwrap();
                }
            }
            "codes" => {
                for finding in &findings {
                    let place = finding.place.as_ref().map(|p| p.line).unwrap_or_default();
                    writeln!(out, "{} {place}", finding.code.0).unwrap();
                }
            }
            "services" => {
                for s in &snapshot.services {
                    writeln!(out, "{}/{} {:?} {}", s.namespace, s.name, s.ports, s.endpoints).unwrap();
                }
            }
            "listeners" => listeners(&snapshot, &mut out),
            "gateways" => gateways(&resources, &mut out),
            "unmatched" => writeln!(out, "{:?}", outbound(&snapshot).unmatched).unwrap(),
            other => assert!(other.starts_with("host="), "unknown word {other:?}"),
        }
    }
    out
}

/// `HOST:PORT`, at port 1, 2, … of 127.0.0.1.
fn forward((to, own): (&str, u16)) -> Forward {
    let (host, port) = to.rsplit_once(':').expect("HOST:PORT");
    let port = port.parse().expect("a port");
    Forward { address: ([127, 0, 0, 1], own).into(), host: host.into(), port }
}

fn virtual_host(vhost: &VirtualHost, domains: bool, out: &mut String) {
    writeln!(out, "{}", vhost.name).unwrap();
    if domains {
        let names: Vec<String> = vhost.domains.iter().map(domain).collect();
        writeln!(out, "  = {}", names.join(" ")).unwrap();
        return;
    }
    for route in &vhost.routes {
        writeln!(out, "  {}", self::route(route)).unwrap();
    }
}

pub(crate) fn domain(domain: &Domain) -> String {
    let host = match &domain.host {
        HostPattern::Exact(name) => name.to_string(),
        HostPattern::Suffix(suffix) => format!("*{suffix}"),
        HostPattern::Prefix(prefix) => format!("{prefix}*"),
        HostPattern::Any => "*".to_owned(),
    };
    match domain.port {
        DomainPort::Exact(port) => format!("{host}:{port}"),
        DomainPort::Unstated => host,
        DomainPort::Any => format!("{host}:*"),
    }
}

/// `NAME [CONDITIONS] -> ACTION`.
pub(crate) fn route(route: &Route) -> String {
    let mut out = format!("{}", route.name);
    let m = &route.matches;
    match &m.path {
        PathMatch::Any => {}
        PathMatch::Exact(p) => write!(out, " path={p}").unwrap(),
        PathMatch::Segments(p) => write!(out, " path={p}/*").unwrap(),
        PathMatch::Prefix(p) => write!(out, " path={p}*").unwrap(),
        PathMatch::Regex(p) => write!(out, " path~{}", p.source()).unwrap(),
    }
    if m.path_ignore_case {
        out.push_str(" nocase");
    }
    for (what, matcher) in [("method", &m.method), ("scheme", &m.scheme), ("authority", &m.authority)] {
        if let Some(matcher) = matcher {
            write!(out, " {what}{}", text(matcher)).unwrap();
        }
    }
    for h in &m.headers {
        let not = if h.invert { "!" } else { "" };
        write!(out, " {not}header:{}{}", h.name, value(&h.value)).unwrap();
    }
    for q in &m.query {
        write!(out, " query:{}{}", q.name, value(&q.value)).unwrap();
    }
    out.push_str(" -> ");
    match &route.action {
        Action::Forward(forward) => {
            let all: Vec<String> = forward.destinations.iter().map(destination).collect();
            out.push_str(&all.join(" "));
            match &forward.rewrite.path {
                PathRewrite::Keep => {}
                PathRewrite::Prefix(p) => write!(out, " prefix:={p}").unwrap(),
                PathRewrite::Full(p) => write!(out, " path:={p}").unwrap(),
                PathRewrite::Regex { pattern, substitution } => {
                    write!(out, " path:s/{}/{substitution}/", pattern.source()).unwrap();
                }
            }
            if let Some(authority) = &forward.rewrite.authority {
                write!(out, " authority:={authority}").unwrap();
            }
        }
        Action::Redirect(r) => write!(
            out,
            "{} scheme={:?} authority={:?} port={:?} path={:?}",
            r.status,
            r.scheme.as_deref().unwrap_or_default(),
            r.authority.as_ref().map_or("", |a| a.as_str()),
            r.port,
            r.path
        )
        .unwrap(),
        Action::Respond(r) => write!(out, "{} {:?}", r.status, String::from_utf8_lossy(&r.body)).unwrap(),
    }
    out.push_str(&edits("request", &route.request_headers));
    out.push_str(&edits("response", &route.response_headers));
    if let Some(timeout) = route.timeout {
        write!(out, " timeout={timeout:?}").unwrap();
    }
    if let Some(retry) = &route.retry {
        out.push_str(&tries(retry));
    }
    if let Some(fault) = &route.fault {
        write!(out, " fault={fault:?}").unwrap();
    }
    for limit in &route.rate_limits {
        let each = if limit.per_source { " each source" } else { "" };
        write!(out, " limit={}/{:?}+{}{each} of {}", limit.requests, limit.interval, limit.burst, limit.key).unwrap();
    }
    let BodyLimits { request_bytes, response_bytes } = route.body_limits;
    for (name, bytes) in [("request", request_bytes), ("response", response_bytes)] {
        if let Some(bytes) = bytes {
            write!(out, " {name}<={bytes}").unwrap();
        }
    }
    for mirror in &route.mirrors {
        write!(out, " mirror={}@{}", mirror.cluster, mirror.share.millionths()).unwrap();
    }
    if let Some(cors) = &route.cors {
        write!(out, " cors={:?}", cors.origins).unwrap();
    }
    out
}

/// What of a retry policy differs from Istio's default.
fn tries(retry: &RetryPolicy) -> String {
    let default = default_retry();
    let mut out = retry.per_try_timeout.map_or_else(String::new, |timeout| format!(" per-try={timeout:?}"));
    let RetryPolicy { attempts, retry_on, status_codes, back_off, .. } = retry;
    let shown = (*attempts, *retry_on, status_codes, *back_off);
    if shown != (default.attempts, default.retry_on, &default.status_codes, default.back_off) {
        write!(out, " tries=1+{attempts}/").unwrap();
        if !back_off.min.is_zero() {
            write!(out, "{:?}+", back_off.min).unwrap();
        }
        let on: Vec<String> = std::iter::once(retry_on.to_string()).chain(ranges(status_codes)).collect();
        write!(out, "{:?}-{:?}:{}", back_off.base, back_off.max, on.join(",")).unwrap();
    }
    for (differs, word) in [
        (retry.remote_localities, "elsewhere"),
        (!retry.avoid_previous_hosts, "same-host"),
        (retry.non_idempotent, "any-method"),
    ] {
        if differs {
            write!(out, " {word}").unwrap();
        }
    }
    out
}

/// `500-504`, `429`.
fn ranges(codes: &[u16]) -> Vec<String> {
    let follows = |a: &u16, b: &u16| *b == *a + 1;
    let range = |codes: &[u16]| match codes {
        [only] => only.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => String::new(),
    };
    codes.chunk_by(follows).map(range).collect()
}

/// `5XX/PERCENT`, and what differs from the defaults.
fn ejections(outlier: &OutlierDetection) -> String {
    let mut out = format!(" outlier={}/{}%", outlier.consecutive_5xx, outlier.ejection_percent_max);
    let seconds = |value: std::time::Duration| value.as_secs_f64();
    for (name, value, default) in [
        ("gateway", f64::from(outlier.consecutive_gateway), 0.0),
        ("every", seconds(outlier.interval), 10.0),
        ("base", seconds(outlier.base_ejection), 30.0),
        ("max", seconds(outlier.ejection_max), 300.0),
        ("jitter", seconds(outlier.ejection_jitter_max), 0.0),
        ("health", f64::from(outlier.health_percent_min), 0.0),
    ] {
        if value != default {
            write!(out, ",{name}={value}").unwrap();
        }
    }
    if outlier.split_local_origin {
        write!(out, ",local={}", outlier.consecutive_local_origin).unwrap();
    }
    if outlier.always_eject_one {
        out.push_str(",one-always");
    }
    if !outlier.error_codes.is_empty() {
        write!(out, ",codes={}", ranges(&outlier.error_codes).join("+")).unwrap();
    }
    if let Some(SuccessRate { enforcing, hosts_min, volume_min, stdev_factor }) = outlier.success_rate {
        write!(out, ",rate={enforcing}/{hosts_min}/{volume_min}/{stdev_factor}").unwrap();
    }
    if let Some(FailurePercentage { enforcing, threshold, hosts_min, volume_min }) = outlier.failure_percentage {
        write!(out, ",failures={enforcing}/{threshold}/{hosts_min}/{volume_min}").unwrap();
    }
    out
}

fn text(matcher: &StringMatch) -> String {
    match matcher {
        StringMatch::Exact(t) => format!("={t}"),
        StringMatch::Prefix(t) => format!("={t}*"),
        StringMatch::Regex(p) => format!("~{}", p.source()),
    }
}

fn value(value: &ValueMatch) -> String {
    match value {
        ValueMatch::Present => "?".to_owned(),
        ValueMatch::String(matcher) => text(matcher),
    }
}

pub(crate) fn destination(destination: &Destination) -> String {
    let mut out = format!("{}*{}", destination.cluster, destination.weight);
    if let Some(missing) = &destination.missing {
        write!(out, "!{}", missing.status).unwrap();
    }
    if let Some(authority) = &destination.authority {
        write!(out, " authority:={authority}").unwrap();
    }
    out.push_str(&edits("request", &destination.request_headers));
    out.push_str(&edits("response", &destination.response_headers));
    out
}

fn edits(what: &str, edits: &HeaderEdits) -> String {
    let mut out = String::new();
    for (name, value) in &edits.set {
        write!(out, " {what}:{name}={value}").unwrap();
    }
    for (name, value) in &edits.add {
        write!(out, " {what}:{name}+={value}").unwrap();
    }
    for name in &edits.remove {
        write!(out, " {what}:-{name}").unwrap();
    }
    out
}

/// `NAME BALANCE [what differs from the defaults]`.
fn cluster(cluster: &Cluster, endpoints: bool, out: &mut String) {
    write!(out, "{}", cluster.name).unwrap();
    let policy = match &cluster.balance.policy {
        BalancePolicy::RoundRobin => "rr".to_owned(),
        BalancePolicy::LeastRequest => "least".to_owned(),
        BalancePolicy::Random => "random".to_owned(),
        BalancePolicy::Passthrough => "passthrough".to_owned(),
        BalancePolicy::RingHash { ring_size_min, key } => format!("ring({ring_size_min},{key:?})"),
        BalancePolicy::Maglev { table_size, key } => format!("maglev({table_size},{key:?})"),
    };
    write!(out, " {policy}").unwrap();
    if cluster.balance.locality == LocalityMode::Weighted {
        out.push_str(" weighted");
    }
    if let Some(w) = cluster.balance.warmup {
        write!(out, " warmup={:?}/{}/{}", w.duration, w.minimum_ratio, w.aggression).unwrap();
    }
    match cluster.discovery {
        Discovery::Static | Discovery::PodName => {}
        Discovery::OriginalDestination => out.push_str(" original"),
        Discovery::Dns => out.push_str(" dns"),
        Discovery::DnsRoundRobin => out.push_str(" dns-in-turns"),
    }
    match cluster.http {
        UpstreamHttp::Http1 => {}
        UpstreamHttp::Http2 => out.push_str(" h2"),
        UpstreamHttp::AsClient => out.push_str(" as-client"),
    }
    if let Some(version) = cluster.proxy_protocol {
        write!(out, " proxy={version:?}").unwrap();
    }
    if cluster.connect_timeout.as_secs() != 10 {
        write!(out, " connect={:?}", cluster.connect_timeout).unwrap();
    }
    if cluster.pool != ConnectionPool::default() {
        write!(out, " pool").unwrap();
        for (name, value) in [
            ("connections", cluster.pool.connections_max),
            ("pending", cluster.pool.pending_max),
            ("requests", cluster.pool.requests_max),
            ("retries", cluster.pool.retries_max),
            ("per-connection", cluster.pool.requests_per_connection_max),
            ("streams", cluster.pool.streams_max),
        ] {
            if let Some(value) = value {
                write!(out, ",{name}={value}").unwrap();
            }
        }
        for (name, value) in [
            ("idle", cluster.pool.idle_timeout),
            ("tcp-idle", cluster.pool.tcp_idle_timeout),
            ("age", cluster.pool.connection_duration_max),
        ] {
            if let Some(value) = value {
                write!(out, ",{name}={value:?}").unwrap();
            }
        }
        if let Some(keepalive) = cluster.pool.keepalive {
            let TcpKeepalive { probes, time, interval } = keepalive;
            let seconds = |value: Option<std::time::Duration>| value.map_or(-1, |v| v.as_secs() as i64);
            write!(out, ",tcp-alive={}/{}/{}", probes.map_or(-1, i64::from), seconds(time), seconds(interval)).unwrap();
        }
        if let Some(Http2KeepAlive { interval, timeout }) = cluster.pool.http2_keepalive {
            write!(out, ",ping={interval:?}/{timeout:?}").unwrap();
        }
    }
    if let Some(outlier) = &cluster.outlier {
        out.push_str(&ejections(outlier));
    }
    if let Some(RetryBudget { percent, concurrency_min, interval }) = cluster.retry_budget {
        write!(out, " budget={}/{concurrency_min}/{interval:?}", percent.millionths()).unwrap();
    }
    if let Some(breaker) = &cluster.breaker {
        write!(out, " {}", crate::breakers::text(breaker)).unwrap();
    }
    if let Some(tls) = &cluster.tls {
        write!(out, " tls={:?}", tls.mode).unwrap();
    }
    if let Some(rule) = &cluster.destination_rule {
        write!(out, " by={rule}").unwrap();
    }
    writeln!(out, " [{}]", cluster.endpoints.len() + cluster.names.len()).unwrap();
    if !endpoints {
        return;
    }
    for e in &cluster.endpoints {
        let lots = (e.weight, e.priority, e.locality_weight);
        instance(&e.address.to_string(), &e.workload, lots, &e.locality, out);
    }
    for n in &cluster.names {
        let lots = (n.weight, n.priority, n.locality_weight);
        instance(&format!("{}:{}", n.host, n.port), &n.workload, lots, &n.locality, out);
    }
}

/// `WHERE NAMESPACE/NAME [what differs from the defaults]`; `lots` are weight, priority and weight of the locality.
fn instance(place: &str, w: &Workload, lots: (u32, u32, u32), locality: &Locality, out: &mut String) {
    write!(out, "  {place} {}/{} app={} version={}", w.namespace, w.name, w.app, w.version).unwrap();
    if !w.pod.is_empty() {
        write!(out, " pod={}", w.pod).unwrap();
    }
    if !w.principal.is_empty() {
        write!(out, " {}", w.principal).unwrap();
    }
    for (name, value, default) in [("weight", lots.0, 1), ("priority", lots.1, 0), ("locality-weight", lots.2, 0)] {
        if value != default {
            write!(out, " {name}={value}").unwrap();
        }
    }
    if *locality != Locality::default() {
        write!(out, " at={locality}").unwrap();
    }
    out.push('\n');
}

/// A Service `NAME` with one HTTP port 9080 in namespace `NS`, backed by a slice for each version at 127.0.0.1 and the
/// given port: `service("default", "reviews", &[("v1", 9001), ("v2", 9002)])`.
pub(crate) fn service(namespace: &str, name: &str, versions: &[(&str, u16)]) -> String {
    let mut yaml = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{selector: {{app: {name}}}, ports: [{{name: http, port: 9080}}]}}\n---\n"
    );
    for (version, port) in versions {
        write!(
            yaml,
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}-{version}, namespace: {namespace}, \
             labels: {{kubernetes.io/service-name: {name}, version: {version}}}}}\naddressType: IPv4\n\
             ports: [{{name: http, port: {port}}}]\nendpoints: [{{addresses: [127.0.0.1]}}]\n---\n"
        )
        .unwrap();
    }
    yaml
}

/// The routes of the outbound listener.
pub(crate) fn outbound(snapshot: &Snapshot) -> &RouteTable {
    let listener = snapshot.listener(Listener::OUTBOUND).expect("an outbound listener");
    listener.route_tables().next().expect("it speaks HTTP")
}
