//! `http[].corsPolicy` of a VirtualService.

use std::sync::Arc;

use outrigger_model::{Cors, HeaderName, StringMatch};

use super::istio::{TextMatch, duration_1ms, header_name};
use crate::choices;
use crate::decode::{Cx, Decode, Fields};
use crate::node::Node;
use crate::scalar;

choices! {
    /// `unmatchedPreflights`.
    pub enum UnmatchedPreflights {
        /// FORWARD.
        Unspecified = "UNSPECIFIED" 0,
        /// To the application.
        Forward = "FORWARD" 1,
        /// Answered without permission.
        Ignore = "IGNORE" 2,
    }
}

/// Reads the policy.
pub fn read_cors(node: &Node<'_>, cx: &mut Cx) -> Option<Cors> {
    let mut fields = Fields::of(node, cx)?;
    let origins: Vec<TextMatch> = fields.or_default("allowOrigins", cx);
    let old_origins: Vec<Arc<str>> = fields.or_default("allowOrigin", cx);
    let old_origins = old_origins.into_iter().map(|o| TextMatch::Is(StringMatch::Exact(o)));
    let methods = fields.with("allowMethods", cx, tokens).unwrap_or_default();
    let headers = fields.with("allowHeaders", cx, names).unwrap_or_default();
    let expose = fields.with("exposeHeaders", cx, names).unwrap_or_default();
    let max_age = fields.with("maxAge", cx, duration_1ms);
    let credentials = fields.or_default("allowCredentials", cx);
    let preflights: Option<UnmatchedPreflights> = fields.optional("unmatchedPreflights", cx);
    fields.finish(cx);
    Some(Cors {
        origins: origins.into_iter().chain(old_origins).map(origin).collect(),
        methods,
        headers,
        expose,
        max_age,
        credentials,
        forward_unmatched_preflights: preflights != Some(UnmatchedPreflights::Ignore),
    })
}

/// `*` and an empty match both mean any origin.
fn origin(matcher: TextMatch) -> StringMatch {
    match matcher {
        TextMatch::Any => StringMatch::Prefix(Arc::default()),
        TextMatch::Is(StringMatch::Exact(text)) if &*text == "*" => StringMatch::Prefix(Arc::default()),
        TextMatch::Is(matcher) => matcher,
    }
}

fn names(node: &Node<'_>, cx: &mut Cx) -> Option<Vec<HeaderName>> {
    let texts = Vec::<Arc<str>>::decode(node, cx)?;
    Some(texts.iter().filter_map(|text| header_name(text, node.pos, cx)).collect())
}

/// Methods, as they go into a header of the answer.
fn tokens(node: &Node<'_>, cx: &mut Cx) -> Option<Vec<Arc<str>>> {
    let Some(items) = node.items() else {
        cx.mismatch(node, "a list of methods");
        return None;
    };
    let mut methods = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        methods.extend(cx.at_index(index, |cx| {
            let text = scalar::non_empty(item, cx)?;
            // A method is a token (RFC 9110 §9.1), as header names are.
            header_name(&text, item.pos, cx).map(|_| text)
        }));
    }
    Some(methods)
}
