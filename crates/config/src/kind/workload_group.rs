//! WorkloadGroup.
