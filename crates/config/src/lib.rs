//! From YAML and JSON manifests to the model: documents with positions, typed objects, and their translation.
//!
//! ```text
//! paths ─ files ─► document ─ tree ─► node ─ decode ─► kind::* ─► resources ─ translate ─► model::Snapshot
//!            ▲                                  │                                    │
//!          watch                                └────────── diagnostics ◄────────────┘
//! ```
//!
//! * [`loader`] reads paths and keeps what did not change and what was good; [`watch`] says when to ask it again.
//! * [`document`] cuts files into documents and decodes each by itself; [`node`] is the tree, in which everything knows its
//!   place.
//! * [`decode`], [`scalar`], [`duration`], [`quantity`] and [`address`] turn nodes into values and collect every problem;
//!   [`codes`] lists what can be found.
//! * [`kind`] has one file for each kind of object; [`mod@object`] what they have in common; [`resources`] the list of kinds and
//!   the tables of objects.
//! * [`translate`] makes of resources what one proxy obeys; [`precedence`] says who wins where objects meet; [`status`] what
//!   objects of the Gateway API read under `status`.
//! * [`simulate`] puts a pod into the resources for every replica, between loading and translation.
//!
//! Invariants: a field is read, known to mean nothing, or reported, never dropped in silence; a broken document harms no
//! other; no input panics or exhausts the process; an unchanged object keeps its address (`Arc::ptr_eq`).

pub mod address;
pub mod codes;
pub mod decode;
pub mod document;
pub mod duration;
mod files;
pub mod hosts;
pub mod kind;
pub mod loader;
pub mod node;
pub mod object;
mod pool;
pub mod precedence;
pub mod quantity;
pub mod resources;
pub mod scalar;
pub mod simulate;
pub mod status;
pub mod translate;
mod tree;
pub mod watch;
