//! Services with endpoints on loopback, as the checks need them.

/// A Service with one port and its endpoints: their ports on 127.0.0.1, one slice each since a slice has one port.
pub(crate) fn service(namespace: &str, name: &str, protocol: &str, port: u16, endpoints: &[u16]) -> String {
    let mut text = format!(
        "apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  ports: [{{name: {protocol}, port: {port}}}]
---
"
    );
    for endpoint in endpoints {
        text += &format!(
            "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-{endpoint}, namespace: {namespace}, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: {protocol}, port: {endpoint}}}]
endpoints: [{{addresses: [127.0.0.1]}}]
---
"
        );
    }
    text
}
