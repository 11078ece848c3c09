//! Kubernetes `Namespace`: only its labels and annotations mean something here.

crate::object! {
    /// A namespace.
    pub resource struct Namespace {}
    ignore ["spec", "status"]
}
