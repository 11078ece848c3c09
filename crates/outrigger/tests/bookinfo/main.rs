//! Istio's own Bookinfo, its files unmodified, as a simulated mesh: it behaves as Istio documents.
//!
//! The files are other projects' and not ours to copy: they lie in a folder beside the repository, or where
//! `OUTRIGGER_SHARED` says. Where they are missing these tests say so and pass; with `OUTRIGGER_CI` set they fail.

mod gateways;
mod mesh;
mod platform;
mod routes;
