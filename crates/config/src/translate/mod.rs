//! From resources to the model's snapshot.
