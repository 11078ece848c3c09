//! The one list of metric names.
//!
//! **How to add a metric**
//! 1. Put a `static` into the group it belongs to: [`istio`], [`envoy_cluster`] and [`envoy_server`] hold names
//!    fixed by others (copy them to the letter), [`ours`] what nobody else has (prefix `outrigger_`, base units, unit at
//!    the end of the name, `_total` for counters), [`process`] what every Prometheus client library exposes.
//! 2. Say in the help text what one unit of it means and how to read it; name the unit with `.unit(…)`.
//! 3. Choose labels whose values come from configuration, registry or certificate, never from a client, and write down
//!    how many values there can be.
//! 4. Record it through a [`crate::Shard`], or compute it at scrape in a [`crate::Collect`].
//!
//! The macro puts it into [`all`]; a test lints every name, so nothing else is needed. A metric without series is not
//! exposed: a name may stand here before its feature does.

pub mod envoy_cluster;
pub mod envoy_server;
pub mod istio;
pub mod ours;
pub mod process;

pub use envoy_cluster::*;
pub use envoy_server::*;
pub use istio::*;
pub use ours::*;
pub use process::*;

use crate::Desc;

/// Envoy's and Istio's default bounds, used for milliseconds and bytes alike.
pub const BUCKETS_STANDARD: &[f64] = &[
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0, 30000.0, 60000.0, 300000.0,
    600000.0, 1800000.0, 3600000.0,
];

/// Every metric, group by group.
pub fn all() -> impl Iterator<Item = &'static Desc> {
    [ISTIO_METRICS, CLUSTER_METRICS, SERVER_METRICS, OURS_METRICS, PROCESS_METRICS].into_iter().flatten().copied()
}

/// The description of a name.
pub fn find(name: &str) -> Option<&'static Desc> {
    all().find(|desc| desc.name == name)
}

/// Declares the metrics of a group, and their list under the name that comes first.
macro_rules! metrics {
    ($list:ident; $($(#[$doc:meta])* $name:ident = $desc:expr;)*) => {
        $($(#[$doc])* pub static $name: $crate::Desc = $desc;)*
        /// The metrics of this group.
        pub(super) static $list: &[&$crate::Desc] = &[$(&$name),*];
    };
}
pub(crate) use metrics;
