//! Who wins when APIs meet.
