//! Routing: which virtual host answers for a host name, which of its routes matches, and what that route does.

use std::sync::Arc;
use std::time::Duration;

use crate::{
    BodyLimits, ClusterName, Fault, HeaderEdits, HeaderMatch, HeaderName, HeaderValue, Mirror, Pattern, Place,
    QueryMatch, RateLimit, RetryPolicy, StringMatch,
};

/// The routes of one listener.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteTable {
    /// Virtual hosts; no two claim the same domain.
    pub virtual_hosts: Vec<Arc<VirtualHost>>,
    /// What happens to a host that no virtual host claims.
    pub unmatched: Unmatched,
}

/// What happens to an unknown host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmatched {
    /// `outboundTrafficPolicy: ALLOW_ANY`: on to the address the client asked for, as `PassthroughCluster`.
    Passthrough,
    /// `REGISTRY_ONLY`: 502, as `BlackHoleCluster`.
    BlackHole,
    /// 404: a gateway, or a container's port, knows its hosts.
    NotFound,
}

/// A virtual host.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualHost {
    /// `reviews.default.svc.cluster.local:9080`.
    pub name: Arc<str>,
    /// The host names it answers to.
    pub domains: Vec<Domain>,
    /// Its routes: the first match in this order wins.
    pub routes: Vec<Arc<Route>>,
}

/// A host name, perhaps a wildcard, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Domain {
    /// Which hosts.
    pub host: HostPattern,
    /// Which ports.
    pub port: DomainPort,
}

/// Host names, always lower case, without port and without trailing dot.
///
/// The order of preference is Envoy's: exact, longest suffix, longest prefix, any.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This name.
    Exact(Arc<str>),
    /// `*.example.com`, held as `.example.com`: at least one more label in front.
    Suffix(Arc<str>),
    /// `example.*`, held as `example.`.
    Prefix(Arc<str>),
    /// `*`.
    Any,
}

/// The port of a request is the one in its Host, else the original destination's, else 80.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DomainPort {
    /// This port.
    Exact(u16),
    /// Requests whose Host names no port, when no domain with [`Self::Exact`] of the request's port claims the host.
    Unstated,
    /// Every port; comes after the other two.
    Any,
}

/// A route.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Name for logs: `http[].name`, followed by `.` and `match[].name`; `default` where there is none.
    pub name: Arc<str>,
    /// The object it came from.
    pub origin: Option<Arc<Origin>>,
    /// When it applies.
    pub matches: RouteMatch,
    /// What it does.
    pub action: Action,
    /// Header operations on the request, after those of the destination: the route's `set` wins, as in Envoy.
    pub request_headers: HeaderEdits,
    /// Header operations on the response, after those of the destination.
    pub response_headers: HeaderEdits,
    /// Cross-origin policy.
    pub cors: Option<Cors>,
    /// `timeout` (HTTPRoute `timeouts.request`): from the end of the request to the end of its answer. `None`: none.
    pub timeout: Option<Duration>,
    /// `retries`.
    pub retry: Option<RetryPolicy>,
    /// `fault`: comes before [`Self::timeout`] and [`Self::retry`], which are for requests that it passes over.
    pub fault: Option<Fault>,
    /// Limits on its requests, each of which must let one pass.
    pub rate_limits: Vec<Arc<RateLimit>>,
    /// Limits on bodies.
    pub body_limits: BodyLimits,
    /// `mirror` and `mirrors` (HTTPRoute `RequestMirror`): who gets a copy of the request.
    pub mirrors: Vec<Mirror>,
}

/// The object and rule a route came from: the labels of `outrigger_route_requests_total`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// `VirtualService`, `HTTPRoute`, `TrafficSplit`, or `Service` for a default route.
    pub kind: Arc<str>,
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// Rule: its name, else its index from 0.
    pub rule: Arc<str>,
    /// Where it stands.
    pub place: Option<Place>,
}

/// Conditions, all of which must hold. The default matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteMatch {
    /// On the path, without query.
    pub path: PathMatch,
    /// Whether exact and prefix paths ignore ASCII case (`ignoreUriCase`).
    pub path_ignore_case: bool,
    /// On the method.
    pub method: Option<StringMatch>,
    /// On the scheme.
    pub scheme: Option<StringMatch>,
    /// On the authority as sent, lower case.
    pub authority: Option<StringMatch>,
    /// On headers.
    pub headers: Vec<HeaderMatch>,
    /// On query parameters.
    pub query: Vec<QueryMatch>,
}

/// A condition on the path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PathMatch {
    /// None.
    #[default]
    Any,
    /// The whole path.
    Exact(Arc<str>),
    /// How the path begins, character by character (Istio `uri.prefix`): `/foo` matches `/foobar`.
    Prefix(Arc<str>),
    /// How the path begins, segment by segment (Gateway API `PathPrefix`): `/foo` matches `/foo` and `/foo/bar`, not
    /// `/foobar`. Held without trailing slash; `/` is held as the empty text and matches everything. A rewrite or redirect
    /// that replaces the matched prefix keeps whole segments, too.
    Segments(Arc<str>),
    /// RE2, whole path.
    Regex(Pattern),
}

/// What a route does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Sends the request on.
    Forward(Forward),
    /// Answers with a redirect.
    Redirect(Redirect),
    /// Answers itself.
    Respond(DirectResponse),
}

/// Sends the request to one of several destinations.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// At least one; the weights have a positive sum.
    pub destinations: Vec<Destination>,
    /// Changes of path and authority.
    pub rewrite: Rewrite,
}

/// One destination with its share.
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    /// The cluster it names.
    pub cluster: ClusterName,
    /// Set when that cluster cannot be: the share is kept and answered with this.
    pub missing: Option<Missing>,
    /// Relative weight.
    pub weight: u32,
    /// The authority to send on with, where the route's `rewrite` has none.
    pub authority: Option<HeaderValue>,
    /// Header operations on the request, before those of the route.
    pub request_headers: HeaderEdits,
    /// Header operations on the response, before those of the route.
    pub response_headers: HeaderEdits,
}

/// Why a destination has no cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// 503 for Istio and SMI, 500 for Gateway API.
    pub status: u16,
    /// A sentence that says what to look at.
    pub reason: Arc<str>,
}

/// Changes of path and authority before the request is sent on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// The path.
    pub path: PathRewrite,
    /// The authority.
    pub authority: Option<HeaderValue>,
}

/// A change of the path; the query stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PathRewrite {
    /// None.
    #[default]
    Keep,
    /// The matched prefix is replaced (`rewrite.uri` with a prefix match).
    Prefix(Arc<str>),
    /// The whole path is replaced (`rewrite.uri` otherwise).
    Full(Arc<str>),
    /// Every match is replaced (`uriRegexRewrite`); `\1` names a group.
    Regex {
        /// What to look for.
        pattern: Pattern,
        /// What to put there.
        substitution: Arc<str>,
    },
}

/// A redirect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// New scheme.
    pub scheme: Option<Arc<str>>,
    /// New host, perhaps with port.
    pub authority: Option<HeaderValue>,
    /// New port.
    pub port: RedirectPort,
    /// New path.
    pub path: RedirectPath,
}

/// The port of a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectPort {
    /// That of the request, unless the authority changes, or the scheme does and the port was the old one's default.
    Keep,
    /// This one.
    Exact(u16),
    /// None: the default of the scheme (`FROM_PROTOCOL_DEFAULT`).
    ProtocolDefault,
    /// The port the request came in on (`FROM_REQUEST_PORT`).
    Request,
}

/// The path of a redirect; the query stays unless a full path brings its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedirectPath {
    /// That of the request.
    Keep,
    /// This one (`uri`).
    Full(Arc<str>),
    /// The matched prefix replaced (`prefixRewrite`).
    Prefix(Arc<str>),
}

/// An answer from configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectResponse {
    /// 200 to 599.
    pub status: u16,
    /// At most 1 MiB.
    pub body: Arc<[u8]>,
}

/// Cross-origin resource sharing (Istio `corsPolicy`, Gateway API `CORS`). The values are the same; what differs between
/// the two APIs stands at the fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Origins that may ask. Istio's are its `StringMatch`es. Gateway API's `*` is `Exact("*")`; its others are
    /// expressions without case, such as `(?i)https://www\.foo\.com(:443)?`: the scheme's default port may be stated or
    /// not, `*.` in front stands for one label or more (`[^/:]+\.`), `*` alone for any host (`[^/:\[]+|\[[^/]+\]`, in a
    /// group).
    pub origins: Vec<StringMatch>,
    /// `Access-Control-Allow-Methods`; a lone `*`: what was asked.
    pub methods: Vec<Arc<str>>,
    /// `Access-Control-Allow-Headers`; a lone `*`: what was asked.
    pub headers: Vec<HeaderName>,
    /// `Access-Control-Expose-Headers`; `*` is left out with credentials, where it means nothing.
    pub expose: Vec<HeaderName>,
    /// `Access-Control-Max-Age`. Gateway API's default is 5 s; Istio has none.
    pub max_age: Option<Duration>,
    /// `Access-Control-Allow-Credentials`.
    pub credentials: bool,
    /// Whether a preflight of a foreign origin goes to the application (`unmatchedPreflights: FORWARD`, the default)
    /// or is answered without permission (`IGNORE`, and always with Gateway API).
    pub forward_unmatched_preflights: bool,
}
