//! Gateway API `ReferenceGrant`: objects of other namespaces that may refer to objects of its own.

use std::sync::Arc;

use super::gateway_refs::{group, kind_name, namespace};
use crate::codes;
use crate::decode::Cx;
use crate::node::Pos;

crate::object! {
    /// A permission.
    pub resource struct ReferenceGrant {
        /// `spec`.
        pub spec: ReferenceGrantSpec = required "spec",
    }
    check check_grant
}

crate::object! {
    /// `spec`: each of `from` may refer to each of `to`.
    pub struct ReferenceGrantSpec {
        /// `from`: who refers; at least one.
        pub from: Vec<GrantFrom> = required "from",
        /// `to`: what is referred to; at least one.
        pub to: Vec<GrantTo> = required "to",
    }
}

crate::object! {
    /// Objects that refer.
    pub struct GrantFrom {
        /// `group`, empty for the core group.
        pub group: Arc<str> = required_with(group) "group",
        /// `kind`.
        pub kind: Arc<str> = required_with(kind_name) "kind",
        /// `namespace`.
        pub namespace: Arc<str> = required_with(namespace) "namespace",
    }
}

crate::object! {
    /// Objects of the grant's namespace that may be referred to.
    pub struct GrantTo {
        /// `group`, empty for the core group.
        pub group: Arc<str> = required_with(group) "group",
        /// `kind`.
        pub kind: Arc<str> = required_with(kind_name) "kind",
        /// `name`; all of the kind when not given.
        pub name: Option<Arc<str>> = optional "name",
    }
}

fn check_grant(grant: &ReferenceGrant, pos: Pos, cx: &mut Cx) {
    for (field, empty) in [("from", grant.spec.from.is_empty()), ("to", grant.spec.to.is_empty())] {
        if empty {
            cx.report(codes::SCHEMA, pos, format!("spec.{field}: it is empty, expected at least one item"), "");
        }
    }
}
