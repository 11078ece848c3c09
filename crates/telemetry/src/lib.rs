//! Metrics and the admin interface: the metric [`catalogue`], sharded recording, exposition and the HTTP servers.
//!
//! The data plane asks a [`Shard`] for handles and records through them without locks; the control thread gathers the
//! shards into [`Family`] values and writes them as text, OpenMetrics or protobuf. Nothing here is global and nothing
//! here knows HTTP traffic, YAML or Kubernetes.

pub mod catalogue;
mod desc;
pub mod expose;
pub mod http;
mod label;
mod process;
mod registry;
mod series;
mod server;
mod shard;
mod snapshot;

pub use desc::{Desc, Kind};
pub use label::LABEL_VALUE_BYTES_MAX;
pub use process::{Memory, ProcessCollector};
pub use registry::{Registry, SeriesLimits};
pub use server::{BuildInfo, Readiness, Server, ServerState, Tenant};
pub use shard::{Counter, Gauge, Histogram, Shard};
pub use snapshot::{Collect, Families, Family, Labels, Sample, Value};
