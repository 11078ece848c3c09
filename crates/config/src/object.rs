//! What every Kubernetes object has: its metadata, and where it stands.
//!
//! Used by all kinds, by the loader (which fills [`Source`]) and by the translation (which asks for places).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use jiff::Timestamp;
use outrigger_model::{ObjectRef, Place};

use crate::decode::{Cx, Fields};
use crate::node::{Node, Pos, Spanned};
use crate::resources::Kind;

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
        let first = self.first_line.load(Ordering::Relaxed);
        let line = first.saturating_add(pos.line.saturating_sub(1));
        Place { file: self.file.clone(), line, column: pos.column.max(1) }
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
    let name = fields.required_with::<Spanned<Arc<str>>>("name", cx, |node, cx| {
        crate::scalar::non_empty(node, cx).map(|value| Spanned { value, pos: node.pos })
    });
    let namespace: Option<Arc<str>> = fields.optional("namespace", cx);
    let namespace = match namespace.filter(|n| !n.is_empty()) {
        _ if !kind.namespaced => Arc::default(),
        Some(namespace) => namespace,
        None => cx.text("default"),
    };
    let labels = fields.or_default("labels", cx);
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
