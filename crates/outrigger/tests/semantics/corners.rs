//! Where two resources meet: scope and routes, entries and rules, splits and names, localities and priorities.

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "egress listeners of a Sidecar: one for a port, one for the rest",
        flags: &["--workload", "shop/web-0"],
        yaml: r#"
@service shop/web 80 w1
@service app 80 v1
@service alt 8080 a1
@service other/store 80 s1
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: shop}
spec:
  egress:
  - port: {number: 8080, protocol: HTTP, name: http}
    hosts: ["default/*"]
  - hosts: ["other/*", "./*"]
"#,
        requests: "
            GET alt.default:8080/ => 200
            GET app.default/ => 404
            GET store.other/ => 200
            GET web/ => 200
        ",
    },
    Case {
        name: "a Sidecar that hides a route's destination",
        flags: &["--workload", "shop/web-0"],
        yaml: r#"
@service shop/web 80 w1
@service app 80 v1
@service secret 80 s1
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: shop}
spec: {egress: [{hosts: ["default/app.default.svc.cluster.local"]}]}
@routes app app
  - match: [{uri: {prefix: /secret}}]
    route: [{destination: {host: secret}}]
  - route: [{destination: {host: app}}]
"#,
        requests: "
            GET app.default/ => 200 | service=app
            GET app.default/secret => 200 | service=secret
            GET secret.default/ => 404
        ",
    },
    Case {
        name: "rules of a wildcard ServiceEntry, and of a wildcard VirtualService over services",
        flags: &[],
        yaml: r#"
@service app 80 v1
@service app2 80 v2
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wild, namespace: default}
spec:
  hosts: ["*.wild.example.com"]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 127.0.0.100, ports: {http: 8080}, labels: {version: e1}}]
@routes wild *.wild.example.com
  - match: [{uri: {prefix: /d}}]
    directResponse: {status: 201}
  - match: [{uri: {prefix: /a}}]
    route: [{destination: {host: app2}}]
@routes local *.default.svc.cluster.local
  - match: [{uri: {prefix: /w}}]
    directResponse: {status: 202}
  - route: [{destination: {host: app2}}]
"#,
        requests: "
            GET a.wild.example.com/a => 200 | version=v2 | host=a.wild.example.com
            GET a.wild.example.com/other => 404 | flag=NR
            GET a.wild.example.com/d => 201
            GET app/w => 202
            GET app/ => 200 | version=v2
            GET app2.default/w => 202
        ",
    },
    Case {
        name: "TrafficSplit: services by their full name",
        flags: &[],
        yaml: r#"
@service app 80 v0
@service app-v1 80 v1
---
apiVersion: split.smi-spec.io/v1alpha2
kind: TrafficSplit
metadata: {name: app, namespace: default}
spec: {service: app.default.svc.cluster.local, backends: [{service: app-v1.default.svc.cluster.local, weight: 1}]}
"#,
        requests: "
            10*version GET app/ => v1=10
            count outrigger_route_requests_total => 10
        ",
    },
    Case {
        name: "the oldest TrafficSplit of a root wins",
        flags: &[],
        yaml: r#"
@service app 80 v0
@service app-v1 80 v1
@service app-v2 80 v2
---
apiVersion: split.smi-spec.io/v1alpha2
kind: TrafficSplit
metadata: {name: a, namespace: default, creationTimestamp: "2026-02-01T00:00:00Z"}
spec: {service: app, backends: [{service: app-v1, weight: 1}]}
---
apiVersion: split.smi-spec.io/v1alpha2
kind: TrafficSplit
metadata: {name: b, namespace: default, creationTimestamp: "2026-01-01T00:00:00Z"}
spec: {service: app, backends: [{service: app-v2, weight: 1}]}
"#,
        requests: "
            10*version GET app/ => v2=10
            says TrafficSplit default/a
        ",
    },
    Case {
        name: "per cent signs and variables in header values",
        flags: &[],
        yaml: r#"
@service app 80 v1
@routes app app
  - headers: {request: {set: {x-plain: "100%%", x-unknown: "%DOWNSTREAM_REMOTE_ADDRESS%"}}}
    route: [{destination: {host: app}}]
"#,
        requests: "
            GET app/ => 200 | >x-plain=100% | !>x-unknown
            says %DOWNSTREAM_REMOTE_ADDRESS%
        ",
    },
    Case {
        name: "locality: failoverPriority, and a setting that is turned off",
        flags: &["--workload", "default/client"],
        yaml: r#"
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: default, labels: {app: client, rack: a, topology.kubernetes.io/region: r1, topology.kubernetes.io/zone: z1}}
spec: {containers: [{name: c, image: c}]}
status: {podIP: 127.0.0.99, phase: Running}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: prio, namespace: default}
spec:
  hosts: [prio.example.com]
  resolution: STATIC
  location: MESH_INTERNAL
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints:
  - {address: 127.0.0.100, ports: {http: 8080}, locality: r1/z1, labels: {version: zone, rack: b}}
  - {address: 127.0.0.101, ports: {http: 8080}, locality: r2/z2, labels: {version: rack, rack: a}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: flat, namespace: default}
spec:
  hosts: [flat.example.com]
  resolution: STATIC
  location: MESH_INTERNAL
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints:
  - {address: 127.0.0.102, ports: {http: 8080}, locality: r1/z1, labels: {version: near}}
  - {address: 127.0.0.103, ports: {http: 8080}, locality: r2/z2, labels: {version: far}}
@rule prio prio.example.com
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN, localityLbSetting: {failoverPriority: [rack]}}
    outlierDetection: {}
@rule flat flat.example.com
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN, localityLbSetting: {enabled: false}}
    outlierDetection: {}
"#,
        requests: "
            20*version GET prio.example.com/ => rack=20
            20*version GET flat.example.com/ => near=10 | far=10
        ",
    },
    Case {
        name: "weights of WorkloadEntries and ServiceEntry endpoints count in ROUND_ROBIN",
        flags: &[],
        yaml: r#"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: w, namespace: default}
spec:
  hosts: [w.example.com]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints:
  - {address: 127.0.0.100, ports: {http: 8080}, weight: 1, labels: {version: one}}
  - {address: 127.0.0.101, ports: {http: 8080}, weight: 4, labels: {version: four}}
@rule w w.example.com
  trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}
"#,
        requests: "
            50*version GET w.example.com/ => one=10 | four=40
        ",
    },
    Case {
        name: "a service that selects WorkloadEntries, an ExternalName that is an address, no endpoints at all",
        flags: &[],
        yaml: r#"
apiVersion: v1
kind: Service
metadata: {name: vms}
spec: {selector: {app: vm}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm-1, namespace: default}
spec: {address: 127.0.0.100, labels: {app: vm, version: v1}}
---
apiVersion: v1
kind: Service
metadata: {name: byaddress}
spec: {type: ExternalName, externalName: 127.0.0.101, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec: {selector: {app: nobody}, ports: [{name: http, port: 80}]}
"#,
        requests: "
            GET vms/ => 200 | version=v1
            GET byaddress:8080/ => 200
            GET nobody/ => 503 | flag=UH
        ",
    },
    Case {
        name: "methods, bodies and statuses of the backend pass as they are",
        flags: &[],
        yaml: "@service app 80 v1\n",
        requests: "
            DELETE app/x => 200 | method=DELETE
            PROPFIND app/x => 200 | method=PROPFIND
            GET app/ | x-echo-status: 418 => 418 | !<proxy-status | method=GET
            GET app/ | x-echo-status: 503 => 503 | !<proxy-status
            HEAD app/ => 200 | body= | <content-length
            OPTIONS app/ => 200 | method=OPTIONS
            count istio_requests_total response_code=418 response_flags=- => 1
            count istio_requests_total response_code=503 response_flags=- => 1
        ",
    },
    Case {
        name: "route metrics tell rule and weight beside what was counted",
        flags: &[],
        yaml: r#"
@service app 80 v1 v2
@rule app app
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
@routes app app
  - name: canary
    route: [{destination: {host: app, subset: v1}, weight: 3}, {destination: {host: app, subset: v2}, weight: 1}]
"#,
        requests: "
            40*version GET app/ => v1=30 | v2=10
            count outrigger_route_requests_total => 40
            count istio_requests_total destination_version=v2 destination_workload=app-1 => 10
            count outrigger_endpoint_requests_total endpoint=app-1 => 10
        ",
    },
];
