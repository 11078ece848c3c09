//! Which Gateways are served: a Gateway asks for a class, and a class for a controller.

use std::sync::Arc;

use super::fault::Fault;
use crate::codes;
use crate::kind::gateway_api::Gateway;
use crate::kind::gateway_class::{GatewayClass, ParametersRef};
use crate::node::Spanned;
use crate::object::Metadata;
use crate::resources::Resources;

/// This controller.
const CONTROLLER: &str = "outrigger.dev/gateway-controller";

/// Classes that are served whatever their controller: manifests that were written for Istio name its class.
const NAMES: [&str; 2] = ["outrigger", "istio"];

/// Who serves a Gateway.
pub(super) enum Served<'r> {
    /// This controller.
    Here,
    /// This controller, once the class is accepted.
    Pending(&'r Arc<GatewayClass>),
    /// Somebody else; the class, where it is defined.
    Elsewhere(Option<&'r Arc<GatewayClass>>),
}

/// Who serves a Gateway. Where the input has no GatewayClass at all, every class is served: it is then a matter of the
/// cluster, of which only a part is here.
pub(super) fn served<'r>(gateway: &Gateway, resources: &'r Resources) -> Served<'r> {
    let name = &gateway.spec.class.value;
    let class = resources.gateway_classes.get("", name);
    match class {
        Some(class) if is_own(class) && fault(class, resources).is_some() => Served::Pending(class),
        Some(class) if is_own(class) => Served::Here,
        None if resources.gateway_classes.is_empty() || NAMES.contains(&&**name) => Served::Here,
        other => Served::Elsewhere(other),
    }
}

/// Whether a class is this controller's.
pub(super) fn is_own(class: &GatewayClass) -> bool {
    &*class.spec.controller_name.value == CONTROLLER || NAMES.contains(&&*class.meta.name)
}

/// Why a class is not accepted.
pub(super) fn fault<'r>(class: &'r GatewayClass, resources: &Resources) -> Option<Fault<'r>> {
    let parameters = class.spec.parameters.as_ref()?;
    invalid_parameters(&class.meta, parameters, parameters.namespace.as_deref().unwrap_or(""), resources)
}

/// Why `parametersRef` is refused. A ConfigMap is taken: it changes how a Gateway is deployed (Istio), which means nothing
/// here. Any other kind belongs to a controller whose settings are not known.
pub(super) fn invalid_parameters<'r>(
    meta: &'r Metadata,
    parameters: &Spanned<ParametersRef>,
    namespace: &str,
    resources: &Resources,
) -> Option<Fault<'r>> {
    let ParametersRef { group, kind, name, .. } = &parameters.value;
    let fault = |message: String, hint: &str| {
        let (code, reason) = (codes::GATEWAY_REFUSED, "InvalidParameters");
        Some(Fault { meta, pos: parameters.pos, code, reason, message, hint: hint.to_owned() })
    };
    if !group.is_empty() || &**kind != "ConfigMap" {
        let message =
            format!("parametersRef names a {kind} of the group {group:?}, expected a ConfigMap of the core group");
        return fault(message, "remove it: this controller has no parameters");
    }
    if namespace.is_empty() {
        return fault("parametersRef names a ConfigMap without its namespace".to_owned(), "add `namespace`");
    }
    if resources.config_maps.get(namespace, name).is_none() {
        let message = format!("parametersRef names ConfigMap {namespace}/{name}, which does not exist");
        return fault(message, "add it, or remove the reference");
    }
    None
}

/// Says that a Gateway is not served here, and by whom it would be.
pub(super) fn not_served(gateway: &Gateway, class: Option<&Arc<GatewayClass>>) -> outrigger_model::Diagnostic {
    let name = &gateway.spec.class;
    let controller = match class {
        Some(class) => format!("belongs to the controller {}", &*class.spec.controller_name.value),
        None => "is not among the GatewayClasses of the input".to_owned(),
    };
    let message = format!("is not served: its class {:?} {controller}", &*name.value);
    let hint = format!("name a class whose controllerName is {CONTROLLER}, or `outrigger` or `istio`");
    codes::GATEWAY_OF_OTHERS.about(&gateway.meta, name.pos, message, hint)
}
