//! Gateway API `ListenerSet`: further listeners for a Gateway, from whoever the Gateway lets add them.

use std::sync::Arc;

use super::gateway_api::{Listener, listeners};
use super::gateway_refs::{namespace, object_name};
use crate::node::Spanned;

crate::object! {
    /// Listeners to add to a Gateway.
    pub resource struct ListenerSet {
        /// `spec`.
        pub spec: ListenerSetSpec = required "spec",
    }
    ignore ["status"]
}

crate::object! {
    /// `spec`.
    pub struct ListenerSetSpec {
        /// `parentRef`: the Gateway.
        pub parent: Spanned<ParentGateway> = required "parentRef",
        /// `listeners`: 1 to 64.
        pub listeners: Vec<Spanned<Listener>> = required_with(listeners) "listeners",
    }
}

crate::object! {
    /// `parentRef`.
    pub struct ParentGateway {
        /// `group`, default `gateway.networking.k8s.io`.
        pub group: Arc<str> = or(super::gateway_api::GROUP.into()) "group",
        /// `kind`, default `Gateway`.
        pub kind: Arc<str> = or("Gateway".into()) "kind",
        /// `namespace`; the ListenerSet's own when not given.
        pub namespace: Option<Arc<str>> = with(namespace) "namespace",
        /// `name`.
        pub name: Arc<str> = required_with(object_name) "name",
    }
}
