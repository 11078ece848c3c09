//! The shapes that input takes: kinds that bring endpoints, JSON, Kubernetes scalars, and what is told of mistakes.

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "endpoints from pods alone, with numeric, named and absent targetPort",
        flags: &[],
        yaml: r#"
apiVersion: v1
kind: Pod
metadata: {name: p-0, namespace: default, labels: {app: p, version: v1}}
spec: {containers: [{name: side, image: s}, {name: app, image: a, ports: [{name: web, containerPort: 8081}]}]}
status: {podIP: 127.0.0.100, phase: Running, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: p-1, namespace: default, labels: {app: p, version: v2}}
spec: {containers: [{name: app, image: a, ports: [{name: web, containerPort: 8082}]}]}
status: {podIP: 127.0.0.101, phase: Running, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: p-2, namespace: default, labels: {app: p, version: unready}}
spec: {containers: [{name: app, image: a, ports: [{name: web, containerPort: 8082}]}]}
status: {podIP: 127.0.0.102, phase: Running, conditions: [{type: Ready, status: "False"}]}
---
apiVersion: v1
kind: Service
metadata: {name: named}
spec: {selector: {app: p}, ports: [{name: http, port: 80, targetPort: web}]}
---
apiVersion: v1
kind: Service
metadata: {name: numeric}
spec: {selector: {app: p, version: v1}, ports: [{name: http, port: 80, targetPort: 8083}]}
---
apiVersion: v1
kind: Service
metadata: {name: absent}
spec: {selector: {app: p, version: v1}, ports: [{name: http, port: 8084}]}
"#,
        requests: "
            20*version GET named/ => v1=1..19 | v2=1..19
            GET numeric/ => 200 | httpPort=8083
            GET absent:8084/ => 200 | httpPort=8084
        ",
    },
    Case {
        name: "an Endpoints object, a headless service, a slice without ready endpoints",
        flags: &[],
        yaml: r#"
apiVersion: v1
kind: Service
metadata: {name: old}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: old}
subsets: [{addresses: [{ip: 127.0.0.100}], notReadyAddresses: [{ip: 127.0.0.101}], ports: [{name: http, port: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: headless}
spec: {clusterIP: None, selector: {app: headless}, ports: [{name: http, port: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: headless-x, labels: {kubernetes.io/service-name: headless}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [127.0.0.102], hostname: db-0, conditions: {ready: true}}
- {addresses: [127.0.0.103], hostname: db-1}
---
apiVersion: v1
kind: Service
metadata: {name: empty}
spec: {selector: {app: empty}, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: empty-x, labels: {kubernetes.io/service-name: empty}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [127.0.0.104], conditions: {ready: false, serving: true, terminating: true}}]
"#,
        requests: "
            20*service GET old/ => old=20
            20*service GET headless:8080/ => headless=20
            GET empty/ => 503 | flag=UH | body~no ready endpoint
            count istio_requests_total response_flags=UH destination_service_name=empty => 1
        ",
    },
    Case {
        name: "Kubernetes scalars: YAML 1.1 booleans, octal, text for numbers",
        flags: &[],
        yaml: r#"
@service app 80 v1
@routes app app
  - match: [{uri: {prefix: /Yes}, ignoreUriCase: yes}]
    directResponse: {status: 201}
  - match: [{uri: {prefix: /On}, ignoreUriCase: on}]
    directResponse: {status: 202}
  - match: [{uri: {prefix: /Off}, ignoreUriCase: off}]
    directResponse: {status: 203}
  - match: [{headers: {x-flag: {exact: "yes"}}}]
    directResponse: {status: 206}
"#,
        requests: "
            GET app/yES => 201
            GET app/oN => 202
            GET app/oFF => 404
            GET app/Off => 203
            GET app/ | x-flag: yes => 206
        ",
    },
    Case {
        name: "JSON, and a List",
        flags: &[],
        yaml: r#"
{"apiVersion": "v1", "kind": "List", "items": [
  {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "app"}, "spec": {"ports": [{"name": "http", "port": 80}]}},
  {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "app-x", "labels": {"kubernetes.io/service-name": "app"}},
   "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}], "endpoints": [{"addresses": ["127.0.0.100"]}]},
  {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "app"},
   "spec": {"hosts": ["app"], "http": [{"match": [{"uri": {"prefix": "/d"}}], "directResponse": {"status": 201}}, {"route": [{"destination": {"host": "app"}}]}]}}
]}
"#,
        requests: "
            GET app/ => 200 | service=app
            GET app/d => 201
        ",
    },
    Case {
        name: "a misspelt field is told with what was meant, and what is not enforced is told too",
        flags: &[],
        yaml: r#"
@service app 80 v1
@rule app app
  trafficPolicy: {loadBalancr: {simple: RANDOM}, tls: {mode: SIMPLE}}
@routes app app
  - timeout: 3s
    route: [{destination: {host: app}}]
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: x}
spec: {}
"#,
        requests: "
            GET app/ => 200
            says did you mean
            says loadBalancr
            says not enforced yet
            says trafficPolicy.tls
            says CustomResourceDefinition
        ",
    },
    Case {
        name: "WorkloadEntries stand behind Services and ServiceEntries",
        flags: &[],
        yaml: r#"
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm-1, namespace: default}
spec: {address: 127.0.0.100, labels: {app: vm, version: v1}, ports: {http: 8081}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm-2, namespace: default}
spec: {address: 127.0.0.101, labels: {app: vm, version: v2}, weight: 3}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: vm, namespace: default}
spec:
  hosts: [vm.example.com]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  workloadSelector: {labels: {app: vm}}
@rule vm vm.example.com
  trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}
"#,
        requests: "
            40*version GET vm.example.com/ => v1=10 | v2=30
        ",
    },
    Case {
        name: "the metrics name source and destination as Istio does",
        flags: &["--workload", "shop/web"],
        yaml: r#"
@service app 80 v1
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, version: w7, service.istio.io/canonical-name: front}}
    spec: {serviceAccountName: webber, containers: [{name: web, image: web}]}
"#,
        requests: "
            5*version GET app.default/ => v1=5
            count istio_requests_total reporter=source source_workload=web source_workload_namespace=shop source_app=web source_version=w7 source_canonical_service=front source_canonical_revision=w7 => 5
            count istio_requests_total destination_app=app destination_version=v1 destination_service=app.default.svc.cluster.local destination_service_name=app destination_service_namespace=default destination_workload_namespace=default => 5
            count istio_requests_total request_protocol=http response_code=200 response_flags=- connection_security_policy=none => 5
            count istio_requests_total source_principal=unknown destination_principal=unknown => 5
            count outrigger_route_requests_total => 5
        ",
    },
];
