//! SMI `HTTPRouteGroup`: named conditions on requests, used by TrafficSplit `matches`.

use std::sync::Arc;

use outrigger_model::{HeaderMatch, Pattern, StringMatch, ValueMatch};

use super::istio::header_name;
use crate::codes;
use crate::decode::{Cx, Decode, Fields, clip};
use crate::node::{Node, Spanned};
use crate::object;
use crate::scalar;

object! {
    /// An HTTPRouteGroup.
    pub resource struct HttpRouteGroup {
        /// `spec`, since v1alpha3.
        pub spec: Option<HttpRouteGroupSpec> = optional "spec",
        /// `matches` at the top, before v1alpha3.
        pub old_matches: Vec<Spanned<RouteCondition>> = or_default "matches",
    }
    ignore ["status"]
}

impl HttpRouteGroup {
    /// The conditions: one of them must hold.
    pub fn conditions(&self) -> &[Spanned<RouteCondition>] {
        self.spec.as_ref().map_or(&self.old_matches, |spec| &spec.matches)
    }
}

object! {
    /// `spec`.
    pub struct HttpRouteGroupSpec {
        /// `matches`.
        pub matches: Vec<Spanned<RouteCondition>> = required "matches",
    }
}

/// One of `matches`: all of its parts must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteCondition {
    /// `name`.
    pub name: Arc<str>,
    /// `pathRegex`, anchored at the beginning of the path only.
    pub path: Option<Pattern>,
    /// `methods`; `None` for all.
    pub method: Option<StringMatch>,
    /// `headers`.
    pub headers: Vec<HeaderMatch>,
}

impl Decode for RouteCondition {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let mut fields = Fields::of(node, cx)?;
        let name = fields.required_with("name", cx, scalar::non_empty);
        let path = fields.with("pathRegex", cx, open_pattern);
        let method = fields.with("methods", cx, methods);
        let headers = fields.with("headers", cx, headers).unwrap_or_default();
        fields.finish(cx);
        Some(Self { name: name?, path, method, headers })
    }
}

/// A pattern of which the end may lie before the end of the path.
fn open_pattern(node: &Node<'_>, cx: &mut Cx) -> Option<Pattern> {
    let text = scalar::string(node, cx)?;
    let open = format!("(?:{text})(?s:.*)");
    compile(text, &open, node, cx)
}

fn compile(shown: &str, source: &str, node: &Node<'_>, cx: &mut Cx) -> Option<Pattern> {
    match Pattern::parse(source) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            cx.report(codes::SCHEMA, node.pos, format!("found {:?}: {error}", clip(shown)), "");
            None
        }
    }
}

/// Methods as one condition; `*` is all of them.
fn methods(node: &Node<'_>, cx: &mut Cx) -> Option<StringMatch> {
    let words = Vec::<Arc<str>>::decode(node, cx)?;
    if words.is_empty() || words.iter().any(|w| &**w == "*") {
        return None;
    }
    for word in &words {
        // A method is a token (RFC 9110 §9.1), as header names are.
        header_name(word, node.pos, cx)?;
    }
    if let [one] = &*words {
        return Some(StringMatch::Exact(one.clone()));
    }
    // `-`, `.`, `*` and the like are allowed in tokens and have a meaning in patterns.
    let escaped: Vec<String> = words.iter().map(|w| regex::escape(w)).collect();
    compile("methods", &escaped.join("|"), node, cx).map(StringMatch::Regex)
}

/// A mapping of names to patterns, or the older list of such mappings.
fn headers(node: &Node<'_>, cx: &mut Cx) -> Option<Vec<HeaderMatch>> {
    let mut matches = Vec::new();
    let maps: Vec<&Node<'_>> = match node.items() {
        Some(items) => items.iter().collect(),
        None => vec![node],
    };
    for map in maps {
        let Some(entries) = map.entries() else {
            cx.mismatch(map, "a mapping of header names to regular expressions");
            continue;
        };
        for (key, value) in entries {
            let name = cx.text(&key.text);
            let found = cx.at_key(name, |cx| {
                let text = scalar::string(value, cx)?;
                let pattern = compile(text, text, value, cx)?;
                let name = header_name(&key.text, key.pos, cx)?;
                Some(HeaderMatch { name, value: ValueMatch::String(StringMatch::Regex(pattern)), invert: false })
            });
            matches.extend(found);
        }
    }
    Some(matches)
}
