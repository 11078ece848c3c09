//! Weights: exact shares, what keeps its share and fails, TrafficSplit, and who wins where both are.

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "weights are exact and relative",
        flags: &[],
        yaml: r#"
@service app 80 v1 v2 v3
@rule app app
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}, {name: v3, labels: {version: v3}}]
@routes app app
  - match: [{uri: {prefix: /90}}]
    route: [{destination: {host: app, subset: v1}, weight: 90}, {destination: {host: app, subset: v2}, weight: 10}]
  - match: [{uri: {prefix: /111}}]
    route: [{destination: {host: app, subset: v1}, weight: 1}, {destination: {host: app, subset: v2}, weight: 1}, {destination: {host: app, subset: v3}, weight: 1}]
  - match: [{uri: {prefix: /zero}}]
    route: [{destination: {host: app, subset: v1}, weight: 100}, {destination: {host: app, subset: v2}, weight: 0}]
  - match: [{uri: {prefix: /alone}}]
    route: [{destination: {host: app, subset: v3}, weight: 0}]
  - match: [{uri: {prefix: /unset}}]
    route: [{destination: {host: app, subset: v3}}]
  - match: [{uri: {prefix: /odd}}]
    route: [{destination: {host: app, subset: v1}, weight: 1}, {destination: {host: app, subset: v2}, weight: 2}]
"#,
        requests: "
            200*version GET app/90 => v1=180 | v2=20
            300*version GET app/111 => v1=100 | v2=100 | v3=100
            30*version GET app/zero => v1=30
            30*version GET app/alone => v3=30
            30*version GET app/unset => v3=30
            30*version GET app/odd => v1=10 | v2=20
            count istio_requests_total reporter=source destination_workload=app-0 destination_version=v1 => 320
            count istio_requests_total destination_service=app.default.svc.cluster.local response_code=200 => 620
        ",
    },
    Case {
        name: "an undefined subset and an unknown host keep their share as 503 NC, an empty subset is 503 UH",
        flags: &[],
        yaml: r#"
@service app 80 v1
@rule app app
  subsets: [{name: v1, labels: {version: v1}}, {name: empty, labels: {version: v9}}]
@routes app app
  - match: [{uri: {prefix: /undefined}}]
    route: [{destination: {host: app, subset: v1}, weight: 75}, {destination: {host: app, subset: v2}, weight: 25}]
  - match: [{uri: {prefix: /empty}}]
    route: [{destination: {host: app, subset: v1}, weight: 50}, {destination: {host: app, subset: empty}, weight: 50}]
  - match: [{uri: {prefix: /host}}]
    route: [{destination: {host: nowhere}, weight: 20}, {destination: {host: app, subset: v1}, weight: 80}]
  - match: [{uri: {prefix: /port}}]
    route: [{destination: {host: app, port: {number: 99}}}]
"#,
        requests: "
            100*version GET app/undefined => v1=75 | 503 NC=25
            100*version GET app/empty => v1=50 | 503 UH=50
            100*version GET app/host => v1=80 | 503 NC=20
            GET app/port => 503 | flag=NC
            count istio_requests_total response_flags=NC response_code=503 => 46
            count istio_requests_total response_flags=UH response_code=503 destination_service=app.default.svc.cluster.local => 50
            count istio_requests_total response_flags=- destination_version=v1 destination_workload=app-0 destination_canonical_service=app destination_canonical_revision=v1 destination_service_name=app destination_service_namespace=default => 205
        ",
    },
    Case {
        name: "TrafficSplit v1alpha1: quantities",
        flags: &[],
        yaml: r#"
@service app 80 v0
@service app-v1 80 v1
@service app-v2 80 v2
---
apiVersion: split.smi-spec.io/v1alpha1
kind: TrafficSplit
metadata: {name: app, namespace: default}
spec:
  service: app
  backends: [{service: app-v1, weight: 900m}, {service: app-v2, weight: 100m}]
---
"#,
        requests: "
            100*version GET app/ => v1=90 | v2=10
            100*version GET app.default.svc.cluster.local:80/ => v1=90 | v2=10
            10*version GET app-v2/ => v2=10
        ",
    },
    Case {
        name: "TrafficSplit v1alpha1: 1 is 1000m, and text is a quantity too",
        flags: &[],
        yaml: r#"
@service app 80 v0
@service app-v1 80 v1
@service app-v2 80 v2
---
apiVersion: split.smi-spec.io/v1alpha1
kind: TrafficSplit
metadata: {name: app, namespace: default}
spec:
  service: app
  backends: [{service: app-v1, weight: 1}, {service: app-v2, weight: "500m"}]
"#,
        requests: "
            90*version GET app/ => v1=60 | v2=30
        ",
    },
    Case {
        name: "TrafficSplit v1alpha2: whole numbers; the root may be a backend; a backend without the port is left out",
        flags: &[],
        yaml: r#"
@service app 80 v0
@service app-v2 80 v2
@service app-v3 81 v3
---
apiVersion: split.smi-spec.io/v1alpha2
kind: TrafficSplit
metadata: {name: app, namespace: default}
spec:
  service: app
  backends: [{service: app, weight: 70}, {service: app-v2, weight: 30}, {service: app-v3, weight: 100}]
"#,
        requests: "
            100*version GET app/ => v0=70 | v2=30
        ",
    },
    Case {
        name: "TrafficSplit v1alpha3 and v1alpha4 with HTTPRouteGroups; what matches nothing goes to the root",
        flags: &[],
        yaml: r#"
@service app 80 v0
@service app-v1 80 v1
@service app-v2 80 v2
@service old 80 w0
@service old-v1 80 w1
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: beta, namespace: default}
spec:
  matches:
  - {name: browser, headers: {user-agent: ".*Firefox.*", x-beta: "yes|1"}}
  - {name: api, pathRegex: "/api/.*", methods: [GET, PUT]}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: more, namespace: default}
spec:
  matches: [{name: all, pathRegex: "/all", methods: ["*"]}]
---
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: app, namespace: default}
spec:
  service: app
  matches: [{kind: HTTPRouteGroup, name: beta}, {kind: HTTPRouteGroup, name: more}]
  backends: [{service: app-v1, weight: 50}, {service: app-v2, weight: 50}]
---
apiVersion: specs.smi-spec.io/v1alpha3
kind: HTTPRouteGroup
metadata: {name: old, namespace: default}
spec:
  matches: [{name: p, pathRegex: "/p", methods: ["*"]}]
---
apiVersion: split.smi-spec.io/v1alpha3
kind: TrafficSplit
metadata: {name: old, namespace: default}
spec:
  service: old
  matches: [{kind: HTTPRouteGroup, name: old}]
  backends: [{service: old-v1, weight: 1}]
"#,
        requests: "
            10*version GET app/ | user-agent: Mozilla Firefox 1 | x-beta: yes => v1=5 | v2=5
            10*version GET app/ | user-agent: Mozilla Firefox 1 => v0=10
            10*version GET app/api/x => v1=5 | v2=5
            10*version POST app/api/x | content-length: 0 => v0=10
            10*version POST app/all | content-length: 0 => v1=5 | v2=5
            10*version GET app/x => v0=10
            10*version GET old/p => w1=10
            10*version GET old/x => w0=10
        ",
    },
    Case {
        name: "a VirtualService wins over a TrafficSplit of the same host",
        flags: &[],
        yaml: r#"
@service app 80 v0
@service app-v1 80 v1
@service app-v2 80 v2
---
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: app, namespace: default}
spec:
  service: app
  backends: [{service: app-v1, weight: 1}]
@routes app app
  - route: [{destination: {host: app-v2}}]
"#,
        requests: "
            10*version GET app/ => v2=10
        ",
    },
    Case {
        name: "the oldest VirtualService of a host wins, and the younger one is told of",
        flags: &[],
        yaml: r#"
@service app 80 v1
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a-young, namespace: default, creationTimestamp: "2026-02-01T00:00:00Z"}
spec: {hosts: [app], http: [{directResponse: {status: 500}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: b-old, namespace: default, creationTimestamp: "2026-01-01T00:00:00Z"}
spec: {hosts: [app.default.svc.cluster.local], http: [{directResponse: {status: 201}}]}
"#,
        requests: "
            GET app/ => 201
            says a-young
        ",
    },
];
