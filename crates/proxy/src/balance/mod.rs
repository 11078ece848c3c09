//! Load balancing: which endpoint of a cluster takes a request.
