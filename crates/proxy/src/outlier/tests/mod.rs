//! Envoy's algorithm case by case, on given time: scripts in, ejections and returns out.

mod algorithm;
mod changes;
mod metrics;
mod rates;
