//! What a DestinationRule's load balancer does, as far as it can be seen: counts, stickiness, locality.

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "ROUND_ROBIN counts exactly; subset and port override rule",
        flags: &[],
        yaml: r#"
@service app 80 v1 v1 v1
@rule app app
  trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}
"#,
        requests: "
            30*pod GET app/ => app-0=10 | app-1=10 | app-2=10
        ",
    },
    Case {
        name: "RANDOM and LEAST_REQUEST reach every instance",
        flags: &[],
        yaml: r#"
@service rnd 80 v1 v1
@service least 80 v1 v1
@service plain 80 v1 v1
@rule rnd rnd
  trafficPolicy: {loadBalancer: {simple: RANDOM}}
@rule least least
  trafficPolicy: {loadBalancer: {simple: LEAST_REQUEST}}
"#,
        requests: "
            300*pod GET rnd/ => rnd-0=100..200 | rnd-1=100..200
            300*pod GET least/ => least-0=90..210 | least-1=90..210
            300*pod GET plain/ => plain-0=90..210 | plain-1=90..210
        ",
    },
    Case {
        name: "consistentHash: same value, same instance; header, query, source address",
        flags: &[],
        yaml: r#"
@service hdr 80 v1 v1 v1 v1
@service query 80 v1 v1 v1 v1
@service ip 80 v1 v1 v1 v1
@service maglev 80 v1 v1 v1 v1
@rule hdr hdr
  trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}
@rule query query
  trafficPolicy: {loadBalancer: {consistentHash: {httpQueryParameterName: user}}}
@rule ip ip
  trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}
@rule maglev maglev
  trafficPolicy: {loadBalancer: {consistentHash: {maglev: {tableSize: 1021}, httpHeaderName: x-user}}}
"#,
        requests: "
            sticky GET hdr/ | x-user: # => 2..4
            sticky GET query/?user=# => 2..4
            sticky GET ip/ | x-any: # => 1
            sticky GET maglev/ | x-user: # => 2..4
        ",
    },
    Case {
        name: "consistentHash: a cookie is issued when it is absent, and obeyed",
        flags: &[],
        yaml: r#"
@service app 80 v1 v1 v1 v1
@service session 80 v1 v1
@rule app app
  trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: who, path: /p, ttl: 60s}}}}
@rule session session
  trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: who, ttl: 0s}}}}
"#,
        requests: "
            GET app/ => 200 | <set-cookie
            GET app/ | cookie: a=b; who=x => 200 | !<set-cookie
            GET session/ => 200 | <set-cookie
            sticky GET app/ | cookie: who=# => 2..4
            cookie GET app/ => Max-Age=60
            cookie GET app/ => Path=/p
            cookie GET app/ => HttpOnly
        ",
    },
    Case {
        name: "locality: distribute by weight, and no failover without outlierDetection",
        flags: &["--workload", "default/client"],
        yaml: LOCALITY,
        requests: "
            100*version GET dist.example.com/ => near=80 | far=20
            30*version GET plain.example.com/ => near=15 | far=15
            30*version GET failover.example.com/ => near=30
        ",
    },
    Case {
        name: "a weighted rule over subsets with their own balancer",
        flags: &[],
        yaml: r#"
@service app 80 v1 v1 v2 v2
@rule app app
  trafficPolicy: {loadBalancer: {simple: RANDOM}}
  subsets:
  - {name: v1, labels: {version: v1}, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}
  - {name: v2, labels: {version: v2}, trafficPolicy: {portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: ROUND_ROBIN}}]}}
@routes app app
  - route: [{destination: {host: app, subset: v1}, weight: 1}, {destination: {host: app, subset: v2}, weight: 1}]
"#,
        requests: "
            40*pod GET app/ => app-0=10 | app-1=10 | app-2=10 | app-3=10
            count outrigger_endpoint_requests_total => 40
        ",
    },
];

const LOCALITY: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: default, labels: {app: client, topology.kubernetes.io/region: r1, topology.kubernetes.io/zone: z1, istio-locality: r1.z1}}
spec: {nodeName: n1, containers: [{name: c, image: c}]}
status: {podIP: 127.0.0.99, phase: Running}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: dist, namespace: default}
spec:
  hosts: [dist.example.com]
  resolution: STATIC
  location: MESH_INTERNAL
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints:
  - {address: 127.0.0.100, ports: {http: 8080}, locality: r1/z1/s1, labels: {version: near}}
  - {address: 127.0.0.101, ports: {http: 8080}, locality: r2/z2/s2, labels: {version: far}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: plain, namespace: default}
spec:
  hosts: [plain.example.com]
  resolution: STATIC
  location: MESH_INTERNAL
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints:
  - {address: 127.0.0.102, ports: {http: 8080}, locality: r1/z1/s1, labels: {version: near}}
  - {address: 127.0.0.103, ports: {http: 8080}, locality: r2/z2/s2, labels: {version: far}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: failover, namespace: default}
spec:
  hosts: [failover.example.com]
  resolution: STATIC
  location: MESH_INTERNAL
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints:
  - {address: 127.0.0.104, ports: {http: 8080}, locality: r1/z1/s1, labels: {version: near}}
  - {address: 127.0.0.105, ports: {http: 8080}, locality: r2/z2/s2, labels: {version: far}}
@rule dist dist.example.com
  trafficPolicy:
    loadBalancer:
      simple: ROUND_ROBIN
      localityLbSetting: {enabled: true, distribute: [{from: "r1/z1/*", to: {"r1/z1/*": 80, "r2/*": 20}}]}
    outlierDetection: {}
@rule plain plain.example.com
  trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}
@rule failover failover.example.com
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN, localityLbSetting: {failover: [{from: r1, to: r2}]}}
    outlierDetection: {consecutive5xxErrors: 5}
"#;
