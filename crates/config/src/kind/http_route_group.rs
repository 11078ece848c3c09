//! HTTPRouteGroup.
