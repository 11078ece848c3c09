//! VirtualService.
