//! Kubernetes `ConfigMap`: texts by name, among them Istio's mesh settings.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::decode::{Cx, Decode};
use crate::node::{Node, Pos, Style};
use crate::scalar;

crate::object! {
    /// Texts by name.
    pub resource struct ConfigMap {
        /// `data`.
        pub data: BTreeMap<Arc<str>, ConfigText> = or_default "data",
    }
    ignore ["binaryData", "immutable"]
}

/// A text of a ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigText {
    /// The text.
    pub text: Arc<str>,
    /// Where its first line stands in the document: what `document::decode_nested` needs to name places in it.
    pub origin: Pos,
}

impl Decode for ConfigText {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let text = scalar::string(node, cx)?.into();
        let origin = match node.scalar().map(|scalar| scalar.style) {
            Some(Style::Block(origin)) => origin,
            // The place inside of the quotes.
            Some(Style::Quoted) => Pos { line: node.pos.line, column: node.pos.column + 1 },
            Some(Style::Plain) | None => node.pos,
        };
        Some(Self { text, origin })
    }
}
