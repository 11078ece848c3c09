//! Routing: which virtual host and route a request meets, and what the route changes.
