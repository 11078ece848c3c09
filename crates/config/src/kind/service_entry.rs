//! ServiceEntry.
