//! Istio Gateways that end TLS: certificates, clients, versions, and what is left out.
