//! DestinationRule.
