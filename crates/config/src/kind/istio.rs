//! Pieces that several Istio kinds share: text matches, destinations, visibility, and fields whose behaviour comes later.
//!
//! Only decoding; what the values do is the translation's business.

use std::sync::Arc;
use std::time::Duration;

use outrigger_model::{Fraction, HeaderError, HeaderName, HeaderValue, Pattern, StringMatch};

use crate::address;
use crate::codes;
use crate::decode::{Cx, Decode, Fields, clip};
use crate::node::{Node, Spanned};
use crate::object;
use crate::scalar;

/// `with(later)`: reads a field that is understood and carried in the model but not obeyed by the data plane yet, and
/// says so at its place.
pub fn later<T: Decode>(node: &Node<'_>, cx: &mut Cx) -> Option<T> {
    report_later(node, cx);
    T::decode(node, cx)
}

/// Says that the field at the current path is not enforced yet.
pub fn report_later(node: &Node<'_>, cx: &mut Cx) {
    cx.report(
        codes::NOT_ENFORCED,
        node.pos,
        "understood, but not enforced yet",
        "traffic flows as if the field were absent",
    );
}

/// Keeps the place of what a function reads.
pub fn spanned<T>(
    read: impl FnOnce(&Node<'_>, &mut Cx) -> Option<T>,
) -> impl FnOnce(&Node<'_>, &mut Cx) -> Option<Spanned<T>> {
    move |node, cx| read(node, cx).map(|value| Spanned { value, pos: node.pos })
}

/// A part of the API that is known, not modelled and not enforced: `with(unmodelled)` accepts any content and reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unmodelled;

impl Decode for Unmodelled {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        report_later(node, cx);
        Some(Self)
    }
}

/// `exportTo`: which namespaces see an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ExportTo {
    /// `*`.
    All,
    /// `.`: the object's own.
    Own,
    /// `~`: none.
    Nobody,
    /// This one.
    Namespace(Arc<str>),
}

impl ExportTo {
    /// Reads one item.
    pub fn parse(text: &str) -> Self {
        match text {
            "*" => Self::All,
            "." => Self::Own,
            "~" => Self::Nobody,
            name => Self::Namespace(name.into()),
        }
    }
}

impl Decode for ExportTo {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let text = scalar::non_empty(node, cx)?;
        Some(Self::parse(&text))
    }
}

/// A `StringMatch` of Istio; an empty one, `{}`, asks for nothing but presence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextMatch {
    /// `{}`.
    Any,
    /// One of `exact`, `prefix`, `regex`.
    Is(StringMatch),
}

impl Decode for TextMatch {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let mut fields = Fields::of(node, cx)?;
        let found = fields.one_of(&["exact", "prefix", "regex"], cx);
        let value = match found {
            None => Some(Self::Any),
            Some(("exact", node)) => {
                cx.within("exact", |cx| Arc::decode(node, cx)).map(|t| Self::Is(StringMatch::Exact(t)))
            }
            Some(("prefix", node)) => {
                cx.within("prefix", |cx| Arc::decode(node, cx)).map(|t| Self::Is(StringMatch::Prefix(t)))
            }
            Some((_, node)) => cx.within("regex", |cx| regex_match(node, cx)),
        };
        fields.finish(cx);
        value
    }
}

/// A regular expression of a match; `*` is Istio's word for presence and no RE2.
fn regex_match(node: &Node<'_>, cx: &mut Cx) -> Option<TextMatch> {
    if node.scalar().is_some_and(|s| s.text == "*") {
        return Some(TextMatch::Any);
    }
    pattern(node, cx).map(|p| TextMatch::Is(StringMatch::Regex(p)))
}

/// Reads a regular expression, bounded in length and size.
pub fn pattern(node: &Node<'_>, cx: &mut Cx) -> Option<Pattern> {
    let text = scalar::string(node, cx)?;
    match Pattern::parse(text) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let message = format!("found {:?}: {error}", clip(text));
            cx.report(codes::SCHEMA, node.pos, message, "RE2 has no look-around and no back-references");
            None
        }
    }
}

object! {
    /// `destination` of a route or mirror.
    pub struct Destination {
        /// `host`: a service of the registry; a name without dot belongs to the rule's namespace.
        pub host: Spanned<Arc<str>> = required_with(spanned(address::host)) "host",
        /// `subset` of the host's DestinationRule.
        pub subset: Option<Spanned<Arc<str>>> = optional "subset",
        /// `port`; needed where the host has several.
        pub port: Option<Spanned<PortSelector>> = optional "port",
    }
}

object! {
    /// `port: {number: 80}`.
    pub struct PortSelector {
        /// `number`.
        pub number: u16 = required_with(scalar::port) "number",
    }
}

object! {
    /// `percentage: {value: 0.1}`.
    pub struct Percent {
        /// `value`, 0 to 100; absent means 0.
        pub value: Option<f64> = with(scalar::percent) "value",
    }
}

impl Percent {
    /// As a fraction.
    pub fn fraction(&self) -> Fraction {
        Fraction::from_percent(self.value.unwrap_or_default()).unwrap_or(Fraction::ALL)
    }
}

/// Reads a duration of at least a millisecond, as Istio demands.
pub fn duration_1ms(node: &Node<'_>, cx: &mut Cx) -> Option<Duration> {
    let value = Duration::decode(node, cx)?;
    if value < Duration::from_millis(1) {
        cx.mismatch(node, "a duration of at least `1ms`");
        return None;
    }
    Some(value)
}

/// Reads a header name for a match; pseudo-headers are the caller's business.
pub fn header_name(text: &str, pos: crate::node::Pos, cx: &mut Cx) -> Option<HeaderName> {
    match HeaderName::parse(text) {
        Ok(name) => Some(name),
        Err(error) => {
            report_header(text, pos, &error, cx);
            None
        }
    }
}

/// Reads a header value.
pub fn header_value(text: &str, pos: crate::node::Pos, cx: &mut Cx) -> Option<HeaderValue> {
    match HeaderValue::parse(text) {
        Ok(value) => Some(value),
        Err(error) => {
            let message = format!("found {:?}, expected a header value: {error}", clip(text));
            cx.report(codes::SCHEMA, pos, message, "");
            None
        }
    }
}

/// Reports a bad header name.
pub fn report_header(text: &str, pos: crate::node::Pos, error: &HeaderError, cx: &mut Cx) {
    let message = format!("found {:?}, expected a header name: {error}", clip(text));
    cx.report(codes::SCHEMA, pos, message, "");
}
