//! Host names: short names, wildcards.
