//! `headers.{request,response}` of a VirtualService: edits that can neither inject a line nor change framing.

use std::sync::Arc;

use outrigger_model::{HeaderEdits, HeaderName, HeaderValue};

use super::istio::{header_value, report_header};
use crate::codes;
use crate::decode::{Cx, Decode, Fields, clip};
use crate::node::{Node, Pos};
use crate::object;
use crate::scalar;

object! {
    /// `headers` of a route or of one of its destinations.
    #[derive(Default)]
    pub struct Headers {
        /// `request`.
        pub request: HeaderOperations = or_default "request",
        /// `response`.
        pub response: HeaderOperations = or_default "response",
    }
}

/// `set`, `add` and `remove`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderOperations {
    /// The edits but for the authority; a name in `set` is not in `add`.
    pub edits: HeaderEdits,
    /// What `set` or `add` of `Host` or `:authority` asks for: a rewrite of the authority.
    pub authority: Option<HeaderValue>,
}

impl Decode for HeaderOperations {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let mut fields = Fields::of(node, cx)?;
        let mut operations = Self::default();
        // `set` is read last so that its authority wins.
        let add = fields.with("add", cx, |node, cx| operations.pairs(node, cx)).unwrap_or_default();
        let set = fields.with("set", cx, |node, cx| operations.pairs(node, cx)).unwrap_or_default();
        operations.edits.remove = fields.with("remove", cx, removals).unwrap_or_default();
        fields.finish(cx);
        operations.edits.add = add.into_iter().filter(|(name, _)| set.iter().all(|(n, _)| n != name)).collect();
        operations.edits.set = set;
        Some(operations)
    }
}

impl HeaderOperations {
    fn pairs(&mut self, node: &Node<'_>, cx: &mut Cx) -> Option<Vec<(HeaderName, HeaderValue)>> {
        let Some(entries) = node.entries() else {
            cx.mismatch(node, "a mapping of header names to values");
            return None;
        };
        let mut pairs = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let name = cx.text(&key.text);
            let pair = cx.at_key(name, |cx| {
                let value = literal(value, cx)?;
                if is_authority(&key.text) {
                    self.authority = Some(value);
                    return None;
                }
                editable(&key.text, key.pos, cx).map(|name| (name, value))
            });
            pairs.extend(pair);
        }
        Some(pairs)
    }
}

pub(super) fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case(":authority")
}

/// A name that an edit may touch; other pseudo-headers are passed over, as Istio does.
pub(super) fn editable(text: &str, pos: Pos, cx: &mut Cx) -> Option<HeaderName> {
    if text.starts_with(':') {
        let message = format!("pseudo-header {:?} cannot be edited here and stays as it is", clip(text));
        cx.report(codes::NO_EFFECT, pos, message, "use `rewrite` for path and authority");
        return None;
    }
    match HeaderName::parse_editable(text) {
        Ok(name) => Some(name),
        Err(error) => {
            report_header(text, pos, &error, cx);
            None
        }
    }
}

fn removals(node: &Node<'_>, cx: &mut Cx) -> Option<Vec<HeaderName>> {
    let Some(items) = node.items() else {
        cx.mismatch(node, "a list of header names");
        return None;
    };
    let mut names = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        names.extend(cx.at_index(index, |cx| {
            let text = scalar::non_empty(item, cx)?;
            if text.eq_ignore_ascii_case("host") {
                cx.report(codes::NO_EFFECT, item.pos, "`Host` cannot be removed: every request needs one", "");
                return None;
            }
            editable(&text, item.pos, cx)
        }));
    }
    Some(names)
}

/// A value as text: `%%` stands for `%`; Envoy's variables are reported and the edit stays out.
fn literal(node: &Node<'_>, cx: &mut Cx) -> Option<HeaderValue> {
    let text: Arc<str> = Arc::decode(node, cx)?;
    if let Some(variable) = variable(&text) {
        let message = format!("the variable `{}` is not supported yet; this header is left alone", clip(variable));
        cx.report(codes::NOT_ENFORCED, node.pos, message, "write `%%` where a plain per cent sign is meant");
        return None;
    }
    header_value(&text.replace("%%", "%"), node.pos, cx)
}

/// The first Envoy command operator, such as `%REQ(x-user)%`, in a value.
fn variable(text: &str) -> Option<&str> {
    let mut from = 0;
    while let Some(start) = text[from..].find('%').map(|at| from + at) {
        let after = &text[start + 1..];
        if after.starts_with('%') {
            from = start + 2;
            continue;
        }
        let word = after.bytes().take_while(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_').count();
        let rest = &after[word..];
        let arguments = if rest.starts_with('(') { rest.find(')').map_or(0, |at| at + 1) } else { 0 };
        let rest = &rest[arguments..];
        let limit = rest.strip_prefix(':').map_or(0, |r| 1 + r.bytes().take_while(u8::is_ascii_digit).count());
        if word > 0 && rest[limit..].starts_with('%') {
            return Some(&text[start..start + 1 + word + arguments + limit + 1]);
        }
        from = start + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envoy_variables_are_found_and_plain_per_cent_signs_are_not() {
        assert_eq!(variable("a %REQ(x-user)% b"), Some("%REQ(x-user)%"));
        assert_eq!(variable("%START_TIME(%Y)%"), Some("%START_TIME(%Y)%"));
        assert_eq!(variable("%REQ(X):10%"), Some("%REQ(X):10%"));
        assert_eq!(variable("%DOWNSTREAM_REMOTE_ADDRESS%"), Some("%DOWNSTREAM_REMOTE_ADDRESS%"));
        assert_eq!(variable("100%% of %%REQ%%"), None);
        assert_eq!(variable("50% off"), None);
        assert_eq!(variable("caf\u{e9} 5%"), None);
    }
}
