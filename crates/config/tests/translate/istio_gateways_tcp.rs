//! Istio Gateways that take connections: TLS by server name, and TCP.
