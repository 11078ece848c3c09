//! The same task in the words of HAProxy, Envoy and Outrigger.
//!
//! One worker each, keep-alive on both sides, no access log, no filters; statistics where they are on by default.

use std::net::SocketAddr;

use crate::bench::part::Part;

/// The Host header of the load: the service that Outrigger's configuration names.
pub(crate) const HOST: &str = "backend.bench:8080";

/// More connections than a load opens, and more than are held idle.
const CONNECTIONS_MAX: [u32; 2] = [4_096, 11_000];

/// HAProxy. `splice` lets the kernel move relayed bytes, which is not its default.
pub(crate) fn haproxy(part: Part, splice: bool, listen: SocketAddr, backend: SocketAddr) -> String {
    let mode = if part.is_relay() { "tcp" } else { "http" };
    let options = match (part.is_relay(), splice) {
        (true, true) => "option splice-auto",
        (true, false) => "",
        (false, _) => "option http-keep-alive\n   http-reuse always",
    };
    let protocol = if part.is_h2() { " proto h2" } else { "" };
    let connections_max = CONNECTIONS_MAX[usize::from(part.is_idle())];
    // HAProxy wants two files for each connection it may have; here the second is hardly ever used, and the limit may stay
    // below that.
    format!(
        "global
   nbthread 1
   maxconn {connections_max}
   no strict-limits
 defaults
   mode {mode}
   timeout connect 5s
   timeout client 600s
   timeout server 600s
   {options}
 frontend in
   bind {listen}{protocol}
   default_backend out
 backend out
   server s1 {backend}{protocol}\n"
    )
}

/// Envoy.
pub(crate) fn envoy(part: Part, listen: SocketAddr, backend: SocketAddr) -> String {
    let (port, backend_port) = (listen.port(), backend.port());
    let filter = if part.is_relay() { envoy_relay() } else { envoy_http(part) };
    let options = if part.is_h2() { ENVOY_H2_UPSTREAM } else { "" };
    format!(
        r"admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
{filter}
  clusters:
  - name: backend
    type: STATIC
    connect_timeout: 5s
    load_assignment:
      cluster_name: backend
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {backend_port}}}}}}}
{options}"
    )
}

/// What makes Envoy speak HTTP/2 to the backend.
const ENVOY_H2_UPSTREAM: &str = r#"    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
"#;

fn envoy_http(part: Part) -> String {
    let codec = if part.is_h2() { "HTTP2" } else { "HTTP1" };
    format!(
        r#"      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          codec_type: {codec}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{match: {{prefix: "/"}}, route: {{cluster: backend}}}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}"#
    )
}

fn envoy_relay() -> String {
    r#"      - name: envoy.filters.network.tcp_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: in
          cluster: backend"#
        .to_owned()
}

/// The service that [`HOST`] names, with the backend as its one endpoint. The port's name says what it speaks. Everything that
/// watches over requests is on: limits, outlier detection, a circuit breaker; the peers have none of it.
pub(crate) fn outrigger(part: Part, backend: SocketAddr) -> String {
    let port = backend.port();
    let protocol = match part {
        Part::Http1 | Part::IdleHttp1 => "http",
        Part::H2 | Part::IdleH2 => "http2",
        Part::Grpc => "grpc",
        Part::TcpRequests | Part::TcpBytes => "tcp",
    };
    let has_requests = !matches!(part, Part::TcpRequests | Part::TcpBytes);
    let watching = watching("backend", "bench", has_requests);
    format!(
        r"apiVersion: v1
kind: Service
metadata: {{name: backend, namespace: bench}}
spec:
  selector: {{app: backend}}
  ports: [{{name: {protocol}, port: 8080, targetPort: {port}}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: backend-1
  namespace: bench
  labels: {{kubernetes.io/service-name: backend}}
addressType: IPv4
ports: [{{name: {protocol}, port: {port}, protocol: TCP}}]
endpoints:
- addresses: [127.0.0.1]
  conditions: {{ready: true}}
{watching}"
    )
}

/// What watches over the connections to a service, and over requests where it has some.
pub(crate) fn watching(name: &str, namespace: &str, has_requests: bool) -> String {
    let rule = format!(
        "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  host: {name}
  trafficPolicy:
    connectionPool:
      tcp: {{maxConnections: 20000}}
      http: {{http1MaxPendingRequests: 10000, http2MaxRequests: 10000, maxRetries: 100}}
    outlierDetection: {{consecutive5xxErrors: 5, interval: 1s, maxEjectionPercent: 100}}
"
    );
    let breaker = format!(
        "---
apiVersion: outrigger.dev/v1alpha1
kind: CircuitBreaker
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  targetRefs: [{{group: '', kind: Service, name: {name}}}]
  circuitBreaker: {{requestVolumeThreshold: 20, errorThresholdPercentage: 50}}
"
    );
    if has_requests { rule + &breaker } else { rule }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_asks_for_its_protocol() {
        let (listen, backend) = (SocketAddr::from(([127, 0, 0, 1], 1)), SocketAddr::from(([127, 0, 0, 1], 2)));
        let cases = [
            (Part::Http1, "mode http", "HTTP1", "name: http,"),
            (Part::H2, "s1 127.0.0.1:2 proto h2", "http2_protocol_options", "name: http2,"),
            (Part::Grpc, "bind 127.0.0.1:1 proto h2", "codec_type: HTTP2", "name: grpc,"),
            (Part::TcpRequests, "mode tcp", "tcp_proxy", "name: tcp,"),
        ];
        for (part, in_haproxy, in_envoy, in_outrigger) in cases {
            assert!(haproxy(part, false, listen, backend).contains(in_haproxy), "{part:?}");
            assert!(envoy(part, listen, backend).contains(in_envoy), "{part:?}");
            assert!(outrigger(part, backend).contains(in_outrigger), "{part:?}");
        }
        assert!(haproxy(Part::TcpBytes, true, listen, backend).contains("splice-auto"));
    }
}
