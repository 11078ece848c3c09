//! Gateway API `GatewayClass`: which controller serves the Gateways of a class.

use std::sync::Arc;

use super::gateway_refs::{group, kind_name, namespace, object_name};
use crate::address::parsed;
use crate::decode::Cx;
use crate::node::{Node, Spanned};

crate::object! {
    /// A class of Gateways.
    pub resource struct GatewayClass {
        /// `spec`.
        pub spec: GatewayClassSpec = required "spec",
    }
    ignore ["status"]
}

crate::object! {
    /// `spec`.
    pub struct GatewayClassSpec {
        /// `controllerName`: `DOMAIN/PATH`.
        pub controller_name: Spanned<Arc<str>> = required_with(controller_name) "controllerName",
        /// `parametersRef`: settings of the controller.
        pub parameters: Option<Spanned<ParametersRef>> = optional "parametersRef",
    }
    ignore ["description"]
}

crate::object! {
    /// `parametersRef`.
    pub struct ParametersRef {
        /// `group`, empty for the core group.
        pub group: Arc<str> = required_with(group) "group",
        /// `kind`.
        pub kind: Arc<str> = required_with(kind_name) "kind",
        /// `name`.
        pub name: Arc<str> = required_with(object_name) "name",
        /// `namespace`; that of the Gateway where a Gateway refers.
        pub namespace: Option<Arc<str>> = with(namespace) "namespace",
    }
}

fn controller_name(node: &Node<'_>, cx: &mut Cx) -> Option<Spanned<Arc<str>>> {
    let value = parsed(node, cx, "DOMAIN/PATH, such as `outrigger.dev/gateway-controller`", |text| {
        let (domain, path) = text.split_once('/')?;
        (crate::address::is_host(domain) && !path.is_empty()).then(|| text.into())
    })?;
    Some(Spanned { value, pos: node.pos })
}
