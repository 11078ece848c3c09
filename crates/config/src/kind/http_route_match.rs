//! `matches[]` of an HTTPRoute: one block of conditions, all of which must hold.

use std::sync::Arc;

use outrigger_model::{HeaderMatch, PathMatch, QueryMatch, StringMatch, ValueMatch};

use super::gateway_refs::distinct;
use super::istio::{header_name, pattern};
use crate::choices;
use crate::codes;
use crate::decode::{Cx, Decode, Fields, clip};
use crate::node::{Node, Spanned};
use crate::scalar;

/// One of `matches`: all of its conditions must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpRouteMatch {
    /// `path`: exact, segments, or regular expression; a prefix of `/` when absent.
    pub path: PathMatch,
    /// `method`.
    pub method: Option<StringMatch>,
    /// `headers`, each name once, whatever its case.
    pub headers: Vec<HeaderMatch>,
    /// `queryParams`, each name once.
    pub query: Vec<QueryMatch>,
    /// `method` of a GRPCRoute's match, which `path` stands for.
    pub calls: Option<Calls>,
}

/// What a match of a GRPCRoute says of the calls it takes; its place among others goes by that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calls {
    /// Whether names are given, or regular expressions.
    pub exact: bool,
    /// Characters of `service`.
    pub service: usize,
    /// Characters of `method`.
    pub method: usize,
}

impl Default for HttpRouteMatch {
    fn default() -> Self {
        Self {
            path: PathMatch::Segments(Arc::default()),
            method: None,
            headers: Vec::new(),
            query: Vec::new(),
            calls: None,
        }
    }
}

impl Decode for HttpRouteMatch {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let mut fields = Fields::of(node, cx)?;
        let mut block = Self::default();
        if let Some(path) = fields.with("path", cx, read_path) {
            block.path = path;
        }
        let method: Option<Method> = fields.optional("method", cx);
        block.method = method.map(|method| StringMatch::Exact(method.as_str().into()));
        block.headers = read_headers(&mut fields, cx);
        let query: Vec<Spanned<NamedMatch>> = fields.or_default_with("queryParams", cx, distinct(16));
        fields.finish(cx);
        let parameter = |q: Spanned<NamedMatch>| QueryMatch { name: q.value.name, value: q.value.condition };
        block.query = query.into_iter().map(parameter).collect();
        Some(block)
    }
}

/// Takes `headers` out of the fields of a match.
pub(super) fn read_headers(fields: &mut Fields<'_, '_>, cx: &mut Cx) -> Vec<HeaderMatch> {
    let written: Vec<Spanned<NamedMatch>> = fields.or_default_with("headers", cx, distinct(16));
    let mut headers: Vec<HeaderMatch> = Vec::with_capacity(written.len());
    for (index, header) in written.iter().enumerate() {
        let Some(name) = header_name(&header.name, header.pos, cx) else { continue };
        if headers.iter().any(|h| h.name == name) {
            let message = format!("{:?} is already asked for, and only the first counts", clip(&header.name));
            let hint = "remove it, or put it into a match of its own";
            let report = |cx: &mut Cx| cx.report(codes::NO_EFFECT, header.pos, message, hint);
            cx.within("headers", |cx| cx.at_index(index, report));
            continue;
        }
        headers.push(HeaderMatch { name, value: header.condition.clone(), invert: false });
    }
    headers
}

choices! {
    /// `path.type`.
    pub enum PathType {
        /// The whole path.
        Exact = "Exact",
        /// Whole segments from its beginning.
        PathPrefix = "PathPrefix",
        /// RE2, the whole path.
        RegularExpression = "RegularExpression",
    }
}

fn read_path(node: &Node<'_>, cx: &mut Cx) -> Option<PathMatch> {
    let mut fields = Fields::of(node, cx)?;
    let kind: PathType = fields.or("type", cx, PathType::PathPrefix);
    let path = fields.with("value", cx, |node, cx| match kind {
        PathType::Exact => plain_path(node, cx).map(PathMatch::Exact),
        PathType::PathPrefix => plain_path(node, cx).map(|path| segments(&path)),
        PathType::RegularExpression => pattern(node, cx).map(PathMatch::Regex),
    });
    let given = fields.has("value");
    fields.finish(cx);
    match (path, kind) {
        (Some(path), _) => Some(path),
        // The schema's default of the value is `/`.
        (None, PathType::Exact) if !given => Some(PathMatch::Exact("/".into())),
        (None, PathType::RegularExpression) if !given => {
            cx.report(codes::SCHEMA, node.pos, "required field `value` is missing", "give the regular expression");
            None
        }
        (None, _) => Some(segments("/")),
    }
}

/// A prefix as the model holds it: without trailing slash.
fn segments(path: &str) -> PathMatch {
    PathMatch::Segments(path.strip_suffix('/').unwrap_or(path).into())
}

/// A path to compare with, in the normal form that requests are compared in.
fn plain_path(node: &Node<'_>, cx: &mut Cx) -> Option<Arc<str>> {
    const CHARS_MAX: usize = 1024;
    let text = scalar::string(node, cx)?;
    let fault = if text.len() > CHARS_MAX {
        Some("a path of at most 1024 characters".to_owned())
    } else if !text.starts_with('/') {
        Some("a path that begins with `/`".to_owned())
    } else if let Some(part) = ["//", "/./", "/../", "%2f", "%2F", "#"].into_iter().find(|part| text.contains(part)) {
        Some(format!("a path without `{part}`"))
    } else if let Some(end) = ["/..", "/."].into_iter().find(|end| text.ends_with(end)) {
        Some(format!("a path that does not end with `{end}`"))
    } else if !is_path(text) {
        Some("a path of letters, digits, `/-._~!$&'()*+,;=:@` and `%` with two hexadecimal digits".to_owned())
    } else {
        None
    };
    if let Some(expected) = fault {
        cx.mismatch(node, &expected);
        return None;
    }
    Some(cx.text(text))
}

/// RFC 3986 path characters and percent-encoded bytes.
pub(super) fn is_path(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        let good = match b {
            b'%' => (0..2).all(|_| bytes.next().is_some_and(|b| b.is_ascii_hexdigit())),
            _ => b.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&b),
        };
        if !good {
            return false;
        }
    }
    true
}

choices! {
    /// `method`.
    pub enum Method {
        /// GET.
        Get = "GET",
        /// HEAD.
        Head = "HEAD",
        /// POST.
        Post = "POST",
        /// PUT.
        Put = "PUT",
        /// DELETE.
        Delete = "DELETE",
        /// CONNECT.
        Connect = "CONNECT",
        /// OPTIONS.
        Options = "OPTIONS",
        /// TRACE.
        Trace = "TRACE",
        /// PATCH.
        Patch = "PATCH",
    }
}

choices! {
    /// `type` of a condition on a header or query parameter.
    pub enum MatchType {
        /// The whole value.
        Exact = "Exact",
        /// RE2, the whole value.
        RegularExpression = "RegularExpression",
    }
}

/// One of `headers` or `queryParams`.
struct NamedMatch {
    name: Arc<str>,
    condition: ValueMatch,
}

impl Decode for NamedMatch {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let mut fields = Fields::of(node, cx)?;
        let kind: MatchType = fields.or("type", cx, MatchType::Exact);
        // Query parameters are named by the characters of header names, too.
        let name = fields.required_with("name", cx, |node, cx| {
            let text = scalar::non_empty(node, cx)?;
            header_name(&text, node.pos, cx).map(|_| text)
        });
        let value = fields.required_with("value", cx, |node, cx| match kind {
            MatchType::Exact => scalar::non_empty(node, cx).map(StringMatch::Exact),
            MatchType::RegularExpression => pattern(node, cx).map(StringMatch::Regex),
        });
        fields.finish(cx);
        Some(Self { name: name?, condition: ValueMatch::String(value?) })
    }
}
