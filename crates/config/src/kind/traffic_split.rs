//! TrafficSplit.
