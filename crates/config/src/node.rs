//! A parsed document as a tree in which every key and value knows where it stands.
//!
//! The tree borrows from the document's text and lives only while the document is decoded. Scalars are kept as they are
//! written: what `no`, `010` or `1.20` mean is judged by the type they are decoded into (`scalar`), as Kubernetes does.
//! Positions are relative to the document, so that a document that moves within its file keeps its decoded form.
//! Built by `document`, read by `decode` and the kinds.

use std::borrow::Cow;

/// A place in a document: line and column from 1, columns in characters, the document's first line being line 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pos {
    /// Line within the document, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Node<'t> {
    /// What it is.
    pub value: Value<'t>,
    /// Its first character.
    pub pos: Pos,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'t> {
    /// Empty, `~` or `null`, unquoted. Means "not given", as in Kubernetes.
    Null,
    /// Any other single value.
    Scalar(Scalar<'t>),
    /// A sequence.
    List(Vec<Node<'t>>),
    /// A mapping in the order written; keys are unique.
    Map(Vec<(Key<'t>, Node<'t>)>),
}

/// A single value as it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar<'t> {
    /// The text without quotes, escapes resolved.
    pub text: Cow<'t, str>,
    /// How it is written.
    pub style: Style,
}

/// How a scalar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Without quotes: may be a number or boolean.
    Plain,
    /// In quotes: a string.
    Quoted,
    /// `|` or `>`: a string; with the place of its first line of content.
    Block(Pos),
}

/// A key of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub struct Key<'t> {
    /// Its text.
    pub text: Cow<'t, str>,
    /// Its first character.
    pub pos: Pos,
}

impl<'t> Node<'t> {
    /// Whether it counts as not given.
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// The entries, where it is a mapping.
    pub fn entries(&self) -> Option<&[(Key<'t>, Self)]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            Value::Null | Value::Scalar(_) | Value::List(_) => None,
        }
    }

    /// The items, where it is a sequence.
    pub fn items(&self) -> Option<&[Self]> {
        match &self.value {
            Value::List(items) => Some(items),
            Value::Null | Value::Scalar(_) | Value::Map(_) => None,
        }
    }

    /// The scalar, where it is one.
    pub fn scalar(&self) -> Option<&Scalar<'t>> {
        match &self.value {
            Value::Scalar(scalar) => Some(scalar),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// The value of a key, where this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entries()?.iter().find(|(k, _)| k.text == key).map(|(_, node)| node)
    }
}

/// A decoded value that remembers where it stood, for diagnostics of the translation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stood in its document.
    pub pos: Pos,
}

impl<T> std::ops::Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}
