//! From a tree to typed values, collecting every problem on the way.
//!
//! A kind is a plain struct, declared with [`object!`](crate::object!) so that field, documentation and decoding stand in one place.
//! Decoding never stops at the first problem: [`Cx`] gathers them with path and place. An object that has an error-level
//! problem does not come into force, so a decoder may return a half-true value after it has reported an error.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use outrigger_model::Level;

use crate::codes::{self, CodeInfo};
use crate::node::{Key, Node, Pos, Spanned, Value};

/// A type that can be read from a node.
pub trait Decode: Sized {
    /// Reads the value. `None`: not possible, and `cx` has been told why. Never called with a null node by [`Fields`].
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self>;
}

/// One finding while decoding a document; its place is relative to the document.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// What kind of finding.
    pub code: &'static CodeInfo,
    /// Where in the document.
    pub pos: Pos,
    /// Path, what was found, what is expected.
    pub message: String,
    /// What to do; may be empty.
    pub hint: String,
}

/// The state of decoding one document.
#[derive(Debug, Default)]
pub struct Cx {
    path: Vec<Segment>,
    problems: Vec<Problem>,
    errors: usize,
    texts: std::collections::HashSet<Arc<str>, foldhash::fast::RandomState>,
}

#[derive(Debug)]
enum Segment {
    Field(&'static str),
    Index(usize),
    Key(Arc<str>),
}

impl Cx {
    /// Longest text that is shared between objects; longer ones seldom repeat.
    const SHARED_BYTES_MAX: usize = 64;

    /// Reports a problem at the current path.
    pub fn report(&mut self, code: &'static CodeInfo, pos: Pos, message: impl AsRef<str>, hint: impl Into<String>) {
        let path = self.path();
        let message = message.as_ref();
        let message = if path.is_empty() { message.to_owned() } else { format!("{path}: {message}") };
        self.push(Problem { code, pos, message, hint: hint.into() });
    }

    /// Reports a bad value: an [`codes::SCHEMA`] error "found X, expected Y".
    pub fn mismatch(&mut self, node: &Node<'_>, expected: &str) {
        self.report(codes::SCHEMA, node.pos, format!("found {}, expected {expected}", describe(node)), "");
    }

    /// Runs `read` with a field added to the path.
    pub fn within<T>(&mut self, field: &'static str, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(Segment::Field(field));
        let result = read(self);
        self.path.pop();
        result
    }

    /// Runs `read` with a list index added to the path.
    pub fn at_index<T>(&mut self, index: usize, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(Segment::Index(index));
        let result = read(self);
        self.path.pop();
        result
    }

    /// Runs `read` with a key of a free mapping, such as a label, added to the path.
    pub fn at_key<T>(&mut self, key: Arc<str>, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(Segment::Key(key));
        let result = read(self);
        self.path.pop();
        result
    }

    /// The current path, e.g. `spec.http[0].route[1].weight`.
    pub fn path(&self) -> String {
        let mut path = String::new();
        for segment in &self.path {
            // Writing to a String cannot fail.
            let _ = match segment {
                Segment::Field(name) if path.is_empty() => write!(path, "{name}"),
                Segment::Field(name) => write!(path, ".{name}"),
                Segment::Index(index) => write!(path, "[{index}]"),
                Segment::Key(key) => write!(path, "[{key:?}]"),
            };
        }
        path
    }

    /// Shares equal short texts (names, label keys and values) between objects.
    pub fn text(&mut self, text: &str) -> Arc<str> {
        if text.len() > Self::SHARED_BYTES_MAX {
            return text.into();
        }
        if let Some(shared) = self.texts.get(text) {
            return shared.clone();
        }
        let shared: Arc<str> = text.into();
        self.texts.insert(shared.clone());
        shared
    }

    /// How many error-level problems this document has so far; a decoder compares before and after a part.
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// Takes the problems found so far.
    pub fn take_problems(&mut self) -> Vec<Problem> {
        self.errors = 0;
        std::mem::take(&mut self.problems)
    }

    /// Adds a problem that already has its place and full message.
    pub fn push(&mut self, problem: Problem) {
        self.errors += usize::from(problem.code.level == Level::Error);
        self.problems.push(problem);
    }
}

/// What a node is, for messages: `the string "x"`, `the number 12`, `a list`.
pub fn describe(node: &Node<'_>) -> String {
    match &node.value {
        Value::Null => "nothing".to_owned(),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a mapping".to_owned(),
        Value::Scalar(scalar) => crate::scalar::describe(scalar),
    }
}

/// The fields of a mapping, taken one by one; what is left over is unknown.
///
/// A null value counts as absent. Every taking method names the key in the path of problems.
#[derive(Debug)]
pub struct Fields<'n, 't> {
    entries: &'n [(Key<'t>, Node<'t>)],
    pos: Pos,
    known: Vec<&'static str>,
}

impl<'n, 't> Fields<'n, 't> {
    /// The fields of a node; reports anything but a mapping.
    pub fn of(node: &'n Node<'t>, cx: &mut Cx) -> Option<Self> {
        match node.entries() {
            Some(entries) => Some(Self { entries, pos: node.pos, known: Vec::with_capacity(12) }),
            None => {
                cx.mismatch(node, "a mapping");
                None
            }
        }
    }

    /// Where the mapping begins.
    pub fn pos(&self) -> Pos {
        self.pos
    }

    /// Takes the node of a key; `None` when absent or null.
    pub fn node(&mut self, key: &'static str) -> Option<&'n Node<'t>> {
        self.known.push(key);
        self.entries.iter().find(|(k, _)| k.text == key).map(|(_, node)| node).filter(|node| !node.is_null())
    }

    /// Reads a field that must be there; reports when it is not.
    pub fn required<T: Decode>(&mut self, key: &'static str, cx: &mut Cx) -> Option<T> {
        self.required_with(key, cx, T::decode)
    }

    /// Reads a field that must be there with a function.
    pub fn required_with<T>(
        &mut self,
        key: &'static str,
        cx: &mut Cx,
        read: impl FnOnce(&Node<'_>, &mut Cx) -> Option<T>,
    ) -> Option<T> {
        match self.node(key) {
            Some(node) => cx.within(key, |cx| read(node, cx)),
            None => {
                cx.report(codes::SCHEMA, self.pos, format!("required field `{key}` is missing"), "");
                None
            }
        }
    }

    /// Reads a field that may be absent; `None` also after a reported problem.
    pub fn optional<T: Decode>(&mut self, key: &'static str, cx: &mut Cx) -> Option<T> {
        self.with(key, cx, T::decode)
    }

    /// Reads a field that may be absent with a function.
    pub fn with<T>(
        &mut self,
        key: &'static str,
        cx: &mut Cx,
        read: impl FnOnce(&Node<'_>, &mut Cx) -> Option<T>,
    ) -> Option<T> {
        let node = self.node(key)?;
        cx.within(key, |cx| read(node, cx))
    }

    /// Reads a field, with the type's default when absent: also lists and maps, empty when absent.
    pub fn or_default<T: Decode + Default>(&mut self, key: &'static str, cx: &mut Cx) -> T {
        self.optional(key, cx).unwrap_or_default()
    }

    /// Reads a field, with a given default when absent.
    pub fn or<T: Decode>(&mut self, key: &'static str, cx: &mut Cx, default: T) -> T {
        self.optional(key, cx).unwrap_or(default)
    }

    /// Reads a field with a function, with the type's default when absent.
    pub fn or_default_with<T: Default>(
        &mut self,
        key: &'static str,
        cx: &mut Cx,
        read: impl FnOnce(&Node<'_>, &mut Cx) -> Option<T>,
    ) -> T {
        self.with(key, cx, read).unwrap_or_default()
    }

    /// Whether a field is there and not null; it then counts as known.
    pub fn has(&mut self, key: &'static str) -> bool {
        self.node(key).is_some()
    }

    /// Takes the one of several exclusive fields (a protobuf `oneof`) that is there. `None` when none is; more than one
    /// is reported, and the first wins.
    pub fn one_of(&mut self, keys: &[&'static str], cx: &mut Cx) -> Option<(&'static str, &'n Node<'t>)> {
        let mut found = None;
        for &key in keys {
            let Some(node) = self.node(key) else { continue };
            match found {
                None => found = Some((key, node)),
                Some((first, _)) => {
                    let message = format!("`{key}` and `{first}` are both given, expected only one of {}", list(keys));
                    cx.report(codes::SCHEMA, node.pos, message, "");
                }
            }
        }
        found
    }

    /// Names fields that the API has and that mean nothing here; they are accepted in silence. `*` accepts every field,
    /// for what the API server writes and people do not, such as `status`.
    pub fn ignore(&mut self, keys: &[&'static str]) {
        self.known.extend_from_slice(keys);
    }

    /// Reports every field that nobody asked for.
    pub fn finish(self, cx: &mut Cx) {
        #[cfg(test)]
        crate::kind::crds::note(cx, &self.known);
        if !self.known.contains(&"*") {
            self.report_unknown(cx);
        }
    }

    fn report_unknown(self, cx: &mut Cx) {
        for (key, _) in self.entries {
            if self.known.iter().any(|known| *known == key.text) {
                continue;
            }
            let hint = match nearest(&key.text, &self.known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "it is ignored; remove it, or move it to where it belongs".to_owned(),
            };
            cx.report(codes::UNKNOWN_FIELD, key.pos, format!("unknown field `{}`", clip(&key.text)), hint);
        }
    }
}

/// The most similar of the known words, if one is similar enough to be meant.
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    // Jaro-Winkler favours a common beginning, which is where misspelt fields agree; below 0.84 suggestions mislead.
    const SIMILARITY_MIN: f64 = 0.84;
    let word = clip(word).to_lowercase();
    known
        .iter()
        .map(|k| (strsim::jaro_winkler(&word, &k.to_lowercase()), *k))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k)
}

/// Words in back quotes with commas, for messages.
pub fn list(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|w| format!("`{w}`")).collect();
    quoted.join(", ")
}

/// A text short enough for a message.
pub fn clip(text: &str) -> &str {
    const CHARS_MAX: usize = 80;
    text.char_indices().nth(CHARS_MAX).map_or(text, |(at, _)| &text[..at])
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let Some(items) = node.items() else {
            cx.mismatch(node, "a list");
            return None;
        };
        let mut decoded = Self::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let value = cx.at_index(index, |cx| {
                if item.is_null() {
                    cx.mismatch(item, "an item");
                    return None;
                }
                T::decode(item, cx)
            });
            decoded.extend(value);
        }
        Some(decoded)
    }
}

impl<T: Decode> Decode for BTreeMap<Arc<str>, T> {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let Some(entries) = node.entries() else {
            cx.mismatch(node, "a mapping");
            return None;
        };
        let mut decoded = Self::new();
        for (key, item) in entries {
            let key = cx.text(&key.text);
            if let Some(value) = cx.at_key(key.clone(), |cx| T::decode(item, cx)) {
                decoded.insert(key, value);
            }
        }
        Some(decoded)
    }
}

impl<T: Decode> Decode for Spanned<T> {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        T::decode(node, cx).map(|value| Self { value, pos: node.pos })
    }
}

impl<T: Decode> Decode for Box<T> {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        T::decode(node, cx).map(Self::new)
    }
}

impl<T: Decode> Decode for Arc<T> {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        T::decode(node, cx).map(Self::new)
    }
}

/// Declares a message: a struct whose fields say how they are read.
///
/// Each field is `name: Type = HOW "key"`, where HOW is `required`, `optional` (`Option<T>`), `or_default`, `or(value)`,
/// `with(function)` (`Option<T>`), `required_with(function)` or `or_default_with(function)`. `ignore [..]` names fields
/// of the API that mean nothing here. `check function` runs after all fields were read without error:
/// `fn(&Self, Pos, &mut Cx)`.
///
/// `resource struct` declares a kind instead: it gets a `meta: Metadata` field, and [`crate::object::Resource`] is
/// implemented in place of [`Decode`].
#[macro_export]
macro_rules! object {
    (
        $(#[$attr:meta])*
        pub struct $name:ident {
            $($(#[$fattr:meta])* pub $field:ident : $ty:ty = $how:ident $(($($arg:expr),+))? $key:literal,)*
        }
        $(ignore [$($ignored:literal),* $(,)?])?
        $(check $check:path)?
    ) => {
        $(#[$attr])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $($(#[$fattr])* pub $field: $ty,)*
        }

        impl $crate::decode::Decode for $name {
            fn decode(node: &$crate::node::Node<'_>, cx: &mut $crate::decode::Cx) -> Option<Self> {
                let errors = cx.errors();
                let mut fields = $crate::decode::Fields::of(node, cx)?;
                $(let $field = fields.$how($key, cx $(, $($arg),+)?);)*
                $(fields.ignore(&[$($ignored),*]);)?
                fields.finish(cx);
                let value = Self { $($field: $crate::object!(@take $how $field),)* };
                $(if cx.errors() == errors {
                    $check(&value, node.pos, cx);
                })?
                let _ = errors;
                Some(value)
            }
        }
    };
    (
        $(#[$attr:meta])*
        pub resource struct $name:ident {
            $($(#[$fattr:meta])* pub $field:ident : $ty:ty = $how:ident $(($($arg:expr),+))? $key:literal,)*
        }
        $(ignore [$($ignored:literal),* $(,)?])?
        $(check $check:path)?
    ) => {
        $(#[$attr])*
        #[derive(Clone, Debug)]
        pub struct $name {
            /// Name, namespace, labels, and where it stands.
            pub meta: $crate::object::Metadata,
            $($(#[$fattr])* pub $field: $ty,)*
        }

        impl $crate::object::Resource for $name {
            fn decode_body(
                meta: $crate::object::Metadata,
                fields: &mut $crate::decode::Fields<'_, '_>,
                cx: &mut $crate::decode::Cx,
            ) -> Option<Self> {
                let errors = cx.errors();
                $(let $field = fields.$how($key, cx $(, $($arg),+)?);)*
                $(fields.ignore(&[$($ignored),*]);)?
                // A kind without fields of its own or without check does not use these.
                let _ = (&fields, errors);
                let value = Self { meta, $($field: $crate::object!(@take $how $field),)* };
                $(if cx.errors() == errors {
                    $check(&value, fields.pos(), cx);
                })?
                Some(value)
            }

            fn meta(&self) -> &$crate::object::Metadata {
                &self.meta
            }
        }
    };
    (@take required $field:ident) => { $field? };
    (@take required_with $field:ident) => { $field? };
    (@take $how:ident $field:ident) => { $field };
}

/// Declares an enumeration of the API: variants with their names, and protobuf numbers where it has them.
///
/// `pub enum Mode { Simple = "SIMPLE" 1, … }`. Read by name; by number only where one is given (protobuf JSON allows it).
#[macro_export]
macro_rules! choices {
    (
        $(#[$attr:meta])*
        pub enum $name:ident {
            $($(#[$vattr:meta])* $variant:ident = $text:literal $($number:literal)?,)+
        }
    ) => {
        $(#[$attr])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$vattr])* $variant,)+
        }

        impl $name {
            /// The name in the API.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl $crate::decode::Decode for $name {
            fn decode(node: &$crate::node::Node<'_>, cx: &mut $crate::decode::Cx) -> Option<Self> {
                const CHOICES: &[(&str, Option<i64>, $name)] =
                    &[$(($text, $crate::choices!(@number $($number)?), $name::$variant)),+];
                $crate::scalar::choice(node, cx, CHOICES)
            }
        }
    };
    (@number) => { None };
    (@number $number:literal) => { Some($number) };
}
