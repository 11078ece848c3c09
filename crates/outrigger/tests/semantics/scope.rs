//! Who sees what: exportTo, Sidecar, root namespace, and which DestinationRule counts.

use crate::Case;

const TWO: &str = r#"
@service app 80 v1
@service shop/cart 80 c1
@service shop/web 80 w1
@service other/store 80 s1
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: shop}
spec: {egress: [{hosts: ["./*", "default/app.default.svc.cluster.local"]}]}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: web, namespace: shop}
spec:
  workloadSelector: {labels: {app: web}}
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
  egress: [{hosts: ["other/*", "~/*"]}]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: root, namespace: istio-system}
spec: {egress: [{hosts: ["./*", "*/cart.shop.svc.cluster.local"]}]}
"#;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "Sidecar: the namespace's default",
        flags: &["--workload", "shop/cart-0"],
        yaml: TWO,
        requests: "
            GET web/ => 200
            GET app.default/ => 200
            GET store.other/ => 404
        ",
    },
    Case {
        name: "Sidecar: the workload's own comes first, with its own outbound policy",
        flags: &["--workload", "shop/web-0"],
        yaml: TWO,
        requests: "
            GET store.other/ => 200
            GET app.default/ => 502
            GET cart/ => 502
        ",
    },
    Case {
        name: "Sidecar: the root namespace's default holds elsewhere",
        flags: &["--workload", "default/app-0"],
        yaml: TWO,
        requests: "
            GET app/ => 200
            GET cart.shop/ => 200
            GET web.shop/ => 404
            GET store.other/ => 404
        ",
    },
    Case {
        name: "exportTo hides services, rules and routes",
        flags: &["--workload", "shop/web-0"],
        yaml: r#"
@service shop/web 80 w1
@service open 80 v1
---
apiVersion: v1
kind: Service
metadata: {name: hidden, namespace: default, annotations: {networking.istio.io/exportTo: "."}}
spec: {selector: {app: open}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: given, namespace: default, annotations: {networking.istio.io/exportTo: "shop,other"}}
spec: {selector: {app: open}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: none, namespace: shop, annotations: {networking.istio.io/exportTo: "~"}}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: own, namespace: default}
spec: {hosts: [open], exportTo: ["."], http: [{directResponse: {status: 500}}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: se, namespace: default}
spec: {hosts: [se.example.com], exportTo: ["."], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}], endpoints: [{address: 127.0.0.100}]}
"#,
        requests: "
            GET open.default/ => 200
            GET hidden.default/ => 404 | flag=NR
            GET given.default/ => 200
            GET none/ => 404
            GET se.example.com/ => 404
        ",
    },
    Case {
        name: "exportTo: the owner's namespace still sees its own",
        flags: &[],
        yaml: r#"
@service open 80 v1
---
apiVersion: v1
kind: Service
metadata: {name: hidden, namespace: default, annotations: {networking.istio.io/exportTo: "."}}
spec: {selector: {app: open}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: own, namespace: default}
spec: {hosts: [open], exportTo: ["."], http: [{directResponse: {status: 201}}]}
"#,
        requests: "
            GET hidden/ => 200
            GET open/ => 201
        ",
    },
    Case {
        name: "a DestinationRule of the client's namespace shadows that of the service's, even as a wildcard",
        flags: &["--workload", "shop/web-0"],
        yaml: r#"
@service shop/web 80 w1
@service app 80 v1 v2
@rule app app
  subsets: [{name: a, labels: {version: v1}}]
@rule shop/all *.default.svc.cluster.local
  subsets: [{name: a, labels: {version: v2}}]
@routes app app
  - route: [{destination: {host: app, subset: a}}]
"#,
        requests: "
            10*version GET app.default/ => v2=10
        ",
    },
    Case {
        name: "a DestinationRule of the service's namespace counts for others, one of a third namespace does not",
        flags: &["--workload", "shop/web-0"],
        yaml: r#"
@service shop/web 80 w1
@service app 80 v1 v2
@rule app app
  subsets: [{name: a, labels: {version: v1}}]
@rule other/app app.default.svc.cluster.local
  subsets: [{name: a, labels: {version: v2}}, {name: b, labels: {version: v2}}]
@routes app app
  - match: [{uri: {prefix: /b}}]
    route: [{destination: {host: app, subset: b}}]
  - route: [{destination: {host: app, subset: a}}]
"#,
        requests: "
            10*version GET app.default/ => v1=10
            GET app.default/b => 503 | flag=NC
        ",
    },
    Case {
        name: "two DestinationRules of one host: the oldest gives the policy, the younger adds subsets",
        flags: &[],
        yaml: r#"
@service app 80 v1 v2
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a-young, namespace: default, creationTimestamp: "2026-02-01T00:00:00Z"}
spec:
  host: app
  subsets: [{name: one, labels: {version: v2}}, {name: two, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: b-old, namespace: default, creationTimestamp: "2026-01-01T00:00:00Z"}
spec:
  host: app.default.svc.cluster.local
  subsets: [{name: one, labels: {version: v1}}]
@routes app app
  - match: [{uri: {prefix: /two}}]
    route: [{destination: {host: app, subset: two}}]
  - route: [{destination: {host: app, subset: one}}]
"#,
        requests: "
            10*version GET app/ => v1=10
            10*version GET app/two => v2=10
        ",
    },
];
