//! All objects of an input, by kind, namespace and name.
//!
//! `kinds!` is the one list of what has a meaning here: kind, group, versions, scope and type. Where two groups have a
//! kind of one name, the variant has a name of its own and `("Gateway")` says the kind's. A [`Table`] keeps input order,
//! finds by name, and is shared as a whole between loads that did not change it, as are the objects in it: `Arc::ptr_eq`
//! means "unchanged". Built by `loader`, read by `translate`.

use std::collections::HashMap;
use std::sync::Arc;

use outrigger_model::{Diagnostic, ObjectRef};

use crate::codes;
use crate::decode::{Cx, Fields};
use crate::kind;
use crate::object::{Metadata, Resource};

/// A kind that has a meaning here.
#[derive(Debug)]
pub struct Kind {
    /// `Service`. Two API groups may have kinds of one name.
    pub name: &'static str,
    /// The name of its variant of [`Object`], which is its own: `IstioGateway` for the `Gateway` of Istio.
    pub variant: &'static str,
    /// `v1`, `networking.istio.io/v1beta1` …, the preferred one first.
    pub api_versions: &'static [&'static str],
    /// Whether its objects live in a namespace.
    pub namespaced: bool,
    pub(crate) decode: fn(Metadata, &mut Fields<'_, '_>, &mut Cx) -> Option<Object>,
}

impl Kind {
    /// What tells an object of this kind from all others.
    pub(crate) fn key(&self, object: ObjectRef) -> ObjectKey {
        ObjectKey { variant: self.variant, object }
    }
}

/// What tells an object from all others. Its reference alone does not: two groups may have kinds of one name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ObjectKey {
    /// [`Kind::variant`].
    variant: &'static str,
    /// Kind, namespace and name.
    pub(crate) object: ObjectRef,
}

/// Kinds that change what a proxy does, and are not obeyed yet. To pass one over among certificates and dashboards would
/// hide that a policy is not in force, so that each object of theirs is named. By group.
const TO_COME: &[(&str, &str)] = &[
    ("gateway.networking.k8s.io", "BackendTLSPolicy"),
    ("gateway.networking.k8s.io", "UDPRoute"),
    ("gateway.networking.x-k8s.io", "XBackendTrafficPolicy"),
    ("networking.istio.io", "EnvoyFilter"),
    ("networking.istio.io", "ProxyConfig"),
    ("security.istio.io", "AuthorizationPolicy"),
    ("security.istio.io", "PeerAuthentication"),
    ("security.istio.io", "RequestAuthentication"),
    ("telemetry.istio.io", "Telemetry"),
    ("extensions.istio.io", "WasmPlugin"),
];

impl ObjectKey {
    /// Of an object of a kind that is to come.
    pub(crate) fn to_come(kind: &'static str, namespace: &str, name: &str) -> Self {
        Self { variant: kind, object: ObjectRef { kind: kind.into(), namespace: namespace.into(), name: name.into() } }
    }
}

/// What an `apiVersion` and `kind` name.
pub(crate) enum Found {
    /// A kind, in this version.
    Kind(&'static Kind, &'static str),
    /// A kind of this group, in a version that is not known.
    OtherVersion(&'static Kind),
    /// A kind of the mesh's APIs that nothing obeys yet.
    ToCome(&'static str),
    /// Nothing that has a meaning here.
    Unknown,
}

/// Looks a kind up by its group and name.
pub(crate) fn find_kind(api_version: &str, kind: &str) -> Found {
    let group = group_of(api_version);
    let Some(known) = KINDS.iter().find(|k| k.name == kind && group_of(k.api_versions[0]) == group) else {
        let to_come = TO_COME.iter().find(|(of, name)| *of == group && *name == kind);
        return to_come.map_or(Found::Unknown, |(_, name)| Found::ToCome(name));
    };
    match known.api_versions.iter().find(|version| **version == api_version) {
        Some(version) => Found::Kind(known, version),
        None => Found::OtherVersion(known),
    }
}

fn group_of(api_version: &str) -> &str {
    api_version.rsplit_once('/').map_or("", |(group, _)| group)
}

macro_rules! kinds {
    ($($name:ident $(($yaml:literal))? $table:ident: $ty:path, $scope:ident, [$($version:literal),+];)+) => {
        /// An object of any kind.
        #[derive(Clone, Debug)]
        pub enum Object {
            $(
                #[doc = concat!("`", stringify!($name), "`.")]
                $name(Arc<$ty>),
            )+
        }

        impl Object {
            /// Its metadata.
            pub fn meta(&self) -> &Metadata {
                match self {
                    $(Self::$name(object) => object.meta(),)+
                }
            }

            /// What tells it from all others.
            pub(crate) fn key(&self) -> ObjectKey {
                let variant = match self {
                    $(Self::$name(_) => stringify!($name),)+
                };
                ObjectKey { variant, object: self.meta().object_ref() }
            }

            /// Whether both are the same object in memory, which means unchanged.
            pub fn ptr_eq(&self, other: &Self) -> bool {
                #[allow(unreachable_patterns, reason = "with a single kind nothing is left over")]
                match (self, other) {
                    $((Self::$name(a), Self::$name(b)) => Arc::ptr_eq(a, b),)+
                    _ => false,
                }
            }
        }

        /// Every kind that has a meaning here.
        pub static KINDS: &[Kind] = &[
            $(Kind {
                name: kinds!(@yaml $name $($yaml)?),
                variant: stringify!($name),
                api_versions: &[$($version),+],
                namespaced: kinds!(@$scope),
                decode: |meta, fields, cx| {
                    <$ty>::decode_body(meta, fields, cx).map(|object| Object::$name(Arc::new(object)))
                },
            },)+
        ];

        /// All objects in force. Tables that did not change are shared with the load before.
        #[derive(Clone, Debug, Default)]
        pub struct Resources {
            $(
                #[doc = concat!("Objects of kind `", stringify!($name), "`.")]
                pub $table: Arc<Table<$ty>>,
            )+
        }

        impl Resources {
            /// Sorts objects, in input order, into tables; `before` lends its tables where nothing changed. The second
            /// object of the same kind and name stays out and is reported.
            pub(crate) fn build(objects: Vec<Object>, before: &Self) -> (Self, Vec<Diagnostic>) {
                $(let mut $table = Vec::with_capacity(before.$table.len());)+
                for object in objects {
                    match object {
                        $(Object::$name(object) => $table.push(object),)+
                    }
                }
                let mut diagnostics = Vec::new();
                let resources = Self {
                    $($table: Table::build($table, &before.$table, &mut diagnostics),)+
                };
                (resources, diagnostics)
            }

            /// The object of a key.
            pub(crate) fn find(&self, key: &ObjectKey) -> Option<Object> {
                $(if key.variant == stringify!($name) {
                    return self.$table.get(&key.object.namespace, &key.object.name).cloned().map(Object::$name);
                })+
                None
            }

            /// How many objects there are.
            pub fn len(&self) -> usize {
                0 $(+ self.$table.len())+
            }

            /// Whether every table is the same as another's.
            pub fn same_as(&self, other: &Self) -> bool {
                true $(&& Arc::ptr_eq(&self.$table, &other.$table))+
            }
        }
    };
    (@namespaced) => { true };
    (@cluster) => { false };
    (@yaml $name:ident) => { stringify!($name) };
    (@yaml $name:ident $yaml:literal) => { $yaml };
}

kinds! {
    Namespace namespaces: kind::namespace::Namespace, cluster, ["v1"];
    Node nodes: kind::node::Node, cluster, ["v1"];
    Service services: kind::service::Service, namespaced, ["v1"];
    EndpointSlice endpoint_slices: kind::endpoint_slice::EndpointSlice, namespaced,
        ["discovery.k8s.io/v1", "discovery.k8s.io/v1beta1"];
    Endpoints endpoints: kind::endpoints::Endpoints, namespaced, ["v1"];
    Pod pods: kind::pod::Pod, namespaced, ["v1"];
    Deployment deployments: kind::deployment::Deployment, namespaced, ["apps/v1"];
    ReplicaSet replica_sets: kind::replica_set::ReplicaSet, namespaced, ["apps/v1"];
    StatefulSet stateful_sets: kind::stateful_set::StatefulSet, namespaced, ["apps/v1"];
    DaemonSet daemon_sets: kind::daemon_set::DaemonSet, namespaced, ["apps/v1"];
    Job jobs: kind::job::Job, namespaced, ["batch/v1"];
    ServiceAccount service_accounts: kind::service_account::ServiceAccount, namespaced, ["v1"];
    Secret secrets: kind::secret::Secret, namespaced, ["v1"];
    ConfigMap config_maps: kind::config_map::ConfigMap, namespaced, ["v1"];
    DestinationRule destination_rules: kind::destination_rule::DestinationRule, namespaced,
        ["networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"];
    VirtualService virtual_services: kind::virtual_service::VirtualService, namespaced,
        ["networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"];
    ServiceEntry service_entries: kind::service_entry::ServiceEntry, namespaced,
        ["networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"];
    WorkloadEntry workload_entries: kind::workload_entry::WorkloadEntry, namespaced,
        ["networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"];
    WorkloadGroup workload_groups: kind::workload_group::WorkloadGroup, namespaced,
        ["networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"];
    Sidecar sidecars: kind::sidecar::Sidecar, namespaced,
        ["networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"];
    IstioGateway("Gateway") istio_gateways: kind::istio_gateway::IstioGateway, namespaced,
        ["networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"];
    GatewayClass gateway_classes: kind::gateway_class::GatewayClass, cluster,
        ["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"];
    Gateway gateways: kind::gateway_api::Gateway, namespaced,
        ["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"];
    ListenerSet listener_sets: kind::listener_set::ListenerSet, namespaced, ["gateway.networking.k8s.io/v1"];
    ReferenceGrant reference_grants: kind::reference_grant::ReferenceGrant, namespaced,
        ["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"];
    TrafficSplit traffic_splits: kind::traffic_split::TrafficSplit, namespaced,
        ["split.smi-spec.io/v1alpha4", "split.smi-spec.io/v1alpha3", "split.smi-spec.io/v1alpha2", "split.smi-spec.io/v1alpha1"];
    HTTPRouteGroup http_route_groups: kind::http_route_group::HttpRouteGroup, namespaced,
        ["specs.smi-spec.io/v1alpha4", "specs.smi-spec.io/v1alpha3", "specs.smi-spec.io/v1alpha2", "specs.smi-spec.io/v1alpha1"];
    HTTPRoute http_routes: kind::http_route::HttpRoute, namespaced,
        ["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"];
    GRPCRoute grpc_routes: kind::grpc_route::GrpcRoute, namespaced,
        ["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1alpha2"];
    TLSRoute tls_routes: kind::tls_route::TlsRoute, namespaced,
        ["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1alpha3", "gateway.networking.k8s.io/v1alpha2"];
    TCPRoute tcp_routes: kind::tcp_route::TcpRoute, namespaced,
        ["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1alpha2"];
    CircuitBreaker circuit_breakers: kind::circuit_breaker::CircuitBreaker, namespaced, ["outrigger.dev/v1alpha1"];
    RateLimit rate_limits: kind::rate_limit::RateLimit, namespaced, ["outrigger.dev/v1alpha1"];
}

impl Resources {
    /// HTTPRoutes, then GRPCRoutes in the form of HTTPRoutes, each kind in input order.
    pub(crate) fn request_routes(&self) -> impl Iterator<Item = &Arc<kind::http_route::HttpRoute>> {
        self.http_routes.iter().chain(self.grpc_routes.iter().map(|grpc| &grpc.route))
    }

    /// Whether there are no objects.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The objects of one kind, in input order.
#[derive(Debug)]
pub struct Table<T> {
    items: Vec<Arc<T>>,
    /// Namespace, then name, to the index of the object.
    index: HashMap<Arc<str>, HashMap<Arc<str>, u32, foldhash::fast::RandomState>, foldhash::fast::RandomState>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { items: Vec::new(), index: HashMap::default() }
    }
}

impl<T: Resource> Table<T> {
    fn build(objects: Vec<Arc<T>>, before: &Arc<Self>, diagnostics: &mut Vec<Diagnostic>) -> Arc<Self> {
        if same(&objects, &before.items) {
            return before.clone();
        }
        let mut table = Self { items: Vec::with_capacity(objects.len()), index: HashMap::default() };
        for object in objects {
            let meta = object.meta();
            if let Some(first) = table.get(&meta.namespace, &meta.name) {
                let first = first.meta();
                let place = first.source.place(first.pos);
                diagnostics.push(codes::DUPLICATE_OBJECT.about(
                    meta,
                    meta.pos,
                    format!("already defined at {place}, and that definition stays in force"),
                    "remove one of them, or give it another name",
                ));
                continue;
            }
            // The number of objects is bounded by the bytes of the input, far below 2^32.
            let index = u32::try_from(table.items.len()).unwrap_or(u32::MAX);
            table.index.entry(meta.namespace.clone()).or_default().insert(meta.name.clone(), index);
            table.items.push(object);
        }
        if same(&table.items, &before.items) { before.clone() } else { Arc::new(table) }
    }

    /// A table of objects whose names differ; `before` is lent where it holds the same.
    pub(crate) fn of(objects: Vec<Arc<T>>, before: &Arc<Self>) -> Arc<Self> {
        Self::build(objects, before, &mut Vec::new())
    }

    /// The object of a namespace (empty for cluster-scoped kinds) and name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Arc<T>> {
        let index = *self.index.get(namespace)?.get(name)?;
        self.items.get(index as usize)
    }

    /// All objects in input order.
    pub fn iter(&self) -> std::slice::Iter<'_, Arc<T>> {
        self.items.iter()
    }

    /// The objects of a namespace, in input order.
    pub fn in_namespace(&self, namespace: &str) -> Vec<&Arc<T>> {
        let mut indexes: Vec<u32> =
            self.index.get(namespace).map(|names| names.values().copied().collect()).unwrap_or_default();
        indexes.sort_unstable();
        indexes.into_iter().filter_map(|index| self.items.get(index as usize)).collect()
    }

    /// All objects, the oldest first: by creation time, then namespace and name, as Kubernetes and Istio decide
    /// conflicts. Objects without creation time are not applied yet, so they count as younger than all others and keep
    /// their input order.
    pub fn oldest_first(&self) -> Vec<&Arc<T>> {
        let mut sorted: Vec<&Arc<T>> = self.items.iter().collect();
        // The sort is stable: equal keys stay in input order.
        sorted.sort_by(|a, b| {
            let key = |object: &T| object.meta().created.map(|created| (created, name_of(object)));
            match (key(a), key(b)) {
                (Some(a), Some(b)) => a.cmp(&b),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (None, None) => std::cmp::Ordering::Equal,
            }
        });
        sorted
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

fn same<T>(a: &[Arc<T>], b: &[Arc<T>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}

fn name_of<T: Resource>(object: &T) -> (Arc<str>, Arc<str>) {
    (object.meta().namespace.clone(), object.meta().name.clone())
}
