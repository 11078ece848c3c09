//! Filters of an HTTPRoute or GRPCRoute: what happens to a request on its way, for a whole rule or for one of its backends.
//!
//! A filter has a `type` and one field of the same name. Which filters the data plane can obey at which level is the
//! translation's business.

use std::sync::Arc;

use outrigger_model::{Cors, Fraction, HeaderName, HeaderValue};

use super::cors::read_route_cors;
use super::gateway_refs::{self, BackendObjectRef, at_most, distinct, text};
use super::header_edits::{HeaderOperations, editable, is_authority};
use super::http_route_match::is_path;
use super::istio::{header_name, header_value};
use super::virtual_service::path_text;
use crate::choices;
use crate::codes;
use crate::decode::{Cx, Decode, Fields};
use crate::node::{Node, Pos, Spanned};
use crate::object;
use crate::scalar;

choices! {
    /// `type` of a filter.
    pub enum FilterType {
        /// RequestHeaderModifier.
        RequestHeaderModifier = "RequestHeaderModifier",
        /// ResponseHeaderModifier.
        ResponseHeaderModifier = "ResponseHeaderModifier",
        /// RequestMirror.
        RequestMirror = "RequestMirror",
        /// RequestRedirect.
        RequestRedirect = "RequestRedirect",
        /// URLRewrite.
        UrlRewrite = "URLRewrite",
        /// ExtensionRef.
        ExtensionRef = "ExtensionRef",
        /// CORS.
        Cors = "CORS",
        /// ExternalAuth.
        ExternalAuth = "ExternalAuth",
    }
}

impl FilterType {
    /// The field that a filter of this type has.
    fn field(self) -> &'static str {
        match self {
            Self::RequestHeaderModifier => "requestHeaderModifier",
            Self::ResponseHeaderModifier => "responseHeaderModifier",
            Self::RequestMirror => "requestMirror",
            Self::RequestRedirect => "requestRedirect",
            Self::UrlRewrite => "urlRewrite",
            Self::ExtensionRef => "extensionRef",
            Self::Cors => "cors",
            Self::ExternalAuth => "externalAuth",
        }
    }
}

/// What a filter does.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// `requestHeaderModifier`.
    RequestHeaders(HeaderOperations),
    /// `responseHeaderModifier`.
    ResponseHeaders(HeaderOperations),
    /// `requestMirror`.
    Mirror(MirrorFilter),
    /// `requestRedirect`.
    Redirect(RedirectFilter),
    /// `urlRewrite`.
    Rewrite(RewriteFilter),
    /// `extensionRef`.
    Extension(ExtensionRef),
    /// `cors`.
    Cors(Cors),
    /// `externalAuth`.
    ExternalAuth(Box<ExternalAuth>),
}

impl Filter {
    /// Its `type`.
    pub fn kind(&self) -> FilterType {
        match self {
            Self::RequestHeaders(_) => FilterType::RequestHeaderModifier,
            Self::ResponseHeaders(_) => FilterType::ResponseHeaderModifier,
            Self::Mirror(_) => FilterType::RequestMirror,
            Self::Redirect(_) => FilterType::RequestRedirect,
            Self::Rewrite(_) => FilterType::UrlRewrite,
            Self::Extension(_) => FilterType::ExtensionRef,
            Self::Cors(_) => FilterType::Cors,
            Self::ExternalAuth(_) => FilterType::ExternalAuth,
        }
    }

    /// The prefix that a redirect or rewrite puts in place of the matched one.
    pub fn replaced_prefix(&self) -> Option<&Arc<str>> {
        let path = match self {
            Self::Redirect(redirect) => redirect.path.as_ref(),
            Self::Rewrite(rewrite) => rewrite.path.as_ref(),
            _ => None,
        };
        match path {
            Some(PathModifier::Prefix(prefix)) => Some(prefix),
            Some(PathModifier::Full(_)) | None => None,
        }
    }
}

impl Decode for Filter {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let mut fields = Fields::of(node, cx)?;
        let kind: Option<FilterType> = fields.required("type", cx);
        // All that are there are read, so that all their problems are told at once.
        let mut found = common(&mut fields, cx);
        found.extend([
            fields.optional("requestRedirect", cx).map(Self::Redirect),
            fields.optional("urlRewrite", cx).map(Self::Rewrite),
            fields.with("cors", cx, read_route_cors).map(Self::Cors),
            fields.optional("externalAuth", cx).map(Self::ExternalAuth),
        ]);
        let own = only(kind, found, &mut fields, cx);
        fields.finish(cx);
        own
    }
}

/// The filters that HTTPRoutes and GRPCRoutes have in common, as far as a mapping has them.
pub(super) fn common(fields: &mut Fields<'_, '_>, cx: &mut Cx) -> Vec<Option<Filter>> {
    vec![
        fields.with("requestHeaderModifier", cx, request_edits).map(Filter::RequestHeaders),
        fields.with("responseHeaderModifier", cx, response_edits).map(Filter::ResponseHeaders),
        fields.optional("requestMirror", cx).map(Filter::Mirror),
        fields.optional("extensionRef", cx).map(Filter::Extension),
    ]
}

/// The one filter of what a mapping has; all others are reported.
pub(super) fn only(
    kind: Option<FilterType>,
    found: Vec<Option<Filter>>,
    fields: &mut Fields<'_, '_>,
    cx: &mut Cx,
) -> Option<Filter> {
    let (kind, pos) = (kind?, fields.pos());
    if !fields.has(kind.field()) {
        let message = format!("required field `{}` is missing for type `{}`", kind.field(), kind.as_str());
        cx.report(codes::SCHEMA, pos, message, "");
    }
    let mut own = None;
    for filter in found.into_iter().flatten() {
        if filter.kind() == kind {
            own = Some(filter);
        } else {
            let field = filter.kind().field();
            let message = format!("`{field}` is given, and the type is `{}`", kind.as_str());
            cx.report(codes::SCHEMA, pos, message, "a filter does one thing; write two filters");
        }
    }
    own
}

/// Reports filters that cannot stand in one list; called with its path.
pub(super) fn check_filters(filters: &[Spanned<Filter>], cx: &mut Cx) {
    for (index, filter) in filters.iter().enumerate() {
        let earlier = |kind: FilterType| filters[..index].iter().any(|f| f.kind() == kind);
        let kind = filter.kind();
        let excludes = match kind {
            FilterType::RequestRedirect => Some(FilterType::UrlRewrite),
            FilterType::UrlRewrite => Some(FilterType::RequestRedirect),
            _ => None,
        };
        let (message, hint) = if let Some(other) = excludes.filter(|other| earlier(*other)) {
            let message = format!("found {} after {}, expected one of them", kind.as_str(), other.as_str());
            (message, "a redirected request is not sent on")
        } else if earlier(kind) && !matches!(kind, FilterType::RequestMirror | FilterType::ExtensionRef) {
            (format!("found a second {} filter, expected one", kind.as_str()), "put both into one filter")
        } else {
            continue;
        };
        cx.at_index(index, |cx| cx.report(codes::SCHEMA, filter.pos, message, hint));
    }
}

fn request_edits(node: &Node<'_>, cx: &mut Cx) -> Option<HeaderOperations> {
    edits(node, cx, true)
}

fn response_edits(node: &Node<'_>, cx: &mut Cx) -> Option<HeaderOperations> {
    edits(node, cx, false)
}

/// `set`, `add` and `remove`. Of a request, `Host` is its authority.
fn edits(node: &Node<'_>, cx: &mut Cx, request: bool) -> Option<HeaderOperations> {
    let mut fields = Fields::of(node, cx)?;
    let mut operations = HeaderOperations::default();
    // `set` is read last so that its authority wins.
    for field in ["add", "set"] {
        let listed: Vec<Spanned<HeaderField>> = fields.or_default_with(field, cx, distinct(16));
        let mut pairs: Vec<(HeaderName, HeaderValue)> = Vec::with_capacity(listed.len());
        for item in listed {
            let HeaderField { name, value } = item.value;
            if request && is_authority(&name) {
                operations.authority = Some(value);
                continue;
            }
            let Some(name) = editable(&name, item.pos, cx) else { continue };
            if pairs.iter().any(|(known, _)| *known == name) {
                let message = format!("{field}: header {:?} is named twice, and only the first counts", name.as_str());
                cx.report(codes::NO_EFFECT, item.pos, message, "remove one of the two");
                continue;
            }
            pairs.push((name, value));
        }
        match field {
            "add" => operations.edits.add = pairs,
            _ => operations.edits.set = pairs,
        }
    }
    let removed: Vec<Spanned<Arc<str>>> = fields.or_default_with("remove", cx, distinct(16));
    fields.finish(cx);
    for name in removed {
        if request && is_authority(&name) {
            cx.report(codes::NO_EFFECT, name.pos, "`Host` cannot be removed: every request needs one", "");
            continue;
        }
        operations.edits.remove.extend(editable(&name, name.pos, cx));
    }
    Some(operations)
}

/// One of `set` or `add`.
struct HeaderField {
    name: Arc<str>,
    value: HeaderValue,
}

impl Decode for HeaderField {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let mut fields = Fields::of(node, cx)?;
        let name = fields.required_with("name", cx, |node, cx| {
            let text = scalar::non_empty(node, cx)?;
            header_name(&text, node.pos, cx).map(|_| text)
        });
        let value = fields.required_with("value", cx, |node, cx| {
            let text = scalar::non_empty(node, cx)?;
            header_value(&text, node.pos, cx)
        });
        fields.finish(cx);
        Some(Self { name: name?, value: value? })
    }
}

object! {
    /// `requestMirror`.
    pub struct MirrorFilter {
        /// `backendRef`.
        pub backend: Spanned<BackendObjectRef> = required "backendRef",
        /// `percent`; all when this and `fraction` are absent.
        pub percent: Option<u32> = with(scalar::within(0..=100)) "percent",
        /// `fraction`.
        pub fraction: Option<FractionSpec> = optional "fraction",
    }
    check check_mirror
}

impl MirrorFilter {
    /// The share of requests that is copied.
    pub fn share(&self) -> Fraction {
        let share = match (&self.percent, &self.fraction) {
            (Some(percent), _) => Fraction::from_ratio(*percent, 100),
            (None, Some(fraction)) => Fraction::from_ratio(fraction.numerator, fraction.whole()),
            (None, None) => None,
        };
        share.unwrap_or(Fraction::ALL)
    }
}

fn check_mirror(mirror: &MirrorFilter, pos: Pos, cx: &mut Cx) {
    if mirror.percent.is_some() && mirror.fraction.is_some() {
        cx.report(codes::SCHEMA, pos, "`percent` and `fraction` are both given, expected one of them", "");
    }
}

object! {
    /// `fraction` of a mirror.
    pub struct FractionSpec {
        /// `numerator`.
        pub numerator: u32 = required_with(scalar::within(0..=i32::MAX.into())) "numerator",
        /// `denominator`, 100 when absent.
        pub denominator: Option<u32> = with(scalar::within(1..=i32::MAX.into())) "denominator",
    }
    check check_fraction
}

impl FractionSpec {
    fn whole(&self) -> u32 {
        self.denominator.unwrap_or(100)
    }
}

fn check_fraction(fraction: &FractionSpec, pos: Pos, cx: &mut Cx) {
    if fraction.numerator > fraction.whole() {
        let message = format!("{} of {} is more than everything", fraction.numerator, fraction.whole());
        cx.report(codes::SCHEMA, pos, message, "the numerator is at most the denominator");
    }
}

/// `path` of a redirect or rewrite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathModifier {
    /// `ReplaceFullPath`.
    Full(Arc<str>),
    /// `ReplacePrefixMatch`: whole segments, so with or without trailing slash is the same.
    Prefix(Arc<str>),
}

choices! {
    /// `path.type` of a redirect or rewrite.
    pub enum PathModifierType {
        /// The whole path.
        Full = "ReplaceFullPath",
        /// The matched prefix.
        Prefix = "ReplacePrefixMatch",
    }
}

impl Decode for PathModifier {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let mut fields = Fields::of(node, cx)?;
        let kind: Option<PathModifierType> = fields.required("type", cx);
        let full = fields.with("replaceFullPath", cx, replacement).map(Self::Full);
        let prefix = fields.with("replacePrefixMatch", cx, replacement).map(Self::Prefix);
        let given = (fields.has("replaceFullPath"), fields.has("replacePrefixMatch"));
        fields.finish(cx);
        let kind = kind?;
        let (own, other) = match kind {
            PathModifierType::Full => (("replaceFullPath", given.0), ("replacePrefixMatch", given.1)),
            PathModifierType::Prefix => (("replacePrefixMatch", given.1), ("replaceFullPath", given.0)),
        };
        if !own.1 {
            let message = format!("required field `{}` is missing for type `{}`", own.0, kind.as_str());
            cx.report(codes::SCHEMA, node.pos, message, "");
        }
        if other.1 {
            let message = format!("`{}` is given, and the type is `{}`", other.0, kind.as_str());
            cx.report(codes::SCHEMA, node.pos, message, "");
        }
        match kind {
            PathModifierType::Full => full,
            PathModifierType::Prefix => prefix,
        }
    }
}

fn replacement(node: &Node<'_>, cx: &mut Cx) -> Option<Arc<str>> {
    const CHARS_MAX: usize = 1024;
    let path = path_text(node, cx)?;
    if path.chars().count() > CHARS_MAX {
        cx.mismatch(node, "a path of at most 1024 characters");
        return None;
    }
    Some(path)
}

choices! {
    /// `requestRedirect.scheme`.
    pub enum Scheme {
        /// http.
        Http = "http",
        /// https.
        Https = "https",
    }
}

object! {
    /// `requestRedirect`.
    pub struct RedirectFilter {
        /// `scheme`.
        pub scheme: Option<Scheme> = optional "scheme",
        /// `hostname`.
        pub hostname: Option<Arc<str>> = with(gateway_refs::precise_hostname) "hostname",
        /// `path`.
        pub path: Option<PathModifier> = optional "path",
        /// `port`.
        pub port: Option<u16> = with(scalar::port) "port",
        /// `statusCode`, 302 when absent.
        pub status: Option<u16> = with(redirect_status) "statusCode",
    }
}

fn redirect_status(node: &Node<'_>, cx: &mut Cx) -> Option<u16> {
    let status = scalar::within::<u16>(0..=999)(node, cx)?;
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        cx.mismatch(node, "301, 302, 303, 307 or 308");
        return None;
    }
    Some(status)
}

object! {
    /// `urlRewrite`.
    pub struct RewriteFilter {
        /// `hostname`.
        pub hostname: Option<Arc<str>> = with(gateway_refs::precise_hostname) "hostname",
        /// `path`.
        pub path: Option<PathModifier> = optional "path",
    }
}

object! {
    /// `extensionRef`: a filter that an implementation brings; there is none here.
    pub struct ExtensionRef {
        /// `group`.
        pub group: Arc<str> = required_with(gateway_refs::group) "group",
        /// `kind`.
        pub kind: Arc<str> = required_with(gateway_refs::kind_name) "kind",
        /// `name`.
        pub name: Arc<str> = required_with(gateway_refs::object_name) "name",
    }
}

choices! {
    /// `externalAuth.protocol`.
    pub enum AuthProtocol {
        /// HTTP.
        Http = "HTTP",
        /// Envoy's ext_authz.
        Grpc = "GRPC",
    }
}

object! {
    /// `externalAuth`.
    pub struct ExternalAuth {
        /// `protocol`.
        pub protocol: AuthProtocol = required "protocol",
        /// `backendRef`.
        pub backend: BackendObjectRef = required "backendRef",
        /// `grpc`.
        pub grpc: Option<GrpcAuth> = optional "grpc",
        /// `http`.
        pub http: Option<HttpAuth> = optional "http",
        /// `forwardBody`.
        pub forward_body: Option<ForwardBody> = optional "forwardBody",
    }
    check check_auth
}

fn check_auth(auth: &ExternalAuth, pos: Pos, cx: &mut Cx) {
    let message = match auth.protocol {
        AuthProtocol::Http if auth.http.is_none() => "required field `http` is missing for protocol `HTTP`",
        AuthProtocol::Http if auth.grpc.is_some() => "`grpc` is given, and the protocol is `HTTP`",
        AuthProtocol::Grpc if auth.grpc.is_none() => "required field `grpc` is missing for protocol `GRPC`",
        AuthProtocol::Grpc if auth.http.is_some() => "`http` is given, and the protocol is `GRPC`",
        AuthProtocol::Http | AuthProtocol::Grpc => return,
    };
    cx.report(codes::SCHEMA, pos, message, "");
}

object! {
    /// `externalAuth.grpc`.
    pub struct GrpcAuth {
        /// `allowedHeaders`.
        pub allowed_headers: Vec<Arc<str>> = or_default_with(at_most(64)) "allowedHeaders",
    }
}

object! {
    /// `externalAuth.http`.
    pub struct HttpAuth {
        /// `path`.
        pub path: Option<Arc<str>> = with(auth_path) "path",
        /// `allowedHeaders`.
        pub allowed_headers: Vec<Arc<str>> = or_default_with(at_most(64)) "allowedHeaders",
        /// `allowedResponseHeaders`.
        pub allowed_response_headers: Vec<Arc<str>> = or_default_with(at_most(64)) "allowedResponseHeaders",
    }
}

fn auth_path(node: &Node<'_>, cx: &mut Cx) -> Option<Arc<str>> {
    text(node, cx, "a path of at most 1024 characters", |t| (1..=1024).contains(&t.len()) && is_path(t))
}

object! {
    /// `externalAuth.forwardBody`.
    pub struct ForwardBody {
        /// `maxSize` in bytes.
        pub size_max: Option<u32> = with(scalar::within(0..=i32::MAX.into())) "maxSize",
    }
}
