//! From YAML and JSON manifests to the model: documents with positions, typed objects, and their translation.

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
pub mod translate;
mod tree;
pub mod watch;
