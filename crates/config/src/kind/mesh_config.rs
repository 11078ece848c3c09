//! MeshConfig.
