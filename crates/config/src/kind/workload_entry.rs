//! WorkloadEntry.
