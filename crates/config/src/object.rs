//! What every Kubernetes object has: its metadata, and where it stands.
//!
//! Used by all kinds, by the loader (which fills [`Source`]) and by the translation (which asks for places).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use jiff::Timestamp;
use outrigger_model::{ObjectRef, Place};

use crate::codes;
use crate::decode::{Cx, Decode, Fields, clip};
use crate::node::{Node, Pos, Spanned};
use crate::resources::Kind;
use crate::scalar::string;

/// A kind of object.
pub trait Resource: Sized {
    /// Reads what is not metadata: `spec`, `status`, `data` …; the caller reports fields that nobody asked for.
    fn decode_body(meta: Metadata, fields: &mut Fields<'_, '_>, cx: &mut Cx) -> Option<Self>;

    /// Its metadata.
    fn meta(&self) -> &Metadata;
}

/// Labels: sorted, text shared between objects.
pub type Labels = BTreeMap<Arc<str>, Arc<str>>;

/// Name, namespace, labels and place of an object.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// `Service`.
    pub kind: &'static str,
    /// `apiVersion` as written, e.g. `split.smi-spec.io/v1alpha2`.
    pub api_version: &'static str,
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.namespace`, `default` when not given; empty for cluster-scoped kinds.
    pub namespace: Arc<str>,
    /// `metadata.labels`.
    pub labels: Labels,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<Arc<str>, Spanned<Arc<str>>>,
    /// `metadata.creationTimestamp`; manifests seldom have one.
    pub created: Option<Timestamp>,
    /// `metadata.deletionTimestamp`: the object is going away.
    pub deleted: Option<Timestamp>,
    /// `metadata.ownerReferences`.
    pub owners: Vec<OwnerReference>,
    /// Where `metadata.name` stands: the place of findings about the object as a whole.
    pub pos: Pos,
    /// The file and line of its document.
    pub source: Arc<Source>,
}

impl Metadata {
    /// Kind, namespace and name.
    pub fn object_ref(&self) -> ObjectRef {
        ObjectRef { kind: self.kind.into(), namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// An annotation's text.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(|value| &*value.value)
    }

    /// A label's value.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(|value| &**value)
    }
}

crate::object! {
    /// The object that manages another one.
    pub struct OwnerReference {
        /// `kind`, e.g. `ReplicaSet`.
        pub kind: Arc<str> = required "kind",
        /// `name`.
        pub name: Arc<str> = required "name",
        /// `controller`: whether it is the managing one; at most one owner is.
        pub controller: bool = or_default "controller",
    }
    ignore ["apiVersion", "uid", "blockOwnerDeletion"]
}

/// Where a document stands.
///
/// The line is not part of an object's identity: when other documents of the file grow or shrink, the loader moves it and
/// the decoded object stays as it is.
#[derive(Debug, Default)]
pub struct Source {
    /// File as the user named it.
    pub file: Arc<str>,
    /// Line of the file on which the document's first line stands, from 1.
    first_line: AtomicU32,
}

impl Source {
    /// A document that begins on a line of a file, counted from 1.
    pub fn new(file: Arc<str>, first_line: u32) -> Self {
        Self { file, first_line: AtomicU32::new(first_line) }
    }

    /// The place in the file of a position in the document.
    pub fn place(&self, pos: Pos) -> Place {
        let line = self.first_line().saturating_add(pos.line.saturating_sub(1));
        Place { file: self.file.clone(), line, column: pos.column.max(1) }
    }

    /// Line of the file on which the document's first line stands, from 1.
    pub(crate) fn first_line(&self) -> u32 {
        self.first_line.load(Ordering::Relaxed)
    }

    /// Tells that the document now begins on another line.
    pub(crate) fn move_to(&self, first_line: u32) {
        self.first_line.store(first_line, Ordering::Relaxed);
    }
}

/// Reads `metadata`; kinds that live in a namespace get the namespace `default` when none is given, others have none.
pub(crate) fn metadata(
    node: &Node<'_>,
    cx: &mut Cx,
    kind: &'static Kind,
    api_version: &'static str,
    source: &Arc<Source>,
) -> Option<Metadata> {
    let mut fields = Fields::of(node, cx)?;
    let name = fields.required_with("name", cx, |node, cx| object_name(node, cx, kind));
    let namespace: Option<Arc<str>> = fields.with("namespace", cx, namespace_name);
    let namespace = match namespace.filter(|n| !n.is_empty()) {
        _ if !kind.namespaced => Arc::default(),
        Some(namespace) => namespace,
        None => cx.text("default"),
    };
    let labels = fields.or_default_with("labels", cx, labels);
    let annotations = fields.or_default("annotations", cx);
    let created = fields.optional("creationTimestamp", cx);
    let deleted = fields.optional("deletionTimestamp", cx);
    let owners = fields.or_default("ownerReferences", cx);
    fields.ignore(&[
        "generateName",
        "uid",
        "resourceVersion",
        "generation",
        "selfLink",
        "finalizers",
        "managedFields",
        "deletionGracePeriodSeconds",
    ]);
    fields.finish(cx);
    let name = name?;
    Some(Metadata {
        kind: kind.name,
        api_version,
        name: name.value,
        namespace,
        labels,
        annotations,
        created,
        deleted,
        owners,
        pos: name.pos,
        source: source.clone(),
    })
}

/// Longest name of an object, and of a DNS label.
const NAME_CHARS_MAX: usize = 253;
const LABEL_CHARS_MAX: usize = 63;

/// Names become parts of host names, metric labels and paths; the API server refuses others too.
fn object_name(node: &Node<'_>, cx: &mut Cx, kind: &Kind) -> Option<Spanned<Arc<str>>> {
    let name = string(node, cx)?;
    let (valid, expected) = if matches!(kind.name, "Service" | "Namespace") {
        (is_dns_label(name), "a name of at most 63 lower-case letters, digits and inner hyphens")
    } else {
        (is_dns_name(name), "a name of at most 253 lower-case letters, digits, hyphens and dots")
    };
    if !valid {
        cx.mismatch(node, expected);
        return None;
    }
    Some(Spanned { value: cx.text(name), pos: node.pos })
}

fn namespace_name(node: &Node<'_>, cx: &mut Cx) -> Option<Arc<str>> {
    let name = string(node, cx)?;
    // Empty means not given, as in the API.
    if !name.is_empty() && !is_dns_label(name) {
        cx.mismatch(node, "a name of at most 63 lower-case letters, digits and inner hyphens");
        return None;
    }
    Some(cx.text(name))
}

/// RFC 1123 label.
pub(crate) fn is_dns_label(text: &str) -> bool {
    text.len() <= LABEL_CHARS_MAX && is_dns_part(text)
}

/// RFC 1123 subdomain; its parts have no limit of their own, as in Kubernetes.
pub(crate) fn is_dns_name(text: &str) -> bool {
    text.len() <= NAME_CHARS_MAX && text.split('.').all(is_dns_part)
}

fn is_dns_part(part: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-')
}

/// `with(labels)`: labels as the API server accepts them; their values become metric labels.
pub(crate) fn labels(node: &Node<'_>, cx: &mut Cx) -> Option<Labels> {
    let labels = Labels::decode(node, cx)?;
    for (key, item) in node.entries().unwrap_or_default() {
        if !is_label_key(&key.text) {
            let message = format!("found the label key {:?}, expected NAME or DOMAIN/NAME", clip(&key.text));
            cx.report(codes::SCHEMA, key.pos, message, "");
        }
        if labels.get(&*key.text).is_some_and(|value| !is_label_value(value)) {
            let expected = "at most 63 letters, digits and inner `-`, `_` and `.`";
            cx.at_key(key.text.as_ref().into(), |cx| cx.mismatch(item, expected));
        }
    }
    Some(labels)
}

fn is_label_key(key: &str) -> bool {
    let (domain, name) = key.split_once('/').map_or((None, key), |(domain, name)| (Some(domain), name));
    !name.is_empty() && is_label_value(name) && domain.is_none_or(is_dns_name)
}

fn is_label_value(value: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let edge = |b: Option<u8>| b.is_none_or(|b| b.is_ascii_alphanumeric());
    value.len() <= LABEL_CHARS_MAX
        && value.bytes().all(inner)
        && edge(value.bytes().next())
        && edge(value.bytes().next_back())
}
