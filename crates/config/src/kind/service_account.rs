//! Kubernetes `ServiceAccount`: the name from which a workload's identity is made.

crate::object! {
    /// A service account.
    pub resource struct ServiceAccount {}
    ignore ["automountServiceAccountToken", "imagePullSecrets", "secrets"]
}
