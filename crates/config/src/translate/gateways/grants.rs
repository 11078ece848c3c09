//! ReferenceGrants: which objects may refer to objects of other namespaces.

use crate::kind::reference_grant::ReferenceGrant;
use crate::resources::Resources;

/// All permissions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grants<'r> {
    resources: &'r Resources,
}

/// Who refers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Referrer<'o> {
    /// API group.
    pub(crate) group: &'o str,
    /// Kind, such as `HTTPRoute`.
    pub(crate) kind: &'o str,
    /// Namespace.
    pub(crate) namespace: &'o str,
}

/// What is referred to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Referent<'o> {
    /// API group, empty for the core group.
    pub(crate) group: &'o str,
    /// Kind, such as `Service`.
    pub(crate) kind: &'o str,
    /// Namespace, that of the referrer filled in where none was given.
    pub(crate) namespace: &'o str,
    /// Name.
    pub(crate) name: &'o str,
}

impl<'r> Grants<'r> {
    /// Those of an input.
    pub(crate) fn new(resources: &'r Resources) -> Self {
        Self { resources }
    }

    /// Whether `from` may refer to `to`: always in its own namespace, elsewhere when a grant there says so.
    pub(crate) fn permits(&self, from: Referrer<'_>, to: Referent<'_>) -> bool {
        from.namespace == to.namespace
            || self.resources.reference_grants.in_namespace(to.namespace).iter().any(|grant| allows(grant, from, to))
    }
}

fn allows(grant: &ReferenceGrant, from: Referrer<'_>, to: Referent<'_>) -> bool {
    let is_from = grant
        .spec
        .from
        .iter()
        .any(|f| *f.group == *from.group && *f.kind == *from.kind && *f.namespace == *from.namespace);
    let is_named = |name: &str| name.is_empty() || name == to.name;
    let is_to = |t: &crate::kind::reference_grant::GrantTo| {
        *t.group == *to.group && *t.kind == *to.kind && t.name.as_deref().is_none_or(is_named)
    };
    is_from && grant.spec.to.iter().any(is_to)
}
