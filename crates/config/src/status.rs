//! What the objects of the Gateway API would read under `status`: conditions, with the reasons that the specification names.
//!
//! They fall out of the translation itself (`translate::gateways`): what a condition says is what the listeners do.

use std::sync::Arc;

use crate::resources::Resources;
use crate::translate::{Translator, View};

/// The status of an object, of one of its listeners, or of a route towards one of its parents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectStatus {
    /// `GatewayClass`, `Gateway`, `ListenerSet`, or the kind of a route.
    pub kind: Arc<str>,
    /// Namespace, empty for a GatewayClass.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// The parent of a route: `Gateway NAMESPACE/NAME`, followed by `/SECTION` and `:PORT` where the route names them.
    pub parent: Option<String>,
    /// The listener of a Gateway or ListenerSet.
    pub listener: Option<Arc<str>>,
    /// `attachedRoutes` of a listener.
    pub attached_routes: Option<u32>,
    /// `supportedKinds` of a listener.
    pub supported_kinds: Option<Vec<Arc<str>>>,
    /// `attachedListenerSets` of a Gateway.
    pub attached_listener_sets: Option<u32>,
    /// Conditions.
    pub conditions: Vec<Condition>,
}

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `type`: `Accepted`, `ResolvedRefs`, `Programmed`, `Conflicted` …
    pub kind: &'static str,
    /// `status`.
    pub status: ConditionStatus,
    /// `reason`.
    pub reason: &'static str,
    /// `message`, a sentence; empty where nothing is to be said.
    pub message: String,
}

/// `status` of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody can say.
    Unknown,
}

impl ConditionStatus {
    /// `True`, `False` or `Unknown`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl ObjectStatus {
    /// That of an object as a whole.
    pub(crate) fn of(kind: &str, namespace: &Arc<str>, name: &Arc<str>, conditions: Vec<Condition>) -> Self {
        Self {
            kind: kind.into(),
            namespace: namespace.clone(),
            name: name.clone(),
            parent: None,
            listener: None,
            attached_routes: None,
            supported_kinds: None,
            attached_listener_sets: None,
            conditions,
        }
    }
}

impl Condition {
    /// One that holds.
    pub(crate) fn holds(kind: &'static str, reason: &'static str) -> Self {
        Self { kind, status: ConditionStatus::True, reason, message: String::new() }
    }

    /// One that does not.
    pub(crate) fn fails(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, status: ConditionStatus::False, reason, message: message.into() }
    }
}

/// The status of every GatewayClass, Gateway, ListenerSet and route that is served here: in this order, each kind in input
/// order, listeners after their object. Objects of other controllers have none.
pub fn conditions(resources: &Resources, view: &View) -> Vec<ObjectStatus> {
    let mut translator = Translator::new(view.clone());
    translator.translate(resources);
    translator.conditions().to_vec()
}
