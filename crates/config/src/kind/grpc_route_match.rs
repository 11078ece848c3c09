//! `matches[]` of a GRPCRoute: a service and a method, which are the two parts of a request's path, and headers.

use outrigger_model::{PathMatch, Pattern};

use super::grpc_route::Grpc;
use super::http_route_match::{Calls, HttpRouteMatch, MatchType, read_headers};
use super::istio::pattern;
use crate::codes;
use crate::decode::{Cx, Decode, Fields};
use crate::node::{Node, Spanned};
use crate::scalar;

impl Decode for Grpc<HttpRouteMatch> {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let mut fields = Fields::of(node, cx)?;
        let mut block = HttpRouteMatch::default();
        if let Some((path, calls)) = fields.with("method", cx, read_method) {
            block.path = path;
            block.calls = Some(calls);
        }
        block.headers = read_headers(&mut fields, cx);
        fields.finish(cx);
        Some(Self(block))
    }
}

/// Reads `method`: the paths it takes, and what its place among others goes by.
fn read_method(node: &Node<'_>, cx: &mut Cx) -> Option<(PathMatch, Calls)> {
    let errors = cx.errors();
    let mut fields = Fields::of(node, cx)?;
    let kind: MatchType = fields.or("type", cx, MatchType::Exact);
    let service = fields.with("service", cx, |node, cx| part(node, cx, kind, SERVICE, is_service));
    let method = fields.with("method", cx, |node, cx| part(node, cx, kind, METHOD, is_name));
    fields.finish(cx);
    if cx.errors() > errors {
        return None;
    }
    // An empty regular expression is none: "at least one of Service and Method MUST be a non-empty string".
    let given = |part: Option<Spanned<String>>| part.filter(|part| !part.is_empty());
    let (service, method) = (given(service), given(method));
    if service.is_none() && method.is_none() {
        let message = "found neither `service` nor `method`, expected one of them or both";
        cx.report(codes::SCHEMA, node.pos, message, "leave out the match for all calls");
        return None;
    }
    let text = |part: &Option<Spanned<String>>| part.as_ref().map(|part| part.value.clone());
    let chars = |part: &Option<Spanned<String>>| part.as_ref().map_or(0, |part| part.chars().count());
    let calls = Calls { exact: kind == MatchType::Exact, service: chars(&service), method: chars(&method) };
    let path = match (kind, text(&service), text(&method)) {
        (MatchType::Exact, Some(service), Some(method)) => PathMatch::Exact(format!("/{service}/{method}").into()),
        (MatchType::Exact, Some(service), None) => PathMatch::Segments(format!("/{service}").into()),
        (MatchType::Exact, None, method) => of_parts(None, method, node, cx)?,
        (MatchType::RegularExpression, service, method) => of_parts(service, method, node, cx)?,
    };
    Some((path, calls))
}

/// The paths whose two parts are these regular expressions; any where there is none.
fn of_parts(service: Option<String>, method: Option<String>, node: &Node<'_>, cx: &mut Cx) -> Option<PathMatch> {
    let group = |part: Option<String>| part.map_or_else(|| "[^/]+".to_owned(), |part| format!("(?:{part})"));
    let text = format!("/{}/{}", group(service), group(method));
    match Pattern::parse(&text) {
        Ok(pattern) => Some(PathMatch::Regex(pattern)),
        Err(error) => {
            let message = format!("service and method together are no regular expression: {error}");
            cx.report(codes::SCHEMA, node.pos, message, "make one of the two shorter");
            None
        }
    }
}

const SERVICE: &str = "a service such as `shop.v1.Cart`: names of letters, digits and `_`, with dots between them";
const METHOD: &str = "a method such as `GetCart`: a name of letters, digits and `_`";

fn part(
    node: &Node<'_>,
    cx: &mut Cx,
    kind: MatchType,
    expected: &str,
    is_good: fn(&str) -> bool,
) -> Option<Spanned<String>> {
    const CHARS_MAX: usize = 1024;
    let text = scalar::string(node, cx)?;
    if text.chars().count() > CHARS_MAX {
        cx.mismatch(node, "at most 1024 characters");
        return None;
    }
    match kind {
        MatchType::Exact if !is_good(text) => {
            cx.mismatch(node, expected);
            return None;
        }
        MatchType::Exact => {}
        MatchType::RegularExpression => {
            pattern(node, cx)?;
        }
    }
    Some(Spanned { value: text.to_owned(), pos: node.pos })
}

fn is_service(text: &str) -> bool {
    text.strip_prefix('.').unwrap_or(text).split('.').all(is_name)
}

fn is_name(text: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    text.bytes().next().is_some_and(letter) && text.bytes().all(|b| letter(b) || b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_crd() {
        for good in ["a", "_", "A1", "a.b", ".a.b", "grpc.health.v1.Health", "_a._1"] {
            assert!(is_service(good), "{good}");
        }
        for bad in ["", ".", "..a", "a.", "a..b", "1a", "a.1", "a-b", "a/b", "\u{e4}"] {
            assert!(!is_service(bad), "{bad}");
        }
        assert!(is_name("GetCart_2") && !is_name("a.b") && !is_name(".a") && !is_name(""));
    }
}
