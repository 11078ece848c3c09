//! `http[].match[]` of a VirtualService: one block of conditions, all of which must hold.

use std::sync::Arc;

use outrigger_model::{HeaderMatch, QueryMatch, StringMatch, ValueMatch};

use super::istio::{TextMatch, Unmodelled, header_name};
use crate::codes;
use crate::decode::{Cx, Decode, Fields, list};
use crate::node::{Node, Pos};
use crate::object::Labels;
use crate::scalar;

/// One block of conditions. Absent conditions are `None` or empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpMatch {
    /// `name`.
    pub name: Option<Arc<str>>,
    /// `uri`.
    pub uri: Option<StringMatch>,
    /// `ignoreUriCase`.
    pub ignore_uri_case: bool,
    /// `scheme`.
    pub scheme: Option<StringMatch>,
    /// `method`.
    pub method: Option<StringMatch>,
    /// `authority`; exact and prefix in lower case.
    pub authority: Option<StringMatch>,
    /// `headers` and `withoutHeaders`.
    pub headers: Vec<HeaderMatch>,
    /// `queryParams`.
    pub query: Vec<QueryMatch>,
    /// `port` of the listener.
    pub port: Option<u16>,
    /// `sourceLabels`: decided when the client's table is built.
    pub source_labels: Labels,
    /// `sourceNamespace`: decided when the client's table is built.
    pub source_namespace: Option<Arc<str>>,
    /// `gateways`: decided when the table is built; empty for all of the rule's.
    pub gateways: Vec<Arc<str>>,
}

impl Decode for HttpMatch {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let mut fields = Fields::of(node, cx)?;
        let name = fields.optional("name", cx);
        let uri = fields.with("uri", cx, condition);
        let ignore_uri_case = fields.or_default("ignoreUriCase", cx);
        let mut block = Self {
            name,
            uri,
            ignore_uri_case,
            scheme: fields.with("scheme", cx, condition),
            method: fields.with("method", cx, condition),
            authority: fields.with("authority", cx, condition).map(lower_case),
            ..Self::default()
        };
        fields.with("headers", cx, |node, cx| block.read_headers(node, cx, false));
        fields.with("withoutHeaders", cx, |node, cx| block.read_headers(node, cx, true));
        block.query = fields.with("queryParams", cx, read_query).unwrap_or_default();
        block.port = fields.with("port", cx, scalar::port);
        block.source_labels = fields.or_default("sourceLabels", cx);
        block.source_namespace = fields.optional("sourceNamespace", cx).filter(|n: &Arc<str>| !n.is_empty());
        block.gateways = fields.or_default("gateways", cx);
        let _: Option<Unmodelled> = fields.optional("statPrefix", cx);
        fields.finish(cx);
        Some(block)
    }
}

/// A text condition; `{}` asks for nothing, and says so.
fn condition(node: &Node<'_>, cx: &mut Cx) -> Option<StringMatch> {
    match TextMatch::decode(node, cx)? {
        TextMatch::Is(matcher) => Some(matcher),
        TextMatch::Any => {
            let hint = "give one of `exact`, `prefix`, `regex`, or remove the field";
            cx.report(codes::NO_EFFECT, node.pos, "an empty condition matches everything", hint);
            None
        }
    }
}

fn lower_case(matcher: StringMatch) -> StringMatch {
    match matcher {
        StringMatch::Exact(text) => StringMatch::Exact(text.to_ascii_lowercase().into()),
        StringMatch::Prefix(text) => StringMatch::Prefix(text.to_ascii_lowercase().into()),
        StringMatch::Regex(pattern) => StringMatch::Regex(pattern),
    }
}

impl HttpMatch {
    /// Reads `headers` (`invert`: `withoutHeaders`).
    fn read_headers(&mut self, node: &Node<'_>, cx: &mut Cx, invert: bool) -> Option<()> {
        let Some(entries) = node.entries() else {
            cx.mismatch(node, "a mapping of header names to conditions");
            return None;
        };
        for (key, node) in entries {
            let name = cx.text(&key.text);
            cx.at_key(name, |cx| {
                let matcher = if node.is_null() { TextMatch::Any } else { TextMatch::decode(node, cx)? };
                self.header(&key.text, key.pos, matcher, invert, cx);
                Some(())
            });
        }
        Some(())
    }

    fn header(&mut self, key: &str, pos: Pos, matcher: TextMatch, invert: bool, cx: &mut Cx) {
        const FIELDS: &[&str] = &["uri", "scheme", "method", "authority"];
        if FIELDS.contains(&key) {
            let message = format!("Istio ignores the keys {} among headers", list(FIELDS));
            cx.report(codes::NO_EFFECT, pos, message, format!("use the field `{key}` of the match"));
            return;
        }
        if let Some(pseudo) = key.strip_prefix(':') {
            self.pseudo_header(pseudo, pos, matcher, invert, cx);
            return;
        }
        let value = match matcher {
            TextMatch::Any => ValueMatch::Present,
            // Istio translates empty texts to a test for presence.
            TextMatch::Is(StringMatch::Exact(t) | StringMatch::Prefix(t)) if t.is_empty() => ValueMatch::Present,
            TextMatch::Is(matcher) => ValueMatch::String(matcher),
        };
        if let Some(name) = header_name(key, pos, cx) {
            self.headers.push(HeaderMatch { name, value, invert });
        }
    }

    /// Envoy lets a header match name a pseudo-header; those with a field of their own go there.
    fn pseudo_header(&mut self, pseudo: &str, pos: Pos, matcher: TextMatch, invert: bool, cx: &mut Cx) {
        let slot = match pseudo {
            "method" => &mut self.method,
            "authority" => &mut self.authority,
            "scheme" => &mut self.scheme,
            _ => {
                let message = "found a pseudo-header, expected a header, `:method`, `:authority` or `:scheme`";
                cx.report(codes::SCHEMA, pos, message, "use the field `uri` for the path");
                return;
            }
        };
        match matcher {
            TextMatch::Any if !invert => {}
            TextMatch::Is(matcher) if !invert && slot.is_none() => *slot = Some(lower_case_if(pseudo, matcher)),
            _ => {
                let message = format!("`:{pseudo}` can be asked for once, and only for what it is");
                cx.report(codes::SCHEMA, pos, message, format!("use the field `{pseudo}` of the match"));
            }
        }
    }
}

fn lower_case_if(pseudo: &str, matcher: StringMatch) -> StringMatch {
    if pseudo == "authority" { lower_case(matcher) } else { matcher }
}

fn read_query(node: &Node<'_>, cx: &mut Cx) -> Option<Vec<QueryMatch>> {
    let Some(entries) = node.entries() else {
        cx.mismatch(node, "a mapping of parameter names to conditions");
        return None;
    };
    let mut query = Vec::with_capacity(entries.len());
    for (key, node) in entries {
        let name = cx.text(&key.text);
        let value = cx
            .at_key(name.clone(), |cx| if node.is_null() { Some(TextMatch::Any) } else { TextMatch::decode(node, cx) });
        let Some(value) = value else { continue };
        let value = match value {
            TextMatch::Any => ValueMatch::Present,
            TextMatch::Is(StringMatch::Prefix(t)) if t.is_empty() => ValueMatch::Present,
            TextMatch::Is(matcher) => ValueMatch::String(matcher),
        };
        query.push(QueryMatch { name, value });
    }
    Some(query)
}
